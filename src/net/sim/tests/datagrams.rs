//! What the model says of datagrams and their sockets.

use std::io::ErrorKind;

use super::*;

#[test]
fn datagrams_keep_their_length_and_are_cut_lost_doubled_and_refused() {
    let net = Net::new(11);
    let system = net.process(Poller::Epoll).system().unwrap();
    let at = address("0.0.0.0:53");
    let options = crate::options::UdpOptions::new(at);
    let mut socket = system.bind_udp(&options).unwrap();
    let peer = net.udp_peer(address("10.0.0.2:1000"));
    let to = address("10.0.0.1:53");
    let rest = Duration::from_secs(1);
    let mut buffer = [0; 4];
    for (bytes, len, cut) in [
        (&b""[..], 0, false),
        (b"four", 4, false),
        (b"seven77", 4, true),
    ] {
        peer.send_to(to, bytes);
        net.advance(rest);
        let received = socket.recv(&mut buffer).unwrap();
        assert_eq!((received.len, received.truncated), (len, cut));
        let asked = received.destination;
        assert_eq!((asked.to, asked.local), (Some(to.ip()), Some(to.ip())));
        socket.send(b"!", received.from, asked.local, 0).unwrap();
    }
    let error = socket.recv(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    net.advance(rest);
    assert_eq!(peer.received(), vec![(to, b"!".to_vec()); 3]);

    net.fault_at(Fault::DatagramLost, 1);
    peer.send_to(to, b"lost");
    net.fault_at(Fault::DatagramDoubled, 1);
    peer.send_to(to, b"two");
    net.advance(rest);
    assert_eq!(socket.recv(&mut buffer).unwrap().len, 3);
    assert_eq!(socket.recv(&mut buffer).unwrap().len, 3);
    assert!(socket.recv(&mut buffer).is_err());
    let large = socket.send(&[0; 65_508], address("10.0.0.2:1000"), None, 0);
    assert_eq!(
        large.unwrap_err().raw_os_error(),
        Some(Errno::EMSGSIZE as i32)
    );

    let connected = crate::options::UdpOptions {
        connect_to: Some(address("10.0.0.2:2")),
        ..crate::options::UdpOptions::new(address("10.0.0.1:0"))
    };
    let mut socket = system.bind_udp(&connected).unwrap();
    socket.send(b"anybody?", to, None, 0).unwrap();
    net.advance(rest);
    let refused = socket.recv(&mut buffer).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_datagram_from_a_link_local_address_needs_an_interface() {
    let net = Net::new(7);
    let system = net.process(Poller::Epoll).system().unwrap();
    let options = crate::options::UdpOptions::new(address("[::]:7"));
    let mut socket = system.bind_udp(&options).unwrap();
    let peer = net.udp_peer(address("[fd00::9]:1000"));
    peer.send_to(address("[fe80::5]:7"), b"hello");
    net.advance(Duration::from_secs(1));
    let received = socket.recv(&mut [0; 100]).unwrap();
    let (local, interface) = (received.destination.local, received.destination.interface);
    let mut send = |to, interface| socket.send(b"hello", to, local, interface);
    assert!(send(received.from, interface).is_ok());
    let refused = send(received.from, 0).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::EINVAL as i32));
    // The peer's own address may name it.
    let scoped = std::net::SocketAddrV6::new("fe80::9".parse().unwrap(), 1000, 0, 2);
    assert!(send(scoped.into(), 0).is_ok());
}

#[test]
fn a_udp_socket_s_full_buffer_stays_full_until_there_is_an_event_for_who_waits_for_room() {
    for model in [Poller::Epoll, Poller::Kqueue, Poller::Poll2] {
        let mut host = Machine::new(15, model);
        let options = crate::options::UdpOptions::new(address("10.0.0.1:7"));
        let mut socket = host.system.bind_udp(&options).unwrap();
        host.system.register_udp(&mut socket, 7).unwrap();
        let to = address("10.0.0.2:1000");
        host.net.fault_at(Fault::SendBlocked, 1);
        for _ in 0..2 {
            let blocked = socket.send(b"hello", to, None, 0).unwrap_err();
            assert_eq!(blocked.kind(), ErrorKind::WouldBlock);
        }
        host.system.repoll(&mut socket, 7, true).unwrap();
        assert_eq!(host.told(7), Readiness::EMPTY, "{model:?}");
        host.net.advance(Duration::from_secs(1));
        assert_eq!(host.told(7), Readiness::WRITABLE, "{model:?}");
        assert!(socket.send(b"hello", to, None, 0).is_ok());
    }
}
