//! Where an end of a stream is: at an IP address and a port, or at a Unix socket.

use std::ffi::OsStr;
use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;
use std::sync::Arc;

use crate::escape::Escaped;

/// Where a listener listens, or an end of a connection is.
///
/// Whatever makes a [`SocketAddr`] makes one of these, and so does the text that it's shown as:
/// `127.0.0.1:7`, `[::1]:7`, `unix:/run/x.sock`, `unix:@name` for an abstract name.
///
/// ```
/// use oread::Address;
///
/// let at: Address = "unix:/run/x.sock".parse()?;
/// assert_eq!(at, Address::unix("/run/x.sock"));
/// assert_eq!(Address::from(([127, 0, 0, 1], 7)).to_string(), "127.0.0.1:7");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a TCP port.
    Ip(SocketAddr),
    /// A Unix socket, by what the system calls it: a path; a zero byte and an abstract name, on
    /// Linux and Android; or nothing, as most that dial are called.
    ///
    /// An abstract name is in no file system and gone with its socket. Anybody on this machine may
    /// use it, whatever their user: [`Credentials`](crate::Credentials) tell.
    Unix(Arc<OsStr>),
}

impl Address {
    /// A Unix socket at a path, or with an abstract name behind a zero byte. Systems take about a
    /// hundred bytes (Linux 107); more are `ENAMETOOLONG` where they are used.
    #[must_use]
    pub fn unix(name: impl AsRef<OsStr>) -> Address {
        Address::Unix(name.as_ref().into())
    }

    /// The IP address and the port; `None` of a Unix socket.
    #[must_use]
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl<T: Into<SocketAddr>> From<T> for Address {
    fn from(address: T) -> Address {
        Address::Ip(address.into())
    }
}

impl FromStr for Address {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Address, AddrParseError> {
        match text.strip_prefix("unix:") {
            Some(name) if name.starts_with('@') => Ok(Address::unix(name.replacen('@', "\0", 1))),
            Some(path) => Ok(Address::unix(path)),
            None => text.parse().map(Address::Ip),
        }
    }
}

/// As above; what a peer calls its socket is [`Escaped`].
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(name) => match name.as_bytes() {
                [0, name @ ..] => write!(f, "unix:@{}", Escaped::new(name)),
                path => write!(f, "unix:{}", Escaped::new(path)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_larger_than_one_of_ip() {
        assert_eq!(size_of::<Address>(), size_of::<SocketAddr>());
        assert_eq!(size_of::<Option<Address>>(), size_of::<SocketAddr>());
    }

    #[test]
    fn an_address_is_read_from_what_it_is_shown_as() {
        for text in [
            "127.0.0.1:7",
            "[::1]:7",
            "unix:/run/x.sock",
            "unix:./@x",
            "unix:@name",
            "unix:@na@me",
            "unix:@",
            "unix:",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.socket_addr().is_none(), text.starts_with("unix"));
        }
        assert!("/run/x.sock".parse::<Address>().is_err());
        assert_eq!("unix:@x".parse(), Ok(Address::unix("\0x")));
    }

    #[test]
    fn what_acts_on_a_terminal_is_not_shown_as_it_is() {
        let (path, name) = (Address::unix("x\x1b[2J"), Address::unix("\0x\n"));
        assert_eq!(format!("{path} {name}"), r"unix:x\x1b[2J unix:@x\n");
    }
}
