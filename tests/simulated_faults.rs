//! One world for each fault that is known by name: in straight lines, where the search by seeds
//! would need luck. They are what `scripts/canaries.sh` expects to fail when the fault is put back.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/simulated.rs"]
mod simulated;

use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Fault, Peer, Poller, World, check};
use oread::{CloseReason, ConnectOptions, Limits, ListenOptions};

use simulated::{
    Order, Plain, SECOND, Scripted, Way, address, echo, host, lives, look_at, turn_until_stopped,
};

#[test]
fn bytes_behind_urgent_data_are_echoed() {
    check(0..60, |world| {
        // kqueue's events don't tell of it.
        let poller = world.pick(&[Poller::Epoll, Poller::Kqueue, Poller::Poll2]);
        world.poller(poller);
        let mut echo = host(world, echo("raw"), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut echo).unwrap();
        peer.send(b"before");
        peer.send_urgent(b'!');
        peer.send(b"behind");
        // All of it is there in one event.
        world.advance(&mut (), SECOND).unwrap();
        world.settle(&mut echo).unwrap();
        assert_eq!(peer.received(), b"beforebehind");
    });
}

#[test]
fn data_and_the_end_in_one_event_are_both_told() {
    check(0..20, |world| {
        let mut echo = host(world, echo("raw"), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut echo).unwrap();
        peer.send(b"all");
        peer.finish();
        world.advance(&mut (), SECOND).unwrap();
        world.settle(&mut echo).unwrap();
        assert_eq!(peer.received(), b"all");
        assert!(peer.has_ended());
    });
}

#[test]
fn with_poll2_who_speaks_again_is_heard_again() {
    check(0..20, |world| {
        world.poller(Poller::Poll2);
        let mut echo = host(world, echo("raw"), Limits::default());
        let peer = world.connect(address());
        for round in 1..4 {
            peer.send(b"x");
            world.settle(&mut echo).unwrap();
            assert_eq!(peer.received().len(), round);
        }
    });
}

#[test]
fn an_old_id_finds_nobody_in_the_slot_that_was_its_own() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Take), Limits::default());
    let first = world.connect(address());
    world.settle(&mut host).unwrap();
    let old = host.handler.inner.opened[0];
    first.finish();
    world.settle(&mut host).unwrap();
    let second = world.connect(address());
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.inner.opened.len(), 2);
    assert!(host.handle().send(Order::Write(old, 1, 10)).is_ok());
    world.settle(&mut host).unwrap();
    assert_eq!(second.received(), b"", "it got what was the first one's");
}

#[test]
fn a_listener_without_descriptors_goes_on_by_itself_though_nobody_leaves() {
    let mut world = World::new(1);
    let mut echo = host(&mut world, echo("raw"), Limits::default());
    world.fault(Fault::AcceptNoDescriptors, 1);
    let peer = world.connect(address());
    peer.send(b"hello");
    world.advance(&mut echo, 2 * SECOND).unwrap();
    assert_eq!(peer.received(), b"hello");
}

#[test]
fn a_listener_without_descriptors_rests_and_goes_on_when_somebody_leaves() {
    check(0..20, |world| {
        let mut echo = host(world, echo("raw"), Limits::default());
        // The listener's own, and one.
        echo.process().descriptors(2);
        let first = world.connect(address());
        world.settle(&mut echo).unwrap();
        let second = world.connect(address());
        second.send(b"hello");
        // Turns that move nothing, at one instant, are an error.
        world.advance(&mut echo, 20 * SECOND).unwrap();
        assert_eq!(second.received(), b"");
        let left = world.now();
        first.finish();
        world
            .until(&mut echo, |_| second.received() == b"hello")
            .unwrap();
        let waited = world.now() - left;
        assert!(waited < SECOND / 10, "{waited:?} after somebody has left");
    });
}

#[test]
fn a_caller_who_is_gone_keeps_nobody_waiting() {
    check(0..20, |world| {
        let mut echo = host(world, echo("raw"), Limits::default());
        let peers: Vec<Peer> = (0..3).map(|_| world.connect(address())).collect();
        for peer in &peers {
            peer.send(b"hello");
        }
        // All of them wait, and one event tells of them.
        world.advance(&mut (), SECOND).unwrap();
        world.fault(Fault::AcceptAborted, 1);
        world.settle(&mut echo).unwrap();
        let answered = peers.iter().filter(|peer| peer.received() == b"hello");
        assert_eq!(answered.count(), 2);
    });
}

#[test]
fn who_waits_at_a_listener_is_served_by_a_drain() {
    check(0..20, |world| {
        let limits = Limits {
            accept_budget: 1,
            ..Limits::default()
        };
        let mut echo = host(world, echo("raw"), limits);
        let peers: Vec<Peer> = (0..5).map(|_| world.connect(address())).collect();
        for peer in &peers {
            peer.send(b"hello");
            peer.finish();
        }
        world.advance(&mut (), SECOND).unwrap();
        echo.context().drain(10 * SECOND);
        world.settle(&mut echo).unwrap();
        assert!(peers.iter().all(|peer| peer.received() == b"hello"));
        assert!(peers.iter().all(|peer| peer.has_ended()));
    });
}

#[test]
fn a_drain_reads_what_has_arrived_and_was_not_told_of() {
    check(0..20, |world| {
        let limits = Limits {
            events: 1,
            ..Limits::default()
        };
        let mut echo = host(world, echo("raw"), limits);
        let peers: Vec<Peer> = (0..5).map(|_| world.connect(address())).collect();
        world.settle(&mut echo).unwrap();
        for peer in &peers {
            peer.send(b"hello");
        }
        world.advance(&mut (), SECOND).unwrap();
        echo.context().drain(10 * SECOND);
        world.settle(&mut echo).unwrap();
        assert!(peers.iter().all(|peer| peer.received() == b"hello"));
    });
}

#[test]
fn messages_behind_a_drain_are_delivered_before_its_end() {
    let mut world = World::new(1);
    let limits = Limits {
        message_budget: 2,
        ..Limits::default()
    };
    let mut host = host(&mut world, Plain::new(Way::Take), limits);
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    let id = host.handler.inner.opened[0];
    peer.finish();
    world.settle(&mut host).unwrap();
    let handle = host.handle();
    handle.drain(SECOND);
    for _ in 0..5 {
        assert!(handle.send(Order::Write(id, 1, 1)).is_ok());
    }
    world.settle(&mut host).unwrap();
    assert!(host.ended().is_some());
    assert_eq!(host.context().stats().messages, 5);
}

#[test]
fn a_drain_ends_who_pauses_and_resumes_for_its_last_line() {
    check(0..20, |world| {
        // More than the sockets take.
        let way = Way::PauseAndResume(600_000);
        let mut host = host(world, Plain::new(way), Limits::default());
        let peer = world.connect(address());
        peer.stop_reading();
        peer.send(b"one\n");
        world.settle(&mut host).unwrap();
        // Not read while the answer to the first one is pending.
        peer.send(b"two\n");
        world.settle(&mut host).unwrap();
        host.context().drain(100 * SECOND);
        world.settle(&mut host).unwrap();
        peer.start_reading();
        world.settle(&mut host).unwrap();
        assert!(peer.received().ends_with(b"two\n"));
        assert!(peer.has_ended(), "it stays open until the drain's deadline");
    });
}

#[test]
fn who_calls_an_ipv6_listener_over_ipv4_is_told_as_ipv4() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Take), Limits::default());
    let options = ListenOptions::new("[::]:8".parse::<SocketAddr>().unwrap());
    host.context().listen(&options).unwrap();
    let peer = world.connect(([10, 0, 0, 1], 8).into());
    world.settle(&mut host).unwrap();
    assert_eq!(lives(&host)[0].peer, peer.local_addr());
}

#[test]
fn no_more_input_is_kept_than_may_be_however_much_a_read_brings() {
    check(0..20, |world| {
        let limits = Limits {
            max_input: 1000,
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::AnswerLine(0)), limits);
        let peer = world.connect(address());
        peer.send(&[b'l'; 900]);
        world.settle(&mut host).unwrap();
        peer.send(&[b'l'; 5000]);
        // It lingers before it is closed.
        world.advance(&mut host, 10 * SECOND).unwrap();
        assert_eq!(lives(&host)[0].left.len(), 1000);
        assert_eq!(lives(&host)[0].closed, Some(CloseReason::InputOverflow));
    });
}

#[test]
fn a_dial_that_was_written_to_is_open_when_it_is_there_and_not_before() {
    check(0..50, |world| {
        let mut host = host(world, Plain::new(Way::Take), Limits::default());
        let there = world.listen(([10, 0, 0, 2], 80).into());
        let nowhere: SocketAddr = ([10, 0, 0, 2], 81).into();
        for to in [there.local_addr(), nowhere] {
            let options = ConnectOptions::new(to);
            let id = host.context().connect(&options, ()).unwrap();
            // Whoever is written to is looked at before the next event.
            let mut context = host.context();
            context.connection(id).unwrap().write(b"hello");
        }
        world.settle(&mut host).unwrap();
        assert_eq!(there.accept().unwrap().received(), b"hello");
        let lives = lives(&host);
        assert_eq!(lives.len(), 2);
        assert!(lives[0].opened && lives[0].closed.is_none());
        assert!(lives[1].failed && !lives[1].opened);
    });
}

#[test]
fn a_dialed_peer_that_vanishes_with_output_on_its_way_is_given_up() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Take), Limits::default());
    let server = world.listen(([10, 0, 0, 2], 80).into());
    let options = ConnectOptions::new(server.local_addr());
    let id = host.context().connect(&options, ()).unwrap();
    world.settle(&mut host).unwrap();
    server.accept().unwrap().vanish();
    assert!(host.handle().send(Order::Write(id, 1, 100)).is_ok());
    world.advance(&mut host, 120 * SECOND).unwrap();
    assert!(lives(&host)[0].closed.is_some(), "it is still open");
}

#[test]
fn a_wait_that_signals_interrupt_is_no_longer_than_one_that_they_do_not() {
    check(0..50, |world| {
        let limits = Limits {
            idle_timeout: Some(SECOND),
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::Take), limits);
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        let begin = world.now();
        for nth in 1..20 {
            world.fault(Fault::WaitInterrupted, nth);
        }
        while !peer.has_ended() {
            let (reactor, handler) = host.reactor();
            reactor.turn(handler, None).unwrap();
        }
        let waited = world.now() - begin;
        assert!(waited < SECOND + SECOND / 10, "{waited:?} instead of 1 s");
    });
}

#[test]
fn a_turn_moves_a_bounded_number_of_bytes_however_many_send() {
    check(0..5, |world| {
        let limits = Limits {
            turn_bytes: 100_000,
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::Take), limits);
        let peers: Vec<Peer> = (0..50).map(|_| world.connect(address())).collect();
        world.settle(&mut host).unwrap();
        for peer in &peers {
            peer.send(&[b'.'; 200_000]);
        }
        world.advance(&mut (), SECOND).unwrap();
        let (reactor, handler) = host.reactor();
        reactor.turn(handler, Some(Duration::ZERO)).unwrap();
        // The last large read goes beyond; then each has two small ones.
        let most = 100_000 + (64 << 10) + 50 * 2 * (4 << 10);
        let moved = host.context().stats().bytes_in;
        assert!(moved <= most, "{moved} bytes in one turn");
        // Who has more to do has its turn, though no event tells of it.
        world.settle(&mut host).unwrap();
        assert_eq!(host.context().stats().bytes_in, 50 * 200_000);
    });
}

#[test]
fn who_was_taken_on_and_cannot_be_polled_is_told_closed() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Take), Limits::default());
    world.fault(Fault::RegisterFails, 1);
    let peer = world.connect(address());
    peer.send(b"hello");
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(host.handler.inner.taken_on, 1);
    let lives = lives(&host);
    assert_eq!(
        lives.len(),
        1,
        "it was taken on, and nothing was told of it"
    );
    assert!(lives[0].opened && lives[0].closed.is_some());
}

#[test]
fn a_reply_before_a_close_survives_input_that_nobody_reads() {
    check(0..50, |world| {
        let way = Way::AnswerAndClose(30_000);
        let mut host = host(world, Plain::new(way), Limits::default());
        let peer = world.connect(address());
        peer.send_slowly(&[b'q'; 20_000], 500, Duration::from_micros(100));
        peer.finish();
        world.settle(&mut host).unwrap();
        assert_eq!(peer.received().len(), 30_000);
        assert!(peer.has_ended() && !peer.was_reset());
    });
}

#[test]
fn a_reset_that_the_answer_finds_first_is_no_end() {
    check(0..100, |world| {
        let mut host = host(world, Plain::new(Way::Answer(100)), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        peer.send(b"question");
        peer.reset_behind();
        world.advance(&mut (), SECOND).unwrap();
        world.settle(&mut host).unwrap();
        let lives = lives(&host);
        assert!(!lives[0].eof, "an end is told that nobody sent");
        assert!(lives[0].closed.is_some());
    });
}

#[test]
fn who_has_finished_and_whose_last_end_fails_is_over_at_once() {
    check(0..20, |world| {
        world.fault(Fault::ShutdownFails, 1);
        let way = Duration::from_millis(10);
        world.latency(way..=way);
        let mut host = host(world, Plain::new(Way::Answer(100)), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        peer.send(b"question");
        peer.finish();
        world.advance(&mut (), SECOND).unwrap();
        // Sooner than the peer can say anything that has the end sent after all.
        world.advance(&mut host, way).unwrap();
        assert!(lives(&host)[0].closed.is_some(), "it waits for nothing");
    });
}

#[test]
fn a_reset_after_the_peer_s_end_ends_who_still_owes_an_answer() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::Owe), Limits::default());
        let peer = world.connect(address());
        peer.send(b"question");
        peer.finish();
        world.settle(&mut host).unwrap();
        assert!(lives(&host)[0].eof && lives(&host)[0].closed.is_none());
        peer.reset();
        world.settle(&mut host).unwrap();
        assert_eq!(lives(&host)[0].closed, Some(CloseReason::Reset));
    });
}

/// The kernel sets the error of a reset before its hang-up. A poll between the two drops the
/// descriptor, and the reads say only the end.
#[test]
fn with_poll2_a_reset_after_the_peer_s_end_is_found_by_an_error_without_its_hang_up() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.poller(Poller::Poll2);
        let mut host = host(&mut world, Plain::new(Way::Owe), Limits::default());
        let peer = world.connect(address());
        peer.send(b"question");
        world.settle(&mut host).unwrap();
        peer.finish();
        world.advance(&mut (), SECOND).unwrap();
        peer.reset();
        world.advance(&mut (), SECOND).unwrap();
        world.fault(Fault::EventSplit, 1);
        world.settle(&mut host).unwrap();
        assert_eq!(world.faults_met(), [Fault::EventSplit]);
        assert!(lives(&host)[0].eof);
        assert_eq!(lives(&host)[0].closed, Some(CloseReason::Reset));
    }
}

/// Peers that send every 300 ms, at a host that stands still for longer than its idle timeout.
fn stands_still(world: &mut World, interrupted: bool, events: usize) {
    let limits = Limits {
        idle_timeout: Some(SECOND),
        events,
        ..Limits::default()
    };
    let mut host = host(world, Plain::new(Way::Take), limits);
    let peers: Vec<Peer> = (0..8).map(|_| world.connect(address())).collect();
    for peer in &peers {
        peer.send_slowly(&[b'.'; 20], 1, Duration::from_millis(300));
    }
    world.advance(&mut host, SECOND).unwrap();
    if interrupted {
        // It's stopped while it waits, and continued by a signal.
        world.fault(Fault::StoodStill, 1);
        world.fault(Fault::WaitInterrupted, 1);
        let (reactor, handler) = host.reactor();
        reactor.turn(handler, Some(SECOND)).unwrap();
    } else {
        host.process().stand_still(3 * SECOND);
    }
    while world.step(&mut host, Some(world.now())).unwrap() {}
    let lives = lives(&host).into_iter();
    // One that is idle has its last words at once, and lingers then.
    let closed = lives.filter(|life| life.closing > 0 || life.closed.is_some());
    let (closed, late) = (closed.count(), world.now() > 6 * SECOND);
    assert!(closed == 0 || late, "{closed} who spoke in time are idle");
}

#[test]
fn nobody_who_spoke_is_idle_when_events_wait_behind_a_full_batch() {
    check(0..20, |world| stands_still(world, false, 1));
}

#[test]
fn nobody_who_spoke_is_idle_when_a_stop_ends_by_a_signal() {
    check(0..100, |world| stands_still(world, true, 1024));
}

#[test]
fn lines_of_one_segment_are_all_answered_by_who_pauses_and_resumes_for_each() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::PauseAndResume(0)), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        peer.send(b"one\ntwo\nthree\n");
        world.advance(&mut (), SECOND).unwrap();
        world.settle(&mut host).unwrap();
        assert_eq!(peer.received(), b"one\ntwo\nthree\n");
    });
}

#[test]
fn unfinished_lines_of_all_are_bounded_and_answered_when_they_are_finished() {
    check(0..5, |world| {
        let limits = Limits {
            max_pending: 64 << 10,
            ..Limits::default()
        };
        let mut echo = host(world, echo("lines"), limits);
        let peers: Vec<Peer> = (0..50).map(|_| world.connect(address())).collect();
        for peer in &peers {
            peer.send(&[b'l'; 40_000]);
        }
        world.advance(&mut echo, SECOND).unwrap();
        let kept: usize = lives(&echo).iter().map(|life| life.left.len()).sum();
        // What all may keep, the little that each may, and one that is fed beyond it.
        assert!(
            kept < (64 << 10) + 50 * (8 << 10) + 40_000,
            "{kept} bytes are kept"
        );
        look_at(&mut echo);
        for peer in &peers {
            peer.send(b"\n");
            peer.finish();
        }
        world.settle(&mut echo).unwrap();
        assert!(peers.iter().all(|peer| peer.received().len() == 40_001));
    });
}

#[test]
fn a_buffer_that_held_a_long_line_is_not_kept_for_the_next_byte() {
    let mut world = World::new(1);
    let mut echo = host(&mut world, echo("lines"), Limits::default());
    let peer = world.connect(address());
    let mut bytes = vec![b'l'; 500_000];
    bytes.extend(b"\nx");
    peer.send(&bytes);
    world.settle(&mut echo).unwrap();
    assert_eq!(peer.received().len(), 500_001);
    let held = look_at(&mut echo).held;
    assert!(held < 64 << 10, "{held} bytes are held for one");
}

#[test]
fn a_peer_that_vanishes_with_an_answer_on_its_way_is_given_up() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Answer(100)), Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.send(b"question");
    while lives(&host)[0].consumed.is_empty() {
        assert!(world.step(&mut host, None).unwrap());
    }
    peer.vanish();
    world.advance(&mut host, 120 * SECOND).unwrap();
    assert!(lives(&host)[0].closed.is_some(), "it is still open");
}

#[test]
fn an_idle_timeout_set_after_weeks_of_silence_is_judged_by_them() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Take), Limits::default());
    let _peer = world.connect(address());
    world.advance(&mut host, SECOND).unwrap();
    // So far back that a tick of 32 bits could be one that is to come.
    for _ in 0..46 {
        let day = 24 * 3600 * SECOND;
        world.advance(&mut host, day).unwrap();
        // A program does something now and then; nothing here needs a turn.
        let (reactor, handler) = host.reactor();
        reactor.turn(handler, Some(Duration::ZERO)).unwrap();
    }
    let order = Order::Idle(host.handler.inner.opened[0], 60 * SECOND);
    assert!(host.handle().send(order).is_ok());
    world.advance(&mut host, 61 * SECOND).unwrap();
    assert_eq!(lives(&host)[0].closed, Some(CloseReason::IdleTimeout));
}

#[test]
fn a_second_stop_by_a_handle_stops_again() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Scripted::default(), Limits::default());
    for _ in 0..3 {
        host.handle().stop();
        turn_until_stopped(&mut host);
    }
}

#[test]
fn messages_behind_a_stop_wait_for_the_next_run() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Scripted::default(), Limits::default());
    let handle = host.handle();
    handle.send(1).unwrap();
    handle.stop();
    handle.send(2).unwrap();
    turn_until_stopped(&mut host);
    assert_eq!(host.handler.inner.messages, [1]);
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.inner.messages, [1, 2]);
}
