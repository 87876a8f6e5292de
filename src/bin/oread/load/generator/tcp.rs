//! Messages over streams: sent, and compared with what comes back.

use oread::{CloseReason, Connection, Output, Pressure};

use super::drive::Generator;
use super::flow::{Flow, Sent};
use super::flows::Wanted;
use super::logs;
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
    /// Sends the next message of a flow; how its connection stands then. With [`Pressure::Closed`]
    /// the message was not sent, and is not counted.
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
        let (_, mut output) = connection.split();
        self.write(&mut output, index, flow, number, sent)
    }

    /// Sends message `number` of flow `flow`.
    #[inline(always)]
    fn write(
        &mut self,
        output: &mut Output<'_>,
        index: u32,
        flow: u32,
        number: u32,
        sent: Sent,
    ) -> Pressure {
        let (pressure, len) = match self.payload.plain(flow, number) {
            Some(plain) => {
                output.write(&plain.header);
                (output.write(plain.body), plain.len())
            }
            None => self.write_parts(output, index, flow, number),
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
        output: &mut Output<'_>,
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
                pressure = output.write(part);
            }
        }
        (pressure, message.len())
    }

    /// Sends more messages behind the first that took the place of an answered one.
    #[inline(never)]
    fn fill(&mut self, output: &mut Output<'_>, index: u32, flow: u32, wanted: Wanted, sent: Sent) {
        for more in 1..wanted.count {
            let number = wanted.next.wrapping_add(more);
            let may = self.plan.may_send(sent.at);
            if !may || self.write(output, index, flow, number, sent) != Pressure::Low {
                return;
            }
        }
    }

    /// Input has come.
    #[inline(always)]
    pub(super) fn heard(&mut self, connection: &mut Connection<'_, u32>, mut data: &[u8]) {
        let now = self.clock.now(connection.context());
        self.plan.look_at_clock(now);
        let (session, mut output) = connection.split();
        let index = *session;
        let (mut number, mut wanted) = (0, Wanted::default());
        while !data.is_empty() {
            let Some(flow) = self.plan.flow(index) else {
                return;
            };
            number = flow.number;
            match self.look(flow, data) {
                Look::Whole(taken) => {
                    wanted = self.plan.answered(index, taken, now);
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
                    self.plan
                        .warn(&mut self.warnings, now, index, |names, flow| {
                            logs::corrupt(names, &self.payload, flow, data)
                        });
                    self.plan.corrupt(index);
                    connection.abort(CloseReason::Aborted);
                    return;
                }
            }
        }
        if wanted.count > 0 {
            let sent = Sent { due: now, at: now };
            let pressure = self.write(&mut output, index, number, wanted.next, sent);
            if pressure == Pressure::Low && wanted.count > 1 {
                self.fill(&mut output, index, number, wanted, sent);
            }
        }
    }

    /// Compares the beginning of `data` with the oldest message under way.
    #[inline(always)]
    fn look(&self, flow: &Flow, data: &[u8]) -> Look {
        if flow.got == 0
            && flow.outstanding.len() > 0
            && let Some(plain) = self.payload.plain(flow.number, flow.oldest())
            && let Some(whole) = data.get(..plain.len())
            && plain.is(whole)
        {
            return Look::Whole(whole.len());
        }
        self.look_closely(flow, data)
    }

    #[inline(never)]
    fn look_closely(&self, flow: &Flow, data: &[u8]) -> Look {
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
