//! A reactor that asks for events for a while before it sleeps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, World};
use oread::Limits;

/// Spins for longer than any test has patience, so that whatever it does it does while it spins.
fn spinning() -> World {
    World::with(Limits {
        spin: 2 * PATIENCE,
        ..Limits::default()
    })
}

/// How often this thread has gone to sleep.
#[cfg(target_os = "linux")]
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_turn_that_spins_does_not_sleep_and_any_other_does() {
    let wait = Duration::from_millis(20);
    let sleeps_in_a_turn = |world: &mut World| {
        let before = sleeps();
        world.turn_for(wait);
        sleeps() - before
    };
    let mut plain = World::new();
    assert!(sleeps_in_a_turn(&mut plain) >= 1);
    // The system may put a thread to sleep for reasons of its own, but not every time.
    let mut world = spinning();
    assert!((0..20).any(|_| sleeps_in_a_turn(&mut world) == 0));
}

#[test]
fn a_turn_that_spins_ends_at_its_timeout_and_at_a_timer_and_not_before() {
    let mut world = spinning();
    let wait = Duration::from_millis(30);
    let start = Instant::now();
    world.turn_for(wait);
    assert!(start.elapsed() >= wait);
    world.context().timer(wait, 7);
    let start = Instant::now();
    // The wheel may wake it once before, where a timer lies behind a multiple of 64 ms.
    while world.seen().timers.is_empty() {
        assert!(start.elapsed() < PATIENCE, "the timer does not fire");
        world.turn_for(PATIENCE);
    }
    assert!(start.elapsed() >= wait);
    assert_eq!(world.seen().timers, [7]);
}

#[test]
fn a_turn_that_has_spun_in_vain_waits_for_the_rest_of_its_time() {
    let mut world = World::with(Limits {
        spin: Duration::from_millis(1),
        ..Limits::default()
    });
    let wait = Duration::from_millis(30);
    let start = Instant::now();
    world.turn_for(wait);
    assert!(start.elapsed() >= wait);
    let mut client = world.client();
    assert_eq!(world.exchange(&mut client, b"hello"), b"hello");
}

#[test]
fn what_comes_while_it_spins_is_served() {
    let mut world = spinning();
    let mut client = world.client();
    assert_eq!(world.exchange(&mut client, b"hello"), b"hello");
    let handle = world.reactor.handle();
    let start = Instant::now();
    let others = thread::spawn(move || {
        handle.send(1).unwrap();
        client.write_all(b"and more").unwrap();
        client
    });
    world.handler.seen.bytes.clear();
    while world.seen().messages.is_empty() || world.seen().bytes != b"and more" {
        assert!(start.elapsed() < PATIENCE);
        world.turn_for(PATIENCE);
    }
    others.join().unwrap();
}
