//! An output of lines that may fail and work again: a disk that was full, a terminal that went.

use std::io::{self, Write};
use std::mem;

use super::stdout;

/// Bytes that are written at a time: after each write the output is known to go on.
pub(crate) const CHUNK: usize = 4 << 10;

/// An output that counts the lines that it did not take, and is tried again with the next ones.
/// Only a reader that has left (`BrokenPipe`) is gone for good: nothing is tried or counted any
/// more then.
#[derive(Debug)]
pub(crate) struct Outlet<W> {
    output: W,
    /// Lines that were lost and not told of yet.
    lost: u64,
    /// The last attempt failed.
    failed: bool,
    /// The last byte that was written is no newline.
    mid_line: bool,
    gone: bool,
}

impl<W: Write> Outlet<W> {
    /// Nothing has been written to `output` yet.
    pub(crate) fn new(output: W) -> Outlet<W> {
        Outlet {
            output,
            lost: 0,
            failed: false,
            mid_line: false,
            gone: false,
        }
    }

    /// Writes `lines` and calls `progress` after each part that was taken. Lines that are not taken
    /// whole are lost.
    ///
    /// # Errors
    /// As the system gives them; a full pipe that is non-blocking is waited for.
    pub(crate) fn write(&mut self, lines: &[u8], mut progress: impl FnMut()) -> io::Result<()> {
        if self.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if lines.is_empty() {
            return Ok(());
        }
        let mut rest = lines;
        let result = self.write_some(&mut rest, &mut progress);
        self.failed = result.is_err();
        self.gone = matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        self.lose(rest.iter().filter(|&&byte| byte == b'\n').count() as u64);
        result
    }

    fn write_some(&mut self, rest: &mut &[u8], progress: &mut impl FnMut()) -> io::Result<()> {
        if self.failed && self.mid_line {
            // Ends the line that the failure broke off.
            stdout::write_all(&mut self.output, b"\n")?;
            self.mid_line = false;
        }
        while !rest.is_empty() {
            let chunk = &rest[..rest.len().min(CHUNK)];
            let count = stdout::write_some(&mut self.output, chunk)?;
            self.mid_line = rest[count - 1] != b'\n';
            *rest = &rest[count..];
            progress();
        }
        Ok(())
    }

    /// Counts lines that were lost on their way here.
    pub(crate) fn lose(&mut self, lines: u64) {
        self.lost += lines;
    }

    /// The lines that were lost since the last call, if any were.
    pub(crate) fn take_lost(&mut self) -> Option<u64> {
        Some(mem::take(&mut self.lost)).filter(|&lost| lost > 0)
    }

    /// Writes the line that `words` makes of the number of lost lines, if any were lost. They stay
    /// counted until that line is written.
    pub(crate) fn tell_lost(&mut self, words: impl FnOnce(u64) -> String) {
        if let Some(lost) = self.take_lost()
            && self.write(words(lost).as_bytes(), || ()).is_err()
        {
            self.lost = lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// An output that takes as many bytes as it is told to, and then fails as it is told to.
    #[derive(Default)]
    struct Script {
        steps: VecDeque<(usize, io::ErrorKind)>,
        written: Vec<u8>,
        attempts: usize,
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.attempts += 1;
            match self.steps.front_mut() {
                None => {
                    self.written.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                Some((0, kind)) => {
                    let error = (*kind).into();
                    self.steps.pop_front();
                    Err(error)
                }
                Some((room, _)) => {
                    let count = bytes.len().min(*room);
                    *room -= count;
                    self.written.extend_from_slice(&bytes[..count]);
                    Ok(count)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn outlet(steps: &[(usize, io::ErrorKind)]) -> Outlet<Script> {
        Outlet::new(Script {
            steps: steps.iter().copied().collect(),
            ..Script::default()
        })
    }

    fn text(outlet: &Outlet<Script>) -> &str {
        std::str::from_utf8(&outlet.output.written).unwrap()
    }

    #[test]
    fn an_output_that_works_again_is_told_what_it_missed() {
        let full = io::ErrorKind::StorageFull;
        let mut outlet = outlet(&[(6, full), (0, full), (0, full)]);
        let words = |lost| format!("{lost} lost\n");
        // The second line is broken off, the third one is not begun.
        assert!(outlet.write(b"one\ntwo\nthree\n", || ()).is_err());
        assert!(outlet.write(b"four\n", || ()).is_err());
        // To tell of the loss fails as well, and counts for nothing.
        outlet.tell_lost(words);
        assert_eq!((text(&outlet), outlet.lost), ("one\ntw", 3));
        outlet.tell_lost(words);
        outlet.write(b"five\n", || ()).unwrap();
        assert_eq!(text(&outlet), "one\ntw\n3 lost\nfive\n");
        assert_eq!(outlet.take_lost(), None);
    }

    #[test]
    fn a_reader_that_has_left_is_not_tried_again() {
        let mut outlet = outlet(&[(0, io::ErrorKind::BrokenPipe)]);
        for _ in 0..3 {
            let error = outlet.write(b"one\n", || ()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
        assert_eq!(outlet.output.attempts, 1);
    }
}
