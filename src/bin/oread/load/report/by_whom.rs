//! The words on each target, where there are several, and on the slowest connections.

use hdrhistogram::Histogram;

use crate::load::count::{ByTarget, OneConnection, Told as _, percentile};
use crate::load::report::outcome::Outcome;
use crate::system::page::{Page, Tone};
use crate::values::units::{Count, short};

/// Targets that are told in words; the JSON report has all.
const MOST_TARGETS: usize = 20;

/// A line for each, the slowest connection first.
pub(super) fn tell(page: &mut Page, outcome: &Outcome) {
    let named = outcome.targets.iter().zip(&outcome.tally.targets);
    let others = outcome.tally.targets.len().saturating_sub(MOST_TARGETS);
    for (name, target) in named.take(MOST_TARGETS) {
        let [came, went] = target.counts.told();
        page.lines("target", [(Tone::Plain, words(name, target, &came))]);
        page.lines("", [(Tone::Warning, went)]);
    }
    if others > 0 {
        page.remark(&format!(
            "{} other targets are in --json",
            Count(others as u64)
        ));
    }
    let Some(all) = &outcome.tally.slowest else {
        return;
    };
    let one = |it: &OneConnection| {
        let target = outcome.targets.get(usize::from(it.target));
        let target = target.map_or("", String::as_str);
        let (mean, max) = (short(it.mean()), short(it.max));
        let (flow, answers) = (it.flow, Count(it.answers));
        let words =
            format!("flow {flow} to {target}: {mean} on average, {max} at most, {answers} answers");
        (Tone::Plain, words)
    };
    page.lines("slowest", all.worst.iter().map(one));
    if !all.worst.is_empty() {
        let (connections, mean) = (Count(all.connections), short(all.mean()));
        let words = format!("all {connections} connections together: {mean} on average");
        page.lines("", [(Tone::Plain, words)]);
    }
}

/// What a target did.
fn words(name: &str, target: &ByTarget, came: &str) -> String {
    match figures(&target.response) {
        figures if figures.is_empty() => format!("{name}: {came}"),
        figures => format!("{name}: {came}; {figures}"),
    }
}

/// The percentiles that so many samples carry, and the most.
fn figures(response: &Histogram<u64>) -> String {
    if response.is_empty() {
        return String::new();
    }
    let named =
        [50.0, 99.0, 99.9].map(|p| Some(format!("p{p} {}", short(percentile(response, p)?))));
    let named: Vec<String> = named.into_iter().flatten().collect();
    let max = format!("max {}", short(response.max()));
    [&named[..], &[max]].concat().join(", ")
}
