//! A load as checked: what is meant, with defaults filled in and nothing in it that does not go
//! together. `load/content` checks what messages consist of.

mod content;
pub(crate) mod never;
mod outputs;
mod parts;
mod script;

use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oread::Framing;

use crate::failure::Failure;
use crate::load::clock::nanos;
use crate::load::exchange::answer::Answer;
use crate::load::exchange::script::Script;
use crate::load::options::args;
use crate::load::options::shard::{self, Shard};
use crate::load::options::stages::Stages;
use crate::load::options::tls::Tls;
pub(crate) use crate::load::options::values::MAX_DEPTH;
use crate::load::options::values::{Arrivals, Rate, SizeRange, VerifyMode};
use crate::values::target::{Target, Transport};
use crate::values::verbosity::{Verbosity, VerbosityArgs};

/// Dials a second when nothing is said; and where it's messages that end connections, which set the
/// pace themselves.
const CONNECT_RATE: u32 = 1000;
const CONNECT_RATE_AFTER: u32 = 100_000;

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
    Open(Rate, Arrivals),
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
    /// Each is closed after so many messages, and another is dialed.
    After(NonZeroU32),
}

impl Turnover {
    /// How many of `connections` are closed a second; `None` where they are kept.
    pub(crate) fn a_second(self, connections: NonZeroU32) -> Option<f64> {
        match self {
            // How many messages come a second is up to the server.
            Turnover::Keep | Turnover::After(_) => None,
            Turnover::Churn(rate) => Some(rate.get().into()),
            // In nanoseconds, so that a whole rate comes out as that.
            Turnover::Lifetime(lifetime) => {
                Some(f64::from(connections.get()) * 1e9 / nanos(lifetime) as f64)
            }
        }
    }
}

/// Connections a thread that may be on their way from an old one to its successor: closing must not
/// outrun dialing, or a load with a server that is slow to accept would melt away.
pub(crate) const MOST_TURNING_OVER: u64 = 512;

/// What messages consist of, before they are framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Made up: no two alike where there is room to tell them apart.
    Made(SizeRange),
    /// These bytes, always. At least 1 and at most
    /// [`MAX_MESSAGE`](crate::load::options::values::MAX_MESSAGE).
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
    /// Dials a second, over all threads, in the ramp and behind it; no fewer than are to be
    /// replaced a second.
    pub(crate) connect_rate: NonZeroU32,
    /// How long opening them may take before the rest is given up.
    pub(crate) ramp_timeout: Duration,
    /// Traffic before anything is measured.
    pub(crate) warmup: Duration,
    pub(crate) volume: Volume,
    /// With stages, the rate here is their mean.
    pub(crate) traffic: Traffic,
    /// What the rate is over time, where it changes, and how many connections there are: that
    /// above is the most then. Where both change, they do so at the same times.
    pub(crate) stages: Option<Stages>,
    pub(crate) connection_stages: Option<Stages>,
    pub(crate) turnover: Turnover,
    /// Whether others are dialed in place of connections that the server has ended.
    pub(crate) reconnects: bool,
    /// What connections say; `None`: each message is of `content`, and its answer is its echo.
    pub(crate) script: Option<Arc<Script>>,
    /// Bytes of an answer at most, where it is no echo.
    pub(crate) longest_answer: u32,
    /// What messages consist of that are made up, or of which all are alike.
    pub(crate) content: Content,
    /// What all that is drawn follows from.
    pub(crate) seed: u64,
    pub(crate) framing: Framing,
    pub(crate) verify: VerifyMode,
    pub(crate) sockets: args::Sockets,
    /// Which part of it this process has, where that is not all; the rest here is the whole load's.
    pub(crate) shard: Option<Shard>,
    /// When traffic begins, by the machine's clock; `None`: when the connections are there.
    pub(crate) start_at: Option<SystemTime>,
    /// How targets over TLS are spoken to; `None` where there is none.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) output: args::Output,
    pub(crate) verbosity: Verbosity,
}

impl Load {
    /// Has so many connections from now on; `ramp_timeout`: what was said of it, if anything.
    pub(crate) fn set_connections(&mut self, all: NonZeroU32, ramp_timeout: Option<Duration>) {
        self.connections = all;
        let least = NonZeroU32::new(dialed(self.turnover, all, None));
        self.connect_rate = self.connect_rate.max(least.unwrap_or(NonZeroU32::MIN));
        let usual = usual_ramp(all, self.connect_rate, self.sockets.connect_timeout);
        self.ramp_timeout = ramp_timeout.unwrap_or(usual);
    }

    /// How many connections the ramp opens.
    pub(crate) fn connections_at_first(&self) -> u64 {
        let first = self
            .connection_stages
            .as_ref()
            .and_then(|it| it.all.first());
        first.map_or(self.connections.get().into(), |stage| stage.from)
    }

    /// When the report takes what happened apart.
    pub(crate) fn any_stages(&self) -> Option<&Stages> {
        self.stages.as_ref().or(self.connection_stages.as_ref())
    }

    /// Whether connections that end have others in their places.
    pub(crate) fn replaces(&self) -> bool {
        self.reconnects || self.turnover != Turnover::Keep
    }

    /// Whether a connection is there as soon as it's established, and its first message is one of
    /// those that are measured: where it has so many of them, and nothing to say before.
    pub(crate) fn is_unopened(&self) -> bool {
        let opening = self.script.as_ref().map_or(0, |script| script.opening());
        matches!(self.turnover, Turnover::After(_)) && opening == 0
    }

    /// Whether a target takes datagrams.
    pub(crate) fn has_udp(&self) -> bool {
        self.targets.iter().any(Target::is_udp)
    }

    /// The file that the JSON report goes to, if any.
    pub(crate) fn json_file(&self) -> Option<&Path> {
        let json = self.output.json.as_deref();
        json.filter(|_| !self.json_to_stdout())
    }

    /// Whether the JSON report takes the place of the words on standard output.
    pub(crate) fn json_to_stdout(&self) -> bool {
        self.output.json.as_deref() == Some(Path::new("-"))
    }

    /// What is meant by what was typed.
    ///
    /// # Errors
    /// Exit code 2: what does not go together. Exit code 1: the message file can't be read.
    pub(crate) fn new(
        typed: args::Demand,
        output: args::Output,
        verbosity: &VerbosityArgs,
    ) -> Result<Load, Failure> {
        let script = script::script(&typed)?;
        let content = content::content(&typed, script.as_ref())?;
        let sent = &typed.traffic;
        let has_http =
            (script.as_ref()).is_some_and(|it| it.steps().any(|step| step.answer == Answer::Http));
        let stages = typed.over_time.stages;
        let has_pauses = script.as_ref().is_some_and(|it| it.has_pauses());
        let traffic = traffic(sent, stages.as_ref(), has_pauses)?;
        let turnover = turnover(sent);
        let connection_stages = typed.over_time.connection_stages;
        let most = connection_stages.as_ref().map(Stages::most);
        let most = most.and_then(|most| NonZeroU32::new(u32::try_from(most).ok()?));
        let connections = most.unwrap_or(typed.connections);
        let dialed = match turnover {
            Turnover::After(_) => CONNECT_RATE_AFTER,
            _ => dialed(turnover, connections, connection_stages.as_ref()),
        };
        let default = NonZeroU32::new(dialed.max(CONNECT_RATE)).unwrap_or(NonZeroU32::MIN);
        let connect_rate = typed.connect_rate.unwrap_or(default);
        let over_time = stages.as_ref().or(connection_stages.as_ref());
        let duration = over_time.map_or(typed.duration, Stages::time);
        let ramp = usual_ramp(connections, connect_rate, typed.sockets.connect_timeout);
        let mut load = Load {
            shard: shard::here(typed.shard, |name| env::var(name).ok())?,
            start_at: (typed.start_at)
                .map(|it| it.time(SystemTime::now(), |name| env::var(name).ok()))
                .transpose()?,
            tls: Tls::new(&typed.tls, &typed.targets)?.map(Arc::new),
            targets: typed.targets.into_iter().map(|url| url.target).collect(),
            connections,
            connect_rate,
            ramp_timeout: typed.ramp_timeout.unwrap_or(ramp),
            warmup: typed.warmup,
            volume: typed
                .messages
                .map_or(Volume::For(duration), Volume::Messages),
            traffic,
            stages,
            connection_stages,
            turnover,
            // Servers of HTTP end connections as they like, and say so.
            reconnects: sent.reconnect || has_http,
            script: script.map(Arc::new),
            longest_answer: typed.content.max_answer.get(),
            content,
            // Each run has messages of its own: an answer that was kept from another one is none.
            // As many bits as any reader of JSON takes.
            seed: (typed.content.seed).unwrap_or_else(|| RandomState::new().hash_one(0) >> 11),
            framing: typed.content.framing,
            verify: typed.content.verify,
            sockets: typed.sockets,
            output,
            verbosity: Verbosity::from(verbosity),
        };
        load.name_files();
        load.check_sockets()?;
        load.check_stages()?;
        let own = load.own()?;
        own.check_threads()?;
        own.check_outputs()?;
        Ok(load)
    }

    /// Refuses more threads than connections.
    fn check_threads(&self) -> Result<(), Failure> {
        let (threads, connections) = (self.sockets.threads, self.connections);
        let words = format!(
            "--threads {threads} is more than --connections {connections}: each thread needs one at \
             least"
        );
        refuse_if(threads > connections, Failure::usage(words))
    }

    /// Refuses a source for Unix sockets, and fewer dials than are to take the place of what is
    /// closed.
    fn check_sockets(&self) -> Result<(), Failure> {
        let words = "--per-connection is for streams: a UDP socket is no connection";
        let is_after = matches!(self.turnover, Turnover::After(_));
        refuse_if(is_after && self.has_udp(), Failure::usage(words))?;
        let is_unix = |target: &Target| target.transport == Transport::Unix;
        let is_sourced = !self.sockets.source.is_empty() && self.targets.iter().any(is_unix);
        let words = "--source has addresses to connect from, and a Unix socket knows none";
        refuse_if(is_sourced, Failure::usage(words))?;
        let closed = self.turnover.a_second(self.connections);
        let closed = closed.unwrap_or(0.0).ceil() as u32;
        let rate = self.connect_rate;
        let churns = matches!(self.turnover, Turnover::Churn(_));
        let option = if churns { "--churn" } else { "--lifetime" };
        let words = format!(
            "{option} closes more connections a second, {closed}, than --connect-rate {rate} dials"
        );
        let tip = format!("add --connect-rate {closed}, or leave it out");
        refuse_if(closed > rate.get(), Failure::usage(words).hint(tip))
    }

    /// Refuses stages of connections that are none, that come faster than they are dialed, and that
    /// are not those of the rate.
    fn check_stages(&self) -> Result<(), Failure> {
        let Some(stages) = &self.connection_stages else {
            return Ok(());
        };
        let words = "--connection-stages is for streams: a UDP socket is no connection";
        refuse_if(self.has_udp(), Failure::usage(words))?;
        let (rises, rate) = (stages.steepest().ceil() as u32, self.connect_rate);
        let words = format!(
            "--connection-stages has {rises} more connections a second, and --connect-rate {rate} \
             dials fewer"
        );
        let tip = format!("add --connect-rate {rises}, or leave it out");
        refuse_if(rises > rate.get(), Failure::usage(words).hint(tip))?;
        let words = "--stages and --connection-stages change at different times: give both the same \
                     durations, stage by stage";
        let times = |stages: &Stages| stages.all.iter().map(|it| it.time).collect::<Vec<_>>();
        let differs = (self.stages.as_ref()).is_some_and(|rate| times(rate) != times(stages));
        refuse_if(differs, Failure::usage(words))
    }
}

/// When messages are sent; `has_pauses`: a script waits behind some of its answers.
///
/// # Errors
/// Exit code 2: what is for answers or for a rate, and there is nothing of the kind.
fn traffic(
    sent: &args::TrafficArgs,
    stages: Option<&Stages>,
    has_pauses: bool,
) -> Result<Traffic, Failure> {
    let mean = stages.map(|stages| Rate::at_least(stages.mean() / 1000.0));
    let heartbeat = sent.heartbeat;
    let traffic = match sent.rate.or(mean) {
        Some(rate) => Traffic::Open(rate, sent.arrivals),
        None if sent.idle => Traffic::Idle { heartbeat },
        None => Traffic::Closed {
            depth: sent.depth.get(),
            // Between answers that are followed at once there is no room for a pause, or for the
            // end of a connection.
            think: (sent.think)
                .or((has_pauses || sent.per_connection.is_some()).then_some(Duration::ZERO)),
        },
    };
    let words = "--arrivals is for messages that have a rate: add --rate or --stages";
    let has_rate = matches!(traffic, Traffic::Open(..));
    refuse_if(
        sent.arrivals != Arrivals::Even && !has_rate,
        Failure::usage(words),
    )?;
    let words = "a pause comes behind an answer, and --rate and --idle don't wait for answers";
    let waits = matches!(traffic, Traffic::Closed { .. });
    refuse_if(has_pauses && !waits, Failure::usage(words))?;
    Ok(traffic)
}

/// Whether connections are kept.
fn turnover(sent: &args::TrafficArgs) -> Turnover {
    match (sent.churn, sent.lifetime, sent.per_connection) {
        (Some(rate), ..) => Turnover::Churn(rate),
        (_, Some(lifetime), _) => Turnover::Lifetime(lifetime),
        (.., Some(messages)) => Turnover::After(messages),
        (None, None, None) => Turnover::Keep,
    }
}

/// How long opening so many connections may take.
fn usual_ramp(connections: NonZeroU32, rate: NonZeroU32, timeout: Duration) -> Duration {
    let seconds = u64::from(connections.get() / rate.get()) + 1;
    Duration::from_secs(seconds) + timeout
}

/// How many are to be dialed a second at the most, to take the places of others or to be more.
fn dialed(turnover: Turnover, connections: NonZeroU32, stages: Option<&Stages>) -> u32 {
    let replaced = turnover.a_second(connections).unwrap_or(0.0);
    replaced.max(stages.map_or(0.0, Stages::steepest)).ceil() as u32
}

/// Refuses what was typed, where something is wrong with it.
fn refuse_if(is_wrong: bool, failure: Failure) -> Result<(), Failure> {
    match is_wrong {
        true => Err(failure),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    impl Load {
        /// The load that a command line asks for, without `oread load` in front of it.
        ///
        /// # Errors
        /// As [`Load::new`].
        pub(crate) fn try_of(arguments: &[&str]) -> Result<Load, Failure> {
            use clap::{Args as _, FromArgMatches as _};
            let command = args::LoadArgs::augment_args(clap::Command::new("load"));
            let matches = command.try_get_matches_from(["load"].iter().chain(arguments));
            let typed = matches.and_then(|matches| args::LoadArgs::from_arg_matches(&matches));
            let typed = typed.map_err(|error| Failure::arguments(&error))?;
            Load::new(typed.demand, typed.output, &typed.verbosity)
        }

        /// The same, of words with spaces between, in which there is nothing wrong.
        pub(crate) fn of(arguments: &str) -> Load {
            let words: Vec<&str> = arguments.split_whitespace().collect();
            Load::try_of(&words).unwrap_or_else(|failure| panic!("{arguments}: {failure}"))
        }
    }

    fn refused(arguments: &str) -> String {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let failure = Load::try_of(&words).unwrap_err();
        assert_eq!(failure.code(), 2, "{arguments}: {failure}");
        failure.to_string()
    }

    #[test]
    fn a_gate_that_no_run_can_meet_is_refused_beforehand() {
        for (arguments, why) in [
            ("--slo lost<1%", "no target begins with udp://"),
            ("--slo errors<0", "write errors<=0"),
            ("--slo errors<0%", "write errors<=0%"),
            ("--slo connections<0", "write connections<=0"),
            ("-R 1k --slo rate>1001", "--rate 1,000/s sends fewer"),
            ("-R 1k --slo rate>=1.1k", "--rate 1,000/s sends fewer"),
            ("-c 10 --slo connections>10", "--connections 10 are fewer"),
            ("-c 10 --slo connections>=11", "--connections 10 are fewer"),
            ("--idle --slo rate>1", "nothing is sent"),
            ("--idle --slo max<1s", "nothing is sent"),
            (
                "-n 999 --slo p99<1s",
                "p99 takes 1,000 samples, and there are 999 at most",
            ),
            (
                "-R 4k -d 5s --slo p99.99<1s",
                "takes 100,000 samples, and there are 20,000",
            ),
            ("-c 999 --slo connect.p99<1s", "and there are 999 at most"),
        ] {
            let said = refused(arguments);
            assert!(
                said.contains("can't be met") && said.contains(why),
                "{arguments}: {said}"
            );
        }
    }

    #[test]
    fn a_gate_that_a_run_may_meet_is_taken() {
        for arguments in [
            "--slo lost<1% udp://127.0.0.1:9",
            "--slo errors<=0",
            "--slo errors<1",
            "-R 1k --slo rate>1k",
            "-R 1k --slo rate<5k",
            "--slo rate>1m",
            "-c 10 --slo connections>=10",
            "--idle --heartbeat 1s --slo rate>1",
            "--idle --slo connect.max<1s",
            "--idle --slo rate<=5",
            "-n 1000 --slo p99<1s",
            "-R 20k -d 5s --slo p99.99<1s",
            "-c 1000 --slo connect.p99<1s",
            "-c 10 --churn 5 --slo connect.p99<1s",
            "--slo p99.9999<1s",
        ] {
            let words: Vec<&str> = arguments.split_whitespace().collect();
            assert!(Load::try_of(&words).is_ok(), "{arguments}");
        }
    }

    #[test]
    fn the_connect_rate_keeps_up_with_what_is_closed() {
        for (arguments, rate) in [
            ("-c 1000", 1_000),
            ("--churn 3k", 3_000),
            ("-c 1000 --lifetime 500ms", 2_000),
            ("-c 1000 --lifetime 3s", 1_000),
            ("-c 1000 --lifetime 500ms -r 5k", 5_000),
            ("-c 10 --lifetime 1ns", u32::MAX),
        ] {
            assert_eq!(Load::of(arguments).connect_rate.get(), rate, "{arguments}");
        }
        for arguments in ["-c 1000 --lifetime 500ms -r 1999", "--churn 2k -r 1999"] {
            let said = refused(arguments);
            assert!(said.contains("tip: add --connect-rate 2000"), "{said}");
        }
    }

    #[test]
    fn a_target_in_the_place_of_a_file_is_told_unless_there_is_another() {
        for text in ["127.0.0.1:7101", "udp://[::1]:9", "unix:/run/x.sock"] {
            for option in ["--json", "--hdr"] {
                let said = refused(&format!("{option} {text}"));
                let words = format!("{text} looks like a target; write {option} FILE TARGET");
                assert_eq!(said, words);
                assert!(Load::try_of(&[option, text, "127.0.0.1:9"]).is_ok());
            }
        }
        assert!(Load::try_of(&["--json", "run.json", "--hdr", "./a:1"]).is_ok());
    }

    #[test]
    fn outputs_that_would_not_be_found_again_are_refused() {
        assert!(refused("--hdr -").contains("written as ./-"));
        assert!(refused("--hdr - --json -").contains("- is standard output"));
        for (json, hdr) in [("x", "x"), ("x", "./x"), ("nowhere/x", "nowhere/x")] {
            let said = refused(&format!("--json {json} --hdr {hdr}"));
            assert!(said.contains("the same file"), "{said}");
        }
        for fine in [
            ["--json", "-", "--hdr", "./-"],
            ["--json", "x", "--hdr", "y"],
        ] {
            assert!(Load::try_of(&fine).is_ok(), "{fine:?}");
        }
    }

    #[test]
    fn what_datagrams_cant_carry_is_told_before_what_is_too_short_for_them() {
        for option in ["--message hi", "--framing fixed:3", "--framing lines"] {
            let said = refused(&format!("udp://127.0.0.1:9 {option}"));
            assert!(said.contains("are for streams"), "{said}");
        }
        assert!(refused("udp://127.0.0.1:9 -s 23").contains("24 bytes at least"));
        assert!(Load::try_of(&["udp://127.0.0.1:9", "-s", "24"]).is_ok());
    }

    #[test]
    fn a_newline_at_the_end_of_a_message_is_the_line_framing_s_own() {
        let path = std::env::temp_dir().join(format!("oread-plan-{}", std::process::id()));
        let shown = path.display().to_string();
        let with = |bytes: &[u8], framing: &str| {
            fs::write(&path, bytes).unwrap();
            Load::try_of(&["--framing", framing, "--message-file", &shown])
        };
        let content = |bytes: &[u8], framing| match with(bytes, framing).unwrap().content {
            Content::Given(bytes) => bytes.to_vec(),
            Content::Made(_) => panic!("made up"),
        };
        assert_eq!(content(b"PING\n", "lines"), b"PING");
        assert_eq!(content(b"PING\r\n", "lines"), b"PING\r");
        assert_eq!(content(b"PING", "lines"), b"PING");
        assert_eq!(content(b"PING\n", "raw"), b"PING\n");
        for (bytes, words) in [
            (b"PING\n\n".as_slice(), "1 byte at least"),
            (b"\n", "1 byte at least"),
        ] {
            let said = with(bytes, "lines").unwrap_err().to_string();
            assert!(said.contains(words) && said.contains(&shown), "{said}");
        }
        // Of several lines each is a message.
        let script = with(b"PING\nPONG\n", "lines").unwrap().script;
        assert_eq!(script.unwrap().round.len(), 2);
        fs::remove_file(&path).unwrap();
        let typed = Load::of(r"--framing lines --message PING\n").content;
        assert_eq!(typed, Content::Given(b"PING".as_slice().into()));
        let said = Load::try_of(&["--framing", "lines", "--message", "a\nb"]).unwrap_err();
        assert!(
            said.to_string()
                .contains("--message has more than one line"),
            "{said}"
        );
    }
}
