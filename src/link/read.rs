//! How a link reads, and what it keeps of what the handler leaves.

use crate::buffer::Buffer;
use crate::error::CloseReason;
use crate::memory::SMALL;
use crate::nonblocking::{self, Outcome, Stream};
use crate::readiness::Readiness;

use super::{Flags, Link, Phase, READ_SIDE, STICKY, Shared, Step};

impl<S: Stream> Link<S> {
    /// Reads once into `scratch`, and takes note of what came of it; the count of bytes that came, if any did.
    #[inline(always)]
    pub(crate) fn take_in(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> Option<usize> {
        let room = self.read_room(shared).min(scratch.len());
        match nonblocking::read(&mut self.stream, &mut scratch[..room]) {
            Ok(Outcome::Ready(count)) => {
                shared.stats.bytes_in += count as u64;
                if count > SMALL {
                    shared.spend(count);
                    self.flags.insert(Flags::BULK);
                }
                let short = count < room && self.stream.short_is_blocked();
                if short && !self.readiness.intersects(STICKY) {
                    self.readiness = self.readiness.without(Readiness::READABLE);
                }
                Some(count)
            }
            nothing => {
                self.nothing_came(shared, nothing);
                None
            }
        }
    }

    /// Takes note of a read that gave no bytes.
    #[cold]
    #[inline(never)]
    fn nothing_came(&mut self, shared: &mut Shared, outcome: std::io::Result<Outcome>) {
        match outcome {
            // Nobody sent this end: it's what is left of the error that a write was told.
            Ok(Outcome::Eof) if self.flags.contains(Flags::ERROR_TAKEN) => {
                self.sever(shared, CloseReason::Reset);
            }
            Ok(Outcome::Eof) => self.flags.insert(Flags::PEER_EOF),
            Ok(_) => {}
            Err(error) => self.sever(shared, CloseReason::from_error(&error)),
        }
        self.readiness = self.readiness.without(READ_SIDE);
    }

    /// How many bytes one read may bring: no more than may be kept, should the handler consume none
    /// of it.
    #[inline]
    fn read_room(&self, shared: &Shared) -> usize {
        if !self.flags.contains(Flags::ENGAGED) {
            return shared.read_limit();
        }
        let left = shared.limits.max_input.saturating_sub(self.input_len());
        let spare = self.buffers.as_ref().map_or(0, |b| b.input.spare());
        let memory = shared.memory.room().max(SMALL).max(spare);
        shared.read_limit().min(left).min(memory).max(1)
    }

    /// New bytes: alone they are lent from the read buffer, behind kept ones they are added to those.
    #[inline]
    pub(super) fn arrived(&mut self, shared: &mut Shared, bytes: &[u8]) -> Step {
        if !self.has_input() {
            return Step::Fresh(bytes.len());
        }
        if !self.keep_input(shared, bytes) {
            return Step::Closed;
        }
        self.lend_input().map_or(Step::Wait, Step::Stored)
    }

    /// After [`Step::Fresh`]: the handler has consumed the first `count` of `bytes`. The rest is kept.
    ///
    /// # Panics
    /// When `count` is more than there was: the handler is wrong about its own input.
    #[inline(always)]
    pub(crate) fn consumed(&mut self, shared: &mut Shared, bytes: &[u8], count: usize) {
        if count != bytes.len() {
            self.keep_rest(shared, bytes, count);
        }
        shared.stats.consumed += count as u64;
    }

    #[cold]
    #[inline(never)]
    fn keep_rest(&mut self, shared: &mut Shared, bytes: &[u8], count: usize) {
        let Some(rest) = bytes.get(count..) else {
            consumed_too_much(count, bytes.len())
        };
        if self.phase != Phase::Open {
            shared.stats.discarded += rest.len() as u64;
            return;
        }
        if self.keep_input(shared, rest) {
            self.settle_input(shared, count);
        }
    }

    /// After [`Step::Stored`] and [`Step::Eof`]: takes back what was lent, of which the handler has consumed the first
    /// `count` bytes.
    ///
    /// # Panics
    /// When `count` is more than there was.
    pub(crate) fn give_back(&mut self, shared: &mut Shared, mut input: Buffer, count: usize) {
        if count > input.len() {
            consumed_too_much(count, input.len());
        }
        input.take(count);
        shared.stats.consumed += count as u64;
        shared.stats.unconsumed -= count as u64;
        if count > 0 {
            // It has got what it was fed for.
            self.flags.remove(Flags::FED);
            if !shared.memory.has_room_beside(input.capacity()) {
                input.fit();
            }
        }
        let at_end = self.flags.contains(Flags::EOF_TOLD);
        if self.phase != Phase::Open || at_end {
            shared.stats.unconsumed -= input.len() as u64;
            shared.stats.discarded += input.len() as u64;
            input.clear();
        }
        if self.buffers.is_some() {
            self.keep(shared, |buffers| {
                buffers.input = input;
                buffers.lent = 0;
            });
            self.release_buffers(shared);
        }
        self.settle_input(shared, count);
    }

    /// Keeps `bytes` of input behind what is kept. Where there is no memory for them the link is
    /// closed, and false.
    fn keep_input(&mut self, shared: &mut Shared, bytes: &[u8]) -> bool {
        let room = shared.memory.room();
        let kept = self.keep(shared, |buffers| buffers.input.push(bytes, room));
        if kept {
            shared.stats.unconsumed += bytes.len() as u64;
        } else {
            shared.stats.discarded += bytes.len() as u64;
            self.abort(shared, CloseReason::OutOfMemory);
        }
        kept
    }

    /// After a callback that has seen all input and consumed `count` bytes: what it left is not
    /// shown again for a wish of its own when it took nothing, or it would spin. Closes a link
    /// whose handler may keep no more, and does not wait for anything either.
    fn settle_input(&mut self, shared: &mut Shared, count: usize) {
        if count == 0 {
            self.flags.remove(Flags::REDELIVER);
        }
        let waits = self.flags.intersects(Flags::PAUSED.union(Flags::HIGH));
        if self.input_len() >= shared.limits.max_input && !waits {
            self.close(shared, CloseReason::InputOverflow);
        }
    }

    /// Whether this link's own pending output keeps it from reading.
    pub(super) fn is_held_back(&self) -> bool {
        self.flags.contains(Flags::HIGH) && !self.flags.contains(Flags::READ_ON)
    }

    /// Whether the memory of all links together keeps this one from reading, for it keeps as much
    /// as there is room. Who keeps little is read on, so that peers who keep much can't shut out
    /// those who don't; and so is who has taken memory for more than it keeps. Output counts only
    /// where reading makes it.
    pub(crate) fn is_starved(&mut self, shared: &mut Shared) -> bool {
        let Some(buffers) = &self.buffers else {
            return false;
        };
        let mut kept = buffers.input.capacity();
        let mut excused = buffers.input.spare() > 0 || self.has(Flags::FED);
        if !self.flags.contains(Flags::READ_ON) && !buffers.output.is_empty() {
            kept += buffers.output.capacity();
            excused = false;
        }
        let is = !excused && !shared.memory.has_room_beside(kept);
        if is && !self.flags.contains(Flags::STARVED) {
            shared.stats.pending_pauses += 1;
        }
        is
    }

    /// Whether nothing of the link's own keeps it from reading, when there is something to read.
    pub(crate) fn may_read(&self) -> bool {
        let stops = self.flags.contains(Flags::PAUSED) || self.is_held_back();
        self.phase == Phase::Open && !stops
    }

    /// Asks for the kept input to be shown again, if there is any.
    pub(super) fn redeliver(&mut self) {
        if self.has_input() {
            self.flags.insert(Flags::REDELIVER);
        }
    }

    pub(super) fn input_len(&self) -> usize {
        self.buffers
            .as_ref()
            .map_or(0, |buffers| buffers.input.len())
    }

    pub(crate) fn has_input(&self) -> bool {
        self.input_len() > 0
    }

    /// Moves the kept input out, to be lent to the handler; `None` when there is none.
    pub(super) fn lend_input(&mut self) -> Option<Buffer> {
        let buffers = self.buffers.as_mut()?;
        if buffers.input.is_empty() {
            return None;
        }
        buffers.lent = buffers.input.capacity();
        Some(std::mem::take(&mut buffers.input))
    }
}

/// Out of line, so that the check of every message is one comparison.
#[cold]
#[inline(never)]
#[allow(clippy::panic)] // A wrong handler is its author's bug, and going on would lose or repeat input.
fn consumed_too_much(count: usize, available: usize) -> ! {
    panic!("on_data consumed {count} of {available} bytes");
}
