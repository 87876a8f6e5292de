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

/// Has each of these methods called on either.
macro_rules! forward {
    ($(
        $of:vis fn $name:ident($self:ident: $this:ty $(, $arg:ident: $type:ty)*) $(-> $made:ty)?;
    )*) => {$(
        $of fn $name($self: $this $(, $arg: $type)*) $(-> $made)? {
            both!($self, it => it.$name($($arg),*))
        }
    )*};
}

/// Methods of the system that open a socket: of the same kind.
macro_rules! opens {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $made:ident;)*) => {$(
        pub(crate) fn $name(&self, $($arg: $type),*) -> io::Result<$made> {
            match self {
                System::Real(system) => system.$name($($arg),*).map($made::Real),
                System::Sim(system) => system.$name($($arg),*).map($made::Sim),
            }
        }
    )*};
}

/// Methods of the system that are about a socket, of the same kind.
macro_rules! about {
    ($(fn $name:ident($socket:ident $(, $arg:ident: $type:ty)*);)*) => {$(
        pub(crate) fn $name(&self, socket: &mut $socket $(, $arg: $type)*) -> io::Result<()> {
            match (self, socket) {
                (System::Real(system), $socket::Real(it)) => system.$name(it $(, $arg)*),
                (System::Sim(system), $socket::Sim(it)) => system.$name(it $(, $arg)*),
                _ => Err(sim::foreign()),
            }
        }
    )*};
}

impl System {
    pub(crate) fn new() -> io::Result<System> {
        real::System::new().map(System::Real)
    }

    forward! {
        pub(crate) fn now(self: &Self) -> Instant;
        pub(crate) fn random(self: &Self) -> u64;
        pub(crate) fn may_allocate(self: &Self) -> bool;
        pub(crate) fn drops_failed_udp(self: &Self) -> bool;
    }

    opens! {
        fn listen(options: &ListenOptions, adopted: Option<OwnedFd>) -> TcpListener;
        fn dial(options: &ConnectOptions) -> TcpStream;
        fn adopt_stream(fd: OwnedFd) -> TcpStream;
        fn bind_udp(options: &UdpOptions) -> UdpSocket;
        fn adopt_udp(fd: OwnedFd, options: &UdpOptions) -> UdpSocket;
    }

    about! {
        fn register_stream(TcpStream, token: usize);
        fn register_listener(TcpListener, token: usize);
        fn register_udp(UdpSocket, token: usize);
        fn repoll(UdpSocket, token: usize, writes: bool);
        fn deregister_stream(TcpStream);
        fn deregister_listener(TcpListener);
        fn deregister_udp(UdpSocket);
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
    impl AsFd for System {
        fn as_fd(&self) -> BorrowedFd<'_> {
            both!(self, system => system.as_fd())
        }
    }
}

lends!(TcpStream, TcpListener, UdpSocket);

impl Events {
    forward! {
        pub(crate) fn is_full(self: &Self) -> bool;
        pub(crate) fn is_empty(self: &Self) -> bool;
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
    forward! {
        pub(crate) fn wake(self: &Self) -> io::Result<()>;
    }
}

impl Woken {
    forward! {
        pub(crate) fn hear(self: &mut Self);
    }
}

impl TcpStream {
    forward! {
        pub(crate) fn established(self: &Self) -> io::Result<bool>;
        pub(crate) fn check_connected(self: &Self) -> io::Result<Address>;
        pub(crate) fn peer_addr(self: &Self) -> io::Result<Address>;
        pub(crate) fn local_addr(self: &Self) -> io::Result<Address>;
        pub(crate) fn set_nodelay(self: &Self, on: bool) -> io::Result<()>;
        pub(crate) fn set_keepalive(self: &Self, keepalive: Keepalive) -> io::Result<()>;
        pub(crate) fn set_user_timeout(self: &Self, timeout: UserTimeout) -> io::Result<()>;
    }

    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            TcpStream::Real(stream) => stream.duplicate(),
            TcpStream::Sim(_) => Err(sim::foreign()),
        }
    }
}

impl Stream for TcpStream {
    forward! {
        fn short_is_blocked(self: &Self) -> bool;
        fn tells_delivery(self: &Self) -> bool;
        fn read(self: &mut Self, buffer: &mut [u8]) -> io::Result<usize>;
        fn write(self: &mut Self, bytes: &[u8]) -> io::Result<usize>;
        fn write_two(self: &mut Self, first: &[u8], second: &[u8]) -> io::Result<usize>;
        fn shutdown_write(self: &mut Self) -> io::Result<()>;
        fn take_error(self: &mut Self) -> io::Result<Option<io::Error>>;
        fn reset_on_close(self: &mut Self) -> io::Result<()>;
        fn in_flight(self: &mut Self) -> Option<u32>;
        fn unread(self: &mut Self) -> Option<u32>;
        fn may_allocate(self: &mut Self) -> bool;
    }
}

impl TcpListener {
    forward! {
        pub(crate) fn local_addr(self: &Self) -> io::Result<Address>;
        pub(crate) fn backlog(self: &Self) -> u32;
        pub(crate) fn set_user_timeout(self: &Self, timeout: UserTimeout) -> io::Result<()>;
    }

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
}

impl UdpSocket {
    forward! {
        pub(crate) fn recv(self: &mut Self, buffer: &mut [u8]) -> io::Result<Received>;
        pub(crate) fn send(
            self: &mut Self,
            bytes: &[u8],
            to: SocketAddr,
            local: Option<IpAddr>,
            interface: u32
        ) -> io::Result<usize>;
        pub(crate) fn set_membership(self: &Self, group: Multicast, joins: bool) -> io::Result<()>;
        pub(crate) fn local_addr(self: &Self) -> io::Result<SocketAddr>;
    }
}
