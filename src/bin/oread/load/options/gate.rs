//! Gates: what must hold of a run, as in `p99<5ms`, `errors<0.1%` or `rate>49k`.
//!
//! A gate is a figure, a comparison and a bound. A figure that the run doesn't have (a percentile
//! that too few samples carry, the loss of datagrams where none were sent) breaks its gate: what
//! can't be shown does not hold. Where that is plain before the run, the gate is refused
//! (`gate/never`). `gate/parse` reads a gate as typed.
//!
//! Latencies are of all that was due, and not of the survivors alone: what was never answered
//! counts as later than every answer. With 2% of it, `p99` is not known, and `p90` is what 91.8% of
//! the answers kept.

#[cfg(test)]
mod fuzz;
mod never;
mod parse;

use std::fmt;

use hdrhistogram::Histogram;

use crate::load::options::load::Turnover;
use crate::load::report::outcome::Outcome;
use crate::load::report::short;
use crate::values::units::Count;

/// One gate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gate {
    /// As typed, on one line.
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
    /// The figure: nanoseconds, a share from 0 to 1, a count or a rate; `None` where the run has no
    /// such figure.
    pub(crate) value: Option<f64>,
    /// The figure as people read it.
    pub(crate) shown: String,
}

/// A percentile stands on at least so many samples beyond it: one alone would be the maximum under
/// another name.
const SAMPLES_BEYOND: f64 = 10.0;

/// The value at `percentile` (0 to 100), where enough samples lie beyond it to carry it; else
/// `None`.
pub(crate) fn percentile(histogram: &Histogram<u64>, percentile: f64) -> Option<u64> {
    carries(histogram.len(), percentile).then(|| histogram.value_at_quantile(percentile / 100.0))
}

/// Whether so many samples carry a percentile.
fn carries(samples: u64, percentile: f64) -> bool {
    let beyond = samples as f64 * (100.0 - percentile) / 100.0;
    // A hair of tolerance: 0.1 % of 10,000 must count as 10.
    beyond + 1e-6 >= SAMPLES_BEYOND
}

/// How many samples carry a percentile, at the least.
fn samples_for(percentile: f64) -> u64 {
    let samples = SAMPLES_BEYOND * 100.0 / (100.0 - percentile);
    // The same hair, as a share: what is left of a subtraction from 100 is less exact the smaller
    // it is.
    (samples * (1.0 - 1e-9)).ceil() as u64
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
        // Replacements that were on their way when the run ended have come to no end, good or bad.
        let (dialing, confirming) = match outcome.plan.turnover {
            Turnover::Keep => (0, 0),
            _ => (c.dialing, c.silent),
        };
        match self {
            Figure::Latency(timing, statistic) => {
                let latency = &tally.latency;
                let connecting = c.dialed - c.established - dialing;
                let (histogram, without) = match timing {
                    Timing::Response => (&latency.response, m.unanswered()),
                    Timing::Service => (&latency.service, m.unanswered() - m.unsent),
                    Timing::Connect => (&latency.connect, connecting),
                    Timing::FirstEcho => {
                        let unserved = (c.established - c.confirmed).saturating_sub(confirming);
                        (&latency.first_echo, connecting + unserved)
                    }
                };
                statistic.of(histogram, without)
            }
            Figure::ErrorShare => {
                let tries = m.due() + c.dialed;
                let unconnected = c.refused + c.timed_out + c.failed;
                let silent = c.silent - confirming;
                let failed = m.unanswered() + m.late + unconnected + c.lost + silent;
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
    /// The statistic of what is in `histogram`, and of `without` more that took longer than all of
    /// it.
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
                let (all, least) = (Count(all), Count(samples_for(p)));
                Err(format!("too few samples: {all}, it takes {least}"))
            }
            Statistic::Percentile(p) => {
                // In this order, so that it's the report's own percentile to the last digit where
                // all are answered.
                let rank = p / 100.0 * (all as f64 / some as f64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_carried_by_exactly_so_many_samples_and_not_by_one_less() {
        for (p, samples) in [
            (0.0, 10),
            (33.0, 15),
            (50.0, 20),
            (90.0, 100),
            (99.0, 1_000),
            (99.9, 10_000),
            (99.99, 100_000),
        ] {
            assert_eq!(samples_for(p), samples, "p{p}");
            assert!(carries(samples, p) && !carries(samples - 1, p), "p{p}");
        }
    }

    #[test]
    fn a_percentile_of_what_is_all_answered_is_the_report_s() {
        for samples in [10_000, 20_000, 33_333] {
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            for value in 1..=samples {
                histogram.record(value * value).unwrap();
            }
            for p in [33.3, 50.0, 90.0, 99.0, 99.9] {
                let gate = Statistic::Percentile(p).of(&histogram, 0).unwrap();
                let report = percentile(&histogram, p).unwrap();
                assert_eq!(gate, report as f64, "p{p} of {samples}");
            }
        }
    }
}
