//! The reactor in other company: inside another loop, and with other people's sources inside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{ErrorKind, Read, Write};

use common::World;
use mio::Interest;
use mio::unix::pipe;
use oread::Readiness;

// The poll(2) backend has no descriptor to nest by.
#[cfg(not(mio_unsupported_force_poll_poll))]
mod outer {
    use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use calloop::generic::Generic;
    use calloop::{EventLoop, Mode, PostAction};
    use mio::unix::SourceFd;
    use mio::{Events, Poll, Token};
    use oread::{Ended, Limits};
    use tokio::io::unix::AsyncFd;

    use super::common::{PATIENCE, connect};
    use super::*;

    type Done<'a> = &'a dyn Fn(&World) -> bool;

    /// A loop around a reactor, which turns it as such loops do: when its descriptor is ready, or
    /// its timeout has passed. It goes on until the reactor ends, or what it's given is true.
    type Outer = fn(&mut World, Done<'_>) -> Option<Ended>;

    const LOOPS: [Outer; 4] = [in_mio, in_mio_by_a_duplicate, in_calloop, in_tokio];

    /// One round of an outer loop, apart from its wait. `Some` ends it.
    fn round(world: &mut World, done: Done<'_>, deadline: Instant) -> Option<Option<Ended>> {
        assert!(Instant::now() < deadline, "the outer loop sleeps");
        let ended = world.turn_for(Duration::ZERO).ended;
        (ended.is_some() || done(world)).then_some(ended)
    }

    /// How long the outer loop may wait.
    fn wait(world: &World) -> Duration {
        world.reactor.next_timeout().unwrap_or(PATIENCE)
    }

    fn in_mio(world: &mut World, done: Done<'_>) -> Option<Ended> {
        let descriptor = world.reactor.as_raw_fd();
        in_mio_by(descriptor, world, done)
    }

    fn in_mio_by_a_duplicate(world: &mut World, done: Done<'_>) -> Option<Ended> {
        let descriptor = duplicate(world);
        assert_ne!(descriptor.as_raw_fd(), world.reactor.as_raw_fd());
        in_mio_by(descriptor.as_raw_fd(), world, done)
    }

    fn duplicate(world: &World) -> OwnedFd {
        world.reactor.as_fd().try_clone_to_owned().unwrap()
    }

    fn in_mio_by(descriptor: RawFd, world: &mut World, done: Done<'_>) -> Option<Ended> {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        poll.registry()
            .register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            poll.poll(&mut events, Some(wait(world))).unwrap();
            if let Some(end) = round(world, done, deadline) {
                return end;
            }
        }
    }

    fn in_calloop(world: &mut World, done: Done<'_>) -> Option<Ended> {
        let mut event_loop = EventLoop::try_new().unwrap();
        let source = Generic::new(duplicate(world), calloop::Interest::READ, Mode::Level);
        event_loop
            .handle()
            .insert_source(source, |_, _, ()| Ok(PostAction::Continue))
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            event_loop.dispatch(wait(world), &mut ()).unwrap();
            if let Some(end) = round(world, done, deadline) {
                return end;
            }
        }
    }

    fn in_tokio(world: &mut World, done: Done<'_>) -> Option<Ended> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let interest = tokio::io::Interest::READABLE;
            // Deprecated for types that lie about their descriptor; this one doesn't.
            #[allow(deprecated)]
            let descriptor = AsyncFd::with_interest(duplicate(world), interest).unwrap();
            let deadline = Instant::now() + PATIENCE;
            loop {
                let wait = tokio::time::timeout(wait(world), descriptor.readable());
                if let Ok(readable) = wait.await {
                    readable.unwrap().clear_ready();
                }
                if let Some(end) = round(world, done, deadline) {
                    return end;
                }
            }
        })
    }

    /// Nests until `done`, which must come before the reactor's end.
    fn until(outer: Outer, world: &mut World, done: Done<'_>) {
        assert_eq!(outer(world, done), None);
    }

    #[test]
    fn a_loop_that_sleeps_on_the_descriptor_serves_all_though_a_batch_is_small() {
        for outer in LOOPS {
            let mut world = World::with(Limits {
                events: 4,
                ..Limits::default()
            });
            let (_, address) = world.listen();
            let mut clients: Vec<_> = (0..10).map(|_| connect(address)).collect();
            until(outer, &mut world, &|world| {
                world.handler.seen.opened.len() == 10
            });
            for client in &mut clients {
                client.write_all(b"ping").unwrap();
            }
            let turns = world.turns;
            until(outer, &mut world, &|world| {
                world.handler.seen.bytes.len() == 40
            });
            assert!(world.turns - turns >= 3, "one batch has brought them all");
            for client in &mut clients {
                let mut bytes = [0; 4];
                client.read_exact(&mut bytes).unwrap();
                assert_eq!(&bytes, b"ping");
            }
        }
    }

    #[test]
    fn a_budget_that_is_used_up_is_gone_on_with_in_a_nested_loop() {
        for outer in LOOPS {
            let mut world = World::with(Limits {
                io_budget: 1,
                read_buffer: 10,
                ..Limits::default()
            });
            let mut client = world.client();
            client.write_all(&[7; 1000]).unwrap();
            until(outer, &mut world, &|world| {
                world.handler.seen.bytes.len() == 1000
            });
        }
    }

    #[test]
    fn what_is_written_between_two_turns_goes_out_in_a_nested_loop() {
        for outer in LOOPS {
            let mut world = World::new();
            let mut client = world.client();
            world.settle();
            let id = world.seen().opened[0];
            let mut connection = world.connection(id).unwrap();
            connection.write(b"from outside");
            until(outer, &mut world, &|world| !queued(world));
            let mut bytes = [0; 12];
            client.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"from outside");
        }
    }

    fn queued(world: &World) -> bool {
        world.reactor.next_timeout() == Some(Duration::ZERO)
    }

    #[test]
    fn timers_fire_in_a_nested_loop_that_has_nothing_else_to_do() {
        for outer in LOOPS {
            let mut world = World::new();
            world.handler.timer = Some(Box::new(|_, context, key| {
                context.timer(Duration::from_millis(5), key + 1);
            }));
            let start = Instant::now();
            world.context().timer(Duration::from_millis(5), 0);
            until(outer, &mut world, &|world| {
                world.handler.seen.timers.len() == 4
            });
            assert_eq!(world.seen().timers, [0, 1, 2, 3]);
            assert!(start.elapsed() >= Duration::from_millis(20));
        }
    }

    #[test]
    fn deadlines_of_connections_are_kept_in_a_nested_loop() {
        for outer in LOOPS {
            let mut world = World::with(Limits {
                idle_timeout: Some(Duration::from_millis(20)),
                linger_timeout: Duration::from_millis(20),
                ..Limits::default()
            });
            let _client = world.client();
            until(outer, &mut world, &|world| {
                !world.handler.seen.closed.is_empty()
            });
        }
    }

    #[test]
    fn a_message_from_another_thread_wakes_a_nested_loop() {
        for outer in LOOPS {
            let mut world = World::new();
            let handle = world.reactor.handle();
            let (ask, asked) = mpsc::channel::<u64>();
            let other = thread::spawn(move || {
                for message in asked {
                    handle.send(message).unwrap();
                }
            });
            // Each is asked for when the one before it is there: there's nothing else to wake the
            // loop.
            for message in 0..20 {
                ask.send(message).unwrap();
                until(outer, &mut world, &|world| {
                    world.handler.seen.messages.last() == Some(&message)
                });
            }
            drop(ask);
            other.join().unwrap();
        }
    }

    #[test]
    fn a_stop_and_a_drain_of_another_thread_are_seen_by_the_outer_loop() {
        for outer in LOOPS {
            let mut world = World::new();
            let mut client = world.client();
            world.settle();
            let handle = world.reactor.handle();
            let stops = thread::spawn(move || handle.stop());
            assert_eq!(outer(&mut world, &|_| false), Some(Ended::Stopped));
            stops.join().unwrap();

            let handle = world.reactor.handle();
            let drains = thread::spawn(move || {
                handle.drain(PATIENCE);
                client.read_to_end(&mut Vec::new()).unwrap();
            });
            let ended = outer(&mut world, &|_| false);
            assert_eq!(ended, Some(Ended::Drained { cut: 0 }));
            drains.join().unwrap();
        }
    }

    #[test]
    fn a_reactor_that_has_drained_does_not_keep_its_loop_awake_beside_another_one() {
        let mut worlds = [World::new(), World::new()];
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        for (token, world) in worlds.iter().enumerate() {
            let descriptor = world.reactor.as_raw_fd();
            let interest = mio::Interest::READABLE;
            let mut source = SourceFd(&descriptor);
            let registry = poll.registry();
            registry
                .register(&mut source, Token(token), interest)
                .unwrap();
        }
        // It has a timer that is never to fire, too.
        worlds[0].context().timer(Duration::from_millis(10), 0);
        worlds[0].context().drain(PATIENCE);
        worlds[1].context().timer(Duration::from_millis(100), 1);
        let mut rounds = 0;
        while worlds[1].seen().timers.is_empty() {
            let waits = worlds.iter().map(|world| world.reactor.next_timeout());
            let wait = waits.flatten().min().unwrap_or(PATIENCE);
            poll.poll(&mut events, Some(wait)).unwrap();
            for world in &mut worlds {
                world.turn_for(Duration::ZERO);
            }
            rounds += 1;
        }
        assert!(rounds < 20, "{rounds} rounds in a tenth of a second");
        let ended = worlds[0].turn_for(Duration::ZERO).ended;
        assert_eq!(ended, Some(Ended::Drained { cut: 0 }));
        assert_eq!(worlds[0].reactor.next_timeout(), None);
    }

    #[test]
    fn a_drain_with_a_deadline_ends_in_a_nested_loop_though_nobody_leaves() {
        for outer in LOOPS {
            let mut world = World::new();
            let _stays = world.client();
            world.context().drain(Duration::from_millis(20));
            let ended = outer(&mut world, &|_| false);
            assert_eq!(ended, Some(Ended::Drained { cut: 1 }));
        }
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
    let mut connection = world.connection(id).unwrap();
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
fn a_source_that_is_left_before_it_blocks_is_told_again_to_whoever_asks() {
    let mut world = World::new();
    let (mut sender, mut receiver) = pipe::new().unwrap();
    sender.write_all(&[7; 40 << 10]).unwrap();
    world
        .context()
        .register(&mut receiver, Interest::READABLE)
        .unwrap();
    world.handler.ready = Some(Box::new(move |seen, context, id| {
        let mut bytes = [0; 1 << 10];
        seen.count += receiver.read(&mut bytes).unwrap() as u64;
        if seen.count < 40 << 10 {
            let asked = context.reregister(&mut receiver, id, Interest::READABLE);
            asked.unwrap();
        }
    }));
    let before = world.turns;
    world.until("all is read", |world| world.handler.seen.count == 40 << 10);
    // One piece a turn: the others are served between.
    assert!(world.turns - before >= 40);
}

#[test]
fn the_id_of_a_source_that_is_gone_finds_nothing() {
    let mut world = World::new();
    let (_sender, mut receiver) = pipe::new().unwrap();
    let mut context = world.context();
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
