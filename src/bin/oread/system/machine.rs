//! What this machine allows, as far as the system tells: limits, ports, memory.
//!
//! On Linux it's read from `/proc`; what can't be read is `None`, and nothing is concluded from it.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::descriptors::{Descriptors, UNLIMITED};
use crate::failure::{Failure, Reason};

/// Gives the text of a file under `/proc`.
type Files = Box<dyn Fn(&str) -> Option<String>>;

/// The machine's limits.
pub(crate) struct Machine {
    /// Descriptors that this process may have; `None`: without limit.
    pub(crate) descriptors: Option<u64>,
    pub(crate) proc: Files,
}

impl Machine {
    /// This one. The soft limit of descriptors is raised to the hard one, as the program itself
    /// does.
    ///
    /// # Errors
    /// Exit code 1: the limit of descriptors can't be read.
    pub(crate) fn here() -> Result<Machine, Failure> {
        let limit = Descriptors::raise()?.limit;
        Ok(Machine {
            descriptors: (limit != UNLIMITED).then_some(limit),
            proc: Box::new(|path| fs::read_to_string(format!("/proc/{path}")).ok()),
        })
    }

    /// The number at a place in a file of `/proc`, of those that stand behind `label`, or of all.
    fn number(&self, path: &str, label: &str, place: usize) -> Option<u64> {
        let text = (self.proc)(path)?;
        let (_, behind) = text.split_once(label)?;
        behind.split_whitespace().nth(place)?.parse().ok()
    }

    /// A setting of the kernel's by its name, or one of several in it.
    pub(crate) fn setting(&self, name: &str, place: usize) -> Option<u64> {
        self.number(&format!("sys/{}", name.replace('.', "/")), "", place)
    }

    /// What a limit, at its place in a setting, leaves to what is used.
    pub(crate) fn left(&self, most: &str, place: usize, used: &str) -> Option<u64> {
        let used = self.setting(used, 0).unwrap_or(0);
        Some(self.setting(most, place)?.saturating_sub(used))
    }

    /// How many ports there are for one pair of a source and a target; the system's usual 28,232
    /// where it doesn't say. They are the same for IPv4 and IPv6.
    pub(crate) fn ports_a_pair(&self) -> u64 {
        let end = |place| self.setting("net.ipv4.ip_local_port_range", place);
        let range = end(0).zip(end(1));
        range.map_or(28_232, |(first, last)| (last + 1).saturating_sub(first))
    }

    /// Bytes of memory that can be had without swapping.
    pub(crate) fn memory(&self) -> Option<u64> {
        let kib = self.number("meminfo", "MemAvailable:", 0)?;
        Some(kib << 10)
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

/// Finds out by a bind, which reserves nothing, whether this machine has an address to connect
/// from.
///
/// # Errors
/// Exit code 1: it has not, or may not use it.
pub(crate) fn check_own(source: IpAddr) -> Result<(), Failure> {
    UdpSocket::bind((source, 0)).map(drop).map_err(|error| {
        let failed = format!("can't connect from {source}: {}", Reason(&error));
        if error.kind() != ErrorKind::AddrNotAvailable {
            return Failure::runtime(failed);
        }
        let tip = format!("add it, as in `ip address add {source} dev lo`, or leave it out");
        Failure::runtime(format!("{failed}; it is not an address of this machine")).hint(tip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Machine {
        /// One that says no more than this: files under `/proc` and what they hold.
        pub(crate) fn that_says(files: &'static [(&str, &str)]) -> Machine {
            Machine {
                descriptors: None,
                proc: Box::new(|path| {
                    let found = files.iter().find(|(name, _)| *name == path)?;
                    Some(found.1.to_owned())
                }),
            }
        }
    }

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
