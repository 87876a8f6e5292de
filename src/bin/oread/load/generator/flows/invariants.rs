//! The invariants of the flows, as the simulated runs look at them after each step.

use super::Flows;
use crate::load::generator::flow::{Flags, Flow, Stage};

impl Flows {
    /// Which invariant does not hold.
    pub(crate) fn broken(&self) -> Option<String> {
        let flows = || self.table.iter().map(|(_, flow)| flow);
        let ended = |flow: &&Flow| matches!(flow.stage, Stage::Closing | Stage::Lost);
        let awaited: u64 = flows()
            .filter(|flow| !ended(flow))
            .map(|flow| u64::from(flow.awaited()))
            .sum();
        if awaited != self.under_way {
            return Some(format!("{awaited} awaited, {} under way", self.under_way));
        }
        let open = flows().filter(|f| matches!(f.stage, Stage::Live | Stage::Retiring));
        let open = open.count() as u64;
        if open != self.open {
            return Some(format!("{open} are open, {} counted", self.open));
        }
        for (place, &index) in self.takers.iter().enumerate() {
            match self.get(index) {
                Some(flow) if flow.place as usize == place && flow.is_ready() => {}
                other => return Some(format!("taker {place} is {other:?}")),
            }
        }
        let queued = |(index, flow): (usize, &Flow)| {
            flow.flags.contains(Flags::QUEUED) && !self.queue.contains(&(index as u32))
        };
        self.table
            .iter()
            .any(queued)
            .then(|| "a flow is not in the queue".to_owned())
    }
}
