//! The report for programs: one JSON object. `docs/LOAD.md` describes every field.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::environment::Environment;
use super::judgement::Judgement;
use crate::load::clock::nanos;
use crate::load::count::percentile;
use crate::load::count::{Datagrams, Second, over_an_hour};
use crate::load::options::gate::Verdict;
use crate::load::options::load::{Traffic, Turnover};
use crate::load::report::outcome::{Ending, Outcome};

/// Grows when a field changes its meaning or goes away; new fields don't change it.
const SCHEMA: &str = "oread.load/1";

/// The report, with a newline at its end.
pub(super) fn report(
    outcome: &Outcome,
    environment: &Environment,
    judgement: &Judgement,
) -> String {
    let tally = &outcome.tally;
    let value = json!({
        "schema": SCHEMA,
        "version": environment.version,
        "command": environment.command,
        "environment": place(environment),
        "targets": outcome.targets,
        "ending": ending(&outcome.ending),
        "shortfalls": outcome.shortfalls,
        "seconds": { "ramp": outcome.ramp.as_secs_f64(), "measured": outcome.measured.as_secs_f64() },
        "connections": connections(outcome),
        "churn": churn(outcome),
        "messages": messages(outcome),
        "bytes": {
            "sent": tally.bytes.sent,
            "received": tally.bytes.received,
            "surplus": tally.bytes.surplus,
        },
        "rate": rate(outcome),
        "latency": {
            "connect": timing(&tally.latency.connect),
            "first_echo": timing(&tally.latency.first_echo),
            "response": timing(&tally.latency.response),
            "service": timing(&tally.latency.service),
        },
        "udp": datagrams(&tally.datagrams),
        "udp_flows": tally.flows.iter().map(|(_, flow)| datagrams(flow)).collect::<Vec<_>>(),
        "by_second": tally.seconds.iter().map(second).collect::<Vec<_>>(),
        "generator": generator(outcome, judgement),
        "slo": judgement.gates.iter().map(gate).collect::<Vec<_>>(),
        "imbalance": tally.imbalance(),
        "exit_code": judgement.exit_code,
    });
    format!("{value}\n")
}

/// What there is to say of a run that was not begun.
pub(super) fn not_begun(
    environment: &Environment,
    targets: &[String],
    shortfalls: &[String],
    exit_code: u8,
) -> String {
    let value = json!({
        "schema": SCHEMA,
        "version": environment.version,
        "command": environment.command,
        "environment": place(environment),
        "targets": targets,
        "ending": { "kind": "not begun" },
        "shortfalls": shortfalls,
        "exit_code": exit_code,
    });
    format!("{value}\n")
}

fn place(environment: &Environment) -> Value {
    json!({
        "kernel": environment.kernel,
        "machine": environment.machine,
        "processors": environment.processors,
        "descriptor_limit": environment.descriptors,
        "began": environment.began,
    })
}

fn ending(ending: &Ending) -> Value {
    match ending {
        Ending::Done => json!({ "kind": "done" }),
        Ending::Interrupted(signal) => json!({ "kind": "interrupted", "signal": signal }),
        Ending::Failed(why) => json!({ "kind": "failed", "why": why }),
    }
}

fn connections(outcome: &Outcome) -> Value {
    let c = &outcome.tally.connections;
    json!({
        "asked": c.asked,
        "dialed": c.dialed,
        "redialed": c.redialed,
        "replaced": c.replaced,
        "established": c.established,
        "confirmed": c.confirmed,
        "peak_confirmed": c.peak_confirmed,
        "refused": c.refused,
        "timed_out": c.timed_out,
        "failed": c.failed,
        "dialing": c.dialing,
        "lost": c.lost,
        "closed": c.closed,
        "open": c.open,
        "silent": c.silent,
        "missing": c.missing,
        "errors": outcome.tally.errors,
    })
}

fn churn(outcome: &Outcome) -> Value {
    let (rate, lifetime) = match outcome.plan.turnover {
        Turnover::Keep => (None, None),
        Turnover::Churn(rate) => (Some(rate.get()), None),
        Turnover::Lifetime(lifetime) => (None, Some(nanos(lifetime))),
    };
    json!({ "asked": rate, "lifetime_ns": lifetime, "reached": outcome.churn_reached() })
}

fn messages(outcome: &Outcome) -> Value {
    let m = &outcome.tally.messages;
    json!({
        "sent": m.sent,
        "echoed": m.echoed,
        "in_time": m.in_time,
        "verified": m.verified,
        "corrupt": m.corrupt,
        "timed_out": m.timed_out,
        "late": m.late,
        "lost": m.lost,
        "outstanding": m.outstanding,
        "unsent": m.unsent,
        "unmeasured": m.unmeasured,
    })
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

fn datagrams(d: &Datagrams) -> Value {
    json!({
        "sent": d.sent,
        "received": d.received,
        "lost": d.lost,
        "outstanding": d.outstanding,
        "late": d.late,
        "duplicated": d.duplicated,
        "reordered": d.reordered,
        "corrupt": d.corrupt,
        "dropped": d.dropped,
    })
}

fn second(second: &Second) -> Value {
    json!({ "sent": second.sent, "echoed": second.echoed, "received_bytes": second.received_bytes })
}

fn generator(outcome: &Outcome, judgement: &Judgement) -> Value {
    let threads = outcome.tally.threads.iter();
    let still = &outcome.stood_still;
    json!({
        "cpu": judgement.cpu,
        "waited": judgement.waited,
        "bottleneck": !judgement.bottleneck.is_empty(),
        "reasons": judgement.bottleneck,
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

fn gate(verdict: &Verdict) -> Value {
    json!({
        "gate": verdict.gate,
        "met": verdict.met,
        "value": verdict.value,
        "shown": verdict.shown,
    })
}
