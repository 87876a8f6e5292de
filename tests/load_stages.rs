//! `oread load` with a rate, or connections, that change over time, against servers that keep books
//! of their own.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load::cli::oread;
use load::{Next, Report, each_message, say, tcp};

/// What a server knows.
#[derive(Default)]
struct Books {
    accepted: AtomicU64,
    open: AtomicU64,
    peak: AtomicU64,
    /// When each message came.
    came: Mutex<Vec<Instant>>,
}

/// An echo server; `hangs_up` says on which connection and message it does.
fn server(hangs_up: impl Fn(usize, usize) -> bool + Send + Sync + 'static) -> (String, Arc<Books>) {
    let books = Arc::new(Books::default());
    let kept = Arc::clone(&books);
    let address = tcp(move |stream, place| {
        books.accepted.fetch_add(1, Ordering::SeqCst);
        let open = books.open.fetch_add(1, Ordering::SeqCst) + 1;
        books.peak.fetch_max(open, Ordering::SeqCst);
        each_message(stream, |stream, index, message| {
            books.came.lock().unwrap().push(Instant::now());
            match hangs_up(place, index) {
                true => Next::Close,
                false => say(stream, message),
            }
        });
        books.open.fetch_sub(1, Ordering::SeqCst);
    });
    (address, kept)
}

#[test]
fn each_stage_has_what_it_asked_for_and_none_is_lost_where_two_meet() {
    let (address, books) = server(|_, _| false);
    let stages = "400ms:500,600ms:500..1500,1500ms:0,500ms:1000..0";
    let report = Report::of(&[&address, "-c", "4", "-t", "2", "--stages", stages]);
    // 200, 600, none and 250.
    assert_eq!(report.messages("sent") + report.messages("unsent"), 1050);
    report.assert_all_is_well();
    assert_eq!(books.came.lock().unwrap().len() as u64, 1050 + 4);
    let told = report.value["stages"].as_array().unwrap();
    let sum = |name: &str| {
        told.iter()
            .map(|it| it[name].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((told.len(), sum("sent")), (4, 1050));
    assert_eq!(sum("answered"), report.messages("in_time"));
    // The mean over all of it is what the rate is held against.
    let asked = report.value["rate"]["asked"].as_f64().unwrap();
    assert!((asked - 350.0).abs() < 1e-9, "{asked}");
    assert_eq!(told[1]["rate"]["mean"], 1000.0);
    assert!(told[3]["p50_ns"].as_u64().is_some(), "{told:?}");
    // In the pause nothing is sent, however late what was due before it.
    let came = books.came.lock().unwrap().clone();
    let gaps = came.windows(2).map(|two| two[1] - two[0]);
    assert!(gaps.max().unwrap() > Duration::from_millis(300), "no pause");
}

#[test]
fn random_arrivals_follow_the_stages_too() {
    let (address, _) = server(|_, _| false);
    let stages = ["--stages", "1s:200,1s:0,1s:2k", "--arrivals", "poisson"];
    let report = Report::of(&[&[&*address, "-c", "4", "--seed", "3"], &stages[..]].concat());
    let sent = |place: usize| report.value["stages"][place]["sent"].as_u64().unwrap();
    // By that seed; a little may be sent late, in the next stage.
    assert!(
        (140..=260).contains(&(sent(0) + sent(1))),
        "{}",
        report.value["stages"]
    );
    assert!(
        (1800..=2200).contains(&sent(2)),
        "{}",
        report.value["stages"]
    );
}

#[test]
fn connections_come_and_go_as_the_stages_say() {
    let (address, books) = server(|_, _| false);
    let stages = "300ms:2,600ms:2..20,300ms:20,600ms:20..5,300ms:5,300ms:8";
    let traffic = ["--idle", "--heartbeat", "50ms", "-t", "2"];
    let report = Report::of(&[&[&*address, "--connection-stages", stages], &traffic[..]].concat());
    assert_eq!(report.exit_code(), 0, "{}{}", report.value, report.log);
    // 2, 18 more, and 3 more when there had been 5.
    let ledger = |name| report.connections(name);
    assert_eq!(
        (ledger("asked"), ledger("dialed"), ledger("confirmed")),
        (23, 23, 23)
    );
    assert_eq!(
        (ledger("closed"), ledger("open"), ledger("missing")),
        (15, 8, 0)
    );
    assert_eq!(ledger("peak_confirmed"), 20);
    assert_eq!(books.accepted.load(Ordering::SeqCst), 23);
    let peak = books.peak.load(Ordering::SeqCst);
    assert!((20..=23).contains(&peak), "{peak}");
    let open: Vec<u64> = report.value["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["open"].as_u64().unwrap())
        .collect();
    assert_eq!(
        (open.len(), open[0], open[4], open[5]),
        (6, 2, 5, 8),
        "{open:?}"
    );
    assert!(report.errors().is_empty(), "{}", report.value);
}

#[test]
fn a_connection_that_is_lost_on_the_way_is_missing_though_there_are_to_be_fewer() {
    let (address, books) = server(|place, index| place == 3 && index == 2);
    let stages = [
        "--connection-stages",
        "500ms:6,500ms:6..1",
        "--idle",
        "--heartbeat",
        "50ms",
    ];
    let report = Report::of(&[&[&*address], &stages[..]].concat());
    assert_eq!(
        (report.exit_code(), report.connections("missing")),
        (4, 1),
        "{}",
        report.value
    );
    assert_eq!(
        (report.connections("closed"), report.connections("open")),
        (4, 1)
    );
    assert_eq!(books.accepted.load(Ordering::SeqCst), 6);
    // With --reconnect another takes its place, and nothing is missing.
    let (address, books) = server(|place, index| place == 3 && index == 2);
    let report = Report::of(&[&[&*address, "--reconnect"], &stages[..]].concat());
    assert_eq!(
        (report.exit_code(), report.connections("missing")),
        (0, 0),
        "{}",
        report.value
    );
    assert_eq!(
        (report.connections("closed"), report.connections("open")),
        (5, 1)
    );
    assert_eq!(books.accepted.load(Ordering::SeqCst), 7);
}

#[test]
fn a_load_may_begin_and_end_without_a_connection() {
    let (address, books) = server(|_, _| false);
    let report = Report::of(&[&address, "--connection-stages", "400ms:0..4,400ms:4..0"]);
    assert_eq!(report.exit_code(), 0, "{}{}", report.value, report.log);
    assert_eq!(
        (report.connections("asked"), report.connections("open")),
        (4, 0)
    );
    assert_eq!(books.accepted.load(Ordering::SeqCst), 4);
    assert!(report.messages("sent") > 0);
}

#[test]
fn stages_that_do_not_go_together_are_refused() {
    for (arguments, words) in [
        ("--stages 1s:5 -R 5", "cannot be used with"),
        ("--stages 1s:5 -d 5s", "cannot be used with"),
        ("--stages 1s:5 -n 5", "cannot be used with"),
        ("--stages 1s:5 --idle", "cannot be used with"),
        ("--stages 1s:5 --depth 2", "cannot be used with"),
        ("--stages 1s:5 --warmup 1s", "cannot be used with"),
        ("--connection-stages 1s:5 -c 5", "cannot be used with"),
        ("--connection-stages 1s:5 --churn 5", "cannot be used with"),
        ("--connection-stages 1s:5 -n 5", "cannot be used with"),
        ("--connection-stages 1s:5 udp://127.0.0.1:9", "for streams"),
        (
            "--connection-stages 1s:5..500 -r 100",
            "add --connect-rate 495",
        ),
        (
            "--connection-stages 1s:1 -t 2",
            "is more than --connections 1",
        ),
        (
            "--connection-stages 1s:5 --stages 2s:5",
            "the same durations",
        ),
        ("--stages 1s:5,2s", "stage '2s': it has no :"),
        ("--stages 1s:5 --slo rate>6", "can't be met"),
        ("--arrivals poisson", "add --rate or --stages"),
    ] {
        let output = oread("load").args(arguments.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(words), "{arguments}: {said}");
    }
}
