//! What messages consist of, and whether what comes back is what was sent.
//!
//! A message follows from the number of its flow and its own number in it, so nothing of it is kept
//! until its answer comes: both are made anew and compared. The two numbers and the run's key are
//! mixed into one word. A message begins with a header, six bits a byte of that word; the rest is a
//! piece of one block of pseudo-random bytes, from a place that follows from the word too. All
//! bytes are printable, none is a newline: they pass through any framing.
//!
//! An answer that a server kept from another run is none of this one. A message with fewer than 8
//! bytes has room for a part of its header only: 6 bits a byte are all that tells it from another.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::memchr;
use oread::Framing;
use oread::framing::Envelope;

use super::flow::{Flags, Flow};
use crate::load::exchange::answer::Answer;
use crate::load::exchange::script::{Question, Script, Step};
use crate::load::exchange::template::Which;
use crate::load::mix::{GOLDEN, SPREAD, mix};
use crate::load::options::load::{Content, Load};
use crate::load::options::values::VerifyMode;

/// Bytes of a message's header.
const WORD: usize = 8;
/// Places in the block that a message may begin at. A page: more would only cost cache.
const PLACES: usize = 4096;

/// What all messages of a run are made of. A clone shares the block.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// Pseudo-random bytes; or what is to be sent, always.
    block: Arc<[u8]>,
    /// Whether messages are made up; else the block is the message.
    is_made: bool,
    /// The least bytes of a message without its frame, and the most.
    sizes: (u32, u32),
    framing: Framing,
    /// Bytes of the body of a [`Plain`] message, where all are such and none is logged.
    plain: Option<usize>,
    /// What is asked and answered, where that is no mere echo; how many bytes an answer has at
    /// most.
    script: Option<Arc<Script>>,
    /// By their places in the script: questions that are always the same, with their frames, where
    /// none is logged.
    framed: Vec<Option<Arc<[u8]>>>,
    /// What each measured answer ends with, where these bytes are all that is looked for, and
    /// nothing else follows from an answer than the next question.
    end: Option<Arc<[u8]>>,
    /// Whether there are questions without an answer.
    pub(super) is_one_way: bool,
    pub(super) longest_answer: usize,
    /// How strictly echoes are looked at.
    pub(super) verify: VerifyMode,
    /// What makes the messages of one run differ from another's.
    pub(super) key: u64,
}

/// A message that is made up, of one size that has room for the header, with nothing around it: the
/// commonest kind. Its bytes are those of [`Message`], at a third of the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<'a> {
    pub(crate) header: [u8; WORD],
    pub(crate) body: &'a [u8],
}

/// One message, in parts that are sent one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    envelope: Envelope,
    header: [u8; WORD],
    /// Bytes of the header that there is room for.
    spelled: usize,
    body: Cow<'a, [u8]>,
}

impl Payload {
    /// What a load says, in the run of this key.
    pub(crate) fn of(load: &Load, key: u64) -> Payload {
        let echoed = Payload::new(&load.content, load.framing, load.verify, key);
        let steps = load.script.iter().flat_map(|script| script.steps());
        let framed = steps.map(|step| framed(&step.question, load.framing));
        Payload {
            framed: framed.collect(),
            end: load.script.as_ref().and_then(|script| script.end()),
            is_one_way: load.script.as_ref().is_some_and(|it| it.is_one_way()),
            plain: echoed.plain.filter(|_| load.script.is_none()),
            script: load.script.clone(),
            longest_answer: load.longest_answer as usize,
            ..echoed
        }
    }

    /// What `content` says, framed, in the run of this key.
    pub(crate) fn new(
        content: &Content,
        framing: Framing,
        verify: VerifyMode,
        key: u64,
    ) -> Payload {
        let sizes @ (least, most) = content.sizes();
        let (block, is_made) = match content {
            Content::Made(_) => (noise(most as usize + PLACES), true),
            Content::Given(bytes) => (Arc::clone(bytes), false),
        };
        let is_bare = envelope(framing, least as usize) == Envelope::default();
        let is_plain = is_made && least == most && is_bare && !log::log_enabled!(log::Level::Trace);
        Payload {
            block,
            is_made,
            sizes,
            framing,
            plain: (least as usize).checked_sub(WORD).filter(|_| is_plain),
            script: None,
            framed: Vec::new(),
            end: None,
            is_one_way: false,
            longest_answer: 0,
            verify,
            key: mix(key),
        }
    }

    /// Message `number` of a flow, where messages are plain.
    #[inline(always)]
    pub(crate) fn plain(&self, flow: u32, number: u32) -> Option<Plain<'_>> {
        let body = self.plain?;
        let word = self.word(flow, number);
        Some(Plain {
            header: spell(word),
            body: self.piece(word >> 52, body),
        })
    }

    /// Whether answers are no mere echoes.
    #[inline(always)]
    pub(super) fn is_scripted(&self) -> bool {
        self.script.is_some()
    }

    /// What message `number` of a flow is in its script, if there is one.
    pub(super) fn step(&self, flow: u32, number: u32) -> Option<&Step> {
        let key = self.key;
        self.script.as_ref()?.step(Which { flow, number, key })
    }

    /// Whether message `number` of a flow has no answer: it was done with when it was sent.
    pub(super) fn has_no_answer(&self, flow: u32, number: u32) -> bool {
        let step = self.is_one_way.then(|| self.step(flow, number)).flatten();
        step.is_some_and(|step| step.answer == Answer::None)
    }

    /// The bytes of message `number` of a flow, where these are always the same.
    #[inline]
    pub(super) fn framed(&self, flow: u32, number: u32) -> Option<&[u8]> {
        let key = self.key;
        let place = self.script.as_ref()?.place(Which { flow, number, key });
        self.framed.get(place)?.as_deref()
    }

    /// The bytes of the oldest message's answer, where `data` begins with it and its end is all
    /// that is to be found: most input is that and no more. What is torn is looked at elsewhere,
    /// and so is its rest, for no byte of it is to be looked at again each time that more comes.
    #[inline(always)]
    pub(super) fn whole(&self, flow: &Flow, data: &[u8]) -> Option<usize> {
        let end = self.end.as_deref()?;
        let opening = self.script.as_ref()?.opening();
        let is_torn = flow.got > 0 || flow.flags.contains(Flags::TORN);
        if flow.kept == 0 || is_torn || flow.oldest() < opening {
            return None;
        }
        let len = memchr(*end.last()?, data)? + 1;
        (data[..len].ends_with(end) && len <= self.longest_answer).then_some(len)
    }

    /// Message `number` of a flow.
    #[inline(never)]
    pub(crate) fn message(&self, flow: u32, number: u32) -> Message<'_> {
        let body = match self.step(flow, number).map(|step| &step.question) {
            None | Some(Question::Made) => return self.made(flow, number),
            Some(Question::Nothing) => Cow::Borrowed(&[][..]),
            Some(Question::Text(template)) => {
                let key = self.key;
                template.filled(Which { flow, number, key })
            }
        };
        let envelope = match body.is_empty() {
            true => Envelope::default(),
            false => envelope(self.framing, body.len()),
        };
        Message {
            envelope,
            header: [0; WORD],
            spelled: 0,
            body,
        }
    }

    /// Message `number` of a flow, where it's made up, or all are alike.
    fn made(&self, flow: u32, number: u32) -> Message<'_> {
        let (word, size) = (self.word(flow, number), self.size(flow, number));
        let (place, spelled) = match self.is_made {
            true => (word >> 52, size.min(WORD)),
            false => (0, 0),
        };
        Message {
            envelope: envelope(self.framing, size),
            header: spell(word),
            spelled,
            body: Cow::Borrowed(self.piece(place, size - spelled)),
        }
    }

    /// The two numbers and the key, mixed.
    #[inline(always)]
    fn word(&self, flow: u32, number: u32) -> u64 {
        let flow = u64::from(flow).wrapping_mul(SPREAD);
        (flow ^ u64::from(number) ^ self.key).wrapping_mul(GOLDEN)
    }

    /// Bytes of message `number` of a flow, without its frame's.
    pub(super) fn size(&self, flow: u32, number: u32) -> usize {
        let (least, most) = self.sizes;
        let mixed = mix(u64::from(flow) << 32 | u64::from(number));
        let drawn = ((mixed >> 32) * (u64::from(most - least) + 1)) >> 32;
        (u64::from(least) + drawn) as usize
    }

    /// `len` bytes of the block, from `place` on, or as many places on as there are more than
    /// [`PLACES`].
    #[inline(always)]
    pub(super) fn piece(&self, place: u64, len: usize) -> &[u8] {
        let place = place as usize % PLACES;
        // The block is made for the longest message at the last place.
        &self.block[place..place + len]
    }
}

impl Plain<'_> {
    /// Whether `bytes` begin with it.
    #[inline(always)]
    pub(crate) fn begins(&self, bytes: &[u8]) -> bool {
        bytes.split_first_chunk().is_some_and(|(header, rest)| {
            *header == self.header && rest.get(..self.body.len()) == Some(self.body)
        })
    }

    /// Bytes in all.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        WORD + self.body.len()
    }
}

impl Message<'_> {
    /// The parts in order; any may be empty.
    pub(crate) fn parts(&self) -> [&[u8]; 4] {
        let header = &self.header[..self.spelled];
        let envelope = &self.envelope;
        [envelope.before(), header, &self.body, envelope.behind()]
    }

    /// Bytes in all, its frame's among them.
    pub(crate) fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// Which is the first of `bytes` that is not what the message has from byte `at` on, as far as
    /// `verify` looks; they are not more than it has there.
    pub(crate) fn wrong(&self, verify: VerifyMode, at: usize, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut rest) = (at, bytes);
        for (index, part) in self.parts().into_iter().enumerate() {
            let behind = &part[at.min(part.len())..];
            at -= part.len() - behind.len();
            let (these, others) = rest.split_at(rest.len().min(behind.len()));
            let looks = verify == VerifyMode::Full || verify == VerifyMode::Sequence && index != 2;
            // Not byte by byte: nearly all are right.
            if looks && these != &behind[..these.len()] {
                let right = these
                    .iter()
                    .zip(behind)
                    .take_while(|(came, sent)| came == sent);
                return Some(bytes.len() - rest.len() + right.count());
            }
            rest = others;
        }
        None
    }
}

/// The bytes of a question with its frame, where these are always the same.
fn framed(question: &Question, framing: Framing) -> Option<Arc<[u8]>> {
    let Question::Text(template) = question else {
        return None;
    };
    let body = template
        .fixed()
        .filter(|_| !log::log_enabled!(log::Level::Trace))?;
    let envelope = envelope(framing, body.len());
    Some(
        [envelope.before(), &body, envelope.behind()]
            .concat()
            .into(),
    )
}

fn envelope(framing: Framing, size: usize) -> Envelope {
    // Sizes that the framing has no frame for are refused before.
    framing.envelope(size).unwrap_or_default()
}

/// Six bits of each byte as a printable one, `0` to `o`; the upper bytes first, for they are the
/// best mixed.
#[inline(always)]
fn spell(word: u64) -> [u8; 8] {
    ((word & 0x3F3F_3F3F_3F3F_3F3F) + 0x3030_3030_3030_3030).to_be_bytes()
}

/// Printable pseudo-random bytes, the same ones in every run.
fn noise(len: usize) -> Arc<[u8]> {
    let words = (0..len.div_ceil(8) as u64).flat_map(|place| spell(mix(!place)));
    words.take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::options::values::SizeRange;

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
                let content = [parts[1], parts[2]].concat();
                assert_eq!(parts[0].len(), before);
                framing.encode(&content, &mut framed).unwrap();
                assert_eq!(parts.concat(), framed);
                assert_eq!(message.len(), framed.len());
            }
        }
    }

    #[test]
    fn a_plain_message_is_the_same_message_and_told_from_any_other_by_one_byte() {
        for size in [8, 9, 64, 5000] {
            let payload = payload(size, size, "raw");
            for (flow, number) in [(0, 0), (7, 9), (1 << 24, 1), (3, u32::MAX)] {
                let plain = payload.plain(flow, number).unwrap();
                let mut bytes = [&plain.header[..], plain.body].concat();
                assert_eq!(payload.message(flow, number).parts().concat(), bytes);
                assert!(plain.begins(&bytes) && !plain.begins(&bytes[1..]));
                assert_eq!(plain.len(), bytes.len());
                assert!(!plain.begins(&bytes[..bytes.len() - 1]));
                assert!(plain.begins(&[&bytes[..], b"0"].concat()));
                for at in 0..bytes.len() {
                    bytes[at] ^= 1;
                    assert!(!plain.begins(&bytes), "byte {at}");
                    bytes[at] ^= 1;
                }
            }
        }
        for (least, most, framing) in [(7, 7, "raw"), (64, 65, "raw"), (64, 64, "lines")] {
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
                assert_eq!(
                    message.wrong(VerifyMode::Full, from, &whole[from..to]),
                    None
                );
            }
            let mut flipped = whole.clone();
            flipped[from] ^= 1;
            for at in 0..=from {
                let wrong = message.wrong(VerifyMode::Full, at, &flipped[at..]);
                assert_eq!(wrong, Some(from - at));
            }
            let in_header = Some(from).filter(|&from| from < 2 + WORD);
            assert_eq!(message.wrong(VerifyMode::Sequence, 0, &flipped), in_header);
            assert_eq!(message.wrong(VerifyMode::Off, 0, &flipped), None);
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
            for verify in [VerifyMode::Full, VerifyMode::Sequence] {
                assert!(
                    other
                        .message(3, number)
                        .wrong(verify, 0, &message)
                        .is_some()
                );
            }
        }
    }

    #[test]
    fn a_short_message_differs_from_that_of_another_flow() {
        for size in 1..WORD as u32 {
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
