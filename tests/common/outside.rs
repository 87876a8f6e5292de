//! A peer that does anything to a wild handler, from outside.

#![allow(dead_code, unreachable_pub, missing_debug_implementations)]

use std::time::Duration;

use oread::sim::{Peer, World};

use crate::streams::Way;

/// A peer in the test's own hands.
pub struct Outside {
    pub peer: Peer,
    /// What it sends.
    pub way: Way,
    /// How much it was told to send.
    pub told: usize,
    pub finished: bool,
    /// It has sent its one byte of urgent data. A second one before the first was read past may or
    /// may not become a part of the rest.
    pub urgent: bool,
    /// It has reset, or vanished: only what it has got must be right.
    pub gone: bool,
    pub vanished: bool,
}

impl Outside {
    pub fn new(peer: Peer, way: Way) -> Outside {
        Outside {
            peer,
            way,
            told: 0,
            finished: false,
            urgent: false,
            gone: false,
            vanished: false,
        }
    }

    pub fn act(&mut self, world: &mut World, most: usize) {
        if self.gone {
            return;
        }
        match world.roll(20) {
            0..=8 if !self.finished => {
                let size = world.size(most) >> world.roll(8);
                let bytes = self.way.text(self.told, size);
                self.told += size;
                if world.one_in(4) && size < 500 {
                    let pause = Duration::from_micros(world.roll(2000));
                    let piece = 1 + world.roll(50) as usize;
                    self.peer.send_slowly(bytes, piece, pause);
                } else {
                    self.peer.send(bytes);
                }
            }
            9 | 10 => self.peer.stop_reading(),
            11 | 12 => self.peer.start_reading(),
            13 => {
                let pause = Duration::from_micros(world.roll(50_000));
                self.peer.read_slowly(1 + world.roll(3000) as usize, pause);
            }
            14 if world.one_in(4) => self.finish(),
            17 if !self.finished && !self.urgent && world.one_in(4) => {
                self.urgent = true;
                self.peer.send_urgent(b'!');
            }
            15 if world.one_in(8) => {
                self.gone = true;
                self.peer.reset();
            }
            16 if world.one_in(8) => {
                (self.gone, self.vanished) = (true, true);
                self.peer.vanish();
            }
            _ => {}
        }
    }

    pub fn finish(&mut self) {
        self.finished = true;
        self.peer.finish();
    }
}
