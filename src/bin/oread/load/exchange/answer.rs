//! Where an answer ends in what a server sends.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use memchr::memchr;
use oread::Framing;
use oread::framing::Next;

use super::found::{Found, Scan};
use super::http;
use super::resp;
use crate::values::escapes::unescaped;

/// How the end of an answer is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It's the question again.
    Echo,
    /// A line, so many bytes, or a length and so many bytes.
    Framed(Framing),
    /// All bytes up to these, and these.
    Until(Arc<[u8]>),
    /// As HTTP/1.1 has it.
    Http,
    /// As Redis has it.
    Redis,
    /// Whatever has come when something has.
    Any,
    /// There is none: a question is done with when it's sent.
    None,
}

impl Answer {
    /// How each is written, and what it means.
    pub(crate) const FORMS: [(&'static str, &'static str); 9] = [
        ("echo", "the question again"),
        ("lines", "up to \\n"),
        ("fixed:N", "N bytes"),
        (
            "length:P",
            "behind a prefix P, as --framing has it: u8, u16, u32, u64, or u16le, u32le, u64le",
        ),
        ("until:TEXT", "up to TEXT, with the escapes of --message"),
        ("http", "an answer of HTTP/1.1"),
        ("redis", "an answer of Redis"),
        ("any", "whatever comes first"),
        ("none", "no answer is awaited"),
    ];

    /// Looks for the answer at the start of `bytes`, which begin as those of the last call with
    /// this `scan` did. It has `most` bytes at most.
    pub(crate) fn find(&self, bytes: &[u8], scan: &mut Scan, most: usize) -> Found {
        let found = match self {
            Answer::Framed(Framing::Lines) => until(b"\n", bytes, scan),
            Answer::Framed(framing) => frame(*framing, bytes, scan.looked as usize, most),
            Answer::Until(end) => until(end, bytes, scan),
            Answer::Http => http::find(bytes, scan),
            Answer::Redis => {
                scan.said.is_refusal = resp::is_refusal(bytes);
                resp::find(bytes, scan)
            }
            Answer::Any | Answer::Echo | Answer::None if bytes.is_empty() => Found::Part(None),
            Answer::Any | Answer::Echo | Answer::None => return Found::Whole(bytes.len()),
        };
        scan.looked = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match found {
            Found::Whole(len) if len > most => Found::TooLong,
            Found::Part(Some(len)) if len > most as u64 => Found::TooLong,
            Found::Part(None) if bytes.len() > most => Found::TooLong,
            found => found,
        }
    }

    /// The bytes that alone make its end.
    pub(crate) fn end(&self) -> Option<Arc<[u8]>> {
        match self {
            Answer::Framed(Framing::Lines) => Some(Arc::from(*b"\n")),
            Answer::Until(end) => Some(Arc::clone(end)),
            _ => None,
        }
    }
}

/// Looks for what ends with these bytes: by the last of them, which is quicker than a search for
/// all where answers are short.
#[inline]
fn until(end: &[u8], bytes: &[u8], scan: &Scan) -> Found {
    let Some(last) = end.last() else {
        return Found::Part(None);
    };
    let mut from = scan.looked as usize;
    while let Some(at) = bytes.get(from..).and_then(|rest| memchr(*last, rest)) {
        from += at + 1;
        if bytes[..from].ends_with(end) {
            return Found::Whole(from);
        }
    }
    Found::Part(None)
}

/// Looks for a frame.
fn frame(framing: Framing, bytes: &[u8], looked: usize, most: usize) -> Found {
    match framing.next(bytes, looked, most) {
        Ok(Next::Frame(boundary)) => Found::Whole(boundary.len),
        // Of a prefix that is not whole, its own rest is what is missing.
        Ok(Next::Partial {
            missing: Some(more),
            ..
        }) if bytes.len() >= framing.overhead() => Found::Part(Some((bytes.len() + more) as u64)),
        Ok(Next::Partial { .. }) => Found::Part(None),
        Err(_) => Found::TooLong,
    }
}

impl FromStr for Answer {
    type Err = String;

    fn from_str(text: &str) -> Result<Answer, String> {
        if let Some(end) = text.strip_prefix("until:") {
            return match unescaped(end)? {
                end if end.is_empty() => {
                    Err("write what ends an answer, as in until:\\r\\n".into())
                }
                end => Ok(Answer::Until(end)),
            };
        }
        match text {
            "echo" => Ok(Answer::Echo),
            "http" => Ok(Answer::Http),
            "redis" => Ok(Answer::Redis),
            "any" => Ok(Answer::Any),
            "none" => Ok(Answer::None),
            "raw" => Err("write any: whatever comes first".into()),
            _ => match text.parse() {
                Ok(framing) => Ok(Answer::Framed(framing)),
                Err(_) => Err(format!("there are {}", forms())),
            },
        }
    }
}

/// The help of an option that takes one, after what it is about.
pub(crate) fn forms_of_answers(about: &str) -> String {
    format!("{about}: {}", forms())
}

/// All forms, as people are told them.
fn forms() -> String {
    let forms = Answer::FORMS.iter();
    let forms: Vec<String> = forms
        .map(|(form, meaning)| format!("{form} ({meaning})"))
        .collect();
    forms.join(", ")
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Echo => f.write_str("echo"),
            Answer::Framed(framing) => framing.fmt(f),
            Answer::Until(end) => write!(f, "until:{}", end.escape_ascii()),
            Answer::Http => f.write_str("http"),
            Answer::Redis => f.write_str("redis"),
            Answer::Any => f.write_str("any"),
            Answer::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests;
