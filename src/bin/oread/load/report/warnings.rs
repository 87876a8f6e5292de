//! What to beware of in a report: where its figures are this program's own doing, or the machine's,
//! and not the server's.

use crate::load::clock::nanos;
use crate::load::count::{Tally, percentile};
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

/// A share in whole percents.
pub(super) fn percents(part: f64) -> String {
    share((part * 100.0).round() / 100.0)
}

/// All that there is to beware of in a run.
pub(super) fn warnings(outcome: &Outcome) -> Vec<Warning> {
    let tally = &outcome.tally;
    let mut all = Vec::new();
    let mut beware = |cause, words| all.push(Warning { cause, words });
    if tally.bytes.surplus > 0 {
        let surplus = Size(tally.bytes.surplus);
        let words = format!(
            "{surplus} came that no message had asked for: answers here are longer than messages, \
             or more, and `--verify off` tells them apart by the messages' length"
        );
        beware(None, words);
    }
    if tally.own_drops > 0 {
        let drops = Count(tally.own_drops);
        let words = format!(
            "{drops} datagrams were lost in our own receive buffer: they are not the server's loss"
        );
        beware(None, words);
    }
    let still = stood_still(outcome);
    // A thread that had half of its time left was late because it was not let run.
    let is_kept = tally.waited() > KEPT_WAITING;
    let was_let_run = still.is_none() && !is_kept;
    let (cause, who) = match tally.threads.iter().any(|thread| thread.busy() >= 0.5) {
        true if was_let_run => (GENERATOR, "the generator was the bottleneck"),
        _ => (MACHINE, "the machine was busy"),
    };
    if let Some(words) = still {
        beware(Some(MACHINE), words);
    }
    if is_kept {
        let part = percents(tally.waited());
        let words = format!(
            "the machine was busy: a thread of the generator was kept waiting for a CPU {part} of \
             the time, which is in the latencies"
        );
        beware(Some(MACHINE), words);
    }
    let full = tally.threads.iter().filter(|thread| thread.busy() > BUSY);
    let (full, threads, busy) = (full.count(), tally.threads.len(), share(BUSY));
    if full > 0 {
        let words = format!(
            "the generator was the bottleneck: {full} of {threads} threads had no time left (over \
             {busy} of a CPU)"
        );
        beware(Some(GENERATOR), words);
    }
    if let Some(late) = lateness(tally) {
        beware(Some(cause), format!("{who}: {late}"));
    }
    all
}

/// How long the program stood still, where that may have made a latency what it is.
fn stood_still(outcome: &Outcome) -> Option<String> {
    let still = &outcome.stood_still;
    let slowest = outcome.tally.latency.response.max() as f64;
    let is_long = still.total.as_secs_f64() > STOOD_STILL * outcome.measured.as_secs_f64();
    let is_much = slowest > 0.0 && still.longest.as_nanos() as f64 >= OF_RESPONSE * slowest;
    let [total, longest] = [still.total, still.longest].map(|time| short(nanos(time)));
    let how = match still.times {
        1 => String::new(),
        times => format!(" in all, {} times, {longest} the longest", Count(times)),
    };
    (still.times > 0 && (is_long || is_much)).then(|| {
        format!(
            "the generator stood still for {total}{how}: it was stopped (Ctrl-Z, SIGSTOP), or the \
             machine gave it no CPU; what was under way looks as much slower"
        )
    })
}

/// How late messages of a schedule were sent by our own doing, where that is much of the response
/// at the same percentile; of the percentile where it is the most.
fn lateness(tally: &Tally) -> Option<String> {
    let (lag, response) = (&tally.schedule.own_lag, &tally.latency.response);
    // Beside answers that never came, lateness is little; and those that came are the quick ones.
    if lag.is_empty() || tally.messages.unanswered() > response.len() {
        return None;
    }
    let at = |name, p| Some((name, percentile(lag, p)?, percentile(response, p)));
    let named = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];
    let carried = named.into_iter().filter_map(|(name, p)| at(name, p));
    // Few samples carry no p99: then the most is all there is to go by.
    let slowest = (!response.is_empty()).then(|| response.max());
    let most = ("the most", lag.max(), slowest);
    let most = Some(most).filter(|_| percentile(lag, 99.0).is_none());
    let part = |lag: u64, response: Option<u64>| lag as f64 / response.unwrap_or(lag).max(1) as f64;
    let (at, lag, response) = carried
        .chain(most)
        .filter(|&(_, lag, response)| lag >= LATE_NS && part(lag, response) >= OF_RESPONSE)
        .max_by(|a, b| part(a.1, a.2).total_cmp(&part(b.1, b.2)))?;
    let response = response.map(|ns| format!(", where the response is {}", short(ns)));
    let (late, of) = (short(lag), response.unwrap_or_default());
    Some(format!(
        "messages were sent {late} later than they could have been ({at}){of}"
    ))
}
