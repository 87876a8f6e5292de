//! What `oread load --metrics` tells Prometheus while it runs. The real binary is run, and
//! Prometheus' own programs where they are installed.
#![cfg(feature = "cli")]
// Clippy knows functions with #[test] as tests, not those that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;
#[path = "common/scrape.rs"]
mod scrape;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::Child;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use load::cli::{self, LONG, Server, Watchdog, oread, piped, signal};
use load::{Next, Report, each_message, say, tcp};
use scrape::{Prometheus, Scrape, ask, has, lint};

/// A load that runs, and where its metrics are.
struct Running {
    child: Child,
    url: String,
    log: JoinHandle<String>,
    _watchdog: Watchdog,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut command = oread("load");
        command.args(arguments).args(["--json", "-"]);
        // Where they are is said even by one that is told to be quiet.
        command
            .args(["--metrics", "127.0.0.1:0"])
            .env("RUST_LOG", "info");
        let (mut child, watchdog) = piped(&mut command);
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("metrics are at ") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it has ended");
        }
        let (_, url) = line.trim_end().split_once("metrics are at ").unwrap();
        let url = url.to_owned();
        let log = thread::spawn(move || {
            let mut rest = String::new();
            log.read_to_string(&mut rest).unwrap();
            rest
        });
        Running {
            child,
            url,
            log,
            _watchdog: watchdog,
        }
    }

    /// Scrapes again and again, until what is told is as wanted.
    fn until(&self, is_wanted: impl Fn(&Scrape) -> bool) -> Scrape {
        let deadline = Instant::now() + LONG;
        loop {
            let scrape = Scrape::of(&self.url);
            if is_wanted(&scrape) {
                return scrape;
            }
            assert!(Instant::now() < deadline, "{scrape:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn interrupt(self) -> Report {
        signal(self.child.id(), "INT");
        self.end()
    }

    fn end(self) -> Report {
        let output = self.child.wait_with_output().unwrap();
        let log = self.log.join().unwrap();
        Report::parse(&output.stdout, log.as_bytes(), output.status.code())
    }
}

/// Families, and where the report has what they count.
const COUNTED: [(&str, &str, &str); 11] = [
    ("oread_load_connections_asked", "connections", "asked"),
    (
        "oread_load_connections_peak_confirmed",
        "connections",
        "peak_confirmed",
    ),
    (
        "oread_load_connections_dialed_total",
        "connections",
        "dialed",
    ),
    (
        "oread_load_connections_established_total",
        "connections",
        "established",
    ),
    (
        "oread_load_connections_confirmed_total",
        "connections",
        "confirmed",
    ),
    ("oread_load_messages_sent_total", "messages", "sent"),
    ("oread_load_messages_echoed_total", "messages", "echoed"),
    ("oread_load_messages_verified_total", "messages", "verified"),
    (
        "oread_load_messages_unmeasured_total",
        "messages",
        "unmeasured",
    ),
    ("oread_load_sent_bytes_total", "bytes", "sent"),
    ("oread_load_received_bytes_total", "bytes", "received"),
];

#[test]
fn what_a_scrape_tells_of_a_load_is_what_its_report_says() {
    // Of 160 messages, and the four that confirm connections, each connection has its last one
    // without an answer: nothing happens until these are given up.
    let target = tcp(|stream, _| {
        each_message(stream, |stream, index, message| match index < 40 {
            true => say(stream, message),
            false => Next::Message,
        });
    });
    let more = ["-n", "160", "--message-timeout", "8s", "-q", &target];
    let running = Running::start(&[&["-c", "4", "--threads", "2"], &more[..]].concat());
    let echoed = "oread_load_messages_echoed_total";
    let last = running.until(|scrape| scrape.total(echoed) == 156.0);
    assert_eq!(last.sum("oread_load_phase", "\"finish\""), 1.0);
    assert_eq!(last.total("oread_load_phase"), 1.0);
    assert_eq!(last.total("oread_load_messages_outstanding"), 4.0);
    assert_eq!(last.total("oread_load_connections_open"), 4.0);
    let report = running.end();
    for (family, group, name) in COUNTED {
        assert_eq!(
            last.total(family),
            report.number(group, name) as f64,
            "{family}"
        );
    }
    for name in ["connect", "first_echo", "response", "service"] {
        let told = last.total(&format!("oread_load_{name}_seconds_count"));
        let last_bucket = format!("oread_load_{name}_seconds_bucket");
        assert_eq!(told, last.sum(&last_bucket, "+Inf"));
        let count = report.value["latency"][name]["count"].as_f64().unwrap();
        assert_eq!(told, count, "{name}");
        let sum = last.total(&format!("oread_load_{name}_seconds_sum"));
        let mean = report.value["latency"][name]["mean_ns"].as_f64().unwrap() / 1e9;
        assert!(
            (sum / count / mean - 1.0).abs() < 0.02,
            "{name}: {sum}, {mean}"
        );
    }
}

#[test]
fn errors_are_told_by_their_names() {
    let server = Server::start(&[]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = closed.local_addr().unwrap().to_string();
    drop(closed);
    let running = Running::start(&["-c", "6", "-d", "1m", &server.tcp().to_string(), &nobody]);
    let last = running.until(|scrape| scrape.sum("oread_load_phase", "\"measure\"") == 1.0);
    assert_eq!(last.sum("oread_load_errors_total", "ECONNREFUSED"), 3.0);
    assert_eq!(last.total("oread_load_connections_missing"), 3.0);
    let report = running.interrupt();
    assert_eq!(report.error("ECONNREFUSED"), 3);
    assert_eq!(report.connections("missing"), 3);
}

#[test]
fn datagrams_are_told_while_they_come() {
    let server = Server::start(&[]);
    let target = format!("udp://{}", server.udp());
    let running = Running::start(&["-c", "2", "-R", "100", "-d", "1m", &target]);
    let received = "oread_load_datagrams_received_total";
    let first = running.until(|scrape| scrape.total(received) > 0.0);
    let later = running.until(|scrape| scrape.total(received) > first.total(received) + 50.0);
    let sent = later.total("oread_load_datagrams_sent_total");
    let outstanding = later.total("oread_load_datagrams_outstanding");
    assert_eq!(sent, later.total(received) + outstanding);
    let report = running.interrupt();
    assert!(report.number("udp", "received") as f64 >= later.total(received));
}

#[test]
fn a_taken_address_ends_a_load_before_it_begins() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let output = oread("load").args(["--metrics", &at]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = format!("can't bind TCP {at}: the address is in use");
    assert!(said.contains(&words) && output.stdout.is_empty(), "{said}");
}

#[test]
fn promtool_and_prometheus_understand_a_load_s_metrics() {
    if !has("promtool") || !has("prometheus") {
        return;
    }
    let server = Server::start(&[]);
    let running = Running::start(&[
        "-c",
        "4",
        "-R",
        "200",
        "-d",
        "5m",
        &server.tcp().to_string(),
    ]);
    running.until(|scrape| scrape.total("oread_load_messages_echoed_total") > 0.0);
    lint(&ask(&running.url, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").body);
    let prometheus = Prometheus::start("load", &running.url);
    prometheus.until("oread_load_messages_echoed_total", |count| count > 0.0);
    prometheus.until("oread_load_connections_open", |open| open == 4.0);
    let median = "histogram_quantile(0.5,oread_load_response_seconds_bucket)";
    prometheus.until(median, |seconds| {
        seconds > 0.0 && seconds < LONG.as_secs_f64()
    });
    drop(prometheus);
    let report = running.interrupt();
    assert!(report.messages("echoed") > 0);
}
