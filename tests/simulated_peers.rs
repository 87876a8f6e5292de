//! What peers are told to expect: a conversation in a straight line, and an error where it takes
//! another course.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used)]

#[path = "common/hosts.rs"]
mod hosts;

use std::io;
use std::panic;
use std::time::Duration;

use oread::sim::{Fault, Host, Peer, World, check};
use oread::{Echo, EchoOptions, Limits};

use hosts::{SECOND, address, echo, idle};

#[test]
fn a_peer_goes_on_when_it_has_read_what_it_expects_and_not_before() {
    check(0..100, |world| {
        let way = Duration::from_millis(10);
        world.latency(way..=way);
        let mut echo = echo(world, Limits::default());
        let peer = world.connect(address());
        let long = vec![b'.'; 1 + world.size(20_000)];
        for round in [&b"one"[..], b"two", &long] {
            peer.send(round);
            peer.expect(round);
        }
        peer.send(b"three");
        peer.expect_count(2);
        peer.expect(b"ree");
        peer.finish();
        peer.expect_end();
        world.settle(&mut echo).unwrap();
        let arrivals = peer.arrivals();
        let at = |count| arrivals.iter().find(|(_, read)| *read >= count).unwrap().0;
        for (before, after) in [(3, 6), (6, 7), (6 + long.len(), 11 + long.len())] {
            let took = at(after) - at(before);
            assert!(
                took >= 2 * way,
                "{after} bytes came {took:?} after {before}"
            );
        }
        assert!(peer.has_ended());
    });
}

#[test]
fn what_was_read_before_the_peer_was_told_to_expect_it_counts() {
    let mut world = World::new(1);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    peer.send(b"hello");
    peer.finish();
    world.settle(&mut echo).unwrap();
    assert!(peer.has_ended());
    // The connection is over.
    peer.expect(b"hel");
    peer.expect_count(2);
    peer.expect_end();
    world.settle(&mut echo).unwrap();
    peer.expect(b"more");
    let error = world.settle(&mut echo).unwrap_err().to_string();
    let why = r#"peer c0.0 expects "more" and has read the end (expected at"#;
    assert!(error.starts_with(why), "{error}");
    world.settle(&mut echo).unwrap(); // It's told once.
}

/// What a settled world says of a peer that was told so.
fn error(limits: Limits, tell: impl FnOnce(&Peer)) -> String {
    let mut world = World::new(2);
    let mut echo = echo(&mut world, limits);
    let peer = world.connect(address());
    tell(&peer);
    let error = world.settle(&mut echo).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Other);
    error.to_string()
}

#[test]
fn another_course_than_the_expected_one_is_an_error_that_says_which() {
    let told = error(Limits::default(), |peer| {
        peer.send(b"one");
        peer.expect(b"one");
        peer.send(b"two and more");
        peer.expect(b"two or more");
        peer.send(b"never");
    });
    let why = r#"peer c0.0 expects "or more" and has read "and more" (expected at"#;
    assert!(told.starts_with(why), "{told}");
    let told = error(Limits::default(), |peer| {
        peer.send(b"one");
        peer.expect(b"one");
        peer.send(b"two");
        peer.expect_end();
    });
    // The network may cut it anywhere.
    let why = r#"peer c0.0 expects the end and has read "t"#;
    assert!(told.starts_with(why), "{told}");
    let told = error(Limits::default(), |peer| {
        peer.send(b"one");
        peer.finish();
        peer.expect_count(5);
    });
    let why = "peer c0.0 expects 2 more bytes and has read the end (expected at";
    assert!(told.starts_with(why), "{told}");
}

#[test]
fn a_connection_that_fails_fails_its_expectations() {
    let mut world = World::new(3);
    let nobody = world.connect(address());
    nobody.expect(b"hello");
    let told = world.settle(&mut ()).unwrap_err().to_string();
    let why = "peer c0.0 expects \"hello\" and has failed: ECONNREFUSED: Connection refused";
    assert!(told.starts_with(why), "{told}");
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    peer.send(b"hello");
    peer.expect(b"hello");
    world.settle(&mut echo).unwrap();
    world.vanish(address().ip());
    peer.send(b"hello?");
    peer.expect_end();
    // Its system gives up after a quarter of an hour.
    let told = world.advance(&mut echo, 3600 * SECOND).unwrap_err();
    let told = told.to_string();
    let why = "peer c1.0 expects the end and has failed: ETIMEDOUT";
    assert!(told.starts_with(why), "{told}");
}

#[test]
fn who_waits_for_what_does_not_come_is_told_when_nothing_moves_any_more() {
    let told = error(Limits::default(), |peer| {
        peer.send(b"hel");
        peer.expect(b"hello");
        peer.send(b"lo");
    });
    let why = r#"nothing moves any more, but peer c0.0 still expects "lo""#;
    assert!(told.starts_with(why), "{told}");

    let mut world = World::new(4);
    let mut echo = echo(&mut world, idle(60 * SECOND));
    let both = [world.connect(address()), world.connect(address())];
    both.iter().for_each(|peer| peer.expect_end());
    let told = world.settle(&mut echo).unwrap_err().to_string();
    assert!(told.contains("still expects the end (expected at"));
    assert!(told.contains("), and others do: 1; h0 has a"), "{told}");
    // A deadline of the host's may bring it: time is to pass.
    world.advance(&mut echo, 30 * SECOND).unwrap();
    world.advance(&mut echo, 31 * SECOND).unwrap();
    world.settle(&mut echo).unwrap();

    let peer = world.connect(address());
    peer.stop_reading();
    peer.send(b"hello");
    peer.expect(b"hello");
    let told = world.until(&mut echo, |_| false).unwrap_err().to_string();
    let why = r#"; peer c2.0 still expects "hello" (expected at"#;
    assert!(told.contains(why), "{told}");
}

#[test]
fn a_settled_world_says_what_may_bring_what_a_peer_still_expects() {
    let mut world = World::new(4);
    let mut echo = echo(&mut world, idle(60 * SECOND));
    let told = |world: &mut World, echo: &mut Host<Echo>| {
        let told = world.settle(echo).unwrap_err().to_string();
        let (_, why) = told.split_once(".rs:").unwrap();
        why.split_once(')').unwrap().1.to_owned()
    };
    let end = world.connect(address());
    end.expect_end();
    let why = told(&mut world, &mut echo);
    let rest = why.strip_prefix("; h0 has a deadline in ").unwrap();
    let seconds = rest.strip_suffix("s (advance or until lets it come)");
    assert!(
        (50.0..=60.0).contains(&seconds.unwrap().parse::<f64>().unwrap()),
        "{why}"
    );
    world.advance(&mut echo, 61 * SECOND).unwrap();
    assert!(end.has_ended());

    let deaf = world.connect(address());
    deaf.stop_reading();
    deaf.send(b"hello");
    deaf.expect(b"hello");
    let why = told(&mut world, &mut echo);
    assert!(
        why.starts_with(", and reads nothing, as it was told; h0 has"),
        "{why}"
    );
    deaf.start_reading();

    world.fault_rate(Fault::AcceptNoDescriptors, 1_000_000);
    let waits = world.connect(address());
    waits.expect_count(1);
    let why = told(&mut world, &mut echo);
    let fault = "; somebody waits at l0, which is full or has met a fault (recover)";
    assert!(why.ends_with(fault), "{why}");
    world.calm();
    waits.send(b"!");
    world.advance(&mut echo, SECOND).unwrap();
    waits.expect_count(1);

    let mut other = world
        .host(Echo::new(EchoOptions::default()), Limits::default())
        .unwrap();
    other.handle().drain(SECOND);
    let why = told(&mut world, &mut echo);
    let other_host = "; h1 has events of its waker (a message of a Handle), and is not among the";
    assert!(why.contains(other_host), "{why}");
    world.settle(&mut (&mut echo, &mut other)).unwrap_err();
}

#[test]
fn what_a_peer_still_expects_when_it_is_told_to_leave_is_an_error() {
    let mut world = World::new(5);
    let mut echo = echo(&mut world, Limits::default());
    let all = [(); 4].map(|()| world.connect(address()));
    for peer in &all {
        peer.send(b"hello");
        peer.expect(b"hello");
    }
    world.settle(&mut echo).unwrap();
    let [met, one, other, waits] = all;
    for peer in [&one, &other] {
        peer.send(b"never sent");
        peer.expect(b"never");
    }
    for peer in [&met, &waits] {
        peer.pause(SECOND);
        peer.send(b"never sent");
    }
    waits.expect_end();
    waits.close();
    met.reset();
    one.reset();
    other.vanish();
    waits.vanish();
    for why in [
        r#"peer c1.0 still expected "never" when it was told to reset"#,
        r#"peer c2.0 still expected "never" when it was told to vanish"#,
        r#"peer c3.0 still expected the end when it was told to vanish"#,
    ] {
        let told = world.settle(&mut echo).unwrap_err().to_string();
        assert!(told.starts_with(why), "{told}");
    }
    world.settle(&mut echo).unwrap();
    assert_eq!((met.sent(), waits.sent()), (5, 5));
}

#[test]
fn what_a_peer_has_read_before_it_leaves_is_no_error_though_it_has_not_come_to_expect_it() {
    let mut world = World::new(5);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    peer.send(b"hello");
    peer.pause(60 * SECOND);
    peer.expect(b"hel");
    peer.expect_count(2);
    world.advance(&mut echo, SECOND).unwrap();
    peer.reset();
    world.settle(&mut echo).unwrap();
}

#[test]
fn a_peer_knows_whether_all_that_it_expects_has_come() {
    let mut world = World::new(5);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    assert!(peer.has_met());
    peer.send(b"hello");
    peer.expect(b"hello");
    peer.expect_end();
    assert!(!peer.has_met());
    world.advance(&mut echo, SECOND).unwrap();
    assert!(!peer.has_met());
    peer.finish_at_end();
    echo.handle().drain(SECOND);
    world.until(&mut echo, |_| peer.has_met()).unwrap();
    assert!(peer.has_ended());
    peer.expect(b"never");
    world.settle(&mut echo).unwrap_err();
    assert!(!peer.has_met());
}

#[test]
fn lines_are_taken_one_by_one_behind_what_a_peer_was_to_expect() {
    let mut world = World::new(5);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    peer.send(b"220 one\ntwo\n\nthr");
    peer.expect(b"220 ");
    assert_eq!(peer.take_line(), None);
    world.settle(&mut echo).unwrap();
    for line in [&b"one\n"[..], b"two\n", b"\n"] {
        assert_eq!(peer.take_line().as_deref(), Some(line));
    }
    assert_eq!(peer.take_line(), None);
    peer.send(b"ee\nfour\n.");
    peer.expect(b"three\nfo");
    world.settle(&mut echo).unwrap();
    assert_eq!(peer.take_line().as_deref(), Some(&b"ur\n"[..]));
    peer.send(b"\nfive\n");
    peer.expect_count(9);
    world.settle(&mut echo).unwrap_err();
    assert!(peer.received().ends_with(b".\nfive\n"));
    assert_eq!(peer.take_line(), None); // it still expects something
}

#[test]
fn the_addresses_of_a_peer_stay_known_when_it_is_over() {
    let mut world = World::new(5);
    let mut echo = echo(&mut world, Limits::default());
    let server = world.listen(([10, 0, 0, 2], 9).into());
    let (one, other) = (world.connect(address()), world.connect(server.local_addr()));
    world.settle(&mut echo).unwrap();
    let accepted = server.accept().unwrap();
    let both = |peer: &Peer| (peer.local_addr().unwrap(), peer.peer_addr().unwrap());
    let (before, there) = (both(&one), both(&accepted));
    assert_eq!((there.1, there.0), both(&other));
    one.close();
    other.reset();
    world.settle(&mut echo).unwrap();
    assert!(accepted.was_reset());
    assert_eq!((both(&one), both(&accepted)), (before, there));
}

#[test]
fn to_expect_something_behind_ones_own_end_is_an_error_at_once() {
    for (leaves, leave) in [
        ("close", Peer::close as fn(&Peer)),
        ("reset", Peer::reset),
        ("reset", Peer::reset_behind),
        ("vanish", Peer::vanish),
    ] {
        let told = error(Limits::default(), |peer| {
            peer.send(b"hello");
            leave(peer);
            peer.expect(b"hello");
        });
        let why = r#"peer c0.0 is to expect "hello" and was told to "#;
        assert!(told.starts_with(&format!("{why}{leaves} before")), "{told}");
    }
}

#[test]
fn a_peer_reads_as_much_as_it_is_told_and_knows_when_what_happened() {
    check(0..100, |world| {
        let way = Duration::from_millis(10);
        world.latency(way..=way);
        let mut echo = echo(world, Limits::default());
        let peer = world.connect(address());
        let count = 1 + world.size(2000);
        peer.read_only(count);
        peer.send(&[b'.'; 3000]);
        peer.finish();
        world.settle(&mut echo).unwrap();
        assert_eq!(peer.received().len(), count);
        assert!(peer.connected_at() >= Some(way) && peer.ended_at().is_none());
        peer.read_only(0);
        world.advance(&mut echo, SECOND).unwrap();
        assert_eq!(peer.received().len(), count);
        let before = world.now();
        peer.start_reading();
        peer.expect_count(3000);
        peer.expect_end();
        world.settle(&mut echo).unwrap();
        assert!(peer.ended_at() >= Some(before) && peer.failed_at().is_none());
        world.vanish(address().ip());
        let late = world.connect(address());
        world.settle(&mut echo).unwrap();
        assert!(late.has_timed_out() && late.failed_at() > peer.ended_at());
        assert!(late.connected_at().is_none());
    });
}

#[test]
fn a_caller_that_waits_for_a_pause_is_served_when_the_world_recovers_and_may_expect_it() {
    let mut world = World::new(6);
    let mut echo = echo(&mut world, Limits::default());
    world.fault_rate(Fault::AcceptNoDescriptors, 1_000_000);
    let peer = world.connect(address());
    peer.send(b"hello");
    peer.expect(b"hello");
    world.advance(&mut echo, SECOND).unwrap();
    assert!(peer.received().is_empty());
    world.recover(&mut echo).unwrap();
    assert_eq!(peer.received(), b"hello");
}

#[test]
fn each_of_two_expectations_that_fail_in_one_step_is_told() {
    let mut world = World::new(7);
    let mut echo = echo(&mut world, Limits::default());
    let peers = [(); 2].map(|()| world.connect(address()));
    peers.iter().for_each(|peer| peer.send(b"hello"));
    world.settle(&mut echo).unwrap();
    peers.iter().for_each(|peer| peer.expect(b"HELLO"));
    for peer in ["c0.0", "c1.0"] {
        let told = world.settle(&mut echo).unwrap_err().to_string();
        let why = format!(r#"peer {peer} expects "HELLO" and has read "hello" ("#);
        assert!(told.starts_with(&why), "{told}");
    }
    world.settle(&mut echo).unwrap();
}

/// A test in which nobody looks at the world after its peer was told to expect something.
fn forgetful(world: &mut World, expected: &[u8]) {
    let mut echo = echo(world, Limits::default());
    let peer = world.connect(address());
    peer.send(b"hello");
    world.advance(&mut echo, SECOND).unwrap();
    peer.expect(expected);
}

#[test]
#[should_panic(expected = r#"peer c0.0 expects "HELLO" and has read "hello" (expected at"#)]
fn an_expectation_that_has_failed_behind_the_last_step_is_told_by_the_end_of_its_world() {
    forgetful(&mut World::new(8), b"HELLO");
}

/// A test that is over at the first error of its world, with a peer that still expects something.
fn ends_early() -> io::Result<()> {
    let mut world = World::new(8);
    let mut echo = echo(&mut world, Limits::default());
    let (one, other) = (world.connect(address()), world.connect(address()));
    world.settle(&mut echo)?;
    one.send(b"hello");
    one.expect(b"HELLO");
    other.expect(b"never");
    world.advance(&mut echo, SECOND)?;
    Ok(())
}

#[test]
fn a_test_that_returns_an_error_of_its_world_is_shown_that_error_and_no_panic_behind_it() {
    let told = ends_early().unwrap_err().to_string();
    assert!(
        told.starts_with(r#"peer c0.0 expects "HELLO" and has"#),
        "{told}"
    );
}

#[test]
fn a_test_that_returns_an_error_of_its_own_is_told_by_the_panic_how_that_is_shown() {
    let own = |world: &mut World| -> io::Result<()> {
        forgetful(world, b"hello, world");
        Err(io::Error::other("its own"))
    };
    let alone = || own(&mut World::new(8));
    let told = panic::catch_unwind(alone).unwrap_err();
    let told = told.downcast_ref::<String>().unwrap();
    assert!(
        told.contains("the test was over after 1s; an error that"),
        "{told}"
    );
    let told = panic::catch_unwind(|| check(8..9, own)).unwrap_err();
    let told = told.downcast_ref::<String>().unwrap();
    assert!(told.contains(r#"the test gave an error: Custom { kind: Other, error: "its own" }"#));
}

#[test]
#[should_panic(expected = r#"peer c0.0 expects ", world" to the end (expected at"#)]
fn an_expectation_that_is_unmet_fails_a_test_under_seeds() {
    check(0..3, |world| forgetful(world, b"hello, world"));
}
