use std::time::Duration;

use nix::errno::Errno;

use super::*;
use crate::net::testing::{Loop, address, outcome, some};

/// A socket at `at`, registered with token 0.
fn bound(turns: &Loop, at: &str) -> UdpSocket {
    let mut socket = UdpSocket::bind(&UdpOptions::new(address(at))).unwrap();
    turns.poll.register_udp(&mut socket, 0).unwrap();
    socket
}

/// A plain socket that takes datagrams of the address `asked` only, and gives up after a while.
fn asking(asked: SocketAddr) -> std::net::UdpSocket {
    let at = if asked.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let client = std::net::UdpSocket::bind(at).unwrap();
    client.connect(asked).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client
}

/// Answers what was received, from where it was sent to.
fn answer(socket: &mut UdpSocket, got: &Received, bytes: &[u8]) -> io::Result<usize> {
    let Destination {
        local, interface, ..
    } = got.destination;
    socket.send(bytes, got.from, local, interface)
}

/// Asks a socket that is bound to `wildcard` at its address `asked`, and checks that the reply
/// comes from there.
fn reply_comes_from(wildcard: &str, asked: &str) {
    let mut turns = Loop::new();
    let mut socket = bound(&turns, wildcard);
    let asked = SocketAddr::new(asked.parse().unwrap(), socket.local_addr().unwrap().port());
    let client = asking(asked);
    for ask in ["one", "two"] {
        client.send(ask.as_bytes()).unwrap();
        let mut buffer = [0; 16];
        let got = turns.until(|| some(socket.recv(&mut buffer)));
        assert_eq!(&buffer[..got.len], ask.as_bytes());
        let Destination { to, local, .. } = got.destination;
        assert_eq!((to, local), (Some(asked.ip()), Some(asked.ip())));
        assert_eq!(got.from.port(), client.local_addr().unwrap().port());
        assert_eq!(answer(&mut socket, &got, b"reply").unwrap(), 5);
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
    }
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn a_reply_leaves_from_the_v4_address_that_was_asked() {
    reply_comes_from("0.0.0.0:0", "127.0.0.2");
}

#[test]
fn a_reply_leaves_from_the_v6_address_that_was_asked() {
    reply_comes_from("[::]:0", "::1");
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn a_reply_to_ipv4_on_a_dual_stack_socket_leaves_from_the_address_that_was_asked() {
    reply_comes_from("[::]:0", "127.0.0.2");
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn a_socket_of_std_that_is_bound_to_a_wildcard_is_told_the_address_too() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut socket =
        UdpSocket::adopt(socket.into(), &UdpOptions::new(address("0.0.0.0:0"))).unwrap();
    let mut turns = Loop::new();
    turns.poll.register_udp(&mut socket, 0).unwrap();
    let port = socket.local_addr().unwrap().port();
    let client = asking(SocketAddr::new("127.0.0.2".parse().unwrap(), port));
    client.send(b"x").unwrap();
    let got = turns.until(|| some(socket.recv(&mut [0; 4])));
    let asked: IpAddr = "127.0.0.2".parse().unwrap();
    assert_eq!(got.destination.to, Some(asked));
}

#[test]
fn a_dual_stack_socket_takes_plain_v4_addresses_for_mapped_ones() {
    let mut socket = bound(&Loop::new(), "[::]:0");
    let port = socket.local_addr().unwrap().port();
    let client = asking(SocketAddr::new("127.0.0.1".parse().unwrap(), port));
    let to = client.local_addr().unwrap();
    let local = "127.0.0.1".parse().unwrap();
    socket.send(b"plain", to, Some(local), 0).unwrap();
    assert_eq!(client.recv(&mut [0; 16]).unwrap(), 5);
}

#[test]
fn a_socket_with_one_address_is_not_told_it() {
    let mut turns = Loop::new();
    let mut socket = bound(&turns, "127.0.0.1:0");
    assert!(socket.control.is_empty());
    let client = asking(socket.local_addr().unwrap());
    client.send(b"x").unwrap();
    let got = turns.until(|| some(socket.recv(&mut [0; 4])));
    let from = client.local_addr().unwrap();
    assert_eq!(
        got,
        Received {
            len: 1,
            from,
            destination: Destination::default(),
            truncated: false
        }
    );
    // An address from elsewhere is not used.
    let elsewhere = "192.0.2.1".parse().unwrap();
    socket.send(b"yz", from, Some(elsewhere), 0).unwrap();
    assert_eq!(client.recv(&mut [0; 4]).unwrap(), 2);
}

#[test]
fn a_datagram_larger_than_the_buffer_is_told_to_be_cut_and_one_that_fits_is_not() {
    for at in ["127.0.0.1:0", "[::]:0"] {
        let mut turns = Loop::new();
        let mut socket = bound(&turns, at);
        let port = socket.local_addr().unwrap().port();
        let client = asking(SocketAddr::new("127.0.0.1".parse().unwrap(), port));
        for length in [8, 9] {
            client.send(&b"123456789"[..length]).unwrap();
            let got = turns.until(|| some(socket.recv(&mut [0; 8])));
            assert_eq!((got.len, got.truncated), (8, length > 8));
        }
    }
}

#[test]
fn an_empty_datagram_is_a_datagram_and_is_echoed_as_one() {
    let mut turns = Loop::new();
    let mut socket = bound(&turns, "127.0.0.1:0");
    let client = asking(socket.local_addr().unwrap());
    client.send(b"").unwrap();
    let got = turns.until(|| some(socket.recv(&mut [0; 8])));
    assert_eq!((got.len, got.truncated), (0, false));
    assert_eq!(answer(&mut socket, &got, b"").unwrap(), 0);
    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn the_largest_datagram_passes_whole_and_a_larger_one_is_an_error() {
    let mut turns = Loop::new();
    let mut socket = bound(&turns, "127.0.0.1:0");
    let client = asking(socket.local_addr().unwrap());
    let to = client.local_addr().unwrap();
    let bytes = vec![7; 65_508];
    assert_eq!(client.send(&bytes[..65_507]).unwrap(), 65_507);
    let got = turns.until(|| some(socket.recv(&mut [0; 65_536])));
    assert_eq!((got.len, got.truncated), (65_507, false));
    let error = socket.send(&bytes, to, None, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EMSGSIZE as i32));
}

#[test]
fn a_refused_datagram_is_an_error_of_a_connected_socket_which_then_goes_on() {
    let mut turns = Loop::new();
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let there = peer.local_addr().unwrap();
    drop(peer);
    let options = UdpOptions {
        connect_to: Some(there),
        ..UdpOptions::new(address("127.0.0.1:0"))
    };
    let mut socket = UdpSocket::bind(&options).unwrap();
    assert_eq!(socket.peer, Some(there));
    turns.poll.register_udp(&mut socket, 0).unwrap();
    let mut buffer = [0; 8];
    assert!(outcome(socket.recv(&mut buffer)).is_none());
    socket.send(b"x", there, None, 0).unwrap();
    turns.until_ready(0, crate::readiness::Readiness::ERROR);
    let error = outcome(socket.recv(&mut buffer)).unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ECONNREFUSED as i32));
    assert!(outcome(socket.recv(&mut buffer)).is_none());
    if turns.poll.drops_failed_udp() {
        turns.poll.repoll(&mut socket, 0, false).unwrap();
    }

    let peer = std::net::UdpSocket::bind(there).unwrap();
    peer.send_to(b"hello", socket.local_addr().unwrap())
        .unwrap();
    let got = turns.until(|| some(socket.recv(&mut buffer)));
    assert_eq!((got.len, got.from), (5, there));
}

#[test]
fn an_event_comes_for_every_datagram_after_the_socket_has_blocked() {
    let mut turns = Loop::new();
    let mut socket = bound(&turns, "127.0.0.1:0");
    let client = asking(socket.local_addr().unwrap());
    for _ in 0..3 {
        assert!(outcome(socket.recv(&mut [0; 8])).is_none());
        client.send(b"x").unwrap();
        turns.until_ready(0, crate::readiness::Readiness::READABLE);
        assert_eq!(socket.recv(&mut [0; 8]).unwrap().len, 1);
    }
}

#[test]
fn several_sockets_share_an_address_on_purpose_only() {
    let options = UdpOptions {
        reuse_port: true,
        ..UdpOptions::new(address("127.0.0.1:0"))
    };
    let first = UdpSocket::bind(&options).unwrap();
    let taken = first.local_addr().unwrap();
    let error = UdpSocket::bind(&UdpOptions::new(taken)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EADDRINUSE as i32));
    UdpSocket::bind(&UdpOptions {
        reuse_port: true,
        ..UdpOptions::new(taken)
    })
    .unwrap();
}

#[test]
fn a_v6_only_socket_leaves_ipv4_to_another() {
    let options = UdpOptions {
        only_v6: Some(true),
        ..UdpOptions::new(address("[::]:0"))
    };
    let v6 = UdpSocket::bind(&options).unwrap();
    let port = v6.local_addr().unwrap().port();
    let v4 = UdpOptions::new(SocketAddr::new("0.0.0.0".parse().unwrap(), port));
    UdpSocket::bind(&v4).unwrap();
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn the_buffers_are_as_large_as_was_asked() {
    use nix::sys::socket::sockopt;

    let options = UdpOptions::new(address("127.0.0.1:0"));
    let socket = UdpSocket::bind(&UdpOptions {
        recv_buffer: Some(30_000),
        send_buffer: Some(40_000),
        ..options
    })
    .unwrap();
    assert_eq!(
        socket::getsockopt(&socket, sockopt::RcvBuf).unwrap(),
        60_000
    );
    assert_eq!(
        socket::getsockopt(&socket, sockopt::SndBuf).unwrap(),
        80_000
    );
}
