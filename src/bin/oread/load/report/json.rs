//! The report for programs: one JSON object. `docs/LOAD-REFERENCE.md` describes every field.

use std::env;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::load::clock::nanos;
use crate::load::count::{BySecond, ByTarget, Datagrams, OneConnection, Tally, percentile};
use crate::load::options::load::Turnover;
use crate::load::report::judgement::Judgement;
use crate::load::report::outcome::{Ending, Outcome};
use crate::load::report::stages;
use crate::load::report::timing::{encoded, timing};
use crate::system::environment::{Environment, VERSION};

/// Grows when a field changes its meaning or goes away; new fields don't change it.
const SCHEMA: &str = "oread.load/1";

/// The percentiles of a second.
const PERCENTILES: [(&str, f64); 4] = [
    ("p50_ns", 50.0),
    ("p90_ns", 90.0),
    ("p99_ns", 99.0),
    ("p99_9_ns", 99.9),
];

/// The report, with a newline at its end.
pub(super) fn report(outcome: &Outcome, judgement: &Judgement) -> String {
    let (tally, plan, pacing) = (&outcome.tally, &outcome.plan, &outcome.tally.schedule);
    let mut udp = counters(tally.datagrams.named());
    udp["own_drops"] = tally.own_drops.into();
    let environment = Environment::here();
    // What of a word is no text is replaced.
    let words: Vec<_> = env::args_os().collect();
    let report = json!({
        "schema": SCHEMA,
        "version": VERSION,
        "command": list(&words, |word| json!(word.to_string_lossy())),
        "environment": {
            "kernel": environment.kernel,
            "machine": environment.machine,
            "processors": environment.processors,
            "descriptor_limit": environment.descriptors,
            // UTC, as RFC 3339 writes it.
            "began": outcome.began.map(rfc3339),
            "measured_from": outcome.measured_from.map(rfc3339),
        },
        "targets": outcome.targets,
        "shortfalls": outcome.shortfalls,
        "ending": match &outcome.ending {
            Ending::NotBegun => json!({ "kind": "not begun" }),
            Ending::Done => json!({ "kind": "done" }),
            Ending::Interrupted(signal) => json!({ "kind": "interrupted", "signal": signal }),
            Ending::Failed(why) => json!({ "kind": "failed", "why": why }),
        },
        "exit_code": judgement.exit_code(),
        "verdict": list(&judgement.findings, |finding| json!(finding.words)),
        "warnings": list(&judgement.warnings, |warning| json!(warning.words)),
        "not_checked": judgement.unchecked,
        "seconds": {
            "ramp": outcome.ramp.as_secs_f64(),
            "measured": outcome.measured.as_secs_f64(),
        },
        "connections": connections(tally),
        "churn": churn(outcome),
        "seed": plan.seed,
        "start": {
            "at": plan.start_at.map(rfc3339),
            "late_ns": outcome.late_start.map(nanos),
        },
        "shard": plan.shard.map(|it| json!({ "index": it.index, "of": it.of, "by": it.by })),
        "messages": counters(tally.messages.named()),
        "bytes": counters(tally.bytes.named()),
        "rate": {
            "asked": outcome.rate_asked(),
            "reached": outcome.rate_reached(),
            "max_lag_ns": Some(pacing.pacing_error.max()).filter(|_| !pacing.pacing_error.is_empty()),
            "pacing_error": timing(&pacing.pacing_error),
            "own_lag": timing(&pacing.own_lag),
        },
        "latency": tally.latency.named().map(|(name, it)| (name, timing(it))).collect::<Value>(),
        "udp": udp,
        "udp_flows": flows(tally),
        "by_second": list(&tally.seconds, second),
        "stages": stages::json(outcome),
        "histograms": histograms(tally),
        "by_target": by_target(outcome),
        "by_connection": by_connection(outcome),
        "generator": generator(outcome, judgement),
        "slo": list(&judgement.gates, |it| {
            json!({ "gate": it.gate, "met": it.met, "value": it.value, "shown": it.shown })
        }),
        "imbalance": tally.imbalance(),
    });
    format!("{report}\n")
}

/// A time, in UTC.
fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// What was to be replaced, and was.
fn churn(outcome: &Outcome) -> Value {
    let (asked, lifetime, messages) = match outcome.plan.turnover {
        Turnover::Keep => (None, None, None),
        Turnover::Churn(rate) => (Some(rate.get()), None, None),
        Turnover::Lifetime(lifetime) => (None, Some(nanos(lifetime)), None),
        Turnover::After(messages) => (None, None, Some(messages.get())),
    };
    let reached = outcome.a_second(outcome.tally.connections.replaced);
    json!({
        "asked": asked,
        "lifetime_ns": lifetime,
        "per_connection": messages,
        "reached": reached.filter(|_| outcome.plan.turnover != Turnover::Keep),
    })
}

/// The ledger, and what went wrong, by its names.
fn connections(tally: &Tally) -> Value {
    let mut value = counters(tally.connections.named());
    let partial = tally.partial.iter();
    value["errors"] = json!(tally.errors);
    value["partial"] = partial
        .map(|(name, part)| (name.clone(), json!({ "got": part.got, "of": part.of })))
        .collect();
    value["corrupt_answer"] = json!(tally.corrupt_answer);
    value
}

fn list<T>(all: &[T], value: impl FnMut(&T) -> Value) -> Value {
    all.iter().map(value).collect()
}

/// Counters by their names: none can be forgotten.
fn counters<'a>(named: impl Iterator<Item = (&'static str, &'a u64)>) -> Value {
    named.map(|(name, &count)| (name, count)).collect()
}

/// One second: what happened in it, and how long the answers took that came in it.
fn second(second: &BySecond) -> Value {
    let response = second.response.open();
    let mut value = counters(second.counts.named());
    value["errors"] = second.errors.into();
    value["open"] = second.open.into();
    value["lag_ns"] = second.lag.into();
    for (name, percent) in PERCENTILES {
        value[name] = percentile(&response, percent).into();
    }
    value["max_ns"] = (!response.is_empty()).then(|| response.max()).into();
    value["histogram"] = encoded(&response).into();
    value
}

/// The figures of each target, where there are several.
fn by_target(outcome: &Outcome) -> Value {
    let named = outcome.targets.iter().zip(&outcome.tally.targets);
    let one = |(name, target): (&String, &ByTarget)| {
        let mut value = counters(target.counts.named());
        value["target"] = json!(name);
        value["response"] = timing(&target.response);
        value["histogram"] = encoded(&target.response).into();
        value
    };
    named.map(one).collect()
}

/// The slowest connections, and all of them; null without `--worst`.
fn by_connection(outcome: &Outcome) -> Value {
    let one = |it: &OneConnection| {
        json!({
            "flow": it.flow,
            "target": outcome.targets.get(usize::from(it.target)),
            "answers": it.answers,
            "mean_ns": it.mean(),
            "max_ns": it.max,
        })
    };
    let all = outcome.tally.slowest.as_ref();
    all.map_or(Value::Null, |all| {
        json!({
            "connections": all.connections,
            "answers": all.answers,
            "mean_ns": all.mean(),
            "worst": list(&all.worst, one),
        })
    })
}

/// All histograms, whole: what other tools read, and what reports are merged and compared by.
fn histograms(tally: &Tally) -> Value {
    let all = tally.latency.named().chain(tally.schedule.named());
    all.map(|(name, it)| (name, encoded(it))).collect()
}

/// The datagrams of each flow that was open at the end, by its number; and of those that were
/// closed before, together.
fn flows(tally: &Tally) -> Value {
    let mut all: Vec<_> = tally.flows.iter().map(|(n, it)| (Some(n), it)).collect();
    if tally.retired_flows != Datagrams::default() {
        all.push((None, &tally.retired_flows));
    }
    list(&all, |(number, flow)| {
        let mut value = counters(flow.named());
        value["flow"] = json!(number);
        value
    })
}

fn generator(outcome: &Outcome, judgement: &Judgement) -> Value {
    let (tally, still) = (&outcome.tally, &outcome.stood_still);
    let slow = judgement.warnings.iter();
    let slow = slow.filter_map(|warning| Some((&*warning.words, warning.cause?)));
    let (reasons, causes): (Vec<_>, Vec<_>) = slow.unzip();
    json!({
        "cpu": tally.cpu(),
        "waited": tally.waited(),
        "bottleneck": !causes.is_empty(),
        "reasons": reasons,
        "causes": causes,
        "stood_still_ns": nanos(still.total),
        "longest_still_ns": nanos(still.longest),
        "times_still": still.times,
        "threads": list(&tally.threads, |it| {
            json!({ "cpu_ns": nanos(it.cpu), "waited_ns": nanos(it.waited), "wall_ns": nanos(it.wall) })
        }),
        "own_server": outcome
            .own_server
            .map(|it| json!({ "cpu_ns": nanos(it.cpu), "wall_ns": nanos(it.wall) })),
    })
}
