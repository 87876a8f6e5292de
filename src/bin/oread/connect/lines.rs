//! Standard input as lines: where each is a message, and where somebody types.

use std::ops::ControlFlow;

/// Cuts input into lines, however it arrives. It keeps the line under way, and no more.
#[derive(Debug)]
pub(super) struct Lines {
    partial: Vec<u8>,
    /// The number of the line under way, from 1 on.
    number: u64,
    /// The longest line, in bytes, its newline not counted.
    max: usize,
    /// Whether the line under way was too long: the rest of it is left out.
    skipping: bool,
}

/// A line of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A whole one, without its newline.
    Whole {
        /// Which one it is, from 1 on.
        number: u64,
        /// What it says.
        text: &'a [u8],
    },
    /// One that is longer than the maximum. It is told once, and left out.
    TooLong {
        /// Which one it is.
        number: u64,
        /// The maximum in bytes.
        max: usize,
    },
}

impl Lines {
    /// Lines of at most `max` bytes.
    pub(super) fn new(max: usize) -> Lines {
        Lines {
            partial: Vec::new(),
            number: 1,
            max,
            skipping: false,
        }
    }

    /// Calls `take` with each line that ends in `piece` or becomes too long in it, until it breaks.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        mut take: impl FnMut(Line<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut rest = piece;
        loop {
            let newline = rest.iter().position(|&byte| byte == b'\n');
            let part = &rest[..newline.unwrap_or(rest.len())];
            let (number, max) = (self.number, self.max);
            if self.skipping {
                // Its newline is waited for.
            } else if self.partial.len() + part.len() > max {
                self.partial = Vec::new();
                self.skipping = true;
                take(Line::TooLong { number, max })?;
            } else if newline.is_none() {
                self.partial.extend_from_slice(part);
            } else if self.partial.is_empty() {
                take(Line::Whole { number, text: part })?;
            } else {
                let mut text = std::mem::take(&mut self.partial);
                text.extend_from_slice(part);
                take(Line::Whole {
                    number,
                    text: &text,
                })?;
            }
            let Some(at) = newline else {
                return ControlFlow::Continue(());
            };
            self.number += 1;
            self.skipping = false;
            rest = &rest[at + 1..];
        }
    }

    /// Calls `take` with the last line, if the input ended without a newline.
    pub(super) fn finish(
        &mut self,
        mut take: impl FnMut(Line<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let text = std::mem::take(&mut self.partial);
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        let number = self.number;
        take(Line::Whole {
            number,
            text: &text,
        })
    }
}

/// Whether a line that somebody typed ends the conversation: `q` or `Q` and nothing else.
pub(super) fn quits(line: &[u8]) -> bool {
    matches!(line.strip_suffix(b"\r").unwrap_or(line), b"q" | b"Q")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(max: usize, pieces: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut lines = Lines::new(max);
        let mut take = |line: Line<'_>| {
            seen.push(match line {
                Line::Whole { number, text } => {
                    format!("{number} {}", String::from_utf8_lossy(text))
                }
                Line::TooLong { number, max } => format!("{number} over {max}"),
            });
            ControlFlow::Continue(())
        };
        let mut pieces = pieces.iter();
        if pieces.all(|piece| lines.push(piece, &mut take).is_continue()) {
            let _ = lines.finish(take);
        }
        seen
    }

    #[test]
    fn lines_are_found_however_they_arrive() {
        let whole = lines(9, &[b"one\n\ntwo\nthree"]);
        assert_eq!(whole, ["1 one", "2 ", "3 two", "4 three"]);
        let torn: Vec<&[u8]> = b"one\n\ntwo\nthree".chunks(1).collect();
        assert_eq!(lines(9, &torn), whole);
    }

    #[test]
    fn a_line_over_the_maximum_is_told_before_it_is_kept() {
        assert_eq!(lines(3, &[b"abc\nabcd\n"]), ["1 abc", "2 over 3"]);
        assert_eq!(lines(3, &[b"ab", b"cd"]), ["1 over 3"]);
    }

    #[test]
    fn the_lines_after_one_that_is_too_long_are_whole_and_counted_right() {
        let expected = ["1 over 3", "2 ef", "3 over 3", "4 g"];
        assert_eq!(lines(3, &[b"abcd\nef\nlonger\ng"]), expected);
        let torn: Vec<&[u8]> = b"abcd\nef\nlonger\ng".chunks(1).collect();
        assert_eq!(lines(3, &torn), expected);
    }

    #[test]
    fn only_a_single_q_quits() {
        assert!(quits(b"q") && quits(b"Q") && quits(b"q\r"));
        assert!(!quits(b"") && !quits(b"qq") && !quits(b" q") && !quits(b"quit"));
    }
}
