//! Messages over TCP: sent, and compared with what comes back.

use oread::{CloseReason, Connection, Context, Pressure};

use super::flow::{Sent, Socket, Stage};
use super::generator::Generator;
use super::names;
use super::payload::Message;
use super::plan::{MAX_DEPTH, Turnover};
use super::traffic::{MOST_SCHEDULED, Mode};
use super::values::VerifyMode;

/// An answer is not what was sent.
struct Corrupt;

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
    pub(super) fn opened(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session() as usize;
        let now = self.epoch.now();
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.stage = Stage::Confirming;
        let dialed = flow.dialed;
        self.dial_succeeded(dialed, now);
        // Due before everything: it's never measured.
        self.send(connection, index, 0, now);
    }

    /// Sends a message; how the connection stands then. With [`Pressure::Closed`] it was not sent, and is not counted.
    #[inline(always)]
    pub(super) fn send(
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
            None => write(connection, &self.payload.message(flow.number, flow.next)),
        };
        if pressure == Pressure::Closed {
            return pressure;
        }
        flow.next = flow.next.wrapping_add(1);
        let sent = Sent { due, at: now };
        flow.outstanding.push(sent);
        self.flowing.under_way += 1;
        self.record.sent(sent, len);
        if self.record.is_measured(due) {
            self.run.left -= 1;
        }
        pressure
    }

    /// In a closed loop: sends as many messages as the connection may have under way.
    #[inline]
    pub(super) fn fill(&mut self, connection: &mut Connection<'_, u32>, index: usize, now: u64) {
        let Mode::Closed { depth, .. } = self.flowing.mode else {
            return;
        };
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let room = MAX_DEPTH.saturating_sub(flow.outstanding.len());
        for _ in 0..depth.saturating_sub(flow.awaited()).min(room) {
            // Past the high-water mark the rest goes out when `drained` says so.
            if !self.may_send(now) || self.send(connection, index, now, now) != Pressure::Low {
                return;
            }
        }
    }

    /// Input has come.
    #[inline]
    pub(super) fn heard(&mut self, connection: &mut Connection<'_, u32>, data: &[u8]) {
        let now = self.epoch.now();
        self.look_at_clock(connection.context(), now);
        let index = *connection.session() as usize;
        match self.take_in(index, data, now) {
            Ok(0) => {}
            Ok(answered) => self.go_on(connection, index, answered, now),
            Err(Corrupt) => self.is_corrupt(connection, index),
        }
    }

    /// Compares input with what is awaited; how many messages it answers.
    #[inline]
    fn take_in(&mut self, index: usize, mut data: &[u8], now: u64) -> Result<u32, Corrupt> {
        let Some(flow) = self.flows.get_mut(index) else {
            return Ok(0);
        };
        let verify = self.payload.verify();
        let full = verify == VerifyMode::Full;
        let mut answered = 0;
        while !data.is_empty() {
            let Some(oldest) = flow.outstanding.oldest() else {
                // Nothing was asked.
                return match verify {
                    VerifyMode::Off => Ok(answered),
                    _ => Err(Corrupt),
                };
            };
            let number = flow.next.wrapping_sub(flow.outstanding.len());
            let taken = match self.payload.plain(flow.number, number) {
                Some(plain) if full && flow.got == 0 && plain.begins(data) => plain.len(),
                _ => {
                    let message = self.payload.message(flow.number, number);
                    let got = flow.got as usize;
                    let (len, taken) = (message.len(), data.len().min(message.len() - got));
                    if !message.matches(verify, got, &data[..taken]) {
                        return Err(Corrupt);
                    }
                    if got + taken < len {
                        self.record.received(oldest.due, now, taken);
                        flow.got += taken as u32;
                        break;
                    }
                    taken
                }
            };
            self.record.received(oldest.due, now, taken);
            data = &data[taken..];
            flow.got = 0;
            flow.outstanding.pop();
            let given_up = flow.given_up > 0;
            if given_up {
                flow.given_up -= 1;
            } else {
                self.flowing.under_way -= 1;
            }
            self.record.answered(oldest, now, given_up);
            answered += 1;
        }
        Ok(answered)
    }

    /// Messages were answered: what comes next on this connection.
    #[inline]
    fn go_on(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: usize,
        answered: u32,
        now: u64,
    ) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        match flow.stage {
            Stage::Live => {}
            Stage::Confirming => self.confirmed(index, now),
            Stage::Retiring => self.close_if_answered(connection.context(), index),
            Stage::Dialing | Stage::Closing => {}
        }
        let live = self
            .flows
            .get(index)
            .is_some_and(|f| f.stage == Stage::Live);
        if live && self.is_sending() {
            match self.flowing.mode {
                Mode::Closed { think: None, .. } => {
                    self.fill(connection, index, now);
                    self.finish_if_all_sent(connection.context());
                }
                Mode::Closed {
                    think: Some(think), ..
                } => {
                    for _ in 0..answered {
                        self.think(connection.context(), index, think);
                    }
                }
                Mode::Scheduled if connection.pressure() == Pressure::Low => {
                    self.take_again(index);
                }
                Mode::Scheduled | Mode::Silent => {}
            }
        }
        self.end_if_answered(connection.context(), now);
    }

    /// The schedule may use a connection again that it was to pass over.
    fn take_again(&mut self, index: usize) {
        let flow = self.flows.get(index);
        if flow.is_some_and(|flow| flow.outstanding.len() < MOST_SCHEDULED) {
            self.take(index);
        }
    }

    /// The first answer of a flow: it's served.
    pub(super) fn confirmed(&mut self, index: usize, now: u64) {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.stage = Stage::Live;
        let was_settled = std::mem::replace(&mut flow.settled, true);
        let took = now.saturating_sub(flow.dialed).max(1);
        self.record.tally.latency.first_echo.saturating_record(took);
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
        connection.abort();
    }

    /// Output has fallen to the low-water mark.
    pub(super) fn drained(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session() as usize;
        let now = self.epoch.now();
        let flow = self.flows.get(index);
        let live = flow.is_some_and(|flow| flow.stage == Stage::Live);
        match self.flowing.mode {
            Mode::Closed { think: None, .. } if live => {
                self.fill(connection, index, now);
                self.finish_if_all_sent(connection.context());
            }
            Mode::Scheduled => self.take_again(index),
            _ => {}
        }
    }

    /// The peer will send no more: answers that have not come won't.
    pub(super) fn peer_finished(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session() as usize;
        if let Some(flow) = self.flows.get_mut(index) {
            flow.peer_finished = true;
            self.untake(index);
        }
        connection.finish();
    }

    /// A connection is gone.
    pub(super) fn closed(&mut self, context: &mut Context<u32>, session: u32, reason: CloseReason) {
        let index = session as usize;
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        if flow.stage != Stage::Closing {
            let name = names::of_loss(reason, flow.peer_finished, flow.got > 0);
            self.end_flow(context, index, &name);
        }
        self.flows.try_remove(index);
        if self.plan.turnover != Turnover::Keep && self.is_sending() {
            self.dialer.owe();
        }
    }

    /// A flow has ended though the load had not ended it. Its slot stays until the connection is gone.
    fn end_flow(&mut self, context: &mut Context<u32>, index: usize, name: &str) {
        self.untake(index);
        self.lose_outstanding(index);
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let was = std::mem::replace(&mut flow.stage, Stage::Closing);
        let was_settled = std::mem::replace(&mut flow.settled, true);
        flow.socket = Socket::None;
        self.record.tally.connections.lost += 1;
        self.record.tally.error(name);
        if matches!(was, Stage::Live | Stage::Retiring) {
            self.passed_away();
        }
        if !was_settled {
            self.settle();
        }
        let now = self.epoch.now();
        self.end_if_answered(context, now);
    }

    /// What is under way on a flow will not be answered.
    pub(super) fn lose_outstanding(&mut self, index: usize) {
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
