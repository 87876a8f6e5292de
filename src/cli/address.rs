//! `host:port` as typed, and the addresses it stands for.
//!
//! Whether the text is an address at all is known at once, and wrong text is a usage error. Whether
//! a name stands for anything is known only when it is resolved; that it does not is a failure of
//! the moment.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use super::failure::{Failure, Reason};

/// A host and a port: a numeric address, or a name that is yet to be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPort {
    /// `127.0.0.1:9999` or `[::1]:9999`.
    Numeric(SocketAddr),
    /// `localhost:9999`.
    Name {
        /// The name, without the port.
        host: String,
        /// The port; 0 for any that is free.
        port: u16,
    },
}

impl HostPort {
    /// The port; 0 for any that is free.
    pub(crate) fn port(&self) -> u16 {
        match self {
            HostPort::Numeric(address) => address.port(),
            HostPort::Name { port, .. } => *port,
        }
    }

    /// The address, where it needs no resolving.
    pub(crate) fn numeric(&self) -> Option<SocketAddr> {
        match self {
            HostPort::Numeric(address) => Some(*address),
            HostPort::Name { .. } => None,
        }
    }

    /// All addresses that it stands for, in the resolver's order of preference, each once; at least
    /// one. A server binds all of them; a client tries one after the other. It may block for as
    /// long as the system's resolver does.
    ///
    /// # Errors
    /// Exit code 1: the name does not resolve.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = match self {
            HostPort::Numeric(address) => return Ok(vec![*address]),
            HostPort::Name { host, port } => (host.as_str(), *port),
        };
        // The system gives an address once for each socket type.
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in (host, port)
            .to_socket_addrs()
            .map_err(|error| unresolved(host, port, &error))?
        {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(unresolved(
                host,
                port,
                &io::Error::other("it has no address"),
            ));
        }
        Ok(addresses)
    }
}

/// The failure to resolve `host`.
fn unresolved(host: &str, port: u16, error: &io::Error) -> Failure {
    let reason = Reason(error).to_string();
    // What std puts in front of the resolver's own words.
    let reason = reason
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&reason);
    Failure::runtime(format!(
        "can't resolve the name {host} (of {host}:{port}): {reason}"
    ))
    .hint(format!(
        "check its spelling, or write the address itself, as in 127.0.0.1:{port}"
    ))
}

impl FromStr for HostPort {
    type Err = String;

    /// # Errors
    /// Words on what is wrong with the text, and how to write it with the port 9999.
    fn from_str(text: &str) -> Result<HostPort, String> {
        HostPort::parse(text, 9999, 0)
    }
}

impl HostPort {
    /// An address to connect from: where the port is missing, 0 is proposed, which is any that is free.
    ///
    /// # Errors
    /// As [`HostPort::from_str`].
    pub(crate) fn local(text: &str) -> Result<HostPort, String> {
        HostPort::parse(text, 0, 0)
    }

    /// An address to connect to. Port 0 is taken here and refused by who asks, in words of its own.
    ///
    /// # Errors
    /// As [`HostPort::from_str`], but that ports are said to begin at 1.
    pub(crate) fn remote(text: &str) -> Result<HostPort, String> {
        HostPort::parse(text, 9999, 1)
    }

    /// # Errors
    /// Words on what is wrong with the text, and how to write it, with the port `example` where there is none, and ports from
    /// `least` on.
    fn parse(text: &str, example: u16, least: u16) -> Result<HostPort, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(HostPort::Numeric(address));
        }
        if let Some(why) = nearly(text, example) {
            return Err(why);
        }
        let no_address = || format!("not an address; write host:port, as in 127.0.0.1:{example}");
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(match text.parse::<u16>() {
                Ok(port) => format!("the host is missing; write 127.0.0.1:{port}"),
                Err(_) if is_name(text) => format!("the port is missing; write {text}:{example}"),
                Err(_) => no_address(),
            });
        };
        if host.is_empty() {
            // Who connects can't mean all addresses.
            let all = match least {
                0 => format!(", or 0.0.0.0{text} for all addresses"),
                _ => String::new(),
            };
            return Err(format!("the host is missing; write 127.0.0.1{text}{all}"));
        }
        let Some(port) = port_number(port) else {
            return Err(format!("the port must be a number from {least} to 65535"));
        };
        // The resolver knows interfaces by name, as in [fe80::1%eth0]:9999.
        if let Some(inner) = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            return match inner.split_once('%') {
                Some((ip, zone)) if ip.parse::<Ipv6Addr>().is_ok() && is_name(zone) => {
                    Ok(HostPort::Name {
                        host: inner.to_owned(),
                        port,
                    })
                }
                _ => Err("what is in the brackets is not an IPv6 address".to_owned()),
            };
        }
        if host.contains(':')
            && host
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        {
            return Err(format!("an IPv6 address goes in brackets: [::1]:{example}"));
        }
        if host
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
            && host.parse::<Ipv4Addr>().is_err()
        {
            return Err(format!(
                "{host} is not an IPv4 address: it has four numbers from 0 to 255"
            ));
        }
        if !is_name(host) {
            return Err(no_address());
        }
        Ok(HostPort::Name {
            host: host.to_owned(),
            port,
        })
    }
}

/// What is wrong with text that would be an address but for its form.
fn nearly(text: &str, example: u16) -> Option<String> {
    if text.trim() != text {
        return Some("there is a space before or behind it".to_owned());
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let plain = rest.split('/').next().unwrap_or(rest);
        let how = match plain.parse::<HostPort>() {
            Ok(address) => format!("write {address}"),
            Err(_) => format!("write host:port, as in 127.0.0.1:{example}"),
        };
        return Some(format!(
            "not an address, but a URL of the scheme {scheme}; {how}"
        ));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<Ipv6Addr>().ok()?;
    let wants = "an IPv6 address goes in brackets, with a port behind:";
    // Its last group may be a port that somebody meant.
    let meant = text
        .rsplit_once(':')
        .filter(|&(host, port)| host.parse::<Ipv6Addr>().is_ok() && port_number(port).is_some());
    Some(match meant {
        Some((host, port)) => format!("{wants} [{host}]:{port}, or [{text}]:{example}"),
        None => format!("{wants} [{bare}]:{example}"),
    })
}

/// A port of digits alone: `u16::from_str` would take a sign too.
fn port_number(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// Whether `text` may be a host's name: what RFC 1123 allows, and the underscore that is in use all
/// the same.
fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        && !text.starts_with(['-', '.'])
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPort::Numeric(address) => address.fmt(f),
            HostPort::Name { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            HostPort::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart_and_print_as_typed() {
        for text in ["127.0.0.1:0", "0.0.0.0:65535", "[::1]:9999", "[::]:7"] {
            let parsed: HostPort = text.parse().unwrap();
            assert!(parsed.numeric().is_some(), "{text}");
            assert_eq!(parsed.to_string(), text);
        }
        for text in [
            "localhost:9999",
            "my_host.example:1",
            "xn--bcher-kva.example:80",
            "[fe80::1%eth0]:9999",
        ] {
            let parsed: HostPort = text.parse().unwrap();
            assert!(parsed.numeric().is_none(), "{text}");
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn text_that_is_no_address_is_refused_with_how_to_write_it() {
        for (text, words) in [
            ("", "not an address"),
            ("localhost", "localhost:9999"),
            ("9999", "127.0.0.1:9999"),
            (":9999", "127.0.0.1:9999"),
            ("127.0.0.1", "port is missing"),
            ("127.0.0.1:", "port must be a number"),
            ("127.0.0.1:65536", "port must be a number"),
            ("127.0.0.1:+80", "port must be a number"),
            ("127.0.0.1:http", "port must be a number"),
            ("256.0.0.1:80", "not an IPv4 address"),
            ("1.2.3:80", "not an IPv4 address"),
            ("::1", "[::1]:9999"),
            ("[::1]", "[::1]:9999"),
            ("::1:9999", "[::1]:9999, or [::1:9999]:9999"),
            ("127.0.0.1:9999 ", "a space"),
            ("2001:db8:::80", "brackets"),
            ("[localhost]:80", "not an IPv6 address"),
            ("http://localhost:80", "write localhost:80"),
            ("http://127.0.0.1:9999/", "write 127.0.0.1:9999"),
            ("http://localhost/", "not an address, but a URL"),
            ("a host:80", "not an address"),
            ("host\u{1b}[2J:80", "not an address"),
            ("-v:80", "not an address"),
        ] {
            let refused = text.parse::<HostPort>().unwrap_err();
            assert!(refused.contains(words), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_port_to_connect_to_is_from_1_on_and_one_to_bind_from_0_on() {
        let remote = HostPort::remote("localhost:http").unwrap_err();
        assert!(remote.ends_with("from 1 to 65535"), "{remote}");
        let local = HostPort::local("localhost:http").unwrap_err();
        assert!(local.ends_with("from 0 to 65535"), "{local}");
        assert_eq!(HostPort::remote("[::1]:9"), "[::1]:9".parse());
    }

    #[test]
    fn a_name_resolves_to_each_of_its_addresses_once() {
        let addresses = "localhost:9999"
            .parse::<HostPort>()
            .unwrap()
            .resolve()
            .unwrap();
        assert!(
            addresses
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 9999)
        );
        for (index, address) in addresses.iter().enumerate() {
            assert!(!addresses[..index].contains(address), "{addresses:?}");
        }
    }

    #[test]
    fn a_name_that_does_not_resolve_is_named_in_a_failure_of_run_time() {
        // RFC 6761: .invalid never resolves.
        let failure = "nosuch.invalid:9999"
            .parse::<HostPort>()
            .unwrap()
            .resolve()
            .unwrap_err();
        let text = failure.to_string();
        assert_eq!(failure.code(), 1);
        assert!(
            text.starts_with("can't resolve the name nosuch.invalid") && text.contains("tip:"),
            "{text}"
        );
    }
}
