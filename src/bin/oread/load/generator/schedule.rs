//! Schedules: when the next message, dial or close is due, exactly.

use crate::load::clock::SECOND;

/// Moments at equal distances: the `k`-th is `start + k * num / den`, rounded down, and no error
/// adds up. A thread takes every N-th of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When the next one is due.
    due: u64,
    /// What rounding has left out of `due`, in 1/`den` of a nanosecond.
    left_out: u64,
    /// From one to the next: whole nanoseconds, and 1/`den` beyond them.
    step: u64,
    step_left_out: u64,
    den: u64,
}

impl Schedule {
    /// `rate` a second over all threads, from `start` on; the part of thread `index` of `threads`.
    pub(crate) fn shared(start: u64, rate: u32, index: u32, threads: u32) -> Schedule {
        let den = u64::from(rate);
        // At most 2^32 threads in: 2^62.
        let first = u64::from(index) * SECOND;
        let step = u64::from(threads) * SECOND;
        Schedule {
            due: start.saturating_add(first / den),
            left_out: first % den,
            step: step / den,
            step_left_out: step % den,
            den,
        }
    }

    /// `count` in each `interval`, from `start` on, for thread `index` of `threads`: each has its
    /// own count, and they take turns.
    pub(crate) fn every(
        start: u64,
        interval: u64,
        count: u32,
        index: u32,
        threads: u32,
    ) -> Schedule {
        let den = u64::from(count.max(1));
        // Less than an interval: the index is less than the threads.
        let turns = u128::from(den) * u128::from(threads.max(1));
        let first = u128::from(interval) * u128::from(index) / turns;
        Schedule {
            due: start.saturating_add(first as u64),
            left_out: 0,
            step: interval / den,
            step_left_out: interval % den,
            den,
        }
    }

    /// When the next one is due.
    #[inline]
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Goes on to the one after it.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.due = self.due.saturating_add(self.step);
        self.left_out += self.step_left_out;
        if self.left_out >= self.den {
            self.left_out -= self.den;
            self.due += 1;
        }
    }

    /// How many are due before `end`, the next one among them.
    pub(crate) fn before(&self, end: u64) -> u64 {
        let Some(span) = end.checked_sub(self.due).filter(|&span| span > 0) else {
            return 0;
        };
        // The k-th from now is before the end if left_out + k * step < span, all in 1/den of a
        // nanosecond.
        let den = u128::from(self.den);
        let span = u128::from(span) * den - u128::from(self.left_out);
        let step = u128::from(self.step) * den + u128::from(self.step_left_out);
        u64::try_from(span.div_ceil(step.max(1))).unwrap_or(u64::MAX)
    }

    /// Lets all moments until `now` go; those that follow stay where they are.
    pub(crate) fn pass(&mut self, now: u64) {
        let count = u128::from(self.before(now.saturating_add(1)));
        let (den, step) = (u128::from(self.den), u128::from(self.step));
        let left_out = u128::from(self.left_out) + count * u128::from(self.step_left_out);
        let ahead = (count * step).saturating_add(left_out / den);
        self.due = self
            .due
            .saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX));
        self.left_out = (left_out % den) as u64;
    }

    /// Lets what was missed go: the next one is due no earlier than `then`.
    pub(crate) fn skip_to(&mut self, then: u64) {
        self.due = self.due.max(then);
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
        let mut schedule = Schedule::every(100, 10, 3, 0, 1);
        let mut dues = Vec::new();
        for _ in 0..7 {
            dues.push(schedule.due());
            schedule.advance();
        }
        assert_eq!(dues, [100, 103, 106, 110, 113, 116, 120]);
    }

    #[test]
    fn threads_take_turns_in_an_interval() {
        let first = |index| Schedule::every(100, 800, 2, index, 4).due();
        assert_eq!([0, 1, 2, 3].map(first), [100, 200, 300, 400]);
        assert!(Schedule::every(100, u64::MAX, 1, 1023, 1024).due() > u64::MAX / 2);
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
