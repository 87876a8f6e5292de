//! What a run is worth: its exit code and why, its gates, and whether its figures can be trusted.

use crate::failure::Failure;
use crate::load::count::Tally;
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
    let (tally, plan) = (&outcome.tally, &outcome.plan);
    let ending = match &outcome.ending {
        Ending::Done => None,
        Ending::Interrupted(signal) => Some((
            128 + u8::try_from(*signal).unwrap_or(2),
            "interrupted: these are the figures until then".to_owned(),
        )),
        Ending::Failed(why) => Some((
            1,
            format!("FAILED: {why}; these are the figures until then"),
        )),
    };
    let imbalance = tally.imbalance().map(|what| {
        let words = format!("a fault of this program: {what}; don't trust these figures");
        (1, words)
    });
    let broken = gates.iter().filter(|gate| !gate.met);
    let broken: Vec<&str> = broken.map(|gate| &*gate.gate).collect();
    let broken = (!broken.is_empty()).then(|| (3, format!("NOT MET: {}", broken.join(", "))));
    // What was just due when it was interrupted is not worth a line.
    let is_done = outcome.ending == Ending::Done;
    let all = [
        ending,
        imbalance,
        failed.map(|failure| (1, failure.message().to_owned())),
        corrupt(tally),
        fewer(tally),
        slower(outcome).filter(|_| is_done),
        less(tally, plan.volume).filter(|_| is_done),
        broken,
        unanswered(tally).filter(|_| is_done),
        lost_datagrams(tally).filter(|_| is_done),
    ];
    let all = all.into_iter().flatten();
    let mut all: Vec<Finding> = all.map(|(code, words)| Finding { code, words }).collect();
    all.sort_by_key(|finding| match finding.code {
        128.. => 0,
        1 => 1,
        0 => u8::MAX,
        code => 10 - code,
    });
    all
}

fn corrupt(tally: &Tally) -> Option<(u8, String)> {
    // Corrupt datagrams are corrupt messages too.
    let count = tally.messages.corrupt.max(tally.datagrams.corrupt);
    let answers = match count {
        1 => "1 answer was",
        _ => &format!("{} answers were", Count(count)),
    };
    (count > 0).then(|| (5, format!("WRONG: {answers} not what was sent")))
}

/// Where there were fewer connections than asked for, or not all the time.
fn fewer(tally: &Tally) -> Option<(u8, String)> {
    let c = &tally.connections;
    let asked = Count(c.asked);
    if c.peak_confirmed < c.asked {
        let (came, why) = (Count(c.peak_confirmed), missing(tally));
        let words = format!("ONLY {came} of {asked} connections came about: {why}");
        return Some((4, words));
    }
    if c.missing > 0 {
        let (left, why) = (Count(c.asked.saturating_sub(c.missing)), missing(tally));
        let words = format!("ONLY {left} of {asked} connections were there to the end: {why}");
        return Some((4, words));
    }
    let lost = Count(c.lost);
    (c.lost > 0).then(|| {
        let words = format!(
            "LOST {lost} connections that the load had not ended; others took their places"
        );
        (0, words)
    })
}

/// Where fewer connections were replaced than was asked for. A tenth, and one connection, are left
/// out of account: the last ones may be on their way.
fn slower(outcome: &Outcome) -> Option<(u8, String)> {
    let (asked, reached) = (outcome.churn_asked()?, outcome.churn_reached()?);
    let seconds = outcome.measured.as_secs_f64();
    let due = (asked * seconds * 0.9 - 1.0).max(0.0);
    ((outcome.tally.connections.replaced as f64) < due).then(|| {
        let (asked, reached) = (a_second(asked), a_second(reached));
        let words = format!(
            "ONLY {reached} of {asked} connections were replaced: each waits for its outstanding \
             answers, and for the next one to be served"
        );
        (0, words)
    })
}

/// Where fewer messages were sent than were due, or asked for.
fn less(tally: &Tally, volume: Volume) -> Option<(u8, String)> {
    let m = &tally.messages;
    let (sent, due) = (Count(m.sent), Count(m.due()));
    let (code, why) = match volume {
        Volume::Messages(_) if m.echoed == 0 => (4, "nothing was answered"),
        Volume::Messages(_) => (4, "nothing was answered any more"),
        Volume::For(_) if m.sent == 0 && tally.datagrams.dropped == 0 => {
            (0, "no connection could take them")
        }
        Volume::For(_) if tally.datagrams.dropped > 0 => {
            (0, "the system refused to send the others")
        }
        Volume::For(_) => (0, "no connection could take the others"),
    };
    (m.unsent > 0).then(|| {
        let words = format!("ONLY {sent} of {due} messages were sent: {why}");
        (code, words)
    })
}

/// Where messages over streams were sent and never answered. Datagrams get lost, and have lines of
/// their own.
fn unanswered(tally: &Tally) -> Option<(u8, String)> {
    let (m, d) = (&tally.messages, &tally.datagrams);
    let without = (m.lost + m.outstanding).saturating_sub(d.lost + d.outstanding);
    let (count, sent) = (Count(without), Count(m.sent));
    (without > 0).then(|| (0, format!("NO ANSWER came to {count} of {sent} messages")))
}

/// Where datagrams were lost, on their way or by a server that died.
fn lost_datagrams(tally: &Tally) -> Option<(u8, String)> {
    let d = &tally.datagrams;
    let (lost, sent) = (Count(d.lost), Count(d.sent));
    let part = share(d.lost as f64 / d.sent.max(1) as f64);
    (d.lost > 0).then(|| (0, format!("LOST {lost} of {sent} datagrams ({part})")))
}

/// What became of the connections that are missing.
fn missing(tally: &Tally) -> String {
    let c = &tally.connections;
    let undialed = c.asked.saturating_sub(c.dialed - c.redialed);
    let causes = counted(&[
        (c.refused, "refused"),
        (c.timed_out, "timed out"),
        (c.failed, "failed"),
        (c.dialing, "still dialing"),
        (c.lost, "lost"),
        (c.silent, "connected, waiting for the first echo"),
        (undialed, "never dialed"),
    ]);
    match causes.is_empty() {
        true => "never so many at one time".to_owned(),
        false => causes,
    }
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
