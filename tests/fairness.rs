//! Nobody starves: not behind an endless sender, not behind a flood of callers, not behind timers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::{PATIENCE, World, connect, read_some};
use oread::{ConnectionId, Limits};

/// Sends without end and reads all that comes back, in threads of its own, until it's dropped.
struct Endless(TcpStream);

impl Endless {
    fn start(stream: TcpStream) -> Endless {
        let mut sender = stream.try_clone().unwrap();
        std::thread::spawn(move || while sender.write_all(&[b'x'; 64 << 10]).is_ok() {});
        let mut receiver = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while receiver.read(&mut buffer).is_ok_and(|count| count > 0) {}
        });
        Endless(stream)
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _gone_or_not = self.0.shutdown(Shutdown::Both);
    }
}

#[test]
fn pingers_and_timers_are_served_within_a_few_turns_beside_an_endless_source() {
    const PINGERS: usize = 200;
    let mut world = World::with(Limits {
        io_budget: 4,
        ..Limits::default()
    });
    world.handler.forgetful = true;
    // A timer that is set anew each time it fires.
    world.handler.timer = Some(Box::new(|_, context, _| {
        context.timer(Duration::from_millis(1), 0);
    }));
    let (_, address) = world.listen();
    let _endless = Endless::start(connect(address));
    let mut pingers: Vec<_> = (0..PINGERS).map(|_| connect(address)).collect();
    world.until_opened(PINGERS + 1);
    for pinger in &pingers {
        pinger.set_nonblocking(true).unwrap();
    }
    world.context().timer(Duration::ZERO, 0);
    world.until("the source has used up a budget", |world| {
        world.stats().budget_hits > 0
    });
    for _ in 0..10 {
        for pinger in &mut pingers {
            pinger.write_all(b"ping").unwrap();
        }
        let before = world.turns;
        let mut answered = 0;
        while answered < PINGERS {
            // All pings are there before the first turn, and each connection is driven once a turn;
            // one turn more for those that the system hands over late.
            assert!(world.turns - before < 5, "{answered} answers in five turns");
            world.turn();
            for pinger in &mut pingers {
                let mut bytes = Vec::new();
                assert!(!read_some(pinger, &mut bytes, 4).unwrap());
                answered += usize::from(bytes == b"ping");
            }
        }
    }
    let fired = world.seen().timers.len();
    world.until("the timer has fired ten times more", |world| {
        world.handler.seen.timers.len() >= fired + 10
    });
}

#[test]
fn a_source_that_uses_up_its_budget_is_gone_on_with_though_no_event_comes() {
    let mut world = World::with(Limits {
        io_budget: 1,
        read_buffer: 10,
        ..Limits::default()
    });
    let mut client = world.client();
    // One edge, and a hundred reads.
    let message = common::pattern(1000);
    assert_eq!(world.exchange(&mut client, &message), message);
    assert!(world.stats().budget_hits >= 99);
}

#[test]
fn a_turn_accepts_no_more_than_its_budget_and_goes_on_in_the_next() {
    let mut world = World::with(Limits {
        accept_budget: 3,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let _clients: Vec<_> = (0..10).map(|_| connect(address)).collect();
    let mut most = 0;
    while world.seen().opened.len() < 10 {
        let before = world.seen().opened.len();
        let turn = world.turn_for(PATIENCE);
        let now = world.seen().opened.len() - before;
        most = most.max(now);
        assert!(now <= 3, "{now} in one turn");
        assert!(turn.more || world.seen().opened.len() >= 9);
    }
    assert_eq!(most, 3);
}

#[test]
fn a_batch_with_no_room_for_all_leaves_nobody_behind() {
    let mut world = World::with(Limits {
        events: 4,
        ..Limits::default()
    });
    let (_, address) = world.listen();
    let mut clients: Vec<_> = (0..50).map(|_| connect(address)).collect();
    world.until_opened(50);
    world.settle();
    for client in &mut clients {
        client.write_all(b"x").unwrap();
    }
    let mut turns = 0;
    while world.seen().bytes.len() < 50 {
        // A full batch is queued work: no turn of these may wait, however long it's told to.
        turns += 1;
        assert!(
            turns < 100,
            "{} of 50 served",
            world.handler.seen.bytes.len()
        );
        world.turn_for(Duration::from_millis(100));
    }
}

#[test]
fn timers_fire_in_the_order_in_which_they_are_due_never_early_and_each_once() {
    let mut world = World::new();
    let start = Instant::now();
    for (after, key) in [(30, 3), (10, 1), (20, 2), (30, 4), (0, 0)] {
        world.context().timer(Duration::from_millis(after), key);
    }
    let mut seen = 0;
    world.until("all have fired", |world| {
        let timers = &world.handler.seen.timers;
        for &key in &timers[seen..] {
            let due = Duration::from_millis([0, 10, 20, 30, 30][key as usize]);
            assert!(start.elapsed() >= due, "timer {key} is early");
        }
        seen = timers.len();
        seen == 5
    });
    assert_eq!(world.seen().timers, [0, 1, 2, 3, 4]);
    world.settle();
    assert_eq!(world.seen().timers.len(), 5);
}

#[test]
fn a_timer_for_a_time_that_is_past_fires_and_those_to_come_in_their_order() {
    let mut world = World::new();
    let now = world.context().now();
    let ahead = |ms| now + Duration::from_millis(ms);
    for (due, key) in [
        (ahead(20), 2),
        (now - Duration::from_secs(1), 0),
        (ahead(10), 1),
    ] {
        world.context().timer_at(due, key);
    }
    world.until("all have fired", |world| {
        world.handler.seen.timers.len() == 3
    });
    assert_eq!(world.seen().timers, [0, 1, 2]);
    assert!(Instant::now() >= ahead(20));
}

#[test]
fn a_cancelled_timer_does_not_fire_and_a_fired_one_cannot_be_cancelled() {
    let mut world = World::new();
    let cancelled = world.context().timer(Duration::from_millis(1), 1);
    let fires = world.context().timer(Duration::from_millis(2), 2);
    assert!(world.context().cancel(cancelled));
    assert!(!world.context().cancel(cancelled));
    world.until("the other one fires", |world| {
        !world.handler.seen.timers.is_empty()
    });
    assert_eq!(world.seen().timers, [2]);
    assert!(!world.context().cancel(fires));
    // Its slot is used again: the old id must not cancel the new timer.
    world.context().timer(Duration::ZERO, 3);
    assert!(!world.context().cancel(fires));
    world.until("the new one fires", |world| {
        world.handler.seen.timers.len() == 2
    });
}

#[test]
fn a_timer_may_cancel_another_that_is_due_in_the_same_turn() {
    let mut world = World::new();
    let ids: Vec<_> = (0..2)
        .map(|key| world.context().timer(Duration::from_millis(1), key))
        .collect();
    world.handler.timer = Some(Box::new(move |_, context, _| {
        assert!(context.cancel(ids[1]));
    }));
    world.until("the first fires", |world| {
        !world.handler.seen.timers.is_empty()
    });
    world.settle();
    assert_eq!(world.seen().timers, [0]);
}

#[test]
fn a_timer_without_delay_that_sets_itself_again_fires_once_a_turn_and_starves_nobody() {
    let mut world = World::new();
    world.handler.timer = Some(Box::new(|_, context, key| {
        context.timer(Duration::ZERO, key);
    }));
    let mut client = world.client();
    world.context().timer(Duration::ZERO, 7);
    assert_eq!(world.exchange(&mut client, b"ping"), b"ping");
    let (turns, fired) = (world.turns, world.handler.seen.timers.len());
    for _ in 0..20 {
        world.turn_for(PATIENCE);
    }
    let fired = world.handler.seen.timers.len() - fired;
    assert!(
        fired <= 21,
        "{fired} times in {} turns",
        world.turns - turns
    );
    assert!(fired >= 10);
}

#[test]
fn a_timer_whose_key_is_a_connections_id_finds_that_one_and_once_it_is_closed_nobody() {
    let mut world = World::new();
    world.handler.timer = Some(Box::new(|_, context, key| {
        if let Some(mut connection) = context.connection(ConnectionId::from_bits(key)) {
            connection.write(b"time");
        }
    }));
    let (_, address) = world.listen();
    let mut clients = Vec::new();
    for count in 1..=2 {
        clients.push(connect(address));
        world.until_opened(count);
    }
    let keys = world.seen().opened.clone();
    world.context().timer(Duration::ZERO, keys[1].to_bits());
    assert_eq!(world.receive(&mut clients[1], 4), b"time");
    // The second leaves, and a third takes over its slot: the old key is not the third's.
    clients.pop();
    world.until_closed(1);
    clients.push(connect(address));
    world.until_opened(3);
    world.context().timer(Duration::ZERO, keys[1].to_bits());
    world.until("the second timer has fired", |world| {
        world.handler.seen.timers.len() == 2
    });
    // Had it been written to either of them, it would come before the echo.
    for client in &mut clients {
        assert_eq!(world.exchange(client, b"ping"), b"ping");
    }
}

#[test]
fn a_timer_set_before_the_poll_is_not_early_by_the_time_since_the_last_turn() {
    const WAIT: Duration = Duration::from_millis(50);
    let mut world = World::new();
    let mut client = world.client();
    let id = world.seen().opened[0];
    let mut connection = world.connection(id).unwrap();
    connection.pause();
    client.write_all(b"x").unwrap();
    world.settle();
    world.handler.data = Some(Box::new(|_, connection, data| {
        connection.context().timer(WAIT, 0);
        data.len()
    }));
    // It's to go on at the beginning of the next turn, which comes late.
    world.context().connection(id).unwrap().resume();
    let start = Instant::now();
    while start.elapsed() < 2 * WAIT {
        std::hint::spin_loop();
    }
    let turn = Instant::now();
    world.until("the timer fires", |world| {
        !world.handler.seen.timers.is_empty()
    });
    assert!(turn.elapsed() >= WAIT, "fired early");
}

#[test]
fn waits_beyond_all_reason_are_waits() {
    let mut world = World::with(Limits {
        idle_timeout: Some(Duration::MAX),
        write_timeout: Some(Duration::MAX),
        linger_timeout: Duration::MAX,
        ..Limits::default()
    });
    world.context().timer(Duration::MAX, 1);
    world.context().timer(Duration::from_secs(u64::MAX / 2), 2);
    world.context().timer(Duration::from_secs(40 * 86_400), 3);
    let (_, address) = world.listen();
    let options = oread::ConnectOptions {
        timeout: Some(Duration::MAX),
        ..oread::ConnectOptions::new(address)
    };
    world.context().connect(&options, 0).unwrap();
    world.until_opened(2);
    world.settle();
    assert!(world.seen().timers.is_empty() && world.seen().failed.is_empty());
    let next = world.reactor.next_timeout().unwrap();
    assert!(next > Duration::from_secs(3600), "wakes in {next:?}");
    let mut client = connect(address);
    world.until_opened(3);
    assert_eq!(world.exchange(&mut client, b"ping"), b"ping");
    client.set_nonblocking(true).unwrap();
    assert_eq!(
        client.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    // Nor does a drain that may take for ever end after some time of its own.
    world.context().drain(Duration::MAX);
    world.turn();
    world.settle();
    let next = world.reactor.next_timeout().unwrap();
    assert!(next > Duration::from_secs(2 * 86_400), "wakes in {next:?}");
}
