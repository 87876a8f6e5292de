//! Schedules: when the next message, dial or close is due, exactly, and how a thread is woken for
//! it.
//!
//! The poll waits in whole milliseconds. At 50,000 messages a second that is fifty messages at a
//! time, and what was measured would be the generator. So the wake-up is a timer descriptor, where
//! the system has one.

use std::io;
use std::time::Duration;

use oread::{Context, SourceId};

use crate::load::clock::{NEVER, SECOND};

/// Moments at equal distances: the `k`-th is `start + k * num / den`, rounded down, and no error
/// adds up. A thread takes every N-th of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When the next one is due.
    due: u64,
    /// What rounding has left out of `due`, in 1/`den` of a nanosecond.
    left_out: u64,
    /// From one to the next: whole nanoseconds, and 1/`den` beyond them.
    step: u64,
    step_left_out: u64,
    den: u64,
}

impl Schedule {
    /// `rate` a second over all threads, from `start` on; the part of thread `index` of `threads`.
    pub(crate) fn shared(start: u64, rate: u32, index: u32, threads: u32) -> Schedule {
        let den = u64::from(rate);
        // At most 2^32 threads in: 2^62.
        let first = u64::from(index) * SECOND;
        let step = u64::from(threads) * SECOND;
        Schedule {
            due: start.saturating_add(first / den),
            left_out: first % den,
            step: step / den,
            step_left_out: step % den,
            den,
        }
    }

    /// `count` in each `interval`, from `start` on, for thread `index` of `threads`: each has its
    /// own count, and they take turns.
    pub(crate) fn every(
        start: u64,
        interval: Duration,
        count: u32,
        index: u32,
        threads: u32,
    ) -> Schedule {
        let den = u64::from(count.max(1));
        let interval = crate::load::count::tally::nanos(interval);
        // Less than an interval: the index is less than the threads.
        let turns = u128::from(den) * u128::from(threads.max(1));
        let first = u128::from(interval) * u128::from(index) / turns;
        Schedule {
            due: start.saturating_add(first as u64),
            left_out: 0,
            step: interval / den,
            step_left_out: interval % den,
            den,
        }
    }

    /// From the next one on, `count` in each `interval`.
    pub(crate) fn respace(&mut self, interval: Duration, count: u32) {
        *self = Schedule::every(self.due, interval, count, 0, 1);
    }

    /// When the next one is due.
    #[inline]
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Goes on to the one after it.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.due = self.due.saturating_add(self.step);
        self.left_out += self.step_left_out;
        if self.left_out >= self.den {
            self.left_out -= self.den;
            self.due += 1;
        }
    }

    /// How many are due before `end`, the next one among them.
    pub(crate) fn before(&self, end: u64) -> u64 {
        let Some(span) = end.checked_sub(self.due).filter(|&span| span > 0) else {
            return 0;
        };
        // The k-th from now is before the end if left_out + k * step < span, all in 1/den of a
        // nanosecond.
        let den = u128::from(self.den);
        let span = u128::from(span) * den - u128::from(self.left_out);
        let step = u128::from(self.step) * den + u128::from(self.step_left_out);
        u64::try_from(span.div_ceil(step.max(1))).unwrap_or(u64::MAX)
    }

    /// Lets what was missed go: the next one is due no earlier than `then`.
    pub(crate) fn skip_to(&mut self, then: u64) {
        self.due = self.due.max(then);
    }
}

/// The shortest wait, in nanoseconds, where messages are closer to each other. At 50,000 a second
/// it's two or three messages at a time, and a system call for them.
const TICK: u64 = 50_000;

/// What wakes a thread at a time finer than a millisecond.
#[derive(Debug)]
pub(crate) struct Ticker {
    inner: timer::Timer,
    /// For when it's set; [`NEVER`]: it's not.
    set_for: u64,
}

impl Ticker {
    /// A ticker that does nothing yet.
    ///
    /// # Errors
    /// As the system gives them: out of descriptors.
    pub(crate) fn new<S>(context: &mut Context<'_, S>) -> io::Result<Ticker> {
        Ok(Ticker {
            inner: timer::Timer::new(context)?,
            set_for: NEVER,
        })
    }

    /// Sees to it that the thread is awake at `due`, or somewhat later where the schedule's moments
    /// lie closer than [`TICK`].
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn wake_at(&mut self, now: u64, schedule: &Schedule) -> io::Result<()> {
        let due = match schedule.step < TICK {
            true => schedule.due.max(now.saturating_add(TICK)),
            false => schedule.due,
        };
        // One that fires too early is set again then; most of the time an answer has come before
        // it, and sent what was due.
        if self.set_for > due {
            // Nothing is waited for that is over: 1 ns, for 0 would switch it off.
            self.inner.once(due.saturating_sub(now).max(1))?;
            self.set_for = due;
        }
        Ok(())
    }

    /// The event of this ticker has come.
    pub(crate) fn fired(&mut self) {
        self.set_for = NEVER;
    }

    /// How long the poll may wait for `due`, where it's not woken for it: see [`timer`].
    pub(crate) fn wait(now: u64, due: u64) -> Option<Duration> {
        timer::Timer::wait(now, due)
    }

    /// Whether an event is this ticker's.
    pub(crate) fn is(&self, source: SourceId) -> bool {
        self.inner.is(source)
    }
}

/// A timer descriptor, set for one moment after the other. It need not be read: each firing is an
/// edge, and edges are what the poll tells. One that is set to fire periodically would have to be:
/// the next period begins with the read.
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
mod timer {
    use std::io;
    use std::os::fd::{AsFd as _, AsRawFd as _};
    use std::time::Duration;

    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use oread::Interest;
    use oread::SourceFd;
    use oread::{Context, SourceId};

    #[derive(Debug)]
    pub(crate) struct Timer {
        timer: TimerFd,
        id: SourceId,
    }

    impl Timer {
        pub(crate) fn new<S>(context: &mut Context<'_, S>) -> io::Result<Timer> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
            let fd = timer.as_fd().as_raw_fd();
            let id = context.register(&mut SourceFd(&fd), Interest::READABLE)?;
            Ok(Timer { timer, id })
        }

        pub(crate) fn once(&self, wait: u64) -> io::Result<()> {
            let when = Expiration::OneShot(Duration::from_nanos(wait).into());
            Ok(self.timer.set(when, TimerSetTimeFlags::empty())?)
        }

        /// The timer wakes the poll: it may wait for ever.
        pub(crate) fn wait(_now: u64, _due: u64) -> Option<Duration> {
            None
        }

        pub(crate) fn is(&self, source: SourceId) -> bool {
            self.id == source
        }
    }
}

/// Without one: the poll waits while a millisecond or more is left, and then not at all. It takes a
/// whole processor, and is as exact.
#[cfg(not(all(target_os = "linux", not(mio_unsupported_force_poll_poll))))]
mod timer {
    use std::io;
    use std::time::Duration;

    use oread::{Context, SourceId};

    #[derive(Debug)]
    pub(crate) struct Timer;

    impl Timer {
        #[allow(clippy::unnecessary_wraps)] // As where there is one.
        pub(crate) fn new<S>(_: &mut Context<'_, S>) -> io::Result<Timer> {
            Ok(Timer)
        }

        #[allow(clippy::unnecessary_wraps, clippy::unused_self)]
        pub(crate) fn once(&self, _wait: u64) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn wait(now: u64, due: u64) -> Option<Duration> {
            let left = due.saturating_sub(now);
            // The poll rounds up.
            Some(Duration::from_millis((left / 1_000_000).saturating_sub(1)))
        }

        pub(crate) fn is(&self, _: SourceId) -> bool {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_parts_of_a_schedule_are_the_schedule() {
        for (rate, threads) in [(1, 1), (3, 2), (7, 3), (50_000, 4), (999_983, 7)] {
            let mut parts: Vec<Schedule> = (0..threads)
                .map(|index| Schedule::shared(5, rate, index, threads))
                .collect();
            for k in 0..10_000_u64 {
                let part = &mut parts[k as usize % threads as usize];
                let due = 5 + u128::from(k) * 1_000_000_000 / u128::from(rate);
                assert_eq!(u128::from(part.due()), due, "{k} of {rate} over {threads}");
                part.advance();
            }
        }
    }

    #[test]
    fn what_is_due_before_the_end_is_counted_as_it_would_be_sent() {
        for (rate, threads) in [(1, 1), (3, 2), (7, 3), (1000, 1), (999_983, 7)] {
            for index in 0..threads {
                for end in [0, 4, 5, 6, 1_000_005, 999_999_999, 1_000_000_005] {
                    let mut schedule = Schedule::shared(5, rate, index, threads);
                    schedule.advance();
                    let counted = schedule.before(end);
                    let mut walked = 0;
                    while schedule.due() < end {
                        walked += 1;
                        schedule.advance();
                    }
                    assert_eq!(counted, walked, "{rate} {threads} {index} {end}");
                }
            }
        }
    }

    /// Counts the events of a ticker.
    #[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
    struct Woken(Option<Ticker>, u32);

    #[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
    impl oread::Handler for Woken {
        type Session = ();
        type Message = ();

        fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &oread::Accepted) -> Option<()> {
            None
        }

        fn on_data(&mut self, _: &mut oread::Connection<'_, ()>, data: &[u8]) -> usize {
            data.len()
        }

        fn on_ready(&mut self, _: &mut Context<'_, ()>, source: SourceId, _: oread::Readiness) {
            let ticker = self.0.as_mut().unwrap();
            assert!(ticker.is(source));
            ticker.fired();
            self.1 += 1;
        }
    }

    #[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
    #[test]
    fn a_ticker_wakes_the_poll_every_time_whether_moments_are_far_apart_or_close() {
        let epoch = crate::load::clock::Epoch::begin();
        for rate in [500, 100_000] {
            let mut reactor = oread::Reactor::new().unwrap();
            let ticker = Ticker::new(&mut reactor.context()).unwrap();
            let mut woken = Woken(Some(ticker), 0);
            let mut schedule = Schedule::shared(epoch.now(), rate, 0, 1);
            while woken.1 < 20 {
                let now = epoch.now();
                while schedule.due() <= now {
                    schedule.advance();
                }
                let ticker = woken.0.as_mut().unwrap();
                ticker.wake_at(now, &schedule).unwrap();
                let turn = reactor.turn(&mut woken, Some(Duration::from_secs(60)));
                assert!(
                    turn.unwrap().events > 0,
                    "nothing woke it at {rate} a second"
                );
            }
        }
    }

    #[test]
    fn a_heartbeat_goes_round_once_in_its_interval() {
        let mut schedule = Schedule::every(100, Duration::from_nanos(10), 3, 0, 1);
        let mut dues = Vec::new();
        for _ in 0..7 {
            dues.push(schedule.due());
            schedule.advance();
        }
        assert_eq!(dues, [100, 103, 106, 110, 113, 116, 120]);
    }

    #[test]
    fn a_heartbeat_keeps_its_interval_when_there_are_fewer() {
        let mut schedule = Schedule::every(100, Duration::from_nanos(12), 4, 0, 1);
        schedule.advance();
        schedule.respace(Duration::from_nanos(12), 2);
        let mut dues = Vec::new();
        for _ in 0..3 {
            dues.push(schedule.due());
            schedule.advance();
        }
        assert_eq!(dues, [103, 109, 115]);
    }

    #[test]
    fn threads_take_turns_in_an_interval() {
        let first = |index| Schedule::every(100, Duration::from_nanos(800), 2, index, 4).due();
        assert_eq!([0, 1, 2, 3].map(first), [100, 200, 300, 400]);
        let most = Duration::from_nanos(u64::MAX);
        assert!(Schedule::every(100, most, 1, 1023, 1024).due() > u64::MAX / 2);
    }
}
