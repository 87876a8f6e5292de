//! What a run is worth: gates, exit code, and whether its own figures can be trusted.

use std::time::Duration;

use crate::load::count::tally::ThreadUse;
use crate::load::options::gate::{Verdict, percentile};
use crate::load::options::load::Traffic;
use crate::load::report::outcome::{Ending, Outcome};
use crate::load::report::short;

/// A thread that is busy for more of the time than this has no time left to be on time.
const BUSY: f64 = 0.95;
/// A thread that is kept from its processor for more of the time than this times the machine, not
/// the server.
const KEPT_WAITING: f64 = 0.1;
/// Lateness of the open loop by the generator's own doing, at its 99th percentile, that is too
/// much: far over what a timer and a turn of the reactor take, far below what one would call a
/// response.
const LATE_NS: u64 = 1_000_000;

/// The run, judged.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    /// See [`exit_code`].
    pub(super) exit_code: u8,
    /// The gates, in the order they were given.
    pub(super) gates: Vec<Verdict>,
    /// Why the generator was the bottleneck, in words; empty where it wasn't.
    pub(super) bottleneck: Vec<String>,
    /// Processors that the generator's threads used in the measured time: 0.5 is half of one.
    pub(super) cpu: f64,
    /// The largest share of the measured time that one of them was ready to run, and others had the
    /// processors.
    pub(super) waited: f64,
}

impl Judgement {
    pub(super) fn of(outcome: &Outcome) -> Judgement {
        let gates: Vec<Verdict> = outcome
            .plan
            .gates
            .iter()
            .map(|gate| gate.judge(outcome))
            .collect();
        let threads = &outcome.tally.threads;
        let busy: Vec<f64> = threads.iter().map(|t| share(t.cpu, t)).collect();
        let waited = threads.iter().map(|t| share(t.waited, t));
        let waited = waited.fold(0.0, f64::max);
        Judgement {
            exit_code: exit_code(outcome, &gates),
            gates,
            bottleneck: bottleneck(outcome, &busy, waited),
            waited,
            cpu: busy.iter().sum(),
        }
    }
}

/// The share of the measured time that a thread was busy, or waited. It has one processor at most:
/// more comes of a time so short that reading the clocks is most of it.
fn share(of: Duration, thread: &ThreadUse) -> f64 {
    let wall = thread.wall.as_secs_f64();
    if wall > 0.0 {
        (of.as_secs_f64() / wall).min(1.0)
    } else {
        0.0
    }
}

/// The exit code: 130 or 143 interrupted, 1 failed (its own counts among it, where they don't add
/// up), 5 an answer was wrong, 4 fewer connections or messages than asked for, or connections that
/// were not there to the end, 3 a gate is not met; the first that applies. (2, a usage error, never
/// comes to a report.)
fn exit_code(outcome: &Outcome, gates: &[Verdict]) -> u8 {
    let tally = &outcome.tally;
    match outcome.ending {
        Ending::Interrupted(signal) => return 128 + u8::try_from(signal).unwrap_or(2),
        Ending::Failed(_) => return 1,
        Ending::Done if tally.imbalance().is_some() => return 1,
        Ending::Done => {}
    }
    if tally.messages.corrupt + tally.datagrams.corrupt > 0 {
        5
    } else if tally.connections.missing > 0
        || tally.connections.peak_confirmed < tally.connections.asked
        || outcome.messages_missing() > 0
    {
        4
    } else if gates.iter().any(|gate| !gate.met) {
        3
    } else {
        0
    }
}

/// Why the generator, not the server, set the figures.
fn bottleneck(outcome: &Outcome, busy: &[f64], waited: f64) -> Vec<String> {
    let mut reasons = Vec::new();
    let full = busy.iter().filter(|&&share| share > BUSY).count();
    if full > 0 {
        reasons.push(format!(
            "{full} of {} generator threads had no time left (over {:.0}% of a processor)",
            busy.len(),
            BUSY * 100.0
        ));
    }
    if waited > KEPT_WAITING {
        reasons.push(format!(
            "a thread of it was ready and waited for a processor {:.0}% of the time, which is in the latencies",
            waited * 100.0
        ));
    }
    if let Traffic::Open(_) = outcome.plan.traffic
        && let Some(late) = percentile(&outcome.tally.pacing.lag, 99.0)
        && late > LATE_NS
    {
        reasons.push(format!(
            "1% of the messages were sent {} or more after they could have been",
            short(late)
        ));
    }
    reasons
}
