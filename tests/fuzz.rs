//! The library's parsers against plain ones, on inputs that lie at the edges: framings, the
//! envelope, escapes, and framings as text. The plain ones follow the documentation, and not the
//! code.
//!
//! Here they make a few thousand inputs each; 50 million each:
//!
//! ```text
//! OREAD_FUZZ=50000000 cargo test --release --test fuzz -- --nocapture
//! ```
//!
//! `common/fuzz.rs` tells how to replay an input that failed. The program's parsers are fuzzed
//! beside their sources.
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/fuzz.rs"]
mod common;
#[path = "common/framings.rs"]
mod framings;

use std::fmt::Write as _;
use std::num::NonZeroU32;

use common::{Dice, fuzz};
use framings::{Start, around, delimiter};
use oread::Escaped;
use oread::framing::{Boundary, EncodeError, FrameError, Framing, Next};

fn any_framing(dice: &mut Dice) -> Framing {
    match dice.roll(8) {
        0..=2 => Framing::Lines,
        3 => {
            let size = if dice.once_in(8) {
                dice.edge() as u32
            } else {
                dice.roll(9) as u32
            };
            Framing::Fixed(NonZeroU32::new(size).unwrap_or(NonZeroU32::MIN))
        }
        4 | 5 => dice.pick(&framings::PLAIN).parse().unwrap(),
        _ => dice.pick(&framings::LENGTHS).parse().unwrap(),
    }
}

#[test]
fn the_plain_framings_are_all_that_there_are() {
    let kind = |text: &'static str| text.split(':').next().unwrap();
    let mut plain: Vec<_> = framings::PLAIN.map(kind).into();
    plain.push(kind(framings::LENGTHS[0]));
    for (form, _) in Framing::FORMS {
        assert!(
            plain.contains(&kind(form)),
            "tests/common/framings.rs lacks {form}"
        );
    }
}

/// What the start of a stream is, up to some byte.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    /// Whole frames, all of them.
    frames: usize,
    /// Where the last of them ends.
    end: usize,
    /// What is behind it: no whole frame.
    rest: Start,
}

/// A whole frame in a stream: where it begins and ends, and its payload.
#[derive(Clone, Debug, PartialEq)]
struct PlainFrame {
    start: usize,
    end: usize,
    payload: std::ops::Range<usize>,
}

/// Cuts a stream byte by byte. What each of its starts is, from none of its bytes to all of them,
/// and the frames.
struct Cutter {
    framing: Framing,
    max: usize,
    starts: Vec<Plain>,
    frames: Vec<PlainFrame>,
}

impl Cutter {
    fn new() -> Cutter {
        Cutter {
            framing: Framing::Lines,
            max: 0,
            starts: Vec::new(),
            frames: Vec::new(),
        }
    }

    fn cut(&mut self, framing: Framing, max: usize, stream: &[u8]) {
        (self.framing, self.max) = (framing, max);
        self.starts.clear();
        self.frames.clear();
        let mut begin = 0;
        for len in 0..=stream.len() {
            let mut rest = framings::start(framing, &stream[begin..len], max);
            if let Start::Frame(payload, whole) = rest {
                self.frames.push(PlainFrame {
                    start: begin,
                    end: begin + whole,
                    payload: begin + payload.start..begin + payload.end,
                });
                begin = len;
                rest = framings::start(framing, &[], max);
            }
            let is_too_long = matches!(rest, Start::TooLong(..));
            self.starts.push(Plain {
                frames: self.frames.len(),
                end: begin,
                rest,
            });
            if is_too_long {
                // Nothing that comes behind it makes it another one.
                let plain = self.starts[len].clone();
                self.starts.resize(stream.len() + 1, plain);
                return;
            }
        }
    }
}

/// The largest payload that is allowed: at an edge, and not too far from what comes.
fn any_max(dice: &mut Dice) -> usize {
    match dice.roll(4) {
        0 => dice.edge() as usize,
        1 => dice.pick(&[255, 256, 257, 65_535, 65_536, usize::MAX - 8, usize::MAX]),
        _ => dice.roll(9) as usize,
    }
}

/// A stream for the framing: frames of sizes around the maximum, and what is none.
fn any_stream(dice: &mut Dice, framing: Framing, max: usize, stream: &mut Vec<u8>) {
    stream.clear();
    let most = if dice.once_in(64) { 700 } else { 12 };
    for _ in 0..dice.roll(5) {
        let near = match dice.roll(4) {
            0 => dice.roll(most) as usize,
            _ => max.saturating_add(dice.roll(3) as usize).saturating_sub(1),
        };
        let size = near.min(most as usize);
        match (framing, dice.roll(8)) {
            (_, 0) => {
                let garbage = dice.roll(10);
                stream.extend((0..garbage).map(|_| dice.pick(b"\n\r\0\x01\xffa")));
            }
            (Framing::Length(prefix), 1) => {
                let near = (max as u64).saturating_add(dice.roll(3)).saturating_sub(1);
                let declared = dice.pick(&[dice.clone().edge(), near, u64::MAX]);
                stream.extend_from_slice(&framings::prefix_bytes(prefix, declared));
            }
            _ => {
                let (before, behind) = around(framing, size).unwrap_or_default();
                stream.extend_from_slice(&before);
                let fill = dice.pick(if before.is_empty() {
                    b"\r\0\xffa"
                } else {
                    b"\n\0\xffa"
                });
                stream.resize(stream.len() + size, fill);
                if before.is_empty() && !dice.once_in(8) {
                    stream.push(behind.first().copied().unwrap_or(b'\n'));
                }
            }
        }
    }
    if dice.once_in(4) {
        stream.truncate(dice.roll(stream.len() as u64 + 1) as usize);
    }
}

/// A stream as it is read: piece by piece, with what a handler keeps between them.
struct Reading<'a> {
    plain: &'a Cutter,
    stream: &'a [u8],
    /// Bytes in whole frames so far.
    consumed: usize,
    scanned: usize,
    frames: usize,
    failed: bool,
}

impl<'a> Reading<'a> {
    fn new(plain: &'a Cutter, stream: &'a [u8]) -> Reading<'a> {
        Reading {
            plain,
            stream,
            consumed: 0,
            scanned: 0,
            frames: 0,
            failed: false,
        }
    }

    /// The stream is there up to `len`: takes the frames, and panics where they are not the plain
    /// ones.
    fn read(&mut self, len: usize) {
        if self.failed {
            return;
        }
        let (framing, max) = (self.plain.framing, self.plain.max);
        let there = &self.stream[self.consumed..len];
        let mut frames = framing.frames(there, self.scanned, max);
        let mut error = None;
        for frame in &mut frames {
            match frame {
                Ok(frame) => {
                    let plain = &self.plain.frames[self.frames];
                    assert!(
                        std::ptr::eq(frame.whole, &raw const self.stream[plain.start..plain.end]),
                        "{plain:?}"
                    );
                    assert!(
                        std::ptr::eq(frame.payload, &raw const self.stream[plain.payload.clone()]),
                        "{plain:?}"
                    );
                    self.frames += 1;
                }
                Err(why) => error = Some(why),
            }
        }
        assert!(frames.next().is_none(), "it ends once");
        self.consumed += frames.consumed();
        let plain = &self.plain.starts[len];
        assert_eq!((self.frames, self.consumed), (plain.frames, plain.end));
        self.scanned = frames.scanned();
        let rest = &self.stream[self.consumed..len];
        match (error, &plain.rest) {
            (Some(FrameError::TooLong { declared, max }), Start::TooLong(plain, most)) => {
                assert_eq!((declared, max), (*plain, *most));
                self.failed = true;
            }
            // Without a byte of it there is no frame yet to be refused.
            (None, Start::TooLong(..)) => assert_eq!(rest, b""),
            (None, Start::Partial(_)) => assert_eq!(self.scanned, rest.len()),
            other => panic!("{other:?}"),
        }
    }
}

/// What `next` says of the rest of each start of the stream, whatever stands in bytes that it has
/// looked at before.
fn is_told_of_the_rest(plain: &Cutter, stream: &[u8], len: usize) {
    let start = &plain.starts[len];
    let rest = &stream[start.end..len.max(start.end)];
    let (framing, max) = (plain.framing, plain.max);
    let width = around(framing, 0).map_or(0, |(before, _)| before.len());
    let expected = match start.rest {
        Start::Frame(..) => panic!("a whole frame is no rest"),
        Start::Partial(missing) => Ok(Next::Partial {
            scanned: rest.len(),
            missing,
        }),
        Start::TooLong(declared, max) => Err(FrameError::TooLong { declared, max }),
    };
    assert_eq!(framing.next(rest, 0, max), expected);
    // A line's newline, or anything of a payload, would change what is said if it were looked at. A
    // prefix is read anew.
    for scanned in [rest.len(), rest.len() / 2] {
        if scanned <= width || scanned > max {
            continue;
        }
        let mut poisoned = rest.to_vec();
        poisoned[width..scanned].fill(b'\n');
        assert_eq!(framing.next(&poisoned, scanned, max), expected);
    }
}

#[test]
fn frames_are_those_of_a_plain_reading_however_the_stream_is_cut() {
    let mut plain = Cutter::new();
    let mut stream = Vec::new();
    fuzz(4000, |dice| {
        let framing = any_framing(dice);
        let max = any_max(dice);
        any_stream(dice, framing, max, &mut stream);
        if framing == Framing::Raw {
            return is_raw_whole(&stream, max, dice);
        }
        plain.cut(framing, max, &stream);
        let mut bytewise = Reading::new(&plain, &stream);
        let mut torn = Reading::new(&plain, &stream);
        let piece = dice.edge().max(1);
        let mut next_cut = 0;
        for len in 0..=stream.len() {
            bytewise.read(len);
            if len == next_cut || len == stream.len() {
                torn.read(len);
                next_cut = len + 1 + dice.roll(piece.min(40)) as usize;
            }
            // Of a long stream some of the cuts, of a short one all.
            if stream.len() <= 64 || dice.once_in(64) {
                let mut halves = Reading::new(&plain, &stream);
                halves.read(len);
                halves.read(stream.len());
                is_told_of_the_rest(&plain, &stream, len);
            }
        }
        matches!(plain.starts[stream.len()].rest, Start::Partial(_))
    });
}

/// Raw framing has no frames to keep apart: what is there is one, of any length.
fn is_raw_whole(stream: &[u8], max: usize, dice: &mut Dice) -> bool {
    let scanned = dice.roll(stream.len() as u64 + 2) as usize;
    let expected = match framings::start(Framing::Raw, stream, max) {
        Start::Frame(payload, len) => Next::Frame(Boundary { len, payload }),
        _ => Next::Partial {
            scanned: 0,
            missing: Some(1),
        },
    };
    assert_eq!(Framing::Raw.next(stream, scanned, max), Ok(expected));
    true
}

#[test]
fn an_envelope_is_what_the_framing_says_around_any_length() {
    fuzz(20_000, |dice| {
        let framing = any_framing(dice);
        let len = match framing {
            Framing::Fixed(size) if !dice.once_in(3) => {
                let near = u64::from(size.get()) + dice.roll(3);
                (near - 1) as usize
            }
            _ => dice.edge() as usize,
        };
        let plain = around(framing, len);
        let envelope = framing.envelope(len);
        let parts = envelope.as_ref().map(|e| (e.before(), e.behind()));
        match (&parts, &plain) {
            (Ok(parts), Ok(plain)) => assert_eq!(*parts, (&plain.0[..], &plain.1[..])),
            (Err(error), Err(plain)) => assert_eq!(*error, plain),
            _ => panic!("{framing} {len}: {parts:?}, not {plain:?}"),
        }
        if let Ok((before, behind)) = parts {
            assert_eq!(before.len() + behind.len(), framing.overhead());
            let declarable = framing.max_declarable();
            assert!(declarable.is_none_or(|most| len as u64 <= most));
        }
        plain.is_ok()
    });
}

#[test]
fn an_encoded_payload_is_read_back_and_what_cannot_be_encoded_leaves_no_trace() {
    let (mut payload, mut out) = (Vec::new(), Vec::new());
    fuzz(10_000, |dice| {
        let framing = any_framing(dice);
        let size = match framing {
            Framing::Fixed(size) if !dice.once_in(4) => size.get().min(300) as usize,
            _ if dice.once_in(16) => dice.pick(&[255, 256, 257, 4096]),
            _ if dice.once_in(4096) => dice.pick(&[65_535, 65_536]),
            _ => dice.roll(20) as usize,
        };
        payload.clear();
        payload.resize(size, dice.pick(b"a\r\0\xff"));
        if size > 0 && dice.once_in(3) {
            let at = dice.roll(size as u64) as usize;
            payload[at] = b'\n';
        }
        out.clear();
        out.extend_from_slice(b"before");
        let mut plain = around(framing, size);
        let inner = |byte: &u8| Some(*byte) == delimiter(framing);
        if let Some(at) = payload.iter().position(inner) {
            plain = Err(EncodeError::InnerNewline { at });
        }
        let encoded = framing.encode(&payload, &mut out);
        let Ok((before, behind)) = plain else {
            assert_eq!(Err(encoded.unwrap_err()), plain);
            assert_eq!(out, b"before");
            return false;
        };
        assert_eq!(encoded, Ok(()));
        assert_eq!(
            out,
            [b"before", &before[..], &payload, &behind[..]].concat()
        );
        let frame = &out[6..];
        let mut frames = framing.frames(frame, 0, size);
        if let Some(read) = frames.next() {
            assert_eq!(read.unwrap().payload, payload);
        }
        assert_eq!(frames.consumed(), frame.len());
        true
    });
}

/// What is drawn as nothing or turns text around: `Default_Ignorable_Code_Point` of Unicode 14, the
/// separators of lines and paragraphs, and the annotation marks.
const UNSEEN: [(u32, u32); 20] = [
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x2028, 0x2029),
    (0x202a, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfff8),
    (0xfff9, 0xfffb),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0xe_0000, 0xe_0fff),
    (0x80, 0x9f),
];

fn is_unseen(c: char) -> bool {
    let c = u32::from(c);
    UNSEEN
        .iter()
        .any(|&(first, last)| (first..=last).contains(&c))
}

/// How the first character of `bytes`, or their first byte where they begin with none, is shown,
/// and how many bytes it has.
fn show_first(bytes: &[u8], exact: bool, out: &mut String) -> usize {
    // The shortest start that is a character, as UTF-8 has no character that is the start of
    // another one.
    let first = (1..=bytes.len().min(4)).find_map(|len| {
        let text = std::str::from_utf8(&bytes[..len]).ok()?;
        text.chars().next()
    });
    let Some(c) = first else {
        write!(out, "\\x{:02x}", bytes[0]).unwrap();
        return 1;
    };
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\\' | '"' if exact => out.extend(['\\', c]),
        '…' if exact => out.push_str("\\u{2026}"),
        '\0'..='\x1f' | '\x7f' => write!(out, "\\x{:02x}", bytes[0]).unwrap(),
        c if is_unseen(c) => write!(out, "\\u{{{:x}}}", u32::from(c)).unwrap(),
        c => out.push(c),
    }
    c.len_utf8()
}

/// The whole text, made one character after the other.
fn show(bytes: &[u8], limit: usize, exact: bool, out: &mut String) {
    out.clear();
    let mut at = 0;
    while at < bytes.len() {
        let before = out.len();
        let len = show_first(&bytes[at..], exact, out);
        if at + len > limit {
            out.truncate(before);
            break;
        }
        at += len;
    }
    if bytes.len() > limit {
        let digits = bytes.len().to_string();
        out.push_str("… (");
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        out.push_str(if bytes.len() == 1 {
            " byte)"
        } else {
            " bytes)"
        });
    }
}

/// Text, and what is none: whole characters at the edges of their classes, and characters that are
/// torn.
fn any_text(dice: &mut Dice, bytes: &mut Vec<u8>) {
    bytes.clear();
    for _ in 0..dice.roll(9) {
        let c = match dice.roll(6) {
            0 => u32::from(dice.pick(b"\\\"\n\r\t\0\x1b\x1f\x20\x7e\x7f")),
            1 => {
                let (first, last) = dice.pick(&UNSEEN);
                dice.pick(&[first, last, first.wrapping_sub(1), last + 1])
            }
            2 => dice.pick(&[
                0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x1_0000, 0x10_ffff,
            ]),
            3 => dice.pick(&[0x2025, 0x2026, 0x2027, 0x9b, 0x9d, 0x202e, 0x1f980]),
            _ => dice.roll(0x80) as u32,
        };
        let before = bytes.len();
        let c = char::from_u32(c).unwrap_or('\u{fffd}');
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        match dice.roll(10) {
            0 => bytes.truncate(before + dice.roll(3) as usize),
            1 => bytes.push(dice.pick(b"\x80\xbf\xc0\xc2\xe0\xed\xf0\xf4\xf5\xff")),
            2 => bytes.extend_from_slice(dice.pick(&[b"\xed\xa0\x80".as_slice(), b"\xc0\xaf"])),
            3 => bytes.push(dice.roll(256) as u8),
            _ => {}
        }
    }
    if dice.once_in(2000) {
        let len = dice.pick(&[999, 1000, 1001, 100_000]);
        bytes.resize(len, b'a');
    }
}

#[test]
fn nothing_is_shown_but_what_the_table_says() {
    let (mut bytes, mut plain, mut shown) = (Vec::new(), String::new(), String::new());
    fuzz(6000, |dice| {
        any_text(dice, &mut bytes);
        let limit = match dice.roll(4) {
            0 => usize::MAX,
            1 => bytes
                .len()
                .saturating_add(dice.roll(3) as usize)
                .saturating_sub(1),
            _ => dice.roll(bytes.len() as u64 + 1).min(40) as usize,
        };
        let escaped = Escaped::new(&bytes).limit(limit);
        for exact in [true, false] {
            show(&bytes, limit, exact, &mut plain);
            shown.clear();
            let escaped = if exact { escaped } else { escaped.prose() };
            write!(shown, "{escaped}").unwrap();
            assert_eq!(shown, plain);
            assert!(!shown.contains(char::is_control), "{shown:?}");
            let text = shown
                .rsplit_once("… (")
                .map_or(&shown[..], |(text, _)| text);
            assert!(text.len() <= 4 * limit.min(bytes.len()), "{shown}");
            // For programmers, and whatever is asked for by width or precision.
            shown.clear();
            write!(shown, "{escaped:?}{escaped:3.1}").unwrap();
            let debug = shown.strip_suffix(&plain[..]).unwrap();
            show(&bytes, limit, true, &mut plain);
            assert_eq!(debug, format!("\"{plain}\""));
        }
        shown.len() > bytes.len() + 2
    });
}

/// A framing's name, written with what is easily got wrong.
fn any_name(dice: &mut Dice, text: &mut String) {
    text.clear();
    let names = ["length", "Raw", "", "fixed "];
    let name = match dice.once_in(2) {
        true => dice.pick(&framings::PLAIN),
        false => dice.pick(&names),
    };
    text.push_str(name.split(':').next().unwrap());
    if !dice.once_in(4) {
        text.push(dice.pick(&[':', ':', ':', ':', '=', '\u{ff1a}']));
    }
    match dice.roll(4) {
        0 => text.push_str(dice.pick(&["u8", "u16", "u32", "u64", "u128", "u16le", "u64be", "U8"])),
        1 => text.push_str(dice.pick(&["u8le", "u32le", "u64le", "le", "", "\x1b[2J", "\u{202e}"])),
        2 => {
            let sign = dice.pick(&["", "", "", "+", "-", " ", "0", "000"]);
            let number = dice.edge();
            write!(text, "{sign}{number}").unwrap();
        }
        _ => {}
    }
    if dice.once_in(8) {
        text.push_str(dice.pick(&[" ", ":", "\n", "x", "\0"]));
    }
}

#[test]
fn a_framing_is_its_name_and_whatever_else_is_refused_with_all_names() {
    let mut text = String::new();
    fuzz(20_000, |dice| {
        any_name(dice, &mut text);
        let plain = framings::named(&text);
        let parsed = text.parse::<Framing>();
        assert_eq!(parsed.clone().ok(), plain, "{text:?}");
        match parsed {
            Ok(framing) => assert_eq!(framing.to_string().parse(), Ok(framing)),
            Err(error) => {
                let said = error.to_string();
                let (_, allowed) = said.rsplit_once("; allowed are ").unwrap();
                for (form, _) in Framing::FORMS {
                    assert!(allowed.contains(form), "{said}");
                }
                assert!(!said.contains(char::is_control), "{said:?}");
                assert!(!said.contains('\u{202e}'), "{said:?}");
            }
        }
        plain.is_some()
    });
}
