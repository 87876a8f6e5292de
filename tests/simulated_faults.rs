//! One world for each fault that is known by name: in straight lines, where the search by seeds would need luck. They are
//! what `scripts/canaries.sh` expects to fail when the fault is put back.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/watched.rs"]
mod watched;

use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Fault, Host, Peer, Poller, World, check};
use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Echo, EchoOptions, Handler, Limits,
    ListenOptions, UdpOptions,
};

use watched::{Watched, look_at};

const SECOND: Duration = Duration::from_secs(1);

fn address() -> SocketAddr {
    ([10, 0, 0, 1], 7).into()
}

/// A host with a listener.
fn host<H: Handler>(world: &mut World, handler: H, limits: Limits) -> Host<Watched<H>> {
    let mut host = world.host(Watched::new(handler), limits).unwrap();
    let listening = host.context().listen(&ListenOptions::new(address()));
    listening.unwrap();
    host
}

fn echo(framing: &str) -> Echo {
    let framing = framing.parse().unwrap();
    Echo::new(EchoOptions {
        framing,
        ..EchoOptions::default()
    })
}

fn lives<H: Handler>(host: &Host<Watched<H>>) -> Vec<&watched::Life> {
    host.handler.lives.values().collect()
}

/// What a handler here does with its input.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Takes it, and does nothing.
    Take,
    /// Answers each line, and pauses and resumes for it.
    PauseAndResume,
    /// Answers with so many bytes, and closes.
    AnswerAndClose(usize),
    /// Answers the first input with so many bytes, and stays.
    Answer(usize),
}

struct Plain {
    way: Way,
    /// Everybody who was opened, in order.
    opened: Vec<ConnectionId>,
    taken_on: u32,
}

/// What is to be done with a connection, from outside its callbacks.
enum Order {
    /// Write so many pieces of so many bytes.
    Write(ConnectionId, usize, usize),
    Idle(ConnectionId, Duration),
}

impl Plain {
    fn new(way: Way) -> Plain {
        Plain {
            way,
            opened: Vec::new(),
            taken_on: 0,
        }
    }
}

impl Handler for Plain {
    type Session = ();
    type Message = Order;

    fn on_accept(&mut self, _: &mut Context<()>, _: &Accepted) -> Option<()> {
        self.taken_on += 1;
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        self.opened.push(connection.id());
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        match self.way {
            Way::Take => {}
            Way::PauseAndResume => {
                let Some(end) = data.iter().position(|&byte| byte == b'\n') else {
                    return 0;
                };
                connection.pause();
                connection.write(&data[..=end]);
                connection.resume();
                return end + 1;
            }
            Way::AnswerAndClose(count) => {
                connection.write(&vec![b'r'; count]);
                connection.close(CloseReason::Closed);
            }
            Way::Answer(count) => {
                connection.write(&vec![b'r'; count]);
                self.way = Way::Take;
            }
        }
        data.len()
    }

    fn on_message(&mut self, context: &mut Context<()>, order: Order) {
        match order {
            Order::Write(id, pieces, size) => {
                for _ in 0..pieces {
                    if let Some(mut connection) = context.connection(id) {
                        connection.write(&vec![b'm'; size]);
                    }
                }
            }
            Order::Idle(id, timeout) => {
                if let Some(mut connection) = context.connection(id) {
                    connection.idle_timeout(Some(timeout));
                }
            }
        }
    }
}

#[test]
fn bytes_behind_urgent_data_are_echoed() {
    check(0..20, |world| {
        let mut echo = host(world, echo("raw"), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut [&mut echo]).unwrap();
        peer.send(b"before");
        peer.send_urgent(b'!');
        peer.send(b"behind");
        // All of it is there in one event.
        world.advance(&mut [], SECOND).unwrap();
        world.settle(&mut [&mut echo]).unwrap();
        assert_eq!(peer.received(), b"beforebehind");
    });
}

#[test]
fn data_and_the_end_in_one_event_are_both_told() {
    check(0..20, |world| {
        let mut echo = host(world, echo("raw"), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut [&mut echo]).unwrap();
        peer.send(b"all");
        peer.finish();
        world.advance(&mut [], SECOND).unwrap();
        world.settle(&mut [&mut echo]).unwrap();
        assert_eq!(peer.received(), b"all");
        assert!(peer.has_ended());
    });
}

#[test]
fn with_poll2_who_speaks_again_is_heard_again() {
    check(0..20, |world| {
        world.poller(Poller::Poll2);
        let mut echo = host(world, echo("raw"), Limits::default());
        let peer = world.connect(address());
        for round in 1..4 {
            peer.send(b"x");
            world.settle(&mut [&mut echo]).unwrap();
            assert_eq!(peer.received().len(), round);
        }
    });
}

#[test]
fn an_old_id_finds_nobody_in_the_slot_that_was_its_own() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Take), Limits::default());
    let first = world.connect(address());
    world.settle(&mut [&mut host]).unwrap();
    let old = host.handler.inner.opened[0];
    first.finish();
    world.settle(&mut [&mut host]).unwrap();
    let second = world.connect(address());
    world.settle(&mut [&mut host]).unwrap();
    assert_eq!(host.handler.inner.opened.len(), 2);
    assert!(host.handle().send(Order::Write(old, 1, 10)).is_ok());
    world.settle(&mut [&mut host]).unwrap();
    assert_eq!(second.received(), b"", "it got what was the first one's");
}

#[test]
fn a_listener_without_descriptors_goes_on_by_itself_though_nobody_leaves() {
    let mut world = World::new(1);
    let mut echo = host(&mut world, echo("raw"), Limits::default());
    world.fault(Fault::AcceptNoDescriptors, 1);
    let peer = world.connect(address());
    peer.send(b"hello");
    world.advance(&mut [&mut echo], 2 * SECOND).unwrap();
    assert_eq!(peer.received(), b"hello");
}

#[test]
fn who_was_taken_on_and_cannot_be_polled_is_told_closed() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Take), Limits::default());
    world.fault(Fault::RegisterFails, 1);
    let peer = world.connect(address());
    peer.send(b"hello");
    world.advance(&mut [&mut host], SECOND).unwrap();
    assert_eq!(host.handler.inner.taken_on, 1);
    let lives = lives(&host);
    assert_eq!(
        lives.len(),
        1,
        "it was taken on, and nothing was told of it"
    );
    assert!(lives[0].opened && lives[0].closed.is_some());
}

#[test]
fn a_reply_before_a_close_survives_input_that_nobody_reads() {
    check(0..50, |world| {
        let way = Way::AnswerAndClose(30_000);
        let mut host = host(world, Plain::new(way), Limits::default());
        let peer = world.connect(address());
        peer.send_slowly(&[b'q'; 20_000], 500, Duration::from_micros(100));
        peer.finish();
        world.settle(&mut [&mut host]).unwrap();
        assert_eq!(peer.received().len(), 30_000);
        assert!(peer.has_ended() && !peer.was_reset());
    });
}

#[test]
fn a_reset_that_the_answer_finds_first_is_no_end() {
    check(0..100, |world| {
        let mut host = host(world, Plain::new(Way::Answer(100)), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut [&mut host]).unwrap();
        peer.send(b"question");
        peer.reset_behind();
        world.advance(&mut [], SECOND).unwrap();
        world.settle(&mut [&mut host]).unwrap();
        let lives = lives(&host);
        assert!(!lives[0].eof, "an end is told that nobody sent");
        assert!(lives[0].closed.is_some());
    });
}

/// Peers that send every 300 ms, at a host that stands still for longer than its idle timeout.
fn stands_still(world: &mut World, interrupted: bool, events: usize) {
    let limits = Limits {
        idle_timeout: Some(SECOND),
        events,
        ..Limits::default()
    };
    let mut host = host(world, Plain::new(Way::Take), limits);
    let peers: Vec<Peer> = (0..8).map(|_| world.connect(address())).collect();
    for peer in &peers {
        peer.send_slowly(&[b'.'; 20], 1, Duration::from_millis(300));
    }
    world.advance(&mut [&mut host], SECOND).unwrap();
    if interrupted {
        // It's stopped while it waits, and continued by a signal.
        world.fault(Fault::StoodStill, 1);
        world.fault(Fault::WaitInterrupted, 1);
        let (reactor, handler) = host.reactor();
        reactor.turn(handler, Some(SECOND)).unwrap();
    } else {
        host.process().stand_still(3 * SECOND);
    }
    while world.step(&mut [&mut host], Some(world.now())).unwrap() {}
    let closed = lives(&host).iter().filter(|l| l.closed.is_some()).count();
    let late = world.now() > 6 * SECOND;
    assert!(closed == 0 || late, "{closed} who spoke in time are idle");
}

#[test]
fn nobody_who_spoke_is_idle_when_events_wait_behind_a_full_batch() {
    check(0..20, |world| stands_still(world, false, 1));
}

#[test]
fn nobody_who_spoke_is_idle_when_a_stop_ends_by_a_signal() {
    check(0..100, |world| stands_still(world, true, 1024));
}

#[test]
fn lines_of_one_segment_are_all_answered_by_who_pauses_and_resumes_for_each() {
    check(0..20, |world| {
        let mut host = host(world, Plain::new(Way::PauseAndResume), Limits::default());
        let peer = world.connect(address());
        world.settle(&mut [&mut host]).unwrap();
        peer.send(b"one\ntwo\nthree\n");
        world.advance(&mut [], SECOND).unwrap();
        world.settle(&mut [&mut host]).unwrap();
        assert_eq!(peer.received(), b"one\ntwo\nthree\n");
    });
}

#[test]
fn output_to_another_connection_is_offered_before_it_is_too_much() {
    check(0..20, |world| {
        let limits = Limits {
            high_water: 1000,
            low_water: 500,
            gather: 500,
            max_output: 2000,
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::Take), limits);
        let peer = world.connect(address());
        world.settle(&mut [&mut host]).unwrap();
        // The least send buffer of this world takes all of it.
        let order = Order::Write(host.handler.inner.opened[0], 40, 100);
        assert!(host.handle().send(order).is_ok());
        world.settle(&mut [&mut host]).unwrap();
        assert_eq!(lives(&host)[0].closed, None);
        assert_eq!(peer.received().len(), 4000);
    });
}

#[test]
fn unfinished_lines_of_all_are_bounded_and_answered_when_they_are_finished() {
    check(0..5, |world| {
        let limits = Limits {
            max_pending: 64 << 10,
            ..Limits::default()
        };
        let mut echo = host(world, echo("lines"), limits);
        let peers: Vec<Peer> = (0..50).map(|_| world.connect(address())).collect();
        for peer in &peers {
            peer.send(&[b'l'; 40_000]);
        }
        world.advance(&mut [&mut echo], SECOND).unwrap();
        let kept: usize = lives(&echo).iter().map(|life| life.left.len()).sum();
        // What all may keep, the little that each may, and one that is fed beyond it.
        assert!(
            kept < (64 << 10) + 50 * (8 << 10) + 40_000,
            "{kept} bytes are kept"
        );
        look_at(&mut echo);
        for peer in &peers {
            peer.send(b"\n");
            peer.finish();
        }
        world.settle(&mut [&mut echo]).unwrap();
        assert!(peers.iter().all(|peer| peer.received().len() == 40_001));
    });
}

#[test]
fn a_buffer_that_held_a_long_line_is_not_kept_for_the_next_byte() {
    let mut world = World::new(1);
    let mut echo = host(&mut world, echo("lines"), Limits::default());
    let peer = world.connect(address());
    let mut bytes = vec![b'l'; 500_000];
    bytes.extend(b"\nx");
    peer.send(&bytes);
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received().len(), 500_001);
    let held = look_at(&mut echo).held;
    assert!(held < 64 << 10, "{held} bytes are held for one");
}

#[test]
fn a_peer_that_vanishes_with_an_answer_on_its_way_is_given_up() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Answer(100)), Limits::default());
    let peer = world.connect(address());
    world.settle(&mut [&mut host]).unwrap();
    peer.send(b"question");
    while lives(&host)[0].consumed.is_empty() {
        assert!(world.step(&mut [&mut host], None).unwrap());
    }
    peer.vanish();
    world.advance(&mut [&mut host], 120 * SECOND).unwrap();
    assert!(lives(&host)[0].closed.is_some(), "it is still open");
}

#[test]
fn an_idle_timeout_set_after_a_month_of_silence_is_judged_by_it() {
    let mut world = World::new(1);
    let mut host = host(&mut world, Plain::new(Way::Take), Limits::default());
    let _peer = world.connect(address());
    let month = 30 * 24 * 3600 * SECOND;
    world.advance(&mut [&mut host], SECOND).unwrap();
    for _ in 0..30 {
        world.advance(&mut [&mut host], month / 30).unwrap();
        // A program does something now and then; nothing here needs a turn.
        let (reactor, handler) = host.reactor();
        reactor.turn(handler, Some(Duration::ZERO)).unwrap();
    }
    let order = Order::Idle(host.handler.inner.opened[0], 60 * SECOND);
    assert!(host.handle().send(order).is_ok());
    world.advance(&mut [&mut host], 61 * SECOND).unwrap();
    assert_eq!(lives(&host)[0].closed, Some(CloseReason::IdleTimeout));
}

/// Once its window is closed, a reader's system tells of room only when a sixteenth of its receive
/// buffer is free (Linux: `__tcp_select_window`): of the largest buffer here, every 4 s.
#[test]
fn a_slow_and_steady_reader_is_not_cut_off() {
    check(0..20, |world| {
        let limits = Limits {
            write_timeout: Some(10 * SECOND),
            ..Limits::default()
        };
        let mut host = host(world, Plain::new(Way::Answer(1 << 20)), limits);
        let peer = world.connect(address());
        peer.read_slowly(4000, SECOND);
        peer.send(b"question");
        world.advance(&mut [&mut host], 200 * SECOND).unwrap();
        assert_eq!(lives(&host)[0].closed, None);
    });
}

fn udp(world: &mut World, limits: Limits) -> Host<Watched<Echo>> {
    let mut host = world.host(Watched::new(echo("raw")), limits).unwrap();
    let bound = host
        .context()
        .bind_udp(&UdpOptions::new(([0, 0, 0, 0], 7).into()));
    bound.unwrap();
    host
}

#[test]
fn a_datagram_is_answered_from_the_address_that_was_asked() {
    let mut world = World::new(1);
    let mut echo = udp(&mut world, Limits::default());
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    let asked: SocketAddr = ([10, 0, 0, 5], 7).into();
    peer.send_to(asked, b"hello");
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received(), [(asked, b"hello".to_vec())]);
}

#[test]
fn what_was_sent_to_a_broadcast_or_a_group_gets_no_answer() {
    let mut world = World::new(1);
    let mut echo = udp(&mut world, Limits::default());
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    peer.send_to(([10, 0, 0, 255], 7).into(), b"broadcast");
    peer.send_to(([224, 0, 0, 1], 7).into(), b"group");
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(echo.context().stats().datagrams_in, 2);
    assert_eq!(peer.received(), []);
}

#[test]
fn a_datagram_that_the_buffer_cuts_gets_no_answer() {
    let mut world = World::new(1);
    let limits = Limits {
        read_buffer: 100,
        ..Limits::default()
    };
    let mut echo = udp(&mut world, limits);
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    peer.send_to(address(), &[1; 200]);
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received(), []);
    assert_eq!(echo.context().stats().datagrams_truncated, 1);
}

#[test]
fn an_error_in_place_of_a_datagram_keeps_nobody_from_an_answer() {
    let mut world = World::new(1);
    let mut echo = udp(&mut world, Limits::default());
    let peer = world.udp(([10, 0, 0, 9], 5000).into());
    world.fault(Fault::RecvNoMemory, 1);
    peer.send_to(address(), b"one");
    peer.send_to(address(), b"two");
    world.advance(&mut [], SECOND).unwrap();
    world.settle(&mut [&mut echo]).unwrap();
    assert_eq!(peer.received().len(), 2);
}
