//! The invariants of the flows, as the simulated runs look at them after each step.

use crate::load::generator::flow::{Flags, Flow, Stage};
use crate::load::generator::flows::{Flows, Key};

impl Flows {
    /// Which invariant does not hold.
    pub(crate) fn broken(&self) -> Option<String> {
        let flows = || self.table.iter().map(|(_, flow)| flow);
        let running = flows().filter(|flow| flow.stage != Stage::Ended);
        let awaited: u64 = running.map(|flow| u64::from(flow.awaited())).sum();
        let is_open = |flow: &&Flow| matches!(flow.stage, Stage::Live | Stage::Retiring);
        let open = flows().filter(is_open).count() as u64;
        for (what, counted, found) in [
            ("under way", self.under_way, awaited),
            ("open", self.open, open),
        ] {
            if counted != found {
                return Some(format!("{found} are {what}, {counted} are counted"));
            }
        }
        let astray = |(index, flow): (usize, &Flow)| {
            let (index, number) = (index as u32, flow.number);
            let is_queued = self.queue.contains(&Key { index, number });
            flow.flags.contains(Flags::QUEUED) != is_queued
                || self.is_open_loop && self.wanted(flow) > 0 && !is_queued
        };
        self.table
            .iter()
            .any(astray)
            .then(|| "a flow is not in the queue".to_owned())
    }
}
