//! How a link writes.
//!
//! There is one way: what waits and what is new are offered to the socket in one call, and what it
//! doesn't take is queued ([`Link::attempt`], [`Link::queue`]). What is small waits for more before
//! it's offered: gathered until the callback returns, if that is the link's own; queued until the
//! next poll, if it's another's. The socket is asked before output counts as pressure or as too
//! much, whatever budget is spent: no peer is called slow that was offered nothing.

use crate::buffer::Gather;
use crate::error::CloseReason;
use crate::memory::SMALL;
use crate::nonblocking::{self, Outcome, Stream};
use crate::readiness::Readiness;

use super::{Flags, Link, Phase, Shared};

/// What a write says of the connection's pending output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Below the high-water mark: write on.
    Low,
    /// Better stop until [`Handler::on_drained`](crate::Handler::on_drained): as much as the
    /// high-water mark is pending, or was written after the connection's calls of this turn were
    /// spent; or there is no more memory for what all connections keep
    /// ([`Limits::max_pending`](crate::Limits::max_pending)). The bytes were taken all the same.
    High,
    /// The connection takes no more output: it's finished, closed or broken. The bytes are lost, and counted as
    /// dropped.
    Closed,
}

impl<S: Stream> Link<S> {
    /// Writes `bytes` to the connection whose callback runs: they are gathered until it returns, or go out at once where
    /// they are many.
    #[inline(always)]
    pub(crate) fn write(&mut self, shared: &mut Shared, bytes: &[u8]) -> Pressure {
        if self.is_quiet() && shared.gathered.push(bytes) {
            shared.stats.written += bytes.len() as u64;
            // The bound is less than the high-water mark: `Limits::sound` sees to that.
            return Pressure::Low;
        }
        self.write_slow(shared, bytes, true)
    }

    /// Writes `bytes` to a connection from outside its callback: they are queued until its owner calls [`Link::next`], which
    /// it must soon, or go out at once where they are many.
    pub(crate) fn write_later(&mut self, shared: &mut Shared, bytes: &[u8]) -> Pressure {
        self.write_slow(shared, bytes, false)
    }

    /// What the inlined part of [`Link::write`] doesn't do: refuse, send straight away, or queue.
    #[inline(never)]
    fn write_slow(&mut self, shared: &mut Shared, bytes: &[u8], current: bool) -> Pressure {
        shared.stats.written += bytes.len() as u64;
        if !self.takes_output() {
            shared.stats.dropped += bytes.len() as u64;
            return Pressure::Closed;
        }
        let gathered = if current { shared.gathered.len() } else { 0 };
        let waiting = gathered + self.pending() + bytes.len();
        // The first answer of a callback is free: an answer is what it was called for.
        let in_budget = current && !shared.sent || self.has_budget(shared);
        // What may wait without being offered. A spent budget lets more of it wait, but never so
        // much that it would count.
        let patient = if in_budget {
            shared.limits.gather
        } else {
            shared.limits.high_water - 1
        };
        if waiting > patient.min(shared.memory.room()) {
            self.send(shared, bytes, current);
            if !in_budget {
                self.raise(shared, shared.limits.high_water);
            }
        } else if !current || self.has_output() || !shared.gathered.push(bytes) {
            if current {
                self.queue_gathered(shared, 0);
            }
            self.queue(shared, bytes);
        }
        let waiting = self.pending() + if current { shared.gathered.len() } else { 0 };
        if waiting >= shared.limits.high_water || waiting > 0 && waiting >= shared.memory.room() {
            self.raise(shared, waiting);
        }
        self.pressure()
    }

    /// Offers what waits and then `bytes` to the socket, as long as it takes some, and queues the
    /// rest. Where it takes all, nothing is copied.
    fn send(&mut self, shared: &mut Shared, mut bytes: &[u8], current: bool) {
        // Taken out while it's sent: what comes of a write is noted in `shared`.
        let mut gathered = match current {
            true => std::mem::take(&mut shared.gathered),
            false => Gather::default(),
        };
        let mut first = gathered.bytes();
        while self.may_write() && (self.has_output() || first.len() + bytes.len() > 0) {
            if !current || std::mem::replace(&mut shared.sent, true) {
                self.charge(shared);
            }
            let taken = self.attempt(shared, first, bytes);
            if taken > 0 && !current {
                // The owner learns of it as of old output: no callback of this link's is running.
                self.flags.insert(Flags::MOVED);
            }
            let of_first = taken.min(first.len());
            first = &first[of_first..];
            bytes = &bytes[taken - of_first..];
        }
        self.queue(shared, first);
        self.queue(shared, bytes);
        if current {
            gathered.clear();
            shared.gathered = gathered;
        }
    }

    /// One attempt to write what is queued, then `first`, then `second`; how many bytes of those
    /// two were taken. Only one of the queue and `first` has any.
    fn attempt(&mut self, shared: &mut Shared, first: &[u8], second: &[u8]) -> usize {
        let queued = self.buffers.as_ref().map_or(&[][..], |b| b.output.bytes());
        debug_assert!(
            queued.is_empty() || first.is_empty(),
            "gathered behind pending output"
        );
        let of_queue = queued.len();
        let first = if of_queue > 0 { queued } else { first };
        let asked = first.len() + second.len();
        let attempt = match (first.is_empty(), second.is_empty()) {
            (false, false) => nonblocking::write_two(&mut self.stream, first, second),
            (false, true) => nonblocking::write(&mut self.stream, first),
            (true, _) => nonblocking::write(&mut self.stream, second),
        };
        let count = self.wrote(shared, attempt, asked);
        let of_queue = of_queue.min(count);
        if of_queue > 0 {
            self.keep(shared, |buffers| buffers.output.take(of_queue));
            shared.stats.pending -= of_queue as u64;
            self.flags.insert(Flags::MOVED);
            self.release_buffers(shared);
        }
        count - of_queue
    }

    /// Takes note of what a write of `asked` bytes came to, and gives the bytes that it took.
    #[inline]
    fn wrote(
        &mut self,
        shared: &mut Shared,
        attempt: std::io::Result<Outcome>,
        asked: usize,
    ) -> usize {
        match attempt {
            Ok(Outcome::Ready(count)) => {
                shared.stats.bytes_out += count as u64;
                if count > SMALL {
                    shared.spend(count);
                }
                if count < asked && self.stream.short_is_blocked() {
                    self.readiness = self.readiness.without(Readiness::WRITABLE);
                }
                count
            }
            Ok(Outcome::Blocked | Outcome::Eof) => {
                self.readiness = self.readiness.without(Readiness::WRITABLE);
                0
            }
            Err(error) => {
                self.writing_failed(shared, &error);
                0
            }
        }
    }

    /// Whether what is written now will be sent.
    pub(crate) fn takes_output(&self) -> bool {
        let over = Flags::FIN_WANTED.union(Flags::WRITE_DEAD);
        matches!(self.phase, Phase::Open | Phase::Connecting) && !self.flags.intersects(over)
    }

    /// Whether an attempt to write makes sense: the socket has not said "not now".
    #[inline]
    fn may_write(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing)
            && !self.flags.contains(Flags::WRITE_DEAD)
            && self.readiness.contains(Readiness::WRITABLE)
    }

    /// Marks the link as being under pressure, with `waiting` bytes of output.
    fn raise(&mut self, shared: &mut Shared, waiting: usize) {
        if !self.takes_output() || self.flags.contains(Flags::HIGH) {
            return;
        }
        self.flags.insert(Flags::HIGH);
        if self.flags.contains(Flags::READ_ON) {
            return;
        }
        if waiting >= shared.limits.high_water {
            shared.stats.reads_paused += 1;
        } else {
            shared.stats.pending_pauses += 1;
        }
    }

    /// After a callback: sends what it gathered. True when all of that is out, the link is quiet, and nothing is left to read:
    /// then [`Link::next`] would only say [`Step::Wait`](super::Step::Wait).
    #[inline(always)]
    pub(crate) fn settle(&mut self, shared: &mut Shared) -> bool {
        if !self.is_quiet() || self.is_readable() {
            return false;
        }
        if shared.gathered.is_empty() {
            return true;
        }
        match nonblocking::write_whole(&mut self.stream, shared.gathered.bytes()) {
            None => {
                shared.stats.bytes_out += shared.gathered.len() as u64;
                shared.gathered.clear();
                true
            }
            Some(less) => {
                self.keep_unsent(shared, less);
                false
            }
        }
    }

    /// Queues what a partial write of all that was gathered left over.
    #[cold]
    #[inline(never)]
    fn keep_unsent(&mut self, shared: &mut Shared, attempt: std::io::Result<Outcome>) {
        let count = self.wrote(shared, attempt, shared.gathered.len());
        self.queue_gathered(shared, count);
    }

    /// After a callback whose link was not settled: sends what it gathered, or queues it.
    pub(super) fn send_gathered(&mut self, shared: &mut Shared) {
        let mut count = 0;
        if self.may_write() && !self.has_output() {
            let attempt = nonblocking::write(&mut self.stream, shared.gathered.bytes());
            count = self.wrote(shared, attempt, shared.gathered.len());
        }
        self.queue_gathered(shared, count);
    }

    /// Queues what the running callback has gathered, but for the first `sent` bytes.
    fn queue_gathered(&mut self, shared: &mut Shared, sent: usize) {
        let mut gathered = std::mem::take(&mut shared.gathered);
        self.queue(shared, &gathered.bytes()[sent..]);
        gathered.clear();
        shared.gathered = gathered;
    }

    /// Adds `bytes` to the pending output. Whether that is too much is judged by what is pending
    /// before: a peer that reads as fast as it can must not be cut off for the size of one write.
    fn queue(&mut self, shared: &mut Shared, bytes: &[u8]) {
        if bytes.is_empty() {
            // Buffers would be taken that no flush gives back.
            return;
        }
        let pending = self.pending();
        // Others may have taken the room since this link was last written to: this write tells it
        // to stop, and the next one is too much.
        let told = self.flags.contains(Flags::HIGH);
        let has_room = !told || shared.memory.has_room_beside(pending);
        if self.phase == Phase::Closed || self.flags.contains(Flags::WRITE_DEAD) {
            shared.stats.dropped += bytes.len() as u64;
        } else if pending >= shared.limits.max_output || !has_room {
            shared.stats.dropped += bytes.len() as u64;
            // These bytes are lost even where nothing older is pending: the peer must not take this for
            // an orderly end.
            self.abort(shared, CloseReason::OutputOverflow);
        } else if !self.keep_output(shared, bytes) {
            shared.stats.dropped += bytes.len() as u64;
            self.abort(shared, CloseReason::OutOfMemory);
        } else {
            if pending == 0 {
                // Only then: more output behind what nobody reads is no progress.
                self.flags.insert(Flags::MOVED);
            }
            shared.stats.pending += bytes.len() as u64;
        }
    }

    /// Whether so much is pending that the pressure, once there, goes on. When memory is short that
    /// is as much as there is room: at the low-water mark the handler would be told to go on, and
    /// then be cut off for it.
    pub(super) fn is_pressed(&self, shared: &Shared) -> bool {
        let pending = self.pending();
        pending > shared.limits.low_water || pending > 0 && pending >= shared.memory.room()
    }

    fn keep_output(&mut self, shared: &mut Shared, bytes: &[u8]) -> bool {
        let room = shared.memory.room();
        self.keep(shared, |buffers| buffers.output.push(bytes, room))
    }

    /// Writes pending output until it's out, the socket says "not now" or the budget is spent; false for the last.
    pub(super) fn flush(&mut self, shared: &mut Shared) -> bool {
        while self.has_output() && self.may_write() {
            if !self.charge(shared) {
                return false;
            }
            self.attempt(shared, &[], &[]);
        }
        true
    }

    /// Notes that nothing written will arrive, and drops what was pending. Reading goes on to the end of what the peer
    /// sent before it went away.
    pub(super) fn writing_failed(&mut self, shared: &mut Shared, error: &std::io::Error) {
        self.flags.insert(Flags::WRITE_DEAD);
        // These two say only that writing is over; every other error was the socket's own, and is
        // told once (Linux: `sock_error`, in `sk_stream_error`).
        let says_why = !matches!(
            error.kind(),
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::NotConnected
        );
        self.flags.set(Flags::ERROR_TAKEN, says_why);
        self.reason.get_or_insert(CloseReason::from_error(error));
        self.drop_output(shared);
        // Whatever ended the writing ends the reading too; no further event may come to say so.
        self.readiness |= Readiness::READABLE;
    }

    /// Drops pending output; how much it was.
    pub(super) fn drop_output(&mut self, shared: &mut Shared) -> usize {
        let count = self.pending();
        if count > 0 {
            self.keep(shared, |buffers| buffers.output.clear());
            shared.stats.pending -= count as u64;
            shared.stats.dropped += count as u64;
        }
        self.release_buffers(shared);
        count
    }

    /// How the pending output stands.
    pub(crate) fn pressure(&self) -> Pressure {
        if !self.takes_output() {
            Pressure::Closed
        } else if self.flags.contains(Flags::HIGH) {
            Pressure::High
        } else {
            Pressure::Low
        }
    }

    /// Bytes of output that wait for the socket.
    pub(crate) fn pending(&self) -> usize {
        self.buffers
            .as_ref()
            .map_or(0, |buffers| buffers.output.len())
    }

    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.pending() > 0
    }
}
