//! Waking a poll from another thread.
//!
//! mio has a waker for that, but that of its poll(2) backend can be lost: while the poll's own thread arms a descriptor
//! anew, mio wakes itself by the same eventfd and then empties it, and with it whatever another thread has just written.
//! There a pipe does the same work, as a source like any other.

use std::io;

use mio::Token;

use super::Poll;

#[cfg(not(mio_unsupported_force_poll_poll))]
mod imp {
    use super::{Poll, Token, io};

    /// Wakes a [`Poll`] from any thread.
    #[derive(Debug)]
    pub(crate) struct Waker(mio::Waker);

    /// The poll's end of a [`Waker`]; there is nothing to it here.
    #[derive(Debug)]
    pub(crate) struct Woken;

    pub(super) fn new(poll: &Poll, token: Token) -> io::Result<(Waker, Woken)> {
        let waker = mio::Waker::new(poll.registry(), token)?;
        Ok((Waker(waker), Woken))
    }

    impl Waker {
        /// Makes the selector's current or next wait return with an event for the waker's token.
        /// Several calls may come to one event.
        ///
        /// # Errors
        /// As the system gives them.
        pub(crate) fn wake(&self) -> io::Result<()> {
            self.0.wake()
        }
    }

    impl Woken {
        /// To be called for each event of the waker, before what it announces is looked at.
        pub(crate) fn hear(&mut self) {}
    }
}

#[cfg(mio_unsupported_force_poll_poll)]
mod imp {
    use std::io::{Read, Write};

    use mio::unix::pipe;

    use super::{Poll, Token, io};
    use crate::nonblocking::is_blocked;

    /// Wakes a [`Poll`] from any thread.
    #[derive(Debug)]
    pub(crate) struct Waker(pipe::Sender);

    /// The poll's end of a [`Waker`].
    #[derive(Debug)]
    pub(crate) struct Woken(pipe::Receiver);

    pub(super) fn new(poll: &Poll, token: Token) -> io::Result<(Waker, Woken)> {
        let (sender, mut receiver) = pipe::new()?;
        poll.register_source(&mut receiver, token.0, mio::Interest::READABLE)?;
        Ok((Waker(sender), Woken(receiver)))
    }

    impl Waker {
        /// Makes the selector's current or next wait return with an event for the waker's token.
        /// Several calls may come to one event.
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
        /// To be called for each event of the waker, before what it announces is looked at: empties
        /// the pipe, to its `WouldBlock`.
        pub(crate) fn hear(&mut self) {
            let mut bytes = [0; 64];
            while matches!(self.0.read(&mut bytes), Ok(count) if count > 0) {}
        }
    }
}

pub(crate) use imp::{Waker, Woken};

impl Poll {
    /// What wakes this selector from another thread, with an event for `token`, and the selector's own
    /// end of it. There may be only one.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn waker(&self, token: usize) -> io::Result<(Waker, Woken)> {
        imp::new(self, Token(token))
    }
}
