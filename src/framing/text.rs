//! Framings and their errors as text.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::{Framing, Prefix};

/// A stream that cannot be cut into frames any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer sends a longer frame than it may, or speaks another framing.
    TooLong {
        /// The payload that the frame declares, in bytes; `None` for a line, which declares
        /// nothing.
        declared: Option<u64>,
        /// The longest payload that was allowed, in bytes.
        max: usize,
    },
}

/// A payload that no frame can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A line cannot have a newline in it.
    InnerNewline {
        /// Where the first one is.
        at: usize,
    },
    /// A frame of fixed size takes a payload of that size only.
    WrongLength {
        /// The payload's length in bytes.
        len: usize,
        /// The frame's size in bytes.
        fixed: u32,
    },
    /// The prefix cannot say so large a number.
    TooLong {
        /// The payload's length in bytes.
        len: usize,
        /// The largest that the prefix can say.
        max: u64,
    },
}

/// A text that names no framing. Its `Display` says what is wrong with it and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramingParseError {
    text: String,
    problem: &'static str,
}

impl FromStr for Framing {
    type Err = FramingParseError;

    fn from_str(text: &str) -> Result<Framing, FramingParseError> {
        let wrong = |problem| FramingParseError {
            text: text.to_owned(),
            problem,
        };
        match text.split_once(':') {
            None if text == "raw" => Ok(Framing::Raw),
            None if text == "lines" => Ok(Framing::Lines),
            Some(("raw" | "lines", _)) => Err(wrong("takes nothing after its name")),
            Some(("fixed", size)) => fixed_size(size)
                .map(Framing::Fixed)
                .ok_or_else(|| wrong("has no size from 1 to 4294967295")),
            // One byte has no order.
            Some(("length", "u8le")) => Ok(Framing::Length(Prefix::U8)),
            Some(("length", name)) => Prefix::ALL
                .iter()
                .find(|prefix| prefix.to_string() == name)
                .map(|prefix| Framing::Length(*prefix))
                .ok_or_else(|| wrong("has no prefix that is known")),
            None if text == "fixed" => Err(wrong("lacks its size")),
            None if text == "length" => Err(wrong("lacks its prefix")),
            _ => Err(wrong("is not known")),
        }
    }
}

/// A size of digits alone: `NonZeroU32::from_str` takes a plus sign too.
fn fixed_size(text: &str) -> Option<NonZeroU32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// How prefixes are written.
macro_rules! prefixes {
    ($($prefix:ident $name:literal),+) => {
        impl Prefix {
            /// Every prefix: the match below fails to compile if one is left out.
            pub(super) const ALL: &'static [Prefix] = &[$(Prefix::$prefix),+];
        }

        impl fmt::Display for Prefix {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Prefix::$prefix => $name),+ })
            }
        }
    };
}

prefixes!(U8 "u8", U16 "u16", U32 "u32", U64 "u64", U16Le "u16le", U32Le "u32le", U64Le "u64le");

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Framing::Raw => f.write_str("raw"),
            Framing::Lines => f.write_str("lines"),
            Framing::Fixed(size) => write!(f, "fixed:{size}"),
            Framing::Length(prefix) => write!(f, "length:{prefix}"),
        }
    }
}

impl fmt::Display for FramingParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FramingParseError { text, problem } = self;
        write!(
            f,
            "framing {text:?} {problem}; allowed are raw, lines, fixed:N (N bytes each), and \
             length:P with P one of u8, u16, u32, u64, u16le, u32le, u64le"
        )
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong {
                declared: Some(declared),
                max,
            } => {
                write!(
                    f,
                    "a frame of {declared} bytes is over the maximum of {max} bytes"
                )
            }
            FrameError::TooLong {
                declared: None,
                max,
            } => {
                write!(f, "a line is over the maximum of {max} bytes")
            }
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::InnerNewline { at } => {
                write!(
                    f,
                    "a line cannot have a newline in it, as this has at byte {at}"
                )
            }
            EncodeError::WrongLength { len, fixed } => {
                write!(
                    f,
                    "a payload of {len} bytes is no frame of fixed {fixed} bytes"
                )
            }
            EncodeError::TooLong { len, max } => {
                write!(
                    f,
                    "a payload of {len} bytes is over the {max} that its prefix can say"
                )
            }
        }
    }
}

impl std::error::Error for FramingParseError {}
impl std::error::Error for FrameError {}
impl std::error::Error for EncodeError {}
