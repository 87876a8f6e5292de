//! What this machine allows, as far as the system tells: limits, ports, memory.
//!
//! On Linux it's read from `/proc`; what can't be read is `None`, and nothing is concluded from it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use crate::failure::Failure;
use crate::system::descriptors::{Descriptors, UNLIMITED};

/// The machine's limits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// Descriptors that this process may have; `None`: without limit.
    pub(crate) descriptors: Option<u64>,
    /// Files that all processes together may still open (`fs.file-max`, less those in use).
    pub(crate) files_left: Option<u64>,
    /// The ports that the system gives to those who ask for none (`net.ipv4.ip_local_port_range`,
    /// for IPv6 as well).
    pub(crate) ports: Option<RangeInclusive<u16>>,
    /// Whether a pair of addresses in TIME_WAIT may be used again after a second
    /// (`net.ipv4.tcp_tw_reuse`): 0 no, 1 yes, 2 on loopback.
    pub(crate) time_wait_reuse: Option<u64>,
    /// The most that a listener's backlog may be (`net.core.somaxconn`).
    pub(crate) somaxconn: Option<u64>,
    /// Connections that the firewall's tracking may still take on (`nf_conntrack_max`, less those
    /// it has).
    pub(crate) conntrack_left: Option<u64>,
    /// Bytes that all TCP sockets' buffers may take in all (`net.ipv4.tcp_mem`).
    pub(crate) tcp_buffers: Option<u64>,
    /// Descriptors that one user may have registered in epoll (`fs.epoll.max_user_watches`).
    pub(crate) watches: Option<u64>,
    /// Bytes of memory that can be had without swapping (`MemAvailable`).
    pub(crate) memory: Option<u64>,
}

/// The unit of `tcp_mem`. It's the machine's page; 4 KiB on all but few, and on those we only ask
/// for too little.
const PAGE: u64 = 4096;

impl Machine {
    /// This one. The soft limit of descriptors is raised to the hard one, as the load itself does.
    ///
    /// # Errors
    /// Exit code 1: the limit of descriptors can't be read.
    pub(crate) fn here() -> Result<Machine, Failure> {
        let limit = Descriptors::raise()?.limit;
        let files = numbers("/proc/sys/fs/file-nr");
        let tracked = number("/proc/sys/net/netfilter/nf_conntrack_count");
        Ok(Machine {
            descriptors: (limit != UNLIMITED).then_some(limit),
            // Allocated, free (0 since Linux 2.6), and the most.
            files_left: match files.as_deref() {
                Some([used, _, most]) => Some(most.saturating_sub(*used)),
                _ => None,
            },
            ports: ports(numbers("/proc/sys/net/ipv4/ip_local_port_range")),
            time_wait_reuse: number("/proc/sys/net/ipv4/tcp_tw_reuse"),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            conntrack_left: number("/proc/sys/net/netfilter/nf_conntrack_max")
                .map(|most| most.saturating_sub(tracked.unwrap_or(0))),
            // Below the first nobody cares, above the second it's under pressure, the third is the
            // limit.
            tcp_buffers: numbers("/proc/sys/net/ipv4/tcp_mem")
                .and_then(|limits| limits.get(2).copied())
                .map(|pages| pages.saturating_mul(PAGE)),
            watches: number("/proc/sys/fs/epoll/max_user_watches"),
            memory: available_memory(),
        })
    }

    /// How many ports there are for one pair of a source and a target; the system's usual 28,232
    /// where it doesn't say.
    pub(crate) fn ports_a_pair(&self) -> u64 {
        match &self.ports {
            Some(range) => range.len() as u64,
            None => 28_232,
        }
    }
}

/// Whether an address is this machine's own, so that both ends of a connection to it are here.
///
/// A datagram socket is connected to it, which sends nothing: who talks to itself has one address
/// at both ends. Where that can't be found out the address counts as another machine's.
pub(crate) fn is_own(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    // All of 127.0.0.0/8 is ours, but talked to from 127.0.0.1; and to connect to no address is to
    // connect to oneself.
    ip.is_loopback() || ip.is_unspecified() || own_end(address) == Some(address.ip())
}

/// The address that the system would talk to `address` from.
fn own_end(address: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(address).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn numbers(path: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace()
        .map(|word| word.parse().ok())
        .collect()
}

fn number(path: &str) -> Option<u64> {
    numbers(path)?.first().copied()
}

fn ports(range: Option<Vec<u64>>) -> Option<RangeInclusive<u16>> {
    let range = range?;
    let [first, last] = range.as_slice() else {
        return None;
    };
    Some(u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?)
}

fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_told_from_anothers() {
        for own in [
            "127.0.0.1:9",
            "127.9.9.9:9",
            "[::1]:9",
            "[::ffff:127.0.0.1]:9",
        ] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        // TEST-NET-2 (RFC 5737): nobody's.
        let other: SocketAddr = "198.51.100.77:9".parse().unwrap();
        assert!(!is_own(other));
        // What loopback is by its number, others are by what the system says.
        assert_eq!(
            own_end("127.0.0.1:9".parse().unwrap()),
            Some(Ipv4Addr::LOCALHOST.into())
        );
        // Where there's a way out, its near end is ours.
        if let Some(near) = own_end(other) {
            assert!(is_own((near, 9).into()), "{near}");
        }
    }
}
