//! Datagrams: a search by seeds, in which peers and a handler keep books of all that was sent; and
//! one world for each known fault, as in `simulated_faults.rs`.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/dice.rs"]
mod dice;
#[path = "common/simulated.rs"]
mod simulated;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use oread::sim::{Fault, Host, Peer, Poller, UdpPeer, World, check};
use oread::{
    Accepted, Connection, Context, Datagram, Echo, Handler, Limits, ListenOptions, ReplyTo,
    SendOutcome, UdpId, UdpOptions,
};

use acting::Acting;
use dice::Dice;
use simulated::{SECOND, Watched, address, echo, look_at};

fn at(address: &str) -> UdpOptions {
    UdpOptions::new(address.parse::<SocketAddr>().unwrap())
}

/// A host with a UDP socket, and a buffer for no long datagram.
fn udp(world: &mut World, options: &UdpOptions) -> (Host<Watched<Echo>>, UdpId) {
    let limits = Limits {
        read_buffer: 100,
        ..Limits::default()
    };
    let mut host = world.host(Watched::new(echo("raw")), limits).unwrap();
    let socket = host.context().bind_udp(options).unwrap();
    (host, socket)
}

#[test]
fn a_datagram_is_answered_from_the_address_that_was_asked() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    let asked: SocketAddr = ([10, 0, 0, 5], 7).into();
    peer.send_to(asked, b"hello");
    world.settle(&mut echo).unwrap();
    assert_eq!(peer.received(), [(asked, b"hello".to_vec())]);
}

#[test]
fn a_datagram_to_a_link_local_address_is_answered_by_its_interface() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("[::]:7"));
    let peer = world.udp("[fd00::9]:5000".parse().unwrap());
    let asked: SocketAddr = "[fe80::5]:7".parse().unwrap();
    peer.send_to(asked, b"hello");
    world.settle(&mut echo).unwrap();
    assert_eq!(peer.received(), [(asked, b"hello".to_vec())]);
}

#[test]
fn what_was_sent_to_a_broadcast_or_a_group_gets_no_answer() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    peer.send_to(([10, 0, 0, 255], 7).into(), b"broadcast");
    peer.send_to(([224, 0, 0, 1], 7).into(), b"group");
    world.settle(&mut echo).unwrap();
    assert_eq!(echo.context().stats().datagrams_in, 2);
    assert_eq!(peer.received(), []);
}

#[test]
fn a_datagram_that_the_buffer_cuts_gets_no_answer() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    peer.send_to(address(), &[1; 200]);
    world.settle(&mut echo).unwrap();
    assert_eq!(peer.received(), []);
    assert_eq!(echo.context().stats().datagrams_truncated, 1);
}

#[test]
fn an_error_in_place_of_a_datagram_keeps_nobody_from_an_answer() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    world.fault(Fault::RecvNoMemory, 1);
    peer.send_to(address(), b"one");
    peer.send_to(address(), b"two");
    world.advance(&mut (), SECOND).unwrap();
    world.settle(&mut echo).unwrap();
    assert_eq!(peer.received().len(), 2);
}

#[test]
fn a_service_at_a_low_port_gets_no_answer() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let service = world.udp(([10, 0, 0, 9], 19).into());
    service.send_to(address(), b"hello");
    world.settle(&mut echo).unwrap();
    assert_eq!(echo.context().stats().datagrams_in, 1);
    assert_eq!(service.received(), []);
}

#[test]
fn two_servers_do_not_answer_each_other_for_ever() {
    let mut world = World::new(1);
    let (mut one, socket) = udp(&mut world, &at("10.0.0.1:7000"));
    let (mut other, _) = udp(&mut world, &at("10.0.0.2:7000"));
    let to = ([10, 0, 0, 2], 7000).into();
    let sent = one.context().send_to(socket, to, b"hello");
    assert_eq!(sent, SendOutcome::Sent);
    let mut count = || {
        world
            .advance(&mut (&mut one, &mut other), 10 * SECOND)
            .unwrap();
        one.context().stats().datagrams_in
    };
    // Some thousands, and then no more.
    assert_eq!(count(), count());
}

#[test]
fn with_poll2_a_socket_that_was_refused_is_polled_again() {
    let mut world = World::new(1);
    world.poller(Poller::Poll2);
    let peer: SocketAddr = ([10, 0, 0, 9], 5000).into();
    let options = UdpOptions {
        connect_to: Some(peer),
        ..at("10.0.0.1:7")
    };
    let (mut echo, socket) = udp(&mut world, &options);
    // Nobody is there yet.
    echo.context().send_to(socket, peer, b"hello");
    world.settle(&mut echo).unwrap();
    assert_eq!(echo.context().stats().datagram_errors, 1);
    let peer = world.udp(peer);
    peer.send_to(address(), b"hello");
    world.settle(&mut echo).unwrap();
    assert_eq!(peer.received(), [(address(), b"hello".to_vec())]);
}

/// Datagrams, how often each: by the peer's address, the socket's port, and what is in them.
type Books = BTreeMap<(SocketAddr, u16, Vec<u8>), u64>;

/// Answers each datagram as often as its dice say, at once or later, tells peers things by itself,
/// and keeps books.
struct Mirror {
    dice: Dice,
    sockets: Vec<(UdpId, u16)>,
    peers: Vec<SocketAddr>,
    /// What was shown.
    shown: Books,
    /// What was told as sent.
    said: Books,
    /// What is to be answered later.
    late: Vec<(ReplyTo, Vec<u8>)>,
    /// Sockets that are to be told of room.
    full: BTreeSet<UdpId>,
    bytes: (u64, u64),
    /// Outcomes of sends that were not.
    blocked: u64,
    failed: u64,
    errors: u64,
    messages: u64,
    ticks: u64,
}

impl Mirror {
    fn new(seed: u64, peers: Vec<SocketAddr>) -> Mirror {
        Mirror {
            dice: Dice(seed),
            sockets: Vec::new(),
            peers,
            shown: Books::new(),
            said: Books::new(),
            late: Vec::new(),
            full: BTreeSet::new(),
            bytes: (0, 0),
            blocked: 0,
            failed: 0,
            errors: 0,
            messages: 0,
            ticks: 0,
        }
    }

    fn port(&self, socket: UdpId) -> u16 {
        let found = self.sockets.iter().find(|(id, _)| *id == socket);
        found.expect("a socket of its own").1
    }

    fn note(&mut self, to: SocketAddr, socket: UdpId, bytes: &[u8], outcome: SendOutcome) {
        let port = self.port(socket);
        match outcome {
            SendOutcome::Sent => {
                *self.said.entry((to, port, bytes.to_vec())).or_default() += 1;
                self.bytes.1 += bytes.len() as u64;
            }
            SendOutcome::Blocked => {
                self.full.insert(socket);
                self.blocked += 1;
            }
            SendOutcome::Failed(_) => self.failed += 1,
            other => panic!("{other:?}"),
        }
    }

    /// Tells some peer something, from a socket that is connected to nobody.
    fn tell(&mut self, context: &mut Context<'_, ()>) {
        let (socket, _) = self.sockets[0];
        let to = self.dice.pick(&self.peers);
        let bytes = vec![b't'; self.dice.pick(&[0, 1, 500])];
        match context.send_to(socket, to, &bytes) {
            SendOutcome::NoSocket => assert!(context.is_draining()),
            outcome => self.note(to, socket, &bytes, outcome),
        }
        // And answers what has waited for longest.
        if !self.late.is_empty() {
            let (to, bytes) = self.late.remove(0);
            match context.reply(to, &bytes) {
                SendOutcome::NoSocket => assert!(context.is_draining()),
                outcome => self.note(to.peer, to.socket, &bytes, outcome),
            }
        }
    }
}

impl Handler for Mirror {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, ()>, data: &[u8]) {
        let (from, socket) = (datagram.from(), datagram.socket());
        let port = self.port(socket);
        assert_eq!(datagram.key(), u64::from(port));
        if self.dice.once_in(4) {
            self.late.push((datagram.reply_to(), data.to_vec()));
        }
        *self.shown.entry((from, port, data.to_vec())).or_default() += 1;
        self.bytes.0 += data.len() as u64;
        for _ in 0..self.dice.roll(3) {
            let bytes = if self.dice.once_in(8) { &[] } else { data };
            let outcome = datagram.reply(bytes);
            self.note(from, socket, bytes, outcome);
        }
    }

    fn on_datagram_error(&mut self, context: &mut Context<'_, ()>, id: UdpId, _: io::Error) {
        assert_eq!(context.udp_key(id), Some(u64::from(self.port(id))));
        self.errors += 1;
    }

    fn on_datagram_writable(&mut self, _: &mut Context<'_, ()>, id: UdpId) {
        assert!(self.full.remove(&id), "there was room, as far as was told");
    }

    fn on_timer(&mut self, context: &mut Context<'_, ()>, _: u64) {
        self.ticks += 1;
        self.tell(context);
        if self.ticks < 20 {
            context.timer(Duration::from_millis(self.dice.roll(9)), 0);
        }
    }

    fn on_message(&mut self, context: &mut Context<'_, ()>, (): ()) {
        self.messages += 1;
        self.tell(context);
    }
}

/// Ports of the mirror's sockets; the last is connected to the first peer.
const PORTS: [u16; 3] = [7, 8, 9];
/// What may be sent in one world: doubled, and with what the system counts for each datagram, it
/// still fits into one receive buffer.
const MOST: usize = 90_000;

struct Play {
    host: Host<Watched<Mirror>>,
    peers: Vec<(UdpPeer, SocketAddr)>,
    sent: Books,
    /// Bytes that may still be sent.
    left: usize,
    /// A caller who says nothing.
    silent: Peer,
    posted: u64,
    /// The most datagrams that one turn may bring, and how many there were after the last one.
    most: u64,
    before: u64,
}

fn draw_limits(world: &mut World) -> Limits {
    Limits {
        read_buffer: world.pick(&[1, 100, 4096, 64 << 10]),
        datagram_budget: world.pick(&[1, 2, 5, 64]),
        events: world.pick(&[1, 2, 1024]),
        message_budget: world.pick(&[1, 256]),
        mailbox: world.pick(&[1, 3, 1024]),
        idle_timeout: Some(Duration::from_millis(50)),
        ..Limits::default()
    }
}

impl Play {
    /// `None`: a fault has kept a socket from being there.
    fn draw(world: &mut World) -> Option<Play> {
        world.unleash();
        let peers: Vec<_> = (0..world.count(3) as u16)
            .map(|n| {
                let at = SocketAddr::from(([10, 0, 0, 9], 5000 + n));
                (world.udp(at), at)
            })
            .collect();
        let addresses: Vec<_> = peers.iter().map(|(_, at)| *at).collect();
        let limits = draw_limits(world);
        let most = 3 * u64::from(limits.datagram_budget) * PORTS.len() as u64;
        let mirror = Mirror::new(world.roll(u64::MAX), addresses.clone());
        let mut host = world.host(Watched::new(mirror), limits).ok()?;
        let listener = host.context().listen(&ListenOptions::new(address()));
        listener.ok()?;
        for port in PORTS {
            let mut options = UdpOptions::new((address().ip(), port));
            options.connect_to = (port == 9).then_some(addresses[0]);
            options.key = u64::from(port);
            let socket = host.context().bind_udp(&options).ok()?;
            host.handler.inner.sockets.push((socket, port));
        }
        host.context().timer(Duration::ZERO, 0);
        Some(Play {
            host,
            peers,
            sent: Books::new(),
            left: MOST,
            silent: world.connect(address()),
            posted: 0,
            most,
            before: 0,
        })
    }

    /// One of the peers sends a few datagrams at once, or more than a turn brings.
    fn act(&mut self, world: &mut World) {
        let place = world.roll(self.peers.len() as u64) as usize;
        let (peer, from) = &self.peers[place];
        let port = world.pick(&PORTS[..if place == 0 { 3 } else { 2 }]);
        let count = world.count(6) * world.pick(&[1, 1, 20]);
        for _ in 0..count {
            let size = match world.roll(3) {
                0 => world.roll(4) as usize,
                _ => world.size(600),
            };
            if self.left < size + 512 {
                return;
            }
            self.left -= size + 512;
            // The longer ones bear a number: no two are the same.
            let number = (self.left as u32).to_be_bytes();
            let bytes = [&number, &[b'd'; 600][..]].concat();
            let bytes = if size < 4 { &bytes[4..] } else { &bytes[..] };
            peer.send_to((address().ip(), port).into(), &bytes[..size]);
            let key = (*from, port, bytes[..size].to_vec());
            *self.sent.entry(key).or_default() += 1;
        }
        while world.one_in(3) {
            self.posted += u64::from(self.host.handle().send(()).is_ok());
        }
    }

    fn run(&mut self, world: &mut World, time: Duration) {
        let end = world.now() + time;
        while world.step(&mut self.host, Some(end)).unwrap() {
            let count = look_at(&mut self.host).datagrams_in;
            let new = count - std::mem::replace(&mut self.before, count);
            let excused = self.host.context().is_draining();
            assert!(excused || new <= self.most, "{new} datagrams in one turn");
        }
    }

    /// What arrived is what was sent, what was told as sent has arrived, and nothing else has.
    fn compare(&mut self, world: &World, drained: bool) {
        let met = |faults: &[Fault]| world.faults_met().iter().any(|met| faults.contains(met));
        let most = 1 + u64::from(met(&[Fault::DatagramDoubled]));
        let arrives = |all: bool| u64::from(all && !met(&[Fault::DatagramLost]));
        let limit = self.host.context().limits().read_buffer;
        let stats = look_at(&mut self.host);
        let mirror = &self.host.handler.inner;
        let (long, short): (Books, Books) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|((_, _, bytes), _)| bytes.len() > limit);
        assert_same(&short, &mirror.shown, arrives(!drained)..=most);
        let long: u64 = long.values().sum();
        let cut = stats.datagrams_truncated;
        assert!(long * arrives(!drained) <= cut && cut <= long * most);
        let mut got = Books::new();
        for (peer, at) in &self.peers {
            for (from, bytes) in peer.received() {
                assert_eq!(from.ip(), address().ip());
                *got.entry((*at, from.port(), bytes)).or_default() += 1;
            }
        }
        assert_same(&mirror.said, &got, arrives(true)..=most);
        // The counters have the same, and nothing is refused without a cause.
        let shown: u64 = mirror.shown.values().sum();
        let said: u64 = mirror.said.values().sum();
        assert_eq!(stats.datagrams_in, shown + cut);
        assert_eq!(
            (stats.datagrams_out, stats.datagram_bytes_out),
            (said, mirror.bytes.1)
        );
        assert!(stats.datagram_bytes_in == mirror.bytes.0 + cut * limit as u64);
        let not_sent = (stats.datagrams_blocked, stats.datagrams_failed);
        assert_eq!(not_sent, (mirror.blocked, mirror.failed));
        let refused = [Fault::SendForbidden, Fault::SendNetUnreachable];
        let causes = [
            (
                mirror.blocked,
                met(&[Fault::SendBlocked, Fault::SendNoBuffers]),
            ),
            (mirror.failed, met(&refused)),
            (
                mirror.errors,
                met(&[Fault::RecvNoMemory, Fault::RecvRefused]),
            ),
        ];
        assert!(
            causes.iter().all(|(count, cause)| *count == 0 || *cause),
            "{causes:?}"
        );
        assert_eq!(
            (mirror.messages, mirror.errors),
            (self.posted, stats.datagram_errors)
        );
        assert!(
            drained || mirror.full.is_empty(),
            "{:?} were never told of room",
            mirror.full
        );
        assert!(
            drained || mirror.ticks == 20,
            "{} of its timers have fired",
            mirror.ticks
        );
    }
}

/// Each datagram of `one` is in `other`, so many times as often; and no other is.
fn assert_same(one: &Books, other: &Books, times: RangeInclusive<u64>) {
    for (datagram, count) in one {
        let there = other.get(datagram).copied().unwrap_or(0);
        let right = times.start() * count..=times.end() * count;
        let (to, port, bytes) = datagram;
        assert!(
            right.contains(&there),
            "{there} of {count} with {} bytes, {to} and {port}",
            bytes.len()
        );
    }
    let unknown = other.keys().find(|datagram| !one.contains_key(*datagram));
    assert_eq!(unknown, None, "nobody has sent it");
}

fn datagrams(world: &mut World) {
    let Some(mut play) = Play::draw(world) else {
        return;
    };
    let drained = world.one_in(8);
    for _ in 0..world.count(20) {
        play.act(world);
        let time = Duration::from_micros(world.roll(10_000));
        play.run(world, time);
    }
    if drained {
        play.act(world);
        play.host.context().drain(SECOND);
        play.act(world);
    }
    world.calm();
    // Its listener may have paused, a dial's segment may be seconds late, and somebody is idle.
    play.run(world, 10 * SECOND);
    play.compare(world, drained);
    let excused = drained || world.has_broken();
    assert!(
        excused || play.silent.has_ended(),
        "the silent one is still there"
    );
}

#[test]
fn each_datagram_arrives_once_and_is_told_as_what_became_of_it() {
    check(0..3000, datagrams);
}

#[test]
fn an_echo_does_not_answer_its_own_wildcard_socket() {
    let mut world = World::new(1);
    let mut host = world.host(echo("raw"), Limits::default()).unwrap();
    let here = [10, 0, 0, 1].into();
    host.process().addresses(&[here]);
    let any = SocketAddr::from(([0, 0, 0, 0], 7000));
    let socket = host.context().bind_udp(&UdpOptions::new(any)).unwrap();
    host.context()
        .send_to(socket, (here, 7000).into(), b"hello");
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(host.context().stats().datagrams_in, 1);
    assert_eq!(host.handler.stats().datagrams_own, 1);
}

#[test]
fn a_sender_over_ipv4_to_an_ipv6_socket_is_told_as_ipv4() {
    let mut world = World::new(1);
    let mut host = world.host(Acting::default(), Limits::default()).unwrap();
    let at: SocketAddr = "[::]:7".parse().unwrap();
    host.context().bind_udp(&UdpOptions::new(at)).unwrap();
    let from: SocketAddr = ([10, 0, 0, 9], 5000).into();
    let peer = world.udp(from);
    peer.send_to(address(), b"hello");
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.from, [from]);
    assert_eq!(peer.received().len(), 1);
}
