//! Connections over real sockets: what is sent comes back whole, and every end is orderly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use common::{PATIENCE, Probe, World, connect, loopback, pattern, reset, write_until_blocked};
use oread::{CloseReason, ConnectOptions, Ended, Limits, ListenOptions, Pressure};

#[cfg(target_os = "linux")]
#[test]
fn bytes_around_an_urgent_one_are_all_echoed() {
    use nix::sys::socket::{MsgFlags, send};
    use std::os::fd::AsRawFd;

    for turns_between in [false, true] {
        let mut world = World::new();
        let mut client = world.client();
        client.write_all(b"0123456789").unwrap();
        if turns_between {
            world.settle();
        }
        assert_eq!(send(client.as_raw_fd(), b"!", MsgFlags::MSG_OOB), Ok(1));
        if turns_between {
            world.settle();
        }
        client.write_all(b"abcdefghij").unwrap();
        assert_eq!(world.receive(&mut client, 20), b"0123456789abcdefghij");
        // The readiness that urgent data left behind must not stick: the connection goes on as any
        // other.
        assert_eq!(world.exchange(&mut client, b"and on"), b"and on");
    }
}

#[test]
fn data_and_the_end_in_one_event_are_both_seen() {
    let mut world = World::new();
    let (_, address) = world.listen();
    let mut client = connect(address);
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (bytes, end) = world.receive_to_end(&mut client);
    assert_eq!(bytes, b"hello");
    end.unwrap();
    assert_eq!(world.until_closed(1), CloseReason::Finished);
}

#[test]
fn data_and_the_end_that_came_during_a_pause_are_seen_after_it() {
    let mut world = World::new();
    world.handler.open = Some(Box::new(|_, connection| connection.pause()));
    let mut client = world.client();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    world.settle();
    assert_eq!(world.seen().bytes, b"");
    let id = world.seen().opened[0];
    world.context().connection(id).unwrap().resume();
    let (bytes, end) = world.receive_to_end(&mut client);
    assert_eq!(bytes, b"hello");
    end.unwrap();
    assert_eq!(world.until_closed(1), CloseReason::Finished);
}

#[test]
fn a_hundred_megabytes_come_back_whole_to_a_client_that_reads_late_and_finishes_early() {
    const TOTAL: usize = 100_000_000;
    const BLOCK: usize = 64 << 10;
    let mut world = World::new();
    world.handler.forgetful = true;
    let (_, address) = world.listen();
    let client = connect(address);
    let mut sender = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let pattern = pattern(BLOCK + 251);
        let mut sent = 0;
        while sent < TOTAL {
            let count = BLOCK.min(TOTAL - sent);
            sender
                .write_all(&pattern[sent % 251..sent % 251 + count])
                .unwrap();
            sent += count;
        }
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let (start, started) = mpsc::channel();
    let receiving = std::thread::spawn(move || {
        let mut client = client;
        let pattern = pattern(BLOCK + 251);
        let mut buffer = vec![0; BLOCK];
        let mut got = 0;
        started.recv().unwrap();
        loop {
            // Small bites at first, so that the server has to stop and go on many times.
            let bite = if got < 200_000 { 100 } else { BLOCK };
            let count = client.read(&mut buffer[..bite]).unwrap();
            if count == 0 {
                return got;
            }
            let expected = &pattern[got % 251..got % 251 + count];
            assert!(buffer[..count] == *expected, "wrong bytes after {got}");
            got += count;
        }
    });
    world.until("the server stops reading", |world| {
        world.stats().pressure_pauses > 0
    });
    start.send(()).unwrap();
    assert_eq!(world.until_closed(1), CloseReason::Finished);
    sending.join().unwrap();
    assert_eq!(receiving.join().unwrap(), TOTAL);
    let stats = world.stats();
    assert_eq!(
        (stats.bytes_in, stats.bytes_out),
        (TOTAL as u64, TOTAL as u64)
    );
}

#[test]
fn a_handler_that_does_not_finish_at_the_peers_end_goes_on_sending() {
    let mut world = World::new();
    world.handler.eof = Some(Box::new(|_, connection| {
        connection.context().timer(Duration::from_millis(1), 0);
    }));
    world.handler.timer = Some(Box::new(|seen, context, round| {
        let mut connection = context.connection(seen.opened[0]).unwrap();
        connection.write(format!("{round} ").as_bytes());
        if round == 9 {
            connection.finish();
        } else {
            context.timer(Duration::from_millis(1), round + 1);
        }
    }));
    let mut client = world.client();
    client.shutdown(Shutdown::Write).unwrap();
    let (bytes, end) = world.receive_to_end(&mut client);
    assert_eq!(bytes, b"0 1 2 3 4 5 6 7 8 9 ");
    end.unwrap();
    assert_eq!(world.until_closed(1), CloseReason::Finished);
}

#[test]
fn a_reset_after_the_peers_end_is_found_though_nothing_is_written() {
    let mut world = World::new();
    world.handler.eof = Some(Box::new(|_, _| {}));
    // Once when the end is known, once in the same event as it.
    for wait in [true, false] {
        let closed = world.seen().closed.len();
        let client = world.client();
        client.shutdown(Shutdown::Write).unwrap();
        if wait {
            let ends = world.seen().rests.len();
            world.until("the end is told", |w| w.handler.seen.rests.len() > ends);
        }
        reset(client);
        assert_eq!(world.until_closed(closed + 1), CloseReason::Reset);
    }
    assert_eq!(world.seen().rests.len(), 2);
}

#[test]
fn a_handler_that_has_yet_to_answer_a_finished_peer_learns_of_its_reset() {
    let mut world = World::new();
    world.handler.eof = Some(Box::new(|_, _| {}));
    let client = world.client();
    client.shutdown(Shutdown::Write).unwrap();
    world.until("the end is told", |world| {
        !world.handler.seen.rests.is_empty()
    });
    reset(client);
    assert_eq!(world.until_closed(1), CloseReason::Reset);
}

#[test]
fn a_close_with_unread_input_does_not_cost_the_client_its_last_reply() {
    // The size with which a plain close was seen to lose all but 4,096 bytes.
    const REPLY: usize = 401_408;
    let mut world = World::new();
    world.handler.data = Some(Box::new(|_, connection, _| {
        connection.write(&pattern(REPLY));
        connection.close(CloseReason::Closed);
        1
    }));
    let (_, address) = world.listen();
    let mut client = connect(address);
    let sent = write_until_blocked(&mut client);
    assert!(sent > 64 << 10, "only {sent} bytes could be left unread");
    let (bytes, end) = world.receive_to_end(&mut client);
    assert_eq!(bytes.len(), REPLY);
    assert!(bytes == pattern(REPLY));
    end.unwrap();
    drop(client);
    assert_eq!(world.until_closed(1), CloseReason::Closed);
}

#[test]
fn an_abort_reaches_the_client_as_a_reset() {
    let mut world = World::new();
    world.handler.data = Some(Box::new(|_, connection, data| {
        connection.write(b"never to be read");
        connection.abort(CloseReason::Aborted);
        assert_eq!(connection.write(b"nor this"), Pressure::Closed);
        data.len()
    }));
    let mut client = world.client();
    client.write_all(b"x").unwrap();
    let (_, end) = world.receive_to_end(&mut client);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(world.until_closed(1), CloseReason::Aborted);
}

/// One way for a connection to end: what the handler does with its first data, what the client
/// does, and the reason.
type Way = (
    fn(&mut oread::Connection<'_, u64>),
    fn(TcpStream),
    CloseReason,
);

fn ways() -> [Way; 10] {
    [
        (|_| {}, drop, CloseReason::Finished),
        (|_| {}, reset, CloseReason::Reset),
        (|c| c.finish(), drop, CloseReason::Finished),
        (
            |c| c.close(CloseReason::Closed),
            |_| {},
            CloseReason::Closed,
        ),
        (
            |c| c.close(CloseReason::Other(7)),
            |_| {},
            CloseReason::Other(7),
        ),
        (
            |c| {
                c.close(CloseReason::Other(1));
                c.close(CloseReason::Other(2));
                c.abort(CloseReason::Aborted);
            },
            |_| {},
            CloseReason::Other(1),
        ),
        (
            |c| c.abort(CloseReason::Aborted),
            |_| {},
            CloseReason::Aborted,
        ),
        (
            |c| c.set_idle_timeout(Some(Duration::from_millis(1))),
            std::mem::forget,
            CloseReason::IdleTimeout,
        ),
        (
            |c| {
                let most = c.context().limits().max_output;
                while c.write(&[0; 1 << 20]) != Pressure::Closed {
                    assert!(c.pending() < most + (1 << 20));
                }
            },
            std::mem::forget,
            CloseReason::OutputOverflow,
        ),
        (
            |c| c.context().drain(Duration::from_millis(50)),
            std::mem::forget,
            CloseReason::Cut,
        ),
    ]
}

#[test]
fn on_close_comes_exactly_once_and_with_the_reason_whatever_ends_a_connection() {
    for (number, (act, then, reason)) in ways().into_iter().enumerate() {
        // Where the drain is to cut, the peer's end must not be given up before.
        let cuts = reason == CloseReason::Cut;
        let linger = if cuts { 60_000 } else { 100 };
        let mut world = World::with(Limits {
            linger_timeout: Duration::from_millis(linger),
            ..Limits::default()
        });
        world.handler.accept = Some(Box::new(move |_, _, _| Some(number as u64)));
        world.handler.data = Some(Box::new(move |_, connection, data| {
            act(connection);
            data.len()
        }));
        let mut client = world.client();
        client.write_all(b"x").unwrap();
        world.until("the handler has acted", |world| {
            !world.handler.seen.bytes.is_empty()
        });
        then(client);
        world.until_closed(1);
        world.settle();
        let id = world.seen().opened[0];
        assert_eq!(world.seen().closed, [(id, number as u64, reason)]);
        let stats = world.stats();
        assert_eq!(stats.closed.of(reason), 1, "way {number}");
        assert_eq!((stats.open, stats.pending, stats.unconsumed), (0, 0, 0));
    }
}

#[test]
fn input_that_is_never_consumed_ends_at_its_maximum() {
    let mut world = World::with(Limits {
        max_input: 1000,
        ..Limits::default()
    });
    world.handler.data = Some(Box::new(|seen, _, data| {
        seen.count = seen.count.max(data.len() as u64);
        0
    }));
    let mut client = world.client();
    client.write_all(&[0; 5000]).unwrap();
    assert_eq!(world.until_closed(1), CloseReason::InputOverflow);
    assert!(world.stats().discarded > 0);
    assert_eq!(world.stats().unconsumed, 0);
}

#[test]
fn a_connection_may_be_closed_as_it_opens() {
    let mut world = World::new();
    world.handler.open = Some(Box::new(|_, connection| {
        connection.write(b"no room");
        connection.close(CloseReason::Other(3));
    }));
    let (_, address) = world.listen();
    let mut client = connect(address);
    let (bytes, end) = world.receive_to_end(&mut client);
    assert_eq!(bytes, b"no room");
    end.unwrap();
    drop(client);
    assert_eq!(world.until_closed(1), CloseReason::Other(3));
}

#[test]
fn callbacks_may_close_all_other_connections_and_no_callback_runs_inside_another() {
    let mut world = World::with(Limits {
        linger_bytes: 0,
        ..Limits::default()
    });
    world.handler.data = Some(Box::new(|seen, connection, data| {
        let id = connection.id();
        for other in seen.opened.iter().filter(|&&other| other != id) {
            let context = connection.context();
            if let Some(mut other) = context.connection(*other) {
                other.close(CloseReason::Other(1));
            }
        }
        data.len()
    }));
    world.handler.close = Some(Box::new(|seen, context, _| {
        // What is closed in `on_close`: whoever is left.
        if let Some(mut other) = context.connection(seen.opened[0]) {
            other.close(CloseReason::Other(2));
        }
    }));
    let (_, address) = world.listen();
    let mut clients: Vec<_> = (0..10).map(|_| connect(address)).collect();
    world.until_opened(10);
    let last = world.seen().opened[9];
    clients[0].write_all(b"x").unwrap();
    world.until_closed(10);
    world.settle();
    let closed = &world.seen().closed;
    assert_eq!(closed.len(), 10);
    let of = |number| {
        closed
            .iter()
            .filter(|c| c.2 == CloseReason::Other(number))
            .count()
    };
    assert_eq!((of(1), of(2)), (9, 1));
    assert!(closed.iter().any(|c| c.0 == last));
}

#[test]
fn a_connection_may_be_dialed_when_another_one_closes() {
    let mut world = World::new();
    let (_, address) = world.listen();
    world.handler.close = Some(Box::new(move |seen, context, _| {
        if seen.count < 3 {
            seen.count += 1;
            context
                .connect(&ConnectOptions::new(address), 100 + seen.count)
                .unwrap();
        }
    }));
    world.handler.open = Some(Box::new(|_, connection| {
        if *connection.session() > 100 {
            connection.finish();
        }
    }));
    drop(connect(address));
    // The client's connection, and then a pair for each dial. Each close of a pair may dial the
    // next one.
    world.until_closed(7);
    world.settle();
    assert_eq!(world.seen().closed.len(), 7);
    let mut dialed: Vec<u64> = world.seen().closed.iter().map(|c| c.1).collect();
    dialed.sort_unstable();
    assert_eq!(dialed, [0, 0, 0, 0, 101, 102, 103]);
}

#[test]
fn what_one_client_says_reaches_all_in_order() {
    const ROUNDS: usize = 50;
    let mut world = World::new();
    world.handler.data = Some(Box::new(|seen, connection, data| {
        // To itself in the middle of the others: each gets the same bytes in the same order.
        for id in seen.opened.clone() {
            if let Some(mut other) = connection.context().connection(id) {
                other.write(data);
            }
        }
        data.len()
    }));
    let (_, address) = world.listen();
    let mut clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
    world.until_opened(20);
    let mut said = Vec::new();
    for round in 0..ROUNDS {
        let line = format!("line {round}\n");
        clients[round % 20].write_all(line.as_bytes()).unwrap();
        said.extend_from_slice(line.as_bytes());
        world.until("the line is heard", |world| {
            world.handler.seen.bytes.len() >= said.len()
        });
    }
    for client in &mut clients {
        assert_eq!(world.receive(client, said.len()), said);
    }
}

#[test]
fn writes_from_outside_a_callback_go_out_before_the_next_poll() {
    let mut world = World::new();
    let mut client = world.client();
    let id = world.seen().opened[0];
    let mut connection = world.connection(id).unwrap();
    connection.write(b"one ");
    connection.write_vectored(&[IoSlice::new(b"two "), IoSlice::new(b"three")]);
    assert_eq!(world.receive(&mut client, 13), b"one two three");
}

#[test]
fn what_is_large_goes_straight_from_one_connection_to_another() {
    const PIECE: usize = 40_000;
    let mut world = World::new();
    world.handler.forgetful = true;
    world.handler.data = Some(Box::new(|seen, connection, data| {
        if data.len() < PIECE {
            return 0;
        }
        let other = seen.opened[1];
        let before = connection.context().stats().bytes_out;
        let mut other = connection.context().connection(other).unwrap();
        assert_eq!(other.write(data), Pressure::Low);
        assert_eq!(other.pending(), 0);
        let sent = connection.context().stats().bytes_out - before;
        assert_eq!(sent, data.len() as u64);
        data.len()
    }));
    let (_, address) = world.listen();
    let mut from = connect(address);
    world.until_opened(1);
    let mut to = connect(address);
    world.until_opened(2);
    from.write_all(&pattern(PIECE)).unwrap();
    assert!(world.receive(&mut to, PIECE) == pattern(PIECE));
}

#[test]
fn a_session_writes_into_its_own_connection() {
    let mut world = World::new();
    world.handler.data = Some(Box::new(|_, connection, data| {
        let (session, mut output) = connection.split();
        *session += 1;
        assert_eq!(write!(output, "{session}: "), Pressure::Low);
        output.write_all(data).unwrap();
        output.flush().unwrap();
        data.len()
    }));
    let mut client = world.client();
    client.write_all(b"a").unwrap();
    assert_eq!(world.receive(&mut client, 4), b"1: a");
    client.write_all(b"b").unwrap();
    assert_eq!(world.receive(&mut client, 4), b"2: b");
    let id = world.seen().opened[0];
    let mut connection = world.connection(id).unwrap();
    let (_, mut output) = connection.split();
    output.write_all(b" outside").unwrap();
    connection.finish();
    let (_, mut output) = connection.split();
    assert_eq!(
        output.write_all(b"late").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    assert_eq!(world.receive_to_end(&mut client).0, b" outside");
}

#[test]
fn formatted_text_is_written_in_its_place_and_says_how_the_output_stands() {
    struct Half;
    impl std::fmt::Display for Half {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("half")?;
            Err(std::fmt::Error)
        }
    }
    let mut world = World::new();
    world.handler.data = Some(Box::new(|_, connection, data| {
        connection.write(b"got ");
        let allocations = allocation_counter::measure(|| {
            let pressure = write!(connection, "{} bytes, {:?}", data.len(), Pressure::Low);
            assert_eq!(pressure, Pressure::Low);
        });
        assert_eq!(allocations.count_total, 0);
        connection.write(b".");
        data.len()
    }));
    let mut client = world.client();
    client.write_all(b"abc").unwrap();
    assert_eq!(world.receive(&mut client, 17), b"got 3 bytes, Low.");
    let id = world.seen().opened[0];
    let mut connection = world.connection(id).unwrap();
    assert_eq!(writeln!(connection, "{:1000}|", ""), Pressure::Low);
    write!(connection, "a {Half} is the end");
    assert_eq!(write!(connection, "{:65535}", ""), Pressure::Low);
    connection.finish();
    assert_eq!(write!(connection, "late"), Pressure::Closed);
    let (bytes, _) = world.receive_to_end(&mut client);
    let expected = format!("{:1000}|\na half{:65535}", "", "");
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn an_output_takes_all_parts_of_a_vectored_write_at_once() {
    let mut world = World::new();
    world.handler.data = Some(Box::new(|_, connection, data| {
        let parts = [b"".as_slice(), b"one ", b"", data, b" three"].map(IoSlice::new);
        let (_, mut output) = connection.split();
        assert_eq!(io::Write::write_vectored(&mut output, &parts).unwrap(), 13);
        connection.finish();
        let (_, mut output) = connection.split();
        let error = io::Write::write_vectored(&mut output, &parts).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        data.len()
    }));
    let mut client = world.client();
    client.write_all(b"two").unwrap();
    let (bytes, end) = world.receive_to_end(&mut client);
    assert_eq!(
        (bytes.as_slice(), end.is_ok()),
        (b"one two three".as_slice(), true)
    );
}

#[test]
fn a_large_write_is_whole_behind_a_small_one() {
    let mut world = World::new();
    world.handler.data = Some(Box::new(|_, connection, data| {
        connection.write(b"small ");
        connection.write(&pattern(3_000_000));
        assert_eq!(connection.write(b" small"), Pressure::High);
        data.len()
    }));
    let (_, address) = world.listen_with(&ListenOptions {
        send_buffer: Some(16 << 10),
        ..ListenOptions::new(loopback())
    });
    let mut client = connect(address);
    client.write_all(b"x").unwrap();
    let bytes = world.receive(&mut client, 3_000_012);
    assert!(bytes[..6] == *b"small " && bytes[3_000_006..] == *b" small");
    assert!(bytes[6..3_000_006] == pattern(3_000_000));
    world.settle();
    assert_eq!(world.seen().drained, 1);
}

#[test]
fn what_is_written_to_a_dial_before_it_is_established_arrives_first() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let mut world = World::new();
    world.handler.open = Some(Box::new(|_, connection| {
        connection.write(b"second");
    }));
    let options = ConnectOptions::new(listener.local_addr().unwrap());
    let id = world.context().connect(&options, 5).unwrap();
    let mut connection = world.connection(id).unwrap();
    assert!(!connection.is_open());
    assert_eq!(connection.write(b"first "), Pressure::Low);
    let (mut peer, _) = listener.accept().unwrap();
    assert_eq!(world.receive(&mut peer, 12), b"first second");
    assert_eq!(world.seen().opened, [id]);
    assert_eq!(world.exchange(&mut peer, b"and back"), b"and back");
    drop(peer);
    assert_eq!(world.until_closed(1), CloseReason::Finished);
    assert_eq!(world.seen().closed[0].1, 5);
    assert_eq!(world.stats().connected, 1);
}

#[test]
fn a_refused_dial_gives_its_session_back() {
    // A port that was just free, and that nobody listens on.
    let address = TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let mut world = World::new();
    match world.context().connect(&ConnectOptions::new(address), 42) {
        Ok(id) => {
            world.until("the dial has failed", |world| {
                !world.handler.seen.failed.is_empty()
            });
            assert_eq!(
                world.seen().failed,
                [(id, 42, ErrorKind::ConnectionRefused)]
            );
            assert_eq!(world.stats().connect_failed, 1);
        }
        // The system may know it at once.
        Err(refused) => {
            let kind = refused.error.kind();
            assert_eq!((refused.session, kind), (42, ErrorKind::ConnectionRefused));
        }
    }
    assert!(world.seen().opened.is_empty() && world.seen().closed.is_empty());
}

#[test]
fn a_dial_that_nobody_answers_fails_at_its_deadline() {
    // A listener that never accepts, with a backlog for one: the system drops further handshakes.
    let mut silent = World::new();
    let options = ListenOptions {
        backlog: 0,
        ..ListenOptions::new(loopback())
    };
    let (_, address) = silent.listen_with(&options);
    let mut world = World::new();
    let options = ConnectOptions {
        timeout: Some(Duration::from_millis(200)),
        ..ConnectOptions::new(address)
    };
    let mut dials = Vec::new();
    for session in 0..6 {
        dials.push(world.context().connect(&options, session).unwrap());
    }
    world.until("every dial has come to something", |world| {
        world.handler.seen.opened.len() + world.handler.seen.failed.len() == dials.len()
    });
    let failed = world.seen().failed.clone();
    assert!(!failed.is_empty(), "the backlog took all of them");
    for (id, session, kind) in failed {
        assert_eq!(kind, ErrorKind::TimedOut);
        assert_eq!(dials[session as usize], id);
    }
}

#[test]
fn a_dial_that_is_closed_before_it_is_established_has_failed() {
    let mut world = World::new();
    let (_, address) = world.listen();
    let options = ConnectOptions::new(address);
    let id = world.context().connect(&options, 9).unwrap();
    world
        .context()
        .connection(id)
        .unwrap()
        .close(CloseReason::Closed);
    assert!(world.context().connection(id).is_none());
    world.until("the dial has failed", |world| {
        !world.handler.seen.failed.is_empty()
    });
    assert_eq!(world.seen().failed, [(id, 9, ErrorKind::ConnectionAborted)]);
}

#[test]
fn a_stream_that_was_connected_elsewhere_is_adopted() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, from) = listener.accept().unwrap();
    let mut world = World::new();
    world.handler.open = Some(Box::new(|_, connection| {
        connection.write(b"hello");
    }));
    let id = world.context().adopt(stream, 6).unwrap();
    assert_eq!(world.receive(&mut peer, 5), b"hello");
    assert_eq!(world.seen().opened, [id]);
    let connection = world.connection(id).unwrap();
    assert_eq!(connection.local_addr().unwrap(), from.into());
    assert_eq!(
        connection.peer_addr().unwrap(),
        listener.local_addr().unwrap().into()
    );
}

#[test]
fn the_counters_add_up_after_a_mixed_run() {
    let mut world = World::new();
    let (_, address) = world.listen();
    world.handler.data = Some(Box::new(|_, connection, data| match data[0] {
        b'c' => {
            connection.write(b"bye");
            connection.close(CloseReason::Closed);
            1
        }
        b'a' => {
            connection.write(data);
            connection.abort(CloseReason::Aborted);
            data.len()
        }
        b'k' => 0,
        _ => {
            connection.write(data);
            data.len()
        }
    }));
    let mut clients: Vec<_> = (0..12).map(|_| connect(address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let first = [b"c", b"a", b"k", b"e"][number % 4];
        client.write_all(first).unwrap();
        client.write_all(b" and some more").unwrap();
    }
    world.until("all have been heard", |world| {
        world.stats().bytes_in >= 12 * 15 - 3 * 14
            && world.stats().closed.of(CloseReason::Aborted) == 3
    });
    for (number, client) in clients.into_iter().enumerate() {
        if number % 8 < 4 {
            drop(client);
        } else {
            reset(client);
        }
    }
    world.until_closed(12);
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.open, stats.peak_open), (12, 0, 12));
    assert_eq!((stats.pending, stats.unconsumed), (0, 0));
    assert!(stats.discarded > 0 && stats.consumed > 0 && stats.bytes_out > 0);
    assert_eq!(world.seen().opened.len(), 12);
}

#[test]
fn several_listeners_live_in_one_reactor_and_each_caller_is_told_apart() {
    let mut world = World::of(Limits::default(), Probe::default());
    let (first, first_address) = world.listen();
    let (second, second_address) = world.listen();
    world.handler.accept = Some(Box::new(move |_, _, caller| {
        Some(u64::from(caller.listener == second))
    }));
    let _clients = (connect(first_address), connect(second_address));
    world.until_opened(2);
    let ids = world.seen().opened.clone();
    let mut sessions = Vec::new();
    for id in ids {
        sessions.push(*world.context().connection(id).unwrap().session());
    }
    sessions.sort_unstable();
    assert_eq!(sessions, [0, 1]);
    assert!(world.context().close_listener(first));
    assert!(!world.context().close_listener(first));
    world.settle();
    assert!(TcpStream::connect(first_address).is_err());
}

#[test]
fn who_waits_at_a_listener_that_is_released_is_left_to_whom_else_has_it() {
    let mut world = World::of(Limits::default(), Probe::default());
    let (id, address) = world.listen();
    let context = world.context();
    let other = context.listener_fd(id).unwrap().try_clone_to_owned();
    let other = TcpListener::from(other.unwrap());
    let mut client = connect(address);
    client.write_all(b"hello").unwrap();
    assert!(world.context().release_listener(id));
    assert!(!world.context().release_listener(id));
    assert_eq!(world.context().listener_addr(id), None);
    world.context().drain(PATIENCE);
    let ended = world.turn_for(PATIENCE).ended;
    assert_eq!(ended, Some(Ended::Drained { cut: 0 }));
    assert_eq!(world.stats().accepted, 0);
    other.set_nonblocking(false).unwrap();
    let mut heard = [0; 5];
    other.accept().unwrap().0.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

#[test]
fn a_connection_is_taken_out_as_a_plain_stream_with_the_input_that_was_kept() {
    let mut world = World::new();
    world.handler.data = Some(Box::new(|_, _, _| 0));
    let mut client = world.client();
    client.write_all(b"unread").unwrap();
    world.settle();
    let id = world.seen().opened[0];
    let (socket, input) = world.connection(id).unwrap().detach().unwrap();
    assert!(world.connection(id).is_none());
    assert_eq!(input, b"unread");
    assert_eq!(world.until_closed(1), CloseReason::Detached);
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    stream.write_all(b"from outside").unwrap();
    let mut heard = [0; 12];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"from outside");
    client.write_all(b"!").unwrap();
    drop(client);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"!");
    let stats = world.stats();
    assert_eq!((stats.open, stats.bytes_in, stats.consumed), (0, 6, 6));
}

#[test]
fn a_callback_takes_its_own_connection_out_when_what_it_wrote_is_sent() {
    let mut world = World::new();
    let (sender, receiver) = mpsc::channel();
    world.handler.data = Some(Box::new(|_, connection, data| {
        connection.write(b"switching");
        let busy = connection.detach().unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
        connection.tell_when_sent();
        data.len()
    }));
    world.handler.drained = Some(Box::new(move |_, connection| {
        sender.send(connection.detach().unwrap()).unwrap();
        let gone = connection.detach().unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotConnected);
    }));
    let mut client = world.client();
    assert_eq!(world.exchange(&mut client, b"upgrade!!"), b"switching");
    assert_eq!(world.until_closed(1), CloseReason::Detached);
    let (socket, input) = receiver.try_recv().unwrap();
    assert_eq!(input, b"");
    client.write_all(b"more").unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"more");
}

#[test]
fn a_connection_whose_end_is_asked_for_is_not_taken_out_before_that_is_sent() {
    let mut world = World::new();
    let mut client = world.client();
    world.settle();
    let id = world.seen().opened[0];
    let mut connection = world.connection(id).unwrap();
    connection.finish();
    let busy = connection.detach().unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
    world.settle();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    let (socket, _) = world.connection(id).unwrap().detach().unwrap();
    client.write_all(b"the other way").unwrap();
    drop(client);
    let mut heard = Vec::new();
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    stream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"the other way");
}
