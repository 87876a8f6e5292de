//! Where a datagram was sent to, and sending from the address that was asked (`IP_PKTINFO`,
//! `IPV6_PKTINFO`).
//!
//! A socket that is bound to a wildcard has many addresses, and the system would choose one of them
//! for a reply: the peer, which asked another one, would not take it for an answer. And datagrams
//! for broadcast and multicast addresses arrive there, which most servers must not answer.
//!
//! A v6 socket that takes IPv4 as well tells of an IPv4 datagram by `IPV6_PKTINFO` with a v4-mapped
//! address, and takes it back in the same form (Linux: `ip6_datagram_recv_ctl`, `ip_cmsg_send`). So
//! the family of the socket alone says which of the two an answer is sent with.

use std::net::IpAddr;

pub(super) use imp::{ask, destination, send};

/// Where a datagram was sent to, as far as the system tells. v4-mapped addresses are IPv4 here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Destination {
    /// What its header says: an address of ours, or a broadcast or multicast address.
    pub(crate) to: Option<IpAddr>,
    /// Our address for an answer to leave from: `to`, if it is ours. `None` leaves the choice to
    /// the system.
    pub(crate) local: Option<IpAddr>,
    /// The index of the interface that it arrived at, if `local` is a link-local IPv6 address,
    /// which means nothing without; else 0.
    pub(crate) interface: u32,
}

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

    use super::Destination;

    /// Has the system tell, with each datagram, the address that it was sent to. `local` is the
    /// socket's own; the answer is the buffer for what is told.
    pub(crate) fn ask(fd: &impl AsFd, local: &SocketAddr) -> io::Result<Vec<u8>> {
        if local.is_ipv4() {
            socket::setsockopt(fd, sockopt::Ipv4PacketInfo, &true)?;
            return Ok(cmsg_space!(libc::in_pktinfo));
        }
        socket::setsockopt(fd, sockopt::Ipv6RecvPacketInfo, &true)?;
        // `IPV6_PKTINFO` has one address, where IPv4's has two: of an IPv4 datagram to the
        // broadcast address of an interface it doesn't show that it is one. Linux tells both.
        // A system that refuses this still tells the one.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Err(error) = socket::setsockopt(fd, sockopt::Ipv4PacketInfo, &true) {
            log::debug!("no IP_PKTINFO on an IPv6 socket: {error}");
        }
        Ok(cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo))
    }

    /// The destination of a datagram, if it is among what is told of it.
    pub(crate) fn destination(
        told: impl Iterator<Item = ControlMessageOwned>,
    ) -> Option<Destination> {
        let mut found = None;
        for message in told {
            match message {
                // It says more than the other of the same datagram.
                ControlMessageOwned::Ipv4PacketInfo(info) => return Some(of_v4(&info)),
                ControlMessageOwned::Ipv6PacketInfo(info) => found = Some(of_v6(&info)),
                _ => {}
            }
        }
        found
    }

    /// What IPv4 tells. On Linux `ipi_spec_dst` is a local address even for a broadcast; it is zero
    /// where the system doesn't fill it in, and there only the addresses that are broadcast or
    /// multicast everywhere can be known as such.
    fn of_v4(info: &libc::in_pktinfo) -> Destination {
        let to = IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()));
        let local = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
        Destination {
            to: Some(to),
            local: match local.is_unspecified() {
                true => can_answer(to).then_some(to),
                false => Some(local.into()),
            },
            interface: 0,
        }
    }

    /// What IPv6 tells.
    // Android's index is signed.
    #[allow(clippy::unnecessary_cast)]
    fn of_v6(info: &libc::in6_pktinfo) -> Destination {
        let to = Ipv6Addr::from(info.ipi6_addr.s6_addr);
        let interface = match to.is_unicast_link_local() {
            true => info.ipi6_ifindex as u32,
            false => 0,
        };
        let to = to.to_canonical();
        Destination {
            to: Some(to),
            local: can_answer(to).then_some(to),
            interface,
        }
    }

    /// Whether an answer can leave from `address`: not a group or the broadcast of all networks.
    fn can_answer(address: IpAddr) -> bool {
        let broadcast = matches!(address, IpAddr::V4(ip) if ip.is_broadcast());
        !address.is_multicast() && !address.is_unspecified() && !broadcast
    }

    /// Sends `bytes` to `to` from the address `from`; both are of the socket's family. nix
    /// allocates a few bytes for the control message.
    ///
    /// The interface is left to the routes, but for one case: a link-local `from` is nobody's
    /// without an interface, and Linux refuses it (`EINVAL`) unless `to` has a scope. `interface`
    /// is for that, and 0 otherwise. IPv4's link-local addresses need none.
    pub(crate) fn send(
        fd: RawFd,
        bytes: &[u8],
        to: SocketAddr,
        from: IpAddr,
        interface: u32,
    ) -> io::Result<usize> {
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
                // Two that differ are an error, as where the interface is part of a VRF.
                let interface = if to.scope_id() == 0 { interface } else { 0 };
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: from.octets(),
                    },
                    ipi6_ifindex: interface as _,
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

    use super::Destination;

    /// Asks for nothing.
    pub(crate) fn ask(_: &impl AsFd, _: &SocketAddr) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Nothing is told.
    pub(crate) fn destination(_: impl Iterator<Item = ControlMessageOwned>) -> Option<Destination> {
        None
    }

    /// Not reached: only a socket that has asked sends so.
    pub(crate) fn send(_: RawFd, _: &[u8], _: SocketAddr, _: IpAddr, _: u32) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
