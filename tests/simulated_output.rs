//! One world for each known fault of writing: of what is pending, of who reads slowly or not at
//! all. See `simulated_faults.rs`.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/simulated.rs"]
mod simulated;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use oread::sim::{Fault, Peer, World, check};
use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Handler, Limits, ListenOptions,
};

use simulated::{Order, Plain, SECOND, Scripted, Way, address, host, lives, turn_until_stopped};

/// More than any socket here takes: what is behind it is pending.
const MUCH: usize = 600_000;

#[test]
fn what_a_write_leaves_over_is_sent_when_there_is_room() {
    for fault in [Fault::WriteShort, Fault::WriteOneByte, Fault::WriteBlocked] {
        check(0..20, |world| {
            world.fault(fault, 1);
            let mut host = host(world, Plain::new(Way::Answer(1000)), Limits::default());
            let peer = world.connect(address());
            peer.send(b"question");
            world.settle(&mut host).unwrap();
            assert_eq!(peer.received().len(), 1000, "{fault:?}");
        });
    }
}

#[test]
fn who_waited_for_its_output_is_read_again_when_that_is_out() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::AnswerLine(MUCH)), Limits::default());
        let peer = world.connect(address());
        peer.stop_reading();
        peer.send(b"one\n");
        world.advance(&mut host, SECOND).unwrap();
        // Its event comes while nothing is read, and none comes later.
        peer.send(b"two\n");
        world.advance(&mut host, SECOND).unwrap();
        peer.start_reading();
        world.settle(&mut host).unwrap();
        assert_eq!(peer.received().len(), 2 * MUCH);
    });
}

#[test]
fn input_that_was_left_for_pending_output_is_shown_again_when_that_is_out() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::AnswerLine(MUCH)), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        peer.send(b"one\ntwo\n");
        world.advance(&mut (), SECOND).unwrap();
        world.settle(&mut host).unwrap();
        assert_eq!(peer.received().len(), 2 * MUCH);
    });
}

#[test]
fn who_paused_for_its_output_is_told_that_the_connection_has_broken() {
    check(0..20, |world| {
        let way = Way::AnswerAndPause(MUCH);
        let mut host = host(world, Plain::new(way), Limits::default());
        let peer = world.connect(address());
        peer.stop_reading();
        peer.send(b"question");
        world.settle(&mut host).unwrap();
        peer.reset();
        world.settle(&mut host).unwrap();
        assert_eq!(lives(&host)[0].closed, Some(CloseReason::Reset));
    });
}

#[test]
fn what_is_pending_when_the_peer_finishes_is_sent_before_our_end() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::Answer(MUCH)), Limits::default());
        let peer = world.connect(address());
        peer.stop_reading();
        peer.send(b"question");
        peer.finish();
        world.advance(&mut host, SECOND).unwrap();
        peer.start_reading();
        world.settle(&mut host).unwrap();
        assert_eq!(peer.received().len(), MUCH);
        assert!(peer.has_ended() && !peer.was_reset());
    });
}

#[test]
fn one_write_may_be_larger_than_all_that_may_be_pending() {
    check(0..20, |world| {
        let limits = Limits {
            max_output: 1000,
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::Answer(MUCH)), limits);
        let peer = world.connect(address());
        peer.stop_reading();
        peer.send(b"question");
        world.advance(&mut host, SECOND).unwrap();
        assert!(host.context().stats().pending > 1000);
        peer.start_reading();
        peer.expect_count(MUCH);
        world.settle(&mut host).unwrap();
        assert_eq!(host.context().stats().open, 1);
    });
}

#[test]
fn who_reads_nothing_is_closed_in_time_though_more_and_more_is_written() {
    check(0..20, |world| {
        let limits = Limits {
            write_timeout: Some(10 * SECOND),
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::Answer(MUCH)), limits);
        let peer = world.connect(address());
        peer.stop_reading();
        peer.send(b"question");
        for _ in 0..14 {
            world.advance(&mut host, SECOND).unwrap();
            let order = Order::Write(host.handler.inner.opened[0], 1, 1000);
            assert!(host.handle().send(order).is_ok());
        }
        assert_eq!(lives(&host)[0].closed, Some(CloseReason::WriteTimeout));
    });
}

#[test]
fn a_slow_and_steady_reader_is_not_cut_off() {
    check(0..20, |world| {
        let limits = Limits {
            write_timeout: Some(10 * SECOND),
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::Answer(1 << 20)), limits);
        let peer = world.connect(address());
        // Its system tells of what it reads by a sixteenth of its buffer, which is at most 256 KiB.
        peer.read_slowly(4000, SECOND);
        peer.send(b"question");
        world.advance(&mut host, 200 * SECOND).unwrap();
        assert_eq!(lives(&host)[0].closed, None);
    });
}

#[test]
fn who_has_finished_is_not_done_before_all_is_acknowledged() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::Answer(100)), Limits::default());
        let peer = world.connect(address());
        peer.send(b"question");
        peer.finish();
        while lives(&host).is_empty() || !lives(&host)[0].eof {
            assert!(world.step(&mut host, None).unwrap());
        }
        peer.vanish();
        world.advance(&mut host, 120 * SECOND).unwrap();
        let closed = lives(&host)[0].closed;
        assert!(closed.is_some(), "it is still open");
        assert_ne!(closed, Some(CloseReason::Finished));
    });
}

/// Limits that the least send buffer of a world is larger than.
fn tight() -> Limits {
    Limits {
        high_water: 1000,
        low_water: 500,
        gather: 500,
        max_output: 2000,
        ..Limits::default()
    }
}

#[test]
fn output_to_another_connection_is_offered_before_it_is_too_much() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::Take), tight());
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        // The least send buffer of this world takes all of it.
        let order = Order::Write(host.handler.inner.opened[0], 40, 100);
        assert!(host.handle().send(order).is_ok());
        world.settle(&mut host).unwrap();
        assert_eq!(lives(&host)[0].closed, None);
        assert_eq!(peer.received().len(), 4000);
    });
}

#[test]
fn output_of_its_own_callback_is_offered_before_it_is_too_much() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::AnswerInPieces(4, 900)), tight());
        let peer = world.connect(address());
        peer.send(b"question");
        world.settle(&mut host).unwrap();
        assert_eq!(lives(&host)[0].closed, None);
        assert_eq!(peer.received().len(), 3600);
    });
}

#[test]
fn a_callback_is_told_to_stop_though_the_socket_takes_everything() {
    check(0..20, |world| {
        let limits = Limits {
            io_budget: 2,
            ..tight()
        };
        let mut host = host(world, Plain::new(Way::AnswerInPieces(40, 100)), limits);
        let peer = world.connect(address());
        peer.send(b"question");
        world.settle(&mut host).unwrap();
        let pieces = host.handler.inner.pieces;
        assert!(pieces < 30, "{pieces} pieces without a word");
        assert_eq!(peer.received().len(), 100 * pieces);
    });
}

/// Tells the first one of each that ends.
#[derive(Default)]
struct Obituaries {
    first: Option<ConnectionId>,
    closed: Vec<(ConnectionId, CloseReason)>,
}

impl Handler for Obituaries {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        if *self.first.get_or_insert(connection.id()) == connection.id() {
            connection.set_idle_timeout(None);
        }
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, ()>, _: CloseReason) {
        let context = connection.context();
        if let Some(mut first) = context.connection(self.first.unwrap()) {
            first.write(&[b'x'; 100_000]);
        }
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, id: ConnectionId, (): (), reason: CloseReason) {
        self.closed.push((id, reason));
    }
}

#[test]
fn what_last_words_say_to_another_is_held_against_its_bound() {
    check(0..20, |world| {
        let limits = Limits {
            idle_timeout: Some(SECOND),
            write_timeout: None,
            max_output: 200_000,
            ..Limits::default()
        };
        let mut host = world.host(Obituaries::default(), limits).unwrap();
        let listener = host.context().listen(&ListenOptions::new(address()));
        listener.unwrap();
        let reader = world.connect(address());
        reader.stop_reading();
        world.settle(&mut host).unwrap();
        let others: Vec<_> = (0..60).map(|_| world.connect(address())).collect();
        world.advance(&mut host, 5 * SECOND).unwrap();
        assert!(others.iter().all(Peer::has_ended));
        let first = host.handler.first.unwrap();
        let closed = &host.handler.closed;
        assert!(
            closed.contains(&(first, CloseReason::OutputOverflow)),
            "{closed:?}"
        );
    });
}

/// One whose process is off its processor before the n-th call of its last turn: the peer's end has
/// come, and its reset comes then.
fn reset_before_call(nth: u64) {
    let mut world = World::new(1);
    let way = Way::Answer(900_000);
    let mut host = host(&mut world, Plain::new(way), Limits::default());
    let to = ([10, 0, 0, 1], 8).into();
    let options = ListenOptions {
        send_buffer: Some(1_000_000),
        ..ListenOptions::new(to)
    };
    host.context().listen(&options).unwrap();
    let peer = world.connect(to);
    world.settle(&mut host).unwrap();
    peer.stop_reading();
    peer.send(b"question");
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().pending, 0);
    peer.finish();
    peer.reset();
    world.fault(Fault::StoodStill, nth);
    world.advance(&mut host, 400 * SECOND).unwrap();
    let closed = lives(&host)[0].closed;
    assert_eq!(closed, Some(CloseReason::Reset), "before call {nth}");
}

#[test]
fn a_reset_between_two_questions_is_no_good_end() {
    (1..40).for_each(reset_before_call);
}

#[test]
fn what_is_written_before_a_stop_is_sent_though_its_writer_has_spent_its_budget() {
    let mut world = World::new(1);
    // So many lines that the last one finds no call left in its turn.
    let lines = usize::try_from(Limits::default().io_budget).unwrap();
    let handler = Scripted::on_data(|connection, data| {
        let Some(end) = data.iter().position(|&byte| byte == b'\n') else {
            return 0;
        };
        connection.pause();
        if data.starts_with(b"quit") {
            (0..3).for_each(|_| _ = connection.write(&[7; 20_000]));
            connection.context().stop();
        }
        connection.resume();
        end + 1
    });
    let mut host = host(&mut world, handler, Limits::default());
    let to = ([10, 0, 0, 1], 8).into();
    let options = ListenOptions {
        send_buffer: Some(1_000_000),
        ..ListenOptions::new(to)
    };
    host.context().listen(&options).unwrap();
    let peer = world.connect(to);
    world.settle(&mut host).unwrap();
    let mut text = b"line\n".repeat(lines - 1);
    text.extend(b"quit\n");
    peer.send(&text);
    world.advance(&mut (), SECOND).unwrap();
    turn_until_stopped(&mut host);
    world.advance(&mut (), SECOND).unwrap();
    assert_eq!(peer.received().len(), 60_000);
}

#[test]
fn a_dropped_reactor_resets_whose_output_is_pending_and_ends_the_others_in_good_order() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Scripted::default(), Limits::default());
    let [cut, whole] = [(); 2].map(|()| world.connect(address()));
    world.settle(&mut host).unwrap();
    cut.stop_reading();
    for id in host.handler.inner.opened.clone() {
        let mut connection = host.connection(id).unwrap();
        connection.write(&[7; MUCH]);
    }
    world.settle(&mut host).unwrap();
    assert!(host.context().stats().pending > 0);
    drop(host);
    cut.start_reading();
    world.advance(&mut (), SECOND).unwrap();
    assert!(
        cut.was_reset() && !cut.has_ended(),
        "a part is taken for the whole"
    );
    assert_eq!(whole.received().len(), MUCH);
    assert!(whole.has_ended() && !whole.was_reset());
}

#[test]
fn a_reactor_dropped_after_a_panic_resets_whose_callback_it_was() {
    let mut world = World::new(1);
    let handler = Scripted::on_data(|connection, _| {
        connection.write(b"half of ");
        panic!("of a handler");
    });
    let mut host = host(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    peer.send(b"question");
    let run = AssertUnwindSafe(|| world.settle(&mut host));
    assert!(catch_unwind(run).is_err());
    drop(host);
    world.advance(&mut (), SECOND).unwrap();
    assert!(peer.was_reset() && !peer.has_ended());
}

#[test]
fn what_the_last_callback_before_a_stop_writes_to_another_is_sent() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Scripted::default(), Limits::default());
    let [leaves, stays] = [(); 2].map(|()| world.connect(address()));
    world.settle(&mut host).unwrap();
    let opened = host.handler.inner.opened.clone();
    host.handler.inner.close = Some(Box::new(move |context| {
        for id in &opened {
            if let Some(mut connection) = context.connection(*id) {
                connection.write(b"last words");
            }
        }
        context.stop();
    }));
    leaves.reset();
    world.advance(&mut (), SECOND).unwrap();
    turn_until_stopped(&mut host);
    world.advance(&mut (), SECOND).unwrap();
    assert_eq!(stays.received(), b"last words");
}

#[test]
fn who_stays_open_in_a_drain_may_keep_no_more_output_than_before() {
    let mut world = World::new(1);
    let limits = Limits {
        max_output: 100_000,
        ..Limits::default()
    };
    let mut host = host(&mut world, Scripted::that_stays(), limits);
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.stop_reading();
    let id = host.handler.inner.opened[0];
    host.context().drain(100 * SECOND);
    host.turn(Some(Duration::ZERO)).unwrap();
    for _ in 0..100 {
        if let Some(mut connection) = host.context().connection(id) {
            connection.write(&[7; 100_000]);
        }
    }
    let pending = host.context().stats().pending;
    assert!(pending <= 200_000, "{pending}");
}

#[test]
fn who_is_to_read_on_under_pressure_does_so_at_once() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Scripted::default(), Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.stop_reading();
    let id = host.handler.inner.opened[0];
    let connection = host.connection(id);
    connection.unwrap().write(&[7; MUCH]);
    world.settle(&mut host).unwrap();
    // Its event comes while nothing is read.
    peer.send(b"hello");
    world.settle(&mut host).unwrap();
    assert_eq!(lives(&host)[0].consumed, b"");
    let connection = host.connection(id);
    connection.unwrap().read_on(true);
    world.settle(&mut host).unwrap();
    assert_eq!(lives(&host)[0].consumed, b"hello");
}

#[test]
fn what_is_written_behind_formatted_text_is_held_against_its_bound() {
    let mut world = World::new(1);
    let limits = Limits {
        max_output: 100_000,
        ..Limits::default()
    };
    let handler = Scripted::on_data(|connection, data| {
        write!(connection, "{} bytes", data.len());
        (0..100).for_each(|_| _ = connection.write(&[7; 100_000]));
        data.len()
    });
    let mut host = host(&mut world, handler, limits);
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.stop_reading();
    peer.send(b"question");
    world.settle(&mut host).unwrap();
    let overflow = Some(CloseReason::OutputOverflow);
    assert_eq!(lives(&host)[0].closed, overflow);
}
