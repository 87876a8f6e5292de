//! A drain: what has arrived is answered, nothing new is opened, and its time is its time.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/hosts.rs"]
mod hosts;

use std::time::Duration;

use oread::sim::{Host, Peer, Poller, World};
use oread::{
    CloseReason, ConnectOptions, Echo, EchoOptions, Ended, Limits, ListenOptions, SendError,
    UdpOptions,
};

use acting::Acting;
use hosts::{SECOND, address, listening};

/// What three get whose `parting` has arrived when a drain begins, and of whom a poll tells of one
/// at a time.
fn echoed_by_a_drain(framing: &str, poller: Poller, parting: impl Fn(&Peer)) -> [Vec<u8>; 3] {
    let mut world = World::new(1);
    world.poller(poller);
    let options = EchoOptions {
        framing: framing.parse().unwrap(),
        ..EchoOptions::default()
    };
    let limits = Limits {
        events: 1,
        ..Limits::default()
    };
    let mut host = listening(&mut world, Echo::new(options), limits);
    let peers = [(); 3].map(|()| world.connect(address()));
    world.settle(&mut host).unwrap();
    peers.iter().for_each(parting);
    world.advance(&mut (), SECOND).unwrap();
    host.context().drain(5 * SECOND);
    world.advance(&mut host, 6 * SECOND).unwrap();
    peers.map(|peer| peer.received())
}

const POLLERS: [Poller; 3] = [Poller::Epoll, Poller::Kqueue, Poller::Poll2];

#[test]
fn a_drain_tells_an_end_that_has_arrived_and_was_not_told_of() {
    for poller in POLLERS {
        let got = echoed_by_a_drain("lines", poller, |peer| {
            peer.send(b"last words");
            peer.finish();
        });
        assert_eq!(got, [b"last words"; 3].map(Vec::from), "{poller:?}");
    }
}

#[test]
fn a_drain_reads_behind_urgent_data_that_was_not_told_of() {
    for poller in POLLERS {
        let got = echoed_by_a_drain("raw", poller, |peer| {
            peer.send(b"one");
            peer.send_urgent(b'!');
            peer.send(b"two");
        });
        assert_eq!(got, [b"onetwo"; 3].map(Vec::from), "{poller:?}");
    }
}

#[test]
fn a_drain_lets_in_whoever_waits_at_a_listener_of_which_nothing_was_told() {
    let mut world = World::new(1);
    let limits = Limits {
        events: 1,
        ..Limits::default()
    };
    let echo = Echo::new(EchoOptions::default());
    let mut host = world.host(echo, limits).unwrap();
    let mut peers = Vec::new();
    for n in 0..3 {
        let at = ([10, 0, 0, 1], 7 + n).into();
        host.context().listen(&ListenOptions::new(at)).unwrap();
        let peer = world.connect(at);
        peer.send(b"hello");
        peer.finish();
        peers.push(peer);
    }
    world.advance(&mut (), SECOND).unwrap();
    host.context().drain(5 * SECOND);
    world.advance(&mut host, 6 * SECOND).unwrap();
    for peer in peers {
        assert_eq!(peer.received(), b"hello");
    }
}

#[test]
fn a_drain_answers_the_datagrams_that_have_arrived_and_no_later_one() {
    for poller in POLLERS {
        let mut world = World::new(1);
        world.poller(poller);
        let limits = Limits {
            datagram_budget: 2,
            ..Limits::default()
        };
        let mut host = listening(&mut world, Acting::default(), limits);
        let socket = host.context().bind_udp(&UdpOptions::new(address()));
        let socket = socket.unwrap();
        let peer = world.udp(([10, 0, 0, 9], 5000).into());
        for number in 0..100 {
            peer.send_to(address(), &[number]);
        }
        world.advance(&mut (), SECOND).unwrap();
        host.context().drain(SECOND);
        let turn = host.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(turn.ended, Some(Ended::Drained { cut: 0 }));
        peer.send_to(address(), b"too late");
        world.advance(&mut host, SECOND).unwrap();
        assert_eq!(peer.received().len(), 100, "{poller:?}");
        assert_eq!(host.context().udp_addr(socket), None);
    }
}

#[test]
fn a_drain_shows_no_more_than_some_thousand_datagrams_of_one_socket() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let options = UdpOptions {
        recv_buffer: Some(4 << 20),
        ..UdpOptions::new(address())
    };
    host.context().bind_udp(&options).unwrap();
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    for _ in 0..6000 {
        peer.send_to(address(), b"");
    }
    world.advance(&mut (), SECOND).unwrap();
    host.context().drain(SECOND);
    world.settle(&mut host).unwrap();
    let shown = host.context().stats().datagrams_in;
    assert!((4096..4300).contains(&shown), "{shown}");
}

#[test]
fn a_reactor_that_has_drained_waits_for_nothing_whatever_its_timers_say() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let _peer = world.connect(address());
    world.settle(&mut host).unwrap();
    host.context().timer(SECOND / 2, 0);
    host.context().drain(SECOND);
    let wait = |host: &mut Host<Acting>| host.reactor().0.next_timeout();
    assert_eq!(wait(&mut host), Some(Duration::ZERO), "it's to be begun");
    world.settle(&mut host).unwrap();
    assert!(wait(&mut host) > Some(Duration::ZERO), "nobody has left");
    world.advance(&mut host, 2 * SECOND).unwrap();
    assert_eq!(host.ended(), Some(Ended::Drained { cut: 1 }));
    assert_eq!(wait(&mut host), None);
    world.advance(&mut (), SECOND).unwrap();
    assert_eq!(wait(&mut host), None);
    // Whoever turns it all the same is told the same, at once.
    let turn = host.turn(None).unwrap();
    assert_eq!((turn.ended, turn.more), (host.ended(), false));
}

#[test]
fn a_drain_asks_an_empty_backlog_once() {
    let mut world = World::new(1);
    world.trace(true);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    world.advance(&mut host, SECOND).unwrap();
    assert!(!world.traced().contains("accept l0"), "nobody called");
    host.context().drain(SECOND);
    world.advance(&mut host, 2 * SECOND).unwrap();
    assert!(matches!(host.ended(), Some(Ended::Drained { cut: 0 })));
    let trace = world.traced();
    assert_eq!(trace.matches("accept l0 -> not now").count(), 1, "{trace}");
}

#[test]
fn who_sends_to_a_reactor_that_has_drained_is_told_so() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let handle = host.handle();
    host.context().drain(SECOND);
    world.advance(&mut host, SECOND).unwrap();
    assert!(matches!(host.ended(), Some(Ended::Drained { .. })));
    assert!(matches!(handle.send(1), Err(SendError::Gone(1))));
}

#[test]
fn who_is_cut_while_it_drains_is_told_cut() {
    let mut world = World::new(1);
    let handler = Acting::default().on_closing(|connection| _ = connection.write(&[7; 1 << 20]));
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    peer.stop_reading();
    world.settle(&mut host).unwrap();
    host.context().drain(SECOND);
    world.advance(&mut host, 2 * SECOND).unwrap();
    assert_eq!(host.ended(), Some(Ended::Drained { cut: 1 }));
    assert_eq!(host.handler.reasons(), [CloseReason::Cut]);
}

#[test]
fn who_never_finishes_is_waited_for_in_a_drain_as_its_linger_timeout_says_and_to_the_end_at_most() {
    for (linger, within, cut) in [(2, 60, 0), (60, 2, 1)] {
        let limits = Limits {
            linger_timeout: linger * SECOND,
            ..Limits::default()
        };
        let mut world = World::new(1);
        let mut host = listening(&mut world, Acting::default(), limits);
        let idle = world.connect(address());
        world.settle(&mut host).unwrap();
        let start = world.now();
        host.context().drain(within * SECOND);
        idle.expect_end();
        world.until(&mut host, |host| host.has_drained()).unwrap();
        assert_eq!(host.ended(), Some(Ended::Drained { cut }));
        let took = world.now() - start;
        // Links count in milliseconds.
        let earliest = 2 * SECOND - SECOND / 1000;
        assert!((earliest..3 * SECOND).contains(&took), "{took:?}");
        assert!(idle.has_ended() && idle.ended_at() < Some(start + SECOND));
    }
}

#[test]
fn a_reactor_that_drains_opens_nothing() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let _peer = world.connect(address());
    world.settle(&mut host).unwrap();
    host.context().drain(SECOND);
    let other = std::net::SocketAddr::from(([10, 0, 0, 1], 8));
    let mut context = host.context();
    assert!(context.listen(&ListenOptions::new(other)).is_err());
    assert!(context.bind_udp(&UdpOptions::new(other)).is_err());
    assert!(context.connect(&ConnectOptions::new(other), ()).is_err());
}

#[test]
fn who_is_let_in_by_a_drain_is_drained_too() {
    let mut world = World::new(1);
    let limits = Limits {
        events: 1,
        ..Limits::default()
    };
    let mut host = world.host(Acting::default(), limits).unwrap();
    let mut peers = Vec::new();
    for n in 0..3 {
        let at = ([10, 0, 0, 1], 7 + n).into();
        host.context().listen(&ListenOptions::new(at)).unwrap();
        let peer = world.connect(at);
        peer.send(b"hello");
        peer.finish_at_end();
        peers.push(peer);
    }
    world.advance(&mut (), SECOND).unwrap();
    host.context().drain(5 * SECOND);
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(
        host.ended(),
        Some(Ended::Drained { cut: 0 }),
        "{:?}",
        host.handler.log
    );
    let drained = host
        .handler
        .log
        .iter()
        .filter(|line| *line == "close Drained")
        .count();
    assert_eq!(drained, 3);
}

#[test]
fn a_second_call_of_drain_changes_nothing() {
    let mut world = World::new(1);
    let handler = Acting::default().on_closing(|connection| connection.stay_open());
    let mut host = listening(&mut world, handler, Limits::default());
    let _peer = world.connect(address());
    world.settle(&mut host).unwrap();
    host.context().drain(SECOND);
    host.context().drain(100 * SECOND);
    world.advance(&mut host, 2 * SECOND).unwrap();
    assert_eq!(host.ended(), Some(Ended::Drained { cut: 1 }));
}

#[test]
fn a_drain_does_not_wait_for_the_input_of_who_is_paused() {
    let mut world = World::new(1);
    let handler = Acting::default().on_open(|connection| connection.pause());
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    peer.send(b"hello");
    peer.finish_at_end();
    world.settle(&mut host).unwrap();
    host.context().drain(5 * SECOND);
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(
        host.ended(),
        Some(Ended::Drained { cut: 0 }),
        "{:?}",
        host.handler.log
    );
}

#[test]
fn last_words_at_a_drain_are_never_too_much() {
    let mut world = World::new(1);
    let limits = Limits {
        max_output: 1000,
        ..Limits::default()
    };
    let handler = Acting::default().on_closing(|connection| {
        for _ in 0..3 {
            connection.write(&[7; 400_000]);
        }
    });
    let mut host = listening(&mut world, handler, limits);
    let peer = world.connect(address());
    peer.finish_at_end();
    world.settle(&mut host).unwrap();
    host.context().drain(50 * SECOND);
    world.advance(&mut host, 40 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::Drained]);
    assert_eq!(peer.received().len(), 1_200_000);
}

#[test]
fn who_pauses_and_resumes_for_its_last_line_in_a_drain_is_drained() {
    let mut world = World::new(1);
    let handler = Acting::default().on_data(|connection, data| {
        match data {
            b"ask" => _ = connection.write(&[7; 100_000]),
            _ => {
                connection.pause();
                connection.resume();
            }
        }
        data.len()
    });
    let limits = Limits {
        high_water: 1 << 20,
        ..Limits::default()
    };
    let mut host = world.host(handler, limits).unwrap();
    let options = ListenOptions {
        send_buffer: Some(4096),
        ..ListenOptions::new(address())
    };
    host.context().listen(&options).unwrap();
    let peer = world.connect(address());
    peer.stop_reading();
    peer.finish_at_end();
    peer.send(b"ask");
    world.settle(&mut host).unwrap();
    host.context().drain(1000 * SECOND);
    while host.context().stats().pending > 6000 {
        peer.read_only(1000);
        world.settle(&mut host).unwrap();
    }
    assert!(host.context().stats().pending > 0);
    // There is room for the last of its output, and its last line, in one event.
    peer.send(b"more");
    peer.start_reading();
    world.advance(&mut (), SECOND).unwrap();
    world.advance(&mut host, 10 * SECOND).unwrap();
    assert_eq!(host.ended(), Some(Ended::Drained { cut: 0 }));
    assert_eq!(peer.received().len(), 100_000);
}
