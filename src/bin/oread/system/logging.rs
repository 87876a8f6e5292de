//! The log: lines on standard error, as in `2026-01-31T12:00:00.000Z info  listening on TCP
//! 127.0.0.1:9999`.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use anstream::{AutoStream, ColorChoice};
use env_logger::{Builder, Env, Target, WriteStyle};
use log::{Level, LevelFilter};

use super::stderr::Stderr;
use crate::values::verbosity::Verbosity;

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Somebody who may read it later: each line has its time and its level.
    Later,
    /// Somebody who sits there and types: the lines are part of the conversation.
    Talker,
}

/// Starts the logger. `RUST_LOG`, where it is set and not empty, decides alone; else `verbosity`
/// does, for what the program and the library say, and nothing else speaks. `RUST_LOG_STYLE` is
/// heeded either way.
///
/// What it gives is the end of the log's way, to be waited for at the program's end.
pub(crate) fn init(verbosity: Verbosity, audience: Audience) -> Stderr {
    let stderr = Stderr::start(io::stderr());
    let mut builder = Builder::new();
    builder.format(move |line, record| {
        if audience == Audience::Talker {
            // What goes on needs no label, but what goes wrong does.
            return match record.level() {
                Level::Info => writeln!(line, "{}", Escaped(record.args())),
                level => writeln!(
                    line,
                    "{}: {}",
                    name(level).trim_end(),
                    Escaped(record.args())
                ),
            };
        }
        let style = line.default_level_style(record.level());
        writeln!(
            line,
            "{} {style}{}{style:#} {}",
            line.timestamp_millis(),
            name(record.level()),
            Escaped(record.args())
        )
    });
    let says = std::env::var_os("RUST_LOG").is_some_and(|value| !value.is_empty());
    if says && verbosity != Verbosity::Everything {
        builder.parse_env(Env::default());
    } else {
        builder.filter_module("oread", level(verbosity));
        if verbosity != Verbosity::Everything {
            // What the reactor itself says of each event.
            for module in ["oread::link", "oread::reactor"] {
                builder.filter_module(module, level(verbosity).min(LevelFilter::Debug));
            }
        }
    }
    builder.target(Target::Pipe(Box::new(stderr.clone())));
    builder.write_style(style());
    // It fails only when there is a logger already, and one is enough.
    let _ = builder.try_init();
    stderr
}

/// Whether there are colours: as `RUST_LOG_STYLE` says, and else as standard error and `NO_COLOR`
/// and its kin do. The logger can't find out by itself what is behind a pipe.
fn style() -> WriteStyle {
    match std::env::var("RUST_LOG_STYLE").as_deref() {
        Ok("always") => WriteStyle::Always,
        Ok("never") => WriteStyle::Never,
        _ if AutoStream::choice(&io::stderr()) == ColorChoice::Never => WriteStyle::Never,
        _ => WriteStyle::Always,
    }
}

/// What is logged: `warn` is for what needs someone's attention, `info` for the few lines of start,
/// end and counters, `debug` for connections, `trace` for messages.
fn level(verbosity: Verbosity) -> LevelFilter {
    match verbosity {
        Verbosity::Quiet => LevelFilter::Error,
        Verbosity::Normal => LevelFilter::Info,
        Verbosity::Connections => LevelFilter::Debug,
        Verbosity::Messages | Verbosity::Everything => LevelFilter::Trace,
    }
}

/// The level's name, all of one width.
fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn ",
        Level::Info => "info ",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// A message without control characters (C0, DEL, C1): those are written as `\u{1b}` is. Whoever
/// logs what a peer sent escapes it already; this is the second lock, so that nothing that is
/// forgotten there reaches a terminal, or forges a line.
struct Escaped<'a>(&'a fmt::Arguments<'a>);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Sink(f), "{}", self.0)
    }
}

/// What [`Escaped`] writes through: piece by piece, without a copy of the message.
struct Sink<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Sink<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, control)) = rest.char_indices().find(|(_, char)| char.is_control()) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", control.escape_default())?;
            rest = &rest[at + control.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_reaches_the_terminal() {
        let hostile = "a\u{1b}[31mred\u{7}\r\nforged\u{9b}2J\u{7f}\tz";
        let text = Escaped(&format_args!("got {hostile}, {}", '\u{1b}')).to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert_eq!(
            text,
            r"got a\u{1b}[31mred\u{7}\r\nforged\u{9b}2J\u{7f}\tz, \u{1b}"
        );
    }

    #[test]
    fn text_of_people_is_left_as_it_is() {
        assert_eq!(
            Escaped(&format_args!("Grüße, {}", "日本")).to_string(),
            "Grüße, 日本"
        );
    }

    #[test]
    fn each_verbosity_says_all_that_the_one_before_it_does() {
        let levels = [
            Verbosity::Quiet,
            Verbosity::Normal,
            Verbosity::Connections,
            Verbosity::Messages,
        ]
        .map(level);
        assert!(
            levels.is_sorted()
                && levels[0] == LevelFilter::Error
                && levels[3] == LevelFilter::Trace
        );
    }
}
