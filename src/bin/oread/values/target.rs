//! A target as typed: a transport and an address.

#[cfg(test)]
mod fuzz;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use oread::Address;

use crate::failure::Failure;
use crate::values::address::{HostPort, Remote};

/// How bytes get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Streams.
    Tcp,
    /// Streams over TCP, sealed.
    Tls,
    /// Datagrams.
    Udp,
    /// Streams of a Unix socket.
    Unix,
}

impl Transport {
    /// What carries it: TLS is carried by TCP, and all others by themselves.
    pub(crate) fn carrier(self) -> Transport {
        match self {
            Transport::Tls => Transport::Tcp,
            other => other,
        }
    }
}

/// What is loaded: `HOST:PORT`, `tcp://HOST:PORT`, `tls://HOST:PORT`, `udp://HOST:PORT` or
/// `unix:PATH`. Port 0 is none to connect to, and refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target<A = Remote> {
    /// TCP where nothing is said.
    pub(crate) transport: Transport,
    /// Where; a name stands for the first of its addresses that the system prefers.
    pub(crate) address: A,
}

impl Target {
    /// Whether it takes datagrams.
    pub(crate) fn is_udp(&self) -> bool {
        self.transport == Transport::Udp
    }
}

/// A target with the address that it stands for.
pub(crate) type Resolved = Target<Address>;

impl Resolved {
    /// One over TCP.
    pub(crate) fn tcp(address: SocketAddr) -> Resolved {
        Target {
            transport: Transport::Tcp,
            address: address.into(),
        }
    }
}

impl<A: fmt::Display> fmt::Display for Target<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Unix => self.address.fmt(f),
            Transport::Tcp => write!(f, "tcp://{}", self.address),
            Transport::Tls => write!(f, "tls://{}", self.address),
            Transport::Udp => write!(f, "udp://{}", self.address),
        }
    }
}

/// The addresses of all targets: of each name the one that the system prefers.
///
/// # Errors
/// Exit code 1: a name does not resolve.
pub(crate) fn resolve(targets: &[Target]) -> Result<Vec<Resolved>, Failure> {
    let mut all = Vec::new();
    for target in targets {
        let transport = target.transport;
        // There is one at least.
        let first = target.address.resolve()?.into_iter().next();
        all.extend(first.map(|address| Resolved { transport, address }));
    }
    Ok(all)
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let of = |transport, address| Target { transport, address };
        if text.starts_with("unix:") {
            return Remote::parse(text).map(|address| of(Transport::Unix, address));
        }
        let (scheme, address) = text.split_once("://").unwrap_or(("tcp", text));
        let transport = match scheme.to_ascii_lowercase().as_str() {
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            "udp" => Transport::Udp,
            _ => {
                let other = scheme.escape_debug();
                return Err(format!(
                    "scheme \"{other}\" is not known; write tcp://, tls:// or udp://, or unix:PATH"
                ));
            }
        };
        if let Some((scheme @ ("tcp" | "tls" | "udp"), rest)) = text.split_once(':')
            && HostPort::remote(rest).is_ok_and(|address| address.port() > 0)
        {
            return Err(format!("write {scheme}://{rest}"));
        }
        let address = HostPort::remote(address.trim_end_matches('/'))?;
        if address.port() == 0 {
            return Err("nothing listens on port 0; write the port that the server printed".into());
        }
        Ok(of(transport, Remote::Inet(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_tcp_unless_it_says_udp() {
        for (text, shown) in [
            ("127.0.0.1:9", "tcp://127.0.0.1:9"),
            ("tcp://[::1]:9", "tcp://[::1]:9"),
            ("udp://localhost:9/", "udp://localhost:9"),
            ("tls://localhost:9", "tls://localhost:9"),
            ("UDP://localhost:9", "udp://localhost:9"),
            ("udp:9", "tcp://udp:9"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:@x", "unix:@x"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_a_reason() {
        for (text, reason) in [
            ("http://localhost:80", "scheme \"http\" is not known"),
            ("localhost:0", "port 0"),
            ("localhost", "port"),
            ("localhost:65536", "from 1 to 65535"),
            ("tcp:localhost:9", "write tcp://localhost:9"),
            ("udp:[::1]:9", "write udp://[::1]:9"),
            ("a:1,b:2", "with spaces between"),
            ("udp://a:1,udp://b:2", "with spaces between"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
