//! A limit on everything that could grow or take long.

use std::time::Duration;

use crate::clock::millis;

/// The bounds of one reactor. Every field is plain and may be set; [`Limits::default`] is what a
/// server on the open internet can live with.
///
/// ```
/// use oread::Limits;
/// use std::time::Duration;
///
/// let limits = Limits { idle_timeout: Some(Duration::from_secs(300)), ..Limits::default() };
/// assert_eq!(limits.high_water, 64 << 10);
/// ```
///
/// # A peer that stops reading
/// With the defaults, on Linux, and counted from the last of our output that moved, it's gone after
///
/// | of our output | time | what bounds it |
/// |---|---|---|
/// | some is pending | 60 s, 75 s at most | `write_timeout`, which is judged up to a quarter late |
/// | both sides have finished, the last of it is not acknowledged | the same | the same |
/// | the system holds the rest, and the connection stays open | 90 s | [`user_timeout`] |
/// | the peer's system has taken all | no end | `idle_timeout`, if you set one |
/// | [`close`] was called, some is pending | 75 s at most | `write_timeout` |
/// | [`close`] was called, all is out | 5 s | `linger_timeout` |
///
/// So it's 80 s for the longest way to the end, one that reads the last of it just in time. A peer
/// that reads a little now and then begins anew each time. What bounds it all the same is a timer
/// of yours.
///
/// [`user_timeout`]: crate::ListenOptions::user_timeout
/// [`close`]: crate::Connection::close
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections open at once, accepted and outbound ones together. At the limit nothing
    /// more is accepted: callers wait in the listener's backlog until somebody leaves. Default: no
    /// limit but the table's, 2^29; the system's limit on descriptors is met by a pause as well.
    pub max_connections: usize,
    /// The most accepted connections of one source at once; more are closed, unasked, and counted
    /// ([`Stats::over_source`](crate::Stats::over_source)). A source is an IPv4 address, or an IPv6
    /// network of 64 bits, as one customer has it (RFC 6177). Those over Unix sockets have none,
    /// and a listener can be left out
    /// ([`ListenOptions::per_source`](crate::ListenOptions::per_source)). Default: no limit.
    pub connections_per_source: Option<u32>,
    /// New connections a second that are taken on from one source, and at once; more are turned
    /// away. Who has no connection any more may be forgotten, which gives it its whole second
    /// again. Default: no limit.
    pub accepts_per_source: Option<u32>,
    /// The bytes of the one buffer that all reads land in, at least 1 and at most 1 GiB. Default:
    /// 64 KiB; a UDP datagram can be that long, and a shorter buffer would cut it.
    pub read_buffer: usize,
    /// The most bytes of input that a connection may keep unconsumed; one that keeps so many is
    /// closed with [`CloseReason::InputOverflow`](crate::CloseReason::InputOverflow), unless its
    /// reading is paused or waits for its output. No read brings more. Default: 1 MiB and 16 bytes:
    /// a frame of 1 MiB with its prefix or newline, which [`EchoOptions`](crate::EchoOptions)
    /// allows, and a byte that isn't its own.
    pub max_input: usize,
    /// Pending output, in bytes, at which a connection is under
    /// [`Pressure::High`](crate::Pressure::High). Default: 64 KiB.
    pub high_water: usize,
    /// Pending output, in bytes, at which that ends; never above `high_water`. Default: 32 KiB.
    pub low_water: usize,
    /// Pending output, in bytes, at which a connection that is written to again is closed with
    /// [`CloseReason::OutputOverflow`](crate::CloseReason::OutputOverflow). What counts is what was
    /// pending before a write, after the socket was offered all that it would take: one write may
    /// be larger. Default: 16 MiB.
    pub max_output: usize,
    /// The memory, in bytes, that all connections together may take for unconsumed input and
    /// pending output. Default: 1 GiB.
    ///
    /// A connection that takes as much as is left of it is not read until there is more, and is
    /// under [`Pressure::High`](crate::Pressure::High). If its handler writes all the same, it's
    /// closed with [`CloseReason::OutputOverflow`](crate::CloseReason::OutputOverflow). So of n
    /// connections that want all of it each gets an (n + 1)th. Up to 4 KiB, and one write, are
    /// every connection's own, so that peers who keep little are served as usual.
    ///
    /// Connections that wait for memory may hold what they all wait for. So one at a time goes on
    /// beyond it, up to its [`Limits::max_input`]; and one that has waited for
    /// [`Limits::write_timeout`], and still finds none, is closed with
    /// [`CloseReason::OutOfMemory`](crate::CloseReason::OutOfMemory).
    pub max_pending: usize,
    /// Bytes that one callback may write before they go out without waiting for its end; always
    /// below `high_water`, and at most 1 GiB. A write to another connection that is larger doesn't
    /// wait either. Default: 16 KiB.
    pub gather: usize,
    /// Read and write calls that one connection may take in one turn, at least 1. The first write
    /// of each callback is free. Past them, what is written waits for the next turn; when
    /// `high_water` of it waits, it's offered to the socket, and the connection is under pressure
    /// even if the peer is quick. Default: 8.
    pub io_budget: u32,
    /// Bytes that the large reads and writes (over 4 KiB) of all connections together may move in
    /// one turn, at least 1. Past them, connections whose last read was a large one wait for the
    /// next turn, and the others have one read of at most 4 KiB. Connections that have waited share
    /// as much again. This bounds how long a turn takes, and so how late timers, messages and quiet
    /// peers are served beside thousands that send all they can. Default: 2 MiB.
    pub turn_bytes: usize,
    /// Connections that one listener may accept in one turn, at least 1. Default: 64.
    pub accept_budget: u32,
    /// Datagrams that one UDP socket may receive in one turn, at least 1. The turn that begins a
    /// drain brings up to 4,096 more, the last ones. Default: 64.
    pub datagram_budget: u32,
    /// Messages from other threads that one turn may bring, at least 1. One in which a deadline has
    /// come brings as many as [`mailbox`](Limits::mailbox) says, for they may have been posted
    /// before it; the last one of a drain brings all that are left. Default: 256.
    pub message_budget: u32,
    /// Messages that may wait for the reactor, at least 1 and at most 2^20. A
    /// [`Handle`](crate::Handle) is told when there are more. Default: 1,024.
    pub mailbox: usize,
    /// Events that one poll may bring, at least 1 and at most 2^20. Default: 1,024.
    pub events: usize,
    /// How long a turn that finds no event asks again before it sleeps. A reactor that is quicker
    /// than its peers sleeps between any two messages, and each time somebody pays for waking it (a
    /// peer on the same machine does, inside its own write) and for the time it takes to get up.
    /// With this, each sleep costs so much of the processor more, which is lost when nothing comes:
    /// some 20 µs pay where messages are frequent and delay matters. Default: none.
    pub spin: Duration,
    /// How long a connection may be without a byte either way; `None`: for ever. A connection can
    /// have its own. Lies between 1 ms and 24 days; what is outside is brought to the nearer end.
    /// Default: none.
    pub idle_timeout: Option<Duration>,
    /// How long a peer may take over a frame, whatever it sends meanwhile: from when the handler
    /// left some input unconsumed until it consumes some; `None`: for ever. Then the connection is
    /// closed with [`CloseReason::FrameTimeout`](crate::CloseReason::FrameTimeout). Without it a
    /// byte now and then holds a place for good. What isn't read is nobody's fault: while the
    /// handler has paused, or output or memory keep it from being read, the time doesn't end, and
    /// begins anew. Default: none.
    pub frame_timeout: Option<Duration>,
    /// How long pending output may wait without any progress; `None`: for ever. Default: 60 s.
    ///
    /// Progress is room in the socket and, on Linux, output that the peer acknowledges: the
    /// socket's buffer holds megabytes, of which a slow reader takes a little all the time. Its
    /// system tells of that once a sixteenth of the receive buffer there is free: one that reads
    /// less within the timeout looks like one that has stopped. A peer that makes no progress is
    /// found out at most a quarter late, and never early; the connection is closed with
    /// [`CloseReason::WriteTimeout`](crate::CloseReason::WriteTimeout). The same goes for the last
    /// output of a connection that both sides have finished. Output that the system has taken, on a
    /// connection that stays open, is bounded by
    /// [`ListenOptions::user_timeout`](crate::ListenOptions::user_timeout).
    pub write_timeout: Option<Duration>,
    /// How long a connection that we closed first waits for the peer's end, so that the last reply
    /// is not destroyed by a reset. Default: 5 s.
    pub linger_timeout: Duration,
    /// Bytes that are read and thrown away meanwhile; 0 closes at once. Default: 16 MiB.
    pub linger_bytes: u32,
    /// Memory kept for buffers that are used again, in bytes. Default: 4 MiB.
    pub pooled: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: crate::token::MAX_SLOTS,
            connections_per_source: None,
            accepts_per_source: None,
            read_buffer: 64 << 10,
            max_input: (1 << 20) + 16,
            high_water: 64 << 10,
            low_water: 32 << 10,
            max_output: 16 << 20,
            max_pending: 1 << 30,
            gather: 16 << 10,
            io_budget: 8,
            turn_bytes: 2 << 20,
            accept_budget: 64,
            datagram_budget: 64,
            message_budget: 256,
            mailbox: 1024,
            events: 1024,
            spin: Duration::ZERO,
            idle_timeout: None,
            frame_timeout: None,
            write_timeout: Some(Duration::from_secs(60)),
            linger_timeout: Duration::from_secs(5),
            linger_bytes: 16 << 20,
            pooled: 4 << 20,
        }
    }
}

/// Of the [`Limits`], those that a listener's connections
/// ([`ListenOptions::limits`](crate::ListenOptions::limits)), a dial's
/// ([`ConnectOptions::limits`](crate::ConnectOptions::limits)) or a single one
/// ([`Connection::set_limits`](crate::Connection::set_limits)) may have for themselves. Each field
/// is as the one of the same name there.
///
/// ```
/// use oread::{ConnectionLimits, Limits};
///
/// let upload = ConnectionLimits { max_input: 64 << 20, ..Limits::default().of_connection() };
/// assert_eq!(upload.high_water, 64 << 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// [`Limits::max_input`]. A single read may bring as much as the reactor's own says.
    pub max_input: usize,
    /// [`Limits::high_water`]. It's above [`Limits::gather`] in any case.
    pub high_water: usize,
    /// [`Limits::low_water`].
    pub low_water: usize,
    /// [`Limits::max_output`].
    pub max_output: usize,
    /// [`Limits::idle_timeout`].
    pub idle_timeout: Option<Duration>,
    /// [`Limits::frame_timeout`].
    pub frame_timeout: Option<Duration>,
    /// [`Limits::write_timeout`].
    pub write_timeout: Option<Duration>,
}

impl ConnectionLimits {
    /// How long output that the system has taken may stay unacknowledged, unless a socket's options
    /// say otherwise: half as long again as the write timeout, which is found out at most a quarter
    /// late and says more. In whole milliseconds, as the system has it.
    pub(crate) fn user_timeout(&self) -> Option<Duration> {
        let bound = |timeout: Duration| millis(timeout.saturating_add(timeout / 2));
        let bound = self.write_timeout.map(bound);
        bound.map(|ms| Duration::from_millis(ms.into()))
    }

    /// As [`Limits::sound`], in a reactor that gathers up to `gather` bytes: what is only gathered
    /// must never be as much as to put a connection under pressure.
    pub(crate) fn sound(mut self, gather: usize) -> ConnectionLimits {
        self.max_input = self.max_input.max(1);
        // Who is cut off was told to stop before.
        self.max_output = self.max_output.max(gather + 1);
        self.high_water = self.high_water.clamp(gather + 1, self.max_output);
        self.low_water = self.low_water.min(self.high_water - 1);
        self
    }
}

/// The most that memory is set aside for at the start, in bytes and in places. Somebody who wants
/// "no limit" must not be answered by a panic about a capacity, and no read or write takes more
/// than 2 GiB (read(2), on Linux).
const MOST_BYTES: usize = 1 << 30;
const MOST_PLACES: usize = 1 << 20;

impl Limits {
    /// The limits of a connection that has none of its own.
    #[must_use]
    pub fn of_connection(&self) -> ConnectionLimits {
        ConnectionLimits {
            max_input: self.max_input,
            high_water: self.high_water,
            low_water: self.low_water,
            max_output: self.max_output,
            idle_timeout: self.idle_timeout,
            frame_timeout: self.frame_timeout,
            write_timeout: self.write_timeout,
        }
    }

    /// These limits with what can't be meant put right, so that no later code has to ask: nothing
    /// that must be at least 1 is 0, nothing that memory is set aside for is beyond all memory, and
    /// the marks are in order.
    pub(crate) fn sound(mut self) -> Limits {
        self.max_input = self.max_input.max(1);
        self.read_buffer = self.read_buffer.clamp(1, MOST_BYTES);
        self.gather = self.gather.min(MOST_BYTES);
        self.events = self.events.clamp(1, MOST_PLACES);
        self.mailbox = self.mailbox.clamp(1, MOST_PLACES);
        self.io_budget = self.io_budget.max(1);
        self.accept_budget = self.accept_budget.max(1);
        self.datagram_budget = self.datagram_budget.max(1);
        self.message_budget = self.message_budget.max(1);
        self.max_connections = self.max_connections.min(crate::token::MAX_SLOTS);
        self.turn_bytes = self.turn_bytes.max(1);
        self.max_output = self.max_output.max(1);
        self.max_pending = self.max_pending.max(1);
        // Who is cut off was told to stop before.
        self.high_water = self.high_water.clamp(1, self.max_output);
        self.low_water = self.low_water.min(self.high_water - 1);
        // What is only gathered must never be as much as to put a connection under pressure.
        self.gather = self.gather.min(self.high_water - 1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_cannot_be_meant_are_put_right() {
        let limits = Limits {
            high_water: 0,
            low_water: 9,
            events: 0,
            io_budget: 0,
            ..Limits::default()
        };
        let limits = limits.sound();
        assert_eq!((limits.high_water, limits.low_water), (1, 0));
        assert_eq!((limits.events, limits.io_budget), (1, 1));
    }

    #[test]
    fn no_limit_at_all_is_no_request_for_all_memory() {
        let most = usize::MAX;
        let limits = Limits {
            max_connections: most,
            read_buffer: most,
            max_input: most,
            high_water: most,
            low_water: most,
            max_output: most,
            max_pending: most,
            gather: most,
            mailbox: most,
            events: most,
            pooled: most,
            ..Limits::default()
        };
        let limits = limits.sound();
        assert_eq!((limits.read_buffer, limits.gather), (1 << 30, 1 << 30));
        assert_eq!((limits.mailbox, limits.events), (1 << 20, 1 << 20));
        assert_eq!((limits.high_water, limits.low_water), (most, most - 1));
        assert_eq!((limits.max_input, limits.max_output), (most, most));
    }
}
