//! What messages consist of, and whether what comes back is what was sent.
//!
//! A message follows from the number of its flow and its own number in it, so nothing of it has to
//! be kept until its answer comes: both are made anew and compared. Its first bytes spell the two
//! numbers, six bits a byte; the rest is a piece of one block of pseudo-random bytes, from a place
//! that follows from the numbers too. All bytes are printable, none is a newline: they pass through
//! any framing.
//!
//! Both, digits and places, depend on the run's key too: an answer that a server kept from another
//! run is none of this one. A message with fewer than 8 bytes has no room for both numbers: its
//! digits are of one number that is made of the two, and 6 bits a byte are all that tells it from
//! another.

use std::sync::Arc;

use oread::Framing;
use oread::framing::Envelope;

use crate::load::options::load::Content;
use crate::load::options::values::{SizeRange, VerifyMode};

/// Bytes that spell the numbers: 72 bits.
const HEADER: usize = 12;
/// Bytes that have room for the lower 24 bits of both numbers.
pub(crate) const BOTH_NUMBERS: usize = 8;
/// Places in the block that a message may begin at. A page: more would only cost cache.
const PLACES: usize = 4096;

/// A frame's prefix and the header: what stands before the body.
const HEAD: usize = 8 + HEADER;

/// What all messages of a run are made of. A clone shares the block.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// Pseudo-random bytes; or what is to be sent, always.
    block: Arc<[u8]>,
    /// The sizes of messages that are made up; `None`: the block is the message.
    made: Option<SizeRange>,
    framing: Framing,
    /// What stands around each message, where all have one size.
    envelope: Option<Envelope>,
    /// Bytes of the body of the commonest kind of message, where all are of that kind: made up, of
    /// one size that has room for the header, with nothing around them.
    plain: Option<usize>,
    verify: VerifyMode,
    key: Key,
}

/// What makes the messages of one run differ from another's.
#[derive(Clone, Copy, Debug)]
struct Key {
    /// What the digits of the numbers' words are mixed with: six bits a byte.
    digits: [u32; 3],
    /// What the place in the block is mixed with.
    place: u64,
}

impl Key {
    fn new(key: u64) -> Key {
        let word = |place: u32| mix(key as u32, (key >> 32) as u32 ^ place);
        Key {
            digits: [1, 2, 3].map(|place| word(place) as u32 & 0x3F3F_3F3F),
            place: word(4),
        }
    }
}

/// A message of the commonest kind: its bytes are those of [`Message`], at a quarter of the
/// instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a> {
    pub(crate) header: [u8; HEADER],
    pub(crate) body: &'a [u8],
}

/// One message, in up to three parts that are sent one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    head: [u8; HEAD],
    head_len: usize,
    body: &'a [u8],
    tail: Option<u8>,
}

impl Payload {
    /// What `content` says, framed, in the run of this key.
    pub(crate) fn new(
        content: &Content,
        framing: Framing,
        verify: VerifyMode,
        key: u64,
    ) -> Payload {
        let (least, most) = content.sizes();
        let (block, made) = match content {
            Content::Made(range) => (noise(most as usize + PLACES), Some(*range)),
            Content::Given(bytes) => (Arc::clone(bytes), None),
        };
        let envelope = (least == most).then(|| envelope(framing, least as usize));
        Payload {
            block,
            made,
            framing,
            plain: match envelope {
                Some(envelope) if envelope == Envelope::default() && made.is_some() => {
                    (least as usize).checked_sub(HEADER)
                }
                _ => None,
            },
            envelope,
            verify,
            key: Key::new(key),
        }
    }

    /// The same, where no message is of the commonest kind, whose way is too short for a log line.
    pub(crate) fn told(self) -> Payload {
        Payload {
            plain: None,
            ..self
        }
    }

    /// How strictly answers are looked at.
    #[inline]
    pub(crate) fn verify(&self) -> VerifyMode {
        self.verify
    }

    /// Message `number` of a flow, where messages are of the commonest kind.
    #[inline(always)]
    pub(crate) fn plain(&self, flow: u32, number: u32) -> Option<Plain<'_>> {
        let body = self.plain?;
        Some(Plain {
            header: self.key.spell(flow, number),
            body: self.piece(self.key.place(flow, number), body),
        })
    }

    /// Message `number` of a flow.
    #[inline(never)]
    pub(crate) fn message(&self, flow: u32, number: u32) -> Message<'_> {
        let Some(range) = self.made else {
            let envelope = self.envelope.unwrap_or_default();
            return Message::new(&envelope, [0; HEADER], 0, &self.block);
        };
        let size = size(range, flow, number);
        let spelled = size.min(HEADER);
        let body = self.piece(self.key.place(flow, number), size - spelled);
        let envelope = match self.envelope {
            Some(envelope) => envelope,
            None => envelope(self.framing, size),
        };
        let header = match size < BOTH_NUMBERS {
            true => self.key.spell_short(flow, number),
            false => self.key.spell(flow, number),
        };
        Message::new(&envelope, header, spelled, body)
    }

    /// What a datagram's check is mixed with.
    pub(crate) fn key(&self) -> u64 {
        self.key.place
    }

    /// How many bytes datagram `number` of a flow has.
    pub(crate) fn datagram_size(&self, flow: u32, number: u32) -> usize {
        self.made
            .map_or(self.block.len(), |range| size(range, flow, number))
    }

    /// `len` bytes of the block, from `place` on, or as many places on as there are more than
    /// [`PLACES`].
    #[inline(always)]
    pub(crate) fn piece(&self, place: u64, len: usize) -> &[u8] {
        // The block is made for the longest message at the last place.
        &self.block[place as usize % PLACES..][..len]
    }
}

impl<'a> Message<'a> {
    /// A message whose header has room for its first `spelled` bytes.
    fn new(
        envelope: &Envelope,
        header: [u8; HEADER],
        spelled: usize,
        body: &'a [u8],
    ) -> Message<'a> {
        let before = envelope.before().len();
        let mut head = [0; HEAD];
        head[..before].copy_from_slice(envelope.before());
        head[before..before + HEADER].copy_from_slice(&header);
        Message {
            head,
            head_len: before + spelled,
            body,
            tail: envelope.behind().first().copied(),
        }
    }

    /// The parts in order; any may be empty.
    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        // Never more than there is.
        let head = self.head.get(..self.head_len).unwrap_or_default();
        [head, self.body, self.tail.as_slice()]
    }

    /// Bytes in all, its frame's among them.
    pub(crate) fn len(&self) -> usize {
        self.head_len + self.body.len() + usize::from(self.tail.is_some())
    }

    /// Whether `bytes` are what the message has from byte `at` on, as far as `verify` looks; they
    /// are not more than it has there.
    pub(crate) fn matches(&self, verify: VerifyMode, at: usize, bytes: &[u8]) -> bool {
        if verify == VerifyMode::Off {
            return true;
        }
        let mut rest = bytes;
        let mut skip = at;
        for (index, part) in self.parts().into_iter().enumerate() {
            let Some(part) = part.get(skip..).filter(|part| !part.is_empty()) else {
                skip -= part.len();
                continue;
            };
            skip = 0;
            let (mine, behind) = rest.split_at(rest.len().min(part.len()));
            let looks = verify == VerifyMode::Full || index != 1;
            if looks && mine != &part[..mine.len()] {
                return false;
            }
            rest = behind;
        }
        rest.is_empty()
    }
}

impl Plain<'_> {
    /// Whether `bytes` are the whole message.
    #[inline(always)]
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        match bytes.split_first_chunk::<HEADER>() {
            Some((header, rest)) => *header == self.header && rest == self.body,
            None => false,
        }
    }

    /// Bytes in all.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        HEADER + self.body.len()
    }
}

fn envelope(framing: Framing, size: usize) -> Envelope {
    // The plan refuses sizes that the framing has no frame for.
    framing.envelope(size).unwrap_or_default()
}

/// The size of a message.
fn size(range: SizeRange, flow: u32, number: u32) -> usize {
    if range.least == range.most {
        return range.least as usize;
    }
    let spread = u64::from(range.most - range.least) + 1;
    (u64::from(range.least) + (((mix(flow, number) >> 32) * spread) >> 32)) as usize
}

/// Two numbers as one that shows no pattern (the last steps of SplitMix64; Steele, Lea and Flood
/// 2014).
pub(crate) fn mix(flow: u32, number: u32) -> u64 {
    let mut mixed = (u64::from(flow) << 32 | u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Key {
    /// Where in the block the body of a message begins: the upper bits of a product with 2^64 over
    /// the golden ratio, which spreads neighbours widely (Knuth, The Art of Computer Programming 3,
    /// 6.4).
    #[inline(always)]
    fn place(&self, flow: u32, number: u32) -> u64 {
        let both = u64::from(flow) << 32 | u64::from(number);
        (both ^ self.place).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52
    }

    /// The numbers in printable bytes: the lowest 24 bits of `number` first, then those of `flow`.
    #[inline(always)]
    fn spell(&self, flow: u32, number: u32) -> [u8; HEADER] {
        let high = match (flow | number) >> 24 {
            // Most numbers are small.
            0 => 0,
            _ => upper(flow, number),
        };
        let [of_number, of_flow, of_high] = self.digits;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&printable(sixes(number) ^ of_number));
        header[4..8].copy_from_slice(&printable(sixes(flow) ^ of_flow));
        header[8..].copy_from_slice(&printable(high ^ of_high));
        header
    }

    /// The same where there is no room for both: the first digits are of one number made of them.
    #[cold]
    fn spell_short(&self, flow: u32, number: u32) -> [u8; HEADER] {
        self.spell(flow, number ^ (mix(flow, 0) as u32 & 0xFF_FFFF))
    }
}

/// Four digits as bytes.
#[inline(always)]
fn printable(digits: u32) -> [u8; 4] {
    (digits + ZEROS).to_le_bytes()
}

/// The upper eight bits of both numbers.
#[cold]
fn upper(flow: u32, number: u32) -> u32 {
    sixes(number >> 24 | flow >> 24 << 12)
}

/// Four times `0`.
const ZEROS: u32 = 0x3030_3030;

/// Spreads the lower 24 bits over four bytes, six to each. With [`ZEROS`] they are printable: `0`
/// to `o`.
#[inline(always)]
fn sixes(bits: u32) -> u32 {
    let halves = (bits & 0xFFF) | (bits & 0xFF_F000) << 4;
    (halves & 0x003F_003F) | (halves & 0x0FC0_0FC0) << 2
}

/// Printable pseudo-random bytes, the same ones in every run.
fn noise(len: usize) -> Arc<[u8]> {
    let words = (0..len.div_ceil(4)).flat_map(|place| {
        let bits = mix(!0, place as u32) >> 32;
        printable(sixes(bits as u32))
    });
    words.take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(least: u32, most: u32, framing: &str) -> Payload {
        let content = Content::Made(SizeRange { least, most });
        Payload::new(&content, framing.parse().unwrap(), VerifyMode::Full, 7)
    }

    #[test]
    fn a_message_is_what_the_framing_makes_of_its_payload() {
        for framing in ["raw", "lines", "length:u16", "length:u64le", "length:u32"] {
            for size in [1, 3, 12, 13, 64, 5000] {
                let payload = payload(size, size, framing);
                let message = payload.message(7, 9);
                let parts = message.parts();
                let mut framed = Vec::new();
                let framing: Framing = framing.parse().unwrap();
                let before = framing.envelope(size as usize).unwrap().before().len();
                let content = [&parts[0][before..], parts[1]].concat();
                framing.encode(&content, &mut framed).unwrap();
                assert_eq!(parts.concat(), framed);
                assert_eq!(message.len(), framed.len());
            }
        }
    }

    #[test]
    fn a_message_of_the_commonest_kind_is_the_same_message() {
        for size in [12, 13, 64, 5000] {
            let payload = payload(size, size, "raw");
            for (flow, number) in [(0, 0), (7, 9), (1 << 24, 1), (3, u32::MAX)] {
                let plain = payload.plain(flow, number).unwrap();
                let mut bytes = [&plain.header[..], plain.body].concat();
                let message = payload.message(flow, number);
                assert_eq!(message.parts().concat(), bytes);
                assert_eq!(message.len(), plain.len());
                assert!(plain.is(&bytes) && !plain.is(&bytes[1..]));
                assert!(!plain.is(&bytes[..bytes.len() - 1]));
                for at in 0..bytes.len() {
                    bytes[at] ^= 1;
                    assert!(!plain.is(&bytes), "byte {at}");
                    bytes[at] ^= 1;
                }
            }
        }
        for (least, most, framing) in [(11, 11, "raw"), (64, 65, "raw"), (64, 64, "lines")] {
            assert!(payload(least, most, framing).plain(0, 0).is_none());
        }
    }

    #[test]
    fn an_answer_is_right_however_it_is_torn_and_wrong_by_any_one_byte() {
        let payload = payload(40, 40, "length:u16");
        let message = payload.message(3, 4);
        let whole = message.parts().concat();
        for from in 0..whole.len() {
            for to in from..=whole.len() {
                assert!(message.matches(VerifyMode::Full, from, &whole[from..to]));
            }
            let mut flipped = whole.clone();
            flipped[from] ^= 1;
            assert!(!message.matches(VerifyMode::Full, 0, &flipped), "{from}");
            assert!(!message.matches(VerifyMode::Full, from, &flipped[from..]));
            assert_eq!(
                message.matches(VerifyMode::Sequence, 0, &flipped),
                from >= 2 + HEADER
            );
            assert!(message.matches(VerifyMode::Off, 0, &flipped));
        }
    }

    #[test]
    fn messages_differ_where_there_is_room_and_sizes_fill_their_range() {
        let payload = payload(24, 26, "lines");
        let mut seen = std::collections::BTreeSet::new();
        let mut sizes = [0; 3];
        for flow in [0, 1, 70_000, u32::MAX] {
            for number in (0..500).chain([1 << 24, u32::MAX]) {
                let message = payload.message(flow, number);
                sizes[message.len() - 25] += 1;
                let bytes = message.parts().concat();
                assert!(bytes[..bytes.len() - 1].is_ascii());
                assert!(!bytes[..bytes.len() - 1].contains(&b'\n'));
                assert!(seen.insert(bytes), "{flow} {number}");
            }
        }
        assert!(sizes.iter().all(|&count| count > 500), "{sizes:?}");
    }

    #[test]
    fn what_is_given_is_sent_as_it_is() {
        let content = Content::Given(b"hello".to_vec().into());
        let payload = Payload::new(&content, Framing::Lines, VerifyMode::Full, 7);
        assert_eq!(payload.message(1, 2).parts().concat(), b"hello\n");
    }

    #[test]
    fn another_run_sends_other_messages() {
        let content = Content::Made(SizeRange {
            least: 64,
            most: 64,
        });
        let run = |key| Payload::new(&content, Framing::Raw, VerifyMode::Full, key);
        let (one, other) = (run(1), run(2));
        for number in 0..100 {
            let message = one.message(3, number).parts().concat();
            assert!(
                !other
                    .message(3, number)
                    .matches(VerifyMode::Full, 0, &message)
            );
            assert!(
                !other
                    .message(3, number)
                    .matches(VerifyMode::Sequence, 0, &message)
            );
        }
    }

    #[test]
    fn a_short_message_differs_from_that_of_another_flow() {
        for size in 1..12 {
            let payload = payload(size, size, "raw");
            let mut alike = 0;
            for flow in 1..200 {
                for number in 0..10 {
                    let message = payload.message(flow, number).parts().concat();
                    let other = payload.message(0, number).parts().concat();
                    alike += u32::from(message == other);
                }
            }
            // One in 64 for a single byte, one in 4,096 for two.
            let most = [60, 5, 1].get(size as usize - 1).copied().unwrap_or(0);
            assert!(alike <= most, "{alike} of 1990 with {size} bytes");
        }
    }
}
