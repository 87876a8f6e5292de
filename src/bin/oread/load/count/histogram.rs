//! Histograms of nanoseconds, and what may be said of them.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::clock::nanos;

/// Nanoseconds, from 1 to an hour, with three significant digits: 0.1 % is less than any clock here
/// is worth.
const LONGEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    with_digits(DIGITS)
}

/// An empty histogram of nanoseconds for a live view: two digits, an eighth of the memory.
pub(crate) fn coarse() -> Histogram<u64> {
    with_digits(DIGITS - 1)
}

fn with_digits(digits: u8) -> Histogram<u64> {
    #[allow(clippy::expect_used)] // Up to five digits are valid, and the bounds are constants.
    Histogram::new_with_bounds(1, LONGEST_NS, digits).expect("the bounds are valid")
}

/// How many of a histogram's values are over an hour: how long they were is then known to some
/// minutes at best.
pub(crate) fn over_an_hour(histogram: &Histogram<u64>) -> u64 {
    if histogram.max() <= LONGEST_NS {
        return 0;
    }
    histogram.count_between(LONGEST_NS + 1, histogram.high())
}

/// Records a duration; zero counts as 1 ns, and what is over 73 minutes as that.
pub(crate) fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(nanos(duration).max(1));
}

/// A percentile stands on at least so many samples beyond it: one alone would be the maximum under
/// another name.
const SAMPLES_BEYOND: f64 = 10.0;

/// The value at `percentile` (0 to 100), where enough samples lie beyond it to carry it; else
/// `None`.
pub(crate) fn percentile(histogram: &Histogram<u64>, percentile: f64) -> Option<u64> {
    carries(histogram.len(), percentile).then(|| histogram.value_at_quantile(percentile / 100.0))
}

/// Whether so many samples carry a percentile.
pub(crate) fn carries(samples: u64, percentile: f64) -> bool {
    let beyond = samples as f64 * (100.0 - percentile) / 100.0;
    // A hair of tolerance: 0.1 % of 10,000 must count as 10.
    beyond + 1e-6 >= SAMPLES_BEYOND
}

/// How many samples carry a percentile, at the least.
pub(crate) fn samples_for(percentile: f64) -> u64 {
    let samples = SAMPLES_BEYOND * 100.0 / (100.0 - percentile);
    // The same hair, as a share: what is left of a subtraction from 100 is less exact the smaller
    // it is.
    (samples * (1.0 - 1e-9)).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_carried_by_exactly_so_many_samples_and_not_by_one_less() {
        for (p, samples) in [
            (0.0, 10),
            (33.0, 15),
            (50.0, 20),
            (90.0, 100),
            (99.0, 1_000),
            (99.9, 10_000),
            (99.99, 100_000),
        ] {
            assert_eq!(samples_for(p), samples, "p{p}");
            assert!(carries(samples, p) && !carries(samples - 1, p), "p{p}");
        }
    }
}
