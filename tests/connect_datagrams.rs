//! `oread connect --udp` from outside. The real binary is run.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cli::{Client, LONG, LOOPBACK, Server, connect};

#[test]
fn a_line_is_a_datagram_and_an_empty_one_too() {
    let server = Server::start(&[]);
    let (code, output, said) = connect(server.udp(), &["--udp"], b"one\n\nq\nlast");
    assert_eq!(
        String::from_utf8(output).unwrap(),
        "one\n\nq\nlast\n",
        "{said}"
    );
    assert_eq!(code, Some(0));
    assert_eq!(server.stop().count("datagrams_out"), 4);
}

/// All of them are in the pipe at once. Sent at once, most answers would find no room.
#[test]
fn three_thousand_lines_are_as_many_datagrams_and_each_answer_is_printed() {
    let server = Server::start(&[]);
    let mut input: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    // The last line needs no newline.
    let last = input.pop();
    let (code, output, said) = connect(server.udp(), &["--udp", "--wait", "3s"], input.as_bytes());
    input.extend(last);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(
        output == input.as_bytes(),
        "{} of 3000 lines come back",
        output.iter().filter(|&&byte| byte == b'\n').count()
    );
    assert_eq!(server.stop().count("datagrams_in"), 3000);
}

/// What is not printed yet waits, and the loop goes on.
#[test]
fn answers_wait_for_a_standard_output_that_is_not_read() {
    // Several times what a pipe holds, and the queue in front of it.
    const COUNT: usize = 400;
    let mut server = Server::start(&["--stats", "20ms"]);
    let mut client = Client::start(server.udp(), &["--udp", "--wait", "3s"]);
    // To a server that has answered it sends more slowly, and the system loses none on a busy
    // machine.
    client.say(b"first\n");
    assert_eq!(client.hear_line(), "first\n");
    let all = format!("{}\n", "x".repeat(999)).repeat(COUNT);
    client.say(all.as_bytes());
    // Nothing of it is read before all are answered.
    let deadline = Instant::now() + LONG;
    while server.event()["datagrams_out"] != COUNT + 1 {
        assert!(Instant::now() < deadline, "not all are answered");
    }
    let (code, output, said) = client.finish();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(output == all.as_bytes(), "{} bytes came", output.len());
}

#[test]
fn after_the_end_of_the_input_datagrams_are_waited_for() {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let address = socket.local_addr().unwrap();
    let begun = Instant::now();
    let mut client = Client::start(address, &["--udp", "--wait", "1500ms"]);
    client.say(b"question");
    drop(client.take_stdin());
    let mut text = [0; 64];
    let (count, from) = socket.recv_from(&mut text).unwrap();
    assert_eq!(&text[..count], b"question");
    socket.send_to(b"late", from).unwrap();
    let (code, output, _) = client.end();
    assert_eq!((code, output.as_slice()), (Some(0), b"late\n".as_slice()));
    assert!(begun.elapsed() >= Duration::from_millis(1500));
}

/// A server over UDP that answers the first `answers` datagrams, and lives until the sender is
/// dropped.
fn answer(answers: usize) -> (SocketAddr, mpsc::Sender<()>) {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    let address = socket.local_addr().unwrap();
    let (held, dropped) = mpsc::channel();
    socket.set_read_timeout(Some(LONG)).unwrap();
    thread::spawn(move || {
        let mut text = [0; 64];
        for _ in 0..answers {
            let (count, from) = socket.recv_from(&mut text).unwrap();
            socket.send_to(&text[..count], from).unwrap();
        }
        // Until then what comes is taken, by the system.
        let _ = dropped.recv();
    });
    (address, held)
}

#[test]
fn datagrams_without_an_answer_are_counted_and_the_exit_code_is_1() {
    for (input, answers, words) in [
        ("one\n", 0, "0 of 1 datagrams were answered"),
        ("1\n2\n3\n4\n5\n", 3, "3 of 5 datagrams were answered"),
    ] {
        let (address, _held) = answer(answers);
        let (code, output, said) =
            connect(address, &["--udp", "--wait", "300ms"], input.as_bytes());
        let words = format!("{words} by UDP {address}, within 300ms of the last one");
        assert!(said.contains(&words), "{said}");
        assert_eq!(code, Some(1));
        assert_eq!(output, &input.as_bytes()[..2 * answers]);
    }
}

#[test]
fn where_no_answer_is_waited_for_and_where_nothing_is_sent_none_is_missed() {
    let (address, _held) = answer(0);
    for (input, wait) in [("", "50ms"), ("ping\n", "0s")] {
        let (code, _, said) = connect(address, &["--udp", "--wait", wait], input.as_bytes());
        assert_eq!((code, said.as_str()), (Some(0), ""));
    }
}
