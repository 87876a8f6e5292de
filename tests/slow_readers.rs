//! Room in the socket is not the only progress: a peer that reads slowly and steadily makes none
//! for seconds, for the socket tells of room only when a third of its buffer is free. What the peer
//! acknowledges is progress as well.
#![cfg(any(target_os = "linux", target_os = "android"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::World;
use nix::libc;
use oread::{CloseReason, Limits};

const TIMEOUT: Duration = Duration::from_secs(2);
/// More than the system holds of it.
const DOWNLOAD: usize = 8 << 20;
/// How much the reader reads, and how often. At this rate the system acknowledges something several
/// times a second (it opens a closed window for a segment, of 64 KiB here, and no less), and has
/// room for more every four seconds.
const BITE: usize = 32 << 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Has a client read a bite at a time for `time`; false when the machine stood still so long that a
/// timeout would be right.
fn nibble(world: &mut World, client: &mut TcpStream, time: Duration) -> bool {
    let start = Instant::now();
    let (mut last, mut longest) = (start, Duration::ZERO);
    let mut buffer = vec![0; BITE];
    client.set_nonblocking(true).unwrap();
    while start.elapsed() < time && world.seen().closed.is_empty() {
        world.turn();
        longest = longest.max(last.elapsed().saturating_sub(PAUSE));
        if last.elapsed() >= PAUSE {
            last = Instant::now();
            match client.read(&mut buffer) {
                Ok(0) => panic!("the end"),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return false,
                _ => {}
            }
        }
    }
    longest < TIMEOUT / 4
}

#[test]
fn a_slow_and_steady_reader_is_not_cut_off_and_one_that_stops_is() {
    let mut world = World::with(Limits {
        write_timeout: Some(TIMEOUT),
        ..Limits::default()
    });
    world.handler.open = Some(Box::new(|_, connection| {
        connection.write(&[b'x'; DOWNLOAD]);
    }));
    let mut client = world.client();
    let undisturbed = nibble(&mut world, &mut client, 3 * TIMEOUT);
    if undisturbed {
        assert_eq!(world.seen().closed, [], "cut off while it read");
        assert!(world.stats().pending > 0, "all is sent, and nothing shown");
    }
    let stopped = Instant::now();
    let reason = world.until_closed(1);
    // Whose clock is first, the reactor's or the system's, is up to them.
    let system_s = CloseReason::Failed(libc::ETIMEDOUT as u16);
    assert!(
        reason == CloseReason::WriteTimeout || reason == system_s,
        "{reason:?}"
    );
    assert!(stopped.elapsed() < 10 * TIMEOUT, "cut off late");
}
