//! Gates: what must hold of a run, as in `p99<5ms`, `errors<0.1%` or `rate>49k`.
//!
//! A gate is a figure, a comparison and a bound. Here it is read as typed; `load/never` refuses one
//! that no run can meet, and `report/judgement` holds it against a run.

#[cfg(test)]
mod fuzz;

use std::cmp::Ordering::{self, Greater, Less};
use std::str::FromStr;

use clap::ValueEnum;

use crate::load::clock::nanos;
use crate::load::options::values::per_second;
use crate::values::units::{count_or_zero, duration};

/// The gate on the run itself.
pub(crate) const VALID: &str = "valid";

/// One gate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gate {
    /// As typed, on one line.
    pub(crate) text: String,
    pub(crate) figure: Figure,
    /// On which side of the bound the figure must be.
    pub(crate) side: Ordering,
    /// Whether it may be the bound itself.
    pub(crate) or_equal: bool,
    pub(crate) bound: f64,
}

impl Gate {
    /// Whether a figure keeps to the bound.
    pub(crate) fn holds(&self, figure: f64) -> bool {
        let at = figure.total_cmp(&self.bound);
        at == self.side || self.or_equal && at.is_eq()
    }
}

/// What a gate looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Figure {
    /// Nanoseconds of one of the histograms.
    Latency(Timing, Statistic),
    /// Of the messages that were due and the connections that were dialed, those that came to no
    /// good; a share.
    ErrorShare,
    /// Errors, counted.
    Errors,
    /// Datagrams without an answer; a share of those sent.
    LostShare,
    /// Messages answered a second.
    Rate,
    /// Connections that an echo came back on, at a time.
    Connections,
    /// What the report says BEWARE of, counted.
    Warnings,
}

/// Which histogram.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Timing {
    Response,
    Service,
    Connect,
    Handshake,
    FirstEcho,
}

/// What of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Statistic {
    Min,
    Mean,
    Max,
    Percentile(f64),
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Gate, String> {
        if text.trim() == VALID {
            return Ok(Gate {
                text: VALID.to_owned(),
                figure: Figure::Warnings,
                side: Less,
                or_equal: true,
                bound: 0.0,
            });
        }
        let mut further = text.split(',').skip(1);
        if further.any(|gate| gate.trim_start().starts_with(char::is_alphabetic)) {
            return Err("there is a comma in it; write one gate for each --slo".to_owned());
        }
        let at = text.find(['<', '>']).ok_or(
            "no < or > in it; write a gate as in 'p99<5ms', 'errors<0.1%' or 'rate>49k', or valid",
        )?;
        let (name, rest) = text.split_at(at);
        let (sign, bound) = rest.split_at(1);
        let inclusive = bound.strip_prefix('=');
        let (figure, bound) = figure_and_bound(name.trim(), inclusive.unwrap_or(bound).trim())?;
        Ok(Gate {
            // On one line, whatever was between the words.
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            figure,
            side: if sign == "<" { Less } else { Greater },
            or_equal: inclusive.is_some(),
            bound,
        })
    }
}

fn figure_and_bound(name: &str, bound: &str) -> Result<(Figure, f64), String> {
    let count = || count_or_zero(bound).map(|count| count as f64);
    let share = bound.strip_suffix('%').map(percentage);
    let or_share = |why| why + ", or a share as in 0.1%";
    Ok(match (name, share) {
        ("errors", Some(share)) => (Figure::ErrorShare, share?),
        ("errors", None) => (Figure::Errors, count().map_err(or_share)?),
        ("lost", Some(share)) => (Figure::LostShare, share?),
        ("lost", None) => return Err("lost is a share; write it as in 'lost<0.1%'".into()),
        ("rate", _) => (Figure::Rate, f64::from(per_second(bound)?.get())),
        ("connections", _) => (Figure::Connections, count()?),
        (VALID, _) => return Err("valid stands alone, without a bound".into()),
        _ => (latency(name)?, nanos(duration(bound)?) as f64),
    })
}

/// The figure of a histogram that `name` is.
fn latency(name: &str) -> Result<Figure, String> {
    let timed = name.split_once('.').and_then(|(timing, statistic)| {
        let timing = Timing::from_str(timing, false).ok()?;
        Some((timing, statistic))
    });
    let (timing, statistic) = timed.unwrap_or((Timing::Response, name));
    let percentile = statistic.strip_prefix('p').and_then(decimal);
    let statistic = match (statistic, percentile) {
        ("min", _) => Statistic::Min,
        ("mean", _) => Statistic::Mean,
        ("max", _) => Statistic::Max,
        (_, Some(percentile)) if percentile < 100.0 => Statistic::Percentile(percentile),
        (_, Some(percentile)) if percentile >= 100.0 => {
            return Err("a percentile is under 100; for the largest write max".to_owned());
        }
        _ => {
            let name = name.escape_debug();
            return Err(format!(
                "figure \"{name}\" is not known; there are p50, p99, p99.9 and so on, min, mean and max \
                 (of connect, handshake, first_echo or service with that and a dot in front), errors, lost, \
                 rate and connections, and valid alone"
            ));
        }
    };
    Ok(Figure::Latency(timing, statistic))
}

/// What a percentage is as a share of 1.
///
/// # Errors
/// Words on what is wrong.
pub(crate) fn percentage(text: &str) -> Result<f64, String> {
    match decimal(text.trim()) {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        Some(_) => Err("a share is from 0% to 100%".into()),
        None => Err("not a share; write it as in 0.1%".into()),
    }
}

/// A number that is not negative. A sign in front, which `f64::from_str` takes, is none of ours,
/// and the minus of -0 is lost on all comparisons.
fn decimal(text: &str) -> Option<f64> {
    let is_signed = text.starts_with(['+', '-']);
    text.parse().ok().filter(|_| !is_signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_gate_is_refused_with_a_reason() {
        for (text, reason) in [
            ("p99", "no < or >"),
            ("valid<1", "stands alone"),
            ("p100<5ms", "for the largest write max"),
            ("connect.p101<5ms", "for the largest write max"),
            ("p-1<5ms", "not known"),
            ("pnan<5ms", "not known"),
            ("p+99<5ms", "not known"),
            ("p-0<5ms", "not known"),
            ("errors<-0%", "not a share"),
            ("lost<+1%", "not a share"),
            ("p99<5", "not a duration"),
            ("speed>1", "not known"),
            ("errors<101%", "from 0% to 100%"),
            ("errors<0.5", "whole number"),
            ("errors<0.1", ", or a share as in 0.1%"),
            ("P99<5ms", "\"P99\" is not known; there are p50, p99"),
            ("rps>49k", "errors, lost, rate and connections"),
            ("p99<5ms,errors<1%", "one gate for each --slo"),
            ("p99<5ms, valid", "one gate for each --slo"),
            ("lost<5", "lost is a share"),
            ("rate>x", "not a count"),
            ("rate>49,000", "write 49000"),
        ] {
            let error = text.parse::<Gate>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn zero_is_a_bound_however_it_is_written() {
        for text in ["errors<=0", "errors<=00", "errors<=0.0", "connections>=0k"] {
            assert_eq!(text.parse::<Gate>().unwrap().bound, 0.0, "{text}");
        }
    }

    #[test]
    fn a_gate_is_told_on_one_line() {
        let gate: Gate = "p99 <\n\t5\u{85}ms ".parse().unwrap();
        assert_eq!(gate.text, "p99 < 5 ms");
    }
}
