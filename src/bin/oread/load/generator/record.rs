//! What a generator counts while it runs.

use std::time::Duration;

use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

use crate::load::clock::{NEVER, SECOND};
use crate::load::count::tally::{Second, Tally};
use crate::load::generator::flow::Sent;
use crate::load::generator::quick::Quick;

/// The seconds that are kept apart, a day of them; what comes later is added to the last.
const MOST_SECONDS: usize = 86_400;

/// The counts of one thread, and where in time they belong.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) tally: Tally,
    /// Messages that were due from here on are measured.
    from: u64,
    /// Whether a message may be sent later than it's due.
    scheduled: bool,
    /// How long an answer may take.
    timeout: u64,
    /// Whether answers are looked at.
    verifies: bool,
    /// Responses since the last progress, and those before.
    recent: Quick,
    response: Quick,
    /// Only where messages may be sent later than they are due: what the server took, and how late
    /// they were sent.
    service: Quick,
    late: Quick,
    /// Of that lateness, what was the generator's own: counted from when somebody could take the
    /// message.
    lag: Quick,
    /// Since when somebody can take a message of the schedule.
    takers_since: u64,
    /// What had been counted when the current second began, and when it's over.
    before: Second,
    second_ends: u64,
    /// Answers that are not measured.
    pub(crate) unmeasured_echoed: u64,
    /// When the last answer came.
    pub(crate) last_answer: u64,
}

impl Record {
    pub(crate) fn new(scheduled: bool, verifies: bool, timeout: u64) -> Record {
        Record {
            tally: Tally::new(),
            from: NEVER,
            scheduled,
            timeout,
            verifies,
            recent: Quick::new(),
            response: Quick::new(),
            service: Quick::new(),
            late: Quick::new(),
            lag: Quick::new(),
            takers_since: 0,
            before: Second::default(),
            second_ends: NEVER,
            unmeasured_echoed: 0,
            last_answer: 0,
        }
    }

    /// Measures from `from` on.
    pub(crate) fn begin(&mut self, from: u64) {
        self.from = from;
        self.second_ends = from.saturating_add(SECOND);
    }

    /// Whether a message that was due then is measured.
    #[inline]
    pub(crate) fn is_measured(&self, due: u64) -> bool {
        due >= self.from
    }

    /// A message was sent, at `sent.at`; whether it's measured.
    #[inline(always)]
    pub(crate) fn sent(&mut self, sent: Sent, bytes: usize) -> bool {
        if !self.is_measured(sent.due) {
            self.tally.messages.unmeasured += 1;
            return false;
        }
        self.roll(sent.at);
        self.tally.messages.sent += 1;
        self.tally.bytes.sent += bytes as u64;
        if self.scheduled {
            self.late.record(sent.at - sent.due.min(sent.at));
            let possible = sent.due.max(self.takers_since);
            self.lag.record(sent.at - possible.min(sent.at));
        }
        true
    }

    /// From `now` on somebody can take a message of the schedule, after a time when nobody could.
    pub(crate) fn takers_are_back(&mut self, now: u64) {
        self.takers_since = now;
    }

    /// Bytes of an answer have come, and not its last ones.
    pub(crate) fn received(&mut self, due: u64, now: u64, bytes: usize) {
        if self.is_measured(due) {
            self.roll(now);
            self.tally.bytes.received += bytes as u64;
        }
    }

    /// The last `bytes` of an answer have come. `given_up`: the message was counted as such.
    #[inline(always)]
    pub(crate) fn answered(&mut self, sent: Sent, now: u64, bytes: usize, given_up: bool) {
        self.last_answer = now;
        let service = now - sent.at.min(now);
        if service >= self.timeout && !given_up {
            self.timed_out(sent);
        }
        if !self.is_measured(sent.due) {
            self.unmeasured_echoed += 1;
            return;
        }
        self.roll(now);
        self.tally.bytes.received += bytes as u64;
        self.tally.messages.echoed += 1;
        if service >= self.timeout {
            self.tally.messages.late += 1;
        }
        // In a closed loop a message is due when it's sent: both are one.
        if self.scheduled {
            self.recent.record(now - sent.due.min(now));
            self.service.record(service);
        } else {
            self.recent.record(service);
        }
    }

    /// A message was not answered in time.
    #[cold]
    pub(crate) fn timed_out(&mut self, sent: Sent) {
        self.tally.error("message timeout");
        if self.is_measured(sent.due) {
            self.tally.messages.timed_out += 1;
        }
    }

    /// A message will never be answered: its connection is gone.
    pub(crate) fn lost(&mut self, sent: Sent) {
        if self.is_measured(sent.due) {
            self.tally.messages.lost += 1;
        }
    }

    /// The measured time is over, at `end`: what was counted until now came in it.
    pub(crate) fn end_measured(&mut self, end: u64) {
        // Seconds in which nothing came were there all the same.
        self.roll(end);
        let tally = &mut self.tally;
        tally.messages.in_time = tally.messages.echoed;
        tally.bytes.sent_in_time = tally.bytes.sent;
        tally.bytes.received_in_time = tally.bytes.received;
    }

    /// Goes on to the second that `now` is in.
    #[inline]
    fn roll(&mut self, now: u64) {
        if now >= self.second_ends {
            self.roll_over(now);
        }
    }

    #[cold]
    fn roll_over(&mut self, now: u64) {
        while now >= self.second_ends {
            if self.tally.seconds.len() + 1 >= MOST_SECONDS {
                self.second_ends = NEVER;
                return;
            }
            self.push_second();
            self.second_ends += SECOND;
        }
    }

    /// What was counted until now.
    fn so_far(&self) -> Second {
        Second {
            sent: self.tally.messages.sent,
            echoed: self.tally.messages.echoed,
            received: self.tally.bytes.received,
        }
    }

    /// Adds what was counted since the last second.
    fn push_second(&mut self) {
        let now = self.so_far();
        let before = std::mem::replace(&mut self.before, now);
        self.tally.seconds.push(Second {
            sent: now.sent - before.sent,
            echoed: now.echoed - before.echoed,
            received: now.received - before.received,
        });
    }

    /// Responses since the last call, as they are told while it runs.
    pub(crate) fn take_recent(&mut self) -> Histogram<u64> {
        self.recent.move_to(&mut self.response)
    }

    /// All that was counted, when nothing more comes; `measured` says whether it came to that.
    pub(crate) fn finish(&mut self, measured: bool) {
        let latency = &mut self.tally.latency;
        self.recent.move_to(&mut self.response);
        latency.response = self.response.histogram();
        if self.scheduled {
            latency.service = self.service.histogram();
            self.tally.pacing.error = self.late.histogram();
            self.tally.pacing.lag = self.lag.histogram();
        } else {
            latency.service = latency.response.clone();
        }
        if self.verifies {
            self.tally.messages.verified = self.tally.messages.echoed;
        }
        let begun = self.tally.seconds.is_empty() || self.before != self.so_far();
        if measured && begun {
            self.push_second();
        }
    }
}

/// Processor time of the calling thread so far; zero where the system doesn't tell.
pub(crate) fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// How long the calling thread has been ready to run so far, while others had the processors; zero
/// where the system doesn't tell. Linux does, as the second number of this file (proc(5) calls it
/// the time spent waiting on a run queue).
pub(crate) fn thread_waited() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = told.split_whitespace().nth(1);
    Duration::from_nanos(waited.and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(due: u64, at: u64) -> Sent {
        Sent { due, at }
    }

    #[test]
    fn what_was_due_before_the_measured_time_is_not_in_its_figures() {
        let mut record = Record::new(true, true, SECOND);
        record.begin(1000);
        for due in [999, 1000] {
            record.sent(at(due, 1500), 64);
            record.received(due, 1600, 60);
            record.answered(at(due, 1500), 1700, 4, false);
        }
        record.finish(true);
        let tally = record.tally;
        assert_eq!((tally.messages.sent, tally.messages.echoed), (1, 1));
        assert_eq!((tally.bytes.sent, tally.bytes.received), (64, 64));
        assert_eq!(tally.messages.unmeasured, 1);
        assert_eq!(tally.latency.response.max(), 700);
        assert_eq!(tally.latency.service.max(), 200);
        assert_eq!(tally.pacing.error.max(), 500);
        assert_eq!(tally.seconds.len(), 1);
    }

    #[test]
    fn lateness_while_nobody_could_take_a_message_is_not_the_generator_s_own() {
        let mut record = Record::new(true, true, SECOND);
        record.begin(0);
        record.sent(at(1_000, 1_010), 1);
        // Due when nobody could take it, and sent soon after somebody could again.
        record.takers_are_back(500_000);
        record.sent(at(2_000, 500_100), 1);
        // Due after that.
        record.sent(at(600_000, 600_050), 1);
        record.finish(true);
        let pacing = record.tally.pacing;
        assert_eq!((pacing.error.max() / 1000, pacing.lag.max()), (498, 100));
        assert_eq!(pacing.lag.len(), 3);
    }

    #[test]
    fn an_answer_after_the_timeout_is_late_and_echoed() {
        let mut record = Record::new(false, true, SECOND);
        record.begin(0);
        for now in [SECOND - 1, SECOND] {
            record.sent(at(0, 0), 1);
            record.answered(at(0, 0), now, 1, false);
        }
        let messages = record.tally.messages;
        assert_eq!(
            (messages.echoed, messages.late, messages.timed_out),
            (2, 1, 1)
        );
    }

    #[test]
    fn seconds_without_a_message_are_seconds_too() {
        let mut record = Record::new(false, true, SECOND);
        record.begin(0);
        for now in [1, SECOND - 1, SECOND, 4 * SECOND + 1] {
            record.sent(at(now, now), 1);
        }
        record.finish(true);
        let sent: Vec<u64> = record.tally.seconds.iter().map(|s| s.sent).collect();
        assert_eq!(sent, [2, 1, 0, 0, 1]);
    }

    #[test]
    fn seconds_at_the_end_in_which_nothing_came_are_there_too() {
        for (last, seconds) in [
            (SECOND / 2, vec![1, 0, 0]),
            (3 * SECOND + 1, vec![0, 0, 0, 1]),
        ] {
            let mut record = Record::new(true, true, SECOND);
            record.begin(0);
            if last < 3 * SECOND {
                record.sent(at(last, last), 1);
            }
            record.end_measured(3 * SECOND);
            if last > 3 * SECOND {
                record.sent(at(0, last), 1);
            }
            record.finish(true);
            let sent: Vec<u64> = record.tally.seconds.iter().map(|s| s.sent).collect();
            assert_eq!(sent, seconds);
        }
    }

    #[test]
    fn a_late_answer_is_a_timeout_once_whoever_finds_out() {
        let mut record = Record::new(false, true, SECOND);
        record.begin(0);
        record.answered(at(0, 0), SECOND, 1, false);
        record.timed_out(at(0, 0));
        record.answered(at(0, 0), 2 * SECOND, 1, true);
        assert_eq!(record.tally.messages.timed_out, 2);
        assert_eq!(record.tally.errors["message timeout"], 2);
    }
}
