//! Gates: what must hold of a run, as in `p99<5ms`, `errors<0.1%` or `rate>49k`.
//!
//! A gate is a figure, a comparison and a bound. A figure that the run doesn't have (a percentile that too few samples
//! carry, the loss of datagrams where none were sent) breaks its gate: what can't be shown does not hold.

use std::fmt;
use std::str::FromStr;

use hdrhistogram::Histogram;

use super::outcome::Outcome;
use super::report::short;
use super::tally::nanos;
use super::values::per_second;
use crate::cli::units::{duration, large_count};

/// One gate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gate {
    /// As typed.
    pub(crate) text: String,
    figure: Figure,
    comparison: Comparison,
    bound: f64,
}

/// What a gate looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    /// Nanoseconds of one of the histograms.
    Latency(Timing, Statistic),
    /// Errors for each message that was sent and connection that was dialed; a share.
    ErrorShare,
    /// Errors, counted.
    Errors,
    /// Datagrams without an answer; a share of those sent.
    LostShare,
    /// Messages answered a second.
    Rate,
    /// Connections that an echo came back on, at a time.
    Connections,
}

/// Which histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Timing {
    Response,
    Service,
    Connect,
    FirstEcho,
}

/// What of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistic {
    Min,
    Mean,
    Max,
    Percentile(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// How a gate came out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// The gate, as typed.
    pub(crate) gate: String,
    /// Whether it holds.
    pub(crate) met: bool,
    /// The figure: nanoseconds, a share from 0 to 1, a count or a rate; `None` where the run has no such figure.
    pub(crate) value: Option<f64>,
    /// The figure as people read it.
    pub(crate) shown: String,
}

/// A percentile stands on at least so many samples beyond it: one alone would be the maximum under another name.
const SAMPLES_BEYOND: f64 = 10.0;

/// The value at `percentile` (0 to 100), where enough samples lie beyond it to carry it; else `None`.
pub(crate) fn percentile(histogram: &Histogram<u64>, percentile: f64) -> Option<u64> {
    let beyond = histogram.len() as f64 * (100.0 - percentile) / 100.0;
    // A hair of tolerance: 0.1 % of 10,000 must count as 10.
    (beyond + 1e-6 >= SAMPLES_BEYOND).then(|| histogram.value_at_quantile(percentile / 100.0))
}

impl Gate {
    /// Holds the gate against a run.
    pub(crate) fn judge(&self, outcome: &Outcome) -> Verdict {
        let value = self.figure.of(outcome);
        let met = value.is_some_and(|value| match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::AtMost => value <= self.bound,
            Comparison::More => value > self.bound,
            Comparison::AtLeast => value >= self.bound,
        });
        Verdict {
            gate: self.text.clone(),
            met,
            value,
            shown: value.map_or_else(|| "not known".to_owned(), |value| self.figure.show(value)),
        }
    }
}

impl Figure {
    fn of(self, outcome: &Outcome) -> Option<f64> {
        let tally = &outcome.tally;
        let errors: u64 = tally.errors.values().sum();
        match self {
            Figure::Latency(timing, statistic) => {
                let latency = &tally.latency;
                statistic.of(match timing {
                    Timing::Response => &latency.response,
                    Timing::Service => &latency.service,
                    Timing::Connect => &latency.connect,
                    Timing::FirstEcho => &latency.first_echo,
                })
            }
            Figure::ErrorShare => {
                let tries = tally.messages.sent + tally.connections.dialed;
                (tries > 0).then(|| errors as f64 / tries as f64)
            }
            Figure::Errors => Some(errors as f64),
            Figure::LostShare => {
                let sent = tally.datagrams.sent;
                (sent > 0).then(|| tally.datagrams.lost as f64 / sent as f64)
            }
            Figure::Rate => outcome.rate_reached(),
            Figure::Connections => Some(tally.connections.peak_confirmed as f64),
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Figure::Latency(..) => short(value.round() as u64),
            Figure::ErrorShare | Figure::LostShare => format!("{:.3}%", value * 100.0),
            Figure::Errors | Figure::Connections => format!("{value:.0}"),
            Figure::Rate => format!("{value:.1}/s"),
        }
    }
}

impl Statistic {
    fn of(self, histogram: &Histogram<u64>) -> Option<f64> {
        if histogram.is_empty() {
            return None;
        }
        match self {
            Statistic::Min => Some(histogram.min() as f64),
            Statistic::Mean => Some(histogram.mean()),
            Statistic::Max => Some(histogram.max() as f64),
            Statistic::Percentile(p) => percentile(histogram, p).map(|value| value as f64),
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
        let at = text
            .find(['<', '>'])
            .ok_or("no < or > in it; write a gate as in 'p99<5ms', 'errors<0.1%' or 'rate>49k'")?;
        let (left, right) = text.split_at(at);
        let (comparison, bound) = match right.as_bytes() {
            [b'<', b'=', ..] => (Comparison::AtMost, &right[2..]),
            [b'<', ..] => (Comparison::Less, &right[1..]),
            [_, b'=', ..] => (Comparison::AtLeast, &right[2..]),
            _ => (Comparison::More, &right[1..]),
        };
        let (figure, bound) = figure_and_bound(left.trim(), bound.trim())?;
        Ok(Gate {
            text: text.trim().to_owned(),
            figure,
            comparison,
            bound,
        })
    }
}

fn figure_and_bound(name: &str, bound: &str) -> Result<(Figure, f64), String> {
    let share = bound.strip_suffix('%');
    match name {
        "errors" | "lost" => {
            let by_share = if name == "errors" {
                Figure::ErrorShare
            } else {
                Figure::LostShare
            };
            match share {
                Some(percent) => Ok((by_share, percentage(percent)? / 100.0)),
                None if name == "errors" => Ok((Figure::Errors, count_or_zero(bound)?)),
                None => Err("lost is a share; write it as in 'lost<0.1%'".into()),
            }
        }
        "rate" => Ok((Figure::Rate, f64::from(per_second(bound)?.get()))),
        "connections" => Ok((Figure::Connections, count_or_zero(bound)?)),
        _ => {
            let figure = latency(name).ok_or_else(|| {
                format!(
                    "figure \"{}\" is not known; there are p50, p99, p99.9 and so on, min, mean and max \
                     (of connect, first_echo or service with that and a dot in front), errors, lost, \
                     rate and connections",
                    name.escape_debug()
                )
            })?;
            Ok((figure, nanos(duration(bound)?) as f64))
        }
    }
}

fn latency(name: &str) -> Option<Figure> {
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
        _ => {
            let percentile: f64 = statistic.strip_prefix('p')?.parse().ok()?;
            if !(0.0..100.0).contains(&percentile) {
                return None;
            }
            Statistic::Percentile(percentile)
        }
    };
    Some(Figure::Latency(timing, statistic))
}

fn percentage(text: &str) -> Result<f64, String> {
    let percent: f64 = text
        .trim()
        .parse()
        .map_err(|_| "not a share; write it as in 0.1%".to_owned())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err("a share is from 0% to 100%".into());
    }
    Ok(percent)
}

fn count_or_zero(text: &str) -> Result<f64, String> {
    if text == "0" {
        return Ok(0.0);
    }
    large_count(text).map(|count| count.get() as f64)
}
