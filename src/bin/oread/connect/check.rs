//! `oread connect` as checked: what is meant, with defaults filled in and nothing in it that does
//! not go together.

use std::num::NonZeroU32;
use std::time::Duration;

use oread::Framing;

use super::args;
use crate::failure::Failure;
use crate::values::address::{HostPort, Remote};
use crate::values::framing::max_frame;
use crate::values::verbosity::Verbosity;

/// `oread connect`, checked.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    /// Where to; its addresses are tried in turn.
    pub(crate) address: Remote,
    /// Datagrams, not a stream.
    pub(crate) udp: bool,
    /// How what comes back is cut into frames.
    pub(crate) framing: Framing,
    /// The longest frame either way, in bytes, its prefix not counted.
    pub(crate) max_frame: NonZeroU32,
    /// Where from.
    pub(crate) bind: Option<HostPort>,
    /// How long connecting may take, and at the end of the input how long nothing may come.
    pub(crate) timeout: Option<Duration>,
    /// UDP: how long to wait for replies after the end of the input; zero is not at all.
    pub(crate) wait: Duration,
    /// How much is said.
    pub(crate) verbosity: Verbosity,
}

impl TryFrom<args::Connect> for Connect {
    type Error = Failure;

    /// # Errors
    /// Exit code 2: what does not go together.
    fn try_from(typed: args::Connect) -> Result<Connect, Failure> {
        let to = match &typed.address {
            Remote::Inet(address) => address.numeric(),
            Remote::Unix(address) if typed.udp || typed.bind.is_some() => {
                return Err(Failure::usage(format!(
                    "can't connect to {address} with --udp or --bind: a Unix socket has no ports"
                )));
            }
            Remote::Unix(_) => None,
        };
        let from = typed.bind.as_ref().and_then(HostPort::numeric);
        if let (Some(to), Some(from)) = (to, from)
            && to.is_ipv4() != from.is_ipv4()
        {
            return Err(Failure::usage(format!(
                "can't connect from {from} to {to}: one is IPv4 and one is IPv6"
            ))
            .hint("give --bind an address of the same family"));
        }
        Ok(Connect {
            address: typed.address,
            udp: typed.udp,
            framing: typed.framing,
            max_frame: max_frame(typed.framing, typed.max_frame)?,
            bind: typed.bind,
            timeout: typed.timeout,
            wait: typed.wait,
            verbosity: Verbosity::from(&typed.verbosity),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::commands::{Args, Command};

    fn connect(arguments: &str) -> Result<Connect, Failure> {
        match Args::try_parse_from(format!("oread connect {arguments}").split_whitespace())
            .unwrap()
            .command
        {
            Command::Connect(typed) => Connect::try_from(typed),
            _ => panic!("not connect"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let connect = connect("").unwrap();
        let address = connect.address.resolve().unwrap();
        assert_eq!(address, [([127, 0, 0, 1], 9999).into()]);
        assert_eq!((connect.timeout, connect.wait.as_secs()), (None, 1));
    }

    #[test]
    fn a_target_of_a_load_over_tcp_is_taken() {
        for target in ["tcp://127.0.0.1:9", "TCP://127.0.0.1:9/"] {
            let connect = connect(target).unwrap();
            assert_eq!(connect.address.to_string(), "127.0.0.1:9");
        }
    }

    #[test]
    fn a_client_needs_one_family() {
        assert!(
            connect("127.0.0.1:9 --bind [::1]:0")
                .unwrap_err()
                .to_string()
                .contains("IPv6")
        );
        assert!(connect("127.0.0.1:9 --udp --bind 127.0.0.1:8090").is_ok());
    }
}
