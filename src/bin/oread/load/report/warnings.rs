//! What to beware of in a report: where its figures are this program's own doing, or the machine's,
//! and not the server's.

use crate::load::clock::nanos;
use crate::load::count::{StoodStill, ThreadUse, percentile};
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

/// Who was slow in place of the server: this program, or the machine, which kept it waiting.
const GENERATOR: &str = "generator";
const MACHINE: &str = "machine";

/// One thing to beware of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Warning {
    /// Who was slow, where latencies are not the server's; `None` where counts are not.
    pub(super) cause: Option<&'static str>,
    pub(super) words: String,
}

/// How busy the generator's threads were.
#[derive(Clone, Debug)]
pub(super) struct Usage {
    /// The share of the measured time that each used a processor.
    busy: Vec<f64>,
    /// The largest share of the measured time that one of them was ready to run, and others had
    /// the processors.
    pub(super) waited: f64,
}

impl Usage {
    pub(super) fn of(threads: &[ThreadUse]) -> Usage {
        let waited = threads.iter().map(|thread| thread.share(thread.waited));
        Usage {
            busy: (threads.iter().map(|thread| thread.share(thread.cpu))).collect(),
            waited: waited.fold(0.0, f64::max),
        }
    }

    /// Processors that they used in the measured time: 0.5 is half of one.
    pub(super) fn cpu(&self) -> f64 {
        self.busy.iter().sum()
    }
}

/// A share in whole percents.
pub(super) fn percents(part: f64) -> String {
    share((part * 100.0).round() / 100.0)
}

/// All that there is to beware of in a run.
pub(super) fn warnings(outcome: &Outcome, usage: &Usage) -> Vec<Warning> {
    let mut all = Vec::new();
    let mut beware = |when, cause, words| {
        if when {
            all.push(Warning { cause, words });
        }
    };
    let (surplus, drops) = (outcome.tally.bytes.surplus, outcome.tally.own_drops);
    let words = format!(
        "{} came that no message had asked for: answers here are longer than messages, or more, \
         and `--verify off` tells them apart by the messages' length",
        Size(surplus)
    );
    beware(surplus > 0, None, words);
    let words = format!(
        "{} datagrams were lost in our own receive buffer: they are not the server's loss",
        Count(drops)
    );
    beware(drops > 0, None, words);
    let stood_still = stood_still(outcome);
    beware(
        stood_still,
        Some(MACHINE),
        still_words(&outcome.stood_still),
    );
    let is_kept = usage.waited > KEPT_WAITING;
    let words = format!(
        "the machine was busy: a thread of the generator was kept waiting for a CPU {} of the \
         time, which is in the latencies",
        percents(usage.waited)
    );
    beware(is_kept, Some(MACHINE), words);
    let (threads, busy) = (usage.busy.len(), share(BUSY));
    let full = usage.busy.iter().filter(|&&busy| busy > BUSY).count();
    let words = format!(
        "the generator was the bottleneck: {full} of {threads} threads had no time left (over \
         {busy} of a CPU)"
    );
    beware(full > 0, Some(GENERATOR), words);
    // A thread that had half of its time left was late because it was not let run.
    let was_kept = stood_still || is_kept || usage.busy.iter().all(|&busy| busy < 0.5);
    let (cause, who) = match was_kept {
        true => (MACHINE, "the machine was busy"),
        false => (GENERATOR, "the generator was the bottleneck"),
    };
    let late = lateness(outcome);
    let words = format!("{who}: {}", late.as_deref().unwrap_or_default());
    beware(late.is_some(), Some(cause), words);
    all
}

/// Whether the program stood still for so long that it may have made a latency what it is.
fn stood_still(outcome: &Outcome) -> bool {
    let still = &outcome.stood_still;
    let longest = still.longest.as_nanos() as f64;
    let slowest = outcome.tally.latency.response.max() as f64;
    let is_long = still.total.as_secs_f64() > STOOD_STILL * outcome.measured.as_secs_f64();
    let is_much = slowest > 0.0 && longest >= OF_RESPONSE * slowest;
    still.times > 0 && (is_long || is_much)
}

fn still_words(still: &StoodStill) -> String {
    let (total, longest) = (short(nanos(still.total)), short(nanos(still.longest)));
    let how = match still.times {
        1 => String::new(),
        times => format!(" in all, {} times, {longest} the longest", Count(times)),
    };
    format!(
        "the generator stood still for {total}{how}: it was stopped (Ctrl-Z, SIGSTOP), or the \
         machine gave it no CPU; what was under way looks as much slower"
    )
}

/// How late messages of a schedule were sent by our own doing, where that is much of the response
/// at the same percentile; of the percentile where it is the most.
fn lateness(outcome: &Outcome) -> Option<String> {
    let (lag, response) = (
        &outcome.tally.schedule.own_lag,
        &outcome.tally.latency.response,
    );
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
