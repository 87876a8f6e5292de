//! Where an answer ends in what a server sends.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use memchr::memmem;
use oread::Framing;
use oread::framing::{FrameError, Next};

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
    /// Whatever has come when something has.
    Any,
    /// There is none: a question is done with when it's sent.
    None,
}

/// What stands at the start of what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole answer of so many bytes.
    Whole(usize),
    /// The start of one. How many bytes it has in all, where it says so.
    Part(Option<u64>),
    /// One of more bytes than may be.
    TooLong,
}

impl Answer {
    /// How each is written, and what it means.
    pub(crate) const FORMS: [(&'static str, &'static str); 7] = [
        ("echo", "the question again"),
        ("lines", "up to \\n"),
        ("fixed:N", "N bytes"),
        (
            "length:P",
            "behind a prefix P, as --framing has it: u8, u16, u32, u64, or u16le, u32le, u64le",
        ),
        ("until:TEXT", "up to TEXT, with the escapes of --message"),
        ("any", "whatever comes first"),
        ("none", "no answer is awaited"),
    ];

    /// Looks for the answer at the start of `bytes`, of which the first `before` have been looked
    /// at in vain. It has `most` bytes at most.
    pub(crate) fn find(&self, bytes: &[u8], before: usize, most: usize) -> Found {
        let found = match self {
            Answer::Framed(framing) => match framing.next(bytes, before, most) {
                Ok(Next::Frame(boundary)) => Found::Whole(boundary.len),
                Ok(Next::Partial { missing, .. }) if *framing != Framing::Lines => {
                    // Of a prefix that is not whole, its own rest is what is missing.
                    let is_known = bytes.len() >= framing.overhead();
                    let all = missing.filter(|_| is_known).map(|more| bytes.len() + more);
                    Found::Part(all.map(|all| all as u64))
                }
                Ok(Next::Partial { .. }) => Found::Part(None),
                Err(FrameError::TooLong { .. }) => Found::TooLong,
                Err(_) => Found::TooLong,
            },
            Answer::Until(end) => {
                // It may have begun in what was looked at.
                let from = before.saturating_sub(end.len().saturating_sub(1));
                match memmem::find(bytes.get(from..).unwrap_or_default(), end) {
                    Some(at) => Found::Whole(from + at + end.len()),
                    None => Found::Part(None),
                }
            }
            Answer::Any | Answer::Echo | Answer::None if bytes.is_empty() => Found::Part(None),
            Answer::Any | Answer::Echo | Answer::None => Found::Whole(bytes.len()),
        };
        match found {
            Found::Whole(len) if len > most && *self != Answer::Any => Found::TooLong,
            Found::Part(None) if bytes.len() > most => Found::TooLong,
            found => found,
        }
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

/// All forms, as people are told them.
pub(crate) fn forms() -> String {
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
            Answer::Any => f.write_str("any"),
            Answer::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1000;

    fn answer(text: &str) -> Answer {
        text.parse().unwrap()
    }

    /// Where the answer ends, fed in pieces of this size.
    fn end(answer: &Answer, bytes: &[u8], piece: usize) -> Option<usize> {
        let mut before = 0;
        loop {
            let have = (before + piece).min(bytes.len());
            match answer.find(&bytes[..have], before, MOST) {
                Found::Whole(len) => return Some(len),
                Found::Part(of) => {
                    assert!(of.is_none_or(|of| of > have as u64), "{of:?} of {have}");
                }
                Found::TooLong => panic!("too long"),
            }
            if have == bytes.len() {
                return None;
            }
            before = have;
        }
    }

    #[test]
    fn an_answer_ends_in_the_same_place_whatever_the_pieces_it_comes_in() {
        for (how, bytes, expected) in [
            ("lines", b"+OK\r\nmore".as_slice(), 5),
            ("fixed:4", b"abcdefgh", 4),
            ("length:u8", b"\x03abcdef", 4),
            ("length:u16le", b"\x05\x00abcdefgh", 7),
            ("until:END\\r\\n", b"VALUE a 0 1\r\nx\r\nEND\r\nEND\r\n", 21),
            ("until:aab", b"aaaabaab", 5),
            ("until:\\n\\n", b"a\nb\n\n\n", 5),
        ] {
            let how = answer(how);
            for piece in 1..=bytes.len() {
                assert_eq!(end(&how, bytes, piece), Some(expected), "{how} by {piece}");
            }
            assert_eq!(end(&how, &bytes[..expected - 1], 1), None, "{how}");
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is_as_soon_as_that_is_known() {
        for (how, bytes, of) in [
            ("fixed:40", b"a".as_slice(), Some(40)),
            ("length:u16", b"\x01", None),
            ("length:u16", b"\x01\x00", Some(258)),
            ("length:u16", b"\x01\x00abc", Some(258)),
            ("lines", b"abc", None),
            ("until:x", b"abc", None),
        ] {
            let found = answer(how).find(bytes, 0, MOST);
            assert_eq!(found, Found::Part(of), "{how} {bytes:?}");
        }
    }

    #[test]
    fn an_answer_without_an_end_is_too_long_at_its_bound() {
        let long = [b'a'; MOST + 1];
        for how in ["lines", "until:xyz"] {
            assert_eq!(answer(how).find(&long, 0, MOST), Found::TooLong, "{how}");
            assert_eq!(
                answer(how).find(&long[..MOST], 0, MOST),
                Found::Part(None),
                "{how}"
            );
        }
        let declared = answer("length:u32").find(&[0x7f, 0, 0, 0], 0, MOST);
        assert_eq!(declared, Found::TooLong);
    }

    #[test]
    fn whatever_comes_first_is_an_answer() {
        assert_eq!(answer("any").find(b"", 0, MOST), Found::Part(None));
        assert_eq!(answer("any").find(b"abc", 0, MOST), Found::Whole(3));
    }

    #[test]
    fn what_is_no_answer_is_told_with_what_there_is() {
        for text in [
            "",
            "line",
            "until:",
            "fixed:0",
            "length:u24",
            "raw",
            "until:\\q",
        ] {
            let said = text.parse::<Answer>().unwrap_err();
            assert!(!said.is_empty() && said != "raw", "{text}: {said}");
        }
        for text in [
            "echo",
            "lines",
            "fixed:7",
            "length:u16le",
            "until:\\r\\n",
            "any",
            "none",
        ] {
            assert_eq!(answer(text).to_string(), text);
        }
    }
}
