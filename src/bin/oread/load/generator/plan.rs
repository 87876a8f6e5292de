//! What a generator does next.
//!
//! The plan is a state machine: it knows no socket, no reactor and no clock. It's told what has
//! happened ([`told`], each with the time), and says what to do: dial, send on this flow, close
//! that one, wait until then. [`drive`](super::drive) executes it.
//!
//! | what sends | when |
//! |---|---|
//! | open loop | any flow that can take a message, in turn, when the schedule says so |
//! | closed loop | a flow, as long as it has fewer messages under way than its depth |
//! | closed loop with pauses, heartbeats | a flow, when a message of its own is due: it *owes* it |
//!
//! [`phases`] has the way from the ramp to the end, [`upkeep`] the connections that are replaced
//! and the messages that are given up.

mod counts;
mod phases;
mod staging;
#[cfg(test)]
mod tests;
mod told;
mod upkeep;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use oread::UdpId;

use super::by_whom::ByWhom;
use super::dialing::{Dial, Dialing, SLACK};
use super::flow::{Flow, Reading, Socket, Stage};
use super::flows::{Flows, Key, MOST_STALE};
use super::meter::Meter;
use super::payload::Payload;
use super::protocol::{Phase, Setup};
use super::schedule::{Pace, Schedule};
use super::timeline::Timeline;
use crate::load::clock::{NEVER, SECOND, nanos};
use crate::load::options::load::{Load, Traffic, Turnover};
use crate::load::options::values::VerifyMode;
use staging::Staging;

/// Dials in one turn: connections that are open want to be served as well.
const DIALS_A_TURN: u32 = 64;
/// Messages in one turn: answers want to be read as well, or they are counted late.
///
/// They are stamped as sent when they are queued, and written when the next turn begins: the last
/// of so many writes comes a fifth of a millisecond after its stamp (measured; docs/LOAD.md says it
/// too).
const SENDS_A_TURN: u32 = 16;
/// And where the schedule is behind by more than [`FAR_BEHIND`]: then several go out by one write,
/// which takes a third of the time, and a stamp that is early by less than a millisecond is little
/// beside how late they are.
const SENDS_TO_CATCH_UP: u32 = 256;
/// In a closed loop; and of datagrams that are far behind: they go out one by one, and their
/// answers want room, so no more are sent than a turn reads.
const DATAGRAMS_TO_CATCH_UP: u32 = 64;
/// How late the first message of a turn is that has others to catch up with, in nanoseconds.
const FAR_BEHIND: u64 = 1_000_000;
/// A sweep looks at a part of the flows, and this many make a whole round.
const SWEEPS_A_ROUND: u32 = 16;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Dial.
    Dial(Dial),
    /// Send one message on a flow, which was due then; 0: one that confirms it.
    Send { flow: u32, due: u64 },
    /// Close a flow's connection or socket.
    Close { flow: u32, socket: Socket },
    /// Wait until then, or for an event; 0: go on after the next poll, which does not wait.
    Wait(u64),
    /// All is counted: close everything.
    End,
}

/// What one turn has done.
#[derive(Debug, Default)]
struct Turn {
    dials: u32,
    /// How many messages it may still send, once one was due.
    sends_left: Option<u32>,
    /// Whether there is more to do.
    more: bool,
}

/// When messages become due on single flows, and how many: the earliest are on top. In a closed
/// loop with pauses they are its depth when a flow begins, and then one after each pause.
type Agenda = BinaryHeap<Reverse<(u64, Key, u32)>>;

/// The plan of one thread.
#[derive(Debug)]
pub(super) struct Plan {
    load: Arc<Load>,
    index: u32,
    timeout: u64,
    pub(super) flows: Flows,
    dialing: Dialing,
    agenda: Agenda,
    /// How many may stand there until those of flows that have gone are taken out.
    agenda_room: usize,
    pub(super) meter: Meter,
    by_whom: ByWhom,
    pub(super) payload: Payload,
    /// How far the answers of flows have been read, by their index, where answers are no echoes.
    pub(super) readings: Vec<Reading>,
    run: Timeline,
    /// The number of connections over time, where that changes.
    staging: Option<Staging>,
    /// When messages of the open loop are due.
    rate: Pace,
    /// Whether a message was due and no flow could take it.
    starved: bool,
    /// When the next connection is to be closed, where that has a rate.
    churn: Schedule,
    /// Flows to be closed, and first datagrams to be sent again.
    steps: VecDeque<Step>,
    /// The next flow to be looked at for messages whose time is over, and when. A little of it
    /// often, not all of it at once: a load of a million connections must not stand still
    /// meanwhile.
    sweep_interval: u64,
    sweep_at: u32,
    sweep_due: u64,
    turn: Turn,
    /// When the last turn looked at the time.
    seen: u64,
    /// Nothing is given up before: the process stood still, which is not the server's time.
    grace_until: u64,
    /// When there is something to do beside sending; 0 after whatever may have changed that.
    chores_at: u64,
    /// UDP sockets that were open at the end, and where they lead.
    pub(super) last_sockets: Vec<(UdpId, u16)>,
}

impl Plan {
    /// The plan of one thread, which begins to dial at `now`.
    pub(super) fn new(setup: &Setup, now: u64) -> Plan {
        let (load, index) = (Arc::clone(&setup.load), setup.index);
        let most = load.share(load.connections.get().into(), index);
        let share = load.share(load.connections_at_first(), index);
        let timeout = nanos(load.sockets.message_timeout);
        let is_checked = load.script.as_ref().is_none_or(|it| it.is_checked());
        let verifies = load.verify != VerifyMode::Off && is_checked;
        let is_scheduled = !matches!(load.traffic, Traffic::Closed { .. });
        let nothing = Schedule::shared(NEVER, 1, 0, 1);
        let worst = load.output.worst.map(|worst| worst.get() as usize);
        let mut meter = Meter::new(is_scheduled, verifies, timeout);
        meter.tally.connections.asked = share;
        Plan {
            index,
            timeout,
            flows: Flows::new(&load, most, Arc::clone(&setup.gauge)),
            dialing: Dialing::new(&load, index, setup.endpoints.len(), now),
            agenda: Agenda::new(),
            agenda_room: MOST_STALE,
            meter,
            by_whom: ByWhom::new(setup.endpoints.len(), worst),
            payload: setup.payload.clone(),
            readings: Vec::new(),
            run: Timeline::new(),
            staging: Staging::of(&load, share),
            rate: Pace::Even(nothing),
            starved: false,
            churn: nothing,
            steps: VecDeque::new(),
            // A whole round takes half the message timeout, at most 1.6 s and at least 80 ms: a
            // sweep comes no more often than each 5 ms, and at least ten times a second.
            sweep_interval: (timeout / (2 * u64::from(SWEEPS_A_ROUND)))
                .clamp(SECOND / 200, SECOND / 10),
            sweep_at: 0,
            sweep_due: now,
            turn: Turn::default(),
            seen: now,
            grace_until: 0,
            chores_at: 0,
            last_sockets: Vec::new(),
            load,
        }
    }

    /// A turn begins: it has a budget of its own.
    pub(super) fn turn_begins(&mut self) {
        if std::mem::take(&mut self.turn).more {
            self.chores_at = 0;
        }
    }

    /// What is to be done at `now`.
    #[inline]
    pub(super) fn next(&mut self, now: u64) -> Step {
        // Sweeps come more often than that.
        if now > self.seen + 2 * self.sweep_interval {
            self.stood_still(now);
        }
        self.seen = now;
        loop {
            if now >= self.chores_at
                && let Some(step) = self.chore(now)
            {
                return step;
            }
            if let Some(step) = self.message(now) {
                return step;
            }
            if self.turn.more {
                return Step::Wait(0);
            }
            // What a message has changed is looked at before the wait.
            if self.chores_at > now {
                break;
            }
        }
        // Without a flow that takes it, the next message waits for an event.
        let due = self.flows.first_ready().map_or(NEVER, |_| self.rate_due());
        Step::Wait(due.min(self.chores_at))
    }

    /// The process stood still until now. What was under way meanwhile has its whole time again:
    /// its answer may have come, or the message itself may only go out now. A process that stands
    /// still again and again gives up all the same.
    #[cold]
    fn stood_still(&mut self, now: u64) {
        if now >= self.grace_until.saturating_add(self.timeout) {
            self.grace_until = now.saturating_add(self.patience());
            self.chores_at = 0;
        }
    }

    /// Everything but sending.
    fn chore(&mut self, now: u64) -> Option<Step> {
        self.look_at_clock(now);
        self.meter.roll(now);
        if now >= self.grace_until {
            self.look_after_flows(now);
        }
        // Before it may be the end: what was due by then is sent late, or counted as not sent.
        while let Some(&Reverse((due, key, count))) = self.agenda.peek()
            && due <= now
        {
            self.agenda.pop();
            self.is_due(due, key, count, now);
        }
        self.finish_if_done(now);
        if self.run.phase == Phase::Over {
            return Some(Step::End);
        }
        if self.load.turnover != Turnover::Keep {
            self.turn_over(now);
        }
        self.follow_stages(now);
        if let Some(step) = self.steps.pop_front() {
            return Some(step);
        }
        let dial = self.dialing.due(self.run.is_sending());
        if dial <= now && self.turn.dials < DIALS_A_TURN {
            self.turn.dials += 1;
            let dial = self.dialing.next(now, self.run.is_sending());
            return dial.map(Step::Dial);
        }
        self.turn.more |= dial <= now;
        let first = self.agenda.peek().map_or(NEVER, |first| first.0.0);
        let turnover = self.turnover_due();
        let sweep = self.sweep_due.max(self.grace_until);
        let stages = self.staging.as_ref().map_or(NEVER, |it| it.due);
        let ends = self.meter.rolls_at;
        let coming = [
            dial,
            first,
            turnover,
            self.run.boundary,
            sweep,
            stages,
            ends,
        ];
        // What is due by now has to wait for the next turn.
        let coming = coming.into_iter().filter(|due| *due > now);
        self.chores_at = coming.min().unwrap_or(NEVER);
        None
    }

    /// There may be something to do at `due`.
    #[inline]
    fn look_again_at(&mut self, due: u64) {
        self.chores_at = self.chores_at.min(due);
    }

    /// The next message that is to be sent now, within the turn's budget.
    #[inline]
    fn message(&mut self, now: u64) -> Option<Step> {
        let due = match self.load.traffic {
            Traffic::Closed { .. } if self.run.may_send(now) => Some(now),
            Traffic::Open(..) if self.rate_due() <= now => Some(self.rate.due()),
            // Each flow has times of its own.
            Traffic::Idle { .. } if self.run.is_pumping() => None,
            _ => return None,
        };
        let Some(flow) = self.flows.first_ready() else {
            self.starved = matches!(self.load.traffic, Traffic::Open(..));
            return None;
        };
        if std::mem::take(&mut self.starved) {
            self.meter.takers_since = now;
        }
        let due = due.or_else(|| self.flows.get(flow).map(|flow| flow.time))?;
        if !self.may_send_more(due, now) {
            return None;
        }
        self.flows.rotate();
        Some(Step::Send { flow, due })
    }

    /// Takes one of the messages that this turn may send, if any is left.
    fn may_send_more(&mut self, due: u64, now: u64) -> bool {
        let left = self.turn.sends_left.get_or_insert_with(|| {
            match (due.saturating_add(FAR_BEHIND) < now, self.load.traffic) {
                (true, _) if !self.load.has_udp() => SENDS_TO_CATCH_UP,
                (false, Traffic::Open(..)) => SENDS_A_TURN,
                _ => DATAGRAMS_TO_CATCH_UP,
            }
        });
        let may = *left > 0;
        *left = left.saturating_sub(1);
        self.turn.more |= !may;
        may
    }

    /// When the open loop's next message is due; [`NEVER`] where none is to be sent any more.
    #[inline]
    fn rate_due(&self) -> u64 {
        match self.rate.due() {
            due if due < self.run.until && self.run.is_pumping() => due,
            _ => NEVER,
        }
    }

    /// So many messages become due on a flow at `due`.
    fn later(&mut self, count: u32, index: u32, due: u64) {
        if let Some(flow) = self.flows.get(index) {
            let number = flow.number;
            self.agenda
                .push(Reverse((due, Key { index, number }, count)));
            // A server that hangs up on everybody leaves many that are due in an hour.
            if self.agenda.len() > self.agenda_room {
                let flows = &self.flows;
                self.agenda.retain(|due| flows.find(due.0.1).is_some());
                self.agenda_room = 2 * self.agenda.len() + MOST_STALE;
            }
            self.look_again_at(due);
        }
    }

    /// So many messages were to become due on a flow at `due`, if it's still there.
    fn is_due(&mut self, due: u64, key: Key, count: u32, now: u64) {
        match (self.flows.find(key).map(|flow| flow.stage), count) {
            (Some(Stage::Confirming), _) => return self.try_again(key.index, now),
            // No message: the one that confirms it was to be sent again.
            (_, 0) => return,
            (Some(Stage::Live), _) => {}
            _ => return,
        }
        let mut count = count.into();
        if let Traffic::Idle { .. } = self.load.traffic {
            // All that have become due since; one beyond the measured time is never sent.
            let last = now.min(self.run.until.saturating_sub(1));
            let Some(since) = last.checked_sub(due) else {
                return;
            };
            let interval = self.interval();
            count = since / interval + 1;
            let next = due.saturating_add(count.saturating_mul(interval));
            self.later(1, key.index, next);
        }
        self.flows.owe(key.index, count, due);
    }

    /// The pause of a closed loop, or the interval of heartbeats, in nanoseconds; 0: there is none.
    fn interval(&self) -> u64 {
        match self.load.traffic {
            Traffic::Closed { think: time, .. } | Traffic::Idle { heartbeat: time } => {
                time.map_or(0, nanos)
            }
            Traffic::Open(..) => 0,
        }
    }

    /// Traffic begins, at `at`, on the flows that are live by then.
    fn begin_traffic(&mut self, at: u64) {
        let (thread, threads) = (self.index, self.load.parts());
        self.rate = Pace::of(&self.load, at, thread);
        if let Turnover::Churn(rate) = self.load.turnover {
            self.churn = Schedule::shared(at, rate.get(), thread, threads);
        }
        let count = self.flows.open * u64::from(threads);
        let mut stagger = Schedule::new(at, self.interval(), count, thread, threads);
        let is_live = |flow: &Flow| flow.stage == Stage::Live;
        for index in 0..self.flows.capacity() {
            if self.flows.get(index).is_some_and(is_live) {
                self.begin_flow(index, stagger.due());
                stagger.advance();
            }
        }
    }

    /// A flow begins to send at `due`: where each has its own times, one after the other, so that
    /// they don't all send at one time.
    fn begin_flow(&mut self, index: u32, due: u64) {
        match self.load.traffic {
            Traffic::Closed { think: None, .. } => self.flows.enqueue(index),
            Traffic::Closed { depth, .. } => self.later(depth, index, due),
            Traffic::Idle { heartbeat: Some(_) } => self.later(1, index, due),
            Traffic::Open(..) | Traffic::Idle { heartbeat: None } => {}
        }
    }

    /// How far the run is.
    #[inline]
    pub(super) fn phase(&self) -> Phase {
        self.run.phase
    }
}
