//! The example `proxy_protocol`, over real sockets: the adaptor in front of a probe that writes
//! down what it's told, and the program itself.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/example.rs"]
mod example;
#[allow(dead_code)]
#[path = "../examples/proxy_protocol.rs"]
mod proxied;

use std::cell::RefCell;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use common::{Dice, PATIENCE, Probe, connect, connect_to, loopback};
use example::{Example, command};
use oread::{
    Address, Both, CloseReason, ConnectOptions, Echo, EchoOptions, Ended, Handler, Limits,
    ListenOptions, ListenerId, UdpOptions,
};
use proxied::{Malformed, Proxied, Told, Trust, header};

type World<H = Probe> = common::World<Proxied<H>>;

/// A handler behind the adaptor, which trusts `networks`.
fn world<H: Handler>(inner: H, networks: &[&str]) -> World<H> {
    let networks = networks.iter().map(|text| text.parse().unwrap());
    let trust = Trust {
        networks: networks.collect(),
        unix: false,
    };
    let proxied = Proxied {
        inner,
        trust,
        refuse_others: false,
    };
    World::of(Limits::default(), proxied)
}

/// Whom the inner handler was told of, and at which listener.
type Callers = Rc<RefCell<Vec<(ListenerId, Address)>>>;

/// A probe that is told of its callers, trusts this machine and listens.
fn trusting() -> (World, Callers, SocketAddr) {
    let mut world = world(Probe::default(), &["127.0.0.0/8"]);
    let callers = Callers::default();
    let told = callers.clone();
    world.handler.inner.accept = Some(Box::new(move |_, _, caller| {
        let told = &mut told.borrow_mut();
        told.push((caller.listener, caller.peer.clone()));
        Some(told.len() as u64)
    }));
    let (_, address) = world.listen();
    (world, callers, address)
}

/// A header of version 2.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    let start = [0x20 | command, family, length[0], length[1]];
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &start, block].concat()
}

/// The block of one of TCP over IPv6, from 2001:db8::1, port 5555.
fn v6_block() -> Vec<u8> {
    let from: Ipv6Addr = "2001:db8::1".parse().unwrap();
    [&from.octets(), &[0; 16][..], &[0x15, 0xb3, 0, 80]].concat()
}

const V4_BLOCK: [u8; 12] = [192, 0, 2, 1, 127, 0, 0, 1, 0x15, 0xb3, 0, 80];
const TCP4: &[u8] = b"PROXY TCP4 192.0.2.1 127.0.0.1 5555 80\r\n";

/// Headers of all kinds, and whom they tell of.
fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let (v4, v6) = ("192.0.2.1:5555", "[2001:db8::1]:5555");
    let local = [&V4_BLOCK[..], &[4, 0, 1, 0]].concat(); // and a TLV
    let most = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {most} {most} 65535 65535\r\n");
    assert_eq!(longest.len(), 107);
    vec![
        (TCP4.to_vec(), Some(v4)),
        (b"PROXY TCP6 2001:db8::1 ::1 5555 80\r\n".to_vec(), Some(v6)),
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 ::1 5555 0\r\n".to_vec(),
            Some(v4),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN a b c d e f g \r\xff\r\n".to_vec(), None),
        (longest.into_bytes(), None),
        (binary(1, 0x11, &V4_BLOCK), Some(v4)),
        (binary(1, 0x11, &local), Some(v4)),
        (binary(1, 0x21, &v6_block()), Some(v6)),
        (
            binary(1, 0x11, &[&V4_BLOCK[..], &[0; 4068]].concat()),
            Some(v4),
        ),
        (binary(0, 0x11, &V4_BLOCK), None),
        (binary(0, 0xff, &[]), None),
        (binary(1, 0, &[1, 2, 3]), None),
        (binary(1, 0x12, &V4_BLOCK), None),
        (binary(1, 0x31, &[0; 216]), None),
    ]
}

/// What is no header, and how much of it shows that.
fn malformed() -> Vec<Vec<u8>> {
    let texts = [
        "GET / HTTP/1.1\r\n",
        "PRAXY",
        "proxy TCP4 192.0.2.1 127.0.0.1 5555 80\r\n",
        "PROXY TCP5 192.0.2.1 127.0.0.1 5555 80\r\n",
        "PROXY TCP4 2001:db8::1 ::1 5555 80\r\n",
        "PROXY TCP4 192.0.2.1 ::1 5555 80\r\n",
        "PROXY TCP6 192.0.2.1 127.0.0.1 5555 80\r\n",
        "PROXY TCP4 192.0.2.256 127.0.0.1 5555 80\r\n",
        "PROXY TCP4 192.0.2.1 127.0.0.1 65536 80\r\n",
        "PROXY TCP4 192.0.2.1 127.0.0.1 05555 80\r\n",
        "PROXY TCP4 192.0.2.1 127.0.0.1 5555 +80\r\n",
        "PROXY TCP4 192.0.2.1 127.0.0.1 5555\r\n",
        "PROXY TCP4 192.0.2.1 127.0.0.1 5555 80 \r\n",
        "PROXY TCP4  192.0.2.1 127.0.0.1 5555 80\r\n",
        "PROXY TCP4 192.0.2.1 127.0.0.1 5555 80\n\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
    ];
    let texts = texts.map(|text| text.as_bytes().to_vec());
    let long = |count: usize| [b"PROXY UNKNOWN", &vec![b' '; count - 13][..]].concat();
    let mut others = vec![
        // The 107th byte can't be the last one of it any more.
        [&long(106)[..], b"\r\n"].concat(),
        long(107),
        [&TCP4[..11], b"\xff 127.0.0.1 5555 80\r\n"].concat(),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        binary(2, 0x11, &V4_BLOCK),
        binary(1, 0x11, &V4_BLOCK[..11]),
        binary(1, 0x21, &v6_block()[..35]),
        binary(1, 0x41, &V4_BLOCK),
        binary(1, 0x13, &V4_BLOCK),
        binary(0, 0, &[0; 4081])[..16].to_vec(),
    ];
    let mut newer = binary(1, 0x11, &V4_BLOCK);
    newer[12] = 0x31;
    others.push(newer);
    others.extend(texts);
    others
}

#[test]
fn a_header_is_incomplete_until_its_last_byte_and_ends_there() {
    for (bytes, told) in headers() {
        let shown = bytes.escape_ascii();
        for cut in 0..bytes.len() {
            assert_eq!(header(&bytes[..cut]), Ok(None), "{cut} bytes of {shown}");
        }
        let whole = Ok(Some((bytes.len(), told.map(|it| it.parse().unwrap()))));
        let from = |(length, told): (usize, Option<Told>)| (length, told.map(|told| told.from));
        assert_eq!(header(&bytes).map(|it| it.map(from)), whole, "{shown}");
        let more = [&bytes[..], b"\r\nPROXY"].concat();
        assert_eq!(header(&more).map(|it| it.map(from)), whole, "{shown}");
    }
}

#[test]
fn what_is_no_header_is_malformed_and_no_bytes_are_too_much_for_it() {
    for bytes in malformed() {
        assert_eq!(header(&bytes), Err(Malformed), "{}", bytes.escape_ascii());
    }
    // What begins like one, with some bytes changed, has an answer; and a longer piece never takes
    // back that it's no header, or what the header is.
    let mut dice = Dice(1);
    let headers: Vec<_> = headers().into_iter().map(|(bytes, _)| bytes).collect();
    let mut seen = [0; 3];
    for _ in 0..20_000 {
        let mut bytes = headers[dice.roll(headers.len() as u64) as usize].clone();
        for _ in 0..dice.roll(4) {
            let at = dice.roll(bytes.len().min(120) as u64) as usize;
            bytes[at] = dice.roll(256) as u8;
        }
        let cut = dice.roll(bytes.len() as u64 + 1) as usize;
        let (less, more) = (header(&bytes[..cut]), header(&bytes));
        assert!(less == more || less == Ok(None), "{}", bytes.escape_ascii());
        seen[more.map_or(2, |it| usize::from(it.is_some()))] += 1;
    }
    assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
}

#[test]
fn a_header_that_is_cut_anywhere_tells_the_inner_handler_who_calls_and_what_follows() {
    let (mut world, callers, address) = trusting();
    for (bytes, told) in headers().into_iter().filter(|(bytes, _)| bytes.len() < 200) {
        let all = [&bytes[..], b"hello"].concat();
        for cut in 1..all.len() {
            let before = world.stats().bytes_in;
            let count = callers.borrow().len();
            let mut client = connect(address);
            client.write_all(&all[..cut]).unwrap();
            world.until("the first piece has come", |world| {
                world.stats().bytes_in == before + cut as u64
            });
            let has_come = cut >= bytes.len();
            assert_eq!(callers.borrow().len(), count + usize::from(has_come));
            client.write_all(&all[cut..]).unwrap();
            assert_eq!(world.receive(&mut client, 5), b"hello");
            let real = client.local_addr().unwrap();
            let told = told.map_or(real, |told| told.parse().unwrap());
            assert_eq!(callers.borrow()[count].1, told.into());
            assert_eq!(callers.borrow().len(), count + 1);
        }
    }
    let inner = &world.handler.inner.seen;
    assert_eq!(inner.bytes, b"hello".repeat(inner.opened.len()));
    assert_eq!(inner.opened.len(), callers.borrow().len());
    assert!(inner.timers.is_empty(), "the header's own timer was told");
}

#[test]
fn the_inner_handler_is_told_the_listener_that_was_called() {
    let (mut world, callers, _) = trusting();
    let (second, address) = world.listen();
    let mut client = connect(address);
    client.write_all(&[TCP4, b"hello"].concat()).unwrap();
    assert_eq!(world.receive(&mut client, 5), b"hello");
    assert_eq!(callers.borrow()[0].0, second);
}

#[test]
fn a_peer_that_has_finished_right_behind_its_header_is_served_and_told_the_end() {
    let (mut world, _, address) = trusting();
    for (count, said) in ["hello", ""].iter().enumerate() {
        let mut client = connect(address);
        client.write_all(&[TCP4, said.as_bytes()].concat()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        // Only now is it accepted, and all has come.
        let (bytes, end) = world.receive_to_end(&mut client);
        assert_eq!((bytes, end.ok()), (said.as_bytes().to_vec(), Some(())));
        world.until("it is closed", |world| {
            world.handler.inner.seen.closed.len() > count
        });
        let seen = &world.handler.inner.seen;
        assert_eq!(seen.rests, vec![b""; count + 1]);
        assert_eq!(seen.closed[count].2, CloseReason::Finished);
        assert_eq!(seen.closed[count].1, count as u64 + 1, "its own session");
    }
}

/// Turns until `client` is reset, having got nothing.
fn until_reset<H: Handler>(world: &mut World<H>, client: &mut TcpStream) {
    let (bytes, end) = world.receive_to_end(client);
    let kind = end.map_err(|error| error.kind());
    assert_eq!((bytes, kind), (vec![], Err(ErrorKind::ConnectionReset)));
}

#[test]
fn what_is_no_header_resets_the_connection_and_the_inner_handler_hears_nothing() {
    let (mut world, callers, address) = trusting();
    for bytes in malformed() {
        let mut client = connect(address);
        client.write_all(&bytes).unwrap();
        until_reset(&mut world, &mut client);
    }
    // So does an end before the header's.
    for cut in [0, 1, TCP4.len() - 1] {
        let mut client = connect(address);
        client.write_all(&TCP4[..cut]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        until_reset(&mut world, &mut client);
    }
    world.until("all are closed", |world| world.stats().open == 0);
    let seen = &world.handler.inner.seen;
    let told = (callers.borrow().len(), seen.opened.len(), seen.closed.len());
    assert_eq!(told, (0, 0, 0));
}

#[test]
fn a_header_of_someone_not_trusted_is_their_own_words() {
    let mut world = world(Probe::default(), &["10.0.0.0/8", "127.0.0.2", "::/0"]);
    let (_, address) = world.listen();
    let mut client = connect(address);
    assert_eq!(world.exchange(&mut client, TCP4), TCP4);
    world.handler.refuse_others = true;
    let mut client = connect(address);
    let (bytes, _) = world.receive_to_end(&mut client);
    assert_eq!((bytes.len(), world.stats().refused), (0, 1));
}

#[test]
fn callers_at_a_unix_socket_are_trusted_if_that_is_said() {
    let (mut world, callers, _) = trusting();
    let options = ListenOptions::new(Address::unix(""));
    let id = world.context().listen(&options).unwrap();
    let address = world.context().listener_addr(id).unwrap();
    let mut client = connect_to(&address);
    assert_eq!(world.exchange(&mut client, TCP4), TCP4);
    world.handler.trust.unix = true;
    let mut client = connect_to(&address);
    client.write_all(&[TCP4, b"hello"].concat()).unwrap();
    assert_eq!(world.receive(&mut client, 5), b"hello");
    let told = SocketAddr::from(([192, 0, 2, 1], 5555));
    assert_eq!(callers.borrow()[1].1, Address::from(told));
}

#[test]
fn an_inner_handler_that_pauses_or_writes_a_lot_at_first_has_the_rest_later() {
    let (mut world, _, address) = trusting();
    world.handler.inner.open = Some(Box::new(|_, connection| connection.pause()));
    let mut client = connect(address);
    client.write_all(&[TCP4, b"hello"].concat()).unwrap();
    world.until("it is open", |world| {
        !world.handler.inner.seen.opened.is_empty()
    });
    world.settle();
    assert_eq!(world.handler.inner.seen.bytes, b"");
    let id = world.handler.inner.seen.opened[0];
    world.connection(id).unwrap().resume();
    assert_eq!(world.receive(&mut client, 5), b"hello");

    let much = vec![b'x'; 8 << 20];
    let words = much.clone();
    world.handler.inner.open = Some(Box::new(move |_, connection| _ = connection.write(&words)));
    let mut client = connect(address);
    client.write_all(&[TCP4, b"again"].concat()).unwrap();
    world.until("it is under pressure", |world| world.stats().pending > 0);
    world.settle();
    assert_eq!(world.handler.inner.seen.bytes, b"hello");
    let came = world.receive(&mut client, much.len() + 5);
    assert!(came == [&much[..], b"again"].concat());

    // One that reads on although its peer doesn't read is not kept waiting for that.
    world.handler.inner.open = Some(Box::new(move |_, connection| {
        connection.read_on(true);
        connection.write(&much);
    }));
    let mut client = connect(address);
    client.write_all(&[TCP4, b" and on"].concat()).unwrap();
    world.until("the rest is heard", |world| {
        world.handler.inner.seen.bytes.ends_with(b" and on")
    });
    assert!(world.stats().pending > 0);
}

#[test]
fn no_timer_is_left_when_a_header_has_come_or_is_not_waited_for_any_more() {
    let (mut world, _, address) = trusting();
    let mut client = connect(address);
    client.write_all(&TCP4[..9]).unwrap();
    world.until("it has called", |world| world.stats().bytes_in > 0);
    assert!(world.reactor.next_timeout().is_some());
    client.write_all(&[&TCP4[9..], b"hello"].concat()).unwrap();
    assert_eq!(world.receive(&mut client, 5), b"hello");
    world.settle();
    assert_eq!(world.reactor.next_timeout(), None);

    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.1").unwrap();
    until_reset(&mut world, &mut client);
    world.settle();
    assert_eq!(world.reactor.next_timeout(), None);
}

#[test]
fn an_inner_handler_that_refuses_or_closes_is_obeyed() {
    let (mut world, _, address) = trusting();
    world.handler.inner.open = Some(Box::new(|_, connection| {
        connection.write(b"no\n");
        connection.close(CloseReason::Other(7));
    }));
    let mut client = connect(address);
    client.write_all(&[TCP4, b"hello"].concat()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (bytes, end) = world.receive_to_end(&mut client);
    assert_eq!((bytes.as_slice(), end.ok()), (&b"no\n"[..], Some(())));
    world.until("it is closed", |world| world.stats().open == 0);
    let seen = &world.handler.inner.seen;
    assert_eq!(seen.closed[0].2, CloseReason::Other(7));
    assert_eq!(seen.bytes, b"", "it had closed");

    world.handler.inner.accept = Some(Box::new(|_, _, _| None));
    let mut client = connect(address);
    client.write_all(&[TCP4, b"hello"].concat()).unwrap();
    until_reset(&mut world, &mut client);
    assert_eq!(world.handler.inner.seen.opened.len(), 1);
}

#[test]
fn timers_messages_dials_and_datagrams_are_the_inner_handler_s() {
    let (mut world, _, _) = trusting();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let dial = ConnectOptions::new(upstream.local_addr().unwrap());
    let World {
        reactor, handler, ..
    } = &mut world;
    let handle = reactor.handle();
    let mut context = reactor.context();
    let (udp, dialed) = handler.with_inner(&mut context, |_, context| {
        context.timer(Duration::ZERO, 7);
        let udp = context.bind_udp(&UdpOptions::new(loopback())).unwrap();
        (udp, context.connect(&dial, 99).unwrap())
    });
    let udp = world.context().udp_addr(udp).unwrap();
    let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
    asker.send_to(b"ping", udp).unwrap();
    handle.send(5).unwrap();
    let (mut server, _) = upstream.accept().unwrap();
    server.write_all(b"hello").unwrap();
    assert_eq!(world.receive(&mut server, 5), b"hello");
    drop(server);
    world.until("all is told", |world| {
        let seen = &world.handler.inner.seen;
        let told = seen.timers == [7] && seen.messages == [5] && seen.datagrams == [b"ping"];
        told && seen.closed.len() == 1
    });
    assert_eq!(world.handler.inner.seen.opened, [dialed]);
    let (id, session, _) = world.handler.inner.seen.closed[0];
    assert_eq!((id, session), (dialed, 99));

    // One that fails gives the session back.
    drop(upstream);
    let World {
        reactor, handler, ..
    } = &mut world;
    let mut context = reactor.context();
    let failed = handler.with_inner(&mut context, |_, context| context.connect(&dial, 98));
    let failed = failed.unwrap();
    world.until("the dial has failed", |world| {
        !world.handler.inner.seen.failed.is_empty()
    });
    let told = (failed, 98, ErrorKind::ConnectionRefused);
    assert_eq!(world.handler.inner.seen.failed, [told]);
}

#[test]
fn a_drain_tells_the_inner_handler_of_its_own_connections_only() {
    let (mut world, _, address) = trusting();
    let (mut served, mut waits) = (connect(address), connect(address));
    served.write_all(&[TCP4, b"hello"].concat()).unwrap();
    waits.write_all(&TCP4[..20]).unwrap();
    assert_eq!(world.receive(&mut served, 5), b"hello");
    // What has come is shown in a drain too, behind a header that comes with it.
    let mut late = connect(address);
    late.write_all(&[TCP4, b"late"].concat()).unwrap();
    world.context().drain(PATIENCE);
    for stream in [&served, &waits, &late] {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    let mut ended = None;
    world.until("it has drained", |world| {
        ended = world.turn().ended;
        ended.is_some()
    });
    assert_eq!(ended, Some(Ended::Drained { cut: 0 }));
    let mut came = String::new();
    late.read_to_string(&mut came).unwrap();
    assert_eq!(came, "late");
    assert_eq!(world.handler.inner.seen.opened.len(), 2);
    assert_eq!(world.handler.inner.seen.closed.len(), 2);
}

/// Allocations of a hundred callers who send `words`, of which the last byte is answered.
fn allocations(trusted: &[&str], words: &[u8]) -> u64 {
    let mut world = world(Echo::new(EchoOptions::default()), trusted);
    let (_, address) = world.listen();
    let mut round = || {
        let mut client = connect(address);
        client.write_all(words).unwrap();
        world.receive(&mut client, 1);
        drop(client);
        world.until("it is gone", |world| world.stats().open == 0);
    };
    (0..10).for_each(|_| round());
    measure(|| (0..100).for_each(|_| round())).count_total
}

#[test]
fn a_header_that_comes_in_one_read_allocates_nothing() {
    let without = allocations(&[], b"x");
    for (bytes, _) in headers() {
        let with = allocations(&["127.0.0.0/8"], &[&bytes[..], b"x"].concat());
        assert_eq!(with, without, "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_program_tells_callers_where_they_come_from_and_resets_who_sends_no_header() {
    let program = ["127.0.0.1:0", "--trust", "127.0.0.0/8"];
    let example = Example::start("proxy_protocol", &program);
    let called = Instant::now();
    let mut silent = connect(example.address);
    let mut client = connect(example.address);
    client.write_all(&[TCP4, b"hello\n"].concat()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut came = String::new();
    client.read_to_string(&mut came).unwrap();
    assert_eq!(came, "192.0.2.1:5555\nhello\n");
    let error = silent.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(called.elapsed() >= Duration::from_secs(5));
}

#[test]
fn the_program_serves_or_refuses_who_is_not_trusted() {
    let example = Example::start("proxy_protocol", &["127.0.0.1:0"]);
    let mut client = connect(example.address);
    let own = client.local_addr().unwrap();
    client.write_all(TCP4).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut came = String::new();
    client.read_to_string(&mut came).unwrap();
    let echoed = std::str::from_utf8(TCP4).unwrap();
    assert_eq!(came, format!("{own}\n{echoed}"));

    let example = Example::start("proxy_protocol", &["127.0.0.1:0", "--refuse-others"]);
    let came = connect(example.address).read(&mut [0]);
    assert!(came.is_err() || came.is_ok_and(|count| count == 0));
}

#[test]
fn the_program_says_what_is_wrong_with_its_arguments() {
    for (words, why) in [
        (&[] as &[&str], "where to listen?"),
        (&["127.0.0.1"], "no address with a port"),
        (
            &["127.0.0.1:0", "--trust", "10.0.0.0/33"],
            "\"10.0.0.0/33\" is no network",
        ),
        (&["127.0.0.1:0", "--trust", "home"], "is no network"),
        (&["127.0.0.1:0", "--trust"], "--trust whom?"),
        (&["127.0.0.1:0", "127.0.0.1:0"], "what is"),
    ] {
        let output = command("proxy_protocol").args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why) && said.contains("usage: "), "{said}");
    }
}

#[test]
fn the_inner_handler_is_told_where_the_connection_went_to() {
    let mut world = world(Probe::default(), &["127.0.0.0/8"]);
    let told = Rc::new(RefCell::new(Vec::new()));
    let heard = told.clone();
    world.handler.inner.accept = Some(Box::new(move |_, _, caller| {
        heard.borrow_mut().push(caller.local_addr().unwrap());
        Some(1)
    }));
    let (_, address) = world.listen();
    let mut clients = Vec::new();
    for (header, to) in [
        (TCP4.to_vec(), "127.0.0.1:80".parse().unwrap()),
        (binary(1, 0x21, &v6_block()), "[::]:80".parse().unwrap()),
        (binary(1, 0x11, &V4_BLOCK), "127.0.0.1:80".parse().unwrap()),
        // It tells of nothing, so the system does.
        (b"PROXY UNKNOWN\r\n".to_vec(), address),
    ] {
        let mut client = connect(address);
        client.write_all(&header).unwrap();
        clients.push(client);
        world.until("it's told", |_| told.borrow().len() == clients.len());
        assert_eq!(told.borrow().last(), Some(&Address::from(to)));
    }
}

type Two = Both<Probe, Echo>;

/// Two handlers behind one adaptor, each with a listener; the first one says that it's the first.
fn two() -> (World<Two>, [(ListenerId, SocketAddr); 2]) {
    let both = Both::new(Probe::default(), Echo::new(EchoOptions::default()));
    let mut world = world(both, &["127.0.0.0/8"]);
    let options = ListenOptions::new(loopback());
    let (proxied, mut context) = (&mut world.handler, world.reactor.context());
    let first = proxied.with_inner(&mut context, |both, context| {
        both.with_first(context, |_, context| context.listen(&options))
    });
    let second = proxied.with_inner(&mut context, |both, context| {
        both.with_second(context, |_, context| context.listen(&options))
    });
    let listeners = [first, second].map(|id| {
        let id = id.unwrap();
        let address = context.listener_addr(id).unwrap();
        (id, address.socket_addr().unwrap())
    });
    world.handler.inner.first.data = Some(Box::new(|_, connection, data| {
        connection.write(b"first: ");
        connection.write(data);
        data.len()
    }));
    (world, listeners)
}

#[test]
fn two_handlers_behind_one_adaptor_have_each_the_callers_of_their_own_listeners() {
    let (mut world, listeners) = two();
    for ((_, address), answer) in listeners.into_iter().zip(["first: hello", "hello"]) {
        let mut client = connect(address);
        client.write_all(&[TCP4, b"hello"].concat()).unwrap();
        let got = world.receive(&mut client, answer.len());
        assert_eq!(got, answer.as_bytes());
    }
}

#[test]
fn who_waits_when_a_drain_begins_has_the_handler_of_the_listener_that_is_gone() {
    let (mut world, listeners) = two();
    let mut clients = listeners.map(|(_, address)| {
        let mut client = connect(address);
        client.write_all(&[TCP4, b"hello"].concat()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    world.context().drain(PATIENCE);
    world.until("it has drained", |world| world.turn().ended.is_some());
    for (client, answer) in clients.iter_mut().zip(["first: hello", "hello"]) {
        let mut came = String::new();
        client.read_to_string(&mut came).unwrap();
        assert_eq!(came, answer);
    }
}

#[test]
fn who_has_called_before_their_listener_was_released_has_its_handler_still() {
    let (mut world, listeners) = two();
    let mut clients = listeners.map(|(_, address)| connect(address));
    world.until("both are taken on", |world| world.stats().accepted == 2);
    for (id, _) in listeners {
        assert!(world.context().release_listener(id));
    }
    for (client, answer) in clients.iter_mut().zip(["first: hello", "hello"]) {
        client.write_all(&[TCP4, b"hello"].concat()).unwrap();
        assert_eq!(world.receive(client, answer.len()), answer.as_bytes());
    }
}
