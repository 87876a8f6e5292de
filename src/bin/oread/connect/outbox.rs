//! Lines on their way to a server over UDP: cut off the input as they are asked for, and kept once
//! they are sent as long as another address may have to be sent them again.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::lines::{Line, Lines, quits};
use crate::failure::Failure;

/// How much of what was sent is kept at most, in bytes: each line counts with what it costs to keep
/// it.
const KEPT: usize = 1 << 20;

/// What a line costs beside its bytes, about: its place in the queue, its allocation.
const OVERHEAD: usize = 64;

/// The lines, in their order: those kept, those waiting, and the input that is not cut yet.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Whether somebody types the input.
    interactive: bool,
    pieces: VecDeque<Vec<u8>>,
    lines: Lines,
    /// Whether no piece comes after those, and whether the line that this ends is cut too.
    input_ended: bool,
    finished: bool,
    waiting: VecDeque<Vec<u8>>,
    /// What comes after the last line that waits, if that is the end.
    ending: Option<Result<(), Failure>>,
    kept: VecDeque<Vec<u8>>,
    /// What the kept lines cost together. Invariant: at most [`KEPT`].
    cost: usize,
    /// Lines that would have been kept, had there been room.
    forgotten: u64,
}

/// What an [`Outbox`] has left to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Lines, or input in which there may be some.
    Something,
    /// Nothing for now.
    NothingYet,
    /// Nothing, and no more input will come.
    NothingEver,
}

impl Outbox {
    /// An empty one, for lines of at most `max` bytes.
    pub(super) fn new(max: usize, interactive: bool) -> Outbox {
        Outbox {
            interactive,
            pieces: VecDeque::new(),
            lines: Lines::new(max),
            input_ended: false,
            finished: false,
            waiting: VecDeque::new(),
            ending: None,
            kept: VecDeque::new(),
            cost: 0,
            forgotten: 0,
        }
    }

    /// Takes a piece of input.
    pub(super) fn add(&mut self, piece: Vec<u8>) {
        self.pieces.push_back(piece);
    }

    /// Says that no piece comes any more.
    pub(super) fn end_input(&mut self) {
        self.input_ended = true;
    }

    /// What is left to send.
    pub(super) fn left(&self) -> Left {
        if !self.waiting.is_empty() || !self.pieces.is_empty() || self.input_ended != self.finished
        {
            Left::Something
        } else if self.finished {
            Left::NothingEver
        } else {
            Left::NothingYet
        }
    }

    /// The next line to send. Pieces of input go back to where they came from by `give_back`.
    pub(super) fn next(&mut self, give_back: impl Fn(Vec<u8>)) -> Option<Vec<u8>> {
        while self.waiting.is_empty() && self.ending.is_none() {
            match self.pieces.pop_front() {
                Some(piece) => {
                    self.cut(|lines, take| lines.push(&piece, take));
                    give_back(piece);
                }
                None if self.input_ended => {
                    self.cut(|lines, take| lines.finish(take));
                    self.finished = true;
                    break;
                }
                None => break,
            }
        }
        self.waiting.pop_front()
    }

    /// How it ends, when all lines before the end are sent: a `q` that was typed, or a line of a
    /// file or a pipe that can't be sent.
    pub(super) fn ending(&mut self) -> Option<Result<(), Failure>> {
        if self.waiting.is_empty() {
            self.ending.take()
        } else {
            None
        }
    }

    /// Takes a line back that could not be sent now: it is the next one again.
    pub(super) fn put_back(&mut self, line: Vec<u8>) {
        self.waiting.push_front(line);
    }

    /// Keeps a line that was sent. When there are too many the first ones are forgotten.
    pub(super) fn keep(&mut self, line: Vec<u8>) {
        self.cost += line.len() + OVERHEAD;
        self.kept.push_back(line);
        while self.cost > KEPT
            && let Some(first) = self.kept.pop_front()
        {
            self.cost -= first.len() + OVERHEAD;
            self.forgotten += 1;
        }
    }

    /// Has all that was kept sent again, before what waits; how many lines were forgotten.
    pub(super) fn send_again(&mut self) -> u64 {
        self.kept.append(&mut self.waiting);
        self.waiting = std::mem::take(&mut self.kept);
        self.cost = 0;
        std::mem::take(&mut self.forgotten)
    }

    /// Gives up what was kept: it has arrived.
    pub(super) fn forget(&mut self) {
        self.kept = VecDeque::new();
        (self.cost, self.forgotten) = (0, 0);
    }

    fn cut(
        &mut self,
        feed: impl FnOnce(&mut Lines, &mut dyn FnMut(Line<'_>) -> ControlFlow<()>) -> ControlFlow<()>,
    ) {
        let (waiting, ending) = (&mut self.waiting, &mut self.ending);
        let interactive = self.interactive;
        // Whether it broke off is in `ending`.
        let _ = feed(&mut self.lines, &mut |line| {
            *ending = Some(match line {
                Line::Whole { text, .. } if interactive && quits(text) => Ok(()),
                Line::Whole { text, .. } => {
                    waiting.push_back(text.to_vec());
                    return ControlFlow::Continue(());
                }
                Line::TooLong { number, max } => {
                    let problem =
                        format!("line {number} can't be sent: a datagram has at most {max} bytes");
                    if interactive {
                        log::error!("{problem}");
                        return ControlFlow::Continue(());
                    }
                    Err(Failure::runtime(problem))
                }
            });
            ControlFlow::Break(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(outbox: &mut Outbox) -> Option<String> {
        let line = outbox.next(|_| ());
        line.map(|line| String::from_utf8(line).unwrap())
    }

    fn rest(outbox: &mut Outbox) -> Vec<String> {
        std::iter::from_fn(|| next(outbox)).collect()
    }

    #[test]
    fn a_piece_is_given_back_when_it_is_cut_and_the_last_line_needs_no_newline() {
        let mut outbox = Outbox::new(99, false);
        for piece in ["one\n\nthr", "ee\nlast"] {
            outbox.add(piece.into());
        }
        let given_back = std::cell::Cell::new(0);
        let mut next = || {
            let line = outbox.next(|_| given_back.set(given_back.get() + 1));
            (line.map(|line| line.len()), given_back.get())
        };
        assert_eq!(
            [next(), next(), next()],
            [(Some(3), 1), (Some(0), 1), (Some(5), 2)]
        );
        assert_eq!(next(), (None, 2));
        assert_eq!(outbox.left(), Left::NothingYet);
        outbox.end_input();
        assert_eq!(outbox.left(), Left::Something);
        assert_eq!(rest(&mut outbox), ["last"]);
        assert_eq!(outbox.left(), Left::NothingEver);
        outbox.put_back(b"last".to_vec());
        assert_eq!(outbox.left(), Left::Something);
    }

    #[test]
    fn what_was_sent_is_sent_again_before_what_waits() {
        let mut outbox = Outbox::new(99, false);
        outbox.add(b"one\ntwo\nthree\nfour\n".to_vec());
        for _ in 0..2 {
            let line = outbox.next(|_| ()).unwrap();
            outbox.keep(line);
        }
        let refused = outbox.next(|_| ()).unwrap();
        outbox.put_back(refused);
        assert_eq!(outbox.send_again(), 0);
        assert_eq!(rest(&mut outbox), ["one", "two", "three", "four"]);
        // What has arrived is not sent twice.
        outbox.keep(b"one".to_vec());
        outbox.forget();
        outbox.send_again();
        assert_eq!(next(&mut outbox), None);
    }

    #[test]
    fn no_more_than_the_bound_is_kept_and_what_is_forgotten_is_counted() {
        let mut outbox = Outbox::new(99, false);
        for number in 0..100_000_u32 {
            outbox.keep(number.to_string().into_bytes());
            assert!(outbox.cost <= KEPT);
        }
        let forgotten = outbox.send_again();
        let again = rest(&mut outbox);
        assert_eq!(again.len() as u64 + forgotten, 100_000);
        assert!(again.len() > KEPT / (2 * OVERHEAD));
        assert_eq!(again.last().unwrap(), "99999");
    }

    #[test]
    fn the_end_comes_after_the_lines_before_it() {
        let mut outbox = Outbox::new(99, true);
        outbox.add(b"one\nq\nnever\n".to_vec());
        assert_eq!(next(&mut outbox).unwrap(), "one");
        assert_eq!(next(&mut outbox), None);
        assert_eq!(outbox.ending(), Some(Ok(())));
        let mut outbox = Outbox::new(3, false);
        outbox.add(b"q\nlong\nnever\n".to_vec());
        assert_eq!(
            (next(&mut outbox).unwrap().as_str(), next(&mut outbox)),
            ("q", None)
        );
        assert_eq!(outbox.ending().unwrap().unwrap_err().code(), 1);
    }
}
