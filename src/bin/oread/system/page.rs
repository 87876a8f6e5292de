//! A page for people: lines with a label in front, broken between words where a terminal is narrow,
//! and coloured where something went wrong.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd;

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use rustix::termios::tcgetwinsize;

use crate::values::units::share;

/// Columns of a label, and of what stands between it and the words.
const LABEL: usize = 13;
/// Columns that words get at the least, however narrow the terminal is.
const LEAST: usize = 24;

/// Characters of the longest bar where there is room for it, and of what stands beside it.
const BAR: usize = 40;
const BESIDE: usize = 27;

/// How good or bad news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    /// To be looked at.
    Warning,
    /// Something went wrong.
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Warning => AnsiColor::Yellow.on_default().bold(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
        }
    }
}

/// How wide the terminal is; `None` where `output` is none, or it doesn't say. Some say how wide
/// they are and not how high.
pub(crate) fn columns(output: impl AsFd) -> Option<usize> {
    let size = tcgetwinsize(output).ok()?;
    Some(size.ws_col.into()).filter(|columns| *columns > 0)
}

/// The page, and what it is read on.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    text: String,
    /// Columns of the terminal; `None`: it is none, and lines are as long as they are.
    width: Option<usize>,
    has_colors: bool,
}

impl Page {
    pub(crate) fn new(width: Option<usize>, has_colors: bool) -> Page {
        Page {
            text: String::new(),
            width,
            has_colors,
        }
    }

    /// A page for standard output as it is: a terminal's width, and colours as that, `--color` and
    /// `NO_COLOR` say.
    pub(crate) fn of_stdout() -> Page {
        let stdout = io::stdout();
        let has_colors = AutoStream::choice(&stdout) != ColorChoice::Never;
        Page::new(columns(&stdout), has_colors)
    }

    /// Columns for a table.
    pub(crate) fn width(&self) -> usize {
        self.width.unwrap_or(usize::MAX)
    }

    /// What it's about, and what there is to say.
    pub(crate) fn line(&mut self, label: &str, words: &str) {
        self.toned(Tone::Plain, label, words);
    }

    /// The same, in the colour of the news; nothing where there are no words.
    pub(crate) fn toned(&mut self, tone: Tone, label: &str, words: &str) {
        let room = self.width().saturating_sub(LABEL).max(LEAST);
        let mut label = format!("{label:<0$} ", LABEL - 1);
        for line in broken(words, room) {
            self.put(tone, &format!("{label}{line}"));
            label = " ".repeat(LABEL);
        }
    }

    /// Lines about one thing: the label stands in front of the first. Those without words are left
    /// out.
    pub(crate) fn lines(&mut self, label: &str, lines: impl IntoIterator<Item = (Tone, String)>) {
        let lines = lines.into_iter().filter(|(_, words)| !words.is_empty());
        for (index, (tone, words)) in lines.enumerate() {
            self.toned(tone, if index == 0 { label } else { "" }, &words);
        }
    }

    /// A remark below a table.
    pub(crate) fn remark(&mut self, words: &str) {
        let room = self.width().saturating_sub(2).max(LEAST);
        for line in broken(&format!("({words})"), room) {
            self.put(Tone::Plain, &format!("  {line}"));
        }
    }

    /// A chart: a bar for each name and count, and which part of all that is.
    pub(crate) fn bars(&mut self, bars: &[(String, u64)]) {
        let all: u64 = bars.iter().map(|bar| bar.1).sum();
        let most = bars.iter().map(|bar| bar.1).max().unwrap_or(1).max(1);
        let width = self.width().saturating_sub(BESIDE).min(BAR);
        for (name, count) in bars {
            // Rounded up: what is there is seen.
            let hashes = (u128::from(*count) * width as u128).div_ceil(most.into());
            let bar = "#".repeat(hashes as usize);
            let part = share(*count as f64 / all as f64);
            self.row(&format!("  {name}  {bar:<width$} {part:>8}"));
        }
    }

    /// A line as it is.
    pub(crate) fn row(&mut self, row: &str) {
        self.put(Tone::Plain, row);
    }

    fn put(&mut self, tone: Tone, line: &str) {
        let style = match self.has_colors {
            true => tone.style(),
            false => Style::new(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{style}{line}{style:#}");
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// Words in lines of at most `room` characters; a word that is longer stands alone.
fn broken(words: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_does_not_say_how_high_it_is_says_how_wide() {
        use rustix::pty::{OpenptFlags, openpt};
        use rustix::termios::{Winsize, tcsetwinsize};
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        for (ws_row, ws_col, width) in [(0, 40, Some(40)), (25, 40, Some(40)), (25, 0, None)] {
            let size = Winsize {
                ws_row,
                ws_col,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            tcsetwinsize(&terminal, size).unwrap();
            assert_eq!(columns(&terminal), width);
        }
        assert_eq!(columns(std::fs::File::open("/dev/null").unwrap()), None);
    }

    #[test]
    fn a_line_is_broken_between_words_where_the_terminal_ends() {
        let words = "the machine was busy: a thread of the generator was kept waiting for a CPU";
        let mut page = Page::new(Some(60), false);
        page.line("BEWARE", words);
        page.remark(words);
        let text = page.finish();
        assert!(text.lines().all(|line| line.len() <= 60), "{text}");
        assert!(text.lines().count() > 2, "{text}");
        let back = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(back(&text), format!("BEWARE {words} ({words})"));
        let mut page = Page::new(None, false);
        page.line("BEWARE", words);
        page.line("nothing", "");
        assert_eq!(page.finish(), format!("BEWARE       {words}\n"));
    }

    #[test]
    fn only_what_went_wrong_has_a_colour_and_only_where_there_are_any() {
        for has_colors in [true, false] {
            let mut page = Page::new(None, has_colors);
            page.line("rate", "1/s");
            page.toned(Tone::Bad, "error", "3 EMFILE");
            let text = page.finish();
            assert!(text.starts_with("rate         1/s\n"), "{text:?}");
            assert_eq!(text.contains('\x1b'), has_colors, "{text:?}");
        }
    }
}
