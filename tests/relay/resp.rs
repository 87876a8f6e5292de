//! The small Redis: any commands, pipelined and in any pieces, are answered as a map answers them.

use std::collections::HashMap;
use std::time::Duration;

use oread::sim::{Host, Peer, World, check};
use oread::{Limits, ListenOptions};

use crate::watched::Watched;
use crate::{address, end, is_calm, run, settle};

use example::Database;

#[allow(dead_code)]
#[path = "../../examples/resp.rs"]
mod example;

/// A client with keys of its own, and a map that has what the server must have for it.
struct Client {
    peer: Peer,
    prefix: String,
    entries: HashMap<String, Vec<u8>>,
    /// What must come back for all that was sent.
    expected: Vec<u8>,
    finished: bool,
    gone: bool,
    /// The server is to close: what is sent behind that has no answer.
    closing: bool,
}

impl Client {
    fn new(peer: Peer, number: usize) -> Client {
        Client {
            peer,
            prefix: format!("{number}:"),
            entries: HashMap::new(),
            expected: Vec::new(),
            finished: false,
            gone: false,
            closing: false,
        }
    }

    fn act(&mut self, world: &mut World) {
        if self.gone {
            return;
        }
        match world.roll(16) {
            0..=6 if !self.finished => {
                let mut bytes = Vec::new();
                for _ in 0..world.count(10) {
                    self.ask(world, &mut bytes);
                }
                let pause = Duration::from_micros(world.roll(500));
                if bytes.len() < 500 && world.one_in(3) {
                    let piece = 1 + world.roll(20) as usize;
                    self.peer.send_slowly(&bytes, piece, pause);
                } else {
                    self.peer.send(&bytes);
                }
            }
            7 => self.peer.stop_reading(),
            8 | 9 => self.peer.start_reading(),
            10 => {
                let pause = Duration::from_micros(world.roll(20_000));
                self.peer.read_slowly(1 + world.roll(2000) as usize, pause);
            }
            11 if world.one_in(5) => self.finish(),
            12 if world.one_in(20) => {
                self.gone = true;
                self.peer.reset();
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        self.finished = true;
        self.peer.finish();
    }

    /// One command, in one of the ways in which commands are written, and its answer.
    fn ask(&mut self, world: &mut World, bytes: &mut Vec<u8>) {
        let key = format!("{}{}", self.prefix, world.roll(5));
        let command = match world.roll(30) {
            0..=5 => vec![b"SET".to_vec(), key.into_bytes(), value(world)],
            6..=11 => vec![b"get".to_vec(), key.into_bytes()],
            12..=15 => vec![b"INCR".to_vec(), key.into_bytes()],
            16..=18 => {
                let other = format!("{}{}", self.prefix, world.roll(5));
                vec![b"DEL".to_vec(), key.into_bytes(), other.into_bytes()]
            }
            19 | 20 => vec![b"PING".to_vec()],
            21..=24 => vec![b"echo".to_vec(), value(world)],
            25 => vec![b"GET".to_vec()],
            26 => vec![b"nonsense".to_vec()],
            27 if world.one_in(10) => vec![b"quit".to_vec()],
            28 if world.one_in(10) => {
                bytes.extend(b"*1\r\n$-5\r\n");
                self.answer(b"-ERR Protocol error: invalid bulk length\r\n");
                self.closing = true;
                return;
            }
            _ => vec![b"command".to_vec()],
        };
        let plain = |word: &Vec<u8>| {
            !word.is_empty() && word.iter().all(|b| b.is_ascii_alphanumeric() || *b == b':')
        };
        if world.one_in(4) && command.iter().all(plain) {
            bytes.extend(command.join(&b' '));
            bytes.extend(b"\n");
        } else {
            bytes.extend(format!("*{}\r\n", command.len()).bytes());
            for word in &command {
                bytes.extend(bulk(word));
            }
        }
        self.model(&command);
    }

    fn answer(&mut self, bytes: &[u8]) {
        if !self.closing {
            self.expected.extend_from_slice(bytes);
        }
    }

    /// What a map would answer.
    fn model(&mut self, command: &[Vec<u8>]) {
        if self.closing {
            return;
        }
        let name = command[0].to_ascii_lowercase();
        let key = |n: usize| String::from_utf8(command[n].clone()).unwrap();
        let answer = match (name.as_slice(), command.len()) {
            (b"set", 3) => {
                self.entries.insert(key(1), command[2].clone());
                b"+OK\r\n".to_vec()
            }
            (b"get", 2) => match self.entries.get(&key(1)) {
                Some(value) => bulk(value),
                None => b"$-1\r\n".to_vec(),
            },
            (b"del", 3) => {
                let gone = [key(1), key(2)].map(|key| self.entries.remove(&key));
                format!(":{}\r\n", gone.iter().flatten().count()).into_bytes()
            }
            (b"incr", 2) => {
                let old = self
                    .entries
                    .get(&key(1))
                    .map_or(Some(0), |old| integer(old));
                match old.map(|old| old + 1) {
                    None => b"-ERR value is not an integer or out of range\r\n".to_vec(),
                    Some(new) => {
                        self.entries.insert(key(1), new.to_string().into_bytes());
                        format!(":{new}\r\n").into_bytes()
                    }
                }
            }
            (b"ping", 1) => b"+PONG\r\n".to_vec(),
            (b"echo", 2) => bulk(&command[1]),
            (b"command", 1) => b"*0\r\n".to_vec(),
            (b"get", 1) => b"-ERR wrong number of arguments for 'get' command\r\n".to_vec(),
            (b"nonsense", 1) => {
                b"-ERR unknown command 'nonsense', with args beginning with: \r\n".to_vec()
            }
            (b"quit", 1) => b"+OK\r\n".to_vec(),
            _ => unreachable!("not drawn here"),
        };
        self.answer(&answer);
        self.closing = name == b"quit";
    }

    fn compare(&self, calm: bool) {
        let got = self.peer.received();
        assert!(self.expected.starts_with(&got), "another answer");
        if calm && !self.gone && !self.closing {
            assert_eq!(got.len(), self.expected.len(), "answers are missing");
            assert!(self.peer.has_ended() && !self.peer.was_reset());
        }
    }
}

/// A value as long as one likes, and often a number.
fn value(world: &mut World) -> Vec<u8> {
    match world.roll(4) {
        0 => world.roll(1000).to_string().into_bytes(),
        1 => b"\r\n*$".repeat(1 + world.size(50)),
        _ => vec![b'a' + world.roll(26) as u8; world.size(3000)],
    }
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A number without a sign, as one writes it.
fn integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = text == "0" || !text.starts_with(['0', '+', '-']);
    plain.then(|| text.parse().ok()).flatten()
}

/// Limits that are reached soon, or those of the example but for its spin.
fn draw_limits(world: &mut World) -> Limits {
    let mut limits = Limits {
        max_input: 2 << 20,
        ..Limits::default()
    };
    if world.one_in(2) {
        limits.read_buffer = world.pick(&[50, 4096, 65_536]);
        limits.high_water = world.pick(&[1, 1000, 30_000]);
        limits.low_water = limits.high_water / 2;
        limits.gather = world.pick(&[0, 100, 16 << 10]);
        limits.io_budget = world.pick(&[1, 2, 8]);
        limits.turn_bytes = world.pick(&[1, 10_000, 2 << 20]);
        limits.events = world.pick(&[1, 3, 1024]);
        limits.pooled = world.pick(&[0, 4 << 20]);
    }
    limits
}

fn open(world: &mut World) -> Option<Host<Watched<Database>>> {
    world.unleash();
    let mut database = Database::default();
    database.limit = 1 << 30;
    let limits = draw_limits(world);
    let mut host = world.host(Watched::new(database), limits).ok()?;
    let listening = host.context().listen(&ListenOptions::new(address()));
    listening.ok().map(|_| host)
}

fn resp(world: &mut World) {
    let Some(mut host) = open(world) else {
        return;
    };
    let mut clients: Vec<Client> = (0..world.count(4) as usize)
        .map(|number| Client::new(world.connect(address()), number))
        .collect();
    for _ in 0..world.count(20) {
        for client in &mut clients {
            client.act(world);
        }
        let time = Duration::from_micros(world.roll(20_000));
        run(world, &mut host, time);
    }
    for client in &mut clients {
        client.peer.start_reading();
        if !client.finished && !client.gone {
            client.finish();
        }
    }
    settle(world, &mut host);
    for client in &clients {
        client.compare(is_calm(world));
    }
    end(world, &mut host);
}

#[test]
fn pipelined_commands_are_answered_as_a_map_answers_them() {
    check(0..3000, resp);
}
