//! What is wrong with a frame, with a payload, and with a framing's name.

use std::fmt;

use super::Framing;

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

impl FramingParseError {
    pub(super) fn new(text: &str, problem: &'static str) -> FramingParseError {
        let text = text.to_owned();
        FramingParseError { text, problem }
    }
}

impl fmt::Display for FramingParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FramingParseError { text, problem } = self;
        write!(f, "framing {text:?} {problem}; allowed are ")?;
        for (at, (form, meaning)) in Framing::FORMS.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{form} ({meaning})")?;
        }
        Ok(())
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
