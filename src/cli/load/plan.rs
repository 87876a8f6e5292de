//! A load as checked: what is meant, with defaults filled in and nothing in it that does not go together.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oread::Framing;

use super::args;
use super::gate::Gate;
use super::sources::SourceRange;
use super::target::{Target, Transport};
use super::values::{MAX_MESSAGE, SizeRange, VerifyMode};
use crate::cli::check::Verbosity;
use crate::cli::failure::{Failure, Reason};
use crate::cli::units::{Count, Size};

/// Dials a second when nothing is said.
const DEFAULT_CONNECT_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
/// How long is measured when nothing is said.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// No machine has so many cores; as for `oread serve`.
const MAX_THREADS: u32 = 1024;
/// The most messages that a connection may have under way: their times of sending are kept, 16 bytes each.
pub(crate) const MAX_DEPTH: u32 = 1 << 16;
/// What a datagram must have room for: its flow, its number and its time, see [`datagrams`](super::datagrams).
pub(crate) const LEAST_DATAGRAM: u32 = 24;
/// What fits into a datagram over IPv4: 65,535 less 20 of IP and 8 of UDP (RFC 791, RFC 768).
pub(crate) const MAX_DATAGRAM: u32 = 65_507;

/// When the measured part ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// After so long.
    For(Duration),
    /// When so many messages have been sent and answered, or given up; over all threads.
    Messages(NonZeroU64),
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// The next one when an answer has come.
    Closed {
        /// Messages under way on a connection, at most [`MAX_DEPTH`].
        depth: u32,
        /// The pause between an answer and the next message.
        think: Option<Duration>,
    },
    /// So many a second over all connections and threads, whatever comes back.
    Open(NonZeroU32),
    /// One to confirm the connection, and then none, or one at each interval.
    Idle {
        /// The interval.
        heartbeat: Option<Duration>,
    },
}

/// Whether connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turnover {
    /// To the end.
    Keep,
    /// So many a second, over all threads, are closed and dialed again.
    Churn(NonZeroU32),
    /// Each is closed after so long, and another is dialed.
    Lifetime(Duration),
}

/// What messages consist of, before they are framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Made up: no two alike where there is room to tell them apart.
    Made(SizeRange),
    /// These bytes, always. At least 1 and at most [`MAX_MESSAGE`].
    Given(Arc<[u8]>),
}

impl Content {
    /// The smallest and the largest size in bytes.
    pub(crate) fn sizes(&self) -> (u32, u32) {
        match self {
            Content::Made(range) => (range.least, range.most),
            // At most MAX_MESSAGE.
            Content::Given(bytes) => (bytes.len() as u32, bytes.len() as u32),
        }
    }
}

/// `oread load`, checked.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// What is loaded, in turn; empty: an echo server of its own.
    pub(crate) targets: Vec<Target>,
    /// Connections and UDP sockets, over all threads and targets.
    pub(crate) connections: NonZeroU32,
    /// Dials a second, over all threads, in the ramp and behind it; no fewer than are to be replaced a second.
    pub(crate) connect_rate: NonZeroU32,
    /// How long opening them may take before the rest is given up.
    pub(crate) ramp_timeout: Duration,
    /// Traffic before anything is measured.
    pub(crate) warmup: Duration,
    pub(crate) volume: Volume,
    pub(crate) traffic: Traffic,
    pub(crate) turnover: Turnover,
    pub(crate) content: Content,
    pub(crate) framing: Framing,
    pub(crate) verify: VerifyMode,
    /// Where to connect from; empty: the system's choice, or 127/8 for targets on loopback.
    pub(crate) sources: Vec<SourceRange>,
    /// Reactors, each in a thread of its own.
    pub(crate) threads: NonZeroU32,
    pub(crate) connect_timeout: Duration,
    pub(crate) message_timeout: Duration,
    /// Whether to begin although the preflight says no.
    pub(crate) force: bool,
    /// Where the JSON report goes; `-` is standard output.
    pub(crate) json: Option<PathBuf>,
    /// Where the histogram log goes.
    pub(crate) hdr: Option<PathBuf>,
    pub(crate) gates: Vec<Gate>,
    pub(crate) verbosity: Verbosity,
}

impl Load {
    /// The part of a count that thread `index` has: the parts add up exactly.
    pub(crate) fn share(&self, all: u64, index: u32) -> u64 {
        let threads = u64::from(self.threads.get());
        all / threads + u64::from(u64::from(index) < all % threads)
    }

    /// Whether the JSON report takes the place of the words on standard output.
    pub(crate) fn json_to_stdout(&self) -> bool {
        self.json
            .as_ref()
            .is_some_and(|path| path.as_os_str() == "-")
    }
}

impl TryFrom<args::Load> for Load {
    type Error = Failure;

    /// # Errors
    /// Exit code 2: what does not go together. Exit code 1: the message file can't be read.
    fn try_from(typed: args::Load) -> Result<Load, Failure> {
        if typed.threads.get() > MAX_THREADS {
            return Err(Failure::usage(format!(
                "--threads must be at most {}",
                Count(MAX_THREADS.into())
            )));
        }
        if typed.threads > typed.connections {
            return Err(Failure::usage(format!(
                "--threads {} is more than --connections {}: each thread needs one at least",
                typed.threads, typed.connections
            )));
        }
        let depth = typed.depth.map_or(1, NonZeroU32::get);
        if depth > MAX_DEPTH {
            return Err(Failure::usage(format!(
                "--depth must be at most {}",
                Count(MAX_DEPTH.into())
            )));
        }
        let traffic = match (typed.rate, typed.idle) {
            (Some(rate), _) => Traffic::Open(rate),
            (None, true) => Traffic::Idle {
                heartbeat: typed.heartbeat,
            },
            (None, false) => Traffic::Closed {
                depth,
                think: typed.think,
            },
        };
        let turnover = match (typed.churn, typed.lifetime) {
            (Some(rate), _) => Turnover::Churn(rate),
            (None, Some(lifetime)) => Turnover::Lifetime(lifetime),
            (None, None) => Turnover::Keep,
        };
        check_files(&typed)?;
        let content = content(&typed)?;
        check_content(&content, typed.framing, &typed.targets)?;
        let connect_rate = connect_rate(typed.connect_rate, turnover)?;
        let ramp = u64::from(typed.connections.get() / connect_rate.get()) + 1;
        Ok(Load {
            ramp_timeout: typed
                .ramp_timeout
                .unwrap_or(Duration::from_secs(ramp) + typed.connect_timeout),
            volume: match typed.messages {
                Some(messages) => Volume::Messages(messages),
                None => Volume::For(typed.duration.unwrap_or(DEFAULT_DURATION)),
            },
            targets: typed.targets,
            connections: typed.connections,
            connect_rate,
            warmup: typed.warmup,
            traffic,
            turnover,
            content,
            framing: typed.framing,
            verify: typed.verify,
            sources: typed.source,
            threads: typed.threads,
            connect_timeout: typed.connect_timeout,
            message_timeout: typed.message_timeout,
            force: typed.force,
            json: typed.json,
            hdr: typed.hdr,
            gates: typed.slo,
            verbosity: Verbosity::from(&typed.verbosity),
        })
    }
}

/// Refuses files that would not have what is meant for them.
fn check_files(typed: &args::Load) -> Result<(), Failure> {
    let Some(hdr) = &typed.hdr else {
        return Ok(());
    };
    if hdr.as_os_str() == "-" {
        return Err(Failure::usage(
            "--hdr goes to a file: standard output has the report",
        ));
    }
    // Where no directory is known any more, the names themselves are compared.
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Some(json) = &typed.json
        && absolute(json) == absolute(hdr)
    {
        return Err(Failure::usage(format!(
            "--json and --hdr both go to {}: give each a file of its own",
            hdr.display()
        )));
    }
    Ok(())
}

/// The rate of dials: what was typed, where it is enough for the churn, or the default, where that is.
fn connect_rate(typed: Option<NonZeroU32>, turnover: Turnover) -> Result<NonZeroU32, Failure> {
    let churn = match turnover {
        Turnover::Churn(rate) => rate,
        Turnover::Keep | Turnover::Lifetime(_) => NonZeroU32::MIN,
    };
    match typed {
        Some(rate) if rate < churn => Err(Failure::usage(format!(
            "--churn {churn} closes more connections a second than --connect-rate {rate} dials"
        ))
        .hint(format!("add --connect-rate {churn}, or leave it out"))),
        Some(rate) => Ok(rate),
        None => Ok(churn.max(DEFAULT_CONNECT_RATE)),
    }
}

fn content(typed: &args::Load) -> Result<Content, Failure> {
    let (bytes, option) = match (&typed.message, &typed.message_file) {
        (Some(text), _) => (text.clone().into_bytes(), "--message"),
        (None, Some(path)) => {
            let bytes = std::fs::read(path).map_err(|error| {
                Failure::runtime(format!("can't read {}: {}", path.display(), Reason(&error)))
            })?;
            (bytes, "--message-file")
        }
        (None, None) => return Ok(Content::Made(typed.size)),
    };
    if bytes.is_empty() || bytes.len() > MAX_MESSAGE as usize {
        return Err(Failure::usage(format!(
            "{option} must have 1 byte at least and {} at most, not {}",
            Size(MAX_MESSAGE.into()),
            Size(bytes.len() as u64)
        )));
    }
    Ok(Content::Given(bytes.into()))
}

/// Refuses content that the framing or a datagram can't carry.
fn check_content(content: &Content, framing: Framing, targets: &[Target]) -> Result<(), Failure> {
    let (least, most) = content.sizes();
    match framing {
        Framing::Fixed(n) if least != n.get() || most != n.get() => {
            return Err(Failure::usage(format!(
                "with --framing {framing} a message has {n} bytes, not {least}{}",
                if least == most {
                    String::new()
                } else {
                    format!("-{most}")
                }
            ))
            .hint(format!("add --size {n}")));
        }
        Framing::Lines => {
            if let Content::Given(bytes) = content
                && bytes.contains(&b'\n')
            {
                return Err(Failure::usage(
                    "with --framing lines the message must be one line, without its newline",
                ));
            }
        }
        _ => {}
    }
    if let Some(declarable) = framing.max_declarable()
        && u64::from(most) > declarable
    {
        return Err(Failure::usage(format!(
            "a message of {} is over what --framing {framing} can say, {}",
            Size(most.into()),
            Size(declarable)
        )));
    }
    let udp = targets.iter().any(|t| t.transport == Transport::Udp);
    if udp && (least < LEAST_DATAGRAM || most > MAX_DATAGRAM) {
        return Err(Failure::usage(format!(
            "a datagram has {LEAST_DATAGRAM} bytes at least (its flow, number and time) and {} at most",
            Count(MAX_DATAGRAM.into())
        )));
    }
    if udp && (framing != Framing::Raw || matches!(content, Content::Given(_))) {
        return Err(Failure::usage(
            "--framing, --message and --message-file are for streams: a datagram carries its flow, \
             number and time, so that what is lost can be told",
        ));
    }
    Ok(())
}
