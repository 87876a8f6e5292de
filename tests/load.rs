//! `oread load` end to end: what it counts against servers of which it's known what they do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
#[cfg(unix)]
use std::os::{fd::OwnedFd, unix::net::UnixStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use cli::{LONG, Server, oread, signal};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// What a run came to.
struct Report {
    value: Value,
    log: String,
}

impl Report {
    /// Runs `oread load` with these arguments to its end, and checks that its counts add up.
    fn of(arguments: &[&str]) -> Report {
        let mut command = oread("load");
        command.args(arguments).args(["--json", "-"]);
        Report::from(command)
    }

    fn from(mut command: Command) -> Report {
        let output = command.stdin(Stdio::null()).output().unwrap();
        Report::parse(&output.stdout, &output.stderr, output.status.code())
    }

    fn parse(stdout: &[u8], stderr: &[u8], code: Option<i32>) -> Report {
        let log = String::from_utf8_lossy(stderr).into_owned();
        let value: Value = serde_json::from_slice(stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{log}", String::from_utf8_lossy(stdout)));
        let report = Report { value, log };
        assert_eq!(code, Some(report.exit_code()), "{}", report.value);
        report.assert_balanced();
        report
    }

    fn exit_code(&self) -> i32 {
        self.value["exit_code"].as_i64().unwrap() as i32
    }

    fn number(&self, group: &str, name: &str) -> u64 {
        let value = &self.value[group][name];
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{group}.{name} is {value}"))
    }

    fn connections(&self, name: &str) -> u64 {
        self.number("connections", name)
    }

    fn messages(&self, name: &str) -> u64 {
        self.number("messages", name)
    }

    /// Every error and its count.
    fn errors(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.value["connections"]["errors"].clone()).unwrap()
    }

    fn error(&self, name: &str) -> u64 {
        self.errors().get(name).copied().unwrap_or(0)
    }

    /// A figure of a histogram, in milliseconds.
    fn ms(&self, histogram: &str, figure: &str) -> f64 {
        self.value["latency"][histogram][figure].as_f64().unwrap() / 1e6
    }

    fn assert_balanced(&self) {
        let c = |name| self.connections(name);
        assert!(
            !self.log.replace("debug", "").contains("bug"),
            "{}",
            self.log
        );
        let ends = c("established") + c("refused") + c("timed_out") + c("failed") + c("dialing");
        assert_eq!(c("dialed"), ends, "{}", self.value);
        let ends = c("lost") + c("closed") + c("open");
        assert_eq!(c("established"), ends, "{}", self.value);
        let m = |name| self.messages(name);
        let ends = m("echoed") + m("lost") + m("outstanding");
        assert_eq!(m("sent"), ends, "{}", self.value);
    }

    fn assert_all_is_well(&self) {
        assert_eq!(self.exit_code(), 0, "{}{}", self.value, self.log);
        assert_eq!(
            self.connections("asked"),
            self.connections("peak_confirmed")
        );
        assert_eq!(
            self.messages("sent"),
            self.messages("verified"),
            "{}",
            self.value
        );
        assert!(self.errors().is_empty(), "{}", self.value);
    }
}

/// Serves each connection by `serve`, in a thread of its own; `serve` gets the connection's place in the order of all.
/// The threads end with their connections, and the listener with the test program.
fn tcp(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let (serve, stream) = (Arc::clone(&serve), stream.unwrap());
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || serve(stream, index));
        }
    });
    address.to_string()
}

/// What a server's answer to a message leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Message,
    /// Close the connection; with input that was not read, that is a reset.
    Close,
}

/// Reads messages of 64 bytes to the end of the stream, and has `answer` see to each by its place in the order of them.
fn each_message(
    mut stream: TcpStream,
    mut answer: impl FnMut(&mut TcpStream, usize, &mut [u8; 64]) -> Next,
) {
    let mut message = [0; 64];
    for index in 0.. {
        if stream.read_exact(&mut message).is_err()
            || answer(&mut stream, index, &mut message) == Next::Close
        {
            return;
        }
    }
}

/// Answers; a load that is gone ends it.
fn say(stream: &mut TcpStream, bytes: &[u8]) -> Next {
    match stream.write_all(bytes) {
        Ok(()) => Next::Message,
        Err(_) => Next::Close,
    }
}

#[test]
fn without_a_target_it_loads_a_server_of_its_own() {
    let report = Report::of(&["-c", "7", "-n", "5000", "-t", "2", "--depth", "3"]);
    report.assert_all_is_well();
    assert_eq!(report.messages("verified"), 5000);
    assert_eq!(report.messages("unmeasured"), 7);
    assert_eq!(report.number("bytes", "sent"), 5000 * 64);
    assert_eq!(report.number("bytes", "received"), 5000 * 64);
    assert_eq!(report.value["latency"]["response"]["count"], 5000);
    assert_eq!(report.value["latency"]["connect"]["count"], 7);
    assert_eq!(report.value["latency"]["first_echo"]["count"], 7);
}

#[test]
fn any_size_and_framing_comes_back_as_it_was_sent() {
    for (size, framing) in [("1", "raw"), ("1-300", "lines"), ("70000-1m", "raw")] {
        let arguments = [
            "-c",
            "3",
            "-n",
            "60",
            "--depth",
            "4",
            "-s",
            size,
            "--framing",
            framing,
        ];
        Report::of(&arguments).assert_all_is_well();
    }
    let server = Server::start(&["--framing", "length:u16le", "--tcp"]);
    let address = server.listening[0]["address"].as_str().unwrap().to_owned();
    let report = Report::of(&[
        &address,
        "-c",
        "2",
        "-n",
        "50",
        "-s",
        "1-9k",
        "--framing",
        "length:u16le",
    ]);
    report.assert_all_is_well();
    server.stop();
    let report = Report::of(&["-c", "2", "-n", "50", "--message", "hello"]);
    report.assert_all_is_well();
    assert_eq!(report.number("bytes", "received"), 250);
}

#[test]
fn a_server_that_answers_late_by_a_known_time_shows_it_in_every_answer() {
    const LATE: Duration = Duration::from_millis(40);
    let address = tcp(|stream, _| {
        each_message(stream, |stream, _, message| {
            thread::sleep(LATE);
            say(stream, message)
        });
    });
    let report = Report::of(&[&address, "-c", "4", "-n", "40"]);
    report.assert_all_is_well();
    assert!(report.ms("response", "min_ns") >= 39.9, "{}", report.value);
    assert!(report.ms("first_echo", "min_ns") >= 39.9);
    assert!(report.ms("connect", "min_ns") < 39.9);
}

/// A server that answers nobody for a second, once, after so many messages.
fn stalling(after: u64) -> String {
    let seen = AtomicU64::new(0);
    let stalled: Mutex<()> = Mutex::new(());
    tcp(move |stream, _| {
        each_message(stream, |stream, _, message| {
            let guard = stalled.lock().unwrap();
            if seen.fetch_add(1, Ordering::Relaxed) == after {
                thread::sleep(Duration::from_secs(1));
            }
            drop(guard);
            say(stream, message)
        });
    })
}

#[test]
fn an_open_loop_goes_on_counting_while_the_server_stalls() {
    let report = Report::of(&[&stalling(2000), "-c", "4", "-R", "4k", "-d", "2500ms"]);
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    // All that was due is there: 4,000 a second for 2.5 seconds.
    assert_eq!(report.messages("sent") + report.messages("unsent"), 10_000);
    assert_eq!(report.messages("unsent"), 0, "{}", report.value);
    assert_eq!(report.value["latency"]["response"]["count"], 10_000);
    // 4,000 of 10,000 were due in that second, one each quarter of a millisecond: the slowest hundredth of all waited for
    // 975 ms and more.
    assert!(report.ms("response", "p99_ns") >= 950.0, "{}", report.value);
    assert!(
        report.ms("response", "p99_9_ns") >= 990.0,
        "{}",
        report.value
    );
}

#[test]
fn what_a_stall_to_the_end_has_kept_from_being_sent_is_sent_late_and_counted() {
    const SIZE: usize = 256 << 10;
    // It confirms the connection, then does not read for longer than is measured: 15 MB are more than the buffers take.
    let address = tcp(|mut stream, _| {
        let mut first = vec![0; SIZE];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(&first).unwrap();
        thread::sleep(Duration::from_secs(1));
        let mut reading = stream.try_clone().unwrap();
        // Reset by a load that has failed its test.
        let _ = std::io::copy(&mut reading, &mut stream);
    });
    let report = Report::of(&[
        &address, "-c", "1", "-R", "100", "-d", "600ms", "-s", "256KiB",
    ]);
    assert_eq!(report.messages("sent"), 60, "{}", report.value);
    assert_eq!(report.messages("echoed"), 60);
    let late = report.value["rate"]["max_lag_ns"].as_f64().unwrap();
    assert!(late > 300e6, "{}", report.value);
    assert!(report.ms("response", "max_ns") >= 900.0, "{}", report.value);
}

#[test]
fn what_nobody_can_take_is_unsent() {
    let address = tcp(|stream, _| {
        each_message(stream, |stream, message, bytes| match message {
            0..50 => say(stream, bytes),
            _ => Next::Close,
        });
    });
    let report = Report::of(&[&address, "-c", "1", "-R", "200", "-d", "1s"]);
    assert_eq!(report.connections("lost"), 1, "{}", report.value);
    assert_eq!(report.messages("sent") + report.messages("unsent"), 200);
    assert!(report.messages("unsent") > 100);
}

#[test]
fn the_rate_is_of_answers_that_came_within_the_measured_time() {
    // A hundred a second are due, and none is answered before the second is over.
    let begun = Mutex::new(None);
    let address = tcp(move |stream, _| {
        each_message(stream, |stream, message, bytes| {
            if message > 0 {
                let mut begun = begun.lock().unwrap();
                let first = *begun.get_or_insert_with(Instant::now);
                let until = first + Duration::from_millis(1500);
                thread::sleep(until.saturating_duration_since(Instant::now()));
            }
            say(stream, bytes)
        });
    });
    let gate = ["--slo", "rate>=1"];
    let report =
        Report::of(&[&[&*address, "-c", "1", "-R", "100", "-d", "1s"], &gate[..]].concat());
    assert_eq!(report.exit_code(), 3, "{}", report.value);
    assert_eq!(report.messages("echoed"), 100);
    assert_eq!(report.messages("in_time"), 0);
    assert_eq!(report.value["rate"]["reached"], 0.0);
}

#[test]
fn no_option_is_too_large_or_too_small_to_come_to_an_end() {
    const MOST: &str = "4294967295";
    let short: [&[&str]; 12] = [
        &["-c", "2", "-d", "1ns"],
        &["-c", "3", "-t", "2", "-n", "1"],
        &[
            "-c",
            "1",
            "-R",
            MOST,
            "-d",
            "1ms",
            "--message-timeout",
            "1ms",
        ],
        &["-c", "2", "--depth", "65536", "-n", "100000"],
        &["-c", "2", "-s", "1-1m", "-n", "20"],
        &["-c", "5", "--churn", MOST, "-d", "50ms"],
        &["-c", "5", "--lifetime", "1ns", "-d", "50ms"],
        &["-c", "2", "--think", "1ns", "-n", "50"],
        &["-c", "2", "--think", "24d", "-n", "1"],
        &["-c", "2", "--message-timeout", "1ns", "-d", "50ms"],
        &["-c", "20", "-r", MOST, "--warmup", "1ns", "-d", "50ms"],
        &[
            "-c",
            MOST,
            "-r",
            "1",
            "--force",
            "--ramp-timeout",
            "50ms",
            "-d",
            "1ms",
        ],
    ];
    for arguments in short {
        let report = Report::of(arguments);
        let cpu = report.value["generator"]["cpu"].as_f64().unwrap();
        assert!(cpu <= 2.0, "{arguments:?}: {}", report.value);
        assert!(matches!(report.exit_code(), 0 | 4), "{arguments:?}");
        assert!(report.value["imbalance"].is_null(), "{}", report.value);
    }
}

#[test]
fn a_closed_loop_sees_a_stall_only_as_often_as_it_has_messages_under_way() {
    let report = Report::of(&[&stalling(200), "-c", "4", "-n", "1000"]);
    report.assert_all_is_well();
    assert!(report.ms("response", "max_ns") >= 990.0, "{}", report.value);
    assert!(report.ms("response", "p50_ns") < 500.0, "{}", report.value);
}

#[test]
fn a_server_that_never_answers_is_told_as_that_and_nothing_is_measured() {
    let address = tcp(|stream, _| each_message(stream, |_, _, _| Next::Message));
    let report = Report::of(&[
        &address,
        "-c",
        "5",
        "--message-timeout",
        "200ms",
        "-d",
        "10m",
    ]);
    assert_eq!(report.exit_code(), 4);
    assert_eq!(report.connections("established"), 5);
    assert_eq!(report.connections("confirmed"), 0);
    assert_eq!(
        report.errors(),
        BTreeMap::from([("message timeout".to_owned(), 5)])
    );
    assert_eq!(report.messages("sent"), 0);
}

#[test]
fn a_listener_that_never_accepts_times_dials_and_messages_out() {
    let mut reactor: oread::Reactor<oread::Echo> = oread::Reactor::new().unwrap();
    let options = oread::ListenOptions {
        backlog: 1,
        ..oread::ListenOptions::new(([127, 0, 0, 1], 0).into())
    };
    let listener = reactor.context().listen(&options).unwrap();
    let address = reactor
        .context()
        .listener_addr(listener)
        .unwrap()
        .to_string();
    let patience = ["--connect-timeout", "300ms", "--message-timeout", "300ms"];
    let arguments = [&[&*address, "-c", "8"], &patience[..]].concat();
    let report = Report::of(&arguments);
    assert_eq!(report.exit_code(), 4);
    assert_eq!(report.connections("confirmed"), 0);
    let (there, late) = (
        report.connections("established"),
        report.connections("timed_out"),
    );
    assert!(late > 0 && there + late == 8, "{}", report.value);
    assert_eq!(report.error("connect timeout"), late);
    assert_eq!(report.error("message timeout"), there);
}

#[test]
fn nobody_there_is_a_refusal_for_each_and_exit_4() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let report = Report::of(&[&address, "-c", "5", "-R", "10", "-d", "10m"]);
    assert_eq!(report.exit_code(), 4);
    assert_eq!(report.connections("refused"), 5);
    assert_eq!(
        report.errors(),
        BTreeMap::from([("ECONNREFUSED".to_owned(), 5)])
    );
}

#[test]
fn connections_that_the_server_ends_are_lost_each_with_its_reason() {
    let address = tcp(|stream, index| {
        each_message(stream, |stream, message, bytes| match (index, message) {
            (0, 3) => {
                say(stream, bytes);
                // The next message is there, and is not read.
                stream.peek(&mut [0]).unwrap();
                Next::Close
            }
            (1, 3) => {
                say(stream, &bytes[..10]);
                Next::Close
            }
            (2, 3) => {
                say(stream, bytes);
                // The next message is read, or the end would be a reset.
                stream.shutdown(Shutdown::Write).unwrap();
                let _ = std::io::copy(stream, &mut std::io::sink());
                Next::Close
            }
            _ => say(stream, bytes),
        });
    });
    let report = Report::of(&[&address, "-c", "4", "-d", "500ms", "-r", "100"]);
    // All had been there, but not to the end.
    assert_eq!(report.exit_code(), 4, "{}", report.value);
    assert_eq!(report.connections("peak_confirmed"), 4);
    assert_eq!(report.connections("lost"), 3, "{}", report.value);
    assert_eq!(report.connections("missing"), 3);
    assert_eq!(report.connections("dialed"), 4);
    assert_eq!(report.connections("open"), 1);
    let errors = BTreeMap::from([
        ("ECONNRESET".to_owned(), 1),
        ("closed by peer".to_owned(), 1),
        ("closed by peer in mid-answer".to_owned(), 1),
    ]);
    assert_eq!(report.errors(), errors);
    assert!(report.messages("lost") >= 1);
}

#[test]
fn an_idle_connection_that_is_lost_is_missing_to_the_end_and_exit_4() {
    let confirmed = AtomicU64::new(0);
    let address = tcp(move |stream, index| {
        let served = |stream: &mut TcpStream, _: usize, bytes: &mut [u8; 64]| {
            say(stream, bytes);
            confirmed.fetch_add(1, Ordering::SeqCst);
            // One of them goes when all have been there.
            let deadline = Instant::now() + LONG;
            while index == 0 && confirmed.load(Ordering::SeqCst) < 3 && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            match index {
                0 => Next::Close,
                _ => Next::Message,
            }
        };
        each_message(stream, served);
    });
    let report = Report::of(&[&address, "-c", "3", "--idle", "-d", "500ms"]);
    assert_eq!(report.exit_code(), 4, "{}", report.value);
    let ledger = ["peak_confirmed", "lost", "missing", "open"].map(|name| report.connections(name));
    assert_eq!(ledger, [3, 1, 1, 2], "{}", report.value);
}

#[test]
fn a_connection_that_is_lost_is_replaced_where_others_are_too() {
    let address = tcp(|stream, index| {
        each_message(stream, |stream, message, bytes| match (index, message) {
            (1, 3) => Next::Close,
            _ => say(stream, bytes),
        });
    });
    let report = Report::of(&[&address, "-c", "3", "--lifetime", "10m", "-d", "2s"]);
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    let ledger = ["lost", "redialed", "missing", "open"].map(|name| report.connections(name));
    assert_eq!(ledger, [1, 1, 0, 3], "{}", report.value);
}

#[test]
fn a_server_that_is_gone_for_good_leaves_all_places_empty() {
    // Four are served, then nobody listens any more, and they are hung up on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let streams: Vec<TcpStream> = (0..4).map(|_| listener.accept().unwrap().0).collect();
        drop(listener);
        for stream in streams {
            thread::spawn(|| {
                each_message(stream, |stream, message, bytes| match message {
                    0..100 => say(stream, bytes),
                    _ => Next::Close,
                });
            });
        }
    });
    let arguments = [&*address, "-c", "4", "--churn", "20", "-d", "1s"];
    let report = Report::of(&[&arguments[..], &["-R", "1k"]].concat());
    assert_eq!(report.exit_code(), 4, "{}", report.value);
    assert_eq!(report.connections("peak_confirmed"), 4);
    assert_eq!(report.connections("missing"), 4, "{}", report.value);
    assert_eq!(report.connections("open"), 0);
    assert!(report.connections("refused") > 0);
}

/// Flips a bit in byte `at` of the fifth message of every connection.
fn flipping(at: usize) -> String {
    tcp(move |stream, _| {
        each_message(stream, |stream, message, bytes| {
            bytes[at] ^= u8::from(message == 4);
            say(stream, bytes)
        });
    })
}

#[test]
fn a_flipped_bit_is_a_corrupt_answer_and_exit_5() {
    for at in [0, 11, 12, 63] {
        let report = Report::of(&[&flipping(at), "-c", "3", "-d", "300ms"]);
        assert_eq!(report.exit_code(), 5, "{}", report.value);
        assert_eq!(report.messages("corrupt"), 3);
        let warning = report
            .log
            .lines()
            .find(|line| line.contains("wrong answer"));
        let warning = warning.unwrap_or_else(|| panic!("{}", report.log));
        assert!(warning.contains(" warn "), "{warning}");
        assert!(warning.contains(" to message 4: "), "{warning}");
        assert!(
            warning.contains(&format!("from byte {at} on ")),
            "{warning}"
        );
        let quoted: Vec<&str> = warning.split('"').collect();
        let [_, came, _, expected, _] = quoted[..] else {
            panic!("{warning}");
        };
        let bytes = |text: &str| text.replace("\\\\", "\\").into_bytes();
        let (came, expected) = (bytes(came), bytes(expected));
        assert_eq!(
            (came[0], &came[1..]),
            (expected[0] ^ 1, &expected[1..]),
            "{warning}"
        );
        assert_eq!(
            report.errors(),
            BTreeMap::from([("corrupt answer".to_owned(), 3)])
        );
        assert_eq!(report.connections("lost"), 3);
    }
    let sequence = Report::of(&[
        &flipping(0),
        "-c",
        "1",
        "-d",
        "300ms",
        "--verify",
        "sequence",
    ]);
    assert_eq!(sequence.messages("corrupt"), 1);
    let sequence = Report::of(&[&flipping(63), "-c", "1", "-n", "20", "--verify", "sequence"]);
    sequence.assert_all_is_well();
    let off = Report::of(&[&flipping(0), "-c", "1", "-n", "20", "--verify", "off"]);
    assert_eq!(
        (
            off.exit_code(),
            off.messages("echoed"),
            off.messages("verified")
        ),
        (0, 20, 0)
    );
}

#[test]
fn connections_and_messages_are_logged_where_they_are_asked_for() {
    let of = |arguments: &[&str]| {
        let report = Report::of(&[&["-c", "2", "-n", "6", "-t", "2"], arguments].concat());
        report.assert_all_is_well();
        report.log
    };
    // The server of its own is in the same process, and logs as well: it knows no flows.
    let count = |log: &str, what: &str| {
        let lines = log.lines();
        lines
            .filter(|line| line.contains(" flow ") && line.contains(what))
            .count()
    };
    let log = of(&[]);
    assert_eq!(count(&log, ""), 0, "{log}");
    let connections = [
        "dialed",
        "established after",
        "confirmed by",
        "closed at the end",
    ];
    for (verbosity, messages) in [("-v", 0), ("-vv", 8)] {
        let log = of(&[verbosity]);
        for what in connections {
            assert_eq!(count(&log, what), 2, "{what} in:\n{log}");
        }
        for what in [": sent: ", ": received: "] {
            assert_eq!(count(&log, what), messages, "{what} in:\n{log}");
        }
    }
}

#[test]
fn answers_that_nobody_asked_for_are_corrupt() {
    let address = tcp(|stream, _| {
        each_message(stream, |stream, _, bytes| {
            say(stream, &[*bytes, *bytes].concat())
        });
    });
    let report = Report::of(&[&address, "-c", "1", "-d", "200ms"]);
    assert_eq!(report.exit_code(), 5, "{}", report.value);
    let warning = "an answer that nobody asked for: ";
    assert!(report.log.contains(warning), "{}", report.log);
}

/// A UDP server that does to each datagram what its number says; see `udp`.
struct Mangler {
    address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Mangled>>,
}

/// How many datagrams it did something to, those that confirm a socket left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mangled {
    dropped: u64,
    doubled: u64,
    swapped: u64,
    flipped: u64,
}

impl Mangler {
    fn start() -> Mangler {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = format!("udp://{}", socket.local_addr().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || mangle(&socket, &told)));
        Mangler {
            address,
            stop,
            thread,
        }
    }

    fn end(mut self) -> Mangled {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

fn mangle(socket: &UdpSocket, stop: &AtomicBool) -> Mangled {
    let mut did = Mangled::default();
    let mut held: Option<(Vec<u8>, SocketAddr)> = None;
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) {
                    return did;
                }
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let number = u32::from_be_bytes(buffer[4..8].try_into().unwrap());
        match number % 10 {
            3 => {
                did.dropped += 1;
                continue;
            }
            5 if held.is_none() => {
                did.swapped += 1;
                held = Some((buffer[..len].to_vec(), from));
                continue;
            }
            7 => {
                did.flipped += 1;
                buffer[len - 1] ^= 1;
            }
            8 => {
                did.doubled += 1;
                socket.send_to(&buffer[..len], from).unwrap();
            }
            _ => {}
        }
        socket.send_to(&buffer[..len], from).unwrap();
        if let Some((bytes, to)) = held.take() {
            socket.send_to(&bytes, to).unwrap();
        }
    }
}

#[test]
fn datagrams_that_are_dropped_doubled_swapped_and_flipped_are_told_by_their_number() {
    let server = Mangler::start();
    // 203 datagrams with the one that confirms, numbered from 0: the last ones are answered in order.
    let arguments = [&*server.address, "-c", "1", "-n", "202", "-R", "1k"];
    let report = Report::of(&[&arguments[..], &["--message-timeout", "500ms"]].concat());
    let did = server.end();
    assert_eq!(
        did,
        Mangled {
            dropped: 20,
            doubled: 20,
            swapped: 20,
            flipped: 20
        }
    );
    let udp = |name| report.number("udp", name);
    assert_eq!(udp("sent"), 202);
    assert_eq!(udp("lost"), did.dropped + did.flipped);
    assert_eq!(udp("received"), 202 - udp("lost"));
    assert_eq!(udp("duplicated"), did.doubled);
    assert_eq!(udp("reordered"), did.swapped);
    assert_eq!(udp("corrupt"), did.flipped);
    assert_eq!(udp("late"), 0);
    assert_eq!(report.exit_code(), 5);
    assert_eq!(report.error("corrupt answer"), did.flipped);
    let warning = "a wrong datagram of 64 bytes: from byte 63 on ";
    assert!(report.log.contains(warning), "{}", report.log);
    assert_eq!(report.error("message timeout"), udp("lost"));
    assert_eq!(report.messages("echoed"), udp("received"));
}

#[test]
fn a_closed_loop_over_udp_goes_on_past_what_is_lost() {
    let server = Mangler::start();
    let arguments = [&*server.address, "-c", "3", "-n", "90", "--depth", "2"];
    let report = Report::of(&[&arguments[..], &["--message-timeout", "100ms"]].concat());
    server.end();
    assert_eq!(report.number("udp", "sent"), 90);
    assert!(report.number("udp", "lost") >= 9, "{}", report.value);
}

#[test]
fn an_answer_after_the_message_timeout_is_late_and_received() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("udp://{}", socket.local_addr().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        // The first one at once, all others after 400 ms.
        for index in 0..4 {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            if index > 0 {
                thread::sleep(Duration::from_millis(400));
            }
            socket.send_to(&buffer[..len], from).unwrap();
        }
    });
    // One each 500 ms, so the next one keeps the run open for the answer before it.
    let arguments = [
        &*address,
        "-c",
        "1",
        "-R",
        "2",
        "-d",
        "1500ms",
        "--message-timeout",
        "200ms",
    ];
    let report = Report::of(&arguments);
    assert_eq!(report.number("udp", "sent"), 3);
    assert!(report.number("udp", "late") >= 2, "{}", report.value);
    assert_eq!(report.messages("timed_out"), 3);
}

#[test]
fn connections_are_closed_and_dialed_again_at_a_rate_or_by_age() {
    for turnover in [["--churn", "100"], ["--lifetime", "50ms"]] {
        for traffic in [["--depth", "1"], ["-R", "500"]] {
            let arguments = [["-c", "5"], ["-d", "500ms"], turnover, traffic].concat();
            let report = Report::of(&arguments);
            assert_eq!(report.exit_code(), 0, "{}", report.value);
            assert_eq!(report.connections("lost"), 0);
            assert!(report.connections("closed") >= 5, "{}", report.value);
            let dialed = report.connections("dialed");
            assert_eq!(
                dialed,
                5 + report.connections("redialed"),
                "{}",
                report.value
            );
            assert_eq!(report.messages("sent"), report.messages("verified"));
            assert!(report.value["churn"]["reached"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn replacing_connections_keeps_to_the_connect_rate() {
    let begun = Instant::now();
    let pace = ["--connect-rate", "50", "--lifetime", "10ms"];
    let report = Report::of(&[&["-c", "10", "-d", "1s"], &pace[..]].concat());
    // Without a pace it would be a thousand. What a stall of 10 ms has kept may be made up for, and one is due at once.
    let most = begun.elapsed().as_secs_f64() * 50.0 + 2.0;
    assert!(report.connections("redialed") > 0, "{}", report.value);
    assert!(
        report.connections("dialed") as f64 <= most,
        "more than {most}: {}",
        report.value
    );
    let more = ["load", "--churn", "20", "--connect-rate", "10"];
    let output = oread(more[0]).args(&more[1..]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--connect-rate 20"), "{said}");
}

#[test]
fn idle_connections_are_held_and_sent_a_heartbeat_each() {
    let silent = Report::of(&["-c", "10", "-d", "300ms", "--idle"]);
    silent.assert_all_is_well();
    assert_eq!(
        (silent.messages("sent"), silent.connections("open")),
        (0, 10)
    );
    let beating = Report::of(&["-c", "10", "-d", "1s", "--idle", "--heartbeat", "250ms"]);
    beating.assert_all_is_well();
    assert_eq!(beating.messages("sent"), 40);
}

#[test]
fn a_heartbeat_is_no_quicker_where_others_are_lost() {
    // Of ten, nine are hung up on at their first heartbeat.
    let address = tcp(|stream, index| {
        each_message(stream, |stream, message, bytes| match (index, message) {
            (1.., 1) => Next::Close,
            _ => say(stream, bytes),
        });
    });
    let beat = ["--idle", "--heartbeat", "200ms", "-d", "2s"];
    let report = Report::of(&[&[&*address, "-c", "10"], &beat[..]].concat());
    assert_eq!(report.connections("missing"), 9, "{}", report.value);
    // Ten of the one that is left, nine firsts, and what fell due while the load did not know yet.
    let sent = report.messages("sent");
    assert!((10..60).contains(&sent), "{}", report.value);
}

#[test]
fn connections_that_think_do_not_begin_all_at_one_time() {
    // Spread over an hour, the second of ten is due after six minutes.
    for threads in ["1", "2"] {
        let arguments = ["-c", "10", "--think", "1h", "-d", "500ms", "-t", threads];
        let report = Report::of(&arguments);
        report.assert_all_is_well();
        assert_eq!(report.messages("sent"), 1, "{}", report.value);
    }
    let report = Report::of(&["-c", "10", "--think", "20ms", "-n", "100"]);
    report.assert_all_is_well();
    assert_eq!(report.messages("sent"), 100);
}

#[test]
fn an_answer_that_comes_too_late_has_no_second_message_follow_it() {
    let address = tcp(|stream, _| {
        each_message(stream, |stream, message, bytes| {
            // The first one confirms the connection.
            if message > 0 {
                thread::sleep(Duration::from_millis(150));
            }
            say(stream, bytes)
        });
    });
    let patience = ["--message-timeout", "100ms", "--think", "1ms"];
    let report = Report::of(&[&[&*address, "-c", "1", "-d", "1s"], &patience[..]].concat());
    // One at once, and then no two within the timeout.
    assert!(report.messages("sent") <= 11, "{}", report.value);
    assert!(report.messages("timed_out") > 0, "{}", report.value);
}

#[test]
fn what_is_sent_to_warm_up_is_in_no_figure() {
    let report = Report::of(&["-c", "2", "-R", "100", "--warmup", "500ms", "-n", "50"]);
    report.assert_all_is_well();
    assert_eq!(report.messages("sent"), 50);
    assert_eq!(report.messages("unmeasured"), 2 + 50);
    assert_eq!(report.value["latency"]["response"]["count"], 50);
}

/// Interrupts a load after it has said for the first time how it goes.
fn interrupted(arguments: &[&str]) -> Report {
    let mut command = oread("load");
    command.args(arguments).args(["--json", "-"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // That comes when it has been running for a second: the signals are taken long before.
    let mut log = [0; 1];
    child.stderr.as_mut().unwrap().read_exact(&mut log).unwrap();
    signal(child.id(), "INT");
    let started = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(started.elapsed() < LONG);
    let report = Report::parse(&output.stdout, &output.stderr, output.status.code());
    assert_eq!(report.exit_code(), 130);
    assert_eq!(report.value["ending"]["signal"], 2);
    report
}

#[test]
fn a_signal_ends_the_load_and_the_report_comes_all_the_same() {
    let report = interrupted(&["-c", "4", "-d", "10m", "-t", "2"]);
    assert!(report.messages("echoed") > 0);
    assert_eq!(report.connections("open"), 4);
    assert_eq!(report.connections("missing"), 0);
    let measured = report.value["seconds"]["measured"].as_f64().unwrap();
    assert!(measured > 0.0 && measured < 600.0, "{}", report.value);
}

#[test]
fn a_signal_ends_the_load_also_when_the_first_thread_has_ended_before() {
    let (ended, heard) = mpsc::channel();
    let ended = Mutex::new(ended);
    let address = tcp(move |stream, _| {
        // The flow's number, at its lowest: that of the first thread is 0.
        let mut flow = 0;
        each_message(stream, |stream, message, bytes| {
            flow = bytes[4] - b'0';
            match (flow, message) {
                (0, _) | (_, 0) => say(stream, bytes),
                // The other thread waits for its answers.
                _ => Next::Message,
            }
        });
        if flow == 0 {
            ended.lock().unwrap().send(()).unwrap();
        }
    });
    let mut command = oread("load");
    command.args([&*address, "-c", "2", "-t", "2", "-n", "20", "--json", "-"]);
    command.args(["--message-timeout", "10m", "-q"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    heard.recv_timeout(LONG).unwrap();
    signal(child.id(), "INT");
    assert_eq!(cli::wait(&mut child).code(), Some(130));
    let output = child.wait_with_output().unwrap();
    let report = Report::parse(&output.stdout, b"", Some(130));
    assert_eq!(report.messages("echoed"), 10);
    assert_eq!(report.value["ending"]["signal"], 2);
}

#[test]
fn a_signal_in_the_ramp_ends_it_with_what_there_is_and_nothing_measured() {
    let ramp = ["-c", "200", "-r", "2", "-t", "2"];
    for traffic in [&["-R", "100"][..], &["--churn", "1"], &["-n", "5"]] {
        let report = interrupted(&[&ramp[..], traffic].concat());
        let there = report.connections("confirmed");
        assert!((1..200).contains(&there), "{}", report.value);
        assert_eq!(report.connections("missing"), 200 - there);
        assert_eq!(report.messages("sent") + report.messages("unsent"), 0);
        assert_eq!(report.value["seconds"]["measured"], 0.0);
        assert!(report.value["rate"]["reached"].is_null());
    }
}

/// A standard error that takes nothing, and its other end, which nobody reads.
#[cfg(unix)]
fn full() -> (Stdio, UnixStream) {
    let (reading, mut writing) = UnixStream::pair().unwrap();
    writing.set_nonblocking(true).unwrap();
    for size in [4096, 1] {
        while writing.write(&vec![b'x'; size]).is_ok() {}
    }
    writing.set_nonblocking(false).unwrap();
    (OwnedFd::from(writing).into(), reading)
}

#[cfg(unix)]
#[test]
fn a_standard_error_that_takes_nothing_stalls_neither_the_load_nor_its_report() {
    // More than a second, so that it's told how it goes; then to the end, or interrupted.
    for (arguments, code) in [
        (["-c", "3", "-d", "1500ms"], 0),
        (["-c", "3", "-d", "10m"], 130),
    ] {
        let (first, began) = mpsc::channel::<()>();
        let first = Mutex::new(Some(first));
        let address = tcp(move |stream, _| {
            drop(first.lock().unwrap().take());
            each_message(stream, |stream, _, bytes| say(stream, bytes));
        });
        let (errors, _reading) = full();
        let mut command = oread("load");
        command.arg(&address).args(arguments);
        command.args(["--json", "-"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = child.stderr(errors).spawn().unwrap();
        if code == 130 {
            // Dropped with the first connection of all.
            assert!(began.recv_timeout(LONG).is_err());
            // It's told each second from then on how it goes, which nothing shows from outside.
            thread::sleep(Duration::from_millis(2500));
            signal(child.id(), "INT");
        }
        assert_eq!(cli::wait(&mut child).code(), Some(code));
        let output = child.wait_with_output().unwrap();
        let report = Report::parse(&output.stdout, b"", Some(code));
        assert!(report.messages("echoed") > 0, "{}", report.value);
    }
    // What is short is told there too.
    let (errors, _reading) = full();
    let mut command = oread("load");
    command.args(["-c", "4000000000"]).stderr(errors);
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    assert_eq!(cli::wait(&mut child).code(), Some(4));
}

/// A file of a test's own, taken away at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = directory.join(format!("load-{}-{name}", std::process::id()));
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn read(&self) -> Vec<u8> {
        fs::read(&self.0).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.read()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It's not there where none was to be written.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(target_os = "linux")] // Others have no file that is always full.
#[test]
fn what_can_be_written_of_a_report_is_whatever_else_can_t() {
    let (json, hdr) = (Scratch::new("full.json"), Scratch::new("full.hlog"));
    let run = |arguments: &[&str]| {
        let output = oread("load")
            .args(["-c", "2", "-n", "20", "-q"])
            .args(arguments)
            .output()
            .unwrap();
        let words = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), words, errors)
    };
    let (code, words, errors) = run(&["--json", "/dev/full", "--hdr", hdr.path()]);
    assert_eq!(code, Some(1));
    assert!(words.contains("20 sent, 20 echoed"), "{words}");
    assert!(errors.contains("can't write /dev/full"), "{errors}");
    assert!(hdr.read().starts_with(b"#"));
    let (code, words, errors) = run(&["--json", json.path(), "--hdr", "/dev/full"]);
    assert_eq!((code, &json.json()["exit_code"]), (Some(1), &1.into()));
    assert!(words.contains("20 sent, 20 echoed"), "{words}");
    assert!(errors.contains("can't write /dev/full"), "{errors}");
    // An interruption comes first.
    let mut command = oread("load");
    command.args(["-c", "2", "-d", "10m", "--json", "/dev/full"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(words.starts_with("interrupted"), "{words}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_message_file_without_an_end_is_not_read_to_it() {
    for (file, words) in [("/dev/zero", "is too long"), ("/dev/null", "is empty")] {
        let output = oread("load")
            .args(["--message-file", file])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(words), "{errors}");
    }
}

#[test]
fn a_load_that_can_t_be_had_is_not_begun_and_programs_are_told_why() {
    let (json, hdr) = (Scratch::new("none.json"), Scratch::new("none.hlog"));
    let most = ["-c", "4000000000"];
    let output = oread("load")
        .args(most)
        .args(["--json", json.path(), "--hdr", hdr.path()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout.is_empty());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains("4,000,000,000 connections can't be reached here"),
        "{words}"
    );
    assert!(words.contains("--force"), "{words}");
    let told = json.json();
    assert_eq!(told["exit_code"], 4);
    assert_eq!(told["ending"]["kind"], "not begun");
    let shortfalls = told["shortfalls"].as_array().unwrap();
    for shortfall in shortfalls {
        assert!(words.contains(shortfall.as_str().unwrap()), "{words}");
    }
    assert!(!hdr.0.exists());
    // The doctor says the same.
    let output = oread("doctor").args(most).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let table: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(table["reachable"], false);
    let short = |check: &&Value| check["met"] == false;
    let short: Vec<&Value> = table["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(short)
        .collect();
    assert_eq!(short.len(), shortfalls.len(), "{table}");
    assert!(short.iter().all(|check| check["mend"].is_string()));
    let output = oread("doctor").args(["-c", "10"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.ends_with("10 connections can be reached\n"),
        "{table}"
    );
    assert!(!table.contains("SHORT"), "{table}");
}

/// The histogram of this tag in a log, read by the crate that others read it with.
fn of_log(log: &[u8], wanted: &str) -> Histogram<u64> {
    for entry in IntervalLogIterator::new(log) {
        if let LogEntry::Interval(interval) = entry.unwrap()
            && interval.tag().is_some_and(|tag| tag.as_str() == wanted)
        {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(interval.encoded_histogram())
                .unwrap();
            let mut bytes = std::io::Cursor::new(bytes);
            return Deserializer::new().deserialize(&mut bytes).unwrap();
        }
    }
    panic!("no {wanted} in the log");
}

#[test]
fn words_json_and_histograms_of_one_run_say_the_same() {
    let (json, hdr) = (Scratch::new("same.json"), Scratch::new("same.hlog"));
    let output = oread("load")
        .args(["-c", "1200", "-r", "4k", "-n", "12k", "-t", "2", "-q"])
        .args(["--json", json.path(), "--hdr", hdr.path()])
        .args(["--slo", "p99<1h"])
        .output()
        .unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{words}");
    let (told, log) = (json.json(), hdr.read());
    for (tag, count) in [("response", 12_000), ("service", 12_000), ("connect", 1200)] {
        let (told, logged) = (&told["latency"][tag], of_log(&log, tag));
        assert_eq!(told["count"], count, "{tag}: {told}");
        assert_eq!(told["count"], logged.len(), "{tag}");
        assert_eq!(told["max_ns"], logged.max(), "{tag}");
        for (name, quantile) in [("p50_ns", 0.5), ("p99_ns", 0.99)] {
            let logged = logged.value_at_quantile(quantile);
            assert_eq!(told[name], logged, "{tag} {name}");
        }
    }
    // What people read is what programs read.
    let number = |group: &str, name: &str| {
        let plain = told[group][name].to_string();
        let groups: Vec<&str> = plain
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(|three| str::from_utf8(three).unwrap())
            .collect();
        groups.join(",")
    };
    let connections = |name| number("connections", name);
    let messages = |name| number("messages", name);
    for line in [
        format!(
            "{} asked for, {} dialed, {} established, {} confirmed",
            connections("asked"),
            connections("dialed"),
            connections("established"),
            connections("confirmed")
        ),
        format!("{} open at the end", connections("open")),
        format!(
            "{} sent, {} echoed, {} verified",
            messages("sent"),
            messages("echoed"),
            messages("verified")
        ),
        format!(
            "loaded {} for {:.1}s",
            told["targets"][0].as_str().unwrap(),
            told["seconds"]["measured"].as_f64().unwrap()
        ),
        "p99<1h: met".to_owned(),
    ] {
        assert!(words.contains(&line), "no {line:?} in:\n{words}");
    }
    assert_eq!(told["slo"][0]["met"], true);
}

#[test]
fn targets_over_ipv6_are_loaded_like_any() {
    let server = Server::start_at("[::1]:0", &[]);
    let (tcp, udp) = (server.tcp().to_string(), format!("udp://{}", server.udp()));
    assert!(tcp.starts_with("[::1]:"), "{tcp}");
    let report = Report::of(&[&tcp, &udp, "-c", "4", "-n", "400", "--source", "::1"]);
    report.assert_all_is_well();
    assert_eq!(report.value["targets"][0], format!("tcp://{tcp}"));
    assert_eq!(report.value["udp_flows"].as_array().unwrap().len(), 2);
    server.stop();
}

/// An echo that notes who its callers are.
fn noting() -> (String, Arc<Mutex<Vec<SocketAddr>>>) {
    let callers: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let noted = Arc::clone(&callers);
    let address = tcp(move |stream, _| {
        noted.lock().unwrap().push(stream.peer_addr().unwrap());
        each_message(stream, |stream, _, bytes| say(stream, bytes));
    });
    (address, callers)
}

/// How many callers there were from each address.
fn by_address(callers: &Mutex<Vec<SocketAddr>>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for caller in callers.lock().unwrap().iter() {
        *counts.entry(caller.ip().to_string()).or_default() += 1;
    }
    counts
}

#[cfg(target_os = "linux")] // Elsewhere loopback has one address.
#[test]
fn sources_are_an_address_or_all_of_a_network_in_turn() {
    for (sources, expected) in [
        (&["127.0.0.7"][..], &[("127.0.0.7", 6)][..]),
        (&["127.9.0.0/30"], &[("127.9.0.1", 3), ("127.9.0.2", 3)]),
        (
            &["127.0.0.7", "127.9.0.0/30"],
            &[("127.0.0.7", 2), ("127.9.0.1", 2), ("127.9.0.2", 2)],
        ),
    ] {
        let (address, callers) = noting();
        let mut arguments = vec![&*address, "-c", "6", "-t", "2", "-n", "60"];
        for source in sources {
            arguments.extend(["--source", source]);
        }
        Report::of(&arguments).assert_all_is_well();
        let expected = expected
            .iter()
            .map(|(ip, count)| ((*ip).to_owned(), *count));
        assert_eq!(by_address(&callers), expected.collect(), "{sources:?}");
    }
}

#[test]
fn each_of_several_targets_has_its_share_of_the_connections() {
    let (one, at_one) = noting();
    let (two, at_two) = noting();
    let server = Server::start(&[]);
    let udp = format!("udp://{}", server.udp());
    // The first is given twice, and has twice as many.
    let arguments = [&*one, &two, &udp, &one, "-c", "12", "-t", "2", "-n", "120"];
    let report = Report::of(&arguments);
    report.assert_all_is_well();
    assert_eq!(at_one.lock().unwrap().len(), 6);
    assert_eq!(at_two.lock().unwrap().len(), 3);
    assert_eq!(report.value["udp_flows"].as_array().unwrap().len(), 3);
    server.stop();
}

#[test]
fn running_out_of_descriptors_is_named_and_counted_for_each() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_oread"));
    command.args(["load", "-c", "100", "-d", "200ms", "--force", "--json", "-"]);
    command.arg(tcp(|stream, _| {
        each_message(stream, |stream, _, bytes| say(stream, bytes));
    }));
    let report = Report::from(command);
    assert_eq!(report.exit_code(), 4);
    assert!(report.connections("confirmed") > 0);
    assert_eq!(report.error("EMFILE"), report.connections("failed"));
    assert_eq!(
        report.connections("confirmed") + report.connections("failed"),
        100
    );
}
