//! Opening sockets, with the options that `std` has no word for.
//!
//! Every function gives back an [`OwnedFd`], so that a failure half-way closes what was opened.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, sockopt,
};

use super::{pktinfo, unix};
use crate::address::Address;
#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::clock::millis;
use crate::options::{ConnectOptions, Keepalive, ListenOptions, UdpOptions, UserTimeout};

/// Opens a listener as `options` say, which is to listen yet, or takes one over; with the file that
/// is to be removed behind it: after it, so it stands first.
///
/// # Errors
/// As the system gives them: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, no descriptors
/// left.
pub(super) fn listener(
    options: &ListenOptions,
    adopted: Option<OwnedFd>,
) -> io::Result<(Option<unix::File>, OwnedFd)> {
    let (fd, bound) = match adopted {
        // Apple's systems may not tell. One that doesn't listen would begin to, at any port.
        Some(fd) => match socket::getsockopt(&fd, sockopt::AcceptConn) {
            Ok(false) => return Err(wrong("it's no listener")),
            _ => (adopt(fd, SockType::Stream)?, true),
        },
        None => (socket(family(&options.address), SockType::Stream)?, false),
    };
    // Before it listens: the window scale of the connections follows from the buffer.
    prepare(&fd, options)?;
    let address = match &options.address {
        _ if bound => return Ok((unix::file_of(&fd, options), fd)),
        Address::Unix(name) => return unix::bind(fd, name, options),
        Address::Ip(address) => address,
    };
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if options.reuse_port {
        share_port(&fd)?;
    }
    set_only_v6(&fd, address, options.only_v6)?;
    bind(&fd, address)?;
    Ok((None, fd))
}

/// Gives a listener, or an accepted stream that doesn't inherit it, what accepted streams are to
/// have.
///
/// # Errors
/// As the system gives them; `EINVAL` on Apple's systems when the peer has reset the connection.
pub(super) fn prepare(fd: &impl AsFd, options: &ListenOptions) -> io::Result<()> {
    set_nodelay(fd, options.nodelay)?;
    set_keepalive(fd, options.keepalive)?;
    set_buffers(fd, options.recv_buffer, options.send_buffer)
}

/// Takes over a socket that somebody else has opened, and makes it non-blocking.
///
/// # Errors
/// `InvalidInput` when it's not a socket of this `kind`.
pub(super) fn adopt(fd: OwnedFd, kind: SockType) -> io::Result<OwnedFd> {
    match socket::getsockopt(&fd, sockopt::SockType) {
        Ok(found) if found == kind => nonblocking(fd),
        Ok(_) => Err(wrong("it's a socket of another type")),
        Err(Errno::ENOTSOCK) => Err(wrong("it's no socket")),
        Err(error) => Err(error.into()),
    }
}

/// What a caller has done wrong.
fn wrong(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Opens a stream as `options` say and begins to connect it.
///
/// # Errors
/// As the system gives them: `AddrNotAvailable` when the source address isn't ours or has no ports
/// left, unreachable networks, no descriptors left. `InvalidInput` when source and destination are
/// of different families.
pub(super) fn stream(options: &ConnectOptions) -> io::Result<OwnedFd> {
    let fd = socket(family(&options.address), SockType::Stream)?;
    set_buffers(&fd, options.recv_buffer, options.send_buffer)?;
    set_nodelay(&fd, options.nodelay)?;
    set_keepalive(&fd, options.keepalive)?;
    if let Some(source) = options.source {
        if family(&source.into()) != family(&options.address) {
            return Err(wrong(
                "the source and the destination are of different address families",
            ));
        }
        if source.port() == 0 {
            choose_port_on_connect(&fd)?;
        }
        bind(&fd, &source)?;
    }
    let begun = match &options.address {
        Address::Ip(address) => connect(&fd, *address),
        Address::Unix(name) => unix::connect(&fd, name),
    };
    match begun {
        // A connect that a signal interrupts goes on by itself, as POSIX has it.
        Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// Opens a UDP socket as `options` say, and the buffer for what [`pktinfo`] tells, empty when it
/// isn't asked.
///
/// # Errors
/// As the system gives them.
pub(super) fn udp(options: &UdpOptions) -> io::Result<(OwnedFd, Vec<u8>)> {
    let fd = socket(family(&options.address.into()), SockType::Datagram)?;
    if options.reuse_port {
        share_port(&fd)?;
    }
    set_only_v6(&fd, &options.address, options.only_v6)?;
    set_buffers(&fd, options.recv_buffer, options.send_buffer)?;
    // Before it is bound: a datagram that arrives earlier would not be told of. A connected socket
    // gets an address of its own.
    let control = ask_destination(&fd, &options.address, options.connect_to)?;
    bind(&fd, &options.address)?;
    if let Some(peer) = options.connect_to {
        connect(&fd, peer)?;
        // The system may have chosen the peer's very port: the socket would be its own peer.
        if options.address.port() == 0 && unix::local_addr(&fd)?.socket_addr() == Some(peer) {
            return Err(Errno::ECONNREFUSED.into());
        }
    }
    Ok((fd, control))
}

/// Has a socket that is bound to `address` told where each datagram was sent to; gives the buffer
/// for it. Where that is one address of one host it's not told, and the buffer is empty: Linux then
/// delivers nothing else. So it is with a socket that has a `peer`.
pub(super) fn ask_destination(
    fd: &impl AsFd,
    address: &SocketAddr,
    peer: Option<SocketAddr>,
) -> io::Result<Vec<u8>> {
    let ip = address.ip().to_canonical();
    let many = || ip.is_unspecified() || ip.is_multicast() || is_broadcast(ip);
    match peer.is_none() && many() {
        true => pktinfo::ask(fd, address),
        false => Ok(Vec::new()),
    }
}

/// Whether `ip` is a broadcast address, that of a network too, such as 127.255.255.255. Only the
/// system knows: it lets no socket connect to one that has not set `SO_BROADCAST` (connect(2)).
/// Nothing is sent.
fn is_broadcast(ip: IpAddr) -> bool {
    // Any port will do; 9 discards.
    let address = SocketAddr::new(ip, 9);
    ip.is_ipv4()
        && socket(AddressFamily::Inet, SockType::Datagram)
            .is_ok_and(|fd| connect(&fd, address) == Err(Errno::EACCES))
}

/// A socket that doesn't block and that programs we start don't inherit.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn socket(family: AddressFamily, kind: SockType) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socket::socket(family, kind, flags, None::<SockProtocol>)?)
}

/// The same where socket(2) takes no flags: a duplicate is close-on-exec.
#[cfg(target_vendor = "apple")]
pub(super) fn socket(family: AddressFamily, kind: SockType) -> io::Result<OwnedFd> {
    let flags = SockFlag::empty();
    nonblocking(socket::socket(family, kind, flags, None::<SockProtocol>)?.try_clone()?)
}

/// Makes a descriptor of any kind non-blocking, as a stream.
fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    let stream = std::net::TcpStream::from(fd);
    stream.set_nonblocking(true)?;
    Ok(stream.into())
}

/// The address family of `address`.
fn family(address: &Address) -> AddressFamily {
    match address {
        Address::Ip(SocketAddr::V4(_)) => AddressFamily::Inet,
        Address::Ip(SocketAddr::V6(_)) => AddressFamily::Inet6,
        Address::Unix(_) => AddressFamily::Unix,
    }
}

/// Gives the socket its own address.
fn bind(fd: &OwnedFd, address: &SocketAddr) -> nix::Result<()> {
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(*address))
}

/// Gives the socket its peer's address.
fn connect(fd: &OwnedFd, address: SocketAddr) -> nix::Result<()> {
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(address))
}

/// Lets several sockets have the same address and share what arrives there.
#[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
fn share_port(fd: &OwnedFd) -> io::Result<()> {
    // FreeBSD's plain SO_REUSEPORT gives everything to one of them.
    #[cfg(target_os = "freebsd")]
    socket::setsockopt(fd, sockopt::ReusePortLb, &true)?;
    #[cfg(not(target_os = "freebsd"))]
    socket::setsockopt(fd, sockopt::ReusePort, &true)?;
    Ok(())
}

/// Where there is no such option, asking for it is an error.
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
fn share_port(_: &OwnedFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Says on purpose whether an IPv6 socket takes IPv4 as well; the rule is documented at
/// `ListenOptions::only_v6`.
fn set_only_v6(fd: &OwnedFd, address: &SocketAddr, asked: Option<bool>) -> io::Result<()> {
    let IpAddr::V6(ip) = address.ip() else {
        return Ok(());
    };
    // A v4-mapped address is IPv4: with IPv6 only it could not even be bound.
    let by_default = !ip.is_unspecified() && ip.to_ipv4_mapped().is_none();
    match socket::setsockopt(fd, sockopt::Ipv6V6Only, &asked.unwrap_or(by_default)) {
        // OpenBSD can't be both, and says so; nobody insisted.
        Err(_) if asked.is_none() && !by_default => Ok(()),
        result => Ok(result?),
    }
}

/// Sets the sizes of the socket's buffers, in bytes, where one is asked for.
pub(super) fn set_buffers(
    fd: &impl AsFd,
    recv: Option<usize>,
    send: Option<usize>,
) -> io::Result<()> {
    // The system takes a C int; a negative one would be read as nonsense, not as much.
    let capped = |bytes: usize| bytes.min(i32::MAX as usize);
    if let Some(bytes) = recv {
        socket::setsockopt(fd, sockopt::RcvBuf, &capped(bytes))?;
    }
    if let Some(bytes) = send {
        socket::setsockopt(fd, sockopt::SndBuf, &capped(bytes))?;
    }
    Ok(())
}

/// Sends small writes at once, or gathers them.
pub(super) fn set_nodelay(fd: &impl AsFd, on: bool) -> io::Result<()> {
    if_tcp(socket::setsockopt(fd, sockopt::TcpNoDelay, &on), ())
}

/// What an option's call came to; `other` where the socket is none of TCP, and has no such option.
fn if_tcp<T>(result: nix::Result<T>, other: T) -> io::Result<T> {
    match result {
        Err(Errno::EOPNOTSUPP | Errno::ENOPROTOOPT) => Ok(other),
        result => Ok(result?),
    }
}

/// Probes a silent peer as `keepalive` says, or leaves the system's setting.
pub(super) fn set_keepalive(fd: &impl AsFd, keepalive: Option<Keepalive>) -> io::Result<()> {
    match keepalive {
        Some(keepalive) => if_tcp(probe(fd, keepalive), ()),
        None => Ok(()),
    }
}

fn probe(fd: &impl AsFd, keepalive: Keepalive) -> nix::Result<()> {
    socket::setsockopt(fd, sockopt::KeepAlive, &true)?;
    #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "dragonfly"
    ))]
    socket::setsockopt(fd, sockopt::TcpKeepIdle, &whole_seconds(keepalive.idle))?;
    #[cfg(target_vendor = "apple")]
    socket::setsockopt(fd, sockopt::TcpKeepAlive, &whole_seconds(keepalive.idle))?;
    #[cfg(not(target_os = "openbsd"))]
    {
        socket::setsockopt(
            fd,
            sockopt::TcpKeepInterval,
            &whole_seconds(keepalive.interval),
        )?;
        socket::setsockopt(fd, sockopt::TcpKeepCount, &keepalive.count)?;
    }
    Ok(())
}

/// Bounds how long output may stay unacknowledged, unless the socket is none of TCP.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn set_user_timeout(fd: &impl AsFd, timeout: UserTimeout) -> io::Result<()> {
    let has = socket::getsockopt(fd, sockopt::TcpUserTimeout).map(Some);
    let Some(has) = if_tcp(has, None)? else {
        return Ok(());
    };
    let has = (has > 0).then(|| Duration::from_millis(has.into()));
    if let Some(timeout) = timeout.change(has, socket::getsockopt(fd, sockopt::KeepAlive)?) {
        // To the system 0 is its own default, and it takes no more than a C int holds.
        socket::setsockopt(fd, sockopt::TcpUserTimeout, &timeout.map_or(0, millis))?;
    }
    Ok(())
}

/// Other systems have no such option, or none that nix knows.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn set_user_timeout(_: &impl AsFd, _: UserTimeout) -> io::Result<()> {
    Ok(())
}

/// `duration` in seconds, rounded up, at least one: the system counts in whole ones and refuses
/// zero.
#[cfg_attr(target_os = "openbsd", allow(dead_code))]
fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// Lets the bind that follows take an address only, and the connect choose the port, from all that
/// are free for that very destination.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn choose_port_on_connect(fd: &OwnedFd) -> io::Result<()> {
    match socket::setsockopt(fd, sockopt::IpBindAddressNoPort, &true) {
        // Linux before 4.2 has no such option; the bind then takes a port.
        Err(Errno::ENOPROTOOPT) => Ok(()),
        result => Ok(result?),
    }
}

/// Elsewhere the bind takes the port.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn choose_port_on_connect(_: &OwnedFd) -> io::Result<()> {
    Ok(())
}

/// The backlog to ask the system for when `wish` is wished, and the one that it will give.
pub(super) fn backlog(wish: u32) -> io::Result<(Backlog, u32)> {
    // nix takes no number above the C library's constant.
    let known = i32::from(Backlog::MAXCONN);
    let (asked, wish) = match i32::try_from(wish) {
        Ok(wish) if wish <= known => (Backlog::new(wish)?, wish.unsigned_abs()),
        #[cfg(any(target_os = "linux", target_os = "freebsd"))]
        _ => (Backlog::MAXALLOWABLE, u32::MAX),
        #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
        _ => (Backlog::MAXCONN, known.unsigned_abs()),
    };
    // The system's cap: only Linux has it where it can be read without a dependency of its own.
    let cap = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    let cap = cap.and_then(|cap| cap.trim().parse().ok());
    Ok((asked, wish.min(cap.unwrap_or(known.unsigned_abs()))))
}
