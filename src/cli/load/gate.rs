//! Gates: what must hold of a run, as in `p99<5ms`, `errors<0.1%` or `rate>49k`.
//!
//! A gate is a figure, a comparison and a bound. A figure that the run doesn't have (a percentile that too few samples
//! carry, the loss of datagrams where none were sent) breaks its gate: what can't be shown does not hold.
//!
//! Latencies are of all that was due, and not of the survivors alone: what was never answered counts as later than every
//! answer. With 2% of it, `p99` is not known, and `p90` is what 91.8% of the answers kept.

use std::fmt;
use std::str::FromStr;

use hdrhistogram::Histogram;

use super::outcome::Outcome;
use super::report::short;
use super::tally::nanos;
use super::values::per_second;
use crate::cli::units::{Count, duration, large_count};

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
    /// Of the messages that were due and the connections that were dialed, those that came to no good; a share.
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
    carries(histogram.len(), percentile).then(|| histogram.value_at_quantile(percentile / 100.0))
}

/// Whether so many samples carry a percentile.
fn carries(samples: u64, percentile: f64) -> bool {
    let beyond = samples as f64 * (100.0 - percentile) / 100.0;
    // A hair of tolerance: 0.1 % of 10,000 must count as 10.
    beyond + 1e-6 >= SAMPLES_BEYOND
}

impl Gate {
    /// Holds the gate against a run.
    pub(crate) fn judge(&self, outcome: &Outcome) -> Verdict {
        let value = self.figure.of(outcome);
        let met = value.as_ref().is_ok_and(|&value| match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::AtMost => value <= self.bound,
            Comparison::More => value > self.bound,
            Comparison::AtLeast => value >= self.bound,
        });
        Verdict {
            gate: self.text.clone(),
            met,
            shown: match &value {
                Ok(value) => self.figure.show(*value),
                Err(why) => format!("not known: {why}"),
            },
            value: value.ok(),
        }
    }
}

impl Figure {
    /// The figure of a run, or why it has none.
    fn of(self, outcome: &Outcome) -> Result<f64, String> {
        let tally = &outcome.tally;
        let (c, m) = (&tally.connections, &tally.messages);
        match self {
            Figure::Latency(timing, statistic) => {
                let latency = &tally.latency;
                let (histogram, without) = match timing {
                    Timing::Response => (&latency.response, m.unanswered()),
                    Timing::Service => (&latency.service, m.unanswered() - m.unsent),
                    Timing::Connect => (&latency.connect, c.dialed - c.established),
                    Timing::FirstEcho => (&latency.first_echo, c.dialed - c.confirmed),
                };
                statistic.of(histogram, without)
            }
            Figure::ErrorShare => {
                let tries = m.due() + c.dialed;
                let failed = m.unanswered() + m.late + c.refused + c.timed_out + c.failed + c.lost;
                if tries == 0 {
                    return Err("nothing was tried".to_owned());
                }
                Ok(failed as f64 / tries as f64)
            }
            Figure::Errors => Ok(tally.errors.values().sum::<u64>() as f64),
            Figure::LostShare => match tally.datagrams.sent {
                0 => Err("no datagram was sent".to_owned()),
                sent => Ok(tally.datagrams.lost as f64 / sent as f64),
            },
            Figure::Rate => outcome
                .rate_reached()
                .ok_or_else(|| "it never came to measuring".to_owned()),
            Figure::Connections => Ok(c.peak_confirmed as f64),
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
    /// The statistic of what is in `histogram`, and of `without` more that took longer than all of it.
    fn of(self, histogram: &Histogram<u64>, without: u64) -> Result<f64, String> {
        let some = histogram.len();
        let all = some + without;
        if some == 0 {
            return Err("there are no samples".to_owned());
        }
        let unknown = || {
            let share = without as f64 / all as f64 * 100.0;
            let (without, all) = (Count(without), Count(all));
            format!("{without} of {all} ({share:.3}%) never came to it")
        };
        match self {
            Statistic::Min => Ok(histogram.min() as f64),
            Statistic::Mean | Statistic::Max if without > 0 => Err(unknown()),
            Statistic::Mean => Ok(histogram.mean()),
            Statistic::Max => Ok(histogram.max() as f64),
            Statistic::Percentile(p) if !carries(all, p) => {
                let least = (SAMPLES_BEYOND * 100.0 / (100.0 - p) - 1e-6).ceil();
                let (all, least) = (Count(all), Count(least as u64));
                Err(format!("too few samples: {all}, it takes {least}"))
            }
            Statistic::Percentile(p) => {
                let rank = all as f64 * p / 100.0 / some as f64;
                if rank > 1.0 {
                    return Err(unknown());
                }
                Ok(histogram.value_at_quantile(rank) as f64)
            }
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
