//! The closed choice: sockets and a system that are the real ones or simulated ones. Only a build
//! with the feature `sim` has it; without, the real ones stand in its place, and nothing is asked.
//!
//! Each type has the methods of the real one of its name, which tells what they do. What belongs to
//! the other kind of system than it's used with is refused.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::Interest;
use mio::event::Source;

use super::poll2::where_nestable;
use super::real;
use super::sim;
use super::udp::Received;
use crate::address::Address;
use crate::nonblocking::Stream;
use crate::options::{
    ConnectOptions, Keepalive, ListenOptions, Multicast, UdpOptions, UserTimeout,
};
use crate::readiness::Readiness;

/// Makes an enum of the real and the simulated type of one name.
macro_rules! either {
    ($($name:ident),*) => {$(
        #[derive(Debug)]
        pub(crate) enum $name {
            Real(real::$name),
            Sim(sim::$name),
        }
    )*};
}

either!(
    System,
    TcpStream,
    TcpListener,
    UdpSocket,
    Waker,
    Woken,
    Events
);

/// Has each of them lend its descriptor.
macro_rules! lends {
    ($($name:ident),*) => {$(
        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                both!(self, socket => socket.as_fd())
            }
        }
    )*};
}

/// Calls the same method on either.
macro_rules! both {
    ($either:expr, $it:ident => $call:expr) => {
        match $either {
            Self::Real($it) => $call,
            Self::Sim($it) => $call,
        }
    };
}

/// What comes of a call, as the type of the same kind.
macro_rules! made {
    ($system:expr, $it:ident => $call:expr, $made:ident) => {
        match $system {
            System::Real($it) => $call.map($made::Real),
            System::Sim($it) => $call.map($made::Sim),
        }
    };
}

/// Calls a method of the system with a socket of the same kind.
macro_rules! same {
    ($system:expr, $socket:expr, $kind:ident, ($it:ident, $its:ident) => $call:expr) => {
        match ($system, $socket) {
            (System::Real($it), $kind::Real($its)) => $call,
            (System::Sim($it), $kind::Sim($its)) => $call,
            _ => Err(sim::foreign()),
        }
    };
}

impl System {
    pub(crate) fn new() -> io::Result<System> {
        real::System::new().map(System::Real)
    }

    pub(crate) fn now(&self) -> Instant {
        both!(self, system => system.now())
    }

    pub(crate) fn random(&self) -> u64 {
        both!(self, system => system.random())
    }

    pub(crate) fn may_allocate(&self) -> bool {
        both!(self, system => system.may_allocate())
    }

    pub(crate) fn wait(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match (self, events) {
            (System::Real(system), Events::Real(events)) => system.wait(events, timeout),
            (System::Sim(system), Events::Sim(events)) => system.wait(events, timeout),
            _ => Err(sim::foreign()),
        }
    }

    pub(crate) fn events(&self, capacity: usize) -> Events {
        match self {
            System::Real(system) => Events::Real(system.events(capacity)),
            System::Sim(_) => Events::Sim(sim::Events::with_capacity(capacity)),
        }
    }

    pub(crate) fn listen(
        &self,
        options: &ListenOptions,
        adopted: Option<OwnedFd>,
    ) -> io::Result<TcpListener> {
        made!(self, system => system.listen(options, adopted), TcpListener)
    }

    pub(crate) fn dial(&self, options: &ConnectOptions) -> io::Result<TcpStream> {
        made!(self, system => system.dial(options), TcpStream)
    }

    pub(crate) fn adopt_stream(&self, fd: OwnedFd) -> io::Result<TcpStream> {
        made!(self, system => system.adopt_stream(fd), TcpStream)
    }

    pub(crate) fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        made!(self, system => system.bind_udp(options), UdpSocket)
    }

    pub(crate) fn adopt_udp(&self, fd: OwnedFd, options: &UdpOptions) -> io::Result<UdpSocket> {
        made!(self, system => system.adopt_udp(fd, options), UdpSocket)
    }

    pub(crate) fn waker(&self, token: usize) -> io::Result<(Waker, Woken)> {
        match self {
            System::Real(system) => {
                let (waker, woken) = system.waker(token)?;
                Ok((Waker::Real(waker), Woken::Real(woken)))
            }
            System::Sim(system) => {
                let (waker, woken) = system.waker(token)?;
                Ok((Waker::Sim(waker), Woken::Sim(woken)))
            }
        }
    }

    pub(crate) fn register_stream(&self, stream: &mut TcpStream, token: usize) -> io::Result<()> {
        same!(self, stream, TcpStream, (system, stream) => system.register_stream(stream, token))
    }

    pub(crate) fn register_listener(
        &self,
        listener: &mut TcpListener,
        token: usize,
    ) -> io::Result<()> {
        same!(self, listener, TcpListener, (system, it) => system.register_listener(it, token))
    }

    pub(crate) fn register_udp(&self, socket: &mut UdpSocket, token: usize) -> io::Result<()> {
        same!(self, socket, UdpSocket, (system, socket) => system.register_udp(socket, token))
    }

    pub(crate) fn drops_failed_udp(&self) -> bool {
        both!(self, system => system.drops_failed_udp())
    }

    pub(crate) fn repoll(&self, udp: &mut UdpSocket, token: usize, writes: bool) -> io::Result<()> {
        same!(self, udp, UdpSocket, (system, udp) => system.repoll(udp, token, writes))
    }

    pub(crate) fn deregister_stream(&self, stream: &mut TcpStream) -> io::Result<()> {
        same!(self, stream, TcpStream, (system, stream) => system.deregister_stream(stream))
    }

    pub(crate) fn deregister_listener(&self, listener: &mut TcpListener) -> io::Result<()> {
        same!(self, listener, TcpListener, (system, it) => system.deregister_listener(it))
    }

    pub(crate) fn deregister_udp(&self, socket: &mut UdpSocket) -> io::Result<()> {
        same!(self, socket, UdpSocket, (system, socket) => system.deregister_udp(socket))
    }

    pub(crate) fn register_source<S: Source + ?Sized>(
        &self,
        source: &mut S,
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            System::Real(system) => system.register_source(source, token, interest),
            System::Sim(_) => Err(sim::foreign()),
        }
    }

    pub(crate) fn reregister_source<S: Source + ?Sized>(
        &self,
        source: &mut S,
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            System::Real(system) => system.reregister_source(source, token, interest),
            System::Sim(_) => Err(sim::foreign()),
        }
    }

    pub(crate) fn deregister_source<S: Source + ?Sized>(&self, source: &mut S) -> io::Result<()> {
        match self {
            System::Real(system) => system.deregister_source(source),
            System::Sim(_) => Err(sim::foreign()),
        }
    }
}

where_nestable! {
    use std::os::fd::{AsRawFd, RawFd};

    impl AsFd for System {
        fn as_fd(&self) -> BorrowedFd<'_> {
            both!(self, system => system.as_fd())
        }
    }

    impl AsRawFd for System {
        fn as_raw_fd(&self) -> RawFd {
            both!(self, system => system.as_raw_fd())
        }
    }
}

lends!(TcpStream, TcpListener, UdpSocket);

impl Events {
    pub(crate) fn is_full(&self) -> bool {
        both!(self, events => events.is_full())
    }

    pub(crate) fn is_empty(&self) -> bool {
        both!(self, events => events.is_empty())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> {
        let (real, sim) = match self {
            Events::Real(events) => (Some(events), None),
            Events::Sim(events) => (None, Some(events)),
        };
        let real = real.into_iter().flat_map(|events| events.iter());
        let sim = sim.into_iter().flat_map(|events| events.iter());
        let real = real.map(|it| Event(it.token(), it.readiness(), it.is_plain_read()));
        real.chain(sim.map(|it| Event(it.token(), it.readiness(), it.is_plain_read())))
    }
}

/// Holds nothing and has room for nothing.
impl Default for Events {
    fn default() -> Events {
        Events::Sim(sim::Events::with_capacity(0))
    }
}

/// What is ready, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event(usize, Readiness, bool);

impl Event {
    pub(crate) fn token(self) -> usize {
        self.0
    }

    pub(crate) fn is_plain_read(self) -> bool {
        self.2
    }

    pub(crate) fn readiness(self) -> Readiness {
        self.1
    }
}

impl Waker {
    pub(crate) fn wake(&self) -> io::Result<()> {
        both!(self, waker => waker.wake())
    }
}

impl Woken {
    pub(crate) fn hear(&mut self) {
        both!(self, woken => woken.hear());
    }
}

impl TcpStream {
    pub(crate) fn established(&self) -> io::Result<bool> {
        both!(self, stream => stream.established())
    }

    pub(crate) fn check_connected(&self) -> io::Result<Address> {
        both!(self, stream => stream.check_connected())
    }

    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            TcpStream::Real(stream) => stream.duplicate(),
            TcpStream::Sim(_) => Err(sim::foreign()),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<Address> {
        both!(self, stream => stream.peer_addr())
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        both!(self, stream => stream.local_addr())
    }

    pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        both!(self, stream => stream.set_nodelay(on))
    }

    pub(crate) fn set_keepalive(&self, keepalive: Keepalive) -> io::Result<()> {
        both!(self, stream => stream.set_keepalive(keepalive))
    }

    pub(crate) fn set_user_timeout(&self, timeout: UserTimeout) -> io::Result<()> {
        both!(self, stream => stream.set_user_timeout(timeout))
    }
}

impl Stream for TcpStream {
    fn short_is_blocked(&self) -> bool {
        both!(self, stream => stream.short_is_blocked())
    }

    fn tells_delivery(&self) -> bool {
        both!(self, stream => stream.tells_delivery())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        both!(self, stream => stream.read(buffer))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        both!(self, stream => stream.write(bytes))
    }

    fn write_two(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        both!(self, stream => stream.write_two(first, second))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        both!(self, stream => stream.shutdown_write())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        both!(self, stream => stream.take_error())
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        both!(self, stream => stream.reset_on_close())
    }

    fn in_flight(&mut self) -> Option<u32> {
        both!(self, stream => stream.in_flight())
    }

    fn unread(&mut self) -> Option<u32> {
        both!(self, stream => stream.unread())
    }

    fn may_allocate(&mut self) -> bool {
        both!(self, stream => stream.may_allocate())
    }
}

impl TcpListener {
    pub(crate) fn accept(&self) -> io::Result<(TcpStream, Address)> {
        match self {
            TcpListener::Real(listener) => {
                let (stream, from) = listener.accept()?;
                Ok((TcpStream::Real(stream), from))
            }
            TcpListener::Sim(listener) => {
                let (stream, from) = listener.accept()?;
                Ok((TcpStream::Sim(stream), from))
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        both!(self, listener => listener.local_addr())
    }

    pub(crate) fn backlog(&self) -> u32 {
        both!(self, listener => listener.backlog())
    }

    pub(crate) fn set_user_timeout(&self, timeout: UserTimeout) -> io::Result<()> {
        both!(self, listener => listener.set_user_timeout(timeout))
    }
}

impl UdpSocket {
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        both!(self, socket => socket.recv(buffer))
    }

    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        to: SocketAddr,
        local: Option<IpAddr>,
        interface: u32,
    ) -> io::Result<usize> {
        both!(self, socket => socket.send(bytes, to, local, interface))
    }

    pub(crate) fn set_membership(&self, group: Multicast, joins: bool) -> io::Result<()> {
        both!(self, socket => socket.set_membership(group, joins))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        both!(self, socket => socket.local_addr())
    }
}
