//! Counters.

use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use crate::error::{CloseReason, KINDS};

/// What a reactor has done so far: a plain copy of its counters, from
/// [`Context::stats`](crate::Context::stats).
///
/// They add up, at any time between two callbacks, and in one but for the input that it is shown:
/// - `bytes_in` = `consumed` + `unconsumed` + `discarded`
/// - `written` = `bytes_out` + `pending` + `dropped`
/// - `accepted` + `connected` = `open` + the sum of `closed`
/// - `datagrams_in` counts every datagram that arrived, those cut by the buffer too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that a handler took on.
    pub accepted: u64,
    /// Connections that a handler, or a lack of memory, turned away.
    pub refused: u64,
    /// Connections that were turned away because their source had, or had made, too many:
    /// [`Limits::connections_per_source`](crate::Limits::connections_per_source),
    /// [`Limits::accepts_per_source`](crate::Limits::accepts_per_source).
    pub over_source: u64,
    /// Outbound connections that were established.
    pub connected: u64,
    /// Outbound connections that failed before they were.
    pub connect_failed: u64,
    /// Connections open now.
    pub open: u64,
    /// The most connections that were open at once; of several reactors the sum of that, as they
    /// need not have had them at the same time: no less than all of them had.
    pub peak_open: u64,
    /// Connections closed, by their [`CloseReason`].
    pub closed: Closed,
    /// Bytes read from connections.
    pub bytes_in: u64,
    /// Of them, bytes that handlers consumed.
    pub consumed: u64,
    /// Of them, bytes kept until a handler consumes them.
    pub unconsumed: u64,
    /// Of them, bytes that no handler consumed: after a close, or the rest at the peer's end, which
    /// [`Handler::on_eof`](crate::Handler::on_eof) is shown.
    pub discarded: u64,
    /// Bytes that handlers wrote.
    pub written: u64,
    /// Of them, bytes that sockets took.
    pub bytes_out: u64,
    /// Of them, bytes waiting for a socket to take them.
    pub pending: u64,
    /// Of them, bytes that no socket will take: written after the end, or pending when a connection
    /// broke.
    pub dropped: u64,
    /// Bytes of memory behind `unconsumed` and `pending` now: what they take, and not what they
    /// are.
    pub held: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Bytes of datagrams received, as far as the buffer held them.
    pub datagram_bytes_in: u64,
    /// Bytes of datagrams sent.
    pub datagram_bytes_out: u64,
    /// Datagrams cut by the read buffer; no handler sees them.
    pub datagrams_truncated: u64,
    /// Datagrams that could not be sent because the socket's buffer was full.
    pub datagrams_blocked: u64,
    /// Datagrams that could not be sent for another reason.
    pub datagrams_failed: u64,
    /// Errors that came in place of a datagram, such as a refusal by a peer's system.
    pub datagram_errors: u64,
    /// Times that a connection's reading paused because its own pending output had come to the
    /// high-water mark, or so much was written after its calls of the turn were spent.
    pub pressure_pauses: u64,
    /// Times that it paused, with less than that pending, because all connections together came to
    /// [`Limits::max_pending`](crate::Limits::max_pending), and it kept as much as there was room.
    pub pending_pauses: u64,
    /// Times that a connection, a listener or a UDP socket used up its budget of a turn.
    pub budget_hits: u64,
    /// Times that a listener paused because the system had no descriptor or memory for another
    /// connection.
    pub accept_pauses: u64,
    /// Times that a listener paused because as many connections as allowed were open.
    pub limit_pauses: u64,
    /// Connections that were gone before they could be accepted.
    pub accept_aborted: u64,
    /// Turns of the reactor.
    pub turns: u64,
    /// The longest of them, in microseconds: from when its events were there to its end. This and
    /// the next two are peaks, which [`Context::take_peaks`](crate::Context::take_peaks) has begin
    /// anew.
    pub longest_turn_us: u64,
    /// The most that a timer has fired late, in microseconds: after it was due, or was set, if that
    /// was later.
    pub latest_timer_us: u64,
    /// The most connections, listeners and UDP sockets that waited for the next turn with more to
    /// do, at the end of one.
    pub longest_queue: u64,
    /// Polls of the system.
    pub polls: u64,
    /// Events that they brought.
    pub events: u64,
    /// Messages that other threads posted.
    pub messages: u64,
}

/// What one connection has moved since [`Connection::count`](crate::Connection::count).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Since when it's counted.
    pub since: Instant,
    /// Bytes read from it, but for those thrown away at its end.
    pub bytes_in: u64,
    /// Bytes that its socket has taken.
    pub bytes_out: u64,
    /// Times that it came under [`Pressure::High`](crate::Pressure::High).
    pub pressed: u64,
}

impl Traffic {
    pub(crate) fn new(since: Instant) -> Traffic {
        Traffic {
            since,
            bytes_in: 0,
            bytes_out: 0,
            pressed: 0,
        }
    }
}

/// Counts of closed connections, one for each kind of [`CloseReason`]. More kinds may come.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Closed([u64; KINDS.len()]);

impl Closed {
    /// How many were closed for a reason of this kind: with whatever number, if it has one.
    #[must_use]
    pub fn of(&self, reason: CloseReason) -> u64 {
        self.0[reason.kind()]
    }

    /// How many were closed in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each kind of reason by its name, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.iter().map(|kind| kind.0).zip(self.0)
    }

    /// Counts one more.
    pub fn count(&mut self, reason: CloseReason) {
        self.0[reason.kind()] += 1;
    }
}

/// Adds the counts of another reactor.
impl AddAssign for Closed {
    fn add_assign(&mut self, more: Closed) {
        self.0.iter_mut().zip(more.0).for_each(|(sum, n)| *sum += n);
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Makes what goes through all counters, so that there is one list of them.
macro_rules! counters {
    (sums: $($sum:ident)*; peaks: $($peak:ident)*) => {
        /// Adds the counters of another reactor. Of the loop's peaks the higher one counts.
        impl AddAssign for Stats {
            fn add_assign(&mut self, more: Stats) {
                $(self.$sum += more.$sum;)*
                $(self.$peak = self.$peak.max(more.$peak);)*
                self.closed += more.closed;
            }
        }

        impl Stats {
            /// Each counter by its name, but for [`closed`](Stats::closed), which has its own.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let sums = [$((stringify!($sum), self.$sum)),*];
                sums.into_iter().chain([$((stringify!($peak), self.$peak)),*])
            }

            /// Has the loop's peaks begin anew.
            pub(crate) fn reset_peaks(&mut self) {
                $(self.$peak = 0;)*
            }
        }
    };
}

counters!(
    sums: accepted refused over_source connected connect_failed open peak_open
    bytes_in consumed unconsumed discarded written bytes_out pending dropped held
    datagrams_in datagrams_out datagram_bytes_in datagram_bytes_out
    datagrams_truncated datagrams_blocked datagrams_failed datagram_errors
    pressure_pauses pending_pauses budget_hits accept_pauses limit_pauses accept_aborted
    turns polls events messages;
    peaks: longest_turn_us latest_timer_us longest_queue
);

impl Stats {
    /// Counts a turn that took so long, and left so many with more to do.
    pub(crate) fn note_turn(&mut self, took: Duration, queued: usize) {
        self.turns += 1;
        self.longest_turn_us = self.longest_turn_us.max(took.as_micros() as u64);
        self.longest_queue = self.longest_queue.max(queued as u64);
    }

    /// Notes that a timer was so late.
    pub(crate) fn note_timer(&mut self, late: Duration) {
        self.latest_timer_us = self.latest_timer_us.max(late.as_micros() as u64);
    }

    /// Datagrams that were received or to be sent and went nowhere, whatever the cause.
    #[must_use]
    pub fn datagrams_dropped(&self) -> u64 {
        self.datagrams_truncated + self.datagrams_blocked + self.datagrams_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_over_reactors_and_of_peaks_the_higher_one_counts() {
        let mut sum = Stats::default();
        let queues = [(3, 70), (1, 90), (2, 80)];
        for (queued, late) in queues {
            let mut one = Stats {
                open: 5,
                peak_open: 5,
                ..Stats::default()
            };
            one.note_turn(Duration::from_micros(100 - late), queued);
            one.note_timer(Duration::from_micros(late));
            one.closed.count(CloseReason::Finished);
            sum += one;
        }
        let peaks = (sum.longest_turn_us, sum.latest_timer_us, sum.longest_queue);
        assert_eq!(peaks, (30, 90, 3));
        assert_eq!((sum.turns, sum.closed.total()), (3, 3));
        assert_eq!((sum.open, sum.peak_open), (15, 15));
        sum.reset_peaks();
        let peaks = (sum.longest_turn_us, sum.latest_timer_us, sum.longest_queue);
        assert_eq!((peaks, sum.turns, sum.peak_open), ((0, 0, 0), 3, 15));
    }

    #[test]
    fn every_counter_is_told_by_its_name_once() {
        let stats = Stats::default();
        let printed = format!("{stats:?}");
        let fields = printed.matches(": ").count() - stats.closed.iter().count();
        // All but the closed ones.
        assert_eq!(stats.iter().count(), fields - 1);
        for (name, _) in stats.iter() {
            assert_eq!(printed.matches(&format!(" {name}: ")).count(), 1, "{name}");
        }
    }

    #[test]
    fn closed_connections_are_printed_with_their_reasons() {
        let mut stats = Stats::default();
        stats.closed.count(CloseReason::IdleTimeout);
        let printed = format!("{stats:?}");
        assert!(printed.contains(r#"closed: {"finished": 0, "#), "{printed}");
        assert!(printed.contains(r#""idle_timeout": 1, "#), "{printed}");
        assert_eq!(stats.closed.of(CloseReason::IdleTimeout), 1);
        let other = stats.closed;
        stats.closed += other;
        assert_eq!(stats.closed.total(), 2);
    }
}
