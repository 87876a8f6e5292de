//! How it went, in words and as JSON.

use std::io::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::outcome::{Ending, Outcome};
use crate::cli::failure::{Failure, Reason};

/// Prints the report, and gives the exit code.
///
/// # Errors
/// The report can't be written.
pub(super) fn report(outcome: &Outcome) -> Result<u8, Failure> {
    let code = code(outcome);
    let value = value(outcome, code);
    let text = match serde_json::to_string_pretty(&value) {
        Ok(text) => text,
        Err(error) => return Err(Failure::runtime(error.to_string())),
    };
    let mut out = std::io::stdout().lock();
    match &outcome.plan.json {
        Some(path) if !outcome.plan.json_to_stdout() => {
            std::fs::write(path, &text).map_err(|error| {
                Failure::runtime(format!(
                    "can't write {}: {}",
                    path.display(),
                    Reason(&error)
                ))
            })?;
        }
        Some(_) => {
            return writeln!(out, "{text}")
                .map(|()| code)
                .map_err(|e| Failure::output(&e));
        }
        None => {}
    }
    writeln!(out, "{text}").map_err(|e| Failure::output(&e))?;
    Ok(code)
}

fn code(outcome: &Outcome) -> u8 {
    let tally = &outcome.tally;
    match &outcome.ending {
        Ending::Interrupted(_) => return 130,
        Ending::Failed(words) => {
            log::error!("{words}");
            return 1;
        }
        Ending::Done => {}
    }
    if let Some(words) = tally.imbalance() {
        log::error!("this is a bug: {words}");
        return 1;
    }
    if tally.messages.corrupt > 0 {
        return 5;
    }
    if tally.connections.peak_confirmed < tally.connections.asked {
        return 4;
    }
    0
}

fn value(outcome: &Outcome, code: u8) -> Value {
    let tally = &outcome.tally;
    let (c, m, d) = (&tally.connections, &tally.messages, &tally.datagrams);
    let seconds = outcome.measured.as_secs_f64();
    json!({
        "connections": {
            "asked": c.asked, "dialed": c.dialed, "redialed": c.redialed, "established": c.established,
            "confirmed": c.confirmed, "peak_confirmed": c.peak_confirmed, "lost": c.lost, "closed": c.closed,
            "refused": c.refused, "timed_out": c.timed_out, "failed": c.failed, "dialing": c.dialing,
            "open": c.open, "errors": tally.errors,
        },
        "messages": {
            "sent": m.sent, "echoed": m.echoed, "verified": m.verified, "corrupt": m.corrupt,
            "timed_out": m.timed_out, "lost": m.lost, "outstanding": m.outstanding, "unsent": m.unsent,
            "unmeasured": m.unmeasured,
        },
        "bytes": { "sent": tally.bytes.sent, "received": tally.bytes.received },
        "rate": { "reached": if seconds > 0.0 { m.echoed as f64 / seconds } else { 0.0 } },
        "latency": {
            "connect": figures(&tally.latency.connect),
            "first_echo": figures(&tally.latency.first_echo),
            "response": figures(&tally.latency.response),
            "service": figures(&tally.latency.service),
        },
        "pacing": figures(&tally.pacing.error),
        "udp": {
            "sent": d.sent, "received": d.received, "lost": d.lost, "late": d.late, "duplicated": d.duplicated,
            "reordered": d.reordered, "corrupt": d.corrupt, "dropped": d.dropped,
        },
        "seconds": tally.seconds.iter().map(|s| json!([s.sent, s.echoed, s.received])).collect::<Vec<_>>(),
        "threads": tally.threads.iter().map(|t| json!([t.cpu.as_secs_f64(), t.wall.as_secs_f64()])).collect::<Vec<_>>(),
        "own_server": outcome.own_server.map(|t| json!([t.cpu.as_secs_f64(), t.wall.as_secs_f64()])),
        "ramp_s": outcome.ramp.as_secs_f64(),
        "measured_s": seconds,
        "targets": outcome.targets,
        "shortfalls": outcome.shortfalls,
        "exit_code": code,
    })
}

fn figures(histogram: &Histogram<u64>) -> Value {
    json!({
        "count": histogram.len(),
        "min_ns": histogram.min(),
        "p50_ns": histogram.value_at_quantile(0.5),
        "p99_ns": histogram.value_at_quantile(0.99),
        "p99_9_ns": histogram.value_at_quantile(0.999),
        "max_ns": histogram.max(),
        "mean_ns": histogram.mean(),
    })
}
