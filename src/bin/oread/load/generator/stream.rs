//! Messages over TCP: sent, and compared with what comes back.

use oread::{CloseReason, Connection, Context, Pressure};

use crate::load::clock::until;
use crate::load::count::tally::record;
use crate::load::generator::Generator;
use crate::load::generator::closed::Then;
use crate::load::generator::flow::{Sent, Socket, Stage};
use crate::load::generator::names;
use crate::load::generator::payload::Message;
use crate::load::generator::traffic::{MOST_SCHEDULED, Mode};
use crate::load::options::load::{MAX_DEPTH, Turnover};
use crate::load::options::values::VerifyMode;

/// What input is.
enum Look {
    /// The rest of an answer, in the first so many bytes. `late`: its message had been given up.
    Whole { taken: usize, late: bool },
    /// A part of one, or bytes that nobody looks at.
    Part,
    /// Not what was sent.
    Corrupt,
}

/// Writes a message, part by part: what is small is gathered, what is large is not copied.
#[inline(never)]
fn write(connection: &mut Connection<'_, u32>, message: &Message<'_>) -> (Pressure, usize) {
    let mut pressure = Pressure::Low;
    for part in message.parts() {
        if !part.is_empty() {
            pressure = connection.write(part);
        }
    }
    (pressure, message.len())
}

impl Generator {
    /// A connection is there: its first message shows whether it's served.
    pub(crate) fn opened(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session() as usize;
        let now = self.epoch.now();
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.stage = Stage::Confirming;
        let (number, dialed) = (flow.number, flow.dialed);
        self.dial_succeeded(number, dialed, now);
        // Due before everything: it's never measured.
        self.send(connection, index, 0, now);
    }

    /// Sends a message; how the connection stands then. With [`Pressure::Closed`] it was not sent,
    /// and is not counted.
    #[inline(always)]
    pub(crate) fn send(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: usize,
        due: u64,
        now: u64,
    ) -> Pressure {
        let Some(flow) = self.flows.get_mut(index) else {
            return Pressure::Closed;
        };
        let (pressure, len) = match self.payload.plain(flow.number, flow.next) {
            Some(plain) => {
                connection.write(&plain.header);
                (connection.write(plain.body), plain.len())
            }
            None => {
                let message = self.payload.message(flow.number, flow.next);
                self.dialer.log_message(flow.number, &message);
                write(connection, &message)
            }
        };
        if pressure == Pressure::Closed {
            return pressure;
        }
        flow.next = flow.next.wrapping_add(1);
        let sent = Sent { due, at: now };
        flow.outstanding.push(sent);
        self.flowing.under_way += 1;
        if self.record.sent(sent, len) {
            self.run.left -= 1;
        }
        pressure
    }

    /// In a closed loop: sends as many messages as the connection may have under way, or as it
    /// owes.
    #[inline(always)]
    pub(crate) fn fill(&mut self, connection: &mut Connection<'_, u32>, index: usize, now: u64) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let room = MAX_DEPTH.saturating_sub(flow.outstanding.len());
        let wanted = self.flowing.wanted(flow);
        for _ in 0..wanted.min(room) {
            if !self.may_send(now) {
                return;
            }
            let pressure = self.send(connection, index, now, now);
            if pressure != Pressure::Closed {
                self.pay(index);
            }
            // Past the high-water mark the rest goes out when `drained` says so.
            if pressure != Pressure::Low {
                return;
            }
        }
    }

    /// Input has come.
    #[inline(always)]
    pub(crate) fn heard(&mut self, connection: &mut Connection<'_, u32>, data: &[u8]) {
        let now = self.epoch.now();
        self.look_at_clock(connection.context(), now);
        if !self.pass(connection, data, now) {
            self.take_in(connection, data, now);
        }
    }

    /// The way of most input in a closed loop: one whole answer on a connection that has as many
    /// messages under way as it may have, after which one is sent in its place. False when it's
    /// anything else: then nothing was done. It takes the steps of [`Generator::take_in`] and
    /// [`Generator::send`], at half the instructions.
    #[inline(always)]
    fn pass(&mut self, connection: &mut Connection<'_, u32>, data: &[u8], now: u64) -> bool {
        let (session, mut output) = connection.split();
        let Some(flow) = self.flows.get_mut(*session as usize) else {
            return false;
        };
        let usual = flow.stage == Stage::Live
            && flow.got == 0
            && flow.given_up == 0
            && flow.outstanding.len() == self.flowing.depth
            && now < self.flowing.send_until;
        let Some(oldest) = flow.outstanding.oldest().filter(|_| usual) else {
            return false;
        };
        let answer = self.payload.plain(flow.number, flow.oldest());
        let message = self.payload.plain(flow.number, flow.next);
        let (Some(answer), Some(message)) = (answer, message) else {
            return false;
        };
        if !answer.is(data) || self.payload.verify() != VerifyMode::Full {
            return false;
        }
        self.record.answered(oldest, now, data.len(), false);
        output.write(&message.header);
        if output.write(message.body) == Pressure::Closed {
            flow.outstanding.pop();
            self.flowing.under_way -= 1;
            return true;
        }
        flow.next = flow.next.wrapping_add(1);
        let sent = Sent { due: now, at: now };
        flow.outstanding.replace_oldest(sent);
        if self.record.sent(sent, message.len()) {
            self.run.left -= 1;
            self.finish_if_all_sent(connection.context());
        }
        true
    }

    /// Compares input with what is awaited.
    #[inline(never)]
    fn take_in(&mut self, connection: &mut Connection<'_, u32>, mut data: &[u8], now: u64) {
        let index = *connection.session() as usize;
        let (mut whole, mut in_time) = (false, 0);
        while !data.is_empty() {
            match self.take_one(index, data, now) {
                Look::Whole { taken, late } => {
                    data = &data[taken..];
                    whole = true;
                    // In place of one that was given up, another has been sent.
                    in_time += u32::from(!late);
                }
                Look::Part => break,
                Look::Corrupt => {
                    self.warn_of_corrupt(index, data);
                    self.is_corrupt(connection, index);
                    return;
                }
            }
        }
        if whole {
            self.go_on(connection, index, in_time, now);
        }
    }

    /// Compares the beginning of `data` with the oldest message under way.
    fn take_one(&mut self, index: usize, data: &[u8], now: u64) -> Look {
        let Some(flow) = self.flows.get_mut(index) else {
            return Look::Part;
        };
        let verify = self.payload.verify();
        let Some(sent) = flow.outstanding.oldest() else {
            // Nothing was asked.
            if verify != VerifyMode::Off {
                return Look::Corrupt;
            }
            self.record.tally.bytes.surplus += data.len() as u64;
            return Look::Part;
        };
        let message = self.payload.message(flow.number, flow.oldest());
        let got = flow.got as usize;
        let taken = data.len().min(message.len() - got);
        self.dialer
            .log_bytes(flow.number, "received", &data[..taken]);
        if !message.matches(verify, got, &data[..taken]) {
            return Look::Corrupt;
        }
        if got + taken < message.len() {
            self.record.received(sent.due, now, taken);
            flow.got += taken as u32;
            return Look::Part;
        }
        flow.got = 0;
        flow.outstanding.pop();
        let given_up = flow.given_up > 0;
        if given_up {
            flow.given_up -= 1;
        } else {
            self.flowing.under_way -= 1;
        }
        self.record.answered(sent, now, taken, given_up);
        Look::Whole {
            taken,
            late: given_up,
        }
    }

    /// Messages were answered, so many of them `in_time`: what comes next on this connection.
    fn go_on(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: usize,
        in_time: u32,
        now: u64,
    ) {
        match self.after_answers(connection.context(), index, in_time, now) {
            Then::Fill => {
                self.fill(connection, index, now);
                self.finish_if_all_sent(connection.context());
            }
            Then::TakeAgain if connection.pressure() == Pressure::Low => self.take_again(index),
            Then::TakeAgain | Then::Nothing => {}
        }
        self.end_if_answered(connection.context(), now);
    }

    /// The schedule may use a connection again that it was to pass over.
    #[inline]
    fn take_again(&mut self, index: usize) {
        let flow = self.flows.get(index);
        if flow.is_some_and(|flow| flow.outstanding.len() < MOST_SCHEDULED) {
            self.take(index);
        }
    }

    /// The first answer of a flow: it's served.
    pub(crate) fn confirmed(&mut self, index: usize, now: u64) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.stage = Stage::Live;
        let was_settled = std::mem::replace(&mut flow.settled, true);
        self.dialer
            .log(flow.number, format_args!("confirmed by an echo"));
        let took = until(flow.dialed, now);
        record(&mut self.record.tally.latency.first_echo, took);
        self.came_of_age(index, now);
        self.take(index);
        if !was_settled {
            self.settle();
        }
    }

    /// What came back is not what was sent: nothing that follows can be told apart.
    #[cold]
    fn is_corrupt(&mut self, connection: &mut Connection<'_, u32>, index: usize) {
        self.record.tally.messages.corrupt += 1;
        self.end_flow(connection.context(), index, names::CORRUPT);
        connection.abort(CloseReason::Aborted);
    }

    /// Output has fallen to the low-water mark.
    pub(crate) fn drained(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session() as usize;
        let now = self.epoch.now();
        let flow = self.flows.get(index);
        let live = flow.is_some_and(|flow| flow.stage == Stage::Live);
        match self.flowing.mode {
            Mode::Closed { .. } if live => {
                self.fill(connection, index, now);
                self.finish_if_all_sent(connection.context());
            }
            Mode::Scheduled => self.take_again(index),
            _ => {}
        }
    }

    /// The peer will send no more: answers that have not come won't.
    pub(crate) fn peer_finished(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session() as usize;
        if let Some(flow) = self.flows.get_mut(index) {
            flow.peer_finished = true;
            self.untake(index);
        }
        connection.finish();
    }

    /// A connection is gone.
    pub(crate) fn closed(
        &mut self,
        context: &mut Context<'_, u32>,
        session: u32,
        reason: CloseReason,
    ) {
        let index = session as usize;
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let lost = flow.stage != Stage::Closing;
        if lost && flow.stage != Stage::Lost {
            let name = names::of_loss(reason, flow.peer_finished, flow.got > 0);
            self.end_flow(context, index, &name);
        }
        self.flows.try_remove(index);
        // The place of one that the load has closed is owed since then. One that is lost in the
        // ramp is dialed again after it.
        if lost && self.plan.turnover != Turnover::Keep && !self.is_finishing() {
            self.dialer.owe(true);
        }
    }

    /// A flow has ended though the load had not ended it. Its slot stays until the connection is
    /// gone.
    fn end_flow(&mut self, context: &mut Context<'_, u32>, index: usize, name: &str) {
        self.untake(index);
        self.lose_outstanding(index);
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        self.dialer.log(flow.number, format_args!("lost: {name}"));
        let was = std::mem::replace(&mut flow.stage, Stage::Lost);
        let was_settled = std::mem::replace(&mut flow.settled, true);
        flow.socket = Socket::None;
        self.record.tally.connections.lost += 1;
        self.record.tally.error(name);
        match was {
            Stage::Live | Stage::Retiring => self.passed_away(),
            _ => self.unconfirmed(index),
        }
        if !was_settled {
            self.settle();
        }
        let now = self.epoch.now();
        self.end_if_answered(context, now);
    }

    /// What is under way on a flow will not be answered.
    pub(crate) fn lose_outstanding(&mut self, index: usize) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        self.flowing.under_way -= u64::from(flow.awaited());
        flow.given_up = 0;
        flow.got = 0;
        while let Some(sent) = flow.outstanding.pop() {
            // Lost datagrams are counted when all that may still come has come.
            if flow.window.is_none() {
                self.record.lost(sent);
            }
        }
    }
}
