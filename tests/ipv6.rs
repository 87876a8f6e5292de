//! IPv6, and IPv4 through sockets that take both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};
#[cfg(target_os = "linux")]
use std::process::Command;
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

use common::{World, connect};
use nix::ifaddrs::getifaddrs;
use oread::{CloseReason, ConnectOptions, ListenOptions, UdpOptions};
#[cfg(target_os = "linux")]
use oread::{Echo, EchoOptions, Limits, Multicast, SendOutcome};

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::LOCALHOST, 0))
}

fn wildcard() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
}

/// A link-local address of this machine, which is none without its scope; `None` where there is
/// none.
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
        let peer = caller.peer.socket_addr().unwrap();
        assert_eq!(peer.ip(), Ipv6Addr::LOCALHOST);
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
    let connection = world.connection(id).unwrap();
    assert_eq!(connection.local_addr().unwrap(), from.into());
    assert_eq!(
        connection.peer_addr().unwrap(),
        server.local_addr().unwrap().into()
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
            assert_eq!(caller.peer.socket_addr().unwrap().ip(), host);
            Some(0)
        }));
        let asked = SocketAddr::new(host, address.port());
        let mut client = connect(asked);
        assert_eq!(world.exchange(&mut client, b"hello"), b"hello");
        let id = *world.seen().opened.last().unwrap();
        let connection = world.connection(id).unwrap();
        let from = client.local_addr().unwrap();
        assert_eq!(connection.peer_addr().unwrap(), from.into());
        assert_eq!(connection.local_addr().unwrap(), asked.into());
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
        let Some(SocketAddr::V6(peer)) = caller.peer.socket_addr() else {
            panic!("{} is not of IPv6", caller.peer)
        };
        assert_eq!((peer.ip(), peer.scope_id()), (local.ip(), local.scope_id()));
        Some(0)
    }));
    let (_, address) = world.listen_with(&ListenOptions::new(at(0)));
    let mut client = connect(address);
    assert_eq!(world.exchange(&mut client, b"hello"), b"hello");
}

/// Set for the tests below when they run in a network of their own.
#[cfg(target_os = "linux")]
const INSIDE: &str = "OREAD_TEST_NETWORK";

/// A network with an interface beside loopback, at a link-local address and a global one of each
/// family. The other end of it is there for it to be up. No address is tried out before it's used,
/// which takes seconds.
#[cfg(target_os = "linux")]
const NETWORK: &str = "ip link set lo up && ip link add oread0 type veth peer name oread1 \
     && ip link set oread0 addrgenmode none && ip link set oread1 addrgenmode none \
     && ip link set oread1 up && ip link set oread0 up \
     && ip address add fe80::1/64 dev oread0 nodad \
     && ip address add 2001:db8::1/64 dev oread0 nodad \
     && ip address add 192.0.2.1/24 broadcast + dev oread0";

/// Runs the tests below in a network namespace: there is a link-local address for sure, and a
/// broadcast address.
#[cfg(target_os = "linux")]
#[test]
fn in_a_network_of_its_own_link_local_addresses_answer_and_broadcasts_do_not() {
    let network = Command::new("unshare")
        .args(["-rn", "sh", "-c", NETWORK])
        .output();
    if !network.is_ok_and(|output| output.status.success()) {
        println!(
            "skipped: there is no network namespace with an interface to be had (unshare -rn, ip)"
        );
        return;
    }
    let output = Command::new("unshare")
        .args([
            "-rn",
            "sh",
            "-c",
            &format!("{NETWORK} && exec \"$0\" \"$@\""),
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["inside_a_network", "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("5 passed"), "they did not run: {said}");
}

/// Turns until a datagram is refused. It may come a second time, by the interface's other end.
#[cfg(target_os = "linux")]
fn until_refused_as_not_unicast(world: &mut World<Echo>) {
    world.until("it is refused", |world| {
        world.handler.stats().datagrams_refused() > 0
    });
    let stats = world.handler.stats();
    assert_eq!(stats.datagrams_not_unicast, stats.datagrams_refused());
    assert_eq!(world.stats().datagrams_out, 0);
}

/// The link-local address of the namespace's interface.
#[cfg(target_os = "linux")]
fn inside() -> Option<SocketAddrV6> {
    std::env::var_os(INSIDE)?;
    Some(link_local().expect("a link-local address"))
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "started by in_a_network_of_its_own_link_local_addresses_answer_and_broadcasts_do_not"]
fn inside_a_network_an_answer_leaves_from_a_link_local_address_though_the_peer_has_no_scope() {
    let Some(local) = inside() else { return };
    let mut world = World::new();
    let id = world
        .context()
        .bind_udp(&UdpOptions::new(wildcard()))
        .unwrap();
    let port = world.context().udp_addr(id).unwrap().port();
    let asked = SocketAddrV6::new(*local.ip(), port, 0, local.scope_id());
    // Its own address is global: nothing in it says which interface is meant.
    let client = UdpSocket::bind("[2001:db8::1]:0").unwrap();
    client.connect(asked).unwrap();
    // The interface may be coming up still: what is lost on it is sent again.
    let mut again = Instant::now();
    world.until("it has come", |world| {
        if again <= Instant::now() {
            client.send(b"hello").unwrap();
            again = Instant::now() + Duration::from_secs(1);
        }
        world.stats().datagrams_in > 0
    });
    assert_eq!(world.stats().datagrams_failed, 0);
    assert_eq!(answer(&mut world, &client), b"hello");
    a_peer_at_a_link_local_address_keeps_its_scope_and_can_be_answered();
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "started by in_a_network_of_its_own_link_local_addresses_answer_and_broadcasts_do_not"]
fn inside_a_network_an_echo_does_not_answer_its_broadcast_address() {
    if inside().is_none() {
        return;
    }
    for own in ["0.0.0.0:0", "[::]:0", "192.0.2.255:0"] {
        let mut world = World::of(Limits::default(), Echo::new(EchoOptions::default()));
        let own: SocketAddr = own.parse().unwrap();
        let id = world.context().bind_udp(&UdpOptions::new(own)).unwrap();
        let port = world.context().udp_addr(id).unwrap().port();
        let client = UdpSocket::bind("192.0.2.1:0").unwrap();
        client.set_broadcast(true).unwrap();
        client
            .send_to(b"all of you", ("192.0.2.255", port))
            .unwrap();
        until_refused_as_not_unicast(&mut world);
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "started by in_a_network_of_its_own_link_local_addresses_answer_and_broadcasts_do_not"]
fn inside_a_network_an_echo_does_not_answer_an_ipv6_group() {
    let Some(local) = inside() else { return };
    let mut world = World::of(Limits::default(), Echo::new(EchoOptions::default()));
    let id = world
        .context()
        .bind_udp(&UdpOptions::new(wildcard()))
        .unwrap();
    let port = world.context().udp_addr(id).unwrap().port();
    let client = UdpSocket::bind(SocketAddrV6::new(*local.ip(), 0, 0, local.scope_id())).unwrap();
    // All hosts on the link; a datagram comes back to its own host as well.
    let group = "ff02::1".parse().unwrap();
    let group = SocketAddrV6::new(group, port, 0, local.scope_id());
    client.send_to(b"all of you", group).unwrap();
    until_refused_as_not_unicast(&mut world);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "started by in_a_network_of_its_own_link_local_addresses_answer_and_broadcasts_do_not"]
fn inside_a_network_an_ipv6_group_is_heard_from_when_it_is_joined() {
    let Some(local) = inside() else { return };
    let mut world = World::new();
    let mut context = world.context();
    let id = context.bind_udp(&UdpOptions::new(wildcard())).unwrap();
    let port = context.udp_addr(id).unwrap().port();
    let group: Ipv6Addr = "ff02::4f52".parse().unwrap();
    let multicast = Multicast::V6 {
        group,
        interface: local.scope_id(),
    };
    world.handler.datagram = Some(Box::new(|_, datagram, _| {
        let to = datagram.to().unwrap().to_string();
        datagram.reply(to.as_bytes());
    }));
    let client = UdpSocket::bind(SocketAddrV6::new(*local.ip(), 0, 0, local.scope_id())).unwrap();
    client.set_nonblocking(true).unwrap();
    let to = SocketAddrV6::new(group, port, 0, local.scope_id());
    let own = SocketAddrV6::new(*local.ip(), port, 0, local.scope_id());
    for joined in [false, true, false] {
        client.send_to(b"group?", to).unwrap();
        // One socket answers in order: when this has its answer, there is no other.
        client.send_to(b"you?", own).unwrap();
        if joined {
            assert_eq!(answer(&mut world, &client), group.to_string().as_bytes());
        }
        let own = local.ip().to_string();
        assert_eq!(answer(&mut world, &client), own.as_bytes());
        match joined {
            false => world.context().join_multicast(id, multicast).unwrap(),
            true => world.context().leave_multicast(id, multicast).unwrap(),
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "started by in_a_network_of_its_own_link_local_addresses_answer_and_broadcasts_do_not"]
fn inside_a_network_a_socket_that_had_no_room_is_told_when_there_is() {
    if inside().is_none() {
        return;
    }
    let mut world = World::new();
    let options = UdpOptions {
        // The least that there is.
        send_buffer: Some(1),
        ..UdpOptions::new("[2001:db8::1]:0".parse::<SocketAddr>().unwrap())
    };
    let id = world.context().bind_udp(&options).unwrap();
    // Nobody has this address: what is sent there waits until somebody is found.
    let to: SocketAddr = "[2001:db8::9]:9".parse().unwrap();
    let send = |world: &mut World| world.context().send_to(id, to, &[7; 1000]);
    let refused = (0..100)
        .map(|_| send(&mut world))
        .find(|&outcome| outcome != SendOutcome::Sent);
    assert_eq!(refused, Some(SendOutcome::Blocked));
    world.settle();
    assert_eq!(world.seen().writable, []);
    let found = "ip neigh replace 2001:db8::9 lladdr 02:00:00:00:00:09 dev oread0";
    let found = Command::new("sh").args(["-c", found]).status();
    assert!(found.unwrap().success());
    world.until("it is told", |world| !world.seen().writable.is_empty());
    assert_eq!(send(&mut world), SendOutcome::Sent);
    world.settle();
    assert_eq!(world.seen().writable, [id]);
}
