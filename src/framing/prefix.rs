//! The number before a frame.

use std::fmt;

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

impl Prefix {
    /// How many bytes the widest prefix has.
    pub(super) const MAX_WIDTH: usize = size_of::<u64>();

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
        u64::MAX >> (8 * (Prefix::MAX_WIDTH - self.width()))
    }

    /// The number at the start of `bytes`, if it is there as a whole.
    pub(super) fn read(self, bytes: &[u8]) -> Option<u64> {
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
    pub(super) fn bytes(self, n: u64) -> [u8; Prefix::MAX_WIDTH] {
        match self {
            Prefix::U8 | Prefix::U16 | Prefix::U32 | Prefix::U64 => {
                (n << (8 * (Prefix::MAX_WIDTH - self.width()))).to_be_bytes()
            }
            Prefix::U16Le | Prefix::U32Le | Prefix::U64Le => n.to_le_bytes(),
        }
    }
}

/// How prefixes are written.
macro_rules! prefixes {
    ($($prefix:ident $name:literal),+) => {
        impl Prefix {
            /// Every prefix.
            // The match below fails to compile if one is left out.
            pub const ALL: &'static [Prefix] = &[$(Prefix::$prefix),+];
        }

        impl fmt::Display for Prefix {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Prefix::$prefix => $name),+ })
            }
        }
    };
}

prefixes!(U8 "u8", U16 "u16", U32 "u32", U64 "u64", U16Le "u16le", U32Le "u32le", U64Le "u64le");
