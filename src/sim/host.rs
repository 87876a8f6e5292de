//! A reactor in a simulated network, with its handler.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::context::{Connection, Context};
use crate::handle::Handle;
use crate::handler::Handler;
use crate::limits::Limits;
use crate::net::System;
use crate::net::sim::Process;
use crate::reactor::{Ended, Reactor, Turn};
use crate::token::ConnectionId;

use super::Traced;

use sealed::Each;
pub(super) use sealed::Turned;

/// A program on a host of its own in a [`World`](super::World): a reactor and its handler.
pub struct Host<H: Handler> {
    /// What the reactor calls: the handler itself, between two turns to be looked at and changed as
    /// such, by way of its `Deref`.
    pub handler: Traced<H>,
    reactor: Reactor<Traced<H>>,
    process: Process,
    ended: Option<Ended>,
    /// Its last turn found no events: it sleeps, until it has some or its next deadline comes.
    sleeps: bool,
}

impl<H: Handler> Host<H> {
    pub(super) fn new(handler: H, limits: Limits, process: Process) -> io::Result<Host<H>> {
        Ok(Host {
            handler: Traced::new(handler, process.clone()),
            reactor: Reactor::with_system(System::Sim(process.system()?), limits)?,
            process,
            ended: None,
            sleeps: false,
        })
    }

    /// How its last turn ended the run, if it did. One that has drained is not turned any more.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Whether it has drained: it's turned no more.
    #[must_use]
    pub fn has_drained(&self) -> bool {
        matches!(self.ended, Some(Ended::Drained { .. }))
    }

    /// What callbacks are lent, for use between the turns: to listen, to connect, to write.
    pub fn context(&mut self) -> Context<'_, H::Session> {
        self.reactor.context()
    }

    /// A connection, for use between the turns; `None` once it's closed.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_, H::Session>> {
        self.reactor.connection(id)
    }

    /// A handle, to post messages by.
    #[must_use]
    pub fn handle(&self) -> Handle<H::Message> {
        self.reactor.handle()
    }

    /// Takes one turn, for a test that turns its hosts by itself. It waits at most `timeout` of
    /// simulated time; `None`: as long as it takes.
    ///
    /// # Errors
    /// As [`Reactor::turn`]. `Other`: it would wait for ever.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        self.process.note_turn(timeout);
        let turn = self.reactor.turn(&mut self.handler, timeout);
        let turn = turn.inspect_err(|_| self.process.note_error())?;
        self.ended = turn.ended;
        self.sleeps = turn.events == 0 && self.process.slept();
        Ok(turn)
    }

    /// The reactor itself, and what it calls.
    pub fn reactor(&mut self) -> (&mut Reactor<Traced<H>>, &mut Traced<H>) {
        (&mut self.reactor, &mut self.handler)
    }

    /// What the host's system is like, to be changed: its descriptors, its ports.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// In a line: `Host(h0, 3 sockets)`.
impl<H: Handler> fmt::Debug for Host<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, sockets) = (self.process.number(), self.process.sockets());
        write!(f, "Host(h{id}, {sockets} sockets")?;
        match self.ended {
            Some(ended) => write!(f, ", {ended:?})"),
            None => f.write_str(")"),
        }
    }
}

impl<H: Handler> Turned for Host<H> {
    fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        Host::turn(self, timeout)
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.reactor.next_timeout()
    }

    fn sleeps(&self) -> bool {
        self.sleeps && !self.process.is_ready()
    }

    fn has_overslept(&self) -> bool {
        let works = self.reactor.next_timeout() == Some(Duration::ZERO);
        self.sleeps && works && self.process.would_wait()
    }

    fn has_drained(&self) -> bool {
        Host::has_drained(self)
    }

    fn process(&self) -> &Process {
        &self.process
    }
}

/// The hosts that a [`World`](super::World) turns: a [`Host`]; an array, slice or `Vec` of hosts; a
/// tuple of up to four, whatever their handlers are; or `()`, nobody: the time passes while all
/// processes stand still.
pub trait Hosts: Each {}

impl<T: Each + ?Sized> Hosts for T {}

impl<H: Handler> Each for Host<H> {
    fn hosts(&mut self) -> Vec<&mut dyn Turned> {
        vec![self]
    }
}

impl<T: Each + ?Sized> Each for &mut T {
    fn hosts(&mut self) -> Vec<&mut dyn Turned> {
        (**self).hosts()
    }
}

impl<T: Each> Each for [T] {
    fn hosts(&mut self) -> Vec<&mut dyn Turned> {
        self.iter_mut().flat_map(Each::hosts).collect()
    }
}

impl<T: Each, const N: usize> Each for [T; N] {
    fn hosts(&mut self) -> Vec<&mut dyn Turned> {
        self.as_mut_slice().hosts()
    }
}

impl<T: Each> Each for Vec<T> {
    fn hosts(&mut self) -> Vec<&mut dyn Turned> {
        self.as_mut_slice().hosts()
    }
}

macro_rules! hosts_of_a_tuple {
    ($($kind:ident $place:tt),*) => {
        impl<$($kind: Each),*> Each for ($($kind,)*) {
            fn hosts(&mut self) -> Vec<&mut dyn Turned> {
                #[allow(unused_mut)] // Nobody is a host of `()`.
                let mut all = Vec::new();
                $(all.extend(self.$place.hosts());)*
                all
            }
        }
    };
}

hosts_of_a_tuple!();
hosts_of_a_tuple!(A 0, B 1);
hosts_of_a_tuple!(A 0, B 1, C 2);
hosts_of_a_tuple!(A 0, B 1, C 2, D 3);

mod sealed {
    use std::io;
    use std::time::Duration;

    use crate::net::sim::Process;
    use crate::reactor::Turn;

    /// What a world needs of a host, whatever its handler is.
    pub trait Turned {
        /// Takes one turn, and waits at most `timeout` of simulated time.
        ///
        /// # Errors
        /// As [`Reactor::turn`](crate::Reactor::turn).
        fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn>;

        /// How long it would sleep if nothing happened; `None`: for ever.
        fn next_timeout(&self) -> Option<Duration>;

        /// Whether its last turn found no events, and it has none now.
        fn sleeps(&self) -> bool;

        /// Whether it went to sleep with work to do, which only the end of that sleep brought up.
        fn has_overslept(&self) -> bool;

        /// Whether it has drained: it's turned no more.
        fn has_drained(&self) -> bool;

        /// The system that it runs on.
        fn process(&self) -> &Process;
    }

    /// Each of some hosts.
    pub trait Each {
        fn hosts(&mut self) -> Vec<&mut dyn Turned>;
    }
}
