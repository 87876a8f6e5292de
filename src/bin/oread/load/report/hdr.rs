//! The histograms as an HdrHistogram log, version 1.3, each line a histogram of nanoseconds in the
//! compressed V2 encoding: what HdrHistogram's own log processor, its plotter and other tools read.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::failure::Failure;
use crate::load::report::outcome::Outcome;

/// The first line, which some readers look for.
const VERSION: &str = "[Histogram log format version 1.3]";
/// The columns' names, as HdrHistogram's own logs have them.
const LEGEND: &[u8] =
    b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";
/// The times in the log are seconds, and its largest values are told in them too: nanoseconds for
/// each.
const NANOS_PER_SECOND: f64 = 1e9;

/// The whole log.
///
/// # Errors
/// Exit code 1: a histogram can't be encoded, which none of ours should come to.
pub(super) fn log(outcome: &Outcome) -> Result<Vec<u8>, Failure> {
    encode(outcome)
        .map_err(|what| Failure::runtime(format!("can't write the histogram log: {what}")))
}

fn encode(outcome: &Outcome) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let from = outcome.measured_from.unwrap_or(SystemTime::UNIX_EPOCH);
    let mut header = IntervalLogWriterBuilder::new();
    header
        .add_comment(VERSION)
        .add_comment(&format!(
            "[oread {}: nanoseconds]",
            env!("CARGO_PKG_VERSION")
        ))
        .with_start_time(from)
        .with_base_time(from)
        .with_max_value_divisor(NANOS_PER_SECOND);
    let begun = header.begin_log_with(&mut bytes, &mut serializer);
    let mut writer = begun.map_err(|error| error.to_string())?;
    let latency = &outcome.tally.latency;
    for (name, histogram) in [
        ("connect", &latency.connect),
        ("first_echo", &latency.first_echo),
        ("response", &latency.response),
        ("service", &latency.service),
        ("pacing_error", &outcome.tally.pacing.error),
    ] {
        writer
            .write_histogram(histogram, Duration::ZERO, outcome.measured, Tag::new(name))
            .map_err(|error| error.to_string())?;
    }
    drop(writer);
    // Behind the comments. The writer knows no such line.
    let tagged = bytes.windows(5).position(|window| window == b"\nTag=");
    let at = tagged.map_or(bytes.len(), |newline| newline + 1);
    bytes.splice(at..at, LEGEND.iter().copied());
    Ok(bytes)
}
