//! From the ramp to the end.

use std::time::Duration;

use oread::Context;

use crate::load::clock::nanos;
use crate::load::clock::{NEVER, SECOND, after, until};
use crate::load::count::ThreadUse;
use crate::load::generator::flow::{Sent, Socket, Stage};
use crate::load::generator::protocol::{Event, Phase, Progress};
use crate::load::generator::record::{thread_cpu, thread_waited};
use crate::load::generator::{Generator, alarm};
use crate::load::options::load::{Turnover, Volume};

/// How often it's told how it goes, in nanoseconds.
const PROGRESS: u64 = SECOND;
/// How long who interrupts a run waits for answers at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long closing takes at most: it waits for the peers' ends.
const CLOSING: Duration = Duration::from_secs(1);

/// Where a generator is.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) phase: Phase,
    /// When the phase ends.
    pub(crate) boundary: u64,
    /// The measured time.
    from: u64,
    until: u64,
    /// Measured messages that may still be sent.
    pub(crate) left: u64,
    /// Processor time at the beginning of the measured time.
    cpu: Duration,
    /// And how long the thread had waited for a processor.
    waited: Duration,
    /// When it was told to stop.
    stopped: Option<u64>,
    /// Whether what was due before the end of the measured time is still sent, late.
    catches_up: bool,
    /// Whether all is counted, and only closing is left.
    pub(crate) over: bool,
    /// Dials of the ramp that have come to something, and whether the lead knows that all have.
    settled: u64,
    told: bool,
    /// When it's told next how it goes: each second from the beginning of the run, so that all
    /// threads do at one time.
    tell_at: u64,
}

impl Run {
    /// For a run that began at `begun`.
    pub(crate) fn new(begun: u64) -> Run {
        Run {
            phase: Phase::Ramp,
            boundary: NEVER,
            from: NEVER,
            until: NEVER,
            left: u64::MAX,
            cpu: Duration::ZERO,
            waited: Duration::ZERO,
            stopped: None,
            catches_up: true,
            over: false,
            settled: 0,
            told: false,
            tell_at: begun.saturating_add(PROGRESS),
        }
    }

    /// What the calling thread has used of processors since the measured time began, which took
    /// `wall`.
    fn used(&self, wall: Duration) -> ThreadUse {
        ThreadUse {
            cpu: thread_cpu().saturating_sub(self.cpu),
            waited: thread_waited().saturating_sub(self.waited),
            wall,
        }
    }

    /// When the measured time ends.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }
}

impl Generator {
    pub(crate) fn begin_timers(&mut self, context: &mut Context<'_, u32>) {
        context.timer(self.sweep_interval(), alarm::SWEEP);
        context.timer(until(self.epoch.now(), self.run.tell_at), alarm::PROGRESS);
    }

    /// A timer has fired.
    pub(crate) fn alarm(&mut self, context: &mut Context<'_, u32>, key: u64) {
        if self.run.over {
            return;
        }
        let now = self.epoch.now();
        match key & alarm::KIND {
            alarm::SWEEP => {
                self.sweep(context, now);
                context.timer(self.sweep_interval(), alarm::SWEEP);
            }
            alarm::PROGRESS => {
                while self.run.tell_at <= now {
                    self.run.tell_at += PROGRESS;
                }
                self.tell();
                context.timer(until(now, self.run.tell_at), alarm::PROGRESS);
            }
            // Early by what the reactor's own time is behind.
            alarm::PHASE if now < self.run.boundary => self.wake_at_boundary(context, now),
            alarm::DIAL => self.dialer.woken(),
            alarm::TURNOVER => self.ages.woken(),
            alarm::THINK => self.thought(context, key, now),
            _ => {}
        }
        self.look_at_clock(context, now);
    }

    /// A dial of the ramp has come to something.
    pub(crate) fn settle(&mut self) {
        self.run.settled += 1;
        if self.run.settled >= self.record.tally.connections.asked && !self.run.told {
            self.run.told = true;
            self.tell();
            self.line.send(Event::Ramped);
        }
    }

    /// The lead says when traffic begins.
    pub(crate) fn start(&mut self, context: &mut Context<'_, u32>, at: u64) {
        if self.run.phase != Phase::Ramp || self.run.over {
            return;
        }
        let run = &mut self.run;
        run.boundary = at;
        run.from = after(at, self.plan.warmup);
        match self.plan.volume {
            Volume::For(duration) => run.until = after(run.from, duration),
            Volume::Messages(all) => run.left = self.plan.share(all.get(), self.index),
        }
        self.record.begin(run.from);
        let now = self.epoch.now();
        self.dialer.end_ramp();
        self.look_at_clock(context, now);
        if now < self.run.boundary {
            self.wake_at_boundary(context, now);
        }
    }

    /// The lead, or a signal, says that it's enough.
    pub(crate) fn stop(&mut self, context: &mut Context<'_, u32>) {
        if self.run.over || self.run.stopped.is_some() {
            return;
        }
        let now = self.epoch.now();
        self.run.stopped = Some(now);
        self.run.catches_up = false;
        if self.run.phase == Phase::Finish {
            self.run.boundary = self.run.boundary.min(after(now, PATIENCE));
            self.wake_at_boundary(context, now);
        } else {
            self.finish(context, now);
        }
    }

    fn wake_at_boundary(&self, context: &mut Context<'_, u32>, now: u64) {
        if self.run.boundary != NEVER {
            context.timer(until(now, self.run.boundary), alarm::PHASE);
        }
    }

    /// Goes on to the next phase when its time has come. Called wherever the time is read: no
    /// message is counted to the wrong phase because a timer is late.
    #[inline]
    pub(crate) fn look_at_clock(&mut self, context: &mut Context<'_, u32>, now: u64) {
        if now >= self.run.boundary {
            self.cross(context, now);
        }
    }

    #[cold]
    fn cross(&mut self, context: &mut Context<'_, u32>, now: u64) {
        while now >= self.run.boundary {
            match self.run.phase {
                Phase::Ramp => {
                    self.run.phase = Phase::Warmup;
                    let at = std::mem::replace(&mut self.run.boundary, self.run.from);
                    self.flowing.send_until = self.run.until;
                    self.begin_traffic(at);
                    self.begin_turnover(at);
                    if self.is_stranded() {
                        self.finish(context, now);
                    }
                }
                Phase::Warmup => {
                    self.run.phase = Phase::Measure;
                    self.run.boundary = self.run.until;
                    self.run.cpu = thread_cpu();
                    self.run.waited = thread_waited();
                }
                Phase::Measure => self.finish(context, now),
                Phase::Finish => self.end(context, now),
            }
        }
        self.wake_at_boundary(context, now);
    }

    /// Whether nothing is there to send on, and nothing will be: every dial has failed, or its
    /// connection has ended or was not answered in time.
    fn is_stranded(&self) -> bool {
        self.ages.open() == 0
            && self.dialer.under_way == 0
            && self.plan.turnover == Turnover::Keep
            && self.run.settled >= self.record.tally.connections.asked
    }

    /// With a number of messages to send: whether it will never come to them, because for longer
    /// than anything may take nothing has happened.
    pub(crate) fn is_stuck(&self, now: u64) -> bool {
        let Volume::Messages(_) = self.plan.volume else {
            return false;
        };
        let patience = nanos(self.plan.connect_timeout)
            .saturating_add(nanos(self.plan.message_timeout).saturating_mul(2))
            .saturating_add(self.flowing.think().map_or(0, nanos));
        // A slow schedule has nothing to send or to hear for most of the time. In a closed loop
        // it's answers that count: it sends again in place of each that it has given up.
        let due = self.flowing.next_due().unwrap_or(0);
        let last = self.record.last_answer.max(self.run.from).max(due);
        self.is_sending() && (self.is_stranded() || now > last.saturating_add(patience))
    }

    /// With a number of messages that will not be sent any more: ends all the same.
    pub(crate) fn finish_if_stuck(&mut self, context: &mut Context<'_, u32>, now: u64) {
        if self.is_stuck(now) {
            self.run.catches_up = false;
            self.finish(context, now);
        }
    }

    /// The measured time is over. What is under way is waited for; what was due in it and not sent,
    /// because nobody could take it, is sent as soon as somebody can: it would flatter the server
    /// to leave it out.
    pub(crate) fn finish(&mut self, context: &mut Context<'_, u32>, now: u64) {
        if self.run.phase == Phase::Measure {
            self.record.end_measured(now.min(self.run.until));
            let wall = until(self.run.from, now.min(self.run.until));
            self.record.tally.threads = vec![self.run.used(wall)];
        }
        self.run.phase = Phase::Finish;
        self.flowing.send_until = 0;
        self.dialer.end_turnover();
        let patience = match self.run.stopped {
            Some(_) => self.plan.message_timeout.min(PATIENCE),
            None => self.plan.message_timeout,
        };
        self.run.boundary = after(now, patience);
        self.wake_at_boundary(context, now);
        self.end_if_answered(context, now);
    }

    /// Whether messages of the schedule are sent: in their time, or later.
    pub(crate) fn is_pumping(&self) -> bool {
        self.is_sending() || (self.run.phase == Phase::Finish && self.is_behind())
    }

    /// Messages of the measured time that are due before `end` and were not sent.
    fn unsent(&self, end: u64) -> u64 {
        let flowing = &self.flowing;
        let unmeasured = flowing.due_before(end.min(self.run.from));
        (flowing.due_before(end) - unmeasured).min(self.run.left)
    }

    /// Whether messages of the measured time are yet to be sent, and somebody is there to take
    /// them.
    fn is_behind(&self) -> bool {
        self.run.catches_up && self.ages.open() > 0 && self.unsent(self.run.until) > 0
    }

    /// Ends when nothing is waited for any more.
    #[inline]
    pub(crate) fn end_if_answered(&mut self, context: &mut Context<'_, u32>, now: u64) {
        let waits = self.run.phase != Phase::Finish || self.flowing.under_way > 0 || self.run.over;
        if !waits && !self.is_behind() {
            self.end(context, now);
        }
    }

    /// Counts what there is, and closes everything.
    fn end(&mut self, context: &mut Context<'_, u32>, now: u64) {
        self.run.over = true;
        self.run.boundary = NEVER;
        self.run.phase = Phase::Finish;
        let given_up = now.saturating_sub(nanos(self.plan.message_timeout));
        let there = self.ages.open() + self.dialer.replacing;
        let ledger = &mut self.record.tally.connections;
        ledger.missing = ledger.asked.saturating_sub(there);
        // From here on callbacks find no flow, and do nothing.
        for (_, mut flow) in std::mem::take(&mut self.flows) {
            let ledger = &mut self.record.tally.connections;
            match flow.stage {
                Stage::Dialing => ledger.dialing += 1,
                Stage::Closing | Stage::Lost => {}
                Stage::Confirming | Stage::Live | Stage::Retiring => {
                    self.dialer
                        .log(flow.number, format_args!("closed at the end"));
                    ledger.open += 1;
                    ledger.silent += u64::from(flow.stage == Stage::Confirming);
                    if matches!(flow.socket, Socket::Datagrams(_)) {
                        self.close_books(&mut flow, given_up);
                        continue;
                    }
                    let before = flow.given_up;
                    flow.give_up(given_up);
                    for place in 0..flow.outstanding.len() {
                        let Some(sent) = flow.outstanding.get(place) else {
                            break;
                        };
                        self.count_outstanding(sent, (before..flow.given_up).contains(&place));
                    }
                }
            }
        }
        let measured = !self.record.tally.threads.is_empty();
        let unsent = match (self.plan.volume, self.run.stopped) {
            // All of them were asked for, by a schedule or not; who interrupts it has asked for no
            // more.
            (Volume::Messages(_), None) if self.run.left != u64::MAX => self.run.left,
            (_, stopped) => self.unsent(stopped.unwrap_or(NEVER).min(self.run.until)),
        };
        self.record.tally.messages.unsent += unsent;
        self.note_use(now);
        self.record.finish(measured);
        self.close_ledger();
        context.drain(CLOSING);
    }

    fn count_outstanding(&mut self, sent: Sent, too_late: bool) {
        if too_late {
            self.record.timed_out(sent);
        }
        if self.record.is_measured(sent.due) {
            self.record.tally.messages.outstanding += 1;
        }
    }

    /// With a number of messages, the measured time lasts until the last answer; if not all of them
    /// were sent, until it was given up.
    fn note_use(&mut self, now: u64) {
        let measured = match self.plan.volume {
            Volume::Messages(_) if !self.record.tally.threads.is_empty() => {
                let last = self.record.last_answer.max(self.run.from);
                let end = if self.run.left == 0 { last } else { now };
                self.record.end_measured(end);
                self.run.used(until(self.run.from, end))
            }
            _ => match self.record.tally.threads.first() {
                Some(&measured) => measured,
                None => ThreadUse::default(),
            },
        };
        self.record.tally.threads = vec![measured];
    }

    /// Tells the lead how it goes.
    pub(crate) fn tell(&mut self) {
        if !self.line.keeps_up() {
            return;
        }
        let response = self.record.take_recent();
        let tally = &self.record.tally;
        self.line.progress(Progress {
            thread: self.index,
            at: self.epoch.now(),
            phase: self.run.phase,
            open: self.ages.open(),
            connections: tally.connections,
            errors: tally.errors.values().sum(),
            echoed: tally.messages.echoed + self.record.unmeasured_echoed,
            measured: tally.messages.echoed,
            cpu: thread_cpu(),
            response,
        });
    }
}
