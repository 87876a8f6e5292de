//! Gates that no run of a plan can meet: to refuse them beforehand is better than to say so after
//! an hour.
//!
//! Only what is plain is found out. What depends on the server or the machine is for the run to
//! show.

use super::{Load, Traffic, Turnover, Volume};
use crate::load::count::samples_for;
use crate::load::options::gate::{Comparison, Figure, Gate, Statistic, Timing};
use crate::values::units::Count;

/// Why no run of `plan` meets a gate; `None` where one may.
pub(crate) fn why_never(gate: &Gate, plan: &Load) -> Option<String> {
    if gate.bound == 0.0 && gate.comparison == Comparison::Less {
        return Some(format!(
            "nothing is below 0; write {}",
            gate.text.replacen('<', "<=", 1)
        ));
    }
    match gate.figure {
        Figure::Latency(timing, statistic) => too_few(timing, statistic, plan),
        Figure::LostShare => (!plan.has_udp())
            .then(|| "only datagrams are lost, and no target begins with udp://".to_owned()),
        Figure::Rate => match plan.traffic {
            Traffic::Open(rate) if is_over(gate, most_a_second(rate.get(), plan.volume)) => {
                Some(format!("--rate {rate} sends fewer"))
            }
            Traffic::Idle { heartbeat: None } if is_over(gate, 0.0) => {
                Some("with --idle and no --heartbeat nothing is sent".to_owned())
            }
            _ => None,
        },
        Figure::Connections if is_over(gate, plan.connections.get().into()) => {
            Some(format!("--connections {} are fewer", plan.connections))
        }
        Figure::Errors | Figure::ErrorShare | Figure::Connections | Figure::Warnings => None,
    }
}

/// Whether the figure must be more than `most`, the most that it can be. A rate that is the
/// very one that is sent at may be passed by a hair, so `rate>4k` at 4,000 a second is left to
/// the run.
fn is_over(gate: &Gate, most: f64) -> bool {
    match gate.comparison {
        Comparison::More if gate.figure == Figure::Connections => gate.bound >= most,
        Comparison::More | Comparison::AtLeast => gate.bound > most,
        Comparison::Less | Comparison::AtMost => false,
    }
}

/// The most that a schedule sends a second of the measured time, the first message at its very
/// beginning. That's more than the rate where the time is short; and with a number of messages it
/// ends with the last answer, so there's no bound.
fn most_a_second(rate: u32, volume: Volume) -> f64 {
    match volume {
        Volume::For(duration) => {
            let seconds = duration.as_secs_f64().max(1e-9);
            (f64::from(rate) * seconds).ceil() / seconds
        }
        Volume::Messages(_) => f64::INFINITY,
    }
}

/// Why the histogram gets fewer samples than the figure takes.
fn too_few(timing: Timing, statistic: Statistic, plan: &Load) -> Option<String> {
    let most = most_samples(timing, plan)?;
    if most == 0 {
        return Some("with --idle and no --heartbeat nothing is sent".to_owned());
    }
    let Statistic::Percentile(p) = statistic else {
        return None;
    };
    let takes = samples_for(p);
    (most < takes).then(|| {
        format!(
            "p{p} takes {} samples, and there are {} at most",
            Count(takes),
            Count(most)
        )
    })
}

/// How many samples a histogram gets at most; `None` where the plan doesn't say.
fn most_samples(timing: Timing, plan: &Load) -> Option<u64> {
    match timing {
        Timing::Connect | Timing::FirstEcho => {
            (plan.turnover == Turnover::Keep).then(|| plan.connections.get().into())
        }
        Timing::Response | Timing::Service => match (plan.traffic, plan.volume) {
            (Traffic::Idle { heartbeat: None }, _) => Some(0),
            (_, Volume::Messages(messages)) => Some(messages.get()),
            (Traffic::Open(rate), Volume::For(duration)) => {
                let due = u128::from(rate.get()) * duration.as_nanos();
                u64::try_from(due.div_ceil(1_000_000_000)).ok()
            }
            (Traffic::Closed { .. } | Traffic::Idle { .. }, Volume::For(_)) => None,
        },
    }
}
