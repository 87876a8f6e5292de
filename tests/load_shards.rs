//! One load by several processes: each does its part, and together they do all of it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;
#[path = "common/scratch.rs"]
mod scratch;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use load::cli::oread;
use load::{Report, each_message, say, tcp};
use scratch::Scratch;

/// Messages of each connection, by its place in the order of all.
type Books = Arc<Mutex<BTreeMap<usize, u64>>>;

/// A server that answers, and counts for itself.
fn server() -> (String, Books) {
    let books = Books::default();
    let kept = Arc::clone(&books);
    let address = tcp(move |stream, place| {
        books.lock().unwrap().insert(place, 0);
        each_message(stream, |stream, _, bytes| {
            *books.lock().unwrap().get_mut(&place).unwrap() += 1;
            say(stream, bytes)
        });
    });
    (address, kept)
}

/// Runs all shards of a load at a time, each with a thread of its own and one more; their reports.
fn shards(of: u32, arguments: &[&str]) -> Vec<Report> {
    let children: Vec<Child> = (0..of)
        .map(|index| {
            let mut command = oread("load");
            command.args(["-q", "--json", "-", "--shard", &format!("{index}/{of}")]);
            command.args(arguments);
            let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
            piped.spawn().unwrap()
        })
        .collect();
    let ended = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap());
    ended
        .map(|it| Report::parse(&it.stdout, &it.stderr, it.status.code()))
        .collect()
}

fn sum(reports: &[Report], count: impl Fn(&Report) -> u64) -> u64 {
    reports.iter().map(count).sum()
}

#[test]
fn shards_do_together_exactly_what_was_asked_for_of_all() {
    let (address, books) = server();
    // Neither is a multiple of the six threads of all shards.
    let reports = shards(3, &["-c", "20", "-n", "1000", "-t", "2", &address]);
    for (index, report) in reports.iter().enumerate() {
        assert_eq!(report.exit_code(), 0, "{}", report.value);
        report.assert_balanced();
        assert_eq!(report.value["shard"]["index"], index);
        assert_eq!(report.value["shard"]["of"], 3);
        let (asked, sent) = (report.connections("asked"), report.messages("sent"));
        assert!((6..=7).contains(&asked), "{asked} connections");
        assert!((333..=334).contains(&sent), "{sent} messages");
    }
    assert_eq!(sum(&reports, |it| it.connections("asked")), 20);
    assert_eq!(sum(&reports, |it| it.connections("established")), 20);
    assert_eq!(sum(&reports, |it| it.messages("sent")), 1000);
    let books = books.lock().unwrap();
    assert_eq!(books.len(), 20);
    let unmeasured = sum(&reports, |it| it.messages("unmeasured"));
    assert_eq!(books.values().sum::<u64>(), 1000 + unmeasured);
}

#[test]
fn a_rate_is_shared_out_and_a_shard_is_held_against_its_part() {
    let (address, _) = server();
    let reports = shards(3, &["-c", "6", "-R", "100", "-d", "2s", &address]);
    for report in &reports {
        assert_eq!(report.exit_code(), 0, "{}", report.value);
        let asked = report.value["rate"]["asked"].as_f64().unwrap();
        assert!((asked - 100.0 / 3.0).abs() < 0.01, "{asked}");
    }
    let due = |it: &Report| it.messages("sent") + it.messages("unsent");
    assert_eq!(sum(&reports, due), 200);
}

#[test]
fn the_engine_says_which_shard_it_is_and_files_are_named_after_it() {
    let (address, _) = server();
    let folder = Scratch::new("shards");
    std::fs::create_dir(&folder.0).unwrap();
    let file = |name: &str| folder.0.join(name);
    let names = file("run-{shard}.json");
    for (variables, arguments, by) in [
        (
            &[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")][..],
            "",
            "Slurm",
        ),
        (
            &[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")],
            "",
            "Open MPI",
        ),
        (&[("PMI_RANK", "1"), ("PMI_SIZE", "2")], "", "PMI"),
        (&[("JOB_COMPLETION_INDEX", "1")], "--shard=/2", "Kubernetes"),
    ] {
        let mut command = oread("load");
        command
            .args(["-q", "-c", "3", "-n", "30", &address, "--json"])
            .arg(&names);
        command.args(arguments.split_whitespace());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{by}: {output:?}");
        let words = String::from_utf8(output.stdout).unwrap();
        let said = format!("1 of 2, counted from 0, as {by} says");
        assert!(words.contains(&said), "{words}");
        let report = std::fs::read(file("run-1.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["shard"]["by"], by);
        assert_eq!(report["messages"]["sent"], 15);
        assert_eq!(report["connections"]["asked"], 1);
    }
    std::fs::remove_dir_all(&folder.0).unwrap();
}

#[test]
fn a_shard_that_makes_no_sense_is_refused() {
    for (arguments, said) in [
        ("--shard 2/2", "the last of 2 is 1"),
        ("--shard /2", "no engine says"),
        ("--shard 3/4 -c 3", "has none of the 3 connections"),
        (
            "--shard 0/4 -c 8 -t 3",
            "--threads 3 is more than --connections",
        ),
    ] {
        let output = oread("load").args(arguments.split(' ')).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert!(stderr.contains(said), "{arguments}: {stderr}");
    }
}

#[test]
fn connections_are_there_before_a_start_and_nothing_else_is_sent() {
    let first = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&first);
    let address = tcp(move |stream, _| {
        each_message(stream, |stream, message, bytes| {
            if message > 0 {
                first.lock().unwrap().get_or_insert_with(SystemTime::now);
            }
            say(stream, bytes)
        });
    });
    let start = SystemTime::now() + Duration::from_millis(2500);
    let time = humantime::format_rfc3339_nanos(start).to_string();
    let arguments = [
        "-c",
        "4",
        "-R",
        "100",
        "-d",
        "300ms",
        "--start-at",
        &time,
        &address,
    ];
    for report in shards(2, &arguments) {
        report.assert_balanced();
        assert_eq!(report.connections("confirmed"), 2, "{}", report.value);
        let (asked, late) = (
            &report.value["start"]["at"],
            &report.value["start"]["late_ns"],
        );
        let asked = humantime::parse_rfc3339(asked.as_str().unwrap()).unwrap();
        // To the millisecond.
        assert!(asked <= start && start - Duration::from_millis(1) <= asked);
        // On a machine that is too busy to open them in time it says so.
        let is_late = late.as_u64().is_some_and(|late| late > 0);
        let told = report.value["warnings"].to_string();
        assert_eq!(is_late, told.contains("later than --start-at"), "{told}");
    }
    let first = kept.lock().unwrap().unwrap();
    assert!(
        first >= start,
        "{:?} before it",
        start.duration_since(first)
    );
}

#[test]
fn a_start_that_has_passed_is_refused_and_a_signal_ends_the_wait_for_one() {
    let output = oread("load")
        .args(["--start-at", "2001-02-03T04:05:06Z"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("--start-at was"), "{stderr}");
    let (address, _) = server();
    let report = load::interrupted("INT", &["-c", "2", "--start-at", "+1h", &address]);
    assert_eq!(report.exit_code(), 130, "{}", report.value);
    assert_eq!(report.connections("confirmed"), 2);
    assert_eq!(report.messages("sent"), 0);
}
