//! Messages over streams: sent, and compared with what comes back.

use oread::{CloseReason, Connection, Pressure};

use super::drive::Generator;
use super::flow::{Flags, Flow, Sent};
use super::logs;
use super::payload::Payload;
use super::plan::Plan;
use super::secure::Out;
use crate::load::options::values::VerifyMode;

/// What input is.
#[derive(Clone, Copy)]
enum Input {
    /// The rest of an answer, in the first so many bytes.
    Whole(usize),
    /// So many bytes of one, and no more.
    Part(usize),
    /// Bytes that nobody looks at.
    Surplus,
    /// Not what was sent.
    Corrupt,
}

impl Generator {
    /// Sends the next message of a flow, from outside of its callback. It's not sent, and not
    /// counted, where the connection takes nothing any more: its end is to come.
    pub(super) fn send(&mut self, connection: &mut Connection<'_, u32>, index: u32, sent: Sent) {
        let mut output = Out::<true>::of(connection.split().1, &mut self.secure, index);
        let plan = &mut self.plan;
        let flow = plan.flows.get(index);
        if let Some((flow, number)) = flow.map(|flow| (flow.number, flow.number_of(sent)))
            && let (Pressure::Low | Pressure::High, len) =
                write(plan, &mut output, index, flow, number)
        {
            plan.sent(index, sent, len);
        }
    }

    /// Input has come.
    #[inline(always)]
    pub(super) fn heard<const SECURE: bool>(
        &mut self,
        connection: &mut Connection<'_, u32>,
        mut data: &[u8],
    ) {
        let now = self.now(connection.context());
        let plan = &mut self.plan;
        plan.look_at_clock(now);
        let (session, output) = connection.split();
        let index = *session;
        let mut output = Out::<SECURE>::of(output, &mut self.secure, index);
        while !data.is_empty() {
            let mut answered =
                plan.answered(index, now, |payload, flow| plain(payload, flow, data));
            if answered.is_none() {
                let flow = plan.flows.get(index);
                match flow.map(|flow| look(&plan.payload, flow, data)) {
                    Some(Input::Whole(bytes)) => {
                        answered = plan.answered(index, now, |_, _| Some(bytes));
                    }
                    Some(Input::Part(bytes)) => plan.got(index, bytes, now),
                    Some(Input::Surplus) => plan.meter.tally.bytes.surplus += data.len() as u64,
                    Some(Input::Corrupt) => {
                        self.warn(index, data);
                        self.plan.corrupt(index, now);
                        connection.abort(CloseReason::Aborted);
                        return;
                    }
                    None => {}
                }
            }
            let Some(answered) = answered else {
                return;
            };
            data = &data[answered.bytes..];
            if let Some(next) = answered.next {
                // A connection that takes nothing any more has lost it, as it has all others.
                let (_, len) = write(plan, &mut output, index, answered.flow, next);
                plan.count_sent(Sent { due: now, at: now }, len);
            }
        }
    }

    /// Tells of the first answer that is not what was sent.
    #[cold]
    pub(super) fn warn(&mut self, index: u32, data: &[u8]) {
        self.warn_of(index, |payload, flow| logs::corrupt(payload, flow, data));
    }

    /// Tells of the first answer that is not what it must be, and of what is wrong with it.
    #[cold]
    pub(super) fn warn_of(&mut self, index: u32, what: impl FnOnce(&Payload, &Flow) -> String) {
        let plan = &mut self.plan;
        if let (Some(flow), None) = (plan.flows.get(index), &plan.meter.tally.corrupt_answer) {
            let target = self.setup.endpoints.get(usize::from(flow.target));
            let target = target.map(|endpoint| format!(" {}", endpoint.resolved));
            let what = what(&plan.payload, flow);
            let words = format!("{flow}{}: {what}", target.unwrap_or_default());
            log::warn!("{words}");
            plan.meter.tally.corrupt_answer = Some(words);
        }
    }

    /// Compares what came with the question that is to be echoed, in a script; how many bytes are
    /// done with.
    pub(super) fn next_echo(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        data: &[u8],
        now: u64,
    ) -> Option<usize> {
        let flow = self.plan.flows.get(index)?;
        match look(&self.plan.payload, flow, data) {
            Input::Whole(bytes) => {
                self.whole(connection, index, bytes, false, now);
                Some(bytes)
            }
            Input::Part(bytes) => {
                self.plan.got(index, bytes, now);
                Some(bytes)
            }
            Input::Surplus => None,
            Input::Corrupt => {
                self.warn(index, data);
                self.plan.corrupt(index, now);
                connection.abort(CloseReason::Aborted);
                None
            }
        }
    }
}

/// Writes message `number` of a flow; how its connection stands then, and the message's length.
#[inline(always)]
pub(super) fn write<const SECURE: bool>(
    plan: &mut Plan,
    output: &mut Out<'_, SECURE>,
    index: u32,
    flow: u32,
    number: u32,
) -> (Pressure, usize) {
    let (pressure, len) = match plan.payload.plain(flow, number) {
        Some(plain) => {
            output.write(&plain.header);
            let pressure = output.write(plain.body);
            (pressure, plain.len())
        }
        None => match plan.payload.framed(flow, number) {
            Some(bytes) => (output.write(bytes), bytes.len()),
            None => write_parts(plan, output, index, flow, number),
        },
    };
    if pressure != Pressure::Low {
        // Below the low-water mark `on_drained` says that there is room.
        plan.flows.mark(index, Flags::FULL);
    }
    (pressure, len)
}

/// Writes a message part by part: what is small is gathered, what is large is not copied.
#[inline(never)]
fn write_parts<const SECURE: bool>(
    plan: &Plan,
    output: &mut Out<'_, SECURE>,
    index: u32,
    flow: u32,
    number: u32,
) -> (Pressure, usize) {
    let message = plan.payload.message(flow, number);
    if let Some(flow) = plan.flows.get(index) {
        logs::log_bytes(flow, "sent", &message.parts());
    }
    let mut pressure = Pressure::Low;
    for part in message.parts() {
        if !part.is_empty() {
            pressure = output.write(part);
        }
    }
    (pressure, message.len())
}

/// The bytes of the oldest message's answer, where `data` begins with it and it's plain and whole:
/// most input is that and no more.
#[inline(always)]
fn plain(payload: &Payload, flow: &Flow, data: &[u8]) -> Option<usize> {
    if flow.got > 0 || flow.kept == 0 {
        return None;
    }
    let plain = payload.plain(flow.number, flow.oldest())?;
    plain.begins(data).then_some(plain.len())
}

/// Compares the beginning of `data` with the oldest message under way.
#[inline(never)]
fn look(payload: &Payload, flow: &Flow, data: &[u8]) -> Input {
    let verify = payload.verify;
    if flow.kept == 0 {
        // Nothing was asked.
        return match verify {
            VerifyMode::Off => Input::Surplus,
            _ => Input::Corrupt,
        };
    }
    let message = payload.message(flow.number, flow.oldest());
    let got = flow.got as usize;
    let these = &data[..data.len().min(message.len() - got)];
    logs::log_bytes(flow, "received", &[these]);
    if message.wrong(verify, got, these).is_some() {
        return Input::Corrupt;
    }
    match got + these.len() < message.len() {
        true => Input::Part(these.len()),
        false => Input::Whole(these.len()),
    }
}
