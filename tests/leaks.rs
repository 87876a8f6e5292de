//! Nothing stays behind: descriptors, sessions and messages, whether a reactor is dropped or a
//! panic goes through it.
//!
//! A process of its own, and one test at a time: they count the descriptors of the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{PATIENCE, connect, loopback, read_some};
use mio::Interest;
use mio::unix::pipe;
use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Datagram, Handler,
    Limits, ListenOptions, Pressure, Reactor, Readiness, SourceId, UdpOptions,
};

/// Held by the one test that runs: the others would open descriptors of theirs.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many descriptors this process has open.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The methods of a handler, by their names, each of which can be made to panic.
const METHODS: [&str; 11] = [
    "on_accept",
    "on_open",
    "on_data",
    "on_eof",
    "on_drained",
    "on_close",
    "on_connect_failed",
    "on_datagram",
    "on_timer",
    "on_message",
    "on_ready",
];

/// A handler that panics in one of its methods. Every session is a count on `sessions`.
struct Fragile {
    sessions: Rc<()>,
    panics_in: &'static str,
}

impl Fragile {
    fn enter(&self, method: &str) {
        assert!(self.panics_in != method, "as asked: {method}");
    }

    /// Sessions that are alive.
    fn alive(&self) -> usize {
        Rc::strong_count(&self.sessions) - 1
    }
}

impl Handler for Fragile {
    type Session = Rc<()>;
    type Message = Arc<()>;

    fn on_accept(&mut self, _: &mut Context<'_, Rc<()>>, _: &Accepted) -> Option<Rc<()>> {
        self.enter("on_accept");
        Some(Rc::clone(&self.sessions))
    }

    fn on_open(&mut self, _: &mut Connection<'_, Rc<()>>) {
        self.enter("on_open");
    }

    /// "big" is answered by as much as puts the connection under pressure, "close" by a close that
    /// lingers, "rest" is left unconsumed.
    fn on_data(&mut self, connection: &mut Connection<'_, Rc<()>>, data: &[u8]) -> usize {
        self.enter("on_data");
        match data {
            b"big" => while connection.write(&[0; 64 << 10]) == Pressure::Low {},
            b"close" => connection.close(CloseReason::Closed),
            b"pause" => connection.pause(),
            b"rest" => return 0,
            _ => {}
        }
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, Rc<()>>, _: &[u8]) {
        self.enter("on_eof");
        connection.finish();
    }

    fn on_drained(&mut self, _: &mut Connection<'_, Rc<()>>) {
        self.enter("on_drained");
    }

    fn on_close(
        &mut self,
        _: &mut Context<'_, Rc<()>>,
        _: ConnectionId,
        _: Rc<()>,
        _: CloseReason,
    ) {
        self.enter("on_close");
    }

    fn on_connect_failed(
        &mut self,
        _: &mut Context<'_, Rc<()>>,
        _: ConnectionId,
        _: Rc<()>,
        _: io::Error,
    ) {
        self.enter("on_connect_failed");
    }

    fn on_datagram(&mut self, _: &mut Datagram<'_, Rc<()>>, _: &[u8]) {
        self.enter("on_datagram");
    }

    fn on_timer(&mut self, _: &mut Context<'_, Rc<()>>, _: u64) {
        self.enter("on_timer");
    }

    fn on_message(&mut self, _: &mut Context<'_, Rc<()>>, _: Arc<()>) {
        self.enter("on_message");
    }

    fn on_ready(&mut self, _: &mut Context<'_, Rc<()>>, _: SourceId, _: Readiness) {
        self.enter("on_ready");
    }
}

/// A reactor in which everything can happen, and what makes it happen.
struct World {
    reactor: Reactor<Fragile>,
    handler: Fragile,
    address: SocketAddr,
    udp: SocketAddr,
    /// A foreign source, and the pen that makes it ready.
    source: (pipe::Receiver, pipe::Sender),
}

impl World {
    fn new(panics_in: &'static str) -> World {
        let mut reactor = Reactor::with_limits(Limits {
            linger_timeout: PATIENCE,
            ..Limits::default()
        })
        .unwrap();
        let mut context = reactor.context();
        let listener = context.listen(&ListenOptions::new(loopback())).unwrap();
        let address = context.listener_addr(listener).unwrap();
        let address = address.socket_addr().unwrap();
        let udp = context.bind_udp(&UdpOptions::new(loopback())).unwrap();
        let udp = context.udp_addr(udp).unwrap();
        let (sender, mut receiver) = pipe::new().unwrap();
        context.register(&mut receiver, Interest::READABLE).unwrap();
        World {
            reactor,
            handler: Fragile {
                sessions: Rc::new(()),
                panics_in,
            },
            address,
            udp,
            source: (receiver, sender),
        }
    }

    fn turn(&mut self) {
        let wait = Some(Duration::from_millis(5));
        self.reactor.turn(&mut self.handler, wait).unwrap();
    }

    /// Makes every method of the handler be called, and turns until each has been, or one has
    /// panicked.
    fn do_everything(&mut self) {
        let closed = refusing();
        let session = Rc::clone(&self.handler.sessions);
        let mut context = self.reactor.context();
        context.timer(Duration::from_millis(1), 0);
        context
            .connect(&ConnectOptions::new(closed), session)
            .unwrap();
        self.reactor.handle().send(Arc::new(())).unwrap();
        self.source.1.write_all(b"x").unwrap();
        let datagrams = UdpSocket::bind(loopback()).unwrap();
        datagrams.send_to(b"x", self.udp).unwrap();
        let mut client = connect(self.address);
        client.write_all(b"big").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        let mut ended = false;
        while !ended || self.handler.alive() > 0 || self.reactor.next_timeout().is_some() {
            assert!(Instant::now() < deadline, "not everything has happened");
            self.turn();
            ended |= read_some(&mut client, &mut bytes, usize::MAX).unwrap();
        }
    }
}

/// An address at which nobody listens.
fn refusing() -> SocketAddr {
    let listener = TcpListener::bind(loopback()).unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn every_method_of_the_handler_is_reached_by_these_tests() {
    let _alone = alone();
    for method in METHODS {
        let mut world = World::new(method);
        let run = catch_unwind(AssertUnwindSafe(|| world.do_everything()));
        let panic = run.expect_err(method);
        let words = panic.downcast_ref::<String>().unwrap();
        assert_eq!(*words, format!("as asked: {method}"));
    }
    World::new("none").do_everything();
}

#[test]
fn a_panic_in_any_method_goes_through_the_turn_and_leaves_nothing_behind() {
    let _alone = alone();
    for method in METHODS {
        let before = descriptors();
        let mut world = World::new(method);
        let sessions = Rc::clone(&world.handler.sessions);
        catch_unwind(AssertUnwindSafe(|| world.do_everything())).unwrap_err();
        drop(world);
        assert_eq!(Rc::strong_count(&sessions), 1, "sessions after {method}");
        assert_eq!(descriptors(), before, "descriptors after {method}");
    }
}

#[test]
fn after_a_panic_a_turn_is_an_error_that_says_so_and_no_loop_sleeps_on_it() {
    let _alone = alone();
    for method in METHODS {
        let mut world = World::new(method);
        catch_unwind(AssertUnwindSafe(|| world.do_everything())).unwrap_err();
        // However the handler is now.
        world.handler.panics_in = "none";
        for _ in 0..2 {
            assert_eq!(world.reactor.next_timeout(), Some(Duration::ZERO));
            let error = world.reactor.turn(&mut world.handler, None).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Other);
            assert!(error.to_string().contains("panicked"), "{error}");
            world.reactor.run(&mut world.handler).unwrap_err();
        }
        // The rest may be looked at, and even written to: nothing comes of it.
        let mut context = world.reactor.context();
        let ids: Vec<_> = context.connections().collect();
        for id in ids {
            let mut connection = context.connection(id).unwrap();
            connection.write(&[0; 1 << 20]);
            connection.close(CloseReason::Closed);
        }
    }
}

/// Turns until the reactor has nothing more to do at once and no event comes.
fn settle(world: &mut World) {
    loop {
        let wait = Some(Duration::from_millis(20));
        let turn = world.reactor.turn(&mut world.handler, wait).unwrap();
        if turn.events == 0 && !turn.more {
            return;
        }
    }
}

#[test]
fn a_reactor_dropped_with_everything_open_leaves_no_descriptor_no_session_and_no_message() {
    let _alone = alone();
    let before = descriptors();
    let mut world = World::new("none");
    let sessions = Rc::clone(&world.handler.sessions);
    let handle = world.reactor.handle();
    // Idle, with pending output, paused, with input that's kept, lingering, half closed, and gone
    // but not yet told of.
    let mut clients: Vec<_> = (0..7).map(|_| connect(world.address)).collect();
    let words = [
        None,
        Some("big"),
        Some("pause"),
        Some("rest"),
        Some("close"),
    ];
    for (client, word) in clients.iter_mut().zip(words) {
        if let Some(word) = word {
            client.write_all(word.as_bytes()).unwrap();
        }
    }
    settle(&mut world);
    clients[2].write_all(b"unread").unwrap();
    clients[5].shutdown(Shutdown::Write).unwrap();
    let mut context = world.reactor.context();
    let last = context.connections().last().unwrap();
    context
        .connection(last)
        .unwrap()
        .abort(CloseReason::Aborted);
    // A dial of which nothing is heard yet, a timer, and messages.
    let dialed = TcpListener::bind(loopback()).unwrap();
    let options = ConnectOptions::new(dialed.local_addr().unwrap());
    context.connect(&options, Rc::clone(&sessions)).unwrap();
    context.timer(PATIENCE, 1);
    let message = Arc::new(());
    for _ in 0..10 {
        handle.send(Arc::clone(&message)).unwrap();
    }
    assert!(descriptors() > before + 2 * clients.len());
    assert_eq!(world.handler.alive(), 1 + clients.len() + 1);

    drop(world);
    assert_eq!(Rc::strong_count(&sessions), 1);
    assert_eq!(Arc::strong_count(&message), 1);
    // Ours: the clients and the listener that was dialed. The handle, which is still there, holds
    // none.
    assert_eq!(descriptors(), before + clients.len() + 1);
    handle.send(message).unwrap_err();
    drop((clients, dialed));
    assert_eq!(descriptors(), before);
}

#[test]
fn reactors_that_come_and_go_leave_no_descriptor() {
    let _alone = alone();
    let before = descriptors();
    for _ in 0..100 {
        let mut world = World::new("none");
        let _client = connect(world.address);
        world.turn();
    }
    assert_eq!(descriptors(), before);
}
