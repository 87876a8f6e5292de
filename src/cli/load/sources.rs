//! Local addresses to connect from.

use std::str::FromStr;

use ipnet::IpNet;

/// An address, or all usable addresses of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceRange(pub(crate) IpNet);

impl FromStr for SourceRange {
    type Err = String;

    fn from_str(text: &str) -> Result<SourceRange, String> {
        let network = match text.parse::<std::net::IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| {
                "not an address or a network; write one as in 127.0.0.2 or 10.0.0.0/24".to_owned()
            })?,
        };
        Ok(SourceRange(network))
    }
}
