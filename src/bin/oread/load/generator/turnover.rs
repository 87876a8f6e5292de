//! Closes connections while the load goes on, so that others take their places: at a rate, or after
//! a lifetime.

use std::collections::VecDeque;
use std::time::Duration;

use oread::{CloseReason, Context};

use crate::load::clock::{SECOND, after, until};
use crate::load::generator::flow::{Cause, Socket, Stage};
use crate::load::generator::pace::Schedule;
use crate::load::generator::protocol::Phase;
use crate::load::generator::{Generator, alarm};
use crate::load::options::load::Turnover;

/// How many places may be vacant before one more is vacated: closing must not outrun dialing, or a
/// load with a server that is slow to let callers in would melt away.
const MOST_REPLACING: u64 = 512;

/// How many entries of flows that have gone may stand in the list of ages, beside as many as flows
/// are open.
const MOST_STALE: usize = 1024;

/// How far closing at a rate may be behind and still catch up: 10 ms.
const SLACK: u64 = SECOND / 100;

/// Who is open, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    /// Where a flow is, its number, and since when it carries the load. One that has gone since is
    /// passed over: its place has another number, or none. Empty where connections are kept.
    queue: VecDeque<(u32, u32, u64)>,
    /// When the next one is to be closed.
    churn: Option<Schedule>,
    /// How many are confirmed and open.
    open: u64,
    /// Whether a timer is set.
    waiting: bool,
}

impl Ages {
    /// How many are confirmed and open.
    pub(crate) fn open(&self) -> u64 {
        self.open
    }

    /// How many entries the list has.
    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        self.queue.len()
    }

    /// The timer has fired.
    pub(crate) fn woken(&mut self) {
        self.waiting = false;
    }
}

impl Generator {
    pub(crate) fn begin_turnover(&mut self, at: u64) {
        if let Turnover::Churn(rate) = self.plan.turnover {
            let threads = self.plan.threads.get();
            self.ages.churn = Some(Schedule::shared(at, rate.get(), self.index, threads));
        }
    }

    /// One more is confirmed and open.
    pub(crate) fn came_of_age(&mut self, index: usize, now: u64) {
        self.ages.open += 1;
        let ledger = &mut self.record.tally.connections;
        ledger.confirmed += 1;
        ledger.peak_confirmed = ledger.peak_confirmed.max(self.ages.open);
        self.respace();
        if self.plan.turnover == Turnover::Keep {
            return;
        }
        if self.ages.queue.len() as u64 > 2 * self.ages.open + MOST_STALE as u64 {
            self.forget_gone();
        }
        if let Some(flow) = self.flows.get_mut(index) {
            self.ages.queue.push_back((index as u32, flow.number, now));
            let cause = std::mem::replace(&mut flow.cause, Cause::Asked);
            self.dialer.replaced(cause);
            let ledger = &mut self.record.tally.connections;
            let counts = cause == Cause::Turnover && self.run.phase == Phase::Measure;
            ledger.replaced += u64::from(counts);
        }
    }

    /// Takes out of the list of ages who has gone: with a long lifetime, and a server that hangs up
    /// on everybody, it would grow for as long as that.
    fn forget_gone(&mut self) {
        let flows = &self.flows;
        self.ages.queue.retain(|&(index, number, _)| {
            let flow = flows.get(index as usize);
            flow.is_some_and(|flow| flow.number == number && flow.stage == Stage::Live)
        });
    }

    /// One that was to take the place of another was not answered in time, or was lost before.
    pub(crate) fn unconfirmed(&mut self, index: usize) {
        if let Some(flow) = self.flows.get_mut(index) {
            let cause = std::mem::replace(&mut flow.cause, Cause::Retry);
            self.dialer.replaced(cause);
        }
    }

    /// One that was confirmed and open is so no longer.
    pub(crate) fn passed_away(&mut self) {
        self.ages.open -= 1;
        self.respace();
    }

    /// Closes those whose time has come.
    pub(crate) fn turn_over(&mut self, context: &mut Context<'_, u32>) {
        if self.ages.queue.is_empty() {
            return;
        }
        let now = self.epoch.now();
        let next = match self.plan.turnover {
            Turnover::Keep => return,
            Turnover::Churn(_) => self.churn(context, now),
            Turnover::Lifetime(lifetime) => loop {
                let Some(&(index, number, since)) = self.ages.queue.front() else {
                    break None;
                };
                let due = after(since, lifetime);
                // Whoever is on his way ends that with an event, after which it's looked at again.
                if due > now || self.dialer.replacing >= MOST_REPLACING {
                    break Some(due);
                }
                self.ages.queue.pop_front();
                self.retire(context, index, number);
            },
        };
        if let Some(due) = next
            && !self.ages.waiting
        {
            self.ages.waiting = true;
            let wait = until(now, due).max(Duration::from_millis(1));
            context.timer(wait, alarm::TURNOVER);
        }
    }

    /// Closes as many as the rate says, the oldest first; when the next one is due, if that is
    /// known. With nobody to close, or too many on their way, the moment passes.
    fn churn(&mut self, context: &mut Context<'_, u32>, now: u64) -> Option<u64> {
        while let Some(churn) = &mut self.ages.churn
            && churn.due() <= now
        {
            if self.ages.queue.is_empty() || self.dialer.replacing >= MOST_REPLACING {
                // The next answer changes that, and is an event.
                churn.skip_to(now);
                return None;
            }
            churn.skip_to(now.saturating_sub(SLACK));
            churn.advance();
            while let Some((index, number, _)) = self.ages.queue.pop_front() {
                if self.retire(context, index, number) {
                    break;
                }
            }
        }
        self.ages.churn.map(|churn| churn.due())
    }

    /// Has a connection closed when what is under way on it has been answered; false when it has
    /// gone already.
    fn retire(&mut self, context: &mut Context<'_, u32>, index: u32, number: u32) -> bool {
        let index = index as usize;
        let flow = self.flows.get_mut(index);
        let Some(flow) = flow.filter(|f| f.number == number && f.stage == Stage::Live) else {
            return false;
        };
        flow.stage = Stage::Retiring;
        self.untake(index);
        self.close_if_answered(context, index);
        true
    }

    /// Closes a connection that is to be closed, when nothing is awaited on it any more.
    pub(crate) fn close_if_answered(&mut self, context: &mut Context<'_, u32>, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        if flow.stage != Stage::Retiring || flow.awaited() > 0 {
            return;
        }
        flow.stage = Stage::Closing;
        let socket = flow.socket;
        self.dialer
            .log(flow.number, format_args!("closed, for another"));
        self.lose_outstanding(index);
        self.record.tally.connections.closed += 1;
        self.passed_away();
        self.dialer.replacing += 1;
        // Now, and not when the peer has finished too: that is up to the peer.
        self.dialer.owe(false);
        match socket {
            Socket::Stream(id) => {
                if let Some(mut connection) = context.connection(id) {
                    match connection.pending() {
                        0 => connection.close(CloseReason::Closed),
                        // Messages that were given up, and that the peer does not read: it might
                        // never.
                        _ => connection.abort(CloseReason::Aborted),
                    }
                }
            }
            Socket::Datagrams(id) => {
                context.close_udp(id);
                self.unbind(index, id);
            }
            Socket::None => {}
        }
    }
}
