//! How many turns somebody waits who has something to be served, beside others who have more than
//! one turn brings: connections, callers, a UDP socket, timers and messages.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/hosts.rs"]
mod hosts;
#[path = "common/watched.rs"]
mod watched;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oread::sim::{Host, Peer, Poller, UdpPeer, World, check};
use oread::{
    Accepted, Connection, Context, Datagram, Handle, Handler, Limits, ListenOptions, UdpOptions,
};

use hosts::address;
use watched::{Watched, look_at};

/// A timer fires in the millisecond after its time at the latest.
const TICK: Duration = Duration::from_millis(1);

/// More than a poll takes that doesn't wait, and less than one that does.
const LOOK: Duration = Duration::from_micros(10);

/// Takes all that comes, and counts it.
#[derive(Default)]
struct Taker {
    bytes: BTreeMap<SocketAddr, usize>,
    /// Calls of `on_data` in this turn.
    calls: BTreeMap<SocketAddr, u32>,
    callers: u32,
    datagrams: u32,
    timers: u32,
    /// Whether a timer is set anew whenever it fires, for the next turn.
    rearms: bool,
    /// When the next one is due.
    due: Option<Instant>,
    messages: u32,
}

impl Handler for Taker {
    type Session = SocketAddr;
    type Message = ();

    fn on_accept(
        &mut self,
        _: &mut Context<'_, SocketAddr>,
        caller: &Accepted,
    ) -> Option<SocketAddr> {
        self.callers += 1;
        self.bytes
            .extend(caller.peer.socket_addr().map(|peer| (peer, 0)));
        caller.peer.socket_addr()
    }

    fn on_data(&mut self, connection: &mut Connection<'_, SocketAddr>, data: &[u8]) -> usize {
        let peer = *connection.session();
        *self.bytes.get_mut(&peer).unwrap() += data.len();
        *self.calls.entry(peer).or_default() += 1;
        data.len()
    }

    fn on_datagram(&mut self, _: &mut Datagram<'_, SocketAddr>, _: &[u8]) {
        self.datagrams += 1;
    }

    fn on_timer(&mut self, context: &mut Context<'_, SocketAddr>, _: u64) {
        self.timers += 1;
        self.due = self.rearms.then(|| context.now());
        if self.rearms {
            context.timer(Duration::ZERO, 0);
        }
    }

    fn on_message(&mut self, _: &mut Context<'_, SocketAddr>, (): ()) {
        self.messages += 1;
    }
}

struct Crowd {
    host: Host<Watched<Taker>>,
    limits: Limits,
    peers: Vec<(Peer, SocketAddr)>,
    udp: UdpPeer,
    datagrams: u32,
    handle: Handle<()>,
    messages: u32,
    /// Whether there is always a timer.
    timer: bool,
    /// Turns in a row in which somebody was there to be served, and was not.
    waits: Vec<u32>,
    /// The most that anybody waits.
    most: u32,
}

impl Crowd {
    fn draw(world: &mut World) -> Crowd {
        let poller = world.pick(&[Poller::Epoll, Poller::Kqueue, Poller::Poll2]);
        world.poller(poller);
        let limits = Limits {
            read_buffer: world.pick(&[50, 1000, 5000, 64 << 10]),
            io_budget: world.pick(&[1, 2, 8]),
            turn_bytes: world.pick(&[1, 10_000, 2 << 20]),
            events: world.pick(&[1, 3, 1024]),
            accept_budget: world.pick(&[1, 2, 64]),
            datagram_budget: world.pick(&[1, 2, 64]),
            message_budget: world.pick(&[1, 2, 256]),
            ..Limits::default()
        };
        let host = Watched::new(Taker::default());
        let mut host = world.host(host, limits.clone()).unwrap();
        let mut context = host.context();
        context.listen(&ListenOptions::new(address())).unwrap();
        context.bind_udp(&UdpOptions::new(address())).unwrap();
        let timer = world.one_in(2);
        if timer {
            context.timer(Duration::ZERO, 0);
            host.handler.inner.rearms = true;
        }
        let handle = host.handle();
        Crowd {
            host,
            limits,
            peers: Vec::new(),
            udp: world.udp(([10, 0, 0, 9], 5000).into()),
            datagrams: 0,
            handle,
            messages: 0,
            timer,
            waits: Vec::new(),
            most: 0,
        }
    }

    /// More of everything than one turn brings.
    fn crowd(&mut self, world: &mut World) {
        for _ in 0..world.count(8) {
            let peer = world.connect(address());
            let at = peer.local_addr().unwrap();
            peer.send(&vec![
                b'c';
                world.size(50 * self.limits.read_buffer.min(1000))
            ]);
            self.peers.push((peer, at));
        }
        for _ in 0..world.count(200) {
            self.udp.send_to(address(), b"d");
            self.datagrams += 1;
        }
        for _ in 0..world.count(200) {
            self.messages += u32::from(self.handle.send(()).is_ok());
        }
        // Sources that may have an event each, and as many places in the queue of those who have
        // more.
        let sources = self.peers.len() as u32 + 3;
        self.most = 2 * sources + 3;
    }

    /// Who is there to be served, and how much was served so far: callers, datagrams, messages,
    /// timers, and each peer. A peer is when its system knows that what it sent has arrived.
    fn ready(&mut self) -> Vec<(bool, usize)> {
        let now = self.host.context().now();
        let taker = &self.host.handler.inner;
        let due = taker.due.is_some_and(|due| now >= due + TICK);
        let there = self.peers.iter().filter(|(peer, _)| peer.is_connected());
        let all = [
            (there.count() as u32, taker.callers),
            (self.datagrams, taker.datagrams),
            (self.messages, taker.messages),
            (taker.timers + u32::from(due), taker.timers),
        ];
        let all = all.map(|(there, served)| (there > served, served as usize));
        let peers = self.peers.iter().map(|(peer, at)| {
            let shown = taker.bytes.get(at).copied();
            let waits = shown.is_some_and(|shown| peer.acknowledged() > shown);
            (waits, shown.unwrap_or(0))
        });
        all.into_iter().chain(peers).collect()
    }

    /// One turn: whoever was there before it is served in it, or not for long. False: nobody was.
    fn turn(&mut self, world: &World) -> bool {
        let before = self.ready();
        let taker = &mut self.host.handler.inner;
        taker.calls.clear();
        let counts = (taker.callers, taker.datagrams, taker.messages);
        let began = world.now();
        self.host.turn(Some(Duration::from_micros(50))).unwrap();
        let is_somebody_there = before.iter().any(|(ready, _)| *ready);
        let waited = world.now() - began;
        assert!(
            !is_somebody_there || waited < LOOK,
            "it waits, and somebody is there"
        );
        look_at(&mut self.host);
        self.waits.resize(before.len(), 0);
        let after = self.ready();
        for (n, waits) in self.waits.iter_mut().enumerate() {
            let (ready, served) = before[n];
            let waited = ready && served == after[n].1;
            *waits = if waited { *waits + 1 } else { 0 };
            assert!(*waits <= self.most, "number {n} waits for {waits} turns");
        }
        self.assert_bounded(counts);
        is_somebody_there
    }

    /// Nobody is served more than its budget says.
    fn assert_bounded(&self, (callers, datagrams, messages): (u32, u32, u32)) {
        let (taker, limits) = (&self.host.handler.inner, &self.limits);
        // A turn in which a timer fires asks the poll once more, and goes on behind that.
        let times = 2;
        let calls = taker.calls.values().max().copied().unwrap_or(0);
        assert!(calls <= times * limits.io_budget, "{calls} reads");
        let callers = taker.callers - callers;
        assert!(callers <= times * limits.accept_budget, "{callers} callers");
        let datagrams = taker.datagrams - datagrams;
        assert!(
            datagrams <= times * limits.datagram_budget,
            "{datagrams} datagrams"
        );
        let messages = taker.messages - messages;
        assert!(
            self.timer || messages <= limits.message_budget,
            "{messages} messages"
        );
    }
}

fn fairness(world: &mut World) {
    let mut crowd = Crowd::draw(world);
    for _ in 0..world.count(3) {
        crowd.crowd(world);
        // It is all there before the first turn.
        world.advance(&mut (), Duration::from_millis(50)).unwrap();
        while crowd.turn(world) {}
    }
    // What windows have kept back. Turns that wait for nothing take hardly any time.
    crowd.host.handler.inner.rearms = false;
    let end = world.now() + Duration::from_secs(1);
    while crowd.turn(world) || world.now() < end {}
    let taker = &crowd.host.handler.inner;
    for (peer, at) in &crowd.peers {
        assert_eq!(
            taker.bytes[at],
            peer.sent(),
            "what {at} sent is not all there"
        );
    }
    assert_eq!(
        (taker.datagrams, taker.messages),
        (crowd.datagrams, crowd.messages)
    );
}

#[test]
fn whoever_has_something_is_served_within_a_bound_of_turns_whatever_others_have() {
    check(0..200, fairness);
}
