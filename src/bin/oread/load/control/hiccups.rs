//! Whether this process stood still: stopped by a signal or by Ctrl-Z, paused with its whole
//! machine, or without a processor. What the generators measure then is not the server's doing.
//!
//! A thread sleeps in short steps. One from which it wakes far too late is a hiccup.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::load::count::StoodStill;
use crate::system::threads;

/// How long the thread sleeps at a time. Of a hiccup at most this much is not counted. 20 wakes a
/// second take less than 0.1% of a processor, by 20 to 40 us each on a busy virtual machine.
const STEP: Duration = Duration::from_millis(50);
/// Waking later than this is a hiccup. A thread that slept goes before those that ran, so a full
/// run queue delays it by milliseconds; a processor quota of a container takes less than its
/// period, which is 100 ms (`cpu.max` of cgroups). Shorter hiccups show in the generators' lag.
const TOO_LATE: Duration = Duration::from_millis(100);

/// The measured time, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: Option<Instant>,
    pub(crate) until: Option<Instant>,
}

/// The hiccups of the measured time.
#[derive(Debug)]
struct Hiccups {
    /// When the step ends that is slept now.
    due: Instant,
    window: Window,
    stood_still: StoodStill,
}

impl Hiccups {
    fn new(now: Instant) -> Hiccups {
        Hiccups {
            due: now + STEP,
            window: Window::default(),
            stood_still: StoodStill::default(),
        }
    }

    /// The thread woke.
    fn tick(&mut self, now: Instant) {
        let due = std::mem::replace(&mut self.due, now + STEP);
        let Window { from, until } = self.window;
        let Some(from) = from.filter(|_| now.saturating_duration_since(due) > TOO_LATE) else {
            return;
        };
        let end = until.map_or(now, |until| until.min(now));
        let length = end.saturating_duration_since(due.max(from));
        if length > Duration::ZERO {
            self.stood_still.times += 1;
            self.stood_still.total += length;
            self.stood_still.longest = self.stood_still.longest.max(length);
        }
    }

    /// The thread's part: it ends when nobody holds the other end.
    fn watch(mut self, windows: &Receiver<Window>) -> StoodStill {
        loop {
            let word = windows.recv_timeout(STEP);
            // First, for what is said of a time counts from that time on.
            if let Ok(window) = word {
                self.window = window;
            }
            self.tick(Instant::now());
            if word == Err(RecvTimeoutError::Disconnected) {
                return self.stood_still;
            }
        }
    }
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct HiccupMeter {
    windows: Sender<Window>,
    thread: JoinHandle<StoodStill>,
}

impl HiccupMeter {
    /// Starts it. Nothing is counted before there is a measured time.
    ///
    /// # Errors
    /// Exit code 1: no thread can be had.
    pub(crate) fn start() -> Result<HiccupMeter, Failure> {
        let (windows, told) = mpsc::channel();
        let hiccups = Hiccups::new(Instant::now());
        let thread = threads::start("hiccup meter", move || hiccups.watch(&told))?;
        Ok(HiccupMeter { windows, thread })
    }

    /// Says when is measured.
    pub(crate) fn measure(&self, window: Window) {
        if self.windows.send(window).is_err() {
            log::debug!("the hiccup meter is gone");
        }
    }

    /// Ends it; what it has counted.
    pub(crate) fn finish(self) -> StoodStill {
        drop(self.windows);
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// What is counted of wakes at these milliseconds, of which those from `from` to `until` are
    /// measured.
    fn counted(from: Option<u32>, until: Option<u32>, wakes: &[u32]) -> (u64, Duration, Duration) {
        let start = Instant::now();
        let mut hiccups = Hiccups::new(start);
        hiccups.window = Window {
            from: from.map(|ms| start + ms * MS),
            until: until.map(|ms| start + ms * MS),
        };
        for &ms in wakes {
            hiccups.tick(start + ms * MS);
        }
        let StoodStill {
            times,
            total,
            longest,
        } = hiccups.stood_still;
        (times, total, longest)
    }

    #[test]
    fn a_wake_that_is_far_too_late_is_a_hiccup_and_a_late_one_is_not() {
        let none = (0, Duration::ZERO, Duration::ZERO);
        assert_eq!(counted(Some(0), None, &[50, 100, 170, 320]), none);
        // Due at 50, 301, 1,651 and 1,701.
        let wakes = [251, 1_601, 1_651, 1_801];
        assert_eq!(counted(Some(0), None, &wakes), (2, 1_501 * MS, 1_300 * MS));
    }

    #[test]
    fn only_what_lies_in_the_measured_time_counts() {
        // It stands still from 50 to 1,000.
        let wakes = [1_000, 1_050];
        assert_eq!(counted(None, None, &wakes).0, 0);
        assert_eq!(counted(Some(1_000), None, &wakes).0, 0);
        assert_eq!(counted(Some(0), Some(50), &wakes).0, 0);
        assert_eq!(counted(Some(600), None, &wakes), (1, 400 * MS, 400 * MS));
        assert_eq!(counted(Some(0), Some(300), &wakes), (1, 250 * MS, 250 * MS));
        // However little of it.
        assert_eq!(counted(Some(999), None, &wakes), (1, MS, MS));
    }

    #[test]
    fn the_thread_ends_when_it_is_asked_to() {
        let meter = HiccupMeter::start().unwrap();
        meter.measure(Window::default());
        assert_eq!(meter.finish(), StoodStill::default());
    }
}
