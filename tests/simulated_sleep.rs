//! What a reactor must have done before it sleeps, and what it must look at once it wakes: a host
//! is turned only when its poll has something or its next deadline comes, so work that it forgets
//! stays undone.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/simulated.rs"]
mod simulated;

use std::time::Duration;

use oread::sim::{Fault, Host, Peer, World, check};
use oread::{Echo, Limits};

use acting::Acting;
use simulated::{Order, Plain, SECOND, Way, address, echo, host, idle, listening, lives};

fn plain_echo(world: &mut World, limits: Limits) -> Host<Echo> {
    listening(world, echo("raw"), limits)
}

#[test]
fn who_starves_when_it_is_resumed_from_outside_is_fed_before_the_sleep() {
    check(0..20, |world| {
        let limits = Limits {
            max_pending: 64 << 10,
            write_timeout: None,
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::AnswerLine(0)), limits);
        // Between them they keep all the memory that there is.
        let peers = [30_000, 15_000, 10_000].map(|count| {
            let peer = world.connect(address());
            peer.send(&vec![b'x'; count]);
            world.settle(&mut host).unwrap();
            peer
        });
        let opened = host.handler.inner.opened.clone();
        for &id in &opened {
            host.context().connection(id).unwrap().pause();
        }
        peers[1].send(b"\n");
        world.settle(&mut host).unwrap();
        host.context().connection(opened[1]).unwrap().resume();
        world.settle(&mut host).unwrap();
        let stats = host.context().stats();
        assert_eq!((stats.pending_pauses, stats.consumed), (1, 15_001));
    });
}

#[test]
fn messages_beyond_the_budget_of_a_turn_are_delivered_without_a_sleep() {
    check(0..20, |world| {
        let limits = Limits {
            message_budget: 1,
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::Take), limits);
        let _peer = world.connect(address());
        world.settle(&mut host).unwrap();
        let id = host.handler.inner.opened[0];
        for _ in 0..3 {
            host.handle().send(Order::Idle(id, 100 * SECOND)).unwrap();
        }
        world.settle(&mut host).unwrap();
        assert_eq!(host.context().stats().messages, 3);
    });
}

#[test]
fn nobody_who_spoke_is_idle_wherever_the_process_stands_still() {
    check(0..300, |world| {
        let limits = Limits {
            idle_timeout: Some(SECOND),
            ..Limits::default()
        };
        let mut host = host(world, echo("raw"), limits);
        let peers: Vec<Peer> = (0..3).map(|_| world.connect(address())).collect();
        world.settle(&mut host).unwrap();
        for peer in &peers {
            let pause = Duration::from_millis(300 + world.roll(300));
            peer.send_slowly(&[b'.'; 20], 1, pause);
        }
        // Between any two of its calls, or before it reads the clock.
        let chance = 1 + world.roll(200);
        world.fault(Fault::StoodStill, chance);
        world.advance(&mut host, 20 * SECOND).unwrap();
        let counts = lives(&host).into_iter().map(|life| life.consumed.len());
        assert_eq!(counts.collect::<Vec<_>>(), [20; 3]);
    });
}

#[test]
fn nobody_wakes_again_and_again_for_connections_that_are_silent() {
    check(0..20, |world| {
        let limits = Limits {
            idle_timeout: Some(1_000_000 * SECOND),
            ..Limits::default()
        };
        let mut host = host(world, echo("raw"), limits);
        let peers: Vec<Peer> = (0..10).map(|_| world.connect(address())).collect();
        world.settle(&mut host).unwrap();
        // It's an error if the host wakes a thousand times for nothing.
        world.advance(&mut host, 900_000 * SECOND).unwrap();
        assert!(peers.iter().all(Peer::is_connected));
        world.advance(&mut host, 200_000 * SECOND).unwrap();
        assert!(peers.iter().all(Peer::has_ended));
    });
}

#[test]
fn many_connections_that_were_heard_late_are_no_wakes_for_nothing() {
    let mut world = World::new(1);
    let mut echo = plain_echo(&mut world, idle(60 * SECOND));
    let mut peers = Vec::new();
    for _ in 0..1500 {
        peers.push(world.connect(address()));
        world.advance(&mut echo, SECOND / 300).unwrap();
    }
    world.advance(&mut echo, 50 * SECOND).unwrap();
    peers.iter().for_each(|peer| peer.send(b"x"));
    world.advance(&mut echo, 30 * SECOND).unwrap();
    assert_eq!(echo.context().stats().open, 1500);
}

#[test]
fn messages_that_are_delivered_one_a_turn_are_no_spin() {
    let mut world = World::new(1);
    let limits = Limits {
        message_budget: 1,
        mailbox: 2000,
        ..Limits::default()
    };
    let mut host = listening(&mut world, Acting::default(), limits);
    for number in 0..1500 {
        host.handle().send(number).unwrap();
    }
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.log.len(), 1500);
}

#[test]
fn a_reactor_that_looks_again_before_it_sleeps_is_no_spin() {
    for spin in [20, 100, 300, 1000] {
        let mut world = World::new(1);
        let limits = Limits {
            spin: Duration::from_micros(spin),
            ..Limits::default()
        };
        let mut echo = plain_echo(&mut world, limits);
        let peer = world.connect(address());
        world.settle(&mut echo).unwrap();
        world.fault_rate(Fault::EventSpurious, 100_000);
        for count in 1..20 {
            peer.send(b"x");
            world.advance(&mut echo, SECOND / 300).unwrap();
            assert_eq!(peer.received().len(), count);
        }
    }
}
