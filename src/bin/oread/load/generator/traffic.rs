//! Which connection sends a message when: as answers come (closed loop), or as a schedule says
//! (open loop, heartbeats). The closed loop is in `load/closed`, pauses between its messages in
//! `load/think`, what is under way for too long in `load/care`.

use std::io;
use std::time::Duration;

use oread::{Context, Pressure, SourceId};

use crate::load::clock::until;
use crate::load::generator::Generator;
use crate::load::generator::flow::{Flow, NOWHERE, Socket, Stage};
use crate::load::generator::pace::{Schedule, Ticker};
use crate::load::generator::protocol::Phase;
use crate::load::options::load::{Load, Traffic};

/// Messages of a schedule that one turn sends at most: answers want to be read as well, or they are
/// counted late.
///
/// They are stamped as sent when they are queued, and written when the next turn begins: the last
/// of so many writes comes a fifth of a millisecond after its stamp (measured; docs/LOAD.md says it
/// too).
const BURST: u32 = 16;
/// And where the schedule is behind by more than this, in nanoseconds: then several go out by one
/// write, which takes a third of the time, and a stamp that is early by less than a millisecond is
/// little beside how late they are.
const CATCHING_UP: u32 = 256;
const FAR_BEHIND: u64 = 1_000_000;
/// Messages of a schedule that a connection may have under way. One that has so many is passed over
/// until answers come.
pub(crate) const MOST_SCHEDULED: u32 = 4096;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As answers come.
    Closed { depth: u32, think: Option<Duration> },
    /// As the schedule says.
    Scheduled,
    /// Never, but to confirm.
    Silent,
}

/// The flow of messages.
#[derive(Debug)]
pub(crate) struct Flowing {
    pub(crate) mode: Mode,
    /// In a closed loop that doesn't think: messages that a flow may have under way; 0 in any
    /// other.
    pub(crate) depth: u32,
    /// Until when messages may be sent; 0 in the ramp and when it's over.
    pub(crate) send_until: u64,
    /// Messages under way on all flows that are not given up.
    pub(crate) under_way: u64,
    /// Who can take a message of the schedule, and whose turn it is. A flow knows its place in
    /// here.
    takers: Vec<u32>,
    turn: usize,
    schedule: Option<Schedule>,
    ticker: Option<Ticker>,
    /// Whether messages are due that the last turn has left.
    behind: bool,
    /// How far the closed loop has begun; `None`: whole.
    pub(crate) kick: Option<usize>,
    /// When flows begin that think between their messages: one after the other, so that they don't
    /// all send at one time.
    pub(crate) stagger: Option<Schedule>,
    /// How far the sweep is.
    pub(crate) sweep_at: usize,
}

impl Flowing {
    pub(crate) fn new(plan: &Load) -> Flowing {
        Flowing {
            mode: match plan.traffic {
                Traffic::Closed { depth, think } => Mode::Closed { depth, think },
                Traffic::Open(_) | Traffic::Idle { heartbeat: Some(_) } => Mode::Scheduled,
                Traffic::Idle { heartbeat: None } => Mode::Silent,
            },
            depth: match plan.traffic {
                Traffic::Closed { depth, think: None } => depth,
                _ => 0,
            },
            send_until: 0,
            under_way: 0,
            takers: Vec::new(),
            turn: 0,
            schedule: None,
            ticker: None,
            behind: false,
            kick: None,
            stagger: None,
            sweep_at: 0,
        }
    }

    /// Takes a timer, if one will be needed.
    ///
    /// # Errors
    /// As the system gives them: out of descriptors.
    pub(crate) fn begin(&mut self, context: &mut Context<'_, u32>) -> io::Result<()> {
        if self.mode == Mode::Scheduled {
            self.ticker = Some(Ticker::new(context)?);
        }
        Ok(())
    }

    pub(crate) fn think(&self) -> Option<Duration> {
        match self.mode {
            Mode::Closed { think, .. } => think,
            _ => None,
        }
    }

    /// In a closed loop: how many messages a flow is to send now; 0 in any other.
    #[inline(always)]
    pub(crate) fn wanted(&self, flow: &Flow) -> u32 {
        // Flows that think have no depth here, and the others owe nothing.
        self.depth.saturating_sub(flow.awaited()) + flow.owed
    }

    /// Takes note of an event; whether it was the ticker's.
    pub(crate) fn has_ticked(&mut self, source: SourceId) -> bool {
        match &mut self.ticker {
            Some(ticker) if ticker.is(source) => {
                ticker.fired();
                true
            }
            _ => false,
        }
    }

    /// Messages of the schedule that are due before `end` and were not sent.
    pub(crate) fn due_before(&self, end: u64) -> u64 {
        self.schedule.as_ref().map_or(0, |s| s.before(end))
    }

    /// When the schedule's next message is due, if there is somebody to take it.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let schedule = self.schedule.as_ref().filter(|_| !self.takers.is_empty());
        schedule.map(Schedule::due)
    }

    /// Whose turn it is.
    #[inline]
    fn next_taker(&mut self) -> Option<usize> {
        if self.turn >= self.takers.len() {
            self.turn = 0;
        }
        let taker = self.takers.get(self.turn)?;
        self.turn += 1;
        Some(*taker as usize)
    }
}

impl Generator {
    /// How long the poll may wait.
    pub(crate) fn wait(&self) -> Option<Duration> {
        if self.run.over {
            return None;
        }
        let begins = self.flowing.kick.is_some() && self.is_sending();
        let pumps = self.is_pumping();
        let fills = self.sockets.has_more() && self.is_sending();
        if self.dialer.has_more() || (self.flowing.behind && pumps) || fills {
            return Some(Duration::ZERO);
        }
        if begins {
            let stagger = self.flowing.stagger.as_ref();
            let due = stagger.map_or(0, Schedule::due);
            return Some(until(self.epoch.now(), due));
        }
        match &self.flowing.schedule {
            Some(schedule) if pumps && !self.flowing.takers.is_empty() => {
                Ticker::wait(self.epoch.now(), schedule.due())
            }
            _ => None,
        }
    }

    /// Traffic begins, at `at`.
    pub(crate) fn begin_traffic(&mut self, at: u64) {
        let threads = self.plan.threads.get();
        match self.plan.traffic {
            Traffic::Closed { think, .. } => {
                let count = u32::try_from(self.ages.open()).unwrap_or(u32::MAX);
                self.flowing.kick = Some(0);
                self.flowing.stagger =
                    think.map(|think| Schedule::every(at, think, count, self.index, threads));
            }
            Traffic::Open(rate) => {
                let schedule = Schedule::shared(at, rate.get(), self.index, threads);
                self.flowing.schedule = Some(schedule);
            }
            Traffic::Idle {
                heartbeat: Some(interval),
            } => {
                let count = u32::try_from(self.ages.open()).unwrap_or(u32::MAX);
                let schedule = Schedule::every(at, interval, count, self.index, threads);
                self.flowing.schedule = Some(schedule);
            }
            Traffic::Idle { heartbeat: None } => {}
        }
    }

    /// There are more or fewer flows than before: each shall have its heartbeat at the same
    /// interval as before.
    pub(crate) fn respace(&mut self) {
        if let Traffic::Idle {
            heartbeat: Some(interval),
        } = self.plan.traffic
            && let Some(schedule) = &mut self.flowing.schedule
        {
            let count = u32::try_from(self.ages.open()).unwrap_or(u32::MAX);
            schedule.respace(interval, count);
        }
    }

    /// Adds a flow to those who can take a message of the schedule.
    pub(crate) fn take(&mut self, index: usize) {
        if self.flowing.mode == Mode::Scheduled
            && let Some(flow) = self.flows.get_mut(index)
            && flow.place == NOWHERE
            && flow.stage == Stage::Live
        {
            flow.place = self.flowing.takers.len() as u32;
            if self.flowing.takers.is_empty() {
                self.record.takers_are_back(self.epoch.now());
            }
            self.flowing.takers.push(index as u32);
        }
    }

    /// Takes a flow out of them. The last one comes into its place.
    pub(crate) fn untake(&mut self, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let place = std::mem::replace(&mut flow.place, NOWHERE);
        if place == NOWHERE {
            return;
        }
        self.flowing.takers.swap_remove(place as usize);
        if let Some(&moved) = self.flowing.takers.get(place as usize)
            && let Some(flow) = self.flows.get_mut(moved as usize)
        {
            flow.place = place;
        }
    }

    /// Sends what the schedule says is due, and has the thread woken for the next.
    ///
    /// # Errors
    /// As the system gives them when the timer can't be set.
    pub(crate) fn pump(&mut self, context: &mut Context<'_, u32>) -> io::Result<()> {
        if self.flowing.schedule.is_none() {
            return Ok(());
        }
        self.flowing.behind = self.send_due(context, self.run.until());
        self.finish_if_all_sent(context);
        let flowing = &mut self.flowing;
        if let (Some(schedule), Some(ticker)) = (&flowing.schedule, &mut flowing.ticker)
            && !flowing.takers.is_empty()
        {
            ticker.wake_at(self.epoch.now(), schedule)?;
        }
        Ok(())
    }

    /// Sends what is due and lies before `end`; whether some is left that could be sent.
    fn send_due(&mut self, context: &mut Context<'_, u32>, end: u64) -> bool {
        let mut most = BURST;
        let mut sent = 0;
        while sent < most {
            let now = self.epoch.now();
            let Some(schedule) = &self.flowing.schedule else {
                return false;
            };
            let due = schedule.due();
            if sent == 0 && due.saturating_add(FAR_BEHIND) < now {
                most = CATCHING_UP;
            }
            sent += 1;
            if due > now || due >= end || self.run.left == 0 {
                return false;
            }
            let Some(index) = self.flowing.next_taker() else {
                return false;
            };
            if self.send_scheduled(context, index, due, now)
                && let Some(schedule) = &mut self.flowing.schedule
            {
                schedule.advance();
            }
        }
        true
    }

    /// Sends one message; false when the flow could not take it, and another is to.
    fn send_scheduled(
        &mut self,
        context: &mut Context<'_, u32>,
        index: usize,
        due: u64,
        now: u64,
    ) -> bool {
        let Some(flow) = self.flows.get(index) else {
            return false;
        };
        let (sent, takes_more) = match flow.socket {
            Socket::Stream(id) => match context.connection(id) {
                Some(mut connection) => {
                    let pressure = self.send(&mut connection, index, due, now);
                    (pressure != Pressure::Closed, pressure == Pressure::Low)
                }
                None => (false, false),
            },
            // What the system drops is counted as that.
            Socket::Datagrams(id) => {
                self.send_datagram(context, id, index, due, now);
                (true, true)
            }
            Socket::None => (false, false),
        };
        let full = self
            .flows
            .get(index)
            .is_none_or(|flow| flow.outstanding.len() >= MOST_SCHEDULED && flow.window.is_none());
        if full || !takes_more {
            self.untake(index);
        }
        sent
    }

    /// With a number of messages: when the last one is sent, answers are waited for.
    #[inline(always)]
    pub(crate) fn finish_if_all_sent(&mut self, context: &mut Context<'_, u32>) {
        if self.run.left == 0 && self.is_sending() {
            self.all_sent(context);
        }
    }

    #[cold]
    fn all_sent(&mut self, context: &mut Context<'_, u32>) {
        let now = self.epoch.now();
        // A message may have been sent in the measured time before anybody has noticed that it has
        // begun.
        self.look_at_clock(context, now);
        if self.run.phase == Phase::Measure {
            self.finish(context, now);
        }
    }

    /// Whether a message may be sent now, as far as the phase and the number of messages go.
    #[inline]
    pub(crate) fn may_send(&self, now: u64) -> bool {
        now < self.flowing.send_until && self.run.left > 0
    }
}
