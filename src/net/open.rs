//! Opening sockets with the options that std's constructors have no room for: what is set before bind and listen.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt,
    socket, sockopt,
};

use crate::options::{ConnectOptions, Keepalive, ListenOptions, UdpOptions};

/// Whether accepted connections have their listener's TCP_NODELAY, keepalive and buffer sizes from the start. Linux
/// copies the listener's socket; setting them there once saves system calls for every caller.
pub(super) const ACCEPTED_INHERIT: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A bound and listening socket.
///
/// # Errors
/// As the system gives them.
pub(super) fn listener(options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = open(options.address, SockType::Stream)?;
    // A server that is started again must not wait for the old one's connections to be forgotten.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if options.reuse_port {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    set_only_v6(&socket, options.address, options.only_v6)?;
    set_buffers(&socket, options.recv_buffer, options.send_buffer)?;
    if ACCEPTED_INHERIT {
        set_accepted(&socket, options)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(options.address))?;
    // Beyond what `Backlog` takes the system's cap is below it anyway.
    let backlog = i32::try_from(options.backlog)
        .ok()
        .and_then(|n| Backlog::new(n).ok());
    listen(&socket, backlog.unwrap_or(Backlog::MAXALLOWABLE))?;
    Ok(socket)
}

/// The options of an accepted connection.
///
/// # Errors
/// As the system gives them.
pub(super) fn set_accepted(socket: &impl AsFd, options: &ListenOptions) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpNoDelay, &options.nodelay)?;
    set_keepalive(socket, options.keepalive)?;
    set_buffers(socket, options.recv_buffer, options.send_buffer)
}

/// How many callers may wait when `asked` were asked for.
pub(super) fn capped_backlog(asked: u32) -> u32 {
    let cap = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    let cap = cap.and_then(|text| text.trim().parse().ok());
    // Backlog::new refuses more than this; see `listener`.
    asked.min(cap.unwrap_or(asked))
}

/// A socket that is on its way to its peer.
///
/// # Errors
/// As the system gives them.
pub(super) fn dialed(options: &ConnectOptions) -> io::Result<OwnedFd> {
    let socket = open(options.address, SockType::Stream)?;
    setsockopt(&socket, sockopt::TcpNoDelay, &options.nodelay)?;
    set_keepalive(&socket, options.keepalive)?;
    set_buffers(&socket, options.recv_buffer, options.send_buffer)?;
    if let Some(source) = options.source {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if source.port() == 0 {
            // Else the bind itself takes a port, out of those for all destinations.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?;
    }
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(options.address)) {
        // An interrupted connect goes on as if it had been asked not to wait (POSIX, connect).
        Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// A bound UDP socket.
///
/// # Errors
/// As the system gives them.
pub(super) fn datagrams(options: &UdpOptions) -> io::Result<OwnedFd> {
    let socket = open(options.address, SockType::Datagram)?;
    if options.reuse_port {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    set_only_v6(&socket, options.address, options.only_v6)?;
    set_buffers(&socket, options.recv_buffer, options.send_buffer)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(options.address))?;
    if let Some(peer) = options.connect_to {
        connect(socket.as_raw_fd(), &SockaddrStorage::from(peer))?;
    }
    Ok(socket)
}

/// A non-blocking socket that programs started from here don't inherit.
fn open(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return Ok(socket(
        family,
        kind,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        None,
    )?);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        // No flags at birth there (macOS): std sets both by what it has, on any socket type.
        let socket = std::net::UdpSocket::from(socket(family, kind, SockFlag::empty(), None)?);
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }
}

fn set_only_v6(socket: &OwnedFd, address: SocketAddr, only: bool) -> io::Result<()> {
    if address.is_ipv6() {
        setsockopt(socket, sockopt::Ipv6V6Only, &only)?;
    }
    Ok(())
}

fn set_buffers(socket: &impl AsFd, recv: Option<usize>, send: Option<usize>) -> io::Result<()> {
    if let Some(bytes) = recv {
        setsockopt(socket, sockopt::RcvBuf, &bytes)?;
    }
    if let Some(bytes) = send {
        setsockopt(socket, sockopt::SndBuf, &bytes)?;
    }
    Ok(())
}

fn set_keepalive(socket: &impl AsFd, keepalive: Option<Keepalive>) -> io::Result<()> {
    let Some(keepalive) = keepalive else {
        return Ok(());
    };
    let seconds = |d: Duration| {
        u32::try_from(d.as_secs())
            .unwrap_or(u32::MAX)
            .clamp(1, 32_767)
    };
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        setsockopt(socket, sockopt::TcpKeepIdle, &seconds(keepalive.idle))?;
        setsockopt(
            socket,
            sockopt::TcpKeepInterval,
            &seconds(keepalive.interval),
        )?;
        setsockopt(socket, sockopt::TcpKeepCount, &keepalive.count)?;
    }
    #[cfg(any(target_os = "macos", target_os = "ios"))]
    setsockopt(socket, sockopt::TcpKeepAlive, &seconds(keepalive.idle))?;
    let _ = seconds;
    Ok(())
}
