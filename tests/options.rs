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
    assert!(server.stop().count("reads_paused") > 0);
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
