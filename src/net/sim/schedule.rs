//! What is to happen, in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::watch::{Side, Target};

/// Something that is to happen. What goes with it stands where it happens, in order: a way carries
/// its own segments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum What {
    /// The next segment that this end has sent arrives at the other one.
    Segment(Side),
    /// The next acknowledgement of what this end has sent arrives.
    Ack(Side),
    /// What this end could not send is sent.
    Transmit(Side),
    /// A reset arrives at this end.
    Reset(Side),
    /// The SYN of this connection arrives.
    Syn(u32),
    /// The answer to the SYN arrives.
    SynAck(u32),
    /// The acknowledgement of that arrives, and the connection can be accepted.
    Established(u32),
    /// A dial fails with this error.
    DialFails(u32, i32),
    /// It is time to see whether this end has waited too long for an acknowledgement.
    Expire(Side),
    /// A process' socket has news that were held back.
    Poke(Target, u8),
    /// A scripted peer goes on.
    Peer(u32),
    /// A datagram arrives.
    Datagram(u32),
    /// A UDP socket's send buffer has room again.
    Sent(u32),
    /// A refusal of a datagram arrives at this UDP socket.
    Refused(u32),
}

/// All that is to happen. Of the same time, what was scheduled first comes first.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// When, in nanoseconds: one number is compared sooner than a duration's two.
    heap: BinaryHeap<Reverse<(u64, u64, What)>>,
    count: u64,
}

impl Schedule {
    pub(super) fn at(&mut self, at: Duration, what: What) {
        self.count += 1;
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.heap.push(Reverse((nanos, self.count, what)));
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<Duration> {
        let next = self.heap.peek();
        next.map(|Reverse((at, _, _))| Duration::from_nanos(*at))
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, What)> {
        let next = self.heap.pop();
        next.map(|Reverse((at, _, what))| (Duration::from_nanos(at), what))
    }

    /// How many things were scheduled so far: unchanged, nothing new has come up.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}
