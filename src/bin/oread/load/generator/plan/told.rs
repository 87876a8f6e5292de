//! What the plan is told: what has become of dials, connections and messages, each with the time.

use super::upkeep::RETRY;
use super::{Dial, Plan};
use crate::load::clock::{NEVER, nanos, until};
use crate::load::count::{Ledger, Partial, record};
use crate::load::generator::flow::{Arrival, Flags, Flow, Sent, Socket, Stage};
use crate::load::generator::flows::Answered;
use crate::load::generator::label::Label;
use crate::load::generator::names;
use crate::load::generator::payload::Payload;
use crate::load::generator::protocol::Phase;
use crate::load::options::load::{Traffic, Turnover};
use crate::values::units::short;

impl Plan {
    /// A dial is being made; the index of its flow.
    pub(crate) fn dialed(&mut self, dial: Dial, now: u64) -> u32 {
        let ledger = &mut self.meter.tally.connections;
        ledger.dialed += 1;
        ledger.redialed += u64::from(dial.again);
        let mut flags = Flags::empty();
        flags.set(Flags::TURNS_OVER, dial.turns_over);
        let flow = Flow::new(dial.number, dial.target, flags, now);
        self.flows.dialed(flow)
    }

    /// A dial has come to a connection, or a socket: its first message is to be sent.
    pub(crate) fn established(&mut self, index: u32, now: u64) {
        self.established_since(index, now, now);
    }

    /// The same, of one that was connected before, and had its handshake until now.
    fn established_since(&mut self, index: u32, connected: u64, now: u64) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.stage = Stage::Confirming;
        let is_udp = matches!(flow.socket, Socket::Datagrams(_));
        if is_udp {
            flow.udp = Some(Box::default());
        }
        let after = short(nanos(until(flow.time, now)));
        log::debug!("{flow}: established after {after}");
        let took = until(flow.time, connected);
        self.dialing.ended();
        let target = flow.target;
        if let Some(target) = self.by_whom.target(target) {
            target.counts.established += 1;
        }
        self.meter.tally.connections.established += 1;
        record(&mut self.meter.tally.latency.connect, took);
        if self.flows.opening == 0 {
            return self.is_there(index, now);
        }
        if is_udp {
            self.later(0, index, now.saturating_add(RETRY));
        }
        // It's under way from here on, however often it's sent.
        self.flows.sent(index, Sent::to_confirm(now));
        self.look_again_at(0);
    }

    /// The handshake of a connection is done, which was there at `connected`.
    pub(crate) fn handshaken(&mut self, index: u32, is_resumed: bool, connected: u64, now: u64) {
        // The run may be over, and with it all that is counted.
        if self.flows.get(index).is_none() {
            return;
        }
        let tally = &mut self.meter.tally;
        match is_resumed {
            true => tally.connections.resumed_handshakes += 1,
            false => tally.connections.full_handshakes += 1,
        }
        record(&mut tally.latency.handshake, until(connected, now));
        self.established_since(index, connected, now);
    }

    /// A dial has come to nothing, for a reason with this name, and counts as that.
    pub(crate) fn dial_failed(
        &mut self,
        index: u32,
        count: fn(&mut Ledger) -> &mut u64,
        name: &str,
        now: u64,
    ) {
        self.count_failed(index, count, name, now);
        self.flows.remove(index);
    }

    /// The same, where there is a connection. It's to be closed, and its slot stays until then.
    pub(crate) fn handshake_failed(
        &mut self,
        index: u32,
        count: fn(&mut Ledger) -> &mut u64,
        name: &str,
        now: u64,
    ) {
        let stage = self.flows.get(index).map(|flow| flow.stage);
        if stage == Some(Stage::Dialing) {
            self.count_failed(index, count, name, now);
            self.end_flow(index);
        }
    }

    fn count_failed(
        &mut self,
        index: u32,
        count: fn(&mut Ledger) -> &mut u64,
        name: &str,
        now: u64,
    ) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        log::debug!("{flow}: not established: {name}");
        let (target, turns_over) = (flow.target, flow.turns_over());
        *count(&mut self.meter.tally.connections) += 1;
        if let Some(target) = self.by_whom.target(flow.target) {
            target.counts.failed += 1;
        }
        self.meter.tally.error(name);
        self.dialing.ended();
        self.replace_lost(target, false, now);
        self.dialing.turning_over -= u64::from(turns_over);
        self.look_again_at(0);
    }

    /// A message of `bytes` was sent on a flow.
    pub(crate) fn sent(&mut self, index: u32, sent: Sent, bytes: usize) {
        self.count_sent(sent, bytes);
        if !sent.confirms() {
            self.flows.sent(index, sent);
            self.is_done_with(index);
        }
        if self.payload.is_one_way {
            self.pass_one_way(index, sent.at);
        }
    }

    /// The messages of a flow are done with that no answer comes to.
    pub(crate) fn pass_one_way(&mut self, index: u32, now: u64) {
        while let Some((sent, stage, was_passed)) = self.next_one_way(index) {
            if !was_passed {
                self.meter.passed(sent);
            }
            self.after_answer(index, stage, was_passed, now);
            self.flows.enqueue(index);
        }
    }

    /// The next of these, how far its flow is, and whether it was done with before: the oldest one
    /// is taken out, and one behind others that nobody waits for any more stays where it is.
    fn next_one_way(&mut self, index: u32) -> Option<(Sent, Stage, bool)> {
        let flow = self.flows.get(index)?;
        let is_one_way = |number| self.payload.has_no_answer(flow.number, number);
        if flow.kept > 0 && is_one_way(flow.oldest()) {
            let answered = self.flows.answered(index, None, |_| Some(0))?;
            return Some((answered.sent, answered.stage, answered.given_up));
        }
        let is_last = flow.awaited() == 1 && is_one_way(flow.next.wrapping_sub(1));
        let stage = flow.stage;
        let sent = is_last.then(|| self.flows.give_up(index, NEVER))??;
        Some((sent, stage, false))
    }

    /// Counts a message as sent.
    #[inline(always)]
    pub(crate) fn count_sent(&mut self, sent: Sent, bytes: usize) {
        if self.meter.sent(sent, bytes) && self.run.took_one() {
            self.look_again_at(0);
        }
    }

    /// What was due was sent, or has come to nothing: what is due next is another one.
    fn is_done_with(&mut self, index: u32) {
        match self.load.traffic {
            Traffic::Open(..) => self.rate.advance(),
            _ => self.flows.paid(index, self.interval()),
        }
    }

    /// A datagram was sent.
    pub(crate) fn sent_datagram(&mut self, index: u32, sent: Sent, bytes: usize) {
        // An answer that comes within twice the timeout is told for what it is.
        let then = sent.at.saturating_sub(self.timeout.saturating_mul(2));
        if let Some(forgotten) = self.flows.make_room(index, then) {
            self.meter.timed_out(forgotten, None);
        }
        let is_measured = self.meter.is_measured(sent.due);
        if let Some(udp) = self.flows.udp(index) {
            udp.counts.sent += u64::from(is_measured);
        }
        self.sent(index, sent, bytes);
    }

    /// The system has refused to send a datagram, for a reason with this name. `has_no_room`: an
    /// event will tell when it can be tried again.
    pub(crate) fn not_sent(&mut self, index: u32, sent: Sent, name: &str, has_no_room: bool) {
        self.meter.tally.error(name);
        let is_measured = self.meter.is_measured(sent.due);
        if let Some(udp) = self.flows.udp(index) {
            udp.counts.dropped += u64::from(is_measured);
        }
        if sent.confirms() {
            return;
        }
        // In a closed loop it's tried again: nothing was due at a certain time.
        if has_no_room || matches!(self.load.traffic, Traffic::Closed { .. }) {
            self.flows.mark(index, Flags::FULL);
            return;
        }
        // It's one of those that were asked for: a system that takes none must not keep the run
        // from its end.
        if is_measured {
            self.meter.tally.messages.unsent += 1;
            if self.run.took_one() {
                self.look_again_at(0);
            }
        }
        self.is_done_with(index);
    }

    /// A flow's socket takes something again. What it owed meanwhile could not be sent before.
    pub(crate) fn has_room(&mut self, index: u32, now: u64) {
        if let Traffic::Idle { .. } = self.load.traffic {
            self.meter.takers_since = now;
        }
        self.flows.has_room(index);
    }

    /// How many messages a flow is to send now, from within its callback: those of a closed loop,
    /// which are due when they are sent.
    pub(crate) fn wanted(&self, index: u32, now: u64) -> u32 {
        let is_closed = matches!(self.load.traffic, Traffic::Closed { .. });
        match self.flows.get(index) {
            Some(flow) if is_closed && self.run.may_send(now) => self.flows.wanted(flow),
            _ => 0,
        }
    }

    /// A part of the oldest message's answer has come.
    pub(crate) fn got(&mut self, index: u32, bytes: usize, now: u64) {
        if let Some(flow) = self.flows.get_mut(index)
            && let Some(sent) = flow.asked()
        {
            flow.got += bytes as u32;
            self.meter.received(sent, now, bytes);
        }
    }

    /// The last bytes of the answer to the oldest message have come, where `find` finds them, and
    /// how many. When the message that goes out in its place, at once, is written,
    /// [`Plan::count_sent`] is told.
    #[inline(always)]
    pub(crate) fn answered(
        &mut self,
        index: u32,
        now: u64,
        find: impl FnOnce(&Payload, &Flow) -> Option<usize>,
    ) -> Option<Answered> {
        let again_at = self.run.may_send(now).then_some(now);
        let find = |flow: &Flow| find(&self.payload, flow);
        let answered = self.flows.answered(index, again_at, find)?;
        let (bytes, given_up) = (answered.bytes, answered.given_up);
        self.meter.answered(answered.sent, now, bytes, given_up);
        if self.by_whom.is_on {
            self.note_answer(index, answered.sent, now, given_up);
        }
        if answered.next.is_none() {
            self.after_answer(index, answered.stage, given_up, now);
        }
        Some(answered)
    }

    /// Counts an answer to a measured message with its target and its connection.
    #[inline(never)]
    fn note_answer(&mut self, index: u32, sent: Sent, now: u64, given_up: bool) {
        if let Some(flow) = self.flows.get(index)
            && self.meter.is_measured(sent.due)
        {
            let response = now - sent.due.min(now);
            let (number, target) = (flow.number, flow.target);
            self.by_whom.answered(index, number, target, response);
            if let Some(target) = self.by_whom.target(target) {
                let is_late = !given_up && response >= self.timeout;
                target.counts.timed_out += u64::from(is_late);
            }
        }
    }

    /// Counts a message that was not answered in time, with its target as well.
    pub(super) fn timed_out(&mut self, target: u16, sent: Sent, partial: Option<Partial>) {
        let is_measured = self.meter.is_measured(sent.due);
        if let Some(target) = self.by_whom.target(target) {
            target.counts.timed_out += u64::from(is_measured);
        }
        self.meter.timed_out(sent, partial);
    }

    /// What an answer leads to beside the next message of a closed loop.
    fn after_answer(&mut self, index: u32, stage: Stage, given_up: bool, now: u64) {
        if self.flows.opening == 0 {
            self.note_first(index, now);
        }
        if self.flows.is_spent(index) {
            return self.retire(index);
        }
        match (stage, self.load.traffic) {
            (Stage::Confirming, _) => self.confirmed(index, now),
            (Stage::Retiring, _) => self.close_if_answered(index),
            // In place of one that was given up, another has been sent.
            (Stage::Live, Traffic::Closed { think: Some(_), .. })
                if !given_up && self.run.is_sending() =>
            {
                let pause = self.interval().saturating_add(self.pause(index));
                self.later(1, index, now.saturating_add(pause));
            }
            _ => {}
        }
        if self.run.is_finishing() && self.flows.under_way == 0 {
            self.look_again_at(0);
        }
    }

    /// The first answer of a connection that was there before.
    fn note_first(&mut self, index: u32, now: u64) {
        if let Some(flow) = self.flows.get(index)
            && flow.oldest() == 1
        {
            let took = until(flow.time, now);
            self.meter.tally.connections.confirmed += 1;
            // In an open loop it may have waited for its message for long, as those have that were
            // dialed in the ramp.
            let is_closed = matches!(self.load.traffic, Traffic::Closed { .. });
            if is_closed && flow.time >= self.run.begun {
                record(&mut self.meter.tally.latency.first_echo, took);
            }
        }
    }

    /// A flow is to be closed for another, when nothing is awaited on it any more.
    pub(super) fn retire(&mut self, index: u32) {
        self.flows.retire(index, true);
        self.dialing.turning_over += 1;
        self.close_if_answered(index);
    }

    /// The server has said that it ends the connection behind the answer that came last.
    pub(crate) fn announced_end(&mut self, index: u32, now: u64) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let target = flow.target;
        match flow.stage {
            Stage::Ended => {}
            _ if flow.awaited() > 0 => self.lost(index, names::CLOSED, now),
            // It's closed for another already.
            Stage::Retiring => {}
            _ => {
                log::debug!("{flow}: closed, as its server said");
                self.end_flow(index);
                self.meter.tally.connections.closed += 1;
                // At the run's end nobody takes its place, and it's not missing for that.
                self.dialing.turning_over += u64::from(self.load.replaces());
                if self.load.replaces() && !self.run.is_finishing() {
                    self.dialing.vacated(target, true);
                } else {
                    self.is_missing();
                }
            }
        }
    }

    /// How long a flow's script waits behind the answer that came last.
    fn pause(&self, index: u32) -> u64 {
        let step = self.flows.get(index).and_then(|flow| {
            let answered = flow.oldest().checked_sub(1)?;
            self.payload.step(flow.number, answered)
        });
        step.map_or(0, |step| nanos(step.pause))
    }

    /// The first answer of a flow: it's served.
    fn confirmed(&mut self, index: u32, now: u64) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        log::debug!("{flow}: confirmed by an answer");
        let took = until(flow.time, now);
        record(&mut self.meter.tally.latency.first_echo, took);
        self.meter.tally.connections.confirmed += 1;
        self.is_there(index, now);
    }

    /// A flow carries the load from here on.
    fn is_there(&mut self, index: u32, now: u64) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let turned_over = u64::from(flow.turns_over());
        self.dialing.turning_over -= turned_over;
        self.dialing.served(flow.target);
        self.flows.confirmed(index, now);
        self.meter.open = self.flows.open;
        let tally = &mut self.meter.tally;
        if self.run.phase == Phase::Measure {
            tally.connections.replaced += turned_over;
        }
        if self.run.is_sending() {
            let is_idle = matches!(self.load.traffic, Traffic::Idle { .. });
            let wait = if is_idle { self.interval() } else { 0 };
            self.begin_flow(index, now.saturating_add(wait));
        }
        self.look_again_at(0);
    }

    /// A datagram has come on a flow, and what it says of itself, unless it's none of this run's;
    /// whether it's an answer.
    pub(crate) fn datagram(
        &mut self,
        index: u32,
        label: Option<Label>,
        bytes: usize,
        now: u64,
    ) -> bool {
        let Some(flow) = self.flows.get(index) else {
            return true;
        };
        // A flow of this thread that was closed may have left its port to this one: it's an answer
        // that came late.
        if let Some(label) = label
            && label.flow < flow.number
            && label.flow % self.load.parts() == self.index
            && self.load.turnover != Turnover::Keep
            && !self.flows.has_number(label.flow)
        {
            self.meter.tally.error(names::TOO_LATE);
            return true;
        }
        let label = label.filter(|label| label.flow == flow.number);
        let stage = flow.stage;
        let arrival = label.and_then(|label| self.flows.heard(index, label.number));
        let Some(udp) = self.flows.udp(index) else {
            return true;
        };
        let counts = &mut udp.counts;
        match arrival {
            None => {
                counts.corrupt += 1;
                self.meter.tally.messages.corrupt += 1;
                self.meter.tally.error(names::CORRUPT);
                return false;
            }
            Some(Arrival::TooOld) => self.meter.tally.error(names::TOO_LATE),
            Some(Arrival::Again(sent)) => {
                counts.duplicated += u64::from(self.meter.is_measured(sent.due));
            }
            Some(Arrival::First {
                sent,
                given_up,
                after_later,
            }) => {
                if self.meter.is_measured(sent.due) {
                    let is_late = now.saturating_sub(sent.due) >= self.timeout;
                    counts.received += 1;
                    counts.reordered += u64::from(after_later);
                    counts.late += u64::from(is_late);
                }
                self.meter.answered(sent, now, bytes, given_up);
                self.note_answer(index, sent, now, given_up);
                self.after_answer(index, stage, given_up, now);
            }
        }
        true
    }

    /// What has come on a stream is not what was sent: nothing that follows can be told apart.
    pub(crate) fn corrupt(&mut self, index: u32, now: u64) {
        self.meter.tally.messages.corrupt += 1;
        match self.flows.get(index).map(|flow| flow.stage) {
            // It came right behind the last answer, and its connection was counted as closed then.
            Some(Stage::Ended) => self.meter.tally.error(names::CORRUPT),
            _ => self.lost(index, names::CORRUPT, now),
        }
    }

    /// A flow has ended though the load had not ended it, for a reason with this name. Its slot
    /// stays until its connection is gone.
    pub(crate) fn lost(&mut self, index: u32, name: &str, now: u64) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let (partial, target) = (self.partial(flow), flow.target);
        let was_served = flow.stage != Stage::Confirming;
        // It was one too many.
        let was_to_go = flow.stage == Stage::Retiring && !flow.turns_over();
        self.dialing.turning_over -= u64::from(flow.turns_over());
        log::debug!("{flow}: lost: {name}");
        self.end_flow(index);
        self.meter.tally.connections.lost += 1;
        if let Some(target) = self.by_whom.target(target) {
            target.counts.lost += 1;
        }
        self.meter.tally.error(name);
        self.meter.tally.note_partial(name, partial);
        if !was_to_go {
            self.replace_lost(target, was_served, now);
        }
    }

    /// Another connection is dialed in place of one that was lost or could not be had, in the ramp
    /// after that; and not at once, where the target did not serve it.
    fn replace_lost(&mut self, target: u16, was_served: bool, now: u64) {
        if self.load.replaces() && !self.run.is_finishing() {
            self.dialing.vacated(target, false);
            if !was_served {
                self.dialing.back_off(target, now);
            }
        } else {
            self.is_missing();
        }
    }

    /// What had come of the answer to a flow's oldest message, where it was a part.
    pub(super) fn partial(&self, flow: &Flow) -> Option<Partial> {
        // How long another answer than an echo is, nobody knows.
        let is_echo = !self.payload.is_scripted();
        (is_echo && flow.got > 0).then(|| Partial {
            got: flow.got.into(),
            of: self.payload.message(flow.number, flow.oldest()).len() as u64,
        })
    }

    /// A flow's connection or socket is gone; the name of the reason, where the load had not ended
    /// it.
    pub(crate) fn gone(&mut self, index: u32, name: &str, now: u64) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        if flow.stage != Stage::Ended {
            self.lost(index, name, now);
        }
        if let Some(udp) = self.flows.remove(index).and_then(|flow| flow.udp) {
            self.meter.tally.retired_flows.merge(&udp.counts);
        }
    }
}
