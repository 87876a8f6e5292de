//! TCP sockets.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mio::event::Source;
use nix::sys::socket::{MsgFlags, SockaddrIn, sendmsg, setsockopt, sockopt};

use crate::nonblocking::Stream;
use crate::options::{ConnectOptions, ListenOptions};

use super::open;

/// A connection's socket: non-blocking, and no larger than its descriptor.
#[derive(Debug)]
pub(crate) struct TcpStream(mio::net::TcpStream);

impl TcpStream {
    /// Takes over a stream of std's and makes it non-blocking.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        Ok(TcpStream(mio::net::TcpStream::from_std(stream)))
    }

    pub(super) fn source(&mut self) -> &mut impl Source {
        &mut self.0
    }

    /// Whom it's connected to.
    ///
    /// # Errors
    /// `NotConnected` before the handshake and after a reset.
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    /// Its own address.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Takes the error that the socket has stored.
    ///
    /// # Errors
    /// When the socket can't be asked.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for TcpStream {
    const SHORT_IS_BLOCKED: bool = !cfg!(mio_unsupported_force_poll_poll);

    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    /// std's `write` on a socket sends with `MSG_NOSIGNAL`.
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// By `sendmsg`, because std's `write_vectored` is a bare `writev`, which raises SIGPIPE in a process that has not
    /// ignored it.
    fn write_two(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let parts = [IoSlice::new(first), IoSlice::new(second)];
        let descriptor = self.0.as_raw_fd();
        // Through mio, so that the poll(2) backend learns of a `WouldBlock`.
        self.0.try_io(|| {
            sendmsg::<SockaddrIn>(descriptor, &parts, &[], MsgFlags::MSG_NOSIGNAL, None)
                .map_err(io::Error::from)
        })
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// A linger time of zero: close(2) then discards what is unsent and sends a reset (socket(7), `SO_LINGER`).
    fn reset_on_close(&mut self) -> io::Result<()> {
        let now = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&self.0, sockopt::Linger, &now).map_err(io::Error::from)
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct TcpListener {
    socket: mio::net::TcpListener,
    /// How many callers may wait, after the system's cap; `None` for a listener that somebody else made.
    backlog: Option<u32>,
    /// What accepted connections do not inherit on this system, and so are given one by one.
    options: Option<ListenOptions>,
}

impl TcpListener {
    /// Listens as `options` say.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn listen(options: &ListenOptions) -> io::Result<TcpListener> {
        let socket = std::net::TcpListener::from(open::listener(options)?);
        Ok(TcpListener {
            socket: mio::net::TcpListener::from_std(socket),
            backlog: Some(open::capped_backlog(options.backlog)),
            options: (!open::ACCEPTED_INHERIT).then(|| options.clone()),
        })
    }

    /// Takes over a listener of std's and makes it non-blocking.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        let socket = mio::net::TcpListener::from_std(listener);
        Ok(TcpListener {
            socket,
            backlog: None,
            options: None,
        })
    }

    pub(super) fn source(&mut self) -> &mut impl Source {
        &mut self.socket
    }

    /// The address, with the port that port 0 became.
    ///
    /// # Errors
    /// As the system gives them.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// How many callers may wait, after the system's cap, where it's known.
    pub(crate) fn backlog(&self) -> Option<u32> {
        self.backlog
    }

    /// Takes the next caller.
    ///
    /// # Errors
    /// `WouldBlock` when there's none; else as the system gives them.
    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.socket.accept()?;
        if let Some(options) = &self.options {
            open::set_accepted(&stream, options)?;
        }
        // A v4 caller on a dual-stack listener is a v4 caller, in limits and in logs.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok((TcpStream(stream), peer))
    }
}

/// Starts to connect.
///
/// # Errors
/// As the system gives them. That the handshake is only under way is none.
pub(crate) fn dial(options: &ConnectOptions) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(open::dialed(options)?);
    Ok(TcpStream(mio::net::TcpStream::from_std(stream)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn pair() -> (TcpListener, TcpStream, std::net::TcpStream) {
        let options = ListenOptions::new((Ipv4Addr::LOCALHOST, 0).into());
        let listener = TcpListener::listen(&options).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        (listener, stream, client)
    }

    #[test]
    fn an_accepted_connection_has_nodelay() {
        let (_, stream, _client) = pair();
        assert!(stream.0.nodelay().unwrap());
    }

    #[test]
    fn a_gathered_write_arrives_in_order() {
        let (_, mut stream, mut client) = pair();
        assert_eq!(stream.write_two(b"first ", b"second").unwrap(), 12);
        let mut got = [0; 12];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"first second");
    }

    #[test]
    fn a_reset_on_close_is_a_reset_at_the_peer() {
        let (_, mut stream, mut client) = pair();
        stream.reset_on_close().unwrap();
        drop(stream);
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[cfg(all(not(debug_assertions), not(mio_unsupported_force_poll_poll)))]
    #[test]
    fn a_stream_is_as_small_as_its_descriptor() {
        assert_eq!(size_of::<TcpStream>(), 4);
        assert_eq!(size_of::<Option<TcpStream>>(), 4);
    }
}
