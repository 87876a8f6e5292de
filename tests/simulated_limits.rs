//! Limits that a listener's connections, or a single one, have for themselves; and what a handler
//! asks of one connection or listener: to be told when all is sent, to be given its socket, to be
//! counted, to pause, to close without a reset.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/hosts.rs"]
mod hosts;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Host, Peer, World, check};
use oread::{CloseReason, ConnectionLimits, Context, Limits, ListenOptions, ListenerId, Pressure};

use acting::Acting;
use hosts::{SECOND, address, idle, listening};

/// More than any socket here takes.
const MUCH: usize = 600_000;

fn other_address() -> SocketAddr {
    ([10, 0, 0, 1], 8).into()
}

/// A second listener, whose connections have these limits.
fn listen_beside(host: &mut Host<Acting>, limits: ConnectionLimits) {
    let options = ListenOptions {
        limits: Some(limits),
        ..ListenOptions::new(other_address())
    };
    host.context().listen(&options).unwrap();
}

#[test]
fn connections_of_a_listener_have_its_idle_timeout_and_the_others_that_of_the_reactor() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), idle(60 * SECOND));
    let short = ConnectionLimits {
        idle_timeout: Some(SECOND),
        ..Limits::default().of_connection()
    };
    listen_beside(&mut host, short);
    let usual = world.connect(address());
    let brief = world.connect(other_address());
    world.advance(&mut host, 30 * SECOND).unwrap();
    assert!(brief.has_ended() && !usual.has_ended());
    world.advance(&mut host, 40 * SECOND).unwrap();
    assert!(usual.has_ended());
    assert_eq!(host.handler.reasons(), [CloseReason::IdleTimeout; 2]);
}

#[test]
fn input_is_bounded_by_the_limits_of_the_listener() {
    let mut world = World::new(1);
    let keeps = Acting::default().on_data(|_, _| 0);
    let mut host = listening(&mut world, keeps, Limits::default());
    let small = ConnectionLimits {
        max_input: 1000,
        ..Limits::default().of_connection()
    };
    listen_beside(&mut host, small);
    let (large, small) = (world.connect(address()), world.connect(other_address()));
    large.send(&[b'x'; 1000]);
    small.send(&[b'x'; 999]);
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().unconsumed, 1999);
    small.send(b"x");
    world.advance(&mut host, 10 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::InputOverflow]);
    assert_eq!(host.context().stats().unconsumed, 1000);
    assert!(!large.has_ended());
}

#[test]
fn a_connection_that_may_keep_no_more_is_read_on_when_its_limits_are_raised() {
    let mut world = World::new(1);
    let limits = Limits {
        max_input: 10,
        ..Limits::default()
    };
    // It waits for a line, paused, so that too much is no reason to close it.
    let keeps = Acting::default().on_data(|connection, data| {
        if data.len() == connection.limits().max_input {
            connection.pause();
        }
        if data.ends_with(b"\n") { data.len() } else { 0 }
    });
    let mut host = listening(&mut world, keeps, limits);
    let peer = world.connect(address());
    peer.send(b"a line of more than ten bytes\n");
    world.settle(&mut host).unwrap();
    let id = host.handler.opened[0];
    let mut context = host.context();
    let mut connection = context.connection(id).unwrap();
    let raised = ConnectionLimits {
        max_input: 100,
        ..connection.limits()
    };
    connection.set_limits(raised).unwrap();
    assert_eq!(connection.limits(), raised);
    connection.resume();
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().consumed, 30);
    assert_eq!(host.handler.closed, []);
}

#[test]
fn pressure_and_overflow_are_by_the_limits_of_the_connection() {
    let mut world = World::new(1);
    let writes = Acting::default()
        .on_open(|connection| {
            let limits = ConnectionLimits {
                high_water: 2 << 20,
                low_water: 0,
                max_output: 4 << 20,
                ..connection.limits()
            };
            connection.set_limits(limits).unwrap();
        })
        .on_data(|connection, data| {
            connection.write(&[b'x'; MUCH]);
            data.len()
        });
    let mut host = listening(&mut world, writes, Limits::default());
    let peer = world.connect(address());
    peer.stop_reading();
    for count in 1..=8 {
        peer.send(b"more");
        world.advance(&mut host, SECOND / 10).unwrap();
        let mut context = host.context();
        let Some(connection) = context.connections().next() else {
            assert!(count > 6, "cut off after {count}");
            break;
        };
        let connection = context.connection(connection).unwrap();
        // Reading pauses under pressure, so that no more is written.
        let high = connection.pending() >= 2 << 20;
        assert_eq!(
            connection.pressure() == Pressure::High,
            high,
            "after {count}"
        );
    }
}

#[test]
fn a_write_timeout_of_its_own_counts_for_what_is_pending_already() {
    let mut world = World::new(1);
    let writes = Acting::default().on_open(|connection| {
        connection.write(&[b'x'; MUCH]);
    });
    let mut host = listening(&mut world, writes, Limits::default());
    let peer = world.connect(address());
    peer.stop_reading();
    world.advance(&mut host, 3 * SECOND).unwrap();
    let id = host.handler.opened[0];
    let mut context = host.context();
    let mut connection = context.connection(id).unwrap();
    let limits = ConnectionLimits {
        write_timeout: Some(5 * SECOND),
        ..connection.limits()
    };
    connection.set_limits(limits).unwrap();
    // The first question of what is acknowledged says nothing yet.
    world.advance(&mut host, 12 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::WriteTimeout]);
}

/// Limits of one of many kinds.
fn kind(max_input: usize) -> ConnectionLimits {
    let usual = Limits::default().of_connection();
    ConnectionLimits { max_input, ..usual }
}

/// A listener whose connections have such limits.
fn listen_with(context: &mut Context<'_, ()>, max_input: usize) -> io::Result<ListenerId> {
    let address: SocketAddr = ([10, 0, 0, 1], 10_000 + max_input as u16).into();
    context.listen(&ListenOptions {
        limits: Some(kind(max_input)),
        ..ListenOptions::new(address)
    })
}

#[test]
fn limits_that_nobody_has_any_more_make_room_for_others_however_often() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let _peer = world.connect(address());
    world.settle(&mut host).unwrap();
    let id = host.handler.opened[0];
    let mut context = host.context();
    for tenant in 1..1000 {
        let listener = listen_with(&mut context, tenant).unwrap();
        let mut connection = context.connection(id).unwrap();
        connection.set_limits(kind(1000 + tenant)).unwrap();
        assert_eq!(connection.limits(), kind(1000 + tenant));
        assert!(context.release_listener(listener));
    }
}

#[test]
fn of_256_kinds_of_limits_in_use_none_is_taken_away_and_the_next_is_refused() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let usual = world.connect(address());
    let mut listeners = Vec::new();
    for max_input in 1..256 {
        listeners.push(listen_with(&mut host.context(), max_input).unwrap());
    }
    let own = world.connect(([10, 0, 0, 1], 10_007).into());
    world.settle(&mut host).unwrap();
    let is_full = |host: &mut Host<Acting>| {
        let refused = listen_with(&mut host.context(), 256);
        refused.is_err_and(|error| error.kind() == ErrorKind::QuotaExceeded)
    };
    assert!(is_full(&mut host));
    // Its connection has them still.
    assert!(host.context().release_listener(listeners[6]));
    assert!(is_full(&mut host));
    let limits = |host: &mut Host<Acting>, nth: usize| {
        let id = host.handler.opened[nth];
        host.context().connection(id).unwrap().limits()
    };
    assert_eq!(limits(&mut host, 0), Limits::default().of_connection());
    assert_eq!(limits(&mut host, 1), kind(7));
    own.reset();
    // The caller has those of its listener, which is closed while it's being asked about.
    let listener = listeners[8];
    host.handler.accept = Some(Box::new(move |context| {
        context.release_listener(listener);
        listen_with(context, 256).unwrap();
        assert!(listen_with(context, 257).is_err());
    }));
    world.settle(&mut host).unwrap();
    let late = world.connect(([10, 0, 0, 1], 10_009).into());
    world.settle(&mut host).unwrap();
    assert_eq!(limits(&mut host, 2), kind(9));
    assert!(usual.is_connected() && late.is_connected());
}

#[test]
fn who_asks_is_told_once_when_all_output_is_out_and_not_before() {
    let mut world = World::new(1);
    let writes = Acting::default().on_data(|connection, data| {
        connection.write(&vec![b'x'; data.len()]);
        connection.tell_when_sent();
        data.len()
    });
    let mut host = listening(&mut world, writes, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    peer.send(b"little");
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.log, ["open", "data 6 of 6", "drained"]);
    // Below the high-water mark, so that nobody is under pressure.
    peer.stop_reading();
    while host.context().stats().pending == 0 {
        peer.send(&[b'.'; 20_000]);
        world.advance(&mut host, SECOND / 10).unwrap();
    }
    let told = |host: &Host<Acting>| host.handler.log.iter().filter(|l| *l == "drained").count();
    let before = told(&host);
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(told(&host), before, "though some is pending");
    peer.start_reading();
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().pending, 0);
    assert_eq!(told(&host), before + 1);
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(told(&host), before + 1);
}

#[test]
fn a_simulated_socket_is_not_to_be_had() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    let id = host.handler.opened[0];
    let refused = host.context().connection(id).unwrap().detach().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    peer.send(b"still here");
    world
        .advance(&mut host, Duration::from_millis(100))
        .unwrap();
    assert_eq!(host.context().stats().consumed, 10);
}

#[test]
fn a_connection_that_is_counted_knows_what_it_has_moved_and_gives_its_memory_back() {
    let mut world = World::new(1);
    let echoes = Acting::default()
        .on_open(|connection| connection.count())
        .on_data(|connection, data| {
            connection.write(&[b'x'; 100]);
            data.len()
        });
    let mut host = listening(&mut world, echoes, Limits::default());
    let peer = world.connect(address());
    let began = host.context().now();
    world.settle(&mut host).unwrap();
    for _ in 0..3 {
        peer.send(b"seven..");
        world.advance(&mut host, SECOND).unwrap();
    }
    let id = host.handler.opened[0];
    let traffic = host.context().connection(id).unwrap().traffic().unwrap();
    assert_eq!((traffic.bytes_in, traffic.bytes_out), (21, 300));
    assert!(traffic.since >= began && traffic.since < began + SECOND);
    peer.stop_reading();
    let pauses = |host: &mut Host<Acting>| {
        let mut context = host.context();
        context.connection(id).unwrap().traffic().unwrap().pressed
    };
    while pauses(&mut host) == 0 {
        peer.send(&[b'.'; 5000]);
        let mut context = host.context();
        context.connection(id).unwrap().write(&[b'x'; 50_000]);
        world.advance(&mut host, SECOND / 10).unwrap();
    }
    assert_eq!(host.context().stats().pressure_pauses, 1);
    host.context()
        .connection(id)
        .unwrap()
        .abort(CloseReason::Aborted);
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().held, 0);
}

#[test]
fn what_a_connection_has_moved_is_known_when_it_is_told_closed_and_not_after_that() {
    let mut world = World::new(1);
    let mut count = true;
    let echoes = Acting::default()
        .on_open(move |connection| {
            // Every other one.
            if count {
                connection.count();
            }
            count = !count;
        })
        .on_data(|connection, data| {
            connection.write(data);
            if data == b"now" {
                connection.abort(CloseReason::Other(1));
            }
            data.len()
        });
    let mut host = listening(&mut world, echoes, Limits::default());
    let mut connect = || {
        let peer = world.connect(address());
        world.settle(&mut host).unwrap();
        peer.send(b"hello");
        world.advance(&mut host, SECOND).unwrap();
        peer
    };
    let peers = [connect(), connect(), connect(), connect()];
    let ids = host.handler.opened.clone();
    peers[0].finish();
    world.advance(&mut host, SECOND).unwrap();
    peers[1].finish();
    world.advance(&mut host, SECOND).unwrap();
    // What it writes last is lost: no socket takes it.
    peers[2].send(b"now");
    world.advance(&mut host, SECOND).unwrap();
    let moved: Vec<_> = (host.handler.moved.iter())
        .map(|moved| moved.map(|moved| (moved.bytes_in, moved.bytes_out)))
        .collect();
    assert_eq!(moved, [Some((5, 5)), None, Some((8, 5))]);
    let context = host.context();
    let still: Vec<_> = ids.iter().map(|id| context.traffic(*id)).collect();
    assert_eq!(still, [None; 4]);
    assert_eq!(context.stats().held, 0);
}

#[test]
fn turns_are_counted_and_the_longest_queue_and_the_latest_timer_are_known() {
    let mut world = World::new(1);
    let limits = Limits {
        io_budget: 1,
        read_buffer: 10,
        ..Limits::default()
    };
    let mut host = listening(&mut world, Acting::default(), limits);
    let peers: Vec<_> = (0..3).map(|_| world.connect(address())).collect();
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().longest_queue, 0);
    peers.iter().for_each(|peer| peer.send(&[b'.'; 100]));
    world.advance(&mut (), SECOND).unwrap();
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().longest_queue, 3);
    host.context().timer(SECOND, 1);
    // Nobody turns the host for so long.
    world.advance(&mut (), 3 * SECOND).unwrap();
    world.settle(&mut host).unwrap();
    let stats = host.context().stats();
    assert_eq!(host.handler.fired.len(), 1);
    assert_eq!(stats.latest_timer_us, 2_000_000);
    assert!(stats.turns >= 10 && stats.turns <= stats.polls);
}

#[test]
fn a_slow_callback_makes_the_longest_turn_until_the_peaks_are_taken() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let process = host.process().clone();
    host.handler.data = Some(Box::new(move |_, data| {
        if data == b"slow" {
            process.stand_still(SECOND);
        }
        data.len()
    }));
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    assert!(host.context().stats().longest_turn_us < 1000);
    for data in ["slow", "quick"] {
        peer.send(data.as_bytes());
        world.advance(&mut host, 2 * SECOND).unwrap();
    }
    host.context().timer(SECOND, 1);
    world.advance(&mut (), 3 * SECOND).unwrap();
    world.settle(&mut host).unwrap();
    let taken = host.context().take_peaks();
    assert!((1_000_000..1_001_000).contains(&taken.longest_turn_us));
    assert_eq!(taken.latest_timer_us, 2_000_000);
    peer.send(b"quick");
    world.advance(&mut host, SECOND).unwrap();
    let stats = host.context().stats();
    assert!(stats.longest_turn_us < 1000 && stats.latest_timer_us == 0);
    assert!(stats.turns > taken.turns && stats.consumed == 14);
}

#[test]
fn a_timer_for_the_past_is_late_only_from_when_it_was_set() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let began = host.context().now();
    world.advance(&mut host, 10 * SECOND).unwrap();
    // The next of ten periods that were missed.
    host.context().timer_at(began + SECOND, 1);
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.fired.len(), 1);
    assert!(host.context().stats().latest_timer_us < 1000);
    host.context().timer_at(began + SECOND, 1);
    world.advance(&mut (), SECOND).unwrap();
    world.settle(&mut host).unwrap();
    assert_eq!(host.context().stats().latest_timer_us, 1_000_000);
}

/// Has the host listen at the other address, too.
fn listen_there(host: &mut Host<Acting>) -> ListenerId {
    let options = ListenOptions::new(other_address());
    host.context().listen(&options).unwrap()
}

#[test]
fn a_listener_that_is_paused_lets_nobody_in_until_it_is_resumed() {
    let mut world = World::new(1);
    let mut host = listening(&mut world, Acting::default(), Limits::default());
    let id = listen_there(&mut host);
    assert!(host.context().pause_listener(id));
    let waiting = world.connect(other_address());
    let usual = world.connect(address());
    waiting.send(b"let me in");
    world.advance(&mut host, 10 * SECOND).unwrap();
    assert!(usual.is_connected());
    assert_eq!(host.context().stats().accepted, 1);
    // What ends pauses for want of room is none of this one's business.
    usual.reset();
    world.advance(&mut host, 10 * SECOND).unwrap();
    assert_eq!(host.context().stats().accepted, 1);
    assert!(host.context().resume_listener(id));
    world.settle(&mut host).unwrap();
    let stats = host.context().stats();
    assert_eq!((stats.accepted, stats.consumed), (2, 9));
}

#[test]
fn who_waits_in_the_backlog_of_a_listener_that_is_closed_is_let_in_and_nobody_after_that() {
    check(0..20, |world| {
        let limits = Limits {
            accept_budget: 2,
            ..Limits::default()
        };
        let mut host = listening(world, Acting::default(), limits);
        let id = listen_there(&mut host);
        let waiting: Vec<_> = (0..5).map(|_| world.connect(other_address())).collect();
        waiting.iter().for_each(|peer| peer.send(b"waits"));
        world.advance(&mut (), SECOND).unwrap();
        assert!(host.context().close_listener(id));
        assert!(!host.context().close_listener(id));
        assert!(!host.context().pause_listener(id));
        assert!(!host.context().resume_listener(id));
        assert_eq!(host.context().listener_addr(id), None);
        world.settle(&mut host).unwrap();
        let stats = host.context().stats();
        assert_eq!((stats.accepted, stats.consumed), (5, 25));
        let late = world.connect(other_address());
        world.settle(&mut host).unwrap();
        assert!(!late.is_connected());
        assert_eq!(host.context().stats().accepted, 5);
        // Its address is free again.
        listen_there(&mut host);
    });
}

#[test]
fn a_listener_that_is_closed_at_the_limit_lets_the_others_in_as_there_is_room() {
    let mut world = World::new(1);
    let limits = Limits {
        max_connections: 1,
        ..Limits::default()
    };
    let mut host = listening(&mut world, Acting::default(), limits);
    let id = listen_there(&mut host);
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(world.connect(other_address()));
        world.advance(&mut (), SECOND).unwrap();
    }
    assert!(host.context().close_listener(id));
    for (count, peer) in peers.iter().enumerate() {
        world.settle(&mut host).unwrap();
        assert_eq!(host.context().stats().accepted, count as u64 + 1);
        peer.finish();
    }
    world.settle(&mut host).unwrap();
    assert!(peers.iter().all(|peer| !peer.was_reset()));
}

/// A handler of lines, in a reactor that gives each ten seconds and whose connections may be idle
/// for one.
fn reader_of_lines(world: &mut World) -> Host<Acting> {
    let lines = Acting::default().on_data(|connection, data| {
        let end = data.iter().rposition(|byte| *byte == b'\n');
        let count = end.map_or(0, |at| at + 1);
        connection.write(&data[..count]);
        count
    });
    let limits = Limits {
        frame_timeout: Some(10 * SECOND),
        ..idle(SECOND)
    };
    listening(world, lines, limits)
}

#[test]
fn a_byte_now_and_then_holds_no_place_for_longer_than_a_frame_may_take() {
    let mut world = World::new(1);
    let mut host = reader_of_lines(&mut world);
    let (slow, steady) = (world.connect(address()), world.connect(address()));
    let mut sent = 0;
    for round in 0..40 {
        slow.send(b"x");
        // Never a whole line with nothing behind it, and never ten seconds over one.
        sent += 1;
        steady.send(if round % 10 == 9 { b"\n" } else { b"y" });
        world.advance(&mut host, 7 * SECOND / 10).unwrap();
        let due = Duration::from_millis(700) * (round + 1);
        assert_eq!(slow.has_ended(), due > 10 * SECOND, "after {due:?}");
    }
    assert_eq!(host.handler.reasons(), [CloseReason::FrameTimeout]);
    assert_eq!((steady.received().len(), sent), (40, 40));
}

#[test]
fn a_frame_whose_rest_is_not_read_has_its_time_again_when_it_is() {
    let mut world = World::new(1);
    let mut host = reader_of_lines(&mut world);
    let peer = world.connect(address());
    peer.send(b"the first half, ");
    world.settle(&mut host).unwrap();
    let id = host.handler.opened[0];
    let mut connection = host.context();
    let mut connection = connection.connection(id).unwrap();
    connection.pause();
    connection.set_idle_timeout(None);
    peer.send(b"and the second\n");
    world.advance(&mut host, 60 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), []);
    host.context().connection(id).unwrap().resume();
    world.settle(&mut host).unwrap();
    assert!(peer.received().ends_with(b"second\n"));
    // And when nothing more comes, it ends.
    peer.send(b"a third");
    world.advance(&mut host, 9 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), []);
    world.advance(&mut host, 2 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::FrameTimeout]);
}

#[test]
fn a_time_for_frames_that_is_set_in_the_middle_of_one_counts_from_its_beginning() {
    let mut world = World::new(1);
    let mut host = listening(
        &mut world,
        Acting::default().on_data(|_, _| 0),
        Limits::default(),
    );
    let peer = world.connect(address());
    peer.send(b"half");
    world.advance(&mut host, 5 * SECOND).unwrap();
    let limits = ConnectionLimits {
        frame_timeout: Some(8 * SECOND),
        ..Limits::default().of_connection()
    };
    let id = host.handler.opened[0];
    let mut context = host.context();
    let mut connection = context.connection(id).unwrap();
    connection.set_limits(limits).unwrap();
    world.advance(&mut host, 2 * SECOND).unwrap();
    peer.send(b", and some more");
    assert_eq!(host.handler.reasons(), []);
    world.advance(&mut host, 2 * SECOND).unwrap();
    assert_eq!(host.handler.reasons(), [CloseReason::FrameTimeout]);
}

#[test]
fn a_source_has_no_more_connections_than_it_may_and_others_get_in() {
    let mut world = World::new(1);
    let limits = Limits {
        connections_per_source: Some(2),
        ..Limits::default()
    };
    let mut host = listening(&mut world, Acting::default(), limits);
    let one = [10, 7, 0, 1].into();
    let call = |world: &mut World, host: &mut Host<Acting>| {
        let peer = world.connect_from(one, address());
        world.settle(host).unwrap();
        peer
    };
    let mine: Vec<_> = (0..3).map(|_| call(&mut world, &mut host)).collect();
    let is_away = |peer: &Peer| peer.has_ended() || peer.was_reset();
    assert_eq!(
        mine.iter().map(is_away).collect::<Vec<_>>(),
        [false, false, true]
    );
    mine[0].reset();
    world.settle(&mut host).unwrap();
    assert!(!is_away(&call(&mut world, &mut host)));
    // A listener behind a load balancer has one source.
    let balanced = ListenOptions {
        per_source: false,
        ..ListenOptions::new(other_address())
    };
    host.context().listen(&balanced).unwrap();
    let through: Vec<_> = (0..4)
        .map(|_| world.connect_from(one, other_address()))
        .collect();
    world.settle(&mut host).unwrap();
    assert!(!through.iter().any(is_away));
    through.iter().for_each(Peer::reset);
    world.settle(&mut host).unwrap();
    assert!(is_away(&call(&mut world, &mut host)));
    // Everybody else is another source.
    let others: Vec<_> = (0..10).map(|_| world.connect(address())).collect();
    world.settle(&mut host).unwrap();
    assert!(!others.iter().any(is_away));
    let stats = host.context().stats();
    assert_eq!(
        (stats.accepted, stats.over_source, stats.refused),
        (17, 2, 0)
    );
}

#[test]
fn a_source_makes_no_more_new_connections_a_second_than_it_may() {
    let mut world = World::new(1);
    let limits = Limits {
        accepts_per_source: Some(3),
        ..Limits::default()
    };
    let mut host = listening(&mut world, Acting::default(), limits);
    let source = "2001:db8::1".parse().unwrap();
    let v6: SocketAddr = "[2001:db8:1::1]:7".parse().unwrap();
    host.context().listen(&ListenOptions::new(v6)).unwrap();
    for second in 1..=4 {
        for _ in 0..10 {
            world.connect_from(source, v6).finish();
        }
        world.advance(&mut host, SECOND).unwrap();
        let stats = host.context().stats();
        let taken = (stats.accepted, stats.over_source);
        assert_eq!(taken, (3 * second, 7 * second));
    }
}
