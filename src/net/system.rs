//! What a reactor has of the system: readiness, time, chance, and the sockets it opens.

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Interest, Token};

use super::poll2;
use super::real::{TcpListener, TcpStream, UdpSocket};
use crate::nonblocking::is_interrupted;
use crate::options::{ConnectOptions, ListenOptions, UdpOptions};
use crate::readiness::Readiness;

/// What a stream is registered for, once and for its whole life.
///
/// Linux tells of urgent data only who asks for it, and a read stops short at urgent data (pitfall:
/// the bytes behind it would never be read).
#[cfg(any(target_os = "linux", target_os = "android"))]
const STREAM_INTEREST: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const STREAM_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Whether urgent data has an event of its own. kqueue has none that mio asks for.
const TELLS_URGENT_DATA: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The system as one reactor has it: its selector (epoll, kqueue, or poll(2) in a build that forces
/// it on mio), its clock, and where its sockets come from. The library takes nothing from the
/// system but by this and by the sockets that it gives.
#[derive(Debug)]
pub(crate) struct System(mio::Poll);

impl System {
    /// Opens a selector.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn new() -> io::Result<System> {
        mio::Poll::new().map(System)
    }

    /// The time.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }

    /// A number that nobody can guess: the key of a hash, so that nobody can choose what collides.
    pub(crate) fn random(&self) -> u64 {
        RandomState::new().hash_one(0)
    }

    /// Whether memory may be asked for, for a larger table. Only a simulated system ever says no.
    pub(crate) fn may_allocate(&self) -> bool {
        true
    }

    /// Listens as `options` say, or takes over a listener that somebody else has opened.
    ///
    /// # Errors
    /// As [`TcpListener::listen`].
    pub(crate) fn listen(
        &self,
        options: &ListenOptions,
        adopted: Option<OwnedFd>,
    ) -> io::Result<TcpListener> {
        TcpListener::listen(options, adopted)
    }

    /// Begins to connect as `options` say.
    ///
    /// # Errors
    /// As [`TcpStream::dial`].
    pub(crate) fn dial(&self, options: &ConnectOptions) -> io::Result<TcpStream> {
        TcpStream::dial(options)
    }

    /// Takes over a stream that somebody else has opened.
    ///
    /// # Errors
    /// As [`TcpStream::adopt`].
    pub(crate) fn adopt_stream(&self, fd: OwnedFd) -> io::Result<TcpStream> {
        TcpStream::adopt(fd)
    }

    /// Opens a UDP socket as `options` say.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub(crate) fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        UdpSocket::bind(options)
    }

    /// Takes over a UDP socket that somebody else has opened.
    ///
    /// # Errors
    /// As [`UdpSocket::adopt`].
    pub(crate) fn adopt_udp(&self, fd: OwnedFd, options: &UdpOptions) -> io::Result<UdpSocket> {
        UdpSocket::adopt(fd, options)
    }

    /// Room for `capacity` events of this system; with poll(2) a batch may be larger.
    pub(crate) fn events(&self, capacity: usize) -> Events {
        Events(mio::Events::with_capacity(capacity))
    }

    /// mio's own way in.
    pub(super) fn registry(&self) -> &mio::Registry {
        self.0.registry()
    }

    /// Waits until something is ready or `timeout` is over, without end if it is `None`; what was
    /// in `events` is gone.
    ///
    /// mio rounds the timeout up to whole milliseconds. An interruption by a signal is `Ok` with no
    /// events, so that the caller computes its timeout anew.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn wait(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self.0.poll(&mut events.0, timeout) {
            Err(error) if is_interrupted(&error) => {
                events.0.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// Registers `stream` for everything, once for its life.
    ///
    /// # Errors
    /// When the system has no memory for it (`ENOSPC`: the user's limit of watches), or it is
    /// registered already.
    pub(crate) fn register_stream(&self, stream: &mut TcpStream, token: usize) -> io::Result<()> {
        self.register_source(stream.source(), token, STREAM_INTEREST)
    }

    /// Registers `listener`.
    ///
    /// # Errors
    /// As [`System::register_stream`].
    pub(crate) fn register_listener(
        &self,
        listener: &mut TcpListener,
        token: usize,
    ) -> io::Result<()> {
        self.register_source(listener.source(), token, Interest::READABLE)
    }

    /// Registers `socket` for reading only: room to send is most often there, and each datagram
    /// that goes out would tell of more of it.
    ///
    /// # Errors
    /// As [`System::register_stream`].
    pub(crate) fn register_udp(&self, socket: &mut UdpSocket, token: usize) -> io::Result<()> {
        self.register_source(socket.source(), token, Interest::READABLE)
    }

    /// Whether a UDP socket is to be polled anew after an event with [`Readiness::ERROR`], once it
    /// has been read until it blocked.
    ///
    /// mio's poll(2) backend drops a descriptor that had an error, such as a refused datagram, and
    /// no event would come any more. On the others nothing is to be done: a socket with an error
    /// queue (`IP_RECVERR`) keeps its error until that is read, and each registration tells of it
    /// at once.
    pub(crate) fn drops_failed_udp(&self) -> bool {
        !poll2::HAS_EDGES
    }

    /// Polls a registered UDP socket for reading, and for room to send where it `writes`. What
    /// holds is told anew.
    ///
    /// # Errors
    /// As [`System::register_stream`].
    pub(crate) fn repoll(&self, udp: &mut UdpSocket, token: usize, writes: bool) -> io::Result<()> {
        let (readable, writable) = (Interest::READABLE, Interest::WRITABLE);
        let interest = if writes {
            readable | writable
        } else {
            readable
        };
        if poll2::HAS_EDGES {
            return self.reregister_source(udp.source(), token, interest);
        }
        self.deregister_udp(udp)?;
        self.register_source(udp.source(), token, interest)
    }

    /// Registers a source that somebody else owns.
    ///
    /// # Errors
    /// As the source gives them.
    pub(crate) fn register_source<S>(
        &self,
        source: &mut S,
        token: usize,
        interest: Interest,
    ) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        self.registry().register(source, Token(token), interest)
    }

    /// Changes the token and the interest of a registered source.
    ///
    /// # Errors
    /// As the source gives them; `NotFound` when it isn't registered.
    pub(crate) fn reregister_source<S>(
        &self,
        source: &mut S,
        token: usize,
        interest: Interest,
    ) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        self.registry().reregister(source, Token(token), interest)
    }

    /// Forgets a source. Events of it that were already taken from the system may still be in a
    /// batch.
    ///
    /// # Errors
    /// As the source gives them; `NotFound` when it isn't registered.
    pub(crate) fn deregister_source<S: Source + ?Sized>(&self, source: &mut S) -> io::Result<()> {
        self.registry().deregister(source)
    }

    /// Forgets `stream`. Dropping it does so too, unless its descriptor has been duplicated.
    ///
    /// # Errors
    /// As the system gives them; none when it isn't registered.
    pub(crate) fn deregister_stream(&self, stream: &mut TcpStream) -> io::Result<()> {
        forgotten(self.deregister_source(stream.source()))
    }

    /// Forgets `listener`.
    ///
    /// # Errors
    /// As [`System::deregister_stream`].
    pub(crate) fn deregister_listener(&self, listener: &mut TcpListener) -> io::Result<()> {
        forgotten(self.deregister_source(listener.source()))
    }

    /// Forgets `socket`.
    ///
    /// # Errors
    /// As [`System::deregister_stream`].
    pub(crate) fn deregister_udp(&self, socket: &mut UdpSocket) -> io::Result<()> {
        forgotten(self.deregister_source(socket.source()))
    }
}

/// mio's poll(2) backend may have dropped the descriptor after a hang-up: it is not there, as was
/// wished.
fn forgotten(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// One batch of events.
#[derive(Debug)]
pub(crate) struct Events(mio::Events);

impl Events {
    /// Whether the batch is full, so that there may be more behind it.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.0.iter().count() >= self.0.capacity()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The events, each once.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        self.0.iter().map(Event)
    }
}

/// Holds nothing and has room for nothing.
impl Default for Events {
    fn default() -> Events {
        Events(mio::Events::with_capacity(0))
    }
}

/// What is ready, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a>(&'a mio::event::Event);

impl Event<'_> {
    /// The token that the source is registered with.
    #[inline]
    pub(crate) fn token(self) -> usize {
        self.0.token().0
    }

    /// Whether it only says that there is something to read, as most do: no end, no error, nothing
    /// urgent.
    #[inline]
    pub(crate) fn is_plain_read(self) -> bool {
        let event = self.0;
        // "Write closed" alone is always an error or a hang-up, and those are asked for.
        event.is_readable() && !self.is_urgent() && !event.is_error() && !event.is_read_closed()
    }

    /// Whether a read may stop short at urgent data. Where no event tells of it, any may: each read
    /// then goes on until there is nothing, which is a system call more an echo.
    #[inline]
    fn is_urgent(self) -> bool {
        self.0.is_priority() || !TELLS_URGENT_DATA && self.0.is_readable()
    }

    /// mio's flags as ours.
    pub(crate) fn readiness(self) -> Readiness {
        let event = self.0;
        let flag = |set, flag| if set { flag } else { Readiness::EMPTY };
        flag(event.is_readable(), Readiness::READABLE)
            | flag(event.is_writable(), Readiness::WRITABLE)
            | flag(event.is_read_closed(), Readiness::READ_CLOSED)
            | flag(event.is_write_closed(), Readiness::WRITE_CLOSED)
            | flag(event.is_error(), Readiness::ERROR)
            | flag(self.is_urgent(), Readiness::PRIORITY)
    }
}
