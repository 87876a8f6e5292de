//! Unfinished frames are memory too: what handlers leave unconsumed has one bound for all
//! connections together, and a buffer that once held much is not kept for little.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "cli")]
#[path = "common/cli.rs"]
mod cli;
mod common;

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{World, connect, narrow_sender, reset};
use oread::{CloseReason, Limits};

/// How much of its line a hog sends, and how many hogs there are.
const LINE: usize = 200_000;
const HOGS: usize = 100;
const MAX_PENDING: usize = 1 << 20;
const READ: usize = 16 << 10;

/// A peer with a long line, of which it keeps what the system doesn't take.
struct Hog {
    stream: TcpStream,
    left: usize,
}

impl Hog {
    fn new(stream: TcpStream, line: usize) -> Hog {
        narrow_sender(&stream, 16 << 10);
        stream.set_nonblocking(true).unwrap();
        Hog { stream, left: line }
    }

    /// Sends what goes; whether that was anything. A hog that was cut off has nothing left.
    fn push(&mut self) -> bool {
        let mut moved = false;
        while self.left > 0 {
            let count = self.left.min(16 << 10);
            match self.stream.write(&vec![b'x'; count]) {
                Ok(count) => {
                    self.left -= count;
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.left = 0,
            }
        }
        moved
    }
}

/// A reactor whose handler answers whole lines.
fn lines() -> World {
    let mut world = World::with(Limits {
        max_pending: MAX_PENDING,
        read_buffer: READ,
        ..Limits::default()
    });
    world.handler.forgetful = true;
    world.handler.data = Some(Box::new(|_, connection, data| {
        let whole = data.iter().rposition(|&byte| byte == b'\n');
        let whole = whole.map_or(0, |end| end + 1);
        connection.write(&data[..whole]);
        whole
    }));
    world
}

/// Has all hogs send until nothing moves any more, and checks the bound meanwhile.
fn push_all(world: &mut World, hogs: &mut [Hog], most: usize) {
    let mut still = 0;
    while still < 10 {
        let before = world.stats().bytes_in;
        let mut moved = false;
        for hog in hogs.iter_mut() {
            moved |= hog.push();
        }
        world.turn();
        let stats = world.stats();
        let kept = stats.unconsumed;
        assert!(kept <= most as u64, "{kept} bytes are kept, {most} may be");
        moved |= stats.bytes_in != before;
        still = if moved { 0 } else { still + 1 };
    }
}

#[test]
fn unfinished_lines_of_all_together_are_bounded_and_others_are_served_meanwhile_and_after() {
    let most = MAX_PENDING + HOGS * READ;
    let mut world = lines();
    let (_, address) = world.listen();
    let mut honest = connect(address);
    let mut hogs: Vec<_> = (0..HOGS)
        .map(|_| Hog::new(connect(address), LINE))
        .collect();
    world.until_opened(HOGS + 1);
    push_all(&mut world, &mut hogs, most);
    assert_eq!(world.exchange(&mut honest, b"ping\n"), b"ping\n");
    let mut late = connect(address);
    assert_eq!(world.exchange(&mut late, b"me too\n"), b"me too\n");
    // Most of them leave, which an event tells though nothing of theirs is read. What the others
    // have fits then, and they go on by themselves.
    for hog in hogs.drain(4..) {
        reset(hog.stream);
    }
    world.until("those who stay have sent their lines", |_| {
        hogs.iter_mut().for_each(|hog| {
            hog.push();
        });
        hogs.iter().all(|hog| hog.left == 0)
    });
    for hog in &mut hogs {
        hog.stream.write_all(b"\n").unwrap();
    }
    for hog in &mut hogs {
        let line = world.receive(&mut hog.stream, LINE + 1);
        assert!(line.ends_with(b"x\n"));
    }
    assert_eq!(world.exchange(&mut honest, b"pong\n"), b"pong\n");
}

/// Peers that together want more memory than there is, of a handler that consumes nothing.
fn starving() -> (World, Vec<Hog>) {
    let mut world = World::with(Limits {
        max_input: 100_000,
        max_pending: 64 << 10,
        read_buffer: READ,
        write_timeout: Some(Duration::from_millis(400)),
        ..Limits::default()
    });
    world.handler.data = Some(Box::new(|_, _, _| 0));
    let (_, address) = world.listen();
    let mut hogs: Vec<_> = (0..4).map(|_| Hog::new(connect(address), 90_000)).collect();
    world.until_opened(4);
    push_all(&mut world, &mut hogs, usize::MAX);
    assert!(world.stats().pending_pauses > 0, "there was enough");
    (world, hogs)
}

#[test]
fn who_waits_for_memory_for_as_long_as_output_may_gives_way() {
    let (mut world, _hogs) = starving();
    assert_eq!(world.until_closed(1), CloseReason::OutOfMemory);
}

#[cfg(all(feature = "cli", target_os = "linux"))]
mod of_a_process {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::Hog;
    use crate::cli::{LONG, Server, memory};

    const MIB: u64 = 1 << 20;

    /// Has all hogs send until nothing has moved for a while: what goes on in the server can't be
    /// seen from here.
    fn push_all(hogs: &mut [Hog]) {
        let (start, mut last) = (Instant::now(), Instant::now());
        while last.elapsed() < Duration::from_millis(500) {
            assert!(start.elapsed() < LONG, "they send and send");
            let mut moved = false;
            for hog in hogs.iter_mut() {
                moved |= hog.push();
            }
            if moved {
                last = Instant::now();
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn hogs(server: &Server, count: usize) -> Vec<Hog> {
        let hog = |_| Hog::new(server.connect(), 1_000_000);
        (0..count).map(hog).collect()
    }

    fn ping(client: &mut TcpStream) {
        client.write_all(b"ping\n").unwrap();
        let mut bytes = [0; 5];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, *b"ping\n");
    }

    #[test]
    fn a_server_s_memory_is_bounded_however_many_peers_have_most_of_a_line() {
        let server = Server::start(&["--framing", "lines", "--max-pending", "1MiB"]);
        let mut honest = server.connect();
        ping(&mut honest);
        let (_, before) = memory(server.pid());
        let mut hogs = hogs(&server, 300);
        push_all(&mut hogs);
        let (_, after) = memory(server.pid());
        let grown = after.saturating_sub(before) / MIB;
        assert!(grown < 64, "it has grown by {grown} MiB");
        ping(&mut honest);
        drop(hogs);
        ping(&mut honest);
    }

    #[test]
    fn memory_that_cannot_be_had_costs_the_peers_that_want_it_and_not_the_server() {
        const SPARE: u64 = 48 * MIB;
        let plain = Server::start(&["--framing", "lines"]);
        ping(&mut plain.connect());
        let (size, _) = memory(plain.pid());
        drop(plain);
        // As in a shell: the limit is the server's alone, in KiB.
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!(
                "ulimit -v {}; exec \"$0\" \"$@\"",
                (size + SPARE) >> 10
            ))
            .arg(env!("CARGO_BIN_EXE_oread"))
            .args(["serve", "127.0.0.1:0", "--json", "--framing", "lines"]);
        let server = Server::run(command);
        let mut honest = server.connect();
        ping(&mut honest);
        let mut hogs = hogs(&server, 150);
        push_all(&mut hogs);
        ping(&mut honest);
        drop(hogs);
        ping(&mut honest);
        ping(&mut server.connect());
        assert_eq!(server.stop().code, Some(0));
    }

    #[test]
    fn a_buffer_that_once_held_a_long_line_is_not_kept_for_the_first_byte_of_the_next() {
        let server = Server::start(&["--framing", "lines"]);
        ping(&mut server.connect());
        let (_, before) = memory(server.pid());
        let mut line = vec![b'x'; 1_000_000];
        line.extend_from_slice(b"\ny");
        let mut clients = Vec::new();
        for _ in 0..100 {
            let mut client = server.connect();
            // In two parts, so that the first is surely kept; the next line's first byte comes with
            // the second.
            client.write_all(&line[..600_000]).unwrap();
            client.write_all(&line[600_000..]).unwrap();
            let mut back = vec![0; line.len() - 1];
            client.read_exact(&mut back).unwrap();
            assert!(back == line[..back.len()]);
            clients.push(client);
        }
        ping(&mut server.connect());
        let (_, after) = memory(server.pid());
        let grown = after.saturating_sub(before) / MIB;
        assert!(grown < 32, "a hundred bytes take {grown} MiB");
        for client in &mut clients {
            client.write_all(b"\n").unwrap();
            client.read_exact(&mut [0; 2]).unwrap();
        }
    }
}
