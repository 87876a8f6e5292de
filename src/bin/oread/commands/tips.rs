//! Arguments that clap refuses, with words for those who know another tool's.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;
use crate::values::address::HostPort;

/// Options of other tools: by which commands they are refused, how they are called, and what to
/// write here.
const TIPS: [(&str, &str, &str); 18] = [
    (
        "load find doctor",
        "--host --port -p",
        "write host:port as the target, as in `oread load 127.0.0.1:9999`",
    ),
    (
        "load find doctor",
        "--target --url",
        "the target has no option in front of it, as in `oread load 127.0.0.1:9999`",
    ),
    (
        "load find doctor",
        "--udp -u",
        "write udp://HOST:PORT as the target",
    ),
    (
        "load find doctor",
        "--tcp",
        "write HOST:PORT as the target; it is TCP unless it says udp://",
    ),
    (
        "load find doctor",
        "--clients --users --concurrency",
        "-c is the number of connections",
    ),
    (
        "load find doctor",
        "--qps --rps",
        "-R is the rate of messages a second",
    ),
    (
        "load doctor",
        "--time -D",
        "-d is the duration, as in `-d 30s`",
    ),
    (
        "load find doctor",
        "--timeout",
        "--message-timeout is for answers, --connect-timeout for connections",
    ),
    (
        "doctor",
        "--slo --hdr --color --metrics",
        "it is an option of `oread load`; leave it out",
    ),
    (
        "find",
        "--duration -d --time",
        "--step-for is how long a step measures, and --within how long the search may take",
    ),
    (
        "find",
        "--stages --connection-stages --messages -n",
        "find keeps each step even, for a time: it is an option of `oread load`",
    ),
    (
        "find",
        "--hdr --metrics",
        "they are about one run: use `oread load` at the rate that was found",
    ),
    (
        "serve",
        "--host -p -l",
        "the address has no option in front of it, as in `oread serve 127.0.0.1:9999`",
    ),
    (
        "connect",
        "--host --port -p",
        "write host:port, as in `oread connect 127.0.0.1:9999`",
    ),
    ("connect", "-l", "`oread serve` listens"),
    ("connect", "-u", "write --udp"),
    (ANY, "--version -V", "write `oread --version`"),
    (
        ANY,
        "-0 -1 -2 -3 -4 -5 -6 -7 -8 -9",
        "no option is a number, and none takes a negative one",
    ),
];

const ANY: &str = "serve connect load find doctor";

/// The failure that `error` is, of a command line `typed`.
pub(super) fn refused(mut error: clap::Error, typed: &[OsString]) -> Failure {
    let typed: Vec<_> = typed.iter().map(|word| word.to_string_lossy()).collect();
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (argument, value) = (
        context(ContextKind::InvalidArg),
        context(ContextKind::InvalidValue),
    );
    // An address without its port, or, where one address is taken, the port behind it.
    let apart = typed.windows(2).find_map(|words| {
        let [host, port] = words else { return None };
        let is_told =
            (is_unknown && argument == port) || (argument.starts_with('[') && value == host);
        let address = format!("{host}:{port}").parse::<HostPort>();
        address.ok().filter(|_| is_told && !host.contains(':'))
    });
    if let Some(address) = apart {
        let words = "the address is in two words, and it is one: its host and its port";
        return Failure::usage(words).hint(format!("write {address}"));
    }
    let is_among = |all: &str, one: &str| all.split(' ').any(|word| word == one);
    let command = typed.get(1).map_or("", |word| word);
    let row = TIPS.iter().find(|(commands, options, _)| {
        is_unknown && is_among(commands, command) && is_among(options, argument)
    });
    if let Some((.., tip)) = row {
        let words = format!("`oread {command}` has no option {argument}");
        return Failure::usage(words).hint(*tip);
    }
    if is_unknown && is_among(ANY, command) {
        // "to pass it as a value, use --": no address begins with a dash.
        error.remove(ContextKind::Suggested);
    }
    Failure::arguments(&error)
}
