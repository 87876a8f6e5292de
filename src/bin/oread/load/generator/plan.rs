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

mod phases;
#[cfg(test)]
mod tests;
mod told;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use oread::UdpId;

use super::agenda::{Agenda, Entry, Kind};
use super::dialing::{Dial, Dialing, SLACK};
use super::flow::{Flow, Socket, Stage};
use super::flows::Flows;
use super::gauge::Gauge;
use super::logs::Names;
use super::meter::Meter;
use super::payload::Payload;
use super::schedule::Schedule;
use crate::load::clock::{NEVER, SECOND, nanos};
use crate::load::count::{Datagrams, Tally};
use crate::load::options::load::{Load, Traffic};
use crate::load::options::values::VerifyMode;

use phases::Run;
pub(super) use told::{Failed, Heard};

/// Dials in one turn: connections that are open want to be served as well.
const DIALS_A_TURN: u32 = 64;
/// Messages in one turn: answers want to be read as well, or they are counted late.
///
/// They are stamped as sent when they are queued, and written when the next turn begins: the last
/// of so many writes comes a fifth of a millisecond after its stamp (measured; docs/LOAD.md says it
/// too).
const SENDS_A_TURN: u32 = 16;
/// And where the schedule is behind by more than this, in nanoseconds: then several go out by one
/// write, which takes a third of the time, and a stamp that is early by less than a millisecond is
/// little beside how late they are.
const SENDS_TO_CATCH_UP: u32 = 256;
/// Datagrams go out one by one, and their answers want room: no more than a turn reads.
const DATAGRAMS_TO_CATCH_UP: u32 = 64;
const FAR_BEHIND: u64 = 1_000_000;
/// Places that may be vacant before one more is vacated: closing must not outrun dialing, or a load
/// with a server that is slow to accept would melt away.
const MOST_REPLACING: u64 = 512;
/// A sweep looks at a part of the flows, and this many make a whole round.
const SWEEPS_A_ROUND: u32 = 16;
/// The first datagram is sent again after so long without an answer, then after twice that, and so
/// on.
const RETRY: u64 = SECOND / 4;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Dial.
    Dial(Dial),
    /// Send one message on a flow, which was due then; 0: one that confirms it.
    Send { flow: u32, due: u64 },
    /// Close a flow's connection or socket.
    Close { flow: u32, socket: Socket },
    /// Go on after the next poll, which does not wait.
    Yield,
    /// Wait until then, or for an event.
    Wait(u64),
    /// All is counted: close everything.
    End,
}

/// What one turn has done.
#[derive(Debug, Default)]
struct Turn {
    dials: u32,
    sends: u32,
    /// How many messages it sends at most; 0: none was due yet.
    most_sends: u32,
    /// Whether there is more to do.
    more: bool,
}

/// Looking for messages whose time is over: a little of it often, not all of it at once. A load of
/// a million connections must not stand still meanwhile.
#[derive(Debug)]
struct Sweep {
    at: u32,
    due: u64,
    /// A whole round takes at most half the message timeout; a sweep comes no more often than each
    /// 5 ms, and at least ten times a second.
    interval: u64,
}

/// What sends messages, but for those that confirm connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Nothing.
    Nothing,
    /// The depth of each flow.
    Depth,
    /// What each flow owes: so many chains of message, answer and pause.
    Think { pause: u64, chains: u32 },
    /// What each flow owes: a message each interval.
    Beat { interval: u64 },
    /// A schedule for all flows.
    Rate,
}

/// The plan of one thread.
#[derive(Debug)]
pub(super) struct Plan {
    load: Arc<Load>,
    index: u32,
    has_datagrams: bool,
    timeout: u64,
    flows: Flows,
    dialing: Dialing,
    agenda: Agenda,
    meter: Meter,
    payload: Payload,
    names: Names,
    run: Run,
    source: Source,
    /// When messages of the open loop are due.
    rate: Option<Schedule>,
    /// Whether a message was due and no flow could take it.
    starved: bool,
    /// When the next connection is to be closed, where that has a rate.
    churn: Option<Schedule>,
    closing: VecDeque<(u32, Socket)>,
    /// Flows over UDP whose first datagram is to be sent again.
    unheard: VecDeque<u32>,
    sweep: Sweep,
    turn: Turn,
    /// When there is something to do beside sending; 0 after whatever may have changed that.
    chores_at: u64,
    /// What is counted of UDP flows that were closed.
    retired: Datagrams,
    /// UDP sockets that were open at the end, and where they lead.
    last_sockets: Vec<(UdpId, u16)>,
}

impl Plan {
    /// The plan of thread `index`, which begins to dial `targets` at `now`.
    pub(super) fn new(
        load: Arc<Load>,
        index: u32,
        targets: usize,
        payload: Payload,
        names: Names,
        gauge: Arc<Gauge>,
        now: u64,
    ) -> Plan {
        let share = load.share(load.connections.get().into(), index);
        let source = match load.traffic {
            Traffic::Closed { think: None, .. } => Source::Depth,
            Traffic::Closed {
                think: Some(think),
                depth,
            } => Source::Think {
                pause: nanos(think),
                chains: depth,
            },
            Traffic::Open(_) => Source::Rate,
            Traffic::Idle { heartbeat: None } => Source::Nothing,
            Traffic::Idle {
                heartbeat: Some(interval),
            } => Source::Beat {
                interval: nanos(interval),
            },
        };
        let timeout = nanos(load.message_timeout);
        let verifies = load.verify != VerifyMode::Off;
        let is_scheduled = matches!(source, Source::Rate | Source::Beat { .. });
        let mut meter = Meter::new(is_scheduled, verifies, timeout);
        meter.tally.connections.asked = share;
        let interval = timeout / (2 * u64::from(SWEEPS_A_ROUND));
        let interval = interval.clamp(SECOND / 200, SECOND / 10);
        Plan {
            index,
            has_datagrams: load.has_udp(),
            timeout,
            flows: Flows::new(&load, share, gauge),
            dialing: Dialing::new(&load, index, targets, now),
            agenda: Agenda::default(),
            meter,
            payload,
            names,
            run: Run::new(),
            source,
            rate: None,
            starved: false,
            churn: None,
            closing: VecDeque::new(),
            unheard: VecDeque::new(),
            sweep: Sweep {
                at: 0,
                due: now.saturating_add(interval),
                interval,
            },
            turn: Turn::default(),
            chores_at: 0,
            retired: Datagrams::default(),
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
        if now >= self.chores_at
            && let Some(step) = self.chore(now)
        {
            return step;
        }
        if let Some(step) = self.message(now) {
            return step;
        }
        if self.turn.more {
            return Step::Yield;
        }
        // What a message has changed is looked at before the wait.
        match self.chores_at <= now {
            true => self.next(now),
            // Without a flow that takes it, the next message waits for an event.
            false if self.flows.has_takers() => Step::Wait(self.chores_at.min(self.rate_due())),
            false => Step::Wait(self.chores_at),
        }
    }

    /// Everything but sending.
    fn chore(&mut self, now: u64) -> Option<Step> {
        self.look_at_clock(now);
        self.look_after_flows(now);
        self.finish_if_done(now);
        if self.run.is_over() {
            return Some(Step::End);
        }
        self.turn_over(now);
        while let Some((kind, entry)) = self.agenda.pop(now) {
            self.is_due(kind, entry, now);
        }
        if let Some((flow, socket)) = self.closing.pop_front() {
            return Some(Step::Close { flow, socket });
        }
        if let Some(flow) = self.next_unheard() {
            return Some(Step::Send { flow, due: 0 });
        }
        if self.turn.dials < DIALS_A_TURN {
            if let Some(dial) = self.dialing.next(now, self.is_sending()) {
                self.turn.dials += 1;
                return Some(Step::Dial(dial));
            }
        } else {
            self.turn.more |= self.dialing.due(self.is_sending()) <= now;
        }
        self.chores_at = self.next_chore();
        None
    }

    /// When there is something to do beside sending, as things stand.
    fn next_chore(&mut self) -> u64 {
        let dial = match self.turn.dials < DIALS_A_TURN {
            true => self.dialing.due(self.is_sending()),
            false => NEVER,
        };
        let others = [
            self.run.boundary(),
            self.sweep.due,
            self.agenda.due(),
            self.turnover_due(),
        ];
        others.into_iter().fold(dial, u64::min)
    }

    /// There may be something to do at `due`.
    #[inline]
    fn look_again_at(&mut self, due: u64) {
        self.chores_at = self.chores_at.min(due);
    }

    /// The next message that is to be sent now, within the turn's budget.
    #[inline]
    fn message(&mut self, now: u64) -> Option<Step> {
        let (flow, due) = match self.source {
            Source::Nothing => return None,
            Source::Rate => {
                let due = self.rate_due();
                if due > now {
                    return None;
                }
                if !self.flows.has_takers() {
                    self.starved = true;
                    return None;
                }
                if std::mem::take(&mut self.starved) {
                    self.meter.takers_are_back(now);
                }
                if !self.may_send_more(due, now) {
                    return None;
                }
                (self.flows.next_taker()?, due)
            }
            Source::Depth | Source::Think { .. } => {
                if !self.may_send(now) {
                    return None;
                }
                let flow = self.flows.first_queued()?;
                if !self.may_send_more(now, now) {
                    return None;
                }
                (flow, now)
            }
            Source::Beat { .. } => {
                if !self.run.is_pumping() {
                    return None;
                }
                let flow = self.flows.first_queued()?;
                let due = self.flows.get(flow)?.time;
                if !self.may_send_more(due, now) {
                    return None;
                }
                (flow, due)
            }
        };
        self.turn.sends += 1;
        // A flow over UDP may have thousands to send, and the others wait.
        if self.turn.sends.is_multiple_of(SENDS_A_TURN) {
            self.flows.rotate();
        }
        Some(Step::Send { flow, due })
    }

    /// Whether this turn may send one more message.
    fn may_send_more(&mut self, due: u64, now: u64) -> bool {
        if self.turn.most_sends == 0 {
            self.turn.most_sends = match due.saturating_add(FAR_BEHIND) < now {
                true if self.has_datagrams => DATAGRAMS_TO_CATCH_UP,
                true => SENDS_TO_CATCH_UP,
                false if self.source == Source::Rate => SENDS_A_TURN,
                false => DATAGRAMS_TO_CATCH_UP,
            };
        }
        let may = self.turn.sends < self.turn.most_sends;
        self.turn.more |= !may;
        may
    }

    /// When the open loop's next message is due; [`NEVER`] where none is to be sent any more.
    #[inline]
    fn rate_due(&self) -> u64 {
        match &self.rate {
            Some(rate) if rate.due() < self.run.until() && self.run.is_pumping() => rate.due(),
            _ => NEVER,
        }
    }

    /// Something is due on a flow, if that is still there.
    fn is_due(&mut self, kind: Kind, entry: Entry, now: u64) {
        let Some(flow) = self.flows.of_number(entry.flow, entry.number) else {
            return;
        };
        match flow.stage {
            Stage::Live if kind != Kind::Retry => {}
            Stage::Confirming if kind == Kind::Retry => {
                self.look_after_unheard(entry.flow, flow.time, now);
                return;
            }
            _ => return,
        }
        match (kind, self.source) {
            (Kind::Begin, Source::Think { chains, .. }) => {
                self.flows.owe(entry.flow, chains.into(), entry.due);
            }
            (Kind::Think, _) => self.flows.owe(entry.flow, 1, entry.due),
            (Kind::Beat, Source::Beat { interval }) => {
                // All that have become due since; one beyond the measured time is never sent.
                let last = now.min(self.run.until().saturating_sub(1));
                let Some(late) = last.checked_sub(entry.due) else {
                    return;
                };
                let count = late / interval + 1;
                self.flows.owe(entry.flow, count, entry.due);
                let due = entry.due.saturating_add(count.saturating_mul(interval));
                self.agenda.push(Kind::Beat, Entry { due, ..entry });
            }
            _ => {}
        }
    }

    /// Traffic begins, at `at`, on the flows that are live by then.
    fn begin_traffic(&mut self, at: u64) {
        let threads = self.load.threads.get();
        let count = u32::try_from(self.flows.open()).unwrap_or(u32::MAX);
        let (interval, kind) = match self.source {
            Source::Nothing => return,
            Source::Rate => {
                if let Traffic::Open(rate) = self.load.traffic {
                    self.rate = Some(Schedule::shared(at, rate.get(), self.index, threads));
                }
                return;
            }
            Source::Depth => (None, Kind::Begin),
            Source::Think { pause, .. } => (Some(pause), Kind::Begin),
            Source::Beat { interval } => (Some(interval), Kind::Beat),
        };
        let stagger = interval.map(Duration::from_nanos);
        let mut stagger =
            stagger.map(|interval| Schedule::every(at, interval, count, self.index, threads));
        for index in 0..self.flows.capacity() {
            let Some(flow) = self.flows.get(index).filter(|f| f.stage == Stage::Live) else {
                continue;
            };
            let number = flow.number;
            match &mut stagger {
                None => self.flows.enqueue(index),
                Some(stagger) => {
                    let due = stagger.due();
                    stagger.advance();
                    let flow = index;
                    self.agenda.push(kind, Entry { due, flow, number });
                }
            }
        }
    }

    /// A flow is confirmed while traffic goes on: it begins at once.
    fn begin_flow(&mut self, index: u32, now: u64) {
        match self.source {
            Source::Nothing | Source::Rate => {}
            Source::Depth => self.flows.enqueue(index),
            Source::Think { chains, .. } => self.flows.owe(index, chains.into(), now),
            Source::Beat { interval } => {
                let number = self.flows.get(index).map_or(0, |flow| flow.number);
                let due = now.saturating_add(interval);
                let flow = index;
                self.agenda.push(Kind::Beat, Entry { due, flow, number });
                self.look_again_at(due);
            }
        }
    }

    /// A flow has more to send than its callback has sent.
    pub(super) fn goes_on(&mut self, index: u32) {
        self.flows.enqueue(index);
    }

    /// A flow by its index.
    #[inline]
    pub(super) fn flow(&self, index: u32) -> Option<&Flow> {
        self.flows.get(index)
    }

    /// What flows are called.
    #[inline]
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// What is counted.
    pub(super) fn tally(&self) -> &Tally {
        &self.meter.tally
    }

    /// The same, and how.
    pub(super) fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// The UDP sockets that are open, or were at the end, and which targets they lead to.
    pub(super) fn sockets(&self) -> Vec<(UdpId, u16)> {
        match self.run.is_over() {
            true => self.last_sockets.clone(),
            false => self.flows.sockets(),
        }
    }

    /// How many connections are confirmed and open.
    pub(super) fn open(&self) -> u64 {
        self.flows.open()
    }

    /// Which invariant does not hold.
    #[cfg(all(test, feature = "sim"))]
    pub(super) fn broken(&self) -> Option<String> {
        self.flows.broken()
    }
}
