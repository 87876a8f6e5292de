//! The examples' own handlers, in a simulated network that does its worst: a chat, a proxy, a small
//! Redis, and a reader of PROXY headers. Their peers keep books of what was said, and know what
//! must come of it.
//!
//! `OREAD_SEEDS=100000 cargo test --release --features sim --test simulated_relay` searches longer.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "relay/chat.rs"]
mod chat;
#[path = "common/hosts.rs"]
mod hosts;
#[path = "relay/proxy.rs"]
mod proxy;
#[path = "relay/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "relay/resp.rs"]
mod resp;
#[path = "common/streams.rs"]
mod streams;
#[path = "common/watched.rs"]
mod watched;

use std::time::Duration;

use oread::Handler;
use oread::sim::{Host, World};

use hosts::address;
use watched::{Watched, look_at};

/// Lets so much time pass, and looks at the host after each step.
fn run<H: Handler>(world: &mut World, host: &mut Host<Watched<H>>, time: Duration) {
    let end = world.now() + time;
    while world.step(host, Some(end)).unwrap() {
        look_at(host);
    }
}

/// Runs until nothing moves any more but by deadlines, with no fault any more; listeners that
/// paused go on, too.
fn settle<H: Handler>(world: &mut World, host: &mut Host<Watched<H>>) {
    world.calm();
    world.settle(host).unwrap();
    run(world, host, Duration::from_secs(3));
    world.settle(host).unwrap();
    look_at(host);
}

/// Whether a fault has ended a connection, or kept one from being made.
fn is_calm(world: &World) -> bool {
    !world.has_broken()
}

/// A drain ends everybody, and nothing is left.
fn end<H: Handler>(world: &mut World, host: &mut Host<Watched<H>>) {
    host.context().drain(Duration::from_secs(5));
    run(world, host, Duration::from_secs(6));
    let stats = look_at(host);
    let left = (stats.open, stats.pending, stats.unconsumed, stats.held);
    assert_eq!(left, (0, 0, 0, 0));
    let mut lives = host.handler.lives.values();
    assert!(lives.all(|life| life.closed.is_some() || life.failed));
    assert_eq!(host.process().sockets(), 0, "a socket was not closed");
}
