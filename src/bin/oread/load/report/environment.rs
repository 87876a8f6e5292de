//! Where and when a run took place, as far as its figures depend on it.

use std::env;
use std::ffi::CStr;
use std::num::NonZeroUsize;

use rustix::system::uname;

use crate::system::descriptors;
use crate::values::units::Count;

/// Of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The machine and the command.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    /// The system's name and release, as in `Linux 6.1.0`.
    pub(super) kernel: String,
    /// The processor's architecture.
    pub(super) machine: String,
    /// Processors that this process may use; 0 where the system doesn't say.
    pub(super) processors: usize,
    /// The limit of file descriptors.
    pub(super) descriptors: u64,
    /// The command, word by word; what of it is no text is replaced.
    pub(super) command: Vec<String>,
    /// The command as a shell takes it, exactly.
    pub(super) command_line: String,
}

impl Environment {
    pub(super) fn here() -> Environment {
        let system = uname();
        let [name, release, machine] =
            [system.sysname(), system.release(), system.machine()].map(CStr::to_string_lossy);
        let words = env::args_os().map(|word| quoted(word.as_encoded_bytes()));
        Environment {
            kernel: format!("{name} {release}"),
            machine: machine.into_owned(),
            processors: std::thread::available_parallelism().map_or(0, NonZeroUsize::get),
            descriptors: descriptors::limits().map_or(0, |(soft, _)| soft),
            command: env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            command_line: words.collect::<Vec<_>>().join(" "),
        }
    }

    pub(super) fn words(&self) -> String {
        let (kernel, machine) = (&self.kernel, &self.machine);
        let (processors, descriptors) = (self.processors, Count(self.descriptors));
        format!(
            "oread {VERSION} on {kernel} {machine}, {processors} processors, {descriptors} descriptors"
        )
    }
}

/// A word as a shell takes it: as it is, between quotes, or, where a terminal would do something
/// else than show it, in the form that takes escapes (`$'...'`: POSIX 2024, and bash, zsh and ksh
/// for long).
fn quoted(word: &[u8]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,%@+".contains(c);
    match str::from_utf8(word) {
        Ok(text) if !text.is_empty() && text.chars().all(plain) => text.to_owned(),
        Ok(text) if text.chars().all(is_shown) => format!("'{}'", text.replace('\'', "'\\''")),
        _ => format!("$'{}'", escaped(word)),
    }
}

fn escaped(word: &[u8]) -> String {
    // Octal has an end: three digits.
    let octal = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("\\{b:03o}")).collect() };
    let chunks = word.utf8_chunks().map(|chunk| {
        let valid = chunk.valid().chars().map(|c| match c {
            '\\' | '\'' => format!("\\{c}"),
            c if is_shown(c) => c.to_string(),
            c => octal(c.encode_utf8(&mut [0; 4]).as_bytes()),
        });
        valid.chain([octal(chunk.invalid())]).collect::<String>()
    });
    chunks.collect()
}

/// Whether a character is shown as itself: no control character, and nothing that can't be seen or
/// turns the text around.
fn is_shown(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

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
        assert_eq!(quoted(b"--slo=1.5"), "--slo=1.5");
    }

    #[test]
    fn what_is_not_to_be_seen_is_escaped_and_a_shell_gives_it_back_too() {
        for (word, expected) in [
            (&b"a\x1b[2J'\\\n7"[..], r"$'a\033[2J\'\\\0127'"),
            (b"\xff", r"$'\377'"),
            ("\u{202e}é".as_bytes(), r"$'\342\200\256é'"),
        ] {
            assert_eq!(quoted(word), expected);
            // Not every sh knows this form yet.
            let script = format!("printf %s {expected}");
            if let Ok(said) = Command::new("bash").args(["-c", &script]).output() {
                assert_eq!(said.stdout, word, "{script}");
            }
        }
    }
}
