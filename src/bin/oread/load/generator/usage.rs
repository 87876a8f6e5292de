//! What the calling thread uses of processors.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

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
