//! The timers that handlers set, and the few that the reactor sets for itself.

use std::time::Instant;

use slab::Slab;

use crate::clock::Clock;
use crate::timer::{Arena, Links, Wheel};
use crate::token::{Generations, Key, ListenerId, TimerId};

/// Whom a timer calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The handler, with its key.
    Handler(u64),
    /// A listener that paused.
    Listener(ListenerId),
    /// The drain's deadline.
    Drain,
}

#[derive(Debug)]
struct Timer {
    links: Links,
    generation: u32,
    due: Instant,
    alarm: Alarm,
}

impl Arena for Slab<Timer> {
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self[index as usize].links
    }
}

/// All timers of a reactor but the connections' deadlines, which live in the connections' own slots.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: Wheel,
    slab: Slab<Timer>,
}

impl Timers {
    pub(crate) fn new(clock: &Clock) -> Timers {
        Timers {
            wheel: Wheel::new(clock.tick()),
            slab: Slab::new(),
        }
    }

    /// Sets a timer for `due`.
    pub(crate) fn set(
        &mut self,
        clock: &Clock,
        generations: &mut Generations,
        due: Instant,
        alarm: Alarm,
    ) -> TimerId {
        let generation = generations.draw();
        let timer = Timer {
            links: Links::default(),
            generation,
            due,
            alarm,
        };
        let index = self.slab.insert(timer) as u32;
        self.wheel.insert(&mut self.slab, index, clock.tick_at(due));
        TimerId(Key { index, generation })
    }

    /// Takes a timer back; whether it was still to fire.
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        let index = id.0.index as usize;
        if self
            .slab
            .get(index)
            .is_none_or(|timer| timer.generation != id.0.generation)
        {
            return false;
        }
        self.wheel.remove(&mut self.slab, id.0.index);
        self.slab.remove(index);
        true
    }

    /// Tells the wheel the time.
    pub(crate) fn advance(&mut self, clock: &Clock) {
        self.wheel.advance(&mut self.slab, clock.tick());
    }

    /// The next timer that is due. One that lies further ahead than ticks reach was set for the farthest tick, and is
    /// set again.
    pub(crate) fn expire(&mut self, clock: &Clock) -> Option<Alarm> {
        loop {
            if self.slab.is_empty() {
                return None;
            }
            let index = self.wheel.expire(&mut self.slab, clock.tick())?;
            let timer = &self.slab[index as usize];
            if timer.due <= clock.now() {
                return Some(self.slab.remove(index as usize).alarm);
            }
            let tick = clock.tick_at(timer.due);
            self.wheel.insert(&mut self.slab, index, tick);
        }
    }

    /// How many timers are set.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The wheel, to ask it when it wants to be woken.
    pub(crate) fn wheel(&self) -> &Wheel {
        &self.wheel
    }
}
