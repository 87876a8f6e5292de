//! Framings as typed: the library's own.

pub(crate) use oread::Framing;
