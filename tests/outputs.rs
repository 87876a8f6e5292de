//! A server whose standard output or standard error takes nothing, or has nobody behind it any more: it serves on,
//! and comes to its end.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use cli::{LONG, oread, signal, wait};
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
struct Served(Child);

impl Served {
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
    let child = command
        .args(["127.0.0.1:0", "--tcp", "--json"])
        .stdin(Stdio::null())
        .stdout(writer)
        .spawn()
        .unwrap();
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
    (Served(child), said, address)
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
