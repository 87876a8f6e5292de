//! What the plan is told: what has become of dials, connections and messages, each with the time.

use super::{Dial, Entry, Kind, Plan, Source};
use crate::load::clock::{nanos, until};
use crate::load::count::{Partial, record};
use crate::load::generator::flow::{Cause, Flow, Sent, Socket, Stage};
use crate::load::generator::flows::{Answered, Wanted};
use crate::load::generator::label::Label;
use crate::load::generator::logs::{Names, Warnings};
use crate::load::generator::names;
use crate::load::generator::window::Arrival;
use crate::load::options::load::Turnover;
use crate::values::units::short;

/// How a dial failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    Refused,
    TimedOut,
    Otherwise,
}

/// What a datagram is that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// None that was sent.
    Corrupt,
    /// An answer.
    Answer,
}

impl Plan {
    /// A dial is being made; the index of its flow.
    pub(crate) fn dialed(&mut self, dial: Dial, now: u64) -> u32 {
        let ledger = &mut self.meter.tally.connections;
        ledger.dialed += 1;
        ledger.redialed += u64::from(dial.cause != Cause::Asked);
        let flow = Flow::new(dial.number, dial.target, dial.cause, now);
        self.names.log(&flow, format_args!("dialed"));
        self.flows.dialed(flow)
    }

    /// How the reactor knows a flow.
    pub(crate) fn bound(&mut self, index: u32, socket: Socket) {
        self.flows.bound(index, socket);
    }

    /// A dial has come to a connection, or a socket: its first message is to be sent.
    pub(crate) fn established(&mut self, index: u32, now: u64) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let took = until(flow.time, now);
        if log::log_enabled!(log::Level::Debug) {
            let took = short(nanos(took));
            self.names
                .log(flow, format_args!("established after {took}"));
        }
        self.dialing.succeeded(flow.target);
        self.flows.established(index);
        self.meter.tally.connections.established += 1;
        record(&mut self.meter.tally.latency.connect, took);
        if self.flows.window(index).is_some() {
            self.retry_later(index, now);
        }
        self.look_again_at(0);
    }

    /// A dial has come to nothing, for a reason with this name.
    pub(crate) fn dial_failed(&mut self, index: u32, how: Failed, name: &str, now: u64) {
        let Some(flow) = self.flows.remove(index) else {
            return;
        };
        self.names
            .log(&flow, format_args!("not established: {name}"));
        let ledger = &mut self.meter.tally.connections;
        *match how {
            Failed::Refused => &mut ledger.refused,
            Failed::TimedOut => &mut ledger.timed_out,
            Failed::Otherwise => &mut ledger.failed,
        } += 1;
        self.meter.tally.error(name);
        let again = self.load.turnover != Turnover::Keep && !self.run.is_finishing();
        self.dialing.failed(flow.target, flow.cause, again, now);
        self.run.settled();
        self.look_again_at(0);
    }

    /// A message of `bytes` was sent on a flow.
    #[inline(always)]
    pub(crate) fn sent(&mut self, index: u32, sent: Sent, bytes: usize) {
        self.flows.sent(index, sent);
        self.count_sent(index, sent, bytes);
    }

    #[inline(always)]
    fn count_sent(&mut self, index: u32, sent: Sent, bytes: usize) {
        if self.meter.sent(sent, bytes) && self.run.took_one() {
            self.look_again_at(0);
        }
        if !matches!(self.source, Source::Depth) && !sent.confirms() {
            self.is_done_with(index);
        }
    }

    /// What was due was sent, or has come to nothing: what is due next is another one.
    fn is_done_with(&mut self, index: u32) {
        match self.source {
            Source::Rate => {
                if let Some(rate) = &mut self.rate {
                    rate.advance();
                }
            }
            Source::Think { .. } => self.flows.paid(index, 0),
            Source::Beat { interval } => self.flows.paid(index, interval),
            Source::Depth | Source::Nothing => {}
        }
    }

    /// A datagram was sent.
    pub(crate) fn sent_datagram(&mut self, index: u32, sent: Sent, bytes: usize) {
        let measured = self.meter.is_measured(sent.due);
        if let Some(forgotten) = self.flows.sent_datagram(index, sent, measured) {
            self.meter.timed_out(forgotten, None);
        }
        let from = self.meter.from();
        if let Some((window, _)) = self.flows.window(index)
            && let Some(counts) = window.counts_of(sent.due, from)
        {
            counts.sent += 1;
        }
        self.count_sent(index, sent, bytes);
    }

    /// The system has refused to send a datagram, for a reason with this name. `has_no_room`: an
    /// event will tell when it can be tried again.
    pub(crate) fn not_sent(&mut self, index: u32, sent: Sent, name: &str, has_no_room: bool) {
        self.meter.tally.error(name);
        let from = self.meter.from();
        if let Some((window, _)) = self.flows.window(index)
            && let Some(counts) = window.counts_of(sent.due, from)
        {
            counts.dropped += 1;
        }
        if sent.confirms() {
            return;
        }
        // In a closed loop it's tried again: nothing was due at a certain time.
        let is_due = matches!(self.source, Source::Rate | Source::Beat { .. });
        if has_no_room || !is_due {
            self.flows.is_full(index);
        } else {
            // It's one of those that were asked for: a system that takes none must not keep the run
            // from its end.
            if self.meter.never_sent(sent.due) && self.run.took_one() {
                self.look_again_at(0);
            }
            self.is_done_with(index);
        }
    }

    /// A flow's socket takes nothing now.
    pub(crate) fn is_full(&mut self, index: u32) {
        self.flows.is_full(index);
    }

    /// A flow's socket takes something again.
    pub(crate) fn has_room(&mut self, index: u32) {
        self.flows.has_room(index);
    }

    /// How many messages a flow is to send now, from within its callback: those of a closed loop,
    /// which are due when they are sent.
    pub(crate) fn wanted(&self, index: u32, now: u64) -> u32 {
        let is_closed = matches!(self.source, Source::Depth | Source::Think { .. });
        match self.flow(index) {
            Some(flow) if is_closed && self.may_send(now) => self.flows.wanted(flow),
            _ => 0,
        }
    }

    /// Whether messages of a closed loop may be sent now.
    #[inline(always)]
    pub(crate) fn may_send(&self, now: u64) -> bool {
        self.run.may_send(now)
    }

    /// A part of the oldest message's answer has come.
    pub(crate) fn got(&mut self, index: u32, bytes: usize, now: u64) {
        if let Some(sent) = self.flow(index).and_then(|flow| flow.outstanding.oldest()) {
            self.meter.received(sent, now, bytes);
            self.flows.got(index, bytes as u32);
        }
    }

    /// The last `bytes` of the answer to the oldest message have come; what is to be sent in its
    /// place, at once.
    #[inline(always)]
    pub(crate) fn answered(&mut self, index: u32, bytes: usize, now: u64) -> Wanted {
        let Some(answered) = self.flows.answered(index) else {
            return Wanted::default();
        };
        let Answered {
            sent,
            given_up,
            stage,
            wanted,
        } = answered;
        self.meter.answered(sent, now, bytes, given_up);
        if stage == Stage::Live && matches!(self.source, Source::Depth) && self.may_send(now) {
            return wanted;
        }
        self.after_answer(index, Some(stage), given_up, now);
        Wanted::default()
    }

    /// What an answer leads to beside the next message of a closed loop.
    fn after_answer(&mut self, index: u32, stage: Option<Stage>, given_up: bool, now: u64) {
        match stage {
            Some(Stage::Confirming) => self.confirmed(index, now),
            Some(Stage::Retiring) => self.close_if_answered(index),
            // In place of one that was given up, another has been sent.
            Some(Stage::Live) if !given_up => self.think(index, now),
            _ => {}
        }
        if self.run.is_finishing() && self.flows.under_way() == 0 {
            self.look_again_at(0);
        }
    }

    /// An answer has come: with pauses, one begins.
    fn think(&mut self, index: u32, now: u64) {
        if let Source::Think { pause, .. } = self.source
            && self.run.is_sending()
        {
            let due = now.saturating_add(pause);
            let number = self.flow(index).map_or(0, |flow| flow.number);
            let flow = index;
            self.agenda.push(Kind::Think, Entry { due, flow, number });
            self.look_again_at(due);
        }
    }

    /// The first answer of a flow: it's served.
    fn confirmed(&mut self, index: u32, now: u64) {
        let Some(confirmed) = self.flows.confirmed(index, now) else {
            return;
        };
        if let Some(flow) = self.flows.get(index) {
            self.names.log(flow, format_args!("confirmed by an echo"));
        }
        let took = until(confirmed.dialed, now);
        record(&mut self.meter.tally.latency.first_echo, took);
        let is_measured = self.run.is_measuring();
        let ledger = &mut self.meter.tally.connections;
        ledger.confirmed += 1;
        let replaces = confirmed.cause == Cause::Turnover;
        ledger.replaced += u64::from(replaces && is_measured);
        self.dialing.replaced(confirmed.cause);
        if confirmed.settles {
            self.run.settled();
        }
        if self.run.is_sending() {
            self.begin_flow(index, now);
        }
        self.look_again_at(0);
    }

    /// A datagram has come on a flow; what it says of itself, unless it's none of this run's.
    pub(crate) fn datagram(
        &mut self,
        index: u32,
        label: Option<Label>,
        bytes: usize,
        now: u64,
    ) -> Heard {
        let (from, timeout) = (self.meter.from(), self.timeout);
        let Some(number) = self.flow(index).map(|flow| flow.number) else {
            return Heard::Answer;
        };
        // A flow that was closed may have left its port to this one: it's an answer that came late.
        if let Some(label) = label
            && label.flow < number
            && self.load.turnover != Turnover::Keep
            && !self.flows.has_number(label.flow)
        {
            self.meter.tally.error(names::TOO_LATE);
            return Heard::Answer;
        }
        let Some((window, next)) = self.flows.window(index) else {
            return Heard::Answer;
        };
        // One whose time contradicts what is known of its number was not sent either.
        let label = label.filter(|label| {
            let measured = window.is_measured(label.number, next);
            label.flow == number && measured == (label.sent.due >= from)
        });
        let Some(label) = label else {
            return self.corrupt_datagram(index);
        };
        let arrival = window.arrived(label.number, next);
        if let Some(counts) = window.counts_of(label.sent.due, from) {
            match arrival {
                Arrival::Again => counts.duplicated += 1,
                Arrival::First { after_later } => {
                    counts.received += 1;
                    counts.reordered += u64::from(after_later);
                    let took = now.saturating_sub(label.sent.since());
                    counts.late += u64::from(took >= timeout);
                }
                Arrival::TooOld | Arrival::Never => {}
            }
        }
        match arrival {
            Arrival::Never => return self.corrupt_datagram(index),
            Arrival::TooOld => self.meter.tally.error(names::TOO_LATE),
            Arrival::Again => {}
            Arrival::First { .. } => self.answered_datagram(index, label, bytes, now),
        }
        Heard::Answer
    }

    fn corrupt_datagram(&mut self, index: u32) -> Heard {
        if let Some((window, _)) = self.flows.window(index) {
            window.counts.corrupt += 1;
        }
        self.meter.tally.messages.corrupt += 1;
        self.meter.tally.error(names::CORRUPT);
        Heard::Corrupt
    }

    /// The first answer to a datagram has come.
    fn answered_datagram(&mut self, index: u32, label: Label, bytes: usize, now: u64) {
        // What is kept here is exact, what the datagram says is rounded.
        let kept = self.flows.answered_datagram(index, label.number);
        let sent = kept.unwrap_or(label.sent);
        self.meter.answered(sent, now, bytes, kept.is_none());
        let stage = self.flow(index).map(|flow| flow.stage);
        // An answer to a first datagram that was sent twice begins no second chain.
        let is_none = kept.is_none() || (sent.confirms() && stage == Some(Stage::Live));
        self.after_answer(index, stage, is_none, now);
    }

    /// An answer was corrupt: it's told of, and the first is kept.
    #[cold]
    pub(crate) fn warn(
        &mut self,
        warnings: &mut Warnings,
        now: u64,
        index: u32,
        words: impl Fn(&Names, &Flow) -> String,
    ) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let first = &mut self.meter.tally.corrupt_answer;
        warnings.tell(now, first, || words(&self.names, flow));
    }

    /// A flow's peer will send no more.
    pub(crate) fn peer_finished(&mut self, index: u32) {
        self.flows.peer_finished(index);
    }

    /// What has come on a stream is not what was sent: nothing that follows can be told apart.
    pub(crate) fn corrupt(&mut self, index: u32) {
        self.meter.tally.messages.corrupt += 1;
        match self.flow(index).map(|flow| flow.stage) {
            // It came right behind the last answer, and its connection was counted as closed then.
            Some(Stage::Closing | Stage::Lost) => self.meter.tally.error(names::CORRUPT),
            _ => self.lost(index, names::CORRUPT),
        }
    }

    /// A flow has ended though the load had not ended it, for a reason with this name. Its slot
    /// stays until its connection is gone.
    pub(crate) fn lost(&mut self, index: u32, name: &str) {
        let Some(flow) = self.flow(index) else {
            return;
        };
        let partial = self.partial(flow);
        self.names.log(flow, format_args!("lost: {name}"));
        self.end_flow(index, Stage::Lost);
        self.meter.tally.connections.lost += 1;
        self.meter.tally.error(name);
        self.meter.tally.note_partial(name, partial);
    }

    /// What had come of the answer to a flow's oldest message, where it was a part.
    pub(super) fn partial(&self, flow: &Flow) -> Option<Partial> {
        let of = || self.payload.message(flow.number, flow.oldest()).len() as u64;
        (flow.got > 0).then(|| Partial {
            got: flow.got.into(),
            of: of(),
        })
    }

    /// A flow's connection or socket is gone; the name of the reason, where the load had not ended
    /// it.
    pub(crate) fn gone(&mut self, index: u32, name: &str) {
        let Some(flow) = self.flow(index) else {
            return;
        };
        if !matches!(flow.stage, Stage::Closing | Stage::Lost) {
            self.flows.bound(index, Socket::None);
            self.lost(index, name);
        }
        let Some(flow) = self.flows.remove(index) else {
            return;
        };
        if let Some(window) = flow.window {
            self.retired.merge(&window.counts);
        }
        // The place of one that the load has closed is vacant since then. One that is lost in the
        // ramp is dialed again after it.
        let is_lost = flow.stage == Stage::Lost;
        if is_lost && self.load.turnover != Turnover::Keep && !self.run.is_finishing() {
            self.dialing.lost(flow.target);
        }
        self.look_again_at(0);
    }

    /// The ramp waits for a flow no longer.
    pub(super) fn settle(&mut self, index: u32) {
        if self.flows.settle(index) {
            self.run.settled();
        }
    }
}
