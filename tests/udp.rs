//! Datagrams over real sockets: answered exactly or not at all, and no error of one ends the loop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{World, loopback, pattern};
use oread::{Echo, EchoOptions, Handler, Limits, Multicast, ReplyTo, SendOutcome, UdpOptions};

/// Sends and turns until the answer is there. Loopback loses nothing as long as the buffers have
/// room.
fn ask<H: Handler>(
    world: &mut World<H>,
    client: &UdpSocket,
    to: SocketAddr,
    payload: &[u8],
) -> Vec<u8> {
    client.send_to(payload, to).unwrap();
    answer(world, client)
}

fn answer<H: Handler>(world: &mut World<H>, client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let mut len = None;
    client.set_nonblocking(true).unwrap();
    world.until("an answer is there", |_| {
        match client.recv(&mut buffer) {
            Ok(count) => len = Some(count),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        len.is_some()
    });
    buffer.truncate(len.unwrap());
    buffer
}

fn client() -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn assert_no_answer(client: &UdpSocket) {
    let error = client.recv(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_datagram_is_echoed_exactly_the_empty_one_and_the_longest_too() {
    let mut world = World::new();
    let (_, address) = world.bind_udp();
    let client = client();
    // 65,507: what is left of an IPv4 packet's 65,535 bytes after its header and UDP's.
    for len in [0, 1, 1472, 1473, 65_507, 0] {
        let payload = pattern(len);
        assert!(
            ask(&mut world, &client, address, &payload) == payload,
            "{len}"
        );
    }
    let stats = world.stats();
    assert_eq!((stats.datagrams_in, stats.datagrams_out), (6, 6));
    assert_eq!(stats.datagram_bytes_in, stats.datagram_bytes_out);
    assert_eq!(stats.datagrams_dropped(), 0);
}

#[test]
fn a_datagram_that_the_buffer_cuts_is_counted_and_never_answered() {
    let mut world = World::with(Limits {
        read_buffer: 100,
        ..Limits::default()
    });
    let (_, address) = world.bind_udp();
    let client = client();
    client.send_to(&pattern(101), address).unwrap();
    client.send_to(&pattern(2000), address).unwrap();
    assert_eq!(
        ask(&mut world, &client, address, &pattern(100)),
        pattern(100)
    );
    assert_no_answer(&client);
    let stats = world.stats();
    assert_eq!((stats.datagrams_in, stats.datagrams_truncated), (3, 2));
    assert_eq!(stats.datagrams_dropped(), 2);
    assert_eq!(world.seen().datagrams.len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let mut world = World::new();
    let wildcard = SocketAddr::from(([0, 0, 0, 0], 0));
    let id = world
        .context()
        .bind_udp(&UdpOptions::new(wildcard))
        .unwrap();
    let port = world.context().udp_addr(id).unwrap().port();
    for host in [2, 1, 3] {
        let asked = SocketAddr::from(([127, 0, 0, host], port));
        let client = UdpSocket::bind(loopback()).unwrap();
        // A connected socket hears nobody else.
        client.connect(asked).unwrap();
        client.send(b"who are you?").unwrap();
        assert_eq!(answer(&mut world, &client), b"who are you?");
    }
    world.handler.datagram = Some(Box::new(|_, datagram, _| {
        let to = datagram.to().map(|to| to.to_string());
        datagram.reply(to.as_deref().unwrap_or("?").as_bytes());
    }));
    let asked = SocketAddr::from(([127, 0, 0, 9], port));
    assert_eq!(ask(&mut world, &client(), asked, b""), b"127.0.0.9");
}

#[cfg(target_os = "linux")]
#[test]
fn a_late_answer_leaves_from_the_address_that_was_asked() {
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let mut world = World::new();
        let options = UdpOptions::new(wildcard.parse::<SocketAddr>().unwrap());
        let id = world.context().bind_udp(&options).unwrap();
        let port = world.context().udp_addr(id).unwrap().port();
        let asked = Rc::new(Cell::new(None));
        let asks = Rc::clone(&asked);
        world.handler.datagram = Some(Box::new(move |_, datagram, _| {
            asks.set(Some(datagram.reply_to()));
            datagram.context().timer(Duration::from_millis(5), 0);
        }));
        world.handler.timer = Some(Box::new(move |_, context, _| {
            let outcome = context.reply(asked.take().unwrap(), b"late");
            assert_eq!(outcome, SendOutcome::Sent);
        }));
        for host in [2, 1, 3] {
            let client = UdpSocket::bind(loopback()).unwrap();
            // A connected socket hears nobody else.
            client
                .connect((Ipv4Addr::new(127, 0, 0, host), port))
                .unwrap();
            client.send(b"who are you?").unwrap();
            assert_eq!(answer(&mut world, &client), b"late", "{wildcard}");
        }
    }
}

#[test]
fn what_a_late_answer_takes_is_small() {
    assert_eq!(size_of::<ReplyTo>(), 64);
}

#[cfg(target_os = "linux")]
#[test]
fn a_group_is_heard_from_when_it_is_joined_until_it_is_left() {
    // An IPv6 socket may join an IPv4 group, too.
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        hears_a_group(wildcard.parse().unwrap());
    }
}

#[cfg(target_os = "linux")]
fn hears_a_group(wildcard: SocketAddr) {
    let mut world = World::new();
    let mut context = world.context();
    let id = context.bind_udp(&UdpOptions::new(wildcard)).unwrap();
    let port = context.udp_addr(id).unwrap().port();
    // One that nobody else on this machine has joined.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let (group, at) = (Ipv4Addr::new(239, 255, high, low), Ipv4Addr::LOCALHOST);
    let multicast = Multicast::V4 {
        group,
        interface: at,
    };
    world.handler.datagram = Some(Box::new(|_, datagram, _| {
        let said = format!("{} {}", datagram.to().unwrap(), datagram.is_unicast());
        datagram.reply(said.as_bytes());
    }));
    let client = client();
    let hears = |world: &mut World| {
        client.send_to(b"group?", (group, port)).unwrap();
        // One socket answers in order: when this has its answer, nothing else is on its way.
        let mut answers = vec![ask(world, &client, (at, port).into(), b"you?")];
        if answers[0].starts_with(b"239.") {
            answers.push(answer(world, &client));
        }
        assert_no_answer(&client);
        let answers: Vec<_> = answers.concat().escape_ascii().map(char::from).collect();
        String::from_iter(answers)
    };
    assert_eq!(hears(&mut world), "127.0.0.1 true");
    world.context().join_multicast(id, multicast).unwrap();
    let both = format!("{group} false127.0.0.1 true");
    assert_eq!(hears(&mut world), both);
    let twice = world.context().join_multicast(id, multicast).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AddrInUse);
    world.context().leave_multicast(id, multicast).unwrap();
    assert_eq!(hears(&mut world), "127.0.0.1 true");
    let left = world.context().leave_multicast(id, multicast).unwrap_err();
    assert_eq!(left.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_drain_answers_what_has_arrived_before_it_closes_the_socket() {
    let mut world = World::with(Limits {
        datagram_budget: 1,
        ..Limits::default()
    });
    let (id, address) = world.bind_udp();
    let client = client();
    for number in 0..20 {
        client.send_to(&[number], address).unwrap();
    }
    world.context().drain(Duration::ZERO);
    world.until("it has drained", |world| {
        world.context().udp_addr(id).is_none()
    });
    for number in 0..20 {
        assert_eq!(answer(&mut world, &client), [number]);
    }
}

/// Addresses of more than one host that a datagram reaches on this machine's loopback: a broadcast,
/// a group.
#[cfg(target_os = "linux")]
const NOT_UNICAST: [&str; 2] = ["127.255.255.255", "224.0.0.1"];

/// Those of them that reach a socket bound to `wildcard`. An IPv6 one hears no IPv4 group that it
/// has not joined.
#[cfg(target_os = "linux")]
fn reaching(wildcard: &SocketAddr) -> &'static [&'static str] {
    &NOT_UNICAST[..if wildcard.is_ipv4() { 2 } else { 1 }]
}

/// A client that may send to them.
#[cfg(target_os = "linux")]
fn broadcaster() -> UdpSocket {
    let socket = client();
    socket.set_broadcast(true).unwrap();
    socket
}

#[cfg(target_os = "linux")]
#[test]
fn a_handler_is_told_where_a_datagram_was_really_sent_to() {
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let mut world = World::new();
        let wildcard: SocketAddr = wildcard.parse().unwrap();
        let id = world
            .context()
            .bind_udp(&UdpOptions::new(wildcard))
            .unwrap();
        let port = world.context().udp_addr(id).unwrap().port();
        world.handler.datagram = Some(Box::new(|_, datagram, _| {
            let (to, local) = (datagram.to().unwrap(), datagram.local().unwrap());
            let said = format!("{to} {local} {}", datagram.is_unicast());
            datagram.reply(said.as_bytes());
        }));
        let client = broadcaster();
        for asked in [&["127.0.0.1", "127.0.0.9"], reaching(&wildcard)].concat() {
            let to = SocketAddr::new(asked.parse().unwrap(), port);
            let unicast = !NOT_UNICAST.contains(&asked);
            let local = if unicast { asked } else { "127.0.0.1" };
            let said = String::from_utf8(ask(&mut world, &client, to, b"?")).unwrap();
            assert_eq!(said, format!("{asked} {local} {unicast}"), "{wildcard}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_echo_answers_neither_broadcast_nor_multicast() {
    for wildcard in ["0.0.0.0:0", "[::]:0"] {
        let mut world = echo(EchoOptions::default());
        let wildcard: SocketAddr = wildcard.parse().unwrap();
        let id = world
            .context()
            .bind_udp(&UdpOptions::new(wildcard))
            .unwrap();
        let port = world.context().udp_addr(id).unwrap().port();
        let client = broadcaster();
        for &asked in reaching(&wildcard) {
            client.send_to(b"all of you", (asked, port)).unwrap();
        }
        let sent = reaching(&wildcard).len() as u64;
        world.until("they are refused", |world| {
            world.handler.stats().datagrams_refused() == sent
        });
        assert_eq!(world.handler.stats().datagrams_not_unicast, sent);
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        // The only answer.
        assert_eq!(ask(&mut world, &client, to, b"only you"), b"only you");
        assert_no_answer(&client);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_echo_at_a_broadcast_or_multicast_address_answers_nobody() {
    for own in NOT_UNICAST {
        let mut world = echo(EchoOptions::default());
        let own = SocketAddr::new(own.parse().unwrap(), 0);
        let id = world.context().bind_udp(&UdpOptions::new(own)).unwrap();
        let own = world.context().udp_addr(id).unwrap();
        let client = broadcaster();
        client.send_to(b"all of you", own).unwrap();
        world.until("it is refused", |world| {
            world.handler.stats().datagrams_refused() == 1
        });
        assert_eq!(world.handler.stats().datagrams_not_unicast, 1, "{own}");
        assert_eq!(world.stats().datagrams_out, 0);
    }
}

#[test]
fn a_refused_datagram_on_a_connected_socket_does_not_end_the_loop() {
    let mut world = World::new();
    let dead = UdpSocket::bind(loopback()).unwrap();
    let peer = dead.local_addr().unwrap();
    drop(dead);
    let options = UdpOptions {
        connect_to: Some(peer),
        ..UdpOptions::new(loopback())
    };
    let id = world.context().bind_udp(&options).unwrap();
    let (_, other) = world.bind_udp();
    for round in 1..4 {
        assert_eq!(
            world.context().send_to(id, peer, b"anybody?"),
            SendOutcome::Sent
        );
        world.until("the refusal is there", |world| {
            world.stats().datagram_errors >= round
        });
        assert_eq!(ask(&mut world, &client(), other, b"alive"), b"alive");
    }
    let refused = (id, ErrorKind::ConnectionRefused);
    let told = &world.handler.seen.datagram_errors;
    assert!(
        told.len() >= 3 && told.iter().all(|&one| one == refused),
        "{told:?}"
    );
    // The refused socket works as soon as somebody is there.
    let peer = UdpSocket::bind(peer).unwrap();
    let address = world.context().udp_addr(id).unwrap();
    assert_eq!(ask(&mut world, &peer, address, b"here I am"), b"here I am");
}

#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
#[test]
fn an_error_that_stays_in_the_error_queue_of_an_adopted_socket_is_told_once() {
    use nix::sys::socket::{setsockopt, sockopt};

    let mut world = World::new();
    let dead = UdpSocket::bind(loopback()).unwrap();
    let peer = dead.local_addr().unwrap();
    drop(dead);
    let socket = UdpSocket::bind(loopback()).unwrap();
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
    socket.connect(peer).unwrap();
    let id = world
        .context()
        .adopt_udp(socket, &UdpOptions::new(loopback()))
        .unwrap();
    let sent = world.context().send_to(id, peer, b"anybody?");
    assert_eq!(sent, SendOutcome::Sent);
    world.until("the refusal is there", |world| {
        world.stats().datagram_errors >= 1
    });
    // The socket says "error" for as long as nobody reads its error queue.
    let before = world.stats().events;
    for _ in 0..20 {
        let wait = Some(Duration::from_millis(1));
        world.reactor.turn(&mut world.handler, wait).unwrap();
    }
    assert_eq!(world.stats().events, before);
}

#[test]
fn a_datagram_behind_a_refusal_is_not_left_behind() {
    let mut world = World::new();
    let dead = UdpSocket::bind(loopback()).unwrap();
    let peer = dead.local_addr().unwrap();
    drop(dead);
    let options = UdpOptions {
        connect_to: Some(peer),
        ..UdpOptions::new(loopback())
    };
    let id = world.context().bind_udp(&options).unwrap();
    let address = world.context().udp_addr(id).unwrap();
    world.settle();
    // Both are there before the poll: one event tells of them, and the first receive has the
    // refusal.
    let sent = world.context().send_to(id, peer, b"anybody?");
    assert_eq!(sent, SendOutcome::Sent);
    let peer = UdpSocket::bind(peer).unwrap();
    assert_eq!(ask(&mut world, &peer, address, b"here I am"), b"here I am");
    assert_eq!(world.stats().datagram_errors, 1);
}

#[test]
fn a_turn_receives_no_more_than_its_budget_and_goes_on_in_the_next() {
    let mut world = World::with(Limits {
        datagram_budget: 2,
        ..Limits::default()
    });
    let (_, address) = world.bind_udp();
    let client = client();
    for number in 0..10 {
        client.send_to(&[number], address).unwrap();
    }
    let mut last = 0;
    world.until("all are there", |world| {
        let now = world.handler.seen.datagrams.len();
        assert!(now - last <= 2, "{} in one turn", now - last);
        last = now;
        now == 10
    });
    assert!(world.stats().budget_hits >= 4);
    for number in 0..10 {
        assert_eq!(answer(&mut world, &client), [number]);
    }
}

#[test]
fn a_datagram_too_long_to_send_is_dropped_and_counted() {
    let mut world = World::new();
    let (id, address) = world.bind_udp();
    let outcome = world.context().send_to(id, address, &[0; 70_000]);
    assert!(matches!(outcome, SendOutcome::Failed(_)), "{outcome:?}");
    let stats = world.stats();
    assert_eq!((stats.datagrams_failed, stats.datagrams_out), (1, 0));
    assert_eq!(ask(&mut world, &client(), address, b"on"), b"on");
}

#[test]
fn a_closed_socket_sends_nothing_and_has_no_address() {
    let mut world = World::new();
    let (id, address) = world.bind_udp();
    assert!(world.context().close_udp(id));
    assert!(!world.context().close_udp(id));
    assert_eq!(world.context().udp_addr(id), None);
    let outcome = world.context().send_to(id, address, b"x");
    assert_eq!(outcome, SendOutcome::NoSocket);
    // Its slot is used again: the old id must not reach the new socket.
    let (new, _) = world.bind_udp();
    assert_ne!(new, id);
    let outcome = world.context().send_to(id, address, b"x");
    assert_eq!(outcome, SendOutcome::NoSocket);
}

#[test]
fn a_reactor_knows_its_own_sockets() {
    let mut world = World::new();
    let (_, address) = world.bind_udp();
    let wildcard = SocketAddr::from(([0, 0, 0, 0], 0));
    let id = world
        .context()
        .bind_udp(&UdpOptions::new(wildcard))
        .unwrap();
    let port = world.context().udp_addr(id).unwrap().port();
    let context = world.context();
    assert!(context.is_own_udp(address));
    assert!(context.is_own_udp(SocketAddr::from(([127, 0, 0, 5], port))));
    let mapped = format!("[::ffff:127.0.0.1]:{}", address.port());
    assert!(context.is_own_udp(mapped.parse().unwrap()));
    assert!(!context.is_own_udp(SocketAddr::from(([127, 0, 0, 2], address.port()))));
    assert!(!context.is_own_udp(client().local_addr().unwrap()));
}

fn echo(options: EchoOptions) -> World<Echo> {
    World::of(Limits::default(), Echo::new(options))
}

/// Two echo servers, to one of which so many datagrams come that seem to be the other's. On the
/// wire a forged one is the same: its source is the other's socket, which did not mean it. Back
/// when none is under way any more.
fn set_on_each_other(options: &EchoOptions, forged: u64) -> (World<Echo>, World<Echo>) {
    let (mut a, mut b) = (echo(options.clone()), echo(options.clone()));
    let (of_a, _) = a.bind_udp();
    let (_, address_of_b) = b.bind_udp();
    let start = Instant::now();
    for number in 0..forged {
        let sent = a
            .context()
            .send_to(of_a, address_of_b, &number.to_be_bytes());
        assert_eq!(sent, SendOutcome::Sent);
    }
    a.until("nothing goes round any more", |a| {
        b.turn_for(Duration::ZERO);
        let (ours, theirs) = (a.stats(), b.stats());
        let sent = ours.datagrams_out + theirs.datagrams_out;
        // Of repeats those pass that are not recognised, as another one has their place for a
        // moment.
        let seconds = start.elapsed().as_secs_f64();
        let (rate, at_once, unrecognised) = match options.udp_rate {
            Some(rate) => (rate, (rate / 10).max(1), 0),
            None => (100, 1_000, 20 * forged),
        };
        // Each: what may come at once, then the rate; and those that were forged.
        let each = f64::from(rate) * seconds + f64::from(at_once) + unrecognised as f64;
        let most = 2.0 * each + forged as f64;
        assert!(sent as f64 <= most, "{sent} datagrams in {seconds} s");
        ours.datagrams_in + theirs.datagrams_in == sent
    });
    (a, b)
}

#[test]
fn two_echo_servers_that_a_forged_datagram_sets_on_each_other_keep_to_their_rates() {
    let options = EchoOptions {
        udp_rate: Some(5),
        udp_repeat_rate: None,
        ..EchoOptions::default()
    };
    let (a, b) = set_on_each_other(&options, 3);
    let over = a.handler.stats().datagrams_over_rate + b.handler.stats().datagrams_over_rate;
    assert_eq!(over, 3);
}

#[test]
fn two_echo_servers_that_forged_datagrams_set_on_each_other_come_to_an_end_without_any_rate() {
    // A tenth of the default: a busy machine must be quicker than that.
    let options = EchoOptions {
        udp_repeat_rate: Some(100),
        ..EchoOptions::default()
    };
    for forged in [1, 50] {
        let (a, b) = set_on_each_other(&options, forged);
        let (ours, theirs) = (a.handler.stats(), b.handler.stats());
        let dropped = ours.datagrams_repeated + theirs.datagrams_repeated;
        assert_eq!(dropped, forged);
        let refused = ours.datagrams_refused() + theirs.datagrams_refused();
        assert_eq!(refused, forged);
    }
}

#[test]
fn a_client_that_asks_something_else_each_time_is_held_to_no_repeats() {
    let mut world = echo(EchoOptions {
        udp_repeat_rate: Some(1),
        ..EchoOptions::default()
    });
    let (_, address) = world.bind_udp();
    let client = client();
    for number in 0..2_000_u32 {
        let payload = number.to_be_bytes();
        assert_eq!(ask(&mut world, &client, address, &payload), payload);
    }
    assert_eq!(world.handler.stats().datagrams_refused(), 0);
}

#[test]
fn a_source_over_its_own_rate_does_not_cost_the_others() {
    let mut world = echo(EchoOptions {
        udp_rate_per_source: Some(1),
        ..EchoOptions::default()
    });
    let (_, address) = world.bind_udp();
    let greedy = client();
    for _ in 0..10 {
        greedy.send_to(b"me", address).unwrap();
    }
    let other = UdpSocket::bind("127.0.0.2:0").unwrap();
    assert_eq!(ask(&mut world, &other, address, b"and me"), b"and me");
    assert!(world.handler.stats().datagrams_over_rate >= 1);
}

#[test]
fn a_datagram_from_a_port_of_services_is_not_answered() {
    // To have such a port takes root, and that nobody else has it.
    let Some(service) = (700..1024)
        .rev()
        .find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok())
    else {
        eprintln!("skipped: no port below 1024 may be bound");
        return;
    };
    service.set_nonblocking(true).unwrap();
    let mut world = echo(EchoOptions::default());
    let (_, address) = world.bind_udp();
    service.send_to(b"echo me", address).unwrap();
    // One socket answers in order: when this one has its answer, the other will have none.
    assert_eq!(ask(&mut world, &client(), address, b"me too"), b"me too");
    assert_no_answer(&service);
    assert_eq!(world.handler.stats().datagrams_low_port, 1);
}

#[test]
fn a_datagram_from_our_own_socket_and_one_too_long_are_not_answered() {
    let mut world = echo(EchoOptions {
        max_datagram: Some(10),
        ..EchoOptions::default()
    });
    let (first, _) = world.bind_udp();
    let (second, address) = world.bind_udp();
    assert_eq!(
        world.context().send_to(first, address, b"psst"),
        SendOutcome::Sent
    );
    assert_eq!(
        world.context().send_to(second, address, b"me?"),
        SendOutcome::Sent
    );
    let client = client();
    client.send_to(&[0; 11], address).unwrap();
    assert_eq!(ask(&mut world, &client, address, &[1; 10]), [1; 10]);
    assert_no_answer(&client);
    let stats = world.handler.stats();
    assert_eq!((stats.datagrams_own, stats.datagrams_too_long), (2, 1));
    assert_eq!(stats.datagrams_refused(), 3);
    assert_eq!(world.stats().datagrams_out, 3);
}

#[cfg(target_os = "linux")]
#[test]
fn an_adopted_socket_has_of_its_options_what_can_be_set_now_and_lends_its_descriptor() {
    use nix::sys::socket::{getsockopt, sockopt};

    let (peer, stranger) = (UdpSocket::bind(loopback()), UdpSocket::bind(loopback()));
    let (peer, stranger) = (peer.unwrap(), stranger.unwrap());
    let socket = UdpSocket::bind(loopback()).unwrap();
    let address = socket.local_addr().unwrap();
    let options = UdpOptions {
        connect_to: Some(peer.local_addr().unwrap()),
        recv_buffer: Some(20_000),
        key: 7,
        ..UdpOptions::new(loopback())
    };
    let mut world = World::new();
    let id = world.context().adopt_udp(socket, &options).unwrap();
    let context = world.context();
    assert_eq!(context.udp_addr(id), Some(address));
    assert_eq!(context.udp_key(id), Some(7));
    let fd = context.udp_fd(id).unwrap();
    assert_eq!(getsockopt(&fd, sockopt::RcvBuf).unwrap(), 40_000);
    // It's connected: others are not heard.
    stranger.send_to(b"not me", address).unwrap();
    peer.send_to(b"me", address).unwrap();
    world.until("the peer is heard", |world| {
        !world.handler.seen.datagrams.is_empty()
    });
    world.settle();
    assert_eq!(world.seen().datagrams, [b"me"]);
    world.context().close_udp(id);
    assert!(world.context().udp_fd(id).is_none());
}
