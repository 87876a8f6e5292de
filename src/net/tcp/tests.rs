use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::net::testing::{Loop, address, listen, outcome, some};
use crate::nonblocking::{self, Outcome};

fn loopback() -> ListenOptions {
    ListenOptions::new(address("127.0.0.1:0"))
}

/// An address of this host that nobody listens at.
fn nobody() -> SocketAddr {
    let listener = listen(&loopback()).unwrap();
    listener.local_addr().unwrap().socket_addr().unwrap()
}

#[test]
#[cfg(all(not(debug_assertions), not(mio_unsupported_force_poll_poll)))]
fn a_stream_is_as_large_as_its_descriptor_even_in_an_option() {
    assert_eq!(size_of::<TcpStream>(), 4);
    assert_eq!(size_of::<Option<TcpStream>>(), 4);
}

#[test]
fn accepted_streams_have_the_options_that_the_listener_was_given() {
    let keepalive = Keepalive {
        idle: Duration::from_millis(41_500),
        interval: Duration::from_secs(7),
        count: 3,
    };
    let options = ListenOptions {
        keepalive: Some(keepalive),
        recv_buffer: Some(20_000),
        send_buffer: Some(30_000),
        ..loopback()
    };
    let mut turns = Loop::new();
    let (dialled, accepted) = turns.pair(&options, 0);
    assert!(socket::getsockopt(&accepted, sockopt::TcpNoDelay).unwrap());
    assert!(socket::getsockopt(&accepted, sockopt::KeepAlive).unwrap());
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        assert_eq!(
            socket::getsockopt(&accepted, sockopt::TcpKeepIdle).unwrap(),
            42
        );
        assert_eq!(
            socket::getsockopt(&accepted, sockopt::TcpKeepInterval).unwrap(),
            7
        );
        assert_eq!(
            socket::getsockopt(&accepted, sockopt::TcpKeepCount).unwrap(),
            3
        );
        assert_eq!(
            socket::getsockopt(&accepted, sockopt::RcvBuf).unwrap(),
            40_000
        );
        assert_eq!(
            socket::getsockopt(&accepted, sockopt::SndBuf).unwrap(),
            60_000
        );
    }
    assert!(socket::getsockopt(&dialled, sockopt::TcpNoDelay).unwrap());
    assert!(!socket::getsockopt(&dialled, sockopt::KeepAlive).unwrap());

    let (_dialled, accepted) = turns.pair(
        &ListenOptions {
            nodelay: false,
            ..loopback()
        },
        2,
    );
    assert!(!socket::getsockopt(&accepted, sockopt::TcpNoDelay).unwrap());
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn accepted_streams_have_the_user_timeout_of_the_listener_and_one_can_be_set_later() {
    let millis = |stream: &TcpStream| socket::getsockopt(stream, sockopt::TcpUserTimeout).unwrap();
    let mut listener = listen(&loopback()).unwrap();
    let asked = |asked| UserTimeout {
        asked: Some(asked),
        before: None,
        by_default: None,
    };
    let default = |before, by_default| UserTimeout {
        asked: None,
        before,
        by_default,
    };
    let timeout = Duration::from_micros(41_000_001);
    listener.set_user_timeout(asked(timeout)).unwrap();
    // It has one now.
    let longer = default(None, Some(2 * timeout));
    listener.set_user_timeout(longer).unwrap();
    let mut turns = Loop::new();
    turns.poll.register_listener(&mut listener, 0).unwrap();
    let dialled = TcpStream::dial(&ConnectOptions::new(listener.local_addr().unwrap())).unwrap();
    let (accepted, _) = turns.until(|| some(listener.accept()));
    assert_eq!((millis(&dialled), millis(&accepted)), (0, 41_001));
    for (timeout, expected) in [
        (asked(Duration::MAX), i32::MAX as u32),
        (asked(Duration::ZERO), 1),
        (longer, 1),
        (default(Some(Duration::from_millis(1)), None), 0),
        (longer, 82_001),
    ] {
        dialled.set_user_timeout(timeout).unwrap();
        assert_eq!(millis(&dialled), expected);
    }
    let keepalive = ListenOptions {
        keepalive: Some(Keepalive::default()),
        ..loopback()
    };
    let keepalive = listen(&keepalive).unwrap();
    keepalive.set_user_timeout(longer).unwrap();
    let timeout = socket::getsockopt(&keepalive, sockopt::TcpUserTimeout);
    assert_eq!(timeout, Ok(0));
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn what_is_in_flight_grows_while_the_peer_does_not_read_and_is_nothing_when_all_is_acknowledged() {
    let mut turns = Loop::new();
    let (mut dialled, mut accepted) = turns.pair(
        &ListenOptions {
            recv_buffer: Some(8_192),
            ..loopback()
        },
        0,
    );
    assert_eq!(dialled.in_flight(), Some(0));
    let (mut sent, mut seen) = (0, 0);
    while let Ok(count) = dialled.write(&[7; 100_000]) {
        sent += count;
        let now = dialled.in_flight().unwrap();
        assert!(now >= seen, "{now} bytes after {seen}");
        seen = now;
    }
    assert!(seen as usize > sent / 2, "{seen} bytes for {sent}");
    // Each pass through the whole range of numbers is downwards: what the peer reads is
    // acknowledged, by and by.
    let (mut got, mut falls) = (0, 0);
    turns.until(|| {
        // A look behind each piece: all of it may be acknowledged before the next event.
        while let Ok(count) = accepted.read(&mut [0; 10_000]) {
            got += count;
            let now = dialled.in_flight().unwrap();
            assert!(now <= seen, "{now} bytes after {seen}");
            falls += u32::from(now < seen);
            seen = now;
        }
        (got == sent && dialled.in_flight() == Some(0)).then_some(())
    });
    assert!(falls > 1, "it fell {falls} times");
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn an_end_is_in_flight_until_it_is_acknowledged_behind_all_that_was_sent() {
    let mut turns = Loop::new();
    let narrow = ListenOptions {
        recv_buffer: Some(8_192),
        ..loopback()
    };
    let (mut dialled, mut accepted) = turns.pair(&narrow, 0);
    while dialled.write(&[7; 100_000]).is_ok() {}
    dialled.shutdown_write().unwrap();
    assert!(dialled.in_flight().unwrap() > 0);
    turns.until(|| {
        let mut read = accepted.read(&mut [0; 10_000]);
        while read.as_ref().is_ok_and(|&count| count > 0) {
            read = accepted.read(&mut [0; 10_000]);
        }
        read.is_ok().then_some(())
    });
    turns.until(|| (dialled.in_flight() == Some(0)).then_some(()));
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn every_descriptor_is_non_blocking_and_closed_in_the_programs_that_we_start() {
    let mut turns = Loop::new();
    let listener = listen(&loopback()).unwrap();
    let udp = crate::options::UdpOptions::new(address("127.0.0.1:0"));
    let udp = crate::net::real::UdpSocket::bind(&udp).unwrap();
    let (dialled, accepted) = turns.pair(&loopback(), 0);
    for fd in [
        listener.as_fd(),
        udp.as_fd(),
        dialled.as_fd(),
        accepted.as_fd(),
    ] {
        let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
        let info = std::fs::read_to_string(path).unwrap();
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap();
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        assert_ne!(flags & libc::O_CLOEXEC, 0);
        assert_ne!(flags & libc::O_NONBLOCK, 0);
    }
}

#[test]
fn more_connections_than_the_usual_128_may_wait_to_be_accepted() {
    let listener = listen(&loopback()).unwrap();
    let most = listen(&ListenOptions {
        backlog: u32::MAX,
        ..loopback()
    });
    // As many as the system allows, up to 4,096.
    let backlog = listener.backlog();
    assert_eq!(backlog, most.unwrap().backlog().min(4096));
    let waiting = backlog.min(300);
    let options = ConnectOptions::new(listener.local_addr().unwrap());
    let mut turns = Loop::new();
    let streams: Vec<_> = (0..waiting as usize)
        .map(|token| {
            let mut stream = TcpStream::dial(&options).unwrap();
            turns.poll.register_stream(&mut stream, token).unwrap();
            turns.until(|| stream.established().unwrap().then_some(()));
            stream
        })
        .collect();
    streams
        .iter()
        .for_each(|_| drop(listener.accept().unwrap()));
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn the_effective_backlog_is_what_was_asked_under_the_cap_of_the_system() {
    let cap = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let cap: u32 = cap.trim().parse().unwrap();
    let effective = |wish| {
        listen(&ListenOptions {
            backlog: wish,
            ..loopback()
        })
        .unwrap()
        .backlog()
    };
    assert_eq!(effective(3), 3.min(cap));
    assert_eq!(effective(u32::MAX), cap);
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn a_connection_beyond_the_backlog_is_not_established() {
    // Linux queues one connection more than the backlog says.
    let listener = listen(&ListenOptions {
        backlog: 1,
        ..loopback()
    })
    .unwrap();
    let options = ConnectOptions::new(listener.local_addr().unwrap());
    let mut turns = Loop::new();
    let mut streams = [(); 3].map(|()| TcpStream::dial(&options).unwrap());
    for (token, stream) in streams.iter_mut().enumerate() {
        turns.poll.register_stream(stream, token).unwrap();
    }
    turns.until(|| streams[0].established().unwrap().then_some(()));
    turns.until(|| streams[1].established().unwrap().then_some(()));
    turns
        .poll
        .wait(&mut turns.events, Some(Duration::from_millis(50)))
        .unwrap();
    assert!(!streams[2].established().unwrap());
}

#[test]
fn an_address_in_use_keeps_its_code_and_can_be_shared_on_purpose() {
    let options = ListenOptions {
        reuse_port: true,
        ..loopback()
    };
    let first = listen(&options).unwrap();
    let taken = first.local_addr().unwrap();
    let error = listen(&ListenOptions::new(taken.clone())).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EADDRINUSE as i32));
    listen(&ListenOptions {
        reuse_port: true,
        ..ListenOptions::new(taken)
    })
    .unwrap();
}

#[test]
fn two_slices_leave_in_order_however_the_socket_cuts_them() {
    let mut turns = Loop::new();
    let (mut dialled, mut accepted) = turns.pair(
        &ListenOptions {
            recv_buffer: Some(8_192),
            ..loopback()
        },
        0,
    );
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_be_bytes).collect();
    let (mut done, mut blocked) = (0, false);
    let (mut got, mut buffer) = (Vec::new(), [0; 16_384]);
    turns.until(|| {
        while done < sent.len() {
            let (first, second) = sent[done..].split_at((sent.len() - done).min(1_000));
            match nonblocking::write_two(&mut dialled, first, second).unwrap() {
                Outcome::Ready(n) => done += n,
                Outcome::Blocked => {
                    blocked = true;
                    break;
                }
                Outcome::Eof => panic!("a write has no end"),
            }
        }
        while let Outcome::Ready(n) = nonblocking::read(&mut accepted, &mut buffer).unwrap() {
            got.extend_from_slice(&buffer[..n]);
        }
        (got.len() == sent.len()).then_some(())
    });
    assert!(blocked, "nothing was cut");
    assert!(got == sent);
}

#[test]
fn a_half_close_is_the_end_of_the_stream_for_the_peer_only() {
    let mut turns = Loop::new();
    let (mut dialled, mut accepted) = turns.pair(&loopback(), 0);
    let mut buffer = [0; 8];
    dialled.shutdown_write().unwrap();
    assert_eq!(turns.until(|| some(accepted.read(&mut buffer))), 0);
    assert_eq!(accepted.write(b"still").unwrap(), 5);
    assert_eq!(turns.until(|| some(dialled.read(&mut buffer))), 5);
}

#[test]
fn a_reset_on_close_is_a_reset_to_the_peer() {
    let mut turns = Loop::new();
    let (mut dialled, mut accepted) = turns.pair(&loopback(), 0);
    dialled.reset_on_close().unwrap();
    drop(dialled);
    let error = turns
        .until(|| outcome(accepted.read(&mut [0; 8])))
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ECONNRESET as i32));
}

#[test]
fn a_refused_connect_says_so() {
    let mut turns = Loop::new();
    let mut stream = TcpStream::dial(&ConnectOptions::new(nobody())).unwrap();
    turns.poll.register_stream(&mut stream, 0).unwrap();
    let error = turns.until(|| match stream.established() {
        Ok(false) => None,
        Ok(true) => panic!("connected to nobody"),
        Err(error) => Some(error),
    });
    assert_eq!(error.raw_os_error(), Some(Errno::ECONNREFUSED as i32));
}

#[test]
fn a_connection_that_meets_itself_is_refused() {
    let mut turns = Loop::new();
    let nobody = nobody();
    let mut stream = TcpStream::dial(&ConnectOptions {
        source: Some(nobody),
        ..ConnectOptions::new(nobody)
    })
    .unwrap();
    turns.poll.register_stream(&mut stream, 0).unwrap();
    let error = turns.until(|| stream.established().map(|yes| assert!(!yes)).err());
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn a_source_address_is_bound_without_a_port_of_its_own() {
    let mut turns = Loop::new();
    let listener = listen(&loopback()).unwrap();
    let options = ConnectOptions::new(listener.local_addr().unwrap());
    let mut stream = TcpStream::dial(&ConnectOptions {
        source: Some(address("127.0.0.3:0")),
        ..options
    })
    .unwrap();
    assert!(socket::getsockopt(&stream, sockopt::IpBindAddressNoPort).unwrap());
    turns.poll.register_stream(&mut stream, 0).unwrap();
    turns.until(|| stream.established().unwrap().then_some(()));
    let (_, from) = turns.until(|| some(listener.accept()));
    assert_eq!(from, stream.local_addr().unwrap());
    let from = from.socket_addr().unwrap();
    assert_eq!(from.ip(), address("127.0.0.3:0").ip());
    assert_ne!(from.port(), 0);
}

#[test]
fn a_source_of_another_family_is_invalid_input() {
    let options = ConnectOptions {
        source: Some(address("[::1]:0")),
        ..ConnectOptions::new(nobody())
    };
    assert_eq!(
        TcpStream::dial(&options).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
#[cfg(not(target_os = "openbsd"))]
fn the_v6_wildcard_takes_ipv4_unless_told_otherwise_and_other_v6_addresses_do_not() {
    let only_v6 = |listener: &TcpListener| socket::getsockopt(listener, sockopt::Ipv6V6Only);
    let listen = |options: &ListenOptions| TcpListener::listen(options, None).unwrap();
    let any = ListenOptions::new(address("[::]:0"));

    let both = listen(&any);
    assert!(!only_v6(&both).unwrap());
    let port = |listener: &TcpListener| {
        let address = listener.local_addr().unwrap();
        address.socket_addr().unwrap().port()
    };
    let _client = std::net::TcpStream::connect(("127.0.0.1", port(&both))).unwrap();
    let (_, from) = both.accept().unwrap();
    assert!(
        from.to_string().starts_with("[::ffff:127.0.0.1]:"),
        "it is one of IPv4: {from}"
    );

    let v6 = listen(&ListenOptions {
        only_v6: Some(true),
        ..any.clone()
    });
    assert!(only_v6(&v6).unwrap());
    let refused = std::net::TcpStream::connect(("127.0.0.1", port(&v6))).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    assert!(only_v6(&listen(&ListenOptions::new(address("[::1]:0")))).unwrap());
    listen(&ListenOptions::new(address("[::ffff:127.0.0.1]:0")));
}

#[test]
fn sockets_of_std_are_made_non_blocking() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let at = listener.local_addr().unwrap();
    let listener = TcpListener::listen(&ListenOptions::default(), Some(listener.into())).unwrap();
    assert!(listener.backlog() > 128);
    listener.accept().unwrap();
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    let (server, _) = {
        let _more = std::net::TcpStream::connect(at).unwrap();
        listener.accept().unwrap()
    };
    drop(server);
    let client = TcpStream::adopt(client.into()).unwrap();
    assert_eq!(client.peer_addr().unwrap(), listener.local_addr().unwrap());
    client.set_nodelay(true).unwrap();
    client.set_keepalive(Keepalive::default()).unwrap();
    assert!(socket::getsockopt(&client, sockopt::TcpNoDelay).unwrap());
    assert!(socket::getsockopt(&client, sockopt::KeepAlive).unwrap());
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn what_a_peer_reads_at_a_unix_socket_is_progress_before_there_is_room() {
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut ours = TcpStream::adopt(ours.into()).unwrap();
    while ours.write(&[7; 1000]).is_ok() {}
    let before = ours.unread().unwrap();
    theirs.read_exact(&mut [0; 1000]).unwrap();
    let after = ours.unread().unwrap();
    assert!(after < before, "{after} after {before}");
    assert_eq!(ours.in_flight(), None);
}
