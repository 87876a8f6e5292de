//! The program in trouble from two sides at once: a signal in the middle of everything, a stop for
//! longer than its drain, a log that nobody reads, a log of what is wrong with thousands of peers,
//! a disk that is full.
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

use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use cli::{Ended, Noise, Server, Watchdog, memory, oread, signal, suspend, wait};
use hostile::{Heard, PATIENCE, Peer, size, try_connect};
use serde_json::Value;

/// What a peer is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Says all it can, and takes all that comes.
    Uploads,
    /// Has said all it has to say and finished, and takes its answer late.
    Finished,
    /// Says all it can, and takes nothing before the server ends.
    Gluts,
    /// Says nothing more.
    Idles,
    /// Waits for each answer before it says more.
    Pings,
    /// Leaves by a reset at any time.
    Leaves,
    /// Came late, and may never have been let in.
    Late,
}

const KINDS: [Kind; 6] = [
    Kind::Uploads,
    Kind::Finished,
    Kind::Gluts,
    Kind::Idles,
    Kind::Pings,
    Kind::Leaves,
];

/// One of the crowd, until it's over for it.
struct Member {
    kind: Kind,
    peer: Peer,
}

impl Member {
    /// One that the server has let in for sure, for it has been answered.
    fn new(server: &Server, kind: Kind, seed: u64) -> Member {
        let mut peer = Peer::connect(server.tcp(), seed);
        peer.ping(1 + seed as usize % 50);
        if kind == Kind::Finished {
            peer.say_all(1000 + seed as usize % 5000);
            peer.stream.shutdown(Shutdown::Write).unwrap();
        }
        Member {
            kind,
            peer: peer.hurried(),
        }
    }

    /// Does something, or nothing; `None` once it's over.
    fn act(mut self, noise: &mut Noise, ending: bool) -> Option<Member> {
        let Member { kind, peer } = &mut self;
        match kind {
            Kind::Uploads => drop(peer.say(16 << 10)),
            Kind::Gluts if !ending => drop(peer.say(64 << 10)),
            Kind::Pings if peer.heard == peer.said => {
                peer.say(1 + noise.number() as usize % 100);
            }
            Kind::Leaves if noise.number().is_multiple_of(40) => {
                self.peer.reset();
                return None;
            }
            _ => {}
        }
        let waits = matches!(kind, Kind::Gluts | Kind::Finished) && !ending;
        if waits {
            return Some(self);
        }
        match peer.hear(256 << 10) {
            Heard::Nothing | Heard::Bytes(_) => return Some(self),
            Heard::End => {}
            // Those who come as the listener goes are turned away by the system.
            Heard::Reset => assert_eq!(*kind, Kind::Late, "a reset, not an end"),
        }
        if *kind == Kind::Finished {
            let (heard, said) = (peer.heard, peer.said);
            assert_eq!(heard, said, "one that had finished lost its answer");
        }
        None
    }
}

/// A datagram at a time, and nothing but what was asked comes back.
struct Asker {
    socket: UdpSocket,
    asked: u64,
    answered: u64,
}

impl Asker {
    fn new(server: &Server) -> Asker {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.udp()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Asker {
            socket,
            asked: 0,
            answered: 0,
        }
    }

    fn act(&mut self) {
        let mut bytes = [0; 100];
        // The system says no once the server is gone.
        if let Ok(count) = self.socket.recv(&mut bytes) {
            self.answered += 1;
            assert_eq!(bytes[..count], self.answered.to_be_bytes());
        }
        if self.asked == self.answered && self.socket.send(&(self.asked + 1).to_be_bytes()).is_ok()
        {
            self.asked += 1;
        }
    }
}

/// The counters of the summary add up.
fn assert_adds_up(ended: &Ended) {
    let closed = ended.summary()["closed"].as_object().unwrap();
    let closed: u64 = closed.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(ended.count("accepted"), closed);
    let count = |name| ended.count(name);
    assert_eq!(count("bytes_in"), count("consumed") + count("discarded"));
    assert_eq!(count("written"), count("bytes_out") + count("dropped"));
}

/// A crowd, a signal at some time, and the truth of each.
fn play(seed: u64) {
    let mut noise = Noise::new(seed * 77 + 1);
    let threads = if seed.is_multiple_of(2) { "1" } else { "3" };
    let arguments = ["--threads", threads, "--drain-timeout", "30s"];
    let server = Server::start(&arguments);
    let (address, pid) = (server.tcp(), server.pid());
    let member = |number| Member::new(&server, KINDS[number as usize % KINDS.len()], number);
    let mut members: Vec<Member> = (0..60).map(member).collect();
    let mut asker = Asker::new(&server);
    let steps = noise.number() % 40;
    let (mut step, start) = (0, Instant::now());
    while !members.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} are left", members.len());
        if step == steps {
            signal(pid, "TERM");
        }
        step += 1;
        if step < steps + 5
            && let Ok(stream) = try_connect(address, Duration::from_millis(100))
        {
            let mut peer = Peer::new(stream, 1000 + step).hurried();
            peer.say(5);
            let kind = Kind::Late;
            members.push(Member { kind, peer });
        }
        asker.act();
        let all = members.drain(..);
        members = all
            .filter_map(|member| member.act(&mut noise, step > steps))
            .collect();
        sleep(Duration::from_millis(1));
    }
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{:?}", ended.log);
    assert_eq!(ended.count("cut"), 0);
    assert!(ended.count("accepted") >= 60);
    assert!(ended.count("datagrams_out") >= asker.answered);
    assert_adds_up(&ended);
}

#[test]
fn a_signal_in_the_middle_of_everything_costs_nobody_what_was_said_before_it() {
    for seed in 0..size(4, 100) as u64 {
        println!("seed {seed}");
        play(seed);
    }
}

/// How long the servers of the next two drain.
const DRAIN: Duration = Duration::from_secs(1);

#[test]
fn a_drain_that_is_stopped_for_longer_than_its_deadline_cuts_nobody_off_who_ended_meanwhile() {
    let server = Server::start(&["--drain-timeout", "1s"]);
    let peer = |seed| Peer::connect(server.tcp(), seed);
    let mut peers: Vec<_> = (0..50).map(peer).collect();
    for peer in &mut peers {
        peer.ping(100);
    }
    signal(server.pid(), "TERM");
    // Everybody has been told the end, so the drain waits for nothing but theirs.
    for peer in &mut peers {
        assert_eq!(peer.hear(1), Heard::End);
    }
    suspend(server.pid());
    drop(peers);
    sleep(DRAIN + DRAIN / 2);
    signal(server.pid(), "CONT");
    let ended = server.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.count("cut"), 0, "{}", ended.summary()["closed"]);
    assert_eq!(ended.summary()["closed"]["drained"], 50);
}

#[test]
fn a_signal_to_a_server_that_is_stopped_costs_nobody_what_was_said_before_it_goes_on() {
    let arguments = ["--drain-timeout", "1s", "--idle-timeout", "1s"];
    let server = Server::start(&arguments);
    let peer = |seed| Peer::connect(server.tcp(), seed);
    let mut peers: Vec<_> = (0..50).map(peer).collect();
    for peer in &mut peers {
        peer.ping(100);
    }
    suspend(server.pid());
    signal(server.pid(), "TERM");
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.say_all(5000);
        if number % 2 == 0 {
            peer.stream.shutdown(Shutdown::Write).unwrap();
        }
    }
    // Longer than any timeout it has.
    sleep(DRAIN + DRAIN / 2);
    signal(server.pid(), "CONT");
    for mut peer in peers {
        peer.hear_all();
        assert_eq!(peer.hear(1), Heard::End);
    }
    let ended = server.end();
    assert_eq!((ended.code, ended.count("cut")), (Some(0), 0));
    assert_eq!(ended.summary()["closed"]["idle_timeout"], 0);
    assert_eq!(ended.count("bytes_out"), 50 * 5100);
}

/// What is wrong with a frame.
fn break_a_frame(address: SocketAddr, number: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A frame that is answered; then one that is too long, or one that breaks off.
    let too_long = b"\x00\x02ok\xff\xff".as_slice();
    let broken = b"\x00\x02ok\x00\x08abc".as_slice();
    stream.write_all([too_long, broken][number % 2]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"\x00\x02ok");
}

#[test]
fn thousands_of_bad_frames_are_a_few_lines_of_log_that_say_how_many_there_were() {
    const THREADS: usize = 3;
    let count = size(1_500, 54_070);
    let server = Server::start(&["--framing", "length:u16", "--max-frame", "100"]);
    let address = server.tcp();
    let start = Instant::now();
    let break_some = |thread| {
        thread::spawn(move || {
            let numbers = (thread..count).step_by(THREADS);
            numbers.for_each(|number| break_a_frame(address, number));
        })
    };
    let threads: Vec<_> = (0..THREADS).map(break_some).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let seconds = start.elapsed().as_secs() + 1;
    let ended = server.stop();
    assert_eq!(ended.count("frames_bad"), count as u64);
    assert_eq!(ended.count("frames_out"), count as u64);
    let closed = &ended.summary()["closed"];
    assert_eq!(closed["frame_too_long"], count.div_ceil(2));
    assert_eq!(closed["frame_incomplete"], count / 2);
    // Twenty at once, and five a second.
    let told: Vec<_> = ended.log.iter().filter(|l| l.contains(" warn ")).collect();
    println!("{count} bad frames in {} lines of {seconds} s", told.len());
    assert!(
        told.len() as u64 <= 20 + 5 * seconds,
        "{} lines",
        told.len()
    );
    // What was left out is told with the next line.
    let left_out = told.iter().filter_map(|line| {
        let (_, rest) = line.split_once(" (")?;
        let number = rest.split_once(" more of the kind")?.0;
        Some(number.replace(',', "").parse::<usize>().unwrap())
    });
    let accounted = told.len() + left_out.sum::<usize>();
    assert!((20..=count).contains(&accounted), "{accounted} of {count}");
}

/// A server whose log is its standard error, as the test has it.
struct Logged {
    child: Child,
    said: BufReader<PipeReader>,
    address: SocketAddr,
    _watchdog: Watchdog,
}

impl Logged {
    fn start(mut command: Command) -> Logged {
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer);
        let child = command.spawn().unwrap();
        let watchdog = Watchdog::of(&child);
        // It holds the writing end of the pipe, and nobody would hear of the server's end.
        drop(command);
        let mut said = BufReader::new(reader);
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let listening: Value = serde_json::from_str(&line).unwrap();
        let address = listening["address"].as_str().unwrap().parse().unwrap();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line}");
        Logged {
            child,
            said,
            address,
            _watchdog: watchdog,
        }
    }

    /// Has it drain; its summary.
    fn stop(mut self) -> Value {
        signal(self.child.id(), "TERM");
        assert_eq!(wait(&mut self.child).code(), Some(0));
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        serde_json::from_str(rest.lines().last().unwrap()).unwrap()
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends so many numbered frames of bytes that take the most room in a log, and has each come back.
fn chat(address: SocketAddr, count: u64) {
    const DEPTH: u64 = 32;
    let frame = |number: u64| {
        let mut frame = [0xff; FRAME];
        frame[..8].copy_from_slice(&number.to_be_bytes());
        frame
    };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for first in (0..count).step_by(DEPTH as usize) {
        let numbers = first..count.min(first + DEPTH);
        let sent: Vec<u8> = numbers.flat_map(frame).collect();
        stream.write_all(&sent).unwrap();
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == sent, "other frames came back");
    }
}

/// Bytes of a frame: as many as a line of log shows.
const FRAME: usize = 256;
/// Bytes of log for each: one line as it comes and one as it goes, four bytes for each that is no
/// character.
const LOGGED: u64 = 2 * 4 * (FRAME as u64 - 8);

#[test]
fn a_log_of_every_message_that_nobody_reads_takes_no_memory_and_stalls_nobody() {
    let count = size(5_000, 1_300_000) as u64;
    let (errors, writer) = std::io::pipe().unwrap();
    let mut command = oread("serve");
    command.args(["127.0.0.1:0", "--tcp", "--json", "-vv"]);
    command.args(["--framing", &format!("fixed:{FRAME}")]);
    command.stderr(writer);
    let server = Logged::start(command);
    chat(server.address, 500);
    let (_, before) = memory(server.child.id());
    let start = Instant::now();
    chat(server.address, count);
    let (_, after) = memory(server.child.id());
    let (log, grown) = (count * LOGGED, after.saturating_sub(before));
    println!(
        "{log} bytes of log and more in {:?}: {grown} bytes of memory, {after} in all",
        start.elapsed()
    );
    // What waits is bounded by 4 MiB, of which some has waited before.
    assert!(grown < 7 << 20, "{grown} bytes of memory");
    let summary = server.stop();
    assert_eq!(summary["frames_out"], count + 500);
    drop(errors);
}

/// The words of a test's log on a disk of its own, which is full after 64 KiB. Skipped where none
/// can be had.
#[test]
fn a_log_on_a_disk_without_room_stalls_nobody_and_goes_on_when_there_is_some() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = folder.join(format!("hostile-disk-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // A disk that no other process sees, and that is gone with the last one in it.
    let mount = "mount -t tmpfs -o size=64k tmpfs \"$0\"";
    let unshare = |script: String| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script]).arg(&folder);
        command
    };
    let possible = unshare(mount.to_owned()).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no disk of one's own to be had (unshare -rm, mount)");
        return;
    }
    let serve = "exec \"$1\" serve 127.0.0.1:0 --tcp --json -v 2>>\"$0/log\"";
    let mut command = unshare(format!("{mount} && {serve}"));
    command.arg(env!("CARGO_BIN_EXE_oread"));
    command.env_remove("RUST_LOG");
    let server = Logged::start(command);
    let pid = server.child.id();
    let log = format!("/proc/{pid}/root{}/log", folder.display());
    let read = || std::fs::read_to_string(&log).unwrap();
    let start = Instant::now();
    let talk = || Peer::connect(server.address, 1).ping(1000);
    let mut told = 0;
    // Full: a thousand bytes more of it would have come.
    while told < 4096 * 16 {
        assert!(start.elapsed() < PATIENCE, "it is never full: {told}");
        talk();
        told = read().len();
    }
    for _ in 0..50 {
        talk();
    }
    assert_eq!(read().len(), told, "it was not full");
    std::fs::File::options()
        .write(true)
        .open(&log)
        .and_then(|file| file.set_len(0))
        .unwrap();
    while !read().contains("of the log were lost: standard error took no more") {
        assert!(start.elapsed() < PATIENCE, "what was lost is not told");
        talk();
    }
    let summary = server.stop();
    assert_eq!(summary["bytes_in"], summary["bytes_out"]);
    // It stays where it can't be removed.
    let _ = std::fs::remove_dir(&folder);
}
