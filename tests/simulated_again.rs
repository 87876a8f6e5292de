//! What a handler leaves and wants to see again in the next turn.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/hosts.rs"]
mod hosts;

use std::time::Duration;

use oread::sim::{Host, Peer, Poller, World};
use oread::{CloseReason, Connection, Limits, Pressure};

use acting::Acting;
use hosts::{SECOND, address, listening};

/// Echoes the first line that it is shown, and wants the rest in the next turn.
fn line_by_line(connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
    let end = data.iter().position(|&byte| byte == b'\n');
    let count = end.map_or(0, |end| end + 1);
    if count > 0 {
        connection.write(&data[..count]);
        connection.again();
    }
    count
}

/// A host with this handler of data, and a peer that has sent `bytes`.
fn asked(
    world: &mut World,
    bytes: &[u8],
    limits: Limits,
    data: impl FnMut(&mut Connection<'_, ()>, &[u8]) -> usize + 'static,
) -> (Host<Acting>, Peer) {
    let mut host = listening(world, Acting::default().on_data(data), limits);
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.send(bytes);
    world.advance(&mut (), SECOND).unwrap();
    (host, peer)
}

/// Takes one turn that doesn't wait.
fn turn(host: &mut Host<Acting>) {
    host.turn(Some(Duration::ZERO)).unwrap();
}

const POLLERS: [Poller; 3] = [Poller::Epoll, Poller::Kqueue, Poller::Poll2];

#[test]
fn the_rest_comes_once_a_turn_when_what_was_written_before_is_out() {
    for poller in POLLERS {
        let mut world = World::new(1);
        world.poller(poller);
        let lines = b"one\ntwo\nthree\n";
        let (mut host, peer) = asked(&mut world, lines, Limits::default(), line_by_line);
        for out in [4, 8, 14] {
            turn(&mut host);
            let stats = host.context().stats();
            assert_eq!((stats.consumed, stats.bytes_out), (out, out), "{poller:?}");
            assert_eq!(host.reactor().0.next_timeout(), Some(Duration::ZERO));
        }
        world.settle(&mut host).unwrap();
        assert_eq!(peer.received(), lines);
    }
}

#[test]
fn who_consumes_nothing_is_shown_it_again_too_and_others_are_served_between() {
    let mut world = World::new(1);
    let mut left = 5;
    let (mut host, _peer) = asked(&mut world, b"all", Limits::default(), move |it, data| {
        left -= 1;
        if left > 0 {
            it.again();
            return 0;
        }
        data.len()
    });
    host.context().timer(Duration::ZERO, 0);
    for seen in 1..=5 {
        turn(&mut host);
        let shown = host
            .handler
            .log
            .iter()
            .filter(|line| line.ends_with("of 3"));
        assert_eq!(shown.count(), seen);
        assert_eq!(host.handler.fired.len(), 1);
    }
    // Nothing is left, and nobody is waited for.
    assert_eq!(host.reactor().0.next_timeout(), None);
}

#[test]
fn the_peer_s_end_and_more_of_its_input_wait_for_what_is_shown_again() {
    for poller in POLLERS {
        let mut world = World::new(1);
        world.poller(poller);
        let limits = Limits {
            read_buffer: 8,
            ..Limits::default()
        };
        let (mut host, peer) = asked(&mut world, b"one\ntwo\nend\n", limits, line_by_line);
        peer.finish();
        world.advance(&mut (), SECOND).unwrap();
        world.settle(&mut host).unwrap();
        let log = &host.handler.log;
        let expected = ["open", "data 4 of 8", "data 4 of 4", "data 4 of 4", "eof 0"];
        assert_eq!(log[..5], expected, "{poller:?}");
        assert_eq!(peer.received(), b"one\ntwo\nend\n");
    }
}

#[test]
fn a_drain_waits_for_what_is_to_be_shown_again() {
    for poller in POLLERS {
        let mut world = World::new(1);
        world.poller(poller);
        let lines = b"one\ntwo\nthree\n";
        let (mut host, peer) = asked(&mut world, lines, Limits::default(), line_by_line);
        host.context().drain(5 * SECOND);
        world.advance(&mut host, 6 * SECOND).unwrap();
        assert_eq!(peer.received(), lines, "{poller:?}");
        assert_eq!(host.handler.reasons(), [CloseReason::Drained]);
    }
}

#[test]
fn a_drain_waits_for_what_is_to_be_shown_again_though_all_that_was_pending_is_out() {
    let mut world = World::new(1);
    let limits = Limits {
        io_budget: 1000,
        ..Limits::default()
    };
    let mut looks = 0;
    let (mut host, peer) = asked(&mut world, b"question", limits, move |it, data| {
        looks += 1;
        if looks == 1 {
            // As much as the socket takes, and a little that waits for it.
            while it.pending() == 0 {
                it.write(&[b'a'; 20_000]);
            }
            return 0;
        }
        it.write(b"the end");
        data.len()
    });
    peer.stop_reading();
    host.context().drain(30 * SECOND);
    world.advance(&mut host, SECOND).unwrap();
    peer.start_reading();
    world.advance(&mut (), SECOND).unwrap();
    let id = host.handler.opened[0];
    host.connection(id).unwrap().again();
    world.advance(&mut host, 30 * SECOND).unwrap();
    assert!(peer.received().ends_with(b"the end"));
    assert_eq!(host.handler.reasons(), [CloseReason::Drained]);
}

#[test]
fn who_has_all_that_it_may_keep_and_wants_it_again_is_not_closed_for_that() {
    let mut world = World::new(1);
    let limits = Limits {
        max_input: 8,
        ..Limits::default()
    };
    let mut looks = 0;
    let (mut host, peer) = asked(&mut world, &[b'x'; 20], limits, move |it, data| {
        looks += 1;
        if looks % 2 == 1 {
            it.again();
            return 0;
        }
        data.len()
    });
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().consumed, 20);
    assert!(!peer.has_ended());
}

#[test]
fn what_is_wanted_again_waits_for_the_end_of_a_pause() {
    let mut world = World::new(1);
    let (mut host, _peer) = asked(&mut world, b"all", Limits::default(), |it, data| {
        if data.len() == 3 {
            it.again();
            it.pause();
            return 1;
        }
        data.len()
    });
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().consumed, 1);
    let id = host.handler.opened[0];
    host.connection(id).unwrap().resume();
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().consumed, 3);
}

#[test]
fn who_writes_for_as_long_as_it_is_shown_the_same_stops_under_pressure_and_goes_on_after() {
    let mut world = World::new(1);
    let mut left = 100;
    let (mut host, peer) = asked(&mut world, b"get\n", Limits::default(), move |it, data| {
        if it.pressure() == Pressure::Low {
            left -= 1;
            it.write(&[b'a'; 10_000]);
        }
        if left > 0 {
            it.again();
            return 0;
        }
        data.len()
    });
    peer.stop_reading();
    world.advance(&mut host, SECOND).unwrap();
    let limits = Limits::default();
    let pending = host.context().stats().pending;
    assert!(pending <= limits.high_water as u64 + 10_000, "{pending}");
    peer.start_reading();
    world.advance(&mut host, 5 * SECOND).unwrap();
    assert_eq!(peer.received().len(), 1_000_000);
}
