//! UDP sockets: whole datagrams, with the address they were sent to.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use mio::event::Source;
use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};

use crate::options::UdpOptions;

use super::open;

/// A non-blocking UDP socket.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    socket: mio::net::UdpSocket,
    address: SocketAddr,
    /// Whom it's connected to; then datagrams are sent without an address.
    peer: Option<SocketAddr>,
    /// Room for the address that a datagram was sent to; none when the socket is bound to one address and so nobody
    /// has to ask.
    control: Option<Vec<u8>>,
}

/// A datagram that has come; its bytes are in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub(crate) len: usize,
    /// Who sent it.
    pub(crate) from: SocketAddr,
    /// The address of ours that it was sent to, where that is not the socket's own.
    pub(crate) to: Option<IpAddr>,
    /// Whether it was longer than the buffer.
    pub(crate) truncated: bool,
}

impl UdpSocket {
    /// Opens a socket as `options` say.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn bind(options: &UdpOptions) -> io::Result<UdpSocket> {
        UdpSocket::from_std(open::datagrams(options)?.into())
    }

    /// Takes over a socket of std's and makes it non-blocking.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn from_std(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let peer = socket.peer_addr().ok();
        let wildcard = address.ip().to_canonical().is_unspecified();
        let mut control = None;
        if wildcard && peer.is_none() {
            ask_for_destination(&socket, address)?;
            control = Some(cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo));
        }
        let socket = mio::net::UdpSocket::from_std(socket);
        Ok(UdpSocket {
            socket,
            address,
            peer,
            control,
        })
    }

    pub(super) fn source(&mut self) -> &mut impl Source {
        &mut self.socket
    }

    /// The address, with the port that port 0 became.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Receives one datagram. An empty one is a datagram too.
    ///
    /// # Errors
    /// `WouldBlock` when there's none; else as the system gives them: an error that belongs to a datagram which was
    /// sent comes here as well (`ConnectionRefused`), and says nothing about the socket.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let descriptor = self.socket.as_raw_fd();
        let control = &mut self.control;
        let peer = self.peer;
        // Through mio, so that the poll(2) backend learns of a `WouldBlock`.
        self.socket.try_io(|| {
            let mut parts = [IoSliceMut::new(buffer)];
            let space = control.as_deref_mut();
            let message =
                recvmsg::<SockaddrStorage>(descriptor, &mut parts, space, MsgFlags::empty())?;
            let mut to = None;
            if control_is_whole(message.flags) {
                to = message.cmsgs()?.find_map(destination);
            }
            let from = message.address.as_ref().and_then(to_std).or(peer);
            Ok(Received {
                len: message.bytes,
                from: from.ok_or(io::ErrorKind::AddrNotAvailable)?,
                to,
                truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
            })
        })
    }

    /// Sends one datagram to `to`, or to the peer of a connected socket. On a socket that is bound to a wildcard it leaves from
    /// `from`: a client does not know an answer that comes from another address than it asked.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        to: SocketAddr,
        from: Option<IpAddr>,
    ) -> io::Result<usize> {
        if self.peer.is_some() {
            return self.socket.send(bytes);
        }
        let Some(from) = from.filter(|_| self.control.is_some()) else {
            return self.socket.send_to(bytes, to);
        };
        let descriptor = self.socket.as_raw_fd();
        let parts = [IoSlice::new(bytes)];
        let target = SockaddrStorage::from(to);
        let flags = MsgFlags::MSG_NOSIGNAL;
        self.socket.try_io(|| {
            let sent = match from {
                IpAddr::V4(from) => {
                    let info = source_v4(from);
                    let control = [ControlMessage::Ipv4PacketInfo(&info)];
                    sendmsg(descriptor, &parts, &control, flags, Some(&target))
                }
                IpAddr::V6(from) => {
                    let addr = libc::in6_addr {
                        s6_addr: from.octets(),
                    };
                    let info = libc::in6_pktinfo {
                        ipi6_addr: addr,
                        ipi6_ifindex: 0,
                    };
                    let control = [ControlMessage::Ipv6PacketInfo(&info)];
                    sendmsg(descriptor, &parts, &control, flags, Some(&target))
                }
            };
            sent.map_err(io::Error::from)
        })
    }
}

/// Has the system say to which address each datagram was sent. A dual-stack socket says so for v4 callers as a v4-mapped
/// address, and takes the answer's source in the same form.
fn ask_for_destination(socket: &std::net::UdpSocket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// A cut control message holds no whole address: better none than half of one.
fn control_is_whole(flags: MsgFlags) -> bool {
    !flags.contains(MsgFlags::MSG_CTRUNC)
}

/// The address in a control message about a datagram's destination.
fn destination(message: ControlMessageOwned) -> Option<IpAddr> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            // `ipi_spec_dst` is the local address to answer from: for a broadcast it differs from the destination (ip(7)).
            Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    }
}

fn source_v4(from: std::net::Ipv4Addr) -> libc::in_pktinfo {
    let address = libc::in_addr {
        s_addr: u32::from_ne_bytes(from.octets()),
    };
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: address,
        ipi_addr: libc::in_addr { s_addr: 0 },
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    address
        .as_sockaddr_in6()
        .map(|v6| SocketAddr::V6((*v6).into()))
}
