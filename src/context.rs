//! What a callback may do: [`Context`] is the whole of a reactor but for its handler, its events
//! and its read buffer.
//!
//! The parts: [`Connection`] and its [`Output`] in `context/connection.rs`, UDP in
//! `context/datagrams.rs`, listeners and dials in `context/open.rs`, a connection's slot and its
//! deadlines in `context/slot.rs`.

mod connection;
mod datagrams;
mod open;
mod slot;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::error::CloseReason;
use crate::limits::Limits;
use crate::link::{Flags, Phase, Shared};
use crate::memory::Starved;
use crate::net::System;
use crate::stats::Stats;
use crate::table::Table;
use crate::timer::Wheel;
use crate::timers::{Alarm, Timers};
use crate::token::{ConnectionId, Key, Kind, SourceId, TimerId};
use mio::Interest;
use mio::event::Source;

pub use connection::{Connection, Output};
pub(crate) use datagrams::UdpSlot;
pub use datagrams::{Datagrams, SendOutcome};
pub(crate) use open::ListenerSlot;
pub(crate) use slot::Slot;

/// What every callback is lent: the reactor's connections, listeners, sockets and timers, to be
/// used by their ids.
///
/// No callback runs inside another. What one starts here (a close, a connect, a write to another
/// connection) calls back later, in the same turn or the next one.
pub struct Context<S> {
    pub(crate) system: System,
    pub(crate) clock: Clock,
    pub(crate) slots: Table<Slot<S>>,
    pub(crate) shared: Shared,
    pub(crate) listeners: Table<ListenerSlot>,
    pub(crate) udp: Table<UdpSlot>,
    /// Foreign sources, which their owners keep.
    pub(crate) sources: Table<()>,
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
    /// The connection whose callback runs; [`NOBODY`] when none does.
    pub(crate) current: u32,
    /// Connections that are not in their slots yet and yet count towards the limit: a caller, while
    /// the handler is asked about it, for the handler may dial meanwhile.
    pub(crate) awaited: usize,
    pub(crate) drain: Drain,
    /// Whether the turn is to end with [`Ended::Stopped`](crate::Ended::Stopped).
    pub(crate) stopping: bool,
    /// When the connections' last activities were last kept from growing too old for ticks, in
    /// milliseconds.
    aged_ms: u64,
}

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

impl<S> Context<S> {
    pub(crate) fn new(system: System, limits: Limits) -> Context<S> {
        let clock = Clock::new(system.now());
        Context {
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
            current: NOBODY,
            awaited: 0,
            drain: Drain::No,
            stopping: false,
            aged_ms: 0,
        }
    }

    /// The connection of this id; `None` once it's closed.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_, S>> {
        let slot = self.slots.get(id.0)?;
        // What is closed and only waits for `on_close` is gone for everybody else.
        (slot.link.phase() != Phase::Closed).then(|| Connection::new(self, id.0.index))
    }

    /// The ids of all connections that are open, connecting or about to be over, in no order.
    /// Walking them costs as much as there ever were at once. To do something with each of them
    /// there's [`Context::for_each`].
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        let present = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.link.phase() != Phase::Closed);
        present.map(|(key, _)| ConnectionId(key))
    }

    /// Calls `visit` with each connection that is open, connecting or about to be over
    /// ([`Connection::is_open`] tells), in no order: to tell all of them something. It costs as
    /// much as there ever were at once. Those that `visit` dials are visited too, or not.
    ///
    /// ```
    /// # fn tell(context: &mut oread::Context<()>) {
    /// context.for_each(|connection| {
    ///     if connection.pressure() == oread::Pressure::Low {
    ///         connection.write(b"tick\n"); // who doesn't read misses some
    ///     }
    /// });
    /// # }
    /// ```
    pub fn for_each(&mut self, mut visit: impl FnMut(&mut Connection<'_, S>)) {
        for index in 0..self.slots.bound() {
            let id = self.slots.key_at(index).map(ConnectionId);
            if let Some(mut connection) = id.and_then(|id| self.connection(id)) {
                visit(&mut connection);
            }
        }
    }

    /// The time, read once a turn: cheap, and the same for all callbacks of a turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The limits that the reactor was made with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// A copy of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Calls [`Handler::on_timer`](crate::Handler::on_timer) with `key`, once, when `after` has
    /// passed: never early, and as much later as the turn takes. Any duration will do. O(1), like
    /// [`Context::cancel`]. A timer that is about one connection has that one's
    /// [`ConnectionId::to_bits`] for its key: the connection may be gone when it fires, and then
    /// the id finds nothing.
    ///
    /// `after` counts from [`Context::now`]. For something that comes again and again,
    /// [`Context::timer_at`] doesn't add up what each turn was late. A drain waits for connections,
    /// not for timers; they fire until it's over.
    pub fn timer(&mut self, after: Duration, key: u64) -> TimerId {
        let due = self.clock.after(after);
        self.timer_at(due, key)
    }

    /// As [`Context::timer`], at `due`; in this turn or the next when that is past. One that is set
    /// for the next of many periods that were missed catches up turn by turn; who doesn't want that
    /// skips them.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use oread::Context;
    /// # struct Clock { tick: Instant }
    /// # impl Clock {
    /// fn on_timer(&mut self, context: &mut Context<()>, key: u64) {
    ///     self.tick += Duration::from_secs(1); // and not `context.now()`: it would drift
    ///     context.timer_at(self.tick, key);
    /// }
    /// # }
    /// ```
    pub fn timer_at(&mut self, due: Instant, key: u64) -> TimerId {
        self.timers.set(&self.clock, due, Alarm::Handler(key))
    }

    /// Takes a timer back; false when it has fired or was cancelled already.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.timers.cancel(timer)
    }

    /// Lets the reactor poll a source of yours too: [`Handler::on_ready`](crate::Handler::on_ready)
    /// is called with what its events say. You keep the source, and read or write it to
    /// `WouldBlock` each time: edges are told once. Who stops before that, in fairness to the
    /// others, calls [`Context::reregister`]. It must stay alive and registered only here until
    /// [`Context::deregister`].
    ///
    /// # Errors
    /// As the system gives them; `EPERM` for a regular file on epoll: it can't be polled.
    pub fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
    ) -> io::Result<SourceId> {
        let token = self.sources.next_key().token(Kind::Source);
        self.system.register_source(source, token, interest)?;
        Ok(SourceId(self.sources.insert(())))
    }

    /// Changes what a source is polled for, and tells its present readiness anew.
    ///
    /// # Errors
    /// `NotFound` when `id` is not registered; else as the system gives them.
    pub fn reregister(
        &mut self,
        source: &mut (impl Source + ?Sized),
        id: SourceId,
        interest: Interest,
    ) -> io::Result<()> {
        self.sources.get(id.0).ok_or_else(no_source)?;
        let token = id.0.token(Kind::Source);
        self.system.reregister_source(source, token, interest)
    }

    /// Polls a source no longer.
    ///
    /// # Errors
    /// `NotFound` when `id` is not registered; else as the system gives them.
    pub fn deregister(
        &mut self,
        source: &mut (impl Source + ?Sized),
        id: SourceId,
    ) -> io::Result<()> {
        self.sources.remove(id.0).ok_or_else(no_source)?;
        self.system.deregister_source(source)
    }

    /// Ends everything in good order, within `within`: listeners and UDP sockets are closed at the
    /// end of the turn, what has arrived on each connection is shown to the handler, and what that
    /// writes is sent (an answer that it owes from elsewhere takes [`Connection::stay_open`]), then
    /// our side of it is finished and the peer's end waited for. A peer that never finishes, as an
    /// idle client, is waited for as long as
    /// [`Limits::linger_timeout`](crate::Limits::linger_timeout), and until the deadline at most.
    /// When nobody is left, or at the deadline, `turn` and `run` return
    /// [`Ended::Drained`](crate::Ended::Drained), which says how many were cut. A second call
    /// changes nothing.
    pub fn drain(&mut self, within: Duration) {
        if self.drain == Drain::No {
            let deadline = self.clock.after(within);
            self.drain = Drain::Asked { deadline };
        }
    }

    /// Has `turn` and `run` return [`Ended::Stopped`](crate::Ended::Stopped), at the end of this
    /// turn or, between two turns, of the next one, which doesn't wait. What was written goes out
    /// first, as far as the sockets take it. Connections stay as they are: the reactor may be run
    /// again, or dropped, which resets those whose output is pending still. That is for a handler
    /// that has what it wanted; [`Context::drain`] ends everything in good order.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// A number that nobody can guess; in a simulation, one of its seed's.
    pub(crate) fn random(&self) -> u64 {
        self.system.random()
    }

    /// Whether a drain was asked for.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain != Drain::No
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
            self.ended.push(self.slots.key(index));
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
            || self.is_draining() && self.slots.is_empty()
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

    /// Counts a connection as open.
    pub(crate) fn count_open(&mut self) {
        let stats = &mut self.shared.stats;
        stats.open += 1;
        stats.peak_open = stats.peak_open.max(stats.open);
    }
}

fn no_source() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such source is registered")
}

impl<S> Drop for Context<S> {
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

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&self.stats()).finish()
    }
}
