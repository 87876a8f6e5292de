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

/// The lead, which was to sleep until `due`, woke `now`.
pub(crate) fn woke(still: &mut StoodStill, due: u64, now: u64) {
    if now > after(due, TOO_LATE) {
        let length = until(due, now);
        still.times += 1;
        still.total += length;
        still.longest = still.longest.max(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_wake_that_is_far_too_late_is_a_hiccup_and_a_late_or_early_one_is_not() {
        let counted = |sleeps: &[(u64, u64)]| {
            let mut still = StoodStill::default();
            for (due, now) in sleeps {
                woke(&mut still, due * 1_000_000, now * 1_000_000);
            }
            (still.times, still.total, still.longest)
        };
        let fine = [(50, 50), (100, 70), (120, 220)];
        assert_eq!(counted(&fine), (0, Duration::ZERO, Duration::ZERO));
        let late = [(50, 251), (301, 1_601), (1_651, 1_651)];
        assert_eq!(counted(&late), (2, 1_501 * MS, 1_300 * MS));
    }
}
