//! `oread serve`: an echo server.
//!
//! | file | what it is |
//! |---|---|
//! | `serve/args`, `serve/check` | arguments as typed and as checked |
//! | `serve/bounds` | what a peer may take: the options, and the limits that they set |
//! | `serve/endpoints` | what is bound: which transports on which addresses |
//! | `serve/plan` | limits and options, split over the threads |
//! | `serve/bind`, `serve/overlap` | the sockets, a set for each reactor, or handed over; clashes |
//! | `serve/server` | the handler: an echo, with signals and counters around it |
//! | `serve/totals`, `serve/report` | counters of all reactors, and how they are told |
//! | `serve/counters` | the same for Prometheus |
//! | `serve/printer` | the thread of standard output |
//!
//! With `--threads N` there are N whole reactors, which share nothing but their ports. The first
//! one runs on the main thread and hears the signals; it drains the others by their handles.

pub(crate) mod args;
mod bind;
mod bounds;
pub(crate) mod check;
mod counters;
mod endpoints;
mod overlap;
mod plan;
mod printer;
mod report;
mod server;
mod socket;
mod totals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oread::{Ended, Framing, Handle};

use self::bind::{Opened, Unit};
use self::check::Serve;
use self::counters::Counters;
use self::plan::Plan;
use self::printer::Printer;
use self::report::Report;
use self::server::{Lead, Lost, Mail, Reporter, poll_failed};
use self::totals::{Board, Latest, Totals};
use crate::failure::Failure;
use crate::system::descriptors::Descriptors;
use crate::system::handed::{self, Handed};
use crate::system::metrics::Metrics;
use crate::system::signals::Signals;
use crate::system::stderr::Stderr;
use crate::system::stdout;
use crate::system::threads;

/// How long after the drain's deadline standard output and standard error may take what is said at
/// the end, both together.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Of that, what the summary may take: that it was not taken is to be told as well.
const SUMMARY: Duration = Duration::from_millis(500);

/// How old the other reactors' counters may be when the first one tells the sum.
const FRESH: Duration = Duration::from_millis(100);

/// Serves until a signal ends it. At the end it sets how long `stderr` may take what is left of the
/// log.
///
/// # Errors
/// What kept it from starting, or ended it.
pub(crate) fn run(serve: &Serve, handed: Vec<Handed>, stderr: &Stderr) -> Result<(), Failure> {
    let started = Instant::now();
    let report = Report {
        json: serve.json,
        frames: serve.framing != Framing::Raw,
    };
    let signals = Signals::install()?;
    let bindings = serve.resolve()?;
    let wanted = bindings.iter().map(|binding| binding.transports);
    let sockets = wanted
        .map(|transports| usize::from(transports.tcp) + usize::from(transports.udp))
        .sum::<usize>()
        + serve.unix.len()
        + handed.len();
    let plan = Plan::new(serve, Descriptors::raise()?, sockets)?;
    let Opened {
        mut units,
        sockets,
        unix,
    } = match serve.handed {
        true => bind::adopt(serve, &plan, handed)?,
        false => bind::open(serve, &plan, &bindings)?,
    };
    // Without counters to print its thread is wanted for the summary alone: see `stderr` for what
    // an early one would cost.
    let mut printer = None;
    if let Some(every) = serve.stats {
        let early = Printer::start()?;
        report_stats(every, report, started, &early, &mut units);
        printer = Some(early);
    }
    let metrics = serve_metrics(serve, &mut units)?;

    let mut units = units.into_iter();
    let Some(mut first) = units.next() else {
        return Err(Failure::runtime("there is no reactor to run"));
    };
    let others: Vec<Unit> = units.collect();
    first.server.lead = Some(Lead {
        signals,
        others: others.iter().map(|unit| unit.reactor.handle()).collect(),
        drain_timeout: serve.drain_timeout,
        drained_by: None,
        lost: None,
        leaves: serve.handed,
    });
    let ended = {
        let context = &mut first.reactor.context();
        first
            .server
            .start(context)
            .map_err(|error| poll_failure(&error))?;
        // It is ready when all threads are there.
        let threads = start_others(&first, others)?;
        stdout::say(&report.start(&plan, &sockets, &unix, metrics))?;
        handed::notify("READY=1");
        run_all(first, threads)
    };
    let summary = report.summary(&ended.totals, started.elapsed(), ended.cut);
    let now = Instant::now();
    let over = ended.drained_by.map_or(now, |deadline| deadline.max(now));
    stderr.end_by(over + LAST_WORDS);
    let printer = printer.map_or_else(Printer::start, Ok)?;
    let told = printer.finish(summary, over + SUMMARY);
    match ended.lost {
        None => told,
        Some(Lost { index, why }) => Err(Failure::runtime(format!("thread {index} failed: {why}"))),
    }
}

/// Has the counters told: each reactor puts its own on a board, and the first one has the sum
/// printed.
fn report_stats(
    every: Duration,
    report: Report,
    started: Instant,
    printer: &Printer,
    units: &mut [Unit],
) {
    let board = Arc::new(Board::new(units.len()));
    for (index, unit) in units.iter_mut().enumerate() {
        unit.server.stats = Some(Reporter {
            index,
            every: if index == 0 { every } else { every.min(FRESH) },
            board: Arc::clone(&board),
            report,
            started,
            printer: (index == 0).then(|| printer.sender()),
        });
    }
}

/// Has the reactors tell their counters to scrapes, if anybody asked for that; gives where.
fn serve_metrics(serve: &Serve, units: &mut [Unit]) -> Result<Option<SocketAddr>, Failure> {
    let Some(address) = &serve.metrics else {
        return Ok(None);
    };
    let latest = Latest::new(units.len());
    for (index, unit) in units.iter_mut().enumerate() {
        unit.server.metrics = Some((Arc::clone(&latest), index));
    }
    let reactors = units.iter().map(|unit| unit.reactor.handle()).collect();
    let metrics = Metrics::bind(address)?;
    let address = metrics.address;
    metrics.start(Counters { reactors, latest })?;
    Ok(Some(address))
}

/// How all reactors ended.
#[derive(Debug, Default)]
struct AllEnded {
    totals: Totals,
    /// Connections that were cut off at the drain's deadline.
    cut: usize,
    /// When the drain was to be over, if there was one.
    drained_by: Option<Instant>,
    /// The first reactor that failed, if one did.
    lost: Option<Lost>,
}

/// What one reactor's thread comes to.
#[derive(Debug)]
struct Outcome {
    /// Its counters, also when it failed.
    totals: Totals,
    cut: usize,
    failed: Option<String>,
}

impl Outcome {
    /// Of a reactor that never ran, or that has taken its counters with it.
    fn failed(why: String) -> Outcome {
        Outcome {
            totals: Totals::default(),
            cut: 0,
            failed: Some(why),
        }
    }
}

/// Starts a thread for each reactor but the first one.
fn start_others(first: &Unit, others: Vec<Unit>) -> Result<Vec<JoinHandle<Outcome>>, Failure> {
    let start = |(index, unit)| {
        let alarm = Alarm {
            lead: first.reactor.handle(),
            index,
            why: Some("it panicked".to_owned()),
        };
        threads::start(&format!("reactor {index}"), move || run_other(unit, alarm))
    };
    (1..).zip(others).map(start).collect()
}

/// Runs the first reactor to its end, and waits for those of the others.
fn run_all(mut first: Unit, threads: Vec<JoinHandle<Outcome>>) -> AllEnded {
    let outcome = run_one(&mut first);
    let mut ended = AllEnded::default();
    if let Some(lead) = &mut first.server.lead {
        // They drain already, unless this one failed.
        lead.end_others();
        ended.lost = lead.lost.take();
        ended.drained_by = lead.drained_by;
    }
    let mut settle = |index, outcome: Outcome| {
        ended.totals.add(&outcome.totals);
        ended.cut += outcome.cut;
        if let Some(why) = outcome.failed {
            ended.lost.get_or_insert(Lost { index, why });
        }
    };
    settle(0, outcome);
    for (index, thread) in threads.into_iter().enumerate() {
        let outcome = thread.join();
        let panicked = |_| Outcome::failed("it panicked".to_owned());
        settle(index + 1, outcome.unwrap_or_else(panicked));
    }
    ended
}

/// Runs one reactor to its end.
fn run_one(unit: &mut Unit) -> Outcome {
    let ended = unit.reactor.run(&mut unit.server);
    unit.server.tell(&unit.reactor.context());
    Outcome {
        totals: unit.server.totals(&unit.reactor.context()),
        cut: match ended {
            Ok(Ended::Drained { cut }) => cut,
            _ => 0,
        },
        failed: ended.err().map(|error| poll_failed(&error)),
    }
}

/// Runs a reactor that is not the first one.
fn run_other(mut unit: Unit, mut alarm: Alarm) -> Outcome {
    let outcome = match unit.server.start(&mut unit.reactor.context()) {
        Ok(()) => run_one(&mut unit),
        Err(error) => Outcome::failed(poll_failed(&error)),
    };
    alarm.why = outcome.failed.clone();
    outcome
}

/// Tells the first reactor that another one has failed, even if it panicked.
struct Alarm {
    lead: Handle<Mail>,
    index: usize,
    /// What it died of; `None` when it ended in good order.
    why: Option<String>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(why) = self.why.take() {
            let index = self.index;
            // The first one may be gone already; then it has drained everybody anyway.
            if let Err(error) = self.lead.send(Mail::Lost(Lost { index, why })) {
                log::debug!("thread {index} failed, and nobody heard of it: {error}");
            }
        }
    }
}

fn poll_failure(error: &std::io::Error) -> Failure {
    Failure::runtime(poll_failed(error))
}
