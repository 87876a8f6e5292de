//! What can't be had from outside: events in an order that a system's poll gives only by bad luck.

#[cfg(feature = "sim")]
mod simulated;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::*;
use crate::context::Connection;
use crate::error::CloseReason;
use crate::handler::Accepted;
use crate::options::ListenOptions;
use crate::readiness::Readiness;
use crate::token::{ConnectionId, ListenerId};

/// Writes down who heard what; closes who says "close".
#[derive(Default)]
struct Listening {
    opened: Vec<ConnectionId>,
    heard: Vec<(ConnectionId, Vec<u8>)>,
    ends: Vec<ConnectionId>,
    closed: Vec<ConnectionId>,
    reasons: Vec<CloseReason>,
}

impl Handler for Listening {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        self.opened.push(connection.id());
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        self.heard.push((connection.id(), data.to_vec()));
        if data == b"close" {
            connection.abort(CloseReason::Aborted);
        }
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, ()>, _: &[u8]) {
        self.ends.push(connection.id());
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, id: ConnectionId, (): (), reason: CloseReason) {
        self.closed.push(id);
        self.reasons.push(reason);
    }
}

fn turn_until(
    reactor: &mut Reactor<Listening>,
    handler: &mut Listening,
    mut done: impl FnMut(&Listening) -> bool,
) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done(handler) {
        assert!(Instant::now() < deadline, "waited too long");
        reactor
            .turn(handler, Some(Duration::from_millis(5)))
            .unwrap();
    }
}

/// All that an event can say: nobody may be reached by it.
const ANYTHING: Readiness = Readiness::READABLE
    .union(Readiness::WRITABLE)
    .union(Readiness::READ_CLOSED)
    .union(Readiness::WRITE_CLOSED)
    .union(Readiness::ERROR)
    .union(Readiness::PRIORITY);

fn start() -> (Reactor<Listening>, Listening, ListenerId, SocketAddr) {
    let mut reactor = Reactor::new().unwrap();
    let options = ListenOptions::new(([127, 0, 0, 1], 0));
    let listener = reactor.context().listen(&options).unwrap();
    let address = reactor.context().listener_addr(listener);
    let address = address.unwrap().socket_addr().unwrap();
    (reactor, Listening::default(), listener, address)
}

#[test]
fn an_old_event_in_the_batch_in_which_its_connection_closes_reaches_nobody() {
    let (mut reactor, mut handler, listener, address) = start();
    let mut a = TcpStream::connect(address).unwrap();
    turn_until(&mut reactor, &mut handler, |h| h.opened.len() == 1);
    let old = handler.opened[0];
    a.write_all(b"close").unwrap();
    let mut b = TcpStream::connect(address).unwrap();
    b.write_all(b"for b alone").unwrap();

    // One batch: A is closed, B is accepted, and an event of A comes late.
    let token = old.0.token(Kind::Connection);
    reactor.dispatch_one(&mut handler, token, Readiness::READABLE);
    assert_eq!(handler.heard, [(old, b"close".to_vec())]);
    let accept = listener.0.token(Kind::Listener);
    reactor.dispatch_one(&mut handler, accept, Readiness::READABLE);
    let new = handler.opened[1];
    assert_ne!(
        new.0.index, old.0.index,
        "a slot is not free within its batch"
    );
    reactor.dispatch_one(&mut handler, token, ANYTHING);
    assert_eq!(handler.heard.len(), 1);
    assert!(handler.ends.is_empty() && handler.closed.is_empty());
    assert!(reactor.context().connection(old).is_none());

    turn_until(&mut reactor, &mut handler, |h| h.heard.len() == 2);
    assert_eq!(handler.heard[1], (new, b"for b alone".to_vec()));
    assert_eq!(handler.closed, [old]);
}

#[test]
fn an_old_event_and_an_old_id_do_not_reach_the_new_tenant_of_a_slot() {
    let (mut reactor, mut handler, _, address) = start();
    let mut a = TcpStream::connect(address).unwrap();
    turn_until(&mut reactor, &mut handler, |h| h.opened.len() == 1);
    let old = handler.opened[0];
    a.write_all(b"close").unwrap();
    turn_until(&mut reactor, &mut handler, |h| h.closed.len() == 1);

    let mut b = TcpStream::connect(address).unwrap();
    turn_until(&mut reactor, &mut handler, |h| h.opened.len() == 2);
    let new = handler.opened[1];
    assert_eq!(
        new.0.index, old.0.index,
        "the slot is to be used again here"
    );
    assert_ne!(new, old);
    // B has data: an event that reached it would make it read.
    b.write_all(b"for b alone").unwrap();
    let token = old.0.token(Kind::Connection);
    assert!(!reactor.pass(&mut handler, token));
    reactor.dispatch_one(&mut handler, token, ANYTHING);
    assert_eq!(handler.heard.len(), 1);
    assert!(reactor.context().connection(old).is_none());
    // The same for what waits in the reactor's own queues.
    reactor.core.ready.push_back((Kind::Connection, old.0));
    reactor.core.dirty.push(old.0);
    reactor.core.ended.push(old.0);
    reactor.serve_ready(&mut handler, 1);
    reactor.flush_dirty(&mut handler);
    reactor.reap(&mut handler);
    assert_eq!((handler.heard.len(), handler.closed.len()), (1, 1));

    turn_until(&mut reactor, &mut handler, |h| h.heard.len() == 2);
    assert_eq!(handler.heard[1], (new, b"for b alone".to_vec()));
}

#[test]
fn events_of_closed_listeners_sockets_and_sources_reach_nobody() {
    let (mut reactor, mut handler, listener, _) = start();
    let udp = crate::options::UdpOptions::default();
    let udp = reactor.context().bind_udp(&udp).unwrap();
    assert!(reactor.context().close_listener(listener));
    assert!(reactor.context().close_udp(udp));
    for token in [
        listener.0.token(Kind::Listener),
        udp.0.token(Kind::Udp),
        listener.0.token(Kind::Source),
        usize::MAX,
    ] {
        reactor.dispatch_one(&mut handler, token, ANYTHING);
    }
    assert!(handler.opened.is_empty());
}

#[test]
fn spurious_events_change_nothing() {
    let (mut reactor, mut handler, listener, address) = start();
    let mut client = TcpStream::connect(address).unwrap();
    turn_until(&mut reactor, &mut handler, |h| h.opened.len() == 1);
    let token = handler.opened[0].0.token(Kind::Connection);
    for _ in 0..10 {
        reactor.dispatch_one(&mut handler, token, ANYTHING);
        reactor.dispatch_one(&mut handler, listener.0.token(Kind::Listener), ANYTHING);
    }
    assert!(handler.heard.is_empty() && handler.ends.is_empty());
    client.write_all(b"close").unwrap();
    turn_until(&mut reactor, &mut handler, |h| h.closed.len() == 1);
    assert_eq!(handler.heard.len(), 1);
    assert!(client.read(&mut [0]).is_err());
}

#[test]
fn a_connection_that_cannot_be_polled_is_opened_and_closed_and_its_session_comes_back() {
    let (mut reactor, mut handler, listener, address) = start();
    let client = TcpStream::connect(address).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    let mut stream = reactor.core.system.adopt_stream(stream.into()).unwrap();
    // Registered already, it can't be registered again.
    reactor.core.system.register_stream(&mut stream, 7).unwrap();
    let peer = client.local_addr().unwrap().into();
    reactor.admit(&mut handler, stream, peer, listener);
    assert_eq!(handler.opened.len(), 1);
    assert!(reactor.context().connection(handler.opened[0]).is_none());
    reactor.turn(&mut handler, Some(Duration::ZERO)).unwrap();
    assert_eq!(handler.closed, handler.opened[..1]);
    let stats = reactor.core.shared.stats();
    assert_eq!(stats.accepted, stats.open + stats.closed.total());
    assert_eq!(stats.closed.of(CloseReason::Failed(0)), 1);
}

#[test]
fn an_idle_timeout_set_after_a_month_of_silence_is_judged_by_that_silence() {
    for days in [13, 25, 40, 100] {
        let (mut reactor, mut handler, _, address) = start();
        let client = TcpStream::connect(address).unwrap();
        turn_until(&mut reactor, &mut handler, |h| h.opened.len() == 1);
        reactor.core.clock.age(Duration::from_secs(days * 86_400));
        let id = handler.opened[0];
        let mut connection = reactor.connection(id).unwrap();
        connection.set_idle_timeout(Some(Duration::from_secs(3600)));
        for _ in 0..3 {
            reactor.turn(&mut handler, Some(Duration::ZERO)).unwrap();
        }
        let connection = reactor.connection(id).unwrap();
        assert!(!connection.is_open(), "after {days} days");
        drop(client);
    }
    // And one that was heard from an hour ago is not idle for two, whatever was before.
    let (mut reactor, mut handler, _, address) = start();
    let mut client = TcpStream::connect(address).unwrap();
    turn_until(&mut reactor, &mut handler, |h| h.opened.len() == 1);
    let clock = &mut reactor.core.clock;
    clock.age(Duration::from_secs(25 * 86_400));
    client.write_all(b"here").unwrap();
    turn_until(&mut reactor, &mut handler, |h| h.heard.len() == 1);
    reactor.core.clock.age(Duration::from_secs(3600));
    let id = handler.opened[0];
    let mut connection = reactor.connection(id).unwrap();
    connection.set_idle_timeout(Some(Duration::from_secs(7200)));
    for _ in 0..3 {
        reactor.turn(&mut handler, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(handler.closed, []);
}

#[test]
fn a_listener_that_pauses_again_and_again_keeps_one_timer() {
    let (mut reactor, mut handler, ..) = start();
    for _ in 0..100 {
        let wait = Duration::from_secs(3600);
        reactor.core.retry_listeners(wait);
    }
    assert_eq!(reactor.core.timers.len(), 1);
    reactor.turn(&mut handler, Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_listener_that_pauses_briefly_does_not_wait_for_another_that_pauses_for_long() {
    let (mut reactor, ..) = start();
    let (brief, long) = (Duration::from_secs(60), Duration::from_secs(3600));
    for wait in [long, brief, long] {
        reactor.core.retry_listeners(wait);
    }
    assert_eq!(reactor.core.timers.len(), 1);
    let next = reactor.next_timeout().unwrap();
    assert!(next <= brief + Duration::from_millis(1), "in {next:?}");
}

#[test]
fn a_deadline_set_after_weeks_without_any_is_waited_for() {
    let (mut reactor, mut handler, _, address) = start();
    let client = TcpStream::connect(address).unwrap();
    turn_until(&mut reactor, &mut handler, |h| h.opened.len() == 1);
    reactor.core.clock.age(Duration::from_secs(25 * 86_400));
    // It lingers now, for five seconds: long enough for the client to read its last.
    let id = handler.opened[0];
    let mut connection = reactor.connection(id).unwrap();
    connection.close(CloseReason::Closed);
    for _ in 0..3 {
        reactor.turn(&mut handler, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(handler.closed, []);
    drop(client);
    turn_until(&mut reactor, &mut handler, |h| h.closed.len() == 1);
}
