//! Bounds: on connections, on pending output, on time, on descriptors. What is beyond a bound ends
//! or waits; everybody else is served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{
    PATIENCE, World, connect, connect_to, loopback, pattern, read_some, write_until_blocked,
};
use oread::{Address, CloseReason, ConnectOptions, Limits, ListenOptions, Pressure};

/// A listener whose connections' send buffers are small, so that a client that doesn't read is soon
/// noticed.
fn narrow() -> ListenOptions {
    ListenOptions {
        send_buffer: Some(4 << 10),
        recv_buffer: Some(4 << 10),
        ..ListenOptions::new(loopback())
    }
}

#[test]
fn a_caller_beyond_the_limit_waits_and_is_served_when_somebody_leaves() {
    let mut world = World::with(Limits {
        max_connections: 3,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let mut clients: Vec<_> = (0..4).map(|_| connect(address)).collect();
    world.until_opened(3);
    clients[3].write_all(b"let me in").unwrap();
    world.settle();
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.open, stats.limit_pauses), (3, 3, 1));
    assert_eq!(stats.accept_pauses, 0);
    drop(clients.remove(0));
    assert_eq!(world.receive(&mut clients[2], 9), b"let me in");
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.peak_open), (4, 3));
}

#[test]
fn a_dial_beyond_the_limit_is_refused_with_its_session() {
    let mut world = World::with(Limits {
        max_connections: 1,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let options = ConnectOptions::new(address);
    world.context().connect(&options, 1).unwrap();
    let refused = world.context().connect(&options, 2).unwrap_err();
    let kind = refused.error.kind();
    assert_eq!((refused.session, kind), (2, ErrorKind::QuotaExceeded));
}

#[test]
fn a_dial_as_a_caller_is_let_in_does_not_take_the_caller_s_place() {
    let mut world = World::with(Limits {
        max_connections: 3,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    world.handler.accept = Some(Box::new(move |seen, context, _| {
        // The last place is the caller's own: with it, the dial would be one too many.
        seen.count += u64::from(context.connect(&ConnectOptions::new(address), 9).is_ok());
        Some(0)
    }));
    let _clients: Vec<_> = (0..4).map(|_| connect(address)).collect();
    world.until_opened(3);
    world.settle();
    assert_eq!(world.context().connections().count(), 3);
    assert_eq!((world.seen().count, world.stats().peak_open), (1, 3));
}

#[test]
fn a_handler_refuses_whom_it_does_not_want() {
    let mut world = World::new();
    world.handler.accept = Some(Box::new(|seen, _, caller| {
        assert!(caller.peer.socket_addr().unwrap().ip().is_loopback());
        seen.count += 1;
        (seen.count != 2).then_some(0)
    }));
    let (_, address) = world.listen();
    let mut clients: Vec<_> = (0..3).map(|_| connect(address)).collect();
    world.until_opened(2);
    let (bytes, _) = world.receive_to_end(&mut clients[1]);
    assert!(bytes.is_empty());
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.refused, stats.open), (2, 1, 2));
    assert!(world.seen().closed.is_empty());
}

#[test]
fn a_peer_that_sends_and_never_reads_is_held_back_and_costs_a_bounded_memory() {
    let limits = Limits {
        high_water: 32 << 10,
        low_water: 16 << 10,
        read_buffer: 16 << 10,
        ..Limits::default()
    };
    let most = limits.high_water + limits.read_buffer;
    let mut world = World::with(limits);
    world.handler.forgetful = true;
    let (_, address) = world.listen_with(&narrow());
    let mut greedy = connect(address);
    let mut other = connect(address);
    world.until_opened(2);
    // It sends until nothing moves any more: its server has stopped reading.
    let mut still = 0;
    while still < 20 {
        let before = world.stats().bytes_in;
        let sent = write_until_blocked(&mut greedy);
        world.turn();
        let stats = world.stats();
        assert!(stats.pending <= most as u64, "{} pending", stats.pending);
        still = if sent == 0 && stats.bytes_in == before {
            still + 1
        } else {
            0
        };
    }
    assert!(world.stats().pressure_pauses > 0);
    // The others are served as if nothing were the matter.
    for _ in 0..10 {
        assert_eq!(world.exchange(&mut other, b"ping"), b"ping");
    }
    // And when it reads at last, it gets everything.
    let count = world.stats().bytes_in as usize;
    assert_eq!(world.receive(&mut greedy, count).len(), count);
}

#[test]
fn a_peer_that_is_written_to_and_never_reads_is_cut_off_at_the_cap() {
    let mut world = World::with(Limits {
        max_output: 200_000,
        ..Limits::default()
    });
    world.handler.open = Some(Box::new(|_, connection| {
        connection.context().timer(Duration::ZERO, 0);
    }));
    world.handler.timer = Some(Box::new(|seen, context, _| {
        if let Some(mut connection) = context.connection(seen.opened[0]) {
            connection.write(&[0; 1000]);
            assert!(connection.pending() < 201_000);
            context.timer(Duration::ZERO, 0);
        }
    }));
    let (_, address) = world.listen_with(&narrow());
    let mut client = connect(address);
    assert_eq!(world.until_closed(1), CloseReason::OutputOverflow);
    // A stream that was cut must not look like a whole one.
    let (_, end) = world.receive_to_end(&mut client);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let mut world = World::with(Limits {
        idle_timeout: Some(Duration::from_millis(300)),
        ..Limits::default()
    });
    let mut idle = world.client();
    let mut busy = world.client();
    let mut patient = world.client();
    let ids = world.seen().opened.clone();
    let mut connection = world.connection(ids[2]).unwrap();
    connection.set_idle_timeout(None);
    let start = Instant::now();
    while world.seen().closed.is_empty() {
        assert!(start.elapsed() < PATIENCE);
        assert_eq!(world.exchange(&mut busy, b"x"), b"x");
    }
    assert!(
        start.elapsed() >= Duration::from_millis(250),
        "closed early"
    );
    assert_eq!(world.receive_to_end(&mut idle).0, b"");
    drop((idle, busy));
    world.until_closed(2);
    let closed = world.seen().closed.clone();
    assert_eq!(
        (closed[0].0, closed[0].2),
        (ids[0], CloseReason::IdleTimeout)
    );
    assert_eq!((closed[1].0, closed[1].2), (ids[1], CloseReason::Finished));
    assert_eq!(world.exchange(&mut patient, b"still here"), b"still here");
}

#[test]
fn a_connection_that_was_idle_for_too_long_has_the_last_word_and_nobody_else_gets_it() {
    let mut world = World::new();
    let mut clients: Vec<_> = (0..4).map(|_| world.client()).collect();
    // The second one breaks its goodbye off: neither the one before nor the one behind may get what
    // it had said of it.
    world.handler.closing = Some(Box::new(|seen, connection| {
        connection.write(b"goodbye");
        if connection.id() == seen.opened[1] {
            connection.abort(CloseReason::Aborted);
        }
    }));
    let opened = world.seen().opened.clone();
    for &id in &opened {
        let mut connection = world.connection(id).unwrap();
        connection.set_idle_timeout(Some(Duration::from_millis(10)));
    }
    // The last one has finished before, with nothing left to say.
    world.context().connection(opened[3]).unwrap().finish();
    let mut ends = Vec::new();
    for client in &mut clients {
        let (bytes, end) = world.receive_to_end(client);
        ends.push((bytes, end.map_err(|error| error.kind())));
    }
    assert_eq!(ends[0], (b"goodbye".to_vec(), Ok(())));
    assert_eq!(ends[1], (vec![], Err(ErrorKind::ConnectionReset)));
    assert_eq!(ends[2], (b"goodbye".to_vec(), Ok(())));
    assert_eq!(ends[3], (vec![], Ok(())));
    drop(clients);
    world.until_closed(4);
    let mut closing = world.seen().closing.clone();
    closing.sort_by_key(|closing| closing.0);
    let told = |id| (id, CloseReason::IdleTimeout);
    assert_eq!(closing, [0, 1, 2].map(|place: usize| told(opened[place])));
}

#[test]
fn a_connection_that_is_only_written_to_is_not_idle() {
    const IDLE: Duration = Duration::from_millis(400);
    let mut world = World::with(Limits {
        idle_timeout: Some(IDLE),
        ..Limits::default()
    });
    world.handler.open = Some(Box::new(|_, connection| {
        connection.context().timer(Duration::from_millis(20), 0);
    }));
    world.handler.timer = Some(Box::new(|seen, context, _| {
        if let Some(mut connection) = context.connection(seen.opened[0]) {
            connection.write(b"tick");
            context.timer(Duration::from_millis(20), 0);
        }
    }));
    let mut client = world.client();
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    let mut last = start;
    client.set_nonblocking(true).unwrap();
    while start.elapsed() < 3 * IDLE {
        let ticks = world.seen().timers.len();
        world.until("the next tick", |world| {
            world.handler.seen.timers.len() > ticks || !world.handler.seen.closed.is_empty()
        });
        let mut bytes = Vec::new();
        read_some(&mut client, &mut bytes, 1 << 10).unwrap();
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if !world.seen().closed.is_empty() {
            break;
        }
    }
    // On a machine that stood still for so long the timeout would be right.
    if longest < IDLE / 2 {
        assert_eq!(world.seen().closed, []);
    }
}

#[test]
fn an_idle_connection_with_output_that_nobody_reads_comes_to_an_end() {
    let mut world = World::with(Limits {
        idle_timeout: Some(Duration::from_millis(100)),
        write_timeout: Some(Duration::from_secs(3600)),
        ..Limits::default()
    });
    world.handler.open = Some(Box::new(|_, connection| {
        connection.write(&[0; 10 << 20]);
    }));
    let (_, address) = world.listen_with(&narrow());
    let client = connect(address);
    assert_eq!(world.until_closed(1), CloseReason::IdleTimeout);
    drop(client);
}

#[test]
fn a_peer_that_stops_reading_runs_into_the_write_timeout() {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let mut world = World::with(Limits {
        write_timeout: Some(TIMEOUT),
        ..Limits::default()
    });
    world.handler.open = Some(Box::new(|_, connection| {
        assert_eq!(connection.write(&[0; 15 << 20]), Pressure::High);
    }));
    let (_, address) = world.listen_with(&narrow());
    let mut client = connect(address);
    client.set_nonblocking(true).unwrap();
    // As long as it reads, however slowly, its time begins anew.
    let start = Instant::now();
    let mut last = start;
    let mut longest = Duration::ZERO;
    let mut buffer = [0; 16 << 10];
    while start.elapsed() < 3 * TIMEOUT {
        world.turn();
        if last.elapsed() > Duration::from_millis(10) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            let _some_or_none = client.read(&mut buffer);
        }
    }
    // On a machine that stood still for so long the timeout would be right.
    if longest < TIMEOUT / 2 {
        assert_eq!(world.seen().closed, []);
    }
    let pending = world.stats().pending;
    assert_eq!(world.until_closed(1), CloseReason::WriteTimeout);
    assert!(world.stats().dropped >= 1 && pending > 0);
    let (_, end) = world.receive_to_end(&mut client);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_peer_that_stops_reading_runs_into_the_write_timeout_though_more_is_written_to_it() {
    let mut world = World::with(Limits {
        write_timeout: Some(Duration::from_secs(3)),
        ..Limits::default()
    });
    world.handler.open = Some(Box::new(|_, connection| {
        connection.write(&[0; 8 << 20]);
        connection.context().timer(Duration::from_millis(10), 0);
    }));
    world.handler.timer = Some(Box::new(|seen, context, _| {
        if let Some(mut connection) = context.connection(seen.opened[0]) {
            connection.write(b"and more");
            assert!(seen.timers.len() < 1000, "ten seconds, and no timeout");
            context.timer(Duration::from_millis(10), 0);
        }
    }));
    let (_, address) = world.listen_with(&narrow());
    let client = connect(address);
    assert_eq!(world.until_closed(1), CloseReason::WriteTimeout);
    drop(client);
}

#[test]
fn output_that_comes_in_the_turn_in_which_a_deadline_is_looked_at_is_new() {
    let mut world = World::with(Limits {
        write_timeout: Some(Duration::from_millis(50)),
        ..Limits::default()
    });
    world.handler.data = Some(Box::new(|seen, connection, data| {
        let other = connection.context().connection(seen.opened[1]);
        other.unwrap().write(data);
        data.len()
    }));
    let (mut one, mut other) = (world.client(), world.client());
    let id = world.seen().opened[1];
    let mut connection = world.connection(id).unwrap();
    connection.set_idle_timeout(Some(Duration::from_millis(100)));
    // Past the other's idle timeout, and far past the write timeout of a connection that has
    // written nothing yet. The reactor sees both at once: the time, and the words that one has for
    // the other.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(120) {
        std::hint::spin_loop();
    }
    one.write_all(b"in time").unwrap();
    world.turn();
    assert_eq!(world.seen().closed, []);
    assert_eq!(world.receive(&mut other, 7), b"in time");
}

#[test]
fn a_closed_connection_does_not_wait_for_ever_for_a_peer_that_stays() {
    let mut world = World::with(Limits {
        linger_timeout: Duration::from_millis(50),
        ..Limits::default()
    });
    world.handler.data = Some(Box::new(|_, connection, _| {
        connection.write(b"bye");
        connection.close(CloseReason::Other(1));
        1
    }));
    let mut client = world.client();
    client.write_all(b"x").unwrap();
    assert_eq!(world.until_closed(1), CloseReason::Other(1));
    assert_eq!(world.receive_to_end(&mut client).0, b"bye");
}

#[test]
fn a_closed_connection_throws_away_no_more_than_its_bound() {
    let mut world = World::with(Limits {
        linger_bytes: 100_000,
        linger_timeout: PATIENCE,
        ..Limits::default()
    });
    world.handler.open = Some(Box::new(|_, connection| {
        connection.close(CloseReason::Other(1));
    }));
    let (_, address) = world.listen();
    let mut client = connect(address);
    client.set_nonblocking(true).unwrap();
    world.until("the flood has ended the connection", |world| {
        // Reset at the end, and until then it takes what it's sent.
        let _taken_or_not = client.write(&[0; 16 << 10]);
        !world.handler.seen.closed.is_empty()
    });
    let discarded = world.stats().discarded;
    assert!((100_000..300_000).contains(&discarded), "{discarded} bytes");
}

#[test]
fn the_pending_output_of_all_together_is_bounded() {
    let limits = Limits {
        max_pending: 100_000,
        read_buffer: 16 << 10,
        high_water: 1 << 20,
        ..Limits::default()
    };
    // Each may overshoot by one read, which it makes while it has nothing pending of its own.
    let most = limits.max_pending + 20 * limits.read_buffer;
    let mut world = World::with(limits);
    world.handler.forgetful = true;
    let (_, address) = world.listen_with(&narrow());
    let mut clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
    world.until_opened(20);
    let mut still = 0;
    while still < 10 {
        let before = world.stats().bytes_in;
        for client in &mut clients {
            write_until_blocked(client);
        }
        world.turn();
        let stats = world.stats();
        assert!(stats.pending <= most as u64, "{} pending", stats.pending);
        still = if stats.bytes_in == before {
            still + 1
        } else {
            0
        };
    }
    // Far below their own marks, and it is told why they stand.
    assert_eq!(world.stats().pressure_pauses, 0);
    assert!(world.stats().pending_pauses >= 1);
    let mut last = connect(address);
    assert_eq!(world.exchange(&mut last, b"ping"), b"ping");
    for client in &mut clients {
        assert!(!world.receive(client, 1000).is_empty());
    }
}

#[test]
fn who_does_not_read_to_the_end_is_idle_in_the_end_where_no_write_timeout_bounds_that() {
    // Both sides have finished; the peer acknowledges nothing, for its window is full.
    let mut world = World::with(Limits {
        write_timeout: None,
        idle_timeout: Some(Duration::from_millis(300)),
        ..Limits::default()
    });
    world.handler.data = Some(Box::new(|_, connection, data| {
        connection.write(&[7; 300_000]);
        data.len()
    }));
    let (_, address) = world.listen_with(&ListenOptions {
        send_buffer: Some(4 << 20),
        ..ListenOptions::new(([127, 0, 0, 1], 0))
    });
    let client = connect(address);
    (&client).write_all(b"go").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    // mio's poll(2) backend does not tell of the last acknowledgement, and nobody waits for it.
    let reason = match cfg!(mio_unsupported_force_poll_poll) {
        true => CloseReason::Finished,
        false => CloseReason::IdleTimeout,
    };
    assert_eq!(world.until_closed(1), reason);
}

#[test]
fn a_deadline_given_between_two_turns_counts_from_when_it_is_given() {
    let mut world = World::new();
    // The reactor has not looked at the clock for longer than the deadlines that it's given now.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(100) {
        std::hint::spin_loop();
    }
    let set = Instant::now();
    world.context().timer(Duration::from_millis(50), 1);
    world.until("the timer fires", |world| {
        !world.handler.seen.timers.is_empty()
    });
    assert!(set.elapsed() >= Duration::from_millis(50), "fired early");
}

/// Descriptors that the starved server may have.
const DESCRIPTORS: usize = 60;
const STARVED: &str = "OREAD_TEST_STARVED";

/// Not a test by itself: the server of the next one, in a process of its own because its limit on
/// descriptors is.
#[test]
fn starved_server() {
    if std::env::var_os(STARVED).is_none() {
        return;
    }
    let mut world = World::new();
    world.handler.forgetful = true;
    // Descriptors that the program has beside the reactor, and gives back without its knowing.
    let null = || std::fs::File::open("/dev/null").unwrap();
    let mut spare: Vec<_> = (0..10).map(|_| null()).collect();
    world.handler.data = Some(Box::new(move |_, connection, data| {
        if data == b"!" {
            spare.clear();
        }
        if data == b"?" {
            let stats = connection.context().stats();
            let line = format!("{} {} {}\n", stats.open, stats.accept_pauses, stats.polls);
            connection.write(line.as_bytes());
        } else {
            connection.write(data);
        }
        data.len()
    }));
    let at: Address = std::env::var(STARVED).unwrap().parse().unwrap();
    let id = world.context().listen(&ListenOptions::new(at)).unwrap();
    let address = world.context().listener_addr(id).unwrap();
    println!("LISTENING {address}");
    world.reactor.run(&mut world.handler).unwrap();
}

/// A server with few descriptors, and a connection to ask it how it is.
struct Starved {
    child: Child,
    address: Address,
    control: BufReader<TcpStream>,
}

impl Starved {
    fn start(at: &str) -> Starved {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\""))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "starved_server", "--nocapture"])
            .env(STARVED, at)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "no address");
            if let Some((_, address)) = line.split_once("LISTENING ") {
                break address.trim().parse().unwrap();
            }
        };
        Starved {
            child,
            control: BufReader::new(connect_to(&address)),
            address,
        }
    }

    /// Its open connections, its pauses for want of descriptors, and its polls.
    fn ask(&mut self) -> (usize, u64, u64) {
        self.control.get_mut().write_all(b"?").unwrap();
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        let mut numbers = line.split_whitespace().map(|n| n.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        (next() as usize, next(), next())
    }

    /// Asserts that being full costs it nothing: it polls a few times in a second, not all the
    /// time.
    fn assert_at_rest(&mut self) {
        let before = self.ask().2;
        // A measure, not a condition: how often it wakes in this time.
        std::thread::sleep(Duration::from_secs(1));
        let polls = self.ask().2 - before;
        assert!(polls < 50, "{polls} polls in a second of being full");
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_server_out_of_descriptors_finds_out_by_itself_when_there_are_some() {
    let mut server = Starved::start("127.0.0.1:0");
    let callers = (0..DESCRIPTORS).map(|_| connect_to(&server.address));
    let mut callers: Vec<_> = callers.collect();
    let deadline = Instant::now() + PATIENCE;
    let full = loop {
        assert!(Instant::now() < deadline, "it's never full");
        let (open, pauses, _) = server.ask();
        if pauses > 0 {
            break open;
        }
    };
    // Nobody leaves, and no event tells.
    server.control.get_mut().write_all(b"!").unwrap();
    server.control.read_exact(&mut [0]).unwrap();
    while server.ask().0 < full + 10 {
        assert!(Instant::now() < deadline, "it's not tried again");
    }
    callers[full].write_all(b"in").unwrap();
    callers[full].read_exact(&mut [0; 2]).unwrap();
}

#[test]
fn a_server_out_of_descriptors_answers_all_who_got_in_rests_and_lets_the_others_in_as_they_leave() {
    come_and_go("127.0.0.1:0");
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_at_a_unix_socket_that_is_out_of_descriptors_does_so_too() {
    come_and_go("unix:");
}

/// More callers than a server at this address has descriptors for.
fn come_and_go(at: &str) {
    const CALLERS: usize = 150;
    let mut server = Starved::start(at);
    let mut waiting: Vec<(TcpStream, Vec<u8>)> = Vec::new();
    for _ in 0..CALLERS {
        let mut client = connect_to(&server.address);
        client.write_all(b"hello").unwrap();
        client.set_nonblocking(true).unwrap();
        waiting.push((client, Vec::new()));
    }
    let mut served: Vec<TcpStream> = Vec::new();
    let mut rested = false;
    let mut left = 0;
    let deadline = Instant::now() + PATIENCE;
    while left + served.len() < CALLERS {
        assert!(
            Instant::now() < deadline,
            "{} are still waiting",
            waiting.len()
        );
        for (client, bytes) in &mut waiting {
            assert!(!read_some(client, bytes, 5).unwrap());
        }
        for (client, bytes) in std::mem::take(&mut waiting) {
            if bytes == b"hello" {
                served.push(client);
            } else {
                waiting.push((client, bytes));
            }
        }
        let (open, pauses, _) = server.ask();
        // Full, and all who got in are answered.
        if pauses > 0 && open == served.len() + 1 && !waiting.is_empty() {
            if !rested {
                assert!((20..DESCRIPTORS - 10).contains(&open), "{open} are open");
                server.assert_at_rest();
                rested = true;
            } else if waiting.len() == 20 {
                // A hundred have come and gone meanwhile, and none of those changes has left a
                // wake-up behind.
                server.assert_at_rest();
            }
            left += 1;
            served.pop();
        }
    }
    assert!(rested, "it was never full");
    drop(served);
    let mut late = connect_to(&server.address);
    late.write_all(&pattern(100)).unwrap();
    let mut bytes = [0; 100];
    late.read_exact(&mut bytes).unwrap();
    assert!(bytes[..] == pattern(100));
}
