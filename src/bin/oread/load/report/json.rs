//! The report for programs: one JSON object. `docs/LOAD-REFERENCE.md` describes every field.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::load::clock::nanos;
use crate::load::count::{Datagrams, over_an_hour, percentile};
use crate::load::options::load::{Traffic, Turnover};
use crate::load::report::environment::Environment;
use crate::load::report::judgement::Judgement;
use crate::load::report::outcome::{Ending, Outcome};
use crate::load::report::verdict::Verdict;

/// Grows when a field changes its meaning or goes away; new fields don't change it.
const SCHEMA: &str = "oread.load/1";

/// The report, with a newline at its end.
pub(super) fn report(
    outcome: &Outcome,
    environment: &Environment,
    judgement: &Judgement,
) -> String {
    let tally = &outcome.tally;
    let latency = &tally.latency;
    let (findings, warnings) = (judgement.findings.iter(), judgement.warnings.iter());
    let mut value = begun(environment, &outcome.targets, &outcome.shortfalls);
    value["ending"] = ending(&outcome.ending);
    value["exit_code"] = judgement.exit_code().into();
    value["verdict"] = findings.map(|finding| &*finding.words).collect();
    value["warnings"] = warnings.map(|warning| &*warning.words).collect();
    value["not_checked"] = json!(judgement.unchecked);
    value["seconds"] = json!({
        "ramp": outcome.ramp.as_secs_f64(),
        "measured": outcome.measured.as_secs_f64(),
    });
    value["connections"] = object(tally.connections.named());
    value["connections"]["errors"] = json!(tally.errors);
    let partial = tally.partial.iter();
    value["connections"]["partial"] = partial
        .map(|(name, part)| (name.clone(), json!({ "got": part.got, "of": part.of })))
        .collect();
    value["connections"]["corrupt_answer"] = json!(tally.corrupt_answer);
    value["churn"] = churn(outcome);
    value["messages"] = object(tally.messages.named());
    value["bytes"] = object(tally.bytes.named());
    value["rate"] = rate(outcome);
    value["latency"] = json!({
        "connect": timing(&latency.connect),
        "first_echo": timing(&latency.first_echo),
        "response": timing(&latency.response),
        "service": timing(&latency.service),
    });
    value["udp"] = object(tally.datagrams.named());
    value["udp"]["own_drops"] = tally.own_drops.into();
    value["udp_flows"] = flows(outcome);
    value["by_second"] = tally.seconds.iter().map(|s| object(s.named())).collect();
    value["generator"] = generator(outcome, judgement);
    value["slo"] = slo(judgement);
    value["imbalance"] = json!(tally.imbalance());
    format!("{value}\n")
}

/// What there is to say of a run that was not begun.
pub(super) fn not_begun(
    environment: &Environment,
    targets: &[String],
    shortfalls: &[String],
    exit_code: u8,
) -> String {
    let mut value = begun(environment, targets, shortfalls);
    value["ending"] = json!({ "kind": "not begun" });
    value["exit_code"] = exit_code.into();
    format!("{value}\n")
}

/// What is known before a run.
fn begun(environment: &Environment, targets: &[String], shortfalls: &[String]) -> Value {
    json!({
        "schema": SCHEMA,
        "version": environment.version,
        "command": environment.command,
        "environment": {
            "kernel": environment.kernel,
            "machine": environment.machine,
            "processors": environment.processors,
            "descriptor_limit": environment.descriptors,
            "began": environment.began,
        },
        "targets": targets,
        "shortfalls": shortfalls,
    })
}

/// Counters by their names: none can be forgotten.
fn object(named: impl Iterator<Item = (&'static str, u64)>) -> Value {
    named
        .map(|(name, count)| (name.to_owned(), Value::from(count)))
        .collect()
}

fn ending(ending: &Ending) -> Value {
    match ending {
        Ending::Done => json!({ "kind": "done" }),
        Ending::Interrupted(signal) => json!({ "kind": "interrupted", "signal": signal }),
        Ending::Failed(why) => json!({ "kind": "failed", "why": why }),
    }
}

fn churn(outcome: &Outcome) -> Value {
    let (rate, lifetime) = match outcome.plan.turnover {
        Turnover::Keep => (None, None),
        Turnover::Churn(rate) => (Some(rate.get()), None),
        Turnover::Lifetime(lifetime) => (None, Some(nanos(lifetime))),
    };
    json!({ "asked": rate, "lifetime_ns": lifetime, "reached": outcome.churn_reached() })
}

fn rate(outcome: &Outcome) -> Value {
    let asked = match outcome.plan.traffic {
        Traffic::Open(rate) => Some(rate.get()),
        _ => None,
    };
    let pacing = &outcome.tally.pacing.error;
    json!({
        "asked": asked,
        "reached": outcome.rate_reached(),
        "max_lag_ns": (!pacing.is_empty()).then(|| pacing.max()),
        "pacing_error": timing(pacing),
        "own_lag": timing(&outcome.tally.pacing.lag),
    })
}

/// A histogram's figures; those that too few samples carry are null.
fn timing(histogram: &Histogram<u64>) -> Value {
    let some = !histogram.is_empty();
    json!({
        "count": histogram.len(),
        "min_ns": some.then(|| histogram.min()),
        "p50_ns": percentile(histogram, 50.0),
        "p90_ns": percentile(histogram, 90.0),
        "p99_ns": percentile(histogram, 99.0),
        "p99_9_ns": percentile(histogram, 99.9),
        "p99_99_ns": percentile(histogram, 99.99),
        "max_ns": some.then(|| histogram.max()),
        "mean_ns": some.then(|| histogram.mean()),
        "over_an_hour": over_an_hour(histogram),
    })
}

/// The datagrams of each flow that was open at the end, by its number; and of those that were
/// closed before, together.
fn flows(outcome: &Outcome) -> Value {
    let tally = &outcome.tally;
    let open = tally.flows.iter().map(|(flow, d)| (Some(*flow), d));
    let retired = tally.retired_flows.named().any(|(_, count)| count > 0);
    let retired = retired.then_some((None, &tally.retired_flows));
    let flow = |(flow, datagrams): (Option<u32>, &Datagrams)| {
        let mut value = object(datagrams.named());
        value["flow"] = json!(flow);
        value
    };
    open.chain(retired).map(flow).collect()
}

fn generator(outcome: &Outcome, judgement: &Judgement) -> Value {
    let slow = || {
        judgement
            .warnings
            .iter()
            .filter_map(|w| Some((w.cause?, w)))
    };
    let threads = outcome.tally.threads.iter();
    let still = &outcome.stood_still;
    json!({
        "cpu": judgement.usage.cpu,
        "waited": judgement.usage.waited,
        "bottleneck": slow().next().is_some(),
        "reasons": slow().map(|(_, warning)| &*warning.words).collect::<Value>(),
        "causes": slow().map(|(cause, _)| cause).collect::<Value>(),
        "stood_still_ns": nanos(still.total),
        "longest_still_ns": nanos(still.longest),
        "times_still": still.times,
        "threads": threads
            .map(|t| json!({ "cpu_ns": nanos(t.cpu), "waited_ns": nanos(t.waited), "wall_ns": nanos(t.wall) }))
            .collect::<Vec<_>>(),
        "own_server": outcome
            .own_server
            .map(|t| json!({ "cpu_ns": nanos(t.cpu), "wall_ns": nanos(t.wall) })),
    })
}

fn slo(judgement: &Judgement) -> Value {
    let gate = |verdict: &Verdict| {
        json!({
            "gate": verdict.gate,
            "met": verdict.met,
            "value": verdict.value,
            "shown": verdict.shown,
        })
    };
    judgement.gates.iter().map(gate).collect()
}
