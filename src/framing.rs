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

mod error;
mod frames;
mod prefix;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::io::BufRead;
use std::num::NonZeroU32;
use std::ops::Range;
use std::str::FromStr;

pub use error::{EncodeError, FrameError, FramingParseError};
pub use frames::{Envelope, Frame, Frames};
pub use prefix::Prefix;

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
///     "framing \"fixed:0\" has no size from 1 to 4294967295; allowed are raw (bytes as they \
///      come), lines (each ended by \\n), fixed:N (N bytes each), length:P (behind a prefix P: \
///      u8, u16, u32 or u64, big-endian, or u16le, u32le or u64le)");
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

/// What a framing puts around a payload, and which payloads it takes.
struct Layout {
    /// The number in front of a payload.
    prefix: Option<Prefix>,
    /// The byte that ends a frame, and is in no payload.
    delimiter: Option<u8>,
    /// The least and the most that a frame declares to carry, in bytes; `None` where it declares
    /// nothing.
    declared: Option<(u64, u64)>,
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
    /// How each framing is written, and what it means: for a program's help and messages. `N` and
    /// `P` stand for what is typed in their place.
    pub const FORMS: &'static [(&'static str, &'static str)] = &[
        ("raw", "bytes as they come"),
        ("lines", "each ended by \\n"),
        ("fixed:N", "N bytes each"),
        (
            "length:P",
            "behind a prefix P: u8, u16, u32 or u64, big-endian, or u16le, u32le or u64le",
        ),
    ];

    const fn layout(&self) -> Layout {
        let (prefix, delimiter, declared) = match *self {
            Framing::Raw => (None, None, None),
            Framing::Lines => (None, Some(b'\n'), None),
            Framing::Fixed(size) => (None, None, Some((size.get() as u64, size.get() as u64))),
            Framing::Length(prefix) => (Some(prefix), None, Some((0, prefix.max()))),
        };
        Layout {
            prefix,
            delimiter,
            declared,
        }
    }

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
        if let Some(at) = envelope
            .behind()
            .first()
            .and_then(|end| find(*end, payload))
        {
            return Err(EncodeError::InnerNewline { at });
        }
        out.extend_from_slice(envelope.before());
        out.extend_from_slice(payload);
        out.extend_from_slice(envelope.behind());
        Ok(())
    }

    /// What stands around a payload of `len` bytes, so that a large one can be written without
    /// being copied into a frame first, as [`encode`](Self::encode) does. That a line's payload has
    /// no newline in it is the caller's to see to.
    ///
    /// # Errors
    ///
    /// When this framing has no frame for so many bytes.
    ///
    /// ```
    /// use oread::Framing;
    ///
    /// let framing: Framing = "length:u16".parse().unwrap();
    /// let envelope = framing.envelope(515).unwrap();
    /// assert_eq!((envelope.before(), envelope.behind()), (&[2, 3][..], &[][..]));
    /// assert_eq!(Framing::Lines.envelope(515).unwrap().behind(), b"\n");
    /// ```
    pub fn envelope(&self, len: usize) -> Result<Envelope, EncodeError> {
        let layout = self.layout();
        if let Some((least, most)) = layout.declared
            && !(least..=most).contains(&(len as u64))
        {
            return Err(match u32::try_from(most) {
                Ok(fixed) if least == most => EncodeError::WrongLength { len, fixed },
                _ => EncodeError::TooLong { len, max: most },
            });
        }
        Ok(Envelope::new(layout.prefix, len as u64, layout.delimiter))
    }

    /// The largest payload in bytes that a frame can declare: the fixed size, or what the prefix
    /// can say. `None` where a frame declares nothing.
    #[must_use]
    pub const fn max_declarable(&self) -> Option<u64> {
        match self.layout().declared {
            Some((_, most)) => Some(most),
            None => None,
        }
    }

    /// The smallest payload in bytes that a frame can declare: the fixed size, or 0. `None` where a
    /// frame declares nothing.
    #[must_use]
    pub const fn min_declarable(&self) -> Option<u64> {
        match self.layout().declared {
            Some((least, _)) => Some(least),
            None => None,
        }
    }

    /// How many bytes a frame has beside its payload. An input buffer of this and the maximum can
    /// hold every frame that is allowed.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        let Layout {
            prefix, delimiter, ..
        } = self.layout();
        delimiter.is_some() as usize
            + match prefix {
                Some(prefix) => prefix.width(),
                None => 0,
            }
    }

    /// Whether the end of the stream ends a frame too: an unterminated last line is a line, while
    /// the start of a frame that declares its length is a loss.
    #[must_use]
    pub const fn ends_with_stream(&self) -> bool {
        self.layout().declared.is_none()
    }

    /// The payload in the start of a frame that the end of the stream has cut off.
    ///
    /// ```
    /// use oread::Framing;
    ///
    /// let framing: Framing = "length:u16".parse().unwrap();
    /// assert_eq!(framing.cut_payload(b"\x00\x05hel"), b"hel");
    /// assert_eq!(framing.cut_payload(b"\x00"), b"");
    /// ```
    #[must_use]
    pub fn cut_payload<'a>(&self, start: &'a [u8]) -> &'a [u8] {
        let width = self.layout().prefix.map_or(0, Prefix::width);
        start.get(width..).unwrap_or_default()
    }
}

impl FromStr for Framing {
    type Err = FramingParseError;

    fn from_str(text: &str) -> Result<Framing, FramingParseError> {
        let wrong = |problem| FramingParseError::new(text, problem);
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
    match find(b'\n', &seen[scanned..]) {
        Some(at) => Ok(Next::frame(0..scanned + at, scanned + at + 1)),
        None if bytes.len() > max => Err(FrameError::TooLong {
            declared: None,
            max,
        }),
        None => Ok(Next::partial(bytes, None)),
    }
}

/// Where `byte` is for the first time.
fn find(byte: u8, bytes: &[u8]) -> Option<usize> {
    // `skip_until` is the one door to the `memchr` in std. From 64 bytes on it is several times as
    // fast as `iter().position()`, which looks at one byte after the other.
    let mut rest = bytes;
    let last = rest.skip_until(byte).ok()?.checked_sub(1)?;
    (bytes.get(last) == Some(&byte)).then_some(last)
}
