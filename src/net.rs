//! The only place that names mio's poll and socket types: another network could stand in for them here.
//!
//! The poll is on this page, TCP in `net/tcp.rs`, UDP in `net/udp.rs`, and what opens sockets with their options in
//! `net/open.rs`.

mod open;
mod tcp;
mod udp;

use std::io;
use std::time::Duration;

use mio::event::Source;
use mio::{Interest, Token};

use crate::nonblocking;
use crate::readiness::Readiness;

pub(crate) use tcp::{TcpListener, TcpStream, dial};
pub(crate) use udp::UdpSocket;

/// What a stream is registered for, once and for all: changing it on the way would cost a system call each time.
/// Urgent data must be known of because it cuts reads short.
#[cfg(any(target_os = "linux", target_os = "android"))]
const STREAM: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const STREAM: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The system's poll: epoll, kqueue, or poll(2) where mio is built for it. Edge-triggered.
#[derive(Debug)]
pub(crate) struct Poll(mio::Poll);

impl Poll {
    /// A new poll.
    ///
    /// # Errors
    /// When the system has no descriptor or memory for it.
    pub(crate) fn new() -> io::Result<Poll> {
        mio::Poll::new().map(Poll)
    }

    /// Waits for events, at most `timeout`, which mio rounds up to whole milliseconds. A signal that interrupts ends the
    /// wait with no events: how long to wait next is the caller's to work out anew.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn wait(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self.0.poll(&mut events.batch, timeout) {
            Err(error) if nonblocking::is_interrupted(&error) => {
                events.batch.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// Polls `stream`, under `token`, for its whole life.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn register_stream(&self, stream: &mut TcpStream, token: usize) -> io::Result<()> {
        self.0
            .registry()
            .register(stream.source(), Token(token), STREAM)
    }

    /// Polls `stream` no longer.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn deregister_stream(&self, stream: &mut TcpStream) -> io::Result<()> {
        self.0.registry().deregister(stream.source())
    }

    /// Polls `listener`, under `token`.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn register_listener(
        &self,
        listener: &mut TcpListener,
        token: usize,
    ) -> io::Result<()> {
        self.0
            .registry()
            .register(listener.source(), Token(token), Interest::READABLE)
    }

    /// Polls `listener` no longer.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn deregister_listener(&self, listener: &mut TcpListener) -> io::Result<()> {
        self.0.registry().deregister(listener.source())
    }

    /// Polls `socket`, under `token`. Not for writing: what can't be sent is dropped.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn register_udp(&self, socket: &mut UdpSocket, token: usize) -> io::Result<()> {
        self.0
            .registry()
            .register(socket.source(), Token(token), Interest::READABLE)
    }

    /// Sees to it that `socket` is still polled after an error. mio's poll(2) backend drops a descriptor that had one;
    /// the others keep it, and nothing is done.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn rearm_udp(&self, socket: &mut UdpSocket, token: usize) -> io::Result<()> {
        if cfg!(mio_unsupported_force_poll_poll) {
            // It may be there still, and then can't be registered twice.
            let _gone_or_not = self.0.registry().deregister(socket.source());
            return self.register_udp(socket, token);
        }
        Ok(())
    }

    /// Polls `socket` no longer.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn deregister_udp(&self, socket: &mut UdpSocket) -> io::Result<()> {
        self.0.registry().deregister(socket.source())
    }

    /// Polls somebody else's source.
    ///
    /// # Errors
    /// As the system gives them; `EPERM` for a regular file on epoll.
    pub(crate) fn register_source(
        &self,
        source: &mut (impl Source + ?Sized),
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        self.0.registry().register(source, Token(token), interest)
    }

    /// Polls somebody else's source for something else.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn reregister_source(
        &self,
        source: &mut (impl Source + ?Sized),
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        self.0.registry().reregister(source, Token(token), interest)
    }

    /// Polls somebody else's source no longer.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn deregister_source(&self, source: &mut (impl Source + ?Sized)) -> io::Result<()> {
        self.0.registry().deregister(source)
    }

    /// What wakes this poll from another thread, with an event under `token`.
    ///
    /// # Errors
    /// When the system has no descriptor or memory for it.
    pub(crate) fn waker(&self, token: usize) -> io::Result<Waker> {
        mio::Waker::new(self.0.registry(), Token(token)).map(Waker)
    }
}

#[cfg(not(mio_unsupported_force_poll_poll))]
mod descriptor {
    use std::os::fd::{AsRawFd, RawFd};

    use super::Poll;

    impl AsRawFd for Poll {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_raw_fd()
        }
    }
}

/// Wakes a poll from another thread.
#[derive(Debug)]
pub(crate) struct Waker(mio::Waker);

impl Waker {
    /// Brings the poll an event.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}

/// The events of one poll.
#[derive(Debug)]
pub(crate) struct Events {
    batch: mio::Events,
    capacity: usize,
}

impl Events {
    /// Room for `capacity` events in one poll.
    pub(crate) fn with_capacity(capacity: usize) -> Events {
        Events {
            batch: mio::Events::with_capacity(capacity),
            capacity,
        }
    }

    /// Whether the poll brought as many events as there's room for: there may be more.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.iter().count() >= self.capacity
    }

    /// The events.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        self.batch.iter().map(Event)
    }
}

/// Holds no events and has no room for any.
impl Default for Events {
    fn default() -> Events {
        Events::with_capacity(0)
    }
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a>(&'a mio::event::Event);

impl Event<'_> {
    /// The token that its source is registered under.
    #[inline]
    pub(crate) fn token(self) -> usize {
        self.0.token().0
    }

    /// Whether it only says that there's something to read, as most do: no end, no error, nothing urgent.
    #[inline]
    pub(crate) fn is_plain_read(self) -> bool {
        let event = self.0;
        // "Write closed" alone is always an error or a hang-up, and those are asked for.
        let more = event.is_read_closed() | event.is_error() | event.is_priority();
        event.is_readable() & !more
    }

    /// All that it says.
    pub(crate) fn readiness(self) -> Readiness {
        let event = self.0;
        let flag = |is: bool, flag: Readiness| if is { flag } else { Readiness::EMPTY };
        flag(event.is_readable(), Readiness::READABLE)
            | flag(event.is_writable(), Readiness::WRITABLE)
            | flag(event.is_read_closed(), Readiness::READ_CLOSED)
            | flag(event.is_write_closed(), Readiness::WRITE_CLOSED)
            | flag(event.is_error(), Readiness::ERROR)
            | flag(event.is_priority(), Readiness::PRIORITY)
    }
}
