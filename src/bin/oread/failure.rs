//! The one error of the program: what failed, on what, why, and what to do about it.

mod sockets;

use std::fmt;
use std::io;

use oread::Escaped;

/// Why the program ends without having done what was asked: words for people, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// The command line asks for what can't be: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure {
            message: harmless(&message.into()),
            hint: None,
            code: 2,
        }
    }

    /// Something failed while it was done: exit code 1.
    pub(crate) fn runtime(message: impl Into<String>) -> Failure {
        Failure {
            message: harmless(&message.into()),
            hint: None,
            code: 1,
        }
    }

    /// The same, with what to try.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(harmless(&hint.into()));
        self
    }

    /// The same, where there is something to try.
    #[must_use]
    pub(crate) fn hint_if(self, hint: Option<&str>) -> Failure {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// What clap has to say of the arguments: exit code 2.
    pub(crate) fn arguments(error: &clap::Error) -> Failure {
        let text = error.to_string();
        // `oread` alone: clap's text is then the help, without a word of what is wrong.
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Failure::usage(format!("no command is given\n\n{}", text.trim_end()));
        }
        Failure::usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end())
    }

    /// Standard output could not be written. A reader that has seen enough and left (`oread ... |
    /// head`) is no failure: exit code 0 and no words. Anything else: exit code 1.
    pub(crate) fn output(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure {
                message: String::new(),
                hint: None,
                code: 0,
            };
        }
        Failure::runtime(format!("can't write to standard output: {}", Reason(error)))
    }

    /// A thread could not be started. Exit code 1.
    pub(crate) fn no_thread(error: &io::Error) -> Failure {
        Failure::runtime(format!("can't start a thread: {}", Reason(error)))
    }

    /// Several as one, with the first one's code, and what to try for that; `None` for none.
    pub(crate) fn all(failures: &[Failure]) -> Option<Failure> {
        let first = failures.first()?;
        let messages: Vec<&str> = failures.iter().map(Failure::message).collect();
        Some(Failure {
            message: messages.join("; "),
            ..first.clone()
        })
    }

    /// The same, with another exit code.
    #[must_use]
    pub(crate) fn with_code(self, code: u8) -> Failure {
        Failure { code, ..self }
    }

    /// The same, with nothing to tell, because it is told already.
    pub(crate) fn without_words(self) -> Failure {
        Failure {
            message: String::new(),
            hint: None,
            ..self
        }
    }

    /// The same with what to try.
    pub(crate) fn on_one_line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// What failed and why, on one line, without what to try: for a log line, where the program
    /// goes on.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What is written to standard error, with its last newline.
    pub(crate) fn report(&self) -> String {
        format!("oread: error: {self}\n")
    }

    /// What to try, where there is something.
    pub(crate) fn tip(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }
}

/// Words that may quote what was typed, such as the name of a file, and that don't act on a
/// terminal: it may come out of a file or from another program.
fn harmless(words: &str) -> String {
    let lines = words
        .lines()
        .map(|line| Escaped::new(line).prose().to_string());
    lines.collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Failure {
    /// The message; and on a line of its own, set in as clap does it, what to try.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n\n  tip: {hint}"),
            None => Ok(()),
        }
    }
}

/// An error in the system's words, without the "(os error 98)" that std puts behind them.
#[derive(Debug)]
pub(crate) struct Reason<'a>(pub(crate) &'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split(" (os error ").next().unwrap_or(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    fn os(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno as i32)
    }

    #[test]
    fn an_argument_that_is_quoted_does_not_act_on_the_terminal() {
        let error = clap::Error::raw(
            clap::error::ErrorKind::InvalidValue,
            "invalid value 'a\r\u{202e}b' for '[ADDR]'\n\nFor more\n",
        );
        let said = Failure::arguments(&error).to_string();
        assert_eq!(
            said,
            "invalid value 'a\\r\\u{202e}b' for '[ADDR]'\n\nFor more"
        );
    }

    #[test]
    fn no_failure_acts_on_the_terminal_whatever_it_quotes() {
        for failure in [Failure::usage("a\u{202e}"), Failure::runtime("a\u{202e}")] {
            let said = failure.hint("b\x1b[2J").report();
            assert_eq!(said, "oread: error: a\\u{202e}\n\n  tip: b\\x1b[2J\n");
        }
    }

    #[test]
    fn a_reader_who_has_left_is_no_failure() {
        let gone = Failure::output(&os(Errno::EPIPE));
        assert!(gone.is_silent() && gone.code() == 0);
        let full = Failure::output(&os(Errno::ENOSPC));
        assert!(!full.is_silent() && full.code() == 1);
        assert!(full.to_string().contains("standard output"));
    }
}
