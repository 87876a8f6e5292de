//! Connections that are closed for others to take their places, and messages that are given up.

use super::{Plan, SLACK, SWEEPS_A_ROUND, Step};
use crate::load::clock::{NEVER, SECOND, after};
use crate::load::generator::flow::{Flags, Flow, Stage};
use crate::load::options::load::{MOST_TURNING_OVER, Traffic, Turnover};

/// How long the first datagram is waited for before it's sent again.
pub(super) const RETRY: u64 = SECOND / 4;

impl Plan {
    /// When the next connection is to be closed for another; [`NEVER`] where that has to wait for
    /// an event.
    pub(super) fn turnover_due(&mut self) -> u64 {
        // Of churn, at most half of the connections: the others carry the load meanwhile.
        let most = match self.load.turnover {
            Turnover::Churn(_) => self.meter.tally.connections.asked / 2,
            _ => MOST_TURNING_OVER,
        };
        let most = most.clamp(1, MOST_TURNING_OVER);
        if !self.run.is_sending() || self.dialing.turning_over >= most {
            return NEVER;
        }
        match (self.load.turnover, self.flows.oldest_since()) {
            (Turnover::Lifetime(lifetime), Some(since)) => after(since, lifetime),
            (Turnover::Churn(_), Some(_)) => self.churn.due(),
            _ => NEVER,
        }
    }

    /// Retires the connections whose time has come. Where none can be, the moment passes.
    pub(super) fn turn_over(&mut self, now: u64) {
        // Else one that was just confirmed would be closed for a moment that lies before it, and
        // send nothing.
        if let Some(since) = self.flows.oldest_since() {
            self.churn.pass(since);
        }
        while self.turnover_due() <= now {
            self.churn.skip_to(now.saturating_sub(SLACK));
            self.churn.advance();
            if let Some(index) = self.flows.retire_oldest(true) {
                self.dialing.turning_over += 1;
                self.close_if_answered(index);
            }
        }
        self.churn.pass(now);
    }

    /// Closes a connection that is to be closed, when nothing is awaited on it any more, and it
    /// owes nothing that it could send.
    pub(super) fn close_if_answered(&mut self, index: u32) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        if flow.stage != Stage::Retiring || flow.awaited() > 0 || flow.is_ready() {
            return;
        }
        let (target, turns_over) = (flow.target, flow.turns_over());
        let why = if turns_over {
            "for another"
        } else {
            "for there are to be fewer"
        };
        log::debug!("{flow}: closed, {why}");
        self.end_flow(index);
        self.meter.tally.connections.closed += 1;
        // Now, and not when the peer has finished too: that is up to the peer.
        if turns_over {
            self.dialing.vacated(target, true);
        }
    }

    /// A flow ends, and its connection is closed, or is gone already. What was under way on it is
    /// lost.
    pub(super) fn end_flow(&mut self, index: u32) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let socket = flow.socket;
        self.meter.tally.messages.unsent += self.unsent_of(flow);
        let flow = index;
        self.steps.push_back(Step::Close { flow, socket });
        if let Some(flow) = self.flows.ends(index) {
            let is_stream = flow.udp.is_none();
            loop {
                let is_done = self.payload.has_no_answer(flow.number, flow.oldest());
                let Some((sent, _)) = flow.pop() else {
                    break;
                };
                // Lost datagrams are counted when all that may still come has come.
                if is_stream && !is_done {
                    self.meter.lost(sent);
                }
            }
        }
        self.meter.open = self.flows.open;
        self.look_again_at(0);
    }

    /// Heartbeats of the measured time that a flow owes.
    pub(super) fn unsent_of(&self, flow: &Flow) -> u64 {
        let Traffic::Idle { .. } = self.load.traffic else {
            return 0;
        };
        let before = self.meter.from.saturating_sub(flow.time);
        let unmeasured = before.div_ceil(self.interval().max(1));
        u64::from(flow.owed).saturating_sub(unmeasured)
    }

    /// Looks at a part of the flows: gives up messages that are under way for too long.
    pub(super) fn look_after_flows(&mut self, now: u64) {
        if now < self.sweep_due {
            return;
        }
        // What is given up counts to the second and the stage that it is given up in.
        if self.load.any_stages().is_some() {
            self.meter.roll(now);
        }
        self.sweep_due = now.saturating_add(self.sweep_interval);
        let count = self.flows.capacity();
        for _ in 0..count.div_ceil(SWEEPS_A_ROUND) {
            let index = self.sweep_at;
            self.sweep_at = if index + 1 < count { index + 1 } else { 0 };
            self.look_after_flow(index, now);
        }
        self.finish_if_stuck(now);
    }

    fn look_after_flow(&mut self, index: u32, now: u64) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let (stage, target) = (flow.stage, flow.target);
        let is_refused = flow.udp.is_some() && flow.flags.contains(Flags::FULL);
        let mut partial = self.partial(flow);
        let then = now.saturating_sub(self.timeout);
        let mut given_up = 0;
        while let Some(sent) = self.flows.give_up(index, then) {
            self.timed_out(target, sent, partial.take());
            given_up += 1;
        }
        match stage {
            // Where connections are replaced, a mute one is. Else it stays, for its answer may
            // come.
            Stage::Confirming if given_up > 0 && self.load.turnover != Turnover::Keep => {
                self.lost(index, "never answered", now);
            }
            Stage::Retiring => self.close_if_answered(index),
            Stage::Live if self.flows.is_spent(index) => self.retire(index),
            // The loop goes on in place of what was given up.
            Stage::Live => {
                if let Traffic::Closed { think: Some(_), .. } = self.load.traffic {
                    self.flows.owe(index, given_up, now);
                }
                // A datagram that the system did not take is tried again.
                if is_refused {
                    self.has_room(index, now);
                } else if given_up > 0 {
                    self.flows.enqueue(index);
                }
            }
            _ => {}
        }
    }

    /// Sends a flow's first datagram again: after [`RETRY`], then after twice that, and so on, as
    /// long as it's awaited.
    pub(super) fn try_again(&mut self, index: u32, now: u64) {
        if let Some(flow) = self.flows.get(index)
            && flow.awaited() > 0
            && flow.udp.is_some()
        {
            let so_far = now.saturating_sub(flow.time).max(RETRY);
            let flow = index;
            self.steps.push_back(Step::Send { flow, due: 0 });
            self.later(0, index, now.saturating_add(so_far));
        }
    }
}
