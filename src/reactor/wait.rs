//! Waiting for events, and judging deadlines only when all events before them are taken.
//!
//! A process that stood still (a stop signal, a suspended machine, a slow callback) finds its
//! peers' bytes and their deadlines together; and behind a full batch there are events that it has
//! not seen. Who was heard from in time must be served, however late we look: so a deadline that
//! has come is judged after another poll that brings no full batch, by the time that was read
//! before that poll. And what a turn that took long has read was active at its end, not when it
//! began (`Core::end_turn`).

use std::io;
use std::time::Duration;

use crate::clock::Clock;
use crate::handler::Handler;

use super::Reactor;

/// Deadlines that wait for events: since when, and for how many still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late {
    /// The time by which they had come.
    clock: Clock,
    /// Events that were taken since. The system tells of each source in its turn, so when there are
    /// as many as sources, all that had happened by then is among them.
    taken: usize,
}

impl<H: Handler> Reactor<H> {
    /// Waits for events, at most `timeout`. An interruption by a signal brings none.
    ///
    /// # Errors
    /// Only what the system's poll gives.
    pub(super) fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.core.shared.stats.polls += 1;
        self.core.system.wait(&mut self.events, timeout)?;
        self.full_batch = self.events.is_full();
        Ok(())
    }

    /// Asks the poll for events for as long as [`Limits::spin`](crate::Limits::spin) says, and only
    /// then waits for them: at most `timeout` in all.
    ///
    /// # Errors
    /// Only what the system's poll gives.
    #[cold]
    pub(super) fn spin(&mut self, mut timeout: Option<Duration>) -> io::Result<()> {
        let spin = self.core.shared.limits.spin;
        let start = self.core.system.now();
        loop {
            self.poll(Some(Duration::ZERO))?;
            let spent = self.core.system.now() - start;
            if !self.events.is_empty() || timeout.is_some_and(|timeout| spent >= timeout) {
                return Ok(());
            }
            if spent >= spin {
                timeout = timeout.map(|timeout| timeout - spent);
                return self.poll(timeout);
            }
        }
    }

    /// A deadline or timer has come: takes what events there are, and fires it if those are all.
    /// Otherwise the next turn goes on, and does not wait. How many events there were.
    ///
    /// # Errors
    /// Only what the system's poll gives.
    #[inline(never)]
    pub(super) fn fire_due(&mut self, handler: &mut H) -> io::Result<usize> {
        let clock = self.core.clock;
        let mut late = self.late.unwrap_or(Late { clock, taken: 0 });
        self.poll(Some(Duration::ZERO))?;
        let count = self.dispatch(handler);
        late.taken += count;
        // What was posted came before the deadlines too: it's no more than a mailbox holds.
        self.read_mail(handler, self.core.shared.limits.mailbox);
        let waits = self.full_batch && late.taken < self.sources();
        self.late = waits.then_some(late);
        if !waits {
            let clock = if self.full_batch { late.clock } else { clock };
            self.fire_timers(handler, &clock);
        }
        Ok(count)
    }

    /// How many sources the poll may have events of.
    fn sources(&self) -> usize {
        let core = &self.core;
        let sources = core.listeners.len() + core.udp.len() + core.sources.len();
        // One more: the mailbox.
        core.slots.len() + sources + 1
    }
}
