//! A timer descriptor, which ends a reactor's wait to the microsecond. The poll itself waits in
//! whole milliseconds.
//!
//! It need not be read: each firing is an edge, and edges are what the poll tells. One that is set
//! to fire periodically would have to be, for the next period begins with the read.

use std::io;
use std::time::Duration;

use oread::Context;

#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
use nix::sys::timerfd::TimerFd;

/// The timer, registered with a reactor.
#[derive(Debug)]
pub(crate) struct Timer {
    #[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
    timer: TimerFd,
}

#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
impl Timer {
    /// One that is not set yet; `None` where the system has none, or the poll tells no edges.
    ///
    /// # Errors
    /// As the system gives them: out of descriptors.
    pub(crate) fn new<S>(context: &mut Context<'_, S>) -> io::Result<Option<Timer>> {
        use nix::sys::timerfd::{ClockId, TimerFlags};
        use std::os::fd::{AsFd as _, AsRawFd as _};

        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let fd = timer.as_fd().as_raw_fd();
        context.register(&mut oread::SourceFd(&fd), oread::Interest::READABLE)?;
        Ok(Some(Timer { timer }))
    }

    /// Sets it, for this time and no other.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn set(&self, wait: Duration) -> io::Result<()> {
        use nix::sys::timerfd::{Expiration, TimerSetTimeFlags};

        let when = Expiration::OneShot(wait.into());
        Ok(self.timer.set(when, TimerSetTimeFlags::empty())?)
    }
}

#[cfg(not(all(target_os = "linux", not(mio_unsupported_force_poll_poll))))]
#[allow(clippy::unnecessary_wraps, clippy::unused_self)] // As where there is one.
impl Timer {
    pub(crate) fn new<S>(_: &mut Context<'_, S>) -> io::Result<Option<Timer>> {
        Ok(None)
    }

    pub(crate) fn set(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}
