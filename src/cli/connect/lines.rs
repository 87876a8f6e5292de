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
    /// One that is longer than the maximum. No line comes after it.
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
        }
    }

    /// Calls `take` with each line that ends in `piece`, until it breaks or a line is too long.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        mut take: impl FnMut(Line<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut rest = piece;
        while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
            let (end, after) = (&rest[..at], &rest[at + 1..]);
            if self.partial.len() + end.len() > self.max {
                return self.too_long(take);
            }
            let number = self.number;
            self.number += 1;
            rest = after;
            if self.partial.is_empty() {
                take(Line::Whole { number, text: end })?;
            } else {
                let mut text = std::mem::take(&mut self.partial);
                text.extend_from_slice(end);
                take(Line::Whole {
                    number,
                    text: &text,
                })?;
            }
        }
        if self.partial.len() + rest.len() > self.max {
            return self.too_long(take);
        }
        self.partial.extend_from_slice(rest);
        ControlFlow::Continue(())
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

    fn too_long(&self, mut take: impl FnMut(Line<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let (number, max) = (self.number, self.max);
        take(Line::TooLong { number, max })?;
        ControlFlow::Break(())
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
    fn only_a_single_q_quits() {
        assert!(quits(b"q") && quits(b"Q") && quits(b"q\r"));
        assert!(!quits(b"") && !quits(b"qq") && !quits(b" q") && !quits(b"quit"));
    }
}
