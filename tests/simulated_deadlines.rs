//! What was there in time and is looked at late, and who holds a place for too long: deadlines, in simulated time.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Host, World, check};
use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Handler, Limits, ListenOptions,
};

const IDLE: Duration = Duration::from_millis(500);
/// For how long a process stands still.
const STALL: Duration = Duration::from_millis(700);
const MOMENT: Duration = Duration::from_millis(10);

fn address() -> SocketAddr {
    ([10, 0, 0, 1], 7).into()
}

fn host<H: Handler>(world: &mut World, handler: H, limits: Limits) -> Host<H> {
    let mut host = world.host(handler, limits).unwrap();
    let listener = host.context().listen(&ListenOptions::new(address()));
    listener.unwrap();
    host
}

fn idle() -> Limits {
    Limits {
        idle_timeout: Some(IDLE),
        ..Limits::default()
    }
}

/// Answers later whoever asked first, by a message ("a"), or by a timer ("s"); "r" of another one resumes it.
#[derive(Default)]
struct Later {
    asked: Option<ConnectionId>,
    heard: Vec<Vec<u8>>,
    closed: Vec<CloseReason>,
}

impl Later {
    fn answer(&mut self, context: &mut Context<()>) {
        let id = self.asked.unwrap();
        if let Some(mut connection) = context.connection(id) {
            connection.write(b"answer");
            connection.resume();
        }
    }
}

impl Handler for Later {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        self.heard.push(data.to_vec());
        match data {
            b"a" => {
                connection.pause();
                self.asked = Some(connection.id());
            }
            b"b" => _ = connection.write(&[7; 20_000]),
            b"s" => {
                self.asked = Some(connection.id());
                connection.timer(Duration::from_millis(50));
            }
            b"r" => {
                let id = self.asked.unwrap();
                connection.context().connection(id).unwrap().resume();
            }
            _ => {}
        }
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, ()>, _: &[u8]) {
        connection.write(b"wait");
    }

    fn on_message(&mut self, context: &mut Context<()>, (): ()) {
        self.answer(context);
    }

    fn on_timer(&mut self, context: &mut Context<()>, _: u64) {
        self.answer(context);
    }

    fn on_close(&mut self, _: &mut Context<()>, _: ConnectionId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

#[test]
fn a_message_posted_in_time_is_delivered_before_a_deadline_is_judged() {
    check(0..20, |world| {
        let mut host = host(world, Later::default(), idle());
        let peer = world.connect(address());
        peer.send(b"a");
        world.settle(&mut [&mut host]).unwrap();
        assert!(host.handler.asked.is_some());
        host.handle().send(()).unwrap();
        world.advance(&mut [], STALL).unwrap();
        world.settle(&mut [&mut host]).unwrap();
        assert_eq!(
            (peer.received(), &host.handler.closed[..]),
            (b"answer".to_vec(), &[][..])
        );
    });
}

#[test]
fn messages_without_end_do_not_put_a_deadline_off_for_good() {
    check(0..20, |world| {
        let limits = Limits {
            message_budget: 1,
            mailbox: 4,
            ..idle()
        };
        let mut host = host(world, Later::default(), limits);
        let peer = world.connect(address());
        peer.send(b"a");
        world.settle(&mut [&mut host]).unwrap();
        // It's answered, and silent from then on.
        for _ in 0..100 {
            while host.handle().send(()).is_ok() {}
            host.handler.asked = Some(ConnectionId::from_bits(u64::MAX));
            world.advance(&mut [], MOMENT).unwrap();
            host.turn(Some(Duration::ZERO)).unwrap();
        }
        assert!(peer.has_ended(), "it's still open");
    });
}

#[test]
fn a_timer_fires_before_a_deadline_that_comes_after_it() {
    check(0..20, |world| {
        let mut host = host(world, Later::default(), idle());
        let peer = world.connect(address());
        peer.send(b"s");
        world.settle(&mut [&mut host]).unwrap();
        assert!(host.handler.asked.is_some());
        world.advance(&mut [], STALL).unwrap();
        world.settle(&mut [&mut host]).unwrap();
        assert_eq!(
            (peer.received(), &host.handler.closed[..]),
            (b"answer".to_vec(), &[][..])
        );
    });
}

#[test]
fn a_connection_that_was_resumed_in_time_is_read_before_its_deadline_is_judged() {
    check(0..20, |world| {
        let mut host = host(world, Later::default(), idle());
        let peer = world.connect(address());
        peer.send(b"a");
        let other = world.connect(address());
        world.settle(&mut [&mut host]).unwrap();
        // Its event comes while it is paused.
        peer.send(b"m");
        world.settle(&mut [&mut host]).unwrap();
        other.send(b"r");
        world.advance(&mut [], STALL).unwrap();
        world.settle(&mut [&mut host]).unwrap();
        let heard = &host.handler.heard;
        assert!(heard.contains(&b"m".to_vec()), "{heard:?}");
    });
}

#[test]
fn what_is_written_at_the_peers_end_puts_idleness_off() {
    check(0..20, |world| {
        let mut host = host(world, Later::default(), idle());
        let peer = world.connect(address());
        world.advance(&mut [&mut host], IDLE - 10 * MOMENT).unwrap();
        peer.finish();
        world.advance(&mut [&mut host], IDLE - 10 * MOMENT).unwrap();
        assert_eq!(
            (peer.received(), &host.handler.closed[..]),
            (b"wait".to_vec(), &[][..])
        );
        world.advance(&mut [&mut host], 40 * IDLE).unwrap();
        assert_eq!(host.handler.closed, [CloseReason::IdleTimeout]);
    });
}

#[test]
fn a_large_answer_gives_no_more_time_than_a_small_one() {
    check(0..100, |world| {
        let mut host = host(world, Later::default(), idle());
        let peer = world.connect(address());
        peer.send(b"b");
        world.settle(&mut [&mut host]).unwrap();
        assert_eq!(peer.received().len(), 20_000);
        world.advance(&mut [&mut host], IDLE + 20 * MOMENT).unwrap();
        assert!(peer.has_ended(), "it's still open");
    });
}

/// Takes lines; what has no end yet is left.
#[derive(Default)]
struct Lines {
    lines: Vec<usize>,
    closed: Vec<CloseReason>,
}

impl Handler for Lines {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        if data.last() != Some(&b'\n') {
            return 0;
        }
        self.lines.push(data.len());
        data.len()
    }

    fn on_close(&mut self, _: &mut Context<()>, _: ConnectionId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

#[test]
fn a_trickle_does_not_keep_the_memory_that_others_wait_for() {
    check(0..20, |world| {
        let limits = Limits {
            max_pending: 20_000,
            write_timeout: Some(Duration::from_millis(400)),
            ..Limits::default()
        };
        let mut host = host(world, Lines::default(), limits);
        // One that holds and says nothing more, one that is fed and trickles, and one with a line.
        let holds = world.connect(address());
        holds.send(&[b'h'; 8192]);
        world.settle(&mut [&mut host]).unwrap();
        let trickles = world.connect(address());
        trickles.send(&[b't'; 12_288]);
        world.settle(&mut [&mut host]).unwrap();
        let honest = world.connect(address());
        honest.send(&[b'x'; 7_999]);
        honest.send(b"\n");
        for _ in 0..100 {
            trickles.send(b"t");
            world.advance(&mut [&mut host], MOMENT).unwrap();
        }
        let Lines { lines, closed } = &*host.handler;
        assert_eq!(lines, &[8_000], "{closed:?}");
    });
}
