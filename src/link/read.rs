//! How a link reads, and what it keeps of what the handler leaves.

use crate::buffer::{Buffer, Buffers, UNTOLD};
use crate::error::CloseReason;
use crate::memory::SMALL;
use crate::nonblocking::{self, Outcome, Stream};
use crate::readiness::Readiness;

use super::{Flags, Link, Phase, READ_SIDE, STICKY, Shared, Step, trace};

impl<S: Stream> Link<S> {
    /// Reads once into `scratch`, and takes note of what came of it; the count of bytes that came,
    /// if any did.
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
                if short && !self.readiness.intersects(STICKY.union(Readiness::PIECES)) {
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

    /// How many bytes one read may bring: no more than may be kept, should the handler consume none
    /// of it.
    #[inline]
    fn read_room(&self, shared: &Shared) -> usize {
        if !self.has(Flags::ENGAGED) {
            return shared.read_limit;
        }
        let left = self
            .limits(shared)
            .max_input
            .saturating_sub(self.input_len());
        shared.read_limit.min(left).max(1)
    }

    /// Takes note of a read that gave no bytes.
    #[cold]
    #[inline(never)]
    fn nothing_came(&mut self, shared: &mut Shared, outcome: std::io::Result<Outcome>) {
        let acting = shared.acting;
        match &outcome {
            Ok(Outcome::Eof) => trace!(shared, "{acting:?} read: the end"),
            Ok(_) => trace!(shared, "{acting:?} read: not now"),
            Err(error) => trace!(shared, "{acting:?} read: {error}"),
        }
        match outcome {
            // Nobody sent this end: it's what is left of the error that a write was told.
            Ok(Outcome::Eof) if self.has(Flags::ERROR_TAKEN) => {
                self.sever(shared, CloseReason::Reset);
            }
            Ok(Outcome::Eof) => self.flags.insert(Flags::PEER_EOF),
            Ok(_) => {}
            Err(error) => self.sever(shared, CloseReason::from_error(&error)),
        }
        self.readiness = self.readiness.without(READ_SIDE);
    }

    /// New bytes: alone they are lent from the read buffer, behind kept ones they are added to
    /// those.
    #[inline]
    pub(super) fn arrived(&mut self, shared: &mut Shared, bytes: &[u8]) -> Step {
        trace!(shared, "{:?} read: {} bytes", shared.acting, bytes.len());
        if let Some(traffic) = self.traffic_mut() {
            traffic.bytes_in += bytes.len() as u64;
        }
        if !self.has_input() {
            return Step::Fresh(bytes.len());
        }
        self.keep_input(shared, bytes);
        // Without memory for them the link is closed, and has nothing to show.
        self.lend_input(shared).map_or(Step::Closed, Step::Stored)
    }

    /// After [`Step::Fresh`]: the handler has consumed the first `count` of `bytes`. The rest is
    /// kept.
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
        check_consumed(count, bytes.len());
        let rest = &bytes[count..];
        if self.phase != Phase::Open {
            shared.stats.discarded += rest.len() as u64;
        } else {
            self.keep_input(shared, rest);
            self.settle_input(shared, count);
        }
    }

    /// After [`Step::Stored`] and [`Step::Eof`]: takes back what was lent, of which the handler has
    /// consumed the first `count` bytes.
    ///
    /// # Panics
    /// When `count` is more than there was.
    pub(crate) fn give_back(&mut self, shared: &mut Shared, mut input: Buffer, count: usize) {
        check_consumed(count, input.len());
        input.take(count);
        shared.stats.consumed += count as u64;
        if count > 0 {
            // It has got what it was fed for.
            self.flags.remove(Flags::FED);
            if !shared.memory.has_room_beside(input.capacity()) {
                input.fit();
            }
        }
        if self.buffers.is_some() {
            self.keep(shared, |buffers| {
                buffers.input = input;
                buffers.lent = 0;
            });
        }
        self.settle_input(shared, count);
    }

    /// Keeps `bytes` of input behind what is kept. Where there is no memory for them the link is
    /// closed.
    fn keep_input(&mut self, shared: &mut Shared, bytes: &[u8]) {
        let room = shared.memory.room();
        let may = self.stream.may_allocate();
        let push = |buffers: &mut Buffers| {
            if buffers.input.is_empty() {
                buffers.begun = UNTOLD;
            }
            buffers.input.push(bytes, room)
        };
        if !(may && self.keep(shared, push)) {
            shared.stats.discarded += bytes.len() as u64;
            self.abort(shared, CloseReason::OutOfMemory);
        }
    }

    /// After a callback that has seen all input and consumed `count` bytes: what it left is not
    /// shown again for a wish of its own when it took nothing, or it would spin. What nobody will
    /// be shown is dropped.
    fn settle_input(&mut self, shared: &mut Shared, count: usize) {
        if count == 0 {
            self.flags.remove(Flags::REDELIVER);
        } else {
            // What is left is the beginning of another frame.
            self.renew_frame();
        }
        if self.phase != Phase::Open || self.has(Flags::EOF_TOLD) {
            self.drop_input(shared);
        } else {
            self.end_overflow(shared);
        }
    }

    /// Closes an open link whose handler may keep no more, and does not wait for anything either.
    pub(super) fn end_overflow(&mut self, shared: &mut Shared) {
        let waits = Flags::PAUSED | Flags::HIGH | Flags::AGAIN | Flags::EOF_TOLD;
        let ends = self.phase == Phase::Open && !self.flags.intersects(waits);
        if ends && self.input_len() >= self.limits(shared).max_input {
            self.close(shared, CloseReason::InputOverflow);
        }
    }

    /// Whether the memory of all links together keeps this one from reading, for it keeps as much
    /// as there is room. Who keeps little is read on, so that peers who keep much can't shut out
    /// those who don't; and so is who has taken memory for more than it keeps. Output counts only
    /// where reading makes it.
    pub(crate) fn is_starved(&self, shared: &Shared) -> bool {
        let Some(buffers) = &self.buffers else {
            return false;
        };
        let answers = self.is_answering();
        let excused = !answers && (buffers.input.spare() > 0 || self.has(Flags::FED));
        let mut kept = buffers.input.capacity();
        if answers {
            kept += buffers.output.capacity();
        }
        !excused && !shared.memory.has_room_beside(kept)
    }

    /// Whether reading waits for pending output as far as memory goes: reading makes more of it.
    pub(crate) fn is_answering(&self) -> bool {
        !self.has(Flags::READ_ON) && self.has_output()
    }

    /// Whether the link, which may read although there is no memory for it, goes on so. One that
    /// reads nothing now has had its turn: others wait for theirs.
    pub(crate) fn feeds_on(&mut self) -> bool {
        let reads = self.may_read() && !self.is_answering();
        self.untag(Flags::FED) && reads && self.tag(Flags::FED)
    }

    /// Whether nothing of the link's own keeps it from reading, when there is something to read:
    /// its handler's wish, its pending output or the peer's end.
    pub(crate) fn may_read(&self) -> bool {
        let held_back = self.has(Flags::HIGH) && !self.has(Flags::READ_ON);
        let stops = held_back || self.flags.intersects(Flags::PAUSED | Flags::EOF_TOLD);
        self.phase == Phase::Open && !stops
    }

    /// Drops kept input.
    pub(super) fn drop_input(&mut self, shared: &mut Shared) {
        let count = self.input_len();
        if count > 0 {
            self.keep(shared, |buffers| buffers.input.clear());
            shared.stats.discarded += count as u64;
        }
    }

    pub(super) fn input_len(&self) -> usize {
        self.buffers.as_ref().map_or(0, |b| b.input.len())
    }

    pub(super) fn has_input(&self) -> bool {
        self.input_len() > 0
    }

    /// Moves the kept input out, to be lent to the handler; `None` when there is none.
    pub(super) fn lend_input(&mut self, shared: &mut Shared) -> Option<Buffer> {
        let lend = |buffers: &mut Buffers| {
            buffers.lent = buffers.input.capacity();
            std::mem::take(&mut buffers.input)
        };
        self.has_input().then(|| self.keep(shared, lend))
    }
}

/// A wrong handler is its author's bug, and going on would lose or repeat input.
fn check_consumed(count: usize, available: usize) {
    assert!(
        count <= available,
        "on_data consumed {count} of {available} bytes"
    );
}
