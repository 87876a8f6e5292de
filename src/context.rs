//! What a callback may do: [`Context`] is the whole of a reactor but for its handler, its events
//! and its read buffer.
//!
//! The parts: [`Core`], which knows no session, in `context/core.rs`; the sessions in
//! `context/sessions.rs`, and those of a part of a handler in `context/part.rs`; [`Connection`] and
//! its [`Output`] in `context/connection.rs`, UDP in `context/datagrams.rs`, listeners and dials in
//! `context/open.rs`, a connection's slot and its deadlines in `context/slot.rs`.

mod connection;
mod core;
mod datagrams;
mod open;
mod part;
mod sessions;
mod slot;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::limits::Limits;
use crate::link::Phase;
use crate::stats::{Stats, Traffic};
use crate::timers::Alarm;
use crate::token::{ConnectionId, Kind, Owner, SourceId, TimerId};
use mio::Interest;
use mio::event::Source;

use self::core::Foreign;

pub(crate) use self::core::{Core, Drain};
pub use connection::{Connection, Output};
pub use datagrams::{Datagram, ReplyTo, SendOutcome};
pub(crate) use datagrams::{Room, UdpSlot};
pub(crate) use open::ListenerSlot;
pub use part::Part;
pub(crate) use sessions::{Sessions, Store};
pub(crate) use slot::Slot;

/// What every callback is lent: the reactor's connections, listeners, sockets and timers, to be
/// used by their ids.
///
/// No callback runs inside another. What one starts here (a close, a connect, a write to another
/// connection) calls back later, in the same turn or the next one.
pub struct Context<'c, S> {
    pub(crate) core: &'c mut Core,
    sessions: &'c mut dyn Sessions<S>,
    /// Whose whatever is begun here will be.
    place: Owner,
    /// Whose that is which the running callback is about, as seen from `place`.
    about: Owner,
}

impl<'c, S> Context<'c, S> {
    #[inline(always)]
    pub(crate) fn new(
        core: &'c mut Core,
        sessions: &'c mut dyn Sessions<S>,
        about: Owner,
    ) -> Context<'c, S> {
        Context {
            core,
            sessions,
            place: Owner::default(),
            about,
        }
    }

    /// The same for a shorter time.
    #[inline(always)]
    fn lend(&mut self) -> Context<'_, S> {
        Context {
            core: self.core,
            sessions: self.sessions,
            place: self.place,
            about: self.about,
        }
    }

    /// The connection of this id; `None` once it's closed.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_, S>> {
        self.lend().into_connection(id)
    }

    /// As [`Context::connection`], for as long as the context itself.
    pub(crate) fn into_connection(self, id: ConnectionId) -> Option<Connection<'c, S>> {
        self.is_present(id)
            .then(|| Connection::new(self, id.0.index))
    }

    /// What a connection has moved that is counted ([`Connection::count`]), while it's open; and,
    /// in [`Handler::on_close`](crate::Handler::on_close), what the one has moved that is closed:
    /// for a line in a log of accesses.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use oread::{CloseReason, Connection, ConnectionId, Context, Handler};
    /// # struct Server;
    ///
    /// impl Handler for Server {
    ///     type Session = Option<SocketAddr>; // the peer, as `on_accept` is told it
    ///     # type Message = ();
    ///
    ///     fn on_open(&mut self, connection: &mut Connection<'_, Option<SocketAddr>>) {
    ///         connection.count();
    ///     }
    ///     # fn on_data(
    ///     #     &mut self,
    ///     #     _: &mut Connection<'_, Option<SocketAddr>>,
    ///     #     data: &[u8],
    ///     # ) -> usize {
    ///     #     data.len()
    ///     # }
    ///
    ///     fn on_close(
    ///         &mut self,
    ///         context: &mut Context<'_, Option<SocketAddr>>,
    ///         id: ConnectionId,
    ///         peer: Option<SocketAddr>,
    ///         reason: CloseReason,
    ///     ) {
    ///         if let Some(moved) = context.traffic(id) {
    ///             let time = context.now() - moved.since;
    ///             let (bytes_in, bytes_out) = (moved.bytes_in, moved.bytes_out);
    ///             println!("{peer:?} {time:?} {bytes_in} {bytes_out} {reason}");
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn traffic(&self, id: ConnectionId) -> Option<Traffic> {
        if let Some((_, last)) = self.core.last_traffic.filter(|(ended, _)| *ended == id) {
            return Some(last);
        }
        let slot = self.core.slots.get(id.0);
        let slot = slot.filter(|_| self.is_present(id));
        slot?.link.traffic().copied()
    }

    /// Whether a connection is there, for everybody: what is closed and only waits for `on_close`
    /// is gone.
    fn is_present(&self, id: ConnectionId) -> bool {
        let slot = self.core.slots.get(id.0);
        let present = slot.is_some_and(|slot| slot.link.phase() != Phase::Closed);
        present && self.sessions.get(id.0.index).is_some()
    }

    /// The ids of all connections that are open, connecting or about to be over, in no order.
    /// Walking them costs as much as there ever were at once. To do something with each of them
    /// there's [`Context::for_each`]: while they are walked nothing else can be done with the
    /// context (`E0502`), unless the ids were collected before.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        let ids = self.core.slots.iter().map(|(key, _)| ConnectionId(key));
        ids.filter(|id| self.is_present(*id))
    }

    /// Calls `visit` with each connection that is open, connecting or about to be over
    /// ([`Connection::is_open`] tells), in no order: to tell all of them something. It costs as
    /// much as there ever were at once. Those that `visit` dials are visited too, or not.
    ///
    /// ```
    /// # fn tell(context: &mut oread::Context<'_, ()>) {
    /// context.for_each(|connection| {
    ///     if connection.pressure() == oread::Pressure::Low {
    ///         connection.write(b"tick\n"); // who doesn't read misses some
    ///     }
    /// });
    /// # }
    /// ```
    ///
    /// Meanwhile others are reached by way of the connection that is visited: the context itself is
    /// lent to the walk.
    ///
    /// ```compile_fail,E0501
    /// # fn tell(context: &mut oread::Context<'_, ()>, host: oread::ConnectionId) {
    /// context.for_each(|guest| {
    ///     if let Some(mut host) = context.connection(host) {
    ///         writeln!(host, "{:?} is here", guest.id());
    ///     }
    /// });
    /// # }
    /// ```
    ///
    /// ```
    /// # fn tell(context: &mut oread::Context<'_, ()>, host: oread::ConnectionId) {
    /// context.for_each(|guest| {
    ///     let id = guest.id();
    ///     if let Some(mut host) = guest.context().connection(host) {
    ///         writeln!(host, "{id:?} is here");
    ///     }
    /// });
    /// # }
    /// ```
    pub fn for_each(&mut self, mut visit: impl FnMut(&mut Connection<'_, S>)) {
        for index in 0..self.core.slots.bound() {
            let id = self.core.slots.key_at(index).map(ConnectionId);
            if let Some(mut connection) = id.and_then(|id| self.connection(id)) {
                visit(&mut connection);
            }
        }
    }

    /// The time, read once a turn: cheap, and the same for all callbacks of a turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.core.clock.now()
    }

    /// The limits that the reactor was made with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.core.shared.limits
    }

    /// A copy of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.shared.stats()
    }

    /// As [`Context::stats`], and has the loop's peaks begin anew: `longest_turn_us`,
    /// `latest_timer_us` and `longest_queue` are then of the time since. For whoever tells them at
    /// intervals: a process that once stood still would have one turn for its longest for good.
    pub fn take_peaks(&mut self) -> Stats {
        let stats = self.stats();
        self.core.shared.stats.reset_peaks();
        stats
    }

    /// Calls [`Handler::on_timer`](crate::Handler::on_timer) with `key`, once, when `after` has
    /// passed: never early, and as much later as the turn takes. Any duration will do; none at all
    /// is over in this turn or the next, which doesn't wait. O(1), like [`Context::cancel`]. A
    /// timer that is about one connection has that one's [`ConnectionId::to_bits`] for its key: the
    /// connection may be gone when it fires, and then the id finds nothing.
    ///
    /// `after` counts from [`Context::now`]. For something that comes again and again,
    /// [`Context::timer_at`] doesn't add up what each turn was late. A drain waits for connections,
    /// not for timers; they fire until it's over.
    pub fn timer(&mut self, after: Duration, key: u64) -> TimerId {
        let due = self.core.clock.after(after);
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
    /// fn on_timer(&mut self, context: &mut Context<'_, ()>, key: u64) {
    ///     self.tick += Duration::from_secs(1); // and not `context.now()`: it would drift
    ///     context.timer_at(self.tick, key);
    /// }
    /// # }
    /// ```
    pub fn timer_at(&mut self, due: Instant, key: u64) -> TimerId {
        let Core { timers, clock, .. } = &mut *self.core;
        timers.set(clock, due, Alarm::Handler(key, self.place))
    }

    /// Takes a timer back; false when it has fired or was cancelled already.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.core.timers.cancel(timer)
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
        let (core, owner) = (&mut *self.core, self.place);
        let token = core.sources.next_key().token(Kind::Source);
        core.system.register_source(source, token, interest)?;
        let foreign = |generation| Foreign { generation, owner };
        Ok(SourceId(core.sources.insert(foreign)))
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
        self.core.sources.get(id.0).ok_or_else(no_source)?;
        let token = id.0.token(Kind::Source);
        self.core.system.reregister_source(source, token, interest)
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
        self.core.sources.remove(id.0).ok_or_else(no_source)?;
        self.core.system.deregister_source(source)
    }

    /// Ends everything in good order, within `within`: at the end of the turn listeners are closed,
    /// and UDP sockets behind the datagrams that have arrived, of which up to 4,096 are shown. What
    /// has arrived on each connection is shown to the handler, and what that writes is sent (an
    /// answer that it owes from elsewhere takes [`Connection::stay_open`]), then our side of it is
    /// finished and the peer's end waited for. A peer that never finishes, as an idle client, is
    /// waited for as long as [`Limits::linger_timeout`](crate::Limits::linger_timeout), and until
    /// the deadline at most. When nobody is left, or at the deadline, `turn` and `run` return
    /// [`Ended::Drained`](crate::Ended::Drained), which says how many were cut. A second call
    /// changes nothing.
    pub fn drain(&mut self, within: Duration) {
        let Core { drain, clock, .. } = &mut *self.core;
        if *drain == Drain::No {
            let deadline = clock.after(within);
            *drain = Drain::Asked { deadline };
        }
    }

    /// Has `turn` and `run` return [`Ended::Stopped`](crate::Ended::Stopped), at the end of this
    /// turn or, between two turns, of the next one, which doesn't wait. What was written goes out
    /// first, as far as the sockets take it. Connections stay as they are: the reactor may be run
    /// again, or dropped, which resets those whose output is pending still. That is for a handler
    /// that has what it wanted; [`Context::drain`] ends everything in good order.
    pub fn stop(&mut self) {
        self.core.stopping = true;
    }

    /// A number that nobody can guess; in a simulation, one of its seed's.
    pub(crate) fn random(&self) -> u64 {
        self.core.system.random()
    }

    /// Whether a drain was asked for.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.core.drain != Drain::No
    }
}

fn no_source() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such source is registered")
}

impl<S> fmt::Debug for Context<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Context").field(&self.stats()).finish()
    }
}
