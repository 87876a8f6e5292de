//! What a listener, an outbound connection or a UDP socket is to be like, said before it is opened.
//!
//! These are plain values: making one opens nothing and can't fail. What the system refuses, it
//! refuses when the socket is opened, with its own error code.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::address::Address;
use crate::limits::ConnectionLimits;

/// How many connections may wait to be accepted, unless told otherwise. It is Linux' own cap since
/// 5.4 (`net.core.somaxconn`); the 128 that `std` and `mio` ask for overflows in a burst of
/// connects.
const DEFAULT_BACKLOG: u32 = 4096;

/// How long an outbound connection may take to be established, unless told otherwise. The system's
/// own limit is about two minutes on Linux (six SYNs).
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// When the system asks a silent peer whether it is still there (`SO_KEEPALIVE`), and when it gives
/// up.
///
/// A connection on which nothing is under way fails with "timed out" when the peer has been silent
/// for `idle + count * interval`. While output is unacknowledged the system sends it again and
/// doesn't probe: [`ListenOptions::user_timeout`] bounds that, and keepalive alone doesn't.
///
/// Times are rounded up to whole seconds, at least one. Linux takes at most 32,767 s and 127
/// probes, and answers more with `EINVAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long the connection is silent before the first probe. OpenBSD and NetBSD have one value
    /// for the whole system and ignore this one.
    pub idle: Duration,
    /// The time between probes. OpenBSD ignores it.
    pub interval: Duration,
    /// How many probes go unanswered before the connection fails. OpenBSD ignores it, and so does
    /// Linux where a `user_timeout` is given: that then says when an idle connection fails, too.
    pub count: u32,
}

/// How long output of a connection may stay unacknowledged; `None`: as long as the system has it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), allow(dead_code))]
pub(crate) struct UserTimeout {
    /// As asked, whatever it was before.
    pub(crate) asked: Option<Duration>,
    /// What was the default until now, and so is ours to replace.
    pub(crate) before: Option<Duration>,
    pub(crate) by_default: Option<Duration>,
}

impl UserTimeout {
    /// Where none is `asked` for, it's as long as keepalive takes to give up, because the kernel
    /// asks the user timeout instead of counting probes (tcp(7)).
    pub(crate) fn new(
        asked: Option<Duration>,
        keepalive: Option<Keepalive>,
        limits: &ConnectionLimits,
    ) -> UserTimeout {
        let silent = |of: Keepalive| of.idle.saturating_add(of.interval.saturating_mul(of.count));
        UserTimeout {
            asked: asked.or(keepalive.map(silent)),
            before: None,
            by_default: limits.user_timeout(),
        }
    }

    /// What is to be set on a socket that `has` a user timeout, or keepalive, from which one
    /// follows; `None`: nothing.
    #[cfg_attr(not(any(target_os = "linux", target_os = "android")), allow(dead_code))]
    pub(crate) fn change(self, has: Option<Duration>, keepalive: bool) -> Option<Option<Duration>> {
        let ours = has.map_or(!keepalive, |_| has == self.before);
        let changes = self.asked.is_some() || ours && has != self.by_default;
        changes.then(|| self.asked.or(self.by_default))
    }
}

impl Default for Keepalive {
    /// A first probe after a minute, then six, ten seconds apart: a vanished peer is found out in
    /// two minutes.
    fn default() -> Self {
        Keepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 6,
        }
    }
}

/// A listener of TCP or at a Unix socket, and what the connections that it accepts are like. What
/// TCP has and a Unix socket doesn't is left out there, without an error; what says who may connect
/// and can't be had is one.
///
/// `SO_REUSEADDR` is always set, so that a restarted server need not wait for old connections to
/// leave TIME_WAIT.
///
/// ```
/// use oread::{Address, ListenOptions};
///
/// let options = ListenOptions { backlog: 128, ..ListenOptions::new(([127, 0, 0, 1], 0)) };
/// assert!(options.nodelay);
/// let at = Address::unix("/run/mine.sock");
/// let options = ListenOptions { mode: Some(0o660), ..ListenOptions::new(at) };
/// assert!(options.unlink);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Where to listen. Port 0 lets the system choose one, and on Linux a Unix socket without a
    /// name lets it choose an abstract one.
    pub address: Address,
    /// How many established connections may wait to be accepted; 4,096 by default.
    /// Beyond that a dial of TCP waits, and one to a Unix socket fails at once (`WouldBlock`).
    ///
    /// The system caps it: Linux at `net.core.somaxconn`, others at their `SOMAXCONN`. Above the C
    /// library's `SOMAXCONN` (4,096 with glibc, 128 with musl) Linux and FreeBSD are asked for the
    /// most that they allow, which may then be more than was wished.
    pub backlog: u32,
    /// Lets several listeners share the address, for one reactor per thread (`SO_REUSEPORT`); off
    /// by default.
    ///
    /// Linux and FreeBSD (`SO_REUSEPORT_LB`) spread new connections over them; macOS doesn't.
    /// Closing one of them resets the connections that wait on it. A Unix socket has no port
    /// (`InvalidInput`): reactors share one by duplicates of its descriptor.
    pub reuse_port: bool,
    /// Whether an IPv6 listener takes IPv6 only (`IPV6_V6ONLY`). No matter for an IPv4 address.
    ///
    /// By default a listener at `[::]` takes IPv4 as well, whose peers are told
    /// as IPv4, and one at any other IPv6 address doesn't, whatever the
    /// system's own default is. OpenBSD can't do both: there the default is IPv6 only.
    pub only_v6: Option<bool>,
    /// Whether accepted connections send small writes at once (`TCP_NODELAY`); on by default.
    pub nodelay: bool,
    /// Probes accepted connections that fall silent; off by default.
    pub keepalive: Option<Keepalive>,
    /// How long output of accepted connections may stay unacknowledged, or the peer's window closed
    /// to it, before the system gives the connection up (`TCP_USER_TIMEOUT`). It fails with
    /// `ETIMEDOUT`: [`CloseReason::Failed`](crate::CloseReason::Failed).
    ///
    /// By default it is as long as `keepalive` takes to give up, and without keepalive half as long
    /// again as the write timeout of `limits`
    /// ([`Limits::write_timeout`](crate::Limits::write_timeout)), which says more and is to come
    /// first. The system's own limit is 15 minutes and more on Linux
    /// (`net.ipv4.tcp_retries2`), and none for a window that stays closed. A few seconds are too
    /// short for slow readers: Linux opens a closed window when a sixteenth of the receive buffer
    /// is free, and at least one segment (64 KiB on loopback).
    ///
    /// Rounded up to whole milliseconds, between 1 ms and 24 days. Linux and Android have it; other
    /// systems ignore it.
    pub user_timeout: Option<Duration>,
    /// The receive buffer of accepted connections in bytes (`SO_RCVBUF`); the system's, which tunes
    /// itself, by default. Linux doubles the number for its own bookkeeping and caps it at
    /// `net.core.rmem_max`.
    pub recv_buffer: Option<usize>,
    /// The send buffer of accepted connections in bytes (`SO_SNDBUF`); the system's, which tunes
    /// itself, by default. Linux doubles the number for its own bookkeeping and caps it at
    /// `net.core.wmem_max`.
    pub send_buffer: Option<usize>,
    /// The limits of accepted connections; the reactor's by default.
    pub limits: Option<ConnectionLimits>,
    /// Whether [`Limits::connections_per_source`](crate::Limits::connections_per_source) and
    /// [`accepts_per_source`](crate::Limits::accepts_per_source) count its callers. On by default;
    /// to be switched off where all of them come through a load balancer, which is one source.
    pub per_source: bool,
    /// The permissions of a Unix socket's file, such as `0o660`; as the umask leaves them by
    /// default. Who may write to it may connect. Nobody can before they are set. Where there is no
    /// file they are an error (`InvalidInput`), as are `uid` and `gid`.
    pub mode: Option<u32>,
    /// The user that a Unix socket's file belongs to; who runs the process, by default.
    pub uid: Option<u32>,
    /// The group that a Unix socket's file belongs to; the process' own, by default.
    pub gid: Option<u32>,
    /// Removes the file of a Unix socket that nobody listens at any more: one that was left
    /// behind, where it's in the way, and our own when the listener is closed. A file that somebody
    /// else has a socket at stays, such as a process that was handed our listener: of those that
    /// have it, the last one removes it. On by default.
    ///
    /// To look and to remove are two steps. Of two processes that start at once where a file was
    /// left behind, both may succeed, and the second one removes the first one's new file: nobody
    /// reaches that one then. Where it can happen, hold a lock of your own meanwhile, such as
    /// flock(1) around the program, or have a supervisor listen for both
    /// ([`Context::adopt_listener`](crate::Context::adopt_listener)).
    pub unlink: bool,
}

impl Default for ListenOptions {
    /// A port of 127.0.0.1 that the system chooses. A listener that is adopted has its own address.
    fn default() -> Self {
        ListenOptions::new((Ipv4Addr::LOCALHOST, 0))
    }
}

impl ListenOptions {
    /// A listener at `address`, all else by default.
    #[must_use]
    pub fn new(address: impl Into<Address>) -> Self {
        ListenOptions {
            address: address.into(),
            backlog: DEFAULT_BACKLOG,
            reuse_port: false,
            only_v6: None,
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            recv_buffer: None,
            send_buffer: None,
            limits: None,
            per_source: true,
            mode: None,
            uid: None,
            gid: None,
            unlink: true,
        }
    }

    /// Refuses what the address has no use for, where to leave it out would let others in, or
    /// leave them out.
    pub(crate) fn check(&self) -> io::Result<()> {
        let (port, file) = match &self.address {
            Address::Unix(name) => (false, name.path().is_some()),
            Address::Ip(_) => (true, false),
        };
        let why = if self.reuse_port && !port {
            "a Unix socket has no port to be shared"
        } else if !file && [self.mode, self.uid, self.gid] != [None; 3] {
            "mode, uid and gid are those of a Unix socket's file, and this address has none"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }
}

/// A UDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// Where to receive; port 0 lets the system choose one. Bound to a wildcard (`0.0.0.0` or
    /// `[::]`), replies leave from the address that was asked, on Linux, Android and Apple's
    /// systems.
    pub address: SocketAddr,
    /// A number of your own that tells this socket from your others:
    /// [`Datagram::key`](crate::Datagram::key) and [`Context::udp_key`](crate::Context::udp_key)
    /// show it. 0 by default.
    pub key: u64,
    /// Talks to this peer only: datagrams of others don't arrive, and a peer that isn't there is an
    /// error of the next receive or send (`ConnectionRefused`). So is, of the bind, a socket that
    /// the system would give the peer's own port: it would be its own peer.
    ///
    /// What others sent between the bind and the connect, to a port that they knew, still arrives.
    pub connect_to: Option<SocketAddr>,
    /// Lets several sockets share the address, for one reactor per thread (`SO_REUSEPORT`); off by
    /// default.
    ///
    /// Linux and FreeBSD (`SO_REUSEPORT_LB`) spread datagrams over them by their source; macOS
    /// doesn't.
    pub reuse_port: bool,
    /// Whether an IPv6 socket takes IPv6 only; the default is as in [`ListenOptions::only_v6`].
    pub only_v6: Option<bool>,
    /// The receive buffer in bytes (`SO_RCVBUF`): datagrams that don't fit are lost. The system's
    /// by default. Linux doubles the number for its own bookkeeping and caps it at
    /// `net.core.rmem_max`.
    pub recv_buffer: Option<usize>,
    /// The send buffer in bytes (`SO_SNDBUF`); the system's by default. Linux doubles the number
    /// for its own bookkeeping and caps it at `net.core.wmem_max`.
    pub send_buffer: Option<usize>,
}

impl Default for UdpOptions {
    /// A port of 127.0.0.1 that the system chooses. A socket that is adopted has its own address.
    fn default() -> Self {
        UdpOptions::new((Ipv4Addr::LOCALHOST, 0))
    }
}

impl UdpOptions {
    /// A socket bound to `address`, all else by default.
    #[must_use]
    pub fn new(address: impl Into<SocketAddr>) -> Self {
        UdpOptions {
            address: address.into(),
            key: 0,
            connect_to: None,
            reuse_port: false,
            only_v6: None,
            recv_buffer: None,
            send_buffer: None,
        }
    }
}

/// A multicast group, and the interface by which what is sent to it is received. See
/// [`Context::join_multicast`](crate::Context::join_multicast).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Multicast {
    /// Of IPv4.
    V4 {
        /// 224.0.0.0 to 239.255.255.255.
        group: Ipv4Addr,
        /// An address of the interface; [`Ipv4Addr::UNSPECIFIED`] leaves that to the system.
        interface: Ipv4Addr,
    },
    /// Of IPv6.
    V6 {
        /// In ff00::/8.
        group: Ipv6Addr,
        /// The index of the interface; 0 leaves that to the system.
        interface: u32,
    },
}

/// An outbound connection, of TCP or to a Unix socket. What means nothing to its kind is left out,
/// without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Where to.
    pub address: Address,
    /// Our own address; the system's choice by default. It must be of the same family as the one
    /// connected to: none for a Unix socket.
    ///
    /// With port 0 the system chooses the port. Linux does so as it connects and not as it binds,
    /// so that every source address has all the ephemeral ports for every destination (28,232 of
    /// them by default).
    pub source: Option<SocketAddr>,
    /// How long it may take until the connection is established: ten seconds by default. `None`
    /// leaves it to the system, about two minutes on Linux.
    pub timeout: Option<Duration>,
    /// Whether small writes leave at once (`TCP_NODELAY`); on by default.
    pub nodelay: bool,
    /// Probes the peer when it falls silent; off by default.
    pub keepalive: Option<Keepalive>,
    /// How long output may stay unacknowledged, as in [`ListenOptions::user_timeout`]. It bounds
    /// the handshake too, where it is shorter than `timeout`.
    pub user_timeout: Option<Duration>,
    /// The receive buffer in bytes (`SO_RCVBUF`), as in [`ListenOptions::recv_buffer`].
    pub recv_buffer: Option<usize>,
    /// The send buffer in bytes (`SO_SNDBUF`), as in [`ListenOptions::send_buffer`].
    pub send_buffer: Option<usize>,
    /// The limits of the connection; the reactor's by default.
    pub limits: Option<ConnectionLimits>,
}

impl ConnectOptions {
    /// A connection to `address`, all else by default.
    #[must_use]
    pub fn new(address: impl Into<Address>) -> Self {
        ConnectOptions {
            address: address.into(),
            source: None,
            timeout: Some(DEFAULT_CONNECT_TIMEOUT),
            nodelay: true,
            keepalive: None,
            user_timeout: None,
            recv_buffer: None,
            send_buffer: None,
            limits: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(write_timeout: Option<Duration>) -> ConnectionLimits {
        ConnectionLimits {
            write_timeout,
            ..crate::Limits::default().of_connection()
        }
    }

    #[test]
    fn without_a_user_timeout_keepalive_says_how_long_a_peer_may_be_silent() {
        let keepalive = Keepalive {
            idle: 5 * SECOND,
            interval: 2 * SECOND,
            count: 3,
        };
        let of = |asked, keepalive| UserTimeout::new(asked, keepalive, &limits(Some(SECOND)));
        assert_eq!(of(Some(SECOND), Some(keepalive)).asked, Some(SECOND));
        assert_eq!(of(None, Some(keepalive)).asked, Some(11 * SECOND));
        let default = of(None, None);
        let millis = Duration::from_millis;
        assert_eq!(
            (default.asked, default.by_default),
            (None, Some(millis(1500)))
        );
    }

    #[test]
    fn a_default_user_timeout_takes_the_place_of_an_earlier_default_alone() {
        let (before, now) = (Some(3 * SECOND), Some(30 * SECOND));
        let of = |asked, write_timeout| UserTimeout {
            before,
            ..UserTimeout::new(asked, None, &limits(write_timeout))
        };
        let changed = of(None, Some(20 * SECOND));
        let none = of(None, None);
        for (timeout, has, keepalive, expected) in [
            (changed, before, false, Some(now)),
            (changed, before, true, Some(now)),
            (changed, None, false, Some(now)),
            (changed, None, true, None),
            (changed, Some(SECOND), false, None),
            (changed, now, false, None),
            (none, before, false, Some(None)),
            (none, None, false, None),
            (of(before, None), now, true, Some(before)),
        ] {
            let change = timeout.change(has, keepalive);
            assert_eq!(change, expected, "{timeout:?} {has:?}");
        }
    }
}
