//! What an answer must hold.

use std::fmt;
use std::sync::Arc;

use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

/// Bytes that a compiled expression takes at most, so that one that is typed by mistake doesn't
/// take the machine.
const MOST_BYTES: usize = 10 << 20;

/// What an answer must hold.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    /// These bytes, somewhere in it.
    Text(Arc<Finder<'static>>),
    /// Something that matches, somewhere in it.
    Regex(Regex),
}

impl Expect {
    /// An answer with these bytes in it.
    pub(crate) fn text(bytes: &[u8]) -> Expect {
        Expect::Text(Arc::new(Finder::new(bytes).into_owned()))
    }

    /// An answer in which the expression matches; by bytes, and `.` is any byte but a newline.
    ///
    /// # Errors
    /// It is none, or a very large one.
    pub(crate) fn regex(text: &str) -> Result<Expect, String> {
        let regex = RegexBuilder::new(text)
            .unicode(false)
            .size_limit(MOST_BYTES)
            .build();
        regex.map(Expect::Regex).map_err(|error| error.to_string())
    }

    /// Whether an answer holds it.
    pub(crate) fn is_in(&self, answer: &[u8]) -> bool {
        match self {
            Expect::Text(finder) => finder.find(answer).is_some(),
            Expect::Regex(regex) => regex.is_match(answer),
        }
    }
}

impl PartialEq for Expect {
    fn eq(&self, other: &Expect) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Text(finder) => write!(f, "\"{}\"", finder.needle().escape_ascii()),
            Expect::Regex(regex) => write!(f, "/{}/", regex.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_a_text_or_something_that_matches() {
        assert!(Expect::text(b"OK").is_in(b"+OK\r\n"));
        assert!(!Expect::text(b"OK").is_in(b"-ERR\r\n"));
        assert!(Expect::text(b"\xff\x00").is_in(b"a\xff\x00b"));
        let regex = Expect::regex(r"^\+(OK|PONG)\r\n$").unwrap();
        assert!(regex.is_in(b"+PONG\r\n") && !regex.is_in(b"+PONG\r\n+"));
        assert!(Expect::regex(r"\xff").unwrap().is_in(b"a\xffb"));
    }

    #[test]
    fn an_expression_that_is_none_is_told_and_a_huge_one_refused() {
        assert!(Expect::regex("(").unwrap_err().contains("unclosed"));
        let said = Expect::regex("(.{1000}){1000}{1000}").unwrap_err();
        assert!(said.contains("size limit"), "{said}");
    }
}
