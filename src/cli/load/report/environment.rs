//! Where and when a run took place, as far as its figures depend on it.

use std::num::NonZeroUsize;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;

use crate::cli::load::outcome::Outcome;

/// The machine and the command.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    /// Of this program.
    pub(super) version: &'static str,
    /// The system's name and release, as in `Linux 6.1.0`.
    pub(super) kernel: String,
    /// The processor's architecture.
    pub(super) machine: String,
    /// Processors that this process may use; 0 where the system doesn't say.
    pub(super) processors: usize,
    /// The limit of file descriptors.
    pub(super) descriptors: u64,
    /// When the ramp began: UTC, as RFC 3339 writes it, with milliseconds.
    pub(super) began: String,
    /// The exact command, word by word.
    pub(super) command: Vec<String>,
}

impl Environment {
    /// As it is here, and was when the run began.
    pub(super) fn of(outcome: &Outcome) -> Environment {
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let (kernel, machine) = match uname() {
            Ok(name) => (
                format!("{} {}", text(name.sysname()), text(name.release())),
                text(name.machine()),
            ),
            Err(_) => (
                std::env::consts::OS.to_owned(),
                std::env::consts::ARCH.to_owned(),
            ),
        };
        Environment {
            version: env!("CARGO_PKG_VERSION"),
            kernel,
            machine,
            processors: std::thread::available_parallelism().map_or(0, NonZeroUsize::get),
            descriptors: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
            began: humantime::format_rfc3339_millis(outcome.began).to_string(),
            command: std::env::args_os().map(|word| text(&word)).collect(),
        }
    }

    /// The command as a shell would take it.
    pub(super) fn command_line(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,%@+[]".contains(c);
        let word = |word: &String| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!(
                    "'{}'",
                    word.escape_default().to_string().replace("\\'", "'\\''")
                )
            }
        };
        self.command.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}
