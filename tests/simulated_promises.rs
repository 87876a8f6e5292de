//! What a handler is promised, a world for each: when it's called and when not, by what clock, and
//! how a run ends. See `simulated_faults.rs`.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/simulated.rs"]
mod simulated;

use std::time::Duration;

use oread::sim::{Host, World, check};
use oread::{
    Accepted, CloseReason, Connection, Context, Ended, Handler, Limits, ListenOptions, Pressure,
};

use simulated::{Plain, SECOND, Watched, Way, address, host, lives, look_at};

/// Writes as long as it may, and has a last word for whoever is idle.
#[derive(Default)]
struct Talker {
    told: Vec<u8>,
}

impl Talker {
    fn talk(&mut self, connection: &mut Connection<'_, ()>) {
        while self.told.len() < 5_000_000 {
            let bytes: Vec<u8> = (0..10_000).map(|n: u32| (n % 251) as u8).collect();
            let pressure = connection.write(&bytes);
            self.told.extend(bytes);
            if pressure != Pressure::Low {
                return;
            }
        }
    }
}

impl Handler for Talker {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        self.talk(connection);
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, ()>) {
        self.talk(connection);
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, ()>, _: CloseReason) {
        for _ in 0..3 {
            connection.write(b"goodbye");
            self.told.extend(b"goodbye");
        }
    }
}

#[test]
fn the_last_words_to_an_idle_peer_go_out_behind_output_that_is_under_pressure() {
    for limits in [
        Limits {
            max_pending: 1,
            ..Limits::default()
        },
        Limits {
            max_output: 5000,
            ..Limits::default()
        },
        Limits::default(),
    ] {
        let mut world = World::new(1);
        let limits = Limits {
            idle_timeout: Some(Duration::from_secs(1)),
            ..limits
        };
        let mut host = world.host(Watched::new(Talker::default()), limits).unwrap();
        host.context()
            .listen(&ListenOptions::new(address()))
            .unwrap();
        let peer = world.connect(address());
        peer.stop_reading();
        let is_closing = |host: &Host<Watched<Talker>>| {
            let mut lives = host.handler.lives.values();
            lives.any(|life| life.closing > 0)
        };
        while !is_closing(&host) {
            let time = Duration::from_millis(10);
            world.advance(&mut host, time).unwrap();
        }
        peer.start_reading();
        world
            .advance(&mut host, Duration::from_millis(10_000))
            .unwrap();
        let life = host.handler.lives.values().next().unwrap();
        assert!(!peer.was_reset(), "{life:?}");
        assert_eq!(life.closed, Some(CloseReason::IdleTimeout));
        assert!(host.handler.inner.told == peer.received());
    }
}

/// Where a handler pauses.
#[derive(Clone, Copy, PartialEq)]
enum Pause {
    Open,
    Data,
    /// When its own pending output, beside which it reads on, has drained.
    Drained,
}

/// Pauses before the peer's end is told, and keeps the last byte that it's shown.
struct Pausing {
    pauses: Pause,
    heard: usize,
    drained: bool,
    ended: bool,
}

impl Handler for Pausing {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        match self.pauses {
            Pause::Open => connection.pause(),
            Pause::Data => {}
            Pause::Drained => connection.read_on(true),
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        self.heard += 1;
        match self.pauses {
            Pause::Data if self.heard == 1 => connection.pause(),
            Pause::Drained if self.heard == 1 => _ = connection.write(&[b'o'; 600_000]),
            _ => {}
        }
        data.len() - 1
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, ()>) {
        self.drained = true;
        connection.pause();
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, ()>, rest: &[u8]) {
        assert_eq!(rest, b"!");
        self.ended = true;
        connection.finish();
    }

    fn on_message(&mut self, context: &mut Context<'_, ()>, (): ()) {
        context.for_each(|connection| connection.resume());
    }
}

#[test]
fn who_is_paused_is_told_neither_input_nor_the_end_until_it_is_resumed() {
    check(0..90, |world| {
        let pauses = world.pick(&[Pause::Open, Pause::Data, Pause::Drained]);
        let pausing = Pausing {
            pauses,
            heard: 0,
            drained: false,
            ended: false,
        };
        let mut host = host(world, pausing, Limits::default());
        let peer = world.connect(address());
        peer.stop_reading();
        if world.one_in(2) {
            world.settle(&mut host).unwrap();
        }
        peer.send(b"all!");
        peer.finish();
        if world.one_in(2) {
            // In one event.
            world.advance(&mut (), SECOND).unwrap();
        }
        world.advance(&mut host, SECOND).unwrap();
        peer.start_reading();
        world.advance(&mut host, SECOND).unwrap();
        let pausing = &host.handler.inner;
        assert_eq!(pausing.heard > 0, pauses != Pause::Open);
        assert!(pausing.heard <= 1 || pauses == Pause::Drained);
        assert_eq!(pausing.drained, pauses == Pause::Drained);
        assert!(!pausing.ended && !peer.has_ended());
        host.handle().send(()).unwrap();
        world.advance(&mut host, SECOND).unwrap();
        assert!(host.handler.inner.ended && peer.has_ended());
    });
}

#[test]
fn a_deadline_that_is_set_between_turns_counts_from_then() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Take), Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    let (before, began) = (host.context().now(), world.now());
    // Nobody turns the reactor for an hour.
    world.advance(&mut (), 3600 * SECOND).unwrap();
    host.context().drain(10 * SECOND);
    world.settle(&mut host).unwrap();
    assert_eq!(host.ended(), None, "its time was over before it began");
    peer.finish();
    world.settle(&mut host).unwrap();
    assert_eq!(host.ended(), Some(Ended::Drained { cut: 0 }));
    assert_eq!(host.context().now(), before + world.now() - began);
}

#[test]
fn a_stop_is_told_once_by_the_turn_in_which_it_is_asked_for_and_all_stay_as_they_are() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::Answer(100)), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        peer.send(b"question");
        if world.one_in(2) {
            host.handle().stop();
        } else {
            host.context().stop();
        }
        // It doesn't wait, and what others sent behind it is not lost.
        let turn = host.turn(None).unwrap();
        assert_eq!((turn.ended, turn.more), (Some(Ended::Stopped), false));
        let turn = host.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(turn.ended, None, "it's told twice");
        world.settle(&mut host).unwrap();
        assert_eq!(peer.received().len(), 100);
        assert!(lives(&host)[0].closed.is_none() && !peer.has_ended());
    });
}

#[test]
fn what_a_reset_leaves_unsent_is_told_as_dropped_and_not_as_sent() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::Answer(600_000)), Limits::default());
        let peer = world.connect(address());
        peer.stop_reading();
        peer.send(b"question");
        world.settle(&mut host).unwrap();
        let before = look_at(&mut host);
        assert!(before.pending > 0 && before.bytes_out + before.pending == 600_000);
        peer.reset();
        world.settle(&mut host).unwrap();
        let after = look_at(&mut host);
        assert_eq!(after.open, 0);
        assert_eq!(
            (after.bytes_out, after.dropped),
            (before.bytes_out, before.pending)
        );
    });
}
