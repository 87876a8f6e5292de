//! SIGINT and SIGTERM. The first one is an event for the reactor, which drains. The next one ends
//! the program from the signal handler itself, so it works however stuck the loop may be; but not
//! one that comes right behind the first: `timeout` sends its signal to the program and to its
//! group, which is twice.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook_mio::v1_0::Signals as Pipe;

use super::threads;
use crate::failure::{Failure, Reason};

/// Signals so soon behind the first are the same one.
const ONE_SIGNAL: Duration = Duration::from_millis(300);

/// Whether the next signal ends the program at once.
static SEEN: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The number of the last one; 0 before there is one.
static LAST: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// The last signal that has come, for what waits outside of a reactor.
pub(crate) fn last() -> Option<Signal> {
    Signal::numbered(LAST.load(Ordering::SeqCst) as i32)
}

/// A signal that asks the program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: what `kill` and service managers send.
    Terminate,
}

impl Signal {
    fn numbered(number: i32) -> Option<Signal> {
        let all = [Signal::Interrupt, Signal::Terminate];
        all.into_iter().find(|signal| signal.number() == number)
    }

    /// The system's number for it.
    pub(crate) fn number(self) -> i32 {
        match self {
            Signal::Interrupt => SIGINT,
            Signal::Terminate => SIGTERM,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
        })
    }
}

/// Has a file that has come to its size limit (`ulimit -f`) be an output that fails, as on a full
/// disk, and not the program's end.
pub(crate) fn outlive_full_files() {
    // Where the system refuses a handler the signal ends the program, as it does by default.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// The program's signals, from the time it is made on. There is one of it in the program: the
/// handlers stay when it is dropped.
pub(crate) struct Signals {
    pipe: Pipe,
    /// Whether one has come.
    is_heard: bool,
}

impl Signals {
    /// Takes over SIGINT and SIGTERM.
    ///
    /// # Errors
    /// Exit code 1: the system refuses a handler or a pipe.
    pub(crate) fn install() -> Result<Signals, Failure> {
        let install = || -> io::Result<Pipe> {
            // First of all, so that no signal finds a handler that tells nobody: it would be lost,
            // and the next one would count as the second.
            let pipe = Pipe::new([SIGINT, SIGTERM])?;
            // 128 + number is what shells say of a death by signal.
            for signal in [SIGINT, SIGTERM] {
                flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&SEEN))?;
                flag::register_usize(signal, Arc::clone(&LAST), signal as usize)?;
            }
            Ok(pipe)
        };
        let installed = install().map(|pipe| Signals {
            pipe,
            is_heard: false,
        });
        installed.map_err(|error| {
            Failure::runtime(format!(
                "can't handle SIGINT and SIGTERM: {}",
                Reason(&error)
            ))
        })
    }

    /// What to register with a reactor, for reading. The loop is then woken by a signal.
    pub(crate) fn source(&mut self) -> &mut Pipe {
        &mut self.pipe
    }

    /// The signal that has come since the last call, if one has. It never blocks, and empties what
    /// woke the loop.
    pub(crate) fn pending(&mut self) -> Option<Signal> {
        // To the end: what is left in the iterator would be told again.
        let mut pending = self.pipe.pending();
        let first = pending.by_ref().find_map(Signal::numbered);
        pending.for_each(drop);
        if first.is_some() && !std::mem::replace(&mut self.is_heard, true) {
            heard_one();
        }
        first
    }
}

/// Has the next signal end the program, when [`ONE_SIGNAL`] has passed. Not by the loop: that may
/// be stuck by then.
fn heard_one() {
    let arm = || SEEN.store(true, Ordering::SeqCst);
    let wait = move || {
        thread::sleep(ONE_SIGNAL);
        arm();
    };
    if threads::start("second signal", wait).is_err() {
        arm();
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;
    use std::process::Command;
    use std::time::Instant;

    /// Runs in a process of its own, which it ends: see the test below.
    #[test]
    #[ignore = "started by the_first_signal_is_told_and_the_second_exits_at_once"]
    fn two_signals() {
        let Ok(second) = std::env::var("OREAD_TEST_SECOND_SIGNAL") else {
            return;
        };
        let mut signals = Signals::install().unwrap();
        assert_eq!(signals.pending(), None);
        raise(SIGTERM).unwrap();
        // Right behind it, as `timeout` does: the same one.
        raise(SIGTERM).unwrap();
        assert_eq!(signals.pending(), Some(Signal::Terminate));
        assert_eq!(signals.pending(), None);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !SEEN.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "the next one would be ignored");
            thread::yield_now();
        }
        raise(second.parse().unwrap()).unwrap();
    }

    #[test]
    fn the_first_signal_is_told_and_the_second_exits_at_once() {
        for (second, code) in [(SIGINT, 130), (SIGTERM, 143)] {
            let ended = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "system::signals::tests::two_signals",
                    "--ignored",
                ])
                .env("OREAD_TEST_SECOND_SIGNAL", second.to_string())
                .output()
                .unwrap();
            assert_eq!(
                ended.status.code(),
                Some(code),
                "{}",
                String::from_utf8_lossy(&ended.stdout)
            );
        }
    }
}
