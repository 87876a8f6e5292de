//! IPv6, and IPv4 through sockets that take both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};

use common::{World, connect};
use nix::ifaddrs::getifaddrs;
use oread::{CloseReason, ConnectOptions, ListenOptions, UdpOptions};

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::LOCALHOST, 0))
}

fn wildcard() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
}

/// A link-local address of this machine, which is none without its scope; `None` where there is none.
fn link_local() -> Option<SocketAddrV6> {
    let addresses = getifaddrs().unwrap().filter_map(|interface| {
        let address = interface.address?;
        Some(SocketAddrV6::from(*address.as_sockaddr_in6()?))
    });
    let mut local = addresses.filter(|at| at.ip().is_unicast_link_local() && at.scope_id() > 0);
    let found = local.next();
    if found.is_none() {
        eprintln!("skipped: no interface has a link-local address");
    }
    found
}

/// Turns until `client` has been answered.
fn answer(world: &mut World, client: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 100];
    let mut len = None;
    client.set_nonblocking(true).unwrap();
    world.until("an answer is there", |_| {
        match client.recv(&mut buffer) {
            Ok(count) => len = Some(count),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        len.is_some()
    });
    buffer[..len.unwrap()].to_vec()
}

#[test]
fn a_connection_over_ipv6_is_echoed_and_dialed_as_any_other() {
    let mut world = World::new();
    world.handler.accept = Some(Box::new(|seen, _, caller| {
        assert_eq!(caller.peer.ip(), Ipv6Addr::LOCALHOST);
        seen.count += 1;
        Some(1)
    }));
    let (_, address) = world.listen_with(&ListenOptions::new(loopback()));
    let mut client = connect(address);
    assert_eq!(world.exchange(&mut client, b"hello"), b"hello");
    drop(client);
    assert_eq!(world.until_closed(1), CloseReason::Finished);

    let server = TcpListener::bind(loopback()).unwrap();
    let options = ConnectOptions {
        source: Some(loopback()),
        ..ConnectOptions::new(server.local_addr().unwrap())
    };
    let id = world.context().connect(&options, 2).unwrap();
    let (mut peer, from) = server.accept().unwrap();
    assert_eq!(world.exchange(&mut peer, b"and back"), b"and back");
    let connection = world.context().connection(id).unwrap();
    assert_eq!(connection.local_addr().unwrap(), from);
    assert_eq!(
        connection.peer_addr().unwrap(),
        server.local_addr().unwrap()
    );
}

#[test]
fn a_caller_over_ipv4_is_told_as_such_by_a_listener_for_both() {
    let mut world = World::new();
    let (_, address) = world.listen_with(&ListenOptions::new(wildcard()));
    for host in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        world.handler.accept = Some(Box::new(move |_, _, caller| {
            assert_eq!(caller.peer.ip(), host);
            Some(0)
        }));
        let asked = SocketAddr::new(host, address.port());
        let mut client = connect(asked);
        assert_eq!(world.exchange(&mut client, b"hello"), b"hello");
        let id = *world.seen().opened.last().unwrap();
        let connection = world.context().connection(id).unwrap();
        let from = client.local_addr().unwrap();
        assert_eq!(connection.peer_addr().unwrap(), from);
        assert_eq!(connection.local_addr().unwrap(), asked);
    }
}

#[test]
fn a_datagram_is_answered_from_the_address_that_was_asked_whichever_family_it_is_of() {
    let mut world = World::new();
    let id = world
        .context()
        .bind_udp(&UdpOptions::new(wildcard()))
        .unwrap();
    let port = world.context().udp_addr(id).unwrap().port();
    world.handler.datagram = Some(Box::new(|_, datagram, _| {
        let said = format!("{} {}", datagram.from().ip(), datagram.to().unwrap());
        datagram.reply(said.as_bytes());
    }));
    let mut hosts = vec![("::1", "::1")];
    // All of 127/8 is this machine's on Linux alone.
    if cfg!(target_os = "linux") {
        hosts.push(("127.0.0.1", "127.0.0.2"));
    }
    for (from, asked) in hosts {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), asked.parse().unwrap());
        let client = UdpSocket::bind((from, 0)).unwrap();
        // A connected socket hears nobody else.
        client.connect((to, port)).unwrap();
        client.send(b"who am I, and who are you?").unwrap();
        let said = String::from_utf8(answer(&mut world, &client)).unwrap();
        assert_eq!(said, format!("{from} {to}"));
    }
}

#[test]
fn a_peer_at_a_link_local_address_keeps_its_scope_and_can_be_answered() {
    let Some(local) = link_local() else { return };
    let at = |port| SocketAddrV6::new(*local.ip(), port, 0, local.scope_id());
    let mut world = World::new();
    let id = world
        .context()
        .bind_udp(&UdpOptions::new(wildcard()))
        .unwrap();
    let port = world.context().udp_addr(id).unwrap().port();
    let client = UdpSocket::bind(at(0)).unwrap();
    client.send_to(b"hello", at(port)).unwrap();
    assert_eq!(answer(&mut world, &client), b"hello");

    world.handler.accept = Some(Box::new(move |_, _, caller| {
        let SocketAddr::V6(peer) = caller.peer else {
            panic!("{} is not of IPv6", caller.peer)
        };
        assert_eq!((peer.ip(), peer.scope_id()), (local.ip(), local.scope_id()));
        Some(0)
    }));
    let (_, address) = world.listen_with(&ListenOptions::new(at(0).into()));
    let mut client = connect(address);
    assert_eq!(world.exchange(&mut client, b"hello"), b"hello");
}
