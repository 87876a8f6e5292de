//! Datagrams that are answered later, sockets that are told apart, and those that have no room: one
//! world for each rule.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used)]

#[path = "common/hosts.rs"]
mod hosts;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use oread::sim::{Fault, Host, Poller, UdpPeer, World};
use oread::{
    Both, Connection, Context, Datagram, Handler, Limits, Multicast, ReplyTo, SendOutcome, UdpId,
    UdpOptions,
};

use hosts::{SECOND, address};

/// Answers nothing by itself, and keeps what it's told.
#[derive(Default)]
struct Later {
    asked: Vec<ReplyTo>,
    /// The keys of the sockets that datagrams came to, that had an error, and that have room.
    keys: Vec<u64>,
    failed: Vec<Option<u64>>,
    writable: Vec<Option<u64>>,
    /// Whom it sends a datagram to when there is room, and when it did.
    insists_on: Option<SocketAddr>,
    tried: Vec<Instant>,
}

impl Handler for Later {
    type Session = ();
    type Message = ();

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, ()>, _: &[u8]) {
        self.asked.push(datagram.reply_to());
        self.keys.push(datagram.key());
    }

    fn on_datagram_error(&mut self, context: &mut Context<'_, ()>, id: UdpId, _: io::Error) {
        self.failed.push(context.udp_key(id));
    }

    fn on_datagram_writable(&mut self, context: &mut Context<'_, ()>, id: UdpId) {
        self.writable.push(context.udp_key(id));
        if let Some(peer) = self.insists_on {
            self.tried.push(context.now());
            context.send_to(id, peer, b"datagram");
        }
    }
}

/// A host with a UDP socket at `at`, whose key is 7.
fn later(world: &mut World, at: &str) -> (Host<Later>, UdpId) {
    let mut host = world.host(Later::default(), Limits::default()).unwrap();
    let options = UdpOptions {
        key: 7,
        ..UdpOptions::new(at.parse::<SocketAddr>().unwrap())
    };
    let socket = host.context().bind_udp(&options).unwrap();
    (host, socket)
}

fn client(world: &mut World) -> UdpPeer {
    world.udp(([10, 0, 0, 9], 5000).into())
}

#[test]
fn a_late_answer_leaves_from_the_address_that_was_asked() {
    let mut world = World::new(1);
    let (mut host, _) = later(&mut world, "0.0.0.0:7");
    let peer = client(&mut world);
    let asked: [SocketAddr; 2] = [([10, 0, 0, 5], 7).into(), ([10, 0, 0, 6], 7).into()];
    for to in asked {
        peer.send_to(to, b"question");
        world.settle(&mut host).unwrap();
    }
    world.advance(&mut host, SECOND).unwrap();
    for (to, asked) in host.handler.asked.clone().into_iter().zip(asked) {
        assert_eq!((to.peer, to.local), (peer.local_addr(), Some(asked.ip())));
        assert_eq!(host.context().reply(to, b"answer"), SendOutcome::Sent);
        world.settle(&mut host).unwrap();
    }
    assert_eq!(
        peer.received(),
        asked.map(|from| (from, b"answer".to_vec()))
    );
}

#[test]
fn a_late_answer_from_a_link_local_address_leaves_by_its_interface() {
    let mut world = World::new(1);
    let (mut host, _) = later(&mut world, "[::]:7");
    let peer = world.udp("[fd00::9]:5000".parse().unwrap());
    let asked: SocketAddr = "[fe80::5]:7".parse().unwrap();
    peer.send_to(asked, b"question");
    world.settle(&mut host).unwrap();
    let to = host.handler.asked[0];
    assert_eq!(host.context().reply(to, b"answer"), SendOutcome::Sent);
    world.settle(&mut host).unwrap();
    assert_eq!(peer.received(), [(asked, b"answer".to_vec())]);
}

#[test]
fn an_answer_by_a_socket_that_is_closed_reaches_nobody_though_another_one_has_its_place() {
    let mut world = World::new(1);
    let (mut host, socket) = later(&mut world, "10.0.0.1:7");
    let peer = client(&mut world);
    peer.send_to(([10, 0, 0, 1], 7).into(), b"question");
    world.settle(&mut host).unwrap();
    let (to, mut context) = (host.handler.asked[0], host.context());
    assert!(context.close_udp(socket));
    assert_eq!(context.udp_key(socket), None);
    context.bind_udp(&UdpOptions::new(address())).unwrap();
    assert_eq!(context.reply(to, b"answer"), SendOutcome::NoSocket);
    world.settle(&mut host).unwrap();
    assert_eq!(peer.received(), []);
}

#[test]
fn sockets_are_told_apart_by_their_keys_in_all_that_is_told_of_them() {
    let mut world = World::new(1);
    let (mut host, _) = later(&mut world, "10.0.0.1:7");
    let mut bind = |port, key, connect_to| {
        let options = UdpOptions {
            key,
            connect_to,
            ..UdpOptions::new(([10, 0, 0, 1], port))
        };
        host.context().bind_udp(&options).unwrap()
    };
    bind(8, u64::MAX, None);
    // Nobody is there: an error comes back.
    let nobody = ([10, 0, 0, 9], 9).into();
    let connected = bind(9, 9, Some(nobody));
    let peer = client(&mut world);
    for port in [8, 7] {
        peer.send_to(([10, 0, 0, 1], port).into(), b"question");
        world.settle(&mut host).unwrap();
    }
    host.context().send_to(connected, nobody, b"hello");
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.keys, [u64::MAX, 7]);
    assert_eq!(host.handler.failed, [Some(9)]);
}

const POLLERS: [Poller; 3] = [Poller::Epoll, Poller::Kqueue, Poller::Poll2];

#[test]
fn a_socket_that_had_no_room_is_told_of_room_once_and_can_send_then() {
    for poller in POLLERS {
        for fault in [Fault::SendBlocked, Fault::SendNoBuffers] {
            let mut world = World::new(1);
            world.poller(poller);
            let (mut host, socket) = later(&mut world, "10.0.0.1:7");
            let peer = client(&mut world);
            // Room that nobody has asked for is told to nobody.
            world.advance(&mut host, SECOND).unwrap();
            assert_eq!(host.handler.writable, []);
            world.fault(fault, 1);
            let send = |host: &mut Host<Later>| {
                let to = peer.local_addr();
                host.context().send_to(socket, to, b"datagram")
            };
            for round in 1..3 {
                assert_eq!(send(&mut host), SendOutcome::Blocked);
                world.advance(&mut host, SECOND).unwrap();
                assert_eq!(host.handler.writable, [Some(7)].repeat(round), "{poller:?}");
                assert_eq!(send(&mut host), SendOutcome::Sent);
                world.advance(&mut host, SECOND).unwrap();
                world.fault(fault, 1);
            }
            assert_eq!(peer.received().len(), 2);
            // It's still heard.
            peer.send_to(([10, 0, 0, 1], 7).into(), b"question");
            world.settle(&mut host).unwrap();
            assert_eq!(host.handler.keys, [7]);
        }
    }
}

#[test]
fn who_sends_to_a_device_that_is_full_is_told_of_room_ever_later_and_does_not_spin() {
    for poller in POLLERS {
        let mut world = World::new(1);
        world.poller(poller);
        let (mut host, socket) = later(&mut world, "10.0.0.1:7");
        let peer = client(&mut world);
        host.handler.insists_on = Some(peer.local_addr());
        world.fault_rate(Fault::SendNoBuffers, 1_000_000);
        let send = |host: &mut Host<Later>| {
            let mut context = host.context();
            (
                context.now(),
                context.send_to(socket, peer.local_addr(), b""),
            )
        };
        let (mut before, outcome) = send(&mut host);
        assert_eq!(outcome, SendOutcome::Blocked);
        let turns = host.context().stats().turns;
        world.advance(&mut host, 4 * SECOND).unwrap();
        let tried = std::mem::take(&mut host.handler.tried);
        let waits: Vec<_> = (tried.into_iter())
            .map(|now| (now - std::mem::replace(&mut before, now)).as_millis())
            .collect();
        // Timers are rounded up to whole milliseconds.
        let least = [10, 20, 40, 80, 160, 320, 640, 1000, 1000];
        assert_eq!(waits.len(), least.len(), "{waits:?}");
        let sound = |(wait, least): (&u128, u128)| (least..=least + 1).contains(wait);
        assert!(waits.iter().zip(least).all(sound), "{waits:?}");
        assert!(host.context().stats().turns - turns < 100, "{poller:?}");
        // One that goes out ends it, and the next wait is a short one again.
        world.calm();
        world.advance(&mut host, SECOND).unwrap();
        assert_eq!((host.handler.tried.len(), peer.received().len()), (1, 1));
        world.fault(Fault::SendNoBuffers, 1);
        assert_eq!(send(&mut host).1, SendOutcome::Blocked);
        world.advance(&mut host, SECOND / 50).unwrap();
        assert_eq!((host.handler.tried.len(), peer.received().len()), (2, 2));
    }
}

#[test]
fn a_refusal_does_not_hide_that_there_is_room_again() {
    for poller in POLLERS {
        let mut world = World::new(1);
        world.poller(poller);
        let (mut host, _) = later(&mut world, "10.0.0.1:7");
        let nobody = ([10, 0, 0, 9], 9).into();
        let options = UdpOptions {
            connect_to: Some(nobody),
            ..UdpOptions::new(([10, 0, 0, 1], 9))
        };
        let socket = host.context().bind_udp(&options).unwrap();
        let mut send = || host.context().send_to(socket, nobody, b"datagram");
        assert_eq!(send(), SendOutcome::Sent);
        // The refusal of the first one and the room for the next may come in any order.
        world.fault(Fault::SendBlocked, 1);
        assert_eq!(send(), SendOutcome::Blocked);
        world.advance(&mut host, SECOND).unwrap();
        assert_eq!(host.handler.failed, [Some(0)], "{poller:?}");
        assert_eq!(host.handler.writable, [Some(0)], "{poller:?}");
    }
}

#[test]
fn room_is_told_to_the_part_of_a_handler_whose_socket_it_is() {
    let mut world = World::new(1);
    let both = Both::new(Later::default(), Later::default());
    let mut host = world.host(both, Limits::default()).unwrap();
    let peer = client(&mut world);
    world.fault(Fault::SendBlocked, 1);
    let (reactor, handler) = host.reactor();
    let to = peer.local_addr();
    let outcome = handler.with_second(&mut reactor.context(), |_, context| {
        let socket = context.bind_udp(&UdpOptions::new(address())).unwrap();
        context.send_to(socket, to, b"datagram")
    });
    assert_eq!(outcome, SendOutcome::Blocked);
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(host.handler.first.writable, []);
    assert_eq!(host.handler.second.writable, [Some(0)]);
}

#[test]
fn a_simulated_network_has_no_groups_to_join_and_says_so() {
    let mut world = World::new(1);
    let (mut host, socket) = later(&mut world, "0.0.0.0:7");
    let groups = [
        Multicast::V4 {
            group: [239, 1, 2, 3].into(),
            interface: Ipv4Addr::UNSPECIFIED,
        },
        Multicast::V6 {
            group: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 9),
            interface: 0,
        },
    ];
    for group in groups {
        let mut context = host.context();
        let joined = context.join_multicast(socket, group).unwrap_err();
        assert_eq!(joined.kind(), ErrorKind::Unsupported);
        let left = context.leave_multicast(socket, group).unwrap_err();
        assert_eq!(left.kind(), ErrorKind::Unsupported);
    }
    host.context().close_udp(socket);
    let gone = host.context().join_multicast(socket, groups[0]);
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
}
