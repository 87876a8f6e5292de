//! `oread find` as typed and as checked: the highest rate, or number of connections, at which the
//! gates hold.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::ColorChoice;

use crate::failure::Failure;
use crate::load::count::samples_for;
use crate::load::options::args::{Demand, MessageArgs, Output, Sockets, TrafficArgs};
use crate::load::options::gate::{Figure, Gate, Statistic, Timing, percentage};
use crate::load::options::load::{Load, Traffic, Volume, never};
use crate::load::options::shard::Given;
use crate::load::options::stages::StageArgs;
use crate::load::options::tls::TlsArgs;
use crate::load::options::url::Url;
use crate::load::options::values::{Arrivals, Rate, per_second};
use crate::values::units::{UNITS, count, duration, duration_or_zero};
use crate::values::verbosity::{Verbosity, VerbosityArgs};

const EXAMPLES: &str = "\
Examples:
  oread find --slo 'p99<5ms' HOST:PORT             the highest rate at which that holds
  oread find --slo 'p99<5ms' --slo 'errors<0.1%' --from 1k --to 100k HOST:PORT
  oread find --of connections --slo 'p99<50ms' --idle --heartbeat 1s HOST:PORT
  oread find --slo 'p99<5ms' --json - HOST:PORT | jq .answer";

const NOTES: &str = "\
Exit codes: 0 found, 1 something failed while it ran, 2 it was asked for in a wrong way, 3 the gates
do not hold at --from already, 4 nor can that many connections be had, 5 an answer was not what was
sent, which ends the search, 130 interrupted, 143 ended by SIGTERM.";

/// What is looked for, if nothing else is said.
const FIRST_RATE: u64 = 100;
const FIRST_CONNECTIONS: u64 = 10;
/// Connections that a rate is sent over, if nothing else is said.
const CONNECTIONS: u64 = 100;
/// A step takes so long at the least, where nothing else is said.
const LEAST_STEP: Duration = Duration::from_secs(5);

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Of {
    /// Messages a second.
    Rate,
    /// Connections, with what is sent on each.
    Connections,
}

/// Find the highest rate, or number of connections, at which gates hold
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{UNITS}\n\n{NOTES}"))]
pub(crate) struct FindArgs {
    /// What to load, as for `oread load` [default: an echo server of its own]
    #[arg(value_name = "TARGET")]
    targets: Vec<Url>,

    #[command(flatten)]
    search: SearchArgs,

    /// Connections to open and hold; for UDP, sockets [default: 100]
    #[arg(short, long, value_name = "N", value_parser = count)]
    connections: Option<NonZeroU32>,

    /// Connections to dial a second at most [default: 1000, or what --churn or --lifetime takes]
    #[arg(short = 'r', long, value_name = "N", value_parser = per_second)]
    connect_rate: Option<NonZeroU32>,

    /// Go on with those that are there when the others take longer than this [default: what the
    /// connect rate needs, and the connect timeout]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ramp_timeout: Option<Duration>,

    /// Send for so long in each step before it is measured
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration_or_zero)]
    warmup: Duration,

    #[command(flatten)]
    traffic: TrafficArgs,

    #[command(flatten)]
    content: MessageArgs,

    #[command(flatten)]
    sockets: Sockets,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    output: FindOutput,

    #[command(flatten)]
    verbosity: VerbosityArgs,
}

/// What is searched for, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Search")]
struct SearchArgs {
    /// What must hold, as for `oread load`: 'p99<5ms', 'errors<0.1%'; may be repeated. A step must
    /// also be answered as fast as it's sent, on all its connections
    #[arg(long, value_name = "GATE", required = true)]
    slo: Vec<Gate>,

    /// What is to be as high as it can
    #[arg(long, value_name = "WHAT", default_value = "rate")]
    of: Of,

    /// Where to begin; nothing lower is tried [default: 100 messages a second, 10 connections]
    #[arg(long, value_name = "N", value_parser = count)]
    from: Option<NonZeroU32>,

    /// Where to end; nothing higher is tried
    #[arg(long, value_name = "N", value_parser = count)]
    to: Option<NonZeroU32>,

    /// How near to the limit
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = precision)]
    precision: f64,

    /// How long each step measures [default: 5s, or what the percentiles of the gates need]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    step_for: Option<Duration>,

    /// End the search after so long, with what is known by then
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    within: Duration,
}

/// Where it goes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct FindOutput {
    /// Write all steps and the answer as JSON to a file, or with - to standard output in place of
    /// the words
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Colours in the report and the log; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

/// A precision: from 0.1% to 100%.
///
/// # Errors
/// Words on what is wrong.
fn precision(text: &str) -> Result<f64, String> {
    let share = text.strip_suffix('%').map(percentage);
    match share.ok_or("a precision is a share, as in 5%")?? {
        share if (0.001..=1.0).contains(&share) => Ok(share),
        _ => Err("a precision is from 0.1% to 100%".to_owned()),
    }
}

/// `oread find`, checked.
#[derive(Clone, Debug)]
pub(crate) struct Find {
    pub(crate) of: Of,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) precision: f64,
    pub(crate) within: Duration,
    /// How long a step measures, where that was said.
    step_for: Option<Duration>,
    /// How long opening connections may take, where that was said.
    ramp_timeout: Option<Duration>,
    /// The load of the first step.
    pub(crate) base: Load,
    /// As the others' output: its own JSON is not a run's.
    pub(crate) json: Option<PathBuf>,
    pub(crate) color: ColorChoice,
    pub(crate) verbosity: Verbosity,
}

impl Find {
    /// What is meant by what was typed.
    ///
    /// # Errors
    /// Exit code 2: what does not go together. Exit code 1: a message file can't be read.
    pub(crate) fn new(typed: FindArgs) -> Result<Find, Failure> {
        let FindArgs {
            search,
            mut traffic,
            ..
        } = typed;
        refuse(&search, &traffic, typed.connections.is_some())?;
        let first = match search.of {
            Of::Rate => FIRST_RATE,
            Of::Connections => FIRST_CONNECTIONS.max(typed.sockets.threads.get().into()),
        };
        let from = search.from.map_or(first, |from| from.get().into());
        let to = search
            .to
            .map_or(u64::from(u32::MAX).max(from), |to| to.get().into());
        let words = format!("--to {to} is less than --from {from}");
        refuse_if(to < from, &words)?;
        let mut connections = typed.connections.unwrap_or(at_least_one(CONNECTIONS));
        match search.of {
            Of::Rate => traffic.rate = Some(Rate::at_least(from as f64)),
            Of::Connections => connections = at_least_one(from),
        }
        let output = Output {
            slo: search.slo,
            ..Output::default()
        };
        let demand = Demand {
            targets: typed.targets,
            connections,
            connect_rate: typed.connect_rate,
            duration: LEAST_STEP,
            messages: None,
            ramp_timeout: typed.ramp_timeout,
            warmup: typed.warmup,
            traffic,
            over_time: StageArgs::default(),
            content: typed.content,
            sockets: typed.sockets,
            tls: typed.tls,
            shard: Some(Given::Whole),
            start_at: None,
        };
        let verbosity = Verbosity::from(&typed.verbosity);
        // Gates are looked at when the steps' time is known.
        let slo = output.slo.clone();
        let mut base = Load::new(demand, Output::default(), &typed.verbosity)?;
        base.output.slo = slo;
        let mut find = Find {
            of: search.of,
            from,
            to,
            precision: search.precision,
            within: search.within,
            step_for: search.step_for,
            ramp_timeout: typed.ramp_timeout,
            base,
            json: typed.output.json,
            color: typed.output.color,
            verbosity,
        };
        find.base = find.step(from, false);
        find.check()?;
        Ok(find)
    }

    /// Refuses gates that no step can meet, and steps that there is no time for.
    fn check(&self) -> Result<(), Failure> {
        for gate in &self.base.output.slo {
            if let Some(why) = never::why_never(gate, &self.base) {
                let words = format!("--slo '{}' can't be met in a step: {why}", gate.text);
                return Err(Failure::usage(words).hint("give the steps more time by --step-for"));
            }
        }
        let step = self.base.warmup + self.time(self.from);
        let words = format!(
            "the first step takes {}, and --within ends the search after {}",
            humantime::format_duration(step),
            humantime::format_duration(self.within)
        );
        refuse_if(step > self.within, &words)
    }

    /// How long a step at this value measures: as long as its percentiles need.
    pub(crate) fn time(&self, value: u64) -> Duration {
        let percentile = |gate: &Gate| match gate.figure {
            Figure::Latency(Timing::Response | Timing::Service, Statistic::Percentile(p)) => {
                Some(samples_for(p))
            }
            _ => None,
        };
        let samples = self.base.output.slo.iter().filter_map(percentile).max();
        let rate = match (self.of, self.base.traffic) {
            (Of::Rate, _) => value as f64,
            (Of::Connections, Traffic::Open(rate, _)) => rate.a_second(),
            (
                Of::Connections,
                Traffic::Idle {
                    heartbeat: Some(every),
                },
            ) => value as f64 / every.as_secs_f64(),
            // How many messages come is up to the server.
            _ => f64::INFINITY,
        };
        // With some to spare: of a schedule at random there may be fewer.
        let seconds = samples.unwrap_or(0) as f64 * 1.1 / rate;
        let needed = Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX);
        self.step_for.unwrap_or(LEAST_STEP.max(needed))
    }

    /// Whether it tells no line a step.
    pub(crate) fn is_quiet(&self) -> bool {
        self.verbosity == Verbosity::Quiet
    }

    /// The load of a step at this value; `longer`: it's to confirm what was found.
    pub(crate) fn step(&self, value: u64, longer: bool) -> Load {
        let mut load = self.base.clone();
        let time = self.time(value).saturating_mul(1 + u32::from(longer));
        load.volume = Volume::For(time);
        match (self.of, load.traffic) {
            (Of::Rate, Traffic::Open(_, arrivals)) => {
                load.traffic = Traffic::Open(Rate::at_least(value as f64), arrivals);
            }
            (Of::Rate, _) => {
                load.traffic = Traffic::Open(Rate::at_least(value as f64), Arrivals::Even);
            }
            (Of::Connections, _) => {
                load.set_connections(at_least_one(value), self.ramp_timeout);
            }
        }
        // A line a step is told here, and none a second.
        load.verbosity = Verbosity::Quiet;
        load
    }
}

/// Refuses what makes no sense where something is looked for.
fn refuse(
    search: &SearchArgs,
    traffic: &TrafficArgs,
    has_connections: bool,
) -> Result<(), Failure> {
    for gate in &search.slo {
        let is_least =
            matches!(gate.figure, Figure::Rate | Figure::Connections) && gate.holds(f64::MAX);
        let words = format!(
            "--slo '{}' holds the better the more there is, and find looks for the most at which \
             gates hold: leave it out, or use --from",
            gate.text
        );
        refuse_if(is_least, &words)?;
    }
    match search.of {
        Of::Rate => {
            let words =
                "--rate: the rate is what find looks for: --from and --to say in which range";
            refuse_if(traffic.rate.is_some(), words)?;
            let is_closed = traffic.depth.get() > 1 || traffic.think.is_some();
            let words = "--depth and --think are for closed loops, and find sends at a rate; with --of \
                         connections they may be";
            refuse_if(is_closed, words)?;
            let words = "--idle sends at no rate; with --of connections it may be";
            refuse_if(traffic.idle, words)
        }
        Of::Connections => {
            let words = "--connections: their number is what find looks for: --from and --to say in \
                         which range";
            refuse_if(has_connections, words)
        }
    }
}

fn at_least_one(value: u64) -> NonZeroU32 {
    let value = NonZeroU64::new(value).unwrap_or(NonZeroU64::MIN);
    NonZeroU32::try_from(value).unwrap_or(NonZeroU32::MAX)
}

fn refuse_if(is_wrong: bool, words: &str) -> Result<(), Failure> {
    match is_wrong {
        true => Err(Failure::usage(words)),
        false => Ok(()),
    }
}
