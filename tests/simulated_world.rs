//! What a simulated world promises to whoever tests a handler in it.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use oread::mio;
use oread::sim::{Fault, Host, World};
use oread::{
    Accepted, ConnectOptions, Connection, Context, Echo, EchoOptions, Handle, Handler, Limits,
    ListenOptions,
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

#[test]
fn a_wait_for_hosts_is_lent_one_of_them_or_several() {
    let mut world = World::new(5);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    let is_open = |echo: &mut Host<Echo>| echo.context().stats().open == 1;
    world.until(&mut echo, is_open).unwrap();
    let mut client = world.host(Busy(None), Limits::default()).unwrap();
    let dial = ConnectOptions::new(address());
    client.context().connect(&dial, ()).unwrap();
    peer.send(b"hello");
    let both = &mut (&mut client, &mut echo);
    world
        .until(both, |(client, echo)| {
            client.context().stats().open == 1 && echo.context().stats().bytes_in == 5
        })
        .unwrap();
    let error = world.until(&mut [&mut echo], |_| false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_world_that_is_calmed_moves_whatever_can_still_move() {
    let mut world = World::new(6);
    world.fault_rate(Fault::SegmentLost, 1_000_000);
    world.fault_rate(Fault::ReadInterrupted, 1_000_000);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    peer.send(b"hello");
    world.advance(&mut [&mut echo], 10 * SECOND).unwrap();
    assert_eq!(peer.received(), b"");
    world.calm();
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received(), b"hello");
    assert_eq!(world.faults_met(), [Fault::SegmentLost]);
}

#[test]
fn latency_and_bandwidth_hold_for_connections_that_are_there() {
    let mut world = World::new(7);
    world.latency(SECOND..=SECOND);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    let is_open = |echo: &mut Host<Echo>| echo.context().stats().open == 1;
    world.until(&mut echo, is_open).unwrap();
    let took = |world: &mut World, echo: &mut Host<Echo>, count: usize| {
        let (start, before) = (world.now(), peer.received().len());
        peer.send(&vec![7; count]);
        let all = |_: &mut Host<Echo>| peer.received().len() == before + count;
        world.until(echo, all).unwrap();
        world.now() - start
    };
    let slow = took(&mut world, &mut echo, 1);
    assert!((2 * SECOND..3 * SECOND).contains(&slow), "{slow:?}");
    world.latency(Duration::ZERO..=SECOND / 1000);
    world.settle(&mut [&mut echo]).unwrap();
    let quick = took(&mut world, &mut echo, 1);
    assert!(quick < SECOND / 100, "{quick:?}");
    world.bandwidth(1000);
    let narrow = took(&mut world, &mut echo, 4000);
    assert!((4 * SECOND..10 * SECOND).contains(&narrow), "{narrow:?}");
}

#[test]
fn two_hosts_are_parted_until_they_are_healed_and_a_host_that_vanishes_is_given_up() {
    let mut world = World::new(8);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut [&mut echo]).unwrap();
    let other = peer.local_addr().unwrap().ip();
    world.partition(address().ip(), other);
    peer.send(b"hello");
    world.advance(&mut [&mut echo], SECOND).unwrap();
    assert_eq!(echo.context().stats().bytes_in, 0);
    world.heal(other, address().ip());
    world
        .until(&mut echo, |_| peer.received() == b"hello")
        .unwrap();
    world.vanish(other);
    // It waits for nothing of that peer's: what is sent is never acknowledged.
    for id in echo.context().connections().collect::<Vec<_>>() {
        echo.context().connection(id).unwrap().write(b"?");
    }
    let over = |echo: &mut Host<Echo>| echo.context().stats().open == 0;
    world.until(&mut echo, over).unwrap();
    assert_eq!(peer.received(), b"hello");
}

#[test]
fn one_in_so_many_datagrams_is_lost() {
    let mut world = World::new(9);
    let (from, to) = (([10, 0, 0, 2], 9).into(), ([10, 0, 0, 3], 9).into());
    let (sender, receiver) = (world.udp(from), world.udp(to));
    world.loss(4);
    (0..1000).for_each(|_| sender.send_to(to, b"x"));
    world.settle(&mut []).unwrap();
    let came = receiver.received().len();
    assert!((650..850).contains(&came), "{came}");
}

#[test]
fn what_cannot_be_simulated_says_so() {
    let mut world = World::new(10);
    let mut echo = echo(&mut world, Limits::default());
    let real = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(real.local_addr().unwrap()).unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut source = mio::net::UdpSocket::bind(address_of_nobody()).unwrap();
    let context = echo.context();
    let session = || oread::EchoSession::default();
    let errors = [
        context
            .adopt(stream, session())
            .map(drop)
            .unwrap_err()
            .into(),
        context.adopt_listener(real).map(drop).unwrap_err(),
        context.adopt_udp(socket).map(drop).unwrap_err(),
        context
            .register(&mut source, mio::Interest::READABLE)
            .map(drop)
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("simulated"), "{error}");
    }
}

fn address_of_nobody() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}
