//! Whether this process stood still: stopped by a signal or by Ctrl-Z, paused with its whole
//! machine, or without a processor. What the generators measure then is not the server's doing.
//!
//! The lead sleeps in short steps. One from which it wakes far too late is a hiccup.

use std::time::Duration;

use crate::load::clock::{after, until};
use crate::load::count::StoodStill;

/// How long the lead sleeps at a time. Of a hiccup at most this much is not counted. 20 wakes a
/// second take less than 0.1% of a processor, by 20 to 40 us each on a busy virtual machine.
pub(crate) const STEP: Duration = Duration::from_millis(50);
/// Waking later than this is a hiccup. A thread that slept goes before those that ran, so a full
/// run queue delays it by milliseconds; a processor quota of a container takes less than its
/// period, which is 100 ms (`cpu.max` of cgroups). Shorter hiccups show in the generators' lag.
const TOO_LATE: Duration = Duration::from_millis(100);

/// The lead, which was to sleep until `due`, woke `now`. What that was too late counts to the time
/// before the measured one or to that itself, and where it lies in both, to each its part.
pub(crate) fn woke(still: [&mut StoodStill; 2], due: u64, now: u64, measured_from: u64) {
    if now <= after(due, TOO_LATE) {
        return;
    }
    let before = until(due, now.min(measured_from));
    let measured = until(due.max(measured_from), now);
    for (still, length) in still.into_iter().zip([before, measured]) {
        if length > Duration::ZERO {
            still.times += 1;
            still.total += length;
            still.longest = still.longest.max(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::clock::NEVER;

    const MS: Duration = Duration::from_millis(1);

    /// What is counted of sleeps that were to end and ended at these milliseconds, where the
    /// measured time begins at `from`.
    fn counted(from: u64, sleeps: &[(u64, u64)]) -> (u64, Duration, Duration) {
        let (mut still, mut before) = (StoodStill::default(), StoodStill::default());
        let ns = |ms: u64| ms.saturating_mul(1_000_000);
        for &(due, now) in sleeps {
            woke([&mut before, &mut still], ns(due), ns(now), ns(from));
        }
        let all: Duration = sleeps
            .iter()
            .map(|(due, now)| now.saturating_sub(*due))
            .filter(|late| *late > 100)
            .map(|late| MS * late as u32)
            .sum();
        assert_eq!(before.total + still.total, all);
        (still.times, still.total, still.longest)
    }

    #[test]
    fn a_wake_that_is_far_too_late_is_a_hiccup_and_a_late_or_early_one_is_not() {
        let fine = [(50, 50), (100, 70), (120, 220)];
        assert_eq!(counted(0, &fine), (0, Duration::ZERO, Duration::ZERO));
        let late = [(50, 251), (301, 1_601), (1_651, 1_651)];
        assert_eq!(counted(0, &late), (2, 1_501 * MS, 1_300 * MS));
    }

    #[test]
    fn only_what_lies_in_the_measured_time_counts() {
        let still = [(50, 1_000)];
        assert_eq!(counted(NEVER, &still).0, 0);
        assert_eq!(counted(1_000, &still).0, 0);
        assert_eq!(counted(600, &still), (1, 400 * MS, 400 * MS));
        // However little of it.
        assert_eq!(counted(999, &still), (1, MS, MS));
    }
}
