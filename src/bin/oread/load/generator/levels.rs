//! How many connections a load has over time, as its stages say.

use crate::load::clock::{NEVER, nanos};
use crate::load::options::stages::{Stage, Stages};

/// The number over all threads. Times count from the first stage's beginning.
#[derive(Clone, Debug)]
pub(super) struct Levels(pub(super) Stages);

impl Levels {
    /// The stage that a time lies in, and how far in it.
    fn stage(&self, time: u64) -> Option<(Stage, u64)> {
        let mut begins = 0;
        for stage in self.0.all.iter() {
            let ends = begins + nanos(stage.time);
            if time < ends {
                return Some((*stage, time - begins));
            }
            begins = ends;
        }
        None
    }

    /// How many there are to be: the nearest whole number, so that a stage comes to its end's a
    /// little before that.
    pub(super) fn at(&self, time: u64) -> u64 {
        let Some((stage, passed)) = self.stage(time) else {
            return self.0.all.last().map_or(0, |last| last.to);
        };
        let (change, time) = (stage.from.abs_diff(stage.to), nanos(stage.time));
        let twice = 2 * u128::from(change) * u128::from(passed) + u128::from(time);
        let changed = (twice / (2 * u128::from(time))) as u64;
        match stage.to >= stage.from {
            true => stage.from + changed,
            false => stage.from - changed,
        }
    }

    /// The first moment behind `time` at which there may be another number; [`NEVER`] where none
    /// comes.
    pub(super) fn changes_after(&self, time: u64) -> u64 {
        let Some((stage, passed)) = self.stage(time) else {
            return NEVER;
        };
        let (begins, whole) = (time - passed, nanos(stage.time));
        let change = u128::from(stage.from.abs_diff(stage.to));
        let done = u128::from(self.at(time).abs_diff(stage.from));
        // The half before the next whole number.
        let next = ((2 * done + 1) * u128::from(whole)).div_ceil((2 * change).max(1));
        let within = if change == done { whole.into() } else { next };
        begins + (within.min(whole.into()) as u64).max(passed + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::options::stages::connections;

    fn levels(text: &str) -> Levels {
        Levels(connections(text).unwrap())
    }

    /// Each number there is, and since when in milliseconds.
    fn walked(text: &str) -> Vec<(u64, u64)> {
        let levels = levels(text);
        let (mut at, mut all) = (0, vec![]);
        while at < NEVER {
            let level = levels.at(at);
            if all.last().is_none_or(|&(_, last)| last != level) {
                all.push((at / 1_000_000, level));
            }
            at = levels.changes_after(at);
        }
        all
    }

    #[test]
    fn each_number_comes_in_its_turn() {
        assert_eq!(walked("1s:7"), [(0, 7)]);
        assert_eq!(
            walked("1s:0..4"),
            [(0, 0), (125, 1), (375, 2), (625, 3), (875, 4)]
        );
        assert_eq!(
            walked("1s:2..0,1s:0,1s:5"),
            [(0, 2), (250, 1), (750, 0), (2000, 5)]
        );
        let up_and_down = walked("30s:1..1k,1s:1k,30s:1k..1");
        assert_eq!(up_and_down.len(), 1000 + 999);
        assert!(
            up_and_down
                .windows(2)
                .all(|two| two[0].1.abs_diff(two[1].1) == 1)
        );
    }

    #[test]
    fn no_change_is_missed() {
        for text in ["7ms:0..3,5ms:9..2,3ms:4", "1ns:1..4g,1ms:4g..0"] {
            let levels = levels(text);
            let mut changes = levels.changes_after(0);
            for time in 0..20_000 {
                let time = time * 1000;
                while changes <= time {
                    changes = levels.changes_after(changes);
                }
                let before = levels.at(time);
                let last = changes.saturating_sub(1).min(time + 1000);
                assert_eq!(levels.at(last.max(time)), before, "{text} at {time}");
            }
        }
    }
}
