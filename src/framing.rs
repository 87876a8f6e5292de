//! Where one frame ends and the next begins in a stream of bytes.
//!
//! Everything here is pure: bytes in, boundaries out. Nothing is copied and no memory is taken, so
//! that a frame can be refused before anybody makes room for it.
//!
//! ```
//! use oread::framing::Framing;
//!
//! // What a handler does: take the whole frames, leave the rest, keep `scanned` until more came.
//! let mut frames = Framing::Lines.frames(b"one\ntwo\nthr", 0, 1024);
//! let lines: Vec<&[u8]> = frames.by_ref().map(|frame| frame.unwrap().payload).collect();
//! assert_eq!(lines, [b"one", b"two"]);
//! assert_eq!((frames.consumed(), frames.scanned()), (8, 3));
//! ```

mod envelope;
mod frames;
#[cfg(test)]
mod tests;
mod text;

use std::io::BufRead;
use std::num::NonZeroU32;
use std::ops::Range;

pub use envelope::Envelope;
pub use frames::{Frame, Frames};
pub use text::{EncodeError, FrameError, FramingParseError};

/// How a stream of bytes is cut into frames.
///
/// Written as `raw`, `lines`, `fixed:N`, or `length:` and a [`Prefix`], for instance
/// `length:u16le`.
///
/// ```
/// use oread::framing::{Framing, Prefix};
///
/// let framing: Framing = "length:u32".parse().unwrap();
/// assert_eq!(framing, Framing::Length(Prefix::U32));
/// assert_eq!(framing.to_string(), "length:u32");
/// assert_eq!("fixed:0".parse::<Framing>().unwrap_err().to_string(),
///     "framing \"fixed:0\" has no size from 1 to 4294967295; allowed are raw, lines, fixed:N \
///      (N bytes each), and length:P with P one of u8, u16, u32, u64, u16le, u32le, u64le");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// Bytes as they come: whatever is there is one frame.
    #[default]
    Raw,
    /// A line, ended by `\n`. A `\r` before it is part of the payload.
    Lines,
    /// This many bytes each.
    Fixed(NonZeroU32),
    /// A prefix that says how many bytes follow it, then those.
    Length(Prefix),
}

/// An unsigned number before a frame: how many bytes follow it, itself not counted.
///
/// Big-endian, network byte order, unless the name says otherwise. One byte has no order; `u8le` is
/// read as `u8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// One byte: payloads up to 255 bytes.
    U8,
    /// Two bytes: payloads up to 64 KiB - 1.
    U16,
    /// Four bytes: payloads up to 4 GiB - 1.
    U32,
    /// Eight bytes: any payload.
    U64,
    /// Two bytes, little-endian.
    U16Le,
    /// Four bytes, little-endian.
    U32Le,
    /// Eight bytes, little-endian.
    U64Le,
}

/// What stands at the start of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole frame.
    Frame(Boundary),
    /// The start of a frame, or nothing.
    Partial {
        /// How many bytes have been looked at. Pass it to the next call, which has these bytes and
        /// more: it looks at none of them again but the prefix, of up to eight bytes.
        scanned: usize,
        /// How many bytes must come at least before the frame can be whole. `None` for a line: its
        /// end is known when it is there.
        missing: Option<usize>,
    },
}

/// The bounds of a whole frame, counted from its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// The whole frame with its delimiter or prefix, in bytes: what an echo sends back.
    pub len: usize,
    /// Where the payload lies in it.
    pub payload: Range<usize>,
}

impl Framing {
    /// Finds the frame at the start of `bytes`.
    ///
    /// `scanned` is what the last call for this frame left in [`Next::Partial`], and 0 for a new
    /// frame. `max_frame` bounds the payload in bytes; a delimiter or a prefix is not counted, the
    /// `\r` of a line is. [`Raw`](Framing::Raw) has no frames that could be too long, and heeds no
    /// maximum.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLong`], as soon as it is certain: from a prefix alone, from `max_frame` + 1
    /// bytes without a newline, or at once for a fixed size over the maximum.
    ///
    /// ```
    /// use oread::framing::{Boundary, Framing, Next, Prefix};
    ///
    /// let length = Framing::Length(Prefix::U8);
    /// let whole = Next::Frame(Boundary { len: 3, payload: 1..3 });
    /// assert_eq!(length.next(b"\x02hi and more", 0, 16), Ok(whole));
    /// let partial = Next::Partial { scanned: 2, missing: Some(1) };
    /// assert_eq!(length.next(b"\x02h", 0, 16), Ok(partial));
    /// assert!(length.next(b"\xff", 0, 16).is_err());
    /// ```
    #[inline]
    pub fn next(&self, bytes: &[u8], scanned: usize, max_frame: usize) -> Result<Next, FrameError> {
        match *self {
            Framing::Raw if bytes.is_empty() => Ok(Next::partial(bytes, Some(1))),
            Framing::Raw => Ok(Next::frame(0..bytes.len(), bytes.len())),
            Framing::Lines => next_line(bytes, scanned, max_frame),
            Framing::Fixed(size) => counted(bytes, 0, u64::from(size.get()), max_frame),
            Framing::Length(prefix) => match prefix.read(bytes) {
                Some(declared) => counted(bytes, prefix.width(), declared, max_frame),
                None => Ok(Next::partial(bytes, Some(prefix.width() - bytes.len()))),
            },
        }
    }

    /// The whole frames at the start of `bytes`, one after the other.
    ///
    /// `scanned` and `max_frame` are those of [`next`](Self::next).
    pub const fn frames<'a>(
        &self,
        bytes: &'a [u8],
        scanned: usize,
        max_frame: usize,
    ) -> Frames<'a> {
        Frames {
            framing: *self,
            bytes,
            consumed: 0,
            scanned,
            max_frame,
            failed: false,
        }
    }

    /// Appends `payload` as one whole frame to `out`.
    ///
    /// # Errors
    ///
    /// When this framing has no frame for the payload; `out` is then as it was.
    ///
    /// ```
    /// use oread::framing::{EncodeError, Framing};
    ///
    /// let mut out = Vec::new();
    /// Framing::Lines.encode(b"hello", &mut out).unwrap();
    /// assert_eq!(out, b"hello\n");
    /// let refused = Framing::Lines.encode(b"a\nb", &mut out);
    /// assert_eq!(refused, Err(EncodeError::InnerNewline { at: 1 }));
    /// ```
    pub fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let envelope = self.envelope(payload.len())?;
        if *self == Framing::Lines
            && let Some(at) = find_newline(payload)
        {
            return Err(EncodeError::InnerNewline { at });
        }
        out.extend_from_slice(envelope.before());
        out.extend_from_slice(payload);
        out.extend_from_slice(envelope.behind());
        Ok(())
    }

    /// The largest payload in bytes that a frame can declare: the fixed size, or what the prefix
    /// can say. `None` where a frame declares nothing.
    #[must_use]
    pub const fn max_declarable(&self) -> Option<u64> {
        match self {
            Framing::Raw | Framing::Lines => None,
            Framing::Fixed(size) => Some(size.get() as u64),
            Framing::Length(prefix) => Some(prefix.max()),
        }
    }

    /// How many bytes a frame has beside its payload. An input buffer of this and the maximum can
    /// hold every frame that is allowed.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        match self {
            Framing::Raw | Framing::Fixed(_) => 0,
            Framing::Lines => 1,
            Framing::Length(prefix) => prefix.width(),
        }
    }

    /// Whether the end of the stream ends a frame too: an unterminated last line is a line, while
    /// the start of a fixed or length-prefixed frame is a loss.
    #[must_use]
    pub const fn ends_with_stream(&self) -> bool {
        matches!(self, Framing::Raw | Framing::Lines)
    }
}

impl Prefix {
    /// How many bytes the prefix has.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Prefix::U8 => 1,
            Prefix::U16 | Prefix::U16Le => 2,
            Prefix::U32 | Prefix::U32Le => 4,
            Prefix::U64 | Prefix::U64Le => 8,
        }
    }

    /// The largest number it can say.
    #[must_use]
    pub const fn max(self) -> u64 {
        u64::MAX >> (64 - 8 * self.width())
    }

    /// The number at the start of `bytes`, if it is there as a whole.
    fn read(self, bytes: &[u8]) -> Option<u64> {
        Some(match self {
            Prefix::U8 => u64::from(*bytes.first()?),
            Prefix::U16 => u64::from(u16::from_be_bytes(*bytes.first_chunk()?)),
            Prefix::U16Le => u64::from(u16::from_le_bytes(*bytes.first_chunk()?)),
            Prefix::U32 => u64::from(u32::from_be_bytes(*bytes.first_chunk()?)),
            Prefix::U32Le => u64::from(u32::from_le_bytes(*bytes.first_chunk()?)),
            Prefix::U64 => u64::from_be_bytes(*bytes.first_chunk()?),
            Prefix::U64Le => u64::from_le_bytes(*bytes.first_chunk()?),
        })
    }

    /// `n`, which is at most [`max`](Self::max), in the first [`width`](Self::width) bytes.
    fn bytes(self, n: u64) -> [u8; 8] {
        match self {
            Prefix::U8 | Prefix::U16 | Prefix::U32 | Prefix::U64 => {
                (n << (64 - 8 * self.width())).to_be_bytes()
            }
            Prefix::U16Le | Prefix::U32Le | Prefix::U64Le => n.to_le_bytes(),
        }
    }
}

impl Next {
    fn frame(payload: Range<usize>, len: usize) -> Next {
        Next::Frame(Boundary { len, payload })
    }

    /// All of `bytes` have been looked at.
    fn partial(bytes: &[u8], missing: Option<usize>) -> Next {
        let scanned = bytes.len();
        Next::Partial { scanned, missing }
    }
}

/// The frame of `declared` bytes behind `width` bytes of prefix.
fn counted(bytes: &[u8], width: usize, declared: u64, max: usize) -> Result<Next, FrameError> {
    // What no address space could hold is too long, whatever the caller allows: no sum overflows.
    let max = max.min(usize::MAX - width);
    let payload = usize::try_from(declared)
        .ok()
        .filter(|&payload| payload <= max);
    let Some(payload) = payload else {
        return Err(FrameError::TooLong {
            declared: Some(declared),
            max,
        });
    };
    let len = width + payload;
    Ok(match len.checked_sub(bytes.len()) {
        None | Some(0) => Next::frame(width..len, len),
        missing => Next::partial(bytes, missing),
    })
}

/// The line at the start of `bytes`, of which the first `scanned` have no newline.
fn next_line(bytes: &[u8], scanned: usize, max: usize) -> Result<Next, FrameError> {
    // A newline behind these ends a line that is too long, so it is not looked for.
    let seen = &bytes[..bytes.len().min(max.saturating_add(1))];
    let scanned = scanned.min(seen.len());
    match find_newline(&seen[scanned..]) {
        Some(at) => Ok(Next::frame(0..scanned + at, scanned + at + 1)),
        None if bytes.len() > max => Err(FrameError::TooLong {
            declared: None,
            max,
        }),
        None => Ok(Next::partial(bytes, None)),
    }
}

/// Where the first newline is.
fn find_newline(bytes: &[u8]) -> Option<usize> {
    // `skip_until` is the one door to the `memchr` in std. From 64 bytes on it is several times as
    // fast as `iter().position()`, which looks at one byte after the other.
    let mut rest = bytes;
    let last = rest.skip_until(b'\n').ok()?.checked_sub(1)?;
    (bytes.get(last) == Some(&b'\n')).then_some(last)
}
