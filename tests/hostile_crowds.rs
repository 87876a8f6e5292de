//! Crowds of hostile peers against the program: callers without end at a low limit of descriptors,
//! readers that don't read, lines that never end, storms of connections, resets one after another.
//! Whoever is honest is served meanwhile, byte for byte, and nothing is left over.
//!
//! The sizes are those for every run; `OREAD_HOSTILE=large` has them as large as they were tried by
//! hand.
#![cfg(not(mio_unsupported_force_poll_poll))]
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;
#[path = "common/hostile.rs"]
mod hostile;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cli::{Server, memory};
use hostile::{Heard, Latencies, PATIENCE, Peer, size};
use nix::sys::socket::{setsockopt, sockopt};

const MIB: u64 = 1 << 20;

/// Held by the one test that runs: they share this process's descriptors, and measure how long
/// peers wait.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // Both ends of the large sizes are more than most shells allow at first.
    let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let (_, hard) = nix::sys::resource::getrlimit(limit).unwrap();
    // Where it can't be raised, the small sizes do.
    let _ = nix::sys::resource::setrlimit(limit, hard, hard);
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server under a limit, as `ulimit` of a shell takes it.
fn limited(limit: &str, arguments: &[&str]) -> Server {
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit}; exec \"$0\" serve 127.0.0.1:0 --json \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_oread")]);
    command.args(arguments).env_remove("RUST_LOG");
    Server::run(command)
}

/// How many descriptors a process has open.
fn descriptors(pid: u32) -> usize {
    let folder = format!("/proc/{pid}/fd");
    std::fs::read_dir(folder).unwrap().count()
}

/// Waits until `done`.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What attackers do in a thread of their own, until they are told to stop.
struct Attack<T> {
    stop: Arc<AtomicBool>,
    /// Rounds so far.
    rounds: Arc<AtomicUsize>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Attack<T> {
    /// Has `attackers` do `round` again and again.
    fn start(mut attackers: T, mut round: impl FnMut(&mut T, usize) + Send + 'static) -> Attack<T> {
        let (stop, rounds) = (Arc::default(), Arc::<AtomicUsize>::default());
        let (stopped, counted) = (Arc::<AtomicBool>::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                round(&mut attackers, counted.load(Ordering::Relaxed));
                counted.fetch_add(1, Ordering::Relaxed);
                // There are few processors, and the others need them as well.
                thread::sleep(Duration::from_millis(1));
            }
            attackers
        });
        Attack {
            stop,
            rounds,
            thread,
        }
    }

    /// Waits until they have done so many rounds more.
    fn go_on_for(&self, rounds: usize) {
        let before = self.rounds.load(Ordering::Relaxed);
        until("the attackers have acted", || {
            let now = self.rounds.load(Ordering::Relaxed);
            now >= before + rounds || self.thread.is_finished()
        });
    }

    /// Ends the attack, and has the attackers back.
    fn end(self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Honest peers, each with words of its own.
fn honest(server: &Server, count: usize) -> Vec<Peer> {
    let peer = |seed| Peer::connect(server.tcp(), 1_000_000 + seed);
    (0..count as u64).map(peer).collect()
}

#[test]
fn a_flood_of_callers_at_a_low_descriptor_limit_is_served_to_the_last() {
    let _alone = alone();
    let callers = size(300, 2_000);
    let server = limited(&format!("-n {}", size(64, 256)), &[]);
    let allowed = server.ready["max_connections"].as_u64().unwrap();
    assert!(allowed < callers as u64 / 5, "{allowed} are allowed");
    // All call at once, and the system holds whom the server has no descriptor for.
    let mut peers: Vec<_> = (0..callers as u64)
        .map(|seed| Peer::connect(server.tcp(), seed).hurried())
        .collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        let count = 1 + number * 37 % 3000;
        assert_eq!(peer.say(count), count);
    }
    let mut left = 0;
    until("all have been served", || {
        let pid = server.pid();
        assert!(descriptors(pid) <= size(64, 256));
        let mut waiting = Vec::new();
        for mut peer in peers.drain(..) {
            match peer.hear(4096) {
                Heard::Bytes(_) | Heard::Nothing if peer.heard < peer.said => waiting.push(peer),
                Heard::Bytes(_) => {
                    left += 1;
                    // One of two leaves as it should.
                    if left % 2 == 0 {
                        peer.finish();
                    } else {
                        peer.reset();
                    }
                }
                heard => panic!("{heard:?} with {} of {} bytes back", peer.heard, peer.said),
            }
        }
        peers = waiting;
        peers.is_empty()
    });
    let ended = server.stop();
    assert_eq!(ended.count("accepted"), callers as u64);
    assert_eq!(ended.count("peak_open"), allowed);
    assert!(ended.count("limit_pauses") > 0);
    assert_eq!(ended.count("bytes_in"), ended.count("bytes_out"));
    assert_eq!(ended.code, Some(0));
}

/// Peers that send all they can and hardly read. Of what they send their own system holds little,
/// so it's soon the server's.
fn gluttons(server: &Server, count: usize) -> Vec<Peer> {
    let glutton = |seed| {
        let peer = Peer::connect(server.tcp(), seed).hurried();
        setsockopt(&peer.stream, sockopt::SndBuf, &(16 << 10)).unwrap();
        peer
    };
    (0..count as u64).map(glutton).collect()
}

/// Has a glutton take what is still to come, and finish.
fn give_in(mut peer: Peer) {
    peer.patient();
    peer.hear_all();
    peer.finish();
}

/// Has them send until nothing has moved for a while: then each is at its cap.
fn fill_up(gluttons: &mut [Peer]) {
    let (start, mut last) = (Instant::now(), Instant::now());
    while last.elapsed() < Duration::from_millis(300) {
        assert!(start.elapsed() < PATIENCE, "they send and send");
        let moved: usize = gluttons.iter_mut().map(|peer| peer.say(32 << 10)).sum();
        if moved > 0 {
            last = Instant::now();
        } else {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How many readers that don't read the system can hold, each with a full buffer to be sent: beyond
/// its memory for TCP it drops what arrives, honest peers' bytes too, and what it sends again comes
/// after seconds (tcp(7): `tcp_mem`, `tcp_wmem`). 1,000 of them fit where buffers are small: in a
/// network namespace of one's own, with `sysctl -w net.ipv4.tcp_wmem="4096 16384 262144"`.
fn holdable() -> usize {
    let nth = |name: &str, nth: usize| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        let number = text.ok()?.split_whitespace().nth(nth)?.parse::<usize>();
        number.ok()
    };
    // In pages, when the system begins to hold back; and in bytes, the largest buffer, whose memory
    // is a multiple of it.
    let (pages, buffer) = (nth("tcp_mem", 1), nth("tcp_wmem", 2));
    pages
        .zip(buffer)
        .map_or(usize::MAX, |(pages, buffer)| pages * 4096 / (4 * buffer))
}

#[test]
fn honest_peers_are_answered_as_before_beside_slow_readers_at_their_caps() {
    let _alone = alone();
    let (slow, others) = (size(60, 1_000).min(holdable()), size(20, 100));
    // The last of them reads again when all others have: who doesn't for so long is not to be cut
    // off.
    let server = Server::start(&["--write-timeout", "10m"]);
    let mut honest = honest(&server, others);
    Latencies::of(&mut honest, 5);
    let before = Latencies::of(&mut honest, 20);
    let (_, resident) = memory(server.pid());

    let mut gluttons = gluttons(&server, slow);
    fill_up(&mut gluttons);
    // A glutton pushes on, and takes a few bytes now and then.
    let attack = Attack::start(gluttons, |gluttons, round| {
        for (number, peer) in gluttons.iter_mut().enumerate() {
            peer.say(4 << 10);
            if (number + round) % 64 == 0 {
                assert_ne!(peer.hear(500), Heard::End, "{} bytes back", peer.heard);
            }
        }
    });
    attack.go_on_for(10);
    let attacked = Latencies::of(&mut honest, 20);
    attack.go_on_for(10);
    let gluttons = attack.end();
    attacked.assert_as_good_as(&before);

    // A high-water mark and a read for each, and what is kept for the next ones.
    let (_, grown) = memory(server.pid());
    let grown = grown.saturating_sub(resident);
    let most = slow as u64 * (256 << 10) + 16 * MIB;
    println!("{slow} slow readers take {grown} bytes of memory");
    assert!(grown < most, "it has grown by {grown} bytes");

    // They are no enemies in the end, and lose nothing.
    gluttons.into_iter().for_each(give_in);
    honest.into_iter().for_each(Peer::finish);
    let ended = server.stop();
    assert!(ended.count("pressure_pauses") >= slow as u64);
    assert_eq!(ended.summary()["closed"]["finished"], slow + others);
    assert_eq!(ended.count("bytes_in"), ended.count("bytes_out"));
}

/// A peer whose line never ends, or ends late.
struct Loris {
    stream: TcpStream,
    line: Vec<u8>,
}

impl Loris {
    /// Sends the next byte of its line.
    fn trickle(&mut self, number: usize) {
        let byte = b'a' + ((self.line.len() * 7 + number) % 23) as u8;
        assert_eq!(self.stream.write(&[byte]).unwrap(), 1);
        self.line.push(byte);
    }

    /// Ends its line, and has it back.
    fn end(mut self) {
        self.line.push(b'\n');
        self.stream.write_all(b"\n").unwrap();
        let mut back = vec![0; self.line.len()];
        self.stream.read_exact(&mut back).unwrap();
        assert!(back == self.line, "another line came back");
    }
}

fn lorises(server: &Server, count: usize) -> Vec<Loris> {
    let loris = |_| Loris {
        stream: server.connect(),
        line: Vec::new(),
    };
    (0..count).map(loris).collect()
}

/// An honest line and its answer; how long that took.
fn line(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    stream.write_all(b"an honest line\n").unwrap();
    let mut back = [0; 15];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, *b"an honest line\n");
    start.elapsed()
}

#[test]
fn lines_that_come_a_byte_at_a_time_cost_a_poll_each_and_little_memory_and_are_answered() {
    let _alone = alone();
    let slow = size(150, 1_000);
    let server = Server::start(&["--framing", "lines"]);
    let mut honest = server.connect();
    line(&mut honest);
    let (_, resident) = memory(server.pid());
    let attack = Attack::start(lorises(&server, slow), |lorises, _| {
        for (number, loris) in lorises.iter_mut().enumerate() {
            loris.trickle(number);
        }
    });
    let mut answered = 0;
    until("their lines are long", || {
        line(&mut honest);
        answered += 1;
        attack.rounds.load(Ordering::Relaxed) >= size(50, 200) || attack.thread.is_finished()
    });
    let lorises = attack.end();
    assert!(answered > 0);
    let (_, grown) = memory(server.pid());
    let grown = grown.saturating_sub(resident);
    println!("{slow} slow lines take {grown} bytes of memory, {answered} answers meanwhile");
    assert!(grown < slow as u64 * (8 << 10) + 4 * MIB, "{grown} bytes");
    lorises.into_iter().for_each(Loris::end);
    drop(honest);
    let ended = server.stop();
    // Each byte is an event at most, and what else wakes it comes by the connection or by the
    // second.
    let most = ended.count("bytes_in") + 4 * (slow as u64 + 1) + 1_000;
    assert!(ended.count("events") <= most, "{:?}", ended.summary());
    assert_eq!(ended.count("frames_bad"), 0);
}

#[test]
fn peers_that_hold_all_places_and_say_nothing_lose_them_and_those_who_wait_get_in() {
    let _alone = alone();
    let places = size(100, 1_000);
    let server = Server::start(&[
        "--framing",
        "lines",
        "--idle-timeout",
        "1s",
        "--max-connections",
        &places.to_string(),
    ]);
    let mut silent = lorises(&server, places);
    for (number, loris) in silent.iter_mut().enumerate() {
        loris.trickle(number);
    }
    let mut waiting: Vec<_> = (0..5).map(|_| server.connect()).collect();
    // They stay when they are told to leave, for as long as they are let.
    for honest in &mut waiting {
        line(honest);
    }
    drop((silent, waiting));
    let ended = server.stop();
    assert_eq!(ended.summary()["closed"]["idle_timeout"], places);
    assert_eq!(ended.count("peak_open"), places as u64);
}

/// Connects, says something or nothing, waits for the answer or doesn't, and leaves by a reset.
fn touch(address: SocketAddr, number: u64) {
    let mut peer = Peer::connect(address, number);
    match number % 5 {
        0 => {}
        1 => peer.say_all(8),
        2 => drop(peer.ping(100)),
        3 => peer.say_all(64 << 10),
        _ => {
            peer.say_all(1000);
            peer.stream.shutdown(Shutdown::Write).unwrap();
        }
    }
    peer.reset();
}

#[test]
fn connections_one_after_another_each_reset_leave_no_descriptor_and_no_memory_behind() {
    let _alone = alone();
    let count = size(5_000, 100_000) as u64;
    let server = Server::start(&[]);
    let nobody = descriptors(server.pid());
    let (address, pid) = (server.tcp(), server.pid());
    let start = Instant::now();
    (0..count / 5).for_each(|number| touch(address, number));
    let (_, before) = memory(pid);
    (count / 5..count).for_each(|number| touch(address, number));
    println!("{count} connections in {:?}", start.elapsed());
    until("all are gone", || descriptors(pid) == nobody);
    let (_, after) = memory(pid);
    let grown = after.saturating_sub(before);
    println!("{grown} bytes more of memory");
    // What is in use is counted in pages, and the allocator may touch some for the first time.
    assert!(grown <= 256 << 10, "{grown} bytes are left over");
    let ended = server.stop();
    assert_eq!(ended.count("accepted"), count);
    for name in ["open", "pending", "unconsumed", "held"] {
        assert_eq!(ended.count(name), 0, "{name}");
    }
    let read = ended.count("consumed") + ended.count("discarded");
    assert_eq!(ended.count("bytes_in"), read);
    let sent = ended.count("bytes_out") + ended.count("dropped");
    assert_eq!(ended.count("written"), sent);
}

#[test]
fn honest_peers_are_answered_as_before_in_a_storm_of_callers() {
    const THREADS: u64 = 2;
    let _alone = alone();
    let count = size(4_000, 100_000) as u64;
    let server = Server::start(&[]);
    let address = server.tcp();
    let mut peers = honest(&server, 10);
    Latencies::of(&mut peers, 5);
    let before = Latencies::of(&mut peers, 50);
    let start = Instant::now();
    let storm = |thread: u64| {
        thread::spawn(move || {
            for number in (thread..count).step_by(THREADS as usize) {
                // One of five waits for an answer, or the storm would be as quick as the server.
                let mut peer = Peer::connect(address, number);
                if number % 5 == 0 {
                    peer.ping(8);
                }
                peer.reset();
            }
        })
    };
    let threads: Vec<_> = (0..THREADS).map(storm).collect();
    let mut attacked = Latencies::default();
    let mut round = 0;
    while !threads.iter().all(JoinHandle::is_finished) {
        attacked.round(&mut peers, round);
        round += 1;
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{:.0} connections a second", count as f64 / seconds);
    attacked.assert_as_good_as(&before);
    peers.into_iter().for_each(Peer::finish);
    let ended = server.stop();
    assert_eq!(ended.count("accepted"), count + 10);
    assert_eq!(ended.count("accept_pauses"), 0);
}

#[test]
fn output_for_which_there_is_no_memory_costs_the_peers_that_do_not_read_it_and_not_the_server() {
    const SPARE: u64 = 32 * MIB;
    let _alone = alone();
    let arguments = ["--high-water", "16MiB", "--max-pending", "64GiB"];
    let plain = Server::start(&arguments);
    Peer::connect(plain.tcp(), 0).ping(100);
    let (all, _) = memory(plain.pid());
    drop(plain);
    // All the memory it asks for, in KiB.
    let server = limited(&format!("-v {}", (all + SPARE) >> 10), &arguments);
    let mut honest = honest(&server, 5);
    let mut gluttons = gluttons(&server, 20);
    fill_up(&mut gluttons);
    Latencies::of(&mut honest, 5);
    // Those who are left get all of theirs.
    let mut gone = 0;
    for mut peer in gluttons {
        peer.patient();
        loop {
            match peer.hear(64 << 10) {
                Heard::Bytes(_) if peer.heard < peer.said => {}
                Heard::Bytes(_) => break peer.finish(),
                heard => {
                    assert_ne!(heard, Heard::Nothing);
                    gone += 1;
                    break;
                }
            }
        }
    }
    honest.into_iter().for_each(Peer::finish);
    Peer::connect(server.tcp(), 7).ping(1000);
    let ended = server.stop();
    let closed = &ended.summary()["closed"];
    println!("{gone} gone: {closed}");
    assert_eq!(ended.code, Some(0));
    assert!(gone > 0, "there was enough memory");
    assert_eq!(closed["out_of_memory"], gone);
}
