//! A handler that does whatever the documentation allows, to its own connection and to all others,
//! in every callback; and keeps books of it. What it writes shows where it belongs (`streams.rs`).

#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Datagram, Handle,
    Handler, ListenOptions, ListenerId, Pressure, ReplyTo, SendOutcome, TimerId, UdpId, UdpOptions,
};

use crate::dice::Dice;
use crate::streams::Way;

/// The largest single write.
pub const LARGEST: usize = 60_000;
/// The idle timeout of everybody once all are released.
pub const AFTER_ALL: Duration = Duration::from_secs(100_000);
/// Keys of timers below this are places in [`Wild::timers`]; those of connections are above it.
const OWN_KEYS: u64 = 1 << 32;

/// One end of a connection, as its handler knows it.
#[derive(Clone, Debug)]
pub struct End {
    pub id: Option<ConnectionId>,
    /// What this end sends.
    pub way: Way,
    /// Bytes that it wrote while the connection took them.
    pub written: usize,
    /// The same and those of the one write by which it learned that no more are taken.
    pub tried: usize,
    /// Such a write was made.
    pub refused: bool,
    /// Bytes that it consumed.
    pub consumed: usize,
    /// The peer's end was told, behind so many bytes.
    pub eof: Option<usize>,
    /// It was asked to finish, or to close.
    pub finished: bool,
    /// It was cut off while it still took output.
    pub aborted: bool,
    /// It was cut off, perhaps when it was closing already.
    pub cut: bool,
    /// It was asked to pause, and not to resume since.
    pub paused: bool,
    /// It was asked to close, or cut off: nothing but its close is told.
    pub over: bool,
    /// It was ever given an idle timeout of its own.
    pub idled: bool,
    /// When it was first asked to close.
    pub closing: Option<Instant>,
    /// Times that it was told closing, and that it had itself stay open.
    pub partings: (u32, u32),
    /// It was about to end when everybody was released.
    pub ending: bool,
    pub opened: bool,
    pub failed: bool,
    pub closed: Option<(CloseReason, Instant)>,
}

impl End {
    fn new(way: Way) -> End {
        End {
            id: None,
            way,
            written: 0,
            tried: 0,
            refused: false,
            consumed: 0,
            eof: None,
            finished: false,
            aborted: false,
            cut: false,
            paused: false,
            over: false,
            idled: false,
            closing: None,
            partings: (0, 0),
            ending: false,
            opened: false,
            failed: false,
            closed: None,
        }
    }

    pub fn reason(&self) -> Option<CloseReason> {
        self.closed.map(|(reason, _)| reason)
    }
}

/// What handlers post to each other: the sender's number, and that of the message.
pub type Message = (usize, u32);

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Timer {
    Set(TimerId, Instant),
    Fired,
    Cancelled,
}

/// See the module's page.
pub struct Wild {
    /// Its number among the handlers of its world.
    me: usize,
    dice: Dice,
    /// Where it may dial.
    pub targets: Vec<SocketAddr>,
    /// Where it listens.
    own: SocketAddr,
    /// Things that it may still do, bytes that it may still write, dials that it may still make.
    pub acts: u64,
    pub bytes: usize,
    pub dials: u16,
    /// From now on it only takes what comes, and finishes when the peer has.
    pub tame: bool,
    /// By the sessions.
    pub ends: Vec<End>,
    pub listeners: Vec<ListenerId>,
    /// Its UDP sockets, and where it may bind more.
    pub udp: Vec<UdpId>,
    pub binds: Option<SocketAddr>,
    pub timers: Vec<Timer>,
    /// When timers about a connection are to come, by their keys.
    pub about: BTreeMap<u64, Vec<Instant>>,
    /// How late the latest of all timers has come.
    pub latest: Duration,
    pub handles: Vec<Handle<Message>>,
    /// Messages that each handler's mailbox has taken, and that were heard from each.
    pub posted: Vec<u32>,
    pub heard: Vec<u32>,
    /// Datagrams that were sent back, and to whom.
    pub replied: Vec<(SocketAddr, Vec<u8>)>,
    /// The last of them, to be answered once more.
    answered: Option<(ReplyTo, Vec<u8>)>,
    /// Whether it may drain the reactor.
    pub drains: bool,
}

impl Wild {
    pub fn new(me: usize, seed: u64, targets: Vec<SocketAddr>) -> Wild {
        Wild {
            me,
            dice: Dice(seed),
            own: targets[me],
            targets,
            acts: 0,
            bytes: 0,
            dials: 0,
            tame: false,
            ends: Vec::new(),
            listeners: Vec::new(),
            udp: Vec::new(),
            binds: None,
            timers: Vec::new(),
            about: BTreeMap::new(),
            latest: Duration::ZERO,
            handles: Vec::new(),
            posted: vec![0; 4],
            heard: vec![0; 4],
            replied: Vec::new(),
            answered: None,
            drains: false,
        }
    }

    /// Whether it may do something more; it's counted.
    fn acts(&mut self) -> bool {
        let acts = !self.tame && self.acts > 0;
        self.acts -= u64::from(acts);
        acts
    }

    /// Anything, to its own connection and to others.
    fn run_wild(&mut self, connection: &mut Connection<'_, usize>) {
        for _ in 0..self.dice.roll(4) {
            match self.dice.roll(3) {
                0 => self.act(connection.context()),
                _ => self.treat(connection),
            }
        }
    }

    /// Anything, to anybody.
    pub fn act(&mut self, context: &mut Context<'_, usize>) {
        if !self.acts() {
            return;
        }
        match self.dice.roll(24) {
            0..=2 => self.dial(context),
            3..=5 => {
                let after = Duration::from_micros(self.dice.roll(30_000));
                let timer = context.timer(after, self.timers.len() as u64);
                self.timers.push(Timer::Set(timer, context.now() + after));
            }
            6 => self.cancel(context),
            7 | 8 => self.post(),
            9 if self.dice.once_in(4) => {
                let address = SocketAddr::new(self.own.ip(), 0);
                self.listeners
                    .extend(context.listen(&ListenOptions::new(address)));
            }
            9 if self.dice.once_in(4) => {
                let listener = self.dice.draw(&mut self.listeners);
                listener.map(|listener| context.close_listener(listener));
            }
            10 if self.dice.once_in(4) => context.stop(),
            10 if self.dice.once_in(4) => self.handles[self.me].stop(),
            10 if self.drains && self.dice.once_in(10) => {
                context.drain(Duration::from_millis(self.dice.roll(2000)));
            }
            11 => context.for_each(|connection| {
                if self.dice.once_in(2) {
                    self.treat(connection);
                }
            }),
            12 => self.treat_datagrams(context),
            _ => self.treat_somebody(context),
        }
    }

    /// Binds, closes, and answers late.
    fn treat_datagrams(&mut self, context: &mut Context<'_, usize>) {
        match self.dice.roll(4) {
            0 => {
                if let Some(id) = self.dice.draw(&mut self.udp) {
                    // A drain closes them all.
                    assert!(context.close_udp(id) || self.drains);
                    assert!(context.udp_addr(id).is_none() && !context.close_udp(id));
                    assert_eq!(
                        context.send_to(id, self.own, b"late"),
                        SendOutcome::NoSocket
                    );
                }
            }
            1 => {
                let bound = self.binds.map(|at| context.bind_udp(&UdpOptions::new(at)));
                self.udp.extend(bound.and_then(Result::ok));
            }
            _ => {
                // By the socket that was asked, which may be closed, or by another one.
                if let Some((to, bytes)) = &self.answered {
                    context.reply(*to, bytes);
                    let last = self.udp.last();
                    last.map(|id| context.send_to(*id, to.peer, bytes));
                }
            }
        }
    }

    fn cancel(&mut self, context: &mut Context<'_, usize>) {
        let count = self.timers.len() as u64;
        if count == 0 {
            return;
        }
        let timer = &mut self.timers[self.dice.roll(count) as usize];
        if let Timer::Set(id, _) = *timer {
            assert!(context.cancel(id), "a timer that is set can't be cancelled");
            *timer = Timer::Cancelled;
            assert!(!context.cancel(id), "a timer is cancelled twice");
        }
    }

    fn post(&mut self) {
        let to = self.dice.roll(self.handles.len() as u64) as usize;
        let message = (self.me, self.posted[to]);
        if self.handles[to].send(message).is_ok() {
            self.posted[to] += 1;
        }
    }

    fn dial(&mut self, context: &mut Context<'_, usize>) {
        if self.dials == 0 {
            return;
        }
        self.dials -= 1;
        let mut options = ConnectOptions::new(self.dice.pick(&self.targets));
        if self.dice.once_in(4) {
            options.timeout = Some(Duration::from_millis(self.dice.roll(2000)));
        }
        // Each has an address that nobody else ever has.
        let source = SocketAddr::new(self.own.ip(), 20_000 + self.dials);
        options.source = Some(source);
        let session = self.ends.len();
        self.ends.push(End::new(Way::of(source, true)));
        match context.connect(&options, session) {
            Ok(id) => {
                self.ends[session].id = Some(id);
                let mut connection = context.connection(id).expect("it has just been dialed");
                assert!(!connection.is_open(), "it's open before it was told so");
                if self.dice.once_in(3) {
                    self.treat(&mut connection);
                }
            }
            Err(refused) => {
                assert_eq!(refused.session, session, "another one's session");
                self.ends.pop();
            }
        }
    }

    /// Somebody of the latest, who may be gone.
    fn treat_somebody(&mut self, context: &mut Context<'_, usize>) {
        let latest = self.ends.len().min(12) as u64;
        if latest == 0 {
            return;
        }
        let session = self.ends.len() - 1 - self.dice.roll(latest) as usize;
        let end = &self.ends[session];
        if let Some(mut connection) = end.id.and_then(|id| context.connection(id)) {
            assert!(end.closed.is_none() && !end.failed, "it's over: {end:?}");
            assert_eq!(*connection.session(), session, "another one's session");
            self.treat(&mut connection);
        }
    }

    /// Anything, to one connection.
    fn treat(&mut self, connection: &mut Connection<'_, usize>) {
        if !self.acts() {
            return;
        }
        let session = *connection.session();
        let takes_output = connection.pressure() != Pressure::Closed;
        let end = &mut self.ends[session];
        match self.dice.roll(40) {
            0..=17 => {
                for _ in 0..=self.dice.roll(3) {
                    self.write(connection);
                }
            }
            18..=20 => {
                end.paused = true;
                connection.pause();
            }
            how @ 21..=25 => {
                end.paused = false;
                if how == 25 {
                    connection.pause();
                }
                connection.resume();
            }
            26 => {
                end.finished = true;
                connection.finish();
            }
            27 => {
                (end.finished, end.over) = (true, true);
                let now = connection.context().now();
                self.ends[session].closing.get_or_insert(now);
                connection.close(CloseReason::Other(1));
            }
            28 => {
                end.aborted |= takes_output;
                (end.cut, end.over) = (true, true);
                connection.abort(CloseReason::Aborted);
            }
            29 | 30 => connection.read_on(self.dice.once_in(2)),
            31 | 32 => {
                let ms = self.dice.roll(3000);
                end.idled |= ms > 500;
                connection.set_idle_timeout((ms > 500).then(|| Duration::from_millis(ms)));
            }
            33 | 34 => self.time(connection),
            35 => {
                end.partings.1 += 1;
                connection.stay_open();
            }
            37 => connection.again(),
            36 => {
                // What may fail by a fault changes nothing else.
                let _ = connection.set_nodelay(self.dice.once_in(2));
            }
            _ => {}
        }
    }

    /// Sets a timer about a connection.
    fn time(&mut self, connection: &mut Connection<'_, usize>) {
        let after = Duration::from_micros(self.dice.roll(30_000));
        let due = connection.context().now() + after;
        let about = self.about.entry(connection.id().to_bits());
        about.or_default().push(due);
        connection.timer(after);
    }

    /// The next bytes of this connection, in one of the ways of writing.
    fn write(&mut self, connection: &mut Connection<'_, usize>) {
        let end = &mut self.ends[*connection.session()];
        if end.refused {
            assert_eq!(connection.write(b"late"), Pressure::Closed);
            return;
        }
        let size = self
            .dice
            .pick(&[0, 1, 10, 100, 1000, 1000, 10_000, LARGEST]);
        let size = self.dice.between(size / 2, size).min(self.bytes);
        self.bytes -= size;
        let text = end.way.text(end.written, size);
        let pressure = match self.dice.roll(6) {
            0 => {
                let (one, other) = text.split_at(self.dice.between(0, size));
                connection.write_vectored(&[IoSlice::new(one), IoSlice::new(other)])
            }
            1 => connection.split().1.write(text),
            2 => {
                let text = std::str::from_utf8(text).expect("it is text");
                write!(connection, "{text}")
            }
            _ => connection.write(text),
        };
        end.tried = end.written + size;
        match pressure {
            Pressure::Closed => end.refused = true,
            _ => end.written = end.tried,
        }
        assert_eq!(
            connection.pressure(),
            pressure,
            "a write says it, and it is not so"
        );
    }
}

impl Handler for Wild {
    type Session = usize;
    type Message = Message;

    fn on_accept(&mut self, context: &mut Context<'_, usize>, caller: &Accepted) -> Option<usize> {
        self.act(context);
        let taken = self.tame || !self.dice.once_in(20);
        taken.then(|| {
            self.ends
                .push(End::new(Way::of(caller.peer.socket_addr().unwrap(), false)));
            self.ends.len() - 1
        })
    }

    fn on_open(&mut self, connection: &mut Connection<'_, usize>) {
        let end = &mut self.ends[*connection.session()];
        assert!(
            !end.opened && !end.failed,
            "it's told open once more: {end:?}"
        );
        end.opened = true;
        let before = end.id.replace(connection.id());
        assert!(before.is_none_or(|before| before == connection.id()));
        if self.tame {
            // Its peer may have vanished, or have been reset: what is sent to it tells of that.
            end.finished = true;
            connection.finish();
            connection.set_idle_timeout(Some(AFTER_ALL));
        }
        self.run_wild(connection);
    }

    fn on_data(&mut self, connection: &mut Connection<'_, usize>, data: &[u8]) -> usize {
        let session = *connection.session();
        let end = &self.ends[session];
        assert!(!end.paused && !end.over, "input all the same: {end:?}");
        assert!(
            end.way.back().is(end.consumed, data),
            "{} bytes that nobody has sent there: {end:?}",
            data.len()
        );
        self.run_wild(connection);
        let some = self.acts > 0 && !self.tame && self.dice.once_in(4);
        let count = match some {
            true => self.dice.between(0, data.len()),
            false => data.len(),
        };
        self.ends[session].consumed += count;
        count
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, usize>, rest: &[u8]) {
        let end = &mut self.ends[*connection.session()];
        assert!(!end.paused && !end.over, "the end all the same: {end:?}");
        assert!(
            end.way.back().is(end.consumed, rest),
            "a rest that nobody sent"
        );
        end.eof = Some(end.consumed + rest.len());
        if self.tame || !self.dice.once_in(3) {
            end.finished = true;
            connection.finish();
        }
        self.run_wild(connection);
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, usize>) {
        let end = &self.ends[*connection.session()];
        assert!(!end.over, "drained all the same: {end:?}");
        self.run_wild(connection);
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, usize>, reason: CloseReason) {
        let expected = matches!(reason, CloseReason::IdleTimeout | CloseReason::Drained);
        assert!(expected, "on_closing for {reason}");
        let end = &mut self.ends[*connection.session()];
        assert!(!end.finished, "last words of one that has finished");
        let (partings, stays) = &mut end.partings;
        assert!(!end.over && *partings <= *stays, "last words once more");
        *partings += 1;
        self.run_wild(connection);
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, usize>,
        id: ConnectionId,
        session: usize,
        reason: CloseReason,
    ) {
        let end = &mut self.ends[session];
        assert_eq!(end.id, Some(id), "another one's session");
        assert!(end.opened && !end.failed && end.closed.is_none(), "{end:?}");
        end.closed = Some((reason, context.now()));
        self.act(context);
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, usize>,
        id: ConnectionId,
        session: usize,
        _: io::Error,
    ) {
        let end = &mut self.ends[session];
        assert_eq!(end.id, Some(id), "another one's session");
        assert!(
            !end.opened && !end.failed && end.closed.is_none(),
            "{end:?}"
        );
        end.failed = true;
        self.act(context);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, usize>, data: &[u8]) {
        let (from, socket) = (datagram.from(), datagram.socket());
        assert!(self.udp.contains(&socket), "a closed socket's datagram");
        assert!(is_datagram(from, data), "a datagram that {from} never sent");
        let replies = !self.tame && self.dice.once_in(2);
        if replies && datagram.reply(data) == SendOutcome::Sent {
            self.replied.push((from, data.to_vec()));
            self.answered = Some((datagram.reply_to(), data.to_vec()));
        }
        self.act(datagram.context());
    }

    fn on_datagram_error(&mut self, context: &mut Context<'_, usize>, id: UdpId, _: io::Error) {
        assert!(self.udp.contains(&id), "a closed socket's error");
        self.act(context);
    }

    fn on_datagram_writable(&mut self, context: &mut Context<'_, usize>, id: UdpId) {
        assert!(self.udp.contains(&id), "a closed socket's room");
        self.act(context);
    }

    fn on_timer(&mut self, context: &mut Context<'_, usize>, key: u64) {
        let due = if key < OWN_KEYS {
            match std::mem::replace(&mut self.timers[key as usize], Timer::Fired) {
                Timer::Set(_, due) => due,
                other => panic!("a timer fires that is {other:?}"),
            }
        } else {
            let about = self.about.get_mut(&key).expect("it was set");
            // They come in this order, as far as milliseconds tell it.
            let first = about.iter().enumerate().min_by_key(|(_, due)| **due);
            let (first, _) = first.expect("a timer fires more often than it was set");
            about.swap_remove(first)
        };
        assert!(context.now() >= due, "a timer fires early");
        self.latest = self.latest.max(context.now() - due);
        self.act(context);
    }

    fn on_message(&mut self, context: &mut Context<'_, usize>, (from, number): Message) {
        assert_eq!(number, self.heard[from], "a message is lost, or came twice");
        self.heard[from] += 1;
        self.act(context);
    }
}

/// A datagram from `from` with the number `number`.
pub fn datagram(from: SocketAddr, number: u32, size: usize) -> Vec<u8> {
    let text = Way::of(from, true).text(number as usize, size);
    [&number.to_be_bytes(), text].concat()
}

fn is_datagram(from: SocketAddr, data: &[u8]) -> bool {
    data.split_first_chunk().is_some_and(|(number, text)| {
        let number = u32::from_be_bytes(*number);
        Way::of(from, true).is(number as usize, text)
    })
}
