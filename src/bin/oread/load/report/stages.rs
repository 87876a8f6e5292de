//! What each stage of a load came to, in words and for programs.

use serde_json::{Value, json};

use crate::load::count::{InStage, percentile};
use crate::load::options::stages::{Stage, Stages};
use crate::load::report::outcome::Outcome;
use crate::system::page::Page;
use crate::values::units::{Count, a_second, short};

/// A stage that a run came to: what was asked for in it, and what came of it. One that was broken
/// off is the last one, and has the time that it had.
struct Told<'a> {
    seconds: f64,
    /// In thousandths a second.
    rate: Option<Stage>,
    connections: Option<Stage>,
    counts: &'a InStage,
}

impl Told<'_> {
    /// Answers in it a second.
    fn reached(&self) -> f64 {
        self.counts.in_time as f64 / self.seconds.max(1e-9)
    }
}

fn stages(outcome: &Outcome) -> Vec<Told<'_>> {
    let plan = &outcome.plan;
    let at = |stages: &Option<Stages>, place: usize| Some(*stages.as_ref()?.all.get(place)?);
    let mut left = outcome.measured.as_secs_f64();
    let told = outcome.tally.stages.iter().enumerate();
    told.map(|(place, counts)| {
        let rate = at(&plan.stages, place);
        let connections = at(&plan.connection_stages, place);
        let time = rate
            .or(connections)
            .map_or(left, |it| it.time.as_secs_f64());
        let seconds = time.min(left);
        left -= seconds;
        Told {
            seconds,
            rate,
            connections,
            counts,
        }
    })
    .collect()
}

/// A number, or the two that a stage goes between.
fn between(stage: Stage, shown: impl Fn(u64) -> String) -> String {
    let [from, to] = [stage.from, stage.to].map(shown);
    match from == to {
        true => from,
        false => format!("{}..{to}", from.trim_end_matches("/s")),
    }
}

/// A line for each stage; none where there are no stages.
pub(super) fn table(page: &mut Page, outcome: &Outcome) {
    let all = stages(outcome);
    let Some(first) = all.first() else {
        return;
    };
    let has = [first.connections.is_some(), first.rate.is_some()];
    page.row(&row(
        "stages",
        has,
        ["connections", "rate"],
        ["answered", "p50", "p99", "errors"],
    ));
    for told in &all {
        let counts = told.counts;
        let time = format!("  {}", short((told.seconds * 1e9).round() as u64));
        let rate = |it: u64| a_second(it as f64 / 1000.0);
        let asked = [
            told.connections
                .map(|it| between(it, |it| Count(it).to_string())),
            told.rate.map(|it| between(it, rate)),
        ];
        let asked = asked.each_ref().map(|it| it.as_deref().unwrap_or(""));
        let figure = |p| percentile(&counts.response, p).map_or_else(|| "-".to_owned(), short);
        let came = [
            a_second(told.reached()),
            figure(50.0),
            figure(99.0),
            Count(counts.errors).to_string(),
        ];
        page.row(&row(&time, has, asked, came.each_ref().map(|it| &**it)));
    }
    page.remark("a stage has the answers that came in it, the last one also those behind it");
    page.row("");
}

fn row(time: &str, has: [bool; 2], asked: [&str; 2], came: [&str; 4]) -> String {
    let asked = asked.iter().zip(has).filter(|it| it.1);
    let asked: String = asked.map(|(asked, _)| format!(" {asked:>16}")).collect();
    let [answered, p50, p99, errors] = came;
    format!("{time:<9}{asked} {answered:>11} {p50:>8} {p99:>8} {errors:>7}")
}

/// The same for programs.
pub(super) fn json(outcome: &Outcome) -> Value {
    let mut begins = 0.0;
    let ends = |stage: Option<Stage>, one: f64| {
        let [from, to] = stage.map(|it| [it.from, it.to].map(|it| it as f64 / one))?;
        Some(json!({ "from": from, "to": to, "mean": f64::midpoint(from, to) }))
    };
    let value = |told: Told<'_>| {
        let (counts, times) = (told.counts, &told.counts.response);
        let value = json!({
            "begins": begins,
            "seconds": told.seconds,
            "rate": ends(told.rate, 1000.0),
            "connections": ends(told.connections, 1.0),
            "open": told.connections.map(|_| counts.open),
            "reached": told.reached(),
            "sent": counts.sent,
            "answered": counts.in_time,
            "errors": counts.errors,
            "p50_ns": percentile(times, 50.0),
            "p90_ns": percentile(times, 90.0),
            "p99_ns": percentile(times, 99.0),
            "p99_9_ns": percentile(times, 99.9),
            "max_ns": Some(times.max()).filter(|_| !times.is_empty()),
        });
        begins += told.seconds;
        value
    };
    stages(outcome).into_iter().map(value).collect()
}
