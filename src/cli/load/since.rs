//! The run's time: nanoseconds since it began, in one word, so that a message under way costs two of them and no more.

use std::time::{Duration, Instant};

use super::tally::nanos;

/// A moment that never comes.
pub(super) const NEVER: u64 = u64::MAX;

/// A second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// When the run began. All threads have the same one, so that their times can be compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch(Instant);

impl Epoch {
    /// The run begins. A second before it counts as the beginning: 0 is a time before everything.
    pub(super) fn begin() -> Epoch {
        let now = Instant::now();
        Epoch(now.checked_sub(Duration::from_secs(1)).unwrap_or(now))
    }

    /// The time.
    #[inline]
    pub(super) fn now(self) -> u64 {
        self.of(Instant::now())
    }

    /// A moment as the run counts it.
    #[inline]
    pub(super) fn of(self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.0);
        // Not `as_nanos`: 64 bits last for 584 years.
        since.as_secs() * SECOND + u64::from(since.subsec_nanos())
    }
}

/// So long after `now`, as far as time can be said.
pub(super) fn after(now: u64, wait: Duration) -> u64 {
    now.saturating_add(nanos(wait))
}

/// How long from `now` until `then`; nothing when it has come.
pub(super) fn until(now: u64, then: u64) -> Duration {
    Duration::from_nanos(then.saturating_sub(now))
}
