//! The network: the only place that names mio's poll and socket types.
//!
//! Everything here is non-blocking and close-on-exec, and is one attempt: nothing waits but
//! [`Poll::wait`]. What a `WouldBlock` means is for `nonblocking` to say. Errors keep the system's
//! code.
//!
//! All IO goes through mio's own methods or its `try_io`, never through a bare descriptor: with
//! poll(2) below, mio arms the next event only when it sees the `WouldBlock`.

mod open;
mod pktinfo;
mod poll;
#[cfg(feature = "sim")]
mod sim;
mod tcp;
#[cfg(test)]
mod testing;
mod udp;
mod waker;

use std::net::SocketAddr;

pub(crate) use pktinfo::Destination;
pub(crate) use poll::{Events, Poll};
pub(crate) use tcp::{TcpListener, TcpStream, dial};
pub(crate) use udp::{Received, UdpSocket};
pub(crate) use waker::{Waker, Woken};

/// `address` with a v4-mapped one as the IPv4 address that it is. Any other keeps all it has: without its scope nobody
/// can be reached at a link-local address.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    let v4 = match address {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped(),
        SocketAddr::V4(_) => None,
    };
    v4.map_or(address, |v4| SocketAddr::new(v4.into(), address.port()))
}
