//! A gate held against a run.
//!
//! A figure that the run doesn't have (a percentile that too few samples carry, the loss of
//! datagrams where none were sent) breaks its gate: what can't be shown does not hold.
//!
//! Latencies are of all that was due, and not of the survivors alone: what was never answered
//! counts as later than every answer. With 2% of it, `p99` is not known, and `p90` is what 91.8% of
//! the answers kept.

use hdrhistogram::Histogram;

use crate::load::count::{carries, samples_for};
use crate::load::options::gate::{Figure, Gate, Statistic, Timing};
use crate::load::options::load::Turnover;
use crate::load::report::outcome::Outcome;
use crate::load::report::warnings::Warning;
use crate::values::units::{Count, a_second, share, short};

/// How a gate came out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// The gate, as typed.
    pub(super) gate: String,
    /// Whether it holds.
    pub(super) met: bool,
    /// The figure: nanoseconds, a share from 0 to 1, a count or a rate; `None` where the run has no
    /// such figure.
    pub(super) value: Option<f64>,
    /// The figure as people read it.
    pub(super) shown: String,
}

impl Verdict {
    /// Holds a gate against a run, of which the report says BEWARE so often.
    pub(super) fn of(gate: &Gate, outcome: &Outcome, warnings: &[Warning]) -> Verdict {
        let (value, shown) = match figure(gate.figure, outcome, warnings) {
            Ok((value, shown)) => (Some(value), shown),
            Err(why) => (None, format!("not known: {why}")),
        };
        Verdict {
            gate: gate.text.clone(),
            met: value.is_some_and(|value| gate.comparison.holds(value, gate.bound)),
            value,
            shown,
        }
    }
}

/// The figure of a run, and as people read it; or why it has none.
fn figure(
    figure: Figure,
    outcome: &Outcome,
    warnings: &[Warning],
) -> Result<(f64, String), String> {
    let tally = &outcome.tally;
    let (c, m, d) = (&tally.connections, &tally.messages, &tally.datagrams);
    // Replacements that were on their way when the run ended have come to no end, good or bad.
    let (dialing, confirming) = match outcome.plan.turnover {
        Turnover::Keep => (0, 0),
        _ => (c.dialing, c.silent),
    };
    let of = |part: u64, all: u64| {
        let part = part as f64 / all as f64;
        (part, share(part))
    };
    let counted = |count: u64| (count as f64, Count(count).to_string());
    Ok(match figure {
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
            let ns = of_histogram(statistic, histogram, without)?;
            (ns, short(ns.round() as u64))
        }
        Figure::ErrorShare => {
            let unconnected = c.refused + c.timed_out + c.failed;
            let silent = c.silent - confirming;
            match m.due() + c.dialed {
                0 => return Err("nothing was tried".to_owned()),
                tries => of(
                    m.unanswered() + m.late + unconnected + c.lost + silent,
                    tries,
                ),
            }
        }
        Figure::Errors => counted(tally.errors.values().sum()),
        Figure::LostShare if d.sent == 0 => return Err("no datagram was sent".to_owned()),
        Figure::LostShare => of(d.lost, d.sent),
        Figure::Rate => {
            let rate = outcome.rate_reached();
            let rate = rate.ok_or_else(|| "it never came to measuring".to_owned())?;
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

/// A statistic of what is in `histogram`, and of `without` more that took longer than all of it.
fn of_histogram(
    statistic: Statistic,
    histogram: &Histogram<u64>,
    without: u64,
) -> Result<f64, String> {
    let some = histogram.len();
    let all = some + without;
    if some == 0 {
        return Err("there are no samples".to_owned());
    }
    let unknown = || {
        let part = share(without as f64 / all as f64);
        let (without, all) = (Count(without), Count(all));
        format!("{without} of {all} ({part}) never came to it")
    };
    match statistic {
        Statistic::Min => Ok(histogram.min() as f64),
        Statistic::Mean | Statistic::Max if without > 0 => Err(unknown()),
        Statistic::Mean => Ok(histogram.mean()),
        Statistic::Max => Ok(histogram.max() as f64),
        Statistic::Percentile(p) if !carries(all, p) => {
            let (all, least) = (Count(all), Count(samples_for(p)));
            Err(format!("too few samples: {all}, it takes {least}"))
        }
        Statistic::Percentile(p) => {
            // In this order, so that it's the report's own percentile to the last digit where all
            // are answered.
            let rank = p / 100.0 * (all as f64 / some as f64);
            if rank > 1.0 {
                return Err(unknown());
            }
            Ok(histogram.value_at_quantile(rank) as f64)
        }
    }
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
                let gate = of_histogram(Statistic::Percentile(p), &histogram, 0).unwrap();
                let report = percentile(&histogram, p).unwrap();
                assert_eq!(gate, report as f64, "p{p} of {samples}");
            }
        }
    }
}
