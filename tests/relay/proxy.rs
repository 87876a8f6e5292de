//! The proxy: byte-exact both ways; a half-close passes, a reset stays a reset, a failed dial is an
//! end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Fault, Host, Listener, Peer, World, check};
use oread::{ConnectOptions, ConnectionId, Limits, ListenOptions};

use crate::streams::Way;
use crate::watched::{Watched, look_at};
use crate::{address, end, is_calm, run, settle};

use example::Proxy;

#[allow(dead_code)]
#[path = "../../examples/proxy.rs"]
mod example;

fn upstream() -> SocketAddr {
    ([10, 0, 0, 100], 80).into()
}

/// A client, or a connection of the upstream.
struct Far {
    peer: Peer,
    /// Its own address, or that of the proxy.
    dialer: SocketAddr,
    /// What it sends.
    way: Way,
    told: usize,
    finished: bool,
    gone: bool,
    reset: bool,
}

impl Far {
    fn new(peer: Peer, dialer: SocketAddr, is_client: bool) -> Far {
        Far {
            peer,
            dialer,
            way: Way::of(dialer, is_client),
            told: 0,
            finished: false,
            gone: false,
            reset: false,
        }
    }

    fn act(&mut self, world: &mut World, most: usize) {
        if self.gone {
            return;
        }
        match world.roll(16) {
            0..=6 if !self.finished => {
                let size = world.size(most) >> world.roll(6);
                self.peer.send(self.way.text(self.told, size));
                self.told += size;
            }
            7 => self.peer.stop_reading(),
            8 | 9 => self.peer.start_reading(),
            10 => {
                let pause = Duration::from_micros(world.roll(20_000));
                self.peer.read_slowly(1 + world.roll(5000) as usize, pause);
            }
            11 if world.one_in(3) => self.finish(),
            12 if world.one_in(10) => {
                (self.gone, self.reset) = (true, true);
                self.peer.reset();
            }
            13 if world.one_in(20) => {
                self.gone = true;
                self.peer.vanish();
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        self.finished = true;
        self.peer.finish();
    }

    /// Reads all from now on, and has no more to say.
    fn release(&mut self) {
        self.peer.start_reading();
        if !self.finished && !self.gone {
            self.finish();
        }
    }

    /// What it has got is what `other` has sent, and all of that where an end is told; `given_up`:
    /// a dial was, which is an end before the first byte.
    fn compare(&self, other: &Far, given_up: bool) {
        let got = self.peer.received();
        assert!(
            other.way.is(0, &got),
            "bytes that the other end didn't send"
        );
        assert!(got.len() <= other.peer.sent());
        if self.peer.has_ended() && !(given_up && got.is_empty()) {
            assert!(other.finished, "an end that the other end didn't send");
            assert_eq!(got.len(), other.told, "a part for the whole");
        }
    }
}

struct Play {
    proxy: Host<Watched<Proxy>>,
    clients: Vec<Far>,
    servers: Vec<Far>,
    listener: Listener,
    /// Which address the proxy has dialed from for which client.
    pairs: BTreeMap<SocketAddr, SocketAddr>,
    /// Connections of the proxy, when it was last asked for its pairs.
    known: u64,
    /// Bytes that are sent at a time.
    most: usize,
    released: bool,
}

/// Limits that are reached soon; the proxy must not be felt with any of them.
fn draw_limits(world: &mut World) -> Limits {
    let mut limits = Limits::default();
    if world.one_in(2) {
        limits.high_water = world.pick(&[1, 1000, 30_000]);
        limits.low_water = limits.high_water / 2;
        limits.read_buffer = world.pick(&[100, 4096, 65_536]);
        limits.gather = world.pick(&[0, 100, 16 << 10]);
        limits.io_budget = world.pick(&[1, 2, 8]);
        limits.turn_bytes = world.pick(&[1, 10_000, 2 << 20]);
        limits.events = world.pick(&[1, 3, 1024]);
        limits.pooled = world.pick(&[0, 4 << 20]);
    }
    limits
}

impl Play {
    fn draw(world: &mut World) -> Option<Play> {
        world.unleash();
        let limits = draw_limits(world);
        let upstream = ConnectOptions::new(upstream());
        let proxy = Watched::new(Proxy { upstream });
        let mut proxy = world.host(proxy, limits).ok()?;
        let listening = proxy.context().listen(&ListenOptions::new(address()));
        listening.ok()?;
        let mut play = Play {
            proxy,
            clients: Vec::new(),
            servers: Vec::new(),
            listener: world.listen(self::upstream()),
            pairs: BTreeMap::new(),
            known: 0,
            most: world.pick(&[500, 1000, 3000, 3000, 3000, 3000, 10_000, 60_000]),
            released: false,
        };
        if world.one_in(10) {
            play.listener.close();
        }
        for _ in 0..world.count(4) {
            play.call(world);
        }
        Some(play)
    }

    fn call(&mut self, world: &mut World) {
        let peer = world.connect(address());
        if let Some(dialer) = peer.local_addr() {
            self.clients.push(Far::new(peer, dialer, true));
        }
    }

    fn act(&mut self, world: &mut World) {
        if world.one_in(12) {
            self.call(world);
        }
        for far in self.clients.iter_mut().chain(&mut self.servers) {
            far.act(world, self.most);
        }
    }

    /// Lets so much time pass; without one, until nothing moves any more but by deadlines.
    fn run(&mut self, world: &mut World, time: Option<Duration>) {
        let until = time.map(|time| world.now() + time);
        while world.step(&mut self.proxy, until).unwrap() {
            look_at(&mut self.proxy);
            self.meet();
        }
    }

    /// Takes on the proxy's dials, and notes for whom they are.
    fn meet(&mut self) {
        while let Some(peer) = self.listener.accept() {
            if let Some(dialer) = peer.peer_addr() {
                let mut server = Far::new(peer, dialer, false);
                if self.released {
                    server.release();
                }
                self.servers.push(server);
            }
        }
        let stats = self.proxy.context().stats();
        let known = stats.accepted + stats.connected;
        if known == std::mem::replace(&mut self.known, known) {
            return;
        }
        let mut dials: Vec<(ConnectionId, SocketAddr)> = Vec::new();
        self.proxy.context().for_each(|one| {
            let other = one.session().other;
            let ours = one.local_addr().ok().and_then(|at| at.socket_addr());
            dials.extend(other.zip(ours));
        });
        for (id, ours) in dials {
            if let Some(client) = self.proxy.handler.lives.get(&id).and_then(|life| life.peer) {
                self.pairs.insert(client, ours);
            }
        }
    }

    /// Both ends of the pairs that are known.
    fn compare(&self, world: &World) {
        let calm = is_calm(world);
        // Without this option the system can't be told to reset.
        let ends_for_resets = world.faults_met().contains(&Fault::OptionFails);
        let given_up = self.proxy.handler.lives.values().any(|life| life.failed);
        for client in &self.clients {
            let ours = self.pairs.get(&client.dialer);
            if self.pairs.values().filter(|one| Some(*one) == ours).count() > 1 {
                // A port was drawn again that a reset had freed: who belongs to whom is not known.
                continue;
            }
            let server = self.servers.iter().find(|far| Some(&far.dialer) == ours);
            let Some(server) = server else {
                let got = client.peer.received();
                assert!(got.is_empty(), "{} bytes from nobody", got.len());
                continue;
            };
            if !ends_for_resets {
                client.compare(server, given_up);
                server.compare(client, given_up);
            }
            if !calm {
                continue;
            }
            if !client.gone && !server.gone {
                assert_eq!(server.peer.received().len(), client.told);
                assert_eq!(client.peer.received().len(), server.told);
                assert!(client.peer.has_ended() && server.peer.has_ended());
            }
            for (one, other) in [(client, server), (server, client)] {
                if one.reset && !other.gone && !one.finished {
                    assert!(other.peer.was_reset(), "a reset has become something else");
                }
            }
        }
    }
}

fn proxy(world: &mut World) {
    let Some(mut play) = Play::draw(world) else {
        return;
    };
    for _ in 0..world.count(40) {
        play.act(world);
        let time = Duration::from_micros(world.roll(20_000));
        play.run(world, Some(time));
    }
    play.released = true;
    for far in play.clients.iter_mut().chain(&mut play.servers) {
        far.release();
    }
    world.calm();
    // Listeners that paused go on in between.
    for time in [None, Some(Duration::from_secs(3)), None] {
        play.run(world, time);
    }
    let vanished = play.clients.iter().chain(&play.servers);
    let vanished = vanished.filter(|far| far.gone && !far.reset).count();
    if is_calm(world) && vanished == 0 {
        let open = play.proxy.context().stats().open;
        assert_eq!(open, 0, "stranded: {:#?}", play.proxy.handler.lives);
    }
    // Keepalive and timeouts find out who has vanished.
    run(world, &mut play.proxy, Duration::from_secs(1000));
    play.compare(world);
    end(world, &mut play.proxy);
}

#[test]
fn a_proxy_is_not_felt_between_its_two_ends_whatever_the_network_and_the_system_do() {
    check(0..3000, proxy);
}

#[test]
fn a_client_is_reset_when_nobody_listens_upstream() {
    let mut world = World::new(1);
    let proxy = Proxy {
        upstream: ConnectOptions::new(upstream()),
    };
    let mut proxy = world.host(Watched::new(proxy), Limits::default()).unwrap();
    let listening = proxy.context().listen(&ListenOptions::new(address()));
    listening.unwrap();
    let client = world.connect(address());
    client.send(b"anybody there?");
    settle(&mut world, &mut proxy);
    assert!(client.was_reset() && !client.has_ended());
    assert_eq!(client.received(), b"");
    end(&mut world, &mut proxy);
}
