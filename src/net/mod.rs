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
mod tcp;
#[cfg(test)]
mod testing;
mod udp;
mod waker;

pub(crate) use poll::{Events, Poll};
pub(crate) use tcp::{TcpListener, TcpStream, dial};
pub(crate) use udp::UdpSocket;
pub(crate) use waker::{Waker, Woken};
