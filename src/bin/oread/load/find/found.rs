//! What a search has come to.

use crate::load::find::search::{Answer, Came};
use crate::load::find::step::{PERCENTILES, Step};
use crate::load::options::find::Of;

/// How a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As it should.
    Done,
    /// There was no time for another step.
    OutOfTime,
    /// By a signal, of this number.
    Interrupted(i32),
    /// An answer was wrong.
    Wrong,
    /// By a failure of its own, in words.
    Failed(String),
}

/// What a search has come to.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) of: Of,
    pub(crate) precision: f64,
    /// What was loaded, as it was resolved.
    pub(crate) targets: Vec<String>,
    /// In the order that they were made in.
    pub(crate) steps: Vec<Step>,
    pub(crate) answer: Answer,
    pub(crate) ended: Ended,
    /// The percentile that the first gate on responses is about.
    pub(super) percentile: Option<f64>,
}

impl Found {
    /// The last step at a value that did not hold.
    pub(super) fn last_broken(&self, value: u64) -> Option<&Step> {
        let broken = |step: &&Step| step.tried.value == value && step.came != Came::Held;
        self.steps.iter().rfind(broken)
    }

    /// Which percentile is drawn, and its name: the one that the gates are about, or p99.
    pub(super) fn drawn(&self) -> (usize, String) {
        let wanted = self.percentile.unwrap_or(99.0);
        let place = PERCENTILES
            .iter()
            .position(|p| *p >= wanted)
            .unwrap_or(PERCENTILES.len() - 1);
        (place, format!("p{}", PERCENTILES[place]))
    }

    pub(super) fn exit_code(&self) -> u8 {
        match &self.ended {
            // No signal has a number over 64.
            Ended::Interrupted(signal) => 128 + *signal as u8,
            Ended::Failed(_) => 1,
            Ended::Wrong => 5,
            Ended::Done | Ended::OutOfTime if self.answer.held.is_some() => 0,
            Ended::Done | Ended::OutOfTime => match self.steps.last() {
                Some(step) if step.exit_code == 4 => 4,
                _ => 3,
            },
        }
    }
}
