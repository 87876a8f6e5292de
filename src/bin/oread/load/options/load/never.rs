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
        let instead = gate.text.replacen('<', "<=", 1);
        return Some(format!("nothing is below 0; write {instead}"));
    }
    let is_silent = plan.traffic == Traffic::Idle { heartbeat: None };
    let nothing = || "with --idle and no --heartbeat nothing is sent".to_owned();
    // Whether the figure must be more than it can be. A rate that is the very one that is sent at
    // may be passed by a hair, so `rate>4k` at 4,000 a second is left to the run.
    let is_over = |most: f64| match gate.comparison {
        Comparison::More if gate.figure == Figure::Connections => gate.bound >= most,
        Comparison::More | Comparison::AtLeast => gate.bound > most,
        Comparison::Less | Comparison::AtMost => false,
    };
    match gate.figure {
        Figure::Latency(Timing::Response | Timing::Service, _) if is_silent => Some(nothing()),
        Figure::Latency(timing, Statistic::Percentile(p)) => {
            let (takes, most) = (samples_for(p), most_samples(timing, plan)?);
            let (shown, all) = (Count(takes), Count(most));
            let words = || format!("p{p} takes {shown} samples, and there are {all} at most");
            (most < takes).then(words)
        }
        Figure::LostShare => (!plan.has_udp())
            .then(|| "only datagrams are lost, and no target begins with udp://".to_owned()),
        Figure::Rate if is_silent => is_over(0.0).then(nothing),
        Figure::Rate => match (plan.traffic, plan.volume) {
            (Traffic::Open(rate), Volume::For(duration)) => {
                // The first message is sent at the very beginning, so that's more than the rate
                // where the time is short. With a number of messages it ends with the last answer,
                // and there's no bound.
                let seconds = duration.as_secs_f64().max(1e-9);
                let most = (f64::from(rate.get()) * seconds).ceil() / seconds;
                is_over(most).then(|| format!("--rate {rate} sends fewer"))
            }
            _ => None,
        },
        Figure::Connections => is_over(plan.connections.get().into())
            .then(|| format!("--connections {} are fewer", plan.connections)),
        Figure::Latency(..) | Figure::Errors | Figure::ErrorShare | Figure::Warnings => None,
    }
}

/// How many samples a histogram gets at most; `None` where the plan doesn't say.
fn most_samples(timing: Timing, plan: &Load) -> Option<u64> {
    match (timing, plan.traffic, plan.volume) {
        (Timing::Connect | Timing::FirstEcho, ..) => {
            (plan.turnover == Turnover::Keep).then(|| plan.connections.get().into())
        }
        (_, _, Volume::Messages(messages)) => Some(messages.get()),
        (_, Traffic::Open(rate), Volume::For(duration)) => {
            let due = u128::from(rate.get()) * duration.as_nanos();
            u64::try_from(due.div_ceil(1_000_000_000)).ok()
        }
        _ => None,
    }
}
