//! A simulated network, to test a [`Handler`](crate::Handler) without sockets and without waiting.
//!
//! A [`World`] is a network, a clock and the systems of any number of hosts in memory. The real
//! [`Reactor`](crate::Reactor) runs in it, with real handlers; only the system calls below it are
//! played. One number, the seed, decides everything that is left to chance: how the network cuts
//! and delays what is sent, which system calls fail, when a process stands still. The same seed
//! gives the same run, byte for byte.
//!
//! ```toml
//! [dev-dependencies]
//! oread = { path = "../oread", default-features = false, features = ["sim"] }
//! ```
//!
//! # A test of ten lines
//!
//! ```
//! use oread::sim::World;
//! use oread::{Echo, EchoOptions, Limits, ListenOptions};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut world = World::new(7);
//! let mut echo = world.host(Echo::new(EchoOptions::default()), Limits::default())?;
//! let address = ([10, 0, 0, 1], 7).into();
//! echo.context().listen(&ListenOptions::new(address))?;
//!
//! let peer = world.connect(address);
//! peer.send(b"hello");
//! peer.expect(b"hello");
//! peer.finish();
//! peer.expect_end();
//! world.settle(&mut echo)?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Host`] is a reactor with its handler, which the test may look at: `echo.handler`. Time moves
//! only while hosts wait. [`World::settle`] turns them until nothing moves any more,
//! [`World::advance`] lets time pass (ten minutes of an idle timeout take microseconds),
//! [`World::until`] waits for what the test says, and [`World::step`] takes one turn of one host.
//! What they turn is a host, several of them in an array or a tuple, or nobody, `&mut ()`: all
//! processes stand still.
//!
//! What a world finds is an error: a host that spins (it's turned again and again and moves
//! nothing), that goes to sleep with work to do, or that wakes again and again for nothing; a peer
//! that has read something else than it expects, or still waits for that when nothing moves any
//! more; and a wait for what never comes, of [`World::until`] or of [`Host::turn`] without a
//! timeout, which most often shows a wake-up that was lost.
//!
//! # Peers
//!
//! A [`Peer`] is a program at the other end that does what the test tells it, in that order: it
//! sends, at once or slowly, waits for what it expects, pauses, finishes, closes, resets, vanishes.
//! It reads what comes unless it's told to read less or nothing, and knows what it has sent and
//! got, and when ([`Peer::received`], [`Peer::take_line`], [`Peer::arrivals`]). An expectation that
//! fails is an error of the world's next step, which names the line of the test; [`Peer::has_met`]
//! says whether all have come true. It never finishes by itself, but for [`Peer::finish_at_end`].
//! [`World::connect`] makes one that dials; [`World::listen`] makes a server for handlers that
//! dial, each of whose connections is a peer ([`Listener::accept`]); [`World::udp`] makes a
//! [`UdpPeer`].
//!
//! # The network and the systems
//!
//! [`World::latency`], [`World::bandwidth`] and [`World::loss`] shape the network, and
//! [`Fault::SmallBuffers`] makes its buffers small, for a test of what a handler does when its
//! output is not taken. [`World::partition`] parts two hosts until [`World::heal`], and
//! [`World::vanish`] pulls a host's plug. [`Host::process`] gives the [`Process`] that the reactor
//! runs in: how many descriptors it may have, its ports, its addresses, and that it stands still
//! for a while. [`World::poller`] chooses how its poll tells events: as epoll, kqueue or mio's
//! poll(2) do.
//!
//! Several hosts talk to each other in one world. Each dials from the first address that it listens
//! at; one that doesn't listen is given an address, so that it can be parted from the others:
//!
//! ```
//! use std::net::IpAddr;
//! use std::time::Duration;
//!
//! use oread::sim::World;
//! use oread::{ConnectOptions, Connection, Handler};
//! # use oread::{Echo, EchoOptions, Limits, ListenOptions};
//!
//! #[derive(Default)]
//! struct Client {
//!     heard: Vec<u8>,
//! }
//!
//! impl Handler for Client {
//! #   type Session = ();
//! #   type Message = ();
//!     fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
//!         self.heard.extend_from_slice(data);
//!         data.len()
//!     }
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! # let mut world = World::new(7);
//! let [here, there]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
//! let mut echo = world.host(Echo::new(EchoOptions::default()), Limits::default())?;
//! echo.context().listen(&ListenOptions::new((there, 7)))?;
//! let mut client = world.host(Client::default(), Limits::default())?;
//! client.process().addresses(&[here]);
//! let id = client.context().connect(&ConnectOptions::new((there, 7)), ())?;
//! world.settle(&mut (&mut echo, &mut client))?;
//!
//! world.partition(here, there);
//! client.context().connection(id).unwrap().write(b"hello");
//! world.advance(&mut (&mut echo, &mut client), Duration::from_secs(10))?;
//! assert_eq!(client.handler.heard, b"");
//! world.heal(here, there);
//! world.settle(&mut (&mut echo, &mut client))?; // the system sends it again
//! assert_eq!(client.handler.heard, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Faults
//!
//! A [`Fault`] is something that a real system may do at a bad moment. [`World::fault`] has one
//! happen at its n-th chance, which makes a test of one's own for a fault that is known:
//!
//! ```
//! # use oread::sim::{Fault, World};
//! # use oread::{Echo, EchoOptions, Limits, ListenOptions};
//! # fn main() -> std::io::Result<()> {
//! # let mut world = World::new(7);
//! # let mut echo = world.host(Echo::new(EchoOptions::default()), Limits::default())?;
//! # let address = ([10, 0, 0, 1], 7).into();
//! # echo.context().listen(&ListenOptions::new(address))?;
//! let peer = world.connect(address);
//! world.settle(&mut echo)?;
//! world.fault(Fault::WriteShort, 1);
//! peer.send(b"hello");
//! world.settle(&mut echo)?;
//! assert_eq!(peer.received(), b"hello"); // in two pieces
//! # assert_eq!(world.faults_met(), [Fault::WriteShort]);
//! # Ok(())
//! # }
//! ```
//!
//! [`World::fault_rate`] has it happen now and then. [`World::recover`] ends all faults and lets
//! everything that can still move do so. [`World::has_broken`] tells whether one has happened that
//! breaks connections: the others only delay, so that without it all that was sent must arrive.
//!
//! # A search for what nobody thought of
//!
//! [`check`] runs a test under many seeds, each in a world of its own. [`World::unleash`] has the
//! seed draw faults: about half of all kinds, each at a rate of its own. What a test draws itself
//! comes from the seed as well: [`World::count`], [`World::size`], [`World::roll`]. What must hold
//! is best asked of the peers, who keep their own books:
//!
//! ```
//! use oread::sim::{World, check};
//! use oread::{Echo, EchoOptions, Limits, ListenOptions};
//!
//! check(0..100, |world: &mut World| {
//!     world.unleash();
//!     let mut echo = world.host(Echo::new(EchoOptions::default()), Limits::default()).unwrap();
//!     let address = ([10, 0, 0, 1], 7).into();
//!     if echo.context().listen(&ListenOptions::new(address)).is_err() {
//!         return; // a fault of the system: there is nothing to be tested
//!     }
//!     let peer = world.connect(address);
//!     let bytes = vec![7; world.size(100_000)];
//!     peer.send(&bytes);
//!     world.settle(&mut echo).unwrap();
//!     world.recover(&mut echo).unwrap();
//!     assert!(bytes.starts_with(&peer.received()), "the echo made something up");
//!     assert!(world.has_broken() || peer.received() == bytes, "the echo lost something");
//! });
//! ```
//!
//! Draw all that a test draws before the first step. Each turn of a host takes a number from the
//! same stream: in a run with a fault less, which has fewer or more turns, another number would be
//! drawn behind them, and the fault could not be left out.
//!
//! A short run, of a few connections and messages, meets about two kinds of faults of those that it
//! has drawn, and often none: [`World::fault_rate`] behind [`World::unleash`] has one that matters
//! to the test happen more often, and [`World::faults_met`] tells what was met. What must hold all
//! the while, and not only at the end, is looked at between steps:
//!
//! ```
//! # use std::time::Duration;
//! # use oread::sim::{Fault, World, check};
//! # use oread::{Echo, EchoOptions, Limits, ListenOptions};
//! # check(0..10, |world: &mut World| {
//! # world.unleash();
//! # let mut host = world.host(Echo::new(EchoOptions::default()), Limits::default()).unwrap();
//! # let address = ([10, 0, 0, 1], 7).into();
//! # if host.context().listen(&ListenOptions::new(address)).is_err() {
//! #     return;
//! # }
//! world.fault_rate(Fault::WriteShort, 200_000); // one write in five
//! let peer = world.connect(address);
//! peer.send(&[7; 1000]);
//! let end = world.now() + Duration::from_secs(10);
//! while world.step(&mut host, Some(end)).unwrap() {
//!     let stats = host.context().stats();
//!     assert!(stats.open <= 1 && stats.bytes_out <= stats.bytes_in);
//! }
//! # });
//! ```
//!
//! A failing run is made small: faults that aren't needed are left out, and fewer and smaller
//! things are drawn. Then it is shown with its trace, the panic, and the line that replays it, to
//! be pasted into a shell:
//!
//! ```text
//! 0.002450 peer c0.0 sends 9 "GET name\n"
//! 0.002456 from c0.0 to c0.1: 9 bytes
//! 0.002456 h0 event c0.1 {READABLE, WRITABLE}
//! 0.002456 fault: read-short
//! 0.002456 read c0.1 65536 -> 5 "GET n"
//! 0.002456 h0 on_data c0.1 5 bytes
//! 0.002456 h0 on_data c0.1 consumes 0 of 5
//! ...
//! panicked at src/lib.rs:120:9:
//! the peer has no answer
//! to replay it: env OREAD_SIM='seed=7 faults=read-short count=1' cargo test tests::told -- --exact
//! (add the flags that the test was run with, such as --release, behind `cargo test`)
//! ```
//!
//! `OREAD_SEEDS=100000` in the environment searches longer, `OREAD_SEEDS=100000..200000` goes on
//! from there, and `cargo test --release` is faster: a seed takes some milliseconds. A replay that
//! passes says so, with its trace, which `cargo test ... -- --nocapture` shows.
//!
//! A test in straight lines has its trace as well if it's run by [`check`], with one seed: in place
//! of `let mut world = World::new(7);` its lines stand in
//! `check(7..8, |world: &mut World| -> io::Result<()> { ... })`, which shows the trace if it fails.
//! [`World::note`] adds lines of the test's own, and [`World::trace`] shows any other run.
//!
//! # What is modelled
//!
//! Where systems differ or leave a freedom, the seed takes it; a model that is kinder than the
//! system finds nothing.
//!
//! - TCP: buffers on both sides and windows between them; segments cut anywhere, lost, sent again
//!   and delayed; half-close; resets, told once to whichever call comes first, also instead of what
//!   had arrived; urgent data; backlogs, and handshakes that are lost, refused, reset or never
//!   answered; keepalive, user timeouts, and the system's own patience with silence; a connection
//!   to oneself.
//! - epoll by edges, kqueue with its own order and its BSD sockets, and mio's poll(2), which arms
//!   itself only after "not now"; full batches, late, split and spurious events, signals, timeouts
//!   in whole milliseconds.
//! - UDP: loss, doubles, disorder, refusals, full buffers, datagrams that are cut, broadcasts and
//!   groups, and from which address an answer leaves.
//! - The process: descriptors, ports, memory, calls that take time, a process that stands still.
//!
//! # What is not
//!
//! - Sources of one's own ([`Context::register`](crate::Context::register)) and sockets of the real
//!   system ([`Context::adopt`](crate::Context::adopt), `adopt_listener`, `adopt_udp`): in a
//!   simulated reactor they are errors of the kind `Unsupported`, which say so. The reactor's own
//!   descriptor is never readable: to nest it in a real loop shows nothing.
//! - Unix sockets, and descriptors: [`Connection::detach`](crate::Connection::detach) is
//!   `Unsupported` as well.
//! - Membership of multicast groups
//!   ([`Context::join_multicast`](crate::Context::join_multicast)), which is `Unsupported` too:
//!   what is sent to a group reaches each socket that is bound to its port.
//! - Threads. Messages of a [`Handle`](crate::Handle) come in as they do otherwise, and those that
//!   a test sends between turns are part of the run. None comes in the middle of a turn. A thread
//!   of its own that sends some is no part of the seed.
//! - TIME_WAIT, acknowledgements that are lost, and the end of a caller's patience: at a backlog
//!   that stays full it tries again every second for good, so that such a world doesn't settle.
//! - Congestion control, IP fragments, routes and names. What is sent is slowed by latency, by
//!   bandwidth and by the receiver's window alone.

mod check;
mod host;
mod plan;
mod run;
mod shrink;
mod traced;
mod turns;
mod watch;
mod world;

pub use check::{Outcome, check};
pub use host::{Host, Hosts};
pub use traced::Traced;
pub use world::World;

pub use crate::net::sim::{Fault, Listener, Peer, Poller, Process, UdpPeer};
