//! How a link ends: half-close, close, linger, reset.

use crate::error::CloseReason;
use crate::nonblocking::Stream;
use crate::readiness::Readiness;

use super::{Flags, Link, Phase, Shared, Step};

impl<S: Stream> Link<S> {
    /// Finishes our side once the pending output is out; the peer may go on sending.
    pub(crate) fn finish(&mut self) {
        self.flags.insert(Flags::FIN_WANTED);
    }

    /// Closes for `reason`: the pending output is flushed, our side is finished, and input is no
    /// longer wanted.
    pub(crate) fn close(&mut self, shared: &mut Shared, reason: CloseReason) {
        match self.phase {
            Phase::Open => {
                // The reason of a broken connection is the break, whatever its handler makes of it.
                self.reason.get_or_insert(reason);
                self.enter(Phase::Closing);
                self.drop_input(shared);
            }
            Phase::Connecting => self.sever(shared, reason),
            Phase::Delivering | Phase::Closing | Phase::Lingering | Phase::Closed => {}
        }
    }

    /// Ends the link at once. Output that is lost by it makes the end a reset: a peer must not take
    /// a stream that was cut for a whole one.
    pub(crate) fn sever(&mut self, shared: &mut Shared, reason: CloseReason) {
        self.end(shared, reason, false);
    }

    /// Ends the link at once, by a reset.
    pub(crate) fn abort(&mut self, shared: &mut Shared, reason: CloseReason) {
        self.end(shared, reason, true);
    }

    fn end(&mut self, shared: &mut Shared, reason: CloseReason, reset: bool) {
        if self.phase == Phase::Closed {
            return;
        }
        let lost = self.drop_output(shared) > 0;
        self.drop_input(shared);
        if (reset || lost)
            && let Err(error) = self.stream.reset_on_close()
        {
            // The close itself follows all the same; only its manner is another.
            log::debug!("could not make the close a reset: {error}");
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

    /// Ends the link at once, for somebody else has its stream now; what was kept of the input.
    pub(crate) fn leave(&mut self, shared: &mut Shared) -> Vec<u8> {
        let input = self.keep(shared, |buffers| std::mem::take(&mut buffers.input));
        shared.stats.consumed += input.len() as u64;
        self.reason.get_or_insert(CloseReason::Detached);
        self.enter(Phase::Closed);
        input.bytes().to_vec()
    }

    /// Closes the link as soon as what has arrived is answered; the owner must call [`Link::next`].
    pub(crate) fn drain(&mut self) {
        self.flags.insert(Flags::DRAINING);
        // What arrived after the last poll has no event yet: only a read can tell, and no short
        // one. The end or urgent data may be part of it.
        self.ready(Readiness::READ_CLOSED);
    }

    /// Has a drain leave the link open: its owner ends it.
    pub(crate) fn stay(&mut self) {
        self.flags.remove(Flags::DRAINING | Flags::PARTING);
    }

    /// After [`Step::Closing`]: the handler has had its last words. Closes, unless it has had the
    /// link stay.
    pub(crate) fn close_drained(&mut self, shared: &mut Shared) {
        if self.has(Flags::DRAINING) {
            self.close(shared, CloseReason::Drained);
        }
    }

    /// With no output pending: takes the next step of an end that was asked for.
    pub(super) fn end_if_due(&mut self, shared: &mut Shared) -> Option<Step> {
        if self.phase == Phase::Open && self.has(Flags::DRAINING) && self.has_answered() {
            if self.takes_output() {
                return Some(Step::Closing);
            }
            self.close(shared, CloseReason::Drained);
        }
        match self.phase {
            _ if self.has_output() => {}
            Phase::Closing => self.linger(shared),
            Phase::Delivering => self.deliver(shared),
            Phase::Open if self.has(Flags::EOF_TOLD) && !self.takes_output() => {
                self.deliver(shared);
            }
            Phase::Open if self.has(Flags::FIN_WANTED) => self.send_fin(shared),
            _ => {}
        }
        None
    }

    /// On an open link that reads nothing any more, when an event says that writing is over too:
    /// asks the socket whether the peer has reset the connection. Nothing else would tell.
    pub(super) fn look_for_reset(&mut self, shared: &mut Shared) {
        if self.phase == Phase::Open && self.readiness.contains(Readiness::WRITE_CLOSED) {
            // Should the event have lied, the next one is believed anew.
            self.readiness = self.readiness.without(Readiness::WRITE_CLOSED);
            self.ask_for_error(shared);
        }
    }

    /// Ends the link if the socket has an error stored.
    fn ask_for_error(&mut self, shared: &mut Shared) {
        if let Ok(Some(error)) | Err(error) = self.stream.take_error() {
            self.sever(shared, CloseReason::from_error(&error));
        }
    }

    /// Whether nothing that has arrived is still to be answered, as far as the handler lets itself
    /// be asked, and all answers are out.
    fn has_answered(&self) -> bool {
        let again = self.flags.intersects(Flags::SHOW) && self.has_input();
        let more = again || self.is_readable() || self.has(Flags::PEER_EOF);
        let asked = self.has(Flags::PAUSED) || self.has(Flags::EOF_TOLD) || !more;
        asked && !self.has_output()
    }

    /// Both sides have finished: the link is closed when the peer has acknowledged all that was
    /// written. Until then our FIN is on its way, and its acknowledgement is an event: the socket
    /// is closed in both directions with it.
    fn deliver(&mut self, shared: &mut Shared) {
        let in_flight =
            self.stream.tells_delivery() && self.stream.in_flight().is_some_and(|count| count > 0);
        // What a reset has thrown away is not in flight either: the error tells. It's asked for
        // last, for the reset may come between the two questions.
        self.ask_for_error(shared);
        if in_flight && self.phase == Phase::Open {
            self.send_fin(shared);
        }
        if !in_flight || self.has(Flags::WRITE_DEAD) {
            // Closing the socket sends the FIN just as well, and saves the call. After a reset
            // nothing is left to be read that would tell.
            self.sever(shared, CloseReason::Finished);
        } else if self.phase == Phase::Open {
            self.enter(Phase::Delivering);
            self.flags.insert(Flags::MOVED);
        }
    }

    fn send_fin(&mut self, shared: &mut Shared) {
        // On a socket whose write failed the FIN fails as well, and says less of why.
        let due = !self.flags.intersects(Flags::FIN_SENT | Flags::WRITE_DEAD);
        if due && let Err(error) = self.stream.shutdown_write() {
            self.writing_failed(shared, &error);
        }
        self.flags.insert(Flags::FIN_SENT);
    }

    /// All is out, and we close: what still arrives is thrown away, where something may.
    fn linger(&mut self, shared: &mut Shared) {
        if !self.has(Flags::PEER_EOF) {
            self.send_fin(shared);
            self.count = shared.limits.linger_bytes;
            self.enter(Phase::Lingering);
            self.flags.insert(Flags::MOVED);
        }
        let over = self.flags.intersects(Flags::PEER_EOF | Flags::WRITE_DEAD);
        if over || self.count == 0 {
            self.sever(shared, CloseReason::Closed);
        }
    }

    /// Reads and throws away what still arrives on a closed link, until the peer's end or the
    /// bound; while its output is pending, for as long as that moves.
    pub(super) fn discard(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> Step {
        while self.phase != Phase::Closed && !self.has(Flags::PEER_EOF) && self.is_readable() {
            if !self.charge(shared) {
                return Step::Yield;
            }
            let count = self.take_in(shared, scratch).unwrap_or(0);
            shared.stats.discarded += count as u64;
            if self.phase == Phase::Lingering {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                self.count = self.count.saturating_sub(count);
                // The peer's end, orderly or not, is what was waited for.
                if self.count == 0 || self.has(Flags::PEER_EOF) {
                    self.sever(shared, CloseReason::Closed);
                }
            }
        }
        match self.phase {
            Phase::Closed => Step::Closed,
            _ => Step::Wait,
        }
    }
}
