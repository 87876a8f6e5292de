//! One run for each fault that there was.

use std::time::Duration;

use oread::sim::{Fault, World};

use super::bench::{Bench, Ran, Script};
use super::connections::check_connections;
use super::manners::Manners;
use super::messages::check_messages;
use super::truth::{AT_ONCE, lives};
use super::{datagrams::check_datagrams, ms};
use crate::load::clock::{SECOND, nanos};

/// A server that answers each message after so many milliseconds.
fn after(ms: u64) -> Manners {
    Manners {
        delay: (ms, ms),
        seed: 7,
        ..Manners::default()
    }
}

/// A world in which nothing is on its way for long.
fn world() -> World {
    let mut world = World::new(7);
    world.latency(Duration::ZERO..=Duration::ZERO);
    world
}

fn run_in(world: &mut World, arguments: &str, manners: &[Manners], script: Script) -> Ran {
    Bench::new(world, arguments, manners, script).unwrap().run()
}

fn run(arguments: &str, manners: &[Manners]) -> Ran {
    run_in(&mut world(), arguments, manners, Script::default())
}

const TCP: &str = "10.0.0.1:7";
const UDP: &str = "udp://10.0.0.3:7";

#[test]
fn datagrams_that_the_system_refuses_are_due_and_unsent() {
    for fault in [
        Fault::SendForbidden,
        Fault::SendNoBuffers,
        Fault::SendBlocked,
    ] {
        let mut world = world();
        world.fault_rate(fault, 300_000);
        let arguments = format!("-c 2 -R 100 -d 2s {UDP}");
        let ran = run_in(&mut world, &arguments, &[after(5)], Script::default());
        let messages = &ran.tally.messages;
        assert_eq!(messages.due(), 200, "{fault:?}");
        // What had no room is sent a little later.
        assert_eq!(
            messages.unsent > 20,
            fault == Fault::SendForbidden,
            "{fault:?}"
        );
        assert!(ran.tally.datagrams.dropped > 20, "{fault:?}");
        assert!(ran.tally.errors.values().sum::<u64>() > 20, "{fault:?}");
    }
}

#[test]
fn a_system_that_refuses_every_datagram_does_not_keep_a_run_from_its_end() {
    let mut world = world();
    // The first ones pass.
    for nth in 20..4000 {
        world.fault(Fault::SendForbidden, nth);
    }
    let arguments = format!("-c 2 -R 100 -n 100 --message-timeout 1s {UDP}");
    let ran = run_in(&mut world, &arguments, &[after(5)], Script::default());
    let messages = &ran.tally.messages;
    assert_eq!(messages.due(), 100);
    assert!(messages.unsent > 50, "{messages:?}");
    assert!(ran.ends[0] < 5 * SECOND);
}

#[test]
fn a_first_datagram_that_is_sent_again_begins_no_second_chain_of_messages_and_pauses() {
    // A round of the sweep takes 0.3 s.
    let arguments = format!("-c 10 --think 500ms -d 3s --message-timeout 1s {UDP}");
    let ran = run(&arguments, &[after(600)]);
    check_datagrams(&ran, AT_ONCE);
    for flow in 0..10 {
        let grams = ran.grams.iter().filter(|gram| gram.flow == flow);
        let (first, chain): (Vec<_>, Vec<_>) = grams.partition(|gram| gram.due == 0);
        assert!(first.len() > 1, "it was sent once");
        assert!((2..=3).contains(&chain.len()), "{} messages", chain.len());
        for two in chain.windows(2) {
            assert!(two[1].at - two[0].at >= nanos(ms(1100)));
        }
    }
}

#[test]
fn answers_that_come_within_the_timeout_are_not_lost_however_many_are_under_way() {
    let ran = run(
        &format!("-c 2 --idle --heartbeat 1ms -d 3s {UDP}"),
        &[after(2000)],
    );
    let datagrams = &ran.tally.datagrams;
    // Two first ones lie before it.
    assert_eq!(datagrams.sent, 6000);
    assert_eq!((datagrams.lost, datagrams.received), (0, 6000));
}

#[test]
fn a_generator_that_catches_up_sends_no_more_datagrams_a_turn_than_it_reads() {
    let script = Script {
        still: Some((ms(1000), ms(300))),
        ..Script::default()
    };
    let arguments = format!("-c 4 -R 5k -d 2s {UDP}");
    let ran = run_in(&mut world(), &arguments, &[after(1)], script);
    let messages = &ran.tally.messages;
    assert!(
        messages.due() == 10_000,
        "{messages:?} {:?} {:?}",
        ran.start,
        ran.ends
    );
    let mut turns = std::collections::BTreeMap::new();
    for gram in &ran.grams {
        *turns.entry(gram.at).or_insert(0) += 1;
    }
    let most = turns.values().max().unwrap();
    assert!((32..=64).contains(most), "{most} datagrams in one turn");
    assert_eq!(ran.tally.datagrams.received, ran.tally.datagrams.sent);
}

/// A run whose process stands still at these milliseconds, for so many.
fn stopped(arguments: &str, answers: u64, at: u64, time: u64) -> Ran {
    let still = Some((ms(at), ms(time)));
    let script = Script {
        still,
        ..Script::default()
    };
    run_in(&mut world(), arguments, &[after(answers)], script)
}

#[test]
fn what_came_while_the_generator_stood_still_is_read_before_it_is_given_up() {
    for target in [TCP, UDP] {
        // In the wait at the end, for longer than that.
        let arguments = format!("-c 10 -R 200 -d 1s --message-timeout 500ms {target}");
        let ran = stopped(&arguments, 300, 1400, 1000);
        let m = &ran.tally.messages;
        assert_eq!((m.sent, m.echoed), (200, 200), "{target}: {m:?}");
        // In the midst of it, for over twice the timeout.
        for time in [600, 1000, 1400, 3000] {
            let arguments = format!("-c 10 -d 2s --message-timeout 500ms {target}");
            let ran = stopped(&arguments, 30, 500, time);
            let m = &ran.tally.messages;
            assert_eq!(m.sent, m.echoed, "{target} {time}: {m:?}");
            assert!(m.sent > 100);
        }
        // With a number of messages it's no end either.
        for traffic in ["", "-R 100", "--think 5ms"] {
            let timeouts = "--message-timeout 200ms --connect-timeout 200ms";
            let arguments = format!("-c 4 -n 300 {timeouts} {traffic} {target}");
            let ran = stopped(&arguments, 20, 500, 1500);
            let m = &ran.tally.messages;
            assert_eq!((m.sent, m.echoed), (300, 300), "{arguments}: {m:?}");
        }
        let turnover = "-c 10 -d 2s --churn 20 --message-timeout 500ms";
        let arguments = match target {
            TCP => format!("{turnover} --depth 2 {target}"),
            _ => format!("{turnover} {target}"),
        };
        let ran = stopped(&arguments, 100, 600, 1000);
        let m = &ran.tally.messages;
        assert_eq!((m.sent, m.lost), (m.echoed, 0), "{arguments}: {m:?}");
        assert_eq!(ran.tally.connections.lost, 0, "{arguments}");
    }
}

#[test]
fn answers_in_the_measured_time_to_messages_of_the_warm_up_are_in_its_rate() {
    let ran = run(
        &format!("-c 4 -R 100 --warmup 1s -d 3s {TCP}"),
        &[after(400)],
    );
    check_messages(&ran, AT_ONCE);
    let messages = &ran.tally.messages;
    assert_eq!((messages.in_time, messages.sent), (300, 300));
    let echoed: Vec<u64> = ran
        .tally
        .seconds
        .iter()
        .map(|second| second.counts.echoed)
        .collect();
    assert_eq!(echoed[..3], [100, 100, 100]);
}

#[test]
fn connections_that_are_never_answered_are_lost_and_missed_where_others_are_replaced() {
    let deaf = Manners {
        deaf: 1,
        ..after(1)
    };
    let ran = run(
        &format!("-c 10 --churn 5 -d 4s --message-timeout 500ms {TCP}"),
        &[deaf],
    );
    check_connections(&ran, AT_ONCE);
    let connections = &ran.tally.connections;
    assert_eq!((connections.confirmed, connections.missing), (0, 10));
    assert!(
        (20..50).contains(&connections.lost),
        "each gave up its place, and none is dialed at once: {connections:?}"
    );
    let never = ran.tally.errors["never answered"];
    assert_eq!(never, connections.lost);
}

#[test]
fn the_most_connections_at_a_time_are_those_of_one_moment_over_all_threads() {
    let brief = Manners {
        finish: 1,
        ..after(1)
    };
    let ran = run(&format!("-c 20 -t 2 -r 20 -d 100ms {TCP}"), &[brief]);
    check_connections(&ran, AT_ONCE);
    assert_eq!(ran.tally.connections.confirmed, 20);
    assert_eq!(ran.tally.connections.peak_confirmed, 1);
}

#[test]
fn the_message_timeout_counts_from_when_a_message_was_due() {
    let script = Script {
        start_late: ms(65),
        ..Script::default()
    };
    let arguments = format!("-c 1 -R 100 -d 1s --message-timeout 30ms {TCP}");
    let ran = run_in(&mut world(), &arguments, &[after(1)], script);
    let messages = &ran.tally.messages;
    assert_eq!((messages.sent, messages.echoed), (100, 100));
    // Those that were due 55, 45 and 35 ms before.
    assert_eq!((messages.late, messages.timed_out), (3, 3));
}

#[test]
fn after_an_outage_each_target_has_its_connections_again() {
    let away = Manners {
        shut: Some((SECOND + SECOND / 2, 3 * SECOND)),
        finish: 20,
        ..after(5)
    };
    let ran = run(
        &format!("-c 10 --churn 20 -d 6s --think 20ms {TCP} 10.0.0.2:7"),
        &[away, after(5)],
    );
    check_connections(&ran, AT_ONCE);
    let end = ran.ends[0];
    for server in ["10.0.0.1", "10.0.0.2"] {
        let calls = ran
            .calls
            .iter()
            .filter(|call| call.at.to_string() == server);
        let open =
            calls.filter(|call| call.spoiled.is_none() && call.left.is_none_or(|left| left >= end));
        assert!((4..=6).contains(&open.count()), "{server}");
    }
    assert!(ran.tally.connections.refused > 0);
}

#[test]
fn answers_that_are_swapped_between_connections_are_found_at_any_size_from_4_on() {
    let thief = Manners {
        steal: 3,
        ..after(5)
    };
    for size in [4, 5, 7, 8, 12, 64] {
        let ran = run(&format!("-c 8 -d 1s -s {size} {TCP}"), &[thief]);
        check_connections(&ran, AT_ONCE);
        check_messages(&ran, AT_ONCE);
        assert_eq!(ran.tally.messages.corrupt, 8, "size {size}");
    }
}

#[test]
fn answers_that_a_server_has_kept_from_another_run_are_none() {
    let arguments = format!("-c 1 -d 100ms -s 24 {TCP}");
    let first = run(&arguments, &[after(5)]);
    let asked = first.calls[0].asked.iter();
    let script = Script {
        key: 8,
        kept: asked.map(|asked| asked.bytes.clone()).collect(),
        ..Script::default()
    };
    let second = run_in(&mut world(), &arguments, &[after(5)], script);
    assert_eq!(second.tally.messages.corrupt, 1);
    assert_eq!(second.tally.connections.confirmed, 0);
}

#[test]
fn churn_that_can_not_be_kept_up_closes_no_connection_before_it_has_sent_anything() {
    let ran = run(&format!("-c 1 --churn 30 -d 3s {TCP}"), &[after(50)]);
    let sent = ran.tally.messages.sent;
    assert!((20..100).contains(&sent), "{sent}");
    assert!(ran.tally.connections.replaced >= 15);
}

#[test]
fn a_second_answer_to_the_last_message_of_a_connection_is_corrupt_and_the_counts_add_up() {
    let twice = Manners {
        double: 9,
        ..after(5)
    };
    let ran = run(&format!("-c 4 --lifetime 20ms -d 1s {TCP}"), &[twice]);
    assert!(ran.tally.messages.corrupt > 0);
}

#[test]
fn a_first_datagram_that_was_lost_holds_up_no_message() {
    let mut world = world();
    world.fault(Fault::DatagramLost, 1);
    let arguments = format!("-c 1 -d 1s {UDP}");
    let ran = run_in(&mut world, &arguments, &[after(10)], Script::default());
    assert_eq!(ran.grams.iter().filter(|gram| gram.due == 0).count(), 1);
    assert!(ran.tally.messages.sent >= 80, "{:?}", ran.tally.messages);
    // It was sent again after a quarter of a second.
    assert!((SECOND..SECOND + SECOND / 3).contains(&ran.grams[0].at));
}

#[test]
fn a_connection_is_closed_when_its_time_has_come() {
    let ran = run(&format!("-c 20 --lifetime 500ms -d 3s {TCP}"), &[after(1)]);
    check_connections(&ran, AT_ONCE);
    let closed = lives(&ran, AT_ONCE);
    let lived = closed.iter().filter(|life| life.is_closed());
    let lived: Vec<u64> = lived
        .map(|life| life.end.most - life.confirmed.unwrap().least)
        .collect();
    assert!(lived.len() >= 80, "{} were closed", lived.len());
    let most = lived.iter().max().unwrap();
    assert!(*most < nanos(ms(520)), "one lived for {most} ns");
}

#[test]
fn a_message_that_its_connection_has_no_memory_for_is_sent_and_lost() {
    let mut world = world();
    world.fault_rate(Fault::NoMemory, 100_000);
    let arguments = format!("-c 20 --depth 4 -s 30000 -d 1s {TCP}");
    // That the sums hold is asked of each run.
    let ran = run_in(&mut world, &arguments, &[after(5)], Script::default());
    let messages = ran.tally.messages;
    assert!(messages.echoed > 0 && messages.lost > 0, "{messages:?}");
}

#[test]
fn a_thread_that_has_no_part_of_the_messages_sends_none_that_count() {
    for target in [TCP, UDP] {
        for warmup in ["0s", "300ms"] {
            let arguments = format!("-c 4 -t 4 --depth 8 -n 3 --warmup {warmup} {target}");
            let ran = run(&arguments, &[after(5)]);
            let messages = &ran.tally.messages;
            assert_eq!((messages.sent, messages.echoed), (3, 3), "{arguments}");
            assert_eq!(messages.unmeasured > 100, warmup == "300ms", "{arguments}");
        }
    }
}
