//! A histogram that is cheap to count into, for what is recorded with every message.

use hdrhistogram::Histogram;

use crate::load::count::{coarse, histogram};

/// What three significant digits take: 2,048 steps of the smallest size, then 1,024 of twice that,
/// and so on, as HdrHistogram lays them out.
const HALF_BITS: u32 = 10;
const STEPS: u64 = 2 << HALF_BITS;
/// The highest value that counts as itself: 2^42 ns are 73 minutes, and histograms here go to an
/// hour.
const HIGHEST: u64 = (1 << 42) - 1;
/// A multiple of eight: magnitudes begin at one.
const PLACES: usize = place(HIGHEST) + 1;

/// Counts values at the precision of an HdrHistogram with three significant digits. That one counts
/// the most, the least and the sum as well, checks its bounds and can't be inlined: it takes four
/// times the instructions.
#[derive(Debug)]
pub(crate) struct FastHistogram {
    counts: Box<[u64]>,
}

impl FastHistogram {
    pub(crate) fn new() -> FastHistogram {
        FastHistogram {
            counts: vec![0; PLACES].into(),
        }
    }

    /// Counts a value; 0 counts as 1.
    #[inline(always)]
    pub(crate) fn record(&mut self, value: u64) {
        let place = place(value.min(HIGHEST));
        // There is a place for each value up to the highest.
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
    }

    /// Moves what was counted over to `whole`; gives it as a histogram with two significant digits.
    pub(crate) fn move_to(&mut self, whole: &mut FastHistogram) -> Histogram<u64> {
        let mut told = coarse();
        // Eight steps of the finer one are a step of the coarser one, from 256 ns on: they are
        // recorded as one.
        let (from, _) = self.counts.as_chunks_mut::<8>();
        let (to, _) = whole.counts.as_chunks_mut::<8>();
        for (step, (from, to)) in from.iter_mut().zip(to).enumerate() {
            let count: u64 = from.iter().sum();
            if count == 0 {
                continue;
            }
            told.saturating_record_n(value(8 * step).max(1), count);
            for (from, to) in from.iter_mut().zip(to) {
                *to += std::mem::take(from);
            }
        }
        told
    }

    /// All that was counted, as other histograms are.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        let mut all = histogram();
        for (place, &count) in self.counts.iter().enumerate() {
            if count > 0 {
                all.saturating_record_n(value(place).max(1), count);
            }
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_counts_what_an_hdr_histogram_counts(
            values in proptest::collection::vec((0..42_u32, any::<u64>()), 1..200)
        ) {
            let mut fast = FastHistogram::new();
            let mut whole = histogram();
            for (bits, value) in values {
                let value = (value & ((2 << bits) - 1)).clamp(1, 3_600_000_000_000);
                fast.record(value);
                whole.record(value).unwrap();
            }
            prop_assert_eq!(&fast.histogram(), &whole);
            let mut moved = FastHistogram::new();
            let told = fast.move_to(&mut moved);
            prop_assert_eq!(&moved.histogram(), &whole);
            prop_assert_eq!(fast.histogram().len(), 0);
            prop_assert_eq!(told.len(), whole.len());
            for percent in [0.0, 0.5, 1.0] {
                let exact = whole.value_at_quantile(percent) as f64;
                let rough = told.value_at_quantile(percent) as f64;
                prop_assert!((rough - exact).abs() <= exact / 100.0 + 8.0, "{rough} for {exact}");
            }
        }
    }

    #[test]
    fn every_place_has_its_values() {
        assert_eq!(PLACES % 8, 0);
        for place_of in 0..PLACES {
            assert_eq!(place(value(place_of)), place_of);
        }
        let mut fast = FastHistogram::new();
        fast.record(0);
        fast.record(u64::MAX);
        let taken = fast.histogram();
        assert_eq!((taken.len(), taken.min()), (2, 1));
    }
}
