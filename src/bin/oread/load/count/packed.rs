//! Histograms of which there are many, such as one a second.

use hdrhistogram::Histogram;

use super::histogram;

/// Bits of a number that go into a byte; the eighth says that more follow.
const BITS: u32 = 7;
const MORE: u8 = 1 << BITS;

/// Histograms of nanoseconds with what they hold and no more: each value as its distance from the
/// one before, and how often it came, in as few bytes as that takes. It's a kilobyte or two where
/// an open one has a quarter of a megabyte, and packing one costs a generator no time to speak of,
/// which serializing it does. Those of several threads stand side by side until they are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed(Vec<Box<[u8]>>);

impl Packed {
    /// Packs values, rising, each with how often it came; of none nothing is kept.
    pub(crate) fn of(values: &[(u64, u64)]) -> Packed {
        let mut bytes = Vec::with_capacity(3 * values.len());
        let mut before = 0;
        for &(value, count) in values {
            push(&mut bytes, value - before);
            push(&mut bytes, count);
            before = value;
        }
        Packed(
            (!bytes.is_empty())
                .then(|| bytes.into())
                .into_iter()
                .collect(),
        )
    }

    /// Adds others.
    pub(crate) fn add(&mut self, mut other: Packed) {
        self.0.append(&mut other.0);
    }

    /// The histogram of all.
    pub(crate) fn open(&self) -> Histogram<u64> {
        let mut all = histogram();
        for part in &self.0 {
            let (mut bytes, mut value) = (part.iter(), 0);
            while let (Some(distance), Some(count)) = (pull(&mut bytes), pull(&mut bytes)) {
                value += distance;
                all.saturating_record_n(value, count);
            }
        }
        all
    }
}

/// Puts a number behind others, its lowest bits first.
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= MORE.into() {
        // The lowest seven bits.
        bytes.push(number as u8 | MORE);
        number >>= BITS;
    }
    bytes.push(number as u8);
}

/// The next number.
fn pull<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = *bytes.next()?;
        number |= u64::from(byte & !MORE) << shift;
        if byte < MORE {
            return Some(number);
        }
        shift += BITS;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_what_comes_out_and_several_are_their_sum(
            all in proptest::collection::vec(
                proptest::collection::vec((1..3_600_000_000_000_u64, 1..1_000_000_u64), 0..50),
                0..4
            )
        ) {
            let mut packed = Packed::default();
            let mut sum = histogram();
            for values in all {
                let values: BTreeMap<u64, u64> = values.into_iter().collect();
                for (&value, &count) in &values {
                    sum.record_n(value, count).unwrap();
                }
                let values: Vec<(u64, u64)> = values.into_iter().collect();
                packed.add(Packed::of(&values));
            }
            prop_assert_eq!(packed.open(), sum);
        }
    }
}
