//! The address of ours that a datagram was sent to, and sending from it (`IP_PKTINFO`,
//! `IPV6_PKTINFO`).
//!
//! A socket that is bound to a wildcard has many addresses, and the system would choose one of them
//! for a reply: the peer, which asked another one, would not take it for an answer.
//!
//! A v6 socket that takes IPv4 as well tells of an IPv4 datagram by `IPV6_PKTINFO` with a v4-mapped
//! address, and takes it back in the same form (Linux: `ip6_datagram_recv_ctl`, `ip_cmsg_send`). So
//! the family of the socket alone says which of the two is used.

pub(super) use imp::{address, ask, send};

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod imp {
    use std::io::{self, IoSlice};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::os::fd::{AsFd, RawFd};

    use nix::cmsg_space;
    use nix::libc;
    use nix::sys::socket::{
        self, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, sockopt,
    };

    /// Has the system tell, with each datagram, the address that it was sent to. `local` is the
    /// socket's own; the answer is the buffer for what is told.
    pub(crate) fn ask(fd: &impl AsFd, local: &SocketAddr) -> io::Result<Vec<u8>> {
        if local.is_ipv4() {
            socket::setsockopt(fd, sockopt::Ipv4PacketInfo, &true)?;
            Ok(cmsg_space!(libc::in_pktinfo))
        } else {
            socket::setsockopt(fd, sockopt::Ipv6RecvPacketInfo, &true)?;
            Ok(cmsg_space!(libc::in6_pktinfo))
        }
    }

    /// The address in `message`, if that is what it tells, and if a reply can leave from there: not
    /// from a group or a broadcast.
    pub(crate) fn address(message: &ControlMessageOwned) -> Option<IpAddr> {
        let address = match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                // On Linux the local address even for a broadcast; zero where the system doesn't
                // fill it in.
                let local = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                let asked = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                IpAddr::V4(if local.is_unspecified() { asked } else { local })
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))
            }
            _ => return None,
        };
        let plain = address.to_canonical();
        let broadcast = matches!(plain, IpAddr::V4(ip) if ip.is_broadcast());
        (!plain.is_multicast() && !plain.is_unspecified() && !broadcast).then_some(address)
    }

    /// Sends `bytes` to `to` from the address `from`; both are of the socket's family. The
    /// interface is left to the routes. nix allocates a few bytes for the control message.
    pub(crate) fn send(fd: RawFd, bytes: &[u8], to: SocketAddr, from: IpAddr) -> io::Result<usize> {
        let slices = [IoSlice::new(bytes)];
        let flags = MsgFlags::empty();
        let sent = match (to, from) {
            (SocketAddr::V4(to), IpAddr::V4(from)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(from.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                socket::sendmsg(fd, &slices, &control, flags, Some(&SockaddrIn::from(to)))
            }
            (SocketAddr::V6(to), IpAddr::V6(from)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: from.octets(),
                    },
                    ipi6_ifindex: 0,
                };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                socket::sendmsg(fd, &slices, &control, flags, Some(&SockaddrIn6::from(to)))
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(sent?)
    }
}

/// Where it isn't known how, nothing is asked and the system chooses the address of a reply.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
mod imp {
    use std::io;
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::{AsFd, RawFd};

    use nix::sys::socket::ControlMessageOwned;

    /// Asks for nothing.
    pub(crate) fn ask(_: &impl AsFd, _: &SocketAddr) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Nothing is told.
    pub(crate) fn address(_: &ControlMessageOwned) -> Option<IpAddr> {
        None
    }

    /// Not reached: only a socket that has asked sends so.
    pub(crate) fn send(_: RawFd, _: &[u8], _: SocketAddr, _: IpAddr) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
