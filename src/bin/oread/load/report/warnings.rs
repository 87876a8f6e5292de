//! What to beware of in a report: where its figures are this program's own doing, or the machine's,
//! and not the server's.

use crate::load::count::{ThreadUse, percentile};
use crate::load::options::load::Traffic;
use crate::load::report::outcome::Outcome;
use crate::values::units::{Count, Size, share, short};

/// A thread that is busy for more of the time than this has no time left to be on time.
const BUSY: f64 = 0.95;
/// A thread that is kept from its processor for more of the time than this times the machine, not
/// the server.
const KEPT_WAITING: f64 = 0.1;
/// Own lateness counts from here on: a timer and a turn of the reactor take up to about so long.
const LATE_NS: u64 = 200_000;
/// It counts from this share of the response on that stands at the same percentile.
const OF_RESPONSE: f64 = 0.2;
/// Of the measured time, what the program may stand still without a word.
const STOOD_STILL: f64 = 0.01;

/// What a warning is about, which it stands above in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Messages,
    Datagrams,
    Latency,
}

/// Who was slow in place of the server: this program, or the machine, which kept it waiting.
const GENERATOR: &str = "generator";
const MACHINE: &str = "machine";

/// One thing to beware of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Warning {
    pub(super) about: About,
    /// Who was slow, where it is about that.
    pub(super) cause: Option<&'static str>,
    pub(super) words: String,
}

/// How busy the generator's threads were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Processors that they used in the measured time: 0.5 is half of one.
    pub(super) cpu: f64,
    /// The largest share of the measured time that one of them was ready to run, and others had
    /// the processors.
    pub(super) waited: f64,
    /// Threads, and those of them that had no time left.
    threads: usize,
    full: usize,
    /// The largest share of the measured time that one of them used a processor.
    busiest: f64,
}

impl Usage {
    pub(super) fn of(threads: &[ThreadUse]) -> Usage {
        // A thread has one processor at most: more comes of a time so short that reading the clocks
        // is most of it.
        let part = |of: std::time::Duration, thread: &ThreadUse| match thread.wall.as_secs_f64() {
            wall if wall > 0.0 => (of.as_secs_f64() / wall).min(1.0),
            _ => 0.0,
        };
        let busy = || threads.iter().map(|thread| part(thread.cpu, thread));
        let waited = threads.iter().map(|thread| part(thread.waited, thread));
        Usage {
            cpu: busy().sum(),
            waited: waited.fold(0.0, f64::max),
            threads: threads.len(),
            busiest: busy().fold(0.0, f64::max),
            full: busy().filter(|&share| share > BUSY).count(),
        }
    }
}

/// All that there is to beware of in a run.
pub(super) fn warnings(outcome: &Outcome, usage: &Usage) -> Vec<Warning> {
    let (surplus, drops) = (outcome.tally.bytes.surplus, outcome.tally.own_drops);
    let surplus = (surplus > 0).then(|| {
        format!(
            "{} came that no message had asked for: answers here are longer than messages, and \
             `--verify off` tells them apart by the messages' length",
            Size(surplus)
        )
    });
    let drops = (drops > 0).then(|| {
        let drops = Count(drops);
        format!(
            "{drops} datagrams were lost in our own receive buffer: they are not the server's loss"
        )
    });
    let still = stood_still(outcome);
    let waited = (usage.waited > KEPT_WAITING).then(|| {
        let part = share((usage.waited * 100.0).round() / 100.0);
        format!(
            "the machine was busy: a thread of the generator was kept waiting for a CPU {part} of \
             the time, which is in the latencies"
        )
    });
    let full = (usage.full > 0).then(|| {
        let (full, threads, busy) = (usage.full, usage.threads, share(BUSY));
        format!(
            "the generator was the bottleneck: {full} of {threads} threads had no time left (over \
             {busy} of a CPU)"
        )
    });
    // A thread that had half of its time left was late because it was not let run.
    let was_kept = still.is_some() || waited.is_some() || usage.busiest < 0.5;
    let (cause, who) = match was_kept {
        true => (MACHINE, "the machine was busy"),
        false => (GENERATOR, "the generator was the bottleneck"),
    };
    let late = lateness(outcome).map(|late| format!("{who}: {late}"));
    let all = [
        (About::Messages, None, surplus),
        (About::Datagrams, None, drops),
        (About::Latency, Some(MACHINE), still),
        (About::Latency, Some(MACHINE), waited),
        (About::Latency, Some(GENERATOR), full),
        (About::Latency, Some(cause), late),
    ];
    let warning = |(about, cause, words): (_, _, Option<String>)| {
        let words = words?;
        Some(Warning {
            about,
            cause,
            words,
        })
    };
    all.into_iter().filter_map(warning).collect()
}

/// How long the program stood still, where that may have made a latency what it is.
fn stood_still(outcome: &Outcome) -> Option<String> {
    let still = &outcome.stood_still;
    let ns = |time| short(crate::load::clock::nanos(time));
    let longest = still.longest.as_nanos() as f64;
    let slowest = outcome.tally.latency.response.max() as f64;
    let is_long = still.total.as_secs_f64() > STOOD_STILL * outcome.measured.as_secs_f64();
    let is_much = slowest > 0.0 && longest >= OF_RESPONSE * slowest;
    let counts = still.times > 0 && (is_long || is_much);
    let (total, longest) = (ns(still.total), ns(still.longest));
    let how = match still.times {
        1 => String::new(),
        times => format!(" in all, {} times, {longest} the longest", Count(times)),
    };
    counts.then(|| {
        format!(
            "the generator stood still for {total}{how}: it was stopped (Ctrl-Z, SIGSTOP), or the \
             machine gave it no CPU; what was under way looks as much slower"
        )
    })
}

/// How late messages were sent by our own doing, where that is much of the response at the same
/// percentile; of the percentile where it is the most.
fn lateness(outcome: &Outcome) -> Option<String> {
    let Traffic::Open(_) = outcome.plan.traffic else {
        return None;
    };
    let (lag, response) = (&outcome.tally.pacing.lag, &outcome.tally.latency.response);
    // Beside answers that never came, lateness is little; and those that came are the quick ones.
    if lag.is_empty() || outcome.tally.messages.unanswered() > response.len() {
        return None;
    }
    let named = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];
    let carried = named
        .into_iter()
        .filter_map(|(name, p)| Some((name, percentile(lag, p)?, percentile(response, p))));
    // Few samples carry no p99: then the most is all there is to go by.
    let most = (percentile(lag, 99.0).is_none()).then(|| {
        let slowest = (!response.is_empty()).then(|| response.max());
        ("the most", lag.max(), slowest)
    });
    let part = |lag: u64, response: Option<u64>| lag as f64 / response.unwrap_or(lag).max(1) as f64;
    let (at, lag, response) = carried
        .chain(most)
        .filter(|&(_, lag, response)| lag >= LATE_NS && part(lag, response) >= OF_RESPONSE)
        .max_by(|a, b| part(a.1, a.2).total_cmp(&part(b.1, b.2)))?;
    let of = response.map_or_else(String::new, |response| {
        format!(", where the response is {}", short(response))
    });
    let late = short(lag);
    Some(format!(
        "messages were sent {late} later than they could have been ({at}){of}"
    ))
}
