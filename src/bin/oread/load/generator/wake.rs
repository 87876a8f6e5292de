//! When it is, and how a thread is woken at a time.
//!
//! The poll waits in whole milliseconds. At 50,000 messages a second that is fifty messages at a
//! time, and what was measured would be the generator. So the wake-up is a timer descriptor, where
//! the system has one.

use std::io;
use std::time::Duration;

use oread::{Context, SourceId};

use crate::load::clock::{Epoch, NEVER};

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

/// The key of the reactor's timer that does it in a simulated network.
pub(super) const WAKE: u64 = 1;

/// The shortest wait, in nanoseconds, where moments are closer to each other. At 50,000 messages a
/// second it's two or three messages at a time, and a system call for them.
const TICK: u64 = 50_000;

/// What wakes a thread.
#[derive(Debug)]
pub(crate) struct Wake {
    timer: timer::Timer,
    /// For when it's set; [`NEVER`]: it's not.
    set_for: u64,
}

impl Wake {
    /// One that does nothing yet.
    ///
    /// # Errors
    /// As the system gives them: out of descriptors.
    pub(crate) fn new(context: &mut Context<'_, u32>, clock: &Clock) -> io::Result<Wake> {
        Ok(Wake {
            timer: timer::Timer::new(context, clock)?,
            set_for: NEVER,
        })
    }

    /// Sees to it that the thread is awake at `due`, or somewhat later where that is sooner than
    /// [`TICK`].
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn at(
        &mut self,
        context: &mut Context<'_, u32>,
        now: u64,
        due: u64,
    ) -> io::Result<()> {
        // One that fires too early is set again then; most of the time an event has come before
        // it, and led to what was due.
        if self.set_for > due {
            let due = due.max(now.saturating_add(TICK));
            self.timer.once(context, due - now)?;
            self.set_for = due;
        }
        Ok(())
    }

    /// It has fired.
    pub(crate) fn fired(&mut self) {
        self.set_for = NEVER;
    }

    /// How long the poll may wait, where the timer does not end its wait.
    pub(crate) fn wait(&self, now: u64) -> Option<Duration> {
        let left = self.set_for.saturating_sub(now);
        (self.set_for != NEVER)
            .then_some(left)
            .and_then(|left| self.timer.wait(left))
    }

    /// Whether an event is this timer's.
    pub(crate) fn is(&self, source: SourceId) -> bool {
        self.timer.is(source)
    }
}

/// A timer descriptor, set for one moment after the other. It need not be read: each firing is an
/// edge, and edges are what the poll tells. One that is set to fire periodically would have to be:
/// the next period begins with the read.
#[cfg(all(
    target_os = "linux",
    not(mio_unsupported_force_poll_poll),
    not(all(test, feature = "sim"))
))]
mod timer {
    use std::io;
    use std::os::fd::{AsFd as _, AsRawFd as _};
    use std::time::Duration;

    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use oread::Interest;
    use oread::SourceFd;
    use oread::{Context, SourceId};

    use crate::load::generator::wake::Clock;

    #[derive(Debug)]
    pub(super) struct Timer {
        timer: TimerFd,
        id: SourceId,
    }

    impl Timer {
        pub(super) fn new(context: &mut Context<'_, u32>, _: &Clock) -> io::Result<Timer> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            let fd = timer.as_fd().as_raw_fd();
            let id = context.register(&mut SourceFd(&fd), Interest::READABLE)?;
            Ok(Timer { timer, id })
        }

        pub(super) fn once(&mut self, _: &mut Context<'_, u32>, wait: u64) -> io::Result<()> {
            let when = Expiration::OneShot(Duration::from_nanos(wait).into());
            Ok(self.timer.set(when, TimerSetTimeFlags::empty())?)
        }

        /// The timer ends the poll's wait: it may wait for ever.
        pub(super) fn wait(&self, _left: u64) -> Option<Duration> {
            None
        }

        pub(super) fn is(&self, source: SourceId) -> bool {
            self.id == source
        }
    }
}

/// Without one: the poll waits while a millisecond or more is left, and then not at all. It takes a
/// whole processor, and is as exact. In a simulated network, where nothing takes a processor, the
/// reactor's own timers do it, in whole milliseconds.
#[cfg(not(all(
    target_os = "linux",
    not(mio_unsupported_force_poll_poll),
    not(all(test, feature = "sim"))
)))]
mod timer {
    use std::io;
    use std::time::Duration;

    use oread::{Context, SourceId};

    use crate::load::generator::wake::Clock;

    #[derive(Debug)]
    pub(super) struct Timer {
        /// The reactor's timer is used, and which it is.
        is_simulated: bool,
        timer: Option<oread::TimerId>,
    }

    impl Timer {
        #[allow(clippy::unnecessary_wraps)] // As where there is one.
        pub(super) fn new(_: &mut Context<'_, u32>, clock: &Clock) -> io::Result<Timer> {
            Ok(Timer {
                is_simulated: !matches!(clock, Clock::System(_)),
                timer: None,
            })
        }

        #[allow(clippy::unnecessary_wraps)]
        pub(super) fn once(&mut self, context: &mut Context<'_, u32>, wait: u64) -> io::Result<()> {
            if self.is_simulated {
                if let Some(timer) = self.timer.take() {
                    context.cancel(timer);
                }
                let wait = Duration::from_nanos(wait);
                self.timer = Some(context.timer(wait, crate::load::generator::wake::WAKE));
            }
            Ok(())
        }

        pub(super) fn wait(&self, left: u64) -> Option<Duration> {
            // The poll rounds up.
            let whole = Duration::from_millis((left / 1_000_000).saturating_sub(1));
            (!self.is_simulated).then_some(whole)
        }

        #[allow(clippy::unused_self)]
        pub(super) fn is(&self, _: SourceId) -> bool {
            false
        }
    }
}

#[cfg(all(
    test,
    target_os = "linux",
    not(mio_unsupported_force_poll_poll),
    not(feature = "sim")
))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use oread::{Context, SourceId};

    use crate::load::clock::Epoch;
    use crate::load::generator::wake::{Clock, Wake};

    /// Counts the events of a timer.
    struct Woken(Option<Wake>, u32);

    impl oread::Handler for Woken {
        type Session = u32;
        type Message = ();

        fn on_accept(&mut self, _: &mut Context<'_, u32>, _: &oread::Accepted) -> Option<u32> {
            None
        }

        fn on_data(&mut self, _: &mut oread::Connection<'_, u32>, data: &[u8]) -> usize {
            data.len()
        }

        fn on_ready(&mut self, _: &mut Context<'_, u32>, source: SourceId, _: oread::Readiness) {
            if let Some(wake) = self.0.as_mut().filter(|wake| wake.is(source)) {
                wake.fired();
                self.1 += 1;
            }
        }
    }

    #[test]
    fn it_wakes_the_poll_every_time_whether_moments_are_far_apart_or_close() {
        let clock = Clock::System(Epoch::begin());
        for interval in [2_000_000, 10_000] {
            let mut reactor = oread::Reactor::new().unwrap();
            let wake = Wake::new(&mut reactor.context(), &clock);
            let mut woken = Woken(wake.ok(), 0);
            while woken.1 < 20 {
                let mut context = reactor.context();
                let now = clock.now(&context);
                let wake = woken.0.as_mut().unwrap();
                wake.at(&mut context, now, now + interval).unwrap();
                let turn = reactor.turn(&mut woken, Some(Duration::from_secs(60)));
                assert!(turn.unwrap().events > 0, "nothing woke it at {interval}");
            }
        }
    }
}
