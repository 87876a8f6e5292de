//! Counters.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::error::CloseReason;

/// What a reactor has done so far: a plain copy of its counters, from
/// [`Context::stats`](crate::Context::stats).
///
/// They add up, at any time between two callbacks:
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
    /// Outbound connections that were established.
    pub connected: u64,
    /// Outbound connections that failed before they were.
    pub connect_failed: u64,
    /// Connections open now.
    pub open: u64,
    /// The most connections that were open at once.
    pub peak_open: u64,
    /// Connections closed, by [`CloseReason::kind`].
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
    pub reads_paused: u64,
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
    /// Polls of the system.
    pub polls: u64,
    /// Events that they brought.
    pub events: u64,
    /// Messages that other threads posted.
    pub messages: u64,
}

/// Counts of connections by [`CloseReason::kind`]: an array, which prints with the reasons' names.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Closed([u64; CloseReason::NAMES.len()]);

impl Deref for Closed {
    type Target = [u64; CloseReason::NAMES.len()];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Closed {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = CloseReason::NAMES.into_iter().zip(self.0);
        f.debug_map().entries(counts).finish()
    }
}

impl Stats {
    /// Datagrams that were received or to be sent and went nowhere, whatever the cause.
    #[must_use]
    pub fn datagrams_dropped(&self) -> u64 {
        self.datagrams_truncated + self.datagrams_blocked + self.datagrams_failed
    }

    /// The connections closed for each reason, by its name, those with none left out.
    pub fn closed_by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CloseReason::NAMES
            .into_iter()
            .zip(*self.closed)
            .filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_connections_are_printed_with_their_reasons() {
        let mut stats = Stats::default();
        stats.closed[CloseReason::IdleTimeout.kind()] = 7;
        let printed = format!("{stats:?}");
        assert!(printed.contains(r#"closed: {"finished": 0, "#), "{printed}");
        assert!(printed.contains(r#""idle_timeout": 7, "#), "{printed}");
        let named: Vec<_> = stats.closed_by_name().collect();
        assert_eq!(named, [("idle_timeout", 7)]);
    }
}
