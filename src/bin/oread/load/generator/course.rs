//! A rate that changes over time: when the k-th message is due is the exact inverse of what the
//! stages add up to, in whole numbers. No message is lost or sent twice where two stages meet, and
//! no error adds up.

use std::sync::Arc;

use crate::load::clock::{NEVER, nanos};
use crate::load::options::stages::Stages;
use crate::load::options::values::Rate;

/// What one message is in the sum of the stages: twice a rate in thousandths, times nanoseconds.
/// Twice, so that a ramp, whose mean may end in a half, has a whole sum.
pub(super) const MESSAGE: u64 = 2 * Rate::THOUSAND_SECONDS;

/// One stage. A rate goes from `from` to `to` in `time` nanoseconds, from `begins` on.
#[derive(Clone, Copy, Debug)]
struct Piece {
    begins: u64,
    time: u64,
    from: u64,
    to: u64,
    /// The sum of the stages before.
    before: u128,
}

/// The stages of a rate. Times count from the first one's beginning.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pieces: Arc<[Piece]>,
    /// The sum of all.
    all: u128,
}

impl Course {
    pub(super) fn of(stages: &Stages) -> Course {
        let (mut begins, mut all) = (0, 0);
        let pieces = stages.all.iter().map(|stage| {
            let piece = Piece {
                begins,
                time: nanos(stage.time),
                from: stage.from,
                to: stage.to,
                before: all,
            };
            begins += piece.time;
            all += u128::from(piece.from + piece.to) * u128::from(piece.time);
            piece
        });
        Course {
            pieces: pieces.collect(),
            all,
        }
    }

    /// The last moment at which no more than `sum` has come up: when what is behind it is due.
    /// [`NEVER`] where that is all there is. A pause is before what comes behind it.
    pub(super) fn when(&self, sum: u128) -> u64 {
        let behind = self.pieces.partition_point(|piece| piece.before <= sum);
        let piece = self.pieces[..behind].last();
        match piece.filter(|_| sum < self.all) {
            Some(piece) => piece.begins + piece.when(sum - piece.before),
            None => NEVER,
        }
    }

    /// How many messages are due before `time`, counted from 0: the k-th is, if `k` of them are
    /// less than the sum until then.
    fn count(&self, time: u64) -> u64 {
        let behind = self.pieces.partition_point(|piece| piece.begins <= time);
        let sum = self.pieces[..behind].last().map_or(0, |piece| {
            let passed = (time - piece.begins).min(piece.time);
            piece.before + piece.sum(passed)
        });
        u64::try_from(sum.div_ceil(MESSAGE.into())).unwrap_or(u64::MAX)
    }
}

impl Piece {
    /// Its sum after so long. A fraction counts as what comes above it: a whole number is less than
    /// the one if it's less than the other.
    fn sum(&self, passed: u64) -> u128 {
        match self.from == self.to {
            true => 2 * u128::from(self.from) * u128::from(passed),
            false => self.grown(passed).div_ceil(self.time.into()),
        }
    }

    /// Its sum after so long, times its time: that makes it whole. As stages are read, it has room.
    fn grown(&self, passed: u64) -> u128 {
        let [time, passed] = [self.time, passed].map(u128::from);
        let twice = 2 * u128::from(self.from) * time;
        let slope = u128::from(self.from.abs_diff(self.to)) * passed;
        passed
            * if self.to >= self.from {
                twice + slope
            } else {
                twice - slope
            }
    }

    /// The last moment of it at which its sum is no more than that.
    fn when(&self, sum: u128) -> u64 {
        if self.from == self.to {
            return (sum / (2 * u128::from(self.from)).max(1)) as u64;
        }
        let limit = sum * u128::from(self.time);
        let fits = |passed| self.grown(passed) <= limit;
        let mut least = self.guess(sum as f64).min(self.time);
        let mut step = 1;
        while !fits(least) {
            least = least.saturating_sub(step);
            step *= 2;
        }
        let mut beyond = least + 1;
        step = 1;
        while beyond <= self.time && fits(beyond) {
            (least, beyond) = (beyond, (beyond + step).min(self.time + 1));
            step *= 2;
        }
        while least + 1 < beyond {
            let middle = least + (beyond - least) / 2;
            *if fits(middle) {
                &mut least
            } else {
                &mut beyond
            } = middle;
        }
        least
    }

    /// Where the parabola has that sum, about: within some nanoseconds, but where its rate is near
    /// 0.
    fn guess(&self, sum: f64) -> u64 {
        let [from, to, time] = [self.from, self.to, self.time].map(|it| it as f64);
        // In this form nothing cancels out.
        let root = (from * from + (to - from) * sum / time).max(0.0).sqrt();
        (sum / (from + root)) as u64
    }
}

/// The messages of a course that are one thread's: each N-th, as of a
/// [`Schedule`](super::schedule::Schedule).
#[derive(Clone, Debug)]
pub(super) struct Staged {
    course: Course,
    start: u64,
    /// Which message the next one is, and how many on the one after it is.
    next: u64,
    step: u64,
    /// When the next one is due.
    due: u64,
}

impl Staged {
    pub(super) fn new(start: u64, course: Course, index: u32, threads: u32) -> Staged {
        let mut staged = Staged {
            course,
            start,
            next: index.into(),
            step: threads.into(),
            due: 0,
        };
        staged.look();
        staged
    }

    fn look(&mut self) {
        let due = self
            .course
            .when(u128::from(self.next) * u128::from(MESSAGE));
        self.due = self.start.saturating_add(due);
    }

    /// When the next one is due.
    #[inline]
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// Goes on to the one after it.
    pub(super) fn advance(&mut self) {
        self.next += self.step;
        self.look();
    }

    /// How many are due before `end`, the next one among them.
    pub(super) fn before(&self, end: u64) -> u64 {
        let all = self.course.count(end.saturating_sub(self.start));
        all.saturating_sub(self.next).div_ceil(self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::clock::SECOND;
    use crate::load::options::stages::rates;
    use proptest::prelude::*;

    fn course(text: &str) -> Course {
        Course::of(&rates(text).unwrap())
    }

    /// When messages are due that are walked through one by one.
    fn dues(text: &str, index: u32, threads: u32) -> Vec<u64> {
        let mut staged = Staged::new(5, course(text), index, threads);
        std::iter::from_fn(|| {
            let due = Some(staged.due()).filter(|due| *due < NEVER);
            staged.advance();
            due
        })
        .collect()
    }

    #[test]
    fn stages_follow_each_other_without_a_gap_and_a_pause_is_one() {
        let due = |text| -> Vec<u64> {
            dues(text, 0, 1)
                .iter()
                .map(|due| (due - 5) / 1_000_000)
                .collect()
        };
        assert_eq!(
            due("1s:2,1s:4,1s:1"),
            [0, 500, 1000, 1250, 1500, 1750, 2000]
        );
        // The message at the very beginning of a pause is the first one behind it.
        assert_eq!(due("1s:2,10s:0,1s:2"), [0, 500, 11_000, 11_500]);
        assert_eq!(due("3s:0,1s:2,1h:0"), [3_000, 3_500]);
        // Half of what has come up in one stage is made whole in the next.
        assert_eq!(due("750ms:2,1s:1"), [0, 500, 1250]);
        assert_eq!(due("1s:0..8"), [0, 500, 707, 866]);
        assert_eq!(due("1s:8..0"), [0, 133, 292, 500]);
    }

    #[test]
    fn a_stage_of_one_rate_is_what_that_rate_is() {
        use crate::load::generator::schedule::Schedule;
        for rate in ["0.5", "3", "7", "999.983", "50k"] {
            let mut even = Schedule::of(5, rate.parse().unwrap(), 1, 3);
            let staged = dues(&format!("1500ms:{rate},1us:{rate},500ms:{rate}"), 1, 3);
            assert_eq!(
                staged.len() as u64,
                even.before(5 + 2 * SECOND + 1000),
                "{rate}"
            );
            for due in staged {
                assert_eq!(due, even.due(), "{rate}");
                even.advance();
            }
        }
    }

    #[test]
    fn the_largest_stages_have_room() {
        for text in [
            "1h:0..4g",
            "24days:4g",
            "1ns:4g..0,23days:0..10k",
            "24days:0.001",
        ] {
            let course = course(text);
            let whole: u64 = rates(text).unwrap().ends().last().unwrap();
            let all = course.count(whole);
            for k in [0, 1, all / 3, all / 2, all - 1] {
                let due = course.when(u128::from(k) * u128::from(MESSAGE));
                assert!(due < whole, "{text}: {k} of {all}");
                assert!(
                    course.count(due) <= k && k < course.count(due + 1),
                    "{text}: {k} of {all}"
                );
            }
            assert_eq!(course.when(u128::from(all) * u128::from(MESSAGE)), NEVER);
        }
    }

    proptest! {
        #[test]
        fn each_message_is_due_when_the_sum_comes_to_it_and_none_is_lost_or_doubled(
            stages in proptest::collection::vec((1..3_000_000_u64, 0..9_000_u64, 0..9_000_u64, 0..4_u8), 1..6),
            threads in 1..5_u32,
            cut in 0..4_000_000_000_u64,
        ) {
            let text = stages.iter().map(|&(us, from, to, kind)| match kind {
                0 => format!("{us}us:0"),
                1 => format!("{us}us:{from}"),
                _ => format!("{us}us:{from}..{to}"),
            });
            let text = text.collect::<Vec<_>>().join(",");
            let Ok(read) = rates(&text) else { return Ok(()) };
            let course = Course::of(&read);
            // All there are, to the last fraction.
            let all = read.twice().div_ceil(u128::from(MESSAGE)) as u64;
            let mut merged: Vec<u64> = (0..threads).flat_map(|it| dues(&text, it, threads)).collect();
            prop_assert_eq!(merged.len() as u64, all);
            let own: u64 = (0..threads)
                .map(|it| Staged::new(5, course.clone(), it, threads).before(cut))
                .sum();
            merged.sort_unstable();
            prop_assert_eq!(own, merged.iter().filter(|due| **due < cut).count() as u64);
            for (k, due) in merged.into_iter().enumerate() {
                let (k, due) = (k as u64, due - 5);
                // Before that nanosecond no more than the messages before it have come up.
                prop_assert!(course.count(due) <= k && k < course.count(due + 1));
            }
        }
    }
}
