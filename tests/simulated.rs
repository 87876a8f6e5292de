//! The echo under a network that does its worst: peers that send in any pieces, stop, finish, reset
//! and vanish, and a system that fails wherever it may. Each peer keeps its own books.
//!
//! `OREAD_SEEDS=100000 cargo test --release --features sim --test simulated` searches longer.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/framings.rs"]
mod framings;
#[path = "common/hosts.rs"]
mod hosts;
#[path = "common/watched.rs"]
mod watched;

use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Fault, Host, Peer, World, check};
use oread::{CloseReason, Echo, EchoOptions, Framing, Limits, ListenOptions};

use framings::{Start, around, delimiter, ends_with_stream};
use hosts::address;
use watched::{Life, Watched, look_at};

const MAX_FRAME: usize = 9000;

/// Faults that reset one caller, and are nothing to all others.
const OF_CALLERS: [Fault; 4] = [
    Fault::AcceptAborted,
    Fault::AcceptProtocol,
    Fault::AcceptForbidden,
    Fault::AcceptNetwork,
];

/// Faults by which the system doesn't say at once what has arrived.
const UNTOLD: [Fault; 3] = [Fault::ReadBlocked, Fault::EventLate, Fault::EventSplit];

/// Faults that may part a peer from the echo without a word to either of them.
const SILENT: [Fault; 3] = [Fault::PeerVanishes, Fault::Partition, Fault::ResetOneEnd];

/// What an echo must give back for `sent` by a peer that has finished; `None`: its last frame is
/// too long or cut off, and what is before it may be answered in full.
fn expected(framing: Framing, sent: &[u8]) -> (Vec<u8>, bool) {
    let mut at = 0;
    loop {
        let rest = &sent[at..];
        match framings::start(framing, rest, MAX_FRAME) {
            _ if rest.is_empty() => return (sent.to_vec(), true),
            Start::Frame(_, len) => at += len,
            // A last line without its newline is one all the same.
            Start::Partial(_) if ends_with_stream(framing) => return (sent.to_vec(), true),
            _ => return (sent[..at].to_vec(), false),
        }
    }
}

/// Whether `consumed` ends where a frame does. The last line may have no newline, which is known
/// when the peer has `finished`.
fn ends_a_frame(framing: Framing, consumed: &[u8], finished: bool) -> bool {
    let may_be_cut = finished || delimiter(framing).is_none() || consumed.is_empty();
    expected(framing, consumed).0.len() == consumed.len()
        && (may_be_cut || consumed.last().copied() == delimiter(framing))
}

/// What one peer is going to do, and has done.
struct Client {
    peer: Peer,
    address: Option<SocketAddr>,
    sent: Vec<u8>,
    framing: Framing,
    /// What must come back for that, and whether all of it is good.
    whole: (Vec<u8>, bool),
    /// How much of that is due before its end: all but a last line without a newline.
    due: usize,
    /// How much of what came back was found right, of what the server consumed, and of what it
    /// left.
    right: (usize, usize, usize),
    /// What is left to be done, the next first: when, and what.
    script: Vec<(Duration, Act)>,
    finished: bool,
    /// Whether it's gone without a word or with a reset: then only what it has got must be right.
    gone: bool,
    /// Whether it ever stopped reading, or read slowly.
    slow: bool,
    /// Whether it may not have read all that came.
    behind: bool,
    /// Whether it has sent a byte of urgent data, which is not shown.
    urgent: bool,
    /// Bytes that the server's system was known to have when its last turn began.
    arrived: usize,
    /// How many of those, and how many were shown, when it was told idle.
    idle: Option<(usize, usize)>,
}

#[derive(Clone, Debug)]
enum Act {
    Send(Vec<u8>),
    Pieces(Vec<u8>, usize, Duration),
    /// One byte that is no part of what the server reads.
    Urgent,
    StopReading,
    StartReading,
    Finish,
    Reset,
    Vanish,
}

impl Client {
    /// A peer, with frames to send and a manner of its own. Where memory is `tight` nobody stays in
    /// the middle of a frame, for which others may wait.
    fn draw(world: &mut World, framing: Framing, most: usize, tight: bool) -> Client {
        let peer = world.connect(address());
        // Once it has stopped reading it never starts again.
        let stuck = world.one_in(if tight { 3 } else { 8 });
        let mut script = Vec::new();
        let mut at = world.now();
        let mut slow = false;
        // A second one before the first was read past may or may not become a part of the rest.
        let mut urgent = world.one_in(4);
        for _ in 0..world.roll(6) {
            at += Duration::from_micros(world.roll(200_000));
            let bytes = frames(world, framing, most);
            script.push(match world.roll(4) {
                0 => {
                    let piece = 1 + world.roll(50) as usize;
                    let pause = Duration::from_micros(world.roll(2000));
                    (
                        at,
                        Act::Pieces(bytes[..bytes.len().min(400)].to_vec(), piece, pause),
                    )
                }
                _ => (at, Act::Send(bytes)),
            });
            if urgent && world.one_in(2) {
                urgent = false;
                script.insert(script.len() - world.roll(2) as usize, (at, Act::Urgent));
            }
            if world.one_in(if stuck { 3 } else { 6 }) {
                slow = true;
                script.push((at, Act::StopReading));
                at += Duration::from_micros(world.roll(300_000));
                if !stuck {
                    script.push((at, Act::StartReading));
                }
            }
        }
        at += Duration::from_micros(world.roll(100_000));
        match world.roll(8) {
            0 => script.push((at, Act::Reset)),
            1 if !tight => script.push((at, Act::Vanish)),
            2 if !tight => {}
            _ => script.push((at, Act::Finish)),
        }
        script.reverse();
        Client {
            address: peer.local_addr(),
            peer,
            sent: Vec::new(),
            framing,
            whole: (Vec::new(), true),
            due: 0,
            right: (0, 0, 0),
            script,
            finished: false,
            gone: false,
            slow,
            behind: slow,
            urgent: false,
            arrived: 0,
            idle: None,
        }
    }

    /// Does what is due.
    fn act(&mut self, now: Duration) {
        let before = self.sent.len();
        while let Some((_, act)) = self.script.pop_if(|(at, _)| *at <= now) {
            match act {
                Act::Send(bytes) => {
                    self.peer.send(&bytes);
                    self.sent.extend(bytes);
                }
                Act::Pieces(bytes, piece, pause) => {
                    self.peer.send_slowly(&bytes, piece, pause);
                    self.sent.extend(bytes);
                }
                Act::Urgent => {
                    self.urgent = true;
                    self.peer.send_urgent(b'!');
                }
                Act::StopReading => self.peer.stop_reading(),
                Act::StartReading => self.peer.start_reading(),
                Act::Finish => {
                    self.peer.finish();
                    self.finished = true;
                }
                Act::Reset => {
                    self.peer.reset();
                    self.gone = true;
                }
                Act::Vanish => {
                    self.peer.vanish();
                    self.gone = true;
                }
            }
        }
        if self.sent.len() > before {
            self.whole = expected(self.framing, &self.sent);
            let whole = &self.whole.0;
            self.due = match delimiter(self.framing) {
                Some(end) => whole
                    .iter()
                    .rposition(|&byte| byte == end)
                    .map_or(0, |at| at + 1),
                None => whole.len(),
            };
        }
    }

    /// What must hold at any time.
    fn look(&mut self, echo: &Watched<Echo>) {
        let (whole, _) = &self.whole;
        let (back, shown, left) = &mut self.right;
        let (new, before) = (self.peer.received_after(*back), *back);
        // Most steps bring nothing new.
        if !new.is_empty() {
            let right = whole.get(*back..);
            let right = right.is_some_and(|rest| rest.starts_with(&new));
            assert!(right, "what comes back behind {back} bytes is not the echo");
            *back += new.len();
        }
        let arrived = std::mem::replace(&mut self.arrived, self.peer.acknowledged());
        let life = self.address.and_then(|address| echo.life_of(address));
        let Some(life) = life else {
            return;
        };
        if life.closing > 0 && self.idle.is_none() {
            let count = life.consumed.len() + life.left.len() + usize::from(self.urgent);
            // One whose answers are under way is perhaps not read for that.
            let answered = before >= life.consumed.len();
            self.idle = Some((if answered { arrived } else { 0 }, count));
        }
        let new = &life.consumed[*shown..];
        // What is left may be long, and the same for many steps.
        if !new.is_empty() || *left != life.left.len() {
            let sent = &self.sent[*shown..];
            let right = sent.strip_prefix(new);
            let right = right.is_some_and(|rest| rest.starts_with(&life.left));
            assert!(right, "input behind {shown} bytes is not what was sent");
            *shown += new.len();
            *left = life.left.len();
        }
        let ends = ends_a_frame(self.framing, new, self.finished);
        assert!(ends, "the end of {new:?} is no frame's");
        let (back, whole) = (*back, whole.len());
        self.look_at_ends(life, back == whole);
    }

    /// What must hold of its ends, when all has come `back` or not.
    fn look_at_ends(&self, life: &Life, back: bool) {
        if life.eof {
            assert!(self.finished, "an end is told that the peer didn't send");
            let count = life.consumed.len() + life.left.len();
            assert_eq!(count, self.sent.len(), "the end is told before all input");
        }
        if self.peer.has_ended() && life.closed == Some(CloseReason::Finished) {
            assert!(back, "finished, and not all came back");
        }
    }

    /// What must hold when nothing moves any more, of those whom no fault that was `met` excuses:
    /// false of others. An `impatient` server ends those who pause.
    fn look_at_end(&self, echo: &Watched<Echo>, met: &[Fault], impatient: bool) -> bool {
        let (whole, good) = &self.whole;
        let is_broken = |fault: &Fault| match OF_CALLERS.contains(fault) {
            true => self.peer.was_reset(),
            false => fault.breaks(),
        };
        // Who isn't read for its own output, or of whom the system says too little, may be idle.
        let untold = met.iter().any(|fault| UNTOLD.contains(fault));
        if let Some((arrived, shown)) = self.idle.filter(|_| !self.slow && !untold) {
            assert!(
                arrived <= shown,
                "idle, and {arrived} had come, not {shown}"
            );
        }
        let life = self.address.and_then(|address| echo.life_of(address));
        let reason = life.and_then(|life| life.closed);
        let is_idle = self.idle.is_some() || reason == Some(CloseReason::IdleTimeout);
        let ends_idle = impatient && is_idle;
        // After a bad frame the server closes, and a peer that goes on sending is reset for it.
        let excused = self.gone || self.behind || !*good || ends_idle;
        // A fault that breaks a connection shows there, on one side or the other.
        let is_parted = self.peer.was_reset()
            || self.peer.has_timed_out()
            || !self.peer.is_connected()
            || life.is_none()
            || is_idle
            || reason.is_some_and(|reason| reason != CloseReason::Finished)
            || met.iter().any(|fault| SILENT.contains(fault));
        if excused || is_parted && met.iter().any(is_broken) {
            return false;
        }
        if !self.finished {
            assert_eq!(self.right.0, self.due, "{life:?}");
            return false;
        }
        assert_eq!(self.right.0, whole.len(), "{life:?}");
        assert!(self.peer.has_ended() && !self.peer.was_reset(), "{life:?}");
        assert_eq!(reason, Some(CloseReason::Finished));
        true
    }
}

/// Some whole frames of up to `most` bytes, and now and then a bad one or a piece of one.
fn frames(world: &mut World, framing: Framing, most: usize) -> Vec<u8> {
    let frame = most.min(MAX_FRAME);
    let mut bytes = Vec::new();
    for _ in 0..world.count(5) {
        let fill = b'a' + world.roll(26) as u8;
        let payload = match (framing.min_declarable(), framing.max_declarable()) {
            (Some(least), Some(most)) if least == most => least as usize,
            (_, Some(declarable)) => world.size(frame.min(declarable as usize)),
            _ if framing == Framing::Raw => world.size(most),
            _ => world.size(frame),
        };
        let (before, behind) = around(framing, payload).unwrap();
        bytes.extend([before, vec![fill; payload], behind].concat());
    }
    if world.one_in(12) {
        let cut = world.size(bytes.len());
        bytes.truncate(cut);
    }
    bytes
}

/// Limits that are reached soon, or the default ones.
fn draw_limits(world: &mut World) -> Limits {
    let idle = match world.one_in(6) {
        true => Duration::from_millis(50 + world.roll(300)),
        false => Duration::from_secs(30),
    };
    let mut limits = Limits {
        idle_timeout: Some(idle),
        ..Limits::default()
    };
    if world.one_in(2) {
        return limits;
    }
    limits.read_buffer = world.pick(&[1, 100, 4096, 65_536]);
    limits.max_input = world.pick(&[MAX_FRAME + 16, 100_000]);
    limits.high_water = world.pick(&[1, 1000, 30_000]);
    limits.max_pending = world.pick(&[1 << 30, 100_000, 10_000, 3000]);
    limits.low_water = limits.high_water / 2;
    limits.gather = world.pick(&[0, 100, 16 << 10]);
    limits.io_budget = world.pick(&[1, 2, 8]);
    limits.turn_bytes = world.pick(&[1, 10_000, 2 << 20]);
    limits.events = world.pick(&[1, 3, 1024]);
    limits.accept_budget = world.pick(&[1, 64]);
    limits.pooled = world.pick(&[0, 4 << 20]);
    limits.linger_bytes = world.pick(&[0, 1, 50_000]);
    limits
}

fn draw_framing(world: &mut World) -> Framing {
    let mut names = framings::PLAIN.to_vec();
    names.push(world.pick(&framings::LENGTHS));
    world.pick(&names).parse().unwrap()
}

/// One world with an echo and a few peers.
fn echo(world: &mut World) {
    world.unleash();
    let limits = draw_limits(world);
    play(world, limits);
}

/// As [`echo`], where all peers together want more than there is, and nothing else goes wrong.
fn hungry(world: &mut World) {
    let max_pending = world.pick(&[3000, 10_000, 30_000, 100_000]);
    let mut limits = draw_limits(world);
    limits.max_pending = max_pending;
    play(world, limits);
}

fn play(world: &mut World, limits: Limits) {
    let framing = draw_framing(world);
    let options = EchoOptions {
        framing,
        max_frame: MAX_FRAME,
        ..EchoOptions::default()
    };
    let tight = limits.max_pending < 1 << 30;
    let Ok(mut echo) = world.host(Watched::new(Echo::new(options)), limits) else {
        return;
    };
    if echo
        .context()
        .listen(&ListenOptions::new(address()))
        .is_err()
    {
        return;
    }
    // A reactor that reads a byte at a time turns hundreds of thousands of times for more than
    // this: three quarters of a search would be spent on few worlds.
    let one_by_one = echo.context().limits().read_buffer == 1;
    let most = match one_by_one && !world.one_in(20) {
        true => 500,
        false => 20_000,
    };
    let mut clients: Vec<Client> = (0..world.count(6))
        .map(|_| Client::draw(world, framing, most, tight))
        .collect();
    loop {
        let now = world.now();
        clients.iter_mut().for_each(|client| client.act(now));
        let next = clients
            .iter()
            .filter_map(|c| c.script.last())
            .map(|(at, _)| *at);
        let next = next.min();
        run(world, &mut echo, &mut clients, next);
        if next.is_none() {
            break;
        }
    }
    // Whoever waits for a listener that pauses.
    world.calm();
    let end_of_pauses = world.now() + Duration::from_secs(3);
    run(world, &mut echo, &mut clients, Some(end_of_pauses));
    run(world, &mut echo, &mut clients, None);
    look_at_all(world, &mut echo, &mut clients);
    end(world, &mut echo);
}

/// What must hold in the end of all who are not excused: at first of those who read, and then
/// everybody does.
fn look_at_all(world: &mut World, echo: &mut Host<Watched<Echo>>, clients: &mut [Client]) {
    let impatient = echo.context().limits().idle_timeout < Some(Duration::from_secs(30));
    let met = world.faults_met();
    for client in &*clients {
        client.look_at_end(&echo.handler, &met, impatient);
    }
    let late = world.now() > Duration::from_secs(25);
    for client in clients.iter_mut().filter(|client| !client.gone) {
        client.peer.start_reading();
        client.behind &= late;
    }
    run(world, echo, clients, None);
    clients.iter_mut().for_each(|c| c.look(&echo.handler));
    let mut all = true;
    for client in &*clients {
        all &= client.look_at_end(&echo.handler, &met, impatient);
    }
    let sums = sums(clients);
    let stats = look_at(echo);
    assert!(stats.bytes_in <= sums.0 && sums.1 <= stats.bytes_out);
    if all {
        assert_eq!(
            (stats.bytes_in, stats.bytes_out, stats.dropped),
            (sums.0, sums.1, 0)
        );
        assert_eq!((stats.consumed + stats.discarded, stats.written), sums);
    }
}

/// What all have sent, and got.
fn sums(clients: &[Client]) -> (u64, u64) {
    let sent: usize = clients.iter().map(|client| client.sent.len()).sum();
    let got: usize = clients.iter().map(|client| client.right.0).sum();
    (sent as u64, got as u64)
}

/// Runs up to `until`, or until nothing moves any more but by deadlines.
fn run(
    world: &mut World,
    echo: &mut Host<Watched<Echo>>,
    clients: &mut [Client],
    until: Option<Duration>,
) {
    while world.step(echo, until).unwrap() {
        look_at(echo);
        clients.iter_mut().for_each(|c| c.look(&echo.handler));
    }
}

/// A drain ends everybody, and nothing is left.
fn end(world: &mut World, echo: &mut Host<Watched<Echo>>) {
    echo.context().drain(Duration::from_secs(5));
    world.advance(echo, Duration::from_secs(6)).unwrap();
    let stats = look_at(echo);
    assert_eq!(
        (stats.open, stats.pending, stats.unconsumed, stats.held),
        (0, 0, 0, 0)
    );
    let over = echo
        .handler
        .lives
        .values()
        .all(|life| life.closed.is_some());
    assert!(over, "somebody was never told closed");
    assert_eq!(echo.process().sockets(), 0, "a socket was not closed");
}

#[test]
fn an_echo_is_exact_whatever_the_network_the_system_and_the_peers_do() {
    check(0..4000, echo);
}

#[test]
fn an_echo_is_exact_when_memory_is_short_beside_clients_that_never_read() {
    check(0..2000, hungry);
}

#[test]
fn a_calm_world_echoes_a_megabyte_to_each_of_a_hundred_peers() {
    let mut world = World::new(1);
    let echo = Watched::new(Echo::new(EchoOptions::default()));
    let mut echo = world.host(echo, Limits::default()).unwrap();
    echo.context()
        .listen(&ListenOptions::new(address()))
        .unwrap();
    let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
    let peers: Vec<Peer> = (0..100).map(|_| world.connect(address())).collect();
    for peer in &peers {
        peer.send(&bytes);
        peer.finish();
    }
    world.settle(&mut echo).unwrap();
    for peer in &peers {
        assert_eq!(peer.received(), bytes);
        assert!(peer.has_ended());
    }
    end(&mut world, &mut echo);
}

#[test]
fn ten_minutes_of_silence_pass_at_once_and_end_the_idle() {
    let mut world = World::new(2);
    let limits = Limits {
        idle_timeout: Some(Duration::from_secs(600)),
        ..Limits::default()
    };
    let echo = Watched::new(Echo::new(EchoOptions::default()));
    let mut echo = world.host(echo, limits).unwrap();
    echo.context()
        .listen(&ListenOptions::new(address()))
        .unwrap();
    let peer = world.connect(address());
    world.advance(&mut echo, Duration::from_secs(599)).unwrap();
    assert!(peer.is_connected() && !peer.has_ended());
    world.advance(&mut echo, Duration::from_secs(2)).unwrap();
    assert!(peer.has_ended() && !peer.was_reset());
}
