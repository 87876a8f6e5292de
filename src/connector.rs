//! How a dial went.

use std::io;
use std::net::SocketAddr;

use crate::net::TcpStream;

/// What must be asked of a socket whose handshake is under way.
pub(crate) trait Dialed {
    /// Takes the socket's stored error.
    ///
    /// # Errors
    /// When the socket can't be asked.
    fn take_error(&self) -> io::Result<Option<io::Error>>;

    /// Whom it's connected to.
    ///
    /// # Errors
    /// `NotConnected` while the handshake is under way.
    fn peer_addr(&self) -> io::Result<SocketAddr>;
}

impl Dialed for TcpStream {
    fn take_error(&self) -> io::Result<Option<io::Error>> {
        TcpStream::take_error(self)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::peer_addr(self)
    }
}

/// Whether the handshake is done; false: it's still under way, whatever made us ask.
///
/// "Writable" alone shows nothing: a refused socket is writable too, and an event may be spurious. So the stored error is asked
/// for first, and then the peer's address, as mio's documentation of `TcpStream::connect` advises.
///
/// # Errors
/// What the handshake failed with.
pub(crate) fn outcome(stream: &impl Dialed) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return if is_under_way(&error) {
            Ok(false)
        } else {
            Err(error)
        };
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if is_under_way(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
        || error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::errno::Errno;

    use super::*;

    /// The stored error, and what asking for the peer gives (`None`: an address).
    struct Script(Option<Errno>, Option<Errno>);

    impl Dialed for Script {
        fn take_error(&self) -> io::Result<Option<io::Error>> {
            Ok(self.0.map(io::Error::from))
        }

        fn peer_addr(&self) -> io::Result<SocketAddr> {
            match self.1 {
                Some(errno) => Err(errno.into()),
                None => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))),
            }
        }
    }

    #[test]
    fn a_dial_is_done_when_there_is_no_error_and_a_peer() {
        assert!(matches!(outcome(&Script(None, None)), Ok(true)));
    }

    #[test]
    fn a_spurious_event_leaves_a_dial_under_way() {
        assert!(matches!(
            outcome(&Script(None, Some(Errno::ENOTCONN))),
            Ok(false)
        ));
        assert!(matches!(
            outcome(&Script(None, Some(Errno::EINPROGRESS))),
            Ok(false)
        ));
        assert!(matches!(
            outcome(&Script(Some(Errno::EINPROGRESS), None)),
            Ok(false)
        ));
    }

    #[test]
    fn a_refused_dial_says_so_though_it_is_writable() {
        let error = outcome(&Script(Some(Errno::ECONNREFUSED), Some(Errno::ENOTCONN)));
        assert_eq!(
            error.map_err(|e| e.kind()),
            Err(io::ErrorKind::ConnectionRefused)
        );
    }
}
