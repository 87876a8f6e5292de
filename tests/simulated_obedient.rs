//! Handlers that do as they are told, in a reactor whose limits are as short as can be: nobody is
//! cut off, no byte is lost, nothing stands still.
//!
//! The worlds are calm: whatever is missing at the end is the library's fault. Each handler keeps
//! its own books, and each peer has its own.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/watched.rs"]
mod watched;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Host, Peer, World, check};
use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Echo, EchoOptions,
    Ended, Handler, Limits, ListenOptions, Pressure,
};

use watched::{Watched, look_at};

fn relay_address() -> SocketAddr {
    ([10, 0, 0, 1], 7).into()
}

fn echo_address() -> SocketAddr {
    ([10, 0, 0, 2], 7).into()
}

/// Limits of which each is as short as it can be, or not.
fn short(world: &mut World) -> Limits {
    let high_water = world.pick(&[1, 100, 5000, 64 << 10]);
    Limits {
        max_pending: world.pick(&[1, 3000, 10_000, 50_000, 1 << 30]),
        read_buffer: world.pick(&[1, 100, 5000, 64 << 10]),
        max_input: world.pick(&[1, 100, 20_000, 1 << 20]),
        high_water,
        low_water: world.pick(&[0, high_water / 2, high_water]),
        gather: world.pick(&[0, 50, 16 << 10]),
        io_budget: world.pick(&[1, 2, 8]),
        turn_bytes: world.pick(&[1, 10_000, 2 << 20]),
        events: world.pick(&[1, 2, 4, 1024]),
        accept_budget: world.pick(&[1, 64]),
        pooled: world.pick(&[0, 4 << 20]),
        write_timeout: None,
        ..Limits::default()
    }
}

/// Carries bytes between each caller and a connection of its own to the echo.
#[derive(Default)]
struct Relay;

/// The other half of a pair.
type Half = Option<ConnectionId>;

impl Handler for Relay {
    type Session = Half;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, Half>, _: &Accepted) -> Option<Half> {
        Some(None)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, Half>) {
        if connection.session().is_none() {
            let id = connection.id();
            let options = ConnectOptions::new(echo_address());
            let other = connection.context().connect(&options, Some(id)).unwrap();
            *connection.session_mut() = Some(other);
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Half>, data: &[u8]) -> usize {
        let other = connection.session().unwrap();
        let pressure = match connection.context().connection(other) {
            Some(mut other) => other.write(data),
            None => Pressure::Closed,
        };
        match pressure {
            Pressure::Low => {}
            Pressure::High => connection.pause(),
            Pressure::Closed => connection.abort(CloseReason::Aborted),
        }
        data.len()
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, Half>) {
        let other = connection.session().unwrap();
        if let Some(mut other) = connection.context().connection(other) {
            other.resume();
        }
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, Half>, rest: &[u8]) {
        assert!(rest.is_empty());
        let other = connection.session().unwrap();
        if let Some(mut other) = connection.context().connection(other) {
            other.finish();
        }
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, Half>,
        _: ConnectionId,
        other: Half,
        reason: CloseReason,
    ) {
        let other = other.and_then(|other| context.connection(other));
        if let Some(mut other) = other
            && reason != CloseReason::Finished
        {
            other.abort(CloseReason::Aborted);
        }
    }
}

/// Bytes that tell where a piece is missing.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| ((at * 31 + seed * 7 + at / 251) % 256) as u8)
        .collect()
}

fn relay(world: &mut World) {
    let limits = short(world);
    let mut relay = world.host(Watched::new(Relay), limits).unwrap();
    let at = ListenOptions::new(relay_address());
    relay.context().listen(&at).unwrap();
    let limits = short(world);
    let echo = Watched::new(Echo::new(EchoOptions::default()));
    let mut echo = world.host(echo, limits).unwrap();
    let at = ListenOptions::new(echo_address());
    echo.context().listen(&at).unwrap();
    let mut peers: Vec<(Peer, Vec<u8>, bool)> = Vec::new();
    for number in 0..world.count(6) {
        let peer = world.connect(relay_address());
        let bytes = pattern(number, world.size(30_000));
        let slow = world.one_in(3);
        if slow {
            peer.stop_reading();
        }
        match world.one_in(4) {
            true => peer.send_slowly(&bytes[..bytes.len().min(3000)], 1, Duration::from_micros(9)),
            false => peer.send(&bytes),
        }
        peer.finish();
        peers.push((peer, bytes, slow));
        world
            .advance(&mut (&mut relay, &mut echo), Duration::from_micros(300))
            .unwrap();
    }
    world.settle(&mut (&mut relay, &mut echo)).unwrap();
    for (peer, _, slow) in &peers {
        if *slow {
            peer.start_reading();
        }
    }
    world.settle(&mut (&mut relay, &mut echo)).unwrap();
    look_at(&mut relay);
    look_at(&mut echo);
    for (number, (peer, bytes, _)) in peers.iter().enumerate() {
        let back = peer.received();
        let sent = peer.sent();
        assert!(bytes[..sent].starts_with(&back), "{number}: wrong bytes");
        assert_eq!(back.len(), sent, "{number}: {:?}", relay.handler.lives);
        assert!(peer.has_ended() && !peer.was_reset(), "{number}");
    }
    let stats = relay.context().stats();
    assert_eq!((stats.open, stats.held), (0, 0), "{stats:?}");
    assert_eq!(echo.context().stats().held, 0);
}

#[test]
fn a_relay_that_obeys_pressure_loses_nothing_however_short_memory_is() {
    check(0..40, relay);
}

/// Tells everybody what anybody says, and leaves out who is under pressure.
#[derive(Default)]
struct Hub {
    /// What each was told.
    told: BTreeMap<ConnectionId, Vec<u8>>,
    addresses: BTreeMap<SocketAddr, ConnectionId>,
    ticks: u32,
    piece: usize,
}

impl Hub {
    fn tell_all(&mut self, context: &mut Context<'_, SocketAddr>, data: &[u8]) {
        let told = &mut self.told;
        context.for_each(|connection| {
            if connection.pressure() != Pressure::Low {
                return;
            }
            for piece in data.chunks(self.piece) {
                let pressure = connection.write(piece);
                if pressure == Pressure::Closed {
                    return;
                }
                told.entry(connection.id()).or_default().extend(piece);
                if pressure == Pressure::High {
                    return;
                }
            }
        });
    }
}

impl Handler for Hub {
    type Session = SocketAddr;
    type Message = ();

    fn on_accept(
        &mut self,
        _: &mut Context<'_, SocketAddr>,
        accepted: &Accepted,
    ) -> Option<SocketAddr> {
        accepted.peer.socket_addr()
    }

    fn on_open(&mut self, connection: &mut Connection<'_, SocketAddr>) {
        self.addresses
            .insert(*connection.session(), connection.id());
        connection.context().timer(Duration::from_millis(3), 0);
    }

    fn on_data(&mut self, connection: &mut Connection<'_, SocketAddr>, data: &[u8]) -> usize {
        self.tell_all(connection.context(), data);
        data.len()
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, SocketAddr>) {
        let before = connection.pressure();
        assert_eq!(before, Pressure::Low, "told to go on, under pressure");
        if connection.write(b"drained") != Pressure::Closed {
            self.told
                .entry(connection.id())
                .or_default()
                .extend(b"drained");
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_, SocketAddr>, _: u64) {
        self.ticks += 1;
        let bytes = pattern(u64::from(self.ticks), 1 << (self.ticks % 17));
        self.tell_all(context, &bytes);
        if self.ticks < 40 {
            context.timer(Duration::from_millis(1), 0);
        }
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, SocketAddr>, _: CloseReason) {
        if connection.write(b"goodbye") != Pressure::Closed {
            self.told
                .entry(connection.id())
                .or_default()
                .extend(b"goodbye");
        }
    }
}

fn hub(world: &mut World) {
    let limits = short(world);
    let piece = world.pick(&[1, 100, 5000, 1 << 20]);
    let hub = Hub {
        piece,
        ..Hub::default()
    };
    let mut hub = world.host(Watched::new(hub), limits).unwrap();
    let at = ListenOptions::new(relay_address());
    hub.context().listen(&at).unwrap();
    let mut peers: Vec<Peer> = Vec::new();
    let mut addresses = Vec::new();
    for number in 0..world.count(8) {
        let peer = world.connect(relay_address());
        match world.roll(3) {
            0 => peer.read_slowly(1 + world.size(5000), Duration::from_micros(50)),
            1 => peer.stop_reading(),
            _ => {}
        }
        peer.send(&pattern(number, world.size(30_000)));
        if world.one_in(3) {
            peer.finish();
        }
        world.until(&mut hub, |_| peer.is_connected()).unwrap();
        addresses.push(peer.local_addr().unwrap());
        peers.push(peer);
        world.advance(&mut hub, Duration::from_micros(700)).unwrap();
    }
    let time = Duration::from_millis(world.roll(60));
    world.advance(&mut hub, time).unwrap();
    for peer in &peers {
        peer.start_reading();
    }
    if world.one_in(2) {
        world.settle(&mut hub).unwrap();
    }
    hub.context().drain(Duration::from_secs(3600));
    while hub.ended().is_none() {
        assert!(
            world
                .step(&mut hub, Some(Duration::from_secs(7200)))
                .unwrap()
        );
    }
    assert_eq!(hub.ended(), Some(Ended::Drained { cut: 0 }));
    world.settle(&mut hub).unwrap();
    for (peer, address) in peers.iter().zip(&addresses) {
        let Some(id) = hub.handler.inner.addresses.get(address) else {
            // Its handshake's last segment came when the listener was closed.
            assert!(peer.received().is_empty() && peer.was_reset());
            continue;
        };
        let life = &hub.handler.lives[id];
        let told = hub.handler.inner.told.get(id).cloned().unwrap_or_default();
        let got = peer.received();
        assert!(told == got, "{} of {}: {life:?}", got.len(), told.len());
        assert!(peer.has_ended() && !peer.was_reset(), "{life:?}");
        assert_eq!(life.closing, u32::from(!life.eof), "{life:?}");
        assert!(life.eof || got.ends_with(b"goodbye"), "{life:?}");
    }
    assert_eq!(hub.context().stats().held, 0);
    assert_eq!(hub.process().sockets(), 0);
}

#[test]
fn a_hub_that_leaves_out_who_is_under_pressure_cuts_nobody_off() {
    check(0..60, hub);
}

/// An echo of lines that is slow to make up its mind: it pauses, resumes from elsewhere, stays open
/// in a drain, and has last words.
#[derive(Default)]
struct Moody {
    dice: u64,
    /// What each was told, by its address.
    told: BTreeMap<SocketAddr, Vec<u8>>,
    /// Those who stay open, until a timer ends them.
    staying: Vec<ConnectionId>,
    /// What each was told in the drain: before that, and then as last words, and late.
    parted: BTreeMap<SocketAddr, (usize, Vec<u8>)>,
    late: Vec<SocketAddr>,
}

impl Moody {
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.dice >> 33) % sides
    }

    fn say(&mut self, connection: &mut Connection<'_, SocketAddr>, bytes: &[u8]) {
        if connection.write(bytes) != Pressure::Closed {
            let peer = *connection.session();
            self.told.entry(peer).or_default().extend(bytes);
        }
    }
}

impl Handler for Moody {
    type Session = SocketAddr;
    type Message = ();

    fn on_accept(
        &mut self,
        _: &mut Context<'_, SocketAddr>,
        accepted: &Accepted,
    ) -> Option<SocketAddr> {
        accepted.peer.socket_addr()
    }

    fn on_open(&mut self, connection: &mut Connection<'_, SocketAddr>) {
        self.say(connection, b"hello");
    }

    fn on_data(&mut self, connection: &mut Connection<'_, SocketAddr>, data: &[u8]) -> usize {
        let count = match self.roll(4) {
            0 => 0,
            1 => 1,
            _ => data.len(),
        };
        self.say(connection, &data[..count]);
        let after = Duration::from_micros(self.roll(3000));
        match self.roll(4) {
            0 => {
                connection.pause();
                connection.timer(after);
            }
            1 => {
                connection.pause();
                connection.resume();
                // What it leaves is shown again for new input, or never; so a timer sees to that.
                connection.pause();
                connection.timer(after);
            }
            _ if count < data.len() => {
                connection.pause();
                connection.timer(after);
            }
            _ => {}
        }
        count
    }

    fn on_timer(&mut self, context: &mut Context<'_, SocketAddr>, key: u64) {
        let id = ConnectionId::from_bits(key);
        let Some(mut connection) = context.connection(id) else {
            return;
        };
        connection.resume();
        if connection.pressure() == Pressure::High {
            connection.timer(Duration::from_millis(1));
        } else if let Some(place) = self.staying.iter().position(|&other| other == id) {
            self.staying.remove(place);
            self.say(&mut connection, b"late");
            self.late.push(*connection.session());
            connection.close(CloseReason::Closed);
        }
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, SocketAddr>, _: CloseReason) {
        let words = vec![b'.'; 1 << self.roll(15)];
        let peer = *connection.session();
        let before = self.told.get(&peer).map_or(0, Vec::len);
        self.say(connection, &words);
        self.parted.insert(peer, (before, words));
        match self.roll(4) {
            0 => {
                connection.stay_open();
                self.staying.push(connection.id());
                let after = Duration::from_micros(self.roll(30_000));
                connection.timer(after);
            }
            1 => connection.pause(),
            2 => connection.resume(),
            _ => {}
        }
    }

    fn on_close(
        &mut self,
        _: &mut Context<'_, SocketAddr>,
        id: ConnectionId,
        peer: SocketAddr,
        reason: CloseReason,
    ) {
        let stays = self.staying.contains(&id);
        // Who stays is ended by its timer, or by its own end.
        assert!(
            !stays || reason == CloseReason::Finished,
            "{reason}, and it was to stay"
        );
        let late = self.late.contains(&peer);
        assert!(
            late || reason != CloseReason::Closed,
            "closed, and by whom?"
        );
    }
}

fn moody(world: &mut World) {
    let mut limits = short(world);
    limits.max_input = limits.max_input.max(70_000);
    limits.max_connections = world.pick(&[1, 3, 1000]);
    let dice = world.seed();
    let moody = Moody {
        dice,
        ..Moody::default()
    };
    let mut host = world.host(Watched::new(moody), limits).unwrap();
    let most = world.pick(&[3, 5, 1000]);
    host.process().descriptors(most);
    let others = ([10, 0, 0, 1], 8).into();
    for at in [relay_address(), others] {
        host.context().listen(&ListenOptions::new(at)).unwrap();
    }
    let peers = peers_of_moody(world, &mut host, &[relay_address(), others]);
    let settled = world.one_in(2);
    if settled {
        world.settle(&mut host).unwrap();
    }
    host.context().drain(Duration::from_secs(3600));
    while host.ended().is_none() {
        assert!(
            world
                .step(&mut host, Some(Duration::from_secs(7200)))
                .unwrap()
        );
    }
    assert_eq!(
        host.ended(),
        Some(Ended::Drained { cut: 0 }),
        "{:?}",
        host.handler.lives
    );
    world.settle(&mut host).unwrap();
    for (peer, address) in &peers {
        look_at_end(&host.handler, peer, address);
    }
    let stats = host.context().stats();
    assert_eq!((stats.held, stats.open), (0, 0));
    assert_eq!(host.process().sockets(), 0);
}

/// Peers that connect to one of these listeners, one after another, and say what they have to; with
/// their addresses, which they lose when they end.
fn peers_of_moody(
    world: &mut World,
    host: &mut Host<Watched<Moody>>,
    listeners: &[SocketAddr],
) -> Vec<(Peer, SocketAddr)> {
    let mut peers = Vec::new();
    for number in 0..world.count(8) {
        let at = world.pick(listeners);
        let peer = world.connect(at);
        if world.one_in(3) {
            peer.read_slowly(1 + world.size(5000), Duration::from_micros(50));
        }
        let there = world.until(host, |_| peer.is_connected());
        if there.is_err() {
            // It waits in a backlog behind others who don't leave.
            continue;
        }
        let address = peer.local_addr().unwrap();
        peer.send(&pattern(number, world.size(5000)));
        if world.one_in(2) {
            peer.finish();
        }
        peers.push((peer, address));
        let time = Duration::from_micros(world.roll(2000));
        world.advance(host, time).unwrap();
    }
    peers
}

/// After the drain a peer has all that it was told, and an end in good order; or nobody took it on.
fn look_at_end(moody: &Watched<Moody>, peer: &Peer, address: &SocketAddr) {
    let got = peer.received();
    let Some(life) = moody.life_of(*address) else {
        assert!(got.is_empty() && (peer.has_ended() || peer.was_reset()));
        return;
    };
    let told = moody
        .inner
        .told
        .get(address)
        .map_or(&[][..], |told| &told[..]);
    assert!(told == got, "{} of {}: {life:?}", got.len(), told.len());
    assert!(peer.has_ended() && !peer.was_reset(), "{life:?}");
    // Who hasn't finished itself has had last words, and has got them; whoever stayed got more.
    let parted = moody.inner.parted.get(address);
    assert!(life.eof || parted.is_some(), "no last words: {life:?}");
    let late = moody.inner.late.contains(address);
    if let Some((before, words)) = parted {
        let words = got
            .get(*before..)
            .and_then(|rest| rest.strip_prefix(&words[..]));
        let rest = words.unwrap_or_else(|| panic!("its last words didn't come: {life:?}"));
        // Who has finished meanwhile is told nothing any more.
        assert!(rest.ends_with(b"late") == late || life.eof, "{life:?}");
    }
}

#[test]
fn a_drain_waits_for_whoever_pauses_resumes_and_stays_and_ends() {
    check(0..1000, moody);
}
