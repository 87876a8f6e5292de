//! Where an end of a stream is: at an IP address and a port, or at a Unix socket.

use std::ffi::OsStr;
use std::fmt;
use std::net::{AddrParseError, IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt as _;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::escape::{Escaped, unescape};

/// Where a listener listens, or an end of a connection is.
///
/// The text that it's shown as makes the same one again (but for the flow of an IPv6 address, which
/// isn't shown): `127.0.0.1:7`, `[::1]:7`, `unix:/run/x.sock`, `unix:@name` for an abstract name.
/// Names are [`Escaped`] there: a backslash is `\\`, and one that begins no escape is taken as it
/// is.
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
    /// A Unix socket.
    Unix(UnixName),
}

/// What a Unix socket is called: by a path, by an abstract name (Linux and Android), or not at all,
/// as most that dial.
///
/// An abstract name is in no file system and gone with its socket. Anybody on this machine may use
/// it, whatever their user: [`Credentials`](crate::Credentials) tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixName(Arc<OsStr>);

impl UnixName {
    /// The path; `None` of an abstract name, and of none.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self.as_bytes() {
            [] | [0, ..] => None,
            _ => Some(Path::new(&*self.0)),
        }
    }

    /// The abstract name, which may be any bytes; `None` of a path. A socket without a name has
    /// neither.
    #[must_use]
    pub fn abstract_name(&self) -> Option<&[u8]> {
        self.as_bytes().strip_prefix(b"\0")
    }

    /// A path; a zero byte and an abstract name; or nothing.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Address {
    /// A Unix socket at a path, or with an abstract name behind a zero byte, or without a name.
    /// Systems take about a hundred bytes (Linux 107); more are `ENAMETOOLONG` where they are used.
    #[must_use]
    pub fn unix(name: impl AsRef<OsStr>) -> Address {
        Address::Unix(UnixName(name.as_ref().into()))
    }

    /// As [`Address::unix`].
    pub(crate) fn of_bytes(name: &[u8]) -> Address {
        Address::unix(OsStr::from_bytes(name))
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

macro_rules! of_ip {
    ($($ip:ty),*) => {$(
        impl From<$ip> for Address {
            fn from(address: $ip) -> Address {
                Address::Ip(address.into())
            }
        }
    )*};
}

of_ip!(SocketAddr, SocketAddrV4, SocketAddrV6);

/// An IP address and a port.
impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from(address: (I, u16)) -> Address {
        Address::Ip(address.into())
    }
}

/// A Unix socket at this path.
impl From<&Path> for Address {
    fn from(path: &Path) -> Address {
        Address::unix(path)
    }
}

impl From<UnixAddr> for Address {
    fn from(address: UnixAddr) -> Address {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = address.as_abstract_name() {
            return Address::of_bytes(&[b"\0", name].concat());
        }
        Address::unix(address.as_pathname().unwrap_or(Path::new("")))
    }
}

impl FromStr for Address {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Address, AddrParseError> {
        let Some(name) = text.strip_prefix("unix:") else {
            return text.parse().map(Address::Ip);
        };
        let bytes = match name.strip_prefix('@') {
            Some(name) => [b"\0", &*unescape(name)].concat(),
            None => unescape(name),
        };
        Ok(Address::of_bytes(&bytes))
    }
}

/// As above; what a peer calls its socket is [`Escaped`]. A path that begins with `@` does so as
/// `\x40`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Address::Ip(address) => return address.fmt(f),
            Address::Unix(name) => name.as_bytes(),
        };
        let (start, rest) = match name {
            [0, rest @ ..] => ("@", rest),
            [b'@', rest @ ..] => (r"\x40", rest),
            path => ("", path),
        };
        write!(f, "unix:{start}{}", Escaped::new(rest))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

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
        assert_eq!(Address::unix("@x").to_string(), r"unix:\x40x");
        assert_eq!(r"unix:C:\q".parse(), Ok(Address::unix(r"C:\q")));
    }

    /// Names of each kind, and what looks like one of another kind.
    fn any_name() -> impl Strategy<Value = Vec<u8>> {
        static STARTS: [&str; 8] = ["", "@", "\0", "\0@", "./@", "\\x40", "\\", "/run/"];
        let start = proptest::sample::select(&STARTS[..]);
        (start, any::<String>(), vec(any::<u8>(), 0..8))
            .prop_map(|(start, text, bytes)| [start.as_bytes(), text.as_bytes(), &bytes].concat())
    }

    proptest! {
        #[test]
        fn what_any_address_is_shown_as_is_that_address(
            name in any_name(),
            ip in any::<IpAddr>(),
            port in any::<u16>(),
            scope in any::<u32>(),
        ) {
            let mut ip = SocketAddr::new(ip, port);
            if let SocketAddr::V6(v6) = &mut ip {
                v6.set_scope_id(scope);
            }
            let unix = Address::of_bytes(&name);
            for address in [unix, ip.into()] {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }

    #[test]
    fn an_address_is_made_of_what_std_has() {
        let v4: SocketAddrV4 = "127.0.0.1:7".parse().unwrap();
        let v6: SocketAddrV6 = "[::1]:7".parse().unwrap();
        assert_eq!(Address::from(v4), Address::from((*v4.ip(), 7)));
        assert_eq!(Address::from(v6), Address::from((*v6.ip(), 7)));
        assert_eq!(Address::from(v4), Address::from(SocketAddr::from(v4)));
        assert_eq!(Address::from(v4), Address::from(([127, 0, 0, 1], 7)));
        let path = Path::new("/run/x.sock");
        let at_path = UnixAddr::from_pathname(path).unwrap();
        assert_eq!(Address::from(at_path), Address::from(path));
        let unnamed = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert_eq!(
            Address::from(unnamed.local_addr().unwrap()),
            Address::unix("")
        );
    }

    #[test]
    fn a_unix_name_is_a_path_or_an_abstract_name_or_neither() {
        let of = |name: &str| match Address::unix(name) {
            Address::Unix(name) => name,
            Address::Ip(_) => unreachable!(),
        };
        let (path, name, none) = (of("@x"), of("\0x"), of(""));
        assert_eq!(
            (path.path(), path.abstract_name()),
            (Some(Path::new("@x")), None)
        );
        assert_eq!((name.path(), name.abstract_name()), (None, Some(&b"x"[..])));
        assert_eq!((none.path(), none.abstract_name()), (None, None));
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let std = UnixAddr::from_abstract_name(b"x").unwrap();
            assert_eq!(Address::from(std), Address::Unix(name));
        }
    }

    #[test]
    fn what_acts_on_a_terminal_is_not_shown_as_it_is() {
        let (path, name) = (Address::unix("x\x1b[2J"), Address::unix("\0x\n"));
        assert_eq!(format!("{path} {name}"), r"unix:x\x1b[2J unix:@x\n");
    }
}
