//! What a datagram consists of. It says which flow it's of, its number and its time, so that what
//! is lost, late, doubled or swapped on its way can be told.
//!
//! | bytes | |
//! |---|---|
//! | 0-3 | the flow's number |
//! | 4-7 | the datagram's number in it |
//! | 8-15 | when it was due, in nanoseconds of the run; 0: it confirms the flow |
//! | 16-23 | a check over these, of this run |
//! | 24- | a piece of the run's pseudo-random bytes, its place following from the check |
//!
//! All numbers are big-endian.

use crate::load::generator::payload::Payload;
use crate::load::mix::mix;
use crate::load::options::values::VerifyMode;

/// Bytes before the pseudo-random ones.
const HEADER: usize = 24;

/// What a datagram says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) flow: u32,
    pub(crate) number: u32,
    pub(crate) due: u64,
}

impl Label {
    /// Writes the datagram.
    pub(crate) fn write(&self, payload: &Payload, into: &mut Vec<u8>) {
        let (check, size) = (self.check(payload), payload.size(self.flow, self.number));
        into.clear();
        into.extend_from_slice(&self.flow.to_be_bytes());
        into.extend_from_slice(&self.number.to_be_bytes());
        into.extend_from_slice(&self.due.to_be_bytes());
        into.extend_from_slice(&check.to_be_bytes());
        into.extend_from_slice(payload.piece(check, size.saturating_sub(HEADER)));
    }

    /// What a datagram says of itself, true or not.
    pub(crate) fn claimed(bytes: &[u8]) -> Option<Label> {
        let (numbers, bytes) = bytes.split_first_chunk()?;
        let (due, _) = bytes.split_first_chunk()?;
        let numbers = u64::from_be_bytes(*numbers);
        Some(Label {
            flow: (numbers >> 32) as u32,
            number: numbers as u32,
            due: u64::from_be_bytes(*due),
        })
    }

    /// Reads a datagram; `None` for one that nobody sent, as far as the payload is to be looked at.
    pub(crate) fn read(payload: &Payload, bytes: &[u8]) -> Option<Label> {
        let label = Label::claimed(bytes)?;
        let (header, body) = bytes.split_first_chunk::<HEADER>()?;
        let check = label.check(payload);
        let whole = bytes.len() == payload.size(label.flow, label.number);
        // Whatever is to be looked at: a header that is wrong would be counted as another
        // datagram's.
        let right = header.ends_with(&check.to_be_bytes())
            && match payload.verify {
                VerifyMode::Off => true,
                VerifyMode::Sequence => whole,
                VerifyMode::Full => whole && body == payload.piece(check, body.len()),
            };
        right.then_some(label)
    }

    /// One number of all that stands before it, and of the run.
    fn check(&self, payload: &Payload) -> u64 {
        let numbers = mix(u64::from(self.flow) << 32 | u64::from(self.number));
        mix(numbers ^ self.due ^ payload.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::clock::SECOND;
    use crate::load::options::load::Content;
    use crate::load::options::values::SizeRange;

    fn payload(verify: VerifyMode) -> Payload {
        let sizes = SizeRange {
            least: 24,
            most: 90,
        };
        Payload::new(&Content::Made(sizes), oread::Framing::Raw, verify, 7)
    }

    #[test]
    fn a_flipped_bit_of_the_header_is_found_whatever_is_looked_at() {
        let label = Label {
            flow: 3,
            number: 5,
            due: SECOND,
        };
        for verify in [VerifyMode::Off, VerifyMode::Sequence, VerifyMode::Full] {
            let payload = payload(verify);
            let mut bytes = Vec::new();
            label.write(&payload, &mut bytes);
            for bit in 0..HEADER * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Label::read(&payload, &bytes), None, "{verify:?}: bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes.push(b'0');
            let longer = Label::read(&payload, &bytes);
            assert_eq!(longer.is_some(), verify == VerifyMode::Off);
        }
    }

    #[test]
    fn a_datagram_says_what_it_is_and_any_flipped_bit_is_found() {
        let payload = payload(VerifyMode::Full);
        let mut bytes = Vec::new();
        for number in 0..50 {
            let label = Label {
                flow: 70_000,
                number,
                due: 5 * SECOND + 1,
            };
            let size = payload.size(label.flow, number);
            label.write(&payload, &mut bytes);
            assert_eq!(bytes.len(), size);
            assert_eq!(Label::read(&payload, &bytes), Some(label));
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Label::read(&payload, &bytes), None, "{number}: bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(Label::read(&payload, &bytes[..size - 1]), None);
            bytes.push(b'0');
            assert_eq!(Label::read(&payload, &bytes), None);
        }
    }
}
