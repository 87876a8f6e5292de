//! Short memory: who waits for it gets on, and who is not to blame is not cut off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{self, IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{World, connect, loopback, reset, write_until_blocked};
use oread::{CloseReason, Ended, Limits, Pressure};

/// A reactor whose handler answers whole lines.
fn lines(limits: Limits) -> World {
    let mut world = World::with(limits);
    world.handler.forgetful = true;
    world.handler.data = Some(Box::new(|_, connection, data| {
        let whole = data.iter().rposition(|&byte| byte == b'\n');
        let whole = whole.map_or(0, |end| end + 1);
        if whole > 0 {
            connection.write(b".\n");
        }
        whole
    }));
    world
}

#[test]
fn when_many_who_starved_have_gone_on_nothing_is_left_to_do() {
    let max_pending = 8 << 20;
    let mut world = lines(Limits {
        max_pending,
        max_input: 500_000,
        write_timeout: None,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let mut bigs: Vec<TcpStream> = (0..22).map(|_| connect(address)).collect();
    world.until_opened(22);
    for big in &mut bigs {
        for _ in 0..37 {
            big.write_all(&[b'x'; 10_000]).unwrap();
            world.turn_for(Duration::ZERO);
        }
    }
    world.settle();
    let mut smalls = Vec::new();
    for _ in 0..380 {
        let mut small = connect(address);
        small.write_all(&[b'y'; 5000]).unwrap();
        smalls.push(small);
        world.turn_for(Duration::ZERO);
    }
    world.settle();
    // All that the large ones keep comes free at once.
    for big in bigs {
        reset(big);
    }
    world.until("all have been read", |world| {
        world.stats().unconsumed == 380 * 5000
    });
    world.settle();
    assert_eq!(world.reactor.next_timeout(), None, "it spins");
}

#[test]
fn who_stops_when_told_and_goes_on_when_told_is_not_cut_off_for_want_of_memory() {
    fn produce(connection: &mut oread::Connection<'_, u64>) {
        while connection.write(&[7; 1000]) == Pressure::Low {}
    }
    let mut world = World::with(Limits {
        max_pending: 1,
        ..Limits::default()
    });
    world.handler.open = Some(Box::new(|_, connection| produce(connection)));
    world.handler.drained = Some(Box::new(|_, connection| produce(connection)));
    let mut client = world.client();
    for _ in 0..300 {
        world.turn();
    }
    assert_eq!(
        world.seen().closed,
        [],
        "cut off, though it did as it was told"
    );
    let bytes = world.receive(&mut client, 8 << 20);
    assert!(bytes.iter().all(|&byte| byte == 7));
}

#[test]
fn nobody_is_cut_off_for_want_of_memory_who_was_not_told_to_stop() {
    // One has a little pending and is not under pressure; then others take all the memory there is.
    let mut world = World::with(Limits {
        max_pending: 200_000,
        ..Limits::default()
    });
    world.handler.forgetful = true;
    world.handler.data = Some(Box::new(|_, _, _| 0));
    let (_, address) = world.listen();
    let reader = connect(address);
    world.until_opened(1);
    let id = world.seen().opened[0];
    while world.context().connection(id).unwrap().pending() == 0 {
        let pressure = world.connection(id).unwrap().write(&[1; 10_000]);
        assert_eq!(pressure, Pressure::Low);
        world.turn_for(Duration::ZERO);
    }
    let pending = world.connection(id).unwrap().pending();
    println!("{pending} pending");
    let mut hogs = Vec::new();
    for _ in 0..40 {
        let mut hog = connect(address);
        hog.write_all(&[b'x'; 60_000]).unwrap();
        hogs.push(hog);
        world.turn();
    }
    world.settle();
    let mut reader_of = world.connection(id).expect("it's open");
    assert_eq!(reader_of.pending(), pending);
    if reader_of.pressure() == Pressure::Low {
        reader_of.write(&[2; 100]);
    }
    world.turn();
    assert_eq!(
        world.seen().closed,
        [],
        "cut off, though it was told that it might write"
    );
    drop(reader);
}

/// Six who want more memory than there is.
fn hogs(world: &mut World, address: std::net::SocketAddr) -> Vec<TcpStream> {
    let opened = world.seen().opened.len();
    let hogs: Vec<_> = (0..6).map(|_| connect(address)).collect();
    for mut hog in &hogs {
        hog.write_all(&[b'x'; 5000]).unwrap();
    }
    world.until_opened(opened + 6);
    world.settle();
    hogs
}

#[test]
fn who_is_paused_by_its_handler_does_not_wait_for_memory() {
    let timeout = Duration::from_millis(200);
    let mut world = lines(Limits {
        max_pending: 1,
        max_input: 20_000,
        write_timeout: Some(timeout),
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let _hogs = hogs(&mut world, address);
    let mut client = connect(address);
    client.write_all(&[b'x'; 5000]).unwrap();
    world.until_opened(7);
    world.until("it waits", |world| world.stats().pending_pauses == 7);
    let id = world.seen().opened[6];
    world.context().connection(id).unwrap().pause();
    let start = Instant::now();
    while start.elapsed() < 4 * timeout {
        world.turn();
    }
    assert!(world.context().connection(id).is_some(), "it was cut off");
    // Nor does it wake the reactor for that.
    let before = world.turns;
    let start = Instant::now();
    while start.elapsed() < timeout {
        world.turn_for(timeout);
    }
    let turns = world.turns - before;
    assert!(turns < 10, "{turns} turns for nothing");
}

/// A connection that keeps `input` as an unfinished line; its end is the test's.
fn unfinished(world: &mut World, address: std::net::SocketAddr, input: usize) -> TcpStream {
    let (opened, before) = (world.seen().opened.len(), world.stats().unconsumed);
    let mut client = connect(address);
    world.until_opened(opened + 1);
    client.write_all(&vec![b'x'; input]).unwrap();
    world.until("it keeps its input", |world| {
        world.stats().unconsumed == before + input as u64
    });
    client
}

#[test]
fn who_waits_for_its_own_output_is_not_fed_in_the_place_of_others() {
    let mut world = lines(Limits {
        max_pending: 64 << 10,
        write_timeout: None,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    // It has output that nobody reads, and some input of a line.
    let mut first = unfinished(&mut world, address, 100);
    let id = world.seen().opened[0];
    while world.context().connection(id).unwrap().pending() < 5000 {
        world.context().connection(id).unwrap().write(&[1; 10_000]);
        world.turn_for(Duration::ZERO);
    }
    // Others take the rest of the memory, each as little as everybody may keep.
    let _others: Vec<_> = (0..20)
        .map(|_| unfinished(&mut world, address, 3000))
        .collect();
    first.write_all(b"more").unwrap();
    world.until("it waits for memory", |world| {
        world.stats().pending_pauses == 1
    });
    world.settle();
    // Another's line is longer than that.
    let mut second = connect(address);
    second.write_all(&[b'y'; 5000]).unwrap();
    second.write_all(b"\n").unwrap();
    assert_eq!(world.receive(&mut second, 2), b".\n");
}

#[test]
fn who_starves_before_the_wait_is_fed_before_it() {
    let mut world = lines(Limits {
        max_pending: 64 << 10,
        write_timeout: None,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let mut clients: Vec<_> = [30_000, 15_000, 10_000]
        .map(|input| unfinished(&mut world, address, input))
        .into();
    for id in world.seen().opened.clone() {
        world.context().connection(id).unwrap().pause();
    }
    clients[1].write_all(b"\n").unwrap();
    world.settle();
    let id = world.seen().opened[1];
    world.context().connection(id).unwrap().resume();
    // It finds no room when it's driven, and no event will come.
    world.turn_for(Duration::from_secs(60));
    assert_eq!(world.stats().pending_pauses, 1);
    assert_eq!(world.stats().consumed, 15_001);
}

/// A connection that may read on beyond the memory that there is, whose peer sends nothing more;
/// what made memory short has left.
fn fed_and_silent(world: &mut World, address: std::net::SocketAddr) -> TcpStream {
    let hog = unfinished(world, address, 45_000);
    let mut fed = unfinished(world, address, 40_000);
    fed.write_all(&[b'x'; 5000]).unwrap();
    world.settle();
    assert_eq!(world.stats().unconsumed, 45_000 + 45_000, "it's not fed");
    reset(hog);
    world.settle();
    fed
}

#[test]
fn who_starves_in_a_turn_that_also_frees_memory_goes_on() {
    let mut world = lines(Limits {
        max_pending: 100_000,
        write_timeout: None,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let _fed = fed_and_silent(&mut world, address);
    let (mut passing, mut starved) = (connect(address), connect(address));
    world.until_opened(4);
    let id = world.seen().opened[2];
    world.handler.message = Some(Box::new(move |_, context, _| {
        context.connection(id).unwrap().abort(CloseReason::Aborted);
    }));
    // One turn: the first takes most of the memory, the second finds none, and the first is gone.
    passing.write_all(&[b'x'; 40_000]).unwrap();
    starved.write_all(&[b'y'; 30_000]).unwrap();
    world.reactor.handle().send(0).unwrap();
    let before = world.stats().pending_pauses;
    world.turn();
    assert_eq!(world.stats().pending_pauses, before + 1);
    assert_eq!(world.stats().closed.total(), 2);
    world.settle();
    assert_eq!(world.stats().unconsumed, 45_000 + 30_000);
}

#[test]
fn who_starves_at_the_very_end_of_a_run_is_fed_in_the_next() {
    let mut world = lines(Limits {
        max_pending: 64 << 10,
        write_timeout: None,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let mut clients: Vec<_> = [30_000, 15_000, 10_000]
        .map(|input| unfinished(&mut world, address, input))
        .into();
    for id in world.seen().opened.clone() {
        world.context().connection(id).unwrap().pause();
    }
    clients[1].write_all(b"\n").unwrap();
    world.settle();
    let id = world.seen().opened[1];
    world.handler.close = Some(Box::new(move |_, context, _| {
        context.connection(id).unwrap().resume();
        context.stop();
    }));
    let _idle = connect(address);
    world.until_opened(4);
    let idle = world.seen().opened[3];
    world
        .context()
        .connection(idle)
        .unwrap()
        .abort(CloseReason::Aborted);
    // Its end stops the run.
    let ended = world.turn_for(Duration::ZERO).ended;
    assert_eq!(ended, Some(Ended::Stopped));
    // No event will come.
    assert_eq!(world.reactor.next_timeout(), Some(Duration::ZERO));
    world.turn();
    assert_eq!(world.stats().consumed, 15_001);
}

#[test]
fn a_reset_of_one_that_keeps_much_is_no_pause() {
    let mut world = lines(Limits {
        max_pending: 100_000,
        write_timeout: None,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let hog = unfinished(&mut world, address, 45_000);
    let _other = unfinished(&mut world, address, 40_000);
    world.settle();
    // With poll(2) one may have been paused already: there a short read doesn't say that nothing is
    // left.
    let before = world.stats().pending_pauses;
    reset(hog);
    world.until_closed(1);
    assert_eq!(world.stats().pending_pauses, before);
}

/// What is written in three parts.
const PART: &[u8] = &[b'x'; 300_000];

#[test]
fn no_part_of_a_write_is_too_much_for_the_parts_before_it() {
    type Write = fn(&mut oread::Connection<'_, u64>);
    let ways: [Write; 3] = [
        |connection| {
            connection.write_vectored(&[IoSlice::new(PART); 3]);
        },
        |connection| {
            let part = str::from_utf8(PART).unwrap();
            write!(connection, "{part}{part}{part}");
        },
        |connection| {
            let parts = [IoSlice::new(PART); 3];
            let count = io::Write::write_vectored(connection, &parts);
            assert_eq!(count.unwrap(), 3 * PART.len());
        },
    ];
    for way in ways {
        let mut world = World::with(Limits {
            max_output: 1,
            ..Limits::default()
        });
        let listener = TcpListener::bind(loopback()).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut client, _) = listener.accept().unwrap();
        let before = write_until_blocked(&mut stream);
        world.handler.open = Some(Box::new(move |_, connection| way(connection)));
        world.context().adopt(stream, 0).unwrap();
        world.turn();
        assert_eq!(world.seen().closed, [], "cut off between two parts");
        let bytes = world.receive(&mut client, before + 3 * PART.len());
        assert_eq!(&bytes[before..], PART.repeat(3));
    }
}
