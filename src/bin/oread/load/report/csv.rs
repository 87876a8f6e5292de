//! The measured time as a table, a line for each second: what spreadsheets and plotters read.

use crate::load::count::{BySecond, percentile};
use crate::load::report::outcome::Outcome;

/// The columns behind the second and its counters. An empty field is a figure that there is none
/// of.
const MORE: [&str; 8] = [
    "errors", "open", "lag_ns", "p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "max_ns",
];

/// The table, with a line for its columns.
pub(super) fn table(outcome: &Outcome) -> String {
    let names = BySecond::default();
    let names: Vec<&str> = names.counts.named().map(|(name, _)| name).collect();
    let mut table = format!("second,{},{}\n", names.join(","), MORE.join(","));
    for (place, second) in outcome.tally.seconds.iter().enumerate() {
        table += &line(place, second);
    }
    table
}

fn line(place: usize, second: &BySecond) -> String {
    let response = second.response.open();
    let mut fields = vec![Some(place as u64)];
    fields.extend(second.counts.named().map(|(_, &count)| Some(count)));
    fields.extend([Some(second.errors), Some(second.open), second.lag]);
    fields.extend([50.0, 90.0, 99.0, 99.9].map(|percent| percentile(&response, percent)));
    fields.push((!response.is_empty()).then(|| response.max()));
    let text = |field: Option<u64>| field.map_or_else(String::new, |it| it.to_string());
    let fields: Vec<String> = fields.into_iter().map(text).collect();
    fields.join(",") + "\n"
}
