//! Moments of a Poisson process: when messages come from many people who know nothing of each
//! other.

use super::course::{Course, MESSAGE};
use crate::load::clock::{NEVER, SECOND};
use crate::load::mix::mix;

/// The moments of one thread. Those of all threads together are such a process again, of the sum of
/// their rates.
#[derive(Clone, Debug)]
pub(super) struct RandomTimes {
    start: u64,
    /// The mean distance, and how far the next moment is from the start, in nanoseconds. An `f64`
    /// counts them one by one for a hundred days.
    mean: f64,
    ahead: f64,
    /// Where the rate changes over time, both are in what its stages add up to: a process whose
    /// time is that has an even rate.
    course: Option<Course>,
    seed: u64,
    drawn: u64,
    /// When the next one is due.
    due: u64,
}

impl RandomTimes {
    /// `rate` a second from `start` on; the same again for the same seed.
    pub(super) fn new(start: u64, rate: f64, seed: u64) -> RandomTimes {
        RandomTimes::with(start, SECOND as f64 / rate, None, seed)
    }

    /// One of so many threads' part of a rate that changes over time.
    pub(super) fn staged(start: u64, course: Course, threads: u32, seed: u64) -> RandomTimes {
        let mean = MESSAGE as f64 * f64::from(threads);
        RandomTimes::with(start, mean, Some(course), seed)
    }

    fn with(start: u64, mean: f64, course: Option<Course>, seed: u64) -> RandomTimes {
        let mut times = RandomTimes {
            start,
            mean,
            ahead: 0.0,
            course,
            seed,
            drawn: 0,
            due: start,
        };
        times.advance();
        times
    }

    #[inline]
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// Goes on to the next one: the distance is exponential.
    pub(super) fn advance(&mut self) {
        self.drawn += 1;
        // From 2^-53 to 1, as the logarithm of 0 is none.
        let part =
            ((mix(self.seed.wrapping_add(self.drawn)) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        self.ahead -= self.mean * part.ln();
        let ahead = match &self.course {
            None => self.ahead as u64,
            Some(course) => course.when(self.ahead as u128),
        };
        self.due = match self.start.saturating_add(ahead) {
            u64::MAX => NEVER,
            due => due,
        };
    }

    /// How many are due before `end`, the next one among them: walked, for no formula tells.
    pub(super) fn before(&self, end: u64) -> u64 {
        let (mut times, mut count) = (self.clone(), 0);
        while times.due < end && times.due < NEVER {
            count += 1;
            times.advance();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_exponential_and_their_mean_is_the_rate() {
        let mut times = RandomTimes::new(5, 1000.0, 7);
        let (mut dues, mut last) = (Vec::new(), 5);
        for _ in 0..100_000 {
            dues.push((times.due() - last) as f64 / 1e6);
            last = times.due();
            times.advance();
        }
        let all = dues.len() as f64;
        let mean = dues.iter().sum::<f64>() / all;
        assert!((0.99..1.01).contains(&mean), "{mean} ms");
        // Of an exponential distribution 1/e are over the mean, and its spread is its mean.
        let over = dues.iter().filter(|due| **due > 1.0).count() as f64 / all;
        assert!((0.36..0.376).contains(&over), "{over}");
        let spread = dues.iter().map(|due| (due - mean).powi(2)).sum::<f64>() / all;
        assert!((0.97..1.03).contains(&spread.sqrt()), "{spread}");
    }

    #[test]
    fn a_seed_gives_the_same_moments_and_another_one_others() {
        let dues = |seed| {
            let mut times = RandomTimes::new(0, 50.0, seed);
            let mut next = || {
                times.advance();
                times.due()
            };
            [next(), next(), next()]
        };
        assert_eq!(dues(1), dues(1));
        assert_ne!(dues(1), dues(2));
    }

    #[test]
    fn what_is_due_before_a_moment_is_what_would_be_sent_by_then() {
        let times = RandomTimes::new(100, 1000.0, 3);
        let mut walked = times.clone();
        let mut count = 0;
        while walked.due() < SECOND {
            count += 1;
            walked.advance();
        }
        assert_eq!(times.before(SECOND), count);
        assert_eq!(times.before(100), 0);
    }
}
