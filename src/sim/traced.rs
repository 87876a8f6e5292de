//! What a handler is told, in the trace of its world.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use crate::context::{Connection, Context, Datagram};
use crate::error::CloseReason;
use crate::handler::{Accepted, Handler};
use crate::net::sim::Process;
use crate::readiness::Readiness;
use crate::token::{ConnectionId, Key, Kind, SourceId, UdpId};

/// A handler whose callbacks the trace shows. It is the handler itself to whoever looks at it.
pub struct Traced<H> {
    inner: H,
    process: Process,
}

impl<H> Traced<H> {
    pub(super) fn new(inner: H, process: Process) -> Traced<H> {
        Traced { inner, process }
    }

    /// A line about a connection.
    fn of(&self, call: &str, id: ConnectionId, more: impl FnOnce() -> String) {
        self.line(call, id.0, Kind::Connection, more);
    }

    fn line(&self, call: &str, key: Key, kind: Kind, more: impl FnOnce() -> String) {
        let of = Some(key.token(kind));
        self.process.note(call, of, more);
    }
}

/// No more than a name.
fn nothing() -> String {
    String::new()
}

#[warn(clippy::missing_trait_methods)]
impl<H: Handler> Handler for Traced<H> {
    type Session = H::Session;
    type Message = H::Message;

    fn on_accept(
        &mut self,
        context: &mut Context<'_, H::Session>,
        caller: &Accepted,
    ) -> Option<H::Session> {
        let Accepted { listener, peer, .. } = caller;
        let from = || format!(" from {peer}");
        self.line("on_accept", listener.0, Kind::Listener, from);
        let session = self.inner.on_accept(context, caller);
        if session.is_none() {
            let refused = || " refuses".to_owned();
            self.line("on_accept", listener.0, Kind::Listener, refused);
        }
        session
    }

    fn on_open(&mut self, connection: &mut Connection<'_, H::Session>) {
        self.of("on_open", connection.id(), nothing);
        self.inner.on_open(connection);
    }

    fn on_data(&mut self, connection: &mut Connection<'_, H::Session>, data: &[u8]) -> usize {
        let (id, count) = (connection.id(), data.len());
        self.of("on_data", id, || format!(" {count} bytes"));
        let consumed = self.inner.on_data(connection, data);
        if consumed != count {
            self.of("on_data", id, || format!(" consumes {consumed} of {count}"));
        }
        consumed
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, H::Session>, rest: &[u8]) {
        let left = || format!(" {} bytes left", rest.len());
        self.of("on_eof", connection.id(), left);
        self.inner.on_eof(connection, rest);
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, H::Session>) {
        self.of("on_drained", connection.id(), nothing);
        self.inner.on_drained(connection);
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, H::Session>, reason: CloseReason) {
        self.of("on_closing", connection.id(), || format!(": {reason}"));
        self.inner.on_closing(connection, reason);
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, H::Session>,
        id: ConnectionId,
        session: H::Session,
        reason: CloseReason,
    ) {
        self.of("on_close", id, || format!(": {reason}"));
        self.inner.on_close(context, id, session, reason);
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, H::Session>,
        id: ConnectionId,
        session: H::Session,
        error: io::Error,
    ) {
        self.of("on_connect_failed", id, || format!(": {error}"));
        self.inner.on_connect_failed(context, id, session, error);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, H::Session>, data: &[u8]) {
        let (from, count) = (datagram.from(), data.len());
        let more = || format!(" {count} bytes from {from}");
        self.line("on_datagram", datagram.socket().0, Kind::Udp, more);
        self.inner.on_datagram(datagram, data);
    }

    fn on_datagram_error(
        &mut self,
        context: &mut Context<'_, H::Session>,
        socket: UdpId,
        error: io::Error,
    ) {
        let more = || format!(": {error}");
        self.line("on_datagram_error", socket.0, Kind::Udp, more);
        self.inner.on_datagram_error(context, socket, error);
    }

    fn on_datagram_writable(&mut self, context: &mut Context<'_, H::Session>, socket: UdpId) {
        self.line("on_datagram_writable", socket.0, Kind::Udp, nothing);
        self.inner.on_datagram_writable(context, socket);
    }

    fn on_timer(&mut self, context: &mut Context<'_, H::Session>, key: u64) {
        // A timer about a connection has its id for a key, and small keys are nobody's id.
        match key >> 32 {
            0 => self.process.note("on_timer", None, || format!(" {key}")),
            _ => self.of("on_timer", ConnectionId::from_bits(key), nothing),
        }
        self.inner.on_timer(context, key);
    }

    fn on_message(&mut self, context: &mut Context<'_, H::Session>, message: H::Message) {
        self.process.note("on_message", None, nothing);
        self.inner.on_message(context, message);
    }

    fn on_ready(
        &mut self,
        context: &mut Context<'_, H::Session>,
        source: SourceId,
        readiness: Readiness,
    ) {
        self.inner.on_ready(context, source, readiness);
    }
}

impl<H> Deref for Traced<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.inner
    }
}

impl<H> DerefMut for Traced<H> {
    fn deref_mut(&mut self) -> &mut H {
        &mut self.inner
    }
}

impl<H: fmt::Debug> fmt::Debug for Traced<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
