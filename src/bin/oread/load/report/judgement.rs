//! What a run is worth: its exit code and why, its gates, and whether its figures can be trusted.

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::load::clock::nanos;
use crate::load::count::{Ledger, Tally, ThreadUse, Told, carries, samples_for};
use crate::load::options::gate::{Figure, Gate, Statistic, Timing, VALID};
use crate::load::options::load::{Content, Load, Volume};
use crate::load::options::values::VerifyMode;
use crate::load::report::outcome::{Ending, Outcome};
use crate::values::units::{Count, Size, a_second, counted, share, short};

/// Bits of a made-up message that each of its bytes has to tell it apart by, and from how many
/// bytes on a mistake is out of the question.
const BITS_A_BYTE: u32 = 6;
const TELLING: u32 = 8;

/// Which exit code comes first. An interruption, whose code is none of these, is before them.
const ORDER: [u8; 5] = [1, 5, 4, 3, 0];

/// Something that the verdict says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The exit code that it alone would lead to; 0 where it leads to none.
    pub(super) code: u8,
    pub(super) words: String,
}

/// The run, judged.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    /// What went wrong, and whether that decides the exit code; in the order of that: 130 or 143
    /// interrupted, 1 failed (its own counts among it, where they don't add up), 5 an answer was
    /// wrong, 4 fewer connections or messages than asked for, or connections that were not there to
    /// the end, 3 a gate is not met. (2, a usage error, never comes to a report.)
    pub(super) findings: Vec<Finding>,
    /// The gates, in the order they were given.
    pub(crate) gates: Vec<Verdict>,
    /// What to beware of.
    pub(super) warnings: Vec<Warning>,
    /// What is not checked, in words.
    pub(super) unchecked: Option<String>,
}

impl Judgement {
    /// `failed`: an output that could not be written.
    pub(crate) fn of(outcome: &Outcome, failed: Option<&Failure>) -> Judgement {
        let warnings = warnings(outcome);
        let gate = |gate| Verdict::of(gate, outcome, &warnings);
        let gates: Vec<Verdict> = outcome.plan.output.slo.iter().map(gate).collect();
        Judgement {
            findings: findings(outcome, &gates, failed),
            gates,
            warnings,
            unchecked: all_unchecked(&outcome.plan),
        }
    }

    /// The exit code: that of the first finding, as those that lead to none are the last.
    pub(crate) fn exit_code(&self) -> u8 {
        self.findings.first().map_or(0, |finding| finding.code)
    }

    /// What went wrong, in words.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &String> {
        self.findings.iter().map(|finding| &finding.words)
    }

    /// What to beware of, in words.
    pub(crate) fn beware(&self) -> impl Iterator<Item = &String> {
        self.warnings.iter().map(|warning| &warning.words)
    }

    /// Whether this program or its machine was slow in place of the server.
    pub(crate) fn has_cause(&self) -> bool {
        self.warnings.iter().any(|warning| warning.cause.is_some())
    }
}

/// All that went wrong, what decides the exit code first.
fn findings(outcome: &Outcome, gates: &[Verdict], failed: Option<&Failure>) -> Vec<Finding> {
    let tally = &outcome.tally;
    let mut all = Vec::new();
    let mut find = |code, words| all.push(Finding { code, words });
    let until = "these are the figures until then";
    match &outcome.ending {
        Ending::Done | Ending::NotBegun => {}
        // No signal has a number over 64.
        Ending::Interrupted(signal) => find(128 + *signal as u8, format!("interrupted: {until}")),
        Ending::Failed(why) => find(1, format!("FAILED: {why}; {until}")),
    }
    if let Some(what) = tally.imbalance() {
        let words = format!("a fault of this program: {what}; don't trust these figures");
        find(1, words);
    }
    if let Some(failure) = failed {
        find(1, failure.message().to_owned());
    }
    // Corrupt datagrams are corrupt messages too.
    let corrupt = tally.messages.corrupt.max(tally.datagrams.corrupt);
    if corrupt > 0 {
        let were = if corrupt == 1 { " was" } else { "s were" };
        let wrong = format!("WRONG: {} answer{were} not", Count(corrupt));
        find(5, wrong + " what was sent, or not asked for");
    }
    let mismatched = tally.messages.mismatched;
    if mismatched > 0 {
        let [were, is] = match mismatched {
            1 => [" was", "what it must be"],
            _ => ["s were", "what they must be"],
        };
        find(
            5,
            format!("WRONG: {} answer{were} not {is}", Count(mismatched)),
        );
    }
    let broken = gates.iter().filter(|gate| !gate.met);
    let broken: Vec<&str> = broken.map(|gate| &*gate.gate).collect();
    if !broken.is_empty() {
        find(3, format!("NOT MET: {}", broken.join(", ")));
    }
    let in_stages = outcome.plan.connection_stages.is_some();
    connections(&outcome.ledger(), in_stages, &mut find);
    // What was just due when it was interrupted is not worth a line.
    if outcome.ending == Ending::Done {
        fell_short(outcome, &mut find);
    }
    all.sort_by_key(|finding| ORDER.iter().position(|&code| code == finding.code));
    all
}

/// Where there were fewer connections than asked for, or not all the time. In stages, those that
/// are asked for one after the other are never all there.
fn connections(c: &Ledger, in_stages: bool, mut find: impl FnMut(u8, String)) {
    let (left, what) = match c.peak_confirmed < c.asked {
        _ if in_stages => (
            c.asked.saturating_sub(c.missing),
            "came about, and were there as long as the stages had them",
        ),
        true if c.confirmed > c.peak_confirmed => (c.peak_confirmed, "were there at one time"),
        true => (c.peak_confirmed, "came about"),
        false => (c.asked.saturating_sub(c.missing), "were there to the end"),
    };
    if left < c.asked {
        let undialed = c.asked.saturating_sub(c.dialed - c.redialed);
        let [_, went] = c.told();
        let mut why = vec![went, counted([(undialed, "never dialed")])];
        why.retain(|why| !why.is_empty());
        let colon = if why.is_empty() { "" } else { ": " };
        let why = why.join(", ");
        let [left, asked] = [left, c.asked].map(Count);
        let words = format!("ONLY {left} of {asked} connections {what}{colon}{why}");
        find(4, words);
    } else if c.lost > 0 {
        let lost = Count(c.lost);
        let why = "that the load had not ended; others took their places";
        find(0, format!("LOST {lost} connections {why}"));
    }
}

/// Where fewer connections were replaced or messages answered than was asked for, fewer messages
/// sent than were due, or some of them never answered.
fn fell_short(outcome: &Outcome, mut find: impl FnMut(u8, String)) {
    let (tally, c) = (&outcome.tally, outcome.ledger());
    let (m, d) = (&tally.messages, &tally.datagrams);
    let failed = match c.refused + c.timed_out + c.failed {
        0 => "",
        failed => &format!("dials failed ({}), and ", Count(failed)),
    };
    let replaced = format!(
        "connections were replaced: {failed}each waits for its outstanding answers, and for the next \
         one to be served"
    );
    let mut only = |(asked, reached): (f64, f64), what: &str| {
        let (asked, reached) = (a_second(asked), a_second(reached));
        find(0, format!("ONLY {reached} of {asked} {what}"));
    };
    // A part, and one of them, are left out of account: the last ones may be on their way.
    if let Some(churn) = outcome.churn()
        && (c.replaced as f64) < outcome.least_replaced() * 0.9 - 1.0
    {
        only(churn, &replaced);
    }
    if let Some((asked, reached)) = outcome.rate().filter(|_| outcome.falls_behind()) {
        only((asked, reached), "were answered in time");
    }
    if m.unsent > 0 {
        // What fell due in the time that it was late by, by its own doing, is most of them.
        let own_lag = tally.schedule.own_lag.max() as f64 / 1e9;
        let is_own =
            (outcome.rate()).is_some_and(|(rate, _)| own_lag * rate >= m.unsent as f64 / 2.0);
        let (code, why) = match outcome.plan.volume {
            Volume::Messages(_) if d.dropped > 0 => (4, "the system refused to send the others"),
            Volume::Messages(_) if m.echoed == 0 => (4, "nothing was answered"),
            Volume::Messages(_) => (4, "nothing was answered any more"),
            Volume::For(_) if d.dropped > 0 => (0, "the system refused to send the others"),
            Volume::For(_) if is_own => (0, "the generator could not send more"),
            Volume::For(_) if m.sent == 0 => (0, "no connection could take them"),
            Volume::For(_) => (0, "no connection could take the others"),
        };
        let [sent, due] = [m.sent, m.due()].map(Count);
        let words = format!("ONLY {sent} of {due} messages were sent: {why}");
        find(code, words);
    }
    if let Some(when) = outcome.fell_silent() {
        find(0, format!("NO ANSWER {when}"));
    }
    // Datagrams get lost, on their way or by a server that died, and have a line of their own.
    let streams = (m.lost + m.outstanding).saturating_sub(d.lost + d.outstanding);
    if streams > 0 {
        let [without, sent] = [streams, m.sent].map(Count);
        find(0, format!("NO ANSWER came to {without} of {sent} messages"));
    }
    if d.lost > 0 {
        let part = share(d.lost as f64 / d.sent.max(1) as f64);
        let [lost, sent] = [d.lost, d.sent].map(Count);
        find(0, format!("LOST {lost} of {sent} datagrams ({part})"));
    }
}

/// What is not checked: of answers, and of who gives them.
fn all_unchecked(plan: &Load) -> Option<String> {
    let is_insecure = plan.tls.as_ref().is_some_and(|tls| tls.is_insecure);
    let certificate = "whose certificate it is, by --insecure: anybody may have answered";
    let both = [unchecked(plan), is_insecure.then(|| certificate.to_owned())];
    let both: Vec<String> = both.into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// What `--verify` can't see of messages as short as these.
fn unchecked(plan: &Load) -> Option<String> {
    if let Some(script) = &plan.script {
        let words = "what answers hold, beyond where they end: --expect says what they must";
        return (!script.is_checked()).then(|| words.to_owned());
    }
    if plan.verify == VerifyMode::Off || plan.connections.get() == 1 {
        return None;
    }
    let Content::Made(sizes) = plan.content else {
        let words = "whose answer it is: all messages are alike, so one that came to another \
                     connection's message, or to another of its own, passes as right";
        return Some(words.to_owned());
    };
    let least = sizes.least;
    if least >= TELLING {
        return None;
    }
    let (s, bits) = (if least == 1 { "" } else { "s" }, BITS_A_BYTE * least);
    let one_in = Count(1 << bits);
    Some(format!(
        "whose answer it is: a message of {least} byte{s} has {bits} bits to tell its connection \
         and number by, so 1 in {one_in} answers swapped between connections passes as right"
    ))
}

/// Why figures of answers that can't be told apart are in no gate.
const INVALID: &str = "the figure is not valid, as BEWARE says";

/// How a gate came out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// The gate, as typed.
    pub(crate) gate: String,
    /// Whether it holds.
    pub(crate) met: bool,
    /// The figure: nanoseconds, a share from 0 to 1, a count or a rate; `None` where the run has no
    /// such figure.
    pub(crate) value: Option<f64>,
    /// The figure as people read it.
    pub(crate) shown: String,
}

impl Verdict {
    /// Holds a gate against a run, of which the report says BEWARE so often.
    pub(super) fn of(gate: &Gate, outcome: &Outcome, warnings: &[Warning]) -> Verdict {
        let (value, shown) = match figure(gate.figure, outcome, warnings) {
            Ok((value, shown)) => (Some(value), shown),
            Err(why) => (None, why),
        };
        Verdict {
            gate: gate.text.clone(),
            met: value.is_some_and(|value| gate.holds(value)),
            value,
            shown,
        }
    }

    pub(super) fn words(&self) -> String {
        let met = if self.met { "met" } else { "NOT MET" };
        let is_figure = self.value.is_some() && self.gate != VALID;
        let is = if is_figure { ", it is" } else { ":" };
        format!("{}: {met}{is} {}", self.gate, self.shown)
    }
}

/// The figure of a run, and as people read it; or why it has none.
fn figure(kind: Figure, outcome: &Outcome, warnings: &[Warning]) -> Result<(f64, String), String> {
    let tally = &outcome.tally;
    let (c, m, d) = (&tally.connections, &tally.messages, &tally.datagrams);
    // Replacements that were on their way when the run ended have come to no end, good or bad.
    let (dialing, silent) = match outcome.plan.replaces() {
        false => (c.dialing, c.silent),
        true => (0, 0),
    };
    let failed = c.refused + c.timed_out + c.failed + dialing;
    let of = |part: u64, all: u64| {
        let part = part as f64 / all as f64;
        (part, share(part))
    };
    let counted = |count: u64| (count as f64, Count(count).to_string());
    Ok(match kind {
        Figure::Latency(timing, statistic) => {
            let latency = &tally.latency;
            let unserved = (c.established + silent).saturating_sub(c.confirmed + c.silent);
            let (times, without) = match timing {
                Timing::Response => (&latency.response, m.unanswered()),
                Timing::Service => (&latency.service, m.unanswered() - m.unsent),
                Timing::Connect => (&latency.connect, failed),
                Timing::Handshake => (&latency.handshake, failed),
                Timing::FirstEcho => (&latency.first_echo, failed + unserved),
            };
            let is_answer = matches!(timing, Timing::Response | Timing::Service);
            if is_answer && tally.bytes.surplus > 0 {
                return Err(INVALID.into());
            }
            if let Some(when) = outcome.fell_silent().filter(|_| is_answer) {
                return Err(format!("no answer {when}"));
            }
            let ns = of_all(statistic, times, without)?;
            (ns, short(ns.round() as u64))
        }
        Figure::ErrorShare => {
            let without = m.unanswered() + m.late + failed + c.lost + silent;
            match m.due() + c.dialed {
                _ if outcome.is_stuck() => return Err("no answer came, so nothing was sent".into()),
                0 => return Err("nothing was tried".into()),
                tries => of(without, tries),
            }
        }
        Figure::Errors => counted(tally.errors.values().sum()),
        Figure::LostShare if d.sent == 0 => return Err("no datagram was sent".into()),
        Figure::LostShare => of(d.lost, d.sent),
        Figure::Rate if tally.bytes.surplus > 0 => return Err(INVALID.into()),
        Figure::Rate => {
            let rate = (outcome.rate_reached()).ok_or("it never came to measuring")?;
            (rate, a_second(rate))
        }
        Figure::Connections => counted(c.peak_confirmed),
        Figure::Warnings => {
            let first = warnings.first().map(|warning| &*warning.words);
            let shown = first.unwrap_or("nothing to beware of").to_owned();
            (warnings.len() as f64, shown)
        }
    })
}

/// A statistic of the `times`, and of `without` more that took longer than all of them.
fn of_all(statistic: Statistic, times: &Histogram<u64>, without: u64) -> Result<f64, String> {
    let (some, all) = (times.len(), times.len() + without);
    let unknown = || {
        let part = share(without as f64 / all as f64);
        let [without, all] = [without, all].map(Count);
        format!("{without} of {all} ({part}) never came to it")
    };
    match statistic {
        _ if some == 0 => Err("there are no samples".into()),
        Statistic::Min => Ok(times.min() as f64),
        Statistic::Mean | Statistic::Max if without > 0 => Err(unknown()),
        Statistic::Mean => Ok(times.mean()),
        Statistic::Max => Ok(times.max() as f64),
        Statistic::Percentile(p) if !carries(all, p) => {
            let (all, least) = (Count(all), Count(samples_for(p)));
            Err(format!("too few samples: {all}, it takes {least}"))
        }
        // In this order, so that it's the report's own percentile to the last digit where all are
        // answered.
        Statistic::Percentile(p) => match p / 100.0 * (all as f64 / some as f64) {
            rank if rank > 1.0 => Err(unknown()),
            rank => Ok(times.value_at_quantile(rank) as f64),
        },
    }
}

/// A thread that is busy, or kept waiting, for more of the time than this has none left to be on
/// time.
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
    if let Some(late) = outcome.late_start {
        let late = short(nanos(late));
        let words = format!("traffic began {late} later than --start-at: opening took until then");
        beware(None, words);
    }
    if tally.bytes.surplus > 0 {
        let surplus = Size(tally.bytes.surplus);
        let why = match outcome.plan.script {
            None => {
                "the answers are longer than the messages, or more, and `--verify off` goes by \
                 length and counts answers twice"
            }
            Some(_) => {
                "answers end elsewhere than --answer says, or the server speaks first (--greeting)"
            }
        };
        let words = format!(
            "rate and latencies are not valid: {why} ({surplus} came that no message had asked for)"
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
    // What it waited counts as far as it's no matter of the machine.
    let used = |it: &&ThreadUse| it.busy() + it.share(it.waited).min(KEPT_WAITING);
    let full = tally.threads.iter().filter(|it| used(it) > BUSY);
    let (full, threads, busy) = (full.count(), tally.threads.len(), share(BUSY));
    if full > 0 {
        let words = format!(
            "the generator was the bottleneck: {full} of {threads} threads had no time left (over \
             {busy} of it on a CPU, or kept waiting for one)"
        );
        beware(Some(GENERATOR), words);
    }
    let is_busy = tally.threads.iter().any(|thread| thread.busy() >= 0.5);
    let (cause, who) = match full > 0 || was_let_run && is_busy {
        true => (GENERATOR, "the generator was the bottleneck"),
        false => (MACHINE, "the machine was busy"),
    };
    if let Some(late) = lateness(tally) {
        beware(Some(cause), format!("{who}: {late}"));
    }
    all
}

/// How long the program stood still, where that may have made a latency what it is.
fn stood_still(outcome: &Outcome) -> Option<String> {
    let (still, latency) = (&outcome.stood_still, &outcome.tally.latency);
    let times = [&latency.response, &latency.first_echo].map(Histogram::max);
    let slowest = times.into_iter().filter(|ns| *ns > 0).min();
    let is_long = still.total.as_secs_f64() > STOOD_STILL * outcome.measured.as_secs_f64();
    let is_much = |ns: u64| still.longest.as_nanos() as f64 >= OF_RESPONSE * ns as f64;
    let [total, longest] = [still.total, still.longest].map(|time| short(nanos(time)));
    let how = match still.times {
        1 => String::new(),
        times => format!(" in all, {} times, {longest} the longest", Count(times)),
    };
    (still.times > 0 && (is_long || slowest.is_some_and(is_much))).then(|| {
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
    let m = &tally.messages;
    // Beside answers that never came, lateness is little; and those that came are the quick ones.
    // What was never sent may be just what lateness is about.
    if response.is_empty() || m.lost + m.outstanding > response.len() {
        return None;
    }
    let at = |times: &Histogram<u64>, p: f64| times.value_at_quantile(p / 100.0);
    let part = |lag: u64, response: u64| lag as f64 / response as f64;
    let (p, lag, response) = [50.0, 90.0, 99.0, 99.9]
        .into_iter()
        // Of few samples it takes a tenth: one that is late is no lateness yet.
        .filter(|&p| p <= 90.0 || carries(lag.len(), p))
        .map(|p| (p, at(lag, p), at(response, p)))
        .filter(|&(_, lag, response)| lag >= LATE_NS && part(lag, response) >= OF_RESPONSE)
        .max_by(|a, b| part(a.1, a.2).total_cmp(&part(b.1, b.2)))?;
    let (late, response) = (short(lag), short(response));
    Some(format!(
        "messages were sent {late} later than they could have been (p{p}), where the response is {response}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::count::percentile;

    #[test]
    fn a_percentile_of_what_is_all_answered_is_the_report_s() {
        for samples in [10_000, 20_000, 33_333] {
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            for value in 1..=samples {
                histogram.record(value * value).unwrap();
            }
            for p in [33.3, 50.0, 90.0, 99.0, 99.9] {
                let gate = of_all(Statistic::Percentile(p), &histogram, 0).unwrap();
                let report = percentile(&histogram, p).unwrap();
                assert_eq!(gate, report as f64, "p{p} of {samples}");
            }
        }
    }
}
