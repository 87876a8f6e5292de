//! One step of a search: a whole run, and what it says of the value it was made at.

use std::time::Duration;

use crate::load::count::percentile;
use crate::load::find::search::{Came, Limit, Try};
use crate::load::report::judgement::{Judgement, Verdict};
use crate::load::report::outcome::{Ending, Outcome};

/// The percentiles that are kept of a step.
pub(super) const PERCENTILES: [f64; 4] = [50.0, 90.0, 99.0, 99.9];

/// What this machine runs out of, not the server.
const OWN_LIMITS: [&str; 5] = ["EMFILE", "ENFILE", "EADDRNOTAVAIL", "ENOBUFS", "ENOMEM"];

/// A step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What was tried: messages a second, or connections.
    pub(crate) tried: Try,
    pub(crate) came: Came,
    /// Messages a second that were asked for, where there was a rate, and that were answered.
    pub(crate) asked: Option<f64>,
    pub(crate) reached: Option<f64>,
    /// Connections that were there at a time.
    pub(crate) connections: u64,
    /// Responses in nanoseconds, at each of [`PERCENTILES`] that enough of them carry, and the
    /// longest.
    pub(crate) percentiles: [Option<u64>; PERCENTILES.len()],
    pub(crate) max: Option<u64>,
    pub(crate) answers: u64,
    pub(crate) gates: Vec<Verdict>,
    /// Whether there is nothing to beware of.
    pub(crate) is_valid: bool,
    /// What fell short, and what to beware of, in words.
    pub(crate) why: Vec<String>,
    pub(crate) beware: Vec<String>,
    pub(crate) errors: u64,
    /// Processors that the generators used: 0.5 is half of one.
    pub(crate) cpu: f64,
    pub(crate) measured: Duration,
    /// What `oread load` would have ended with.
    pub(crate) exit_code: u8,
    pub(crate) ending: Ending,
}

impl Step {
    /// What a run says of what was tried in it.
    pub(super) fn of(tried: Try, outcome: &Outcome) -> Step {
        let judgement = Judgement::of(outcome, None);
        let exit_code = judgement.exit_code();
        let holds = exit_code == 0 && !outcome.falls_behind() && outcome.fell_silent().is_none();
        let (tally, times) = (&outcome.tally, &outcome.tally.latency.response);
        let is_out = |name: &&str| tally.errors.contains_key(*name);
        let is_own = outcome.ending == Ending::NotBegun
            || judgement.has_cause()
            || OWN_LIMITS.iter().any(is_out);
        let beware: Vec<String> = judgement.beware().cloned().collect();
        let why = judgement.findings().chain(&outcome.shortfalls);
        let why = why.cloned().collect();
        Step {
            tried,
            came: match (holds, is_own) {
                (true, _) => Came::Held,
                (false, true) => Came::Broke(Limit::Machine),
                (false, false) => Came::Broke(Limit::Target),
            },
            asked: outcome.rate_asked(),
            reached: outcome.rate_reached(),
            connections: tally.connections.peak_confirmed,
            percentiles: PERCENTILES.map(|p| percentile(times, p)),
            max: Some(times.max()).filter(|_| !times.is_empty()),
            answers: times.len(),
            why,
            is_valid: beware.is_empty(),
            beware,
            errors: tally.errors.values().sum(),
            cpu: tally.cpu(),
            measured: outcome.measured,
            exit_code,
            ending: outcome.ending.clone(),
            gates: judgement.gates,
        }
    }

    /// Why it did not hold, in a few words: the gates first.
    pub(super) fn reason(&self) -> String {
        let broken = self.gates.iter().filter(|gate| !gate.met);
        let words = broken.map(|gate| match gate.value {
            Some(_) => format!("{} is {}", gate.gate, gate.shown),
            None => format!("{}: {}", gate.gate, gate.shown),
        });
        let mut all: Vec<String> = words.collect();
        let further = self.why.iter().filter(|why| !why.starts_with("NOT MET"));
        all.extend(further.cloned());
        all.join("; ")
    }
}
