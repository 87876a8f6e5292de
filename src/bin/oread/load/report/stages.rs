//! What each stage of a load came to, in words and for programs.

use serde_json::{Value, json};

use crate::load::clock::nanos;
use crate::load::count::{InStage, percentile};
use crate::load::options::stages::Stage;
use crate::load::report::outcome::Outcome;
use crate::system::page::Page;
use crate::values::units::{Count, a_second, short};

/// The stages that a run came to, and what each did. One that was broken off is the last one, and
/// has the time that it had.
fn stages(outcome: &Outcome) -> impl Iterator<Item = (Stage, f64, &InStage)> {
    let asked = outcome.plan.stages.iter().flat_map(|it| it.all.iter());
    let mut left = outcome.measured.as_secs_f64();
    asked
        .zip(&outcome.tally.stages)
        .map(move |(stage, counts)| {
            let seconds = stage.time.as_secs_f64().min(left);
            left -= seconds;
            (*stage, seconds, counts)
        })
}

/// Rates are in thousandths.
fn rate(thousandths: u64) -> f64 {
    thousandths as f64 / 1000.0
}

/// A line for each stage; none where there are no stages.
pub(super) fn table(page: &mut Page, outcome: &Outcome) {
    if outcome.tally.stages.is_empty() {
        return;
    }
    page.row(&row(
        "stages",
        "asked for",
        "answered",
        "p50",
        "p99",
        "errors",
    ));
    for (stage, seconds, counts) in stages(outcome) {
        let [from, to] = [stage.from, stage.to].map(rate).map(a_second);
        let asked = match stage.from == stage.to {
            true => from,
            false => format!("{}..{to}", from.trim_end_matches("/s")),
        };
        let time = format!("  {}", short(nanos(stage.time)));
        let answered = a_second(counts.in_time as f64 / seconds.max(1e-9));
        let figure = |p| percentile(&counts.response, p).map_or_else(|| "-".to_owned(), short);
        let errors = Count(counts.errors).to_string();
        let [p50, p99] = [50.0, 99.0].map(figure);
        page.row(&row(&time, &asked, &answered, &p50, &p99, &errors));
    }
    page.remark("each stage has the answers that came in it, the last one also those behind it");
    page.row("");
}

fn row(time: &str, asked: &str, answered: &str, p50: &str, p99: &str, errors: &str) -> String {
    format!("{time:<12} {asked:>20} {answered:>11} {p50:>8} {p99:>8} {errors:>9}")
}

/// The same for programs.
pub(super) fn json(outcome: &Outcome) -> Value {
    let mut begins = 0.0;
    let stages = stages(outcome).map(|(stage, seconds, counts)| {
        let times = &counts.response;
        let value = json!({
            "begins": begins,
            "seconds": seconds,
            "asked": { "from": rate(stage.from), "to": rate(stage.to), "mean": stage.mean() / 1000.0 },
            "reached": counts.in_time as f64 / seconds.max(1e-9),
            "sent": counts.sent,
            "answered": counts.in_time,
            "errors": counts.errors,
            "p50_ns": percentile(times, 50.0),
            "p90_ns": percentile(times, 90.0),
            "p99_ns": percentile(times, 99.0),
            "p99_9_ns": percentile(times, 99.9),
            "max_ns": Some(times.max()).filter(|_| !times.is_empty()),
        });
        begins += seconds;
        value
    });
    stages.collect()
}
