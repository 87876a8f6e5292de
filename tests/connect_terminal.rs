//! `oread connect` on a terminal, where it is a conversation. The real binary is run.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::mpsc;

use cli::{Client, Server, reset, serve_one};

/// Runs `oread connect` on a terminal of its own, by script(1) of util-linux; `None` without that.
fn on_a_terminal(arguments: &str) -> Option<Client> {
    let version = Command::new("script").arg("--version").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("util-linux")) {
        println!("skipped: there is no script(1) of util-linux to give it a terminal");
        return None;
    }
    let mut command = Command::new("script");
    let program = env!("CARGO_BIN_EXE_oread");
    command
        .args([
            "-qec",
            &format!("'{program}' connect {arguments}"),
            "/dev/null",
        ])
        .env_remove("RUST_LOG");
    Some(Client::run(command))
}

/// Reads the terminal up to a line of just this text.
fn read_to_line(client: &mut Client, text: &str) {
    loop {
        let line = client.hear_line();
        assert!(!line.is_empty(), "the terminal ended before {text:?}");
        if line.trim_end() == text {
            return;
        }
    }
}

#[test]
fn on_a_terminal_a_line_goes_out_its_echo_comes_and_q_quits() {
    let server = Server::start(&[]);
    for (arguments, quit) in [("", "q\n"), ("--udp", "Q\n"), ("--framing lines", "Q\n")] {
        let Some(mut client) = on_a_terminal(&format!("{} {arguments}", server.tcp())) else {
            return;
        };
        // A conversation, not a log: no time, no level.
        let greeting = client.hear_line();
        assert!(
            greeting.starts_with("connected to") || greeting.starts_with("lines go to"),
            "{greeting}"
        );
        for word in ["hello", "it's q"] {
            client.say(format!("{word}\n").as_bytes());
            // Once by the terminal itself, once from the server.
            read_to_line(&mut client, word);
            read_to_line(&mut client, word);
        }
        client.say(quit.as_bytes());
        let (code, _, _) = client.end();
        assert_eq!(code, Some(0), "{arguments}");
    }
    let ended = server.stop();
    assert_eq!(ended.count("accepted"), 2);
    assert_eq!(ended.count("datagrams_in"), 2);
    assert_eq!(ended.count("bytes_in"), 2 * "hello\nit's q\n".len() as u64);
}

/// Ctrl-D sends what is typed of a line, and once more ends the input.
#[test]
fn on_a_terminal_a_last_line_without_its_end_gets_none() {
    let server = Server::start(&[]);
    let Some(mut client) = on_a_terminal(&server.tcp().to_string()) else {
        return;
    };
    client.say(b"one\n");
    read_to_line(&mut client, "one");
    read_to_line(&mut client, "one");
    client.say(b"abc\x04\x04");
    assert_eq!(client.end().0, Some(0));
    assert_eq!(server.stop().count("bytes_in"), 7);
}

/// The server answers only when it has all, and has it when `q` is typed.
#[test]
fn on_a_terminal_the_last_answers_are_waited_for_after_q() {
    let (address, server) = serve_one(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"question\n");
        stream.write_all(b"answer\n").unwrap();
    });
    let Some(mut client) = on_a_terminal(&address.to_string()) else {
        TcpStream::connect(address).unwrap();
        // It expected a client.
        let _ = server.join();
        return;
    };
    client.say(b"question\nq\n");
    read_to_line(&mut client, "answer");
    assert_eq!(client.end().0, Some(0));
    server.join().unwrap();
}

#[test]
fn on_a_terminal_a_line_that_is_no_message_is_told_and_it_goes_on() {
    let server = Server::start(&["--framing", "fixed:4"]);
    let Some(mut client) = on_a_terminal(&format!("{} --framing fixed:4", server.tcp())) else {
        return;
    };
    client.say(b"toolong\nabcd\n");
    read_to_line(&mut client, "abcd");
    read_to_line(&mut client, "abcd");
    client.say(b"q\n");
    assert_eq!(client.end().0, Some(0));
    assert_eq!(server.stop().count("frames_in"), 1);
}

/// The second byte of the character comes only after the first one was received, and a third one
/// never.
#[test]
fn on_a_terminal_a_character_is_whole_however_it_arrives() {
    let (address, server) = serve_one(|mut stream| {
        stream.write_all(b"Gr\xc3").unwrap();
        stream.read_exact(&mut [0; 3]).unwrap();
        stream.write_all(b"\xbc\n\xc3").unwrap();
    });
    let Some(mut client) = on_a_terminal(&format!("{address} 2>/dev/null")) else {
        TcpStream::connect(address).unwrap();
        // It expected a client.
        let _ = server.join();
        return;
    };
    assert_eq!(client.hear(2), b"Gr");
    client.say(b"go\n");
    assert_eq!(client.hear_line(), "go\r\n");
    assert_eq!(client.hear_line(), "ü\r\n");
    let (code, rest, _) = client.end();
    assert_eq!((code, rest.as_slice()), (Some(0), b"\\xc3".as_slice()));
    server.join().unwrap();
}

#[test]
fn on_a_terminal_a_line_that_is_too_long_is_told_and_it_goes_on() {
    let server = Server::start(&["--framing", "length:u8"]);
    let Some(mut client) = on_a_terminal(&format!("{} --framing length:u8", server.tcp())) else {
        return;
    };
    let long = "x".repeat(256);
    client.say(format!("{long}\nabcd\n").as_bytes());
    read_to_line(&mut client, "abcd");
    read_to_line(&mut client, "abcd");
    client.say(b"q\n");
    assert_eq!(client.end().0, Some(0));
    assert_eq!(server.stop().count("frames_in"), 1);
}

#[test]
fn on_a_terminal_nothing_that_the_server_sends_acts_on_it() {
    let (address, server) = serve_one(|mut stream| {
        stream.write_all(b"\x1b[2J\x1b]0;title\x07 \xff\n").unwrap();
    });
    let Some(mut client) = on_a_terminal(&address.to_string()) else {
        TcpStream::connect(address).unwrap();
        server.join().unwrap();
        return;
    };
    read_to_line(&mut client, "\\x1b[2J\\x1b]0;title\\x07 \\xff");
    assert_eq!(client.end().0, Some(0));
    server.join().unwrap();
}

/// Whoever sits there is not kept waiting, though a server that has finished may still read.
#[test]
fn on_a_terminal_the_server_s_goodbye_is_the_end() {
    let (ended, told) = mpsc::channel::<()>();
    let (address, server) = serve_one(move |mut stream| {
        stream.write_all(b"bye\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = told.recv();
    });
    let Some(mut client) = on_a_terminal(&address.to_string()) else {
        TcpStream::connect(address).unwrap();
        drop(ended);
        server.join().unwrap();
        return;
    };
    let (code, said, _) = client.end();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("bye\r\n") && said.contains("the server has finished"),
        "{said}"
    );
    drop(ended);
    server.join().unwrap();
}

#[test]
fn on_a_terminal_a_reset_after_the_last_answer_has_lost_nothing() {
    let (address, server) = serve_one(|mut stream| {
        stream.read_exact(&mut [0; 4]).unwrap();
        reset(&stream);
    });
    let Some(mut client) = on_a_terminal(&address.to_string()) else {
        TcpStream::connect(address).unwrap();
        // It expected a client.
        let _ = server.join();
        return;
    };
    client.say(b"bye\n");
    let (code, said, _) = client.end();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("reset the connection"), "{said}");
    assert!(!said.contains("lost"), "{said}");
    server.join().unwrap();
}
