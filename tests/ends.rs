//! Only an end that the peer sent is told as one; a socket that is adopted has a past; and a drain
//! counts only what happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{PATIENCE, World, connect, loopback, reset, stand_still, write_until_blocked};
use oread::{CloseReason, Ended, Limits};

#[test]
fn a_reset_that_comes_with_data_is_a_reset_though_the_answer_finds_it_first() {
    // Small answers wait for the end of the callback, large ones don't.
    for size in [1, 1 << 10, 64 << 10] {
        let mut world = World::new();
        world.handler.data = Some(Box::new(move |_, connection, data| {
            connection.write(&vec![b'x'; size]);
            data.len()
        }));
        let (_, address) = world.listen();
        for (round, turns_between) in [(1, false), (2, true)] {
            let mut client = connect(address);
            if turns_between {
                world.until_opened(round);
                world.settle();
            }
            client.write_all(b"and gone").unwrap();
            reset(client);
            assert_eq!(world.until_closed(round), CloseReason::Reset);
        }
        assert_eq!(world.seen().rests.len(), 0, "an end was told");
        assert_eq!(world.seen().bytes, b"and goneand gone");
    }
}

#[test]
fn a_reset_while_output_is_pending_is_a_reset_and_no_end() {
    for read_on in [false, true] {
        let mut world = World::new();
        world.handler.open = Some(Box::new(move |_, connection| {
            connection.read_on(read_on);
            connection.write(&[b'x'; 12 << 20]);
        }));
        let client = world.client();
        world.settle();
        assert!(world.stats().pending > 0);
        reset(client);
        assert_eq!(world.until_closed(1), CloseReason::Reset);
        assert_eq!(world.seen().rests.len(), 0, "an end was told");
        assert_eq!(world.seen().drained, 0, "what is lost was told as sent");
    }
}

/// A connection that both sides have finished, whose client has yet to read most of its answer: the
/// system holds that.
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
fn undelivered(count: usize) -> (World, TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    use oread::ListenOptions;
    use std::net::Shutdown;

    let mut world = World::with(Limits {
        idle_timeout: Some(Duration::from_millis(100)),
        ..Limits::default()
    });
    world.handler.eof = Some(Box::new(move |_, connection| {
        connection.write(&vec![b'x'; count]);
        connection.finish();
    }));
    let (_, address) = world.listen_with(&ListenOptions {
        send_buffer: Some(4 * count),
        ..ListenOptions::new(loopback())
    });
    let client = connect(address);
    setsockopt(&client, sockopt::RcvBuf, &(16 << 10)).unwrap();
    world.until_opened(1);
    client.shutdown(Shutdown::Write).unwrap();
    world.settle();
    assert_eq!((world.seen().rests.len(), world.stats().pending), (1, 0));
    (world, client)
}

#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
#[test]
fn who_has_finished_is_done_when_the_peer_has_acknowledged_all_and_costs_nothing_meanwhile() {
    const ANSWER: usize = 300_000;
    let (mut world, mut client) = undelivered(ANSWER);
    let (start, mut turns) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(500) {
        let rest = Some(Duration::from_millis(50));
        world.reactor.turn(&mut world.handler, rest).unwrap();
        turns += 1;
    }
    assert_eq!(world.seen().closed, []);
    assert!(turns < 50, "{turns} turns, and nothing to do");
    let (bytes, end) = world.receive_to_end(&mut client);
    end.unwrap();
    assert_eq!(bytes.len(), ANSWER);
    assert_eq!(world.until_closed(1), CloseReason::Finished);
}

#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
#[test]
fn a_reset_before_all_is_acknowledged_is_no_good_end() {
    let (mut world, client) = undelivered(300_000);
    assert_eq!(world.seen().closed, []);
    reset(client);
    assert_eq!(world.until_closed(1), CloseReason::Reset);
}

/// Two ends of a connection that no reactor knows yet.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (stream, listener.accept().unwrap().0)
}

#[test]
fn an_adopted_stream_whose_send_buffer_is_full_is_open_at_once() {
    let (mut stream, mut peer) = pair();
    let before = write_until_blocked(&mut stream);
    let mut world = World::new();
    world.handler.open = Some(Box::new(|_, connection| {
        connection.write(b"behind all that");
    }));
    let id = world.context().adopt(stream, 6).unwrap();
    world.turn();
    world.turn();
    assert_eq!(world.seen().opened, [id]);
    let bytes = world.receive(&mut peer, before + 15);
    assert!(bytes.ends_with(b"xbehind all that"));
    assert_eq!(world.exchange(&mut peer, b"ping"), b"ping");
}

#[test]
fn a_stream_whose_reset_somebody_has_read_before_cannot_be_adopted_and_its_session_comes_back() {
    let (stream, peer) = pair();
    reset(peer);
    let deadline = Instant::now() + PATIENCE;
    while stream.take_error().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the reset does not arrive");
        stand_still(Duration::from_millis(1));
    }
    let mut world = World::new();
    let refused = world.context().adopt(stream, 6).unwrap_err();
    assert_eq!(refused.session, 6);
    assert_eq!(world.context().connections().count(), 0);
}

#[test]
fn a_drain_counts_no_pauses_of_listeners_at_which_nobody_waits() {
    // With and without room for another one.
    for max_connections in [1, 10] {
        let mut world = World::with(Limits {
            max_connections,
            ..Limits::default()
        });
        let client = world.client();
        world.settle();
        let before = world.stats();
        world.context().drain(PATIENCE);
        drop(client);
        let deadline = Instant::now() + PATIENCE;
        let mut last = world.turn();
        while last.ended.is_none() {
            assert!(Instant::now() < deadline, "it drains and drains");
            last = world.turn();
        }
        assert_eq!(last.ended, Some(Ended::Drained { cut: 0 }));
        let after = world.stats();
        assert_eq!(
            (after.accept_pauses, after.limit_pauses),
            (before.accept_pauses, before.limit_pauses)
        );
    }
}
