//! Answers that are no echoes: where each ends in what comes, and whether it holds what it must.

use oread::escape::Escaped;
use oread::{CloseReason, Connection};

use super::drive::Generator;
use super::flow::{Flags, Flow, Reading, Sent};
use super::secure::Out;
use super::tcp::write;
use crate::load::exchange::answer::Answer;
use crate::load::exchange::expect::Expect;
use crate::load::exchange::found::{Found, Said, Scan};

/// Bytes of an answer that are shown.
const SHOWN: usize = 64;

impl Generator {
    /// Input has come on a flow whose answers are no mere echoes; how many bytes of it are done
    /// with. The others come again, with more behind them.
    #[inline(never)]
    pub(super) fn heard_answers<const SECURE: bool>(
        &mut self,
        connection: &mut Connection<'_, u32>,
        data: &[u8],
    ) -> usize {
        let now = self.now(connection.context());
        self.plan.look_at_clock(now);
        let index = *connection.session();
        let mut at = 0;
        while at < data.len() {
            let (plan, rest) = (&mut self.plan, &data[at..]);
            let whole = plan.answered(index, now, |payload, flow| payload.whole(flow, rest));
            if let Some(answered) = whole {
                at += answered.bytes;
                if let Some(next) = answered.next {
                    let output = connection.split().1;
                    let mut output = Out::<SECURE>::of(output, &mut self.secure, index);
                    let (_, len) = write(plan, &mut output, index, answered.flow, next);
                    plan.count_sent(Sent { due: now, at: now }, len);
                }
                continue;
            }
            match self.next_answer(connection, index, &data[at..], now) {
                Some(bytes) if bytes > 0 => at += bytes,
                Some(_) => return at,
                None => return data.len(),
            }
        }
        at
    }

    /// Looks for the next answer at the start of `data`; how many bytes of it are done with.
    /// `None`: nobody looks at any of it.
    fn next_answer(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        data: &[u8],
        now: u64,
    ) -> Option<usize> {
        let plan = &mut self.plan;
        let flow = plan.flows.get_mut(index)?;
        if flow.kept == 0 {
            // Where no answer is awaited, one may come all the same.
            if !plan.payload.is_one_way {
                plan.meter.tally.bytes.surplus += data.len() as u64;
            }
            return None;
        }
        let reading = reading(&mut plan.readings, index, flow.number);
        if reading.rest > 0 {
            let bytes =
                usize::try_from(reading.rest).map_or(data.len(), |rest| rest.min(data.len()));
            reading.rest -= bytes as u64;
            let is_last = reading.is_last;
            match reading.rest {
                0 => self.whole(connection, index, bytes, is_last, now),
                _ => plan.got(index, bytes, now),
            }
            return Some(bytes);
        }
        let step = plan.payload.step(flow.number, flow.oldest())?;
        if step.answer == Answer::Echo {
            return self.next_echo(connection, index, data, now);
        }
        let most = plan.payload.longest_answer;
        match step.answer.find(data, &mut reading.scan, most) {
            Found::Whole(bytes) => {
                let answer = &data[..bytes];
                let Scan { said, .. } = std::mem::take(&mut reading.scan);
                let why = why_not(said, step.expect.as_ref(), answer);
                flow.flags -= Flags::TORN;
                if let Some(why) = why {
                    self.mismatch(index, &why, answer);
                }
                self.whole(connection, index, bytes, said.is_last, now);
                Some(bytes)
            }
            Found::Part(Some(all)) if step.expect.is_none() => {
                let Scan { said, .. } = std::mem::take(&mut reading.scan);
                let why = why_not(said, None, data);
                reading.rest = all - data.len() as u64;
                reading.is_last = said.is_last;
                if let Some(why) = why {
                    self.mismatch(index, &why, data);
                }
                self.plan.got(index, data.len(), now);
                Some(data.len())
            }
            Found::Part(_) => {
                flow.flags |= Flags::TORN;
                Some(0)
            }
            Found::TooLong => {
                self.no_answer(connection, index, "an answer without an end", data, now)
            }
            Found::Wrong(why) => self.no_answer(connection, index, why, data, now),
        }
    }

    /// The last bytes of an answer have come: what comes next, if it comes at once, is sent.
    /// `is_last`: the server takes no other question on this connection.
    pub(super) fn whole(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        bytes: usize,
        is_last: bool,
        now: u64,
    ) {
        let mut output = Out::<true>::of(connection.split().1, &mut self.secure, index);
        let plan = &mut self.plan;
        if is_last {
            plan.flows.mark(index, Flags::PEER_FINISHED);
        }
        let answered = plan.answered(index, now, |_, _| Some(bytes));
        if let Some((next, flow)) = answered.and_then(|it| Some((it.next?, it.flow))) {
            let confirms = answered.is_some_and(|it| it.opens);
            let (_, len) = write(plan, &mut output, index, flow, next);
            let sent = match confirms {
                true => Sent::to_confirm(now),
                false => Sent { due: now, at: now },
            };
            plan.count_sent(sent, len);
        }
        if plan.payload.is_one_way {
            plan.pass_one_way(index, now);
        }
        if is_last {
            plan.announced_end(index, now);
        }
    }

    /// An answer has come that is none: its connection is of no use any more.
    fn no_answer(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        why: &str,
        data: &[u8],
        now: u64,
    ) -> Option<usize> {
        self.show(index, why, data);
        self.plan.corrupt(index, now);
        connection.abort(CloseReason::Aborted);
        None
    }

    /// An answer has come that is not what it must be.
    fn mismatch(&mut self, index: u32, why: &str, answer: &[u8]) {
        let sent = self.plan.flows.get(index).and_then(Flow::asked);
        self.plan.meter.mismatched(sent.unwrap_or_default());
        self.show(index, why, answer);
    }

    /// Tells of an answer that is not what it must be, and keeps the words of the first.
    #[cold]
    fn show(&mut self, index: u32, why: &str, answer: &[u8]) {
        let what = || format!("{why}: \"{}\"", Escaped::new(answer).limit(SHOWN));
        self.warn_of(index, |_, _| what());
    }
}

/// How far the answer of the flow with this index and number has been read.
#[inline]
fn reading(readings: &mut Vec<Reading>, index: u32, flow: u32) -> &mut Reading {
    let place = index as usize;
    if readings.len() <= place {
        readings.resize(place + 1, Reading::default());
    }
    let reading = &mut readings[place];
    if reading.flow != flow {
        *reading = Reading {
            flow,
            ..Reading::default()
        };
    }
    reading
}

/// Why an answer is not what it must be.
fn why_not(said: Said, expect: Option<&Expect>, bytes: &[u8]) -> Option<String> {
    match expect {
        Some(expect) => (!expect.is_in(bytes)).then(|| format!("an answer without {expect}")),
        None => said
            .is_refusal
            .then(|| "an answer that is an error".to_owned()),
    }
}
