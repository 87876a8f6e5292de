//! The reactor's time: told once a turn, passed down as ticks. It reads no clock itself.

use std::time::{Duration, Instant};

use crate::timer::{MAX_AHEAD, Tick};

/// The time as it was last told.
///
/// Ticks are whole milliseconds since the start, modulo 2^32. The system's poll counts in
/// milliseconds too, so nothing finer could be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    now: Instant,
    /// Whole milliseconds from `start` to `now`.
    elapsed_ms: u64,
}

impl Clock {
    /// A clock that starts at `now`.
    pub(crate) fn new(now: Instant) -> Clock {
        Clock {
            start: now,
            now,
            elapsed_ms: 0,
        }
    }

    /// Tells the time.
    pub(crate) fn update(&mut self, now: Instant) {
        self.now = now;
        let elapsed = self.now.saturating_duration_since(self.start);
        // Not `as_millis`, which counts in 128 bits: 64 are enough for 584 million years.
        self.elapsed_ms = elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis());
    }

    /// Has it have started so much earlier.
    #[cfg(test)]
    pub(crate) fn age(&mut self, by: Duration) {
        self.start -= by;
    }

    /// Whole milliseconds since the start.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// The time `ahead` from now; one that can't be said is beyond every wait, and 100 years stand
    /// for it.
    pub(crate) fn after(&self, ahead: Duration) -> Instant {
        self.now.checked_add(ahead).unwrap_or(self.now + FAR)
    }

    /// The tick that `now` lies in.
    #[inline]
    pub(crate) fn tick(&self) -> Tick {
        self.elapsed_ms as Tick
    }

    /// The first tick that is not before `ahead` from now, as far as ticks reach (24 days).
    pub(crate) fn tick_after(&self, ahead: Duration) -> Tick {
        self.tick_at(self.after(ahead))
    }

    /// The first tick that is not before `due`, as far as ticks reach (24 days); the present one
    /// where `due` has come.
    pub(crate) fn tick_at(&self, due: Instant) -> Tick {
        if due <= self.now {
            return self.tick();
        }
        let nanos = due.saturating_duration_since(self.start).as_nanos();
        let ms = u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let ahead = ms.saturating_sub(self.elapsed_ms).min(u64::from(MAX_AHEAD));
        self.tick().wrapping_add(ahead as Tick)
    }

    /// How long from now until `tick` begins; nothing when it has.
    pub(crate) fn until(&self, tick: Tick) -> Duration {
        let ahead = tick.wrapping_sub(self.tick());
        if ahead > MAX_AHEAD {
            return Duration::ZERO;
        }
        let due = self.start + Duration::from_millis(self.elapsed_ms + u64::from(ahead));
        due.saturating_duration_since(self.now)
    }
}

/// Beyond every timer that anybody will wait for: 100 years.
const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);

/// How long to wait before the system is asked again that had no room and won't say when it has: 10
/// ms, short enough to go on soon, and twice as long each time, up to a second, which costs
/// nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    /// How often in a row it had none.
    failures: u8,
}

impl Backoff {
    /// The wait after another failure.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = Duration::from_millis(10 << self.failures);
        self.failures = (self.failures + 1).min(7);
        wait.min(Duration::from_secs(1))
    }
}

/// A duration in whole milliseconds, rounded up, at least 1 and at most what ticks reach: a C int
/// holds no more either.
pub(crate) fn millis(duration: Duration) -> u32 {
    let ms = duration
        .as_nanos()
        .div_ceil(1_000_000)
        .clamp(1, u128::from(MAX_AHEAD));
    ms as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_never_begins_before_its_time() {
        let clock = Clock::new(Instant::now());
        assert_eq!(clock.tick_after(Duration::from_nanos(1)), 1);
        assert_eq!(clock.tick_after(Duration::from_millis(7)), 7);
        assert_eq!(clock.until(7), Duration::from_millis(7));
        assert_eq!(clock.until(clock.tick().wrapping_sub(1)), Duration::ZERO);
    }

    #[test]
    fn a_time_beyond_all_ticks_is_brought_into_reach() {
        let clock = Clock::new(Instant::now());
        assert_eq!(clock.tick_after(Duration::MAX), MAX_AHEAD);
        assert_eq!(clock.after(Duration::MAX), clock.now() + FAR);
        assert_eq!(millis(Duration::MAX), MAX_AHEAD);
        assert_eq!(millis(Duration::ZERO), 1);
    }
}
