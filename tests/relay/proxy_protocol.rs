//! The PROXY protocol before handlers of many habits: each hears what the peer sent behind its
//! header, told from where that says, and nothing of who sends none.

use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Host, Peer, World, check};
use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Handler, Limits, ListenOptions,
};

use crate::streams::Way;
use crate::watched::{Watched, look_at};
use crate::{address, end, is_calm, run, settle};

use example::{Proxied, Trust};

#[allow(dead_code)]
#[path = "../../examples/proxy_protocol.rs"]
mod example;

/// Bytes that a client sends at most.
const MOST: usize = 20_000;
static BANNER: [u8; 100_000] = [b'x'; 100_000];

/// An echo with habits, which go by the port that a caller is told to have: it pauses or closes at
/// the beginning, has a lot to say then, takes little at a time, or leaves what isn't a whole word.
struct Habits;

#[derive(Clone, Copy, PartialEq)]
enum Habit {
    None,
    PausesFirst,
    PausesEachTime,
    Banner,
    Little,
    Words,
    Closes,
    Refuses,
}

impl Habit {
    fn of(peer: SocketAddr) -> Habit {
        [
            Habit::None,
            Habit::PausesFirst,
            Habit::PausesEachTime,
            Habit::Banner,
            Habit::Little,
            Habit::Words,
            Habit::Closes,
            Habit::Refuses,
        ][usize::from(peer.port() % 8)]
    }

    /// Whether all that its caller says is heard.
    fn listens(self) -> bool {
        !matches!(self, Habit::Closes | Habit::Refuses)
    }
}

impl Handler for Habits {
    type Session = Habit;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, Habit>, caller: &Accepted) -> Option<Habit> {
        let habit = Habit::of(caller.peer.socket_addr().unwrap());
        (habit != Habit::Refuses).then_some(habit)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, Habit>) {
        match connection.session() {
            Habit::PausesFirst => {
                connection.pause();
                connection.timer(Duration::from_millis(20));
            }
            Habit::Banner => _ = connection.write(&BANNER),
            Habit::Closes => connection.close(CloseReason::Other(1)),
            _ => {}
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Habit>, data: &[u8]) -> usize {
        let count = match connection.session() {
            Habit::Little => {
                connection.again();
                data.len().min(1000)
            }
            Habit::Words => data.len() - data.len() % 5,
            Habit::PausesEachTime => {
                connection.pause();
                connection.timer(Duration::from_millis(1));
                data.len().div_ceil(2)
            }
            _ => data.len(),
        };
        connection.write(&data[..count]);
        count
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, Habit>, rest: &[u8]) {
        connection.write(rest);
        connection.finish();
    }

    fn on_timer(&mut self, context: &mut Context<'_, Habit>, key: u64) {
        if let Some(mut connection) = context.connection(ConnectionId::from_bits(key)) {
            connection.resume();
        }
    }
}

type Whole = Watched<Proxied<Watched<Habits>>>;

/// One that trusts all or nobody.
fn proxied(trusts: bool) -> Whole {
    let mut trust = Trust::default();
    if trusts {
        trust.networks.push("10.0.0.0/8".parse().unwrap());
    }
    Watched::new(Proxied {
        inner: Watched::new(Habits),
        trust,
        refuse_others: false,
    })
}

struct Client {
    peer: Peer,
    way: Way,
    header: Vec<u8>,
    /// How much of it was sent, and of what follows.
    told: (usize, usize),
    /// Who the inner handler takes it for, if it's told at all.
    seen_as: Option<SocketAddr>,
    trusted: bool,
    /// When it dialed.
    begun: Duration,
    /// Whether its header was sent so soon that it's not too late for it.
    prompt: bool,
    finished: bool,
    gone: bool,
}

impl Client {
    /// The `number`th one, with a header of any kind; `None` when it can't even dial.
    fn draw(world: &mut World, number: u16, trusted: bool) -> Option<Client> {
        let peer = world.connect(address());
        let dialer = peer.local_addr()?;
        let told = SocketAddr::from(([192, 0, 2, 1], 1000 + number));
        let binary = |world: &mut World, command: u8| {
            let more = world.roll(60) as u16;
            let length = (12 + more).to_be_bytes();
            let port = told.port().to_be_bytes();
            [
                &b"\r\n\r\n\0\r\nQUIT\n"[..],
                &[0x20 | command, 0x11, length[0], length[1], 192, 0, 2, 1],
                &[10, 0, 0, 1, port[0], port[1], 0, 80],
                &vec![0; usize::from(more)],
            ]
            .concat()
        };
        let (header, seen_as) = match world.roll(8) {
            0..=2 => (binary(world, 1), Some(told)),
            3 => (binary(world, 0), Some(dialer)),
            4 => (b"PROXY UNKNOWN\r\n".to_vec(), Some(dialer)),
            5 => (format!("PROXY TCP4 {told} 80\r\n").into_bytes(), None),
            _ => {
                let port = told.port();
                let line = format!("PROXY TCP4 192.0.2.1 10.0.0.1 {port} 80\r\n");
                (line.into_bytes(), Some(told))
            }
        };
        Some(Client {
            peer,
            way: Way::of(dialer, true),
            header,
            told: (0, 0),
            seen_as: if trusted { seen_as } else { Some(dialer) },
            trusted,
            begun: world.now(),
            prompt: false,
            finished: false,
            gone: false,
        })
    }

    fn act(&mut self, world: &mut World) {
        let (header, text) = self.told;
        match world.roll(16) {
            _ if self.gone => {}
            0..=8 if !self.finished => {
                let rest = self.header.len() - header;
                let piece = match world.one_in(3) {
                    true => world.roll(rest as u64 + 1) as usize,
                    false => rest,
                };
                let mut size = world.size(20_000) >> world.roll(8);
                if piece < rest || world.one_in(3) || text + size > MOST {
                    size = 0;
                }
                let bytes = &self.header[header..header + piece];
                self.peer.send(&[bytes, self.way.text(text, size)].concat());
                self.told = (header + piece, text + size);
                let soon = world.now() < self.begun + Duration::from_secs(1);
                self.prompt |= piece == rest && soon;
            }
            9 => self.peer.stop_reading(),
            10 | 11 => self.peer.start_reading(),
            12 if world.one_in(3) => self.finish(),
            13 if world.one_in(10) => {
                self.gone = true;
                self.peer.reset();
            }
            14 if world.one_in(20) => {
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

    /// What the inner handler is to hear, as far as it was sent.
    fn said(&self) -> Vec<u8> {
        let (header, text) = self.told;
        let header = if self.trusted { 0 } else { header };
        [&self.header[..header], self.way.text(0, text)].concat()
    }

    /// Compares what the inner handler was told with what was sent; at the `over`, that's all.
    fn look(&self, inner: &Watched<Habits>, over: bool) {
        let life = self.seen_as.and_then(|peer| inner.life_of(peer));
        let (got, said) = (self.peer.received(), self.said());
        let prompt = self.prompt && self.seen_as.map(Habit::of).is_some_and(Habit::listens);
        assert!(
            !over || !prompt || !self.peer.was_reset(),
            "its header had come"
        );
        let Some(life) = life else {
            assert!(got.is_empty(), "an answer of nobody");
            let whole = self.told.0 == self.header.len() && self.seen_as.is_some();
            let (habit, ended) = (self.seen_as.map(Habit::of), self.peer.was_reset());
            let heard = whole && habit.is_some_and(Habit::listens);
            assert!(!over || ended || !heard, "nothing was told of it");
            return;
        };
        let whole = self.told.0 == self.header.len();
        assert!(whole || !self.trusted, "told before its header has come");
        let input = life.input();
        assert!(said.starts_with(&input), "something else than was sent");
        let all = input.len() == said.len();
        assert!(!life.eof || self.finished && all, "an end of its own");
        let habit = self.seen_as.map(Habit::of);
        if over && habit.is_some_and(Habit::listens) && !self.peer.was_reset() {
            assert!(all, "{} bytes of {} were heard", input.len(), said.len());
        }
        let echo = match habit {
            Some(Habit::Banner) => got.get(BANNER.len()..).unwrap_or(&[]),
            _ => &got[..],
        };
        assert!(said.starts_with(echo), "it was answered something else");
    }
}

/// Limits that are reached soon.
fn draw_limits(world: &mut World) -> Limits {
    let mut limits = Limits::default();
    if world.one_in(2) {
        limits.high_water = world.pick(&[1, 1000, 30_000]);
        limits.low_water = limits.high_water / 2;
        limits.read_buffer = world.pick(&[1, 20, 100, 65_536]);
        limits.io_budget = world.pick(&[1, 2, 8]);
        limits.events = world.pick(&[1, 3, 1024]);
    }
    limits
}

/// Looks at every client, but for those who have the address of another one, which had left.
fn look(host: &mut Host<Whole>, clients: &[Client], over: bool) {
    look_at(host);
    let inner = &host.handler.inner.inner;
    for client in clients {
        let same = |other: &&Client| other.seen_as == client.seen_as;
        if clients.iter().filter(same).count() == 1 || client.seen_as.is_none() {
            client.look(inner, over);
        }
    }
}

fn before_habits(world: &mut World) {
    world.unleash();
    let limits = draw_limits(world);
    let trusts = !world.one_in(6);
    let Ok(mut host) = world.host(proxied(trusts), limits) else {
        return;
    };
    if host
        .context()
        .listen(&ListenOptions::new(address()))
        .is_err()
    {
        return;
    }
    let mut clients = Vec::new();
    for number in 0..world.count(40) as u16 {
        if clients.is_empty() || world.one_in(5) {
            clients.extend(Client::draw(world, number, trusts));
        }
        clients.iter_mut().for_each(|client| client.act(world));
        let until = world.now() + Duration::from_micros(world.roll(200_000));
        while world.step(&mut host, Some(until)).unwrap() {
            look(&mut host, &clients, false);
        }
    }
    world.calm();
    for client in clients.iter_mut().filter(|client| !client.gone) {
        client.peer.start_reading();
        let waits = client.trusted && client.told.0 < client.header.len();
        if !client.finished && !waits {
            client.finish();
        }
    }
    settle(world, &mut host);
    // Those whose header doesn't come are sent away, and who is heard byte by byte has the time.

    run(world, &mut host, Duration::from_secs(100));
    let calm = is_calm(world) && clients.iter().all(|client| !client.gone);
    look(&mut host, &clients, calm);
    if calm {
        let open = host.context().stats().open;
        assert_eq!(open, 0, "stranded: {:#?}", host.handler.lives);
    }
    run(world, &mut host, Duration::from_secs(1000));
    end(world, &mut host);
    let lives = &host.handler.inner.inner.lives;
    assert!(lives.values().all(|life| life.closed.is_some()));
}

#[test]
fn whatever_happens_a_handler_hears_what_its_peer_sent_behind_the_header() {
    check(0..2000, before_habits);
}

/// A host that trusts its peers, and a peer that sends a byte of its header each second; after how
/// long that is over, and how.
fn dribble(header: &[u8]) -> (Duration, Peer, Host<Whole>) {
    let mut world = World::new(1);
    let mut host = world.host(proxied(true), Limits::default()).unwrap();
    let listening = host.context().listen(&ListenOptions::new(address()));
    listening.unwrap();
    let peer = world.connect(address());
    peer.finish_at_end();
    peer.send_slowly(header, 1, Duration::from_secs(1));
    run(&mut world, &mut host, Duration::from_secs(60));
    let ended = peer.failed_at().or(peer.ended_at()).unwrap_or_default();
    (ended, peer, host)
}

#[test]
fn a_header_has_five_seconds_however_often_some_of_it_comes() {
    let (after, peer, host) = dribble(b"PROXY UNKNOWN\r\n");
    let seconds = after.as_secs_f64();
    assert!((5.0..5.1).contains(&seconds), "after {seconds} s");
    assert!(peer.was_reset() && peer.received().is_empty());
    assert!(host.handler.inner.inner.lives.is_empty());
}
