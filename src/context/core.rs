//! A reactor without its handler and its sessions: whatever it knows of connections, listeners,
//! sockets and timers. Nothing in it depends on what a handler keeps of a connection.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use crate::clock::Clock;
use crate::error::CloseReason;
use crate::limits::{ConnectionLimits, Limits};
use crate::link::{Flags, Shared, trace};
use crate::memory::Starved;
use crate::net::System;
use crate::rate::Callers;
use crate::stats::Traffic;
use crate::table::{Table, tenant};
use crate::timer::Wheel;
use crate::timers::Timers;
use crate::token::{ConnectionId, Key, Kind, Owner, TimerId};

use super::{ListenerSlot, Slot, UdpSlot};

/// All of a reactor that callbacks are lent, but for the sessions.
pub(crate) struct Core {
    pub(crate) system: System,
    pub(crate) clock: Clock,
    pub(crate) slots: Table<Slot>,
    pub(crate) shared: Shared,
    pub(crate) listeners: Table<ListenerSlot>,
    pub(crate) udp: Table<UdpSlot>,
    /// Foreign sources, which their owners keep.
    pub(crate) sources: Table<Foreign>,
    /// The connections' deadlines.
    pub(crate) wheel: Wheel,
    pub(crate) timers: Timers,
    /// When the pauses of listeners for want of descriptors end, and by which timer: the earliest
    /// of them, for all.
    pub(crate) retry: Option<(Instant, TimerId)>,
    /// Who has more to do in the next turn, although no event will say so.
    pub(crate) ready: VecDeque<(Kind, Key)>,
    /// Connections that somebody else wrote to or changed: to be seen to before the reactor
    /// sleeps.
    pub(crate) dirty: Vec<Key>,
    /// Connections that are not read because all together keep too much.
    pub(crate) starved: Starved,
    /// Connections that are closed and wait to be removed, at the end of the turn.
    pub(crate) ended: Vec<Key>,
    /// What the connection has moved whose end the handler is being told, where it was counted.
    pub(crate) last_traffic: Option<(ConnectionId, Traffic)>,
    /// The connection whose callback runs; [`NOBODY`] when none does.
    pub(crate) current: u32,
    /// The class of a connection that is not in its slot yet and yet counts towards the limit: of a
    /// caller, while the handler is asked about it, for the handler may dial meanwhile.
    pub(crate) awaited: Option<u8>,
    /// The accepted connections of each source, where they are limited.
    pub(crate) callers: Option<Callers>,
    pub(crate) drain: Drain,
    /// Whether the turn is to end with [`Ended::Stopped`](crate::Ended::Stopped).
    pub(crate) stopping: bool,
    /// When the connections' last activities were last kept from growing too old for ticks, in
    /// milliseconds.
    pub(super) aged_ms: u64,
}

/// A foreign source in its table.
pub(crate) struct Foreign {
    pub(super) generation: u32,
    pub(crate) owner: Owner,
}

tenant!(Foreign);

/// The index of no connection.
pub(crate) const NOBODY: u32 = u32::MAX;

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    No,
    /// Asked for: the reactor begins at the end of the turn.
    Asked {
        deadline: Instant,
    },
    /// Nothing is accepted any more. It's over when nobody is left.
    Going {
        /// Connections that were cut off at the deadline.
        cut: usize,
    },
}

impl Core {
    pub(crate) fn new(system: System, limits: Limits) -> Core {
        let clock = Clock::new(system.now());
        let (most, a_second) = (limits.connections_per_source, limits.accepts_per_source);
        let key = most.or(a_second).map_or(0, |_| system.random());
        Core {
            callers: Callers::new(most, a_second, key),
            system,
            slots: Table::new(),
            shared: Shared::new(limits),
            listeners: Table::new(),
            udp: Table::new(),
            sources: Table::new(),
            wheel: Wheel::new(clock.tick()),
            timers: Timers::new(&clock),
            retry: None,
            clock,
            ready: VecDeque::new(),
            dirty: Vec::new(),
            starved: Starved::default(),
            ended: Vec::new(),
            last_traffic: None,
            current: NOBODY,
            awaited: None,
            drain: Drain::No,
            stopping: false,
            aged_ms: 0,
        }
    }

    /// A callback of the connection at `index` begins.
    #[inline(always)]
    pub(crate) fn enter(&mut self, index: u32) {
        self.shared.begin_callback();
        self.current = index;
    }

    /// The callback is over.
    #[inline(always)]
    pub(crate) fn leave(&mut self) {
        self.current = NOBODY;
    }

    /// Whether the connection at `index` is the one whose callback runs.
    #[inline]
    pub(crate) fn is_current(&self, index: u32) -> bool {
        self.current == index
    }

    /// Has the connection at `index` seen to before the reactor sleeps, unless its own callback
    /// runs: then that is due anyway.
    #[cold]
    pub(crate) fn touch(&mut self, index: u32) {
        if !self.is_current(index) && self.slots[index].link.tag(Flags::DIRTY) {
            self.dirty.push(self.slots.key(index));
        }
    }

    /// Has the connection at `index` come again in the next turn.
    pub(crate) fn enqueue(&mut self, index: u32) {
        if self.slots[index].link.tag(Flags::QUEUED) {
            let key = self.slots.key(index);
            self.ready.push_back((Kind::Connection, key));
        }
    }

    /// Has the connection at `index` come again when there is room for what it may keep.
    pub(crate) fn starve(&mut self, index: u32) {
        if self.slots[index].link.tag(Flags::STARVED) {
            let held = self.shared.memory.held();
            self.starved.push(self.slots.key(index), held);
            // There is something to be read: it has just been heard from.
            self.note_active(index);
        }
    }

    /// Has those starved go on for whom there is room, when all connections together keep less than
    /// before; and one at a time beyond what all may keep: they may hold what all of them wait for,
    /// and each needs perhaps but a little more. It has had its turn when some of its input is
    /// consumed.
    pub(crate) fn feed_starved(&mut self) {
        let fed = self.starved.fed.and_then(|key| self.slots.get_mut(key));
        let mut feeds = fed.is_some_and(|slot| slot.link.feeds_on());
        for key in self.starved.take(self.shared.memory.held(), feeds) {
            let Some(slot) = self.slots.get_mut(key) else {
                continue;
            };
            let waits = slot.link.may_read() && slot.link.is_starved(&self.shared);
            if waits && feeds {
                self.starved.push(key, self.shared.memory.held());
                continue;
            }
            slot.link.untag(Flags::STARVED);
            slot.link.renew_frame();
            if waits && slot.link.is_answering() {
                // Its own output keeps it, and reminds of it.
                continue;
            }
            // One that waits for something else as well comes back when it has that.
            self.enqueue(key.index);
            if waits {
                feeds = true;
                (self.starved.fed, self.starved.fed_at) = (Some(key), self.clock.tick());
                self.slots[key.index].link.tag(Flags::FED);
                self.note_active(key.index);
            }
        }
    }

    /// Offers the pending output of those who are to go on in the next turn to their sockets now,
    /// whatever budgets are spent: there may be no next turn.
    pub(crate) fn flush_waiting(&mut self) {
        let queued = self.ready.iter().filter(|of| of.0 == Kind::Connection);
        for key in queued.map(|of| of.1).chain(self.dirty.iter().copied()) {
            if let Some(slot) = self.slots.get_mut(key) {
                self.shared.acting = key;
                while !slot.link.flush(&mut self.shared) {
                    self.shared.begin_turn();
                }
            }
        }
    }

    /// Has the closed connection at `index` removed at the end of the turn.
    pub(crate) fn end(&mut self, index: u32) {
        if self.slots[index].link.tag(Flags::ENDED) {
            self.starved.fed.take_if(|key| key.index == index);
            let key = self.slots.key(index);
            self.ended.push(key);
            let reason = self.slots[index].link.reason();
            let reason = reason.unwrap_or(CloseReason::Closed);
            trace!(self.shared, "{key:?} is closed: {reason}");
        }
    }

    /// Reads the time, and tells it to the wheels before anything is armed, those that wait for
    /// nothing too: to a wheel that was last told the time 25 days ago, what is to come looks like
    /// the past.
    pub(crate) fn update_clock(&mut self) {
        self.clock.update(self.system.now());
        self.keep_ages();
        self.wheel.advance(&mut self.slots, self.clock.tick());
        self.timers.advance(&self.clock);
    }

    /// Whether there is something to do that no event will announce.
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty()
            || !self.dirty.is_empty()
            || !self.ended.is_empty()
            || self.starved.is_hopeful()
            || self.stopping
            || matches!(self.drain, Drain::Asked { .. })
            || self.drain != Drain::No && self.slots.is_empty()
    }

    /// Whether a deadline or timer has come.
    pub(crate) fn is_due(&self) -> bool {
        self.wheel.is_due() || self.timers.wheel().is_due()
    }

    /// The tick at which the next deadline or timer may be due.
    pub(crate) fn next_tick(&self) -> Option<u32> {
        let now = self.clock.tick();
        let ticks = [self.wheel.next(), self.timers.wheel().next()];
        // Ticks go round, and what lies behind is due now.
        let ahead = |tick: &u32| tick.wrapping_sub(now) as i32;
        ticks.into_iter().flatten().min_by_key(ahead)
    }

    /// The class of connections with limits of their `own`, or the reactor's, and those limits: see
    /// [`Shared::class_of`].
    ///
    /// # Errors
    /// `QuotaExceeded` when as many others are in use as there may be.
    pub(crate) fn class_of(
        &mut self,
        own: Option<ConnectionLimits>,
    ) -> io::Result<(u8, ConnectionLimits)> {
        let Some(limits) = own else {
            return Ok((0, self.shared.limits.of_connection()));
        };
        let links = self.slots.iter().map(|(_, slot)| slot.link.class());
        let listeners = self.listeners.iter().map(|(_, slot)| slot.class);
        let in_use = links.chain(listeners).chain(self.awaited);
        Ok((self.shared.class_of(limits, in_use)?, limits))
    }

    /// Counts a connection as open.
    pub(crate) fn count_open(&mut self) {
        let stats = &mut self.shared.stats;
        stats.open += 1;
        stats.peak_open = stats.peak_open.max(stats.open);
    }
}

impl Drop for Core {
    /// Output that is lost makes the end a reset, here as anywhere else: what a panic in a callback
    /// has cut short, too.
    fn drop(&mut self) {
        for key in self.slots.keys() {
            let link = &mut self.slots[key.index].link;
            if link.has_output() || key.index == self.current {
                link.abort(&mut self.shared, CloseReason::Aborted);
            }
        }
    }
}
