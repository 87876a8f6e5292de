//! How fast a load goes while it does: what a thread has counted between two of its samples, by the
//! time between them, and not by the time between two looks at it. A sample that comes late is then
//! no slow second with a quick one behind it.

use std::time::Duration;

use crate::load::clock::{SECOND, nanos, until};
use crate::load::generator::protocol::Progress;

/// What all threads together do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Speed {
    /// Connections a second.
    pub(crate) established: f64,
    /// Answers a second.
    pub(crate) echoed: f64,
    /// Processors: 0.5 is half of one.
    pub(crate) cpu: f64,
}

/// What a thread had counted when it was looked at last.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: u64,
    established: u64,
    echoed: u64,
    cpu: Duration,
}

impl Sample {
    fn of(progress: &Progress) -> Sample {
        Sample {
            at: progress.at,
            established: progress.connections.established,
            echoed: progress.echoed,
            cpu: progress.cpu,
        }
    }
}

/// The last samples of all threads.
#[derive(Debug)]
pub(crate) struct Rates {
    last: Vec<Sample>,
}

impl Rates {
    /// For a run that began at `begun`, with nothing.
    pub(crate) fn new(threads: usize, begun: u64) -> Rates {
        let nothing = Sample {
            at: begun,
            ..Sample::default()
        };
        Rates {
            last: vec![nothing; threads],
        }
    }

    /// How many threads have told something since [`Rates::take`].
    pub(crate) fn told(&self, latest: &[Option<Box<Progress>>]) -> usize {
        let both = latest.iter().zip(&self.last);
        let told = both.filter(|(now, last)| now.as_ref().is_some_and(|now| now.at > last.at));
        told.count()
    }

    /// The speed since the last call. A thread that has told nothing adds nothing; `None` where
    /// none has told anything.
    pub(crate) fn take(&mut self, latest: &[Option<Box<Progress>>]) -> Option<Speed> {
        let mut all: Option<Speed> = None;
        for (now, last) in latest.iter().zip(&mut self.last) {
            let Some(now) = now.as_deref().map(Sample::of).filter(|n| n.at > last.at) else {
                continue;
            };
            let a_second = |count: u64| count as f64 / until(last.at, now.at).as_secs_f64();
            let all = all.get_or_insert_default();
            all.established += a_second(now.established.saturating_sub(last.established));
            all.echoed += a_second(now.echoed.saturating_sub(last.echoed));
            all.cpu += a_second(nanos(now.cpu.saturating_sub(last.cpu))) / SECOND as f64;
            *last = now;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(at: u64, echoed: u64) -> Option<Box<Progress>> {
        Some(Box::new(Progress {
            at,
            echoed,
            cpu: Duration::from_nanos(at / 2),
            ..Progress::none()
        }))
    }

    #[test]
    fn a_steady_load_is_shown_as_steady_however_late_its_samples_are() {
        let mut rates = Rates::new(1, 0);
        // 1,000 a second, told after 1.4, then 0.7 and then 2.1 seconds.
        for ms in [1_400, 2_100, 4_200] {
            let latest = [told(ms * SECOND / 1000, ms)];
            assert_eq!(rates.told(&latest), 1);
            let speed = rates.take(&latest).unwrap();
            assert!((speed.echoed - 1_000.0).abs() < 1e-6, "{speed:?}");
            assert!((speed.cpu - 0.5).abs() < 1e-6, "{speed:?}");
            assert_eq!((rates.told(&latest), rates.take(&latest)), (0, None));
        }
    }

    #[test]
    fn each_thread_counts_by_its_own_time() {
        let mut rates = Rates::new(3, SECOND);
        let latest = [told(2 * SECOND, 100), None, told(3 * SECOND, 100)];
        let speed = rates.take(&latest).unwrap();
        assert!((speed.echoed - 150.0).abs() < 1e-6, "{speed:?}");
    }
}
