//! Threads of the program: each has a name. And what they use of processors.

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
/// where the system doesn't tell. Linux does, as the second number of this file (proc(5) calls it
/// the time spent waiting on a run queue).
pub(crate) fn thread_waited() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = told.split_whitespace().nth(1);
    Duration::from_nanos(waited.and_then(|ns| ns.parse().ok()).unwrap_or(0))
}
