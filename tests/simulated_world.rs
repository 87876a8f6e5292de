//! What a simulated world promises to whoever tests a handler in it.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Host, World};
use oread::{
    Accepted, Connection, Context, Echo, EchoOptions, Handle, Handler, Limits, ListenOptions,
};

const SECOND: Duration = Duration::from_secs(1);

fn address() -> SocketAddr {
    ([10, 0, 0, 1], 7).into()
}

/// An echo that listens.
fn echo(world: &mut World, limits: Limits) -> Host<Echo> {
    let echo = Echo::new(EchoOptions::default());
    let mut echo = world.host(echo, limits).unwrap();
    let listen = ListenOptions::new(address());
    echo.context().listen(&listen).unwrap();
    echo
}

#[test]
fn a_reactor_that_looks_before_it_sleeps_comes_to_an_end_and_answers() {
    let spin = Duration::from_micros(300);
    let limits = Limits {
        spin,
        ..Limits::default()
    };
    let mut world = World::new(3);
    let mut echo = echo(&mut world, limits);
    let peer = world.connect(address());
    for round in 1..20 {
        peer.send(b"hello");
        world.settle(&mut [&mut echo]).unwrap();
        assert_eq!(peer.received().len(), 5 * round);
        world.advance(&mut [&mut echo], 5 * spin).unwrap();
    }
}

/// Posts to itself whenever it has a message.
struct Busy(Option<Handle<()>>);

impl Handler for Busy {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_message(&mut self, _: &mut Context<()>, (): ()) {
        if let Some(handle) = &self.0 {
            let _full = handle.send(());
        }
    }
}

#[test]
fn a_host_that_is_busy_with_nothing_for_good_is_an_error_that_says_so() {
    let mut world = World::new(4);
    let mut busy = world.host(Busy(None), Limits::default()).unwrap();
    let handle = busy.handle();
    assert!(handle.send(()).is_ok());
    world.settle(&mut [&mut busy]).unwrap();
    busy.handler.0 = Some(handle.clone());
    assert!(handle.send(()).is_ok());
    for _ in 0..2 {
        let error = world.advance(&mut [&mut busy], SECOND).unwrap_err();
        assert!(error.to_string().contains("spins"), "{error}");
    }
}
