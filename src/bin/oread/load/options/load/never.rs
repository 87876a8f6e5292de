//! Gates that no run of a plan can meet: to refuse them beforehand is better than to say so after
//! an hour.
//!
//! Only what is plain is found out. What depends on the server or the machine is for the run to
//! show.

use super::{Load, Traffic, Volume};
use crate::load::count::samples_for;
use crate::load::options::gate::{Figure, Gate, Statistic, Timing};
use crate::load::options::values::{Arrivals, Rate};
use crate::values::units::Count;

/// Why there is no answer to anything.
const SILENT: &str = "with --idle and no --heartbeat nothing is sent";

/// Why no run of `plan` meets a gate; `None` where one may.
pub(crate) fn why_never(gate: &Gate, plan: &Load) -> Option<String> {
    if !gate.holds(0.0) && !gate.holds(f64::INFINITY) {
        let instead = gate.text.replacen('<', "<=", 1);
        return Some(format!("nothing is below 0; write {instead}"));
    }
    let is_silent = plan.traffic == Traffic::Idle { heartbeat: None };
    // The most that the figure can be, and why.
    let (most, why) = match (gate.figure, plan.traffic, plan.volume) {
        (Figure::Latency(Timing::Response | Timing::Service, _), ..) if is_silent => {
            return Some(SILENT.to_owned());
        }
        (Figure::Latency(Timing::Handshake, _), ..) if plan.tls.is_none() => {
            return Some("there are no handshakes, for no target is over TLS".to_owned());
        }
        (Figure::Latency(timing, Statistic::Percentile(p)), ..) => {
            let (takes, most) = (samples_for(p), most_samples(timing, plan)?);
            let (shown, all) = (Count(takes), Count(most));
            let words = || format!("p{p} takes {shown} samples, and there are {all} at most");
            return (most < takes).then(words);
        }
        (Figure::LostShare, ..) if !plan.has_udp() => {
            return Some("only datagrams are lost, and no target begins with udp://".to_owned());
        }
        (Figure::Rate, ..) if is_silent => (0.0, SILENT.to_owned()),
        // With a number of messages it ends with the last answer, and there's no bound.
        (Figure::Rate, Traffic::Open(rate, Arrivals::Even), Volume::For(duration)) => {
            // The first message is sent at the very beginning, so that's more than the rate where
            // the time is short. The very rate that is sent at may be passed by a hair, so
            // `rate>4k` at 4,000 a second is left to the run.
            let seconds = duration.as_secs_f64().max(1e-9);
            let most = (rate.a_second() * seconds).ceil() / seconds;
            (most.next_up(), format!("--rate {rate} sends fewer"))
        }
        (Figure::Connections, ..) => {
            let most = plan.connections;
            (most.get().into(), format!("--connections {most} are fewer"))
        }
        _ => return None,
    };
    // It's met by all from its bound on, or by all to it: if at all, by one of the two ends.
    (!gate.holds(0.0) && !gate.holds(most)).then_some(why)
}

/// How many samples a histogram gets at most; `None` where the plan doesn't say.
fn most_samples(timing: Timing, plan: &Load) -> Option<u64> {
    match (timing, plan.traffic, plan.volume) {
        (Timing::Connect | Timing::Handshake | Timing::FirstEcho, ..) => {
            let is_fixed = !plan.replaces() && plan.connection_stages.is_none();
            is_fixed.then(|| plan.connections.get().into())
        }
        (_, _, Volume::Messages(messages)) => Some(messages.get()),
        (_, Traffic::Open(rate, Arrivals::Even), Volume::For(duration)) => {
            let due = u128::from(rate.thousandths()) * duration.as_nanos();
            u64::try_from(due.div_ceil(Rate::THOUSAND_SECONDS.into())).ok()
        }
        _ => None,
    }
}
