//! What a handler is promised, a world for each: when it's called and when not, by what clock, and
//! how a run ends. See `simulated_faults.rs`.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/simulated.rs"]
mod simulated;

use std::time::Duration;

use oread::sim::{Host, World};
use oread::{Accepted, CloseReason, Connection, Context, Handler, Limits, ListenOptions, Pressure};

use simulated::{Watched, address};

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

    fn on_accept(&mut self, _: &mut Context<()>, _: &Accepted) -> Option<()> {
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
            world.advance(&mut [&mut host], time).unwrap();
        }
        peer.start_reading();
        world
            .advance(&mut [&mut host], Duration::from_millis(10_000))
            .unwrap();
        let life = host.handler.lives.values().next().unwrap();
        assert!(!peer.was_reset(), "{life:?}");
        assert_eq!(life.closed, Some(CloseReason::IdleTimeout));
        assert!(host.handler.inner.told == peer.received());
    }
}
