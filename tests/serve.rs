//! `oread serve` from outside: what it says, how it ends, and that its limits hold. The real binary
//! is run.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use cli::{LONG, Server, oread, signal, wait};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Sends `bytes`, and expects them back.
fn echoed(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes, "{} bytes come back changed", bytes.len());
}

/// A server without `--json`, and what it says.
fn in_words(arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child = oread("serve")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

#[test]
fn at_the_start_it_says_where_it_listens_how_to_try_it_and_how_to_stop_it() {
    let (mut child, mut output) = in_words(&["127.0.0.1:0"]);
    let mut said = String::new();
    while !said.contains("stop it") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said}");
    }
    let first = said.lines().next().unwrap();
    let port = first.strip_prefix("listening on TCP 127.0.0.1:").unwrap();
    assert_ne!(port.parse(), Ok(0_u16));
    for words in [
        format!("listening on UDP 127.0.0.1:{port}\n"),
        " connections at a time, as many as the limit of file descriptors allows\n".to_owned(),
        format!("try it with `nc 127.0.0.1 {port}`\n"),
        format!("`oread connect 127.0.0.1:{port}`\n"),
        format!("`oread connect --udp 127.0.0.1:{port}`\n"),
        format!("stop it with Ctrl-C or `kill {}`", child.id()),
    ] {
        assert!(said.contains(&words), "{words:?} is not in {said}");
    }
    TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    signal(child.id(), "TERM");
    let mut summary = String::new();
    output.read_to_string(&mut summary).unwrap();
    assert_eq!(wait(&mut child).code(), Some(0));
    for words in ["served for ", "\n  bytes ", "1 accepted, 0 refused"] {
        assert!(summary.contains(words), "{words:?} is not in {summary}");
    }
}

#[test]
fn in_json_the_summary_has_every_counter_by_name() {
    let server = Server::start(&[]);
    assert_eq!(server.ready["threads"], 1);
    assert!(server.ready["max_connections"].as_u64().unwrap() > 0);
    let mut stream = server.connect();
    echoed(&mut stream, b"hello");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.send_to(b"dgram", server.udp()).unwrap();
    socket.recv_from(&mut [0; 8]).unwrap();
    let ended = server.stop();
    assert_eq!(ended.code, Some(0));
    for (name, expected) in [
        ("accepted", 1),
        ("refused", 0),
        ("open", 0),
        ("peak_open", 1),
        ("bytes_in", 5),
        ("bytes_out", 5),
        ("frames_in", 1),
        ("frames_out", 1),
        ("datagrams_in", 1),
        ("datagrams_out", 1),
        ("datagrams_dropped", 0),
        ("pressure_pauses", 0),
        ("accept_pauses", 0),
        ("limit_pauses", 0),
        ("budget_hits", 0),
        ("cut", 0),
    ] {
        assert_eq!(ended.count(name), expected, "{name}");
    }
    for (name, _) in oread::Stats::default().closed.iter() {
        let expected = u64::from(name == "finished");
        assert_eq!(ended.summary()["closed"][name], expected, "{name}");
    }
}

#[test]
fn a_signal_drains_what_has_arrived_is_answered_and_the_exit_code_is_0() {
    for name in ["INT", "TERM"] {
        let server = Server::start(&[]);
        let mut stream = server.connect();
        echoed(&mut stream, b"first");
        signal(server.pid(), name);
        let mut rest = Vec::new();
        // The end comes in order, and not as a reset.
        stream.read_to_end(&mut rest).unwrap();
        drop(stream);
        let ended = server.end();
        assert_eq!((ended.code, rest.len()), (Some(0), 0));
        assert_eq!(ended.count("cut"), 0);
        assert_eq!(ended.summary()["closed"]["drained"], 1);
        let words = format!("SIG{name}: draining");
        assert!(ended.log.iter().any(|line| line.contains(&words)));
    }
}

#[test]
fn a_connection_that_does_not_end_is_cut_off_at_the_drain_s_deadline() {
    let server = Server::start(&["--drain-timeout", "200ms"]);
    let mut stream = server.connect();
    echoed(&mut stream, b"first");
    let ended = server.stop();
    assert_eq!((ended.code, ended.count("cut")), (Some(0), 1));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (second, code) in [("INT", 130), ("TERM", 143)] {
        let mut server = Server::start(&["--drain-timeout", "1h"]);
        let mut stream = server.connect();
        echoed(&mut stream, b"a connection that the drain waits for");
        signal(server.pid(), "TERM");
        server.log_line("draining");
        // Those that come right behind the first are taken for the same one.
        while server.is_running() {
            signal(server.pid(), second);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(server.end().code, Some(code));
    }
}

/// Whether there is strace, and it may trace.
#[cfg(target_os = "linux")]
fn can_trace() -> bool {
    let mut strace = Command::new("strace");
    let traced = strace.args(["-qq", "-o", "/dev/null", "true"]).output();
    let can = traced.is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: there is no strace that may trace");
    }
    can
}

/// strace refuses the threads.
#[cfg(target_os = "linux")]
#[test]
fn it_is_not_ready_before_all_its_threads_are_there() {
    if !can_trace() {
        return;
    }
    let output = Command::new("strace")
        .args(["-D", "-f", "-qq", "-o", "/dev/null"])
        .args(["-e", "trace=clone,clone3"])
        .args(["-e", "inject=clone,clone3:error=EAGAIN"])
        .arg(env!("CARGO_BIN_EXE_oread"))
        .args(["serve", "127.0.0.1:0", "--json", "--threads", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("can't start a thread"), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

/// The thread of this name, in this process.
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
fn thread_of(pid: u32, name: &str) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut ids = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    ids.find(|id| {
        let called = std::fs::read_to_string(format!("/proc/{pid}/task/{id}/comm"));
        called.is_ok_and(|called| called.trim_end() == name)
    })
}

/// One reactor's poll fails, by strace: all drain, the counters of all are told, and the exit code
/// is 1. (mio's poll(2) backend waits by another call, which the same thread makes for other things
/// too.)
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
#[test]
fn a_reactor_that_fails_ends_all_of_them_in_good_order() {
    if !can_trace() {
        return;
    }
    for (thread, index) in [("reactor 1", 1), ("oread", 0)] {
        let server = Server::start(&["--threads", "3"]);
        let deadline = Instant::now() + LONG;
        let id = loop {
            if let Some(id) = thread_of(server.pid(), thread) {
                break id;
            }
            assert!(Instant::now() < deadline, "there is no thread {thread}");
        };
        let mut streams: Vec<TcpStream> = (0..30).map(|_| server.connect()).collect();
        for stream in &mut streams {
            echoed(stream, b"before");
        }
        drop(streams);
        let mut strace = Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "-p", &id])
            .args(["-e", "trace=epoll_wait,epoll_pwait"])
            .args(["-e", "inject=epoll_wait,epoll_pwait:error=EBADF"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Nobody connects: to be traced ends the wait that is under way, and the next one fails.
        let ended = server.end();
        wait(&mut strace);
        assert_eq!(ended.code, Some(1));
        assert_eq!(
            (ended.count("accepted"), ended.count("bytes_in")),
            (30, 180)
        );
        let words = format!("oread: error: thread {index} failed: the system can't be polled");
        assert!(
            ended.log.iter().any(|line| line.contains(&words)),
            "{:?}",
            ended.log
        );
    }
}

/// Whether this process has a handler for SIGTERM, by the system's mask of those
/// (proc_pid_status(5)).
#[cfg(target_os = "linux")]
fn catches_sigterm(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (15 - 1) != 0)
}

/// The signal comes as soon as it is caught at all; strace makes the time after that long.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_while_it_starts_is_not_lost() {
    if !can_trace() {
        return;
    }
    let mut command = Command::new("strace");
    command
        // The tracer is not the parent: the child is the server itself.
        .args(["-D", "-qq", "-o", "/dev/null", "-e", "trace=socketpair"])
        .args(["-e", "inject=socketpair:delay_enter=500000"])
        .arg(env!("CARGO_BIN_EXE_oread"))
        .args(["serve", "127.0.0.1:0", "--json"])
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + LONG;
    while !catches_sigterm(child.id()) {
        assert!(child.try_wait().unwrap().is_none(), "it does not start");
        assert!(Instant::now() < deadline, "it never catches the signal");
        std::thread::yield_now();
    }
    signal(child.id(), "TERM");
    assert_eq!(wait(&mut child).code(), Some(0));
    let mut said = String::new();
    let mut output = child.stdout.take().unwrap();
    output.read_to_string(&mut said).unwrap();
    assert!(said.contains(r#"{"event":"summary""#), "{said}");
}

#[test]
fn an_address_in_use_is_exit_code_1_and_clear_words_with_threads_too() {
    for threads in ["1", "2"] {
        let server = Server::start(&["--threads", threads]);
        let address = server.tcp().to_string();
        for transport in ["--tcp", "--udp"] {
            let output = oread("serve")
                .args([transport, &address, "--threads", threads])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            let name = transport.trim_start_matches('-').to_uppercase();
            let words = format!("can't bind {name} {address}: the address is in use");
            assert!(said.contains(&words), "{said}");
            assert!(output.stdout.is_empty());
        }
        assert_eq!(server.stop().code, Some(0));
    }
}

#[test]
fn an_address_that_another_one_of_the_command_has_is_told_as_that() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let (all, one) = (format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}"));
    let output = oread("serve").args([&all, &one, "--tcp"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let words = format!("can't bind TCP {one}: {all}, which is served too, has that address");
    assert!(said.contains(&words), "{said}");
}

#[test]
fn threads_share_the_ports_and_their_counters_are_summed() {
    let mut server = Server::start(&["--threads", "3", "--stats", "50ms"]);
    assert_eq!(
        (server.listening.len(), &server.ready["threads"]),
        (2, &3.into())
    );
    let mut streams: Vec<TcpStream> = (0..60).map(|_| server.connect()).collect();
    for stream in &mut streams {
        echoed(stream, b"to whichever of them");
    }
    let (sent, sockets) = (20_u64, 20);
    for _ in 0..sockets {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.send_to(b"dgram", server.udp()).unwrap();
        socket.recv_from(&mut [0; 8]).unwrap();
    }
    // The line of counters comes to know of all reactors too.
    while server.event()["accepted"] != 60 {}
    drop(streams);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0));
    assert_eq!((ended.count("accepted"), ended.count("open")), (60, 0));
    assert_eq!(ended.count("bytes_in"), 60 * 20);
    assert_eq!(ended.count("datagrams_out"), sent);
}

#[test]
fn at_the_most_connections_callers_wait_until_one_leaves() {
    let server = Server::start(&["--max-connections", "2"]);
    assert_eq!(server.ready["max_connections"], 2);
    let (mut first, mut second) = (server.connect(), server.connect());
    echoed(&mut first, b"1");
    echoed(&mut second, b"2");
    let mut third = server.connect();
    third.write_all(b"3").unwrap();
    echoed(&mut second, b"2 again");
    drop(first);
    third.read_exact(&mut [0; 1]).unwrap();
    drop((second, third));
    let ended = server.stop();
    assert_eq!((ended.count("accepted"), ended.count("peak_open")), (3, 2));
    assert!(ended.count("limit_pauses") > 0);
}

#[test]
fn with_threads_there_are_no_more_connections_than_were_asked_for() {
    let server = Server::start(&["--threads", "3", "--max-connections", "4"]);
    let mut streams: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    let mut answered = 0;
    for stream in &mut streams {
        stream.write_all(b"x").unwrap();
    }
    // Who is not taken on is answered when others have left.
    let deadline = Instant::now() + LONG;
    while !streams.is_empty() {
        assert!(
            Instant::now() < deadline,
            "{} are not answered",
            streams.len()
        );
        streams.retain_mut(|stream| {
            stream.set_nonblocking(true).unwrap();
            let heard = stream.read(&mut [0; 1]).is_ok();
            answered += u32::from(heard);
            !heard
        });
    }
    assert_eq!(answered, 40);
    let ended = server.stop();
    assert_eq!(ended.count("accepted"), 40);
    // The sum of the peaks: no more than the shares.
    assert!(
        ended.count("peak_open") <= 4,
        "{}",
        ended.count("peak_open")
    );
}

#[test]
fn counters_are_told_every_so_often() {
    let mut server = Server::start(&["--stats", "20ms"]);
    let mut stream = server.connect();
    echoed(&mut stream, b"hello");
    let mut last = 0;
    for _ in 0..3 {
        let event = server.event();
        assert_eq!(event["event"], "stats");
        let uptime = event["uptime_ms"].as_u64().unwrap();
        assert!(uptime >= last, "{uptime} ms after {last} ms");
        last = uptime;
    }
    while server.event()["bytes_in"] != 5 {}
}

#[test]
fn each_message_is_logged_escaped_and_cut() {
    let server = Server::start(&["-vv"]);
    let mut stream = server.connect();
    let peer = stream.local_addr().unwrap();
    echoed(&mut stream, b"\x1b[2J\n\xff\xc2\x9b text \"q\"");
    let shown = r#"\x1b[2J\n\xff\u{9b} text \"q\""#;
    server.log_line(&format!("connected {peer}"));
    server.log_line(&format!("received from {peer}: {shown}"));
    server.log_line(&format!("sent to {peer}: {shown}"));
    echoed(&mut stream, &[b'a'; 1000]);
    let long = server.log_line(&format!("received from {peer}: aaa"));
    assert!(long.ends_with("a\u{2026} (1,000 bytes)"), "{long}");
    assert!(long.len() < 500, "{long}");
    drop(stream);
    server.log_line(&format!("disconnected {peer}"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"dgram\x07", server.udp()).unwrap();
    let peer = socket.local_addr().unwrap();
    server.log_line(&format!("received from {peer}: dgram\\x07"));
}

#[test]
fn a_last_line_without_its_newline_is_logged_too() {
    let server = Server::start(&["--framing", "lines", "-vv"]);
    let mut stream = server.connect();
    let peer = stream.local_addr().unwrap();
    stream.write_all(b"whole\ntail").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    for said in ["whole", "tail"] {
        server.log_line(&format!("received from {peer}: {said}"));
        server.log_line(&format!("sent to {peer}: {said}"));
    }
}

#[test]
fn a_datagram_without_an_answer_is_logged_with_the_reason() {
    let server = Server::start(&["--udp-rate", "1", "-v"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap();
    for _ in 0..3 {
        socket.send_to(b"dgram", server.udp()).unwrap();
    }
    let line = server.log_line("no answer to");
    let words = format!("no answer to {own}, 5 bytes: there were too many in this second");
    assert!(line.ends_with(&words), "{line}");
    // A privilege is needed for the port of a service.
    let service = (900..1000).find_map(|port| UdpSocket::bind(("127.0.0.1", port)).ok());
    if let Some(service) = service {
        service.send_to(b"dgram", server.udp()).unwrap();
        server.log_line("a port below 1024 is a service's");
    }
}

#[test]
fn the_close_of_an_idle_connection_is_logged_before_its_peer_agrees() {
    let server = Server::start(&["--idle-timeout", "50ms", "-v"]);
    let stream = server.connect();
    let own = stream.local_addr().unwrap();
    server.log_line(&format!("closing {own}: idle for too long"));
    drop(stream);
    server.log_line(&format!("disconnected {own}: idle for too long"));
}

#[test]
fn a_frame_that_is_too_long_is_told_once_and_what_was_before_it_is_answered() {
    let server = Server::start(&["--framing", "lines", "--max-frame", "16"]);
    let mut stream = server.connect();
    let peer = stream.local_addr().unwrap();
    let mut input = b"one\ntwo\n".to_vec();
    input.extend([b'x'; 100_000]);
    stream.write_all(&input).unwrap();
    let mut answers = Vec::new();
    // A close with unread input would be a reset, which destroys answers.
    stream.read_to_end(&mut answers).unwrap();
    assert_eq!(answers, b"one\ntwo\n");
    drop(stream);
    let ended = server.stop();
    let told = ended.log.iter().filter(|line| line.contains("warn"));
    let told: Vec<&String> = told.collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&format!("closing {peer}: ")), "{told:?}");
    assert_eq!(ended.summary()["closed"]["frame_too_long"], 1);
    assert_eq!(
        (ended.count("frames_in"), ended.count("frames_bad")),
        (2, 1)
    );
}

#[test]
fn a_frame_longer_than_the_usual_output_limit_is_answered_whole() {
    let server = Server::start(&["--framing", "length:u32", "--max-frame", "40MiB"]);
    let mut stream = server.connect();
    let len = 40_u32 << 20;
    let mut frame = len.to_be_bytes().to_vec();
    frame.resize(4 + len as usize, b'x');
    // Not read before all is sent: whatever the socket does not take has to wait in the server.
    echoed(&mut stream, &frame);
    // Its end is seen before the signal is sent, which would make it a drained one.
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(server.stop().summary()["closed"]["finished"], 1);
}

#[test]
fn the_backlog_that_the_system_allows_is_told_when_it_is_another() {
    let path = "/proc/sys/net/core/somaxconn";
    let Some(most) = std::fs::read_to_string(path).ok() else {
        println!("skipped: this system does not say what it caps the backlog at");
        return;
    };
    let most: u64 = most.trim().parse().unwrap();
    let asked = (most + 1).to_string();
    for threads in ["1", "3"] {
        let server = Server::start(&["--backlog", &asked, "--threads", threads]);
        let address = server.tcp();
        let ended = server.stop();
        let words = format!("caps the backlog of {address}: {most}, not {asked},");
        let told = ended.log.iter().filter(|line| line.contains(&words));
        assert_eq!(told.count(), 1, "{:?}", ended.log);
    }
}

#[test]
fn a_reader_who_is_gone_at_the_start_ends_it_in_silence() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = oread("serve")
        .arg("127.0.0.1:0")
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_reader_who_leaves_later_does_not_end_it() {
    let (child, mut output) = in_words(&["127.0.0.1:0", "--stats", "10ms"]);
    let mut child = child;
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    let address = first.strip_prefix("listening on TCP ").unwrap().trim_end();
    let mut said = String::new();
    while !said.contains("stop it") {
        output.read_line(&mut said).unwrap();
    }
    drop(output);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    for _ in 0..200 {
        echoed(&mut stream, b"still there");
    }
    drop(stream);
    signal(child.id(), "TERM");
    assert_eq!(wait(&mut child).code(), Some(0));
}

/// A standard output that takes nothing more: a socket that is full, which another program that has
/// it too has made non-blocking.
struct Full {
    child: Child,
    /// Where the server listens.
    address: String,
    reader: UnixStream,
    /// Newlines that fill it.
    filled: usize,
}

impl Full {
    /// A server whose standard output is full from when it is ready on.
    fn start(arguments: &[&str]) -> Full {
        let (reader, mut ours) = UnixStream::pair().unwrap();
        reader.set_read_timeout(Some(LONG)).unwrap();
        ours.set_nonblocking(true).unwrap();
        let child = oread("serve")
            .args(["127.0.0.1:0", "--json"])
            .args(arguments)
            .stdout(std::os::fd::OwnedFd::from(ours.try_clone().unwrap()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        while !said.contains("ready") {
            let mut byte_by_byte = BufReader::with_capacity(1, &reader);
            byte_by_byte.read_line(&mut said).unwrap();
        }
        let listening: serde_json::Value =
            serde_json::from_str(said.lines().next().unwrap()).unwrap();
        let mut filled = 0;
        while let Ok(count) = ours.write(&[b'\n'; 1000]) {
            filled += count;
        }
        Full {
            child,
            address: listening["address"].as_str().unwrap().to_owned(),
            reader,
            filled,
        }
    }

    /// Has it drain, and only then reads: what came after all that was in the way.
    fn end(mut self) -> String {
        signal(self.child.id(), "TERM");
        let mut log = BufReader::new(self.child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("draining") {
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "{line}");
        }
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).unwrap();
        assert_eq!(wait(&mut self.child).code(), Some(0));
        rest
    }
}

#[test]
fn a_standard_output_that_is_full_gets_the_whole_summary_when_it_has_room() {
    let server = Full::start(&[]);
    let filled = server.filled;
    let said = server.end();
    let (newlines, summary) = said.split_at(filled);
    assert_eq!(newlines.trim_end(), "");
    let whole = summary.starts_with(r#"{"event":"summary""#) && summary.ends_with("}\n");
    assert!(whole, "{summary}");
}

#[test]
fn a_standard_output_that_is_full_stalls_nobody() {
    for threads in ["1", "2"] {
        let server = Full::start(&["--stats", "1ms", "--threads", threads]);
        let mut streams: Vec<TcpStream> = (0..10)
            .map(|_| TcpStream::connect(&server.address).unwrap())
            .collect();
        let begun = Instant::now();
        // Past the time at which there were more lines than may wait.
        while begun.elapsed() < std::time::Duration::from_millis(200) {
            for stream in &mut streams {
                stream.set_read_timeout(Some(LONG)).unwrap();
                echoed(stream, b"answered");
            }
        }
        drop(streams);
        let said = server.end();
        // What was said before it was full, and the newlines that filled it.
        let (_, said) = said.split_once("\n\n").unwrap();
        let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        // Each is whole; most were left out.
        for line in &lines {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(
                event["event"] == "stats" || event["event"] == "summary",
                "{line}"
            );
        }
        assert!((2..40).contains(&lines.len()), "{} lines", lines.len());
        assert!(lines.last().unwrap().starts_with(r#"{"event":"summary""#));
    }
}

/// A connection as standard output, which is reset: an error that is not a reader who has left.
#[test]
fn a_summary_that_can_not_be_written_is_exit_code_1() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (reader, _) = listener.accept().unwrap();
    let mut child = oread("serve")
        .args(["127.0.0.1:0", "--json"])
        .stdout(std::os::fd::OwnedFd::from(output))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(&reader);
    while !said.contains("ready") {
        lines.read_line(&mut said).unwrap();
    }
    let now = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(&reader, nix::sys::socket::sockopt::Linger, &now).unwrap();
    drop(reader);
    signal(child.id(), "TERM");
    let mut log = String::new();
    let mut errors = child.stderr.take().unwrap();
    errors.read_to_string(&mut log).unwrap();
    assert_eq!(wait(&mut child).code(), Some(1), "{log}");
    assert!(log.contains("can't write to standard output"), "{log}");
}

/// Raises this process's limit of descriptors as far as it goes, and gives it.
fn descriptors() -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// Opens so many connections at once, and has each answered twice: when it is new, and when all are
/// there.
fn hold(server: &Server, count: usize) {
    let mut streams: Vec<TcpStream> = (0..count).map(|_| server.connect()).collect();
    for round in 0..2_u32 {
        for (number, stream) in (0_u32..).zip(&mut streams) {
            stream
                .write_all(&(round << 24 | number).to_be_bytes())
                .unwrap();
        }
        for (number, stream) in (0_u32..).zip(&mut streams) {
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(u32::from_be_bytes(answer), round << 24 | number);
        }
    }
}

#[test]
fn ten_thousand_connections_at_once_are_each_answered() {
    // Both ends count, each in its own process. The other tests of this file have some as well.
    let possible = descriptors().saturating_sub(300);
    let server = Server::start(&[]);
    let count = server.ready["max_connections"]
        .as_u64()
        .unwrap()
        .min(possible)
        .min(10_000);
    assert!(count >= 400, "descriptors for {count} connections only");
    println!("{count} connections");
    hold(&server, count as usize);
    let ended = server.stop();
    assert_eq!(
        (ended.count("accepted"), ended.count("peak_open")),
        (count, count)
    );
    assert_eq!(ended.count("bytes_out"), 8 * count);
}

#[test]
fn under_a_limit_of_1024_descriptors_at_least_400_connections_are_served() {
    descriptors();
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_oread");
    command.args([
        "-c",
        "ulimit -n 1024; exec \"$0\" serve 127.0.0.1:0 --json",
        program,
    ]);
    command.env_remove("RUST_LOG");
    let server = Server::run(command);
    let allowed = server.ready["max_connections"].as_u64().unwrap();
    assert!((400..1024).contains(&allowed), "{allowed}");
    hold(&server, 400);
    assert_eq!(server.stop().count("peak_open"), 400);
}
