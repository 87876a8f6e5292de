//! The first lines of the report in words: what matters most comes first.

use std::fmt::Write as _;
use std::time::Duration;

use crate::load::options::load::Volume;
use crate::load::report::outcome::{Ending, Outcome};
use crate::values::units::Count;

/// Whether the connections asked for were there, and stayed; how the run ended; whether its counts
/// add up; what was loaded.
pub(super) fn headline(text: &mut String, outcome: &Outcome) {
    // Writing to a string does not fail.
    if let Some(words) = fewer(outcome) {
        let _ = writeln!(text, "{words}");
    }
    match &outcome.ending {
        Ending::Done => {
            for words in [less(outcome), unanswered(outcome)].into_iter().flatten() {
                let _ = writeln!(text, "{words}");
            }
        }
        // What was just due then is not worth a line.
        Ending::Interrupted(_) => text.push_str("interrupted: these are the figures until then\n"),
        Ending::Failed(why) => {
            let _ = writeln!(text, "FAILED: {why}; these are the figures until then");
        }
    }
    if let Some(what) = outcome.tally.imbalance() {
        let _ = writeln!(
            text,
            "a fault of this program: {what}; don't trust these figures"
        );
    }
    let _ = writeln!(
        text,
        "loaded {} for {}, after a ramp of {}",
        outcome.targets.join(", "),
        seconds(outcome.measured),
        seconds(outcome.ramp)
    );
}

/// Where there were fewer connections than asked for, or not all the time.
fn fewer(outcome: &Outcome) -> Option<String> {
    let c = &outcome.tally.connections;
    let asked = Count(c.asked);
    if c.peak_confirmed < c.asked {
        let came = Count(c.peak_confirmed);
        let why = missing(outcome);
        return Some(format!(
            "ONLY {came} of {asked} connections came about: {why}"
        ));
    }
    if c.missing > 0 {
        let left = Count(c.asked.saturating_sub(c.missing));
        let why = missing(outcome);
        return Some(format!(
            "ONLY {left} of {asked} connections were there to the end: {why}"
        ));
    }
    let lost = Count(c.lost);
    (c.lost > 0).then(|| {
        format!("LOST {lost} connections that the load had not ended; others took their places")
    })
}

/// Where fewer messages were sent than were due, or asked for.
fn less(outcome: &Outcome) -> Option<String> {
    let m = &outcome.tally.messages;
    let (sent, due) = (Count(m.sent), Count(m.due()));
    let why = match outcome.plan.volume {
        Volume::Messages(_) => "nothing was answered any more",
        Volume::For(_) => "no connection could take the others",
    };
    (m.unsent > 0).then(|| format!("ONLY {sent} of {due} messages were sent: {why}"))
}

/// Where messages over streams were sent and never answered. Datagrams get lost, and have lines of
/// their own.
fn unanswered(outcome: &Outcome) -> Option<String> {
    let (m, d) = (&outcome.tally.messages, &outcome.tally.datagrams);
    let without = (m.lost + m.outstanding).saturating_sub(d.lost + d.outstanding);
    let (count, sent) = (Count(without), Count(m.sent));
    (without > 0).then(|| format!("NO ANSWER came to {count} of {sent} messages"))
}

/// What became of the connections that are missing.
fn missing(outcome: &Outcome) -> String {
    let c = &outcome.tally.connections;
    let undialed = c.asked.saturating_sub(c.dialed - c.redialed);
    let causes = [
        (c.refused, "refused"),
        (c.timed_out, "timed out"),
        (c.failed, "failed"),
        (c.dialing, "still dialing"),
        (c.lost, "lost"),
        (c.silent, "without an answer"),
        (undialed, "never dialed"),
    ];
    let parts: Vec<String> = causes
        .iter()
        .filter(|cause| cause.0 > 0)
        .map(|(count, name)| format!("{} {name}", Count(*count)))
        .collect();
    if parts.is_empty() {
        return "never so many at one time".to_owned();
    }
    parts.join(", ")
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}
