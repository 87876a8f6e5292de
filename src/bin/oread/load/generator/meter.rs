//! What a generator counts while it runs.
//!
//! Two things are counted of each message. Its figures (sent, echoed, lost, its latency) belong to
//! the measured time if it was *due* in it, whenever its answer comes. The rate and the seconds
//! are of what *happened* in the measured time: answers to what the warm-up sent are among them, as
//! the server gave them then.

use hdrhistogram::Histogram;

use super::fast_histogram::FastHistogram;
use super::flow::Sent;
use crate::load::clock::{NEVER, SECOND};
use crate::load::count::{
    BySecond, Bytes, InStage, Latency, Lateness, MISMATCHED, MessageCounts, Packed, Partial,
    Second, Tally, coarse, histogram,
};

/// The seconds that are kept apart, a day of them; what comes later is added to the last.
const MOST_SECONDS: usize = 86_400;

/// The counts of one thread, and where in time they belong.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) tally: Tally,
    /// Messages that were due from here on are measured.
    pub(super) from: u64,
    /// Whether a message may be sent later than it's due.
    scheduled: bool,
    /// How long an answer may take.
    timeout: u64,
    /// Whether answers are looked at, and how many of the measured ones were not as they must be.
    verifies: bool,
    wrong: u64,
    response: FastHistogram,
    /// Those to messages that are not measured, but for what confirms connections.
    unmeasured_response: FastHistogram,
    /// Only where messages may be sent later than they are due: what the server took, and how late
    /// they were sent.
    service: FastHistogram,
    late: FastHistogram,
    /// Of that lateness, what was the generator's own: counted from when a flow could take the
    /// message.
    lag: FastHistogram,
    /// Since when a flow can take a message of the schedule.
    pub(super) takers_since: u64,
    /// What has happened about messages: those that are measured, those that are not, and those
    /// that confirm connections.
    pub(super) measured: Second,
    unmeasured: Second,
    confirming: Second,
    /// Connections that are confirmed and open.
    pub(super) open: u64,
    /// What had happened in all when the current second began, and when that is over.
    before: Before,
    second_ends: u64,
    /// When the stages end that have not, the last one first, and what had happened in all when
    /// each of the others ended.
    stage_ends: Vec<u64>,
    at_ends: Vec<InStage>,
    /// When the next of all these ends.
    pub(super) rolls_at: u64,
    /// When the measured time has ended.
    ended: u64,
    /// When the last answer came, but for those that confirm connections.
    pub(super) last_answer: u64,
}

/// What had been counted when a second began.
#[derive(Debug, Default)]
struct Before {
    counts: Second,
    errors: u64,
    response: FastHistogram,
    unmeasured_response: FastHistogram,
    lag: FastHistogram,
}

impl Meter {
    pub(super) fn new(scheduled: bool, verifies: bool, timeout: u64) -> Meter {
        Meter {
            from: NEVER,
            scheduled,
            timeout,
            verifies,
            second_ends: NEVER,
            rolls_at: NEVER,
            ..Meter::default()
        }
    }

    /// Measures from `from` on.
    pub(super) fn begin(&mut self, from: u64) {
        self.from = from;
        self.second_ends = from;
        self.rolls_at = from;
    }

    /// Takes what happens apart by stages, which end so long after the measured time has begun.
    pub(super) fn take_apart(&mut self, ends: impl Iterator<Item = u64>) {
        // What has happened before the first one is in none.
        let ends = std::iter::once(0).chain(ends);
        self.stage_ends = ends.map(|end| self.from.saturating_add(end)).collect();
        self.stage_ends.reverse();
    }

    /// Whether a message that was due then is measured.
    #[inline]
    pub(super) fn is_measured(&self, due: u64) -> bool {
        due >= self.from
    }

    /// The counts that a message belongs to.
    fn counts(&mut self, due: u64) -> &mut Second {
        match due {
            due if self.is_measured(due) => &mut self.measured,
            0 => &mut self.confirming,
            _ => &mut self.unmeasured,
        }
    }

    /// Messages and answers so far, measured or not; those that confirm connections are not among
    /// them.
    pub(super) fn happened(&self) -> Second {
        let mut happened = self.unmeasured;
        happened.merge(&self.measured);
        happened
    }

    /// A message was sent, at `sent.at`; whether it's measured.
    #[inline(always)]
    pub(super) fn sent(&mut self, sent: Sent, bytes: usize) -> bool {
        self.roll(sent.at);
        if !self.is_measured(sent.due) {
            let counts = self.counts(sent.due);
            counts.sent += 1;
            counts.sent_bytes += bytes as u64;
            return false;
        }
        self.measured.sent += 1;
        self.measured.sent_bytes += bytes as u64;
        if self.scheduled {
            self.late.record(sent.at - sent.due.min(sent.at));
            let possible = sent.due.max(self.takers_since);
            self.lag.record(sent.at - possible.min(sent.at));
        }
        true
    }

    /// Bytes of an answer have come, and not its last ones.
    pub(super) fn received(&mut self, sent: Sent, now: u64, bytes: usize) {
        self.roll(now);
        self.counts(sent.due).received_bytes += bytes as u64;
    }

    /// The last `bytes` of an answer have come. `given_up`: the message was counted as such.
    #[inline(always)]
    pub(super) fn answered(&mut self, sent: Sent, now: u64, bytes: usize, given_up: bool) {
        self.roll(now);
        if !self.is_measured(sent.due) {
            self.answered_unmeasured(sent, now, bytes, given_up);
            return;
        }
        self.last_answer = now;
        let response = now - sent.due.min(now);
        self.measured.echoed += 1;
        self.measured.received_bytes += bytes as u64;
        if response >= self.timeout {
            self.answered_late(sent, given_up);
        }
        self.response.record(response);
        // In a closed loop a message is due when it's sent: both are one.
        if self.scheduled {
            self.service.record(now - sent.at.min(now));
        }
    }

    #[cold]
    fn answered_unmeasured(&mut self, sent: Sent, now: u64, bytes: usize, given_up: bool) {
        let counts = self.counts(sent.due);
        counts.echoed += 1;
        counts.received_bytes += bytes as u64;
        if !sent.confirms() {
            self.last_answer = now;
            self.unmeasured_response.record(now - sent.due.min(now));
        }
        if now.saturating_sub(sent.since()) >= self.timeout {
            self.answered_late(sent, given_up);
        }
    }

    #[cold]
    fn answered_late(&mut self, sent: Sent, given_up: bool) {
        self.tally.messages.late += u64::from(self.is_measured(sent.due));
        if !given_up {
            self.timed_out(sent, None);
        }
    }

    /// A message was not answered in time; what had come of its answer.
    #[cold]
    pub(super) fn timed_out(&mut self, sent: Sent, partial: Option<Partial>) {
        self.tally.error("message timeout");
        self.tally.note_partial("message timeout", partial);
        if self.is_measured(sent.due) {
            self.tally.messages.timed_out += 1;
            self.unanswered(sent);
        }
    }

    /// A message was sent that no answer comes to.
    pub(super) fn passed(&mut self, sent: Sent) {
        self.counts(sent.due).one_way += 1;
        self.last_answer = sent.at;
    }

    /// The answer to a message is not what it must be.
    pub(super) fn mismatched(&mut self, sent: Sent) {
        self.tally.messages.mismatched += 1;
        self.tally.error(MISMATCHED);
        self.wrong += u64::from(self.is_measured(sent.due));
    }

    /// A message will never be answered: its connection is gone.
    pub(super) fn lost(&mut self, sent: Sent) {
        if self.is_measured(sent.due) {
            self.tally.messages.lost += 1;
            self.unanswered(sent);
        }
    }

    /// A message of the measured time was not answered for as long as it was waited for.
    pub(super) fn unanswered(&mut self, sent: Sent) {
        let then = sent.at.saturating_add(self.timeout);
        self.tally.waited_until = self.tally.waited_until.max(then);
    }

    /// The measured time is over, at `end`: what has happened until now happened in it.
    pub(super) fn end_measured(&mut self, end: u64) {
        // Seconds in which nothing came were there all the same.
        self.roll(end);
        self.ended = end;
        // A stage that is broken off ends as well.
        if !self.at_ends.is_empty() && !self.stage_ends.is_empty() {
            self.stage_ends.clear();
            self.at_ends.push(self.so_far());
        }
        let mut all = self.happened().since(&self.before.counts);
        let tally = &mut self.tally;
        let seconds = tally.seconds.iter();
        seconds.for_each(|second| all.merge(&second.counts));
        tally.messages.in_time = all.echoed + all.one_way;
        tally.bytes.sent_in_time = all.sent_bytes;
        tally.bytes.received_in_time = all.received_bytes;
    }

    /// Goes on to the second and the stage that `now` is in.
    #[inline]
    pub(super) fn roll(&mut self, now: u64) {
        if now >= self.rolls_at {
            self.roll_over(now);
        }
    }

    #[cold]
    fn roll_over(&mut self, now: u64) {
        self.roll_seconds(now);
        while let Some(&end) = self.stage_ends.last()
            && end <= now
        {
            self.stage_ends.pop();
            self.at_ends.push(self.so_far());
        }
        let stage_ends = self.stage_ends.last().copied().unwrap_or(NEVER);
        self.rolls_at = self.second_ends.min(stage_ends);
    }

    /// What has happened in all, as of a stage.
    fn so_far(&self) -> InStage {
        let happened = self.happened();
        InStage {
            sent: happened.sent,
            in_time: happened.echoed + happened.one_way,
            open: self.open,
            errors: self.tally.errors.values().sum(),
            response: self.response.counted(histogram()),
        }
    }

    /// What has happened in each stage that was begun.
    fn in_stages(&mut self) -> Vec<InStage> {
        let mut ends = std::mem::take(&mut self.at_ends);
        // What came behind the last one is about messages that it was asked to send.
        if let Some(last) = ends.last_mut() {
            let (in_time, open) = (last.in_time, last.open);
            *last = InStage {
                in_time,
                open,
                ..self.so_far()
            };
        }
        for place in (1..ends.len()).rev() {
            let (before, stage) = ends.split_at_mut(place);
            if let (Some(before), Some(stage)) = (before.last(), stage.first_mut()) {
                stage.subtract(before);
            }
        }
        ends.into_iter().skip(1).collect()
    }

    fn roll_seconds(&mut self, now: u64) {
        if self.second_ends == self.from {
            // What came before the measured time is in none of its seconds.
            let _ = self.second();
            self.second_ends = self.from.saturating_add(SECOND);
        }
        while now >= self.second_ends {
            if self.tally.seconds.len() + 1 >= MOST_SECONDS {
                self.second_ends = NEVER;
                return;
            }
            let second = self.second();
            self.tally.seconds.push(second);
            self.second_ends = self.second_ends.saturating_add(SECOND);
        }
    }

    /// What has happened since the last second.
    fn second(&mut self) -> BySecond {
        let (now, errors) = (self.happened(), self.tally.errors.values().sum());
        let before = &mut self.before;
        let mut response = Packed::of(&self.response.since(&mut before.response));
        let unmeasured = &mut before.unmeasured_response;
        response.add(Packed::of(&self.unmeasured_response.since(unmeasured)));
        let lag = self.lag.since(&mut before.lag);
        let second = BySecond {
            counts: now.since(&before.counts),
            errors: errors - before.errors,
            open: self.open,
            lag: lag.last().map(|&(most, _)| most),
            response,
        };
        (before.counts, before.errors) = (now, errors);
        second
    }

    /// Responses so far, as they are told while it runs.
    pub(super) fn responses(&self) -> Histogram<u64> {
        self.response.counted(coarse())
    }

    /// How long things took so far, and how well the schedule was kept, as they are told while it
    /// runs.
    pub(super) fn timings(&self) -> (Latency, Lateness) {
        let response = self.responses();
        let latency = Latency {
            // Copied as they are: to count them anew takes longer.
            connect: self.tally.latency.connect.clone(),
            handshake: self.tally.latency.handshake.clone(),
            first_echo: self.tally.latency.first_echo.clone(),
            service: match self.scheduled {
                true => self.service.counted(coarse()),
                false => response.clone(),
            },
            response,
        };
        let schedule = Lateness {
            pacing_error: self.late.counted(coarse()),
            own_lag: self.lag.counted(coarse()),
        };
        (latency, schedule)
    }

    /// Messages and bytes so far.
    pub(super) fn moved(&self) -> (MessageCounts, Bytes) {
        let (mut messages, mut bytes) = (self.tally.messages, self.tally.bytes);
        (messages.sent, messages.echoed) = (self.measured.sent, self.measured.echoed);
        messages.one_way = self.measured.one_way;
        (bytes.sent, bytes.received) = (self.measured.sent_bytes, self.measured.received_bytes);
        messages.unmeasured = self.unmeasured.sent + self.confirming.sent;
        if self.verifies {
            messages.verified = messages.echoed - self.wrong;
        }
        (messages, bytes)
    }

    /// All that was counted, when nothing more comes; `measured` says whether it came to that.
    pub(super) fn finish(&mut self, measured: bool) -> Tally {
        let latency = &mut self.tally.latency;
        latency.response = self.response.counted(histogram());
        if self.scheduled {
            latency.service = self.service.counted(histogram());
            self.tally.schedule.pacing_error = self.late.counted(histogram());
            self.tally.schedule.own_lag = self.lag.counted(histogram());
        } else {
            latency.service = latency.response.clone();
        }
        (self.tally.messages, self.tally.bytes) = self.moved();
        self.tally.last_answer = self.last_answer;
        self.tally.stages = self.in_stages();
        let last = self.second();
        let is_begun = self.ended.saturating_add(SECOND) > self.second_ends;
        let is_empty = last.counts == Second::default() && last.errors == 0;
        if measured && (is_begun || !is_empty) {
            self.tally.seconds.push(last);
        }
        std::mem::take(&mut self.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(due: u64, at: u64) -> Sent {
        Sent { due, at }
    }

    #[test]
    fn what_was_due_before_the_measured_time_is_not_in_its_figures() {
        let mut meter = Meter::new(true, true, SECOND);
        meter.begin(1000);
        for due in [999, 1000] {
            meter.sent(at(due, 1500), 64);
            meter.received(at(due, 1500), 1600, 60);
            meter.answered(at(due, 1500), 1700, 4, false);
        }
        let tally = meter.finish(true);
        assert_eq!((tally.messages.sent, tally.messages.echoed), (1, 1));
        assert_eq!((tally.bytes.sent, tally.bytes.received), (64, 64));
        assert_eq!(tally.messages.unmeasured, 1);
        assert_eq!(tally.latency.response.max(), 700);
        assert_eq!(tally.latency.service.max(), 200);
        assert_eq!(tally.schedule.pacing_error.max(), 500);
        assert_eq!(tally.seconds.len(), 1);
    }

    #[test]
    fn the_rate_is_of_all_answers_that_came_in_the_measured_time() {
        let mut meter = Meter::new(true, true, SECOND);
        meter.begin(10 * SECOND);
        // Ten a second, each answered two seconds later.
        let mut due = 5 * SECOND;
        let mut events: Vec<(u64, bool, u64)> = Vec::new();
        while due < 15 * SECOND {
            events.push((due, true, due));
            events.push((due + 2 * SECOND, false, due));
            due += SECOND / 10;
        }
        events.sort_unstable();
        let mut ended = false;
        for (now, is_sent, due) in events {
            if now >= 15 * SECOND && !ended {
                meter.end_measured(15 * SECOND);
                ended = true;
            }
            match is_sent {
                true => _ = meter.sent(at(due, now), 1),
                false => meter.answered(at(due, due), now, 1, true),
            }
        }
        // Confirmations are no part of it.
        meter.answered(Sent::to_confirm(11 * SECOND), 12 * SECOND, 1, false);
        let tally = meter.finish(true);
        assert_eq!(tally.messages.in_time, 50);
        assert_eq!(tally.messages.echoed, 50);
        assert_eq!(tally.bytes.received_in_time, 50);
        let echoed: Vec<u64> = tally.seconds.iter().map(|s| s.counts.echoed).collect();
        assert_eq!(echoed, [10; 7]);
        let sent: Vec<u64> = tally.seconds.iter().map(|s| s.counts.sent).collect();
        assert_eq!(sent, [10, 10, 10, 10, 10, 0, 0]);
    }

    #[test]
    fn lateness_while_no_flow_could_take_a_message_is_not_the_generator_s_own() {
        let mut meter = Meter::new(true, true, SECOND);
        meter.begin(0);
        meter.sent(at(1_000, 1_010), 1);
        // Due when no flow could take it, and sent soon after one could again.
        meter.takers_since = 500_000;
        meter.sent(at(2_000, 500_100), 1);
        // Due after that.
        meter.sent(at(600_000, 600_050), 1);
        let schedule = meter.finish(true).schedule;
        assert_eq!(
            (schedule.pacing_error.max() / 1000, schedule.own_lag.max()),
            (498, 100)
        );
        assert_eq!(schedule.own_lag.len(), 3);
    }

    #[test]
    fn an_answer_after_the_timeout_is_late_and_echoed() {
        let mut meter = Meter::new(false, true, SECOND);
        meter.begin(1);
        for now in [SECOND, SECOND + 1] {
            meter.sent(at(1, 1), 1);
            meter.answered(at(1, 1), now, 1, false);
        }
        let messages = meter.finish(true).messages;
        assert_eq!(
            (messages.echoed, messages.late, messages.timed_out),
            (2, 1, 1)
        );
    }

    #[test]
    fn the_message_timeout_counts_from_when_a_message_was_due() {
        let mut meter = Meter::new(true, true, SECOND);
        meter.begin(1);
        meter.sent(at(1, SECOND), 1);
        meter.answered(at(1, SECOND), SECOND + 1, 1, false);
        let messages = meter.finish(true).messages;
        assert_eq!((messages.late, messages.timed_out), (1, 1));
    }

    #[test]
    fn seconds_without_a_message_are_seconds_too() {
        let mut meter = Meter::new(false, true, SECOND);
        meter.begin(0);
        for now in [1, SECOND - 1, SECOND, 4 * SECOND + 1] {
            meter.sent(at(now, now), 1);
        }
        let sent: Vec<u64> = meter
            .finish(true)
            .seconds
            .iter()
            .map(|s| s.counts.sent)
            .collect();
        assert_eq!(sent, [2, 1, 0, 0, 1]);
    }

    #[test]
    fn seconds_at_the_end_in_which_nothing_came_are_there_too() {
        for (last, seconds) in [
            (SECOND / 2, vec![1, 0, 0]),
            (3 * SECOND + 1, vec![0, 0, 0, 1]),
        ] {
            let mut meter = Meter::new(true, true, SECOND);
            meter.begin(0);
            if last < 3 * SECOND {
                meter.sent(at(last, last), 1);
            }
            meter.end_measured(3 * SECOND);
            if last > 3 * SECOND {
                meter.sent(at(1, last), 1);
            }
            let sent: Vec<u64> = meter
                .finish(true)
                .seconds
                .iter()
                .map(|s| s.counts.sent)
                .collect();
            assert_eq!(sent, seconds);
        }
    }

    #[test]
    fn a_late_answer_is_a_timeout_once_whoever_finds_out() {
        let mut meter = Meter::new(false, true, SECOND);
        meter.begin(1);
        meter.answered(at(1, 1), SECOND + 1, 1, false);
        meter.timed_out(at(1, 1), None);
        meter.answered(at(1, 1), 2 * SECOND, 1, true);
        assert_eq!(meter.tally.messages.timed_out, 2);
        assert_eq!(meter.tally.errors["message timeout"], 2);
    }
}
