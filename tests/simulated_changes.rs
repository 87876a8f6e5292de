//! What a handler changes while something is under way: limits below what is kept or pending, a
//! wish that it repeats each time that it's granted, a pause in the middle of a frame.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/hosts.rs"]
mod hosts;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use oread::sim::{Host, World};
use oread::{CloseReason, ConnectionLimits, Limits, ListenOptions, Pressure};

use acting::Acting;
use hosts::{SECOND, address, idle, listening};

/// Changes the limits of the connection that was opened first.
fn set(host: &mut Host<Acting>, limits: ConnectionLimits) -> Pressure {
    let id = host.handler.opened[0];
    let mut context = host.context();
    let mut connection = context.connection(id).unwrap();
    connection.set_limits(limits).unwrap();
    connection.pressure()
}

#[test]
fn who_asks_again_each_time_that_it_is_told_sent_has_a_turns_share() {
    let mut world = World::new(1);
    let (told, turns) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0)));
    let (count, in_turn) = (told.clone(), turns.clone());
    let asks = Acting::default()
        .on_open(|connection| connection.tell_when_sent())
        .on_drained(move |connection| {
            if count.replace(count.get() + 1) < 1000 {
                connection.write(b"piece");
                connection.tell_when_sent();
            }
            in_turn.set(connection.context().stats().turns);
        });
    let mut host = listening(&mut world, asks, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    assert_eq!((told.get(), peer.received().len()), (1001, 5000));
    let budget = u64::from(Limits::default().io_budget);
    let stats = host.context().stats();
    let least = 1000 / budget;
    assert!(stats.budget_hits >= least, "{stats:?}");
    assert!(turns.get() >= least, "{stats:?}");
}

#[test]
fn who_keeps_more_than_it_may_from_now_on_is_closed() {
    let mut world = World::new(1);
    let mut host = listening(
        &mut world,
        Acting::default().on_data(|_, _| 0),
        Limits::default(),
    );
    let peer = world.connect(address());
    peer.send(&[b'x'; 1000]);
    world.settle(&mut host).unwrap();
    let usual = Limits::default().of_connection();
    let less = ConnectionLimits {
        max_input: 1000,
        ..usual
    };
    set(&mut host, less);
    world.settle(&mut host).unwrap();
    assert!(peer.has_ended());
    world.advance(&mut host, 10 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::InputOverflow]);
}

#[test]
fn who_has_more_pending_than_the_mark_from_now_on_is_told_to_stop_and_then_to_go_on() {
    let mut world = World::new(1);
    let mut host = world.host(Acting::default(), Limits::default()).unwrap();
    let options = ListenOptions {
        send_buffer: Some(4096),
        ..ListenOptions::new(address())
    };
    host.context().listen(&options).unwrap();
    let peer = world.connect(address());
    peer.stop_reading();
    world.settle(&mut host).unwrap();
    let id = host.handler.opened[0];
    let write = |host: &mut Host<Acting>, size| {
        let mut context = host.context();
        context.connection(id).unwrap().write(&vec![b'x'; size])
    };
    while host.context().stats().pending < 40_000 {
        assert_eq!(write(&mut host, 5000), Pressure::Low);
        world.advance(&mut host, SECOND / 10).unwrap();
    }
    let lower = ConnectionLimits {
        high_water: 20_000,
        low_water: 10_000,
        max_output: 30_000,
        ..Limits::default().of_connection()
    };
    assert_eq!(set(&mut host, lower), Pressure::High);
    peer.start_reading();
    world.settle(&mut host).unwrap();
    let told = host.handler.log.iter().filter(|line| *line == "drained");
    assert_eq!((told.count(), host.handler.reasons()), (1, vec![]));
    assert_eq!(write(&mut host, 5000), Pressure::Low);
}

#[test]
fn a_frame_has_its_whole_time_again_behind_a_pause() {
    let mut world = World::new(1);
    let limits = Limits {
        frame_timeout: Some(4 * SECOND),
        ..Limits::default()
    };
    let mut host = listening(&mut world, Acting::default().on_data(|_, _| 0), limits);
    let peer = world.connect(address());
    peer.send(b"half");
    world.settle(&mut host).unwrap();
    let id = host.handler.opened[0];
    let begin = world.now();
    host.context().connection(id).unwrap().pause();
    world.advance(&mut host, 7 * SECOND / 2).unwrap();
    host.context().connection(id).unwrap().resume();
    world.advance(&mut host, 7 * SECOND / 2).unwrap();
    assert_eq!(host.handler.reasons(), [], "{:?}", world.now() - begin);
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::FrameTimeout]);
}

#[test]
fn one_limit_that_is_changed_leaves_a_timeout_of_its_own_as_it_was() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), idle(60 * SECOND));
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    let id = host.handler.opened[0];
    let mut context = host.context();
    let mut connection = context.connection(id).unwrap();
    assert_eq!(connection.limits().idle_timeout, Some(60 * SECOND));
    connection.set_idle_timeout(Some(SECOND));
    let raised = ConnectionLimits {
        max_input: 5 << 20,
        ..connection.limits()
    };
    connection.set_limits(raised).unwrap();
    assert_eq!(connection.limits(), raised);
    world
        .advance(&mut host, SECOND + Duration::from_millis(50))
        .unwrap();
    assert!(peer.has_ended());
}

#[test]
fn a_listener_that_is_resumed_while_it_accepts_has_one_turn_at_a_time() {
    let mut world = World::new(1);
    let listener = Rc::new(Cell::new(None));
    let own = listener.clone();
    let resumes = Acting::default().on_accept(move |context| {
        assert!(context.resume_listener(own.get().unwrap()));
    });
    let limits = Limits {
        accept_budget: 4,
        ..Limits::default()
    };
    let mut host = world.host(resumes, limits).unwrap();
    let id = host
        .context()
        .listen(&ListenOptions::new(address()))
        .unwrap();
    listener.set(Some(id));
    let _peers: Vec<_> = (0..40).map(|_| world.connect(address())).collect();
    world.advance(&mut (), SECOND).unwrap();
    world.settle(&mut host).unwrap();
    let stats = host.context().stats();
    assert_eq!((stats.accepted, stats.longest_queue), (40, 1));
}
