//! Frames: cut off a stretch of bytes, and what stands around a payload.

use super::{Boundary, FrameError, Framing, Next, Prefix};

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// All of it, with its delimiter or prefix: what an echo sends back.
    pub whole: &'a [u8],
    /// What it carries.
    pub payload: &'a [u8],
}

/// Cuts whole frames off the start of some bytes: see [`Framing::frames`].
///
/// It ends where no whole frame is left, and after an error. One may stop at any frame;
/// [`consumed`](Self::consumed) counts the frames that were given out, and no other.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    pub(super) framing: Framing,
    pub(super) bytes: &'a [u8],
    /// Invariant: the end of a whole frame in `bytes`, or 0.
    pub(super) consumed: usize,
    pub(super) scanned: usize,
    pub(super) max_frame: usize,
    pub(super) failed: bool,
}

impl Frames<'_> {
    /// How many bytes the frames have that were given out so far: what a handler has consumed. They
    /// lie side by side at the start of the bytes, so an echo may send them in one piece.
    #[must_use]
    pub const fn consumed(&self) -> usize {
        self.consumed
    }

    /// How much of what is left was looked at, for the next call of [`Framing::frames`].
    #[must_use]
    pub const fn scanned(&self) -> usize {
        self.scanned
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.consumed..];
        if rest.is_empty() || self.failed {
            return None;
        }
        match self.framing.next(rest, self.scanned, self.max_frame) {
            Ok(Next::Frame(Boundary { len, payload })) => {
                self.consumed += len;
                self.scanned = 0;
                Some(Ok(Frame {
                    whole: &rest[..len],
                    payload: &rest[payload],
                }))
            }
            Ok(Next::Partial { scanned, .. }) => {
                self.scanned = scanned;
                None
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for Frames<'_> {}

/// The bytes of a frame before and behind its payload; made by [`Framing::envelope`]. It holds them
/// itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    prefix: [u8; Prefix::MAX_WIDTH],
    width: u8,
    delimiter: Option<u8>,
}

impl Envelope {
    /// What is around `len` bytes, which is no more than the prefix can say.
    pub(super) fn new(prefix: Option<Prefix>, len: u64, delimiter: Option<u8>) -> Envelope {
        Envelope {
            prefix: prefix.map_or_else(Default::default, |prefix| prefix.bytes(len)),
            width: prefix.map_or(0, |prefix| prefix.width() as u8),
            delimiter,
        }
    }

    /// What is written before the payload: a prefix, or nothing.
    #[must_use]
    pub fn before(&self) -> &[u8] {
        &self.prefix[..usize::from(self.width)]
    }

    /// What is written behind the payload: a delimiter, or nothing.
    #[must_use]
    pub fn behind(&self) -> &[u8] {
        self.delimiter.as_slice()
    }
}
