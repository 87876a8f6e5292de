//! The reactor in other company: inside another loop, and with other people's sources inside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{ErrorKind, Read, Write};

use common::World;
use oread::Readiness;
use oread::mio::Interest;
use oread::mio::unix::pipe;

// The poll(2) backend has no descriptor to nest by.
#[cfg(not(mio_unsupported_force_poll_poll))]
mod outer {
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::{Duration, Instant};

    use oread::Limits;
    use oread::mio::unix::SourceFd;
    use oread::mio::{Events, Poll, Token};

    use super::common::{PATIENCE, connect};
    use super::*;

    /// Turns only as a loop around the reactor does: when its descriptor is ready, or its timeout has passed.
    fn run_nested(world: &mut World, done: impl Fn(&World) -> bool) {
        let descriptor = world.reactor.as_raw_fd();
        run_nested_by(descriptor, world, done);
    }

    /// The same, with this descriptor of the reactor.
    fn run_nested_by(descriptor: RawFd, world: &mut World, done: impl Fn(&World) -> bool) {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        poll.registry()
            .register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !done(world) {
            assert!(Instant::now() < deadline, "the outer loop sleeps");
            let wait = world.reactor.next_timeout().unwrap_or(PATIENCE);
            poll.poll(&mut events, Some(wait)).unwrap();
            world.turn_for(Duration::ZERO);
        }
    }

    #[test]
    fn a_loop_that_sleeps_on_the_descriptor_serves_all_though_a_batch_is_small() {
        let mut world = World::with(Limits {
            events: 4,
            ..Limits::default()
        });
        let (_, address) = world.listen();
        let mut clients: Vec<_> = (0..10).map(|_| connect(address)).collect();
        run_nested(&mut world, |world| world.handler.seen.opened.len() == 10);
        for client in &mut clients {
            client.write_all(b"ping").unwrap();
        }
        run_nested(&mut world, |world| world.handler.seen.bytes.len() == 40);
        for client in &mut clients {
            let mut bytes = [0; 4];
            client.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"ping");
        }
    }

    #[test]
    fn a_budget_that_is_used_up_is_gone_on_with_in_a_nested_loop() {
        let mut world = World::with(Limits {
            io_budget: 1,
            read_buffer: 10,
            ..Limits::default()
        });
        let mut client = world.client();
        client.write_all(&[7; 1000]).unwrap();
        run_nested(&mut world, |world| world.handler.seen.bytes.len() == 1000);
    }

    #[test]
    fn a_duplicate_of_the_descriptor_does_as_well_for_a_loop_that_owns_what_it_polls() {
        let mut world = World::new();
        let owned = world.reactor.as_fd().try_clone_to_owned().unwrap();
        assert_ne!(owned.as_raw_fd(), world.reactor.as_raw_fd());
        let (_, address) = world.listen();
        let mut client = connect(address);
        client.write_all(b"ping").unwrap();
        run_nested_by(owned.as_raw_fd(), &mut world, |world| {
            world.handler.seen.bytes == b"ping"
        });
    }

    #[test]
    fn timers_and_messages_wake_a_nested_loop() {
        let mut world = World::new();
        world.context().timer(Duration::from_millis(5), 1);
        run_nested(&mut world, |world| world.handler.seen.timers.len() == 1);
        world.reactor.handle().send(2).unwrap();
        run_nested(&mut world, |world| world.handler.seen.messages.len() == 1);
    }
}

#[test]
fn queued_work_leaves_no_time_to_sleep() {
    let mut world = World::new();
    assert_eq!(world.reactor.next_timeout(), None);
    let client = world.client();
    world.settle();
    assert_eq!(world.reactor.next_timeout(), None);
    let id = world.seen().opened[0];
    let mut connection = world.context().connection(id).unwrap();
    connection.write(b"x");
    assert_eq!(
        world.reactor.next_timeout(),
        Some(std::time::Duration::ZERO)
    );
    world.settle();
    assert_eq!(world.reactor.next_timeout(), None);
    drop(client);
}

#[test]
fn a_foreign_source_is_polled_until_it_is_deregistered() {
    let mut world = World::new();
    let (mut sender, mut receiver) = pipe::new().unwrap();
    let id = world
        .context()
        .register(&mut receiver, Interest::READABLE)
        .unwrap();
    for round in 0..3_u8 {
        sender.write_all(&[round]).unwrap();
        let told = world.seen().ready.len();
        world.until("the pipe is ready", |world| {
            world.handler.seen.ready.len() > told
        });
        let (source, readiness) = *world.seen().ready.last().unwrap();
        assert_eq!(source, id);
        assert!(readiness.contains(Readiness::READABLE));
        let mut byte = [9];
        assert_eq!(receiver.read(&mut byte).unwrap(), 1);
        assert_eq!(byte, [round]);
        assert_eq!(
            receiver.read(&mut byte).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    }
    // An interest that is set anew tells the present readiness anew.
    sender.write_all(b"x").unwrap();
    world.settle();
    let told = world.seen().ready.len();
    world
        .context()
        .reregister(&mut receiver, id, Interest::READABLE)
        .unwrap();
    world.until("the pipe is told again", |world| {
        world.handler.seen.ready.len() > told
    });
    world.context().deregister(&mut receiver, id).unwrap();
    let told = world.seen().ready.len();
    sender.write_all(b"unheard").unwrap();
    world.settle();
    assert_eq!(world.seen().ready.len(), told);
}

#[test]
fn the_id_of_a_source_that_is_gone_finds_nothing() {
    let mut world = World::new();
    let (_sender, mut receiver) = pipe::new().unwrap();
    let context = world.context();
    let old = context.register(&mut receiver, Interest::READABLE).unwrap();
    context.deregister(&mut receiver, old).unwrap();
    let new = context.register(&mut receiver, Interest::READABLE).unwrap();
    assert_ne!(old, new);
    let error = context
        .reregister(&mut receiver, old, Interest::READABLE)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = context.deregister(&mut receiver, old).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    context.deregister(&mut receiver, new).unwrap();
}
