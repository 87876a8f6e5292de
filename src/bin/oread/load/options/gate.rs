//! Gates: what must hold of a run, as in `p99<5ms`, `errors<0.1%` or `rate>49k`.
//!
//! A gate is a figure, a comparison and a bound. Here it is read as typed; `load/never` refuses one
//! that no run can meet, and `report/judgement` holds it against a run.

#[cfg(test)]
mod fuzz;

use std::fmt;
use std::str::FromStr;

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
    pub(crate) comparison: Comparison,
    pub(crate) bound: f64,
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Timing {
    Response,
    Service,
    Connect,
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

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Comparison {
    /// Whether a figure keeps to a bound.
    pub(crate) fn holds(self, figure: f64, bound: f64) -> bool {
        match self {
            Comparison::Less => figure < bound,
            Comparison::AtMost => figure <= bound,
            Comparison::More => figure > bound,
            Comparison::AtLeast => figure >= bound,
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Gate, String> {
        if text.trim() == VALID {
            return Ok(Gate {
                text: VALID.to_owned(),
                figure: Figure::Warnings,
                comparison: Comparison::AtMost,
                bound: 0.0,
            });
        }
        let at = text.find(['<', '>']).ok_or(
            "no < or > in it; write a gate as in 'p99<5ms', 'errors<0.1%' or 'rate>49k', or valid",
        )?;
        let (left, right) = text.split_at(at);
        let (comparison, bound) = match right.as_bytes() {
            [b'<', b'=', ..] => (Comparison::AtMost, &right[2..]),
            [b'<', ..] => (Comparison::Less, &right[1..]),
            [_, b'=', ..] => (Comparison::AtLeast, &right[2..]),
            _ => (Comparison::More, &right[1..]),
        };
        let (figure, bound) = figure_and_bound(left.trim(), bound.trim())?;
        Ok(Gate {
            // On one line, whatever was between the words.
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            figure,
            comparison,
            bound,
        })
    }
}

fn figure_and_bound(name: &str, bound: &str) -> Result<(Figure, f64), String> {
    let share = bound.strip_suffix('%');
    Ok(match (name, share) {
        ("errors", Some(percent)) => (Figure::ErrorShare, percentage(percent)? / 100.0),
        ("errors", None) => (Figure::Errors, count_or_zero(bound)? as f64),
        ("lost", Some(percent)) => (Figure::LostShare, percentage(percent)? / 100.0),
        ("lost", None) => return Err("lost is a share; write it as in 'lost<0.1%'".into()),
        ("rate", _) => (Figure::Rate, f64::from(per_second(bound)?.get())),
        ("connections", _) => (Figure::Connections, count_or_zero(bound)? as f64),
        (VALID, _) => return Err("valid stands alone, without a bound".into()),
        _ => {
            let figure = latency(name)?.ok_or_else(|| {
                format!(
                    "figure \"{}\" is not known; there are p50, p99, p99.9 and so on, min, mean and max \
                     (of connect, first_echo or service with that and a dot in front), errors, lost, \
                     rate and connections, and valid alone",
                    name.escape_debug()
                )
            })?;
            (figure, nanos(duration(bound)?) as f64)
        }
    })
}

/// The figure of a histogram that `name` is; `None` where it is none.
fn latency(name: &str) -> Result<Option<Figure>, String> {
    let (timing, statistic) = match name.split_once('.') {
        Some(("connect", rest)) => (Timing::Connect, rest),
        Some(("first_echo", rest)) => (Timing::FirstEcho, rest),
        Some(("service", rest)) => (Timing::Service, rest),
        Some(("response", rest)) => (Timing::Response, rest),
        _ => (Timing::Response, name),
    };
    let statistic = match statistic {
        "min" => Statistic::Min,
        "mean" => Statistic::Mean,
        "max" => Statistic::Max,
        _ => match statistic.strip_prefix('p').and_then(decimal) {
            Some(percentile) if (0.0..100.0).contains(&percentile) => {
                Statistic::Percentile(percentile)
            }
            Some(percentile) if percentile >= 100.0 => {
                return Err("a percentile is under 100; for the largest write max".to_owned());
            }
            _ => return Ok(None),
        },
    };
    Ok(Some(Figure::Latency(timing, statistic)))
}

fn percentage(text: &str) -> Result<f64, String> {
    let percent =
        decimal(text.trim()).ok_or_else(|| "not a share; write it as in 0.1%".to_owned())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err("a share is from 0% to 100%".into());
    }
    Ok(percent)
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
        assert_eq!(gate.to_string(), "p99 < 5 ms");
    }
}
