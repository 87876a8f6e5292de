//! Messages over streams: sent, and compared with what comes back.

use oread::{CloseReason, Connection, Pressure};

use super::drive::Generator;
use super::flow::Sent;
use crate::load::options::values::VerifyMode;

/// What input is.
enum Look {
    /// The rest of an answer, in the first so many bytes.
    Whole(usize),
    /// So many bytes of one.
    Part(usize),
    /// Bytes that nobody looks at.
    Surplus,
    /// Not what was sent.
    Corrupt,
}

impl Generator {
    /// Sends a message on a connection; how that stands then. With [`Pressure::Closed`] the message
    /// was not sent, and is not counted.
    #[inline(always)]
    pub(super) fn send(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        sent: Sent,
    ) -> Pressure {
        let Some(flow) = self.plan.flow(index) else {
            return Pressure::Closed;
        };
        let (flow, number) = (flow.number, flow.next);
        self.write(connection, index, flow, number, sent)
    }

    /// Sends message `number` of flow `flow`.
    #[inline(always)]
    fn write(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        flow: u32,
        number: u32,
        sent: Sent,
    ) -> Pressure {
        let (pressure, len) = match self.payload.plain(flow, number) {
            Some(plain) => {
                let (_, mut output) = connection.split();
                output.write(&plain.header);
                (output.write(plain.body), plain.len())
            }
            None => self.write_parts(connection, index, flow, number),
        };
        if pressure != Pressure::Closed {
            self.plan.sent(index, sent, len);
        }
        if pressure != Pressure::Low {
            // Below the low-water mark `on_drained` says that there is room.
            self.plan.is_full(index);
        }
        pressure
    }

    /// Writes a message part by part: what is small is gathered, what is large is not copied.
    #[inline(never)]
    fn write_parts(
        &self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        flow: u32,
        number: u32,
    ) -> (Pressure, usize) {
        let message = self.payload.message(flow, number);
        if let Some(flow) = self.plan.flow(index) {
            self.plan.names().log_message(flow, &message);
        }
        let mut pressure = Pressure::Low;
        for part in message.parts() {
            if !part.is_empty() {
                pressure = connection.write(part);
            }
        }
        (pressure, message.len())
    }

    /// Sends what a flow is to send now.
    #[inline(always)]
    pub(super) fn fill(&mut self, connection: &mut Connection<'_, u32>, index: u32, now: u64) {
        let wanted = self.plan.wanted(index, now);
        let sent = Sent { due: now, at: now };
        for more in 0..wanted.count {
            let number = wanted.next.wrapping_add(more);
            let may = more == 0 || self.plan.may_send(now);
            if !may || self.write(connection, index, wanted.flow, number, sent) != Pressure::Low {
                return;
            }
        }
    }

    /// Input has come.
    #[inline(always)]
    pub(super) fn heard(&mut self, connection: &mut Connection<'_, u32>, mut data: &[u8]) {
        let now = self.clock.now(connection.context());
        self.plan.look_at_clock(now);
        let index = *connection.session();
        while !data.is_empty() {
            match self.look(index, data) {
                Look::Whole(taken) => {
                    self.plan.answered(index, taken, now);
                    data = &data[taken..];
                }
                Look::Part(taken) => {
                    self.plan.got(index, taken, now);
                    break;
                }
                Look::Surplus => {
                    self.plan.meter().tally.bytes.surplus += data.len() as u64;
                    break;
                }
                Look::Corrupt => {
                    self.warn_of_corrupt(index, data, now);
                    self.plan.corrupt(index);
                    connection.abort(CloseReason::Aborted);
                    return;
                }
            }
        }
        self.fill(connection, index, now);
    }

    /// Compares the beginning of `data` with the oldest message under way.
    #[inline(always)]
    fn look(&self, index: u32, data: &[u8]) -> Look {
        let Some(flow) = self.plan.flow(index) else {
            return Look::Surplus;
        };
        if flow.got == 0
            && flow.outstanding.len() > 0
            && let Some(plain) = self.payload.plain(flow.number, flow.oldest())
            && let Some(whole) = data.get(..plain.len())
            && plain.is(whole)
        {
            return Look::Whole(whole.len());
        }
        self.look_closely(index, data)
    }

    #[inline(never)]
    fn look_closely(&self, index: u32, data: &[u8]) -> Look {
        let Some(flow) = self.plan.flow(index) else {
            return Look::Surplus;
        };
        let verify = self.payload.verify();
        if flow.outstanding.len() == 0 {
            // Nothing was asked.
            return match verify {
                VerifyMode::Off => Look::Surplus,
                _ => Look::Corrupt,
            };
        }
        let message = self.payload.message(flow.number, flow.oldest());
        let got = flow.got as usize;
        let taken = data.len().min(message.len() - got);
        self.plan
            .names()
            .log_bytes(flow, "received", &data[..taken]);
        if !message.matches(verify, got, &data[..taken]) {
            return Look::Corrupt;
        }
        match got + taken < message.len() {
            true => Look::Part(taken),
            false => Look::Whole(taken),
        }
    }
}
