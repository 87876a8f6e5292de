//! The counters, and what may be kept at a time.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/hosts.rs"]
mod hosts;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oread::sim::{Fault, World};
use oread::{ConnectOptions, Echo, EchoOptions, Limits, ListenOptions, SendError};

use acting::Acting;
use hosts::{SECOND, address, idle, listening};

#[test]
fn an_echo_counts_its_frames() {
    let mut world = World::new(1);
    let options = EchoOptions {
        framing: "lines".parse().unwrap(),
        ..EchoOptions::default()
    };
    let mut host = world.host(Echo::new(options), Limits::default()).unwrap();
    host.context()
        .listen(&ListenOptions::new(address()))
        .unwrap();
    let peer = world.connect(address());
    peer.send(b"one\ntwo\nthree");
    peer.finish();
    world.settle(&mut host).unwrap();
    let stats = host.handler.stats();
    assert_eq!(
        (stats.frames_in, stats.frames_out, stats.frames_bad),
        (3, 3, 0)
    );
}

#[test]
fn refusals_and_ends_are_counted_by_their_reasons() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), idle(SECOND));
    let (one, two, three) = (
        world.connect(address()),
        world.connect(address()),
        world.connect(address()),
    );
    world.settle(&mut host).unwrap();
    one.finish();
    two.reset();
    world.advance(&mut host, 10 * SECOND).unwrap();
    host.handler.refuses = true;
    let four = world.connect(address());
    world.settle(&mut host).unwrap();
    let stats = host.context().stats();
    assert_eq!((stats.accepted, stats.refused), (3, 1));
    let closed: Vec<_> = stats
        .closed
        .iter()
        .filter(|&(_, count)| count > 0)
        .collect();
    assert_eq!(closed, [("finished", 1), ("reset", 1), ("idle_timeout", 1)]);
    assert!(stats.polls > 0 && stats.events > 0);
    drop((three, four));
}

#[test]
fn pauses_and_spent_budgets_are_counted() {
    let mut world = World::new(1);
    let limits = Limits {
        max_connections: 1,
        io_budget: 1,
        read_buffer: 10,
        ..Limits::default()
    };
    let mut host = listening(&mut world, Acting::default(), limits);
    let one = world.connect(address());
    let _two = world.connect(address());
    one.send(&[7; 100]);
    world.settle(&mut host).unwrap();
    let stats = host.context().stats();
    assert_eq!(stats.limit_pauses, 1);
    assert!(stats.budget_hits >= 9, "{}", stats.budget_hits);
}

#[test]
fn the_counters_add_up_in_a_callback_and_behind_the_end() {
    let mut world = World::new(1);
    let handler = Acting::default();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let tell = Rc::clone(&seen);
    let handler = handler.on_data(move |connection, data| {
        connection.write(b"12345");
        let stats = connection.context().stats();
        tell.borrow_mut()
            .push((stats.written, stats.bytes_out, stats.pending, stats.dropped));
        connection.finish();
        connection.write(b"123");
        let stats = connection.context().stats();
        tell.borrow_mut()
            .push((stats.written, stats.bytes_out, stats.pending, stats.dropped));
        data.len()
    });
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    peer.send(b"x");
    world.settle(&mut host).unwrap();
    assert_eq!(*seen.borrow(), [(5, 0, 5, 0), (8, 0, 5, 3)]);
}

#[test]
fn a_dial_that_takes_too_long_is_told_as_such_and_counted() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    world.fault(Fault::ConnectTimesOut, 1);
    let at: SocketAddr = ([10, 0, 0, 2], 9).into();
    let _server = world.listen(at);
    let options = ConnectOptions {
        timeout: Some(SECOND),
        ..ConnectOptions::new(at)
    };
    host.context().connect(&options, ()).unwrap();
    world.advance(&mut host, 2 * SECOND).unwrap();
    assert_eq!(host.handler.failed, [io::ErrorKind::TimedOut]);
    assert_eq!(host.context().stats().connect_failed, 1);
}

#[test]
fn a_mailbox_holds_as_many_as_it_may() {
    let mut world = World::new(1);
    let limits = Limits {
        mailbox: 2,
        ..Limits::default()
    };
    let host = listening(&mut world, Acting::default(), limits);
    let handle = host.handle();
    assert!(handle.send(1).is_ok() && handle.send(2).is_ok());
    assert!(matches!(handle.send(3), Err(SendError::Full(3))));
}

#[test]
fn a_turn_says_that_a_timer_is_due() {
    let mut world = World::new(1);
    let handler = Acting::default().on_timer(|context| _ = context.timer(Duration::ZERO, 1));
    let mut host = listening(&mut world, handler, Limits::default());
    host.context().timer(Duration::ZERO, 1);
    for _ in 0..5 {
        let turn = host.turn(Some(SECOND)).unwrap();
        assert!(turn.more, "{turn:?}");
    }
}

#[test]
fn reads_of_one_turn_bring_no_more_than_memory_has_room_for() {
    let mut world = World::new(1);
    let limits = Limits {
        max_pending: 20_000,
        ..Limits::default()
    };
    let handler = Acting::default().on_data(|_, _| 0);
    let mut host = listening(&mut world, handler, limits);
    let peers = [(); 4].map(|()| world.connect(address()));
    world.settle(&mut host).unwrap();
    peers.iter().for_each(|peer| peer.send(&[7; 18_000]));
    world.advance(&mut (), SECOND).unwrap();
    host.turn(Some(Duration::ZERO)).unwrap();
    let held = host.context().stats().held;
    assert!(held < 20_000 + 4 * 5000, "{held}");
}

#[test]
fn an_empty_half_gives_its_memory_back_while_the_other_is_in_use() {
    let mut world = World::new(1);
    let handler = Acting::default().on_data(|connection, data| match data.ends_with(b"\n") {
        true => {
            connection.write(&[7; 1 << 20]);
            data.len()
        }
        false => 0,
    });
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    peer.stop_reading();
    peer.send(&[7; 100_000]);
    world.settle(&mut host).unwrap();
    peer.send(b"\n");
    world.settle(&mut host).unwrap();
    let stats = host.context().stats();
    assert!(
        stats.pending > 0 && stats.held < stats.pending + 64_000,
        "{stats:?}"
    );
}

#[test]
fn input_that_is_shown_again_costs_its_budget() {
    let mut world = World::new(1);
    let limits = Limits {
        io_budget: 2,
        ..Limits::default()
    };
    let handler = Acting::default().on_data(|connection, _| {
        connection.pause();
        connection.resume();
        1
    });
    let mut host = listening(&mut world, handler, limits);
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.send(&[7; 1000]);
    world.advance(&mut (), SECOND).unwrap();
    let before = host.handler.log.len();
    host.turn(Some(Duration::ZERO)).unwrap();
    let calls = host.handler.log.len() - before;
    assert!(calls <= 3, "{calls} calls");
}

#[test]
fn each_look_of_a_reactor_that_looks_again_before_it_sleeps_is_a_poll() {
    let mut world = World::new(1);
    let limits = Limits {
        spin: Duration::from_micros(20),
        ..Limits::default()
    };
    let mut host = listening(&mut world, Acting::default(), limits);
    host.turn(Some(Duration::from_millis(1))).unwrap();
    let polls = host.context().stats().polls;
    assert!(polls > 50, "{polls} polls");
}

#[test]
fn what_a_turn_writes_counts_towards_its_bytes_too() {
    let mut world = World::new(1);
    let limits = Limits {
        turn_bytes: 100_000,
        ..Limits::default()
    };
    let answers = Acting::default().on_data(|connection, data| {
        if data == b"?" {
            connection.write(&[b'!'; 20_000]);
        }
        data.len()
    });
    let mut host = listening(&mut world, answers, limits);
    let askers: Vec<_> = (0..20).map(|_| world.connect(address())).collect();
    let sender = world.connect(address());
    world.settle(&mut host).unwrap();
    // Events are told in the order in which they came about.
    for asker in &askers {
        asker.send(b"?");
    }
    world.advance(&mut (), SECOND).unwrap();
    sender.send(&[b'.'; 600_000]);
    world.advance(&mut (), SECOND).unwrap();
    let before = host.context().stats();
    let (reactor, handler) = host.reactor();
    reactor.turn(handler, Some(Duration::ZERO)).unwrap();
    let stats = host.context().stats();
    let written = stats.bytes_out - before.bytes_out;
    assert!(written >= 100_000, "{written} bytes went out");
    // Behind so much it has two small reads, and all the rest of its own in later turns.
    let read = stats.bytes_in - before.bytes_in;
    assert!(read <= 20 + 2 * (4 << 10), "{read} bytes were read");
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().bytes_in, 600_020);
}

#[test]
fn the_first_write_of_each_callback_costs_no_call() {
    let mut world = World::new(1);
    let limits = Limits {
        io_budget: 4,
        read_buffer: 1,
        gather: 0,
        ..Limits::default()
    };
    let answers = Acting::default().on_data(|connection, data| {
        connection.write(&[b'!'; 1000]);
        data.len()
    });
    let mut host = listening(&mut world, answers, limits);
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.send(b"????");
    world.advance(&mut (), SECOND).unwrap();
    let (reactor, handler) = host.reactor();
    reactor.turn(handler, Some(Duration::ZERO)).unwrap();
    // Four reads of a byte, and their answers for nothing.
    assert_eq!(host.context().stats().bytes_out, 4 * 1000);
}

#[test]
fn who_moves_much_goes_behind_those_who_wait_and_who_moves_little_does_not() {
    let mut world = World::new(1);
    let limits = Limits {
        io_budget: 1,
        read_buffer: 10_000,
        ..Limits::default()
    };
    let seen = Rc::new(RefCell::new(Vec::new()));
    let tell = Rc::clone(&seen);
    let handler = Acting::default().on_data(move |connection, data| {
        tell.borrow_mut().push(connection.id());
        data.len()
    });
    let mut host = world.host(handler, limits).unwrap();
    let options = ListenOptions {
        recv_buffer: Some(100_000),
        ..ListenOptions::new(address())
    };
    host.context().listen(&options).unwrap();
    let peers = [(); 3].map(|()| {
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        peer
    });
    let [much, some, little] = [0, 1, 2].map(|n| host.handler.opened[n]);
    let mut turn = |host: &mut oread::sim::Host<Acting>, sent: [usize; 3]| {
        for (peer, count) in peers.iter().zip(sent) {
            peer.send(&vec![b'.'; count]);
            world.advance(&mut (), SECOND).unwrap();
        }
        let (reactor, handler) = host.reactor();
        reactor.turn(handler, Some(Duration::ZERO)).unwrap();
        seen.take()
    };
    assert_eq!(turn(&mut host, [30_000, 6_000, 1]), [much, some, little]);
    // The first one waits for this turn. There are events of the others, of whom one is to wait for
    // the next.
    assert_eq!(turn(&mut host, [0, 6_000, 1]), [little, much]);
    assert_eq!(turn(&mut host, [0, 0, 0])[..2], [some, much]);
}
