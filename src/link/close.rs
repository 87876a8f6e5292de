//! How a link ends: half-close, close, linger, reset.

use crate::error::CloseReason;
use crate::nonblocking::Stream;
use crate::readiness::Readiness;

use super::{Link, Phase, Shared, Step, flag};

impl<S: Stream> Link<S> {
    /// Finishes our side once the pending output is out; the peer may go on sending.
    pub(crate) fn finish(&mut self) {
        if self.phase == Phase::Open || self.phase == Phase::Connecting {
            self.flags |= flag::FIN_WANTED;
        }
    }

    /// Closes for `reason`: the pending output is flushed, our side is finished, and input is no longer wanted.
    pub(crate) fn close(&mut self, shared: &mut Shared, reason: CloseReason) {
        match self.phase {
            Phase::Open => {
                // The reason of a broken connection is the break, whatever its handler makes of it.
                self.reason.get_or_insert(reason);
                self.enter(Phase::Closing);
                self.drop_input(shared);
            }
            Phase::Connecting => self.sever(shared, reason),
            Phase::Closing | Phase::Lingering | Phase::Closed => {}
        }
    }

    /// Ends the link at once. Output that is lost by it makes the end a reset: a peer must not take a stream that was cut for
    /// a whole one.
    pub(crate) fn sever(&mut self, shared: &mut Shared, reason: CloseReason) {
        self.end(shared, reason, false);
    }

    /// Ends the link at once; by a reset if `reset` says so, or output is lost by it.
    fn end(&mut self, shared: &mut Shared, reason: CloseReason, reset: bool) {
        if self.phase == Phase::Closed {
            return;
        }
        let lost = self.drop_output(shared) > 0;
        self.drop_input(shared);
        if reset || lost {
            self.reset();
        }
        self.reason.get_or_insert(reason);
        self.enter(Phase::Closed);
    }

    /// Ends the link at once because the drain's time is over.
    pub(crate) fn cut(&mut self, shared: &mut Shared) {
        if self.reason == Some(CloseReason::Drained) {
            self.reason = Some(CloseReason::Cut);
        }
        self.sever(shared, CloseReason::Cut);
    }

    /// Ends the link at once, by a reset.
    pub(crate) fn abort(&mut self, shared: &mut Shared, reason: CloseReason) {
        self.end(shared, reason, true);
    }

    /// Closes the link as soon as what has arrived is answered; the owner must call [`Link::next`].
    pub(crate) fn drain(&mut self) {
        self.flags |= flag::DRAINING;
        // What arrived after the last poll has no event yet: only a read can tell.
        self.readiness |= Readiness::READABLE;
    }

    /// Has a drain leave the link open: its owner ends it.
    pub(crate) fn stay(&mut self) {
        self.flags &= !flag::DRAINING;
    }

    /// Whether a drain is to close the link, now or as soon as what has arrived is answered.
    pub(crate) fn is_draining(&self) -> bool {
        self.flags & flag::DRAINING != 0
    }

    fn reset(&mut self) {
        if let Err(error) = self.stream.reset_on_close() {
            // The close itself follows all the same; only its manner is another.
            log::debug!("could not make the close a reset: {error}");
        }
    }

    /// With no output pending: takes the next step of an end that was asked for.
    pub(super) fn end_if_due(&mut self, shared: &mut Shared) {
        let peer_done = self.flags & flag::PEER_EOF != 0;
        if self.flags & flag::WRITE_DEAD != 0 && (self.phase == Phase::Closing || self.is_told()) {
            self.sever(shared, CloseReason::Reset);
            return;
        }
        if self.is_to_drain() {
            // It's past its last words; see `has_drained`.
            self.close(shared, CloseReason::Drained);
        }
        match self.phase {
            Phase::Closing if peer_done => self.sever(shared, CloseReason::Closed),
            Phase::Closing => self.start_lingering(shared),
            // Closing the socket sends the FIN just as well, and saves the call.
            Phase::Open if self.flags & flag::FIN_WANTED != 0 && self.is_told() => {
                self.sever(shared, CloseReason::Finished);
            }
            Phase::Open if self.flags & flag::FIN_WANTED != 0 => self.send_fin(shared),
            _ => {}
        }
    }

    /// Whether a drain is to close the link now.
    fn is_to_drain(&self) -> bool {
        self.phase == Phase::Open && self.flags & flag::DRAINING != 0 && self.has_answered()
    }

    /// With no output pending: whether a drain is to close the link now, and the handler may still say something.
    pub(super) fn has_drained(&self) -> bool {
        self.is_to_drain() && self.takes_output()
    }

    /// Whether the handler knows that the peer has finished.
    fn is_told(&self) -> bool {
        self.flags & flag::EOF_TOLD != 0
    }

    /// After the peer's end, when an event says that writing is over too: asks the socket whether the peer has reset the
    /// connection. Nothing else would tell a handler that has yet to answer: no read is made any more.
    pub(super) fn look_for_reset(&mut self, shared: &mut Shared) {
        let said = self.readiness.contains(Readiness::WRITE_CLOSED);
        if !said || !self.is_told() || self.phase != Phase::Open {
            return;
        }
        // Should the event have lied, the next one is believed anew.
        self.readiness = self.readiness.without(Readiness::WRITE_CLOSED);
        if let Ok(Some(error)) | Err(error) = self.stream.take_error() {
            self.sever(shared, CloseReason::from_error(&error));
        }
    }

    /// Whether nothing that has arrived is still to be answered, as far as the handler lets itself be asked.
    fn has_answered(&self) -> bool {
        let more =
            self.readiness.contains(Readiness::READABLE) || self.flags & flag::REDELIVER != 0;
        self.flags & flag::PAUSED != 0
            || (!more && self.flags & flag::PEER_EOF == 0)
            || self.is_told()
    }

    fn send_fin(&mut self, shared: &mut Shared) {
        if self.flags & flag::FIN_SENT != 0 {
            return;
        }
        self.flags |= flag::FIN_SENT;
        if let Err(error) = self.stream.shutdown_write() {
            self.writing_failed(shared, CloseReason::from_error(&error));
        }
    }

    fn start_lingering(&mut self, shared: &mut Shared) {
        self.send_fin(shared);
        self.linger_left = shared.limits.linger_bytes;
        self.enter(Phase::Lingering);
        if self.linger_left == 0 || self.flags & flag::WRITE_DEAD != 0 {
            self.sever(shared, CloseReason::Closed);
        }
    }

    /// Reads and throws away what still arrives on a closed link, until the peer's end or the bound.
    pub(super) fn discard(
        &mut self,
        shared: &mut Shared,
        scratch: &mut [u8],
        budget: &mut u32,
    ) -> Step {
        while self.readiness.contains(Readiness::READABLE) {
            if *budget == 0 {
                return Step::Yield;
            }
            *budget -= 1;
            let Some(count) = self.take_in(shared, scratch) else {
                // The peer's end, orderly or not, is what was waited for.
                if self.phase == Phase::Closed || self.flags & flag::PEER_EOF != 0 {
                    self.sever(shared, CloseReason::Closed);
                    return Step::Closed;
                }
                continue;
            };
            shared.stats.discarded += count as u64;
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.linger_left = self.linger_left.saturating_sub(count);
            if self.linger_left == 0 {
                self.sever(shared, CloseReason::Closed);
                return Step::Closed;
            }
        }
        Step::Wait
    }

    /// Drops kept input.
    fn drop_input(&mut self, shared: &mut Shared) {
        let count = self.input_len();
        if let Some(buffers) = &mut self.buffers {
            buffers.input.clear();
        }
        shared.stats.unconsumed -= count as u64;
        shared.stats.discarded += count as u64;
        self.release_buffers(shared);
    }
}
