//! A server whose standard output or standard error takes nothing, or has nobody behind it any
//! more: it serves on, and comes to its end.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cli::{LONG, Watchdog, oread, signal, wait};
use serde_json::Value;

fn exchange(address: SocketAddr, count: usize, message: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    for _ in 0..count {
        stream.write_all(message).unwrap();
        let mut answer = vec![0; message.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, message);
    }
}

/// A server, killed when the test fails before its end.
struct Served(Child, #[allow(dead_code)] Watchdog);

impl Served {
    fn start(command: &mut Command) -> Served {
        let child = command.spawn().unwrap();
        let watchdog = Watchdog::of(&child);
        Served(child, watchdog)
    }

    /// The first line of its log that has `words` in it.
    fn log_line(&mut self, words: &str) -> String {
        // A byte at a time: what follows stays in the pipe.
        let mut log = BufReader::with_capacity(1, self.0.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "no line says {words}");
        }
        self.0.stderr = Some(log.into_inner());
        line
    }

    /// Has it drain, and waits for its end; its exit code.
    fn stop(&mut self) -> Option<i32> {
        signal(self.0.id(), "TERM");
        wait(&mut self.0).code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on a free port of loopback, its output read up to `ready`.
fn serve(mut command: Command) -> (Served, BufReader<PipeReader>, SocketAddr) {
    let (reader, writer) = std::io::pipe().unwrap();
    command
        .args(["127.0.0.1:0", "--tcp", "--json"])
        .stdin(Stdio::null())
        .stdout(writer);
    let server = Served::start(&mut command);
    // It holds the writing end of the pipe, and nobody would hear of the server's end.
    drop(command);
    // A byte at a time: what follows stays in the pipe.
    let mut said = BufReader::with_capacity(1, reader);
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let listening: Value = serde_json::from_str(&line).unwrap();
    line.clear();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("ready"), "{line}");
    let address = listening["address"].as_str().unwrap().parse().unwrap();
    (server, said, address)
}

#[test]
fn a_standard_error_that_is_full_stalls_nobody_and_the_end_comes() {
    let (errors, writer) = std::io::pipe().unwrap();
    let mut command = oread("serve");
    command.args(["-vv"]).stderr(writer);
    let (mut server, mut said, address) = serve(command);
    // Ten times what a pipe takes, and nobody reads it.
    exchange(address, 2000, &[b'x'; 200]);
    assert_eq!(server.stop(), Some(0));
    let mut summary = String::new();
    said.read_to_string(&mut summary).unwrap();
    assert!(summary.contains(r#""event":"summary""#), "{summary}");
    drop(errors);
}

#[test]
fn a_standard_output_that_is_full_does_not_keep_the_drain_waiting() {
    let mut command = oread("serve");
    // A second of counters is more than a pipe takes, and more than may wait.
    command.args(["--stats", "1ms", "--drain-timeout", "100ms", "-v"]);
    command.stderr(Stdio::piped());
    let (mut server, said, address) = serve(command);
    server.log_line("a line of counters is left out");
    exchange(address, 10, b"hello");
    // The log is read, or a full one would be what is tested.
    let mut errors = server.0.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut log = String::new();
        errors.read_to_string(&mut log).map(|_| log)
    });
    assert_eq!(server.stop(), Some(1));
    let log = log.join().unwrap().unwrap();
    assert!(
        log.contains("oread: error: standard output takes nothing"),
        "{log}"
    );
    drop(said);
}

#[test]
fn a_reader_who_leaves_is_told_of_once_and_the_server_goes_on() {
    let mut command = oread("serve");
    command.args(["--stats", "1ms"]).stderr(Stdio::piped());
    let (mut server, said, address) = serve(command);
    drop(said);
    let words = "nothing more is written to standard output: its reader has left";
    server.log_line(words);
    exchange(address, 100, b"still there");
    assert_eq!(server.stop(), Some(0));
    let mut rest = String::new();
    let mut errors = server.0.stderr.take().unwrap();
    errors.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains(words), "{rest}");
}

#[test]
fn a_reader_who_has_left_before_the_summary_is_told_of() {
    let mut command = oread("serve");
    command.stderr(Stdio::piped());
    let (mut server, said, _) = serve(command);
    drop(said);
    assert_eq!(server.stop(), Some(0));
    server.log_line("nothing more is written to standard output");
}

/// A file for an output, which may have only so many bytes: past them it fails as a full disk does.
/// Emptied, it has room again.
struct Disk {
    path: PathBuf,
    file: File,
}

impl Disk {
    const SIZE: u64 = 8192;

    fn new(name: &str) -> Disk {
        let name = format!("outputs-{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut options = File::options();
        let file = options.create(true).append(true).open(&path).unwrap();
        Disk { path, file }
    }

    /// A server that the limit holds for: the system's own.
    fn serve() -> Command {
        let mut command = Command::new("sh");
        // In blocks of 512 bytes, as POSIX has it.
        let script = "ulimit -f 16; exec \"$0\" serve \"$@\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_oread")]);
        command.env_remove("RUST_LOG");
        command
    }

    /// What it has, once that is as the test wants it.
    fn until(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + LONG;
        loop {
            let text = std::fs::read_to_string(&self.path).unwrap();
            if is_so(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "it is never {what}: {text}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn is_full(text: &str) -> bool {
        text.len() as u64 == Disk::SIZE
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may stay where it can't be removed.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_log_on_a_full_disk_goes_on_when_there_is_room_and_says_what_it_lost() {
    let disk = Disk::new("log");
    let mut command = Disk::serve();
    command.arg("-v").stderr(disk.file.try_clone().unwrap());
    let (mut server, said, address) = serve(command);
    let mut connections = 0;
    let mut connect = |count: usize| {
        (0..count).for_each(|_| exchange(address, 1, b"hello"));
        connections += count;
        connections
    };
    // Who writes the log may be far behind. What waits once the disk is emptied must not fill it
    // anew, so the next line comes when all before it are there.
    let mut lines = 0;
    let before = disk.until("full", |text| {
        if text.matches("connected ").count() == lines {
            lines = 2 * connect(1);
        }
        Disk::is_full(text)
    });
    connect(30);
    disk.file.set_len(0).unwrap();
    connect(1);
    let words = " of the log were lost: standard error took no more";
    disk.until("told of what was lost", |text| text.contains(words));
    assert_eq!(server.stop(), Some(0));
    let after = std::fs::read_to_string(&disk.path).unwrap();
    assert!(after.contains("SIGTERM: draining"), "{after}");
    // Each line is there, or it is counted: one for each connection's beginning, one for its end.
    let (whole, _torn) = before.rsplit_once('\n').unwrap();
    let both = [whole, &after].join("\n");
    let told: Vec<&str> = both.lines().filter(|line| line.contains(words)).collect();
    let lost = told.iter().map(|line| {
        let number = line.split(' ').nth(2).unwrap();
        number.parse::<usize>().unwrap()
    });
    let there = both.lines().filter(|line| line.contains("connected "));
    assert_eq!(lost.sum::<usize>() + there.count(), 2 * connections);
    drop(said);
}

#[test]
fn counters_on_a_full_disk_go_on_when_there_is_room_and_the_log_says_what_was_lost() {
    let disk = Disk::new("counters");
    let mut command = Disk::serve();
    command
        .args(["127.0.0.1:0", "--json", "--stats", "50ms"])
        .stdin(Stdio::null())
        .stdout(disk.file.try_clone().unwrap())
        .stderr(Stdio::piped());
    let mut server = Served::start(&mut command);
    disk.until("full", Disk::is_full);
    server.log_line("can't write to standard output, so lines are lost");
    disk.file.set_len(0).unwrap();
    server.log_line("standard output works again: ");
    signal(server.0.id(), "TERM");
    // It never is full again. Without its summary the exit code would be 1.
    while server.0.try_wait().unwrap().is_none() {
        disk.file.set_len(0).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(wait(&mut server.0).code(), Some(0));
}

/// A server whose standard output is a socket, full from `ready` on, which the reader keeps open.
/// Its standard error is the same one, or `errors`.
fn serve_into_full_output(errors: Option<PipeWriter>) -> (Served, UnixStream) {
    let (reader, mut ours) = UnixStream::pair().unwrap();
    reader.set_read_timeout(Some(LONG)).unwrap();
    let output = OwnedFd::from(ours.try_clone().unwrap());
    let same = OwnedFd::from(ours.try_clone().unwrap());
    let mut command = oread("serve");
    command
        .args(["127.0.0.1:0", "--tcp", "--json"])
        .args(["--drain-timeout", "100ms"])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors.map_or_else(|| same.into(), Stdio::from));
    let server = Served::start(&mut command);
    let mut said = String::new();
    while !said.contains("ready") {
        let mut byte_by_byte = BufReader::with_capacity(1, &reader);
        assert_ne!(byte_by_byte.read_line(&mut said).unwrap(), 0, "{said}");
    }
    ours.set_nonblocking(true).unwrap();
    while ours.write(b"\n").is_ok() {}
    ours.set_nonblocking(false).unwrap();
    (server, reader)
}

#[test]
fn a_server_whose_outputs_are_one_that_is_full_ends_a_second_after_its_drain_at_the_latest() {
    // The best of three: the machine may have other things to do.
    let times = (0..3).map(|_| {
        let (mut server, _reader) = serve_into_full_output(None);
        let begun = Instant::now();
        assert_eq!(server.stop(), Some(1));
        begun.elapsed()
    });
    let best = times.min().unwrap();
    // It is 1.1 s, and was 3 s when each of both was waited for on its own.
    assert!(best < Duration::from_millis(2500), "{best:?}");
}

/// A pipe takes the last line of the log and not the words of the error behind it.
#[cfg(target_os = "linux")]
#[test]
fn words_of_an_error_for_which_there_is_no_room_do_not_keep_the_server_alive() {
    let (mut log, mut writer) = std::io::pipe().unwrap();
    // As much as it holds (pipe(7)), less a line.
    let filled = (64 << 10) - 120;
    writer.write_all(&vec![b'\n'; filled]).unwrap();
    let (mut server, _reader) = serve_into_full_output(Some(writer));
    assert_eq!(server.stop(), Some(1));
    let mut said = String::new();
    log.read_to_string(&mut said).unwrap();
    assert!(said[filled..].contains("draining"), "{said}");
    assert!(!said.contains("oread: error"), "there was room: {said}");
}

/// A reader that takes a little again and again shows that the output goes on, and must not keep
/// the server alive by it.
#[test]
fn a_standard_error_that_is_read_slowly_does_not_put_the_end_off() {
    let (mut errors, writer) = std::io::pipe().unwrap();
    let mut command = oread("serve");
    command
        .args(["-vv", "--drain-timeout", "100ms"])
        .stderr(writer);
    let (mut server, said, address) = serve(command);
    // Several times what a pipe takes.
    exchange(address, 2000, &[b'x'; 200]);
    signal(server.0.id(), "TERM");
    let mut log = Vec::new();
    while server.0.try_wait().unwrap().is_none() {
        let mut piece = [0; 4096];
        let count = errors.read(&mut piece).unwrap();
        log.extend_from_slice(&piece[..count]);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(wait(&mut server.0).code(), Some(0));
    errors.read_to_end(&mut log).unwrap();
    let log = String::from_utf8(log).unwrap();
    assert!(!log.contains("draining"), "all of the log was waited for");
    drop(said);
}
