//! Schedules: when the next message, dial or close is due, exactly.

use super::course::{Course, Staged};
use super::random_times::RandomTimes;
use crate::load::clock::{NEVER, SECOND};
use crate::load::mix::mix;
use crate::load::options::load::{Load, Traffic};
use crate::load::options::values::{Arrivals, Rate};

/// Moments at equal distances: the `k`-th is `start + k * interval / count`, rounded down, and no
/// error adds up. A thread takes every N-th of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: u64,
    interval: u64,
    count: u64,
    /// Which moment the next one is, and how many on the one after it is.
    next: u64,
    step: u64,
    /// When the next one is due.
    due: u64,
}

impl Schedule {
    /// `rate` a second over all threads, from `start` on; the part of thread `index` of `threads`.
    pub(crate) fn shared(start: u64, rate: u32, index: u32, threads: u32) -> Schedule {
        Schedule::new(start, SECOND, rate.into(), index, threads)
    }

    /// The same, of a rate that may have a fraction.
    pub(crate) fn of(start: u64, rate: Rate, index: u32, threads: u32) -> Schedule {
        let count = rate.thousandths();
        Schedule::new(start, Rate::THOUSAND_SECONDS, count, index, threads)
    }

    /// `count` in each `interval` over all threads, which take turns.
    pub(crate) fn new(start: u64, interval: u64, count: u64, index: u32, threads: u32) -> Schedule {
        let schedule = Schedule {
            start,
            interval,
            count: count.max(1),
            next: index.into(),
            step: threads.into(),
            due: 0,
        };
        schedule.after(0)
    }

    /// When so many more have gone by.
    fn after(mut self, count: u64) -> Schedule {
        self.next = self.next.saturating_add(count.saturating_mul(self.step));
        let ahead = u128::from(self.next) * u128::from(self.interval) / u128::from(self.count);
        let ahead = u64::try_from(ahead).unwrap_or(u64::MAX);
        self.due = self.start.saturating_add(ahead);
        self
    }

    /// When the next one is due.
    #[inline]
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Goes on to the one after it.
    pub(crate) fn advance(&mut self) {
        *self = self.after(1);
    }

    /// How many are due before `end`, the next one among them.
    pub(crate) fn before(&self, end: u64) -> u64 {
        // The k-th is, if k * interval < span * count.
        let span = u128::from(end.saturating_sub(self.start)) * u128::from(self.count);
        let all = span.div_ceil(u128::from(self.interval.max(1)));
        let left = u64::try_from(all).unwrap_or(u64::MAX);
        left.saturating_sub(self.next).div_ceil(self.step)
    }

    /// Lets all moments until `now` go; those that follow stay where they are.
    pub(crate) fn pass(&mut self, now: u64) {
        *self = self.after(self.before(now.saturating_add(1)));
    }

    /// Lets what was missed go: the next one is due no earlier than `then`.
    pub(crate) fn skip_to(&mut self, then: u64) {
        self.start = self.start.saturating_add(then.saturating_sub(self.due));
        self.due = self.due.max(then);
    }
}

/// When the messages of a rate are due on one thread.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    Even(Schedule),
    Staged(Staged),
    Random(RandomTimes),
}

impl Pace {
    /// That of thread `index` of a load, from `at` on; where that has no rate, nothing is due.
    pub(super) fn of(load: &Load, at: u64, index: u32) -> Pace {
        let threads = load.parts();
        let course = load.stages.as_ref().map(Course::of);
        let Traffic::Open(rate, how) = load.traffic else {
            return Pace::Even(Schedule::shared(NEVER, 1, 0, 1));
        };
        match (how, course) {
            (Arrivals::Even, None) => Pace::Even(Schedule::of(at, rate, index, threads)),
            (Arrivals::Even, Some(course)) => Pace::Staged(Staged::new(at, course, index, threads)),
            (Arrivals::Poisson, course) => {
                let seed = mix(load.seed ^ u64::from(index) << 32);
                Pace::Random(match course {
                    None => {
                        let rate = rate.a_second() / f64::from(threads);
                        RandomTimes::new(at, rate, seed)
                    }
                    Some(course) => RandomTimes::staged(at, course, threads, seed),
                })
            }
        }
    }

    /// When the next one is due.
    #[inline]
    pub(super) fn due(&self) -> u64 {
        match self {
            Pace::Even(schedule) => schedule.due(),
            Pace::Staged(staged) => staged.due(),
            Pace::Random(times) => times.due(),
        }
    }

    /// Goes on to the one after it.
    pub(super) fn advance(&mut self) {
        match self {
            Pace::Even(schedule) => schedule.advance(),
            Pace::Staged(staged) => staged.advance(),
            Pace::Random(times) => times.advance(),
        }
    }

    /// How many are due before `end`, the next one among them.
    pub(super) fn before(&self, end: u64) -> u64 {
        match self {
            Pace::Even(schedule) => schedule.before(end),
            Pace::Staged(staged) => staged.before(end),
            Pace::Random(times) => times.before(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_parts_of_a_schedule_are_the_schedule() {
        for (rate, threads) in [(1, 1), (3, 2), (7, 3), (50_000, 4), (999_983, 7)] {
            let mut parts: Vec<Schedule> = (0..threads)
                .map(|index| Schedule::shared(5, rate, index, threads))
                .collect();
            for k in 0..10_000_u64 {
                let part = &mut parts[k as usize % threads as usize];
                let due = 5 + u128::from(k) * 1_000_000_000 / u128::from(rate);
                assert_eq!(u128::from(part.due()), due, "{k} of {rate} over {threads}");
                part.advance();
            }
        }
    }

    #[test]
    fn what_is_due_before_the_end_is_counted_as_it_would_be_sent() {
        for (rate, threads) in [(1, 1), (3, 2), (7, 3), (1000, 1), (999_983, 7)] {
            for index in 0..threads {
                for end in [0, 4, 5, 6, 1_000_005, 999_999_999, 1_000_000_005] {
                    let mut schedule = Schedule::shared(5, rate, index, threads);
                    schedule.advance();
                    let counted = schedule.before(end);
                    let mut walked = 0;
                    while schedule.due() < end {
                        walked += 1;
                        schedule.advance();
                    }
                    assert_eq!(counted, walked, "{rate} {threads} {index} {end}");
                }
            }
        }
    }

    #[test]
    fn a_heartbeat_goes_round_once_in_its_interval() {
        let mut schedule = Schedule::new(100, 10, 3, 0, 1);
        let mut dues = Vec::new();
        for _ in 0..7 {
            dues.push(schedule.due());
            schedule.advance();
        }
        assert_eq!(dues, [100, 103, 106, 110, 113, 116, 120]);
    }

    #[test]
    fn threads_take_turns_in_an_interval() {
        let first = |index| Schedule::new(100, 800, 8, index, 4).due();
        assert_eq!([0, 1, 2, 3].map(first), [100, 200, 300, 400]);
        assert!(Schedule::new(100, u64::MAX, 1024, 1023, 1024).due() > u64::MAX / 2);
    }

    #[test]
    fn moments_that_pass_leave_the_others_where_they_are() {
        for (rate, threads) in [(1, 1), (3, 2), (7, 3), (999_983, 7)] {
            for now in [0, 4, 5, 6, 333_333_338, 1_000_000_005, 3_600_000_000_000] {
                let mut passed = Schedule::shared(5, rate, 1, threads);
                let mut walked = passed;
                passed.pass(now);
                if now < 2_000_000_000 {
                    while walked.due() <= now {
                        walked.advance();
                    }
                    for _ in 0..3 {
                        assert_eq!(passed.due(), walked.due(), "{rate} {threads} {now}");
                        passed.advance();
                        walked.advance();
                    }
                }
                assert!(passed.due() > now);
            }
        }
    }
}
