//! One world for each known fault of datagrams. See `simulated_faults.rs`.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/simulated.rs"]
mod simulated;

use std::net::SocketAddr;

use oread::sim::{Fault, Host, Poller, World};
use oread::{Echo, Limits, SendOutcome, UdpId, UdpOptions};

use simulated::{SECOND, Watched, address, echo};

fn at(address: &str) -> UdpOptions {
    UdpOptions::new(address.parse().unwrap())
}

/// A host with a UDP socket, and a buffer for no long datagram.
fn udp(world: &mut World, options: &UdpOptions) -> (Host<Watched<Echo>>, UdpId) {
    let limits = Limits {
        read_buffer: 100,
        ..Limits::default()
    };
    let mut host = world.host(Watched::new(echo("raw")), limits).unwrap();
    let socket = host.context().bind_udp(options).unwrap();
    (host, socket)
}

#[test]
fn a_datagram_is_answered_from_the_address_that_was_asked() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    let asked: SocketAddr = ([10, 0, 0, 5], 7).into();
    peer.send_to(asked, b"hello");
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received(), [(asked, b"hello".to_vec())]);
}

#[test]
fn a_datagram_to_a_link_local_address_is_answered_by_its_interface() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("[::]:7"));
    let peer = world.udp("[fd00::9]:5000".parse().unwrap());
    let asked: SocketAddr = "[fe80::5]:7".parse().unwrap();
    peer.send_to(asked, b"hello");
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received(), [(asked, b"hello".to_vec())]);
}

#[test]
fn what_was_sent_to_a_broadcast_or_a_group_gets_no_answer() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    peer.send_to(([10, 0, 0, 255], 7).into(), b"broadcast");
    peer.send_to(([224, 0, 0, 1], 7).into(), b"group");
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(echo.context().stats().datagrams_in, 2);
    assert_eq!(peer.received(), []);
}

#[test]
fn a_datagram_that_the_buffer_cuts_gets_no_answer() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    peer.send_to(address(), &[1; 200]);
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received(), []);
    assert_eq!(echo.context().stats().datagrams_truncated, 1);
}

#[test]
fn an_error_in_place_of_a_datagram_keeps_nobody_from_an_answer() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    world.fault(Fault::RecvNoMemory, 1);
    peer.send_to(address(), b"one");
    peer.send_to(address(), b"two");
    world.advance(&mut [], SECOND).unwrap();
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received().len(), 2);
}

#[test]
fn a_service_at_a_low_port_gets_no_answer() {
    let mut world = World::new(1);
    let (mut echo, _) = udp(&mut world, &at("0.0.0.0:7"));
    let service = world.udp(([10, 0, 0, 9], 19).into());
    service.send_to(address(), b"hello");
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(echo.context().stats().datagrams_in, 1);
    assert_eq!(service.received(), []);
}

#[test]
fn two_servers_do_not_answer_each_other_for_ever() {
    let mut world = World::new(1);
    let (mut one, socket) = udp(&mut world, &at("10.0.0.1:7000"));
    let (mut other, _) = udp(&mut world, &at("10.0.0.2:7000"));
    let to = ([10, 0, 0, 2], 7000).into();
    let sent = one.context().send_to(socket, to, b"hello");
    assert_eq!(sent, SendOutcome::Sent);
    let mut count = || {
        world
            .advance(&mut [&mut one, &mut other], 10 * SECOND)
            .unwrap();
        one.context().stats().datagrams_in
    };
    // Some thousands, and then no more.
    assert_eq!(count(), count());
}

#[test]
fn with_poll2_a_socket_that_was_refused_is_polled_again() {
    let mut world = World::new(1);
    world.poller(Poller::Poll2);
    let peer: SocketAddr = ([10, 0, 0, 9], 5000).into();
    let options = UdpOptions {
        connect_to: Some(peer),
        ..at("10.0.0.1:7")
    };
    let (mut echo, socket) = udp(&mut world, &options);
    // Nobody is there yet.
    echo.context().send_to(socket, peer, b"hello");
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(echo.context().stats().datagram_errors, 1);
    let peer = world.udp(peer);
    peer.send_to(address(), b"hello");
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received(), [(address(), b"hello".to_vec())]);
}
