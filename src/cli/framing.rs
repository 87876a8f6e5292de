//! Framings as typed. A stand-in with the shape of the library's, until the library has it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Where one frame ends and the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Bytes as they come.
    Raw,
    /// Up to a newline, which is part of the frame.
    Lines,
    /// This many bytes.
    Fixed(NonZeroU32),
    /// A length, and as many bytes as it says.
    Length(Prefix),
}

/// The length in front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// The length's own size in bytes: 1, 2, 4 or 8.
    pub(crate) width: u8,
    /// Whether its first byte is the lowest one.
    pub(crate) little_endian: bool,
}

impl Prefix {
    /// The longest frame that it can announce, in bytes.
    pub(crate) const fn max_length(self) -> u64 {
        u64::MAX >> (64 - 8 * self.width as u32)
    }
}

impl FromStr for Framing {
    type Err = String;

    fn from_str(text: &str) -> Result<Framing, String> {
        let unknown = || {
            "not a framing; use raw, lines, fixed:N, or length: with u8, u16, u32 or u64 \
             (and le for little-endian, as in length:u16le)"
                .to_owned()
        };
        if let Some(n) = text.strip_prefix("fixed:") {
            let n: u32 = n
                .parse()
                .map_err(|_| "not a framing; fixed: takes a number of bytes, as in fixed:64")?;
            return NonZeroU32::new(n)
                .map(Framing::Fixed)
                .ok_or_else(|| "a fixed frame must have at least 1 byte".to_owned());
        }
        if let Some(prefix) = text.strip_prefix("length:") {
            let (name, little_endian) = prefix
                .strip_suffix("le")
                .map_or((prefix, false), |name| (name, true));
            let width = match name {
                "u8" => 1,
                "u16" => 2,
                "u32" => 4,
                "u64" => 8,
                _ => return Err(unknown()),
            };
            return Ok(Framing::Length(Prefix {
                width,
                little_endian,
            }));
        }
        match text {
            "raw" => Ok(Framing::Raw),
            "lines" => Ok(Framing::Lines),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Framing::Raw => f.write_str("raw"),
            Framing::Lines => f.write_str("lines"),
            Framing::Fixed(n) => write!(f, "fixed:{n}"),
            Framing::Length(Prefix {
                width,
                little_endian,
            }) => {
                write!(
                    f,
                    "length:u{}{}",
                    u32::from(*width) * 8,
                    if *little_endian { "le" } else { "" }
                )
            }
        }
    }
}
