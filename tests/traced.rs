//! What the log says at its finest level of what a reactor does: each event, each call that moves
//! bytes, what becomes of connections, and what comes without an event; by whom each line is.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/hosts.rs"]
mod hosts;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use oread::sim::{Fault, Host, World};
use oread::{CloseReason, ConnectOptions, Limits, UdpOptions};

use acting::Acting;
use hosts::{SECOND, address, listening};

/// All lines so far, each test's own.
struct Lines;

thread_local! {
    static LOOKS: Cell<bool> = const { Cell::new(false) };
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        LOOKS.get()
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// From now on somebody looks.
fn look() {
    // Another test may have been the first.
    let _ = log::set_logger(&Lines);
    log::set_max_level(LevelFilter::Trace);
    LOOKS.set(true);
}

/// The lines since this was last asked for, without the numbers of turns.
fn lines() -> Vec<String> {
    let short = |line: String| match line.split_once(": ") {
        Some((turn, rest)) if turn.starts_with("turn ") => rest.to_owned(),
        _ => line,
    };
    LINES.take().into_iter().map(short).collect()
}

/// Lets the world go on for a second, and gives the lines of that.
fn lines_of_a_second(world: &mut World, host: &mut Host<Acting>) -> Vec<String> {
    world.advance(host, SECOND).unwrap();
    lines()
}

#[track_caller]
fn assert_tells(lines: &[String], expected: &str) {
    assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
}

#[test]
fn each_event_each_call_and_what_comes_of_it_stand_in_the_log_while_somebody_looks() {
    let mut world = World::new(1);
    let answers = Acting::default().on_data(|connection, data| {
        connection.write(b"fine");
        if data == b"bye" {
            connection.abort(CloseReason::Other(7));
        }
        data.len()
    });
    let mut host = listening(&mut world, answers, Limits::default());
    let peer = world.connect(address());
    peer.send(b"how are you");
    assert_eq!(
        lines_of_a_second(&mut world, &mut host),
        [""; 0],
        "though nobody looks"
    );
    look();
    peer.send(b"how are you");
    let expected = [
        "Connection 0:1: {READABLE, WRITABLE}",
        "  0:1 read: 11 bytes",
        "  0:1 is shown 11 bytes",
        "  0:1 write 4: took 4",
        "  0:1 waits for an event",
    ];
    assert_eq!(lines_of_a_second(&mut world, &mut host), expected);
    world.fault(Fault::ReadBlocked, 1);
    peer.send(b"bye");
    let told = lines_of_a_second(&mut world, &mut host);
    assert_tells(&told, "  0:1 read: not now");
    assert_tells(&told, "  0:1 is cut off: the handler's reason 7");
    assert_tells(&told, "  0:1 is closed: the handler's reason 7");
    assert_eq!(peer.received(), b"finefine");
}

#[test]
fn what_is_written_to_another_connection_is_told_of_that_one_wherever_it_goes_out() {
    let mut world = World::new(1);
    let tells_all = Acting::default().on_data(|connection, data| {
        let size = if data == b"small" { 5 } else { 20_000 };
        let (id, context) = (connection.id(), connection.context());
        context.for_each(|other| {
            if other.id() != id {
                other.write(&vec![b'o'; size]);
            }
        });
        // Large ones go out at once.
        connection.write(&[b'x'; 30_000]);
        data.len()
    });
    let mut host = listening(&mut world, tells_all, Limits::default());
    let mut connect = || {
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        peer
    };
    let [speaker, reader] = [connect(), connect()];
    look();
    let writes = |told: &[String], what: &str| {
        let writes = told.iter().filter(|line| line.contains(what));
        writes.cloned().collect::<Vec<_>>()
    };
    let own = "  0:1 write 30000: took 30000";
    speaker.send(b"small");
    let told = lines_of_a_second(&mut world, &mut host);
    assert_eq!(writes(&told, "write"), [own, "  1:2 write 5: took 5"]);
    speaker.send(b"large");
    let told = lines_of_a_second(&mut world, &mut host);
    let told = writes(&told, "write");
    assert!(told[0].starts_with("  1:2 write 20000: took "), "{told:?}");
    assert_eq!(told[1], own);
    reader.stop_reading();
    world.fault(Fault::WriteBlocked, 1);
    let mut told = Vec::new();
    while !told.iter().any(|line: &String| line.contains("high water")) {
        speaker.send(b"large");
        told.extend(lines_of_a_second(&mut world, &mut host));
    }
    let blocked = writes(&told, "not now");
    assert_eq!(blocked, ["  1:2 write 20000: not now"]);
    let paused = writes(&told, "high water");
    assert!(
        paused[0].starts_with("  1:2 is paused: high water, "),
        "{paused:?}"
    );
    // When it reads again, what is pending goes out by itself.
    reader.start_reading();
    let told = lines_of_a_second(&mut world, &mut host);
    let writes = writes(&told, "write");
    let is_its = |line: &String| line.starts_with("  1:2 ");
    assert!(!writes.is_empty() && writes.iter().all(is_its), "{told:#?}");
    assert_tells(&told, "  1:2 is told that its output has drained");
}

#[test]
fn callers_dials_timers_messages_datagrams_and_deadlines_are_told() {
    let mut world = World::new(1);
    look();
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    host.handler.refuses = true;
    let refused = world.connect(address());
    let told = lines_of_a_second(&mut world, &mut host);
    let refused = refused.local_addr().unwrap();
    assert_tells(&told, &format!("  {refused} is refused"));
    host.handler.refuses = false;
    let caller = world.connect(address());
    let told = lines_of_a_second(&mut world, &mut host);
    assert_tells(&told, "Listener 0:1: {READABLE}");
    let caller = caller.local_addr().unwrap();
    assert_tells(&told, &format!("  0:1 is open to {caller}"));

    let there = ([10, 0, 0, 2], 80).into();
    let _listener = world.listen(there);
    let mut context = host.context();
    context.connect(&ConnectOptions::new(there), ()).unwrap();
    context.timer(Duration::from_millis(500), 7);
    let socket = context.bind_udp(&UdpOptions::new(address())).unwrap();
    host.handle().send(3).unwrap();
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    peer.send_to(address(), b"hello");
    let told = lines_of_a_second(&mut world, &mut host);
    assert_tells(&told, "  1:2 dials 10.0.0.2:80");
    assert_tells(&told, "  1:2 is open");
    let timer = "  timer 7 fires, ";
    assert!(told.iter().any(|line| line.starts_with(timer)), "{told:#?}");
    assert_tells(&told, "  a message");
    assert_tells(&told, "  socket 0:1: 5 bytes from 10.0.0.9:5000");
    assert_tells(&told, "  socket 0:1: 5 bytes to 10.0.0.9:5000: Sent");

    world.fault(Fault::SendNoBuffers, 1);
    host.context().send_to(socket, peer.local_addr(), b"");
    for id in host.context().connections().collect::<Vec<_>>() {
        let mut connection = host.connection(id).unwrap();
        connection.pause();
        connection.set_idle_timeout(Some(Duration::from_millis(10)));
    }
    let told = lines_of_a_second(&mut world, &mut host);
    assert_tells(&told, "  socket 0:1: 0 bytes to 10.0.0.9:5000: Blocked");
    assert_tells(&told, "  socket 0:1 may have room");
    for id in ["0:1", "1:2"] {
        assert_tells(&told, &format!("  {id} pauses"));
        assert_tells(
            &told,
            &format!("  {id} is late: {}", CloseReason::IdleTimeout),
        );
    }
}
