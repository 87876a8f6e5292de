//! UDP: datagrams, where they are from, and which address of ours they were sent to.

#[cfg(test)]
mod tests;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{self, MsgFlags, SockType, SockaddrIn, SockaddrIn6, SockaddrLike};

use super::open;
use super::pktinfo::{self, Destination};
use crate::options::{Multicast, UdpOptions};

/// A UDP socket, connected to one peer or not.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    socket: mio::net::UdpSocket,
    /// Room for what the system tells of a datagram, used again for each; empty when it tells
    /// nothing, which is when the socket has only one address.
    control: Vec<u8>,
    /// Whether the socket is an IPv6 one: addresses are then given and taken in that form.
    v6: bool,
    /// The only peer, for a connected socket.
    peer: Option<SocketAddr>,
}

/// One datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// How many bytes of the buffer it fills; zero is a datagram, too.
    pub(crate) len: usize,
    /// Who sent it; v4-mapped for IPv4 on an IPv6 socket.
    pub(crate) from: SocketAddr,
    /// Where it was sent to. Known only where it is asked: see [`open::ask_destination`].
    pub(crate) destination: Destination,
    /// Whether the buffer was too small: the rest is lost.
    pub(crate) truncated: bool,
}

impl UdpSocket {
    /// Opens a socket as `options` say.
    ///
    /// # Errors
    /// As the system gives them: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, no
    /// descriptors left; when connecting, unreachable networks.
    pub(crate) fn bind(options: &UdpOptions) -> io::Result<UdpSocket> {
        let (fd, control) = open::udp(options)?;
        Ok(UdpSocket {
            socket: mio::net::UdpSocket::from_std(fd.into()),
            control,
            v6: options.address.is_ipv6(),
            peer: options.connect_to,
        })
    }

    /// Takes over a socket that somebody else has opened, and gives it what options can be set on
    /// it.
    ///
    /// # Errors
    /// As the system gives them; `InvalidInput` when it's no UDP socket.
    pub(crate) fn adopt(fd: OwnedFd, options: &UdpOptions) -> io::Result<UdpSocket> {
        let socket = std::net::UdpSocket::from(open::adopt(fd, SockType::Datagram)?);
        open::set_buffers(&socket, options.recv_buffer, options.send_buffer)?;
        let local = socket.local_addr()?;
        if let Some(peer) = options.connect_to {
            socket.connect(peer)?;
        }
        let peer = socket.peer_addr().ok();
        let control = open::ask_destination(&socket, &local, peer)?;
        Ok(UdpSocket {
            socket: mio::net::UdpSocket::from_std(socket),
            control,
            v6: local.is_ipv6(),
            peer,
        })
    }

    /// What mio registers.
    pub(super) fn source(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.socket
    }

    /// Receives one datagram into `buffer`, whose end it is cut at.
    ///
    /// # Errors
    /// `WouldBlock` when there is none. For a connected socket also what became of an earlier send,
    /// such as `ConnectionRefused`; there may be datagrams behind it.
    #[inline]
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let fd = self.socket.as_raw_fd();
        let (v6, control) = (self.v6, &mut self.control);
        self.socket.try_io(|| match v6 {
            true => receive::<SockaddrIn6>(fd, buffer, control),
            false => receive::<SockaddrIn>(fd, buffer, control),
        })
    }

    /// Sends `bytes` as one datagram to `to`. As an answer it leaves from the address that was
    /// asked: `local` and `interface` are then those of [`Received::destination`]. A connected
    /// socket sends to its peer, whatever `to` is.
    ///
    /// Large datagrams may be fragmented.
    ///
    /// # Errors
    /// `WouldBlock` when the send buffer is full; `EMSGSIZE` over 65,507 bytes (IPv4); for a
    /// connected socket also what became of an earlier send. The datagram is then not sent.
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        mut to: SocketAddr,
        local: Option<IpAddr>,
        interface: u32,
    ) -> io::Result<usize> {
        if self.peer.is_some() {
            return self.socket.send(bytes);
        }
        to.set_ip(self.as_own(to.ip()));
        match local {
            Some(from) if !self.control.is_empty() => {
                let from = self.as_own(from);
                let fd = self.socket.as_raw_fd();
                self.socket
                    .try_io(|| pktinfo::send(fd, bytes, to, from, interface))
            }
            _ => self.socket.send_to(bytes, to),
        }
    }

    /// `ip` as this socket has it: an IPv6 one has all of IPv4 mapped.
    fn as_own(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if self.v6 => v4.to_ipv6_mapped().into(),
            other => other,
        }
    }

    /// Our own address, with the port that the system has chosen; a wildcard if the socket is bound
    /// to one.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Joins a group, or leaves it.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn set_membership(&self, group: Multicast, joins: bool) -> io::Result<()> {
        use Multicast::{V4, V6};
        let socket = &self.socket;
        match (group, joins) {
            (V4 { group, interface }, true) => socket.join_multicast_v4(&group, &interface),
            (V4 { group, interface }, false) => socket.leave_multicast_v4(&group, &interface),
            (V6 { group, interface }, true) => socket.join_multicast_v6(&group, interface),
            (V6 { group, interface }, false) => socket.leave_multicast_v6(&group, interface),
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives once; `A` is the kind of address that the socket has.
fn receive<A>(fd: RawFd, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Received>
where
    A: SockaddrLike + Copy + Into<SocketAddr>,
{
    let mut slices = [IoSliceMut::new(buffer)];
    let control = (!control.is_empty()).then_some(control);
    let told = control.is_some();
    let message = socket::recvmsg::<A>(fd, &mut slices, control, MsgFlags::empty())?;
    let nobody = || io::Error::new(io::ErrorKind::InvalidData, "a datagram without a sender");
    let from = message.address.ok_or_else(nobody)?;
    // What is told may be cut short; the datagram is whole all the same.
    let told = if told { message.cmsgs().ok() } else { None };
    let destination = told.and_then(pktinfo::destination).unwrap_or_default();
    Ok(Received {
        len: message.bytes,
        from: from.into(),
        destination,
        truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
    })
}
