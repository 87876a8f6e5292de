//! The run's time: nanoseconds since it began, in one word, so that a message under way costs two
//! of them and no more.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// A second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// When the run began. All threads have the same one, so that their times can be compared.
///
/// The clock is `CLOCK_MONOTONIC`, asked without the checks and conversions of `Instant`: it's read
/// for every message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    /// Whole seconds of the clock.
    second: i64,
}

impl Epoch {
    /// The run begins, one to two seconds ago: 0 is a time before everything.
    pub(crate) fn begin() -> Epoch {
        Epoch {
            second: monotonic().0 - 1,
        }
    }

    /// The time.
    #[inline]
    pub(crate) fn now(self) -> u64 {
        let (second, nanosecond) = monotonic();
        (second - self.second) as u64 * SECOND + nanosecond as u64
    }
}

/// Seconds and nanoseconds of the clock.
#[inline]
fn monotonic() -> (i64, i64) {
    // It fails for clocks that there are not, and this one there is.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or((0, 0), |time| {
        #[allow(clippy::unnecessary_cast)] // Some systems have them shorter.
        (time.tv_sec() as i64, time.tv_nsec() as i64)
    })
}

/// So long after `now`, as far as time can be said.
pub(crate) fn after(now: u64, wait: Duration) -> u64 {
    now.saturating_add(nanos(wait))
}

/// How long from `now` until `then`; nothing when it has come.
pub(crate) fn until(now: u64, then: u64) -> Duration {
    Duration::from_nanos(then.saturating_sub(now))
}

/// A duration in nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
