//! What a run tells: its trace, how it's made small, and the line that replays it.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/hosts.rs"]
mod hosts;

use std::process::Command;

use oread::sim::{Fault, Peer, World, check};
use oread::{Echo, EchoOptions, Limits, ListenOptions};

use hosts::{address, echo};

/// Fails for some seeds, when it is told to.
#[test]
fn an_echo_that_nobody_ever_resets() {
    if std::env::var_os("OREAD_TEST_THAT_FAILS").is_none() {
        return;
    }
    check(0..500, |world| {
        world.unleash();
        let echo = Echo::new(EchoOptions::default());
        let mut echo = world.host(echo, Limits::default()).unwrap();
        if echo
            .context()
            .listen(&ListenOptions::new(address()))
            .is_err()
        {
            return;
        }
        let count = world.count(5);
        let peers: Vec<Peer> = (0..count).map(|_| world.connect(address())).collect();
        peers.iter().for_each(|peer| peer.send(b"hello"));
        world.settle(&mut echo).unwrap();
        assert!(!peers.iter().any(Peer::was_reset), "a peer was reset");
    });
}

/// What the test above prints, run by itself, with this plan to replay.
fn told_by_the_failing_test(plan: Option<&str>) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "an_echo_that_nobody_ever_resets", "--nocapture"])
        .env("OREAD_TEST_THAT_FAILS", "1")
        .env("CARGO_PKG_NAME", "theirs")
        .env_remove("OREAD_SEEDS")
        .env_remove("OREAD_TRACE")
        .env_remove("OREAD_SIM")
        .envs(plan.map(|plan| ("OREAD_SIM", plan)));
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

#[test]
fn a_run_that_fails_is_made_small_and_told_with_its_trace_and_a_line_that_replays_it() {
    let (passed, told) = told_by_the_failing_test(None);
    assert!(!passed && told.contains(" on_accept l0 from 10."), "{told}");
    // The panic stands in the trace, before what is dropped behind it, and at the end of it.
    let here = "the test failed here: panicked at tests/simulated_trace.rs:";
    let (_, behind) = told.split_once(here).unwrap();
    let (_, end) = behind.split_once("\npanicked at tests/").unwrap();
    assert!(behind.contains(" close c0.1\n"), "{told}");
    let message = end.split_once("a peer was reset\nto replay it: ");
    let line = message.unwrap().1.lines().next().unwrap();
    let rest = line.strip_prefix("env OREAD_SIM='").unwrap();
    let (plan, command) = rest.split_once("' ").unwrap();
    assert_eq!(
        command,
        "cargo test an_echo_that_nobody_ever_resets -- --exact"
    );
    let faults = plan.split("faults=").nth(1).unwrap();
    assert!(!faults.contains('+'), "more than one fault: {plan}");
    let (passed, again) = told_by_the_failing_test(Some(plan));
    assert!(!passed && again.contains(line), "{again}");
}

#[test]
fn a_replay_that_passes_says_so_with_its_trace_and_one_without_a_seed_is_refused() {
    let (passed, told) = told_by_the_failing_test(Some("seed=1 faults="));
    assert!(passed && told.contains(" on_accept l0 from 10."), "{told}");
    assert!(
        told.contains("replayed seed=1 faults=none: it passed"),
        "{told}"
    );
    let (passed, told) = told_by_the_failing_test(Some(""));
    assert!(!passed && told.contains("no seed is in \"\""), "{told}");
}

#[test]
fn a_trace_tells_what_a_peer_expects_and_when_it_is_met_with_the_lines_of_the_test() {
    let mut world = World::new(14);
    world.trace(true);
    let mut echo = echo(&mut world, Limits::default());
    let (peer, dialled) = (world.connect(address()), line!());
    peer.send(b"hello");
    world.settle(&mut echo).unwrap();
    let (first, second) = (line!() + 1, line!() + 2);
    peer.expect(b"hel");
    peer.expect_count(4);
    let error = world.settle(&mut echo).unwrap_err().to_string();
    let here = |line: u32| format!("tests/simulated_trace.rs:{line})");
    let trace = world.traced();
    let mut rest = trace.as_str();
    for line in [
        format!("peer c0.0 dials 10.0.0.1:7 ({}", here(dialled)),
        format!("peer c0.0 expects \"hel\" ({}", here(first)),
        format!("peer c0.0 has read what it expects ({}", here(first)),
        format!("peer c0.0 expects 4 more bytes ({}", here(second)),
    ] {
        let found = rest.find(&line);
        let found = found.unwrap_or_else(|| panic!("no {line:?} in the rest of\n{trace}"));
        rest = &rest[found..];
    }
    let why = format!("still expects 2 more bytes (expected at {}", here(second));
    assert!(error.contains(&why), "{error}");
}

#[test]
fn a_test_adds_lines_of_its_own_to_a_trace_and_may_show_a_peer_in_them() {
    let mut world = World::new(14);
    world.note("before anybody looks");
    world.trace(true);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut echo).unwrap();
    world.note(format_args!("two\nlines of {peer:?}"));
    peer.finish();
    let trace = world.traced();
    let line = format!(" test: two lines of {peer:?}\n");
    let (before, behind) = trace.split_once(&line).unwrap();
    assert!(before.contains("peer c0.0 dials") && behind.contains("peer c0.0 finishes"));
    assert!(!trace.contains("before anybody looks"));
}

#[test]
fn a_trace_tells_what_peers_do_what_options_come_to_and_what_nobody_gets() {
    let mut world = World::new(14);
    world.trace(true);
    let mut echo = echo(&mut world, Limits::default());
    world.fault(Fault::OptionFails, 1);
    let second = ListenOptions::new(([10, 0, 0, 1], 8));
    echo.context().listen(&second).unwrap_err();
    let peer = world.connect(address());
    world.settle(&mut echo).unwrap();
    let (here, there) = (peer.local_addr().unwrap().ip(), address().ip());
    world.partition(here, there);
    world.heal(here, there);
    peer.stop_reading();
    peer.send_urgent(b'!');
    peer.send(&[0x1b; 40]);
    world.settle(&mut echo).unwrap();
    peer.reset();
    let (from, to) = (([10, 0, 0, 2], 9).into(), ([10, 0, 0, 3], 9).into());
    let (udp, gone) = (world.udp(from), world.udp(to));
    gone.close();
    udp.send_to(to, b"anybody?");
    world.settle(&mut echo).unwrap();
    let trace = world.traced();
    let escapes = "\\x1b".repeat(30);
    for line in [
        "set l1 user timeout Some(90s) -> No buffer space available",
        &format!("nothing passes between {here} and {there}\n"),
        &format!("what is sent between {here} and {there} passes again\n"),
        "peer c0.0 stops reading\n",
        "peer c0.0 sends \"!\" urgently\n",
        &format!("peer c0.0 sends 40 \"{escapes}… (40 bytes)\"\n"),
        "peer c0.0 resets\n",
        "peer u1 closes\n",
        "peer u0 sends 8 \"anybody?\" to 10.0.0.3:9\n",
        "a datagram to 10.0.0.3:9 finds no socket there\n",
    ] {
        assert!(trace.contains(line), "no {line:?} in\n{trace}");
    }
}
