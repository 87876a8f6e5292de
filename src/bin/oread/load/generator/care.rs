//! Looks after what is under way for too long. A little of it often, not all of it at once: a load
//! of a million connections must not stand still meanwhile.

use std::time::Duration;

use oread::Context;

use crate::load::clock::SECOND;
use crate::load::count::tally::nanos;
use crate::load::generator::Generator;
use crate::load::generator::flow::{Socket, Stage};

/// A sweep looks at a part of the connections, and this many make a whole round.
const SWEEPS_A_ROUND: u32 = 16;

impl Generator {
    /// A whole round takes at most half the message timeout; a sweep comes no more often than each
    /// 5 ms, and at least ten times a second.
    pub(crate) fn sweep_interval(&self) -> Duration {
        let ns = nanos(self.plan.message_timeout) / (2 * u64::from(SWEEPS_A_ROUND));
        Duration::from_nanos(ns.clamp(SECOND / 200, SECOND / 10))
    }

    /// Looks at a part of the flows: gives up messages that are under way for too long.
    pub(crate) fn sweep(&mut self, context: &mut Context<'_, u32>, now: u64) {
        let count = self.flows.capacity();
        for _ in 0..count.div_ceil(SWEEPS_A_ROUND as usize) {
            let index = self.flowing.sweep_at;
            self.flowing.sweep_at = if index + 1 < count { index + 1 } else { 0 };
            if self.flows.contains(index) {
                self.look_after(context, index, now);
            }
        }
        self.finish_if_stuck(context, now);
        self.finish_if_all_sent(context);
        self.end_if_answered(context, now);
    }

    fn look_after(&mut self, context: &mut Context<'_, u32>, index: usize, now: u64) {
        let limit = now.saturating_sub(nanos(self.plan.message_timeout));
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        if let Socket::Datagrams(id) = flow.socket {
            self.look_after_datagrams(context, id, index, now);
            return;
        }
        let before = flow.given_up;
        let count = flow.give_up(limit);
        if count == 0 {
            return;
        }
        self.flowing.under_way -= u64::from(count);
        for place in before..before + count {
            if let Some(sent) = flow.outstanding.get(place) {
                self.record.timed_out(sent);
            }
        }
        match flow.stage {
            Stage::Confirming if !flow.settled => {
                flow.settled = true;
                self.unconfirmed(index);
                self.settle();
            }
            Stage::Retiring => self.close_if_answered(context, index),
            // The loop goes on in place of what was given up.
            Stage::Live => {
                self.owe(index, count);
                self.feed(context, index, now);
            }
            _ => {}
        }
    }
}
