//! What a search has come to: a table of its steps, the curve of latency over what was tried, and
//! all of it for programs.

use std::env;

use serde_json::{Value, json};

use crate::load::clock::nanos;
use crate::load::find::found::{Ended, Found};
use crate::load::find::search::{Came, Limit};
use crate::load::find::step::{PERCENTILES, Step};
use crate::load::options::find::Of;
use crate::system::environment::{Environment, VERSION, command_line};
use crate::system::page::{Page, Tone};
use crate::values::units::{Count, a_second, short};

/// Grows when a field changes its meaning or goes away; new fields don't change it.
const SCHEMA: &str = "oread.find/1";
/// Characters of the longest bar of the curve, and beside it.
const BAR: usize = 40;
const BESIDE: usize = 36;

/// A value as people read it.
pub(super) fn shown(of: Of, value: u64) -> String {
    match of {
        Of::Rate => a_second(value as f64),
        Of::Connections if value == 1 => "1 connection".to_owned(),
        Of::Connections => format!("{} connections", Count(value)),
    }
}

/// What was found, in words.
pub(super) fn answer(found: &Found) -> (Tone, String) {
    let value = |value| shown(found.of, value);
    let answer = found.answer;
    let why = |at: u64| found.last_broken(at).map_or_else(String::new, Step::reason);
    let Some(held) = answer.held else {
        let words = match answer.broke {
            _ if found.steps.is_empty() => "nothing: the search ended before a step had".to_owned(),
            Some((at, Limit::Machine)) => format!(
                "NONE: at {} already this machine was the limit: {}",
                value(at),
                why(at)
            ),
            Some((at, Limit::Target)) => {
                format!(
                    "NONE: the gates do not hold at {} already: {}",
                    value(at),
                    why(at)
                )
            }
            None => "nothing: the search ended before anything was certain".to_owned(),
        };
        return (Tone::Bad, words);
    };
    let words = match answer.broke {
        Some((at, Limit::Target)) => {
            format!(
                "{}; at {} the gates do not hold: {}",
                value(held),
                value(at),
                why(at)
            )
        }
        Some((at, Limit::Machine)) => format!(
            "at least {}: at {} this program or its machine was the limit, so the server may do \
             more",
            value(held),
            value(at)
        ),
        None => format!("at least {}: nothing higher was tried", value(held)),
    };
    match answer.is_confirmed {
        true => (Tone::Plain, words),
        false => (
            Tone::Warning,
            words + " (it was not confirmed by a longer run)",
        ),
    }
}

/// A line on a step that has ended.
pub(super) fn line(of: Of, number: usize, step: &Step) -> String {
    let tried = shown(of, step.tried.value);
    let longer = if step.tried.confirms {
        ", to confirm it"
    } else {
        ""
    };
    let time = short(nanos(step.measured));
    let p99 = step.percentiles[2].map_or_else(|| "-".to_owned(), short);
    let came = match step.came {
        Came::Held => format!("holds, p99 {p99}"),
        Came::Broke(limit) => format!("{}: {}", word(limit), step.reason()),
    };
    format!("step {number}: {tried} for {time}{longer}: {came}\n")
}

fn word(limit: Limit) -> &'static str {
    match limit {
        Limit::Target => "does not hold",
        Limit::Machine => "does not hold, and this machine was the limit",
    }
}

/// The whole report.
pub(super) fn text(mut page: Page, found: &Found) -> String {
    let (tone, words) = answer(found);
    page.toned(tone, "found", &words);
    let ended = match &found.ended {
        Ended::Done => String::new(),
        Ended::OutOfTime => "--within was over before the search was".to_owned(),
        Ended::Interrupted(_) => "interrupted: this is what was known by then".to_owned(),
        Ended::Wrong => {
            "WRONG: an answer was not what it must be, and no rate is worth that".to_owned()
        }
        Ended::Failed(why) => format!("FAILED: {why}"),
    };
    page.toned(Tone::Bad, "ended", &ended);
    page.line("loaded", &found.targets.join(", "));
    if let Some((at, Limit::Machine)) = found.answer.broke
        && let Some(step) = found.last_broken(at)
    {
        let words = step
            .beware
            .first()
            .cloned()
            .unwrap_or_else(|| step.reason());
        let words = format!("at {}: {words}", shown(found.of, at));
        page.toned(Tone::Warning, "BEWARE", &words);
    }
    if !found.steps.is_empty() {
        steps(&mut page, found);
        curve(&mut page, found);
    }
    let here = Environment::here();
    let ran = format!(
        "oread {VERSION} on {} {}, {} processors",
        here.kernel, here.machine, here.processors
    );
    page.line("ran", &ran);
    page.row(&format!("{:13}{}", "", command_line(env::args_os())));
    page.finish()
}

fn steps(page: &mut Page, found: &Found) {
    let row = |step: &str, tried: &str, figures: [&str; 5], came: &str| {
        let figures: String = figures
            .iter()
            .map(|figure| format!(" {figure:>10}"))
            .collect();
        let row = format!("{step:<5} {tried:>12}{figures}  {came}");
        row.trim_end().to_owned()
    };
    let what = match found.of {
        Of::Rate => "rate",
        Of::Connections => "connections",
    };
    page.row("");
    page.row(&row(
        "step",
        what,
        ["answered", "p50", "p99", "p99.9", "errors"],
        "",
    ));
    for (place, step) in found.steps.iter().enumerate() {
        let time = |at: usize| step.percentiles[at].map_or_else(|| "-".to_owned(), short);
        let tried = match found.of {
            Of::Rate => a_second(step.tried.value as f64),
            Of::Connections => Count(step.tried.value).to_string(),
        };
        let figures = [
            step.reached.map_or_else(|| "-".to_owned(), a_second),
            time(0),
            time(2),
            time(3),
            Count(step.errors).to_string(),
        ];
        let is_last = place + 1 == found.steps.len();
        let came = match step.came {
            Came::Held if is_last && found.answer.is_confirmed => "holds, confirmed",
            Came::Held => "holds",
            Came::Broke(Limit::Target) => "does not hold",
            Came::Broke(Limit::Machine) => "machine's limit",
        };
        let figures = figures.each_ref().map(|it| &**it);
        page.row(&row(&(place + 1).to_string(), &tried, figures, came));
    }
    page.row("");
}

/// Latency over what was tried, by the percentile that the gates are about: a bar that is twice as
/// long stands for many times as long.
fn curve(page: &mut Page, found: &Found) {
    let (place, name) = found.drawn();
    let mut points: Vec<(u64, u64, Came)> = found
        .steps
        .iter()
        .filter_map(|step| Some((step.tried.value, step.percentiles[place]?, step.came)))
        .collect();
    points.sort_by_key(|point| point.0);
    // Of several tries at a value, the last one.
    points.reverse();
    points.dedup_by_key(|point| point.0);
    points.reverse();
    let (Some(least), Some(most)) = (
        points.iter().map(|point| point.1).min(),
        points.iter().map(|point| point.1).max(),
    ) else {
        return;
    };
    let room = page.width().saturating_sub(BESIDE).clamp(4, BAR);
    page.row(&format!("{name} of responses"));
    for (value, time, came) in points {
        let part = (time as f64 / least as f64).ln() / (most as f64 / least as f64).ln().max(1e-9);
        let bar = "#".repeat(1 + (part * (room - 1) as f64).round() as usize);
        let mark = if came == Came::Held {
            ""
        } else {
            "  does not hold"
        };
        let value = match found.of {
            Of::Rate => a_second(value as f64),
            Of::Connections => Count(value).to_string(),
        };
        page.row(&format!("  {value:>11}  {bar} {}{mark}", short(time)));
    }
    page.remark("the bars are on a scale of ratios");
    page.row("");
}

/// All of it for programs, with a newline at its end.
pub(super) fn json(found: &Found, exit_code: u8) -> String {
    let words: Vec<String> = env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let answer = found.answer;
    let limit = |limit: Limit| match limit {
        Limit::Target => "target",
        Limit::Machine => "machine",
    };
    let report = json!({
        "schema": SCHEMA,
        "version": VERSION,
        "command": words,
        "targets": found.targets,
        "of": match found.of { Of::Rate => "rate", Of::Connections => "connections" },
        "precision": found.precision,
        "ending": match &found.ended {
            Ended::Done => json!({ "kind": "done" }),
            Ended::OutOfTime => json!({ "kind": "out of time" }),
            Ended::Interrupted(signal) => json!({ "kind": "interrupted", "signal": signal }),
            Ended::Wrong => json!({ "kind": "wrong answer" }),
            Ended::Failed(why) => json!({ "kind": "failed", "why": why }),
        },
        "exit_code": exit_code,
        "answer": {
            "value": answer.held,
            "confirmed": answer.is_confirmed,
            // What may be claimed: the server's limit lies between the two, or only above the one.
            "at_least": !matches!(answer.broke, Some((_, Limit::Target))),
            "broke_at": answer.broke.map(|broke| broke.0),
            "limit": answer.broke.map(|broke| limit(broke.1)),
            "words": self::answer(found).1,
        },
        "steps": found.steps.iter().map(step).collect::<Vec<_>>(),
    });
    format!("{report}\n")
}

fn step(step: &Step) -> Value {
    let mut value = json!({
        "tried": step.tried.value,
        "confirms": step.tried.confirms,
        "held": step.came == Came::Held,
        "limit": match step.came {
            Came::Held => None,
            Came::Broke(Limit::Target) => Some("target"),
            Came::Broke(Limit::Machine) => Some("machine"),
        },
        "rate": { "asked": step.asked, "reached": step.reached },
        "connections": step.connections,
        "answers": step.answers,
        "max_ns": step.max,
        "gates": step.gates.iter().map(|it| {
            json!({ "gate": it.gate, "met": it.met, "value": it.value, "shown": it.shown })
        }).collect::<Vec<_>>(),
        "valid": step.is_valid,
        "why": step.why,
        "warnings": step.beware,
        "errors": step.errors,
        "cpu": step.cpu,
        "seconds": step.measured.as_secs_f64(),
        "exit_code": step.exit_code,
    });
    for (p, time) in PERCENTILES.iter().zip(step.percentiles) {
        value[format!("p{p}_ns").replace('.', "_")] = json!(time);
    }
    value
}
