//! From the ramp to the end.

use std::ops::Range;
use std::time::Duration;

use super::Plan;
use crate::load::clock::{NEVER, after, nanos};
use crate::load::count::{ByTarget, Slowest};
use crate::load::generator::flow::{Flow, Socket, Stage};
use crate::load::generator::protocol::Phase;
use crate::load::options::load::{Traffic, Volume};

/// How long an interrupted run waits for outstanding answers.
const PATIENCE: Duration = Duration::from_secs(1);

impl Plan {
    /// Whether the ramp waits for traffic to begin: nothing else is to come of it.
    #[inline]
    pub(crate) fn is_ramped(&self) -> bool {
        self.run.phase == Phase::Ramp && self.is_quiet()
    }

    /// Whether every dial that was asked for has come to something: an answer, a failure, or a
    /// timeout. Nor is any other message under way.
    fn is_quiet(&self) -> bool {
        self.dialing.is_done() && self.flows.under_way == 0
    }

    /// When the measured time was, once it has ended; with a number of messages, it lasts until the
    /// last answer.
    pub(crate) fn measured(&self) -> Option<Range<u64>> {
        let is_over = self.run.phase == Phase::Over || matches!(self.load.volume, Volume::For(_));
        Some(self.meter.from..self.run.ended.filter(|_| is_over)?)
    }

    /// The figures of targets and connections, when nothing more comes.
    pub(crate) fn told_by_whom(&mut self) -> (Vec<ByTarget>, Option<Slowest>) {
        self.by_whom.finish()
    }

    /// Ends, whatever is under way: the reactor turns no more.
    pub(crate) fn end_now(&mut self, now: u64) {
        if self.run.phase != Phase::Over {
            self.stop(now);
            self.end(now);
        }
    }

    /// The lead says when traffic begins.
    pub(crate) fn start(&mut self, at: u64) {
        if self.run.phase != Phase::Ramp {
            return;
        }
        let run = &mut self.run;
        run.boundary = at;
        let from = after(at, self.load.warmup);
        match self.load.volume {
            Volume::For(duration) => run.until = after(from, duration),
            Volume::Messages(all) => run.left = self.load.share(all.get(), self.index),
        }
        self.meter.begin(from);
        if let Some(stages) = self.load.any_stages() {
            self.meter.take_apart(stages.ends());
        }
        self.begin_stages(from);
        self.dialing.end_ramp();
        self.look_again_at(0);
    }

    /// The lead, or a signal, says that it's enough.
    pub(crate) fn stop(&mut self, now: u64) {
        self.look_at_clock(now);
        if self.run.phase == Phase::Over || self.run.stopped.is_some() {
            return;
        }
        self.run.stopped = Some(now);
        self.run.catches_up = false;
        self.finish(now);
    }

    /// Goes on to the next phase when its time has come. Called wherever the time is read: no
    /// message is counted to the wrong phase because a timer is late. The end alone comes behind
    /// all input.
    #[inline]
    pub(crate) fn look_at_clock(&mut self, now: u64) {
        if now >= self.run.boundary {
            self.cross(now);
        }
    }

    #[cold]
    fn cross(&mut self, now: u64) {
        while now >= self.run.boundary {
            match self.run.phase {
                Phase::Ramp => {
                    self.run.phase = Phase::Warmup;
                    let at = std::mem::replace(&mut self.run.boundary, self.meter.from);
                    // A thread that has none of the messages to be measured sends until then.
                    self.run.send_until = match self.run.left {
                        0 => self.meter.from,
                        _ => self.run.until,
                    };
                    self.run.begun = at;
                    self.begin_traffic(at);
                    if self.is_stranded() {
                        self.run.catches_up = false;
                        self.finish(now);
                    }
                }
                Phase::Warmup => {
                    self.run.phase = Phase::Measure;
                    self.run.boundary = self.run.until;
                }
                Phase::Measure => self.finish(now),
                Phase::Finish | Phase::Over => break,
            }
        }
        self.look_again_at(0);
    }

    /// Whether nothing is there to send on, and nothing will be: every dial has failed, or its
    /// connection has ended or was not answered in time.
    fn is_stranded(&self) -> bool {
        let is_all = !self.load.replaces() && self.staging.is_none();
        self.flows.open == 0 && is_all && self.is_quiet()
    }

    /// With a number of messages that will not be sent any more: ends all the same.
    pub(super) fn finish_if_stuck(&mut self, now: u64) {
        let Volume::Messages(_) = self.load.volume else {
            return;
        };
        // Longer than anything may take.
        let patience = nanos(self.load.sockets.connect_timeout)
            .saturating_add(self.timeout.saturating_mul(2))
            .saturating_add(self.interval());
        // A slow schedule has nothing to send or to hear for most of the time, whether a connection
        // is there at the moment or not. In a closed loop it's answers that count: it sends again
        // in place of each that it has given up.
        let due = match self.load.traffic {
            Traffic::Open(..) => self.rate.due(),
            _ => 0,
        };
        let last = [self.meter.last_answer, self.meter.from, self.grace_until];
        let last = last.into_iter().fold(due, u64::max);
        let is_stuck = self.is_stranded() || now > last.saturating_add(patience);
        if self.run.is_sending() && is_stuck {
            self.run.catches_up = false;
            self.finish(now);
        }
    }

    /// Ends a phase that ends by what happens in it.
    pub(super) fn finish_if_done(&mut self, now: u64) {
        if self.run.left == 0 && self.run.phase == Phase::Measure {
            self.finish(now);
        }
        if self.run.phase != Phase::Finish {
            return;
        }
        let is_over = now >= self.run.boundary && now >= self.grace_until;
        // What was dialed last, as the stages had it, may yet come.
        let is_dialing = self.staging.is_some() && !self.dialing.is_done();
        if is_over || self.flows.under_way == 0 && !is_dialing && !self.is_behind() {
            self.end(now);
        }
    }

    /// The measured time is over. What is under way is waited for; what was due in it and not sent,
    /// because no flow could take it, is sent as soon as one can: it would flatter the server to
    /// leave it out. Where the run is stopped meanwhile, the wait is over sooner.
    fn finish(&mut self, now: u64) {
        if self.run.phase == Phase::Measure {
            let end = now.min(self.run.until);
            self.meter.end_measured(end);
            self.run.ended = Some(end);
        }
        let over = now.saturating_add(self.patience());
        self.run.boundary = match self.run.phase {
            Phase::Finish => over.min(self.run.boundary),
            _ => over,
        };
        self.run.phase = Phase::Finish;
        self.run.send_until = 0;
        self.dialing.end_ramp();
        self.look_again_at(0);
    }

    /// How long outstanding answers are waited for.
    pub(super) fn patience(&self) -> u64 {
        match self.run.stopped {
            Some(_) => self.timeout.min(nanos(PATIENCE)),
            None => self.timeout,
        }
    }

    /// Messages of the measured time that were due before `end` by the schedule and were not sent.
    fn unsent(&self, end: u64) -> u64 {
        let end = end.min(self.run.until);
        let unmeasured = self.rate.before(end.min(self.meter.from));
        (self.rate.before(end) - unmeasured).min(self.run.left)
    }

    /// Whether messages of the measured time are yet to be sent, and a connection is there to take
    /// them.
    fn is_behind(&mut self) -> bool {
        let unsent = match self.load.traffic {
            Traffic::Idle { .. } => self.flows.owes(),
            _ => self.unsent(NEVER) > 0,
        };
        self.run.catches_up && self.flows.open > 0 && unsent && self.run.left > 0
    }

    /// Counts what there is. From here on callbacks find no flow, and do nothing.
    fn end(&mut self, now: u64) {
        if let (Volume::Messages(_), Some(_)) = (self.load.volume, self.run.ended) {
            // The measured time lasts until the last answer; where none came, or not all were sent,
            // until that was given up.
            let last = self.meter.last_answer;
            let is_answered = self.run.left == 0 && last >= self.meter.from;
            let end = if is_answered { last } else { now };
            self.meter.end_measured(end);
            self.run.ended = Some(end);
        }
        self.run.phase = Phase::Over;
        self.run.boundary = NEVER;
        let retired = self.staging.as_ref().map_or(0, |it| it.retired);
        let mut there = self.dialing.on_their_way() + retired;
        for (_, mut flow) in self.flows.take_all() {
            there += u64::from(flow.stage == Stage::Live);
            if let Socket::Datagrams(id) = flow.socket {
                self.last_sockets.push((id, flow.target));
            }
            self.close_book(&mut flow, now.saturating_sub(self.timeout));
            let counts = flow.udp.map(|udp| (flow.number, udp.counts));
            self.meter.tally.flows.extend(counts);
        }
        let unsent = match (self.load.volume, self.run.stopped) {
            // All of them were asked for, by a schedule or not; who interrupts it has asked for no
            // more.
            (Volume::Messages(_), None) if self.run.left != NEVER => self.run.left,
            (_, stopped) => self.unsent(stopped.unwrap_or(NEVER)),
        };
        let tally = &mut self.meter.tally;
        tally.messages.unsent += unsent;
        tally.connections.missing = tally.connections.asked.saturating_sub(there);
        let flows = tally.flows.iter_mut().map(|(_, counts)| counts);
        for counts in flows.chain([&mut tally.retired_flows]) {
            // What was never answered. What was not sent was not received either: if it were, the
            // counts would not add up, and that is told.
            counts.lost = counts
                .sent
                .saturating_sub(counts.received + counts.outstanding);
            tally.messages.lost += counts.lost;
            tally.datagrams.merge(counts);
        }
    }

    /// Counts one flow at the end, and what was under way on it; it had its time if it was due at
    /// `given_up` or before.
    fn close_book(&mut self, flow: &mut Flow, given_up: u64) {
        let ledger = &mut self.meter.tally.connections;
        match flow.stage {
            Stage::Dialing => ledger.dialing += 1,
            Stage::Ended => return,
            Stage::Confirming | Stage::Live | Stage::Retiring => ledger.open += 1,
        }
        ledger.silent += u64::from(flow.stage == Stage::Confirming);
        log::debug!("{flow}: closed at the end");
        if !matches!(self.load.volume, Volume::Messages(_)) {
            self.meter.tally.messages.unsent += self.unsent_of(flow);
        }
        let mut partial = self.partial(flow);
        while let Some(sent) = flow.give_up(given_up) {
            self.timed_out(flow.target, sent, partial.take());
        }
        // Over a stream, what was given up may still come; over UDP it's lost, for a datagram is.
        let mut outstanding = 0;
        loop {
            let is_done = self.payload.has_no_answer(flow.number, flow.oldest());
            let next = match &flow.udp {
                Some(_) => flow.give_up(NEVER).map(|sent| (sent, false)),
                None => flow.pop(),
            };
            let Some((sent, was_given_up)) = next else {
                break;
            };
            if is_done {
                continue;
            }
            // Its time is over, however late it was sent.
            if !was_given_up && sent.since() <= given_up {
                self.timed_out(flow.target, sent, partial.take());
            }
            if self.meter.is_measured(sent.due) {
                outstanding += 1;
                self.meter.unanswered(sent);
            }
        }
        self.meter.tally.messages.outstanding += outstanding;
        if let Some(udp) = &mut flow.udp {
            udp.counts.outstanding = outstanding;
        }
    }
}
