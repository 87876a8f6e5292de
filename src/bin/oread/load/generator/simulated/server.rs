//! A server that keeps its own truth: what came when, and what it answered when. It delays, stalls,
//! falls silent, doubles, swaps, flips, cuts, closes and resets as it was told to.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use oread::framing::Next;
use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Datagram, Framing, Handler,
    ListenOptions, ListenerId, UdpId, UdpOptions,
};

use super::manners::{Fate, Manners};
use super::speech::{Speech, Tone};
use crate::load::clock::{NEVER, until};
use crate::load::exchange::answer::Answer;
use crate::load::generator::payload::Payload;
use crate::load::generator::wake::Clock;
use crate::load::mix::mix;
use crate::load::options::values::VerifyMode;

/// Keys of timers: a connection's are below this, a datagram's are from here on.
const DATAGRAM: u64 = 1 << 32;
/// The key of the timer at which the server's listener comes or goes.
const DOOR: u64 = 1 << 40;

/// How a server has ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoiled {
    /// By bytes that are no right answer.
    Corrupt,
    /// By its end, behind which it reads on.
    Finished,
    /// By a reset, or a close that may become one.
    Gone,
}

/// A message of a connection.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    /// When it was answered rightly, and in full.
    pub(super) answered: Option<u64>,
    /// Bytes of that answer, and whether it held what it must.
    pub(super) answer: u64,
    pub(super) is_mismatched: bool,
    /// Whether it has no answer.
    pub(super) is_one_way: bool,
}

impl Asked {
    fn new(at: u64, bytes: Vec<u8>) -> Asked {
        Asked {
            at,
            bytes,
            answered: None,
            answer: 0,
            is_mismatched: false,
            is_one_way: false,
        }
    }
}

/// What goes out in answer to a message.
struct Reply {
    /// The whole right answer, of which a part may go out.
    right: Vec<u8>,
    bytes: Vec<u8>,
    /// Whether a client tells that it's no answer to what it asked, or that it does not hold what
    /// it must.
    is_corrupt: bool,
    is_mismatched: bool,
}

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Call {
    id: Option<ConnectionId>,
    pub(super) from: IpAddr,
    /// The server's own address.
    pub(super) at: IpAddr,
    pub(super) accepted: u64,
    input: Vec<u8>,
    pub(super) asked: Vec<Asked>,
    queue: VecDeque<(u64, usize, Fate)>,
    is_deaf: bool,
    /// When the server has ended it, and how.
    pub(super) spoiled: Option<(u64, Spoiled)>,
    /// When the client has ended it.
    pub(super) left: Option<u64>,
}

/// A datagram.
#[derive(Clone, Debug)]
pub(super) struct Gram {
    pub(super) from: SocketAddr,
    pub(super) flow: u32,
    pub(super) number: u32,
    pub(super) due: u64,
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    /// Right answers, and wrong ones.
    pub(super) answers: Vec<u64>,
    pub(super) wrong: Vec<u64>,
    to_come: VecDeque<(u64, Fate)>,
}

/// How messages are told apart on a stream.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub(super) framing: Framing,
    pub(super) payload: Payload,
    /// The size of all messages, where they have one.
    pub(super) size: Option<usize>,
    pub(super) verify: VerifyMode,
    /// What is said, where answers are no echoes.
    pub(super) speech: Option<Speech>,
}

impl Split {
    /// Whether a client tells `other` from the right answer.
    fn tells(&self, right: &[u8], other: &[u8]) -> bool {
        let at = (0..right.len()).find(|&at| other.get(at) != Some(&right[at]));
        let Some(at) = at else {
            return other.len() != right.len();
        };
        let (before, behind) = match self.framing {
            Framing::Lines => (0, 1),
            Framing::Length(_) => (self.framing.envelope(1).unwrap().before().len(), 0),
            _ => (0, 0),
        };
        match self.verify {
            VerifyMode::Off => false,
            VerifyMode::Full => true,
            VerifyMode::Sequence => at < before + 8 || at + behind >= right.len(),
        }
    }
}

/// The server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) clock: Clock,
    at: SocketAddr,
    split: Split,
    pub(super) manners: Manners,
    draws: u32,
    listener: Option<ListenerId>,
    udp: Option<UdpId>,
    pub(super) calls: Vec<Call>,
    pub(super) grams: Vec<Gram>,
    /// Answers from another run: to the first message of a connection, the second, and so on.
    pub(super) kept: Vec<Vec<u8>>,
}

impl Server {
    pub(super) fn new(clock: Clock, at: SocketAddr, split: Split, manners: Manners) -> Server {
        Server {
            clock,
            at,
            split,
            manners,
            draws: 0,
            listener: None,
            udp: None,
            calls: Vec::new(),
            grams: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Begins to serve.
    pub(super) fn open(&mut self, context: &mut Context<'_, u32>, is_udp: bool) -> io::Result<()> {
        if is_udp {
            self.udp = Some(context.bind_udp(&UdpOptions {
                recv_buffer: Some(4 << 20),
                ..UdpOptions::new(self.at)
            })?);
            return Ok(());
        }
        self.listen(context)?;
        if let Some((from, _)) = self.manners.shut {
            let now = self.clock.now(context);
            context.timer(until(now, from), DOOR);
        }
        Ok(())
    }

    fn listen(&mut self, context: &mut Context<'_, u32>) -> io::Result<()> {
        let options = ListenOptions::new(self.at);
        self.listener = Some(context.listen(&options)?);
        Ok(())
    }

    /// The listener goes, or comes again.
    fn turn_door(&mut self, context: &mut Context<'_, u32>) {
        match self.listener.take() {
            Some(listener) => {
                context.close_listener(listener);
                let now = self.clock.now(context);
                let (_, end) = self.manners.shut.unwrap();
                context.timer(until(now, end), DOOR);
            }
            // In a bad world it may stay shut.
            None => _ = self.listen(context),
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.draws += 1;
        let seed = self.manners.seed;
        let mixed = mix(mix(seed) ^ u64::from(self.draws));
        (mixed >> 16) % sides
    }

    fn is_one_in(&mut self, n: u64) -> bool {
        n > 0 && self.roll(n) == 0
    }

    fn fate(&mut self) -> Fate {
        let m = self.manners;
        for (rate, fate) in [
            (m.mute, Fate::Mute),
            (m.double, Fate::Double),
            (m.swap, Fate::Swap),
            (m.steal, Fate::Steal),
            (m.flip, Fate::Flip),
            (m.cut, Fate::Cut),
            (m.finish, Fate::Finish),
            (m.close, Fate::Close),
            (m.reset, Fate::Reset),
        ] {
            if self.is_one_in(rate) {
                return fate;
            }
        }
        Fate::Echo
    }

    /// When the answer to what has come at `now` is due.
    fn answer_due(&mut self, now: u64) -> u64 {
        let (least, most) = self.manners.delay;
        let mut ms = least + self.roll(most - least + 1);
        if self.is_one_in(self.manners.slow) {
            ms += self.manners.slow_by;
        }
        now + ms * 1_000_000
    }

    /// Until when nothing goes out.
    fn stalled(&self, now: u64) -> Option<u64> {
        let (from, until) = self.manners.stall?;
        (from..until).contains(&now).then_some(until)
    }

    /// Which flow a connection is, by its first bytes: only where sizes are drawn and nothing
    /// stands between messages.
    fn size_of(&self, call: &Call) -> Option<usize> {
        if self.split.size.is_some() {
            return self.split.size;
        }
        let first = call.asked.first().map_or(&call.input, |asked| &asked.bytes);
        let head = first.get(..8)?;
        let flow = (0..10_000).find(|&flow| {
            let message = self.split.payload.message(flow, 0);
            message.parts().concat()[..8] == *head
        });
        let number = call.asked.len() as u32;
        Some(self.split.payload.message(flow.unwrap(), number).len())
    }

    /// The first whole message in what has come.
    fn whole(&self, call: &Call) -> Option<usize> {
        let size = match self.split.framing {
            Framing::Raw | Framing::Fixed(_) => self.size_of(call)?,
            framing => match framing.next(&call.input, 0, 1 << 21).unwrap() {
                Next::Frame(frame) => frame.len,
                Next::Partial { .. } => return None,
            },
        };
        (call.input.len() >= size).then_some(size)
    }

    /// A message has come, or, where it's empty, a connection that is to be greeted: its answer
    /// will be due.
    fn asked(&mut self, context: &mut Context<'_, u32>, index: usize, bytes: Vec<u8>, now: u64) {
        let mut due = self.answer_due(now);
        let fate = self.fate();
        let call = &mut self.calls[index];
        call.asked.push(Asked::new(now, bytes));
        if let Some(speech) = &self.split.speech {
            let asked: Vec<&[u8]> = call.asked.iter().map(|asked| &asked.bytes[..]).collect();
            let is_one_way = *speech.form(&asked) == Answer::None;
            if is_one_way && let Some(last) = call.asked.last_mut() {
                last.is_one_way = true;
                return;
            }
        }
        due = due.max(call.queue.back().map_or(0, |last| last.0));
        call.queue.push_back((due, call.asked.len() - 1, fate));
        if call.queue.len() == 1 {
            context.timer(until(now, due), index as u64);
        }
    }

    /// Answers what is due on a connection.
    fn answer(&mut self, context: &mut Context<'_, u32>, index: usize) {
        let now = self.clock.now(context);
        while let Some(&(due, number, fate)) = self.calls[index].queue.front() {
            let wait = self.stalled(now).unwrap_or(due);
            if wait > now {
                context.timer(until(now, wait), index as u64);
                return;
            }
            self.calls[index].queue.pop_front();
            self.deal(context, index, number, fate, now);
        }
        let call = &self.calls[index];
        if let (Some(_), Some(id)) = (call.left, call.id)
            && let Some(mut connection) = context.connection(id)
        {
            connection.finish();
        }
    }

    /// What is answered to a message with this fate.
    fn reply(&mut self, index: usize, number: usize, fate: Fate) -> Reply {
        if self.split.speech.is_some() {
            return self.say(index, number, fate);
        }
        let call = &self.calls[index];
        let right = call.asked[number].bytes.clone();
        let mut other = right.clone();
        match fate {
            Fate::Swap => other = call.asked[number.saturating_sub(1)].bytes.clone(),
            Fate::Steal => {
                let others = self.calls.iter().enumerate().filter(|(i, _)| *i != index);
                let last = others.filter_map(|(_, call)| call.asked.last()).next_back();
                other = last.map_or(other, |asked| asked.bytes.clone());
            }
            Fate::Flip => {
                let at = self.roll(right.len() as u64) as usize;
                other[at] ^= 1;
            }
            _ => {}
        }
        if let Some(kept) = self.kept.get(number) {
            other.clone_from(kept);
        }
        Reply {
            is_corrupt: self.split.tells(&right, &other),
            is_mismatched: false,
            bytes: other,
            right,
        }
    }

    /// The same, where answers are no echoes.
    fn say(&mut self, index: usize, number: usize, fate: Fate) -> Reply {
        let length = self.roll(10_000);
        let tone = match fate {
            Fate::Flip => Tone::Wrong,
            Fate::Swap => Tone::Garbage,
            _ => Tone::Right,
        };
        let asked = &self.calls[index].asked[..=number];
        let asked: Vec<&[u8]> = asked.iter().map(|asked| &asked.bytes[..]).collect();
        let speech = self.split.speech.as_ref().unwrap();
        let said = speech.answer(&asked, tone, length);
        Reply {
            right: said.bytes.clone(),
            bytes: said.bytes,
            is_corrupt: !said.is_answer,
            is_mismatched: !said.is_right,
        }
    }

    fn deal(
        &mut self,
        context: &mut Context<'_, u32>,
        index: usize,
        number: usize,
        fate: Fate,
        now: u64,
    ) {
        let call = &self.calls[index];
        let is_silent = call.is_deaf || call.spoiled.is_some_and(|(_, s)| s != Spoiled::Corrupt);
        let Some(id) = call.id.filter(|_| !is_silent) else {
            return;
        };
        let reply = self.reply(index, number, fate);
        let Some(mut connection) = context.connection(id) else {
            return;
        };
        let call = &mut self.calls[index];
        let was_right = call.spoiled.is_none();
        let mut spoil = |how| _ = call.spoiled.get_or_insert((now, how));
        match fate {
            Fate::Mute => call.is_deaf = true,
            Fate::Cut => {
                let part = reply.right.len() / 2;
                connection.write(&reply.right[..part]);
                spoil(Spoiled::Gone);
                connection.close(CloseReason::Closed);
            }
            Fate::Reset => {
                connection.abort(CloseReason::Aborted);
                // What was written right before has not gone out.
                call.spoiled = call.spoiled.filter(|(at, _)| *at < now);
                call.spoiled.get_or_insert((now, Spoiled::Gone));
            }
            _ => {
                connection.write(&reply.bytes);
                // Behind what is wrong nobody listens.
                if reply.is_corrupt {
                    spoil(Spoiled::Corrupt);
                } else if was_right {
                    let asked = &mut call.asked[number];
                    asked.answered = Some(now);
                    asked.answer = reply.bytes.len() as u64;
                    asked.is_mismatched = reply.is_mismatched;
                }
                match fate {
                    Fate::Double => {
                        connection.write(&reply.right);
                        spoil(Spoiled::Corrupt);
                    }
                    Fate::Finish => {
                        connection.finish();
                        spoil(Spoiled::Finished);
                    }
                    Fate::Close => {
                        connection.close(CloseReason::Closed);
                        spoil(Spoiled::Gone);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Answers a datagram, where that is due.
    fn answer_datagram(&mut self, context: &mut Context<'_, u32>, index: usize) {
        let now = self.clock.now(context);
        while let Some(&(due, fate)) = self.grams[index].to_come.front() {
            let wait = self.stalled(now).unwrap_or(due);
            if wait > now {
                context.timer(until(now, wait), DATAGRAM + index as u64);
                return;
            }
            self.grams[index].to_come.pop_front();
            let (from, mut bytes) = (self.grams[index].from, self.grams[index].bytes.clone());
            let mut is_right = true;
            match fate {
                Fate::Flip => {
                    // The header is looked at in any case.
                    let looked_at = match self.split.verify {
                        VerifyMode::Full => bytes.len(),
                        _ => 24,
                    };
                    let at = self.roll(looked_at as u64) as usize;
                    bytes[at] ^= 1;
                    is_right = false;
                }
                Fate::Steal => {
                    let flow = self.grams[index].flow;
                    let mut others = self.grams.iter().filter(|gram| gram.flow != flow);
                    if let Some(other) = others.next_back() {
                        bytes = other.bytes.clone();
                        is_right = false;
                    }
                }
                _ => {}
            }
            let Some(udp) = self.udp else {
                return;
            };
            context.send_to(udp, from, &bytes);
            let gram = &mut self.grams[index];
            match is_right {
                true => gram.answers.push(now),
                false => gram.wrong.push(now),
            }
        }
    }
}

impl Handler for Server {
    type Session = u32;
    type Message = ();

    fn on_accept(&mut self, context: &mut Context<'_, u32>, caller: &Accepted) -> Option<u32> {
        let now = self.clock.now(context);
        let is_deaf = self.is_one_in(self.manners.deaf);
        self.calls.push(Call {
            id: None,
            from: caller.peer.socket_addr().unwrap().ip(),
            at: self.at.ip(),
            accepted: now,
            input: Vec::new(),
            asked: Vec::new(),
            queue: VecDeque::new(),
            is_deaf,
            spoiled: None,
            left: None,
        });
        Some(self.calls.len() as u32 - 1)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session() as usize;
        self.calls[index].id = Some(connection.id());
        connection.read_on(true);
        if self.split.speech.as_ref().is_some_and(Speech::greets) {
            let now = self.clock.now(connection.context());
            self.asked(connection.context(), index, Vec::new(), now);
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, u32>, data: &[u8]) -> usize {
        let index = *connection.session() as usize;
        let now = self.clock.now(connection.context());
        self.calls[index].input.extend_from_slice(data);
        while let Some(size) = self.whole(&self.calls[index]) {
            let bytes = self.calls[index].input.drain(..size).collect();
            self.asked(connection.context(), index, bytes, now);
        }
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, u32>, _: &[u8]) {
        let now = self.clock.now(connection.context());
        let call = &mut self.calls[*connection.session() as usize];
        call.left.get_or_insert(now);
        if call.queue.is_empty() {
            connection.finish();
        }
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, u32>,
        _: ConnectionId,
        index: u32,
        _: CloseReason,
    ) {
        let now = self.clock.now(context);
        let call = &mut self.calls[index as usize];
        call.id = None;
        if !matches!(call.spoiled, Some((_, Spoiled::Gone))) {
            call.left.get_or_insert(now);
        }
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, u32>, data: &[u8]) {
        let now = self.clock.now(datagram.context());
        let from = datagram.from();
        let word = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().unwrap());
        let due = u64::from(word(8)) << 32 | u64::from(word(12));
        let mut to_come = VecDeque::new();
        let fate = self.fate();
        if fate != Fate::Mute && !self.is_one_in(self.manners.deaf) {
            let first = self.answer_due(now);
            to_come.push_back((first, fate));
            if fate == Fate::Double {
                let second = self.answer_due(first);
                to_come.push_back((second, Fate::Echo));
            }
        }
        let first = to_come.front().map_or(NEVER, |&(due, _)| due);
        self.grams.push(Gram {
            from,
            flow: word(0),
            number: word(4),
            due,
            at: now,
            bytes: data.to_vec(),
            answers: Vec::new(),
            wrong: Vec::new(),
            to_come,
        });
        if first != NEVER {
            let key = DATAGRAM + self.grams.len() as u64 - 1;
            let wait = Duration::from_nanos(first - now);
            datagram.context().timer(wait, key);
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_, u32>, key: u64) {
        match key {
            DOOR => self.turn_door(context),
            DATAGRAM.. => self.answer_datagram(context, (key - DATAGRAM) as usize),
            _ => self.answer(context, key as usize),
        }
    }
}
