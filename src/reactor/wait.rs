//! Waiting without sleeping, for a while.

use std::io;
use std::time::{Duration, Instant};

use crate::handler::Handler;

use super::Reactor;

impl<H: Handler> Reactor<H> {
    /// Asks the poll for events for as long as [`Limits::spin`](crate::Limits::spin) says, and only then waits for them: at
    /// most `timeout` in all.
    ///
    /// # Errors
    /// Only what the system's poll gives.
    #[cold]
    pub(super) fn spin(&mut self, mut timeout: Option<Duration>) -> io::Result<()> {
        let spin = self.context.shared.limits.spin;
        let start = Instant::now();
        loop {
            self.context
                .poll
                .wait(&mut self.events, Some(Duration::ZERO))?;
            let spent = start.elapsed();
            if !self.events.is_empty() || timeout.is_some_and(|timeout| spent >= timeout) {
                return Ok(());
            }
            if spent >= spin {
                timeout = timeout.map(|timeout| timeout - spent);
                return self.context.poll.wait(&mut self.events, timeout);
            }
        }
    }
}
