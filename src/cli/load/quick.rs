//! A histogram that is cheap to count into, for what is recorded with every message.

use hdrhistogram::Histogram;

/// What three significant digits take: 2,048 steps of the smallest size, then 1,024 of twice that, and so on, as
/// HdrHistogram lays them out.
const HALF_BITS: u32 = 10;
const STEPS: u64 = 2 << HALF_BITS;
/// The highest value that counts as itself: 2^42 ns are 73 minutes, and histograms here go to an hour.
const HIGHEST: u64 = (1 << 42) - 1;
const PLACES: usize = place(HIGHEST) + 1;

/// Counts values at the precision of an HdrHistogram with three significant digits. That one counts the most, the least and the
/// sum as well, checks its bounds and can't be inlined: it takes four times the instructions.
#[derive(Debug)]
pub(super) struct Quick {
    counts: Box<[u64]>,
}

impl Quick {
    pub(super) fn new() -> Quick {
        Quick {
            counts: vec![0; PLACES].into(),
        }
    }

    /// Counts a value; 0 counts as 1.
    #[inline(always)]
    pub(super) fn record(&mut self, value: u64) {
        let place = place(value.min(HIGHEST));
        // There is a place for each value up to the highest.
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
    }

    /// Adds what was counted to other histograms; nothing is left.
    pub(super) fn drain_into(&mut self, others: &mut [&mut Histogram<u64>]) {
        // Most places are empty: they are looked at sixteen at a time.
        for (at, places) in self.counts.chunks_mut(16).enumerate() {
            if places.iter().fold(0, |any, count| any | count) == 0 {
                continue;
            }
            for (offset, count) in places
                .iter_mut()
                .enumerate()
                .filter(|(_, count)| **count > 0)
            {
                let value = value(16 * at + offset).max(1);
                for other in others.iter_mut() {
                    other.saturating_record_n(value, *count);
                }
                *count = 0;
            }
        }
    }
}

/// The place of a value.
#[inline(always)]
const fn place(value: u64) -> usize {
    let magnitude = (STEPS - 1).leading_zeros() - (value | (STEPS - 1)).leading_zeros();
    // In all magnitudes but the first, steps begin at half of them: the lower half is the magnitude before.
    ((magnitude as usize) << HALF_BITS) + (value >> magnitude) as usize
}

/// The lowest value of a place.
fn value(place: usize) -> u64 {
    let magnitude = (place >> HALF_BITS).saturating_sub(1);
    ((place - (magnitude << HALF_BITS)) as u64) << magnitude
}

#[cfg(test)]
mod tests {
    use super::super::tally::histogram;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_counts_what_an_hdr_histogram_counts(
            values in proptest::collection::vec((0..42_u32, any::<u64>()), 1..200)
        ) {
            let mut quick = Quick::new();
            let mut whole = histogram();
            for (bits, value) in values {
                let value = (value & ((2 << bits) - 1)).clamp(1, 3_600_000_000_000);
                quick.record(value);
                whole.record(value).unwrap();
            }
            let mut taken = histogram();
            quick.drain_into(&mut [&mut taken]);
            prop_assert_eq!(&taken, &whole);
            prop_assert_eq!((taken.min(), taken.max()), (whole.min_nz(), whole.max()));
            quick.drain_into(&mut [&mut taken]);
            prop_assert_eq!(&taken, &whole);
        }
    }

    #[test]
    fn every_place_has_its_values() {
        for place_of in 0..PLACES {
            assert_eq!(place(value(place_of)), place_of);
        }
        let mut quick = Quick::new();
        quick.record(0);
        quick.record(u64::MAX);
        let mut taken = histogram();
        quick.drain_into(&mut [&mut taken]);
        assert_eq!((taken.len(), taken.min()), (2, 1));
    }
}
