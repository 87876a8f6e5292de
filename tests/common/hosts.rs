//! The host that most simulated tests begin with: one that listens.

#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Host, World};
use oread::{Echo, EchoOptions, Handler, Limits, ListenOptions};

pub const SECOND: Duration = Duration::from_secs(1);

pub fn address() -> SocketAddr {
    ([10, 0, 0, 1], 7).into()
}

/// A host that listens at [`address`].
pub fn listening<H: Handler>(world: &mut World, handler: H, limits: Limits) -> Host<H> {
    let mut host = world.host(handler, limits).unwrap();
    let listener = host.context().listen(&ListenOptions::new(address()));
    listener.unwrap();
    host
}

/// An echo that listens at [`address`].
pub fn echo(world: &mut World, limits: Limits) -> Host<Echo> {
    listening(world, Echo::new(EchoOptions::default()), limits)
}

/// Limits with this idle timeout.
pub fn idle(timeout: Duration) -> Limits {
    Limits {
        idle_timeout: Some(timeout),
        ..Limits::default()
    }
}
