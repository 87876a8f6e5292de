//! From the ramp to the end.

use std::ops::Range;
use std::time::Duration;

use super::Plan;
use crate::load::clock::{NEVER, after, nanos};
use crate::load::count::Datagrams;
use crate::load::generator::flow::{Flow, Stage};
use crate::load::generator::protocol::Phase;
use crate::load::options::load::{Traffic, Turnover, Volume};

/// How long an interrupted run waits for outstanding answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far the run is.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) phase: Phase,
    /// When the phase ends.
    pub(super) boundary: u64,
    /// The measured time.
    pub(super) from: u64,
    pub(super) until: u64,
    /// When its end was: earlier than planned where the run was stopped.
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
    /// Dials of the ramp that have come to something.
    pub(super) settled: u64,
}

impl Run {
    pub(super) fn new() -> Run {
        Run {
            phase: Phase::Ramp,
            boundary: NEVER,
            from: NEVER,
            until: NEVER,
            ended: None,
            left: NEVER,
            send_until: 0,
            stopped: None,
            catches_up: true,
            settled: 0,
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

    /// Whether messages that have a time are sent: in it, or later.
    #[inline]
    pub(super) fn is_pumping(&self) -> bool {
        let late = self.phase == Phase::Finish && self.catches_up;
        (self.is_sending() || late) && self.left > 0
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

impl Plan {
    /// Whether every dial of the ramp has come to something.
    #[inline]
    pub(crate) fn is_ramped(&self) -> bool {
        self.run.settled >= self.meter.tally.connections.asked
    }

    /// When the measured time was, once it has ended.
    pub(crate) fn measured(&self) -> Option<Range<u64>> {
        Some(self.run.from..self.run.ended?)
    }

    /// Whether the measured time is over; with a number of messages, it lasts until the last
    /// answer.
    pub(crate) fn has_measured(&self) -> bool {
        match self.load.volume {
            Volume::Messages(_) => self.run.phase == Phase::Over,
            Volume::For(_) => self.run.phase > Phase::Measure,
        }
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
        run.from = after(at, self.load.warmup);
        match self.load.volume {
            Volume::For(duration) => run.until = after(run.from, duration),
            Volume::Messages(all) => run.left = self.load.share(all.get(), self.index),
        }
        self.meter.begin(run.from);
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
        if self.run.phase == Phase::Finish {
            self.run.boundary = self.run.boundary.min(after(now, PATIENCE));
            self.look_again_at(0);
        } else {
            self.finish(now);
        }
    }

    /// Goes on to the next phase when its time has come. Called wherever the time is read: no
    /// message is counted to the wrong phase because a timer is late.
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
                    let at = std::mem::replace(&mut self.run.boundary, self.run.from);
                    // A thread that has none of the messages to be measured sends until then.
                    self.run.send_until = match self.run.left {
                        0 => self.run.from,
                        _ => self.run.until,
                    };
                    self.begin_traffic(at);
                    self.begin_turnover(at);
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
                Phase::Finish => self.end(now),
                Phase::Over => return,
            }
        }
        self.look_again_at(0);
    }

    /// Whether nothing is there to send on, and nothing will be: every dial has failed, or its
    /// connection has ended or was not answered in time.
    fn is_stranded(&self) -> bool {
        self.flows.open() == 0
            && self.dialing.under_way() == 0
            && self.load.turnover == Turnover::Keep
            && self.is_ramped()
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
        // A slow schedule has nothing to send or to hear for most of the time. In a closed loop
        // it's answers that count: it sends again in place of each that it has given up.
        let due = match &self.rate {
            Some(rate) if self.flows.first_ready().is_some() => rate.due(),
            _ => 0,
        };
        let last = self.meter.last_answer.max(self.run.from).max(due);
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
        let is_answered = self.run.phase == Phase::Finish && self.flows.under_way() == 0;
        if is_answered && !self.is_behind() {
            self.end(now);
        }
    }

    /// The measured time is over. What is under way is waited for; what was due in it and not sent,
    /// because no flow could take it, is sent as soon as one can: it would flatter the server to
    /// leave it out.
    fn finish(&mut self, now: u64) {
        if self.run.phase == Phase::Measure {
            let end = now.min(self.run.until);
            self.meter.end_measured(end);
            self.run.ended = Some(end);
        }
        self.run.phase = Phase::Finish;
        self.run.send_until = 0;
        self.dialing.end();
        let timeout = self.load.sockets.message_timeout;
        let patience = match self.run.stopped {
            Some(_) => timeout.min(PATIENCE),
            None => timeout,
        };
        self.run.boundary = after(now, patience);
        self.look_again_at(0);
    }

    /// Messages of the measured time that were due before `end` by the schedule and were not sent.
    fn unsent(&self, end: u64) -> u64 {
        let before = |end| self.rate.as_ref().map_or(0, |rate| rate.before(end));
        let end = end.min(self.run.until);
        let unmeasured = before(end.min(self.run.from));
        (before(end) - unmeasured).min(self.run.left)
    }

    /// Whether messages of the measured time are yet to be sent, and a connection is there to take
    /// them.
    fn is_behind(&self) -> bool {
        let is_owed = self.flows.owed() > 0 && matches!(self.traffic, Traffic::Idle { .. });
        let unsent = is_owed || self.unsent(NEVER) > 0;
        self.run.catches_up && self.flows.open() > 0 && unsent && self.run.left > 0
    }

    /// Counts what there is. From here on callbacks find no flow, and do nothing.
    fn end(&mut self, now: u64) {
        self.note_measured(now);
        self.run.phase = Phase::Over;
        self.run.boundary = NEVER;
        let there = self.flows.open() + self.dialing.replacing();
        let ledger = &mut self.meter.tally.connections;
        ledger.missing = ledger.asked.saturating_sub(there);
        let mut flows: Vec<(u32, Datagrams)> = Vec::new();
        self.last_sockets = self.flows.sockets();
        for (_, mut flow) in self.flows.take_all() {
            self.close_book(&mut flow, now.saturating_sub(self.timeout));
            flows.extend(flow.udp.map(|udp| (flow.number, udp.counts)));
        }
        let unsent = match (self.load.volume, self.run.stopped) {
            // All of them were asked for, by a schedule or not; who interrupts it has asked for no
            // more.
            (Volume::Messages(_), None) if self.run.left != NEVER => self.run.left,
            (_, stopped) => self.unsent(stopped.unwrap_or(NEVER)),
        };
        self.meter.tally.messages.unsent += unsent;
        self.close_ledger(flows);
        self.agenda.clear();
        self.look_again_at(0);
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
            self.meter.timed_out(sent, partial.take());
        }
        // Over a stream, what was given up may still come; over UDP it's lost, for a datagram is.
        let mut outstanding = 0;
        while let Some(sent) = match &flow.udp {
            Some(_) => flow.give_up(NEVER),
            None => flow.pop().map(|(sent, _)| sent),
        } {
            outstanding += u64::from(self.meter.is_measured(sent.due));
        }
        self.meter.tally.messages.outstanding += outstanding;
        if let Some(udp) = &mut flow.udp {
            udp.counts.outstanding = outstanding;
        }
    }

    /// What was never answered, over all flows over UDP.
    fn close_ledger(&mut self, mut flows: Vec<(u32, Datagrams)>) {
        let tally = &mut self.meter.tally;
        for counts in flows.iter_mut().map(|(_, c)| c).chain([&mut self.retired]) {
            // What was not sent was not received either: if it were, the counts would not add up,
            // and that is told.
            counts.lost = counts
                .sent
                .saturating_sub(counts.received + counts.outstanding);
            tally.messages.lost += counts.lost;
            tally.datagrams.merge(counts);
        }
        tally.flows = flows;
        tally.retired_flows = self.retired;
    }

    /// With a number of messages, the measured time lasts until the last answer; where none came,
    /// or not all were sent, until that was given up.
    fn note_measured(&mut self, now: u64) {
        if let (Volume::Messages(_), Some(_)) = (self.load.volume, self.run.ended) {
            let last = self.meter.last_answer;
            let is_answered = self.run.left == 0 && last >= self.run.from;
            let end = if is_answered { last } else { now };
            self.meter.end_measured(end);
            self.run.ended = Some(end);
        }
    }
}
