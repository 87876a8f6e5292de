//! What is told while it runs of what is counted.

use super::{Phase, Plan};
use crate::load::count::Counts;

impl Plan {
    /// What has been counted so far. Until the end, what the tally says then of what is still open
    /// follows from the rest.
    pub(crate) fn counts(&self) -> Counts {
        let tally = &self.meter.tally;
        let (latency, schedule) = self.meter.timings();
        let mut counts = Counts {
            connections: tally.connections,
            errors: tally.errors.clone(),
            messages: tally.messages,
            bytes: tally.bytes,
            datagrams: tally.datagrams,
            latency,
            schedule,
        };
        if self.meter.verifies() {
            counts.messages.verified = counts.messages.echoed;
        }
        if self.phase() == Phase::Over {
            return counts;
        }
        let (ledger, messages) = (&mut counts.connections, &mut counts.messages);
        let settled = ledger.established + ledger.refused + ledger.timed_out + ledger.failed;
        ledger.dialing = ledger.dialed.saturating_sub(settled);
        ledger.open = (ledger.established).saturating_sub(ledger.lost + ledger.closed);
        let confirmed = self.flows.open();
        ledger.silent = ledger.open.saturating_sub(confirmed);
        let there = confirmed + self.dialing.replacing();
        ledger.missing = ledger.asked.saturating_sub(there);
        messages.outstanding = messages
            .sent
            .saturating_sub(messages.echoed + messages.lost);
        if self.load.has_udp() {
            counts.datagrams = self.flows.datagrams();
            counts.datagrams.merge(&self.retired);
            let datagrams = &mut counts.datagrams;
            datagrams.outstanding = datagrams.sent.saturating_sub(datagrams.received);
        }
        counts
    }
}
