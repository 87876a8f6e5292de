//! Waking a poll from another thread.

use std::io;

use mio::{Registry, Token};

/// Wakes a poll from any thread.
#[derive(Debug)]
pub(crate) struct Waker(mio::Waker);

/// The poll's end of a [`Waker`]; there is nothing to it here.
#[derive(Debug)]
pub(crate) struct Woken;

impl Waker {
    /// A waker of the poll behind `registry`, with events for `token`, and the poll's own end of
    /// it. A poll may have only one.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn new(registry: &Registry, token: usize) -> io::Result<(Waker, Woken)> {
        let waker = mio::Waker::new(registry, Token(token))?;
        Ok((Waker(waker), Woken))
    }

    /// Makes the poll's current or next wait return with an event for the waker's token. Several
    /// calls may come to one event.
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
