//! A local address to connect from, or a network of them.

#[cfg(test)]
mod fuzz;

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An address, or all usable addresses of a network: not its first and last, which stand for the
/// network and for all in it (RFC 919), unless there are only two (RFC 3021).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceRange(IpNet);

impl FromStr for SourceRange {
    type Err = String;

    /// Refuses an address with a network's length behind it, which may be meant as either.
    fn from_str(text: &str) -> Result<SourceRange, String> {
        let (plain, is_scoped) = match text.split_once('%') {
            Some((address, _)) if address.parse::<Ipv6Addr>().is_ok() => (address, true),
            _ => (text, false),
        };
        let network = network(plain)
            .ok_or("not an address or a network; write one as in 127.0.0.2 or 10.0.0.0/24")?;
        let (address, whole) = (network.addr(), network.trunc());
        let is_link_local = |ip| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if is_scoped || is_link_local(address) || is_link_local(whole.addr()) {
            return Err(format!(
                "{address} means something only with a scope, as in fe80::1%eth0, and --source takes none; \
                 give another address of this machine"
            ));
        }
        if network != whole {
            return Err(format!(
                "{network} is an address in a network; write {whole} for the network, or {address} \
                 for the address"
            ));
        }
        Ok(SourceRange(network))
    }
}

impl SourceRange {
    pub(crate) fn is_ipv4(&self) -> bool {
        self.0.addr().is_ipv4()
    }

    /// Its usable addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.0.hosts()
    }
}

/// An address, alone or with a network's length behind it. ipnet's own reader takes a zero before
/// an octet, which some take for octal.
fn network(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    // A number's own reader takes a sign.
    let is_plain = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| is_plain)?;
    IpNet::new(address.parse().ok()?, length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "10.0.0.0/33", "host", "1.2.3.4:5", "127.0.0.1%lo"] {
            let refused = text.parse::<SourceRange>().unwrap_err();
            assert!(
                refused.contains("not an address or a network"),
                "{text}: {refused}"
            );
        }
    }

    #[test]
    fn an_address_that_needs_a_scope_is_refused_as_that() {
        for text in ["fe80::1", "fe80::/64", "fe80::1%eth0", "fec0::/9"] {
            let refused = text.parse::<SourceRange>().unwrap_err();
            assert!(refused.contains("only with a scope"), "{text}: {refused}");
        }
        assert!("2001:db8::1".parse::<SourceRange>().is_ok());
    }

    #[test]
    fn a_network_is_taken_only_as_the_network_it_is() {
        for (text, words) in [
            ("10.0.0.0/4", "write 0.0.0.0/4 for the network, or 10.0.0.0"),
            (
                "10.0.0.5/24",
                "write 10.0.0.0/24 for the network, or 10.0.0.5",
            ),
            ("010.0.0.0/24", "not an address or a network"),
            ("10.0.0.0/+24", "not an address or a network"),
            ("2001:db8::1/64", "write 2001:db8::/64"),
        ] {
            let refused = text.parse::<SourceRange>().unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
        for text in ["10.0.0.0/24", "10.0.0.5/32", "10.0.0.5", "::/0"] {
            assert!(text.parse::<SourceRange>().is_ok(), "{text}");
        }
    }
}
