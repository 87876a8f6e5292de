//! `oread load` over time: what it tells of each second is what its totals and a server say.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;
#[path = "common/scratch.rs"]
mod scratch;

use std::io::Cursor;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

use load::cli::oread;
use load::{Next, Report, each_message, say, tcp};
use scratch::Scratch;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

fn decoded(text: &Value) -> Option<Histogram<u64>> {
    let bytes = STANDARD.decode(text.as_str()?).unwrap();
    let histogram = Deserializer::new().deserialize(&mut Cursor::new(bytes));
    Some(histogram.unwrap())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn the_seconds_are_the_same_in_json_in_the_table_and_in_the_histogram_log_and_make_up_the_run() {
    let files = ["x.json", "x.hlog", "x.csv"].map(|name| Scratch::new(&format!("seconds-{name}")));
    let [json, hdr, csv] = &files;
    let mut command = oread("load");
    command.args([
        "-q", "-c", "4", "-d", "2500ms", "--warmup", "200ms", "-t", "2",
    ]);
    command.args([
        "--json",
        json.path(),
        "--hdr",
        hdr.path(),
        "--csv",
        csv.path(),
    ]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json.json();
    let seconds = report["by_second"].as_array().unwrap();
    assert!((3..=4).contains(&seconds.len()), "{report}");

    // Each second has the histogram of its own answers, and together they are the measured time's.
    let (mut answers, mut of_time) = (0, 0);
    for second in seconds {
        let response = decoded(&second["histogram"]);
        let count = response.as_ref().map_or(0, |it| it.len());
        assert_eq!(count, number(&second["echoed"]), "{second}");
        if let Some(response) = response {
            let median = response.value_at_quantile(0.5);
            let told = &second["p50_ns"];
            assert!(told.is_null() || number(told) == median, "{second}");
            assert_eq!(number(&second["max_ns"]), response.max());
        }
        answers += count;
        of_time += number(&second["echoed"]);
        assert!(
            second["lag_ns"].is_null(),
            "nothing was due at a time: {second}"
        );
        assert_eq!(second["errors"], 0);
    }
    assert_eq!(answers, of_time);
    assert!(answers >= number(&report["messages"]["in_time"]));
    let open: Vec<u64> = seconds.iter().map(|it| number(&it["open"])).collect();
    assert_eq!(open[..2], [4, 4], "{open:?}");
    let all = decoded(&report["histograms"]["response"]).unwrap();
    assert_eq!(all.len(), number(&report["messages"]["echoed"]));
    assert!(report["histograms"]["own_lag"].is_null());

    check_table(&String::from_utf8(csv.read()).unwrap(), seconds);
    check_log(&hdr.read(), seconds, all.len());
}

/// The table has the same numbers, by the same names.
fn check_table(table: &str, seconds: &[Value]) {
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows: Vec<&str> = lines.collect();
    assert_eq!(rows.len(), seconds.len());
    for (place, (row, second)) in rows.iter().zip(seconds).enumerate() {
        let fields: Vec<&str> = row.split(',').collect();
        assert_eq!(fields.len(), names.len());
        for (name, field) in names.iter().zip(fields) {
            let told = match *name {
                "second" => place.to_string(),
                _ if second[name].is_null() => String::new(),
                _ => second[name].to_string(),
            };
            assert_eq!(field, told, "{name} of second {place}");
        }
    }
}

/// The log has an interval for each second in which an answer came, and all of them once more.
fn check_log(log: &[u8], seconds: &[Value], all: u64) {
    let (mut place, mut whole) = (0, 0);
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(interval) = entry.unwrap() else {
            continue;
        };
        let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
        let read = Deserializer::new().deserialize(&mut Cursor::new(bytes));
        let histogram: Histogram<u64> = read.unwrap();
        match interval.tag().map(|tag| tag.as_str()) {
            None => {
                assert_eq!(
                    interval.start_timestamp(),
                    Duration::from_secs(place as u64)
                );
                assert_eq!(histogram.len(), number(&seconds[place]["echoed"]));
                place += 1;
            }
            Some("response") => whole += histogram.len(),
            Some(_) => {}
        }
    }
    let answered = seconds.iter().filter(|it| number(&it["echoed"]) > 0);
    assert_eq!(place, answered.count());
    assert_eq!(whole, all);
}

#[test]
fn an_error_and_a_connection_that_is_lost_stand_in_the_second_in_which_they_happened() {
    // The second message of the last connection is answered by the end, so long after the first one.
    let begun = Mutex::new(None);
    let address = tcp(move |stream, index| {
        each_message(stream, |stream, message, bytes| {
            let begun = *begun.lock().unwrap().get_or_insert_with(Instant::now);
            let is_last =
                index == 2 && message > 0 && begun.elapsed() > Duration::from_millis(1600);
            match is_last {
                true => Next::Close,
                false => say(stream, bytes),
            }
        });
    });
    let report = Report::of(&[
        &address,
        "-c",
        "3",
        "-R",
        "60",
        "-d",
        "3s",
        "--message-timeout",
        "1s",
    ]);
    report.assert_balanced();
    assert_eq!(report.connections("lost"), 1, "{}", report.value);
    let seconds = report.value["by_second"].as_array().unwrap();
    let errors: Vec<u64> = seconds.iter().map(|it| number(&it["errors"])).collect();
    let at = errors.iter().position(|&errors| errors > 0).unwrap();
    assert!((1..3).contains(&at), "{errors:?}");
    assert_eq!(
        errors.iter().sum::<u64>(),
        report.errors().values().sum::<u64>()
    );
    for (place, second) in seconds.iter().enumerate().take(3) {
        let open = if place < at { 3 } else { 2 };
        assert_eq!(second["open"], open, "second {place}: {second}");
        assert!(number(&second["lag_ns"]) < 60 * SECOND, "{second}");
    }
}
