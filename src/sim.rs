//! A simulated network, to test a [`Handler`](crate::Handler) without sockets and without waiting.
//!
//! A [`World`] is a network, a clock and the systems of any number of hosts in memory. The real
//! [`Reactor`](crate::Reactor) runs in it, with real handlers; only the system calls below it are
//! played. One number, the seed, decides everything that is left to chance: how the network cuts
//! and delays what is sent, which system calls fail, when a process stands still. The same seed
//! gives the same run, byte for byte.
//!
//! # A test of one's own handler
//!
//! ```
//! use oread::sim::World;
//! use oread::{Echo, EchoOptions, Limits, ListenOptions};
//!
//! # fn main() -> std::io::Result<()> {
//! let mut world = World::new(7);
//! let mut echo = world.host(Echo::new(EchoOptions::default()), Limits::default())?;
//! echo.context().listen(&ListenOptions::new(([10, 0, 0, 1], 7).into()))?;
//!
//! let peer = world.connect(([10, 0, 0, 1], 7).into());
//! peer.send(b"hello");
//! peer.finish();
//! world.settle(&mut [&mut echo])?;
//! assert_eq!(peer.received(), b"hello");
//! assert!(peer.has_ended());
//! # Ok(())
//! # }
//! ```
//!
//! A [`Peer`] is a program at the other end that does what the test tells it, in straight lines. It
//! reads what comes unless it's told not to, and knows what it has sent and got.
//! [`World::settle`] turns the reactors until nothing moves any more; [`World::advance`] lets time
//! pass: ten minutes of an idle timeout take microseconds.
//!
//! # A search for what nobody thought of
//!
//! [`check`] runs a test under many seeds, each in a world of its own. [`World::unleash`] has the
//! seed draw faults: system calls that answer "not now" or fail, reads of one byte, events that lie
//! or come late, peers that vanish, a process that stands still ([`Fault`] lists them). A failing
//! run is made small, and shown with its trace and the one line that replays it. What must hold is
//! best asked of the peers, who keep their own books:
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
//!     world.settle(&mut [&mut echo]).unwrap();
//!     assert!(bytes.starts_with(&peer.received()), "the echo made something up");
//! });
//! ```
//!
//! # What can't be simulated
//!
//! Foreign sources ([`Context::register`](crate::Context::register)) and sockets of the real system
//! ([`Context::adopt`](crate::Context::adopt)) are `Unsupported` errors in a simulated reactor. Its
//! descriptor is never readable: to nest it in a real loop shows nothing. Messages of a
//! [`Handle`](crate::Handle) come in as they do otherwise; a thread of its own that sends them is
//! not part of the seed.

mod check;
mod host;
mod plan;
mod traced;
mod world;

pub use check::check;
pub use host::{Host, Hosts, Turned};
pub use traced::Traced;
pub use world::World;

pub use crate::net::sim::{Fault, Listener, Peer, Poller, Process, UdpPeer};
