//! Framings as the documentation has them: plain readers and writers, which follow it and not the
//! code, for the tests that hold the library against them. A new framing goes here, and is then in
//! all of them.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::num::NonZeroU32;
use std::ops::Range;

use oread::framing::{EncodeError, Framing, Prefix};

/// One of each framing, or more, but for those with a prefix.
pub const PLAIN: [&str; 4] = ["raw", "lines", "fixed:1", "fixed:100"];
/// Those with a prefix.
pub const LENGTHS: [&str; 7] = [
    "length:u8",
    "length:u16",
    "length:u32",
    "length:u64",
    "length:u16le",
    "length:u32le",
    "length:u64le",
];

/// The framing that `text` names.
pub fn named(text: &str) -> Option<Framing> {
    Some(match text {
        "raw" => Framing::Raw,
        "lines" => Framing::Lines,
        "length:u8" | "length:u8le" => Framing::Length(Prefix::U8),
        "length:u16" => Framing::Length(Prefix::U16),
        "length:u32" => Framing::Length(Prefix::U32),
        "length:u64" => Framing::Length(Prefix::U64),
        "length:u16le" => Framing::Length(Prefix::U16Le),
        "length:u32le" => Framing::Length(Prefix::U32Le),
        "length:u64le" => Framing::Length(Prefix::U64Le),
        _ => {
            let digits = text.strip_prefix("fixed:")?;
            let mut size = 0_u128;
            for digit in digits.chars() {
                size = size * 10 + u128::from(digit.to_digit(10)?);
            }
            Framing::Fixed(NonZeroU32::new(u32::try_from(size).ok()?)?)
        }
    })
}

/// The byte that ends a frame, and is in no payload.
pub fn delimiter(framing: Framing) -> Option<u8> {
    (framing == Framing::Lines).then_some(b'\n')
}

/// What stands before and behind a payload of this length, or why there is no frame for it.
pub type Around = Result<(Vec<u8>, Vec<u8>), EncodeError>;

pub fn around(framing: Framing, len: usize) -> Around {
    match framing {
        Framing::Raw => Ok((vec![], vec![])),
        Framing::Lines => Ok((vec![], vec![b'\n'])),
        Framing::Fixed(size) if size.get() as usize == len => Ok((vec![], vec![])),
        Framing::Fixed(size) => Err(EncodeError::WrongLength {
            len,
            fixed: size.get(),
        }),
        Framing::Length(prefix) => {
            let most = (256_u128.pow(layout(prefix).0 as u32) - 1) as u64;
            if len as u64 > most {
                return Err(EncodeError::TooLong { len, max: most });
            }
            Ok((prefix_bytes(prefix, len as u64), vec![]))
        }
        _ => panic!("{framing} is new here"),
    }
}

/// What the start of a stream is.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// A whole frame: its payload, and its length in all.
    Frame(Range<usize>, usize),
    /// A part of one, or nothing; what it lacks at the least.
    Partial(Option<usize>),
    /// A frame that is too long: what it declares, and what was allowed.
    TooLong(Option<u64>, usize),
}

/// What `bytes` start with where a payload may have `max` bytes.
pub fn start(framing: Framing, bytes: &[u8], max: usize) -> Start {
    match framing {
        Framing::Raw if bytes.is_empty() => Start::Partial(Some(1)),
        Framing::Raw => Start::Frame(0..bytes.len(), bytes.len()),
        Framing::Lines => match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) if end <= max => Start::Frame(0..end, end + 1),
            None if bytes.len() <= max => Start::Partial(None),
            _ => Start::TooLong(None, max),
        },
        Framing::Fixed(size) => counted(0, size.get().into(), bytes.len(), max),
        Framing::Length(prefix) => {
            let width = layout(prefix).0;
            match bytes.get(..width) {
                Some(number) => counted(width, prefix_value(prefix, number), bytes.len(), max),
                None => Start::Partial(Some(width - bytes.len())),
            }
        }
        _ => panic!("{framing} is new here"),
    }
}

/// Whether a part of a frame is one at the stream's end.
pub fn ends_with_stream(framing: Framing) -> bool {
    matches!(framing, Framing::Raw | Framing::Lines)
}

fn counted(width: usize, declared: u64, len: usize, max: usize) -> Start {
    let most = max.min(usize::MAX - width);
    if u128::from(declared) > most as u128 {
        return Start::TooLong(Some(declared), most);
    }
    let whole = width + declared as usize;
    if len < whole {
        return Start::Partial(Some(whole - len));
    }
    Start::Frame(width..whole, whole)
}

/// How many bytes a prefix has, and whether the first one is the highest.
fn layout(prefix: Prefix) -> (usize, bool) {
    match prefix {
        Prefix::U8 => (1, true),
        Prefix::U16 => (2, true),
        Prefix::U32 => (4, true),
        Prefix::U64 => (8, true),
        Prefix::U16Le => (2, false),
        Prefix::U32Le => (4, false),
        Prefix::U64Le => (8, false),
    }
}

/// A number as a prefix, one byte after the other.
pub fn prefix_bytes(prefix: Prefix, number: u64) -> Vec<u8> {
    let (width, is_big) = layout(prefix);
    let mut bytes = Vec::new();
    for place in 0..width {
        let shift = if is_big { width - 1 - place } else { place };
        bytes.push((number >> (8 * shift)) as u8);
    }
    bytes
}

fn prefix_value(prefix: Prefix, bytes: &[u8]) -> u64 {
    let mut value = 0;
    for place in 0..bytes.len() {
        let byte = match layout(prefix).1 {
            true => bytes[place],
            false => bytes[bytes.len() - 1 - place],
        };
        value = value * 256 + u64::from(byte);
    }
    value
}
