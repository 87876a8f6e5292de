//! Who is let in, who has to wait for it, and who counts as present: callers at several listeners
//! of a reactor that has few places, and whose handler dials and refuses.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/dice.rs"]
mod dice;
#[path = "common/simulated.rs"]
mod simulated;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oread::sim::{Fault, Host, Listener, Peer, Poller, World, check};
use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Ended, Handler,
    Limits, ListenOptions,
};

use dice::Dice;
use simulated::{SECOND, Scripted, Watched, address, echo, host, look_at};

/// Faults that only delay.
const DELAYS: [Fault; 11] = [
    Fault::AcceptBlocked,
    Fault::AcceptInterrupted,
    Fault::AcceptNoDescriptors,
    Fault::AcceptNoFiles,
    Fault::CallTakesTime,
    Fault::EventLate,
    Fault::EventSplit,
    Fault::EventSpurious,
    Fault::ReadBlocked,
    Fault::WaitInterrupted,
    Fault::WriteShort,
];

/// Faults that end a dial, or a caller who was let in.
const REFUSALS: [Fault; 9] = [
    Fault::ConnectAtOnce,
    Fault::ConnectForbidden,
    Fault::ConnectHostUnreachable,
    Fault::ConnectNoDescriptors,
    Fault::ConnectNoPorts,
    Fault::ConnectRefused,
    Fault::ConnectTimesOut,
    Fault::RegisterFails,
    Fault::SynLost,
];

fn server_address() -> SocketAddr {
    ([10, 0, 0, 3], 7).into()
}

/// Echoes to its callers, some of whom it refuses, and dials in any callback. A dial has a number
/// for its session, a caller 0.
struct Door {
    dice: Dice,
    refuses: bool,
    refused: u64,
    /// How often it may still dial.
    dials: u64,
    dialed: u32,
    /// Dials of which nothing was told yet.
    under_way: BTreeSet<u32>,
    open: BTreeSet<ConnectionId>,
}

impl Door {
    fn dial(&mut self, context: &mut Context<'_, u32>) {
        if self.dials == 0 || self.dice.once_in(2) {
            return;
        }
        self.dials -= 1;
        self.dialed += 1;
        let nobody = ([10, 0, 0, 4], 7).into();
        let options = ConnectOptions {
            timeout: self.dice.pick(&[None, Some(Duration::ZERO), Some(SECOND)]),
            ..ConnectOptions::new(
                self.dice
                    .pick(&[server_address(), server_address(), nobody]),
            )
        };
        let Ok(id) = context.connect(&options, self.dialed) else {
            return;
        };
        self.under_way.insert(self.dialed);
        let mut connection = context.connection(id).unwrap();
        match self.dice.roll(6) {
            0 => connection.close(CloseReason::Other(3)),
            1 => connection.abort(CloseReason::Aborted),
            2 => _ = connection.write(b"early"),
            3 => connection.finish(),
            _ => {}
        }
    }

    /// Whoever was told open and not closed is open, in a callback too.
    fn count(&self, context: &Context<'_, u32>) {
        let stats = context.stats();
        assert_eq!(stats.open, self.open.len() as u64, "{stats:?}");
        let places = context.limits().max_connections;
        assert!(context.connections().count() <= places);
    }
}

impl Handler for Door {
    type Session = u32;
    type Message = ();

    fn on_accept(&mut self, context: &mut Context<'_, u32>, _: &Accepted) -> Option<u32> {
        self.dial(context);
        self.count(context);
        let refused = self.refuses && self.dice.once_in(3);
        self.refused += u64::from(refused);
        (!refused).then_some(0)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, u32>) {
        assert!(self.open.insert(connection.id()));
        let number = *connection.session();
        assert!(number == 0 || self.under_way.remove(&number));
        self.count(connection.context());
    }

    fn on_data(&mut self, connection: &mut Connection<'_, u32>, data: &[u8]) -> usize {
        if *connection.session() == 0 {
            connection.write(data);
        }
        self.dial(connection.context());
        data.len()
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, u32>,
        id: ConnectionId,
        _: u32,
        _: CloseReason,
    ) {
        assert!(self.open.remove(&id));
        self.count(context);
        self.dial(context);
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, u32>,
        _: ConnectionId,
        number: u32,
        _: io::Error,
    ) {
        assert!(self.under_way.remove(&number));
        self.count(context);
        self.dial(context);
    }
}

/// Makes the faults of a world.
fn faults(world: &mut World) {
    let refuses = world.one_in(2);
    let refusals = if refuses { &REFUSALS[..] } else { &[] };
    for fault in DELAYS {
        let rate = world.pick(&[0, 1000, 20_000, 300_000]);
        world.fault_rate(fault, rate);
    }
    for fault in refusals {
        let rate = world.pick(&[0, 100_000]);
        world.fault_rate(*fault, rate);
    }
}

fn door_host(world: &mut World, listeners: u16) -> Host<Watched<Door>> {
    let poller = world.pick(&[Poller::Epoll, Poller::Kqueue, Poller::Poll2]);
    world.poller(poller);
    let limits = Limits {
        max_connections: world.pick(&[1, 2, 3, 10]),
        accept_budget: world.pick(&[1, 2, 64]),
        events: world.pick(&[1, 2, 1024]),
        io_budget: world.pick(&[1, 8]),
        turn_bytes: world.pick(&[1, 1 << 20]),
        linger_bytes: world.pick(&[0, 1 << 20]),
        ..Limits::default()
    };
    let door = Door {
        dice: Dice(world.roll(u64::MAX)),
        refuses: world.one_in(2),
        refused: 0,
        dials: world.roll(40),
        dialed: 0,
        under_way: BTreeSet::new(),
        open: BTreeSet::new(),
    };
    let mut host = world.host(Watched::new(door), limits).unwrap();
    // Ticks go round in some runs.
    let age = world.pick(&[0, 0, 0, (1 << 32) - 20_000]);
    world
        .advance(&mut host, Duration::from_millis(age))
        .unwrap();
    for n in 0..listeners {
        let options = ListenOptions {
            backlog: 100,
            ..ListenOptions::new(([10, 0, 0, 1], 7 + n))
        };
        host.context().listen(&options).unwrap();
    }
    host
}

/// What the server that is dialed does with those who have come.
fn serve(world: &mut World, server: &Listener, served: &mut Vec<Peer>) {
    while let Some(peer) = server.accept() {
        peer.send(b"hi");
        match world.roll(4) {
            0 => peer.reset(),
            1 => peer.finish(),
            _ => {}
        }
        served.push(peer);
    }
}

/// Lets all who are there go, one after the other, until nobody is left.
fn empty(world: &mut World, host: &mut Host<Watched<Door>>, server: &Listener, peers: &[Peer]) {
    host.handler.inner.dials = 0;
    peers.iter().for_each(Peer::finish);
    for _ in 0..20 {
        while let Some(peer) = server.accept() {
            peer.finish();
        }
        host.context().for_each(|connection| {
            if *connection.session() > 0 {
                connection.close(CloseReason::Other(9));
            }
        });
        world.advance(host, 30 * SECOND).unwrap();
        look_at(host);
    }
    world.advance(host, 1000 * SECOND).unwrap();
}

fn door(world: &mut World) {
    let server = world.listen(server_address());
    let listeners = world.count(4) as u16;
    let mut host = door_host(world, listeners);
    faults(world);
    let (mut peers, mut served) = (Vec::new(), Vec::new());
    for _ in 0..world.count(30) {
        for _ in 0..world.roll(4) {
            let port = 7 + world.roll(u64::from(listeners)) as u16;
            let peer = world.connect(([10, 0, 0, 1], port).into());
            peer.send(b"hello");
            peers.push(peer);
        }
        peers.iter().for_each(|peer| {
            if world.one_in(5) {
                peer.finish();
            }
        });
        serve(world, &server, &mut served);
        let end = world.now() + Duration::from_micros(world.roll(5000));
        while world.step(&mut host, Some(end)).unwrap() {
            look_at(&mut host);
        }
        let (reactor, door) = host.reactor();
        door.inner.dial(&mut reactor.context());
    }
    world.calm();
    served.iter().for_each(Peer::finish);
    empty(world, &mut host, &server, &peers);
    let door = &host.handler.inner;
    assert!(door.open.is_empty(), "they are there still");
    assert!(door.under_way.is_empty(), "dials that nothing came of");
    let refused = peers.iter().any(Peer::was_refused);
    assert!(!refused, "a caller is refused where somebody listens");
    let answered = |peer: &&Peer| peer.received() == b"hello";
    let without: Vec<&Peer> = peers.iter().filter(|peer| !answered(peer)).collect();
    let ended = |peer: &&Peer| peer.was_reset() || peer.has_ended();
    assert!(without.iter().all(ended), "somebody waits at the door");
    // Of the faults here one alone ends a caller that was let in.
    let excused = world.faults_met().contains(&Fault::RegisterFails);
    assert!(excused || without.len() as u64 <= door.refused);
}

#[test]
fn whoever_calls_is_answered_or_turned_away_however_few_places_there_are() {
    check(0..2000, door);
}

#[test]
fn who_waits_at_a_listener_without_descriptors_is_served_by_a_drain() {
    let mut world = World::new(1);
    let mut host = host(&mut world, echo("raw"), Limits::default());
    let peer = world.connect(address());
    peer.send(b"hello");
    peer.finish();
    world.fault(Fault::AcceptNoDescriptors, 1);
    // It would try again after ten.
    let moment = Duration::from_millis(5);
    world.advance(&mut host, moment).unwrap();
    assert_eq!(host.context().stats().accept_pauses, 1);
    host.context().drain(SECOND);
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(peer.received(), b"hello");
}

#[test]
fn of_two_listeners_without_descriptors_the_one_that_pauses_briefly_waits_no_longer() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Scripted::default(), Limits::default());
    let other = ([10, 0, 0, 1], 8).into();
    host.context().listen(&ListenOptions::new(other)).unwrap();
    world.fault_rate(Fault::AcceptNoDescriptors, 1_000_000);
    let _long = world.connect(address());
    world.advance(&mut host, 5 * SECOND).unwrap();
    // The first one waits for a second by now; the other one begins with ten milliseconds.
    let _brief = world.connect(other);
    let before = host.context().stats().accept_pauses;
    let paused = |host: &mut Host<_>| host.context().stats().accept_pauses > before;
    world.until(&mut host, paused).unwrap();
    world.calm();
    world.advance(&mut host, SECOND / 50).unwrap();
    assert_eq!(host.handler.inner.opened.len(), 2);
}

#[test]
fn who_has_left_is_neither_open_nor_holds_a_socket_when_its_handler_is_told() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Scripted::default(), Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    let (told, process) = (Rc::new(Cell::new(None)), host.process().clone());
    let tell = Rc::clone(&told);
    host.handler.inner.close = Some(Box::new(move |context| {
        let stats = context.stats();
        tell.set(Some((process.sockets(), stats.open, stats.peak_open)));
    }));
    peer.reset();
    world.settle(&mut host).unwrap();
    // The listener's own is left.
    assert_eq!(told.get(), Some((1, 0, 1)));
}

#[test]
fn who_is_closed_when_a_drain_s_time_is_over_is_not_counted_as_cut() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Scripted::that_stays(), Limits::default());
    let _peers = [(); 3].map(|()| world.connect(address()));
    world.settle(&mut host).unwrap();
    let id = host.handler.inner.opened[0];
    host.handler.inner.timer = Some(Box::new(move |context| {
        context.connection(id).unwrap().abort(CloseReason::Aborted);
    }));
    // Both come in one turn, the timer first.
    host.context().timer(SECOND, 0);
    host.context().drain(SECOND);
    world.advance(&mut host, 2 * SECOND).unwrap();
    let reasons = host.handler.inner.reasons();
    let cut = reasons.iter().filter(|&&why| why == CloseReason::Cut);
    assert_eq!((reasons.len(), cut.count()), (3, 2));
    assert_eq!(host.ended(), Some(Ended::Drained { cut: 2 }));
}

#[test]
fn callers_who_say_much_do_not_keep_those_waiting_who_are_in() {
    let mut world = World::new(1);
    let limits = Limits {
        io_budget: 1,
        turn_bytes: 10_000,
        ..Limits::default()
    };
    let mut host = host(&mut world, Scripted::default(), limits);
    let waits = world.connect(address());
    world.settle(&mut host).unwrap();
    waits.send(&[b'w'; 200_000]);
    let mut callers = Vec::new();
    for _ in 0..100 {
        // Each has the bytes of a turn with it.
        let caller = world.connect(address());
        caller.send(&[b'c'; 20_000]);
        callers.push(caller);
        world.advance(&mut (), SECOND / 100).unwrap();
        host.turn(Some(Duration::ZERO)).unwrap();
    }
    let address = waits.local_addr().unwrap();
    let heard = host.handler.life_of(address).unwrap().consumed.len();
    assert!(heard > 100_000, "{heard} bytes in 100 turns");
}
