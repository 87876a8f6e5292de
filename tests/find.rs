//! `oread find` against servers whose limit is known, each of which keeps books of its own.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use load::cli::{oread, piped, signal};
use load::{each_message, say, tcp};
use serde_json::Value;

/// Runs a search to its end: its report, and what it has said meanwhile.
fn find(arguments: &[&str]) -> (Value, String) {
    let mut command = oread("find");
    command.args(arguments).args(["--json", "-"]);
    run(&mut command)
}

fn run(command: &mut Command) -> (Value, String) {
    let (child, _watchdog) = piped(command);
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {log}"));
    assert_eq!(found["schema"], "oread.find/1");
    let code = found["exit_code"].as_i64().map(|code| code as i32);
    assert_eq!(output.status.code(), code, "{found}");
    (found, log)
}

fn value(found: &Value) -> u64 {
    let value = &found["answer"]["value"];
    value.as_u64().unwrap_or_else(|| panic!("{found}"))
}

#[test]
fn the_rate_of_a_server_that_answers_so_many_a_second_is_found_from_below() {
    const LIMIT: u32 = 500;
    let (next, answered) = (Mutex::new(Instant::now()), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&answered);
    let address = tcp(move |stream, _| {
        each_message(stream, |stream, _, message| {
            let mut next = next.lock().unwrap();
            let turn = (*next).max(Instant::now());
            *next = turn + Duration::from_secs(1) / LIMIT;
            drop(next);
            thread::sleep(turn.saturating_duration_since(Instant::now()));
            answered.fetch_add(1, Ordering::SeqCst);
            say(stream, message)
        });
    });
    let limits = ["--from", "100", "--precision", "15%", "--step-for", "2s"];
    let gate = ["-c", "8", "--warmup", "0s", "--slo", "p50<100ms"];
    let (found, log) = find(&[&[&*address], &limits[..], &gate[..]].concat());
    assert_eq!(found["exit_code"], 0, "{found}");
    let value = value(&found);
    // At a little over it, a queue does not show in two seconds: less than a twentieth falls short.
    assert!((300..=550).contains(&value), "{value} of {LIMIT}: {found}");
    let steps = found["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["held"] == false), "{found}");
    let told: u64 = steps
        .iter()
        .map(|step| step["answers"].as_u64().unwrap())
        .sum();
    assert!(
        told > 0 && told <= counted.load(Ordering::SeqCst),
        "{found}"
    );
    // What is said has been confirmed: the last step was at that value, and held.
    if found["answer"]["confirmed"] == true {
        let last = steps.last().unwrap();
        assert_eq!(
            (&last["tried"], &last["held"]),
            (&value.into(), &true.into())
        );
        assert!(last["seconds"].as_f64().unwrap() > 3.9, "{found}");
    }
    let lines = log.lines().filter(|line| line.starts_with("step ")).count();
    assert_eq!(lines, steps.len(), "{log}");
    assert!(
        log.starts_with("steps of 2s at first, 600s in all at the most"),
        "{log}"
    );
}

#[test]
fn the_number_of_connections_that_a_server_takes_is_found_exactly() {
    const MOST: i64 = 12;
    let (open, peak) = (AtomicI64::new(0), Arc::new(AtomicI64::new(0)));
    let seen = Arc::clone(&peak);
    let address = tcp(move |stream, _| {
        let now = open.fetch_add(1, Ordering::SeqCst) + 1;
        if now <= MOST {
            peak.fetch_max(now, Ordering::SeqCst);
            each_message(stream, |stream, _, message| say(stream, message));
        }
        open.fetch_sub(1, Ordering::SeqCst);
    });
    let (found, _) = find(&[
        &address,
        "--of",
        "connections",
        "--from",
        "2",
        "--to",
        "60",
        "--slo",
        "errors<1%",
        "--idle",
        "--heartbeat",
        "100ms",
        "--step-for",
        "500ms",
        "--warmup",
        "0s",
    ]);
    assert_eq!(value(&found), MOST as u64, "{found}");
    let answer = &found["answer"];
    assert_eq!(
        (&answer["broke_at"], &answer["limit"]),
        (&13.into(), &"target".into())
    );
    assert_eq!(answer["at_least"], false);
    assert_eq!(seen.load(Ordering::SeqCst), MOST);
}

/// A server without a limit that matters here.
fn echo() -> String {
    tcp(|stream, _| each_message(stream, |stream, _, message| say(stream, message)))
}

#[test]
fn where_this_machine_is_the_limit_no_more_is_claimed_than_at_least() {
    let mut command = Command::new("sh");
    let script = format!(
        "ulimit -n 64; exec {} find {} --of connections --from 4 --slo 'errors<1%' --idle \
         --step-for 200ms --warmup 0s --json -",
        env!("CARGO_BIN_EXE_oread"),
        echo()
    );
    let (found, _) = run(command.args(["-c", &script]));
    let answer = &found["answer"];
    assert!((16..64).contains(&value(&found)), "{found}");
    assert_eq!(
        (&answer["limit"], &answer["at_least"]),
        (&"machine".into(), &true.into())
    );
    let words = answer["words"].as_str().unwrap();
    assert!(words.starts_with("at least "), "{words}");
}

#[test]
fn what_does_not_hold_where_it_begins_is_exit_code_3_and_the_top_of_the_range_is_at_least_that() {
    let steps = ["--step-for", "300ms", "--warmup", "0s", "--from", "50"];
    let address = echo();
    let (found, _) = find(&[&[&*address, "--slo", "p10<1us"], &steps[..]].concat());
    assert_eq!(
        (&found["exit_code"], &found["answer"]["value"]),
        (&3.into(), &Value::Null)
    );
    assert_eq!(found["steps"].as_array().unwrap().len(), 2, "{found}");
    let top = ["--slo", "max<1m", "--to", "100"];
    let (found, _) = find(&[&[&*address], &top[..], &steps[..]].concat());
    assert_eq!(
        (value(&found), &found["answer"]["at_least"]),
        (100, &true.into())
    );
    assert_eq!(found["answer"]["broke_at"], Value::Null);
}

#[test]
fn a_wrong_answer_ends_the_search_with_exit_code_5() {
    let address = tcp(|stream, _| {
        each_message(stream, |stream, index, message| {
            message[9] ^= u8::from(index == 20);
            say(stream, message)
        });
    });
    let (found, _) = find(&[&address, "-c", "1", "--slo", "max<1m", "--step-for", "1s"]);
    assert_eq!(found["exit_code"], 5, "{found}");
    assert_eq!(found["ending"]["kind"], "wrong answer");
}

#[test]
fn whoever_interrupts_a_search_is_told_what_is_known() {
    let mut command = oread("find");
    command.args([
        &*echo(),
        "--slo",
        "max<1m",
        "--step-for",
        "700ms",
        "--json",
        "-",
    ]);
    let (mut child, _watchdog) = piped(&mut command);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("step 2") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0);
    }
    signal(child.id(), "INT");
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["ending"]["kind"], "interrupted");
    assert!(
        value(&found) >= 100 && found["answer"]["confirmed"] == false,
        "{found}"
    );
}

#[test]
fn a_search_ends_in_its_time_with_what_it_knows() {
    let begun = Instant::now();
    let (found, _) = find(&[
        &echo(),
        "--slo",
        "max<1m",
        "--step-for",
        "500ms",
        "--within",
        "4s",
    ]);
    assert_eq!(found["ending"]["kind"], "out of time", "{found}");
    assert_eq!(
        (found["exit_code"].as_u64(), value(&found) >= 100),
        (Some(0), true)
    );
    // The steps' ramps and ends are beside that.
    assert!(begun.elapsed() < Duration::from_secs(40));
}

#[test]
fn what_makes_no_sense_is_refused_by_words() {
    for (arguments, words) in [
        ("", "--slo"),
        ("--slo p99<5ms -R 100", "the rate is what find looks for"),
        (
            "--slo p99<5ms --of connections -c 5",
            "number is what find looks for",
        ),
        ("--slo p99<5ms --depth 3", "find sends at a rate"),
        ("--slo p99<5ms --idle", "--idle sends at no rate"),
        ("--slo rate>5", "holds the better the more there is"),
        (
            "--slo p99<5ms --from 10 --to 5",
            "--to 5 is less than --from 10",
        ),
        (
            "--slo p99.9<5ms --from 10 --step-for 1s",
            "p99.9 takes 10,000 samples",
        ),
        (
            "--slo p99.9<5ms --from 1",
            "--within ends the search after 10m",
        ),
        ("--slo p99<5ms --precision 5", "a precision is a share"),
        ("--slo p99<5ms -d 5s", "--step-for"),
        ("--slo p99<5ms --stages 5s:1", "`oread load`"),
        ("--slo lost<1%", "no target begins with udp://"),
    ] {
        let mut command = oread("find");
        let output = command.args(arguments.split_whitespace()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(words), "{arguments}: {said}");
    }
}

#[test]
fn the_words_have_what_was_found_the_steps_and_the_curve() {
    let output = oread("find")
        .args([
            &*echo(),
            "--slo",
            "p50<1m",
            "--to",
            "400",
            "--step-for",
            "300ms",
        ])
        .args(["--warmup", "0s", "-q"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.starts_with("found        at least 400/s: nothing higher was tried"),
        "{said}"
    );
    for words in [
        "step          rate",
        "holds, confirmed",
        "p50 of responses",
        "      400/s  #",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(output.stderr.is_empty());
}
