//! The loop: poll, dispatch, and what no event announces.
//!
//! One turn, in order:
//! 1. connections that were written to from outside are flushed;
//! 2. the poll waits, no longer than the next deadline, and not at all while there is queued work
//!    (`reactor/wait.rs`);
//! 3. the time is read;
//! 4. each event goes to its connection, listener, socket or source (`reactor/dispatch.rs`);
//! 5. whoever used up its budget in an earlier turn goes on;
//! 6. messages of other threads; then timers and deadlines that have come, once all events before
//!    them are taken (`reactor/wait.rs`);
//! 7. connections that were written to by others' callbacks are flushed, and closed ones are
//!    removed: `on_close` comes here, after everything else (`reactor/finish.rs`).

mod accept;
mod dispatch;
mod finish;
mod receive;
#[cfg(test)]
mod tests;
mod wait;

use std::fmt;
use std::io;
use std::time::Duration;

use crate::context::{Connection, Context, Core, Drain, Store};
use crate::handle::{Handle, Mailbox};
use crate::handler::Handler;
use crate::limits::Limits;
use crate::net::{Events, System, where_nestable};
use crate::rate::LogLimiter;
use crate::token::{ConnectionId, Key, Kind, Owner};

use wait::Late;

/// A single-threaded reactor: it polls many connections and sockets, and calls a [`Handler`].
///
/// It starts no thread, changes no signal disposition, installs no logger and never exits. It runs
/// the loop ([`Reactor::run`]), or one turn of it at a time ([`Reactor::turn`]), or inside another
/// loop: by its descriptor, which is readable when there are events, and [`Reactor::next_timeout`].
///
/// Dropping it closes everything, without a callback. A connection whose output is pending is
/// reset: its peer must not take a part for the whole.
pub struct Reactor<H: Handler> {
    core: Core,
    sessions: Store<H::Session>,
    events: Events,
    /// Where all reads land. It lies outside the core, so that it can be lent to a callback beside
    /// it.
    scratch: Box<[u8]>,
    mailbox: Mailbox<H::Message>,
    /// Whether the mailbox may hold messages.
    mail: bool,
    /// Whether the last poll brought as many events as it could: there may be more behind them.
    full_batch: bool,
    /// Deadlines that have come and may not fire yet, because there may be events behind full
    /// batches.
    late: Option<Late>,
    /// Whether a turn is under way; or was, when a panic went through it.
    turning: bool,
    accept_warnings: LogLimiter,
}

/// What one turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// Events that the poll brought.
    pub events: usize,
    /// Whether there is more to do at once, of which no event will tell: the next turn won't wait.
    /// A loop around this one must not sleep either.
    pub more: bool,
    /// Whether the reactor was stopped or has drained.
    pub ended: Option<Ended>,
}

/// How a reactor's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Somebody asked it to stop. Everything is as it was; it can be run again.
    Stopped,
    /// It has drained: listeners, sockets and connections are closed, none can be opened any more,
    /// and the mailbox is closed too, when what was in it has been delivered. Every further turn
    /// says the same.
    Drained {
        /// Connections that were cut off at the deadline. What else there is to know of a drain,
        /// `Stats` tell.
        cut: usize,
    },
}

impl<H: Handler> Reactor<H> {
    /// A reactor with the default [`Limits`]. Whose it is, `run` or `turn` tells; where there is
    /// neither yet, it's said (`E0283`):
    ///
    /// ```compile_fail,E0283
    /// let reactor = oread::Reactor::new()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// ```
    /// let reactor = oread::Reactor::<oread::Echo>::new()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the system gives no poll: it is out of descriptors or memory.
    pub fn new() -> io::Result<Reactor<H>> {
        Reactor::with_limits(Limits::default())
    }

    /// A reactor with these limits. What can't be meant is put right: a buffer or a budget of
    /// nothing becomes 1.
    ///
    /// # Errors
    /// As [`Reactor::new`].
    pub fn with_limits(limits: Limits) -> io::Result<Reactor<H>> {
        Reactor::with_system(System::new()?, limits)
    }

    /// A reactor over `system`, which may be a simulated one.
    pub(crate) fn with_system(system: System, limits: Limits) -> io::Result<Reactor<H>> {
        let limits = limits.sound();
        let waker = system.waker(Key::default().token(Kind::Mailbox))?;
        Ok(Reactor {
            events: system.events(limits.events),
            scratch: vec![0; limits.read_buffer].into_boxed_slice(),
            mailbox: Mailbox::new(limits.mailbox, waker),
            mail: false,
            full_batch: false,
            late: None,
            turning: false,
            // Enough to see what goes on, too few to fill a disk.
            accept_warnings: LogLimiter::new(1, 1),
            core: Core::new(system, limits),
            sessions: Vec::new(),
        })
    }

    /// What callbacks are lent, for use between the turns: to listen, to connect, to write. The
    /// time is read anew: the last turn may be long ago, and a deadline that's given now counts
    /// from now.
    pub fn context(&mut self) -> Context<'_, H::Session> {
        self.core.update_clock();
        self.lend()
    }

    /// The connection of this id, for use between the turns; `None` once it's closed. It is what
    /// [`Context::connection`] gives, where no context is kept.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_, H::Session>> {
        self.context().into_connection(id)
    }

    /// What a callback is lent.
    fn lend(&mut self) -> Context<'_, H::Session> {
        self.lend_about(Owner::default())
    }

    /// What a callback is lent that is about something of this owner's.
    fn lend_about(&mut self, owner: Owner) -> Context<'_, H::Session> {
        Context::new(&mut self.core, &mut self.sessions, owner)
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle<H::Message> {
        self.mailbox.handle()
    }

    /// Ends the reactor, as dropping it does, and gives back the messages that were accepted and
    /// not delivered, in their order: those behind a stop, and those that wait after a panic or an
    /// error. After [`Ended::Drained`] there are none.
    #[must_use]
    pub fn into_messages(mut self) -> Vec<H::Message> {
        self.mailbox.close();
        std::iter::from_fn(|| self.mailbox.next_message()).collect()
    }

    /// Runs until somebody asks the reactor to stop or to drain, by its [`Handle`] or its
    /// [`Context`].
    ///
    /// # Errors
    /// As [`Reactor::turn`].
    pub fn run(&mut self, handler: &mut H) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.turn(handler, None)?.ended {
                return Ok(ended);
            }
        }
    }

    /// Takes one turn, and waits for events at most `timeout` (`None`: as long as it takes). It
    /// comes back earlier when a deadline or a signal does, or when there's queued work.
    ///
    /// # Errors
    /// Only what the system's poll gives; nothing that a peer does. And always, with `Other`, after
    /// a panic in one of the handler's methods: what that turn had begun is half done, and can't be
    /// gone on with.
    pub fn turn(&mut self, handler: &mut H, timeout: Option<Duration>) -> io::Result<Turn> {
        if self.turning {
            return Err(io::Error::other(
                "the handler has panicked in an earlier turn: the reactor can only be dropped",
            ));
        }
        self.turning = true;
        let turn = self.turn_once(handler, timeout);
        self.turning = false;
        turn
    }

    fn turn_once(&mut self, handler: &mut H, timeout: Option<Duration>) -> io::Result<Turn> {
        self.core.shared.begin_turn();
        if !self.core.dirty.is_empty() {
            // The last turn may be long ago, and callbacks set their deadlines by the time.
            self.core.update_clock();
            self.flush_dirty(handler);
            // One that starves in it is fed before the wait, not at the end of it.
            self.core.feed_starved();
        }
        let timeouts = [timeout, self.until_next()];
        let timeout = timeouts.into_iter().flatten().min();
        if self.core.shared.limits.spin.is_zero() {
            self.poll(timeout)?;
        } else {
            self.spin(timeout)?;
        }
        self.core.update_clock();
        let earlier = self.core.ready.len();

        let mut events = self.dispatch(handler);
        self.serve_ready(handler, earlier);
        if self.core.is_due() {
            events += self.fire_due(handler)?;
        } else {
            self.late = None;
            self.read_mail(handler, self.core.shared.limits.message_budget as usize);
        }
        if !self.core.dirty.is_empty() {
            self.flush_dirty(handler);
        }
        if let Drain::Asked { deadline } = self.core.drain {
            self.begin_drain(handler, deadline);
        }
        if !self.core.ended.is_empty() {
            self.reap(handler);
        }
        if self.core.stopping {
            // What the last callbacks of all wrote to others goes out too: there may be no next
            // turn.
            self.flush_dirty(handler);
            self.core.flush_waiting();
        }
        if !self.core.starved.is_empty() {
            self.core.feed_starved();
        }
        self.core.end_turn();

        let ended = self.take_end(handler);
        Ok(Turn {
            events,
            more: ended.is_none() && (self.has_work() || self.core.is_due()),
            ended,
        })
    }

    /// How long a loop around this one may sleep before it calls [`Reactor::turn`], if the
    /// descriptor does not become readable before: zero when there's queued work, `None` when
    /// nothing but an event matters. Zero too when the next turn is going to fail for an earlier
    /// panic, so that the loop hears of it. `None` once a turn has said [`Ended::Drained`]: there
    /// is nothing more to come, and the loop may go on with what else it has.
    ///
    /// Such a loop asks for this anew before each sleep, polls the descriptor by edges or by
    /// levels, and calls `turn` with a timeout of zero whenever it wakes. `examples/nested.rs` has
    /// three of them.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.turning {
            return Some(Duration::ZERO);
        }
        match self.core.drain {
            // The turn that ended it has said so.
            Drain::Going { .. } if self.core.slots.is_empty() => None,
            _ => self.until_next(),
        }
    }

    fn until_next(&self) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let tick = self.core.next_tick()?;
        let Core { clock, system, .. } = &self.core;
        // The time of the last turn is stale by what its callbacks took, and by what the embedder
        // did since.
        let since = system.now().saturating_duration_since(clock.now());
        Some(clock.until(tick).saturating_sub(since))
    }

    fn has_work(&self) -> bool {
        self.full_batch || self.mail || self.core.has_work()
    }
}

where_nestable! {
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

    /// The poll's own descriptor: readable when there are events. It's there to be polled, and for
    /// nothing else.
    ///
    /// A loop that must own what it polls is given a duplicate,
    /// `reactor.as_fd().try_clone_to_owned()`: the reactor itself stays yours, to be turned. Take
    /// either out of the loop before you drop the reactor; a duplicate says nothing of use after
    /// that.
    impl<H: Handler> AsFd for Reactor<H> {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.core.system.as_fd()
        }
    }

    /// The same descriptor, by its number.
    impl<H: Handler> AsRawFd for Reactor<H> {
        fn as_raw_fd(&self) -> RawFd {
            self.as_fd().as_raw_fd()
        }
    }
}

impl<H: Handler> fmt::Debug for Reactor<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reactor")
            .field(&self.core.shared.stats())
            .finish()
    }
}
