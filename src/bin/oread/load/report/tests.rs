//! The report of made-up runs: that its three forms agree, and how it is laid out. What it says of
//! connections, messages and gates, and what it warns of, has a file each.

mod connections;
mod gates;
mod messages;
mod warnings;

use std::io::Cursor;
use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::*;
use crate::load::count::{BySecond, Datagrams, Ledger, Partial, StoodStill, Tally, ThreadUse};
use crate::values::units::short;

/// A run of ten seconds with 10,000 responses of 1 to 10,000 microseconds.
fn outcome(arguments: &str) -> Outcome {
    let mut tally = Tally::default();
    tally.connections.asked = 100;
    tally.connections.dialed = 100;
    tally.connections.established = 100;
    tally.connections.confirmed = 100;
    tally.connections.peak_confirmed = 100;
    tally.connections.open = 100;
    tally.messages.sent = 10_000;
    tally.messages.echoed = 10_000;
    tally.messages.in_time = 10_000;
    tally.messages.verified = 10_000;
    for us in 1..=10_000 {
        tally.latency.response.record(us * 1000).unwrap();
        tally.latency.service.record(us * 1000).unwrap();
    }
    let targets = vec!["tcp://127.0.0.1:1".to_owned()];
    Outcome {
        began: Some(std::time::UNIX_EPOCH + Duration::from_millis(1_500)),
        measured_from: Some(std::time::UNIX_EPOCH + Duration::from_millis(2_500)),
        ending: Ending::Done,
        tally,
        ramp: Duration::from_secs(1),
        measured: Duration::from_secs(10),
        ..Outcome::not_begun(&Load::of(arguments), targets, Vec::new())
    }
}

fn all(outcome: &Outcome) -> (String, serde_json::Value, Vec<u8>, u8) {
    let judgement = Judgement::of(outcome, None);
    let json = json::report(outcome, &judgement);
    (
        text::report(Page::new(None, false), outcome, &judgement),
        serde_json::from_str(&json).unwrap(),
        hdr::log(outcome).unwrap(),
        judgement.exit_code(),
    )
}

fn of_log(log: &[u8], wanted: &str) -> Histogram<u64> {
    for entry in IntervalLogIterator::new(log) {
        if let LogEntry::Interval(interval) = entry.unwrap()
            && interval.tag().is_some_and(|tag| tag.as_str() == wanted)
        {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(interval.encoded_histogram())
                .unwrap();
            return Deserializer::new()
                .deserialize(&mut Cursor::new(bytes))
                .unwrap();
        }
    }
    panic!("no {wanted} in the log");
}

#[test]
fn words_json_and_histograms_agree() {
    let (text, json, log, code) = all(&outcome(""));
    assert_eq!((code, &json["exit_code"]), (0, &0.into()));
    let logged = of_log(&log, "response");
    let response = &json["latency"]["response"];
    for (name, quantile) in [("p50_ns", 0.5), ("p99_ns", 0.99), ("p99_9_ns", 0.999)] {
        let value = response[name].as_u64().unwrap();
        assert_eq!(value, logged.value_at_quantile(quantile), "{name}");
        assert!(
            text.contains(&short(value)),
            "{name} {} in:\n{text}",
            short(value)
        );
    }
    assert_eq!(response["count"], logged.len());
    assert_eq!(response["max_ns"], logged.max());
    assert!(text.contains("10,000 sent, 10,000 answered"), "{text}");
    assert!(
        text.contains("a stall shows in few samples: use -R"),
        "{text}"
    );
    assert!(text.contains("1,000/s answered"), "{text}");
    assert_eq!(json["rate"]["reached"], 1000.0);
}

#[test]
fn the_report_for_programs_says_when_the_run_began_in_utc() {
    let (_, json, ..) = all(&outcome(""));
    assert_eq!(json["environment"]["began"], "1970-01-01T00:00:01.500Z");
}

#[test]
fn a_time_beyond_the_histograms_is_told_as_that() {
    let mut run = outcome("");
    for hours in [2, 3] {
        let time = Duration::from_secs(hours * 3600);
        crate::load::count::record(&mut run.tally.latency.response, time);
    }
    let (text, json, ..) = all(&run);
    let response = &json["latency"]["response"];
    assert_eq!(response["over_an_hour"], 2);
    assert_eq!(response["count"], 10_002);
    assert!(text.contains("(2 of these took over an hour"), "{text}");
    let (text, json, ..) = all(&outcome(""));
    assert_eq!(json["latency"]["response"]["over_an_hour"], 0);
    assert!(!text.contains("hour"), "{text}");
}

#[test]
fn a_percentile_that_too_few_samples_carry_is_not_told() {
    let (text, json, ..) = all(&outcome(""));
    // One sample in ten thousand lies beyond it.
    assert!(json["latency"]["response"]["p99_99_ns"].is_null());
    let row = text
        .lines()
        .find(|line| line.starts_with("  round trip"))
        .unwrap();
    assert!(row.contains(" - "), "{row}");
}

#[test]
fn of_several_exit_codes_the_first_in_their_order_is_given() {
    let mut run = outcome("--slo p99<1us");
    assert_eq!(all(&run).3, 3);
    run.tally.connections.asked = 101;
    assert_eq!(all(&run).3, 4);
    run.tally.messages.corrupt = 1;
    assert_eq!(all(&run).3, 5);
    run.ending = Ending::Failed("out of luck".to_owned());
    assert_eq!(all(&run).3, 1);
    run.ending = Ending::Interrupted(2);
    assert_eq!(all(&run).3, 130);
}

#[test]
fn counts_that_do_not_add_up_are_a_failure() {
    let mut run = outcome("");
    run.tally.messages.sent += 1;
    let (text, json, _, code) = all(&run);
    assert_eq!(code, 1);
    assert!(
        text.starts_with("exit code 1  a fault of this program"),
        "{text}"
    );
    assert!(json["imbalance"].is_string());
}

/// One thread, of ten seconds.
fn thread(cpu_ms: u64, waited_ms: u64) -> ThreadUse {
    ThreadUse {
        cpu: Duration::from_millis(cpu_ms),
        waited: Duration::from_millis(waited_ms),
        wall: Duration::from_secs(10),
    }
}

/// A run at a steady rate, in which each hundredth message was sent so late by our own doing.
fn late(ns: u64, samples: u64) -> Outcome {
    let mut run = outcome("-R 1k --slo valid");
    let schedule = &mut run.tally.schedule;
    for histogram in [&mut schedule.pacing_error, &mut schedule.own_lag] {
        let few = (samples / 50).max(1);
        histogram.record_n(10_000, samples - few).unwrap();
        histogram.record_n(ns, few).unwrap();
    }
    run.tally.threads = vec![thread(6_000, 0)];
    run
}

#[test]
fn a_log_begins_with_its_version_and_when_measuring_began() {
    let (_, _, log, _) = all(&outcome(""));
    let text = String::from_utf8(log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "#[Histogram log format version 1.3]");
    assert!(
        lines.contains(&"#[StartTime: 2.500 (seconds since epoch)]"),
        "{text}"
    );
    let legend = lines
        .iter()
        .position(|line| line.starts_with("\"StartTimestamp\","));
    let first = lines.iter().position(|line| line.starts_with("Tag="));
    assert_eq!(legend.map(|at| at + 1), first, "{text}");
}

#[test]
fn lines_of_nothing_but_zeros_are_left_out() {
    let mut run = outcome("");
    run.tally.bytes.sent_in_time = 640_000;
    run.tally.bytes.received_in_time = 640_000;
    let (text, ..) = all(&run);
    let about = |line: &str| line.chars().take(13).collect::<String>();
    let labels: Vec<String> = text.lines().map(about).collect();
    let (_, behind) = text.split_once('\n').unwrap();
    assert!(!behind.contains(" 0 "), "{text}");
    assert_eq!(labels[2].trim_end(), "connections", "{text}");
    assert_eq!(labels[3].trim_end(), "messages", "{text}");
    assert_eq!(labels[4].trim_end(), "rate", "{text}");
    let mut idle = outcome("--idle");
    idle.tally.messages = Default::default();
    let (text, ..) = all(&idle);
    assert!(
        !text.contains("\nmessages") && !text.contains("\nrate"),
        "{text}"
    );
}

#[test]
fn a_mean_is_told_in_whole_nanoseconds() {
    let mut run = outcome("");
    run.tally.latency.connect.record(1).unwrap();
    run.tally.latency.connect.record_n(2, 2).unwrap();
    assert_eq!(all(&run).1["latency"]["connect"]["mean_ns"], 2);
}

#[test]
fn a_narrow_terminal_gets_a_report_of_its_width() {
    for arguments in ["", "-R 1k --slo p99<1s --slo valid"] {
        let mut run = late(5_000_000, 10_000);
        run.plan = Load::of(arguments);
        run.tally.messages.outstanding = 1;
        run.tally.messages.sent += 1;
        let judgement = Judgement::of(&run, None);
        let page = Page::new(Some(60), false);
        let text = text::report(page, &run, &judgement);
        // The command is not broken.
        let lines: Vec<&str> = text.lines().collect();
        let rest = &lines[..lines.len() - 1];
        assert!(rest.iter().all(|line| line.len() <= 60), "{text}");
        assert!(text.contains("p99.9") && !text.contains("p99.99"), "{text}");
    }
}
