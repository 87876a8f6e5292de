//! The example `nested`, in each of its loops, with real clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/example.rs"]
mod example;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, connect, loopback, pattern};
use example::{Example, command};

/// The loops that this build has: with poll(2) a reactor can't be nested.
#[cfg(not(mio_unsupported_force_poll_poll))]
const LOOPS: &[&str] = &["mio", "calloop", "tokio", "foreign"];
#[cfg(mio_unsupported_force_poll_poll)]
const LOOPS: &[&str] = &["foreign"];

fn start(outer: &str) -> Example {
    Example::run(
        command("nested")
            .args([outer, "127.0.0.1:0"])
            .stdin(Stdio::piped()),
    )
}

/// A client that has been greeted: nothing else comes but what it asks for, and what standard input
/// says.
fn greeted(example: &Example) -> BufReader<TcpStream> {
    let mut client = BufReader::new(connect(example.address));
    assert_eq!(line(&mut client), "hello\n");
    client
}

fn line(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line
}

/// Waits for the example's end.
fn wait(example: &mut Example) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = example.child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "it does not end");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal, by its name without SIG.
fn signal(example: &Example, name: &str) {
    let pid = example.child.id().to_string();
    let mut kill = Command::new("kill");
    let status = kill.args([&format!("-{name}"), &pid]).status();
    assert!(status.unwrap().success(), "kill -{name} {pid}");
}

/// Stops the example, and waits until it stands still.
fn freeze(example: &Example) {
    signal(example, "STOP");
    let deadline = Instant::now() + PATIENCE;
    let stat = format!("/proc/{}/stat", example.child.id());
    // "pid (name) state ..."; the name has no parenthesis of its own.
    while !fs::read_to_string(&stat).unwrap().contains(") T ") {
        assert!(Instant::now() < deadline, "it does not stop");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_timer_of_the_reactor_fires_though_the_outer_loop_has_nothing_else_to_do() {
    for outer in LOOPS {
        let example = start(outer);
        // Each is greeted 50 ms after it has come, when nothing else happens any more.
        greeted(&example);
        greeted(&example);
    }
}

#[test]
fn ten_clients_that_are_ready_at_once_are_all_served_though_a_batch_has_room_for_four() {
    for outer in LOOPS {
        let example = start(outer);
        let mut clients: Vec<_> = (0..10).map(|_| greeted(&example)).collect();
        for round in ["one\n", "two\n", "three\n"] {
            freeze(&example);
            for client in &mut clients {
                client.get_mut().write_all(round.as_bytes()).unwrap();
            }
            signal(&example, "CONT");
            for client in &mut clients {
                assert_eq!(line(client), round, "in {outer}");
            }
        }
    }
}

#[test]
fn ten_callers_that_come_at_once_are_all_let_in() {
    for outer in LOOPS {
        let example = start(outer);
        freeze(&example);
        let clients: Vec<_> = (0..10).map(|_| connect(example.address)).collect();
        signal(&example, "CONT");
        for client in clients {
            assert_eq!(line(&mut BufReader::new(client)), "hello\n");
        }
    }
}

#[test]
fn a_megabyte_comes_back_whole() {
    for outer in LOOPS {
        let example = start(outer);
        let mut client = greeted(&example);
        let mut sender = client.get_ref().try_clone().unwrap();
        let sending = thread::spawn(move || {
            sender.write_all(&pattern(1 << 20)).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert!(bytes == pattern(1 << 20), "in {outer}");
        sending.join().unwrap();
    }
}

#[test]
fn what_another_thread_says_wakes_the_loop_and_reaches_everybody() {
    for outer in LOOPS {
        let mut example = start(outer);
        let mut clients = [greeted(&example), greeted(&example)];
        for words in ["one\n", "two\n", "three\n"] {
            let input = example.child.stdin.as_mut().unwrap();
            input.write_all(words.as_bytes()).unwrap();
            for client in &mut clients {
                assert_eq!(line(client), words, "in {outer}");
            }
        }
    }
}

#[test]
fn the_outer_loop_sees_a_drain_answers_what_had_come_and_ends() {
    for outer in LOOPS {
        let mut example = start(outer);
        let mut client = greeted(&example);
        freeze(&example);
        client.get_mut().write_all(b"last words\n").unwrap();
        drop(example.child.stdin.take());
        signal(&example, "CONT");
        assert_eq!(line(&mut client), "last words\n", "in {outer}");
        assert_eq!(line(&mut client), "", "the end, in {outer}");
        drop(client);
        assert_eq!(wait(&mut example).code(), Some(0), "in {outer}");
    }
}

#[test]
fn a_source_that_never_pauses_keeps_no_client_waiting() {
    for outer in LOOPS {
        let mut example = start(outer);
        let mut client = greeted(&example);
        let mut input = example.child.stdin.take().unwrap();
        // It writes until the example is gone.
        let flood = thread::spawn(move || while input.write_all(&[b'.'; 4096]).is_ok() {});
        client.get_mut().write_all(b"!").unwrap();
        let mut bytes = Vec::new();
        client.read_until(b'!', &mut bytes).unwrap();
        assert_eq!(bytes.last(), Some(&b'!'), "in {outer}");
        drop(example);
        flood.join().unwrap();
    }
}

#[test]
fn bad_arguments_exit_with_2_and_a_failed_bind_with_1() {
    let taken = TcpListener::bind(loopback()).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, code, words) in [
        (vec![], 2, "expected two arguments"),
        (vec!["mio"], 2, "expected two arguments"),
        (vec!["glib", "127.0.0.1:0"], 2, "no loop \"glib\""),
        (vec!["mio", "localhost"], 2, "\"localhost\" is no address"),
        (vec!["mio", "127.0.0.1:0", "more"], 2, "expected two"),
        (vec!["tokio", &taken], 1, "in use"),
    ] {
        let output = command("nested").args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert_eq!(code == 2, said.contains("\nusage: nested "), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[cfg(mio_unsupported_force_poll_poll)]
#[test]
fn a_build_that_can_nest_no_reactor_says_so() {
    for outer in ["mio", "calloop", "tokio"] {
        let mut run = command("nested");
        let output = run.args([outer, "127.0.0.1:0"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("poll(2)"), "{said}");
    }
}
