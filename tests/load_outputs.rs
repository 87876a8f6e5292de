//! What `oread load` says and where: outputs that fail or take nothing, signals, the preflight, the
//! log; and that words, JSON and histograms of one run say the same.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;
#[path = "common/scratch.rs"]
mod scratch;

use std::fs;
use std::io::{Read as _, Write as _};
#[cfg(unix)]
use std::os::{fd::OwnedFd, unix::net::UnixStream};
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
use scratch::Scratch;
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
    assert!(words.contains("20 sent, 20 answered"), "{words}");
    assert!(errors.contains("can't write /dev/full"), "{errors}");
    assert!(hdr.read().starts_with(b"#"));
    let (code, words, errors) = run(&["--json", json.path(), "--hdr", "/dev/full"]);
    assert_eq!((code, &json.json()["exit_code"]), (Some(1), &1.into()));
    assert!(words.contains("20 sent, 20 answered"), "{words}");
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
    assert!(words.starts_with("exit code 130 interrupted"), "{words}");
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
    assert!(told["environment"]["began"].is_null(), "{told}");
    let connections = &told["connections"];
    assert_eq!(connections["missing"], 4_000_000_000_u64);
    assert_eq!(connections["missing"], connections["asked"]);
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
}

#[test]
fn the_doctor_ends_with_whether_this_machine_allows_so_many_connections() {
    for (arguments, code, end) in [
        ("-c 10", 0, "allows 10 connections\n"),
        (
            "-c 10 127.0.0.1:9",
            0,
            "allows 10 connections; the target is not asked\n",
        ),
        (
            "-c 4000000000",
            4,
            "does not allow 4,000,000,000 connections\n",
        ),
    ] {
        let output = oread("doctor").args(arguments.split(' ')).output().unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{table}");
        assert!(table.ends_with(&format!("\nthis machine {end}")), "{table}");
        assert_eq!(table.contains("SHORT"), code == 4, "{table}");
    }
}

/// A server that answers the first message of each connection, which confirms it, and no other one.
fn mute() -> String {
    tcp(|stream, _| {
        each_message(stream, |stream, message, bytes| match message {
            0 => say(stream, bytes),
            _ => Next::Message,
        });
    })
}

#[test]
fn a_second_signal_leaves_no_file_that_is_empty() {
    let folder = Scratch::new("twice");
    fs::create_dir(&folder.0).unwrap();
    let (json, hdr) = (folder.0.join("x.json"), folder.0.join("x.hlog"));
    // The first one stops the load, which waits for a second then. On a busy machine that may be
    // over before the next one comes.
    for _ in 0..20 {
        let mut command = oread("load");
        command.args([&mute(), "-c", "1", "-d", "10m", "--message-timeout", "10m"]);
        command.arg("--json").arg(&json).arg("--hdr").arg(&hdr);
        let (mut child, _watchdog) = piped(&mut command);
        child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        while child.try_wait().unwrap().is_none() {
            signal(child.id(), "INT");
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let has_ended_it = !json.exists() && !hdr.exists();
        for file in [&json, &hdr].into_iter().filter(|file| file.exists()) {
            assert!(file.metadata().unwrap().len() > 0);
        }
        fs::remove_dir_all(&folder.0).unwrap();
        if has_ended_it {
            return;
        }
        fs::create_dir(&folder.0).unwrap();
    }
    panic!("no second signal has ended it");
}

#[test]
fn a_file_is_replaced_whole_and_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let (json, link) = (Scratch::new("old.json"), Scratch::new("link.json"));
    fs::write(&json.0, "old").unwrap();
    fs::set_permissions(&json.0, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&json.0, &link.0).unwrap();
    let mut command = oread("load");
    command.args(["-c", "1", "-n", "10", "-q", "--json", link.path()]);
    assert_eq!(command.output().unwrap().status.code(), Some(0));
    assert_eq!(json.json()["messages"]["echoed"], 10);
    let mode = fs::metadata(&json.0).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link.0).unwrap().is_symlink());
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_stays_and_the_file_comes_about() {
    let folder = Scratch::new("links");
    fs::create_dir_all(folder.0.join("below")).unwrap();
    let place = |name: &str| folder.0.join(name);
    std::os::unix::fs::symlink("below/second", place("first")).unwrap();
    std::os::unix::fs::symlink("../x.json", place("below/second")).unwrap();
    let mut command = oread("load");
    command.args(["-c", "1", "-n", "10", "-q", "--json"]);
    let output = command.arg(place("first")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for link in ["first", "below/second"] {
        assert!(fs::symlink_metadata(place(link)).unwrap().is_symlink());
    }
    let told = fs::read(place("x.json")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["messages"]["echoed"], 10);
    fs::remove_dir_all(&folder.0).unwrap();
}

#[test]
fn a_report_to_a_pipe_without_a_name_whose_reader_has_left_is_an_error_at_once() {
    let mut command = oread("load");
    command.args(["-c", "1", "-n", "10", "--json", "/dev/stdout"]);
    let (mut child, _watchdog) = piped(&mut command);
    drop(child.stdout.take());
    assert_eq!(wait(&mut child).code(), Some(1));
    let mut told = String::new();
    child.stderr.unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("can't write /dev/stdout"), "{told}");
}

#[test]
fn a_report_to_a_named_pipe_waits_for_its_reader_and_is_not_waited_for() {
    use std::os::unix::fs::OpenOptionsExt as _;
    let (pipe, second) = (Scratch::new("pipe"), Scratch::new("pipe.hlog"));
    let mut mkfifo = std::process::Command::new("mkfifo");
    let made = mkfifo.arg(&pipe.0).arg(&second.0).status();
    assert!(made.unwrap().success());
    let begin = || {
        let mut command = oread("load");
        command.args(["-c", "1", "-n", "10", "--json", pipe.path()]);
        piped(&mut command)
    };
    let echoed =
        |told: &str| serde_json::from_str::<Value>(told).unwrap()["messages"]["echoed"].clone();
    // A reader that is there before: without waiting for a writer.
    let mut options = fs::OpenOptions::new();
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let reading = options.read(true).custom_flags(nonblocking).open(&pipe.0);
    let (mut child, _watchdog) = begin();
    assert_eq!(wait(&mut child).code(), Some(0));
    let mut told = String::new();
    reading.unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(echoed(&told), 10);
    // And one that comes when all else is over.
    let waits = |child: &mut std::process::Child| {
        let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("waiting for a reader of ") {
            line.clear();
            let read = std::io::BufRead::read_line(&mut log, &mut line).unwrap();
            assert!(read > 0, "it ended without a word");
        }
        log
    };
    let (mut child, _watchdog) = begin();
    let _log = waits(&mut child);
    assert_eq!(echoed(&fs::read_to_string(&pipe.0).unwrap()), 10);
    assert_eq!(wait(&mut child).code(), Some(0));
    // The first signal ends the waiting, for all of them.
    let mut command = oread("load");
    command.args(["-c", "1", "-n", "10"]);
    command.args(["--json", pipe.path(), "--hdr", second.path()]);
    let (mut child, _watchdog) = piped(&mut command);
    let mut log = waits(&mut child);
    let begun = std::time::Instant::now();
    signal(child.id(), "INT");
    assert_eq!(wait(&mut child).code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(20), "it waited on");
    let mut said = String::new();
    log.read_to_string(&mut said).unwrap();
    assert!(said.contains("SIGINT came before all was read"), "{said}");
}

#[test]
fn a_standard_output_that_is_closed_is_refused_and_not_one_that_goes_nowhere() {
    let json = Scratch::new("closed.json");
    let run = |rest: &str| {
        let script = format!("exec \"$0\" load -c 1 -n 10 {rest}");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_oread")]);
        command.env_remove("RUST_LOG").env("JSON", json.path());
        let output = command.output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), errors)
    };
    for rest in [">&-", "--json - >&-"] {
        let (code, errors) = run(rest);
        assert_eq!(code, Some(1), "{rest}: {errors}");
        assert!(errors.contains("standard output is closed"), "{errors}");
    }
    for rest in [">/dev/null", "--json \"$JSON\" >&-"] {
        let (code, errors) = run(rest);
        assert_eq!(code, Some(0), "{rest}: {errors}");
    }
    assert_eq!(json.json()["messages"]["echoed"], 10);
    // A file that something else writes to as well is not taken away from it.
    let (code, _) = run("-v --json /dev/stderr 2>\"$JSON\"");
    let log = String::from_utf8(json.read()).unwrap();
    assert!(
        code == Some(0) && log.contains("confirmed by an answer"),
        "{log}"
    );
    assert!(log.contains("\"exit_code\":0"), "{log}");
}

/// What a load says on a terminal of 60 columns, by script(1) of util-linux; `None` without that.
fn on_a_terminal(arguments: &str, no_color: &str) -> Option<String> {
    let version = std::process::Command::new("script")
        .arg("--version")
        .output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("util-linux")) {
        println!("skipped: there is no script(1) of util-linux to give it a terminal");
        return None;
    }
    let program = env!("CARGO_BIN_EXE_oread");
    let line = format!("stty rows 24 cols 60; '{program}' load -q {arguments}");
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]);
    command.env("TERM", "xterm").env("NO_COLOR", no_color);
    for name in ["RUST_LOG", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn on_a_terminal_the_report_has_its_width_and_colours_for_what_went_wrong() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let gate = "--slo 'p99<1h' --slo 'errors<1%'";
    let arguments = format!("{address} -c 20 -d 100ms {gate}");
    for (color, no_color, red) in [
        ("", "", true),
        ("", "1", false),
        ("--color never", "", false),
        ("--color always", "1", true),
    ] {
        let Some(text) = on_a_terminal(&format!("{arguments} {color}"), no_color) else {
            return;
        };
        assert_eq!(
            text.contains("\x1b[31m"),
            red,
            "{color} {no_color}: {text:?}"
        );
        let plain = |line: &str| {
            let mut parts = line.split('\x1b');
            let first = parts.next().unwrap_or_default().to_owned();
            let behind = |part: &str| part.split_once('m').unwrap_or_default().1.to_owned();
            first + &parts.map(behind).collect::<String>()
        };
        let lines: Vec<String> = text.lines().map(plain).collect();
        let (command, lines) = lines.split_last().unwrap();
        assert!(command.contains("oread"), "{text}");
        for line in lines {
            assert!(
                line.trim_end().chars().count() <= 60,
                "{line:?} in:\n{text}"
            );
        }
        assert!(text.contains("oread serve"), "{text}");
    }
    // No terminal, no colours, unless they are asked for.
    for (color, red) in [("auto", false), ("always", true)] {
        let mut command = oread("load");
        command.args(arguments.split(" --slo").next().unwrap().split(' '));
        command
            .args(["-q", "--color", color])
            .env_remove("CLICOLOR_FORCE");
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert_eq!(text.contains("\x1b[31m"), red, "{color}: {text}");
    }
}

#[test]
fn a_message_is_sent_with_its_escapes() {
    let (heard, hears) = mpsc::channel();
    let heard = Mutex::new(heard);
    let address = tcp(move |mut stream, _| {
        let mut bytes = [0; 8];
        while stream.read_exact(&mut bytes).is_ok() {
            heard.lock().unwrap().send(bytes.to_vec()).unwrap();
            say(&mut stream, &bytes);
        }
    });
    let message = r"PING\r\n\x00\\";
    let report = Report::of(&[&address, "-c", "1", "-n", "1", "--message", message]);
    report.assert_all_is_well();
    assert_eq!(hears.recv_timeout(LONG).unwrap(), b"PING\r\n\0\\");
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
            "{} sent, {} answered, {} verified",
            messages("sent"),
            messages("echoed"),
            messages("verified")
        ),
        format!("loaded       {} for ", told["targets"][0].as_str().unwrap()),
        "exit code 0  all 200 connections were there at the end, and all gates are met".to_owned(),
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
        ": dials ",
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
