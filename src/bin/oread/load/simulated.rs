//! Gates of simulated runs, held against what the servers know.
#![allow(clippy::unwrap_used, clippy::panic)]

use oread::sim::{World, check};

use crate::load::generator::simulated::figures::{Figures, figures};
use crate::load::report::judgement::Judgement;
use crate::load::report::outcome::{Ending, Outcome};

/// A value lies within so much of what a histogram has, as a share.
const PRECISION: f64 = 0.002;

/// Holds a gate's verdict against a figure: it's met by any bound that is clearly above, and by
/// none that is clearly below. `None`: nobody can meet it.
fn holds(outcome: &mut Outcome, figure: &str, unit: &str, truth: Option<(f64, f64)>) {
    let bounds = match truth {
        Some((truth, slack)) => vec![
            (truth + truth * 2.0 * PRECISION + slack, true),
            (truth - truth * 2.0 * PRECISION - slack, false),
        ],
        None => vec![(3.0e12, false)],
    };
    for (bound, met) in bounds.into_iter().filter(|(bound, _)| *bound > 0.0) {
        let gate = match (unit, met) {
            ("%", _) => format!("{figure}<{bound:.4}%"),
            (_, true) => format!("{figure}<{}{unit}", bound.ceil()),
            (_, false) => format!("{figure}<{}{unit}", bound.floor()),
        };
        if gate.contains("<0") && unit != "%" || unit == "%" && bound > 100.0 {
            continue;
        }
        outcome.plan.output.slo = vec![gate.parse().unwrap()];
        let judged = Judgement::of(outcome, None);
        let verdict = &judged.gates[0];
        assert_eq!(verdict.met, met, "{gate}: {} ({truth:?})", verdict.shown);
    }
}

/// The value that this share of all is not above; those that have none are above all.
fn percentile(values: &[u64], without: u64, p: f64) -> Option<u64> {
    let all = values.len() as f64 + without as f64;
    let rank = (p / 100.0 * all).ceil().max(1.0) as usize;
    values.get(rank - 1).copied()
}

/// The gates on latencies.
fn latencies(outcome: &mut Outcome, figures: &Figures) {
    let (unanswered, unsent) = (figures.unanswered, figures.unsent);
    for (timing, values, without, slack) in [
        ("", &figures.response, unanswered, figures.slack),
        ("service.", &figures.service, unanswered - unsent, 300_000),
    ] {
        let mut values = values.clone();
        values.sort_unstable();
        let all = values.len() as u64 + without;
        for p in [10.0, 50.0, 90.0, 99.0] {
            // Ten samples lie beyond it, or there is no such figure.
            let beyond = all as f64 * (100.0 - p);
            let is_carried = beyond >= 1000.0;
            let rank = all as f64 * p;
            // Where a bound lies between two, sums of fractions take either.
            let is_clear = (rank % 100.0).abs() > 0.001 && (beyond - 1000.0).abs() > 0.001;
            let value = percentile(&values, without, p).filter(|_| is_carried);
            if is_clear {
                let truth = value.map(|value| (value as f64, slack as f64));
                holds(outcome, &format!("{timing}p{p}"), "ns", truth);
            }
        }
        let max = values.last().filter(|_| without == 0);
        let truth = max.map(|&max| (max as f64, slack as f64));
        holds(outcome, &format!("{timing}max"), "ns", truth);
    }
}

fn gates(world: &mut World) {
    let Some(figures) = figures(world) else {
        return;
    };
    let mut outcome = Outcome {
        ending: Ending::Done,
        tally: figures.tally.clone(),
        measured: figures.measured,
        ..Outcome::not_begun(&figures.load, Vec::new(), Vec::new())
    };
    // Where answers stop for good, no latency is what it would be.
    let is_silent = outcome.fell_silent().is_some();
    if !is_silent && !figures.response.is_empty() {
        latencies(&mut outcome, &figures);
    }
    let seconds = figures.measured.as_secs_f64();
    let rate = figures.in_time as f64 / seconds;
    holds(&mut outcome, "rate", "", Some((rate, 0.5)));
    let connections = figures.connections as f64;
    holds(&mut outcome, "connections", "", Some((connections, 0.5)));
    let tries = figures.due as f64 + f64::from(figures.load.connections.get());
    let wrong = (figures.unanswered + figures.late) as f64;
    if !outcome.is_stuck() {
        let share = 100.0 * wrong / tries;
        holds(&mut outcome, "errors", "%", Some((share, 0.000_1)));
    }
}

#[test]
fn gates_are_met_where_the_servers_books_say_so_and_nowhere_else() {
    check(0..600, gates);
}
