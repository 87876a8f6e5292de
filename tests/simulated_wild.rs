//! Handlers that do anything to anybody, under a network and a system that do their worst: what
//! each connection's two ends know must agree, and when the faults cease and everybody is released,
//! all that can move does.
//!
//! `OREAD_SEEDS=100000 cargo test --release --features sim --test simulated_wild` searches longer.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/dice.rs"]
mod dice;
#[path = "common/outside.rs"]
mod outside;
#[path = "common/streams.rs"]
mod streams;
#[path = "common/watched.rs"]
mod watched;
#[path = "common/wild.rs"]
mod wild;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oread::sim::{Fault, Host, Listener, Poller, UdpPeer, World, check};
use oread::{CloseReason, Limits, ListenOptions, Pressure, UdpOptions};

use outside::Outside;
use streams::Way;
use watched::{Watched, look_at_beside};
use wild::{AFTER_ALL, End, LARGEST, Timer, Wild};

/// Longer than any idle timeout here, the system's own of a quarter of an hour, and a dial.
const LONG: Duration = Duration::from_secs(300_000);

/// No timer comes so late: ticks and waits are whole milliseconds, and calls take microseconds.
const LATE: Duration = Duration::from_millis(5);

/// More connections than there ever are.
const MANY: usize = 100;

/// Where the `n`th handler listens.
fn address(n: usize) -> SocketAddr {
    ([10, 0, 0, 1 + n as u8], 7).into()
}

/// A server in the test's own hands.
fn server() -> SocketAddr {
    ([10, 0, 0, 100], 9).into()
}

fn nobody() -> SocketAddr {
    ([10, 0, 0, 101], 9).into()
}

/// Everything in one world.
struct Play {
    hosts: Vec<Host<Watched<Wild>>>,
    peers: Vec<Outside>,
    server: Listener,
    udp: UdpPeer,
    datagrams: u32,
    poller: Poller,
    /// Bytes that a peer sends at a time: fewer where they are read in small pieces.
    most: usize,
    /// When each host was released, by its clock.
    released: Vec<Instant>,
}

/// Limits that are reached soon, or the default ones.
fn draw_limits(world: &mut World) -> Limits {
    let mut limits = Limits {
        write_timeout: world.pick(&[None, Some(Duration::from_secs(60))]),
        linger_timeout: world.pick(&[Duration::from_millis(100), Duration::from_secs(5)]),
        ..Limits::default()
    };
    if world.one_in(4) {
        return limits;
    }
    limits.max_connections = world.pick(&[2, 5, MANY, MANY]);
    limits.read_buffer = world.pick(&[1, 100, 4096, 65_536]);
    limits.max_input = world.pick(&[1, 3000, 20_000, 100_000]);
    limits.high_water = world.pick(&[1, 1000, 30_000]);
    limits.low_water = world.pick(&[0, limits.high_water / 2]);
    limits.max_output = world.pick(&[1, 30_000, 300_000]);
    limits.max_pending = draw_memory(world);
    limits.gather = world.pick(&[0, 100, 16 << 10]);
    limits.io_budget = world.pick(&[1, 2, 8]);
    limits.turn_bytes = world.pick(&[1, 10_000, 2 << 20]);
    limits.events = world.pick(&[1, 3, 1024]);
    limits.accept_budget = world.pick(&[1, 64]);
    limits.datagram_budget = world.pick(&[1, 64]);
    limits.message_budget = world.pick(&[1, 256]);
    limits.mailbox = world.pick(&[1, 3, 1024]);
    limits.pooled = world.pick(&[0, 10_000, 4 << 20]);
    limits.linger_bytes = world.pick(&[0, 1, 50_000, limits.linger_bytes]);
    limits.idle_timeout = world.pick(&[None, None, Some(Duration::from_secs(1))]);
    limits
}

/// What all connections together may keep.
fn draw_memory(world: &mut World) -> usize {
    world.pick(&[1, 3000, 10_000, 100_000, 1 << 30])
}

impl Play {
    /// A world with one or two handlers; `None`: a fault has kept one from listening.
    fn draw(world: &mut World) -> Option<Play> {
        world.unleash();
        let poller = world.pick(&[Poller::Epoll, Poller::Epoll, Poller::Kqueue, Poller::Poll2]);
        world.poller(poller);
        let count = world.count(2) as usize;
        let mut targets: Vec<SocketAddr> = (0..count).map(address).collect();
        targets.extend([server(), server(), nobody()]);
        let mut play = Play {
            hosts: Vec::new(),
            peers: Vec::new(),
            server: world.listen(server()),
            udp: world.udp(([10, 0, 0, 102], 5000).into()),
            datagrams: 0,
            poller,
            most: 40_000,
            released: Vec::new(),
        };
        for n in 0..count {
            let mut host = open(world, n, targets.clone())?;
            let context = host.context();
            let limits = context.limits();
            let piece = limits.read_buffer.min(limits.max_input);
            play.most = play.most.min(piece.saturating_mul(500));
            play.hosts.push(host);
        }
        let handles: Vec<_> = play.hosts.iter().map(Host::handle).collect();
        for host in &mut play.hosts {
            let wild = &mut host.handler.inner;
            wild.handles.clone_from(&handles);
            wild.bytes = wild.bytes.min(10 * play.most);
        }
        for _ in 0..world.count(4) {
            play.call(world);
        }
        Some(play)
    }

    /// A peer calls one of the handlers.
    fn call(&mut self, world: &mut World) {
        let host = world.roll(self.hosts.len() as u64) as usize;
        let peer = world.connect(address(host));
        if let Some(dialer) = peer.local_addr() {
            self.peers.push(Outside::new(peer, Way::of(dialer, true)));
        }
    }

    /// Whoever is not a handler does something.
    fn act(&mut self, world: &mut World) {
        self.meet();
        for outside in &mut self.peers {
            outside.act(world, self.most);
        }
        if world.one_in(10) {
            self.call(world);
        }
        if world.one_in(5) {
            let to = address(world.roll(self.hosts.len() as u64) as usize);
            let from = self.udp.local_addr();
            let size = world.size(3000);
            self.udp
                .send_to(to, &wild::datagram(from, self.datagrams, size));
            self.datagrams += 1;
        }
        for host in &mut self.hosts {
            if world.one_in(4) && !host.has_drained() {
                let (reactor, wild) = host.reactor();
                wild.inner.act(&mut reactor.context());
            }
        }
    }

    /// Takes on whoever has called the test's own server.
    fn meet(&mut self) {
        while let Some(peer) = self.server.accept() {
            if let Some(dialer) = peer.peer_addr() {
                let mut outside = Outside::new(peer, Way::of(dialer, false));
                if !self.released.is_empty() {
                    outside.finish();
                }
                self.peers.push(outside);
            }
        }
    }

    fn run(&mut self, world: &mut World, time: Duration) {
        let end = world.now() + time;
        while self.step(world, Some(end)) {}
    }

    fn step(&mut self, world: &mut World, end: Option<Duration>) -> bool {
        let more = world.step(&mut self.hosts, end).unwrap();
        for host in &mut self.hosts {
            look_at_beside(host, LARGEST);
        }
        more
    }

    /// Runs until nothing moves any more but by deadlines.
    fn settle(&mut self, world: &mut World) {
        let end = world.now() + Duration::from_secs(24 * 3600);
        while self.step(world, None) {
            assert!(world.now() < end, "the world does not come to rest");
            self.meet();
        }
    }

    /// Looks for connections that stand still though nothing holds them back: what has arrived at
    /// one must have been shown to its handler. Where all memory is spent, or the host drains,
    /// somebody may rightly wait.
    fn look_for_stalled(&mut self) {
        let peers: BTreeMap<Way, &Outside> = self.peers.iter().map(|one| (one.way, one)).collect();
        for host in &mut self.hosts {
            let context = host.context();
            let limits = context.limits();
            let (scarce, most) = (limits.max_pending < 1 << 30, limits.max_input);
            if scarce || host.has_drained() {
                continue;
            }
            let mut free = Vec::new();
            host.context().for_each(|connection| {
                let quiet = connection.is_open() && connection.pressure() == Pressure::Low;
                if quiet && !connection.is_paused() {
                    free.push((connection.id(), *connection.session()));
                }
            });
            for (id, session) in free {
                let life = &host.handler.lives[&id];
                let end = &host.handler.inner.ends[session];
                if life.eof || end.over || life.left.len() >= most {
                    continue;
                }
                if let Some(one) = peers.get(&end.way.back()) {
                    let shown = life.consumed.len() + life.left.len() + usize::from(one.urgent);
                    let there = one.peer.acknowledged();
                    assert!(
                        there <= shown,
                        "{there} bytes are there, {shown} shown: {end:?}"
                    );
                }
            }
        }
    }

    /// Everybody does what lets the others go on.
    fn release(&mut self) {
        self.meet();
        for outside in &mut self.peers {
            outside.peer.start_reading();
            if !outside.finished && !outside.gone {
                outside.finish();
            }
        }
        for host in &mut self.hosts {
            let (reactor, wild) = host.reactor();
            let (wild, context) = (&mut wild.inner, &mut reactor.context());
            wild.tame = true;
            self.released.push(context.now());
            context.for_each(|connection| {
                connection.pause();
                connection.resume();
                connection.set_idle_timeout(Some(AFTER_ALL));
                let end = &mut wild.ends[*connection.session()];
                // As it is from the start. Two ends that both wait for each other's reading would
                // do so for good.
                connection.read_on(end.way.outbound);
                end.ending = !connection.is_open() && connection.pressure() == Pressure::Closed;
                (end.finished, end.paused) = (true, false);
                connection.finish();
            });
        }
    }

    fn wilds(&self) -> impl Iterator<Item = &Wild> {
        self.hosts.iter().map(|host| &host.handler.inner)
    }

    /// Connections that are not over.
    fn left(&self) -> Vec<End> {
        let wilds = self.hosts.iter().map(|host| &host.handler.inner);
        let ends = wilds.flat_map(|wild| &wild.ends);
        let over = |end: &&End| end.failed || end.closed.is_some();
        ends.filter(|end| !over(end)).cloned().collect()
    }
}

/// The host of the `n`th handler, with its sockets.
fn open(world: &mut World, n: usize, targets: Vec<SocketAddr>) -> Option<Host<Watched<Wild>>> {
    let mut wild = Wild::new(n, world.roll(u64::MAX), targets);
    wild.acts = world.count(300);
    wild.bytes = world.size(400_000);
    wild.dials = world.count(8) as u16;
    wild.drains = world.one_in(10);
    let limits = draw_limits(world);
    if limits.max_connections < MANY {
        // Its dials could take all the places that their other ends wait for.
        wild.targets
            .retain(|target| [server(), nobody()].contains(target));
    }
    let mut host = world.host(Watched::new(wild), limits).ok()?;
    let mut options = ListenOptions::new(address(n));
    if world.one_in(4) {
        options.backlog = world.roll(3) as u32;
        options.send_buffer = Some(world.size(100_000));
        options.recv_buffer = Some(world.size(100_000));
    }
    let listener = host.context().listen(&options).ok()?;
    host.handler.inner.listeners.push(listener);
    let udp = host.context().bind_udp(&UdpOptions::new(address(n)));
    host.handler.inner.udp.extend(udp);
    host.handler.inner.binds = Some(address(n));
    Some(host)
}

/// What the sender of a way knows.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// What must arrive if the way ends in good order, and the most that may arrive.
    whole: usize,
    most: usize,
    /// Whether it may have ended in good order.
    ends: bool,
}

/// What the receiver of a way knows.
#[derive(Clone, Copy, Debug)]
struct Got {
    count: usize,
    ended: bool,
}

impl Play {
    fn sent(&self) -> BTreeMap<Way, Sent> {
        let ends = self.wilds().flat_map(|wild| &wild.ends);
        let ends = ends.map(|end| (end.way, sent_by(end)));
        let peers = self.peers.iter().map(|one| {
            let sent = Sent {
                whole: one.told,
                most: one.peer.sent(),
                ends: one.finished,
            };
            (one.way, sent)
        });
        ends.chain(peers).collect()
    }

    fn got(&self) -> Vec<(Way, Got)> {
        let ends = self.wilds().flat_map(|wild| &wild.ends);
        let ends = ends.map(|end| {
            let got = Got {
                count: end.eof.unwrap_or(end.consumed),
                ended: end.eof.is_some(),
            };
            (end.way.back(), got)
        });
        let peers = self.peers.iter().map(|one| {
            let received = one.peer.received();
            let way = one.way.back();
            assert!(way.is(0, &received), "a peer got what nobody sent to it");
            let got = Got {
                count: received.len(),
                ended: one.peer.has_ended(),
            };
            (way, got)
        });
        ends.chain(peers).collect()
    }

    /// What arrived is what was sent, as far as it came; and where an end is told, it's all there.
    fn compare(&self, world: &World) {
        let sent = self.sent();
        // Without this option the system can't be told to reset.
        let orderly = !world.faults_met().contains(&Fault::OptionFails);
        for (way, got) in self.got() {
            let Some(sent) = sent.get(&way) else {
                // It was turned away, which is an end.
                assert_eq!(got.count, 0, "{way:?} has no sender");
                continue;
            };
            assert!(got.count <= sent.most, "{way:?}: {got:?} of {sent:?}");
            if got.ended && orderly {
                assert!(sent.ends, "an end that nobody sent, {way:?}: {sent:?}");
                assert_eq!(got.count, sent.whole, "a part for the whole, {way:?}");
            }
        }
    }

    /// Who has closed as finished has passed on everything, both ways.
    fn compare_finished(&self) {
        let peers: BTreeMap<Way, &Outside> =
            self.peers.iter().map(|one| (one.way.back(), one)).collect();
        for end in self.wilds().flat_map(|wild| &wild.ends) {
            if end.reason() != Some(CloseReason::Finished) {
                continue;
            }
            assert!(
                end.eof.is_some(),
                "finished without the peer's end: {end:?}"
            );
            let Some(one) = peers.get(&end.way).filter(|one| !one.gone) else {
                continue;
            };
            // Other systems don't tell what is acknowledged.
            if self.poller == Poller::Epoll {
                let got = one.peer.received().len();
                assert_eq!(got, end.written, "finished, and not all came: {end:?}");
            }
        }
    }

    /// What was written before a close arrives, though the peer went on sending: where the close
    /// took less time than it might, and the peer sent less than is thrown away.
    fn compare_closed(&mut self) {
        let peers: BTreeMap<Way, &Outside> =
            self.peers.iter().map(|one| (one.way.back(), one)).collect();
        for host in &mut self.hosts {
            let limits = host.context().limits().clone();
            let wild = &host.handler.inner;
            let within = limits.linger_timeout - LATE;
            if limits.idle_timeout.is_some() || wild.drains {
                continue;
            }
            // What is idle for too long may have been so before it was asked to close.
            for end in wild.ends.iter().filter(|end| !end.cut && !end.idled) {
                let Some((CloseReason::Other(_), closed)) = end.closed else {
                    continue;
                };
                let began = end.closing.expect("it was asked to");
                let Some(one) = peers.get(&end.way).filter(|one| !one.gone) else {
                    continue;
                };
                if closed - began < within && one.told < limits.linger_bytes as usize {
                    let got = one.peer.received().len();
                    assert_eq!(got, end.written, "closed, and not all came: {end:?}");
                }
            }
        }
    }

    /// What is sent to those of whom nothing tells: to peers that have vanished.
    fn parted(&self) -> Vec<Way> {
        let vanished = self.peers.iter().filter(|one| one.vanished);
        vanished.map(|one| one.way.back()).collect()
    }

    /// Nobody was ended for what others did: once they are released, no deadline comes.
    fn look_at_reasons(&self, parted: &[Way]) {
        for (wild, &released) in self.wilds().zip(&self.released) {
            for end in &wild.ends {
                if parted.contains(&end.way) {
                    continue;
                }
                let Some((reason, at)) = end.closed else {
                    continue;
                };
                if end.aborted {
                    assert_eq!(reason, CloseReason::Aborted, "{end:?}");
                }
                let late = matches!(
                    reason,
                    CloseReason::WriteTimeout
                        | CloseReason::OutOfMemory
                        | CloseReason::IdleTimeout
                        | CloseReason::InputOverflow
                        | CloseReason::OutputOverflow
                );
                let before = at <= released || end.ending;
                assert!(!late || before, "{reason} after all: {end:?}");
            }
        }
    }

    /// What else was begun has come to its end.
    fn look_at_the_rest(&self, world: &World) {
        let drained = self.hosts.iter().any(Host::has_drained);
        for wild in self.wilds() {
            for (n, other) in self.wilds().enumerate() {
                let (posted, heard) = (other.posted.clone(), &wild.heard);
                let me = self
                    .hosts
                    .iter()
                    .position(|h| std::ptr::eq(&raw const h.handler.inner, wild));
                assert_eq!(heard[n], posted[me.unwrap()], "a message was not heard");
            }
            if !drained {
                let set = |timer: &Timer| matches!(timer, Timer::Set(..));
                assert!(!wild.timers.iter().any(set), "a timer has not fired");
                assert!(wild.about.values().all(Vec::is_empty));
            }
            let late = [Fault::StoodStill, Fault::WaitLate];
            if !world.faults_met().iter().any(|met| late.contains(met)) {
                assert!(wild.latest < LATE, "a timer is {:?} late", wild.latest);
            }
            let from = self.udp.local_addr();
            for (_, bytes) in self.udp.received() {
                assert!(
                    self.wilds()
                        .any(|w| w.replied.contains(&(from, bytes.clone())))
                );
            }
        }
    }
}

fn sent_by(end: &End) -> Sent {
    // Whatever else closes it does so in good order if all that was written is out. Nothing is lost
    // of a dial that is given up, either.
    let lost = [CloseReason::Aborted, CloseReason::OutputOverflow];
    let closes = end.reason().is_some_and(|reason| !lost.contains(&reason));
    Sent {
        whole: end.written,
        most: end.tried.max(end.written),
        ends: (end.finished || end.failed || closes) && !end.aborted,
    }
}

/// Whether anybody may be gone of whom nothing tells, or somebody whose memory or whose place
/// others may wait for.
fn is_lossy(world: &World, play: &mut Play, parted: &[Way]) -> bool {
    let silent = [Fault::PeerVanishes, Fault::Partition, Fault::ResetOneEnd];
    let is_tight = |host: &mut Host<Watched<Wild>>| {
        let context = host.context();
        let limits = context.limits();
        limits.max_pending < 1 << 30 || limits.max_connections < MANY
    };
    let waits = !parted.is_empty() && play.hosts.iter_mut().any(is_tight);
    waits || world.faults_met().iter().any(|met| silent.contains(met))
}

/// One world of it.
fn wild(world: &mut World) {
    let Some(mut play) = Play::draw(world) else {
        return;
    };
    for _ in 0..world.count(60) {
        play.act(world);
        let time = Duration::from_micros(world.roll(30_000));
        play.run(world, time);
    }
    world.calm();
    // It need not come to rest: somebody may call again and again at a full backlog.
    play.run(world, Duration::from_secs(3));
    play.look_for_stalled();
    play.release();
    play.settle(world);
    let calm = !world.has_broken();
    // Listeners that paused, and dials whose answer was lost.
    play.run(world, Duration::from_secs(3));
    play.settle(world);
    let parted = play.parted();
    if !is_lossy(world, &mut play, &parted) {
        let mut left = play.left();
        left.retain(|end| !parted.contains(&end.way));
        assert!(left.is_empty(), "stranded: {left:#?}");
        play.look_at_reasons(&parted);
    }
    play.run(world, LONG);
    let left = play.left();
    assert!(left.is_empty(), "they never end: {left:#?}");
    play.compare(world);
    play.compare_finished();
    if calm {
        play.compare_closed();
    }
    play.look_at_the_rest(world);
    for host in &mut play.hosts {
        host.context().drain(Duration::from_secs(5));
    }
    play.run(world, Duration::from_secs(6));
    for host in &mut play.hosts {
        let stats = look_at_beside(host, LARGEST);
        let left = (stats.open, stats.pending, stats.unconsumed, stats.held);
        assert_eq!(left, (0, 0, 0, 0));
        assert_eq!(host.process().sockets(), 0, "a socket was not closed");
    }
}

#[test]
fn whatever_handlers_do_to_anybody_all_arrives_or_is_told_lost_and_all_come_to_their_end() {
    check(0..5000, wild);
}
