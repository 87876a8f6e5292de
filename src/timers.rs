//! The timers that handlers set, and the few that the reactor sets for itself.

use std::time::Instant;

use crate::clock::Clock;
use crate::table::{Table, tenant};
use crate::timer::{Arena, Links, Wheel};
use crate::token::{Key, Owner, TimerId};

/// Whom a timer calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The handler, with its key; whose timer it is.
    Handler(u64, Owner),
    /// The listeners that paused.
    Listeners,
    /// The handler, of a UDP socket that may have room again.
    Room(Key),
    /// The drain's deadline.
    Drain,
}

#[derive(Debug)]
struct Timer {
    generation: u32,
    links: Links,
    /// Not before it was set: who sets one for the past isn't served late.
    due: Instant,
    alarm: Alarm,
}

tenant!(Timer);

impl Arena for Table<Timer> {
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self[index].links
    }
}

/// All timers of a reactor but the connections' deadlines, which live in the connections' own
/// slots.
pub(crate) struct Timers {
    wheel: Wheel,
    table: Table<Timer>,
}

impl Timers {
    pub(crate) fn new(clock: &Clock) -> Timers {
        Timers {
            wheel: Wheel::new(clock.tick()),
            table: Table::new(),
        }
    }

    /// Sets a timer for `due`.
    pub(crate) fn set(&mut self, clock: &Clock, due: Instant, alarm: Alarm) -> TimerId {
        let key = self.table.insert(|generation| Timer {
            generation,
            links: Links::default(),
            due: due.max(clock.now()),
            alarm,
        });
        self.wheel
            .insert(&mut self.table, key.index, clock.tick_at(due));
        TimerId(key)
    }

    /// Takes a timer back; whether it was still to fire.
    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        if self.table.get(id.0).is_none() {
            return false;
        }
        self.wheel.remove(&mut self.table, id.0.index);
        self.table.remove(id.0).is_some()
    }

    /// Tells the wheel the time.
    pub(crate) fn advance(&mut self, clock: &Clock) {
        self.wheel.advance(&mut self.table, clock.tick());
    }

    /// The next timer that is due at `clock`, and when it was due. One that lies further ahead than
    /// ticks reach was set for the farthest tick, and is set again.
    pub(crate) fn expire(&mut self, clock: &Clock) -> Option<(Alarm, Instant)> {
        loop {
            let index = self.wheel.expire(&mut self.table, clock.tick())?;
            let timer = &self.table[index];
            if timer.due <= clock.now() {
                let fired = (timer.alarm, timer.due);
                self.table.remove(self.table.key(index));
                return Some(fired);
            }
            let tick = clock.tick_at(timer.due);
            self.wheel.insert(&mut self.table, index, tick);
        }
    }

    /// How many timers are set.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The wheel, to ask it when it wants to be woken.
    pub(crate) fn wheel(&self) -> &Wheel {
        &self.wheel
    }
}
