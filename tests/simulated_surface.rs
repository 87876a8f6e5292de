//! Limits of one connection and of one source, listeners that are paused, closed and given away,
//! frames that take too long and output that is asked about: all of it at random, against books.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/dice.rs"]
mod dice;
#[path = "common/watched.rs"]
mod watched;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use oread::sim::{Fault, Host, Peer, World, check};
use oread::{
    Accepted, CloseReason, Connection, ConnectionId, ConnectionLimits, Context, Handler, Limits,
    ListenOptions, ListenerId, Pressure,
};

use dice::Dice;
use watched::{Watched, look_at_beside};

/// The largest single write.
const LARGEST: usize = 60_000;

/// No deadline comes so early: it's counted in whole milliseconds.
const EARLY: Duration = Duration::from_millis(2);

/// Longer than all deadlines here one after the other.
const LONG: Duration = Duration::from_secs(600);

/// Where the `n`th listener is.
fn address(n: u16) -> SocketAddr {
    ([10, 0, 0, 1], 7 + n).into()
}

/// One of three addresses that peers call from.
fn source(n: u64) -> IpAddr {
    let texts = ["10.7.0.1", "10.7.0.2", "10.7.0.3"];
    texts[n as usize].parse().unwrap()
}

/// What the handler has asked of a listener last.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Door {
    Open,
    Paused,
    Closed,
    Released,
}

/// One connection, as its handler knows it.
#[derive(Debug)]
struct End {
    id: Option<ConnectionId>,
    from: IpAddr,
    /// Since when some of its input is left unconsumed, and how much of it.
    since: Option<Instant>,
    left: usize,
    frame: Option<Duration>,
    /// It was told to stop writing, and not yet to go on.
    high: bool,
    /// It wants to be told when all is out.
    asks: bool,
    closed: bool,
}

/// See the module's page.
struct Surface {
    dice: Dice,
    /// Things that it may still do.
    acts: u64,
    doors: Vec<(ListenerId, Door)>,
    ends: Vec<End>,
    /// Connections that each source has.
    open: BTreeMap<IpAddr, u32>,
    /// From now on it takes what comes.
    tame: bool,
}

impl Surface {
    fn acts(&mut self) -> bool {
        let acts = !self.tame && self.acts > 0;
        self.acts -= u64::from(acts);
        acts
    }

    /// Anything, to a listener or to one of the connections.
    fn act(&mut self, context: &mut Context<'_, usize>) {
        if !self.acts() {
            return;
        }
        if self.dice.once_in(3) {
            return self.treat_listener(context);
        }
        if let Some(last) = self.ends.len().checked_sub(1) {
            let session = last - self.dice.roll(last as u64 + 1) as usize;
            let id = self.ends[session].id;
            if let Some(mut connection) = id.and_then(|id| context.connection(id)) {
                self.treat(&mut connection);
            }
        }
    }

    fn treat_listener(&mut self, context: &mut Context<'_, usize>) {
        let place = self.dice.roll(self.doors.len() as u64) as usize;
        let (id, door) = &mut self.doors[place];
        let was = *door;
        let (done, now) = match self.dice.roll(12) {
            0..=4 => (context.pause_listener(*id), Door::Paused),
            5..=9 => (context.resume_listener(*id), Door::Open),
            10 => (context.close_listener(*id), Door::Closed),
            _ => (context.release_listener(*id), Door::Released),
        };
        match was {
            Door::Open | Door::Paused => {
                assert!(done, "{was:?} to {now:?}");
                *door = now;
            }
            // While those who waited are let in, it can still be given up; it's never open again.
            Door::Closed if done && now == Door::Released => *door = now,
            Door::Closed if now == Door::Closed => assert!(!done, "it's closed twice"),
            Door::Released => assert!(!done, "{now:?} of one that was released"),
            Door::Closed => {}
        }
    }

    /// Anything, to one connection.
    fn treat(&mut self, connection: &mut Connection<'_, usize>) {
        if !self.acts() {
            return;
        }
        let end = &mut self.ends[*connection.session()];
        match self.dice.roll(16) {
            0..=4 => {
                let size = self.dice.pick(&[0, 1, 1000, LARGEST]);
                end.high |= connection.write(&[b'w'; LARGEST][..size]) == Pressure::High;
            }
            5 | 6 => {
                end.asks = connection.is_open();
                connection.tell_when_sent();
            }
            7 | 8 => {
                let limits = draw_limits(&mut self.dice);
                end.frame = limits.frame_timeout;
                connection.set_limits(limits).unwrap();
                assert_eq!(connection.limits(), limits);
                // What is pending counts by them at once.
                end.high |= connection.pressure() == Pressure::High;
            }
            9 => connection.pause(),
            10 | 11 => connection.resume(),
            12 => connection.again(),
            13 => connection.count(),
            14 if self.dice.once_in(3) => connection.close(CloseReason::Other(7)),
            15 if self.dice.once_in(3) => {
                let open = connection.pressure() != Pressure::Closed;
                connection.abort(CloseReason::Other(8));
                assert!(!open || connection.pressure() == Pressure::Closed);
            }
            _ => {}
        }
    }

    /// Notes what is left of the input that was shown.
    fn leave(&mut self, session: usize, left: usize, consumed: usize, now: Instant) {
        let end = &mut self.ends[session];
        end.left = left;
        end.since = match (left, consumed, end.since) {
            (0, ..) => None,
            (_, 0, Some(since)) => Some(since),
            _ => Some(now),
        };
    }
}

/// Limits of their own: of eight kinds, for they are kept for good.
fn draw_limits(dice: &mut Dice) -> ConnectionLimits {
    let usual = Limits::default().of_connection();
    let (high_water, frame) = (dice.pick(&[20_000, 100_000]), dice.pick(&[None, Some(3)]));
    ConnectionLimits {
        high_water,
        low_water: high_water / 2,
        max_output: dice.pick(&[200_000, 1 << 30]),
        frame_timeout: frame.map(Duration::from_secs),
        ..usual
    }
}

impl Handler for Surface {
    type Session = usize;
    type Message = ();

    fn on_accept(&mut self, context: &mut Context<'_, usize>, caller: &Accepted) -> Option<usize> {
        let door = self.doors.iter().find(|(id, _)| *id == caller.listener);
        let (_, door) = door.expect("a listener that nobody opened");
        assert!(matches!(door, Door::Open | Door::Closed), "{door:?}");
        let from = caller.peer.socket_addr().unwrap().ip();
        let open = self.open.entry(from).or_default();
        *open += 1;
        let most = context.limits().connections_per_source;
        assert!(most.is_none_or(|most| *open <= most), "{open} of {from}");
        self.ends.push(End {
            id: None,
            from,
            since: None,
            left: 0,
            frame: None,
            high: false,
            asks: false,
            closed: false,
        });
        Some(self.ends.len() - 1)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, usize>) {
        self.ends[*connection.session()].id = Some(connection.id());
        self.treat(connection);
    }

    fn on_data(&mut self, connection: &mut Connection<'_, usize>, data: &[u8]) -> usize {
        let consumed = match self.dice.roll(3) {
            _ if self.tame => data.len(),
            0 => 0,
            1 => self.dice.roll(data.len() as u64 + 1) as usize,
            _ => data.len(),
        };
        let now = connection.context().now();
        self.leave(*connection.session(), data.len() - consumed, consumed, now);
        self.treat(connection);
        consumed
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, usize>, _: &[u8]) {
        self.treat(connection);
        connection.finish();
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, usize>) {
        let end = &mut self.ends[*connection.session()];
        let sent = connection.pending() == 0;
        assert!(end.high || end.asks && sent, "it asked for nothing");
        (end.high, end.asks) = (false, end.asks && !sent);
        self.treat(connection);
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, usize>,
        _: ConnectionId,
        session: usize,
        reason: CloseReason,
    ) {
        let end = &mut self.ends[session];
        end.closed = true;
        *self.open.get_mut(&end.from).unwrap() -= 1;
        if reason == CloseReason::FrameTimeout {
            let took = context.now() - end.since.expect("nothing was left");
            assert!(took + EARLY >= Duration::from_secs(3), "{took:?}");
        }
        self.act(context);
    }
}

/// Everything in one world.
struct Play {
    host: Host<Watched<Surface>>,
    peers: Vec<Peer>,
}

impl Play {
    /// `None`: a fault has kept it from listening.
    fn draw(world: &mut World) -> Option<Play> {
        world.unleash();
        // Others leave an end that nobody tells of it.
        let told = [
            Fault::StoodStill,
            Fault::NoMemory,
            Fault::RegisterFails,
            Fault::AcceptNetwork,
            Fault::AcceptForbidden,
        ];
        for &fault in Fault::ALL {
            if fault.breaks() && !told.contains(&fault) {
                world.fault_rate(fault, 0);
            }
        }
        let limits = Limits {
            connections_per_source: world.pick(&[None, Some(1), Some(2), Some(3)]),
            accepts_per_source: world.pick(&[None, None, Some(2)]),
            max_connections: world.pick(&[3, 100, 100]),
            accept_budget: world.pick(&[1, 64]),
            io_budget: world.pick(&[1, 8]),
            events: world.pick(&[1, 1024]),
            ..Limits::default()
        };
        let handler = Surface {
            dice: Dice(world.roll(u64::MAX)),
            acts: world.count(200),
            doors: Vec::new(),
            ends: Vec::new(),
            open: BTreeMap::new(),
            tame: false,
        };
        let mut host = world.host(Watched::new(handler), limits).ok()?;
        for n in 0..3 {
            let id = host
                .context()
                .listen(&ListenOptions::new(address(n)))
                .ok()?;
            host.handler.inner.doors.push((id, Door::Open));
        }
        let peers = Vec::new();
        Some(Play { host, peers })
    }

    /// Whoever is not the handler does something.
    fn act(&mut self, world: &mut World) {
        if world.one_in(3) || self.peers.is_empty() {
            let to = address(world.roll(3) as u16);
            let from = source(world.roll(3));
            self.peers.push(world.connect_from(from, to));
        }
        let place = world.roll(self.peers.len() as u64) as usize;
        let peer = &self.peers[place];
        match world.roll(12) {
            0..=4 => peer.send(&vec![b'p'; world.size(20_000)]),
            5 => peer.stop_reading(),
            6 | 7 => peer.start_reading(),
            8 => peer.finish(),
            9 if world.one_in(3) => self.peers.swap_remove(place).reset(),
            10 if world.one_in(3) => self.peers.swap_remove(place).close(),
            _ => {}
        }
        if world.one_in(3) {
            let (reactor, watched) = self.host.reactor();
            watched.inner.act(&mut reactor.context());
        }
    }

    fn run(&mut self, world: &mut World, time: Duration) {
        let end = world.now() + time;
        while world.step(&mut self.host, Some(end)).unwrap() {
            look_at_beside(&mut self.host, LARGEST);
        }
    }

    /// Everybody does what lets the others go on.
    fn release(&mut self, world: &mut World) -> bool {
        for peer in &self.peers {
            peer.start_reading();
        }
        let (reactor, watched) = self.host.reactor();
        let (surface, mut context) = (&mut watched.inner, reactor.context());
        surface.tame = true;
        for (id, door) in &mut surface.doors {
            if *door == Door::Paused {
                assert!(context.resume_listener(*id));
                *door = Door::Open;
            }
        }
        // Or else the rest is for the timeout of its frame.
        let again = world.one_in(2);
        context.for_each(|connection| {
            connection.resume();
            if again {
                connection.again();
            }
        });
        again
    }

    /// Whoever asked has been told, and no frame is too long under way.
    fn look_for_forgotten(&self, again: bool) {
        for end in self
            .host
            .handler
            .inner
            .ends
            .iter()
            .filter(|end| !end.closed)
        {
            assert!(!end.asks && !end.high, "nobody told it: {end:?}");
            let may_wait = !again && end.frame.is_none();
            assert!(end.left == 0 || may_wait, "it takes for ever: {end:?}");
        }
    }

    /// Nobody is counted who is gone: each source gets as many connections as it may have.
    fn look_at_sources(&mut self, world: &mut World) {
        let Limits {
            connections_per_source,
            accepts_per_source,
            max_connections,
            ..
        } = *self.host.context().limits();
        let (at, near) = (address(10), Duration::from_millis(1));
        world.latency(near..=near);
        let id = self.host.context().listen(&ListenOptions::new(at)).unwrap();
        self.host.handler.inner.doors.push((id, Door::Open));
        let bounds = [connections_per_source, accepts_per_source];
        let most = bounds.into_iter().flatten().min().unwrap_or(4).min(4);
        let most = (most as usize).min(max_connections);
        for n in 0..3 {
            let before = self.host.context().stats();
            let from = source(n);
            let peers: Vec<Peer> = (0..most + 2)
                .map(|_| world.connect_from(from, at))
                .collect();
            self.run(world, Duration::from_millis(100));
            let after = self.host.context().stats();
            let taken = after.accepted - before.accepted;
            let turned = after.over_source - before.over_source;
            let all = bounds == [None; 2];
            if !all && max_connections > 3 {
                assert_eq!((taken, turned), (most as u64, 2), "of {from}");
            }
            peers.iter().for_each(Peer::reset);
            self.run(world, Duration::from_secs(3));
        }
    }
}

/// One world of it.
fn surface(world: &mut World) {
    let Some(mut play) = Play::draw(world) else {
        return;
    };
    for _ in 0..world.count(80) {
        play.act(world);
        let time = Duration::from_micros(world.roll(60_000));
        play.run(world, time);
    }
    world.calm();
    let again = play.release(world);
    play.run(world, LONG);
    play.look_for_forgotten(again);
    for peer in &play.peers {
        peer.finish();
    }
    play.run(world, LONG);
    let stats = look_at_beside(&mut play.host, LARGEST);
    assert_eq!((stats.open, stats.pending, stats.held), (0, 0, 0));
    for peer in &play.peers {
        let over = peer.has_ended() || peer.was_reset() || peer.was_refused();
        assert!(over || peer.has_timed_out(), "a peer was forgotten");
    }
    play.look_at_sources(world);
}

#[test]
fn whoever_is_limited_paused_and_released_at_random_gets_his_due_and_no_more() {
    check(0..1000, surface);
}
