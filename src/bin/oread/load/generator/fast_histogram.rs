//! A histogram that is cheap to count into, for what is recorded with every message.

use hdrhistogram::Histogram;

/// What three significant digits take: 2,048 steps of the smallest size, then 1,024 of twice that,
/// and so on, as HdrHistogram lays them out.
const HALF_BITS: u32 = 10;
const STEPS: u64 = 2 << HALF_BITS;
/// The highest value that counts as itself: 2^42 ns are 73 minutes, and histograms here go to an
/// hour.
const HIGHEST: u64 = (1 << 42) - 1;
const PLACES: usize = place(HIGHEST) + 1;
/// Places that are compared at once.
const PIECE: usize = 128;

/// Counts values at the precision of an HdrHistogram with three significant digits. That one counts
/// the most, the least and the sum as well, checks its bounds and can't be inlined: it takes four
/// times the instructions.
#[derive(Debug)]
pub(crate) struct FastHistogram {
    counts: Box<[u64]>,
}

impl Default for FastHistogram {
    fn default() -> FastHistogram {
        FastHistogram {
            counts: vec![0; PLACES].into(),
        }
    }
}

impl FastHistogram {
    /// Counts a value; 0 counts as 1, and what is higher than the highest as that.
    #[inline(always)]
    pub(crate) fn record(&mut self, value: u64) {
        match self.counts.get_mut(place(value)) {
            Some(count) => *count += 1,
            None => self.counts[PLACES - 1] += 1,
        }
    }

    /// What was counted since `before`, which then has that as well: values, rising, and how often
    /// each came.
    pub(crate) fn since(&self, before: &mut FastHistogram) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        let now = self.counts.chunks(PIECE);
        let then = before.counts.chunks_mut(PIECE);
        // Most pieces have never been used, or not since.
        for (piece, (now, then)) in now.zip(then).enumerate().filter(|(_, (a, b))| a != b) {
            for (at, (&count, counted)) in now.iter().zip(then).enumerate() {
                if count > *counted {
                    all.push((value(piece * PIECE + at).max(1), count - *counted));
                    *counted = count;
                }
            }
        }
        all
    }

    /// All that was counted, in an empty histogram.
    pub(crate) fn counted(&self, mut all: Histogram<u64>) -> Histogram<u64> {
        // Most places have never been used.
        for (place, &count) in self.counts.iter().enumerate().filter(|it| *it.1 > 0) {
            all.saturating_record_n(value(place).max(1), count);
        }
        all
    }
}

/// The place of a value.
#[inline(always)]
const fn place(value: u64) -> usize {
    let magnitude = (STEPS - 1).leading_zeros() - (value | (STEPS - 1)).leading_zeros();
    // In all magnitudes but the first, steps begin at half of them: the lower half is the magnitude
    // before.
    ((magnitude as usize) << HALF_BITS) + (value >> magnitude) as usize
}

/// The lowest value of a place.
fn value(place: usize) -> u64 {
    let magnitude = (place >> HALF_BITS).saturating_sub(1);
    ((place - (magnitude << HALF_BITS)) as u64) << magnitude
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::count::{coarse, histogram};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_counts_what_an_hdr_histogram_counts(
            values in proptest::collection::vec((0..42_u32, any::<u64>()), 1..200)
        ) {
            let mut fast = FastHistogram::default();
            let mut whole = histogram();
            for (bits, value) in values {
                let value = (value & ((2 << bits) - 1)).clamp(1, 3_600_000_000_000);
                fast.record(value);
                whole.record(value).unwrap();
            }
            prop_assert_eq!(&fast.counted(histogram()), &whole);
            let told = fast.counted(coarse());
            prop_assert_eq!(told.len(), whole.len());
            for percent in [0.0, 0.5, 1.0] {
                let exact = whole.value_at_quantile(percent) as f64;
                let rough = told.value_at_quantile(percent) as f64;
                prop_assert!((rough - exact).abs() <= exact / 100.0 + 8.0, "{rough} for {exact}");
            }
            let mut before = FastHistogram::default();
            let mut since = histogram();
            for (value, count) in fast.since(&mut before) {
                since.record_n(value, count).unwrap();
            }
            prop_assert_eq!(&since, &whole);
            fast.record(1_000_000);
            prop_assert_eq!(fast.since(&mut before), [(999_936, 1)]);
            prop_assert_eq!(fast.since(&mut before), []);
        }
    }

    #[test]
    fn every_place_has_its_values() {
        for place_of in 0..PLACES {
            assert_eq!(place(value(place_of)), place_of);
        }
        let mut fast = FastHistogram::default();
        fast.record(0);
        fast.record(u64::MAX);
        let taken = fast.counted(histogram());
        assert_eq!((taken.len(), taken.min()), (2, 1));
    }
}
