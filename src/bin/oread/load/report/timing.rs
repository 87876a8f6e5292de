//! Histograms as JSON has them: their figures, and themselves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde_json::{Value, json};

use crate::load::count::{over_an_hour, percentile};

/// A histogram's figures; those that too few samples carry are null.
pub(super) fn timing(histogram: &Histogram<u64>) -> Value {
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
        "mean_ns": some.then(|| histogram.mean().round() as u64),
        "over_an_hour": over_an_hour(histogram),
    })
}

/// A histogram as a line of an HdrHistogram log has it: the compressed V2 encoding, in base64.
/// `None` for an empty one.
pub(super) fn encoded(histogram: &Histogram<u64>) -> Option<String> {
    let mut bytes = Vec::new();
    let encoded = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
    // None of ours fails to be.
    (encoded.is_ok() && !histogram.is_empty()).then(|| STANDARD.encode(bytes))
}
