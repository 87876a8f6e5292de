//! `oread serve` as typed: one field an option, each value parsed by itself. The doc comments are
//! the help texts.

use std::convert::Infallible;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use oread::{Address, Framing};

use super::bounds::Bounds;
use crate::system::threads;
use crate::values::address::{BARE, HostPort, Place, unix};
use crate::values::framing::forms;
use crate::values::units::{
    OrNever, Rate, UNITS, count, count_to, duration_or_never, duration_or_zero, size,
    size_under_4gib,
};
use crate::values::verbosity::VerbosityArgs;

const SERVE_NOTES: &str = "\
An ADDR right behind --tcp or --udp belongs to that option: write others in front, or behind --.
  oread serve                          TCP and UDP on 127.0.0.1:9999
  oread serve --tcp 0.0.0.0:7 --udp    TCP on 0.0.0.0:7, UDP on 127.0.0.1:9999
  oread serve localhost:7 --tcp        TCP alone on localhost:7
Sockets that systemd hands over (LISTEN_FDS) are served instead of addresses: TCP, UDP and Unix.
Then it lets nobody in once it is to end, and serves the others as before for half of
--drain-timeout: whoever has the sockets next loses no request.";

/// Answer with what is sent
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{SERVE_NOTES}\n\n{UNITS}"))]
pub(crate) struct Serve {
    /// Address for TCP and UDP, as in 127.0.0.1:9999, [::1]:9999 or localhost:9999; port 0 is any
    /// that is free
    /// [default: 127.0.0.1:9999]
    #[arg(value_name = "ADDR")]
    pub(crate) addresses: Vec<HostPort>,

    /// Only to say what to write in its place.
    #[arg(long, value_name = "PORT", value_parser = no_port, hide = true)]
    pub(crate) port: Option<Infallible>,

    /// Address for TCP alone, may be repeated; without ADDR: the other ADDRs are for TCP alone
    #[arg(
        long,
        value_name = "ADDR",
        num_args = 0..=1,
        default_missing_value = BARE,
        help_heading = "Sockets"
    )]
    pub(crate) tcp: Vec<Place>,

    /// Address for UDP alone, may be repeated; without ADDR: the other ADDRs are for UDP alone. A
    /// datagram from a port below 1024 gets no answer
    #[arg(
        long,
        value_name = "ADDR",
        num_args = 0..=1,
        default_missing_value = BARE,
        help_heading = "Sockets"
    )]
    pub(crate) udp: Vec<Place>,

    /// Unix socket by its path, or by a name behind @; may be repeated. Without any other address
    /// there is no TCP and no UDP
    #[arg(long, value_name = "PATH", value_parser = unix, help_heading = "Sockets")]
    pub(crate) unix: Vec<Address>,

    /// Permissions of Unix sockets' files, in octal, as in 660: who may write may connect. A name
    /// behind @ has no file, and anybody may
    /// [default: what the umask leaves]
    #[arg(
        long,
        value_name = "MODE",
        value_parser = mode,
        requires = "unix",
        help_heading = "Sockets"
    )]
    pub(crate) unix_mode: Option<u32>,

    /// Connections that may wait to be accepted, also at a listener that is handed over; the system
    /// may allow fewer
    #[arg(
        long,
        value_name = "N",
        default_value = "4096",
        value_parser = count_to(i32::MAX.unsigned_abs()),
        help_heading = "Sockets"
    )]
    pub(crate) backlog: NonZeroU32,

    /// Threads, each with its own reactor and an equal share of --max-connections. The system
    /// chooses a caller's thread by a hash: one may be full while another has room
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = count_to(threads::MOST),
        help_heading = "Sockets"
    )]
    pub(crate) threads: NonZeroU32,

    #[arg(long, default_value = "raw", help = forms("What is answered as one piece"), help_heading = "Frames")]
    pub(crate) framing: Framing,

    /// Longest frame that is taken, its prefix not counted; a longer one closes the connection
    /// [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = size_under_4gib, help_heading = "Frames")]
    pub(crate) max_frame: Option<NonZeroU32>,

    /// Connections at a time [default: what the limit of file descriptors allows]
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Limits")]
    pub(crate) max_connections: Option<NonZeroU32>,

    /// Stop reading from a connection once so much of its output is pending [default: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = size_under_4gib, help_heading = "Limits")]
    pub(crate) high_water: Option<NonZeroU32>,

    /// Memory for the pending output and the unfinished frames of all connections together. Stop
    /// reading from a connection that has taken as much of it as is left; each has 4KiB and one
    /// answer of its own
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1GiB",
        value_parser = size,
        help_heading = "Limits"
    )]
    pub(crate) max_pending: NonZeroU64,

    /// On SIGINT or SIGTERM, wait so long for connections to end; a second signal exits at once
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5s",
        value_parser = duration_or_zero,
        help_heading = "Limits"
    )]
    pub(crate) drain_timeout: Duration,

    #[command(flatten)]
    pub(crate) bounds: Bounds,

    /// Allow UDP on addresses that other machines reach; echo over UDP can be abused to flood a
    /// third party
    #[arg(long, help_heading = "UDP")]
    pub(crate) allow_public_udp: bool,

    /// Datagrams answered a second at each address, or off; a tenth of them at once [default: off
    /// on loopback, 10k elsewhere]
    #[arg(long, value_name = "N", help_heading = "UDP")]
    pub(crate) udp_rate: Option<Rate>,

    /// Datagrams answered a second to one source address, or off; a tenth of them at once. With
    /// --threads each has a share of it [default: off on loopback, 100 elsewhere]
    #[arg(long, value_name = "N", help_heading = "UDP")]
    pub(crate) udp_rate_per_source: Option<Rate>,

    /// Datagrams answered a second that repeat an earlier one of the same source, or off; ten
    /// seconds' worth at once. It ends what goes on between two servers that answer each other
    /// [default: 1k, and off with --udp-rate-per-source]
    #[arg(long, value_name = "N", help_heading = "UDP")]
    pub(crate) udp_repeat_rate: Option<Rate>,

    /// Print the counters at this interval
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "never",
        value_parser = duration_or_never,
        help_heading = "Output"
    )]
    pub(crate) stats: OrNever,

    /// Serve the counters to Prometheus at this address, as http://ADDR/metrics, as in
    /// 127.0.0.1:9998. Who reaches it may read them
    #[arg(long, value_name = "ADDR", help_heading = "Output")]
    pub(crate) metrics: Option<HostPort>,

    /// Print events as lines of JSON, not as words
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// Permissions as chmod(1) takes them in octal.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    let mode = mode.filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "permissions are up to three octal digits, as in 660".to_owned())
}

/// Refuses `--port PORT`.
///
/// # Errors
/// Always: the address says its port.
fn no_port(text: &str) -> Result<Infallible, String> {
    Err(format!(
        "write the port behind the address, as in 127.0.0.1:{}",
        text.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::commands::{Args, Command};

    fn serve(arguments: &[&str]) -> Serve {
        let all = ["oread", "serve"].iter().chain(arguments);
        match Args::try_parse_from(all).unwrap().command {
            Command::Serve(serve) => *serve,
            _ => panic!("not serve"),
        }
    }

    #[test]
    fn a_transport_takes_the_address_behind_it_or_none() {
        let at = |text: &str| Place::At(text.parse().unwrap());
        let bare = serve(&["--tcp"]);
        assert_eq!((bare.tcp, bare.udp), (vec![Place::Bare], vec![]));
        let mixed = serve(&["--tcp", "127.0.0.1:1", "--udp"]);
        assert_eq!(
            (mixed.tcp, mixed.udp),
            (vec![at("127.0.0.1:1")], vec![Place::Bare])
        );
        let repeated = serve(&["--tcp=127.0.0.1:1", "--tcp", "--tcp", "[::1]:0"]);
        assert_eq!(
            repeated.tcp,
            [at("127.0.0.1:1"), Place::Bare, at("[::1]:0")]
        );
    }

    #[test]
    fn other_addresses_stand_in_front_or_behind_two_dashes() {
        for arguments in [
            ["127.0.0.1:1", "--tcp"].as_slice(),
            &["--tcp", "--", "127.0.0.1:1"],
        ] {
            let typed = serve(arguments);
            assert_eq!(
                typed.addresses,
                ["127.0.0.1:1".parse().unwrap()],
                "{arguments:?}"
            );
            assert_eq!(typed.tcp, [Place::Bare], "{arguments:?}");
        }
    }

    #[test]
    fn an_empty_address_is_not_a_missing_one() {
        assert!(Args::try_parse_from(["oread", "serve", "--tcp", ""]).is_err());
    }
}
