//! `host:port` as typed, and the addresses it stands for.
//!
//! Whether the text is an address at all is known at once, and wrong text is a usage error. Whether
//! a name stands for anything is known only when it is resolved; that it does not is a failure of
//! the moment.

#[cfg(test)]
pub(crate) mod fuzz;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use oread::Address;

use crate::failure::{Failure, Reason};

/// Where a server listens and a client connects when no address is given.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:9999";

/// What clap takes for the value of a bare `--tcp` or `--udp`: nobody can type it, no argument
/// holds a NUL.
pub(crate) const BARE: &str = "\0";

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

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    /// A host and a port.
    Inet(HostPort),
    /// `unix:/run/x.sock`, or `unix:@name`.
    Unix(Address),
}

impl Remote {
    /// # Errors
    /// As [`HostPort::remote`].
    pub(crate) fn parse(text: &str) -> Result<Remote, String> {
        match text.starts_with("unix:") {
            // As the server shows it, escapes and all.
            true => unix(text).map(|typed| Remote::Unix(text.parse().unwrap_or(typed))),
            false => HostPort::remote(text).map(Remote::Inet),
        }
    }

    /// All addresses that it stands for: see [`HostPort::resolve`].
    ///
    /// # Errors
    /// As [`HostPort::resolve`].
    pub(crate) fn resolve(&self) -> Result<Vec<Address>, Failure> {
        match self {
            Remote::Inet(typed) => Ok(typed.resolve()?.into_iter().map(Address::from).collect()),
            Remote::Unix(address) => Ok(vec![address.clone()]),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Inet(typed) => typed.fmt(f),
            Remote::Unix(address) => address.fmt(f),
        }
    }
}

/// A Unix socket by its path, or by an abstract name behind `@`; with or without `unix:` before it.
///
/// # Errors
/// Words on what is wrong with it.
pub(crate) fn unix(text: &str) -> Result<Address, String> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.is_empty() || path == "@" {
        return Err("a Unix socket has a path, as in /run/x.sock, or a name, as in @x".to_owned());
    }
    Ok(match path.strip_prefix('@') {
        Some(name) => Address::unix(format!("\0{name}")),
        None => Address::unix(path),
    })
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
        if text.starts_with("unix:") {
            return Err("a Unix socket has an option of its own: --unix PATH".to_owned());
        }
        HostPort::parse(text, 9999, 0)
    }
}

impl HostPort {
    /// An address to connect from: where the port is missing, 0 is proposed, which is any that is
    /// free.
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
        HostPort::parse(text, 9999, 1).map_err(|why| match text.starts_with(['/', '.']) {
            true => format!(
                "not host:port; a Unix socket is written unix:{}",
                text.escape_debug()
            ),
            false => why,
        })
    }

    /// # Errors
    /// Words on what is wrong with the text, and how to write it, with the port `example` where
    /// there is none, and ports from `least` on.
    fn parse(text: &str, example: u16, least: u16) -> Result<HostPort, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(HostPort::Numeric(address));
        }
        if let Some(why) = nearly(text, example, least) {
            return Err(why);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(without_colon(text, example, least));
        };
        let Some(port) = port_number(port) else {
            return Err(format!("the port must be a number from {least} to 65535"));
        };
        if host.is_empty() {
            let proposed = if port < least { example } else { port };
            // Who connects can't mean all addresses.
            let all = match least {
                0 => format!(", or 0.0.0.0:{proposed} for all addresses"),
                _ => String::new(),
            };
            return Err(format!(
                "the host is missing; write 127.0.0.1:{proposed}{all}"
            ));
        }
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
        check_host(host, example)?;
        Ok(HostPort::Name {
            host: host.to_owned(),
            port,
        })
    }
}

/// What is wrong with text that has no colon: a host or a port alone, or neither.
fn without_colon(text: &str, example: u16, least: u16) -> String {
    if let Some(port) = port_number(text) {
        let port = if port < least { example } else { port };
        return format!("the host is missing; write 127.0.0.1:{port}");
    }
    match check_host(text, example) {
        Ok(()) => format!("the port is missing; write {text}:{example}"),
        Err(why) => why,
    }
}

/// Whether `host`, which is not in brackets, is an IPv4 address or may be a name.
///
/// # Errors
/// Words on what is wrong with it.
fn check_host(host: &str, example: u16) -> Result<(), String> {
    let is_of = |more: &[u8], is_digit: fn(&u8) -> bool| {
        host.bytes()
            .all(|byte| is_digit(&byte) || more.contains(&byte))
    };
    if host.contains(':') && is_of(b":", u8::is_ascii_hexdigit) {
        return Err(format!("an IPv6 address goes in brackets: [::1]:{example}"));
    }
    if !host.is_empty() && is_of(b".", u8::is_ascii_digit) && host.parse::<Ipv4Addr>().is_err() {
        return Err(format!(
            "{host} is not an IPv4 address: it has four numbers from 0 to 255"
        ));
    }
    if !is_name(host) {
        return Err(format!(
            "not an address; write host:port, as in 127.0.0.1:{example}"
        ));
    }
    Ok(())
}

/// What is wrong with text that would be an address but for its form.
fn nearly(text: &str, example: u16, least: u16) -> Option<String> {
    if text.trim() != text {
        return Some("there is a space before or behind it".to_owned());
    }
    if text.contains(',') {
        return Some("addresses are written with spaces between them, not commas".to_owned());
    }
    if text.starts_with("unix:") {
        return Some("an address of TCP or UDP is wanted, not a Unix socket".to_owned());
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let plain = rest.split('/').next().unwrap_or(rest);
        let how = match plain.parse::<HostPort>() {
            Ok(address) if address.port() >= least => format!("write {address}"),
            _ => format!("write host:port, as in 127.0.0.1:{example}"),
        };
        return Some(format!(
            "not an address, but a URL of the scheme {}; {how}",
            scheme.escape_debug()
        ));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<Ipv6Addr>().ok()?;
    let wants = "an IPv6 address goes in brackets, with a port behind:";
    // Its last group may be a port that somebody meant.
    let meant = text
        .rsplit_once(':')
        .filter(|&(host, _)| host.parse::<Ipv6Addr>().is_ok())
        .filter(|&(_, port)| port_number(port).is_some_and(|port| port >= least));
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

/// Whether `text` may be a host's name: labels of 1 to 63 characters with dots between them (RFC
/// 1035, 2.3.4), and perhaps one behind; what RFC 1123 allows in them, and the underscore that is
/// in use all the same.
fn is_name(text: &str) -> bool {
    let whole = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= 253 && !text.starts_with('-') && whole.split('.').all(is_label)
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

/// The value of one `--tcp` or `--udp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The option came without an address.
    Bare,
    /// The option came with this one.
    At(HostPort),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        if text == BARE {
            Ok(Place::Bare)
        } else {
            text.parse().map(Place::At)
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
            ("127.0.0.1:1,127.0.0.1:2", "spaces between them, not commas"),
            ("2001:db8:::80", "brackets"),
            ("[localhost]:80", "not an IPv6 address"),
            ("http://localhost:80", "write localhost:80"),
            ("http://127.0.0.1:9999/", "write 127.0.0.1:9999"),
            ("http://localhost/", "not an address, but a URL"),
            ("a host:80", "not an address"),
            ("host\u{1b}[2J:80", "not an address"),
            ("-v:80", "not an address"),
            ("a..b:80", "not an address"),
            (":99999", "port must be a number"),
            (":http", "port must be a number"),
            ("1.2.300", "not an IPv4 address"),
            ("\u{1b}[2J://a:80", "scheme \\u{1b}[2J"),
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
    fn a_label_of_a_name_has_1_to_63_characters() {
        let long = "a".repeat(63);
        for name in ["a.", &long, &format!("{long}.{long}.b")] {
            assert!(format!("{name}:80").parse::<HostPort>().is_ok(), "{name}");
        }
        for name in [".", "a..", ".a", &format!("{long}a"), &format!("b.{long}a")] {
            assert!(format!("{name}:80").parse::<HostPort>().is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_proposed_to_connect_to_has_a_port() {
        for text in [":0", "0", "http://localhost:0", "::1:0"] {
            let said = HostPort::remote(text).unwrap_err();
            let has_none = |word: &str| word.trim_end_matches([',', ';']).ends_with(":0");
            assert!(!said.split(' ').any(has_none), "{text}: {said}");
        }
        assert!(HostPort::local(":0").unwrap_err().contains("127.0.0.1:0"));
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
