//! When it is, and how a thread is woken at a time.
//!
//! The poll waits in whole milliseconds. At 50,000 messages a second that is fifty messages at a
//! time, and what was measured would be the generator. So the wake-up is a timer descriptor, where
//! the system has one.

use std::io;
use std::time::Duration;

use oread::{Context, TimerId};

use crate::load::clock::{Epoch, NEVER};
use crate::system::timer::Timer;

/// What the time of the run is read from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// The system's clock.
    System(Epoch),
    /// That of the simulated network, from this moment on.
    #[cfg(all(test, feature = "sim"))]
    Simulated(std::time::Instant),
}

impl Clock {
    /// The time.
    #[inline(always)]
    #[cfg_attr(not(all(test, feature = "sim")), allow(unused_variables))]
    pub(crate) fn now(&self, context: &Context<'_, u32>) -> u64 {
        match self {
            Clock::System(epoch) => epoch.now(),
            #[cfg(all(test, feature = "sim"))]
            Clock::Simulated(begun) => {
                let passed = context.now().saturating_duration_since(*begun);
                crate::load::clock::nanos(passed) + crate::load::clock::SECOND
            }
        }
    }
}

/// The shortest wait, in nanoseconds, where moments are closer to each other. At 50,000 messages a
/// second it's two or three messages at a time, and a system call for them.
const TICK: u64 = 50_000;
/// How much earlier the reactor's timer is set, which is exact to a millisecond and a poll's
/// rounding: for the rest the reactor turns on and on. It takes a whole processor, and is as exact.
/// In a simulated network nothing takes a processor, and milliseconds are exact enough.
const EARLIER: Duration = match cfg!(all(test, feature = "sim")) {
    true => Duration::ZERO,
    false => Duration::from_millis(2),
};

/// What wakes a thread.
#[derive(Debug)]
pub(crate) struct Wake {
    timer: Option<Timer>,
    /// Without one: the reactor's, the only one of a generator.
    fallback: Option<TimerId>,
    /// For when it's set; [`NEVER`]: it's not.
    set_for: u64,
}

impl Wake {
    /// One that does nothing yet.
    pub(super) fn new(timer: Option<Timer>) -> Wake {
        Wake {
            timer,
            fallback: None,
            set_for: NEVER,
        }
    }

    /// Sees to it that the thread is awake at `due`, or somewhat later where that is sooner than
    /// [`TICK`].
    ///
    /// # Errors
    /// As the system gives them.
    pub(super) fn at(
        &mut self,
        context: &mut Context<'_, u32>,
        now: u64,
        due: u64,
    ) -> io::Result<()> {
        // One that fires too early is set again then; most of the time an event has come before
        // it, and led to what was due.
        if self.set_for <= due {
            return Ok(());
        }
        self.set_for = due.max(now.saturating_add(TICK));
        let wait = Duration::from_nanos(self.set_for - now);
        if let Some(timer) = &self.timer {
            return timer.set(wait);
        }
        if let Some(before) = self.fallback.take() {
            context.cancel(before);
        }
        self.fallback = Some(context.timer(wait.saturating_sub(EARLIER), 0));
        Ok(())
    }

    /// It has fired, and has done its work by ending the poll's wait.
    pub(super) fn fired(&mut self) {
        self.set_for = NEVER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oread::SourceId;

    /// Counts what wakes it.
    struct Woken(Wake, u32);

    impl oread::Handler for Woken {
        type Session = u32;
        type Message = ();

        fn on_accept(&mut self, _: &mut Context<'_, u32>, _: &oread::Accepted) -> Option<u32> {
            None
        }

        fn on_data(&mut self, _: &mut oread::Connection<'_, u32>, data: &[u8]) -> usize {
            data.len()
        }

        fn on_ready(&mut self, _: &mut Context<'_, u32>, _: SourceId, _: oread::Readiness) {
            self.0.fired();
            self.1 += 1;
        }

        fn on_timer(&mut self, _: &mut Context<'_, u32>, _: u64) {
            self.0.fired();
            self.1 += 1;
        }
    }

    #[test]
    fn it_wakes_the_poll_every_time_whether_moments_are_far_apart_or_close() {
        let clock = Clock::System(Epoch::begin());
        for (interval, has_timer) in [2_000_000, 10_000, 5_000_000]
            .into_iter()
            .flat_map(|interval| [(interval, true), (interval, false)])
        {
            let mut reactor = oread::Reactor::new().unwrap();
            let timer = Timer::new(&mut reactor.context()).unwrap();
            let mut woken = Woken(Wake::new(timer.filter(|_| has_timer)), 0);
            while woken.1 < 20 {
                let before = woken.1;
                let mut context = reactor.context();
                let now = clock.now(&context);
                woken.0.at(&mut context, now, now + interval).unwrap();
                for _ in 0..10 {
                    if woken.1 == before {
                        let wait = Some(Duration::from_secs(60));
                        reactor.turn(&mut woken, wait).unwrap();
                    }
                }
                assert!(woken.1 > before, "nothing woke it at {interval}");
            }
        }
    }
}
