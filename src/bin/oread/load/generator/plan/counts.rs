//! What is told while it runs of what is counted.

use super::Plan;
use crate::load::count::Counts;
use crate::load::generator::protocol::Phase;

impl Plan {
    /// What has been counted so far. Until the end, what the tally says then of what is still open
    /// follows from the rest.
    pub(crate) fn counts(&self) -> Counts {
        let tally = &self.meter.tally;
        let (latency, schedule) = self.meter.timings();
        let (messages, bytes) = self.meter.moved();
        let mut counts = Counts {
            connections: tally.connections,
            errors: tally.errors.clone(),
            messages,
            bytes,
            datagrams: tally.datagrams,
            latency,
            schedule,
        };
        if self.run.phase == Phase::Over {
            return counts;
        }
        let (ledger, messages) = (&mut counts.connections, &mut counts.messages);
        let settled = ledger.established + ledger.refused + ledger.timed_out + ledger.failed;
        ledger.dialing = ledger.dialed.saturating_sub(settled);
        ledger.open = (ledger.established).saturating_sub(ledger.lost + ledger.closed);
        let confirmed = self.flows.open;
        ledger.silent = ledger.open.saturating_sub(confirmed);
        // A connection that is to be closed for another, and still has answers to come, counts as
        // two: to know how many those are would take a look at each flow.
        let retired = self.staging.as_ref().map_or(0, |it| it.retired);
        let there = confirmed + self.dialing.turning_over + retired;
        ledger.missing = ledger.asked.saturating_sub(there);
        messages.outstanding = messages
            .sent
            .saturating_sub(messages.echoed + messages.lost);
        if self.load.has_udp() {
            counts.datagrams = self.flows.datagrams();
            counts.datagrams.merge(&tally.retired_flows);
            let datagrams = &mut counts.datagrams;
            datagrams.outstanding = datagrams.sent.saturating_sub(datagrams.received);
        }
        counts
    }
}
