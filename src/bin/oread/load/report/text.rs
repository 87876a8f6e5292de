//! The report in words.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::chart::chart;
use super::environment::Environment;
use super::headline::headline;
use super::judgement::Judgement;
use crate::load::count::tally::over_an_hour;
use crate::load::options::gate::percentile;
use crate::load::options::load::{Traffic, Turnover};
use crate::load::report::outcome::Outcome;
use crate::values::units::{Count, Size};

/// The whole report. Its first line says what matters most: whether the connections asked for were
/// there.
pub(super) fn report(
    outcome: &Outcome,
    environment: &Environment,
    judgement: &Judgement,
) -> String {
    let mut text = String::new();
    headline(&mut text, outcome);
    connections(&mut text, outcome);
    traffic(&mut text, outcome);
    datagrams(&mut text, outcome);
    latency(&mut text, outcome);
    honesty(&mut text, outcome, judgement);
    for gate in &judgement.gates {
        let word = if gate.met { "met" } else { "NOT MET" };
        line(
            &mut text,
            "gate",
            &format!("{}: {word}, it is {}", gate.gate, gate.shown),
        );
    }
    line(
        &mut text,
        "ran",
        &format!(
            "oread {} on {} {}, {} processors, {} descriptors",
            environment.version,
            environment.kernel,
            environment.machine,
            environment.processors,
            Count(environment.descriptors)
        ),
    );
    line(&mut text, "", &environment.command_line);
    text
}

/// A time in at most seven characters: `850ns`, `1.25ms`, `12.3s`.
pub(crate) fn short(ns: u64) -> String {
    let (unit, name) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (1e3, "us"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = ns as f64 / unit;
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let number = format!("{value:.digits$}");
    let number = match number.split_once('.') {
        Some(_) => number.trim_end_matches('0').trim_end_matches('.'),
        None => &number,
    };
    format!("{number}{name}")
}

/// A line: what it's about, and what there is to say.
fn line(text: &mut String, about: &str, what: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{about:<12} {what}");
}

fn connections(text: &mut String, outcome: &Outcome) {
    let c = &outcome.tally.connections;
    line(
        text,
        "connections",
        &format!(
            "{} asked for, {} dialed, {} established, {} confirmed by an echo",
            Count(c.asked),
            Count(c.dialed),
            Count(c.established),
            Count(c.confirmed)
        ),
    );
    line(
        text,
        "",
        &format!(
            "{} lost, {} refused, {} timed out, {} failed, {} still dialing; {} open at the end",
            Count(c.lost),
            Count(c.refused),
            Count(c.timed_out),
            Count(c.failed),
            Count(c.dialing),
            Count(c.open)
        ),
    );
    if let Some(reached) = outcome.churn_reached() {
        let asked = match outcome.plan.turnover {
            Turnover::Churn(rate) => format!("{} a second asked for, ", Count(rate.get().into())),
            _ => String::new(),
        };
        let what = format!(
            "{asked}{reached:.1} a second reached: {} closed and dialed again",
            Count(c.replaced)
        );
        line(text, "churn", &what);
    }
    for (name, count) in &outcome.tally.errors {
        line(text, "error", &format!("{} {name}", Count(*count)));
    }
}

fn traffic(text: &mut String, outcome: &Outcome) {
    let m = &outcome.tally.messages;
    let b = &outcome.tally.bytes;
    if m.sent + m.unsent > 0 {
        line(
            text,
            "messages",
            &format!(
                "{} sent, {} echoed, {} verified, {} corrupt, {} outstanding",
                Count(m.sent),
                Count(m.echoed),
                Count(m.verified),
                Count(m.corrupt),
                Count(m.outstanding)
            ),
        );
        if m.timed_out + m.lost + m.unsent > 0 {
            line(
                text,
                "",
                &format!(
                    "{} over the message timeout, {} lost, {} due and never sent",
                    Count(m.timed_out),
                    Count(m.lost),
                    Count(m.unsent)
                ),
            );
        }
    }
    if b.surplus > 0 {
        let what = format!(
            "{} came that no message had asked for: answers here are longer than messages, and \
             `--verify off` tells them apart by the messages' length",
            Size(b.surplus)
        );
        line(text, "BEWARE", &what);
    }
    let Some(rate) = outcome.rate_reached() else {
        return;
    };
    let each = |bytes: u64| Size((bytes as f64 / outcome.measured.as_secs_f64()) as u64);
    line(
        text,
        "rate",
        &format!(
            "{} answers a second; {}/s out, {}/s in",
            Count(rate.round() as u64),
            each(b.sent_in_time),
            each(b.received_in_time)
        ),
    );
}

fn datagrams(text: &mut String, outcome: &Outcome) {
    let d = &outcome.tally.datagrams;
    if d.sent + d.dropped == 0 {
        return;
    }
    line(
        text,
        "datagrams",
        &format!(
            "{} sent, {} received, {} lost ({:.3}%)",
            Count(d.sent),
            Count(d.received),
            Count(d.lost),
            d.lost as f64 / d.sent.max(1) as f64 * 100.0
        ),
    );
    line(
        text,
        "",
        &format!(
            "{} late, {} duplicated, {} reordered, {} corrupt, {} not taken by the system",
            Count(d.late),
            Count(d.duplicated),
            Count(d.reordered),
            Count(d.corrupt),
            Count(d.dropped)
        ),
    );
    let mut worst: Vec<(usize, u64)> = outcome
        .tally
        .flows
        .iter()
        .enumerate()
        .map(|(flow, d)| (flow, d.lost))
        .filter(|(_, lost)| *lost > 0)
        .collect();
    worst.sort_by_key(|&(_, lost)| std::cmp::Reverse(lost));
    if let Some((flow, lost)) = worst.first() {
        let what = format!(
            "{} of {} flows lost some, flow {flow} the most: {}",
            Count(worst.len() as u64),
            Count(outcome.tally.flows.len() as u64),
            Count(*lost)
        );
        line(text, "", &what);
    }
}

fn latency(text: &mut String, outcome: &Outcome) {
    let l = &outcome.tally.latency;
    let open = matches!(outcome.plan.traffic, Traffic::Open(_));
    let mut rows = vec![("connect", &l.connect), ("first echo", &l.first_echo)];
    rows.push(("response", &l.response));
    if open {
        rows.push(("service", &l.service));
    }
    rows.retain(|(_, histogram)| !histogram.is_empty());
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:<12} {:>11} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "latency", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    );
    for (name, histogram) in rows {
        let _ = write!(
            text,
            "  {name:<10} {:>11}",
            Count(histogram.len()).to_string()
        );
        for p in [50.0, 90.0, 99.0, 99.9, 99.99] {
            let _ = write!(text, " {:>8}", percentile_or_dash(histogram, p));
        }
        let _ = writeln!(text, " {:>8}", short(histogram.max()));
        let over = over_an_hour(histogram);
        if over > 0 {
            let over = Count(over);
            let _ = writeln!(
                text,
                "  ({over} of these took over an hour; what is over 73 minutes counts as that)"
            );
        }
    }
    let m = &outcome.tally.messages;
    if m.unanswered() > 0 {
        let (without, due) = (Count(m.unanswered()), Count(m.due()));
        let _ = writeln!(
            text,
            "  ({without} of the {due} messages due were never answered, and are in none of these figures)"
        );
    }
    if open {
        text.push_str(
            "  (response counts from when a message was due, service from when it was sent)\n",
        );
    }
    if !l.response.is_empty() {
        let _ = write!(text, "\nresponses\n{}\n", chart(&l.response));
    }
}

/// A dash where too few samples carry the percentile.
fn percentile_or_dash(histogram: &Histogram<u64>, p: f64) -> String {
    percentile(histogram, p).map_or_else(|| "-".to_owned(), short)
}

fn honesty(text: &mut String, outcome: &Outcome, judgement: &Judgement) {
    if let Traffic::Open(asked) = outcome.plan.traffic {
        let pacing = &outcome.tally.pacing.error;
        let late = percentile_or_dash(pacing, 99.0);
        let most = if pacing.is_empty() {
            "-".to_owned()
        } else {
            short(pacing.max())
        };
        line(
            text,
            "pacing",
            &format!(
                "{} a second asked for; sent late by {late} at p99, {most} at most",
                Count(asked.get().into())
            ),
        );
    }
    line(
        text,
        "generator",
        &format!(
            "{:.0}% of a processor; ready, and waiting for one, {:.0}% of the time",
            judgement.cpu * 100.0,
            judgement.waited * 100.0
        ),
    );
    if let Some(server) = outcome.own_server
        && !server.wall.is_zero()
    {
        let share = server.cpu.as_secs_f64() / server.wall.as_secs_f64() * 100.0;
        line(text, "its server", &format!("{share:.0}% of a processor"));
    }
    for reason in &judgement.bottleneck {
        line(
            text,
            "BEWARE",
            &format!("the generator was the bottleneck: {reason}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_with_three_digits_at_most() {
        for (ns, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1us"),
            (1_250_000, "1.25ms"),
            (12_345_678, "12.3ms"),
            (200_000_000, "200ms"),
            (59_900_000_000, "59.9s"),
            (3_600_000_000_000, "3600s"),
        ] {
            assert_eq!(short(ns), text);
        }
    }
}
