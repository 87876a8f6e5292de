//! Where an answer ends in what a server sends.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use memchr::memchr;
use oread::Framing;
use oread::framing::Next;

use super::{http, resp};
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
    pub(super) at: u32,
    /// How many parts are to come at least.
    pub(super) open: u32,
}

/// What an answer says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// That it could not do what was asked.
    pub(crate) is_refusal: bool,
    /// That the server ends the connection behind it.
    pub(crate) is_last: bool,
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
            Answer::Redis => resp::find(bytes, scan),
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

    /// What an answer says of itself, by its first bytes: all up to where its length is known.
    pub(crate) fn said(&self, start: &[u8]) -> Said {
        match self {
            Answer::Http => http::said(start),
            Answer::Redis => Said {
                is_refusal: resp::is_refusal(start),
                is_last: false,
            },
            _ => Said::default(),
        }
    }
}

/// Looks for what ends with these bytes: by the last of them, which is quicker than a search for all
/// where answers are short.
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
pub(crate) mod tests {
    use super::*;

    const MOST: usize = 1000;

    fn answer(text: &str) -> Answer {
        text.parse().unwrap()
    }

    /// Where the answer ends, fed in pieces of this size; why it has no end.
    pub(crate) fn end(
        answer: &Answer,
        bytes: &[u8],
        piece: usize,
    ) -> Result<Option<usize>, &'static str> {
        let (mut have, mut scan) = (0, Scan::default());
        loop {
            have = (have + piece).min(bytes.len());
            match answer.find(&bytes[..have], &mut scan, MOST) {
                Found::Whole(len) => return Ok(Some(len)),
                Found::Part(of) => {
                    assert!(of.is_none_or(|of| of > have as u64), "{of:?} of {have}");
                }
                Found::TooLong => return Err("too long"),
                Found::Wrong(why) => return Err(why),
            }
            if have == bytes.len() {
                return Ok(None);
            }
        }
    }

    /// It ends there, whatever the pieces that it comes in.
    pub(crate) fn ends(answer: &Answer, bytes: &[u8], expected: usize) {
        for piece in 1..=bytes.len() {
            assert_eq!(
                end(answer, bytes, piece),
                Ok(Some(expected)),
                "{answer} by {piece}"
            );
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
            ends(&how, bytes, expected);
            assert_eq!(end(&how, &bytes[..expected - 1], 1), Ok(None), "{how}");
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
            let found = answer(how).find(bytes, &mut Scan::default(), MOST);
            assert_eq!(found, Found::Part(of), "{how} {bytes:?}");
        }
    }

    #[test]
    fn an_answer_without_an_end_is_too_long_at_its_bound() {
        let long = [b'a'; MOST + 1];
        for how in ["lines", "until:xyz"] {
            assert_eq!(
                answer(how).find(&long, &mut Scan::default(), MOST),
                Found::TooLong,
                "{how}"
            );
            assert_eq!(
                answer(how).find(&long[..MOST], &mut Scan::default(), MOST),
                Found::Part(None),
                "{how}"
            );
        }
        let declared = answer("length:u32").find(&[0x7f, 0, 0, 0], &mut Scan::default(), MOST);
        assert_eq!(declared, Found::TooLong);
    }

    #[test]
    fn whatever_comes_the_pieces_it_comes_in_change_nothing() {
        const TOKENS: [&str; 16] = [
            "HTTP/1.1 200 OK\r\n",
            "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
            "\r\n",
            "3\r\nabc\r\n",
            "0\r\n",
            "*2\r\n",
            "$3\r\n",
            "abc",
            "%1\r\n",
            ":7\r\n",
            "|1\r\n",
            "\n",
            "\u{1}",
            "END",
            "HTTP/1.1 100 C\r\n\r\n",
        ];
        let mut state = 7_u64;
        let mut draw = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let mut whole = 0;
        for _ in 0..20_000 {
            let tokens = 1 + draw(8);
            let text: String = (0..tokens).map(|_| TOKENS[draw(TOKENS.len())]).collect();
            let how = answer(
                [
                    "http",
                    "redis",
                    "lines",
                    "length:u8",
                    "until:END",
                    "until:\\r\\n\\r\\n",
                ][draw(6)],
            );
            let at_once = end(&how, text.as_bytes(), text.len());
            for piece in [1, 2, 5] {
                let by_piece = end(&how, text.as_bytes(), piece);
                // That it's none may be found out with the next line.
                let is_late = by_piece == Ok(None) && at_once.is_err();
                assert!(by_piece == at_once || is_late, "{how} by {piece}: {text:?}");
            }
            whole += u32::from(matches!(at_once, Ok(Some(_))));
        }
        assert!(whole > 2000, "{whole} were whole");
    }

    #[test]
    fn whatever_comes_first_is_an_answer() {
        assert_eq!(
            answer("any").find(b"", &mut Scan::default(), MOST),
            Found::Part(None)
        );
        assert_eq!(
            answer("any").find(b"abc", &mut Scan::default(), MOST),
            Found::Whole(3)
        );
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
