//! What `oread load` says and where: outputs that fail or take nothing, signals, the preflight, the
//! log; and that words, JSON and histograms of one run say the same.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::fs;
use std::io::{Read as _, Write as _};
#[cfg(unix)]
use std::os::{fd::OwnedFd, unix::net::UnixStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use load::cli::{LONG, oread, piped, signal, wait};
use load::{Next, Report, each_message, say, tcp};
use serde_json::Value;

#[test]
fn a_signal_ends_the_load_also_when_the_first_thread_has_ended_before() {
    let (ended, heard) = mpsc::channel();
    let ended = Mutex::new(ended);
    let address = tcp(move |stream, flow| {
        each_message(stream, |stream, message, bytes| {
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
    assert_eq!(wait(&mut child).code(), Some(130));
    let output = child.wait_with_output().unwrap();
    let report = Report::parse(&output.stdout, b"", Some(130));
    assert_eq!(report.messages("echoed"), 10);
    assert_eq!(report.value["ending"]["signal"], 2);
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
        assert_eq!(wait(&mut child).code(), Some(code));
        let output = child.wait_with_output().unwrap();
        let report = Report::parse(&output.stdout, b"", Some(code));
        assert!(report.messages("echoed") > 0, "{}", report.value);
    }
    // What is short is told there too.
    let (errors, _reading) = full();
    let mut command = oread("load");
    command.args(["-c", "4000000000"]).stderr(errors);
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    assert_eq!(wait(&mut child).code(), Some(4));
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
    let (mut child, _watchdog) = piped(&mut command);
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
        .args(["-c", "200", "-r", "4k", "-n", "12k", "-t", "2", "-q"])
        .args(["--json", json.path(), "--hdr", hdr.path()])
        .args(["--slo", "p99<1h"])
        .output()
        .unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{words}");
    let (told, log) = (json.json(), hdr.read());
    for (tag, count) in [("response", 12_000), ("service", 12_000), ("connect", 200)] {
        let (told, logged) = (&told["latency"][tag], of_log(&log, tag));
        assert_eq!(told["count"], count, "{tag}: {told}");
        assert_eq!(told["count"], logged.len(), "{tag}");
        assert_eq!(told["max_ns"], logged.max(), "{tag}");
        for (name, quantile) in [("p50_ns", 0.5), ("p99_ns", 0.99)] {
            // A p99 takes a thousand samples.
            if count > 200 || name == "p50_ns" {
                let logged = logged.value_at_quantile(quantile);
                assert_eq!(told[name], logged, "{tag} {name}");
            }
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
