//! What mio's poll(2) backend asks for, and nobody else: a build with
//! `--cfg mio_unsupported_force_poll_poll` has it, for tests of "other platforms" on Linux.
//!
//! Its events come from poll(2), which tells levels, and look like edges: what an event has told is
//! not asked for again until a call through mio has said `WouldBlock`. So:
//!
//! - a short read or write arms nothing, and may not end a loop ([`HAS_EDGES`]);
//! - a call that says "not yet" in words of its own must say `WouldBlock` to mio
//!   (`TcpStream::established`);
//! - a hang-up or an error drops the descriptor. Calls on it then say `NotFound` in place of
//!   `WouldBlock`, and so does deregistering it; a UDP socket is registered anew after an error; no
//!   event comes with the last acknowledgement of a connection that both sides have finished;
//! - a batch may bring more events than it was made for;
//! - mio's own waker can be lost: while the poll's own thread arms a descriptor anew, mio wakes
//!   itself by the same eventfd and then empties it, and with it what another thread has just
//!   written. A pipe does the same work here, as a source like any other;
//! - there is no descriptor to nest the poll by.
//!
//! `NotFound` is read so on every backend, because elsewhere nothing gives it. The rest is done here only.

/// Whether edges come from the sockets themselves, as with epoll and kqueue.
pub(super) const HAS_EDGES: bool = !cfg!(mio_unsupported_force_poll_poll);

#[cfg(mio_unsupported_force_poll_poll)]
pub(crate) use waker::{Waker, Woken};

#[cfg(mio_unsupported_force_poll_poll)]
mod waker {
    use std::io::{self, Read, Write};

    use mio::unix::pipe;
    use mio::{Interest, Registry, Token};

    use crate::nonblocking::is_blocked;

    /// Wakes a poll from any thread.
    #[derive(Debug)]
    pub(crate) struct Waker(pipe::Sender);

    /// The poll's end of a [`Waker`].
    #[derive(Debug)]
    pub(crate) struct Woken(pipe::Receiver);

    impl Waker {
        /// A waker of the poll behind `registry`.
        ///
        /// # Errors
        /// When there are no descriptors left.
        pub(crate) fn new(registry: &Registry, token: usize) -> io::Result<(Waker, Woken)> {
            let (sender, mut receiver) = pipe::new()?;
            registry.register(&mut receiver, Token(token), Interest::READABLE)?;
            Ok((Waker(sender), Woken(receiver)))
        }

        /// As the waker of the other backends.
        ///
        /// # Errors
        /// As the system gives them.
        pub(crate) fn wake(&self) -> io::Result<()> {
            match (&self.0).write(&[1]) {
                // As full as it is, it wakes the poll all the same.
                Err(error) if !is_blocked(&error) => Err(error),
                _ => Ok(()),
            }
        }
    }

    impl Woken {
        /// Empties the pipe, to its `WouldBlock`.
        pub(crate) fn hear(&mut self) {
            let mut bytes = [0; 64];
            while matches!(self.0.read(&mut bytes), Ok(count) if count > 0) {}
        }
    }
}
