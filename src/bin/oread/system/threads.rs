//! Threads of the program: each has a name. And what they use of processors.

use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::failure::Failure;

/// The most that `--threads` may be: no machine has so many cores, and a slip of the keyboard shall
/// not try.
pub(crate) const MOST: u32 = 1024;

/// Starts a thread that is called `name`.
///
/// # Errors
/// Exit code 1: the system gives no thread.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    let started = Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| Failure::no_thread(&error))
}

/// Processor time of the calling thread so far; zero where the system doesn't tell.
pub(crate) fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// How long the calling thread has been ready to run so far, while others had the processors; zero
/// where the system doesn't tell.
pub(crate) fn thread_waited() -> Duration {
    schedule("thread-self", 1).unwrap_or_default()
}

/// A thread that another one can look at, where the system tells of it: Linux does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed(Option<PathBuf>);

impl Observed {
    /// The calling thread.
    pub(crate) fn here() -> Observed {
        Observed(std::fs::read_link("/proc/thread-self").ok())
    }

    /// Processor time of it so far.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        schedule(self.0.as_ref()?, 0)
    }
}

/// A number of a thread's `schedstat` (proc(5)): 0 is the time that it ran, 1 the time that it
/// waited on a run queue.
fn schedule(thread: impl AsRef<Path>, place: usize) -> Option<Duration> {
    let file = Path::new("/proc").join(thread).join("schedstat");
    let told = std::fs::read_to_string(file).ok()?;
    let ns = told.split_whitespace().nth(place)?.parse().ok()?;
    Some(Duration::from_nanos(ns))
}
