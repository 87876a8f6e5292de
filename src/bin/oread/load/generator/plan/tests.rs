//! Straight lines through the plan, with invented times.

use std::sync::{Arc, mpsc};

use super::*;
use crate::load::clock::{Epoch, SECOND};
use crate::load::count::Ledger;
use crate::load::generator::flow::Sent;
use crate::load::generator::protocol::Slot;
use crate::load::generator::wake::Clock;
use crate::load::options::sources::Endpoint;
use crate::values::target::Resolved;

/// A plan of these arguments, for one target, from the time 1 s on.
fn plan(arguments: &str) -> Plan {
    plan_of(arguments, 0)
}

/// The plan of one of its threads.
fn plan_of(arguments: &str, index: u32) -> Plan {
    let load = Load::of(arguments);
    let endpoint = Endpoint {
        resolved: Resolved::tcp(([127, 0, 0, 1], 9).into()),
        sources: Vec::new(),
    };
    let setup = Setup {
        payload: Payload::of(&load, 7),
        load: Arc::new(load),
        index,
        endpoints: Arc::new([endpoint]),
        clock: Clock::System(Epoch::begin()),
        begun: SECOND,
        gauge: Arc::default(),
        events: mpsc::channel().0,
        slot: Slot::new(SECOND),
    };
    Plan::new(&setup, SECOND)
}

fn ledger(plan: &Plan) -> Ledger {
    plan.meter.tally.connections
}

/// Makes the dials that are due, and gives each its connection.
fn dial(plan: &mut Plan, now: u64) -> Vec<u32> {
    let mut flows = Vec::new();
    plan.turn_begins();
    while let Step::Dial(dial) = plan.next(now) {
        let index = plan.dialed(dial, now);
        plan.established(index, now);
        plan.sent(index, Sent::to_confirm(now), 64);
        flows.push(index);
    }
    flows
}

/// A plan whose connections are all confirmed, and whose traffic begins at 10 s.
fn begun(arguments: &str) -> (Plan, Vec<u32>) {
    begun_as(arguments, 0)
}

fn begun_as(arguments: &str, index: u32) -> (Plan, Vec<u32>) {
    let mut plan = plan_of(arguments, index);
    let mut flows = Vec::new();
    for ms in 0..1_000 {
        flows.extend(dial(&mut plan, SECOND + ms * 1_000_000));
    }
    for &flow in &flows {
        plan.answered(flow, 2 * SECOND, |_, _| Some(64));
    }
    plan.start(10 * SECOND);
    (plan, flows)
}

#[test]
fn heartbeats_that_a_stall_has_held_up_are_sent_with_the_times_they_were_due() {
    let (mut plan, flows) = begun("-c 1 --idle --heartbeat 20ms -d 5s");
    let now = 12 * SECOND;
    assert_eq!(plan.wanted(flows[0], now), 0, "none is due when it is sent");
    let mut dues = Vec::new();
    while dues.len() < 101 {
        plan.turn_begins();
        while let Step::Send { flow, due } = plan.next(now) {
            plan.sent(flow, Sent { due, at: now }, 64);
            dues.push(due);
        }
    }
    let first = 10 * SECOND;
    let expected: Vec<u64> = (0..101).map(|beat| first + beat * 20_000_000).collect();
    assert_eq!(dues, expected);
    assert!(matches!(plan.next(now), Step::Wait(_)));
}

#[test]
fn heartbeats_of_a_nanosecond_neither_stall_the_plan_nor_overflow_it() {
    let (mut plan, _) = begun("-c 2 --idle --heartbeat 1ns -d 1h");
    for seconds in [11, 100, 1000] {
        plan.turn_begins();
        let mut sent = 0;
        while let Step::Send { flow, due } = plan.next(seconds * SECOND) {
            let at = seconds * SECOND;
            plan.sent(flow, Sent { due, at }, 64);
            sent += 1;
        }
        assert!((1..=256).contains(&sent), "{sent}");
    }
}

#[test]
fn a_ramp_that_is_interrupted_dials_no_more() {
    let mut plan = plan("-c 100 -r 10");
    assert_eq!(dial(&mut plan, SECOND).len(), 1);
    plan.stop(SECOND + 1);
    for second in 1..20 {
        assert!(dial(&mut plan, second * SECOND).is_empty());
    }
    assert_eq!(ledger(&plan).dialed, 1);
}

#[test]
fn churn_lets_half_of_the_connections_carry_the_load_while_answers_are_waited_for() {
    let (mut plan, flows) = begun("-c 10 --churn 1k --message-timeout 1m");
    let mut now = 10 * SECOND;
    while now < 12 * SECOND {
        plan.turn_begins();
        while let Step::Send { flow, due } = plan.next(now) {
            plan.sent(flow, Sent { due, at: now }, 64);
        }
        now += 1_000_000;
    }
    let stages = flows.iter().filter_map(|&flow| plan.flows.get(flow));
    assert_eq!(stages.filter(|flow| flow.stage == Stage::Live).count(), 5);
}

#[test]
fn heartbeats_that_were_due_when_the_end_was_slept_through_are_sent_late() {
    let (mut plan, _) = begun("-c 2 --idle --heartbeat 100ms -d 2s");
    let now = 13 * SECOND;
    let mut sends = 0;
    loop {
        plan.turn_begins();
        match plan.next(now) {
            Step::Send { flow, due } => {
                assert!(due < 12 * SECOND, "{due}");
                plan.sent(flow, Sent { due, at: now }, 64);
                plan.answered(flow, now, |_, _| Some(64));
                sends += 1;
            }
            Step::End => break,
            other => panic!("{other:?} after {sends}"),
        }
    }
    assert_eq!(sends, 40);
}

#[test]
fn a_heartbeat_that_is_due_when_its_connection_is_to_be_closed_is_sent_first() {
    // It was confirmed at 2 s, and the first beat of the load is due at 10 s.
    let (mut plan, flows) = begun("-c 1 --idle --heartbeat 1s --lifetime 10s -d 5s");
    for now in [10, 11, 12].map(|seconds| seconds * SECOND) {
        plan.turn_begins();
        let flow = flows[0];
        assert_eq!(plan.next(now), Step::Send { flow, due: now });
        plan.sent(flow, Sent { due: now, at: now }, 64);
        plan.answered(flow, now, |_, _| Some(64));
    }
    assert!(matches!(plan.next(12 * SECOND), Step::Close { .. }));
    assert_eq!(plan.meter.tally.messages.unsent, 0);
}

#[test]
fn a_thread_that_has_no_part_of_the_messages_has_its_part_of_the_warm_up() {
    let (mut plan, flows) = begun_as("-c 2 -t 2 -R 2 -n 1 --warmup 5s", 1);
    let mut sent = 0;
    for ms in 10_000..16_000 {
        plan.turn_begins();
        while let Step::Send { flow, due } = plan.next(ms * SECOND / 1000) {
            let at = ms * SECOND / 1000;
            plan.sent(flow, Sent { due, at }, 64);
            plan.answered(flows[0], at, |_, _| Some(64));
            sent += 1;
        }
    }
    assert_eq!((sent, plan.meter.tally.messages.unsent), (5, 0));
}

#[test]
fn a_run_that_is_stopped_when_it_is_over_ends_once() {
    let (mut plan, flows) = begun("-c 1 -R 1 -d 1s --message-timeout 2s");
    plan.turn_begins();
    let at = 10 * SECOND;
    assert_eq!(
        plan.next(at),
        Step::Send {
            flow: flows[0],
            due: at
        }
    );
    plan.sent(flows[0], Sent { due: at, at }, 64);
    plan.next(11 * SECOND);
    plan.stop(14 * SECOND);
    // It stood still until then: what is under way has its time again, a second once it's stopped.
    for tenth in 0..10 {
        let now = 14 * SECOND + tenth * SECOND / 10;
        assert!(matches!(plan.next(now), Step::Wait(_)), "{tenth}");
    }
    assert_eq!(plan.next(15 * SECOND), Step::End);
    assert_eq!((ledger(&plan).missing, ledger(&plan).open), (0, 1));
}

#[test]
fn a_first_datagram_that_is_sent_again_is_one_message_that_was_not_answered() {
    let mut plan = plan("udp://127.0.0.1:9 -c 1 --message-timeout 2s --churn 1");
    let Step::Dial(dial) = plan.next(SECOND) else {
        panic!("nothing is dialed");
    };
    let index = plan.dialed(dial, SECOND);
    let reactor = &mut oread::Reactor::<NoHandler>::new().unwrap();
    let options = oread::UdpOptions::default();
    let id = reactor.context().bind_udp(&options).unwrap();
    plan.flows.bound(index, Socket::Datagrams(id));
    plan.established(index, SECOND);
    plan.sent_datagram(index, Sent::to_confirm(SECOND), 64);
    let mut again = Vec::new();
    for ms in 0..5_000 {
        let now = SECOND + ms * 1_000_000;
        plan.turn_begins();
        loop {
            match plan.next(now) {
                Step::Send { flow, due: 0 } => {
                    plan.sent_datagram(flow, Sent::to_confirm(now), 64);
                    again.push(ms);
                }
                Step::Close { flow, .. } => plan.gone(flow, "", now),
                _ => break,
            }
        }
    }
    assert_eq!(again[..3], [250, 500, 1000], "{again:?}");
    assert!(again.len() <= 4, "{again:?}");
    let errors = &plan.meter.tally.errors;
    assert_eq!(
        (errors["message timeout"], errors["never answered"]),
        (1, 1)
    );
    assert!(plan.datagram(index, None, 0, 7 * SECOND));
}

struct NoHandler;

impl oread::Handler for NoHandler {
    type Session = ();
    type Message = ();

    fn on_data(&mut self, _: &mut oread::Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }
}
