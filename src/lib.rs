//! One thread that answers a million callers.
#![forbid(unsafe_code)]

mod acceptor;
mod buffer;
mod clock;
mod context;
mod echo;
mod error;
pub mod escape;
pub mod framing;
mod handle;
mod handler;
mod limits;
mod link;
mod net;
mod nonblocking;
mod options;
mod rate;
mod reactor;
mod readiness;
mod stats;
mod timer;
mod timers;
mod token;

pub use context::{Connection, Context, Datagrams, Output, SendOutcome};
pub use echo::{Echo, EchoOptions, EchoSession, EchoStats};
pub use error::CloseReason;
pub use escape::Escaped;
pub use framing::Framing;
pub use handle::{Handle, SendError};
pub use handler::{Accepted, Handler};
pub use limits::Limits;
pub use link::Pressure;
pub use options::*;
pub use reactor::{Ended, Reactor, Turn};
pub use readiness::Readiness;
pub use stats::Stats;
pub use token::{ConnectionId, ListenerId, SourceId, TimerId, UdpId};

/// The event library below, for foreign sources.
pub use mio;
