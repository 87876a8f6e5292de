//! The histograms as an HdrHistogram log, version 1.3, each line a histogram of nanoseconds in the
//! compressed V2 encoding: what HdrHistogram's own log processor, its plotter and other tools read.
//! The responses are there twice: a line a second, without a tag, and all of them in one, with one.

use std::error::Error;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::load::report::outcome::Outcome;
use crate::system::environment::VERSION;

/// The first line, which some readers look for.
const FORMAT: &str = "[Histogram log format version 1.3]";
/// The columns' names, as HdrHistogram's own logs have them.
const LEGEND: &[u8] =
    b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";
/// The times in the log are seconds, and its largest values are told in them too: nanoseconds for
/// each.
const NANOS_PER_SECOND: f64 = 1e9;

/// The whole log.
///
/// # Errors
/// A histogram can't be encoded, which none of ours should come to.
pub(super) fn log(outcome: &Outcome) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let from = outcome.measured_from.unwrap_or(SystemTime::UNIX_EPOCH);
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(FORMAT)
        .add_comment(&format!("[oread {VERSION}: nanoseconds]"))
        .with_start_time(from)
        .with_base_time(from)
        .with_max_value_divisor(NANOS_PER_SECOND)
        .begin_log_with(&mut bytes, &mut serializer)?;
    // Without a tag, as tools that know of none plot it: the answers of each second, over time.
    for (place, second) in outcome.tally.seconds.iter().enumerate() {
        let start = Duration::from_secs(place as u64);
        let response = second.response.open();
        if !response.is_empty() {
            writer.write_histogram(&response, start, Duration::from_secs(1), None)?;
        }
    }
    let (latency, schedule) = (&outcome.tally.latency, &outcome.tally.schedule);
    for (name, histogram) in latency.named().chain(schedule.named()) {
        // Most loads have no handshakes.
        if name == "handshake" && histogram.is_empty() {
            continue;
        }
        let tag = Tag::new(name);
        writer.write_histogram(histogram, Duration::ZERO, outcome.measured, tag)?;
    }
    // Behind the comments. The writer knows no such line.
    let behind = |two: &[u8]| two[0] == b'\n' && two[1] != b'#';
    let line = bytes.windows(2).position(behind);
    let at = line.map_or(bytes.len(), |newline| newline + 1);
    bytes.splice(at..at, LEGEND.iter().copied());
    Ok(bytes)
}
