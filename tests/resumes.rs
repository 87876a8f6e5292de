//! A wish to be shown the rest again is kept, when it's made while the rest is lent out too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::net::Shutdown;

use common::World;
use oread::CloseReason;

/// A reactor whose handler pauses for every line, takes it, and has its answer at once, as from a
/// cache.
fn line_by_line(resume_first: bool) -> World {
    let mut world = World::new();
    world.handler.data = Some(Box::new(move |_, connection, data| {
        let Some(end) = data.iter().position(|&byte| byte == b'\n') else {
            return 0;
        };
        connection.pause();
        if resume_first {
            connection.resume();
        }
        connection.write(&data[..=end]);
        if !resume_first {
            connection.resume();
        }
        end + 1
    }));
    world
}

#[test]
fn requests_of_one_segment_are_all_answered_by_a_handler_that_pauses_and_resumes_for_each() {
    for resume_first in [false, true] {
        let mut world = line_by_line(resume_first);
        let mut client = world.client();
        client.write_all(b"one\ntwo\nthree\n").unwrap();
        world.settle();
        assert_eq!(world.seen().bytes, b"one\ntwo\nthree\n");
        assert_eq!(world.receive(&mut client, 14), b"one\ntwo\nthree\n");
        assert_eq!(world.stats().unconsumed, 0);
    }
}

#[test]
fn they_are_answered_when_the_peer_s_end_comes_with_them_and_the_end_is_told_behind_them() {
    for resume_first in [false, true] {
        let mut world = line_by_line(resume_first);
        let mut client = world.client();
        client.write_all(b"one\ntwo\nthree\nand a rest").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (bytes, end) = world.receive_to_end(&mut client);
        assert_eq!(bytes, b"one\ntwo\nthree\n");
        end.unwrap();
        assert_eq!(world.until_closed(1), CloseReason::Finished);
        assert_eq!(world.seen().rests, [b"and a rest"]);
    }
}

#[test]
fn they_are_answered_after_a_pause_that_a_timer_ended() {
    let mut world = line_by_line(false);
    world.handler.open = Some(Box::new(|_, connection| connection.pause()));
    world.handler.timer = Some(Box::new(|seen, context, _| {
        context.connection(seen.opened[0]).unwrap().resume();
    }));
    let mut client = world.client();
    client.write_all(b"one\ntwo\nthree\n").unwrap();
    world.settle();
    world.context().timer(std::time::Duration::ZERO, 0);
    world.until("the timer fires", |world| {
        !world.handler.seen.timers.is_empty()
    });
    world.settle();
    assert_eq!(world.seen().bytes, b"one\ntwo\nthree\n");
    assert_eq!(world.receive(&mut client, 14), b"one\ntwo\nthree\n");
}

#[test]
fn a_handler_that_resumes_and_takes_nothing_keeps_nobody_waiting() {
    let mut world = World::new();
    world.handler.data = Some(Box::new(|seen, connection, data| {
        if data[0] != b'!' {
            connection.write(data);
            return data.len();
        }
        seen.count += 1;
        // Where it is shown the same byte again and again, this ends the test.
        assert!(seen.count < 10_000, "it's asked and asked");
        connection.pause();
        connection.resume();
        0
    }));
    let (mut stubborn, mut other) = (world.client(), world.client());
    stubborn.write_all(b"!").unwrap();
    for _ in 0..10 {
        let before = world.seen().count;
        world.turn();
        let calls = world.seen().count - before;
        assert!(calls < 100, "{calls} calls in one turn");
    }
    assert_eq!(world.exchange(&mut other, b"ping"), b"ping");
}
