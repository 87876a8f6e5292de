//! Fairness in bytes: how long a small message waits behind peers who send all they can is bounded
//! by what the reactor reads meanwhile, and not by what those peers have to say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};

use common::{World, connect, narrow_sender, write_until_blocked};
use oread::Limits;

const DUMPERS: usize = 300;
/// What may be read between the arrival of a message and its answer.
const MOST: u64 = 8 << 20;

#[test]
fn a_ping_waits_for_a_few_megabytes_at_most_behind_three_hundred_peers_who_send_all_they_can() {
    let mut world = World::with(Limits::default());
    world.handler.forgetful = true;
    // The dumpers are only listened to. An answer notes how much was read by then.
    world.handler.data = Some(Box::new(|seen, connection, data| {
        if data == b"ping" {
            seen.count = connection.context().stats().bytes_in;
            connection.write(data);
        }
        data.len()
    }));
    let (_, address) = world.listen();
    let mut dumpers: Vec<_> = (0..DUMPERS).map(|_| connect(address)).collect();
    let mut honest = connect(address);
    world.until_opened(DUMPERS + 1);
    for dumper in &dumpers {
        narrow_sender(dumper, 64 << 10);
    }
    for round in 0..10 {
        // What the system takes of them all is there before the ping.
        let sent: usize = dumpers.iter_mut().map(write_until_blocked).sum();
        honest.write_all(b"ping").unwrap();
        let before = world.stats().bytes_in;
        world.seen().count = 0;
        world.until("the ping is answered", |world| {
            if world.handler.seen.count == 0 {
                dumpers.iter_mut().for_each(|dumper| {
                    write_until_blocked(dumper);
                });
            }
            world.handler.seen.count > 0
        });
        let read = world.seen().count - before;
        assert!(
            read <= MOST,
            "{read} bytes were read before ping {round}, of {sent} that were sent"
        );
        honest.read_exact(&mut [0; 4]).unwrap();
    }
}
