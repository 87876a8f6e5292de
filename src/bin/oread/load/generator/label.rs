//! What a datagram consists of. It says which flow it's of, its number and its time, so that what
//! is lost, late, doubled or swapped on its way can be told.
//!
//! | bytes | |
//! |---|---|
//! | 0-3 | the flow's number |
//! | 4-7 | the datagram's number in it |
//! | 8-15 | when it was due, in nanoseconds of the run |
//! | 16-19 | how late it was sent, in units of 64 ns; at most 274 s |
//! | 20-23 | a check over these |
//! | 24- | a piece of the run's pseudo-random bytes, its place following from the rest |
//!
//! All numbers are big-endian.

use crate::load::generator::flow::Sent;
use crate::load::generator::payload::{Payload, mix};
use crate::load::options::values::VerifyMode;

/// Bytes before the pseudo-random ones.
const HEADER: usize = 24;
/// What lateness is counted in, in nanoseconds.
const LATENESS_UNIT: u64 = 64;

/// What a datagram says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) flow: u32,
    pub(crate) number: u32,
    pub(crate) sent: Sent,
}

impl Label {
    /// Writes the datagram of `size` bytes.
    pub(crate) fn write(&self, payload: &Payload, size: usize, into: &mut Vec<u8>) {
        let lateness = self.lateness();
        let digest = digest(payload, self.flow, self.number, self.sent.due, lateness);
        into.clear();
        into.extend_from_slice(&self.flow.to_be_bytes());
        into.extend_from_slice(&self.number.to_be_bytes());
        into.extend_from_slice(&self.sent.due.to_be_bytes());
        into.extend_from_slice(&lateness.to_be_bytes());
        into.extend_from_slice(&((digest >> 32) as u32).to_be_bytes());
        into.extend_from_slice(payload.piece(digest, size.saturating_sub(HEADER)));
    }

    /// What a datagram says of itself, true or not.
    pub(crate) fn claimed(bytes: &[u8]) -> Option<Label> {
        let (header, _) = bytes.split_first_chunk::<HEADER>()?;
        let due = u64::from(word(header, 8)) << 32 | u64::from(word(header, 12));
        let at = due.saturating_add(u64::from(word(header, 16)) * LATENESS_UNIT);
        Some(Label {
            flow: word(header, 0),
            number: word(header, 4),
            sent: Sent { due, at },
        })
    }

    /// Reads a datagram; `None` for one that nobody sent, as far as the payload is to be looked at.
    pub(crate) fn read(payload: &Payload, bytes: &[u8]) -> Option<Label> {
        let (header, body) = bytes.split_first_chunk::<HEADER>()?;
        let label = Label::claimed(bytes)?;
        let (lateness, check) = (word(header, 16), word(header, 20));
        let digest = digest(payload, label.flow, label.number, label.sent.due, lateness);
        // Whatever is to be looked at: a header that is wrong would be counted as another
        // datagram's.
        if check != (digest >> 32) as u32 {
            return None;
        }
        let whole = bytes.len() == payload.datagram_size(label.flow, label.number);
        let right = match payload.verify() {
            VerifyMode::Off => true,
            VerifyMode::Sequence => whole,
            VerifyMode::Full => whole && body == payload.piece(digest, body.len()),
        };
        right.then_some(label)
    }

    /// How late it was sent, as far as there is room to say it.
    fn lateness(&self) -> u32 {
        // What is due before everything is not late.
        if self.sent.due == 0 {
            return 0;
        }
        let late = self.sent.at.saturating_sub(self.sent.due) / LATENESS_UNIT;
        u32::try_from(late).unwrap_or(u32::MAX)
    }
}

/// Four bytes of a header as a number.
fn word(header: &[u8; HEADER], at: usize) -> u32 {
    let four = header[at..at + 4].iter();
    four.fold(0, |number, &byte| number << 8 | u32::from(byte))
}

/// One number of all that stands in a header but the check, and of the run.
fn digest(payload: &Payload, flow: u32, number: u32, due: u64, lateness: u32) -> u64 {
    let time = mix((due >> 32) as u32, due as u32) ^ u64::from(lateness);
    mix(flow, number) ^ mix((time >> 32) as u32, time as u32) ^ payload.key()
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
            sent: Sent {
                due: SECOND,
                at: SECOND,
            },
        };
        for verify in [VerifyMode::Off, VerifyMode::Sequence, VerifyMode::Full] {
            let payload = payload(verify);
            let mut bytes = Vec::new();
            label.write(&payload, payload.datagram_size(3, 5), &mut bytes);
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
                sent: Sent {
                    due: 5 * SECOND + 1,
                    at: 5 * SECOND + 1 + 64 * 17,
                },
            };
            let size = payload.datagram_size(label.flow, number);
            label.write(&payload, size, &mut bytes);
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
