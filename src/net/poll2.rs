//! What differs between mio's backends: poll(2), which a build with
//! `--cfg mio_unsupported_force_poll_poll` has for tests of "other platforms" on Linux, and all
//! others. Nothing else in the library asks which of them it runs on.
//!
//! The events of mio's poll(2) come from levels and look like edges: what an event has told is not
//! asked for again until a call through mio has said `WouldBlock`. So:
//!
//! - a short read or write arms nothing, and may not end a loop ([`HAS_EDGES`]);
//! - a call that says "not yet" in words of its own must say `WouldBlock` to mio
//!   (`TcpStream::established`), and a call on the bare descriptor arms nothing;
//! - a hang-up or an error drops the descriptor. Calls on it then say `NotFound` in place of
//!   `WouldBlock` (`nonblocking::is_blocked`), and so does deregistering it; a UDP socket is
//!   registered anew after an error (`System::repoll`); no event comes with the last
//!   acknowledgement of a connection that both sides have finished ([`HAS_EDGES`]);
//! - an end may come without "readable": an end or an error alone starts a read;
//! - an error may come without its hang-up, which the kernel sets a moment later, and the hang-up
//!   then never comes: an error alone says that writing is over, too (`Link::ready`);
//! - a batch may bring more events than it was made for;
//! - mio's own waker can be lost: while the poll's own thread arms a descriptor anew, mio wakes
//!   itself by the same eventfd and then empties it, and with it what another thread has just
//!   written. A pipe does the same work here, as a source like any other;
//! - there is no descriptor to nest the poll by ([`where_nestable`]).

pub(super) use imp::HAS_EDGES;
pub(crate) use imp::{Waker, Woken, where_nestable};

#[cfg(not(mio_unsupported_force_poll_poll))]
mod imp {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};

    use mio::Token;
    pub(crate) use mio::Waker;

    use super::super::real::System;

    /// Whether edges come from the sockets themselves, as with epoll and kqueue.
    pub(crate) const HAS_EDGES: bool = true;

    /// The poll's end of a [`Waker`]; there is nothing to it here.
    #[derive(Debug)]
    pub(crate) struct Woken;

    impl System {
        /// What wakes the poll from any thread, with events for `token`, and the poll's own end of
        /// it. Several calls may come to one event. A poll may have only one.
        ///
        /// # Errors
        /// When there are no descriptors left.
        pub(crate) fn waker(&self, token: usize) -> io::Result<(Waker, Woken)> {
            Ok((Waker::new(self.registry(), Token(token))?, Woken))
        }
    }

    impl Woken {
        /// To be called for each event of the waker, before what it announces is looked at.
        pub(crate) fn hear(&mut self) {}
    }

    /// The selector's own descriptor is readable when something is ready, so that one loop can be
    /// nested in another.
    impl AsFd for System {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.registry().as_fd()
        }
    }

    /// Keeps items that need a descriptor to nest the poll by.
    macro_rules! where_nestable {
        ($($item:item)*) => { $($item)* };
    }
    pub(crate) use where_nestable;
}

#[cfg(mio_unsupported_force_poll_poll)]
mod imp {
    use std::io::{self, Read, Write};

    use mio::Interest;
    use mio::unix::pipe;

    use super::super::real::System;
    use crate::nonblocking::is_blocked;

    /// Whether edges come from the sockets themselves.
    pub(crate) const HAS_EDGES: bool = false;

    /// Wakes a poll from any thread.
    #[derive(Debug)]
    pub(crate) struct Waker(pipe::Sender);

    /// The poll's end of a [`Waker`].
    #[derive(Debug)]
    pub(crate) struct Woken(pipe::Receiver);

    impl System {
        /// As with the other backends.
        ///
        /// # Errors
        /// When there are no descriptors left.
        pub(crate) fn waker(&self, token: usize) -> io::Result<(Waker, Woken)> {
            let (sender, mut receiver) = pipe::new()?;
            self.register_source(&mut receiver, token, Interest::READABLE)?;
            Ok((Waker(sender), Woken(receiver)))
        }
    }

    impl Waker {
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

    /// Drops items that need a descriptor to nest the poll by: there is none.
    macro_rules! where_nestable {
        ($($item:item)*) => {};
    }
    pub(crate) use where_nestable;
}
