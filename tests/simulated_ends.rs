//! How a connection ends, when, and for which reason.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/hosts.rs"]
mod hosts;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oread::sim::{Fault, Host, Poller, World};
use oread::{CloseReason, ConnectOptions, Limits, Pressure};

use acting::Acting;
use hosts::{SECOND, address, idle, listening};

/// The least time worth a word.
const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn what_was_left_for_pressure_is_shown_again_before_the_end() {
    let mut world = World::new(1);
    let at: SocketAddr = ([10, 0, 0, 2], 9).into();
    let server = world.listen(at);
    server.stop_reading();
    let handler =
        Acting::default().on_open(
            |connection| {
                while connection.write(&[7; 10_000]) == Pressure::Low {}
            },
        );
    let handler = handler.on_data(|connection, data| match connection.pressure() {
        Pressure::Low => data.len(),
        _ => 0,
    });
    let mut host = world.host(handler, Limits::default()).unwrap();
    host.context()
        .connect(&ConnectOptions::new(at), ())
        .unwrap();
    world.settle(&mut host).unwrap();
    let peer = server.accept().unwrap();
    peer.send(b"ask");
    peer.finish();
    world.settle(&mut host).unwrap();
    peer.start_reading();
    world.settle(&mut host).unwrap();
    let log = host.handler.log.join(", ");
    assert!(
        log.starts_with("open, data 0 of 3, drained, data 3 of 3, eof 0"),
        "{log}"
    );
}

#[test]
fn a_closed_connection_whose_fin_fails_is_over_at_once() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let _peer = world.connect(address());
    world.settle(&mut host).unwrap();
    world.fault(Fault::ShutdownFails, 1);
    let (id, start) = (host.handler.opened[0], host.context().now());
    host.context()
        .connection(id)
        .unwrap()
        .close(CloseReason::Other(1));
    world.advance(&mut host, 10 * SECOND).unwrap();
    assert!(world.faults_met().contains(&Fault::ShutdownFails));
    let (_, why, at) = host.handler.closed[0];
    assert_eq!(why, CloseReason::Other(1));
    assert!(at - start < SECOND, "{:?}", at - start);
}

#[test]
fn who_was_cut_off_is_found_by_nobody() {
    let mut world = World::new(1);
    let handler = Acting::default();
    let seen = Rc::new(Cell::new(None));
    let told = Rc::clone(&seen);
    let handler = handler.on_data(move |connection, data| {
        let id = connection.id();
        connection.abort(CloseReason::Aborted);
        let context = connection.context();
        let count = context.connections().count();
        let mut visited = 0;
        context.for_each(|_| visited += 1);
        told.set(Some((context.connection(id).is_none(), count, visited)));
        data.len()
    });
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    peer.send(b"hello");
    world.settle(&mut host).unwrap();
    assert_eq!(seen.get(), Some((true, 0, 0)));
}

#[test]
fn the_reason_of_a_broken_connection_is_the_break() {
    let mut world = World::new(1);
    let handler = Acting::default().on_data(|connection, data| {
        connection.write(&[7; 20_000]);
        connection.close(CloseReason::Other(1));
        data.len()
    });
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    world.fault(Fault::ResetBeforeWrite, 1);
    peer.send(b"hello");
    world.settle(&mut host).unwrap();
    assert_eq!(world.faults_met(), [Fault::ResetBeforeWrite]);
    assert_eq!(host.handler.reasons(), [CloseReason::Reset]);
}

#[test]
fn a_broken_connection_that_is_finished_has_no_end() {
    let mut world = World::new(1);
    let handler = Acting::default().on_data(|connection, data| {
        connection.write(&[7; 20_000]);
        connection.finish();
        data.len()
    });
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    world.fault(Fault::ResetBeforeWrite, 1);
    peer.send(b"hello");
    world.settle(&mut host).unwrap();
    let log = host.handler.log.join(", ");
    assert_eq!(log, "open, data 5 of 5, close Reset");
}

#[test]
fn who_is_cut_off_between_turns_is_told_closed_at_once() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let _peer = world.connect(address());
    world.settle(&mut host).unwrap();
    let (id, start) = (host.handler.opened[0], host.context().now());
    host.context()
        .connection(id)
        .unwrap()
        .abort(CloseReason::Aborted);
    world.advance(&mut host, 10 * SECOND).unwrap();
    let (_, why, at) = host.handler.closed[0];
    assert_eq!(why, CloseReason::Aborted);
    assert!(at - start < MOMENT, "{:?}", at - start);
}

#[test]
fn who_knows_of_the_end_and_whose_write_fails_is_over() {
    let mut world = World::new(1);
    let handler = Acting::default().on_eof(|connection| _ = connection.timer(SECOND));
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.finish();
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.log, ["open", "eof 0"]);
    let id = host.handler.opened[0];
    host.handler.timer = Some(Box::new(move |context| {
        context.connection(id).unwrap().write(&[7; 20_000]);
    }));
    world.fault(Fault::ResetBeforeWrite, 1);
    world.advance(&mut host, 5 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::Reset]);
}

#[test]
fn who_is_given_up_by_the_system_is_not_told_reset() {
    let mut world = World::new(1);
    let limits = Limits {
        write_timeout: Some(10 * SECOND),
        ..Limits::default()
    };
    let handler = Acting::default().on_data(|connection, data| {
        connection.write(b"answer");
        data.len()
    });
    let mut host = listening(&mut world, handler, limits);
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.send(b"ask");
    world.advance(&mut (), SECOND).unwrap();
    peer.vanish();
    world.advance(&mut host, 100 * SECOND).unwrap();
    let why = host.handler.reasons();
    let error = why[0].io_error().map(|error| error.kind());
    assert_eq!(error, Some(io::ErrorKind::TimedOut), "{why:?}");
}

#[test]
fn who_has_finished_is_not_idle_while_its_output_is_under_way() {
    let mut world = World::new(1);
    let handler = Acting::default().on_eof(|connection| {
        connection.write(b"answer");
        connection.finish();
    });
    let mut host = listening(&mut world, handler, idle(5 * SECOND));
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.finish();
    world.advance(&mut (), SECOND).unwrap();
    let at = peer.local_addr().unwrap().ip();
    world.partition(at, address().ip());
    world.advance(&mut host, 15 * SECOND).unwrap();
    world.heal(at, address().ip());
    world.advance(&mut host, 100 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::Finished]);
    assert_eq!(peer.received(), b"answer");
}

#[test]
fn what_the_last_words_of_one_say_to_another_is_no_old_output() {
    let mut world = World::new(1);
    world.poller(Poller::Kqueue);
    world.latency(MOMENT..=MOMENT);
    let limits = Limits {
        idle_timeout: Some(5 * SECOND),
        write_timeout: Some(SECOND),
        ..Limits::default()
    };
    let handler = Acting::default();
    let ids = Rc::new(RefCell::new(Vec::new()));
    let all = Rc::clone(&ids);
    let handler = handler.on_open(move |connection| all.borrow_mut().push(connection.id()));
    let handler = handler.on_closing(move |connection| {
        let own = connection.id();
        for &id in ids.borrow().iter().filter(|&&id| id != own) {
            if let Some(mut other) = connection.context().connection(id) {
                other.write(b"one leaves");
            }
        }
    });
    let mut host = listening(&mut world, handler, limits);
    let peers = [(); 2].map(|()| world.connect(address()));
    world.advance(&mut (), SECOND).unwrap();
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.opened.len(), 2);
    world.advance(&mut host, 6 * SECOND).unwrap();
    let log = host.handler.log.join(", ");
    assert!(!log.contains("WriteTimeout"), "{log}");
    let heard = peers
        .iter()
        .filter(|peer| peer.received() == b"one leaves")
        .count();
    assert!(heard >= 1, "{log}");
}

#[test]
fn a_large_write_from_outside_is_activity() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), idle(10 * SECOND));
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    world.advance(&mut host, 8 * SECOND).unwrap();
    let id = host.handler.opened[0];
    host.context().connection(id).unwrap().write(&[7; 20_000]);
    world.advance(&mut host, 5 * SECOND).unwrap();
    assert_eq!(peer.received().len(), 20_000);
    assert_eq!(host.handler.log, ["open"]);
    world.advance(&mut host, 20 * SECOND).unwrap();
    assert_eq!(host.handler.log[1], "closing IdleTimeout");
}

#[test]
fn a_timer_of_thirty_days_fires_after_thirty_days() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let days = |count: u32| SECOND * (count * 86_400);
    host.context().timer(days(30), 1);
    world.advance(&mut host, days(29)).unwrap();
    assert!(host.handler.fired.is_empty());
    world.advance(&mut host, days(2)).unwrap();
    assert_eq!(host.handler.fired.len(), 1);
}

#[test]
fn a_silence_of_months_is_known_to_the_day() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let day = 86_400 * SECOND;
    // The last byte of each, by the day.
    let spoke = [0, 5, 13, 19];
    let peers = spoke.map(|_| world.connect(address()));
    world.settle(&mut host).unwrap();
    let ids = host.handler.opened.clone();
    let set = |host: &mut Host<Acting>, days: u32| {
        for id in &ids {
            if let Some(mut connection) = host.context().connection(*id) {
                connection.set_idle_timeout(Some(days * day));
            }
        }
    };
    for now in 1..=60_u32 {
        world.advance(&mut host, day).unwrap();
        // Whoever runs it turns it at least once a day.
        host.context();
        for (peer, spoke) in peers.iter().zip(spoke) {
            if spoke == now {
                peer.send(b"still here");
                world.advance(&mut host, MOMENT).unwrap();
            }
        }
        // Before and after the ages of the silent are bounded anew.
        if now == 20 || now == 27 {
            set(&mut host, 24);
        }
        let gone = peers.iter().filter(|peer| peer.has_ended()).count();
        // Seen a day after it was due at the latest.
        let due = spoke.iter().filter(|spoke| **spoke + 24 < now).count();
        let early = spoke.iter().filter(|spoke| **spoke + 24 <= now).count();
        assert!(
            (due..=early).contains(&gone),
            "day {now}: {gone} are gone, not {due}"
        );
    }
}

#[test]
fn who_was_silent_for_longer_than_ticks_can_tell_is_idle_at_once() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let day = 86_400 * SECOND;
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    let id = host.handler.opened[0];
    // 50 days are 7 hours more than a tick has a meaning for. No turn comes for the first 13.
    world.advance(&mut host, 13 * day).unwrap();
    for _ in 13..50 {
        host.context();
        world.advance(&mut host, day).unwrap();
    }
    host.context()
        .connection(id)
        .unwrap()
        .set_idle_timeout(Some(day));
    world.advance(&mut host, SECOND).unwrap();
    assert!(peer.has_ended());
}

#[test]
fn a_timer_is_on_time_though_its_callback_took_long() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let process = host.process().clone();
    host.handler.data = Some(Box::new(move |connection, data| {
        connection.context().timer(SECOND / 2, 1);
        process.stand_still(3 * SECOND / 10);
        data.len()
    }));
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.send(b"hello");
    let start = host.context().now();
    world.advance(&mut host, 2 * SECOND).unwrap();
    let took = host.handler.fired[0] - start;
    assert!(took >= SECOND / 2 && took < 6 * SECOND / 10, "{took:?}");
}

#[test]
fn to_resume_who_is_not_paused_shows_nothing_again() {
    let mut world = World::new(1);
    let handler = Acting::default().on_data(|connection, _| {
        connection.resume();
        1
    });
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    peer.send(b"abc");
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.log, ["open", "data 1 of 3"]);
}

#[test]
fn output_that_a_break_has_dropped_is_not_told_as_drained() {
    let mut world = World::new(1);
    let handler = Acting::default().on_data(|connection, data| {
        connection.write(&[7; 600_000]);
        data.len()
    });
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    peer.stop_reading();
    peer.send(b"ask");
    world.advance(&mut host, SECOND).unwrap();
    let id = host.handler.opened[0];
    let pressure = host.context().connection(id).unwrap().pressure();
    assert_eq!(pressure, Pressure::High);
    // Room comes, and with it the reset that the next write meets.
    world.fault(Fault::ResetBeforeWrite, 1);
    peer.start_reading();
    world.settle(&mut host).unwrap();
    assert_eq!(world.faults_met(), [Fault::ResetBeforeWrite]);
    assert_eq!(
        host.handler.log.join(", "),
        "open, data 3 of 3, close Reset"
    );
}

/// A server that says so much, and then does as `then` says, to a peer that never reads: after how
/// many seconds the connection is over, and why; `None`: it's there after ten minutes.
fn unread(size: usize, finished: bool, then: fn(&mut Talk<'_>)) -> Option<(u64, CloseReason)> {
    let mut world = World::new(1);
    let handler = Acting::default().on_open(move |connection| {
        connection.write(&vec![7; size]);
        then(connection);
    });
    let mut host = listening(&mut world, handler, Limits::default());
    let peer = world.connect(address());
    peer.stop_reading();
    if finished {
        peer.finish();
    }
    let begun = host.context().now();
    world.advance(&mut host, 600 * SECOND).unwrap();
    let (_, reason, at) = *host.handler.closed.first()?;
    Some(((at - begun).as_secs(), reason))
}

type Talk<'a> = oread::Connection<'a, ()>;

/// The table is in the docs of `Limits`.
#[test]
fn a_peer_that_stops_reading_is_gone_when_the_docs_of_the_limits_say() {
    // The peer's buffer takes a little, and the host's own then as much again.
    let (little, more, much) = (100, 64 << 10, 10 << 20);
    let stay: fn(&mut Talk<'_>) = |_| {};
    let close: fn(&mut Talk<'_>) = |connection| connection.close(CloseReason::Closed);
    let late = Some((75, CloseReason::WriteTimeout));
    assert_eq!(unread(much, false, stay), late);
    assert_eq!(unread(more, true, |connection| connection.finish()), late);
    let errno = nix::errno::Errno::ETIMEDOUT as u16;
    let refused = Some((90, CloseReason::Failed(errno)));
    assert_eq!(unread(more, false, stay), refused);
    assert_eq!(unread(little, false, stay), None);
    let closed = |seconds| Some((seconds, CloseReason::Closed));
    assert_eq!(unread(much, false, close), closed(75));
    assert_eq!(unread(more, false, close), closed(5));
    assert_eq!(unread(little, false, close), closed(5));
}
