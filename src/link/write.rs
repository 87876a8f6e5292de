//! How a link writes.
//!
//! Output waits in one of two places, and never in both. What is small is gathered until the link's
//! own callback returns ([`Link::settle`]). Everything else is queued, and the queue is offered to
//! the socket together with what is new ([`Link::attempt`]): a large write goes out from where the
//! handler has it, and what the socket doesn't take is queued. What another's callback writes and
//! is small is queued at once, until the next poll.
//!
//! The socket is asked before output counts as pressure or as too much, whatever budget is spent:
//! no peer is called slow that was offered nothing.

use std::io::{Error, ErrorKind, Result};

use crate::error::CloseReason;
use crate::memory::SMALL;
use crate::nonblocking::{self, Outcome, Stream};
use crate::readiness::Readiness;

use super::{Flags, Link, Phase, Shared, trace};

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
    /// The connection takes no more output: it's finished, closed or broken. The bytes are lost,
    /// and counted as dropped.
    Closed,
}

impl<S: Stream> Link<S> {
    /// Writes `bytes` to the connection whose callback runs: they are gathered until it returns, or
    /// go out at once where they are many.
    #[inline(always)]
    pub(crate) fn write(&mut self, shared: &mut Shared, bytes: &[u8]) -> Pressure {
        if self.is_quiet() && shared.gathered.push(bytes) {
            shared.stats.written += bytes.len() as u64;
            // The bound is less than the high-water mark: `Limits::sound` sees to that.
            return Pressure::Low;
        }
        self.write_slow(shared, bytes, true)
    }

    /// Writes `bytes` to a connection from outside its callback: they are queued until its owner
    /// calls [`Link::next`], which it must soon, or go out at once where they are many.
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
        if current {
            shared.acting = shared.driven;
            if !self.has_output() && shared.gathered.push(bytes) {
                return self.pressure();
            }
            self.queue_gathered(shared, 0);
        }
        // The first answer of a callback is free: an answer is what it was called for.
        let in_budget = current && !shared.sent || self.has_budget(shared);
        // What may wait without being offered. A spent budget lets more of it wait, but never so
        // much that it would count.
        let patient = match in_budget {
            true => shared.limits.gather,
            false => self.limits(shared).high_water - 1,
        };
        let mut rest = bytes;
        let offer = self.pending() + bytes.len() > patient.min(shared.memory.room());
        if offer && self.may_write() {
            if !current || std::mem::replace(&mut shared.sent, true) {
                self.charge(shared);
            }
            while self.may_write() && (self.has_output() || !rest.is_empty()) {
                rest = &rest[self.attempt(shared, rest)..];
            }
        }
        self.queue(shared, rest);
        self.weigh(shared, offer && !in_budget)
    }

    /// One attempt to write what is queued and then `bytes`; how many of `bytes` were taken.
    fn attempt(&mut self, shared: &mut Shared, bytes: &[u8]) -> usize {
        let queued = self.buffers.as_ref().map_or(&[][..], |b| b.output.bytes());
        let (of_queue, asked) = (queued.len(), queued.len() + bytes.len());
        let answer = match (queued, bytes) {
            ([], only) | (only, []) => nonblocking::write(&mut self.stream, only),
            _ => nonblocking::write_two(&mut self.stream, queued, bytes),
        };
        let count = self.wrote(shared, answer, asked);
        let of_queue = of_queue.min(count);
        if of_queue > 0 {
            self.keep(shared, |buffers| buffers.output.take(of_queue));
        }
        count - of_queue
    }

    /// Takes note of what a write of `asked` bytes came to, and gives the bytes that it took.
    #[inline(never)]
    fn wrote(&mut self, shared: &mut Shared, answer: Result<Outcome>, asked: usize) -> usize {
        let acting = shared.acting;
        match &answer {
            Ok(Outcome::Ready(count)) => trace!(shared, "{acting:?} write {asked}: took {count}"),
            Ok(_) => trace!(shared, "{acting:?} write {asked}: not now"),
            Err(error) => trace!(shared, "{acting:?} write {asked}: {error}"),
        }
        let count = match answer {
            Ok(Outcome::Ready(count)) => count,
            Ok(Outcome::Blocked | Outcome::Eof) => 0,
            Err(error) => {
                self.writing_failed(shared, &error);
                return 0;
            }
        };
        shared.stats.bytes_out += count as u64;
        if let Some(traffic) = self.traffic_mut() {
            traffic.bytes_out += count as u64;
        }
        // The link's deadlines count from here. Its owner knows of what a quiet one writes to
        // itself.
        if count > 0 && (self.has(Flags::DIRTY) || !self.is_quiet()) {
            self.flags.insert(Flags::MOVED);
        }
        if count > SMALL {
            shared.spend(count);
        }
        if count == 0 || count < asked && self.stream.short_is_blocked() {
            self.readiness = self.readiness.without(Readiness::WRITABLE);
        }
        count
    }

    /// Whether what is written now will be sent.
    pub(crate) fn takes_output(&self) -> bool {
        let over = Flags::FIN_WANTED | Flags::WRITE_DEAD;
        matches!(self.phase, Phase::Open | Phase::Connecting) && !self.flags.intersects(over)
    }

    /// Whether an attempt to write makes sense: the socket has not said "not now".
    #[inline]
    fn may_write(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing)
            && !self.has(Flags::WRITE_DEAD)
            && self.readiness.contains(Readiness::WRITABLE)
    }

    /// The end of a callback: sends what it gathered. True when the link is quiet and nothing is
    /// left to read: then [`Link::next`] would only say [`Step::Wait`](super::Step::Wait).
    #[inline(always)]
    pub(crate) fn settle(&mut self, shared: &mut Shared) -> bool {
        if !self.is_quiet() {
            self.settle_busy(shared);
            return false;
        }
        if shared.gathered.is_empty() {
            return !self.is_readable();
        }
        // A quiet link has room: what it wrote last went out whole.
        match nonblocking::write_whole(&mut self.stream, shared.gathered.bytes()) {
            None => {
                let count = shared.gathered.len();
                shared.stats.bytes_out += count as u64;
                if count > SMALL {
                    shared.spend(count);
                }
                shared.gathered.clear();
                !self.is_readable()
            }
            Some(answer) => {
                self.queue_unsent(shared, answer);
                false
            }
        }
    }

    /// As [`Link::settle`], for a link that is not quiet.
    #[cold]
    #[inline(never)]
    pub(super) fn settle_busy(&mut self, shared: &mut Shared) {
        if !shared.gathered.is_empty() {
            let answer = match self.may_write() {
                true => nonblocking::write(&mut self.stream, shared.gathered.bytes()),
                false => Ok(Outcome::Blocked),
            };
            self.queue_unsent(shared, answer);
        }
    }

    /// Queues what a write of all that was gathered has left.
    #[cold]
    #[inline(never)]
    fn queue_unsent(&mut self, shared: &mut Shared, answer: Result<Outcome>) {
        let sent = self.wrote(shared, answer, shared.gathered.len());
        self.queue_gathered(shared, sent);
    }

    /// Queues what the running callback has gathered, but for the first `sent` bytes.
    #[cold]
    #[inline(never)]
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
            return;
        }
        let (pending, room) = (self.pending(), shared.memory.room());
        // Others may have taken the room since this link was last written to: this write tells it
        // to stop, and the next one is too much.
        let has_room = !self.has(Flags::HIGH) || shared.memory.has_room_beside(pending);
        let judged = shared.judged.as_mut();
        let judged = judged.is_some_and(|judged| std::mem::replace(judged, true));
        let parting = self.has(Flags::PARTING);
        let too_much =
            !(judged || parting) && (pending >= self.limits(shared).max_output || !has_room);
        let dead = self.phase == Phase::Closed || self.has(Flags::WRITE_DEAD);
        let tries = !dead && !too_much && self.stream.may_allocate();
        if tries && self.keep(shared, |buffers| buffers.output.push(bytes, room)) {
            if pending == 0 {
                // Only then: more output behind what nobody reads is no progress.
                self.flags.insert(Flags::MOVED);
            }
            return;
        }
        shared.stats.dropped += bytes.len() as u64;
        if !dead {
            // These bytes are lost even where nothing older is pending: the peer must not take this
            // for an orderly end.
            let reason = match too_much {
                true => CloseReason::OutputOverflow,
                false => CloseReason::OutOfMemory,
            };
            self.abort(shared, reason);
        }
    }

    /// Writes pending output until it's out, the socket says "not now" or the budget is spent;
    /// false for the last.
    pub(crate) fn flush(&mut self, shared: &mut Shared) -> bool {
        while self.has_output() && self.may_write() {
            if !self.charge(shared) {
                return false;
            }
            self.attempt(shared, &[]);
        }
        true
    }

    /// After output was added: whether it's too much now, of which the handler is told. `spent`:
    /// the turn's budget was, before the socket took what it did.
    pub(super) fn weigh(&mut self, shared: &mut Shared, spent: bool) -> Pressure {
        let high = self.limits(shared).high_water;
        let begins = (spent || self.is_pressed(shared, high - 1)) && self.takes_output();
        if begins && !self.has(Flags::HIGH) {
            self.flags.insert(Flags::HIGH);
            let what = match self.has(Flags::READ_ON) {
                true => "is under pressure",
                false => "is paused",
            };
            let (acting, count) = (shared.acting, self.pending());
            trace!(shared, "{acting:?} {what}: high water, {count} pending");
            if let Some(traffic) = self.traffic_mut() {
                traffic.pressed += 1;
            }
            let pauses = match spent || self.pending() >= high {
                true => &mut shared.stats.pressure_pauses,
                false => &mut shared.stats.pending_pauses,
            };
            *pauses += u64::from(!self.has(Flags::READ_ON));
        }
        self.pressure()
    }

    /// Whether more than `mark` is pending, or as much as there is memory left for. Pressure begins
    /// with the high-water mark and ends with the low one; but when memory is short it goes on: at
    /// the low-water mark the handler would be told to go on, and then be cut off for it.
    pub(super) fn is_pressed(&self, shared: &Shared, mark: usize) -> bool {
        let pending = self.pending();
        pending > mark || pending > 0 && pending >= shared.memory.room()
    }

    /// Notes that nothing written will arrive, and drops what was pending. Reading goes on to the
    /// end of what the peer sent before it went away.
    pub(super) fn writing_failed(&mut self, shared: &mut Shared, error: &Error) {
        self.flags.insert(Flags::WRITE_DEAD);
        // These two say only that writing is over; every other error was the socket's own, and is
        // told once (Linux: `sock_error`, in `sk_stream_error`).
        let says_why = !matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::NotConnected
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
            shared.stats.dropped += count as u64;
        }
        count
    }

    /// How the pending output stands.
    pub(crate) fn pressure(&self) -> Pressure {
        if !self.takes_output() {
            Pressure::Closed
        } else if self.has(Flags::HIGH) {
            Pressure::High
        } else {
            Pressure::Low
        }
    }

    /// Bytes of output that wait for the socket.
    pub(crate) fn pending(&self) -> usize {
        self.buffers.as_ref().map_or(0, |b| b.output.len())
    }

    #[inline]
    pub(crate) fn has_output(&self) -> bool {
        self.pending() > 0
    }
}
