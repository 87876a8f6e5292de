//! Handles under stress: eight threads, a mailbox that is nearly always full, stops and a drain in
//! the middle of it; and two reactors that talk to each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use common::{PATIENCE, World, connect, pattern};
use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Ended, Handle,
    Handler, Limits, Pressure, Reactor, SendError,
};

const SENDERS: u64 = 8;
/// Places in the mailbox: fewer than eight threads fill between two turns.
const MAILBOX: usize = 16;

/// A reactor whose mailbox is nearly always full, as a turn takes only a part of it.
fn narrow() -> World {
    World::with(Limits {
        mailbox: MAILBOX,
        message_budget: 5,
        ..Limits::default()
    })
}

/// What a sender does beside sending.
#[derive(Clone, Copy)]
struct Plan {
    /// After so many accepted messages it asks for a stop, again and again.
    stop_every: u64,
    /// After so many it asks for a drain.
    drain_at: u64,
}

/// What all senders count together.
#[derive(Default)]
struct Tally {
    /// Sends that were refused because the mailbox was full.
    refused: AtomicU64,
    /// Calls of `stop`.
    stops: AtomicU64,
}

impl Tally {
    /// Waits until one more send has been refused: the mailbox is full.
    fn wait_until_full(&self) {
        let before = self.refused.load(Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        while self.refused.load(Ordering::Relaxed) == before {
            assert!(Instant::now() < deadline, "the mailbox is never full");
            thread::yield_now();
        }
    }
}

/// Sends until the reactor is gone; how many messages were accepted. Each says who sends it, and
/// how many of his were accepted before it: a refused one has not been sent, so its number goes to
/// the next try.
fn send_until_gone(handle: &Handle<u64>, sender: u64, plan: Plan, tally: &Tally) -> u64 {
    let mut accepted = 0;
    loop {
        let message = sender << 32 | accepted;
        match handle.send(message) {
            Ok(()) => {
                accepted += 1;
                if accepted % plan.stop_every == 0 {
                    tally.stops.fetch_add(1, Ordering::Relaxed);
                    handle.stop();
                }
                if accepted == plan.drain_at {
                    handle.drain(PATIENCE);
                }
            }
            Err(SendError::Full(back)) => {
                assert_eq!(back, message, "another message came back");
                tally.refused.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
            Err(SendError::Gone(back)) => {
                assert_eq!(back, message, "another message came back");
                return accepted;
            }
        }
    }
}

/// Eight threads that send.
fn start(world: &World, plan: Plan, tally: &Arc<Tally>) -> Vec<JoinHandle<u64>> {
    let one = |sender| {
        let (handle, tally) = (world.reactor.handle(), Arc::clone(tally));
        thread::spawn(move || send_until_gone(&handle, sender, plan, &tally))
    };
    (0..SENDERS).map(one).collect()
}

fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|t| t.join().unwrap()).collect()
}

/// How many messages of each sender there are; panics unless they are numbered without a gap, a
/// double or a swap.
fn count_each(messages: &[u64]) -> Vec<u64> {
    let mut next = vec![0; SENDERS as usize];
    for message in messages {
        let sender = (message >> 32) as usize;
        assert_eq!(message & 0xffff_ffff, next[sender], "of sender {sender}");
        next[sender] += 1;
    }
    next
}

/// Turns until the reactor ends. It waits as long as it likes: only events and the senders wake it.
fn run_out<H: Handler>(world: &mut World<H>) -> Ended {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "it does not end");
        if let Some(ended) = world.turn_for(PATIENCE).ended {
            return ended;
        }
    }
}

/// Connects and sends a ping, then sends another for each that comes back, until the end; how many
/// came back.
fn ping_until_the_end(address: SocketAddr) -> JoinHandle<u64> {
    let mut client = connect(address);
    client.write_all(b"ping").unwrap();
    thread::spawn(move || {
        let mut answers = 0;
        loop {
            let mut bytes = Vec::new();
            (&mut client).take(4).read_to_end(&mut bytes).unwrap();
            if bytes.is_empty() {
                return answers;
            }
            assert_eq!(bytes, b"ping");
            answers += 1;
            // It may be closed already, for all that's known here.
            client.write_all(b"ping").ok();
        }
    })
}

#[test]
fn through_stops_and_a_drain_no_accepted_message_of_eight_threads_is_lost() {
    let mut world = narrow();
    world.handler.forgetful = true;
    let (_, address) = world.listen();
    let tally = Arc::new(Tally::default());
    let plan = Plan {
        stop_every: 200,
        drain_at: 3_000,
    };
    let clients = (0..4).map(|_| ping_until_the_end(address)).collect();
    let senders = start(&world, plan, &tally);
    tally.wait_until_full();
    let mut stopped = 0;
    loop {
        match run_out(&mut world) {
            Ended::Stopped => stopped += 1,
            ended => {
                assert_eq!(ended, Ended::Drained { cut: 0 });
                break;
            }
        }
    }
    let accepted = join(senders);
    assert_eq!(count_each(&world.seen().messages), accepted);
    assert_eq!(world.stats().messages, accepted.iter().sum::<u64>());
    // One of them has asked for the drain; the first stop came long before it.
    assert!(accepted.iter().any(|&count| count >= plan.drain_at));
    assert!((1..=tally.stops.load(Ordering::Relaxed)).contains(&stopped));
    assert!(join(clients).iter().all(|&answers| answers > 0));
    assert!(world.reactor.into_messages().is_empty());
}

#[test]
fn what_eight_threads_post_to_a_reactor_that_is_given_up_is_delivered_or_comes_back() {
    let mut world = narrow();
    let tally = Arc::new(Tally::default());
    let never = Plan {
        stop_every: u64::MAX,
        drain_at: u64::MAX,
    };
    let senders = start(&world, never, &tally);
    world.until("many messages are there", |world| {
        world.handler.seen.messages.len() > 10_000
    });
    world.reactor.handle().stop();
    assert_eq!(run_out(&mut world), Ended::Stopped);
    // Nobody takes any now, so the mailbox fills up.
    tally.wait_until_full();
    let mut all = std::mem::take(&mut world.seen().messages);
    let back = world.reactor.into_messages();
    assert_eq!(back.len(), MAILBOX);
    all.extend(back);
    assert_eq!(count_each(&all), join(senders));
}

/// Sends a text on each connection that it dials, and checks what comes back.
struct Caller {
    text: Vec<u8>,
    ends: Vec<(CloseReason, Progress)>,
}

/// How many bytes of the text are sent, and how many came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    sent: usize,
    received: usize,
}

impl Caller {
    fn say_more(&self, connection: &mut Connection<'_, Progress>) {
        for part in self.text[connection.session().sent..].chunks(10_000) {
            connection.session_mut().sent += part.len();
            if connection.write(part) == Pressure::High {
                return;
            }
        }
        connection.finish();
    }
}

impl Handler for Caller {
    type Session = Progress;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, Progress>, _: &Accepted) -> Option<Progress> {
        None
    }

    fn on_open(&mut self, connection: &mut Connection<'_, Progress>) {
        self.say_more(connection);
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, Progress>) {
        self.say_more(connection);
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Progress>, data: &[u8]) -> usize {
        let from = connection.session().received;
        assert_eq!(data, &self.text[from..from + data.len()]);
        connection.session_mut().received += data.len();
        data.len()
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, Progress>,
        _: ConnectionId,
        session: Progress,
        reason: CloseReason,
    ) {
        self.ends.push((reason, session));
        if self.ends.len() == CALLS {
            context.drain(PATIENCE);
        }
    }
}

/// Connections between the two reactors.
const CALLS: usize = 20;

#[test]
fn two_reactors_of_one_process_talk_to_each_other_and_every_byte_comes_back() {
    let (told, hears) = mpsc::channel();
    let server = thread::spawn(move || {
        let mut world = World::new();
        world.handler.forgetful = true;
        let (_, address) = world.listen();
        told.send((address, world.reactor.handle())).unwrap();
        (run_out(&mut world), world.stats())
    });
    let (address, server_s) = hears.recv().unwrap();

    let text = pattern(1 << 20);
    let whole = Progress {
        sent: text.len(),
        received: text.len(),
    };
    let ends = Vec::new();
    let mut caller = World::of(Limits::default(), Caller { text, ends });
    for _ in 0..CALLS {
        let options = ConnectOptions::new(address);
        let dialed = caller.context().connect(&options, Progress::default());
        dialed.unwrap();
    }
    caller.until("all calls are over", |caller| {
        caller.handler.ends.len() == CALLS
    });
    let all = vec![(CloseReason::Finished, whole); CALLS];
    assert_eq!(caller.handler.ends, all);

    server_s.drain(PATIENCE);
    let (ended, stats) = server.join().unwrap();
    assert_eq!(ended, Ended::Drained { cut: 0 });
    assert_eq!(stats.accepted, CALLS as u64);
    assert_eq!(stats.bytes_in, (CALLS * whole.sent) as u64);
    assert_eq!(stats.bytes_out, stats.bytes_in);
}

/// Sends each number on to another reactor, one higher, up to the last.
struct Relay {
    other: Handle<u64>,
    heard: Vec<u64>,
}

const LAST: u64 = 10_000;

impl Handler for Relay {
    type Session = ();
    type Message = u64;

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        None
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_message(&mut self, context: &mut Context<'_, ()>, number: u64) {
        self.heard.push(number);
        if number < LAST {
            self.other.send(number + 1).unwrap();
        }
        if number + 1 >= LAST {
            context.drain(PATIENCE);
        }
    }
}

#[test]
fn two_reactors_wake_each_other_by_their_handles_without_end() {
    // A mailbox of one place: there is only one message in flight.
    let limits = Limits {
        mailbox: 1,
        ..Limits::default()
    };
    let relay = |other| Relay {
        other,
        heard: Vec::new(),
    };
    let (to_odd, from_even) = mpsc::channel();
    let (to_even, from_odd) = mpsc::channel();
    let odd_limits = limits.clone();
    let odd = thread::spawn(move || {
        let other: Handle<u64> = from_even.recv().unwrap();
        let mut world = World::of(odd_limits, relay(other));
        to_even.send(world.reactor.handle()).unwrap();
        (run_out(&mut world), world.handler.heard)
    });
    // Each wants the other's handle before it has a handler.
    let reactor: Reactor<Relay> = Reactor::with_limits(limits).unwrap();
    to_odd.send(reactor.handle()).unwrap();
    let handler = relay(from_odd.recv().unwrap());
    let mut even = World {
        reactor,
        handler,
        turns: 0,
    };
    even.reactor.handle().send(0).unwrap();
    let drained = Ended::Drained { cut: 0 };
    assert_eq!(run_out(&mut even), drained);
    let heard: Vec<_> = (0..=LAST).step_by(2).collect();
    assert_eq!(even.handler.heard, heard);
    let heard: Vec<_> = (1..LAST).step_by(2).collect();
    assert_eq!(odd.join().unwrap(), (drained, heard));
}
