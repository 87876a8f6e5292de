//! What a peer is told to do and what it knows, and what drives it: whatever happens at its socket,
//! and its pauses.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::Owner;
use super::State;
use super::expect::Expected;
use super::schedule::What;
use super::tcp::{Fin, Phase};
use super::trace::quoted;
use super::watch::Side;

/// How a peer reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Whatever comes, at once.
    #[default]
    All,
    /// Nothing: what comes fills its receive buffer.
    Nothing,
    /// So many bytes more, and then nothing.
    Only(usize),
    /// At most so many bytes, every so often.
    Slowly(usize, Duration),
}

/// What a peer knows of its connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// When the connection was established, as far as the peer could see.
    pub(crate) connected: Option<Duration>,
    /// Every byte that its system has taken, in order; urgent ones among them.
    pub(crate) sent: Vec<u8>,
    /// How many of those the other system has acknowledged.
    pub(crate) acknowledged: u64,
    /// Whether its FIN is acknowledged.
    pub(crate) finish_acknowledged: bool,
    /// Every byte that it has read, in order.
    pub(crate) received: Vec<u8>,
    /// When it read, and how many bytes it had read by then.
    pub(crate) arrivals: Vec<(Duration, usize)>,
    /// When it read the end.
    pub(crate) ended: Option<Duration>,
    /// When its connection failed, and how: ECONNRESET is a reset, ECONNREFUSED a dial in vain.
    pub(crate) failed: Option<(Duration, Errno)>,
    /// Bytes of its script that it will never send, as the connection was over before.
    pub(crate) unsent: u64,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Bytes, from `at` on, so many at a time, with a pause between.
    Send {
        bytes: Vec<u8>,
        at: usize,
        piece: usize,
        pause: Duration,
    },
    Urgent(u8),
    Pause(Duration),
    /// Waits until this has been read.
    Expect(Expected),
    /// Half-closes.
    Finish,
    /// Closes, as `close` does: with a reset if something is unread.
    Close,
    Reset,
    Vanish,
}

impl Act {
    /// Its name, if nothing can be read behind it.
    pub(super) fn leaves(&self) -> Option<&'static str> {
        match self {
            Act::Close => Some("close"),
            Act::Reset => Some("reset"),
            Act::Vanish => Some("vanish"),
            _ => None,
        }
    }
}

/// A peer, inside.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) side: Option<Side>,
    /// Its own address and the other's, also when the connection is over.
    pub(super) addresses: Option<(SocketAddr, SocketAddr)>,
    pub(super) acts: VecDeque<Act>,
    /// It does nothing before this.
    pub(super) pause_until: Duration,
    pub(super) reading: Reading,
    pub(super) next_read: Duration,
    /// It finishes when it has read the end.
    pub(super) finish_at_end: bool,
    /// Bytes of what it has read that it was to expect, or whose lines were taken.
    pub(super) expected: usize,
    /// Something that it expected has not come, or can't.
    pub(super) unmet: bool,
    /// What it was told to do that ends it.
    pub(super) leaves: Option<&'static str>,
    pub(super) ledger: Ledger,
    /// It has closed, or vanished: it does nothing any more.
    pub(super) over: bool,
}

/// A listener whose connections are peers.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) listener: Option<u32>,
    pub(super) address: SocketAddr,
    /// How those whom it accepts read.
    pub(super) reading: Reading,
    pub(super) accepted: VecDeque<u32>,
}

impl Server {
    pub(super) fn new(listener: u32, address: SocketAddr) -> Server {
        Server {
            listener: Some(listener),
            address,
            reading: Reading::All,
            accepted: VecDeque::new(),
        }
    }
}

impl Script {
    pub(super) fn new(side: Option<Side>, reading: Reading) -> Script {
        Script {
            side,
            addresses: None,
            acts: VecDeque::new(),
            pause_until: Duration::ZERO,
            reading,
            next_read: Duration::ZERO,
            finish_at_end: false,
            expected: 0,
            unmet: false,
            leaves: None,
            ledger: Ledger::default(),
            over: false,
        }
    }

    /// Nothing of the rest of the script will be done.
    pub(super) fn give_up(&mut self) {
        for act in std::mem::take(&mut self.acts) {
            self.leave_out(&act);
        }
    }

    /// This will not be done.
    pub(super) fn leave_out(&mut self, act: &Act) {
        self.ledger.unsent += match act {
            Act::Send { bytes, at, .. } => (bytes.len() - at) as u64,
            Act::Urgent(_) => 1,
            _ => 0,
        };
    }
}

impl State {
    /// A peer's listener has a connection: it is a new peer's.
    pub(super) fn take_on(&mut self, server: u32, listener: u32) {
        let Some(connection) = self
            .listener(listener)
            .and_then(|one| one.queue.pop_front())
        else {
            return;
        };
        let side = Side { connection, end: 1 };
        let id = self.peers.len() as u32;
        let reading = self.servers[server as usize].reading;
        self.peers.push(Script::new(Some(side), reading));
        self.servers[server as usize].accepted.push_back(id);
        self.trace(|| format!("peer {side} is accepted at l{listener}"));
        if let Some(connection) = self.connection(connection) {
            connection.listener = None;
            connection.ends[1].owner = Owner::Peer(id);
        }
        self.note_addresses(id);
        self.pumps.push(id);
    }

    /// The peer has an end of a connection: its addresses stay known.
    pub(super) fn note_addresses(&mut self, id: u32) {
        let side = self.peers[id as usize].side;
        let end = side.and_then(|side| self.end(side));
        let addresses = end.map(|end| (end.local, end.remote));
        self.peers[id as usize].addresses = addresses;
    }

    /// A pause is over.
    pub(super) fn wake_peer(&mut self, id: u32) {
        self.pumps.push(id);
    }

    /// Lets a peer go on, from outside of a step.
    pub(super) fn pump_now(&mut self, id: u32) {
        self.pumps.push(id);
        self.pump_peers();
    }

    /// Lets all peers go on whose sockets have news.
    #[inline]
    pub(super) fn pump_peers(&mut self) {
        while let Some(id) = self.pumps.pop() {
            self.pump(id);
        }
    }

    fn pump(&mut self, id: u32) {
        let script = &self.peers[id as usize];
        let Some(side) = script.side.filter(|_| !script.over) else {
            self.end_script(id);
            return;
        };
        let Some(end) = self.end(side) else {
            return;
        };
        match end.phase {
            Phase::Dialing | Phase::Answering => {
                // A dialling peer can only give up.
                let gives_up = matches!(
                    self.peers[id as usize].acts.front(),
                    Some(Act::Reset | Act::Vanish)
                );
                if gives_up {
                    self.do_next(id, side);
                }
                return;
            }
            Phase::Established | Phase::Over => {}
        }
        self.note_progress(id, side);
        self.read_as_it_does(id, side);
        while self.do_next(id, side) {}
        self.note_progress(id, side);
    }

    /// What the peer's system knows goes into the ledger.
    fn note_progress(&mut self, id: u32, side: Side) {
        let now = self.now;
        let Some(connection) = self.connection(side.connection) else {
            return;
        };
        let phase = connection.ends[usize::from(side.end)].phase;
        let way = &connection.ways[usize::from(side.end)];
        let failed = connection.ends[usize::from(side.end)].error.is_some();
        // What a failure leaves unacknowledged counts as gone, not as arrived.
        let acknowledged = (phase == Phase::Established).then_some(way.acknowledged);
        let finished = way.fin == Fin::Acknowledged;
        let ledger = &mut self.peers[id as usize].ledger;
        if !failed || phase == Phase::Established {
            ledger.connected.get_or_insert(now);
        }
        if let Some(acknowledged) = acknowledged {
            ledger.acknowledged = acknowledged;
        }
        if finished {
            ledger.finish_acknowledged = true;
            ledger.acknowledged = ledger.sent.len() as u64;
        }
    }

    fn read_as_it_does(&mut self, id: u32, side: Side) {
        loop {
            let now = self.now;
            let script = &self.peers[id as usize];
            let most = match script.reading {
                Reading::All => 65_536,
                Reading::Nothing => 0,
                Reading::Only(left) => left.min(65_536),
                Reading::Slowly(_, _) if now < script.next_read => 0,
                Reading::Slowly(most, _) => most.max(1),
            };
            let failed = self.end(side).and_then(|end| end.error);
            if most == 0 {
                // Who does not read is told of an error all the same.
                if failed.is_some_and(|_| script_is_blind(&self.peers[id as usize])) {
                    self.peer_failed(id, side, failed);
                }
                return;
            }
            // It reads right into its ledger.
            let available = self.way(side.other()).map_or(0, |way| way.available());
            let mut received = std::mem::take(&mut self.peers[id as usize].ledger.received);
            let before = received.len();
            received.resize(before + most.min(available as usize).max(1), 0);
            let answer = self.read(side, &mut received[before..]);
            let count = answer.and_then(Result::ok).unwrap_or(0);
            received.truncate(before + count);
            if count > 0 {
                self.trace(|| format!("peer {side} reads {count} {}", quoted(&received[before..])));
            }
            self.peers[id as usize].ledger.received = received;
            match answer {
                None => return,
                Some(Ok(0)) => {
                    self.peer_saw_end(id, side);
                    return;
                }
                Some(Ok(count)) => {
                    let ledger = &mut self.peers[id as usize].ledger;
                    ledger.arrivals.push((now, before + count));
                }
                Some(Err(error)) => {
                    self.peer_failed(id, side, Some(error));
                    return;
                }
            }
            let script = &mut self.peers[id as usize];
            match &mut script.reading {
                Reading::All | Reading::Nothing => {}
                Reading::Only(left) if *left > count => *left -= count,
                Reading::Only(_) => script.reading = Reading::Nothing,
                Reading::Slowly(_, every) => {
                    script.next_read = now + *every;
                    self.schedule.at(script.next_read, What::Peer(id));
                    return;
                }
            }
        }
    }

    /// A read has said the end. An error that came after it still counts.
    fn peer_saw_end(&mut self, id: u32, side: Side) {
        let now = self.now;
        let finished = self.end(side).is_some_and(|end| end.finished);
        let script = &mut self.peers[id as usize];
        if finished && script.ledger.ended.is_none() {
            script.ledger.ended = Some(now);
            if script.finish_at_end {
                script.acts.push_back(Act::Finish);
            }
            self.trace(|| format!("peer {side} reads the end"));
        }
        let error = self.end(side).and_then(|end| end.error.take());
        if error.is_some() {
            self.peer_failed(id, side, error);
            return;
        }
        // Both ways have finished: the socket is of no more use.
        let over = self.end(side).is_some_and(|end| end.phase == Phase::Over);
        if over {
            self.note_progress(id, side);
            self.peers[id as usize].over = true;
            self.end_script(id);
            self.close(side);
        }
    }

    fn peer_failed(&mut self, id: u32, side: Side, error: Option<Errno>) {
        let now = self.now;
        let script = &mut self.peers[id as usize];
        if let Some(error) = error
            && script.ledger.failed.is_none()
        {
            script.ledger.failed = Some((now, error));
            self.trace(|| format!("peer {side} fails: {error}"));
        }
        self.peers[id as usize].over = true;
        self.end_script(id);
        self.close(side);
    }

    /// Does the next thing of the script; false: it can't, or there is none.
    fn do_next(&mut self, id: u32, side: Side) -> bool {
        let now = self.now;
        let script = &mut self.peers[id as usize];
        if script.over || now < script.pause_until {
            return false;
        }
        let Some(act) = script.acts.pop_front() else {
            return false;
        };
        match act {
            Act::Send { .. } => self.send_on(id, side, act),
            Act::Urgent(byte) => {
                if !self.push_urgent(side, byte) {
                    self.peers[id as usize].acts.push_front(act);
                    return false;
                }
                self.peers[id as usize].ledger.sent.push(byte);
                self.trace(|| format!("peer {side} sends {} urgently", quoted(&[byte])));
                true
            }
            Act::Pause(time) => {
                self.pause_peer(id, time);
                false
            }
            Act::Expect(expected) => self.is_met(id, expected),
            Act::Finish => {
                self.trace(|| format!("peer {side} finishes"));
                self.finish(side);
                true
            }
            Act::Close | Act::Reset => {
                let reset = matches!(act, Act::Reset);
                self.trace(|| {
                    let does = if reset { "resets" } else { "closes" };
                    format!("peer {side} {does}")
                });
                self.peers[id as usize].over = true;
                self.peers[id as usize].give_up();
                if let Some(end) = self.end(side) {
                    end.reset_on_close = reset;
                }
                self.close(side);
                false
            }
            Act::Vanish => {
                self.peers[id as usize].over = true;
                self.peers[id as usize].give_up();
                self.vanish(side);
                if let Some(end) = self.end(side) {
                    end.closed = true;
                }
                false
            }
        }
    }

    /// Sends the next piece; false: there is no room, or a pause.
    fn send_on(&mut self, id: u32, side: Side, act: Act) -> bool {
        let Act::Send {
            bytes,
            at,
            piece,
            pause,
        } = act
        else {
            return false;
        };
        let end = at.saturating_add(piece).min(bytes.len());
        // Who found the buffer full is woken when a third of it is free, not by every byte that is
        // acknowledged (`sk_stream_write_space`).
        let full = self.way(side).is_some_and(|way| way.no_space);
        let written = match full {
            true => None,
            false => self.write(side, &bytes[at..end], &[]),
        };
        let count = match written {
            None => 0,
            Some(Ok(count)) => count,
            Some(Err(error)) => {
                self.peers[id as usize].acts.push_front(Act::Send {
                    bytes,
                    at,
                    piece,
                    pause,
                });
                // What arrived before can still be read.
                self.read_as_it_does(id, side);
                self.peer_failed(id, side, Some(error));
                return false;
            }
        };
        if count > 0 {
            let sent = &bytes[at..at + count];
            self.trace(|| format!("peer {side} sends {count} {}", quoted(sent)));
        }
        let script = &mut self.peers[id as usize];
        script.ledger.sent.extend_from_slice(&bytes[at..at + count]);
        let at = at + count;
        let whole = at >= bytes.len();
        if !whole {
            let rest = Act::Send {
                bytes,
                at,
                piece,
                pause,
            };
            script.acts.push_front(rest);
        }
        if count > 0 && !whole && !pause.is_zero() {
            self.pause_peer(id, pause);
            return false;
        }
        whole || at == end
    }

    fn pause_peer(&mut self, id: u32, time: Duration) {
        let until = self.now + time;
        self.peers[id as usize].pause_until = until;
        self.schedule.at(until, What::Peer(id));
    }
}

/// Whether a peer would never learn of an error by reading.
fn script_is_blind(script: &Script) -> bool {
    script.reading == Reading::Nothing
}
