//! What `oread serve --metrics` tells Prometheus, and how it takes what is no scrape. The real
//! binary is run, and Prometheus' own programs where they are installed.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;
#[path = "common/scrape.rs"]
mod scrape;

use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use cli::{LONG, Server, oread};
use scrape::{Prometheus, Scrape, ask, dial, field, has, hear, lint};

/// A server with metrics, and where these are.
fn start(arguments: &[&str]) -> (Server, String) {
    let all = [&["--metrics", "127.0.0.1:0"], arguments].concat();
    let server = Server::start(&all);
    let url = server.metrics.clone().unwrap();
    (server, url)
}

/// Sends so many bytes on a connection of its own, and has them back.
fn echo(server: &Server, bytes: usize) {
    let mut stream = server.connect();
    stream.write_all(&vec![7; bytes]).unwrap();
    stream.read_exact(&mut vec![0; bytes]).unwrap();
}

/// A socket that has sent a datagram of five bytes, and has it back.
fn echo_datagram(server: &Server) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.send_to(b"12345", server.udp()).unwrap();
    assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 5);
}

#[test]
fn two_scrapes_differ_by_what_has_happened_between_them() {
    let (server, url) = start(&["--threads", "2", "--framing", "fixed:100"]);
    let before = Scrape::of(&url);
    for _ in 0..4 {
        echo(&server, 300);
    }
    echo_datagram(&server);
    let after = Scrape::of(&url);
    for (family, difference) in [
        ("oread_serve_accepted_connections_total", 4.0),
        ("oread_serve_received_bytes_total", 1200.0),
        ("oread_serve_sent_bytes_total", 1200.0),
        ("oread_serve_received_frames_total", 12.0),
        ("oread_serve_sent_frames_total", 12.0),
        ("oread_serve_received_datagrams_total", 1.0),
        ("oread_serve_sent_datagram_bytes_total", 5.0),
        ("oread_serve_bad_frames_total", 0.0),
    ] {
        let told = after.total(family) - before.total(family);
        assert_eq!(told, difference, "{family}");
    }
    // Each thread's own, and what is the case now.
    let ends = [
        "oread_serve_closed_connections_total",
        "oread_serve_open_connections",
    ];
    let ends = ends.map(|family| after.total(family));
    assert_eq!(ends.iter().sum::<f64>(), 4.0, "{after:#?}");
    for thread in ["thread=\"0\"", "thread=\"1\""] {
        assert!(after.sum("oread_serve_turns_total", thread) > 0.0);
    }
    assert!(after.total("oread_serve_longest_turn_seconds") < LONG.as_secs_f64());
    assert_eq!(after.total("oread_build_info"), 1.0);
}

#[test]
fn what_was_told_last_is_what_the_summary_says() {
    let (server, url) = start(&["--threads", "3"]);
    for bytes in 1..20 {
        echo(&server, bytes);
    }
    let last = Scrape::of(&url);
    let ended = server.stop();
    for (family, counter) in [
        ("oread_serve_accepted_connections_total", "accepted"),
        ("oread_serve_received_bytes_total", "bytes_in"),
        ("oread_serve_consumed_bytes_total", "consumed"),
        ("oread_serve_sent_bytes_total", "bytes_out"),
        ("oread_serve_received_frames_total", "frames_in"),
    ] {
        assert_eq!(last.total(family), ended.count(counter) as f64, "{family}");
    }
}

#[test]
fn metrics_are_told_on_while_a_server_drains() {
    let (server, url) = start(&["--drain-timeout", "1m"]);
    let mut stream = server.connect();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    cli::signal(server.pid(), "TERM");
    // Our side stays open: the drain waits for it.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(Scrape::of(&url).total("oread_serve_open_connections"), 1.0);
    drop(stream);
    assert_eq!(server.end().code, Some(0));
}

#[test]
fn a_connection_serves_one_scrape_after_another_as_each_format() {
    let (_server, url) = start(&[]);
    let mut stream = BufReader::new(dial(&url));
    let plain = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    let open = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\n\r\n";
    let head = "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    let all = [plain, open, plain].concat();
    stream.get_mut().write_all(all.as_bytes()).unwrap();
    for (kind, is_open) in [
        ("text/plain; version=0.0.4", false),
        ("application/openmetrics-text; version=1.0.0", true),
        ("text/plain; version=0.0.4", false),
    ] {
        let answer = hear(&mut stream);
        assert!(
            field(&answer.head, "content-type")
                .unwrap()
                .starts_with(kind)
        );
        assert_eq!(answer.body.ends_with("# EOF\n"), is_open);
        let total = answer
            .body
            .contains("# TYPE oread_serve_accepted_connections_total counter");
        assert_eq!(total, !is_open, "{}", answer.body);
    }
    let last = format!(
        "{head}{}",
        plain.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    );
    stream.get_mut().write_all(last.as_bytes()).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    // The first of both has no body, and the server ends the connection behind the second.
    let (head, rest) = rest.split_once("\r\n\r\n").unwrap();
    assert!(
        field(head, "content-length")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 1000
    );
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{rest}");
}

#[test]
fn what_is_no_scrape_is_refused_in_words() {
    let (_server, url) = start(&[]);
    let long = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n",
        "a".repeat(9000)
    );
    for (request, status, words) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404", "at /metrics"),
        (
            "PUT /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            "405",
            "GET /metrics",
        ),
        (
            "GET /metrics HTTP/1.1\r\n\r\n",
            "400",
            "no request of HTTP/1.1",
        ),
        ("\u{16}\u{3}\u{1}\r\n\r\n", "400", "no request of HTTP/1.1"),
        (&long, "431", "8 KiB"),
    ] {
        let answer = ask(&url, request);
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.head.starts_with(&line), "{request}: {}", answer.head);
        assert!(answer.body.contains(words), "{}", answer.body);
        let allow = field(&answer.head, "allow");
        assert_eq!(allow, (status == "405").then_some("GET, HEAD"));
    }
    assert_eq!(Scrape::of(&url).total("oread_build_info"), 1.0);
}

#[test]
fn connections_beyond_the_most_wait_for_one_to_leave() {
    let (_server, url) = start(&[]);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut held: Vec<_> = (0..32).map(|_| BufReader::new(dial(&url))).collect();
    for stream in &mut held {
        stream.get_mut().write_all(request).unwrap();
        hear(stream);
    }
    let mut waiting = BufReader::new(dial(&url));
    waiting.get_mut().write_all(request).unwrap();
    let quick = Some(Duration::from_millis(200));
    waiting.get_mut().set_read_timeout(quick).unwrap();
    let silent = waiting.read(&mut [0]).unwrap_err();
    assert!([ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&silent.kind()));
    waiting.get_mut().set_read_timeout(Some(LONG)).unwrap();
    held.pop();
    assert!(hear(&mut waiting).head.starts_with("HTTP/1.1 404 "));
}

#[test]
fn requests_whose_answers_nobody_reads_are_not_answered_without_end() {
    let (server, url) = start(&[]);
    let mut stream = dial(&url);
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let many = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let mut sent = 0;
    // Buffers hold some megabytes of answers, and so a few thousand requests.
    while sent < 64 << 20 {
        match stream.write(many.as_bytes()) {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    assert!(sent < 64 << 20, "all of {sent} bytes were read");
    let (_, used) = cli::memory(server.pid());
    assert!(used < 200 << 20, "{used} bytes are in use");
    assert_eq!(Scrape::of(&url).total("oread_build_info"), 1.0);
}

#[test]
fn an_address_that_is_taken_is_an_error_before_anything_is_served() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let mut command = oread("serve");
    let output = command.args(["127.0.0.1:0", "--metrics", &at]).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let words = format!("can't bind TCP {at}: the address is in use");
    assert!(said.contains(&words), "{said}");
}

#[test]
fn promtool_has_nothing_to_say_about_a_server_s_metrics() {
    if has("promtool") {
        let (server, url) = start(&["--threads", "2"]);
        echo(&server, 5);
        lint(&ask(&url, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").body);
    }
}

#[test]
fn prometheus_scrapes_a_server() {
    if !has("prometheus") {
        return;
    }
    let (server, url) = start(&[]);
    let prometheus = Prometheus::start("serve", &url);
    prometheus.until("up", |up| up == 1.0);
    for _ in 0..3 {
        echo(&server, 1000);
    }
    let accepted = "oread_serve_accepted_connections_total";
    prometheus.until(accepted, |count| count == 3.0);
    prometheus.until("oread_serve_sent_bytes_total", |count| count == 3000.0);
}
