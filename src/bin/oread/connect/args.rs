//! `oread connect` as typed: one field an option, each value parsed by itself. The doc comments are
//! the help texts.

use std::num::NonZeroU32;
use std::time::Duration;

use oread::Framing;

use crate::values::address::{DEFAULT_ADDRESS, HostPort, Remote};
use crate::values::framing::forms;
use crate::values::target::{Target, Transport};
use crate::values::units::{UNITS, duration, duration_or_zero, size_under_4gib};
use crate::values::verbosity::VerbosityArgs;

const CONNECT_NOTES: &str = "\
When the server has finished, input from a file or a pipe is still sent, until it ends or the server
is gone; at a terminal it is the end of the conversation.
The exit code is 1 when the connection broke, when input was not sent, and with --udp when there
were fewer answers than datagrams.";

/// Send standard input, print what comes back
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{CONNECT_NOTES}\n\n{UNITS}"))]
pub(crate) struct Connect {
    /// Where to connect to: HOST:PORT, unix:PATH or unix:@NAME
    #[arg(value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS, value_parser = remote)]
    pub(crate) address: Remote,

    /// Send datagrams, not a stream
    #[arg(long)]
    pub(crate) udp: bool,

    #[arg(long, default_value = "raw", help = forms("What is printed as one piece"), conflicts_with = "udp")]
    pub(crate) framing: Framing,

    /// Longest message, either way, its prefix not counted; in raw framing, longest line that is
    /// typed [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = size_under_4gib, conflicts_with = "udp")]
    pub(crate) max_frame: Option<NonZeroU32>,

    /// Local address and port to connect from, as in 127.0.0.1:8090; port 0 is any that is free
    #[arg(long, value_name = "ADDR", value_parser = HostPort::local)]
    pub(crate) bind: Option<HostPort>,

    /// Give up when there is no connection after so long or, at the end of the input, nothing comes
    /// for so long [default: 10s for the connection]
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "udp")]
    pub(crate) timeout: Option<Duration>,

    /// UDP: at the end of the input, wait so long for what is still to come; with 0s no answer is
    /// missed
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = duration_or_zero,
        requires = "udp"
    )]
    pub(crate) wait: Duration,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// Where to connect to, as `oread load` takes it; for datagrams there is an option, where `oread
/// load` has a scheme.
fn remote(text: &str) -> Result<Remote, String> {
    // Where it's refused, the word on how to write it is none that would be refused again.
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    let address = rest.trim_end_matches('/');
    match text.parse() {
        Ok(Target {
            transport: Transport::Udp,
            address,
        }) => Err(format!("write --udp {address}")),
        Ok(target) => Ok(target.address),
        Err(_) if !scheme.eq_ignore_ascii_case("tcp") && address.parse::<Target>().is_ok() => {
            Err(format!("write {address}"))
        }
        Err(why) => Err(why.replace("write udp://", "write --udp ")),
    }
}
