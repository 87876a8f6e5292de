//! Echoes under limits as tight as they come: every byte comes back, in order, to everybody, and
//! nobody waits for good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::{Dice, World, connect};
use oread::{Limits, ListenOptions, Pressure};

/// How long nothing may move before somebody waits for good.
const STILL: Duration = Duration::from_secs(4);

/// A peer that sends lines and compares what comes back.
struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    got: usize,
    shut: bool,
    over: bool,
}

impl Client {
    fn act(&mut self, dice: &mut Dice) -> bool {
        let mut moved = false;
        if self.sent < self.out.len() {
            let most = 1 + dice.roll(30_000) as usize;
            let end = self.out.len().min(self.sent + most);
            match self.stream.write(&self.out[self.sent..end]) {
                Ok(count) => {
                    self.sent += count;
                    moved = true;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        } else if !self.shut {
            self.stream.shutdown(Shutdown::Write).unwrap();
            self.shut = true;
            moved = true;
        }
        let mut bytes = vec![0; 1 + dice.roll(30_000) as usize];
        match self.stream.read(&mut bytes) {
            Ok(0) => {
                assert_eq!(self.got, self.out.len(), "an early end");
                assert!(self.shut);
                self.over = true;
                moved = true;
            }
            Ok(count) => {
                assert!(
                    self.out[self.got..].starts_with(&bytes[..count]),
                    "wrong bytes"
                );
                self.got += count;
                moved = true;
            }
            Err(error) => assert_eq!(
                error.kind(),
                ErrorKind::WouldBlock,
                "{error} at {}",
                self.got
            ),
        }
        moved
    }
}

/// Limits as tight as they come, for lines of up to `max_line` bytes.
fn tight(dice: &mut Dice, max_line: usize) -> Limits {
    Limits {
        max_input: dice.pick(&[max_line, 3 * max_line]),
        read_buffer: dice.pick(&[64 << 10, 100, 5000]),
        max_pending: dice.pick(&[1, 10_000, 60_000, 300_000]),
        high_water: dice.pick(&[1, 100, 10_000, 64 << 10]),
        low_water: dice.pick(&[0, 50, 32 << 10]),
        gather: dice.pick(&[0, 1, 16 << 10]),
        io_budget: dice.pick(&[1, 2, 8]),
        turn_bytes: dice.pick(&[1, 10_000, 2 << 20]),
        events: dice.pick(&[1, 3, 1024]),
        accept_budget: dice.pick(&[1, 64]),
        idle_timeout: dice.pick(&[None, Some(Duration::from_secs(40))]),
        write_timeout: dice.pick(&[None, Some(Duration::from_secs(40))]),
        pooled: dice.pick(&[0, 4 << 20]),
        ..Limits::default()
    }
}

/// An echo of lines, or of bytes as they come; at times one that pauses, and resumes at once or by
/// a timer.
fn echo(world: &mut World, raw: bool, resumes: bool, mut coins: Dice) {
    world.handler.forgetful = true;
    world.handler.data = Some(Box::new(move |_, connection, data| {
        if resumes && coins.roll(3) == 0 {
            connection.pause();
            connection.resume();
        }
        if resumes && coins.roll(10) == 0 {
            connection.pause();
            connection.timer(Duration::from_millis(coins.roll(3)));
        }
        if raw {
            connection.write(data);
            return data.len();
        }
        let mut whole = 0;
        while let Some(end) = data[whole..].iter().position(|&byte| byte == b'\n') {
            let line = &data[whole..=whole + end];
            whole += end + 1;
            if connection.write(line) == Pressure::High {
                break;
            }
        }
        whole
    }));
    world.handler.timer = Some(Box::new(|_, context, key| {
        let id = oread::ConnectionId::from_bits(key);
        if let Some(mut connection) = context.connection(id) {
            connection.resume();
        }
    }));
}

/// A peer with lines of up to `max_line` bytes to send.
fn client(dice: &mut Dice, address: SocketAddr, max_line: usize) -> Client {
    let stream = connect(address);
    stream.set_nonblocking(true).unwrap();
    let mut out = Vec::new();
    let total = dice.pick(&[100, 10_000, 100_000]);
    while out.len() < total {
        let len = 1 + dice.roll(max_line as u64 - 1) as usize;
        let start = out.len() as u64;
        out.extend((0..len as u64 - 1).map(|n| b'a' + ((start + n) * 7 % 23) as u8));
        out.push(b'\n');
    }
    Client {
        stream,
        out,
        sent: 0,
        got: 0,
        shut: false,
        over: false,
    }
}

fn play(seed: u64) {
    let mut dice = Dice(seed);
    let max_line = dice.pick(&[10, 1000, 5000, 20_000]);
    let limits = tight(&mut dice, max_line);
    let (raw, resumes) = (dice.roll(3) == 0, dice.roll(3) == 0);
    let what = format!("{limits:?} raw {raw} resumes {resumes}");
    let mut world = World::with(limits);
    echo(&mut world, raw, resumes, Dice(!seed));
    let buffers = dice.pick(&[None, Some(4 << 10)]);
    let (_, address) = world.listen_with(&ListenOptions {
        send_buffer: buffers,
        recv_buffer: buffers,
        ..ListenOptions::new(common::loopback())
    });
    let mut clients: Vec<_> = (0..12)
        .map(|_| client(&mut dice, address, max_line))
        .collect();
    let mut last = Instant::now();
    while clients.iter().any(|client| !client.over) {
        for client in clients.iter_mut().filter(|client| !client.over) {
            if dice.roll(2) == 0 && client.act(&mut dice) {
                last = Instant::now();
            }
        }
        world.turn_for(Duration::from_millis(1));
        let mut closed = world.seen().closed.iter();
        let bad = closed.find(|gone| gone.2 != oread::CloseReason::Finished);
        assert_eq!(bad, None, "{what}");
        let stats = world.stats();
        assert!(
            last.elapsed() < STILL,
            "they wait for good: {what} {stats:?}"
        );
    }
    world.until_closed(12);
    world.settle();
    let stats = world.stats();
    assert_eq!((stats.held, stats.open), (0, 0));
    let next = world.reactor.next_timeout();
    assert!(next.is_none_or(|next| next > Duration::ZERO), "it spins");
}

#[test]
fn whatever_the_limits_every_byte_comes_back() {
    let first: u64 = std::env::var("SEED").map_or(0, |seed| seed.parse().unwrap());
    let count: u64 = std::env::var("SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    for seed in first..first + count {
        println!("seed {seed}");
        play(seed);
    }
}
