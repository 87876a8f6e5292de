//! A handler around another one that keeps a truth of its own: what was told of each connection, in
//! which order, and whether that can be.

#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use oread::sim::Host;
use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Datagram, Handler, Limits, Readiness,
    SourceId, Stats, UdpId,
};

/// What a handler was told of one connection.
#[derive(Clone, Default)]
pub struct Life {
    /// Who is at the other end, where it was accepted.
    pub peer: Option<SocketAddr>,
    pub opened: bool,
    /// Input that was consumed.
    pub consumed: Vec<u8>,
    /// Input that was shown last and not consumed.
    pub left: Vec<u8>,
    /// Whether the peer's end was told.
    pub eof: bool,
    pub closing: u32,
    pub closed: Option<CloseReason>,
    pub failed: bool,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (consumed, left) = (self.consumed.len(), self.left.len());
        let (eof, closed) = (self.eof, self.closed);
        let opened = self.opened;
        write!(
            f,
            "opened: {opened}, {consumed} consumed, {left} left, eof: {eof}, {closed:?}"
        )
    }
}

impl Life {
    /// All that was shown of the input.
    pub fn input(&self) -> Vec<u8> {
        [self.consumed.as_slice(), &self.left].concat()
    }
}

/// See the module's page.
pub struct Watched<H> {
    pub inner: H,
    pub lives: BTreeMap<ConnectionId, Life>,
    /// The peer that was taken on last, and is to be opened next.
    accepted: Option<SocketAddr>,
    pub refused: u64,
    /// How many were told open, and how many of them closed.
    opened: u64,
    closed: u64,
    /// Bytes that were consumed so far, and that are left by all who may be shown them again.
    consumed: u64,
    left: u64,
    busy: bool,
}

impl<H: Handler> Watched<H> {
    pub fn new(inner: H) -> Watched<H> {
        Watched {
            inner,
            lives: BTreeMap::new(),
            accepted: None,
            refused: 0,
            opened: 0,
            closed: 0,
            consumed: 0,
            left: 0,
            busy: false,
        }
    }

    /// What was told of the connection with `peer`, if it was taken on.
    pub fn life_of(&self, peer: SocketAddr) -> Option<&Life> {
        self.lives.values().find(|life| life.peer == Some(peer))
    }

    /// Who was taken on is opened next, whatever becomes of it.
    fn assert_greeted(&self) {
        let taken = self.accepted;
        assert_eq!(taken, None, "it was taken on, and nothing was told of it");
    }

    fn enter(&mut self) {
        assert!(!self.busy, "a callback runs inside another");
        self.busy = true;
    }

    fn call(&mut self, call: impl FnOnce(&mut H)) {
        self.enter();
        call(&mut self.inner);
        self.busy = false;
    }

    /// The life of a connection about which something is told now: it's open.
    fn life(&mut self, id: ConnectionId, what: &str) -> &mut Life {
        let life = self.lives.get_mut(&id);
        let life = life.unwrap_or_else(|| panic!("{what} for {id:?}, of which nothing was told"));
        assert!(life.opened, "{what} for {id:?} before on_open");
        assert_eq!(life.closed, None, "{what} for {id:?} after on_close");
        life
    }
}

#[warn(clippy::missing_trait_methods)]
impl<H: Handler> Handler for Watched<H> {
    type Session = H::Session;
    type Message = H::Message;

    fn on_accept(
        &mut self,
        context: &mut Context<'_, H::Session>,
        accepted: &Accepted,
    ) -> Option<H::Session> {
        self.enter();
        self.assert_greeted();
        let session = self.inner.on_accept(context, accepted);
        match session {
            Some(_) => self.accepted = accepted.peer.socket_addr(),
            None => self.refused += 1,
        }
        self.busy = false;
        session
    }

    fn on_open(&mut self, connection: &mut Connection<'_, H::Session>) {
        self.enter();
        let peer = self.accepted.take();
        let life = self.lives.entry(connection.id()).or_default();
        assert!(!life.opened, "on_open comes twice");
        life.opened = true;
        life.peer = peer;
        self.opened += 1;
        self.inner.on_open(connection);
        self.busy = false;
    }

    fn on_data(&mut self, connection: &mut Connection<'_, H::Session>, data: &[u8]) -> usize {
        self.enter();
        let id = connection.id();
        let life = self.life(id, "on_data");
        assert!(!life.eof, "input after the peer's end");
        assert!(!data.is_empty(), "no input at all is shown");
        assert!(!connection.is_paused(), "input for one that is paused");
        assert!(
            life.left.is_empty() || data.starts_with(&life.left),
            "what was left unconsumed is not what comes again"
        );
        let count = self.inner.on_data(connection, data);
        let life = self.lives.get_mut(&id).unwrap();
        self.left -= life.left.len() as u64;
        self.left += (data.len() - count) as u64;
        self.consumed += count as u64;
        life.consumed.extend_from_slice(&data[..count]);
        life.left.clear();
        life.left.extend_from_slice(&data[count..]);
        self.busy = false;
        count
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, H::Session>, rest: &[u8]) {
        self.enter();
        let life = self.life(connection.id(), "on_eof");
        assert!(!life.eof, "on_eof comes twice");
        assert!(life.left == rest, "the rest is not what was left");
        assert!(!connection.is_paused(), "the end for one that is paused");
        life.eof = true;
        self.left -= rest.len() as u64;
        self.inner.on_eof(connection, rest);
        self.busy = false;
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, H::Session>) {
        self.enter();
        self.life(connection.id(), "on_drained");
        self.inner.on_drained(connection);
        self.busy = false;
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, H::Session>, reason: CloseReason) {
        self.enter();
        let life = self.life(connection.id(), "on_closing");
        // Once more for one that has stayed open.
        assert!(life.closing < 2, "on_closing comes three times");
        life.closing += 1;
        self.inner.on_closing(connection, reason);
        self.busy = false;
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, H::Session>,
        id: ConnectionId,
        session: H::Session,
        reason: CloseReason,
    ) {
        self.enter();
        assert!(context.connection(id).is_none(), "its id still finds it");
        let life = self.life(id, "on_close");
        life.closed = Some(reason);
        let left = if life.eof { 0 } else { life.left.len() };
        self.left -= left as u64;
        self.closed += 1;
        self.inner.on_close(context, id, session, reason);
        self.busy = false;
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, H::Session>,
        id: ConnectionId,
        session: H::Session,
        error: io::Error,
    ) {
        self.enter();
        let life = self.lives.entry(id).or_default();
        assert!(!life.opened && !life.failed, "a failed dial was open");
        life.failed = true;
        self.inner.on_connect_failed(context, id, session, error);
        self.busy = false;
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, H::Session>, data: &[u8]) {
        self.call(|inner| inner.on_datagram(datagram, data));
    }

    fn on_datagram_error(
        &mut self,
        context: &mut Context<'_, H::Session>,
        socket: UdpId,
        error: io::Error,
    ) {
        self.call(|inner| inner.on_datagram_error(context, socket, error));
    }

    fn on_datagram_writable(&mut self, context: &mut Context<'_, H::Session>, socket: UdpId) {
        self.call(|inner| inner.on_datagram_writable(context, socket));
    }

    fn on_timer(&mut self, context: &mut Context<'_, H::Session>, key: u64) {
        self.call(|inner| inner.on_timer(context, key));
    }

    fn on_message(&mut self, context: &mut Context<'_, H::Session>, message: H::Message) {
        self.call(|inner| inner.on_message(context, message));
    }

    fn on_ready(
        &mut self,
        context: &mut Context<'_, H::Session>,
        source: SourceId,
        readiness: Readiness,
    ) {
        self.call(|inner| inner.on_ready(context, source, readiness));
    }
}

/// What must hold between any two turns.
pub fn look_at<H: Handler>(host: &mut Host<Watched<H>>) -> Stats {
    look_at_beside(host, 0)
}

/// As [`look_at`], where one write may be so large.
pub fn look_at_beside<H: Handler>(host: &mut Host<Watched<H>>, write: usize) -> Stats {
    host.handler.assert_greeted();
    let stats = host.context().stats();
    assert!(adds_up(&stats), "the counters don't add up: {stats:?}");
    let context = host.context();
    let limits = context.limits();
    assert!(
        is_bounded(&stats, limits, write),
        "{stats:?} under {limits:?}"
    );
    assert_eq!(stats.consumed, host.handler.consumed, "{stats:?}");
    // Of one that closes nothing is kept any more.
    let left = host.handler.left;
    assert!(stats.unconsumed <= left, "{stats:?} of {left}");
    assert!(is_worth_it(&stats), "{stats:?}");
    let (opened, closed) = (host.handler.opened, host.handler.closed);
    // One may have been accepted, or dialed, and not be told open before this turn's end.
    assert!(opened - closed >= stats.open.saturating_sub(1), "{stats:?}");
    assert_eq!(closed, stats.closed.total(), "{stats:?}");
    stats
}

fn adds_up(stats: &Stats) -> bool {
    stats.bytes_in == stats.consumed + stats.unconsumed + stats.discarded
        && stats.written == stats.bytes_out + stats.pending + stats.dropped
        && stats.accepted + stats.connected == stats.open + stats.closed.total()
}

/// All that connections keep: what they may keep in all, and what each may have beyond that.
fn is_bounded(stats: &Stats, limits: &Limits, write: usize) -> bool {
    let each = (limits.max_input + limits.read_buffer + 2 * write + (8 << 10)) as u64;
    stats.held <= limits.max_pending as u64 * 2 + (stats.open + 1) * each
        && stats.open <= limits.max_connections as u64
}

/// Memory is held for what is kept, and not much more than that: who keeps little may have got
/// buffers for it that were used before, of up to 128 KiB each; and the books of what it moves take
/// some 150 bytes.
fn is_worth_it(stats: &Stats) -> bool {
    let kept = stats.unconsumed + stats.pending;
    let keepers = kept.min(stats.open + 1);
    kept <= stats.held && stats.held <= 8 * kept + keepers * (257 << 10) + stats.open * 150
}
