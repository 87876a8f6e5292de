//! How a link writes: gathered, straight from the caller, or queued.

use crate::buffer::Gather;
use crate::error::CloseReason;
use crate::nonblocking::{self, Outcome, Stream};
use crate::readiness::Readiness;

use super::{Link, Phase, Shared, flag};

/// What a write says of the connection's pending output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Below the high-water mark: write on.
    Low,
    /// At the high-water mark or above it: better stop until [`Handler::on_drained`](crate::Handler::on_drained). The
    /// bytes were taken all the same.
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
        if self.phase == Phase::Connecting {
            self.queue(shared, bytes);
        } else if !current {
            self.send_later(shared, bytes);
        } else if self.has_output() {
            // What was gathered before output came to be pending is part of it: see `send`.
            debug_assert!(shared.gathered.is_empty(), "gathered behind pending output");
            self.queue(shared, bytes);
        } else if !shared.gathered.push(bytes) {
            shared.sends += 1;
            if shared.sends <= shared.limits.io_budget {
                self.send(shared, bytes);
            } else {
                // A peer that takes everything at once would keep a callback writing for as long as it has something to
                // say, and all the others waiting. Queued, it comes under pressure.
                self.queue_gathered(shared);
                self.queue(shared, bytes);
            }
        }
        let gathered = if current { shared.gathered.len() } else { 0 };
        if self.pending() + gathered >= shared.limits.high_water {
            self.raise(shared);
        }
        self.pressure()
    }

    /// Whether what is written now will be sent.
    pub(crate) fn takes_output(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Connecting)
            && self.flags & (flag::FIN_WANTED | flag::WRITE_DEAD) == 0
    }

    /// Marks the link as being above the high-water mark.
    fn raise(&mut self, shared: &mut Shared) {
        if self.flags & flag::HIGH == 0 {
            self.flags |= flag::HIGH;
            if self.flags & flag::READ_ON == 0 {
                shared.stats.reads_paused += 1;
            }
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

    /// Takes note of a write that did not take all that was gathered, and queues the rest.
    #[cold]
    #[inline(never)]
    fn keep_unsent(&mut self, shared: &mut Shared, attempt: std::io::Result<Outcome>) {
        let count = self.wrote(shared, attempt, shared.gathered.len());
        self.send_gathered(shared, count, &[]);
    }

    /// Queues a few bytes, which somebody else's callback may add to, and sends many at once if they are the next to go. To
    /// queue those as well would copy every large message that goes from one connection to another, and put the link under
    /// pressure that the socket knows nothing of.
    fn send_later(&mut self, shared: &mut Shared, bytes: &[u8]) {
        if bytes.len() > shared.limits.gather && self.may_write() {
            // The owner learns of it as of old output: no callback of this link's is running.
            self.flags |= flag::MOVED;
            // What is gathered meanwhile is another link's.
            self.send_slices(shared, &[], bytes);
        } else {
            self.queue(shared, bytes);
        }
    }

    /// Sends what is gathered and then `more`, in one system call where the socket takes it all, and queues what it doesn't
    /// take. The alternative, to queue first and write from the queue, would copy every large message once.
    pub(super) fn send(&mut self, shared: &mut Shared, more: &[u8]) {
        self.send_gathered(shared, 0, more);
    }

    /// The same when `sent` bytes of what is gathered are out already.
    fn send_gathered(&mut self, shared: &mut Shared, sent: usize, more: &[u8]) {
        // Taken out while it's sent: what comes of a write is noted in `shared`.
        let mut gathered = std::mem::replace(&mut shared.gathered, Gather::new(0));
        self.send_slices(shared, &gathered.bytes()[sent..], more);
        gathered.clear();
        shared.gathered = gathered;
    }

    fn send_slices(&mut self, shared: &mut Shared, mut first: &[u8], mut second: &[u8]) {
        while first.len() + second.len() > 0 && self.may_write() {
            let attempt = match (first.is_empty(), second.is_empty()) {
                (false, false) => nonblocking::write_two(&mut self.stream, first, second),
                (false, true) => nonblocking::write(&mut self.stream, first),
                (true, _) => nonblocking::write(&mut self.stream, second),
            };
            let count = self.wrote(shared, attempt, first.len() + second.len());
            let of_first = count.min(first.len());
            first = &first[of_first..];
            second = &second[count - of_first..];
        }
        for rest in [first, second] {
            if !rest.is_empty() {
                self.queue(shared, rest);
            }
        }
    }

    /// Whether an attempt to write makes sense: nothing older is waiting, and the socket has not said "not now".
    #[inline]
    fn may_write(&self) -> bool {
        self.phase != Phase::Closed
            && self
                .buffers
                .as_ref()
                .is_none_or(|buffers| buffers.output.is_empty())
            && self.flags & flag::WRITE_DEAD == 0
            && self.readiness.contains(Readiness::WRITABLE)
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
                if count < asked && S::SHORT_IS_BLOCKED {
                    self.readiness = self.readiness.without(Readiness::WRITABLE);
                }
                count
            }
            Ok(Outcome::Blocked | Outcome::Eof) => {
                self.readiness = self.readiness.without(Readiness::WRITABLE);
                0
            }
            Err(error) => {
                self.writing_failed(shared, CloseReason::from_error(&error));
                0
            }
        }
    }

    /// Queues what the running callback has gathered.
    fn queue_gathered(&mut self, shared: &mut Shared) {
        let mut gathered = std::mem::replace(&mut shared.gathered, Gather::new(0));
        self.queue(shared, gathered.bytes());
        gathered.clear();
        shared.gathered = gathered;
    }

    /// Adds `bytes` to the pending output, or cuts the connection off when that would be too much.
    fn queue(&mut self, shared: &mut Shared, bytes: &[u8]) {
        if bytes.is_empty() {
            // Buffers would be taken that no flush gives back.
            return;
        }
        if self.phase == Phase::Closed || self.flags & flag::WRITE_DEAD != 0 {
            shared.stats.dropped += bytes.len() as u64;
        } else if self.pending() + bytes.len() > shared.limits.max_output {
            shared.stats.dropped += bytes.len() as u64;
            // These bytes are lost even where nothing older is pending: the peer must not take this for
            // an orderly end.
            self.abort(shared, CloseReason::OutputOverflow);
        } else {
            if !self.has_output() {
                // Only then: more output behind what nobody reads is no progress.
                self.flags |= flag::MOVED;
            }
            self.buffers(shared).output.push(bytes);
            shared.stats.pending += bytes.len() as u64;
            if self.pending() >= shared.limits.high_water {
                self.raise(shared);
            }
        }
    }

    /// Writes pending output until it's out, the socket says "not now" or the budget is spent; false for the last.
    pub(super) fn flush(&mut self, shared: &mut Shared, budget: &mut u32) -> bool {
        while self.readiness.contains(Readiness::WRITABLE) {
            let Some(buffers) = self.buffers.as_mut().filter(|b| !b.output.is_empty()) else {
                break;
            };
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            let asked = buffers.output.len();
            let attempt = nonblocking::write(&mut self.stream, buffers.output.bytes());
            let count = self.wrote(shared, attempt, asked);
            if count > 0
                && let Some(buffers) = &mut self.buffers
            {
                buffers.output.take(count);
                shared.stats.pending -= count as u64;
                self.flags |= flag::MOVED;
            }
        }
        self.release_buffers(shared);
        true
    }

    /// Notes that nothing written will arrive, and drops what was pending. Reading goes on to the end of what the peer
    /// sent before it went away.
    pub(super) fn writing_failed(&mut self, shared: &mut Shared, reason: CloseReason) {
        self.flags |= flag::WRITE_DEAD;
        self.reason.get_or_insert(reason);
        self.drop_output(shared);
        // Whatever ended the writing ends the reading too; no further event may come to say so.
        self.readiness |= Readiness::READABLE;
    }

    /// Drops pending output; how much it was.
    pub(super) fn drop_output(&mut self, shared: &mut Shared) -> usize {
        let count = self.pending();
        if let Some(buffers) = &mut self.buffers {
            buffers.output.clear();
        }
        shared.stats.pending -= count as u64;
        shared.stats.dropped += count as u64;
        self.release_buffers(shared);
        count
    }

    /// How the pending output stands.
    pub(crate) fn pressure(&self) -> Pressure {
        if !self.takes_output() {
            Pressure::Closed
        } else if self.flags & flag::HIGH != 0 {
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
