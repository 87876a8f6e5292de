//! The nine small systems that oread grew out of, each by name, and their programs against ours.
//!
//! They come from two pages that teach sockets with small Go programs. The tests named `system_...`
//! have doubles that read and write exactly as those programs do, on free ports; they always run.
//! The programs themselves, unchanged, are run by
//! `the_programs_of_the_pages_talk_to_ours_unchanged`, where the pages are found (`../shared/seeds`
//! beside the package, or where `OREAD_TEST_PAGES` says), and there is Go to build them and a
//! network namespace to run them in, for their ports are fixed.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

#[path = "common/pages.rs"]
mod pages;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cli::{Client, LONG, Noise, Server};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A TCP server that talks to one caller as `talk` does.
fn tcp_server(talk: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        talk(stream);
    });
    (address, thread)
}

/// Reads once, into a buffer of this size.
fn read_some(stream: &mut TcpStream, size: usize) -> Vec<u8> {
    let mut buffer = vec![0; size];
    let count = stream.read(&mut buffer).unwrap();
    buffer.truncate(count);
    buffer
}

#[test]
fn system_1_tcp_echo_of_whatever_comes_to_many_clients_at_once() {
    let server = Server::start(&[]);
    let threads: Vec<JoinHandle<()>> = (0..40_u64)
        .map(|seed| {
            let mut stream = server.connect();
            thread::spawn(move || {
                let mut noise = Noise::new(seed + 1);
                for _ in 0..20 {
                    let size = 1 + noise.number() as usize % 2000;
                    let bytes = noise.bytes(size);
                    stream.write_all(&bytes).unwrap();
                    let mut back = vec![0; bytes.len()];
                    stream.read_exact(&mut back).unwrap();
                    assert!(back == bytes);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(server.stop().count("accepted"), 40);

    // The other direction: our client and a server that reads up to 128 bytes and sends them back.
    let (address, server) = tcp_server(|mut stream| {
        loop {
            let piece = read_some(&mut stream, 128);
            if piece.is_empty() {
                return;
            }
            stream.write_all(&piece).unwrap();
        }
    });
    let mut client = Client::start(address, &[]);
    let bytes = Noise::new(9).bytes(10_000);
    client.say(&bytes);
    let (code, back, _) = client.finish();
    assert_eq!(code, Some(0));
    assert!(back == bytes);
    server.join().unwrap();
}

/// The client reads a line, sends it without its end, and reads once; `q` or `Q` ends it. The line
/// `q` on a terminal of ours is in the tests of `oread connect`.
#[test]
fn system_2_the_interactive_client_asks_and_reads_in_turn_until_q() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    for line in ["hello", "a second line", "Q"] {
        if line.to_uppercase() == "Q" {
            break;
        }
        stream.write_all(line.as_bytes()).unwrap();
        assert_eq!(read_some(&mut stream, 512), line.as_bytes());
    }
    // Its end is seen before the signal is sent, which would make it a drained one.
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_some(&mut stream, 1), b"");
    assert_eq!(server.stop().summary()["closed"]["finished"], 1);
}

#[test]
fn system_3_a_server_of_messages_of_four_bytes() {
    let server = Server::start(&["--framing", "fixed:4"]);
    let mut stream = server.connect();
    // Two and a half messages: the half waits for its other half.
    stream.write_all(b"abcdefghij").unwrap();
    let mut answers = [0; 8];
    stream.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"abcdefgh");
    stream.write_all(b"kl").unwrap();
    stream.read_exact(&mut answers[..4]).unwrap();
    assert_eq!(&answers[..4], b"ijkl");
    drop(stream);
    assert_eq!(server.stop().count("frames_in"), 3);

    // The other direction: a server that reads up to four bytes and sends four.
    let (address, server) = tcp_server(|mut stream| {
        loop {
            let mut body = [0; 4];
            if stream.read(&mut body).unwrap() == 0 {
                return;
            }
            stream.write_all(&body).unwrap();
        }
    });
    let mut client = Client::start(address, &["--framing", "fixed:4"]);
    client.say(b"abcd\nefgh\n");
    let (code, output, said) = client.finish();
    assert_eq!(
        (code, output.as_slice()),
        (Some(0), b"abcd\nefgh\n".as_slice()),
        "{said}"
    );
    server.join().unwrap();
}

#[test]
fn system_4_the_client_that_sends_abcd_and_prints_the_answer() {
    let server = Server::start(&["--framing", "fixed:4"]);
    let mut stream = server.connect();
    stream.write_all(b"abcd").unwrap();
    assert_eq!(read_some(&mut stream, 4), b"abcd");
    drop(stream);
    let mut client = Client::start(server.tcp(), &["--framing", "fixed:4"]);
    client.say(b"abcd");
    let (code, output, _) = client.finish();
    assert_eq!((code, output.as_slice()), (Some(0), b"abcd\n".as_slice()));
    assert_eq!(server.stop().count("frames_out"), 2);
}

#[test]
fn system_5_lines_of_any_length_stuck_together_or_torn_are_each_answered_whole() {
    let server = Server::start(&["--framing", "lines"]);
    let mut stream = server.connect();
    stream.set_nodelay(true).unwrap();
    // Stuck together: one write, four lines, of which one is empty.
    stream.write_all(b"one\ntwo\n\nthree\n").unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    for expected in ["one\n", "two\n", "\n", "three\n"] {
        line.clear();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, expected);
    }
    // Torn: a byte a segment.
    for byte in b"torn to pieces\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    line.clear();
    answers.read_line(&mut line).unwrap();
    assert_eq!(line, "torn to pieces\n");
    // Long: far more than a segment, or than one read.
    let long = format!("{}\n", "long ".repeat(40_000));
    stream.write_all(long.as_bytes()).unwrap();
    line.clear();
    answers.read_line(&mut line).unwrap();
    assert!(line == long);
    drop((stream, answers));
    assert_eq!(server.stop().count("frames_in"), 6);
}

/// The server answers a line without its newline; what it says is shown as it comes.
#[test]
fn system_6_the_interactive_line_client_hears_answers_without_a_newline() {
    let (address, server) = tcp_server(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap() == 0 {
                return;
            }
            writer
                .write_all(line.trim_end_matches(['\r', '\n']).as_bytes())
                .unwrap();
        }
    });
    let mut client = Client::start(address, &[]);
    for line in ["hello", "and once more"] {
        client.say(format!("{line}\n").as_bytes());
        assert_eq!(client.hear(line.len()), line.as_bytes());
    }
    let (code, rest, _) = client.finish();
    assert_eq!((code, rest.len()), (Some(0), 0));
    server.join().unwrap();

    // The client of that page sends no newline, so it meets a server of bytes as they come.
    let server = Server::start(&[]);
    let mut stream = server.connect();
    for line in ["hello", "and once more"] {
        stream.write_all(line.as_bytes()).unwrap();
        assert_eq!(read_some(&mut stream, line.len()), line.as_bytes());
    }
}

#[test]
fn system_7_udp_echo() {
    let server = Server::start(&[]);
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut buffer = [0; 2000];
    for message in [b"hello".as_slice(), b"", &[b'x'; 1400]] {
        socket.send_to(message, server.udp()).unwrap();
        let (count, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..count], from), (message, server.udp()));
    }
    assert_eq!(server.stop().count("datagrams_out"), 3);
}

#[test]
fn system_8_the_udp_client_on_its_own_port() {
    let server = UdpSocket::bind(LOOPBACK).unwrap();
    server.set_read_timeout(Some(LONG)).unwrap();
    // A port that was free a moment ago.
    let own = UdpSocket::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let bind = own.to_string();
    let mut client = Client::start(server.local_addr().unwrap(), &["--udp", "--bind", &bind]);
    for line in ["hello", "again"] {
        client.say(format!("{line}\n").as_bytes());
        let mut message = [0; 1024];
        let (count, from) = server.recv_from(&mut message).unwrap();
        assert_eq!((&message[..count], from), (line.as_bytes(), own));
        // That server sends its whole buffer, whatever came.
        server.send_to(&message, own).unwrap();
        assert_eq!(client.hear(1025), [&message[..], b"\n"].concat());
    }
    assert_eq!(client.finish().0, Some(0));
}

#[test]
fn system_9_either_end_writes_first_and_the_server_pushes_unasked() {
    let (address, server) = tcp_server(|mut stream| {
        stream.write_all(b"first").unwrap();
        for number in 0..3 {
            stream
                .write_all(format!(" push {number}").as_bytes())
                .unwrap();
        }
        assert_eq!(read_some(&mut stream, 64), b"now me");
        stream.write_all(b" unasked").unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    });
    let mut client = Client::start(address, &[]);
    assert_eq!(client.hear(26), b"first push 0 push 1 push 2");
    client.say(b"now me");
    assert_eq!(client.hear(8), b" unasked");
    let (code, rest, _) = client.finish();
    assert_eq!((code, rest.len()), (Some(0), 0));
    server.join().unwrap();
}

/// Set for the test below when it runs in a network of its own.
const INSIDE: &str = "OREAD_TEST_PROGRAMS";

/// Builds the programs, and runs the test below, with them, in a network namespace.
#[test]
fn the_programs_of_the_pages_talk_to_ours_unchanged() {
    let Some(programs) = pages::build() else {
        return;
    };
    let network = Command::new("unshare")
        .args(["-rn", "ip", "link", "set", "lo", "up"])
        .output();
    if !network.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no network namespace to be had (unshare -rn, ip)");
        return;
    }
    let output = Command::new("unshare")
        .args(["-rn", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "inside_a_network_of_their_own",
            "--ignored",
            "--nocapture",
        ])
        .env(INSIDE, &programs)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("8 conversations"), "it did not run: {said}");
}

#[test]
#[ignore = "started by the_programs_of_the_pages_talk_to_ours_unchanged"]
fn inside_a_network_of_their_own() {
    let Ok(folder) = std::env::var(INSIDE) else {
        return;
    };
    let program = |name: &str| Command::new(format!("{folder}/{name}"));
    our_client_talks_to_their_servers(program);
    their_clients_talk_to_our_server(program);
    println!("8 conversations");
}

fn our_client_talks_to_their_servers(program: impl Fn(&str) -> Command) {
    let server = Client::run(program("echo-server"));
    wait_for_port("tcp", 9999);
    let mut client = Client::start("127.0.0.1:9999", &[]);
    client.say(b"hello");
    assert_eq!(client.hear(5), b"hello");
    assert_eq!(client.finish().0, Some(0));
    drop(server);

    let server = Client::run(program("fixed-server"));
    wait_for_port("tcp", 8080);
    let mut client = Client::start("127.0.0.1:8080", &["--framing", "fixed:4"]);
    client.say(b"abcd\nefgh\n");
    let (code, output, _) = client.finish();
    assert_eq!(
        (code, output.as_slice()),
        (Some(0), b"abcd\nefgh\n".as_slice())
    );
    drop(server);

    let server = Client::run(program("line-server"));
    wait_for_port("tcp", 8080);
    let mut client = Client::start("127.0.0.1:8080", &[]);
    for line in ["hello", "a longer line"] {
        client.say(format!("{line}\n").as_bytes());
        assert_eq!(client.hear(line.len()), line.as_bytes());
    }
    assert_eq!(client.finish().0, Some(0));
    drop(server);

    let server = Client::run(program("udp-server"));
    wait_for_port("udp", 8080);
    let bind = ["--udp", "--bind", "127.0.0.1:8090"];
    let mut client = Client::start("127.0.0.1:8080", &bind);
    client.say(b"hello\n");
    let answer = client.hear(1025);
    assert!(answer.starts_with(b"hello\0") && answer.ends_with(b"\0\n"));
    assert_eq!(client.finish().0, Some(0));
    drop(server);
}

fn their_clients_talk_to_our_server(program: impl Fn(&str) -> Command) {
    let server = Server::start_at("127.0.0.1:9999", &["--tcp"]);
    let mut client = Client::run(program("echo-client"));
    for line in ["hello", "world"] {
        client.say(format!("{line}\n").as_bytes());
        assert_eq!(client.hear_line(), format!("{line}\n"));
    }
    client.say(b"Q\n");
    assert_eq!(client.end().0, Some(0));
    assert_eq!(server.stop().count("bytes_in"), 10);

    let server = Server::start_at("127.0.0.1:8080", &["--tcp", "--framing", "fixed:4"]);
    let (code, output, _) = Client::run(program("fixed-client")).finish();
    let output = String::from_utf8(output).unwrap();
    assert_eq!(
        (code, output.as_str()),
        (Some(0), "发送消息: abcd\n收到消息: abcd\n")
    );
    assert_eq!(server.stop().count("frames_in"), 1);

    let server = Server::start_at("127.0.0.1:8080", &["--tcp"]);
    let mut client = Client::run(program("line-client"));
    for line in ["hello", "a longer line"] {
        client.say(format!("{line}\n").as_bytes());
        assert_eq!(client.hear_line(), format!("发送消息: {line}\n"));
        assert_eq!(client.hear_line(), format!("收到消息: {line}\n"));
    }
    drop(client);
    assert_eq!(server.stop().count("frames_in"), 2);

    let server = Server::start_at("127.0.0.1:8080", &["--udp"]);
    let mut client = Client::run(program("udp-client"));
    client.say(b"hello\n");
    assert_eq!(client.hear_line(), "发送127.0.0.1:8080消息: hello\n");
    let answer = client.hear_line();
    assert_eq!(
        answer.trim_end_matches(['\0', '\n']),
        "收到127.0.0.1:8080消息: hello"
    );
    drop(client);
    assert_eq!(server.stop().count("datagrams_out"), 1);
}

/// Waits until somebody has bound this port, by the system's tables (proc_net_tcp): those servers
/// say nothing when they are ready, and a connection to find out would be a client to them.
fn wait_for_port(transport: &str, port: u16) {
    let deadline = Instant::now() + LONG;
    let bound = || {
        ["", "6"].iter().any(|family| {
            let table = std::fs::read_to_string(format!("/proc/self/net/{transport}{family}"));
            // Columns: number, local address, remote address, state; 0A listens, 07 is any UDP
            // socket.
            table.unwrap_or_default().lines().any(|line| {
                let columns: Vec<&str> = line.split_whitespace().collect();
                columns.len() > 3
                    && columns[1].ends_with(&format!(":{port:04X}"))
                    && ["0A", "07"].contains(&columns[3])
            })
        })
    };
    while !bound() {
        assert!(
            Instant::now() < deadline,
            "nobody binds {transport} port {port}"
        );
        thread::sleep(Duration::from_millis(2));
    }
}
