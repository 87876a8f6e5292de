//! What a run counts: one [`Tally`] a thread, added up at the end.
//!
//! Everything that the report says is computed from a tally, so text, JSON and the histogram log can't disagree.
//! Counters only grow; what is counted twice is counted so that it must add up, and [`Tally::imbalance`] says where it
//! doesn't.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Nanoseconds, from 1 to an hour, with three significant digits: 0.1 % is less than any clock here is worth.
const LONGEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    // The bounds are constants that the crate takes; were they not, one that grows would do the same.
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).unwrap_or_else(|_| unbounded())
}

/// An empty histogram of nanoseconds for a live view: two digits, an eighth of the memory.
pub(crate) fn coarse() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS - 1).unwrap_or_else(|_| unbounded())
}

fn unbounded() -> Histogram<u64> {
    #[allow(clippy::expect_used)] // 0 to 5 digits are valid, whatever the machine.
    Histogram::new(DIGITS).expect("three digits are valid")
}

/// The time as histograms keep it.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How many of a histogram's values are over an hour: how long they were is then known to some minutes at best.
pub(crate) fn over_an_hour(histogram: &Histogram<u64>) -> u64 {
    if histogram.max() <= LONGEST_NS {
        return 0;
    }
    histogram.count_between(LONGEST_NS + 1, histogram.high())
}

/// Records a duration; zero counts as 1 ns, and what is over 73 minutes as that.
pub(crate) fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(nanos(duration).max(1));
}

/// The ledger of connections (for UDP: of sockets, which are established as soon as they are bound).
///
/// Each dial ends as established, refused, timed out, failed otherwise, or is still dialing when the run ends. With
/// `--churn` or `--lifetime` there are more dials than were asked for; `redialed` says how many. Without them nobody is dialed
/// in place of a connection that was lost: it's missing to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// What `--connections` says.
    pub(crate) asked: u64,
    /// Dials begun.
    pub(crate) dialed: u64,
    /// Of these, to replace a connection that had ended, or a dial that had failed; only with `--churn` or `--lifetime`.
    pub(crate) redialed: u64,
    /// Connections that the load closed and whose next one was confirmed, within the measured time: the churn that was reached.
    pub(crate) replaced: u64,
    /// Dials that came to a connection.
    pub(crate) established: u64,
    /// Connections that an echo has come back on, at least one.
    pub(crate) confirmed: u64,
    /// The most that were confirmed and open at one time.
    pub(crate) peak_confirmed: u64,
    /// Connections that ended though the load had not ended them, or that it cut off because of a corrupt answer.
    pub(crate) lost: u64,
    /// Connections that the load itself ended.
    pub(crate) closed: u64,
    /// Dials that were refused.
    pub(crate) refused: u64,
    /// Dials that took longer than the connect timeout, or the system's own.
    pub(crate) timed_out: u64,
    /// Dials that failed in any other way.
    pub(crate) failed: u64,
    /// Dials that had come to nothing yet when the run ended.
    pub(crate) dialing: u64,
    /// Connections that were open when the run ended, before the load closed them.
    pub(crate) open: u64,
    /// Of these, the ones that no echo ever came back on.
    pub(crate) silent: u64,
    /// Of those asked for, how many were not there when the run ended: never had, or lost and not replaced. Those that the load
    /// itself had closed, and was about to replace, are not among them.
    pub(crate) missing: u64,
}

/// The messages of the measured time (not of the ramp and the warm-up, and not those that confirm a connection: these are
/// [`Messages::unmeasured`]); datagrams are messages too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Messages {
    /// Handed to the socket's connection.
    pub(crate) sent: u64,
    /// Answered in full, within the message timeout or not.
    pub(crate) echoed: u64,
    /// Of these, answered before the measured time was over: what the rate is made of. What was due in it and is answered behind
    /// it would make a server that falls behind look as if it did not.
    pub(crate) in_time: u64,
    /// Answered with what was sent, as far as `--verify` looks.
    pub(crate) verified: u64,
    /// Answers that were something else, those to messages that are not measured among them: one is one too many. A message
    /// that was answered so is not `echoed`.
    pub(crate) corrupt: u64,
    /// Not answered within the message timeout. Those that were answered later are `echoed` too.
    pub(crate) timed_out: u64,
    /// Answered after the message timeout; counted among `echoed` and `timed_out` too.
    pub(crate) late: u64,
    /// Not answered when their connection ended; datagrams that were never answered.
    pub(crate) lost: u64,
    /// Still under way when the run ended.
    pub(crate) outstanding: u64,
    /// Due by the schedule of the open loop, or asked for with `--messages`, and never sent.
    pub(crate) unsent: u64,
    /// Messages outside of the measured time: to confirm a connection, and to warm up.
    pub(crate) unmeasured: u64,
}

/// Bytes on the wire as applications see them, frames included; of the measured time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// Written.
    pub(crate) sent: u64,
    /// Read.
    pub(crate) received: u64,
    /// Of these, before the measured time was over.
    pub(crate) sent_in_time: u64,
    pub(crate) received_in_time: u64,
}

/// How long things took, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    /// From the dial to the connection.
    pub(crate) connect: Histogram<u64>,
    /// From the dial to the first answer.
    pub(crate) first_echo: Histogram<u64>,
    /// From when a message should have been sent to its answer: what a user of the server feels. In a closed loop that is
    /// when it was sent.
    pub(crate) response: Histogram<u64>,
    /// From when a message was sent to its answer: what the server took.
    pub(crate) service: Histogram<u64>,
}

/// How well the open loop kept its schedule.
#[derive(Clone, Debug)]
pub(crate) struct Pacing {
    /// How late messages were sent, in nanoseconds; empty in a closed loop.
    pub(crate) error: Histogram<u64>,
    /// How late they were sent by the generator's own doing: the time in which no connection could take them is left out.
    pub(crate) lag: Histogram<u64>,
}

/// Datagrams of the measured time, over all flows. `sent = received + lost` once all is counted, where `received` counts
/// each datagram once however often it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Datagrams {
    /// Sent.
    pub(crate) sent: u64,
    /// Answered within the message timeout or after it, each counted once.
    pub(crate) received: u64,
    /// Never answered.
    pub(crate) lost: u64,
    /// Answered after the message timeout; counted among `received` too.
    pub(crate) late: u64,
    /// Answers beyond the first.
    pub(crate) duplicated: u64,
    /// Answers that came after that of a later datagram.
    pub(crate) reordered: u64,
    /// Answers that are none of what was sent.
    pub(crate) corrupt: u64,
    /// Sends that the system refused: no room, or no answer behind the port. Not counted as sent.
    pub(crate) dropped: u64,
}

/// One second of the measured time. Seconds behind it hold the answers that came while they were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Second {
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages answered.
    pub(crate) echoed: u64,
    /// Bytes received.
    pub(crate) received: u64,
}

/// One thread's part in the run's cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ThreadUse {
    /// Processor time that the thread took in the measured time.
    pub(crate) cpu: Duration,
    /// How long it was ready to run meanwhile, and others had the processors.
    pub(crate) waited: Duration,
    /// The measured time.
    pub(crate) wall: Duration,
}

/// Everything that one thread counts.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) connections: Ledger,
    /// Every error by its name (`ECONNREFUSED`, `connect timeout`, `message timeout`, `closed by peer`, ...) and its count.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) messages: Messages,
    pub(crate) bytes: Bytes,
    pub(crate) latency: Latency,
    pub(crate) pacing: Pacing,
    pub(crate) datagrams: Datagrams,
    /// Datagrams by flow, in the order of their numbers; empty without UDP targets.
    pub(crate) flows: Vec<Datagrams>,
    /// The measured time, second by second.
    pub(crate) seconds: Vec<Second>,
    /// One entry a thread.
    pub(crate) threads: Vec<ThreadUse>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> Tally {
        Tally {
            connections: Ledger::default(),
            errors: BTreeMap::new(),
            messages: Messages::default(),
            bytes: Bytes::default(),
            latency: Latency {
                connect: histogram(),
                first_echo: histogram(),
                response: histogram(),
                service: histogram(),
            },
            pacing: Pacing {
                error: histogram(),
                lag: histogram(),
            },
            datagrams: Datagrams::default(),
            flows: Vec::new(),
            seconds: Vec::new(),
            threads: Vec::new(),
        }
    }

    /// Counts an error.
    pub(crate) fn error(&mut self, name: &str) {
        match self.errors.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(name.to_owned(), 1);
            }
        }
    }
}

/// Adds the fields of one struct of counters to another's.
macro_rules! add {
    ($to:expr, $from:expr, $($field:ident),+) => {
        $($to.$field += $from.$field;)+
    };
}

impl Tally {
    /// Adds what another thread has counted.
    pub(crate) fn merge(&mut self, other: &Tally) {
        // The peaks of threads need not be at one time: their sum is a bound, and exact where connections are held.
        add!(
            self.connections,
            other.connections,
            asked,
            dialed,
            redialed,
            replaced,
            established,
            confirmed,
            peak_confirmed,
            lost,
            closed,
            refused,
            timed_out,
            failed,
            dialing,
            open,
            silent,
            missing
        );
        add!(
            self.messages,
            other.messages,
            sent,
            echoed,
            in_time,
            verified,
            corrupt,
            timed_out,
            late,
            lost,
            outstanding,
            unsent,
            unmeasured
        );
        add!(
            self.bytes,
            other.bytes,
            sent,
            received,
            sent_in_time,
            received_in_time
        );
        self.datagrams.merge(&other.datagrams);
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        for (to, from) in [
            (&mut self.latency.connect, &other.latency.connect),
            (&mut self.latency.first_echo, &other.latency.first_echo),
            (&mut self.latency.response, &other.latency.response),
            (&mut self.latency.service, &other.latency.service),
            (&mut self.pacing.error, &other.pacing.error),
            (&mut self.pacing.lag, &other.pacing.lag),
        ] {
            // All have the same bounds: nothing can fail to fit.
            if let Err(error) = to.add(from) {
                log::error!("a histogram could not be added up: {error}");
            }
        }
        self.flows.extend_from_slice(&other.flows);
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), Second::default());
        }
        for (to, from) in self.seconds.iter_mut().zip(&other.seconds) {
            add!(to, from, sent, echoed, received);
        }
        self.threads.extend_from_slice(&other.threads);
    }

    /// Where the counts don't add up, in words; `None` where they do, as they always must.
    pub(crate) fn imbalance(&self) -> Option<String> {
        let c = &self.connections;
        let m = &self.messages;
        let d = &self.datagrams;
        let checks = [
            (
                "dialed = established + refused + timed out + failed + dialing",
                c.dialed,
                c.established + c.refused + c.timed_out + c.failed + c.dialing,
            ),
            (
                "established = lost + closed + open",
                c.established,
                c.lost + c.closed + c.open,
            ),
            (
                "messages sent = echoed + lost + outstanding",
                m.sent,
                m.echoed + m.lost + m.outstanding,
            ),
            (
                "datagrams sent = received + lost",
                d.sent,
                d.received + d.lost,
            ),
        ];
        checks
            .into_iter()
            .find(|(_, left, right)| left != right)
            .map(|(rule, left, right)| format!("{rule} does not hold: {left} and {right}"))
    }
}

impl Messages {
    /// Messages of the measured time that were due.
    pub(crate) fn due(&self) -> u64 {
        self.sent + self.unsent
    }

    /// Of these, the ones that no answer came to, so that no histogram has them.
    pub(crate) fn unanswered(&self) -> u64 {
        self.lost + self.outstanding + self.unsent
    }
}

impl Datagrams {
    /// Adds another flow's.
    pub(crate) fn merge(&mut self, other: &Datagrams) {
        add!(
            self, other, sent, received, lost, late, duplicated, reordered, corrupt, dropped
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_field_by_field() {
        let mut one = Tally::new();
        one.connections.dialed = 2;
        one.connections.established = 1;
        one.connections.refused = 1;
        one.connections.open = 1;
        one.error("ECONNREFUSED");
        one.seconds.push(Second {
            sent: 1,
            ..Second::default()
        });
        one.latency.response.record(1_000_000).unwrap();
        let mut all = Tally::new();
        all.merge(&one);
        all.merge(&one);
        assert_eq!(all.connections.dialed, 4);
        assert_eq!(all.errors["ECONNREFUSED"], 2);
        assert_eq!(all.seconds[0].sent, 2);
        assert_eq!(all.latency.response.len(), 2);
        assert_eq!(all.imbalance(), None);
    }

    #[test]
    fn counts_that_do_not_add_up_are_told() {
        let mut tally = Tally::new();
        tally.messages.sent = 1;
        assert!(tally.imbalance().unwrap().contains("1 and 0"));
    }
}
