//! The histograms as an HdrHistogram log, version 1.3, each line a histogram of nanoseconds in the
//! compressed V2 encoding: what HdrHistogram's own log processor, its plotter and other tools read.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::failure::Failure;
use crate::load::report::outcome::Outcome;

/// The times in the log are seconds, and its largest values are told in them too: nanoseconds for
/// each.
const NANOS_PER_SECOND: f64 = 1e9;

/// The whole log.
///
/// # Errors
/// Exit code 1: a histogram can't be encoded, which none of ours should come to.
pub(super) fn log(outcome: &Outcome) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let failed = |what: &dyn std::fmt::Debug| {
        Failure::runtime(format!("can't write the histogram log: {what:?}"))
    };
    let begun = SystemTime::now()
        .checked_sub(outcome.measured)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let latency = &outcome.tally.latency;
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(&format!("oread {}: nanoseconds", env!("CARGO_PKG_VERSION")))
        .with_start_time(begun)
        .with_base_time(begun)
        .with_max_value_divisor(NANOS_PER_SECOND)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| failed(&error))?;
    for (name, histogram) in [
        ("connect", &latency.connect),
        ("first_echo", &latency.first_echo),
        ("response", &latency.response),
        ("service", &latency.service),
        ("pacing_error", &outcome.tally.pacing.error),
    ] {
        writer
            .write_histogram(histogram, Duration::ZERO, outcome.measured, Tag::new(name))
            .map_err(|error| failed(&error))?;
    }
    drop(writer);
    Ok(bytes)
}
