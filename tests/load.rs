//! `oread load` end to end: messages over TCP, how long their answers take, and what it counts of
//! them.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use load::cli::Server;
use load::{Next, Report, each_message, interrupted, say, tcp};

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
    let begun = Instant::now();
    let report = Report::of(&[&address, "-c", "4", "-n", "40"]);
    let elapsed = begun.elapsed();
    report.assert_all_is_well();
    // Four wait for an answer at a time: together no longer than four times the whole run.
    let mean = report.ms("response", "mean_ns");
    assert!(
        mean * 40.0 <= 4e3 * elapsed.as_secs_f64(),
        "{}",
        report.value
    );
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
    // 4,000 of 10,000 were due in that second, one each quarter of a millisecond: the slowest
    // hundredth of all waited for 975 ms and more.
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
    // It confirms the connection, then does not read for longer than is measured: 15 MB are more
    // than the buffers take.
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
fn a_number_of_messages_is_sent_however_slow_its_schedule() {
    // The steps are longer than anything is waited for.
    let timeouts = ["--message-timeout", "50ms", "--connect-timeout", "50ms"];
    let report = Report::of(&[&["-c", "1", "-R", "4", "-n", "4", "-q"], &timeouts[..]].concat());
    assert_eq!(report.exit_code(), 0, "{}", report.value);
    assert_eq!(report.messages("sent"), 4);
}

#[test]
fn a_number_of_messages_that_nobody_takes_is_unsent() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let report = Report::of(&["-c", "2", "-n", "100", "-q", &address]);
    assert_eq!(report.exit_code(), 4, "{}", report.value);
    assert_eq!(report.messages("unsent"), 100);
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
    let short: [&[&str]; 13] = [
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
        &["-c", "2", "--idle", "--heartbeat", "1ns", "-d", "50ms"],
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
    let off = Report::of(&[&address, "-c", "1", "-n", "100", "--verify", "off"]);
    assert_eq!(off.messages("echoed"), 100);
    assert!(off.number("bytes", "surplus") > 0, "{}", off.value);
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
fn a_connection_that_is_full_sends_what_it_owes_when_it_has_room_again() {
    // Each of four fills the connection by itself, and thinks for longer than the run after it.
    let arguments = [
        "-c", "1", "--depth", "4", "-s", "1MiB", "--think", "1h", "-d", "2s",
    ];
    let report = Report::of(&arguments);
    report.assert_all_is_well();
    assert_eq!(report.messages("sent"), 4, "{}", report.value);
}

#[test]
fn what_is_sent_to_warm_up_is_in_no_figure() {
    let report = Report::of(&["-c", "2", "-R", "100", "--warmup", "500ms", "-n", "50"]);
    report.assert_all_is_well();
    assert_eq!(report.messages("sent"), 50);
    assert_eq!(report.messages("unmeasured"), 2 + 50);
    assert_eq!(report.value["latency"]["response"]["count"], 50);
}

#[test]
fn a_signal_ends_the_load_and_the_report_comes_all_the_same() {
    for (name, traffic) in [("INT", ["--depth", "1"]), ("TERM", ["-R", "100"])] {
        let report = interrupted(
            name,
            &[&["-c", "4", "-d", "10m", "-t", "2"], &traffic[..]].concat(),
        );
        assert!(report.messages("echoed") > 0);
        assert_eq!(report.connections("open"), 4);
        assert_eq!(report.connections("missing"), 0);
        let measured = report.value["seconds"]["measured"].as_f64().unwrap();
        assert!(measured > 0.0 && measured < 600.0, "{}", report.value);
    }
}
