//! Streams and listeners, of TCP and of Unix sockets.
//!
//! A connected Unix socket is kept as a stream of TCP: all calls but those for addresses are the
//! same for both, so nothing asks which it is.

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mio::event::Source;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{self, MsgFlags, SockType, sockopt};
#[cfg(any(target_os = "linux", target_os = "android"))]
use nix::{getsockopt_impl, sockopt_impl};

use super::{open, poll2, unix};
use crate::address::Address;
use crate::nonblocking::{Stream, is_blocked, not_now};
use crate::options::{ConnectOptions, Keepalive, ListenOptions, UserTimeout};

/// Keeps a write to a connection that the peer has reset from raising SIGPIPE, which an embedder
/// may not have ignored.
///
/// Apple's systems have no such flag, only a socket option that nix lacks: there it is up to Rust's
/// runtime, which ignores the signal unless told otherwise.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: MsgFlags = MsgFlags::empty();

#[cfg(any(target_os = "linux", target_os = "android"))]
sockopt_impl!(
    /// The socket's memory (`SO_MEMINFO`, since Linux 4.12): the first six of the nine numbers that
    /// linux/sock_diag.h lists (`SK_MEMINFO_VARS`). The system fills what room it is given, and
    /// nix panics where it fills less: so no more is asked for than is needed.
    MemInfo,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; WMEM_QUEUED + 1]
);

/// Where in [`MemInfo`] stands what [`TcpStream::in_flight`] tells (`SK_MEMINFO_WMEM_QUEUED`), and
/// what a Unix socket has sent that its peer has not read (`SK_MEMINFO_WMEM_ALLOC`).
#[cfg(any(target_os = "linux", target_os = "android"))]
const WMEM_QUEUED: usize = 5;
#[cfg(any(target_os = "linux", target_os = "android"))]
const WMEM_ALLOC: usize = 2;

/// A connection, established or not yet. In a release build it is as large as its descriptor.
#[derive(Debug)]
pub(crate) struct TcpStream(mio::net::TcpStream);

impl TcpStream {
    /// Begins to connect as `options` say. The stream is to be registered, and
    /// [`TcpStream::established`] tells the outcome; the timeout is the caller's to keep.
    ///
    /// # Errors
    /// As the system gives them: `AddrNotAvailable` when the source has no ports left for this
    /// destination, unreachable networks, no descriptors left. `InvalidInput` when source and
    /// destination are of different families.
    pub(crate) fn dial(options: &ConnectOptions) -> io::Result<TcpStream> {
        Ok(TcpStream(open::stream(options)?.into()))
    }

    /// Takes over a stream that somebody else has opened, connected or connecting, and makes it
    /// non-blocking.
    ///
    /// # Errors
    /// When it can't be made so; `InvalidInput` when it's no stream.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<TcpStream> {
        Ok(TcpStream(open::adopt(fd, SockType::Stream)?.into()))
    }

    /// What mio registers.
    pub(super) fn source(&mut self) -> &mut mio::net::TcpStream {
        &mut self.0
    }

    /// Whether the connection is established; asked when an event has come for a stream that was
    /// dialled.
    ///
    /// Events may come before that: `Ok(false)` says to wait for the next one.
    ///
    /// A connection to a port of this host that nobody listens on may meet itself, when the system
    /// chooses that very port for our own end. That is `ConnectionRefused`: there is no server.
    ///
    /// # Errors
    /// Why the connection failed, such as `ConnectionRefused` or `TimedOut`.
    pub(crate) fn established(&self) -> io::Result<bool> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        // Not yet is "not now" to mio, too: with poll(2) below it arms the next event only when it
        // hears so.
        let peer = self
            .0
            .try_io(|| self.peer_addr().map_err(not_yet_is_blocked));
        match peer {
            Ok(peer) if self.local_addr()? == peer => Err(Errno::ECONNREFUSED.into()),
            Ok(_) => Ok(true),
            Err(error) if is_blocked(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The peer's address, of a stream of somebody else's that must be established. What a dial
    /// waits for is an error here: no event would come for it.
    ///
    /// # Errors
    /// What the stream has stored; `NotConnected` when it is not established, or no longer.
    pub(crate) fn check_connected(&self) -> io::Result<Address> {
        match self.0.take_error()? {
            Some(error) => Err(error),
            None => self.peer_addr(),
        }
    }

    /// Another descriptor of the same connection.
    ///
    /// # Errors
    /// As the system gives them when it has none left.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` when the connection isn't established, or has been reset.
    pub(crate) fn peer_addr(&self) -> io::Result<Address> {
        unix::peer_addr(self)
    }

    /// Our own address.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        unix::local_addr(self)
    }

    /// Sends small writes at once, or gathers them (`TCP_NODELAY`).
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        open::set_nodelay(self, on)
    }

    /// Probes the peer when it falls silent.
    ///
    /// # Errors
    /// `InvalidInput` for numbers that the system doesn't take.
    pub(crate) fn set_keepalive(&self, keepalive: Keepalive) -> io::Result<()> {
        open::set_keepalive(self, Some(keepalive))
    }

    /// Bounds how long output may stay unacknowledged (`TCP_USER_TIMEOUT`). Other systems than
    /// Linux and Android ignore it.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn set_user_timeout(&self, timeout: UserTimeout) -> io::Result<()> {
        open::set_user_timeout(self, timeout)
    }
}

/// The two ways in which a connection says that it is still being made, as `WouldBlock`.
fn not_yet_is_blocked(error: io::Error) -> io::Error {
    let in_progress = error.raw_os_error() == Some(Errno::EINPROGRESS as i32);
    if in_progress || error.kind() == io::ErrorKind::NotConnected {
        return not_now();
    }
    error
}

impl Stream for TcpStream {
    #[inline]
    fn short_is_blocked(&self) -> bool {
        poll2::HAS_EDGES
    }

    #[inline]
    fn tells_delivery(&self) -> bool {
        poll2::HAS_EDGES
    }

    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    // The `write_vectored` of `std` is a bare writev(2), which raises SIGPIPE.
    #[inline]
    fn write_two(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let slices = [IoSlice::new(first), IoSlice::new(second)];
        let fd = self.0.as_raw_fd();
        self.0
            .try_io(|| Ok(socket::sendmsg(fd, &slices, &[], NO_SIGNAL, None::<&()>)?))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        // Lingering for no time at all.
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        Ok(socket::setsockopt(self, sockopt::Linger, &linger)?)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn in_flight(&mut self) -> Option<u32> {
        let memory = socket::getsockopt(self, MemInfo).ok()?;
        // A Unix socket queues nothing: what it sends is there, and only reading it is progress.
        let queued = memory[WMEM_QUEUED];
        (queued > 0 || memory[WMEM_ALLOC] == 0).then_some(queued)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn unread(&mut self) -> Option<u32> {
        let memory = socket::getsockopt(self, MemInfo).ok()?;
        Some(match memory[WMEM_QUEUED] {
            0 => memory[WMEM_ALLOC],
            queued => queued,
        })
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether TCP's accepted streams have their listener's options.
const INHERITS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A listener of either kind.
#[derive(Debug)]
enum Socket {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

/// A listener.
#[derive(Debug)]
pub(crate) struct TcpListener {
    socket: Socket,
    /// As [`TcpListener::backlog`] tells it.
    backlog: u32,
    /// What accepted streams are to be like, where the system doesn't have them inherit that.
    accepted: Option<Box<ListenOptions>>,
    /// Removed with the listener, and after its socket is closed: so it stands behind that.
    _file: Option<unix::File>,
}

impl TcpListener {
    /// Listens as `options` say; with a socket that somebody else has opened, where one is given.
    ///
    /// # Errors
    /// As the system gives them: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`, no
    /// descriptors left. `InvalidInput` when what is given is no listener.
    pub(crate) fn listen(
        options: &ListenOptions,
        adopted: Option<OwnedFd>,
    ) -> io::Result<TcpListener> {
        let (file, fd) = open::listener(options, adopted)?;
        let (asked, backlog) = open::backlog(options.backlog)?;
        socket::listen(&fd, asked)?;
        let (socket, inherits) = match unix::local_addr(&fd)? {
            Address::Unix(_) => (Socket::Unix(fd.into()), false),
            Address::Ip(_) => (Socket::Tcp(fd.into()), INHERITS),
        };
        Ok(TcpListener {
            socket,
            backlog,
            accepted: (!inherits).then(|| options.clone().into()),
            _file: file,
        })
    }

    /// Bounds how long the output of accepted streams may stay unacknowledged, which Linux has them
    /// inherit: as [`TcpStream::set_user_timeout`].
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn set_user_timeout(&self, timeout: UserTimeout) -> io::Result<()> {
        open::set_user_timeout(self, timeout)
    }

    /// What mio registers.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match &mut self.socket {
            Socket::Tcp(socket) => socket,
            Socket::Unix(socket) => socket,
        }
    }

    /// Accepts one connection that waits, and tells where it is from.
    ///
    /// # Errors
    /// `WouldBlock` when none waits. Those of one connection (`ECONNABORTED`, `EPROTO`), after
    /// which there may be others; and those of this host (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`),
    /// after which no event tells when to try again.
    pub(crate) fn accept(&self) -> io::Result<(TcpStream, Address)> {
        let (stream, from) = match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, from) = socket.accept()?;
                (TcpStream(stream), from.into())
            }
            Socket::Unix(socket) => {
                let stream = TcpStream(OwnedFd::from(socket.accept()?.0).into());
                let from = stream.peer_addr().unwrap_or(Address::unix(""));
                (stream, from)
            }
        };
        if let Some(options) = &self.accepted {
            // It fails on a connection that has been reset meanwhile; the first read tells.
            let _ = open::prepare(&stream, options);
        }
        Ok((stream, from))
    }

    /// The address that it listens at, with the port that the system has chosen.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        unix::local_addr(self)
    }

    /// How many established connections may wait to be accepted, after the system's cap.
    pub(crate) fn backlog(&self) -> u32 {
        self.backlog
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}
