//! Hostile peers against a reactor of this process, so that what they cost can be counted to the
//! byte and to the turn: all orders in which two ends leave each other, resets one after another,
//! segments of one byte, urgent data without end, deadlines that come all at once.
//!
//! The sizes are those for every run; `OREAD_HOSTILE=large` has them as large as they were tried by
//! hand.
#![cfg(not(mio_unsupported_force_poll_poll))]
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/hostile.rs"]
mod hostile;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{PATIENCE, World, connect, reset};
use hostile::{Heard, Peer, Words, size};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{MsgFlags, send};
use oread::{CloseReason, ConnectionId, Echo, EchoOptions, Limits};

/// Held by the one test that runs: they count this process's descriptors.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Where it can't be raised, the small sizes do.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What either end does to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    PeerSays,
    PeerEnds,
    PeerIsDeaf,
    PeerLeaves,
    PeerResets,
    Writes,
    Finishes,
    Closes,
    Aborts,
}

use Step::{
    Aborts, Closes, Finishes, PeerEnds, PeerIsDeaf, PeerLeaves, PeerResets, PeerSays, Writes,
};

const STEPS: [Step; 9] = [
    PeerSays, PeerEnds, PeerIsDeaf, PeerLeaves, PeerResets, Writes, Finishes, Closes, Aborts,
];

/// Calls `each` with every order of up to `longest` of these steps, each at most once.
fn orders(longest: usize, so_far: &mut Vec<Step>, each: &mut dyn FnMut(&[Step])) {
    each(so_far);
    if so_far.len() == longest {
        return;
    }
    for step in STEPS {
        if !so_far.contains(&step) {
            so_far.push(step);
            orders(longest, so_far, each);
            so_far.pop();
        }
    }
}

/// What a handler writes at once: more than goes into one segment, less than either system holds.
const WRITTEN: usize = 40_000;
const SAID: usize = 30_000;

/// One connection on which an order is played, and what is true of it.
struct Play<'a> {
    world: &'a mut World,
    id: ConnectionId,
    peer: Option<TcpStream>,
    /// Bytes that the peer's system took.
    said: usize,
    /// Bytes that the handler wrote while it had not finished.
    wrote: usize,
    finished: bool,
    closed: bool,
    aborted: bool,
    deaf: bool,
    /// The peer left, in good order or not, and what was under way to it has nobody to go to.
    left: bool,
}

impl<'a> Play<'a> {
    fn new(world: &'a mut World, address: SocketAddr) -> Play<'a> {
        let peer = connect(address);
        let opened = world.seen().opened.len();
        while world.seen().opened.len() == opened {
            world.turn();
        }
        peer.set_nonblocking(true).unwrap();
        let id = world.seen().opened[opened];
        world.seen().bytes.clear();
        world.seen().rests.clear();
        Play {
            world,
            id,
            peer: Some(peer),
            said: 0,
            wrote: 0,
            finished: false,
            closed: false,
            aborted: false,
            deaf: false,
            left: false,
        }
    }

    /// Turns until there's nothing to do now. What one end of loopback sends has arrived when the
    /// call is back.
    fn turn(&mut self) {
        while {
            let turn = self.world.turn_for(Duration::ZERO);
            turn.more || turn.events > 0
        } {}
    }

    fn act(&mut self, step: Step) {
        match step {
            PeerSays | PeerEnds | PeerIsDeaf | PeerLeaves | PeerResets => self.peer_acts(step),
            Writes | Finishes | Closes | Aborts => self.handler_acts(step),
        }
    }

    fn peer_acts(&mut self, step: Step) {
        let Some(mut peer) = self.peer.take() else {
            return;
        };
        // What fails here fails because the connection is over, and that is seen at the end.
        match step {
            PeerSays => {
                let mut bytes = vec![0; SAID];
                Words(self.id.to_bits()).fill(0, &mut bytes);
                self.said += peer.write(&bytes).unwrap_or(0);
            }
            PeerEnds => drop(peer.shutdown(Shutdown::Write)),
            PeerIsDeaf => {
                self.deaf = true;
                let _ = peer.shutdown(Shutdown::Read);
            }
            _ => {
                self.left = true;
                match step {
                    PeerLeaves => drop(peer),
                    _ => reset(peer),
                }
                return;
            }
        }
        self.peer = Some(peer);
    }

    fn handler_acts(&mut self, step: Step) {
        let Some(mut connection) = self.world.connection(self.id) else {
            return;
        };
        match step {
            Writes => {
                let mut bytes = vec![0; WRITTEN];
                Words(!self.id.to_bits()).fill(0, &mut bytes);
                connection.write(&bytes);
                let open = !(self.finished || self.closed || self.aborted);
                self.wrote += if open { WRITTEN } else { 0 };
            }
            Finishes => {
                connection.finish();
                self.finished = true;
            }
            Closes => {
                connection.close(CloseReason::Closed);
                self.closed |= !self.aborted;
            }
            _ => {
                connection.abort(CloseReason::Aborted);
                self.aborted = true;
            }
        }
    }

    /// Whether the connection has been told closed; it must have been so once at most.
    fn is_over(&mut self) -> bool {
        let id = self.id;
        let count = self
            .world
            .seen()
            .closed
            .iter()
            .filter(|c| c.0 == id)
            .count();
        assert!(count <= 1, "closed {count} times");
        count == 1
    }

    /// Brings it to its end in good order, as far as that is possible, and checks what came of it.
    fn end(mut self) {
        self.handler_acts(Finishes);
        self.peer_acts(PeerEnds);
        let (mut heard, mut end) = (Vec::new(), None);
        let deadline = Instant::now() + PATIENCE;
        while end.is_none() && self.peer.is_some() || !self.is_over() {
            assert!(Instant::now() < deadline, "it does not end");
            if let (Some(peer), None) = (&mut self.peer, end) {
                let mut buffer = [0; 64 << 10];
                match peer.read(&mut buffer) {
                    Ok(0) => end = Some(true),
                    Ok(count) => heard.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => end = Some(false),
                }
            }
            // One that's deaf doesn't take what is there, and its end is a reset.
            if self.deaf && end.is_some() {
                self.peer = None;
            }
            self.world.turn_for(Duration::from_millis(1));
        }
        self.check(&heard, end);
    }

    fn check(self, heard: &[u8], in_order: Option<bool>) {
        let mut written = vec![0; WRITTEN];
        Words(!self.id.to_bits()).fill(0, &mut written);
        assert!(written.starts_with(heard), "other bytes than were written");
        let mut said = vec![0; SAID];
        Words(self.id.to_bits()).fill(0, &mut said);
        let consumed = std::mem::take(&mut self.world.seen().bytes);
        assert!(
            said[..self.said].starts_with(&consumed),
            "other bytes than were said"
        );
        let reason = self.world.seen().closed.pop().unwrap().2;
        let may = match reason {
            CloseReason::Finished => !self.closed && !self.aborted,
            CloseReason::Closed => self.closed,
            CloseReason::Aborted => self.aborted,
            CloseReason::Reset => self.left || self.deaf,
            _ => false,
        };
        assert!(may, "closed with {reason:?}");
        if self.left || self.deaf || self.aborted {
            return;
        }
        assert_eq!(in_order, Some(true), "its end is a reset");
        assert_eq!(heard.len(), self.wrote, "bytes that the peer got");
        if !self.closed {
            assert_eq!(consumed.len(), self.said, "bytes that the handler got");
        }
    }
}

#[test]
fn in_whatever_order_two_ends_shut_down_each_hears_all_that_it_can_and_the_close_comes_once() {
    let _alone = alone();
    let mut world = World::new();
    // A handler that listens, and ends only where the order says so.
    world.handler.data = Some(Box::new(|_, _, data| data.len()));
    world.handler.eof = Some(Box::new(|_, _| {}));
    let (_, address) = world.listen();
    let before = descriptors();
    let mut count = 0;
    orders(size(3, 6), &mut Vec::new(), &mut |order| {
        for turns_between in [false, true] {
            count += 1;
            let what = format!("{order:?}, turns between: {turns_between}");
            let play = || {
                let mut play = Play::new(&mut world, address);
                for &step in order {
                    play.act(step);
                    if turns_between {
                        play.turn();
                    }
                }
                play.end();
            };
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(play));
            assert!(played.is_ok(), "{what}");
        }
    });
    println!("{count} orders");
    let stats = world.stats();
    assert_eq!((stats.open, stats.pending, stats.held), (0, 0, 0));
    assert_eq!(stats.accepted, count);
    assert_eq!(descriptors(), before);
}

/// Connects, says something or nothing, waits for the answer or doesn't, and leaves by a reset.
fn touch(world: &mut World<Echo>, address: SocketAddr, number: u64) {
    let accepted = world.stats().accepted;
    let mut peer = Peer::connect(address, number).hurried();
    match number % 6 {
        0 => {}
        1 => assert_eq!(peer.say(8), 8),
        2 => {
            assert_eq!(peer.say(1000), 1000);
            while peer.heard < peer.said {
                world.turn();
                assert_ne!(peer.hear(1000), Heard::End);
            }
        }
        // Much of it, and in the middle of its answer.
        3 => {
            for _ in 0..10 {
                peer.say(64 << 10);
                world.turn_for(Duration::ZERO);
            }
        }
        4 => {
            assert_eq!(peer.say(1000), 1000);
            peer.stream.shutdown(Shutdown::Write).unwrap();
        }
        // Known to the server before it says anything.
        _ => drop(world.turn_for(Duration::ZERO)),
    }
    peer.reset();
    while world.stats().accepted == accepted || world.stats().open > 0 {
        world.turn();
    }
}

#[test]
fn after_connections_one_after_another_each_reset_not_one_descriptor_or_byte_is_left_over() {
    let _alone = alone();
    let count = size(600, 100_000) as u64;
    let mut world = World::of(Limits::default(), Echo::new(EchoOptions::default()));
    let (_, address) = world.listen();
    (0..60).for_each(|number| touch(&mut world, address, number));
    let before = descriptors();
    let memory = allocation_counter::measure(|| {
        (0..count).for_each(|number| touch(&mut world, address, number));
    });
    assert_eq!(descriptors(), before);
    assert_eq!(memory.bytes_current, 0, "{memory:?}");
    assert_eq!(memory.count_current, 0, "{memory:?}");
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.open), (60 + count, 0));
    assert_eq!((stats.pending, stats.unconsumed, stats.held), (0, 0, 0));
    println!("{:?} of {count} connections", stats.closed);
}

#[test]
fn a_stream_in_segments_of_one_byte_comes_back_whole_at_an_event_a_byte_at_most() {
    let _alone = alone();
    let count = size(20_000, 512 << 10) as u64;
    let mut world = World::of(Limits::default(), Echo::new(EchoOptions::default()));
    let (_, address) = world.listen();
    let mut peer = Peer::connect(address, 5).hurried();
    let start = Instant::now();
    while peer.heard < count {
        assert!(
            start.elapsed() < 5 * PATIENCE,
            "{} bytes are back",
            peer.heard
        );
        // Some go out one by one before the reactor has its turn.
        for _ in 0..64 {
            if peer.said < count {
                peer.say(1);
            }
        }
        world.turn_for(Duration::ZERO);
        while let Heard::Bytes(_) = peer.hear(100) {}
    }
    world.settle();
    let stats = world.stats();
    assert_eq!((stats.bytes_in, stats.bytes_out), (count, count));
    assert!(stats.events <= count + 10, "{stats:?}");
    assert_eq!(stats.held, 0);
    println!(
        "{count} bytes in {:?}, {} events",
        start.elapsed(),
        stats.events
    );
}

#[test]
fn urgent_data_without_end_costs_no_other_byte_and_leaves_no_one_spinning() {
    let _alone = alone();
    let count = size(5_000, 100_000);
    let mut world = World::new();
    world.handler.forgetful = true;
    let (_, address) = world.listen();
    let (mut storm, mut honest) = (connect(address), Peer::connect(address, 3).hurried());
    world.until_opened(2);
    storm.set_nonblocking(true).unwrap();
    let mut back = Vec::new();
    for number in 0..count {
        let byte = b'a' + (number % 23) as u8;
        storm.write_all(&[byte]).unwrap();
        assert_eq!(send(storm.as_raw_fd(), b"!", MsgFlags::MSG_OOB), Ok(1));
        // Often before the reactor has seen the one before.
        if number % 3 == 0 {
            world.turn_for(Duration::ZERO);
            common::read_some(&mut storm, &mut back, usize::MAX).unwrap();
        }
        if number % 100 == 0 {
            assert_eq!(honest.say(10), 10);
            let turns = world.turns;
            while honest.heard < honest.said {
                world.turn_for(Duration::ZERO);
                assert!(world.turns < turns + 10_000, "the honest one starves");
                assert_ne!(honest.hear(10), Heard::End);
            }
        }
    }
    storm.shutdown(Shutdown::Write).unwrap();
    let (rest, end) = world.receive_to_end(&mut storm);
    end.unwrap();
    back.extend(rest);
    // An urgent byte that another overtakes becomes one of the stream: how many do is the system's
    // matter.
    back.retain(|&byte| byte != b'!');
    let sent: Vec<u8> = (0..count)
        .map(|number| b'a' + (number % 23) as u8)
        .collect();
    assert!(
        back == sent,
        "{} of {} bytes came back",
        back.len(),
        sent.len()
    );
    world.until_closed(1);
    world.settle();
    assert_eq!(world.reactor.next_timeout(), None, "it spins");
}

#[test]
fn timers_that_are_due_all_at_once_fire_once_each_and_keep_nobody_waiting_for_many_turns() {
    let _alone = alone();
    let count = size(5_000, 15_000) as u64;
    let mut world = World::new();
    let (_, address) = world.listen();
    let mut peer = Peer::connect(address, 1).hurried();
    world.until_opened(1);
    for key in 0..count {
        world.context().timer(Duration::from_millis(200), key);
    }
    let (mut most_turns, mut worst) = (0, Duration::ZERO);
    let start = Instant::now();
    while (world.seen().timers.len() as u64) < count {
        assert!(start.elapsed() < PATIENCE, "they don't fire");
        let (turns, asked) = (world.turns, Instant::now());
        assert_eq!(peer.say(10), 10);
        while peer.heard < peer.said {
            world.turn();
            assert_ne!(peer.hear(10), Heard::End);
        }
        most_turns = most_turns.max(world.turns - turns);
        worst = worst.max(asked.elapsed());
    }
    println!("{count} timers, the worst answer {worst:?} and {most_turns} turns");
    assert!(most_turns <= 4, "{most_turns} turns for an answer");
    world.seen().timers.sort_unstable();
    assert!(world.seen().timers.iter().copied().eq(0..count));
}

#[test]
fn connections_that_are_idle_all_at_once_end_in_good_order_and_keep_nobody_waiting_for_many_turns()
{
    let _alone = alone();
    let count = size(300, 8_000);
    let mut world = World::new();
    let (_, address) = world.listen();
    let mut honest = Peer::connect(address, 1).hurried();
    world.until_opened(1);
    let connect = |_| {
        let client = connect(address);
        world.turn_for(Duration::ZERO);
        client
    };
    let mut idle: Vec<_> = (0..count).map(connect).collect();
    world.until_opened(count + 1);
    // Given to all in one moment, so that it comes for all in one.
    let timeout = Some(Duration::from_millis(500));
    world
        .context()
        .for_each(|connection| connection.set_idle_timeout(timeout));
    let (mut most_turns, mut worst, mut told) = (0, Duration::ZERO, 0);
    let start = Instant::now();
    while told < count {
        assert!(start.elapsed() < PATIENCE, "{told} are idle");
        let (turns, asked) = (world.turns, Instant::now());
        assert_eq!(honest.say(10), 10);
        while honest.heard < honest.said {
            world.turn();
            assert_ne!(honest.hear(10), Heard::End);
        }
        most_turns = most_turns.max(world.turns - turns);
        worst = worst.max(asked.elapsed());
        told = world.seen().closing.len();
    }
    println!("{count} expiries, the worst answer {worst:?} and {most_turns} turns");
    assert!(most_turns <= 4, "{most_turns} turns for an answer");
    for client in &mut idle {
        assert_eq!(
            client.read(&mut [0]).unwrap(),
            0,
            "the end, and in good order"
        );
    }
    drop(idle);
    world.until_closed(count);
    let all = world.stats().closed.of(CloseReason::IdleTimeout);
    assert_eq!(all, count as u64);
}
