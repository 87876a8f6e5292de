//! `oread load` and `oread doctor` as typed. The doc comments are the help texts.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ColorChoice;

use crate::load::exchange::answer::{Answer, forms_of_answers};
use crate::load::exchange::expect::Expect;
use crate::load::exchange::script::Order;
use crate::load::exchange::template::Template;
use crate::load::options::gate::Gate;
use crate::load::options::shard::Given;
use crate::load::options::stages::StageArgs;
use crate::load::options::start::StartAt;
use crate::load::options::tls::TlsArgs;
use crate::load::options::url::Url;
use crate::load::options::values::{Arrivals, MAX_DEPTH, Rate, SizeRange, VerifyMode, per_second};
use crate::system::threads;
use crate::values::address::HostPort;
use crate::values::escapes::unescaped;
use crate::values::framing::forms;
use crate::values::source::SourceRange;
use crate::values::units::UNITS;
use crate::values::units::{
    count, count_to, duration, duration_or_zero, large_count, size_under_4gib,
};
use crate::values::verbosity::VerbosityArgs;
use oread::Framing;

const EXAMPLES: &str = "\
Examples:
  oread load                                       a server of its own, 100 connections, 10 seconds
  oread load -c 10k --idle -d 1h HOST:PORT         hold 10,000 connections
  oread load -R 4k --slo 'p99<5ms' http://HOST/    4,000 requests a second, and what must hold";

const LOAD_NOTES: &str = "\
Exit codes: 0 all is well, 1 something failed while it ran, 2 it was asked for in a wrong way,
3 a gate of --slo is not met, 4 fewer connections or messages than asked for, connections lost on
the way, or the preflight says that so many can't be reached, 5 an answer was not what was sent,
130 interrupted, 143 ended by SIGTERM. Where several apply, the first of 130 and 143, 2, 1, 5, 4, 3.";

/// Load a server with connections and messages, and report
#[derive(Debug, clap::Args)]
#[command(
    after_help = format!("{EXAMPLES}\n\n{UNITS}\n\n{LOAD_NOTES}"),
    mut_arg("quiet", |arg| arg.help("Log errors only, and leave out the line a second on how it goes"))
)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) demand: Demand,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// What is to be done.
#[derive(Debug, clap::Args)]
pub(crate) struct Demand {
    /// What to load: HOST:PORT or tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT, unix:PATH or
    /// unix:@NAME, http://HOST/PATH, https://HOST/PATH or redis://HOST; several are used in turn.
    /// Of a name, the first address that the system gives [default: an echo server of its own, in a
    /// second thread]
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<Url>,

    /// Connections to open and hold; for UDP, sockets
    #[arg(short, long, value_name = "N", default_value = "100", value_parser = count)]
    pub(crate) connections: NonZeroU32,

    /// Connections to dial a second at most, while they are opened and for --churn and --lifetime
    /// [default: 1000, or what --churn or --lifetime takes]
    #[arg(short = 'r', long, value_name = "N", value_parser = per_second)]
    pub(crate) connect_rate: Option<NonZeroU32>,

    /// How long to measure, from when all connections are there
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,

    /// Measure so many messages, not a duration
    #[arg(short = 'n', long, value_name = "N", value_parser = large_count, conflicts_with_all = ["duration", "idle"])]
    pub(crate) messages: Option<NonZeroU64>,

    /// Go on with those that are there when the others take longer than this [default: what the
    /// connect rate needs, and the connect timeout]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ramp_timeout: Option<Duration>,

    /// Send for so long before anything is measured
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration_or_zero)]
    pub(crate) warmup: Duration,

    #[command(flatten)]
    pub(crate) traffic: TrafficArgs,

    #[command(flatten)]
    pub(crate) over_time: StageArgs,

    #[command(flatten)]
    pub(crate) content: MessageArgs,

    #[command(flatten)]
    pub(crate) sockets: Sockets,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,

    /// Do the I-th of N parts of the load, counted from 0, as in 0/4; /N where the engine says
    /// which it is; none: all of it [default: what Slurm or an MPI launcher says]
    #[arg(long, value_name = "I/N", help_heading = "Several machines")]
    pub(crate) shard: Option<Given>,

    /// Open the connections, and begin to send at this time: 2026-12-01T12:00:00Z, or +30s for so
    /// long after the job began (as Slurm says it, or else this process)
    #[arg(long, value_name = "TIME", help_heading = "Several machines")]
    pub(crate) start_at: Option<StartAt>,
}

/// What is sent when, and whether connections are kept.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Traffic")]
pub(crate) struct TrafficArgs {
    /// Messages to send a second, over all connections, whatever comes back (an open loop); latency
    /// counts from when a message should have been sent
    #[arg(short = 'R', long, value_name = "N", group = "schedule")]
    pub(crate) rate: Option<Rate>,

    /// With --rate or --stages: how messages follow each other
    #[arg(long, value_name = "HOW", default_value = "even")]
    pub(crate) arrivals: Arrivals,

    /// Without --rate: messages that a connection has under way at a time (a closed loop)
    #[arg(long, value_name = "N", default_value = "1", value_parser = count_to(MAX_DEPTH), conflicts_with_all = ["rate", "idle"])]
    pub(crate) depth: NonZeroU32,

    /// Wait so long between an answer and the next message of a connection
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with_all = ["rate", "idle"])]
    pub(crate) think: Option<Duration>,

    /// Hold the connections: one message each to show that it is served, then none
    #[arg(long, conflicts_with = "rate")]
    pub(crate) idle: bool,

    /// With --idle: a message on each connection at this interval
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "idle")]
    pub(crate) heartbeat: Option<Duration>,

    /// Close and dial again so many connections a second, the oldest first
    #[arg(long, value_name = "N", value_parser = per_second, conflicts_with = "lifetime")]
    pub(crate) churn: Option<NonZeroU32>,

    /// Close a connection after so long, and dial another
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) lifetime: Option<Duration>,

    /// Close a connection after so many messages, and dial another: with 1, each has a connection
    /// of its own
    #[arg(long, value_name = "N", value_parser = count, conflicts_with_all = ["idle", "churn", "lifetime"])]
    pub(crate) per_connection: Option<NonZeroU32>,

    /// Dial again where the server ends a connection
    #[arg(long)]
    pub(crate) reconnect: bool,
}

/// What messages consist of, and what is checked of their answers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct MessageArgs {
    /// Bytes of a message, or a range of them as in 64-4096 (each size as likely as the other)
    #[arg(short, long, value_name = "SIZE", default_value = "64")]
    pub(crate) size: SizeRange,

    /// What to send; \r, \n, \t, \x00 to \xff and \\ stand for a byte each, and {flow}, {sequence}
    /// and {random:N} for the connection's number, the message's, and one below N; with --framing
    /// lines, a newline at its end is the line's own
    #[arg(long, value_name = "TEXT", value_parser = Template::typed, conflicts_with = "size")]
    pub(crate) message: Option<Template>,

    /// A file that holds what to send: one message, or with --framing lines or --split several
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "message"])]
    pub(crate) message_file: Option<PathBuf>,

    /// What stands between the messages of --message-file
    #[arg(long, value_name = "TEXT", value_parser = unescaped, requires = "message_file")]
    pub(crate) split: Option<Arc<[u8]>>,

    /// Make all that is drawn (messages, sizes, {random:N}, the times of Poisson) what it was in
    /// another run with this seed [default: each run has its own]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// In which order several messages come
    #[arg(long, value_name = "ORDER", default_value = "turn")]
    pub(crate) order: Order,

    /// A file of what a connection says: lines of send, expect, expect-regex, greeting, answer,
    /// pause, and repeat in front of what is measured
    #[arg(long, value_name = "FILE", conflicts_with_all = ["size", "message", "message_file", "expect", "expect_regex", "greeting"])]
    pub(crate) session: Option<PathBuf>,

    #[arg(long, default_value = "raw", help = forms("What makes a message of the bytes"))]
    pub(crate) framing: Framing,

    #[arg(long, value_name = "FORM", help = forms_of_answers("Where an answer ends [default: echo, or what the target speaks]"))]
    pub(crate) answer: Option<Answer>,

    /// Longest answer that is no echo
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size_under_4gib)]
    pub(crate) max_answer: NonZeroU32,

    /// What each answer must hold; one that doesn't is counted, and exit code 5
    #[arg(long, value_name = "TEXT", value_parser = unescaped)]
    pub(crate) expect: Option<Arc<[u8]>>,

    /// The same as an expression over bytes, as in '^HTTP/1.1 2'
    #[arg(long, value_name = "REGEX", value_parser = Expect::regex, conflicts_with = "expect")]
    pub(crate) expect_regex: Option<Expect>,

    /// The server speaks first; where that ends, as --answer has it
    #[arg(long, value_name = "FORM")]
    pub(crate) greeting: Option<Answer>,

    /// What is checked of echoes: full (every byte), sequence (their order and length alone), or
    /// off
    #[arg(long, value_name = "MODE", default_value = "full")]
    pub(crate) verify: VerifyMode,
}

/// Where connections come from, and how long they are waited for.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sockets")]
pub(crate) struct Sockets {
    /// Local address, or network as in 10.0.0.0/24, to connect from; may be repeated. For targets
    /// on loopback, addresses of 127.0.0.0/8 are taken by themselves when ports would not do
    #[arg(long, value_name = "ADDR")]
    pub(crate) source: Vec<SourceRange>,

    /// Threads, each with its own reactor and its exact share of the load
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = count_to(threads::MOST))]
    pub(crate) threads: NonZeroU32,

    /// Give a connection up that is not there after so long
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) connect_timeout: Duration,

    /// Give an answer up that has not come so long after its message was due, or sent in a closed
    /// loop; at the end, wait as long for what is under way
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) message_timeout: Duration,

    /// Begin although the preflight says that so many connections can't be reached
    #[arg(long)]
    pub(crate) force: bool,
}

/// Where the report goes, and what must hold.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Output {
    /// Write the whole report as JSON to a file, or with - to standard output in place of the words
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the histograms to a file, as an HdrHistogram log
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,

    /// Write a table of the measured seconds to a file: counts, percentiles, errors, connections
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,

    /// Tell of the N connections whose answers took the longest on average, beside all of them
    #[arg(long, value_name = "N", value_parser = count_to(1000))]
    pub(crate) worst: Option<NonZeroU32>,

    /// While it runs, serve all that is counted to Prometheus at this address, as
    /// http://ADDR/metrics, as in 127.0.0.1:9998. Who reaches it may read it
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<HostPort>,

    /// What must hold, as in 'p99<5ms', 'errors<0.1%' or 'rate>49k', or valid: the report says
    /// BEWARE of nothing; may be repeated
    #[arg(long, value_name = "GATE")]
    pub(crate) slo: Vec<Gate>,

    /// Colours in the report and the log; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

/// Say whether a load can be had, and what to change where it can't
#[derive(Debug, clap::Args)]
#[command(after_help = UNITS)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) demand: Demand,

    /// Print the table as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}
