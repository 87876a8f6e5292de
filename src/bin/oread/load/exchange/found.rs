//! What stands at the start of what a server sent, as far as it has come.

/// What stands at the start of what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole answer of so many bytes.
    Whole(usize),
    /// The start of one. How many bytes it has in all, where it says so.
    Part(Option<u64>),
    /// One of more bytes than may be.
    TooLong,
    /// None, and why.
    Wrong(&'static str),
}

impl Found {
    /// An answer of so many bytes in all.
    pub(super) fn of(bytes: &[u8], len: u64) -> Found {
        match usize::try_from(len) {
            Ok(len) if len <= bytes.len() => Found::Whole(len),
            _ => Found::Part(Some(len)),
        }
    }
}

/// How far an answer that is not whole has been looked at. A new one begins with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Bytes that have been looked at.
    pub(crate) looked: u32,
    /// Where the next part begins, of answers that have parts.
    pub(crate) at: u32,
    /// How many parts are to come at least.
    pub(super) open: u32,
    /// What it says of itself, as soon as its length is known.
    pub(crate) said: Said,
}

/// What an answer says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// That it could not do what was asked.
    pub(crate) is_refusal: bool,
    /// That the server ends the connection behind it.
    pub(crate) is_last: bool,
}
