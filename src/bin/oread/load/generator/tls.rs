//! Connections over TLS: their handshakes, what comes on them and is opened, what is sealed, and
//! their ends. Opened, it goes the same way as what comes on any other connection.

use std::mem;
use std::time::Duration;

use oread::{CloseReason, Connection, ConnectionId, Context};

use super::drive::Generator;
use super::flow::{Flags, Sent, Stage};
use super::names;
use super::secure::{Progress, Session};
use crate::load::clock::{after, until};
use crate::load::count::Ledger;

impl Generator {
    /// A connection is there: its handshake begins, where its target takes one. Whether it does.
    pub(super) fn begin_handshake(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        now: u64,
    ) -> bool {
        let flow = self.plan.flows.get(index);
        let opened = flow.and_then(|flow| Some((flow.time, self.secure.open(flow.target, now)?)));
        match opened {
            None => return false,
            Some((dialed, Ok(mut session))) => {
                // What the dial has left of its time.
                let due = after(dialed, self.setup.load.sockets.connect_timeout);
                session.timer = Some(connection.timer(until(now, due)));
                self.secure.keep(index, session);
                self.hear_sealed(connection, &[]);
            }
            Some((_, Err(error))) => {
                let why = names::of_tls(&error);
                self.handshake_failed(connection, index, |ledger| &mut ledger.failed, &why);
            }
        }
        true
    }

    /// Input has come, where some connections are over TLS; how many bytes of it are done with.
    #[inline(never)]
    pub(super) fn heard_secure(
        &mut self,
        connection: &mut Connection<'_, u32>,
        data: &[u8],
    ) -> usize {
        if self.secure.has(*connection.session()) {
            self.hear_sealed(connection, data);
        } else if self.plan.payload.is_scripted() {
            return self.heard_answers::<false>(connection, data);
        } else {
            self.heard::<false>(connection, data);
        }
        data.len()
    }

    /// Something has come on a connection over TLS.
    fn hear_sealed(&mut self, connection: &mut Connection<'_, u32>, data: &[u8]) {
        let index = *connection.session();
        let Some(mut session) = self.secure.lend(index) else {
            return;
        };
        let mut incoming = self.secure.incoming(&mut session, data);
        let mut done = 0;
        let progress = loop {
            let mut sealed = mem::take(&mut self.secure.sealed);
            let left = &mut incoming[done..];
            let (more, progress) =
                session.work(&mut sealed, connection, left, |connection, rest, plain| {
                    self.opened(connection, rest, plain);
                });
            self.secure.sealed = sealed;
            done += more;
            match (progress, session.timer.take()) {
                (Progress::Open, Some(timer)) => {
                    connection.context().cancel(timer);
                    self.handshaken(connection, index, &session);
                }
                (progress, timer) => {
                    session.timer = timer;
                    break progress;
                }
            }
        };
        match progress {
            Progress::Open => self.seal(connection, index, &mut session, &mut incoming[done..]),
            Progress::Waits => {}
            Progress::Closed => self.peer_closed(connection, index, &mut session),
            Progress::Failed(error) => {
                log::debug!("TLS: {error:?}");
                let why = names::of_tls(&error);
                self.secure_failed(connection, index, &why);
            }
        }
        // What an end has come before is lost with its connection.
        self.secure.forget_gathered();
        self.secure.put_back(&mut session, incoming, done);
        self.secure.keep(index, session);
    }

    /// The handshake is done: its first message is gathered.
    fn handshaken(&mut self, connection: &mut Connection<'_, u32>, index: u32, session: &Session) {
        let now = self.now(connection.context());
        self.plan
            .handshaken(index, session.is_resumed(), session.connected, now);
        if self.plan.flows.opening > 0 {
            self.send(connection, index, Sent::to_confirm(now));
        }
    }

    /// Something was opened. `rest`: what has come of an answer that is not whole.
    fn opened(&mut self, connection: &mut Connection<'_, u32>, rest: &mut Vec<u8>, plain: &[u8]) {
        if !connection.is_open() {
            return;
        }
        if !self.plan.payload.is_scripted() {
            return self.heard::<true>(connection, plain);
        }
        if rest.is_empty() {
            let done = self.heard_answers::<true>(connection, plain);
            rest.extend_from_slice(&plain[done..]);
            return;
        }
        rest.extend_from_slice(plain);
        let done = self.heard_answers::<true>(connection, rest);
        match done == rest.len() {
            // An idle connection keeps no buffer.
            true => *rest = Vec::new(),
            false => _ = rest.drain(..done),
        }
    }

    /// What is gathered for a flow goes out.
    fn seal(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        session: &mut Session,
        incoming: &mut [u8],
    ) {
        if !self.secure.has_gathered() {
            return;
        }
        let (_, mut output) = connection.split();
        match self.secure.seal(session, incoming, &mut output) {
            oread::Pressure::Low => {
                let flow = self.plan.flows.get(index);
                if flow.is_some_and(|flow| flow.flags.contains(Flags::FULL)) {
                    let now = self.now(connection.context());
                    self.plan.has_room(index, now);
                }
            }
            _ => self.plan.flows.mark(index, Flags::FULL),
        }
    }

    /// What was gathered from outside of the callbacks of a flow's connection goes out.
    #[cold]
    pub(super) fn seal_outside(&mut self, connection: &mut Connection<'_, u32>, index: u32) {
        if let Some(mut session) = self.secure.lend(index) {
            let mut incoming = self.secure.incoming(&mut session, &[]);
            self.seal(connection, index, &mut session, &mut incoming);
            self.secure.put_back(&mut session, incoming, 0);
            self.secure.keep(index, session);
        }
    }

    /// Says goodbye on a connection over TLS that is about to be closed.
    pub(super) fn say_goodbye(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session();
        if let Some(mut session) = self.secure.lend(index) {
            let (_, mut output) = connection.split();
            self.secure.say_goodbye(&mut session, &mut output);
            self.secure.keep(index, session);
        }
    }

    /// The peer has said that it sends no more. All that it sent has come.
    fn peer_closed(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        session: &mut Session,
    ) {
        session.is_closed = true;
        if session.timer.is_some() {
            return self.secure_failed(connection, index, names::CLOSED);
        }
        self.plan.flows.mark(index, Flags::PEER_FINISHED);
        match connection.pending() {
            0 => {
                let (_, mut output) = connection.split();
                self.secure.say_goodbye(session, &mut output);
                connection.close(CloseReason::Finished);
            }
            // What is not read yet will have no answer: it need not be waited for.
            _ => connection.abort(CloseReason::Aborted),
        }
    }

    /// A connection over TLS has come to its end by something that went wrong.
    fn secure_failed(&mut self, connection: &mut Connection<'_, u32>, index: u32, why: &str) {
        let now = self.now(connection.context());
        match self.plan.flows.get(index).map(|flow| flow.stage) {
            Some(Stage::Dialing) => {
                self.handshake_failed(connection, index, |ledger| &mut ledger.failed, why);
            }
            Some(Stage::Ended) | None => {}
            Some(_) => {
                self.plan.lost(index, &format!("TLS: {why}"), now);
                connection.close(CloseReason::Aborted);
            }
        }
    }

    fn handshake_failed(
        &mut self,
        connection: &mut Connection<'_, u32>,
        index: u32,
        count: fn(&mut Ledger) -> &mut u64,
        why: &str,
    ) {
        let now = self.now(connection.context());
        let name = format!("TLS handshake: {why}");
        self.plan.handshake_failed(index, count, &name, now);
        connection.close(CloseReason::Aborted);
    }

    /// The peer has ended a connection, over TLS or not. Where it's over TLS and it had not said so
    /// in there, that's no orderly end.
    pub(super) fn peer_left(&mut self, connection: &mut Connection<'_, u32>, index: u32) {
        let session = self.secure.get_mut(index);
        if session.is_some_and(|session| session.timer.is_some()) {
            self.secure_failed(connection, index, names::CLOSED);
        }
    }

    /// A connection over TLS is gone; what that is called, where the load had not ended it. In the
    /// handshake its dial has failed.
    pub(super) fn secure_gone(
        &mut self,
        context: &mut Context<'_, u32>,
        index: u32,
        session: &Session,
        name: String,
    ) -> String {
        if let Some(timer) = session.timer {
            context.cancel(timer);
            let now = self.now(context);
            let name = format!("TLS handshake: {name}");
            let count: fn(&mut Ledger) -> &mut u64 = |ledger| &mut ledger.failed;
            self.plan.handshake_failed(index, count, &name, now);
            return name;
        }
        match name == names::CLOSED && !session.is_closed {
            true => names::TRUNCATED.to_owned(),
            false => name,
        }
    }

    /// The time of a dial is over, if this timer was about one: its handshake has had it all.
    pub(super) fn handshake_due(&mut self, context: &mut Context<'_, u32>, key: u64) {
        let Some(mut connection) = context.connection(ConnectionId::from_bits(key)) else {
            return;
        };
        let index = *connection.session();
        let now = self.now(connection.context());
        let dialed = self.plan.flows.get(index).map(|flow| flow.time);
        let session = self.secure.get_mut(index);
        let (Some(dialed), Some(session)) = (dialed, session) else {
            return;
        };
        if session.timer.is_none() {
            return;
        }
        // The reactor's time may be older than the run's, and the timer another's.
        match until(now, after(dialed, self.setup.load.sockets.connect_timeout)) {
            Duration::ZERO => {
                let count: fn(&mut Ledger) -> &mut u64 = |ledger| &mut ledger.timed_out;
                self.handshake_failed(&mut connection, index, count, "connect timeout");
            }
            left => session.timer = Some(connection.timer(left)),
        }
    }
}
