//! The report for programs: one JSON object. `docs/LOAD-REFERENCE.md` describes every field.

use std::time::SystemTime;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::load::clock::nanos;
use crate::load::count::{over_an_hour, percentile};
use crate::load::options::load::{Traffic, Turnover};
use crate::load::report::environment::Environment;
use crate::load::report::judgement::Judgement;
use crate::load::report::outcome::{Ending, Outcome};

/// Grows when a field changes its meaning or goes away; new fields don't change it.
const SCHEMA: &str = "oread.load/1";

/// The report, with a newline at its end.
pub(super) fn report(outcome: &Outcome, judgement: &Judgement) -> String {
    let (tally, plan) = (&outcome.tally, &outcome.plan);
    let mut value = begun(Some(outcome.began), &outcome.targets, &outcome.shortfalls);
    value["ending"] = match &outcome.ending {
        Ending::Done => json!({ "kind": "done" }),
        Ending::Interrupted(signal) => json!({ "kind": "interrupted", "signal": signal }),
        Ending::Failed(why) => json!({ "kind": "failed", "why": why }),
    };
    value["exit_code"] = judgement.exit_code().into();
    value["verdict"] = judgement.findings.iter().map(|it| &*it.words).collect();
    value["warnings"] = judgement.warnings.iter().map(|it| &*it.words).collect();
    value["not_checked"] = json!(judgement.unchecked);
    value["seconds"] = json!({
        "ramp": outcome.ramp.as_secs_f64(),
        "measured": outcome.measured.as_secs_f64(),
    });
    value["connections"] = counters(tally.connections.named());
    value["connections"]["errors"] = json!(tally.errors);
    let partial = tally.partial.iter();
    value["connections"]["partial"] = partial
        .map(|(name, part)| (name.clone(), json!({ "got": part.got, "of": part.of })))
        .collect();
    value["connections"]["corrupt_answer"] = json!(tally.corrupt_answer);
    let (churn, lifetime) = match plan.turnover {
        Turnover::Keep => (None, None),
        Turnover::Churn(rate) => (Some(rate.get()), None),
        Turnover::Lifetime(lifetime) => (None, Some(nanos(lifetime))),
    };
    let churned = outcome.churn_reached();
    value["churn"] = json!({ "asked": churn, "lifetime_ns": lifetime, "reached": churned });
    value["messages"] = counters(tally.messages.named());
    value["bytes"] = counters(tally.bytes.named());
    let pacing = &tally.schedule.pacing_error;
    value["rate"] = json!({
        "asked": match plan.traffic { Traffic::Open(rate) => Some(rate.get()), _ => None },
        "reached": outcome.rate_reached(),
        "max_lag_ns": (!pacing.is_empty()).then(|| pacing.max()),
    });
    for (name, times) in tally.schedule.named() {
        value["rate"][name] = timing(times);
    }
    let latency = tally.latency.named();
    value["latency"] = latency.map(|(name, it)| (name, timing(it))).collect();
    value["udp"] = counters(tally.datagrams.named());
    value["udp"]["own_drops"] = tally.own_drops.into();
    value["udp_flows"] = flows(outcome);
    let seconds = tally.seconds.iter();
    value["by_second"] = seconds.map(|second| counters(second.named())).collect();
    value["generator"] = generator(outcome, judgement);
    let gates = judgement.gates.iter();
    value["slo"] = gates
        .map(|it| json!({ "gate": it.gate, "met": it.met, "value": it.value, "shown": it.shown }))
        .collect();
    value["imbalance"] = json!(tally.imbalance());
    format!("{value}\n")
}

/// What there is to say of a run that was not begun.
pub(super) fn not_begun(targets: &[String], shortfalls: &[String], exit_code: u8) -> String {
    let mut value = begun(None, targets, shortfalls);
    value["ending"] = json!({ "kind": "not begun" });
    value["exit_code"] = exit_code.into();
    format!("{value}\n")
}

/// What is known of any run; when its ramp began, if it did.
fn begun(began: Option<SystemTime>, targets: &[String], shortfalls: &[String]) -> Value {
    let environment = Environment::here();
    json!({
        "schema": SCHEMA,
        "version": environment.version,
        "command": environment.command,
        "environment": {
            "kernel": environment.kernel,
            "machine": environment.machine,
            "processors": environment.processors,
            "descriptor_limit": environment.descriptors,
            // UTC, as RFC 3339 writes it.
            "began": began.map(|began| humantime::format_rfc3339_millis(began).to_string()),
        },
        "targets": targets,
        "shortfalls": shortfalls,
    })
}

/// Counters by their names: none can be forgotten.
fn counters<'a>(named: impl Iterator<Item = (&'static str, &'a u64)>) -> Value {
    named.map(|(name, &count)| (name, count)).collect()
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
    let open = tally.flows.iter().map(|(flow, d)| (Some(flow), d));
    let retired = (tally.retired_flows != Default::default()).then_some(&tally.retired_flows);
    let all = open.chain(retired.map(|d| (None, d)));
    all.map(|(flow, datagrams)| {
        let mut value = counters(datagrams.named());
        value["flow"] = json!(flow);
        value
    })
    .collect()
}

fn generator(outcome: &Outcome, judgement: &Judgement) -> Value {
    let slow = judgement.warnings.iter();
    let slow = slow.filter_map(|warning| Some((&*warning.words, warning.cause?)));
    let (reasons, causes): (Vec<_>, Vec<_>) = slow.unzip();
    let still = &outcome.stood_still;
    let threads = outcome.tally.threads.iter().map(|it| {
        json!({ "cpu_ns": nanos(it.cpu), "waited_ns": nanos(it.waited), "wall_ns": nanos(it.wall) })
    });
    let own_server = outcome
        .own_server
        .map(|it| json!({ "cpu_ns": nanos(it.cpu), "wall_ns": nanos(it.wall) }));
    json!({
        "cpu": judgement.usage.cpu(),
        "waited": judgement.usage.waited,
        "bottleneck": !causes.is_empty(),
        "reasons": reasons,
        "causes": causes,
        "stood_still_ns": nanos(still.total),
        "longest_still_ns": nanos(still.longest),
        "times_still": still.times,
        "threads": threads.collect::<Value>(),
        "own_server": own_server,
    })
}
