//! `oread connect` from outside: its pipes, its exit codes, its words. The real binary is run.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cli::{Client, LOOPBACK, Noise, Server, connect, oread, reset, serve_one};

#[test]
fn a_pipe_comes_back_byte_for_byte_whatever_its_size() {
    let server = Server::start(&[]);
    let mut noise = Noise::new(7);
    let sizes = [0, 1, 2, 65_535, 65_536, 65_537, 262_144, 1 << 20];
    let random = (0..6).map(|_| noise.number() as usize % 3_000_000);
    for size in sizes.into_iter().chain(random.collect::<Vec<_>>()) {
        let input = noise.bytes(size);
        let (code, output, said) = connect(server.tcp(), &[], &input);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{size} bytes");
        assert!(
            output == input,
            "{size} bytes went in, {} came",
            output.len()
        );
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_file_comes_back_byte_for_byte() {
    let server = Server::start(&[]);
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = |kind| folder.join(format!("connect-file-{kind}-{}", std::process::id()));
    let (from, to) = (name("in"), name("out"));
    std::fs::write(&from, Noise::new(3).bytes(1_234_567)).unwrap();
    let status = oread("connect")
        .arg(server.tcp().to_string())
        .stdin(std::fs::File::open(&from).unwrap())
        .stdout(std::fs::File::create(&to).unwrap())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
    std::fs::remove_file(from).unwrap();
    std::fs::remove_file(to).unwrap();
}

/// Two ends that both stop reading while they write would lock each other up for good.
#[test]
fn two_hundred_megabytes_go_through_connect_and_our_echo() {
    const TOTAL: usize = 200 << 20;
    let server = Server::start(&[]);
    let mut client = Client::start(server.tcp(), &[]);
    let mut stdin = client.take_stdin();
    let writer = thread::spawn(move || {
        let (mut noise, mut piece) = (Noise::new(11), vec![0; 1 << 18]);
        for _ in 0..TOTAL / piece.len() {
            noise.fill(&mut piece);
            stdin.write_all(&piece).unwrap();
        }
    });
    let (mut noise, mut expected, mut piece) = (Noise::new(11), vec![0; 1 << 18], vec![0; 1 << 18]);
    for number in 0..TOTAL / piece.len() {
        noise.fill(&mut expected);
        client.stdout().read_exact(&mut piece).unwrap();
        assert!(piece == expected, "piece {number} is another one");
    }
    writer.join().unwrap();
    let (code, rest, said) = client.finish();
    assert_eq!((code, rest.len(), said.as_str()), (Some(0), 0, ""));
    let ended = server.stop();
    assert_eq!(ended.count("bytes_in"), TOTAL as u64);
    assert_eq!(ended.count("bytes_out"), TOTAL as u64);
}

#[test]
fn the_server_may_speak_first_and_is_heard_at_once() {
    let (address, server) = serve_one(|mut stream| {
        stream.write_all(b"welcome").unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hi");
        stream.write_all(b"bye").unwrap();
    });
    let mut client = Client::start(address, &[]);
    assert_eq!(client.hear(7), b"welcome");
    client.say(b"hi");
    assert_eq!(client.hear(3), b"bye");
    assert_eq!(client.finish().0, Some(0));
    server.join().unwrap();
}

#[test]
fn after_the_end_of_the_input_the_answer_is_read_to_its_end() {
    let (address, server) = serve_one(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
        stream.write_all(b", all of it").unwrap();
    });
    let (code, output, said) = connect(address, &[], b"question");
    assert_eq!(String::from_utf8_lossy(&output), "question, all of it");
    assert_eq!((code, said.as_str()), (Some(0), ""));
    server.join().unwrap();
}

#[test]
fn a_server_that_finishes_first_still_gets_the_rest_of_the_input() {
    let (address, server) = serve_one(|mut stream| {
        stream.write_all(b"done").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 3_000_000);
    });
    let (code, output, said) = connect(address, &[], &vec![b'x'; 3_000_000]);
    assert_eq!(
        (code, output.as_slice()),
        (Some(0), b"done".as_slice()),
        "{said}"
    );
    server.join().unwrap();
}

#[test]
fn a_server_that_finished_is_sent_what_the_input_brings_later() {
    let (ended, told) = mpsc::channel();
    let (address, server) = serve_one(move |mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        ended.send(all).unwrap();
    });
    let mut client = Client::start(address, &[]);
    client.say(b"one");
    // The server says nothing: this waits for what the client does of itself after the server's
    // end, which is nothing.
    assert!(told.recv_timeout(Duration::from_secs(3)).is_err());
    client.say(b", two");
    let (code, _, said) = client.finish();
    assert_eq!(told.recv().unwrap(), b"one, two");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the server has finished"), "{said}");
    server.join().unwrap();
}

#[test]
fn a_server_that_has_left_is_told_of_when_the_input_brings_more() {
    let (address, server) = serve_one(|mut stream| stream.write_all(b"bye").unwrap());
    let mut client = Client::start(address, &[]);
    assert_eq!(client.hear(3), b"bye");
    server.join().unwrap();
    client.say(b"too late");
    let (code, _, said) = client.end();
    assert_eq!(code, Some(1), "{said}");
    let words = format!(
        "{address} reset the connection: 8 bytes were sent, of which not all may have arrived, \
         and the rest of the input was not read"
    );
    assert!(said.contains(&words), "{said}");
}

/// The system has taken all of it, and the server's end is there: only the peer's system can tell
/// that nothing was read. With mio's poll(2) backend no event would tell that it was.
#[test]
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
fn input_that_a_server_which_finished_first_never_read_is_told_and_the_exit_code_is_1() {
    const SIZE: usize = 2_000_000;
    let (ended, told) = mpsc::channel::<()>();
    let (address, server) = serve_one(move |stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        // Reset after a while, in which the client has nothing to wait for but this.
        assert!(told.recv_timeout(Duration::from_millis(500)).is_err());
        reset(&stream);
    });
    let (code, _, said) = connect(address, &[], &vec![b'x'; SIZE]);
    // Whether it is over already, where the client should not have ended by itself.
    let _ = ended.send(());
    assert_eq!(code, Some(1), "{said}");
    let words = format!("{address} reset the connection: ");
    assert!(said.contains(&words), "{said}");
    server.join().unwrap();
}

#[test]
fn input_that_the_server_did_not_stay_for_is_told_and_the_exit_code_is_1() {
    let (address, server) = serve_one(|mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
    });
    let (code, _, said) = connect(address, &[], &vec![0; 20_000_000]);
    assert_eq!(code, Some(1), "{said}");
    let words = format!("{address} reset the connection: ");
    assert!(said.contains(&words), "{said}");
    assert!(
        said.contains(" bytes were sent, of which not all"),
        "{said}"
    );
    server.join().unwrap();
}

#[test]
fn a_reader_that_leaves_ends_it_in_silence() {
    let server = Server::start(&[]);
    let mut client = oread("connect")
        .arg(server.tcp().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(client.stdout.take());
    let mut stdin = client.stdin.take().unwrap();
    // Until it has ended and the pipe is broken.
    while stdin.write_all(&[b'y'; 4096]).is_ok() {}
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// A server that does not read: standard input is not read on either, and everything arrives later.
#[test]
fn a_server_that_does_not_read_holds_the_input_back_and_loses_nothing() {
    // More than the sockets take (tcp(7): tcp_wmem and tcp_rmem, 4 and 6 MiB) and connect may have
    // pending.
    const SIZE: usize = 64 << 20;
    let (told, blocked) = mpsc::channel::<()>();
    let (address, server) = serve_one(move |mut stream| {
        blocked.recv().unwrap();
        let (mut noise, mut expected) = (Noise::new(13), vec![0; 1 << 20]);
        let mut piece = vec![0; 1 << 20];
        for _ in 0..SIZE / piece.len() {
            noise.fill(&mut expected);
            stream.read_exact(&mut piece).unwrap();
            assert!(piece == expected);
        }
        assert_eq!(stream.read(&mut piece).unwrap(), 0);
    });
    let mut client = Client::start(address, &[]);
    let mut stdin = client.take_stdin();
    let (progress, written) = mpsc::channel();
    let writer = thread::spawn(move || {
        let (mut noise, mut piece) = (Noise::new(13), vec![0; 1 << 20]);
        for _ in 0..SIZE / piece.len() {
            noise.fill(&mut piece);
            stdin.write_all(&piece).unwrap();
            progress.send(()).unwrap();
        }
    });
    // Until it seems to be held back. Were that wrong, the test would ask for less and not fail.
    while written.recv_timeout(Duration::from_millis(300)).is_ok() {}
    told.send(()).unwrap();
    writer.join().unwrap();
    let (code, _, said) = client.finish();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    server.join().unwrap();
}

/// The answer and the end come together, so nothing is left but the last write to tell of a full
/// disk.
#[cfg(target_os = "linux")]
#[test]
fn output_that_can_not_be_written_is_exit_code_1_at_the_very_end_too() {
    for arguments in [[].as_slice(), &["--framing", "lines"]] {
        for _ in 0..20 {
            let (address, server) = serve_one(|mut stream| {
                stream.read_to_end(&mut Vec::new()).unwrap();
                stream.write_all(b"answer").unwrap();
            });
            let full = std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap();
            let ended = oread("connect")
                .arg(address.to_string())
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(full)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
                .wait_with_output()
                .unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), Some(1), "{said}");
            assert!(said.contains("can't write to standard output"), "{said}");
            server.join().unwrap();
        }
    }
}

/// A standard output that is not read: the connection is paused, and everything is there later.
#[test]
fn a_blocked_standard_output_holds_the_server_back_and_loses_nothing() {
    const SIZE: usize = 24 << 20;
    let (address, server) = serve_one(|mut stream| {
        stream.write_all(&Noise::new(5).bytes(SIZE)).unwrap();
    });
    let mut client = Client::start(address, &[]);
    let expected = Noise::new(5).bytes(SIZE);
    // The first bytes come at once; by then most of the rest waits somewhere.
    assert!(client.hear(1000) == expected[..1000]);
    let (code, rest, _) = client.finish();
    assert_eq!(code, Some(0));
    assert!(rest == expected[1000..]);
    server.join().unwrap();
}

#[test]
fn nobody_at_the_address_is_exit_code_1_and_clear_words() {
    let port = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
    for arguments in [[].as_slice(), &["--udp"]] {
        let (code, output, said) = connect(port, arguments, b"hello\n");
        assert_eq!((code, output.len()), (Some(1), 0), "{said}");
        let words = format!("can't connect to {port}: connection refused, nothing listens there");
        assert!(said.contains(&words), "{said}");
    }
}

/// A listener whose backlog is full answers no handshake (Linux drops it, tcp(7)).
#[cfg(target_os = "linux")]
#[test]
fn a_server_that_does_not_answer_is_given_up() {
    struct Nothing;
    impl oread::Handler for Nothing {
        type Session = ();
        type Message = ();
        fn on_accept(&mut self, _: &mut oread::Context<'_, ()>, _: &oread::Accepted) -> Option<()> {
            None
        }
        fn on_data(&mut self, _: &mut oread::Connection<'_, ()>, data: &[u8]) -> usize {
            data.len()
        }
    }
    let mut reactor: oread::Reactor<Nothing> = oread::Reactor::new().unwrap();
    let mut context = reactor.context();
    let options = oread::ListenOptions {
        backlog: 1,
        ..oread::ListenOptions::new(LOOPBACK)
    };
    let listener = context.listen(&options).unwrap();
    let address = context.listener_addr(listener).unwrap();
    let address = address.socket_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the backlog is never full");
    }
    let begun = Instant::now();
    let (code, _, said) = connect(address, &["--timeout", "300ms"], b"");
    assert_eq!(code, Some(1));
    assert!(said.contains("no answer in time"), "{said}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[test]
fn each_line_is_a_message_and_each_message_a_line() {
    for framing in [
        "lines",
        "length:u8",
        "length:u16",
        "length:u32le",
        "length:u64",
    ] {
        let server = Server::start(&["--framing", framing]);
        let input = "one\n\nthree, which is longer\nlast".as_bytes();
        let (code, output, said) = connect(server.tcp(), &["--framing", framing], input);
        let output = String::from_utf8(output).unwrap();
        assert_eq!(output, "one\n\nthree, which is longer\nlast\n", "{framing}");
        assert_eq!((code, said.as_str()), (Some(0), ""), "{framing}");
        assert_eq!(server.stop().count("frames_in"), 4, "{framing}");
    }
}

#[test]
fn a_line_that_is_no_message_is_named_and_what_was_before_it_is_answered() {
    let server = Server::start(&["--framing", "fixed:4"]);
    let (code, output, said) = connect(
        server.tcp(),
        &["--framing", "fixed:4"],
        b"abcd\nefg\nhijk\n",
    );
    assert_eq!((code, output.as_slice()), (Some(1), b"abcd\n".as_slice()));
    assert!(said.contains("line 2 can't be sent as fixed:4"), "{said}");
    assert_eq!(server.stop().count("frames_in"), 1);
}

#[test]
fn a_message_over_the_maximum_and_one_broken_off_are_exit_code_1() {
    let (address, server) = serve_one(|mut stream| {
        stream.write_all(b"\0\0\0\x02ok\xff\xff\xff\xff").unwrap();
        // To the end, so that no reset destroys what was sent.
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let (code, output, said) = connect(address, &["--framing", "length:u32"], b"");
    assert_eq!((code, output.as_slice()), (Some(1), b"ok\n".as_slice()));
    assert!(said.contains("what the server sent: "), "{said}");
    server.join().unwrap();

    let (address, server) = serve_one(|mut stream| {
        stream.write_all(b"abcdef").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let (code, output, said) = connect(address, &["--framing", "fixed:4"], b"");
    assert_eq!(
        (code, output.as_slice()),
        (Some(1), b"abcd\nef\n".as_slice())
    );
    assert!(said.contains("2 bytes into a message"), "{said}");
    server.join().unwrap();

    // Of a prefix nothing is shown, whole or not.
    for (sent, shown) in [
        (&b"\x01a\x05bc"[..], &b"a\nbc\n"[..]),
        (b"\x01a\x05", b"a\n"),
    ] {
        let (address, server) = serve_one(move |mut stream| {
            stream.write_all(sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        let (code, output, _) = connect(address, &["--framing", "length:u8"], b"");
        assert_eq!((code, output.as_slice()), (Some(1), shown));
        server.join().unwrap();
    }
}

#[test]
fn messages_are_as_long_as_max_frame_allows_and_a_longer_one_names_it() {
    let server = Server::start(&["--framing", "length:u32", "--max-frame", "4MiB"]);
    let framing = ["--framing", "length:u32"];
    let mut line = vec![b'x'; 2_000_000];
    line.push(b'\n');
    let (code, _, said) = connect(server.tcp(), &framing, &line);
    assert_eq!(code, Some(1), "{said}");
    for words in ["line 1 can't be sent", "allow longer ones with --max-frame"] {
        assert!(said.contains(words), "{said}");
    }
    let more = [&framing[..], &["--max-frame", "4MiB"]].concat();
    let (code, output, said) = connect(server.tcp(), &more, &line);
    assert_eq!(code, Some(0), "{said}");
    assert!(output == line);
}

#[test]
fn bind_chooses_the_address_that_the_server_sees() {
    let (address, server) = serve_one(|mut stream| {
        let peer = stream.peer_addr().unwrap();
        stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
    });
    let source = if cfg!(target_os = "linux") {
        "127.0.0.2"
    } else {
        "127.0.0.1"
    };
    let bind = format!("{source}:0");
    let (code, output, said) = connect(address, &["--bind", &bind], b"");
    assert_eq!(String::from_utf8(output).unwrap(), source, "{said}");
    assert_eq!(code, Some(0));
    server.join().unwrap();
}

#[test]
fn each_message_is_logged_if_that_is_asked_for() {
    let server = Server::start(&[]);
    let framed = Server::start(&["--framing", "length:u16"]);
    for (address, arguments) in [
        (server.tcp(), [].as_slice()),
        (framed.tcp(), &["--framing", "length:u16"]),
        (server.udp(), &["--udp", "--wait", "200ms"]),
    ] {
        let arguments = [arguments, &["-vv"]].concat();
        let (code, _, said) = connect(address, &arguments, b"a\x1b[2Jb");
        assert_eq!(code, Some(0), "{said}");
        for what in ["sent to", "received from"] {
            let words = format!("{what} {address}: a\\x1b[2Jb\n");
            assert_eq!(said.matches(&words).count(), 1, "{words:?} in {said}");
        }
    }
}

/// A port that is free now: one that was given out just before is not given out again soon.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn an_address_that_its_last_connection_still_holds_is_told_as_that() {
    let server = Server::start(&[]);
    let source = format!("127.0.0.1:{}", free_port());
    let (code, output, said) = connect(server.tcp(), &["--bind", &source], b"hi\n");
    assert_eq!(
        (code, output.as_slice()),
        (Some(0), b"hi\n".as_slice()),
        "{said}"
    );
    let (code, _, said) = connect(server.tcp(), &["--bind", &source], b"hi\n");
    assert_eq!(code, Some(1));
    let words =
        format!("can't connect from {source}: the address is in use, or was until a minute ago");
    assert!(said.contains(&words), "{said}");
}

#[test]
fn a_server_that_has_gone_silent_is_given_up_at_the_end_of_the_input() {
    let silent = TcpListener::bind(LOOPBACK).unwrap();
    let address = silent.local_addr().unwrap();
    let begun = Instant::now();
    let (code, output, said) = connect(address, &["--timeout", "300ms"], b"anybody?\n");
    assert_eq!((code, output), (Some(1), Vec::new()));
    assert!(said.contains("has sent nothing for too long"), "{said}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
}
