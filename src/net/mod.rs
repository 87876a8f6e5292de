//! The network: the only place that names mio's poll and socket types.
//!
//! Everything here is non-blocking and close-on-exec, and is one attempt: nothing waits but
//! [`System::wait`]. What a `WouldBlock` means is for `nonblocking` to say. Errors keep the
//! system's code.
//!
//! All IO goes through mio's own methods or its `try_io`, never through a bare descriptor: with
//! poll(2) below, mio arms the next event only when it sees the `WouldBlock`.

#[cfg(feature = "sim")]
mod either;
mod open;
mod pktinfo;
mod poll2;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod system;
mod tcp;
#[cfg(test)]
mod testing;
mod udp;
mod unix;

use std::net::SocketAddr;

#[cfg(feature = "sim")]
pub(crate) use either::{Events, System, TcpListener, TcpStream, UdpSocket, Waker, Woken};
pub(crate) use poll2::where_nestable;
#[cfg(not(feature = "sim"))]
pub(crate) use real::{Events, System, TcpListener, TcpStream, UdpSocket, Waker, Woken};
pub use unix::Credentials;

/// What stands on mio and the system.
mod real {
    pub(crate) use super::poll2::{Waker, Woken};
    pub(crate) use super::system::{Events, System};
    pub(crate) use super::tcp::{TcpListener, TcpStream};
    pub(crate) use super::udp::UdpSocket;
}

/// `address` with a v4-mapped one as the IPv4 address that it is. Any other keeps all it has:
/// without its scope nobody can be reached at a link-local address.
pub(crate) fn canonical(mut address: SocketAddr) -> SocketAddr {
    address.set_ip(address.ip().to_canonical());
    address
}
