//! A connection whose output nobody acknowledges is given up by the system, as `TCP_USER_TIMEOUT`
//! has it: keepalive doesn't probe then, and to the reactor output that the socket took is sent.
#![cfg(any(target_os = "linux", target_os = "android"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use common::{World, connect, loopback};
use nix::libc;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use oread::{CloseReason, ConnectOptions, ConnectionLimits, Keepalive, Limits, ListenOptions};

/// How long the system waits in these tests.
const TIMEOUT: Duration = Duration::from_millis(500);
/// More than the system holds of a connection whose peer doesn't read: some is left to the reactor.
const MUCH: usize = 12 << 20;
const GIVEN_UP: CloseReason = CloseReason::Failed(libc::ETIMEDOUT as u16);

/// A reactor without a write timeout, whose handler says `count` bytes to each connection.
fn talkative(count: usize) -> World {
    let mut world = World::with(Limits {
        write_timeout: None,
        ..Limits::default()
    });
    world.handler.open = Some(Box::new(move |_, connection| {
        connection.write(&vec![b'x'; count]);
    }));
    world
}

#[test]
fn a_peer_whose_window_stays_closed_is_given_up_after_the_user_timeout() {
    let mut world = talkative(MUCH);
    let (_, address) = world.listen_with(&ListenOptions {
        user_timeout: Some(TIMEOUT),
        ..ListenOptions::new(loopback())
    });
    let start = Instant::now();
    let _client = connect(address);
    assert_eq!(world.until_closed(1), GIVEN_UP);
    assert!(start.elapsed() >= TIMEOUT, "given up early");
}

#[test]
fn a_server_whose_window_stays_closed_is_given_up_by_a_dial_too() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let mut world = talkative(MUCH);
    let options = ConnectOptions {
        user_timeout: Some(TIMEOUT),
        ..ConnectOptions::new(listener.local_addr().unwrap())
    };
    world.context().connect(&options, 0).unwrap();
    let _server = listener.accept().unwrap();
    assert_eq!(world.until_closed(1), GIVEN_UP);
}

#[test]
fn with_keepalive_output_stays_unacknowledged_no_longer_than_probes_would() {
    let mut world = talkative(MUCH);
    let second = Duration::from_secs(1);
    let (_, address) = world.listen_with(&ListenOptions {
        keepalive: Some(Keepalive {
            idle: second,
            interval: second,
            count: 1,
        }),
        ..ListenOptions::new(loopback())
    });
    let start = Instant::now();
    let _client = connect(address);
    assert_eq!(world.until_closed(1), GIVEN_UP);
    assert!(start.elapsed() >= 2 * second, "given up early");
}

/// A connection whose own receive buffer is as small as the system makes one: 2,304 bytes on Linux.
fn connect_narrow(address: SocketAddr) -> OwnedFd {
    let (family, flags) = (AddressFamily::Inet, SockFlag::SOCK_CLOEXEC);
    let client = socket::socket(family, SockType::Stream, flags, None).unwrap();
    socket::setsockopt(&client, sockopt::RcvBuf, &1).unwrap();
    socket::connect(client.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    client
}

#[test]
fn by_default_output_that_the_socket_took_has_the_write_timeout_too() {
    for adopted in [false, true] {
        let mut world = World::with(Limits {
            write_timeout: Some(TIMEOUT),
            ..Limits::default()
        });
        world.handler.open = Some(Box::new(|_, connection| {
            connection.write(&[b'x'; 40_000]);
        }));
        let address = if adopted {
            let listener = TcpListener::bind(loopback()).unwrap();
            let address = listener.local_addr().unwrap();
            let options = ListenOptions::default();
            world.context().adopt_listener(listener, &options).unwrap();
            address
        } else {
            world.listen().1
        };
        let _client = connect_narrow(address);
        world.until_opened(1);
        world.turn();
        // The reactor has nothing left to watch over.
        assert_eq!(world.stats().pending, 0);
        assert_eq!(world.until_closed(1), GIVEN_UP);
    }
}

/// What the system says, in milliseconds; 0: as long as it has it.
fn user_timeout(socket: &impl AsFd) -> u32 {
    socket::getsockopt(socket, sockopt::TcpUserTimeout).unwrap()
}

#[test]
fn the_default_follows_the_write_timeout_of_the_listener_and_of_the_connection() {
    let limits = |write_timeout| ConnectionLimits {
        write_timeout,
        ..Limits::default().of_connection()
    };
    let second = Duration::from_secs(1);
    let options = |own: Option<ConnectionLimits>| ListenOptions {
        limits: own,
        ..ListenOptions::new(loopback())
    };
    let asked = ListenOptions {
        user_timeout: Some(40 * second),
        ..options(Some(limits(None)))
    };
    let probed = ListenOptions {
        keepalive: Some(Keepalive::default()),
        ..options(None)
    };
    for (options, expected, later) in [
        (options(None), 90_000, 3_000),
        (options(Some(limits(Some(600 * second)))), 900_000, 3_000),
        (options(Some(limits(None))), 0, 3_000),
        (asked, 40_000, 40_000),
        (probed, 120_000, 120_000),
    ] {
        let mut world = World::new();
        let (_, address) = world.listen_with(&options);
        let _client = connect(address);
        world.until_opened(1);
        let id = world.seen().opened[0];
        let mut connection = world.connection(id).unwrap();
        assert_eq!(user_timeout(&connection), expected);
        connection.set_limits(limits(Some(2 * second))).unwrap();
        assert_eq!(user_timeout(&connection), later);
        connection.set_limits(limits(None)).unwrap();
        let last = if later == 3_000 { 0 } else { later };
        assert_eq!(user_timeout(&connection), last);

        let options = ConnectOptions {
            limits: options.limits,
            user_timeout: options.user_timeout,
            keepalive: options.keepalive,
            ..ConnectOptions::new(address)
        };
        let id = world.context().connect(&options, 0).unwrap();
        let connection = world.connection(id).unwrap();
        assert_eq!(user_timeout(&connection), expected);
        let limits = options.limits.unwrap_or(Limits::default().of_connection());
        assert_eq!(connection.limits(), limits);
    }
}

#[test]
fn a_dial_that_nobody_answers_has_no_more_time_than_output_that_nobody_acknowledges() {
    // A listener that never accepts, with a backlog for one: the system drops further handshakes.
    let mut silent = World::new();
    let (_, address) = silent.listen_with(&ListenOptions {
        backlog: 0,
        ..ListenOptions::new(loopback())
    });
    let mut world = World::new();
    let options = ConnectOptions {
        timeout: None,
        user_timeout: Some(Duration::from_millis(10)),
        ..ConnectOptions::new(address)
    };
    for session in 0..6 {
        world.context().connect(&options, session).unwrap();
    }
    // The system sends again after a second, and looks at the user timeout then; two minutes
    // without one.
    world.until("a dial has failed", |world| {
        !world.handler.seen.failed.is_empty()
    });
    assert_eq!(world.seen().failed[0].2, ErrorKind::TimedOut);
}
