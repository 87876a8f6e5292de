//! What sockets fail with, in words: to bind one, and to connect one.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;

use oread::Address;

use super::{Failure, Reason};

impl Failure {
    /// A socket could not be bound to `address`, or not listen there; `what` is "TCP" or "UDP".
    /// Exit code 1.
    pub(crate) fn bind(what: &str, address: SocketAddr, error: &io::Error) -> Failure {
        let failed = format!("can't bind {what} {address}");
        if let Some(failure) = Failure::exhausted(&failed, error) {
            return failure;
        }
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                Failure::runtime(format!("{failed}: the address is in use"))
                    .hint("choose another port, or port 0 for any that is free")
            }
            io::ErrorKind::AddrNotAvailable => Failure::runtime(format!(
                "{failed}: {} is not an address of this machine",
                address.ip()
            ))
            .hint(format!(
                "use 127.0.0.1:{0}, or 0.0.0.0:{0} for all its addresses",
                address.port()
            )),
            io::ErrorKind::PermissionDenied if address.port() < 1024 && address.port() != 0 => {
                Failure::runtime(format!(
                    "{failed}: permission denied, ports below 1024 need a privilege"
                ))
                .hint("choose a port from 1024 on, or run it with CAP_NET_BIND_SERVICE")
            }
            _ if errno(error) == Some(Errno::EAFNOSUPPORT) => Failure::no_family(&failed, address),
            _ => Failure::runtime(format!("{failed}: {}", Reason(error))),
        }
    }

    /// No connection could be made from `source`, which was asked for. Exit code 1.
    pub(crate) fn connect_from(what: &str, source: SocketAddr, error: &io::Error) -> Failure {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Failure::bind(what, source, error);
        }
        // TIME_WAIT (RFC 9293, section 3.6.1): who closed first keeps the pair of addresses for a
        // while, a minute on Linux.
        let why = match what {
            "TCP" => "in use, or was until a minute ago by a connection to the same server",
            _ => "in use",
        };
        Failure::runtime(format!("can't connect from {source}: the address is {why}"))
            .hint("leave the choice of the port to the system with port 0, or choose another one")
    }

    /// No connection came about with `address`. Exit code 1.
    pub(crate) fn connect(address: &Address, error: &io::Error) -> Failure {
        let failed = format!("can't connect to {address}");
        if let Some(failure) = Failure::exhausted(&failed, error) {
            return failure;
        }
        let Some(address) = address.socket_addr() else {
            return Failure::unix(&failed, error);
        };
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::runtime(format!(
                "{failed}: connection refused, nothing listens there"
            ))
            .hint(format!(
                "start a server there (`oread serve {address}`), or check the address"
            )),
            io::ErrorKind::TimedOut => Failure::runtime(format!("{failed}: no answer in time"))
                .hint(
                    "check the address and the firewalls between, or give it longer with --timeout",
                ),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                Failure::runtime(format!("{failed}: no route there ({})", Reason(error)))
                    .hint("check the address and this machine's network")
            }
            io::ErrorKind::AddrNotAvailable => Failure::runtime(format!(
                "{failed}: no local port is free for it"
            ))
            .hint("close connections to it, or connect from another local address with --bind"),
            io::ErrorKind::PermissionDenied => {
                Failure::runtime(format!("{failed}: permission denied"))
                    .hint("check the local firewall; a broadcast address can't be connected to")
            }
            _ if errno(error) == Some(Errno::EAFNOSUPPORT) => Failure::no_family(&failed, address),
            _ => Failure::runtime(format!("{failed}: {}", Reason(error))),
        }
    }

    /// Nobody can listen at a Unix socket. Exit code 1.
    pub(crate) fn listen_unix(address: &Address, error: &io::Error) -> Failure {
        let failed = format!("can't listen at {address}");
        match error.kind() {
            io::ErrorKind::AddrInUse => Failure::runtime(format!("{failed}: it is in use"))
                .hint("another process listens there, or the file is no socket; choose another"),
            _ => Failure::exhausted(&failed, error)
                .unwrap_or_else(|| Failure::runtime(format!("{failed}: {}", Reason(error)))),
        }
    }

    /// A socket that was handed over, of this name, is none that can be served. Exit code 2.
    pub(crate) fn not_served(name: &str) -> Failure {
        Failure::usage(format!(
            "{name}, which was handed over, is neither a listener nor a UDP socket"
        ))
        .hint("in a systemd socket unit, use ListenStream= and ListenDatagram=HOST:PORT, without Accept=yes")
    }

    /// A socket that was handed over, of this name, can't be served. Exit code 1, or 2 where it's
    /// none that ever could.
    pub(crate) fn adopt(name: &str, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::InvalidInput && errno(error).is_none() {
            return Failure::not_served(name);
        }
        let failed = format!("can't serve {name}, which was handed over");
        Failure::exhausted(&failed, error)
            .unwrap_or_else(|| Failure::runtime(format!("{failed}: {}", Reason(error))))
    }

    /// No connection came about with a Unix socket.
    fn unix(failed: &str, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                Failure::runtime(format!("{failed}: nothing listens there"))
                    .hint("start a server there (`oread serve --unix PATH`), or check the path")
            }
            io::ErrorKind::WouldBlock => {
                Failure::runtime(format!("{failed}: too many connections wait there"))
            }
            io::ErrorKind::PermissionDenied => {
                Failure::runtime(format!("{failed}: permission denied"))
                    .hint("who may write to its file may connect: see `oread serve --unix-mode`")
            }
            _ => Failure::runtime(format!("{failed}: {}", Reason(error))),
        }
    }

    /// What the machine or the process has run out of, whatever was attempted.
    fn exhausted(failed: &str, error: &io::Error) -> Option<Failure> {
        let (reason, hint) = match errno(error)? {
            Errno::EMFILE => (
                "this process has no file descriptor left",
                "raise the limit with `ulimit -n`",
            ),
            Errno::ENFILE => (
                "this machine has no file descriptor left",
                "close other programs",
            ),
            Errno::ENOBUFS | Errno::ENOMEM => (
                "this machine has no memory left for it",
                "close other programs",
            ),
            _ => return None,
        };
        Some(Failure::runtime(format!("{failed}: {reason}")).hint(hint))
    }

    /// The machine knows no IPv6 at all (or no IPv4).
    fn no_family(failed: &str, address: SocketAddr) -> Failure {
        let (family, other) = if address.is_ipv6() {
            ("IPv6", "an IPv4")
        } else {
            ("IPv4", "an IPv6")
        };
        Failure::runtime(format!("{failed}: this machine has no {family}"))
            .hint(format!("use {other} address"))
    }
}

/// The system's number, for what `io::ErrorKind` has no name for.
fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno as i32)
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_in_use_is_named_with_what_to_try() {
        // A real clash: the words must fit what the system says.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = taken.local_addr().unwrap();
        let failure = Failure::bind("TCP", at, &std::net::TcpListener::bind(at).unwrap_err());
        let text = failure.to_string();
        assert_eq!(failure.code(), 1);
        assert!(
            text.contains(&at.to_string()) && text.contains("in use") && text.contains("port 0"),
            "{text}"
        );
    }

    #[test]
    fn each_reason_of_a_failed_bind_has_its_words() {
        for (errno, at, words) in [
            (
                Errno::EADDRNOTAVAIL,
                "192.0.2.1:7",
                "192.0.2.1 is not an address of this machine",
            ),
            (Errno::EACCES, "127.0.0.1:7", "ports below 1024"),
            (Errno::EMFILE, "127.0.0.1:7", "ulimit -n"),
            (Errno::EAFNOSUPPORT, "[::1]:7", "no IPv6"),
            (Errno::EINVAL, "127.0.0.1:7", "Invalid argument"),
        ] {
            let text = Failure::bind("UDP", address(at), &os(errno)).to_string();
            assert!(
                text.starts_with(&format!("can't bind UDP {at}: ")) && text.contains(words),
                "{text}"
            );
            assert!(!text.contains("os error"), "{text}");
        }
    }

    #[test]
    fn each_reason_of_a_failed_connect_has_its_words() {
        for (errno, words) in [
            (Errno::ECONNREFUSED, "nothing listens there"),
            (Errno::ETIMEDOUT, "--timeout"),
            (Errno::ENETUNREACH, "no route"),
            (Errno::EHOSTUNREACH, "no route"),
            (Errno::EADDRNOTAVAIL, "no local port"),
            (Errno::EMFILE, "ulimit -n"),
        ] {
            let failure = Failure::connect(&address("127.0.0.1:9999").into(), &os(errno));
            let text = failure.to_string();
            assert_eq!(failure.code(), 1);
            assert!(
                text.starts_with("can't connect to 127.0.0.1:9999: ") && text.contains(words),
                "{text}"
            );
        }
    }
}
