//! Deadlines and timers where time itself is odd: past, in between two ticks, around them, or long
//! ago; and whose deadline it is. See `simulated_deadlines.rs`.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/simulated.rs"]
mod simulated;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use oread::sim::{World, check};
use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Handler, Limits,
    ListenOptions,
};

use simulated::{SECOND, Scripted, address, idle, listening};

const IDLE: Duration = Duration::from_millis(500);
/// For how long a process stands still.
const STALL: Duration = Duration::from_millis(700);
const MOMENT: Duration = Duration::from_millis(10);

#[test]
fn a_timer_for_the_past_or_for_now_fires_in_the_next_turn() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Scripted::default(), Limits::default());
    // Not at the beginning of a millisecond.
    let moment = Duration::from_micros(10_300);
    world.advance(&mut host, moment).unwrap();
    for ago in [SECOND, SECOND, Duration::from_micros(100), Duration::ZERO] {
        let mut context = host.context();
        context.timer_at(context.now() - ago, 0);
        let before = host.handler.fired.len();
        host.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(host.handler.fired.len(), before + 1, "for {ago:?} ago");
    }
}

#[test]
fn a_timer_of_no_time_comes_at_once_and_once_a_turn_whatever_callback_sets_it() {
    let mut world = World::new(1);
    let handler = Scripted {
        timer: Some(Box::new(|context| _ = context.timer(Duration::ZERO, 0))),
        ..Scripted::on_data(|connection, data| {
            connection.timer(Duration::ZERO);
            data.len()
        })
    };
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.send(b"data");
    // Not at the beginning of a millisecond.
    let moment = Duration::from_micros(10_300);
    world.advance(&mut (), moment).unwrap();
    let now = world.now();
    for fired in 1..10 {
        host.turn(None).unwrap();
        assert_eq!(host.handler.fired.len(), fired);
    }
    let took = world.now() - now;
    assert!(took < Duration::from_micros(100), "{took:?}");
}

#[test]
fn a_timer_before_the_ticks_go_round_is_on_time_beside_a_deadline_behind_that() {
    let mut world = World::new(1);
    let limits = Limits {
        idle_timeout: Some(10 * SECOND),
        ..Limits::default()
    };
    let mut host = listening(&mut world, Scripted::default(), limits);
    let round = Duration::from_millis(1 << 32);
    let start = round - 5 * SECOND;
    world.advance(&mut host, start).unwrap();
    let _peer = world.connect(address());
    world.advance(&mut host, 5 * MOMENT).unwrap();
    assert_eq!(host.handler.opened.len(), 1);
    let due = host.context().now() + SECOND;
    host.context().timer_at(due, 0);
    world.advance(&mut host, 60 * SECOND).unwrap();
    let late = host.handler.fired[0] - due;
    assert!(late < MOMENT, "{late:?} late");
}

#[test]
fn a_trickle_does_not_keep_a_closed_connection_lingering() {
    let mut world = World::new(1);
    let limits = Limits {
        linger_timeout: SECOND,
        ..Limits::default()
    };
    let mut host = listening(&mut world, Scripted::default(), limits);
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    let id = host.handler.opened[0];
    let connection = host.connection(id);
    connection.unwrap().close(CloseReason::Closed);
    peer.send_slowly(&[b'.'; 100], 1, Duration::from_millis(300));
    world.advance(&mut host, 2 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::Closed]);
}

#[test]
fn what_a_spin_took_is_no_part_of_the_wait_behind_it() {
    let mut world = World::new(1);
    let limits = Limits {
        spin: MOMENT,
        ..Limits::default()
    };
    let mut host = listening(&mut world, Scripted::default(), limits);
    let due = host.context().now() + 5 * MOMENT;
    host.context().timer_at(due, 0);
    world.advance(&mut host, SECOND).unwrap();
    let late = host.handler.fired[0] - due;
    assert!(late < MOMENT / 2, "{late:?} late");
}

#[test]
fn the_idle_timeout_of_a_dial_counts_from_when_it_is_open() {
    let mut world = World::new(1);
    world.latency(2 * SECOND..=2 * SECOND);
    let server = world.listen(([10, 0, 0, 2], 80).into());
    let limits = Limits {
        idle_timeout: Some(3 * SECOND),
        linger_timeout: MOMENT,
        ..Limits::default()
    };
    let mut host = listening(&mut world, Scripted::default(), limits);
    let options = ConnectOptions {
        timeout: None,
        ..ConnectOptions::new(server.local_addr())
    };
    let start = host.context().now();
    host.context().connect(&options, ()).unwrap();
    world.advance(&mut host, 60 * SECOND).unwrap();
    let (reason, at) = host.handler.closed[0];
    assert_eq!(reason, CloseReason::IdleTimeout);
    // A round trip of four seconds lies before.
    assert!(at - start >= 7 * SECOND, "after {:?}", at - start);
}

#[test]
fn who_is_idle_and_reads_nothing_of_what_is_pending_is_given_up() {
    let mut world = World::new(1);
    let write_timeout = 10 * SECOND;
    let limits = Limits {
        idle_timeout: Some(SECOND),
        write_timeout: Some(write_timeout),
        ..Limits::default()
    };
    let mut host = listening(&mut world, Scripted::default(), limits);
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.stop_reading();
    let (start, id) = (host.context().now(), host.handler.opened[0]);
    let connection = host.connection(id);
    connection.unwrap().write(&vec![7; 3_000_000]);
    world.advance(&mut host, 60 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::IdleTimeout]);
    // By our own deadlines, and not by the system's, which is half as long again.
    let took = host.handler.closed[0].1 - start;
    assert!(took < write_timeout + 4 * SECOND, "after {took:?}");
}

#[test]
fn a_callback_before_the_wait_knows_what_time_it_is() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Scripted::default(), Limits::default());
    let told = Rc::new(Cell::new(None));
    let tell = Rc::clone(&told);
    host.handler.data = Some(Box::new(move |connection, data| {
        tell.set(Some(connection.context().now()));
        // Some is left, to be shown again.
        data.len() / 2
    }));
    let peer = world.connect(address());
    peer.send(b"data");
    world.settle(&mut host).unwrap();
    let (id, before) = (host.handler.opened[0], host.context().now());
    let mut connection = host.connection(id).unwrap();
    connection.pause();
    connection.resume();
    world.advance(&mut (), SECOND).unwrap();
    host.turn(Some(Duration::ZERO)).unwrap();
    assert!(told.get().unwrap() >= before + SECOND, "the last turn's");
}

#[test]
fn who_waits_for_memory_is_not_idle() {
    let mut world = World::new(1);
    let limits = Limits {
        max_pending: 10_000,
        idle_timeout: Some(5 * SECOND),
        write_timeout: Some(60 * SECOND),
        ..Limits::default()
    };
    let handler = Scripted::on_data(|_, _| 0);
    let mut host = listening(&mut world, handler, limits);
    let peers: Vec<_> = (0..6).map(|_| world.connect(address())).collect();
    for peer in &peers {
        peer.send(&[b'l'; 900_000]);
    }
    world.advance(&mut host, 30 * SECOND).unwrap();
    // One after the other is fed, says nothing more, and is idle then: not those who wait.
    let closed = &host.handler.closed;
    let apart = |two: &[(CloseReason, Instant)]| two[1].1 - two[0].1 >= 4 * SECOND;
    assert!(
        closed.len() >= 3 && closed.windows(2).all(apart),
        "{closed:?}"
    );
}

/// Refuses all callers but the first one.
#[derive(Default)]
struct One {
    has: bool,
    closed: Vec<CloseReason>,
}

impl Handler for One {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        let first = !std::mem::replace(&mut self.has, true);
        first.then_some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, _: ConnectionId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

#[test]
fn nobody_who_spoke_is_idle_when_callers_of_many_listeners_are_told_first() {
    let mut world = World::new(1);
    let limits = Limits {
        events: 1,
        linger_timeout: MOMENT,
        ..idle(IDLE)
    };
    let mut host = listening(&mut world, One::default(), limits);
    let ports = 100..120;
    for port in ports.clone() {
        let options = ListenOptions::new(([10, 0, 0, 1], port));
        host.context().listen(&options).unwrap();
    }
    let speaks = world.connect(address());
    world.settle(&mut host).unwrap();
    let _callers: Vec<_> = ports
        .map(|port| world.connect(([10, 0, 0, 1], port).into()))
        .collect();
    world.advance(&mut (), MOMENT).unwrap();
    speaks.send(b"word");
    world.advance(&mut (), STALL).unwrap();
    world.advance(&mut host, 10 * MOMENT).unwrap();
    assert_eq!(host.handler.closed, []);
}

#[test]
fn a_dial_that_is_there_in_time_is_open_though_events_without_end_are_told_first() {
    check(0..100, |world| {
        world.latency(10 * MOMENT..=10 * MOMENT);
        let limits = Limits {
            events: 1,
            ..Limits::default()
        };
        let mut host = listening(world, Scripted::default(), limits);
        let server = world.listen(([10, 0, 0, 2], 80).into());
        let noise: Vec<_> = (0..12).map(|_| world.connect(address())).collect();
        world.settle(&mut host).unwrap();
        let before = host.handler.opened.len();
        let start = 20 + world.roll(20);
        for n in 0..100 {
            if n == start {
                // A round trip takes 200 to 250 milliseconds.
                let options = ConnectOptions {
                    timeout: Some(26 * MOMENT),
                    ..ConnectOptions::new(server.local_addr())
                };
                host.context().connect(&options, ()).unwrap();
            }
            noise.iter().for_each(|peer| peer.send(b"."));
            // Something is due in every turn.
            host.context().timer(Duration::ZERO, 0);
            world.advance(&mut (), 2 * MOMENT).unwrap();
            host.turn(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(host.handler.opened.len(), before + 1);
    });
}
