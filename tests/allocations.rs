//! Memory: none is asked for in steady state, and an idle connection costs next to none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use oread::{Echo, EchoOptions, Framing, Limits, ListenOptions, Reactor, UdpOptions};

const PATIENCE: Duration = Duration::from_secs(60);

/// An echo server that this thread turns itself: the allocations counted are those of one thread.
struct Server {
    reactor: Reactor<Echo>,
    echo: Echo,
    address: SocketAddr,
}

impl Server {
    fn start(framing: Framing, options: &ListenOptions) -> Server {
        Server::with_limits(framing, options, Limits::default())
    }

    fn with_limits(framing: Framing, options: &ListenOptions, limits: Limits) -> Server {
        let mut reactor = Reactor::with_limits(limits).unwrap();
        let listener = reactor.context().listen(options).unwrap();
        let address = reactor.context().listener_addr(listener);
        let address = address.unwrap().socket_addr().unwrap();
        let echo = Echo::new(EchoOptions {
            framing,
            ..EchoOptions::default()
        });
        Server {
            reactor,
            echo,
            address,
        }
    }

    fn turn(&mut self) {
        let wait = Some(Duration::from_millis(5));
        self.reactor.turn(&mut self.echo, wait).unwrap();
    }

    fn connect(&mut self) -> TcpStream {
        let open = self.reactor.context().stats().open;
        let client = TcpStream::connect(self.address).unwrap();
        client.set_nonblocking(true).unwrap();
        client.set_nodelay(true).unwrap();
        while self.reactor.context().stats().open == open {
            self.turn();
        }
        client
    }

    /// Turns until `client` has read `count` bytes.
    fn receive(&mut self, client: &mut TcpStream, mut count: usize) {
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + PATIENCE;
        while count > 0 {
            assert!(Instant::now() < deadline, "{count} bytes are missing");
            match client.read(&mut buffer) {
                Ok(0) => panic!("the server has closed"),
                Ok(n) => count -= n,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    self.turn();
                }
            }
        }
    }
}

fn loopback() -> ListenOptions {
    ListenOptions::new(([127, 0, 0, 1], 0))
}

/// Allocations of `rounds` rounds, after some to warm up.
fn allocations_of(rounds: usize, mut round: impl FnMut()) -> u64 {
    for _ in 0..rounds {
        round();
    }
    measure(|| (0..rounds).for_each(|_| round())).count_total
}

#[test]
fn an_echo_allocates_nothing() {
    let mut server = Server::start(Framing::Raw, &loopback());
    let mut client = server.connect();
    let count = allocations_of(200, || {
        client.write_all(&[b'x'; 64]).unwrap();
        server.receive(&mut client, 64);
    });
    assert_eq!(count, 0);
}

#[test]
fn lines_that_come_in_pieces_allocate_nothing() {
    let mut server = Server::start(Framing::Lines, &loopback());
    let mut client = server.connect();
    let count = allocations_of(100, || {
        client.write_all(b"one\ntw").unwrap();
        server.receive(&mut client, 4);
        client.write_all(b"o\nthree").unwrap();
        server.receive(&mut client, 4);
        client.write_all(b"\n").unwrap();
        server.receive(&mut client, 6);
    });
    assert_eq!(count, 0);
}

#[test]
fn output_that_blocks_and_drains_allocates_nothing() {
    // However the system cuts it, 8 to 12 KiB are pending at the most: memory that doubles has room
    // for all of them after the first time, and is not so much that it would be given back.
    let limits = Limits {
        read_buffer: 4 << 10,
        high_water: 8 << 10,
        gather: 4 << 10,
        low_water: 0,
        ..Limits::default()
    };
    let high_water = limits.high_water as u64;
    let options = ListenOptions {
        send_buffer: Some(4 << 10),
        recv_buffer: Some(16 << 10),
        ..loopback()
    };
    let mut server = Server::with_limits(Framing::Raw, &options, limits);
    let mut client = server.connect();
    let block = vec![b'x'; 16 << 10];
    let mut blocked = 0;
    let count = allocations_of(20, || {
        // It sends without reading until the server has output that nobody takes.
        let mut sent = 0;
        let deadline = Instant::now() + PATIENCE;
        while server.reactor.context().stats().pending < high_water {
            assert!(Instant::now() < deadline, "nothing blocks");
            match client.write(&block) {
                Ok(n) => sent += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            server.turn();
        }
        blocked += 1;
        server.receive(&mut client, sent);
    });
    assert_eq!((count, blocked), (0, 40));
}

/// Allocations of a hundred datagrams' echoes by a socket that is bound to `host`.
fn allocations_of_datagrams(host: [u8; 4]) -> u64 {
    let mut server = Server::start(Framing::Raw, &loopback());
    let options = UdpOptions::new((host, 0));
    let id = server.reactor.context().bind_udp(&options).unwrap();
    let port = server.reactor.context().udp_addr(id).unwrap().port();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut buffer = [0; 100];
    allocations_of(100, || {
        client.send(b"ping").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while client.recv(&mut buffer).is_err() {
            assert!(Instant::now() < deadline);
            server.turn();
        }
    })
}

#[test]
fn a_datagram_s_echo_allocates_nothing() {
    assert_eq!(allocations_of_datagrams([127, 0, 0, 1]), 0);
}

#[test]
fn a_datagram_s_echo_from_a_wildcard_allocates_once() {
    // The control message that names its source: `nix` builds it in a vector of its own.
    assert!(allocations_of_datagrams([0, 0, 0, 0]) <= 100);
}

#[test]
fn timers_that_are_set_and_fire_and_are_cancelled_allocate_nothing() {
    let mut server = Server::start(Framing::Raw, &loopback());
    let count = allocations_of(50, || {
        let mut context = server.reactor.context();
        context.timer(Duration::ZERO, 1);
        let never = context.timer(Duration::from_secs(3600), 2);
        assert!(context.cancel(never));
        server.turn();
        server.turn();
    });
    assert_eq!(count, 0);
}

#[test]
fn callers_that_come_and_go_leave_nothing_behind() {
    let mut server = Server::start(Framing::Raw, &loopback());
    let mut round = || {
        let mut client = server.connect();
        client.write_all(b"x").unwrap();
        server.receive(&mut client, 1);
        drop(client);
        while server.reactor.context().stats().open > 0 {
            server.turn();
        }
    };
    (0..10).for_each(|_| round());
    let info = measure(|| (0..100).for_each(|_| round()));
    assert_eq!((info.count_current, info.bytes_current), (0, 0));
}

// The poll(2) backend keeps tables of its own for each descriptor.
#[cfg(not(mio_unsupported_force_poll_poll))]
#[test]
fn an_idle_connection_takes_at_most_128_bytes_of_heap() {
    const CONNECTIONS: usize = 400;
    let mut server = Server::start(Framing::Lines, &loopback());
    let mut clients = Vec::with_capacity(CONNECTIONS);
    // The first one has lists of 512 KiB mapped, of which only what is used is memory: the sizes of
    // what is in them are asserted beside the types.
    let _first = server.connect();
    server.turn();
    let info = measure(|| {
        for _ in 0..CONNECTIONS {
            let mut client = server.connect();
            // Each has said something, with a pause in the middle of it: what was kept meanwhile is
            // given back.
            client.write_all(b"hel").unwrap();
            server.turn();
            client.write_all(b"lo\n").unwrap();
            server.receive(&mut client, 6);
            clients.push(client);
        }
    });
    let each = info.bytes_current as usize / CONNECTIONS;
    assert!(each <= 128, "{each} bytes for each connection");
}

#[test]
fn a_message_to_many_readers_allocates_nothing_and_a_large_one_is_copied_for_nobody() {
    const READERS: usize = 200;
    let mut server = Server::start(Framing::Raw, &loopback());
    let mut readers: Vec<TcpStream> = (0..READERS).map(|_| server.connect()).collect();
    let ids: Vec<_> = server.reactor.context().connections().collect();
    let mut tell = |server: &mut Server, message: &[u8]| {
        let mut context = server.reactor.context();
        for id in &ids {
            context.connection(*id).unwrap().write(message);
        }
        let held = context.stats().held;
        for reader in &mut readers {
            server.receive(reader, message.len());
        }
        held
    };
    // What is small waits for the poll, in memory that is there from the last time.
    let (small, large) = ([b's'; 1000], [b'l'; 40_000]);
    tell(&mut server, &small);
    let mut held = 0;
    let counted = measure(|| held = tell(&mut server, &small));
    assert_eq!(counted.count_total, 0);
    assert!(held >= READERS as u64 * 1000, "{held} bytes were held");
    // What is large goes out from where it is, to whoever takes it.
    let counted = measure(|| held = tell(&mut server, &large));
    assert_eq!((counted.count_total, held), (0, 0));
}
