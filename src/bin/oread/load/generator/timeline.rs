//! From the ramp to the end of a run: which phase it is in, and until when what may be sent.

use super::protocol::Phase;
use crate::load::clock::NEVER;

/// How far a run is.
#[derive(Debug)]
pub(super) struct Timeline {
    pub(super) phase: Phase,
    /// When messages began to be sent that do not open connections.
    pub(super) begun: u64,
    /// When the phase ends.
    pub(super) boundary: u64,
    /// When the measured time ends.
    pub(super) until: u64,
    /// When it has ended: earlier where the run was stopped.
    pub(super) ended: Option<u64>,
    /// Measured messages that may still be sent.
    pub(super) left: u64,
    /// Until when messages of a closed loop may be sent; 0 in the ramp, when it's over, and when
    /// none is left.
    pub(super) send_until: u64,
    /// When it was told to stop.
    pub(super) stopped: Option<u64>,
    /// Whether what was due before the end of the measured time is still sent, late.
    pub(super) catches_up: bool,
}

impl Timeline {
    pub(super) fn new() -> Timeline {
        Timeline {
            phase: Phase::Ramp,
            begun: NEVER,
            boundary: NEVER,
            until: NEVER,
            ended: None,
            left: NEVER,
            send_until: 0,
            stopped: None,
            catches_up: true,
        }
    }

    /// Whether messages are sent.
    #[inline]
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::Warmup | Phase::Measure)
    }

    /// Whether the measured time, or what there was of the load, is over.
    #[inline]
    pub(super) fn is_finishing(&self) -> bool {
        self.phase >= Phase::Finish
    }

    /// Whether messages that have a time are sent: in it, or later. A thread that has none of the
    /// messages to be measured has its part of the warm-up.
    #[inline]
    pub(super) fn is_pumping(&self) -> bool {
        let late = self.phase == Phase::Finish && self.catches_up;
        self.phase == Phase::Warmup || (self.is_sending() || late) && self.left > 0
    }

    /// Whether messages of a closed loop may be sent now.
    #[inline(always)]
    pub(super) fn may_send(&self, now: u64) -> bool {
        now < self.send_until
    }

    /// A measured message was sent; whether it was the last.
    #[inline(always)]
    pub(super) fn took_one(&mut self) -> bool {
        self.left -= 1;
        if self.left == 0 {
            self.send_until = 0;
        }
        self.left == 0
    }
}
