//! That each option of `oread serve` does what it says, from outside: an option that is parsed and
//! checked, and then lost on its way to the reactor, looks well from inside. The real binary is
//! run.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cli::{LONG, Server, oread};

/// Writes until the peer takes no more for the moment; how many bytes it took.
fn fill(stream: &mut TcpStream) -> usize {
    let mut count = 0;
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.write(&[b'x'; 16 << 10]) {
            Ok(n) => count += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
            Err(error) => panic!("can't write: {error}"),
        }
    }
}

/// Has these clients send without reading, until the server has so many bytes of answers pending;
/// then the most it had in the next half a second.
fn pending(server: &mut Server, clients: &mut [TcpStream], at_least: u64) -> u64 {
    let mut most = 0;
    let mut after = 0;
    while after < 25 {
        for client in clients.iter_mut() {
            fill(client);
        }
        most = most.max(server.event()["pending"].as_u64().unwrap());
        after += u32::from(most >= at_least);
    }
    most
}

#[test]
fn the_high_water_mark_is_the_one_that_was_asked_for() {
    let arguments = ["--high-water", "1MiB", "--stats", "20ms"];
    let mut server = Server::start(&arguments);
    let mut client = server.connect();
    let most = pending(&mut server, std::slice::from_mut(&mut client), 1 << 20);
    assert!(most < 2 << 20, "{most} bytes were pending");
    drop(client);
    assert!(server.stop().count("pressure_pauses") > 0);
}

#[test]
fn all_connections_together_have_no_more_pending_than_was_asked_for() {
    let mut server = Server::start(&[
        "--high-water",
        "1MiB",
        "--max-pending",
        "1MiB",
        "--stats",
        "20ms",
    ]);
    let mut clients: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    // Memory is what counts, and a buffer that grows takes up to twice its content.
    let most = pending(&mut server, &mut clients, 1 << 18);
    // However short memory is, each may keep the answer to a small read.
    assert!(most <= (1 << 20) + (8 << 14), "{most} bytes were pending");
}

#[test]
fn a_silent_connection_is_closed_after_the_idle_timeout() {
    let server = Server::start(&["--idle-timeout", "50ms"]);
    let mut stream = server.connect();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    drop(stream);
    assert_eq!(server.stop().summary()["closed"]["idle_timeout"], 1);
}

#[test]
fn who_takes_no_answers_is_closed_after_the_write_timeout() {
    let mut server = Server::start(&["--write-timeout", "100ms", "--stats", "20ms"]);
    let mut stream = server.connect();
    stream.set_nonblocking(true).unwrap();
    while server.event()["closed"]["write_timeout"] != 1 {
        // Until nothing goes any more, and then not even that: it is closed.
        while stream.write(&[b'x'; 16 << 10]).is_ok() {}
    }
    let ended = server.stop();
    assert_eq!(ended.count("open"), 0);
}

#[test]
fn datagrams_over_the_rate_are_counted_and_not_answered() {
    const SENT: u64 = 100;
    for option in ["--udp-rate", "--udp-rate-per-source"] {
        let mut server = Server::start(&[option, "1", "--stats", "20ms"]);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..SENT {
            socket.send_to(b"x", server.udp()).unwrap();
        }
        while server.event()["datagrams_in"] != SENT {}
        let ended = server.stop();
        let (out, over) = (
            ended.count("datagrams_out"),
            ended.count("datagrams_over_rate"),
        );
        assert_eq!(out + over, SENT, "{option}");
        assert!(out >= 1 && over >= SENT / 2, "{option}: {out} answered");
        assert_eq!(ended.count("datagrams_dropped"), over, "{option}");
    }
}

#[test]
fn a_server_that_another_one_answers_ends_it_says_so_and_counts_it() {
    let mut server = Server::start(&["--stats", "20ms"]);
    // The other server: it sends back all that comes, and has got a datagram that seems to be ours.
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_read_timeout(Some(LONG)).unwrap();
    let (own, start) = (other.local_addr().unwrap(), Instant::now());
    let address = server.udp();
    other.send_to(b"forged", address).unwrap();
    let answering = thread::spawn(move || {
        let mut buffer = [0; 100];
        loop {
            let count = other.recv(&mut buffer).unwrap();
            if &buffer[..count] == b"over" {
                return;
            }
            assert!(start.elapsed() < LONG, "it goes on and on");
            other.send_to(&buffer[..count], address).unwrap();
        }
    });
    // The first is none, then ten seconds' worth of repeats are answered, and what is gained
    // meanwhile.
    let bound = |start: Instant| 10_001 + 1_000 * (start.elapsed().as_secs() + 1);
    loop {
        let event = server.event();
        let out = event["datagrams_out"].as_u64().unwrap();
        assert!(out <= bound(start), "{out} answered");
        if event["datagrams_repeated"] == 1 {
            break;
        }
    }
    server.log_line("sends the same datagram again and again");
    let ended = server.stop();
    assert_eq!(ended.count("datagrams_dropped"), 1);
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .send_to(b"over", own)
        .unwrap();
    answering.join().unwrap();
}

/// The system completes so many handshakes, and drops the others' (listen(2)).
#[cfg(target_os = "linux")]
#[test]
fn no_more_callers_wait_than_the_backlog() {
    let server = Server::start(&["--backlog", "2", "--max-connections", "1"]);
    let mut first = server.connect();
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0; 1]).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&server.tcp(), Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 10, "{} wait", waiting.len());
    }
}

#[test]
fn a_frame_that_the_peer_s_end_breaks_off_is_told_and_those_before_it_are_answered() {
    for (framing, input, answer) in [
        ("fixed:4", b"abcdef".as_slice(), b"abcd".as_slice()),
        ("length:u8", b"\x02ab\x03cd", b"\x02ab"),
    ] {
        let server = Server::start(&["--framing", framing]);
        let mut stream = server.connect();
        let peer = stream.local_addr().unwrap();
        stream.write_all(input).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = Vec::new();
        stream.read_to_end(&mut answers).unwrap();
        assert_eq!(answers, answer, "{framing}");
        let ended = server.stop();
        assert_eq!(ended.summary()["closed"]["frame_incomplete"], 1);
        assert_eq!(ended.count("frames_bad"), 1);
        let words = format!("closing {peer}: the peer finished ");
        let told = ended.log.iter().filter(|line| line.contains(&words));
        assert_eq!(told.count(), 1, "{:?}", ended.log);
    }
}

/// At most 20 at once and 5 a second: a minute of this would be 320 lines.
#[test]
fn bad_frames_are_told_at_a_limited_rate() {
    const BAD: u64 = 600;
    let server = Server::start(&["--framing", "fixed:4", "--max-frame", "4"]);
    for _ in 0..BAD {
        let mut stream = server.connect();
        stream.write_all(b"abc").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }
    let ended = server.stop();
    assert_eq!(ended.count("frames_bad"), BAD);
    let told = ended.log.iter().filter(|line| line.contains("warn"));
    let told = told.count() as u64;
    assert!((1..BAD / 2).contains(&told), "{told} lines");
}

#[test]
fn rust_log_decides_where_it_is_set_and_the_options_where_it_is_not() {
    for (rust_log, option, levels) in [
        ("", "--json", ["info"].as_slice()),
        ("", "-q", &[]),
        ("", "-v", &["debug", "info"]),
        ("", "-vv", &["debug", "info", "trace"]),
        ("oread=debug", "-q", &["debug", "info"]),
        ("error", "-vv", &[]),
    ] {
        let mut command = oread("serve");
        // The words of the log would be the same with --json.
        command.args(["127.0.0.1:0", "--json"]);
        if option != "--json" {
            command.arg(option);
        }
        let server = Server::run({
            command.env("RUST_LOG", rust_log);
            command
        });
        let mut stream = server.connect();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        drop(stream);
        let ended = server.stop();
        let mut seen: Vec<&str> = ended
            .log
            .iter()
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(
            seen, levels,
            "RUST_LOG={rust_log} {option}: {:?}",
            ended.log
        );
    }
}

#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -S -n 64 && exec \"$0\" serve 127.0.0.1:0 --json",
        ])
        .arg(env!("CARGO_BIN_EXE_oread"))
        .env_remove("RUST_LOG");
    let server = Server::run(command);
    let allowed = server.ready["max_connections"].as_u64().unwrap();
    assert!(allowed > 64, "{allowed}");
}

#[test]
fn more_connections_than_descriptors_are_told_and_not_promised() {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -n 200 && exec \"$0\" serve 127.0.0.1:0 --json --max-connections 5k",
        ])
        .arg(env!("CARGO_BIN_EXE_oread"))
        .env_remove("RUST_LOG");
    let server = Server::run(command);
    let allowed = server.ready["max_connections"].as_u64().unwrap();
    assert!(allowed < 200, "{allowed}");
    server.log_line(&format!(
        "--max-connections is 5000, but the limit of file descriptors (200) allows {allowed}"
    ));
}

#[test]
fn a_frame_that_takes_too_long_closes_a_connection_that_is_never_silent() {
    let server = Server::start(&["--framing", "lines", "--frame-timeout", "300ms"]);
    let mut slow = server.connect();
    slow.write_all(b"a whole line\nand half").unwrap();
    let mut answer = [0; 64];
    let count = slow.read(&mut answer).unwrap();
    assert_eq!(&answer[..count], b"a whole line\n");
    slow.set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let begun = Instant::now();
    // Reset, or at its end: by then the server is gone from it.
    while slow.write_all(b"x").is_ok() && slow.read(&mut answer).is_err_and(|e| would_block(&e)) {
        assert!(begun.elapsed() < LONG, "it was never closed");
    }
    assert_eq!(server.stop().summary()["closed"]["frame_timeout"], 1);
}

fn would_block(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[test]
fn one_source_has_no_more_connections_than_it_may() {
    let server = Server::start(&["--connections-per-source", "2"]);
    let mut within = [server.connect(), server.connect()];
    for client in &mut within {
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
    }
    let ended = server.connect().read(&mut [0; 1]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let ended = server.stop();
    assert_eq!(
        (ended.count("accepted"), ended.count("over_source")),
        (2, 1)
    );
    let told = ended.log.iter().filter(|line| line.contains("its source"));
    assert_eq!(told.count(), 1, "{:?}", ended.log);
}

#[test]
fn one_source_makes_no_more_new_connections_a_second_than_it_may() {
    const CALLS: u64 = 300;
    let server = Server::start(&["--accepts-per-source", "1"]);
    for _ in 0..CALLS {
        let ended = server.connect().shutdown(Shutdown::Write);
        drop(ended);
    }
    let ended = server.stop();
    let (accepted, over) = (ended.count("accepted"), ended.count("over_source"));
    assert_eq!(accepted + over, CALLS);
    assert!(accepted > 0 && over > 0, "{accepted} were taken on");
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_probes_who_is_silent_when_it_is_asked_to() {
    for (arguments, timer) in [(&["--keepalive", "1h"][..], 2), (&[], 0)] {
        let server = Server::start(arguments);
        let mut client = server.connect();
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        let (ours, theirs) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
        let ends = [ours, theirs].map(|address| format!(":{:04X}", address.port()));
        let running = || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let mut rows = table.lines().map(|row| row.split_whitespace().collect());
            let row = rows
                .find(|row: &Vec<&str>| row[1].ends_with(&ends[0]) && row[2].ends_with(&ends[1]));
            row.unwrap()[5].split(':').next().unwrap().parse::<u32>()
        };
        // The timer of what was just sent runs until that is acknowledged.
        let begun = Instant::now();
        while running() != Ok(timer) {
            assert!(begun.elapsed() < LONG, "{:?}, not {timer}", running());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_acknowledges_nothing_is_given_up_when_it_was_asked_for() {
    let server = Server::start(&["--user-timeout", "500ms"]);
    let mut client = server.connect();
    let begun = Instant::now();
    client.set_nonblocking(true).unwrap();
    // It reads nothing, so its window stays closed to the answers.
    while client
        .write(&[b'x'; 4096])
        .map_or_else(|e| would_block(&e), |_| true)
    {
        assert!(begun.elapsed() < LONG, "it was never given up");
        thread::yield_now();
    }
    assert_eq!(server.stop().summary()["closed"]["failed"], 1);
}

/// How much a client that never reads can send, its own buffers being small.
fn taken_from_who_never_reads(server: &Server) -> usize {
    use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
    let (family, flags) = (AddressFamily::Inet, SockFlag::empty());
    let socket = socket::socket(family, SockType::Stream, flags, None).unwrap();
    socket::setsockopt(&socket, sockopt::RcvBuf, &4096).unwrap();
    socket::setsockopt(&socket, sockopt::SndBuf, &4096).unwrap();
    let address = SockaddrStorage::from(server.tcp());
    socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).unwrap();
    let mut client = TcpStream::from(socket);
    let (mut taken, mut last) = (0, Instant::now());
    while last.elapsed() < Duration::from_millis(500) {
        let more = fill(&mut client);
        taken += more;
        if more > 0 {
            last = Instant::now();
        }
    }
    taken
}

#[test]
fn the_system_s_buffers_are_as_small_as_was_asked_for() {
    let marks = ["--high-water", "4KiB"];
    let usual = taken_from_who_never_reads(&Server::start(&marks));
    let small = ["--send-buffer", "4KiB", "--receive-buffer", "4KiB"];
    let small = taken_from_who_never_reads(&Server::start(&[&marks[..], &small[..]].concat()));
    assert!(
        2 * small < usual,
        "{small} bytes with small buffers, {usual} without"
    );
}

#[test]
fn what_the_reactor_does_is_logged_when_it_is_asked_for_and_not_else() {
    for (arguments, told) in [(&["--trace"][..], true), (&["-vv"], false)] {
        let server = Server::start(arguments);
        let mut client = server.connect();
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        drop(client);
        let log = server.stop().log.join("\n");
        assert_eq!(log.contains("write 5: took 5"), told, "{log}");
        assert!(
            log.contains("received from") && log.contains("hello"),
            "{log}"
        );
    }
}
