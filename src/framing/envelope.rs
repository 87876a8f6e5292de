//! What a frame has around its payload, for who writes the payload himself.

use super::{EncodeError, Framing};

/// The bytes of a frame before and behind its payload; made by [`Framing::envelope`]. It holds them
/// itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    prefix: [u8; 8],
    width: u8,
    delimiter: Option<u8>,
}

impl Envelope {
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

impl Framing {
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
        let mut envelope = Envelope::default();
        match *self {
            Framing::Raw => {}
            Framing::Lines => envelope.delimiter = Some(b'\n'),
            Framing::Fixed(size) if len as u64 == u64::from(size.get()) => {}
            Framing::Fixed(size) => {
                return Err(EncodeError::WrongLength {
                    len,
                    fixed: size.get(),
                });
            }
            Framing::Length(prefix) if len as u64 > prefix.max() => {
                return Err(EncodeError::TooLong {
                    len,
                    max: prefix.max(),
                });
            }
            Framing::Length(prefix) => {
                envelope.width = prefix.width() as u8;
                envelope.prefix = prefix.bytes(len as u64);
            }
        }
        Ok(envelope)
    }
}
