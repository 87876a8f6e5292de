//! Where this program runs and how it was called, as far as a run's figures depend on it.

use std::ffi::{CStr, OsString};
use std::num::NonZeroUsize;

use os_display::Quotable as _;
use rustix::system::uname;

use super::descriptors;

/// Of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The machine.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// The system's name and release, as in `Linux 6.1.0`.
    pub(crate) kernel: String,
    /// The processor's architecture.
    pub(crate) machine: String,
    /// Processors that this process may use; 0 where the system doesn't say.
    pub(crate) processors: usize,
    /// The limit of file descriptors.
    pub(crate) descriptors: u64,
}

impl Environment {
    pub(crate) fn here() -> Environment {
        let system = uname();
        let [name, release, machine] =
            [system.sysname(), system.release(), system.machine()].map(CStr::to_string_lossy);
        Environment {
            kernel: format!("{name} {release}"),
            machine: machine.into_owned(),
            processors: std::thread::available_parallelism().map_or(0, NonZeroUsize::get),
            descriptors: descriptors::limits().map_or(0, |(soft, _)| soft),
        }
    }
}

/// A command line as a shell takes it back, word for word: a word that a terminal would do
/// something else with than show it is in the form that takes escapes (`$'...'`: POSIX 2024, and
/// bash, zsh and ksh for long).
pub(crate) fn command_line(words: impl Iterator<Item = OsString>) -> String {
    let quoted = words.map(|word| word.maybe_quote().to_string());
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;
    use std::process::Command;

    use super::*;

    fn quoted(word: &[u8]) -> String {
        command_line([OsString::from_vec(word.to_vec())].into_iter())
    }

    #[test]
    fn a_shell_gives_each_word_back() {
        for word in [
            "p99<5ms",
            r"a\b é",
            "it's",
            "",
            "$HOME `x` \"y\" *?[a]~#;&|",
            "-R",
            "日本",
        ] {
            let script = format!("printf %s {}", quoted(word.as_bytes()));
            let said = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word, "{script}");
        }
        let words = ["oread", "load", "--slo", "p99<5ms", "[::1]:9"].map(OsString::from);
        let line = command_line(words.into_iter());
        assert_eq!(line, "oread load --slo 'p99<5ms' '[::1]:9'");
    }

    #[test]
    fn what_is_not_to_be_seen_is_escaped_and_a_shell_gives_it_back_too() {
        for word in [
            &b"a\x1b[2J'\\\n7"[..],
            b"\xff7",
            b"\x7f\xc2\x9b1m",
            "\u{202e}é".as_bytes(),
        ] {
            let quoted = quoted(word);
            assert!(quoted.starts_with("$'"), "{quoted}");
            let is_shown = |c: char| c.escape_debug().len() == 1 || "'\\".contains(c);
            assert!(quoted.chars().all(is_shown), "{quoted:?}");
            // Not every sh knows this form yet.
            let script = format!("printf %s {quoted}");
            if let Ok(said) = Command::new("bash").args(["-c", &script]).output() {
                assert_eq!(said.stdout, word, "{script}");
            }
        }
    }
}
