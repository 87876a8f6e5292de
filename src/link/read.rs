//! How a link reads, and what it keeps of what the handler leaves.

use crate::buffer::Buffer;
use crate::error::CloseReason;
use crate::nonblocking::{self, Outcome, Stream};
use crate::readiness::Readiness;

use super::{Link, Phase, READ_SIDE, STICKY, Shared, Step, flag};

impl<S: Stream> Link<S> {
    /// Reads once into `scratch`, and takes note of what came of it; the count of bytes that came, if any did.
    #[inline(always)]
    pub(crate) fn take_in(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> Option<usize> {
        let room = self.room(shared, scratch.len());
        match nonblocking::read(&mut self.stream, &mut scratch[..room]) {
            Ok(Outcome::Ready(count)) => {
                shared.stats.bytes_in += count as u64;
                let short = count < room && S::SHORT_IS_BLOCKED;
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
            Ok(Outcome::Eof) => self.flags |= flag::PEER_EOF,
            Ok(_) => {}
            Err(error) => self.sever(shared, CloseReason::from_error(&error)),
        }
        self.readiness = self.readiness.without(READ_SIDE);
    }

    /// How much of a read buffer of `size` bytes one read may use: no more than may be kept, should the handler consume
    /// none of it.
    #[inline]
    fn room(&self, shared: &Shared, size: usize) -> usize {
        let most = shared.limits.max_input;
        // Never 0: `Limits::sound` sees to that.
        if self.flags & flag::ENGAGED == 0 {
            return size.min(most);
        }
        size.min(most.saturating_sub(self.input_len())).max(1)
    }

    /// New bytes: alone they are lent from the read buffer, behind kept ones they are added to those.
    #[inline]
    pub(super) fn arrived(&mut self, shared: &mut Shared, bytes: &[u8]) -> Step {
        match &mut self.buffers {
            Some(buffers) if !buffers.input.is_empty() => {
                buffers.input.push(bytes);
                shared.stats.unconsumed += bytes.len() as u64;
                Step::Stored(std::mem::take(&mut buffers.input))
            }
            _ => Step::Fresh(bytes.len()),
        }
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
        self.buffers(shared).input.push(rest);
        shared.stats.unconsumed += rest.len() as u64;
        self.check_input(shared);
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
        let at_end = self.flags & flag::EOF_TOLD != 0;
        if self.phase != Phase::Open || at_end {
            shared.stats.unconsumed -= input.len() as u64;
            shared.stats.discarded += input.len() as u64;
            input.clear();
        }
        self.buffers(shared).input = input;
        self.release_buffers(shared);
        self.check_input(shared);
    }

    /// Closes a link whose handler may keep no more, and does not wait for anything either.
    fn check_input(&mut self, shared: &mut Shared) {
        let waits = self.flags & (flag::PAUSED | flag::HIGH) != 0;
        if self.input_len() >= shared.limits.max_input && !waits {
            self.close(shared, CloseReason::InputOverflow);
        }
    }

    /// Whether pending output keeps this link from reading: its own, or all of it together while it has some itself. Once
    /// its own is out it may read again, so nobody has to be reminded when the total falls.
    pub(super) fn is_held_back(&mut self, shared: &mut Shared) -> bool {
        if self.flags & flag::READ_ON != 0 {
            return false;
        }
        if self.flags & flag::HIGH != 0 {
            return true;
        }
        let Some(buffers) = &mut self.buffers else {
            return false;
        };
        let total = usize::try_from(shared.stats.pending).unwrap_or(usize::MAX);
        let is = !buffers.output.is_empty() && total >= shared.limits.max_pending;
        let was = std::mem::replace(&mut buffers.held_back, is);
        shared.stats.pending_pauses += u64::from(is && !was);
        is
    }

    /// Asks for the kept input to be shown again, if there is any.
    pub(super) fn redeliver(&mut self) {
        if self.has_input() {
            self.flags |= flag::REDELIVER;
        }
    }

    pub(super) fn input_len(&self) -> usize {
        self.buffers
            .as_ref()
            .map_or(0, |buffers| buffers.input.len())
    }

    pub(super) fn has_input(&self) -> bool {
        self.input_len() > 0
    }

    /// Moves the kept input out, to be lent to the handler; `None` when there is none.
    pub(super) fn lend_input(&mut self) -> Option<Buffer> {
        let buffers = self.buffers.as_mut()?;
        (!buffers.input.is_empty()).then(|| std::mem::take(&mut buffers.input))
    }
}

/// Out of line, so that the check of every message is one comparison.
#[cold]
#[inline(never)]
#[allow(clippy::panic)] // A wrong handler is its author's bug, and going on would lose or repeat input.
fn consumed_too_much(count: usize, available: usize) -> ! {
    panic!("on_data consumed {count} of {available} bytes");
}
