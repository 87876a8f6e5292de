//! A server's counters for Prometheus. A scrape asks each reactor for its own by a message: a
//! server that nobody scrapes has nothing to do for it, and what is told is as old as the scrape.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oread::Handle;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::server::Mail;
use super::totals::{Latest, Totals};
use crate::system::metrics::{Kind, Page};

/// How long a scrape waits for the reactors, of the 10 s that Prometheus gives it. Of one that is
/// in a long turn it has what was told last.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes the table of families: each counter by its name in the program, and behind it its name in
/// a scrape, what it is, and its help.
macro_rules! families {
    ($($counter:ident $name:ident $kind:ident $help:literal)*) => {
        fn family(counter: &str) -> Option<(&'static str, Kind, &'static str)> {
            $(if counter == stringify!($counter) {
                return Some((concat!("oread_serve_", stringify!($name)), Kind::$kind, $help));
            })*
            None
        }
    };
}

families! {
    accepted accepted_connections Count "Connections accepted"
    refused refused_connections Count "Connections turned away for want of memory"
    over_source over_source_connections Count "Connections turned away because their source had, or made, too many"
    connected dialed_connections Count "Connections that the server itself made"
    connect_failed failed_dials Count "Connections that the server itself could not make"
    open open_connections Now "Connections open now"
    peak_open peak_open_connections Now "The most connections that were open at once"
    bytes_in received Bytes "Bytes read from connections"
    consumed consumed Bytes "Bytes of the input that were taken as frames"
    unconsumed unconsumed BytesNow "Bytes of input kept now, of frames that have not come whole"
    discarded discarded Bytes "Bytes of input thrown away at the end of a connection"
    written written Bytes "Bytes of answers, sent or not"
    bytes_out sent Bytes "Bytes of answers that sockets took"
    pending pending BytesNow "Bytes of answers that wait for a socket to take them now"
    dropped dropped Bytes "Bytes of answers that no socket took before its connection was over"
    held held BytesNow "Memory behind unconsumed input and pending output now"
    datagrams_in received_datagrams Count "Datagrams received"
    datagrams_out sent_datagrams Count "Datagrams sent"
    datagram_bytes_in received_datagram Bytes "Bytes of datagrams received"
    datagram_bytes_out sent_datagram Bytes "Bytes of datagrams sent"
    datagrams_truncated truncated_datagrams Count "Datagrams not answered because they were longer than the read buffer"
    datagrams_blocked blocked_datagrams Count "Datagrams not sent because the socket's buffer was full"
    datagrams_failed failed_datagrams Count "Datagrams not sent for another reason"
    datagram_errors datagram_errors Count "Errors that came in place of a datagram"
    datagrams_low_port low_port_datagrams Count "Datagrams not answered because they came from a port below 1024"
    datagrams_own own_datagrams Count "Datagrams not answered because they came from a socket of this server"
    datagrams_not_unicast not_unicast_datagrams Count "Datagrams not answered because they were broadcast or multicast"
    datagrams_over_rate over_rate_datagrams Count "Datagrams not answered because of a rate"
    datagrams_repeated repeated_datagrams Count "Datagrams not answered because they came again and again"
    datagrams_too_long too_long_datagrams Count "Datagrams not answered because they were longer than allowed"
    frames_in received_frames Count "Whole frames received; in raw framing, pieces as they were read"
    frames_out sent_frames Count "Frames answered"
    frames_bad bad_frames Count "Frames that were too long, or broken off by the peer's end"
    pressure_pauses pressure_pauses Count "Times that reading paused because of the connection's own pending output"
    pending_pauses pending_pauses Count "Times that reading paused because of the memory that all connections take"
    budget_hits budget_hits Count "Times that a connection, listener or UDP socket used up its budget of a turn"
    accept_pauses accept_pauses Count "Times that accepting paused for want of descriptors or memory"
    limit_pauses limit_pauses Count "Times that accepting paused at the most connections allowed"
    accept_aborted aborted_accepts Count "Connections that were gone before they could be accepted"
    turns turns Count "Turns of the reactor"
    polls polls Count "Polls of the system"
    events events Count "Events that polls brought"
    messages messages Count "Messages between the server's own threads"
    longest_turn_us longest_turn Micros "The longest turn of the reactor so far"
    latest_timer_us latest_timer Micros "The most that a timer has fired late so far"
    longest_queue longest_queue Now "The most connections and sockets that waited for the next turn so far"
}

/// What a scrape asks.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) reactors: Vec<Handle<Mail>>,
    pub(super) latest: Arc<Latest>,
}

impl Collector for Counters {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ask = |index: usize| self.reactors[index].send(Mail::Tell).is_ok();
        let all = self.latest.ask(ask, PATIENCE);
        let mut page = Page::new(encoder);
        for (at, (counter, _)) in Totals::default().iter().enumerate() {
            let Some((name, kind, help)) = family(counter) else {
                continue;
            };
            let each = all.iter().enumerate().map(|(thread, totals)| {
                let count = totals.iter().nth(at).map_or(0, |(_, count)| count);
                (thread_label(thread), count)
            });
            page.family(name, help, kind, each)?;
        }
        let (name, help) = (
            "oread_serve_closed_connections",
            "Connections closed, by why",
        );
        let each = all.iter().enumerate().flat_map(|(thread, totals)| {
            let reasons = totals.stats.closed.iter();
            reasons
                .map(move |(reason, count)| ((thread_label(thread), [("reason", reason)]), count))
        });
        page.family(name, help, Kind::Count, each)
    }
}

/// Which of `--threads` has counted.
fn thread_label(thread: usize) -> [(&'static str, usize); 1] {
    [("thread", thread)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_counter_has_a_family_of_its_own() {
        let mut names = BTreeSet::new();
        for (counter, _) in Totals::default().iter() {
            let found = family(counter);
            let (name, _, _) = found.unwrap_or_else(|| panic!("{counter} has no family"));
            assert!(names.insert(name), "{name} is there twice");
        }
        assert!(names.len() > 40);
    }
}
