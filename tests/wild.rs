//! A handler that does anything to anybody, in every callback, over real sockets: nothing panics,
//! no bound is overstepped, the counters add up after every turn, everybody is closed exactly once,
//! and a drain ends it.
//!
//! What the state machine does under such a handler is tested without sockets
//! (`src/link/tests/properties.rs`); this is about all that is around it: slots, queues, deadlines,
//! dials, listeners.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::{Dice, PATIENCE, World, loopback, read_some, reset};
use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Ended, Handler,
    Limits, ListenOptions, ListenerId, TimerId,
};

/// What has been heard of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Dialed,
    Open,
    PeerDone,
    Over,
}

const MAX_CONNECTIONS: usize = 60;
const MAX_DIALS: usize = 300;
/// The session of a dialed connection; an accepted one has 0.
const DIALED: u64 = 1;

struct Wild {
    dice: Dice,
    address: SocketAddr,
    lives: HashMap<ConnectionId, Life>,
    ids: Vec<ConnectionId>,
    listeners: Vec<ListenerId>,
    timers: Vec<TimerId>,
    dials: usize,
    /// From now on it only consumes what comes.
    tame: bool,
    busy: bool,
}

impl Wild {
    fn enter(&mut self) {
        assert!(!self.busy, "a callback runs inside another");
        self.busy = true;
    }

    /// Notes what became of a connection; what it was before.
    fn note(&mut self, id: ConnectionId, life: Life) -> Option<Life> {
        let before = self.lives.insert(id, life);
        if before.is_none() {
            self.ids.push(id);
        }
        before
    }

    /// Anything, to its own connection and to others.
    fn run_wild(&mut self, connection: &mut Connection<'_, u64>) {
        self.treat(connection);
        self.act(connection.context());
        self.treat(connection);
    }

    /// Anything, to anybody.
    fn act(&mut self, context: &mut Context<'_, u64>) {
        assert!(context.connections().count() <= MAX_CONNECTIONS);
        if self.tame {
            return;
        }
        for _ in 0..self.dice.roll(3) {
            match self.dice.roll(12) {
                0 => self.dial(context),
                1 => {
                    let after = Duration::from_millis(self.dice.roll(4));
                    self.timers.push(context.timer(after, 0));
                }
                2 => {
                    let timer = self.dice.draw(&mut self.timers);
                    timer.map(|timer| context.cancel(timer));
                }
                3 if self.dice.roll(8) == 0 => {
                    let listener = context.listen(&ListenOptions::new(loopback()));
                    self.listeners.push(listener.unwrap());
                }
                4 => {
                    let listener = self.dice.draw(&mut self.listeners);
                    listener.map(|listener| context.close_listener(listener));
                }
                _ => self.treat_somebody(context),
            }
        }
    }

    fn dial(&mut self, context: &mut Context<'_, u64>) {
        if self.dials == MAX_DIALS {
            return;
        }
        let adopts = self.dice.roll(2) == 0;
        let opened = if adopts {
            match TcpStream::connect_timeout(&self.address, Duration::from_millis(50)) {
                Ok(mut stream) => {
                    if self.dice.roll(4) == 0 {
                        stream.set_nonblocking(true).unwrap();
                        common::write_until_blocked(&mut stream);
                    }
                    if self.dice.roll(8) == 0 {
                        stream.shutdown(Shutdown::Write).unwrap();
                    }
                    context.adopt(stream, DIALED)
                }
                Err(_) => return,
            }
        } else {
            context.connect(&ConnectOptions::new(self.address), DIALED)
        };
        if let Ok(id) = opened {
            self.dials += 1;
            assert_eq!(self.note(id, Life::Dialed), None);
            if self.dice.roll(3) == 0 {
                self.treat(&mut context.connection(id).unwrap());
            }
        }
    }

    /// Somebody of the latest, who may be gone.
    fn treat_somebody(&mut self, context: &mut Context<'_, u64>) {
        let latest = self.ids.len().min(80) as u64;
        if latest == 0 {
            return;
        }
        let id = self.ids[self.ids.len() - 1 - self.dice.roll(latest) as usize];
        if let Some(mut connection) = context.connection(id) {
            assert_ne!(self.lives[&id], Life::Over);
            assert_eq!(connection.id(), id);
            self.treat(&mut connection);
        }
    }

    fn treat(&mut self, connection: &mut Connection<'_, u64>) {
        if self.tame {
            return;
        }
        match self.dice.roll(40) {
            0..=9 => {
                let sizes = [0, 1, 10, 100, 1000, 20_000, 100_000];
                let message = vec![7; sizes[self.dice.roll(7) as usize]];
                for _ in 0..=self.dice.roll(3) {
                    connection.write(&message);
                }
            }
            10..=13 => connection.pause(),
            14..=19 => connection.resume(),
            20 => connection.finish(),
            21 => connection.close(CloseReason::Other(1)),
            22 => connection.abort(CloseReason::Aborted),
            23..=25 => connection.read_on(self.dice.roll(2) == 0),
            26..=28 => {
                let ms = self.dice.roll(30);
                connection.set_idle_timeout((ms > 10).then(|| Duration::from_millis(ms)));
            }
            29 => {
                connection.split().1.write(b"apart");
            }
            _ => {}
        }
    }
}

impl Handler for Wild {
    type Session = u64;
    type Message = ();

    fn on_accept(&mut self, context: &mut Context<'_, u64>, _: &Accepted) -> Option<u64> {
        self.enter();
        self.act(context);
        self.busy = false;
        (self.dice.roll(20) > 0).then_some(0)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, u64>) {
        self.enter();
        let dialed = *connection.session() == DIALED;
        let before = self.note(connection.id(), Life::Open);
        assert_eq!(before, dialed.then_some(Life::Dialed));
        self.run_wild(connection);
        self.busy = false;
    }

    fn on_data(&mut self, connection: &mut Connection<'_, u64>, data: &[u8]) -> usize {
        self.enter();
        assert_eq!(self.lives[&connection.id()], Life::Open);
        if self.dice.roll(2) == 0 {
            connection.write(data);
        }
        self.run_wild(connection);
        self.busy = false;
        if self.tame || self.dice.roll(4) > 0 {
            return data.len();
        }
        self.dice.roll(data.len() as u64 + 1) as usize
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, u64>, _: &[u8]) {
        self.enter();
        let before = self.note(connection.id(), Life::PeerDone);
        assert_eq!(before, Some(Life::Open));
        if self.dice.roll(3) > 0 {
            connection.finish();
        }
        self.run_wild(connection);
        self.busy = false;
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, u64>) {
        self.enter();
        let life = self.lives[&connection.id()];
        assert!(matches!(life, Life::Open | Life::PeerDone), "{life:?}");
        self.run_wild(connection);
        self.busy = false;
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, u64>,
        id: ConnectionId,
        _: u64,
        _: CloseReason,
    ) {
        self.enter();
        let before = self.note(id, Life::Over);
        assert!(matches!(before, Some(Life::Open | Life::PeerDone)));
        self.act(context);
        self.busy = false;
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, u64>,
        id: ConnectionId,
        _: u64,
        _: io::Error,
    ) {
        self.enter();
        assert_eq!(self.note(id, Life::Over), Some(Life::Dialed));
        self.act(context);
        self.busy = false;
    }

    fn on_timer(&mut self, context: &mut Context<'_, u64>, _: u64) {
        self.enter();
        self.act(context);
        self.busy = false;
    }
}

/// Clients that are no better.
struct Clients {
    dice: Dice,
    streams: Vec<TcpStream>,
    /// Calls still to be made.
    calls: usize,
}

impl Clients {
    fn act(&mut self, address: SocketAddr) {
        match self.dice.roll(8) {
            0 if self.calls > 0 && self.streams.len() < 40 => {
                self.calls -= 1;
                let client = TcpStream::connect(address).unwrap();
                client.set_nonblocking(true).unwrap();
                self.streams.push(client);
            }
            1 if self.streams.len() > 10 => {
                let client = self.dice.draw(&mut self.streams).unwrap();
                if self.dice.roll(2) == 0 {
                    reset(client);
                }
            }
            2 if !self.streams.is_empty() => {
                let at = self.dice.roll(self.streams.len() as u64) as usize;
                let _gone_or_not = self.streams[at].shutdown(Shutdown::Write);
            }
            _ => {}
        }
        for client in &mut self.streams {
            match self.dice.roll(4) {
                0 => {
                    let size = 1 + self.dice.roll(9000) as usize;
                    let _taken_or_not = client.write(&vec![3; size]);
                }
                1 => {
                    let _gone_or_not = read_some(client, &mut Vec::new(), 50_000);
                }
                _ => {}
            }
        }
    }
}

/// Limits that are soon reached, and timeouts that soon come.
fn tight(seed: u64) -> Limits {
    let mut dice = Dice(seed ^ 0x5555);
    let mut limits = tight_ones();
    limits.max_pending = [1, 10_000, 100_000, 2_000_000][dice.roll(4) as usize];
    limits.max_input = [1, 3000, 20_000][dice.roll(3) as usize];
    limits.io_budget = [1, 2, 8][dice.roll(3) as usize];
    limits.turn_bytes = [1, 10_000, 2 << 20][dice.roll(3) as usize];
    limits.events = [1, 8, 1024][dice.roll(3) as usize];
    limits.high_water = [1, 30_000][dice.roll(2) as usize];
    limits.linger_bytes = [0, 1, 50_000][dice.roll(3) as usize];
    limits.pooled = [0, 1000, 4 << 20][dice.roll(3) as usize];
    if dice.roll(3) == 0 {
        limits.write_timeout = None;
    }
    limits
}

/// Those to begin with.
fn tight_ones() -> Limits {
    Limits {
        max_connections: MAX_CONNECTIONS,
        max_input: 3000,
        high_water: 30_000,
        low_water: 10_000,
        max_output: 400_000,
        max_pending: 2_000_000,
        gather: 5000,
        io_budget: 2,
        accept_budget: 2,
        events: 8,
        linger_bytes: 50_000,
        linger_timeout: Duration::from_millis(40),
        write_timeout: Some(Duration::from_millis(60)),
        idle_timeout: Some(Duration::from_millis(100)),
        ..Limits::default()
    }
}

/// A thousand turns of it, and a drain.
fn play(seed: u64) {
    let wild = Wild {
        dice: Dice(seed),
        address: loopback(),
        lives: HashMap::new(),
        ids: Vec::new(),
        listeners: Vec::new(),
        timers: Vec::new(),
        dials: 0,
        tame: false,
        busy: false,
    };
    let mut world = World::of(tight(seed), wild);
    let (_, address) = world.listen_with(&ListenOptions {
        send_buffer: Some(4 << 10),
        recv_buffer: Some(4 << 10),
        ..ListenOptions::new(loopback())
    });
    world.handler.address = address;
    let mut clients = Clients {
        dice: Dice(!seed),
        streams: Vec::new(),
        calls: 200,
    };
    for _ in 0..1000 {
        clients.act(address);
        // It checks that the counters add up.
        world.turn_for(Duration::from_millis(1));
    }
    world.handler.tame = true;
    world.context().drain(Duration::from_millis(300));
    let start = Instant::now();
    let ended = loop {
        assert!(start.elapsed() < PATIENCE, "the drain does not end");
        if let Some(ended) = world.turn().ended {
            break ended;
        }
    };
    assert!(matches!(ended, Ended::Drained { .. }));
    let stats = world.stats();
    assert_eq!((stats.open, stats.pending, stats.unconsumed), (0, 0, 0));
    assert_eq!(stats.held, 0);
    assert!(stats.accepted > 20 && stats.connected > 20, "{stats:?}");
    let over = |life: &Life| *life == Life::Over;
    assert!(world.handler.lives.values().all(over));
    let heard_of = stats.accepted + stats.connected + stats.connect_failed;
    assert_eq!(world.handler.lives.len() as u64, heard_of);
}

#[test]
fn whatever_a_handler_does_to_anybody_all_adds_up_and_all_come_to_their_end() {
    let first: u64 = std::env::var("SEED").map_or(0, |seed| seed.parse().unwrap());
    let count: u64 = std::env::var("SEEDS").map_or(6, |seeds| seeds.parse().unwrap());
    for seed in first..first + count {
        println!("seed {seed}");
        play(seed);
    }
}
