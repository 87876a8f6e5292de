//! What a simulated world promises to whoever tests a handler in it.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/hosts.rs"]
mod hosts;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Fault, Host, Peer, Poller, World};
use oread::{
    Accepted, Address, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Echo,
    EchoOptions, Handle, Handler, Limits, ListenOptions, UdpOptions,
};

use hosts::{SECOND, address, echo};

#[test]
fn a_reactor_that_looks_before_it_sleeps_comes_to_an_end_and_answers() {
    let spin = Duration::from_micros(300);
    let limits = Limits {
        spin,
        ..Limits::default()
    };
    let mut world = World::new(3);
    let mut echo = echo(&mut world, limits);
    let peer = world.connect(address());
    for round in 1..20 {
        peer.send(b"hello");
        world.settle(&mut echo).unwrap();
        assert_eq!(peer.received().len(), 5 * round);
        world.advance(&mut echo, 5 * spin).unwrap();
    }
}

/// Posts to itself whenever it has a message.
struct Busy(Option<Handle<()>>);

impl Handler for Busy {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_message(&mut self, _: &mut Context<'_, ()>, (): ()) {
        if let Some(handle) = &self.0 {
            let _full = handle.send(());
        }
    }
}

#[test]
fn a_host_that_is_busy_with_nothing_for_good_is_an_error_that_says_so() {
    let mut world = World::new(4);
    let mut busy = world.host(Busy(None), Limits::default()).unwrap();
    let handle = busy.handle();
    assert!(handle.send(()).is_ok());
    world.settle(&mut busy).unwrap();
    busy.handler.0 = Some(handle.clone());
    assert!(handle.send(()).is_ok());
    for _ in 0..2 {
        let error = world.advance(&mut busy, SECOND).unwrap_err();
        let spins = "a host spins; h0 has events of its waker (a message of a Handle)";
        assert!(error.to_string().contains(spins), "{error}");
    }
}

#[test]
fn a_wait_for_hosts_is_lent_one_of_them_or_several() {
    let mut world = World::new(5);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    let is_open = |echo: &mut Host<Echo>| echo.context().stats().open == 1;
    world.until(&mut echo, is_open).unwrap();
    let mut client = world.host(Busy(None), Limits::default()).unwrap();
    let dial = ConnectOptions::new(address());
    client.context().connect(&dial, ()).unwrap();
    peer.send(b"hello");
    let both = &mut (&mut client, &mut echo);
    world
        .until(both, |(client, echo)| {
            client.context().stats().open == 1 && echo.context().stats().bytes_in == 5
        })
        .unwrap();
    let error = world.until(&mut echo, |_| false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    client.handle().send(()).unwrap();
    let error = world.until(&mut echo, |_| false).unwrap_err().to_string();
    let busy = "day; h1 has events of its waker (a message of a Handle), and is not among the";
    assert!(error.contains(busy), "{error}");
}

#[test]
fn a_peer_finishes_when_it_is_told_to_also_at_the_others_end() {
    let mut world = World::new(5);
    let mut host = world.host(Lines::default(), Limits::default()).unwrap();
    host.context()
        .listen(&ListenOptions::new(address()))
        .unwrap();
    let (stays, goes) = (world.connect(address()), world.connect(address()));
    goes.finish_at_end();
    world.settle(&mut host).unwrap();
    for id in host.context().connections().collect::<Vec<_>>() {
        host.context().connection(id).unwrap().finish();
    }
    world.settle(&mut host).unwrap();
    assert!(stays.has_ended() && goes.has_ended());
    assert_eq!(host.handler.closed, [CloseReason::Finished]);
    stays.finish_at_end();
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.closed, [CloseReason::Finished; 2]);
}

#[test]
fn what_a_test_holds_is_shown_in_a_line() {
    let mut world = World::new(5);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    assert!(format!("{peer:?}").ends_with(" -> 10.0.0.1:7, sent 0, got 0, not connected)"));
    peer.send(b"hello");
    world.settle(&mut echo).unwrap();
    let from = peer.local_addr().unwrap();
    let shown = format!("Peer(c0.0, {from} -> 10.0.0.1:7, sent 5, got 5)");
    assert_eq!(format!("{peer:?}"), shown);
    assert_eq!(format!("{echo:?}"), "Host(h0, 2 sockets)");
    assert_eq!(format!("{:?}", echo.process()), "Process(h0, 2 sockets)");
    peer.finish();
    world.settle(&mut echo).unwrap();
    let shown = format!("Peer(c0.0, {from} -> 10.0.0.1:7, sent 5, got 5, ended)");
    assert_eq!(format!("{peer:?}"), shown);
    let at = ([10, 0, 0, 2], 9).into();
    let (server, udp) = (world.listen(at), world.udp(at));
    assert_eq!(format!("{server:?}"), "Listener(10.0.0.2:9, 0 to accept)");
    assert_eq!(format!("{udp:?}"), "UdpPeer(u0, 10.0.0.2:9, got 0)");
    let world = format!("{world:?}");
    assert!(world.starts_with("World(seed=5, Net("), "{world}");
    assert!(world.ends_with("hosts: 1, connections: 0))"), "{world}");
}

#[test]
#[should_panic(expected = "counted from 1")]
fn a_fault_at_no_chance_is_refused() {
    World::new(1).fault(Fault::ReadShort, 0);
}

#[test]
#[should_panic(expected = "`World::unleash` is to be called before the first host is made")]
fn faults_that_are_unleashed_on_a_host_that_is_there_already_are_refused() {
    let mut world = World::new(1);
    let _echo = echo(&mut world, Limits::default());
    world.unleash();
}

#[test]
fn a_host_that_is_turned_in_another_world_than_its_own_is_told_as_such() {
    let (mut here, mut there) = (World::new(1), World::new(1));
    let mut echo = echo(&mut there, Limits::default());
    let peer = here.connect(address());
    peer.expect(b"hello");
    let told = here.settle(&mut (&mut echo, ())).unwrap_err().to_string();
    let why = "a host is turned in another world than the one that made it";
    assert!(told.starts_with(why) && !peer.was_refused(), "{told}");
    there.settle(&mut echo).unwrap();
}

#[test]
fn a_world_that_is_calmed_moves_whatever_can_still_move() {
    let mut world = World::new(6);
    world.fault_rate(Fault::SegmentLost, 1_000_000);
    world.fault_rate(Fault::ReadInterrupted, 1_000_000);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    peer.send(b"hello");
    world.advance(&mut echo, 10 * SECOND).unwrap();
    assert_eq!(peer.received(), b"");
    world.calm();
    world.settle(&mut echo).unwrap();
    assert_eq!(peer.received(), b"hello");
    assert_eq!(world.faults_met(), [Fault::SegmentLost]);
}

#[test]
fn latency_and_bandwidth_hold_for_connections_that_are_there() {
    let mut world = World::new(7);
    world.latency(SECOND..=SECOND);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    let is_open = |echo: &mut Host<Echo>| echo.context().stats().open == 1;
    world.until(&mut echo, is_open).unwrap();
    let took = |world: &mut World, echo: &mut Host<Echo>, count: usize| {
        let (start, before) = (world.now(), peer.received().len());
        peer.send(&vec![7; count]);
        let all = |_: &mut Host<Echo>| peer.received().len() == before + count;
        world.until(echo, all).unwrap();
        world.now() - start
    };
    let slow = took(&mut world, &mut echo, 1);
    assert!((2 * SECOND..3 * SECOND).contains(&slow), "{slow:?}");
    world.latency(Duration::ZERO..=SECOND / 1000);
    world.settle(&mut echo).unwrap();
    let quick = took(&mut world, &mut echo, 1);
    assert!(quick < SECOND / 100, "{quick:?}");
    world.bandwidth(1000);
    let narrow = took(&mut world, &mut echo, 4000);
    assert!((4 * SECOND..10 * SECOND).contains(&narrow), "{narrow:?}");
}

#[test]
fn two_hosts_are_parted_until_they_are_healed_and_a_host_that_vanishes_is_given_up() {
    let mut world = World::new(8);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut echo).unwrap();
    let other = peer.local_addr().unwrap().ip();
    world.partition(address().ip(), other);
    peer.send(b"hello");
    world.advance(&mut echo, SECOND).unwrap();
    assert_eq!(echo.context().stats().bytes_in, 0);
    world.heal(other, address().ip());
    world
        .until(&mut echo, |_| peer.received() == b"hello")
        .unwrap();
    world.vanish(other);
    // It waits for nothing of that peer's: what is sent is never acknowledged.
    for id in echo.context().connections().collect::<Vec<_>>() {
        echo.context().connection(id).unwrap().write(b"?");
    }
    let over = |echo: &mut Host<Echo>| echo.context().stats().open == 0;
    world.until(&mut echo, over).unwrap();
    assert_eq!(peer.received(), b"hello");
}

#[test]
fn a_host_that_listens_dials_from_there_and_is_parted_and_vanishes_by_that_address() {
    let mut world = World::new(8);
    let mut echo = echo(&mut world, Limits::default());
    let mut caller = world.host(Caller::default(), Limits::default()).unwrap();
    let there = SocketAddr::from(([10, 0, 0, 2], 7));
    let listen = ListenOptions::new(there);
    caller.context().listen(&listen).unwrap();
    let dial = ConnectOptions::new(address());
    world.partition(there.ip(), address().ip());
    caller.context().connect(&dial, ()).unwrap();
    world
        .advance(&mut (&mut echo, &mut caller), 3 * SECOND)
        .unwrap();
    assert_eq!((caller.handler.heard, echo.context().stats().open), (0, 0));
    world.heal(there.ip(), address().ip());
    world
        .advance(&mut (&mut echo, &mut caller), 60 * SECOND)
        .unwrap();
    assert_eq!(caller.handler.heard, 3000);
    let accepted = echo.context().stats().accepted;
    world.vanish(there.ip());
    caller.context().connect(&dial, ()).unwrap();
    world
        .advance(&mut (&mut echo, &mut caller), 60 * SECOND)
        .unwrap();
    assert_eq!(echo.context().stats().accepted, accepted);
}

#[test]
#[should_panic(expected = "no host has the address 10.0.0.9 (those that hosts have: 10.0.0.1)")]
fn a_partition_from_a_host_that_is_not_there_is_told() {
    let mut world = World::new(8);
    let _echo = echo(&mut world, Limits::default());
    world.partition(address().ip(), [10, 0, 0, 9].into());
}

#[test]
fn one_in_so_many_datagrams_is_lost() {
    let mut world = World::new(9);
    let (from, to) = (([10, 0, 0, 2], 9).into(), ([10, 0, 0, 3], 9).into());
    let (sender, receiver) = (world.udp(from), world.udp(to));
    world.loss(4);
    (0..1000).for_each(|_| sender.send_to(to, b"x"));
    world.settle(&mut ()).unwrap();
    let came = receiver.received().len();
    assert!((650..850).contains(&came), "{came}");
}

/// What is lent is a descriptor, so that a handler runs as it is, and no socket.
#[test]
fn options_of_a_simulated_descriptor_say_that_it_is_no_socket() {
    use nix::sys::socket::{getsockopt, sockopt::RcvBuf};

    let none = Err(nix::errno::Errno::ENOTSOCK);
    let mut world = World::new(10);
    let mut caller = world.host(Caller::default(), Limits::default()).unwrap();
    let mut context = caller.context();
    let listener = context.listen(&ListenOptions::new(address())).unwrap();
    let udp = context.bind_udp(&UdpOptions::new(address())).unwrap();
    assert_eq!(
        getsockopt(&context.listener_fd(listener).unwrap(), RcvBuf),
        none
    );
    assert_eq!(getsockopt(&context.udp_fd(udp).unwrap(), RcvBuf), none);
    let id = context
        .connect(&ConnectOptions::new(address()), ())
        .unwrap();
    let connection = context.connection(id).unwrap();
    assert_eq!(getsockopt(&connection, RcvBuf), none);
}

#[test]
fn what_cannot_be_simulated_says_so() {
    let mut world = World::new(10);
    let mut echo = echo(&mut world, Limits::default());
    let real = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(real.local_addr().unwrap()).unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut source = mio::net::UdpSocket::bind(address_of_nobody()).unwrap();
    let mut context = echo.context();
    let session = oread::EchoSession::default;
    let errors = [
        context
            .adopt(stream, session())
            .map(drop)
            .unwrap_err()
            .into(),
        context
            .adopt_listener(real, &ListenOptions::default())
            .map(drop)
            .unwrap_err(),
        context
            .adopt_udp(socket, &UdpOptions::new(address()))
            .map(drop)
            .unwrap_err(),
        context
            .register(&mut source, mio::Interest::READABLE)
            .map(drop)
            .unwrap_err(),
        context
            .listen(&ListenOptions::new(Address::unix("x.sock")))
            .map(drop)
            .unwrap_err(),
        context
            .connect(&ConnectOptions::new(Address::unix("x.sock")), session())
            .map(drop)
            .unwrap_err()
            .into(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("simulated"), "{error}");
    }
}

fn address_of_nobody() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Dials an echo, says something, and hears it.
#[derive(Default)]
struct Caller {
    heard: usize,
}

impl Handler for Caller {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        None
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        connection.write(&[b'x'; 3000]);
        connection.timer(SECOND);
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        self.heard += data.len();
        data.len()
    }

    fn on_timer(&mut self, context: &mut Context<'_, ()>, key: u64) {
        if let Some(mut connection) = context.connection(ConnectionId::from_bits(key)) {
            connection.finish();
        }
    }
}

/// Two reactors and a few peers, with whatever faults the seed has; the trace of that.
fn traced(seed: u64, poller: Poller) -> String {
    let mut world = World::new(seed);
    world.unleash();
    world.poller(poller);
    world.trace(true);
    let echo = Echo::new(EchoOptions::default());
    let mut echo = world.host(echo, Limits::default()).unwrap();
    while echo
        .context()
        .listen(&ListenOptions::new(address()))
        .is_err()
    {}
    let mut caller = world.host(Caller::default(), Limits::default()).unwrap();
    for _ in 0..3 {
        let _fault = caller
            .context()
            .connect(&ConnectOptions::new(address()), ());
        let peer = world.connect(address());
        peer.send_slowly(&[b'.'; 500], 100, SECOND / 100);
        peer.finish();
    }
    world
        .advance(&mut (&mut echo, &mut caller), 30 * SECOND)
        .unwrap();
    world.traced()
}

#[test]
fn the_same_seed_gives_the_same_trace_on_each_poller_with_several_reactors() {
    for poller in [Poller::Epoll, Poller::Kqueue, Poller::Poll2] {
        for seed in 0..30 {
            let (first, second) = (traced(seed, poller), traced(seed, poller));
            assert!(first == second, "seed {seed} {poller:?}");
        }
        assert_ne!(traced(1, poller), traced(2, poller));
    }
}

#[test]
fn a_trace_tells_each_turn_event_call_and_callback_in_this_order() {
    let mut world = World::new(11);
    world.trace(true);
    let mut echo = echo(&mut world, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut echo).unwrap();
    peer.send(b"\n");
    world.settle(&mut echo).unwrap();
    peer.finish();
    world.settle(&mut echo).unwrap();
    let trace = world.traced();
    let mut rest = trace.as_str();
    for line in [
        "h0 listen 10.0.0.1:7 -> l0",
        "set l0 user timeout Some(90s) -> done",
        "peer c0.0 dials 10.0.0.1:7",
        "h0 turns and waits up to",
        "h0 event l0 {READABLE}",
        "accept l0 -> c0.1",
        "h0 on_accept l0 from 10.",
        "h0 on_open c0.1",
        "peer c0.0 sends 1 \"\\n\"",
        "h0 event c0.1 {READABLE, WRITABLE}",
        "read c0.1 65536 -> 1 \"\\n\"",
        "h0 on_data c0.1 1 bytes",
        "write c0.1 1 -> 1 \"\\n\"",
        "peer c0.0 reads 1 \"\\n\"",
        "peer c0.0 finishes",
        "read c0.1 65536 -> 0",
        "h0 on_eof c0.1 0 bytes left",
        "take_error c0.1 -> none",
        "close c0.1",
        "h0 on_close c0.1: both ends finished",
    ] {
        let found = rest.find(line);
        let found = found.unwrap_or_else(|| panic!("no {line:?} in the rest of\n{trace}"));
        rest = &rest[found..];
    }
}

/// Echoes whole lines, and notes how connections ended.
#[derive(Default)]
struct Lines {
    ends: u32,
    closed: Vec<CloseReason>,
}

impl Handler for Lines {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        let end = data.iter().rposition(|&byte| byte == b'\n');
        let whole = end.map_or(0, |end| end + 1);
        connection.write(&data[..whole]);
        whole
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, ()>, _: &[u8]) {
        self.ends += 1;
        connection.finish();
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, _: ConnectionId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

/// What becomes of one peer that sends `bytes`, with `fault` at its first chance.
fn meets(fault: Fault, limits: Limits, bytes: &[u8]) -> (Lines, Peer, String) {
    let mut world = World::new(12);
    world.trace(true);
    let mut host = world.host(Lines::default(), limits).unwrap();
    let listen = ListenOptions::new(address());
    host.context().listen(&listen).unwrap();
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    world.fault(fault, 1);
    peer.send(bytes);
    world.settle(&mut host).unwrap();
    assert_eq!(world.faults_met(), [fault]);
    let lines = std::mem::take(&mut *host.handler);
    (lines, peer, world.traced())
}

#[test]
fn a_buffer_that_cannot_grow_ends_its_connection() {
    let (lines, peer, _) = meets(Fault::NoMemory, Limits::default(), b"hel");
    assert_eq!(lines.closed, [CloseReason::OutOfMemory]);
    assert!(peer.was_reset());
}

#[test]
fn a_table_that_cannot_grow_refuses_a_caller_and_a_dial() {
    let mut world = World::new(13);
    let mut echo = echo(&mut world, Limits::default());
    world.fault(Fault::NoMemory, 1);
    let peer = world.connect(address());
    world.settle(&mut echo).unwrap();
    assert!(peer.was_reset() || peer.has_ended());
    assert_eq!(echo.context().stats().refused, 1);
    let mut caller = world.host(Caller::default(), Limits::default()).unwrap();
    world.fault(Fault::NoMemory, 1);
    let dial = ConnectOptions::new(address());
    let refused = caller.context().connect(&dial, ()).unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::OutOfMemory);
}

#[test]
fn a_reset_that_comes_before_a_write_is_told_to_that_write_alone_and_is_no_end() {
    let (lines, peer, trace) = meets(Fault::ResetBeforeWrite, Limits::default(), b"hello\n");
    let (_, behind) = trace.split_once("fault: reset-before-write\n").unwrap();
    assert!(
        behind.contains("write c0.1 6 -> Connection reset"),
        "{trace}"
    );
    assert_eq!(
        (lines.ends, &lines.closed[..]),
        (0, &[CloseReason::Reset][..])
    );
    assert_eq!(peer.received(), b"");
}

#[test]
fn a_reset_right_behind_data_comes_after_it_and_is_no_end() {
    let (lines, _, trace) = meets(Fault::ResetBehindData, Limits::default(), b"hello\n");
    assert!(trace.contains("h0 on_data c0.1"), "{trace}");
    assert_eq!(
        (lines.ends, &lines.closed[..]),
        (0, &[CloseReason::Reset][..])
    );
}

#[test]
fn a_read_that_is_exactly_full_finds_nothing_behind_it_and_the_rest_comes_with_an_event() {
    let limits = Limits {
        read_buffer: 10,
        ..Limits::default()
    };
    let sent = b"0123456\n0123456\n0123456\n0123456\n";
    let (lines, peer, trace) = meets(Fault::ReadFull, limits, sent);
    let full = trace.find("read c0.1 10 -> 10").unwrap();
    let next = trace[full..].split("read c0.1").nth(2).unwrap();
    assert!(next.starts_with(" 10 -> not now"), "{trace}");
    assert_eq!((peer.received(), lines.closed.len()), (sent.to_vec(), 0));
}
