//! What a run is worth: its exit code and why, its gates, and whether its figures can be trusted.

use crate::failure::Failure;
use crate::load::count::Ledger;
use crate::load::options::load::{Content, Load, Volume};
use crate::load::options::values::VerifyMode;
use crate::load::report::outcome::{Ending, Outcome};
use crate::load::report::verdict::Verdict;
use crate::load::report::warnings::{Usage, Warning, warnings};
use crate::values::units::{Count, a_second, share};

/// Bits of a made-up message that each of its bytes has to tell it apart by, and from how many
/// bytes on a mistake is out of the question.
const BITS_A_BYTE: u32 = 6;
const TELLING: u32 = 8;

/// Something that the verdict says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The exit code that it alone would lead to; 0 where it leads to none.
    pub(super) code: u8,
    pub(super) words: String,
}

/// The run, judged.
#[derive(Clone, Debug)]
pub(super) struct Judgement {
    /// What went wrong, and whether that decides the exit code; in the order of that: 130 or 143
    /// interrupted, 1 failed (its own counts among it, where they don't add up), 5 an answer was
    /// wrong, 4 fewer connections or messages than asked for, or connections that were not there to
    /// the end, 3 a gate is not met. (2, a usage error, never comes to a report.)
    pub(super) findings: Vec<Finding>,
    /// The gates, in the order they were given.
    pub(super) gates: Vec<Verdict>,
    /// What to beware of.
    pub(super) warnings: Vec<Warning>,
    /// What is not checked, in words.
    pub(super) unchecked: Option<String>,
    pub(super) usage: Usage,
}

impl Judgement {
    /// `failed`: an output that could not be written.
    pub(super) fn of(outcome: &Outcome, failed: Option<&Failure>) -> Judgement {
        let usage = Usage::of(&outcome.tally.threads);
        let warnings = warnings(outcome, &usage);
        let gates = outcome.plan.gates.iter();
        let gates: Vec<Verdict> = gates
            .map(|gate| Verdict::of(gate, outcome, &warnings))
            .collect();
        Judgement {
            findings: findings(outcome, &gates, failed),
            gates,
            warnings,
            unchecked: unchecked(&outcome.plan),
            usage,
        }
    }

    /// The exit code: that of the first finding that has one.
    pub(super) fn exit_code(&self) -> u8 {
        let mut codes = self.findings.iter().map(|finding| finding.code);
        codes.find(|&code| code > 0).unwrap_or(0)
    }
}

/// All that went wrong, what decides the exit code first.
fn findings(outcome: &Outcome, gates: &[Verdict], failed: Option<&Failure>) -> Vec<Finding> {
    let tally = &outcome.tally;
    let mut all = Vec::new();
    let mut find = |code, words| all.push(Finding { code, words });
    match &outcome.ending {
        Ending::Done => {}
        Ending::Interrupted(signal) => {
            let words = "interrupted: these are the figures until then".to_owned();
            find(128 + u8::try_from(*signal).unwrap_or(2), words);
        }
        Ending::Failed(why) => {
            let words = format!("FAILED: {why}; these are the figures until then");
            find(1, words);
        }
    }
    if let Some(what) = tally.imbalance() {
        let words = format!("a fault of this program: {what}; don't trust these figures");
        find(1, words);
    }
    if let Some(failure) = failed {
        find(1, failure.message().to_owned());
    }
    // Corrupt datagrams are corrupt messages too.
    match tally.messages.corrupt.max(tally.datagrams.corrupt) {
        0 => {}
        1 => find(5, "WRONG: 1 answer was not what was sent".to_owned()),
        count => {
            let words = format!("WRONG: {} answers were not what was sent", Count(count));
            find(5, words);
        }
    }
    let broken = gates.iter().filter(|gate| !gate.met);
    let broken: Vec<&str> = broken.map(|gate| &*gate.gate).collect();
    if !broken.is_empty() {
        find(3, format!("NOT MET: {}", broken.join(", ")));
    }
    connections(&tally.connections, &mut find);
    // What was just due when it was interrupted is not worth a line.
    if outcome.ending == Ending::Done {
        fell_behind(outcome, &mut find);
        unanswered(outcome, &mut find);
    }
    all.sort_by_key(|finding| match finding.code {
        128.. => 0,
        1 => 1,
        0 => u8::MAX,
        code => 10 - code,
    });
    all
}

/// Where there were fewer connections than asked for, or not all the time.
fn connections(c: &Ledger, mut find: impl FnMut(u8, String)) {
    let (left, what) = match c.peak_confirmed < c.asked {
        true => (c.peak_confirmed, "came about"),
        false => (c.asked.saturating_sub(c.missing), "were there to the end"),
    };
    let why = match counted(&troubles(c)) {
        why if why.is_empty() => "never so many at one time".to_owned(),
        why => why,
    };
    let is_short = left < c.asked;
    let [left, asked, lost] = [left, c.asked, c.lost].map(Count);
    if is_short {
        let words = format!("ONLY {left} of {asked} connections {what}: {why}");
        find(4, words);
    } else if c.lost > 0 {
        let not_ended = "connections that the load had not ended";
        find(
            0,
            format!("LOST {lost} {not_ended}; others took their places"),
        );
    }
}

/// Where fewer connections were replaced than was asked for, or fewer messages sent than were due.
fn fell_behind(outcome: &Outcome, mut find: impl FnMut(u8, String)) {
    let (m, replaced) = (&outcome.tally.messages, outcome.tally.connections.replaced);
    if let Some((asked, reached)) = outcome.churn_asked().zip(outcome.churn_reached())
        // A tenth, and one connection, are left out of account: the last ones may be on their way.
        && (replaced as f64) < asked * outcome.measured.as_secs_f64() * 0.9 - 1.0
    {
        let (asked, reached) = (a_second(asked), a_second(reached));
        let words = format!(
            "ONLY {reached} of {asked} connections were replaced: each waits for its outstanding \
             answers, and for the next one to be served"
        );
        find(0, words);
    }
    if m.unsent > 0 {
        let is_refused = outcome.tally.datagrams.dropped > 0;
        let (code, why) = match outcome.plan.volume {
            Volume::Messages(_) if m.echoed == 0 => (4, "nothing was answered"),
            Volume::Messages(_) => (4, "nothing was answered any more"),
            Volume::For(_) if is_refused => (0, "the system refused to send the others"),
            Volume::For(_) if m.sent == 0 => (0, "no connection could take them"),
            Volume::For(_) => (0, "no connection could take the others"),
        };
        let [sent, due] = [m.sent, m.due()].map(Count);
        let words = format!("ONLY {sent} of {due} messages were sent: {why}");
        find(code, words);
    }
}

/// Where messages were sent and never answered. Datagrams get lost, on their way or by a server
/// that died, and have a line of their own.
fn unanswered(outcome: &Outcome, mut find: impl FnMut(u8, String)) {
    let (m, d) = (&outcome.tally.messages, &outcome.tally.datagrams);
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

/// What became of the connections and dials that came to no good.
pub(super) fn troubles(c: &Ledger) -> [(u64, &'static str); 7] {
    let undialed = c.asked.saturating_sub(c.dialed - c.redialed);
    [
        (c.lost, "lost"),
        (c.refused, "refused"),
        (c.timed_out, "timed out"),
        (c.failed, "failed"),
        (c.dialing, "still dialing"),
        (c.silent, "connected, waiting for the first echo"),
        (undialed, "never dialed"),
    ]
}

/// Counts with their names, but for those that are zero.
pub(super) fn counted(counts: &[(u64, &str)]) -> String {
    let parts = counts.iter().filter(|(count, _)| *count > 0);
    let parts = parts.map(|(count, name)| format!("{} {name}", Count(*count)));
    parts.collect::<Vec<_>>().join(", ")
}

/// What `--verify` can't see of messages as short as these.
fn unchecked(plan: &Load) -> Option<String> {
    let Content::Made(sizes) = plan.content else {
        return None;
    };
    let least = sizes.least;
    if least >= TELLING || plan.verify == VerifyMode::Off || plan.connections.get() == 1 {
        return None;
    }
    let (s, bits) = (if least == 1 { "" } else { "s" }, BITS_A_BYTE * least);
    let one_in = Count(1 << bits);
    Some(format!(
        "whose answer it is: a message of {least} byte{s} has {bits} bits to tell its connection \
         and number by, so 1 in {one_in} answers swapped between connections passes as right"
    ))
}
