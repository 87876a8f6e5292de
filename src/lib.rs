//! A single-threaded readiness reactor on [`mio`]: many TCP connections and UDP sockets, one
//! thread, and a [`Handler`] of yours that is told what happens.
//!
//! The library takes care of what non-blocking IO is hard about: short writes, backpressure,
//! half-close, fairness, running out of descriptors, ids that outlive their connection, deadlines,
//! and an end in good order. It starts no thread, changes no signal, installs no logger, has no
//! global state and never exits; it is for Unix, with pointers of 64 bits.
//!
//! # The least program
//!
//! ```
//! use oread::{Accepted, Connection, Context, Handler, ListenOptions, Reactor};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Session = (); // kept for each connection
//!     type Message = (); // what other threads may post
//!
//!     fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
//!         Some(())
//!     }
//!
//!     fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
//!         connection.write(data);
//!         data.len() // how much of it is consumed; the rest comes again, with more
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let mut reactor = Reactor::new()?;
//!     reactor.context().listen(&ListenOptions::new(([127, 0, 0, 1], 0)))?;
//!     # reactor.handle().stop();
//!     reactor.run(&mut Echo)?;
//!     Ok(())
//! }
//! ```
//!
//! # Where everything is
//!
//! - [`Reactor`] runs the loop: whole ([`Reactor::run`]), one turn at a time ([`Reactor::turn`]),
//!   or inside another loop, by its descriptor and [`Reactor::next_timeout`]. [`Limits`] bound it.
//! - [`Handler`] is what you write. One method is required, and a server writes `on_accept` too;
//!   the others do nothing by default. [`from_fn`] makes one of a closure, [`Both`] one of two, and
//!   with [`Part`] a handler has others inside.
//! - [`Context`] is what every callback is lent: listeners, dials, UDP sockets, timers, foreign
//!   sources, any connection by its [`ConnectionId`], the drain, the counters ([`Stats`]).
//! - [`Connection`] is the one that a callback is about: write, pause, finish, close. [`Pressure`]
//!   says when to stop writing, [`CloseReason`] how it ended. [`Datagram`] is the same for UDP.
//! - [`Handle`] is for other threads: messages, a drain, a stop.
//! - [`ListenOptions`], [`ConnectOptions`] and [`UdpOptions`] say what a socket is to be like.
//! - [`framing`] cuts a stream into frames, and [`Escaped`] shows a peer's bytes safely.
//! - [`Echo`] is a whole handler: the one of the program `oread`.
//!
//! [`embedding`] leads from here to a proxy and its test in twelve steps, and has the rules, the
//! costs, and a comparison with other libraries. `docs/ARCHITECTURE.md` tells how oread works
//! inside: begin with its section "The way of one byte". `docs/PITFALLS.md` has what goes wrong
//! with readiness, and the tests for each.
//!
//! # Features
//!
//! - `cli` (default) adds the program `oread` and its dependencies. It changes nothing in the
//!   library: embedders switch it off with `default-features = false`, and have eight crates in all
//!   (and two more while they build: `autocfg` and `cfg_aliases`, of build scripts).
//! - `sim` adds the module `sim`: a network, a poll and a clock in memory that a reactor can run on
//!   in place of the system's, for tests of your own handlers. It adds no crate, and changes
//!   nothing for a reactor that runs on the system. It's for `[dev-dependencies]`:
//!   `oread = { ..., features = ["sim"] }`.
//!
//! # What a version promises
//!
//! Versions follow [Semantic Versioning](https://semver.org/): code that compiles against one
//! compiles against the next with the same first number (0.1: the second), and is called back as
//! these pages say. No promise are:
//!
//! - new variants and fields of what is `non_exhaustive`, new kinds of [`CloseReason`] in the
//!   counts, and new fields of the limits and options: a literal of them ends in
//!   `..Limits::default()`, or whatever makes the others;
//! - new methods of [`Handler`], whose defaults do what was done before: an adaptor passes each of
//!   them on once it has a line for it, and `#[warn(clippy::missing_trait_methods)]` on its `impl`
//!   has Clippy tell which it hasn't;
//! - the texts of errors, `Display`, `Debug` and log lines, but for [`CloseReason::name`];
//! - how many system calls, turns and wake-ups something takes, and the memory of a connection;
//! - the run that a seed of `sim` gives;
//! - the oldest compiler, which a new second number may raise: the manifest says which it is.
//!
//! mio is part of the surface, by [`Source`], [`Interest`] and [`SourceFd`]: a new first number of
//! mio is one here.
//!
//! # Limits
//!
//! - One reactor is one thread. For more, run several, each with its own listener on the same port
//!   ([`ListenOptions::reuse_port`]).
//! - A callback that blocks, blocks everybody. Long work belongs in another thread, which answers
//!   by a [`Handle`], or in slices between turns.
//! - Timers and timeouts count whole milliseconds, as the system's poll does.
//! - Tested on Linux, with epoll and with mio's poll(2) backend. With the latter a [`Reactor`] has
//!   no descriptor, so it can't be nested. kqueue is mio's, and untested here.
#![forbid(unsafe_code)]

mod acceptor;
mod address;
mod buffer;
mod clock;
mod compose;
mod context;
mod echo;
mod error;
pub mod escape;
pub mod framing;
mod handle;
mod handler;
mod limits;
mod link;
mod memory;
mod net;
mod nonblocking;
mod options;
mod rate;
mod reactor;
mod readiness;
#[cfg(feature = "sim")]
pub mod sim;
mod stats;
mod table;
mod timer;
mod timers;
mod token;

// A page of the documentation, and no code. Its programs are in `tests/embedding`.
#[cfg(doc)]
#[doc = include_str!("../docs/EMBEDDING.md")]
pub mod embedding {}

pub use address::{Address, UnixName};
pub use compose::{Both, Either, FromFn, from_fn};
pub use context::{Connection, Context, Datagram, Output, Part, ReplyTo, SendOutcome};
pub use echo::{Echo, EchoOptions, EchoSession, EchoStats};
pub use error::{CloseReason, ConnectError};
pub use escape::Escaped;
pub use framing::Framing;
pub use handle::{Handle, SendError};
pub use handler::{Accepted, Handler};
pub use limits::{ConnectionLimits, Limits};
pub use link::Pressure;
pub use net::Credentials;
pub use options::{ConnectOptions, Keepalive, ListenOptions, Multicast, UdpOptions};
pub use reactor::{Ended, Reactor, Turn};
pub use readiness::Readiness;
pub use stats::{Closed, Stats, Traffic};
pub use token::{ConnectionId, ListenerId, Owner, SourceId, TimerId, UdpId};

/// What foreign sources are registered with, of mio 1.
pub use mio::{Interest, event::Source, unix::SourceFd};
