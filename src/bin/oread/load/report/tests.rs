use std::io::Cursor;
use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::*;
use crate::load::count::{Second, StoodStill, Tally};
use crate::load::report::outcome::Ending;
use crate::values::units::short;

/// A run of ten seconds with 10,000 responses of 1 to 10,000 microseconds.
fn outcome(arguments: &str) -> Outcome {
    let mut tally = Tally::new();
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
    Outcome {
        plan: Load::of(arguments),
        targets: vec!["tcp://127.0.0.1:1".to_owned()],
        began: std::time::UNIX_EPOCH + Duration::from_millis(1_500),
        measured_from: Some(std::time::UNIX_EPOCH + Duration::from_millis(2_500)),
        ending: Ending::Done,
        tally,
        ramp: Duration::from_secs(1),
        measured: Duration::from_secs(10),
        stood_still: StoodStill::default(),
        own_server: None,
        shortfalls: Vec::new(),
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
    assert!(text.contains("10,000 sent, 10,000 echoed"), "{text}");
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
fn fewer_connections_than_asked_for_is_the_first_line() {
    let mut run = outcome("");
    run.tally.connections = crate::load::count::Ledger {
        asked: 100,
        dialed: 100,
        established: 97,
        confirmed: 97,
        peak_confirmed: 97,
        refused: 3,
        open: 97,
        ..Default::default()
    };
    let (text, _, _, code) = all(&run);
    assert_eq!(code, 4);
    assert!(
        text.starts_with("exit code 4  ONLY 97 of 100 connections came about: 3 refused\n"),
        "{text}"
    );
}

#[test]
fn connections_that_are_lost_and_not_replaced_are_the_first_line() {
    let mut run = outcome("");
    run.tally.connections.lost = 3;
    run.tally.connections.open = 97;
    run.tally.connections.missing = 3;
    let (text, json, _, code) = all(&run);
    assert_eq!((code, &json["connections"]["missing"]), (4, &3.into()));
    assert!(
        text.starts_with("exit code 4  ONLY 97 of 100 connections were there to the end: 3 lost\n"),
        "{text}"
    );
    let c = &mut run.tally.connections;
    (c.dialed, c.redialed, c.established) = (103, 3, 103);
    (c.open, c.missing) = (100, 0);
    let (text, _, _, code) = all(&run);
    assert_eq!(code, 0);
    let start = "exit code 0  all 100 connections were there at the end\n             LOST 3";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn the_churn_that_was_reached_stands_beside_what_was_asked_for() {
    let mut run = outcome("--churn 20");
    run.tally.connections.replaced = 195;
    let (text, json, ..) = all(&run);
    assert!(text.contains("20/s asked for, 19.5/s reached: 195"));
    assert_eq!(json["churn"]["asked"], 20);
    assert_eq!(json["churn"]["reached"], 19.5);
    let (text, json, ..) = all(&outcome(""));
    assert!(json["churn"]["reached"].is_null() && !text.contains("churn"));
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
fn gates_hold_or_break() {
    for (gate, met) in [
        ("p99<9.5ms", false),
        ("p99<=9.95ms", true),
        ("response.p50>4ms", true),
        ("max<10ms", false),
        ("p99.99<1h", false),
        ("errors<0.1%", true),
        ("errors<=0", true),
        ("rate>999", true),
        ("rate>1k", false),
        ("connections>=100", true),
        ("connect.p50<1s", false),
    ] {
        let (_, json, _, code) = all(&outcome(&format!("--slo {gate}")));
        assert_eq!(json["slo"][0]["met"], met, "{gate}: {}", json["slo"]);
        assert_eq!(code, if met { 0 } else { 3 }, "{gate}");
    }
}

/// The same run, in which every second message was never answered.
fn half_answered(arguments: &str) -> Outcome {
    let mut run = outcome(arguments);
    run.tally.messages.sent = 20_000;
    run.tally.messages.outstanding = 10_000;
    run
}

#[test]
fn gates_on_latencies_are_held_against_all_that_was_due() {
    for (gate, met, shown) in [
        ("p49<9.9ms", true, "9.8"),
        ("p50<11ms", true, "10ms"),
        ("p99<1h", false, "10,000 of 20,000 (50%) never came to it"),
        ("max<1h", false, "10,000 of 20,000 (50%) never came to it"),
        ("mean<1h", false, "never came to it"),
        ("min<1ms", true, "1us"),
        ("errors<49%", false, "49.751%"),
        ("errors<50%", true, "49.751%"),
    ] {
        let (text, json, ..) = all(&half_answered(&format!("--slo {gate}")));
        assert_eq!(json["slo"][0]["met"], met, "{gate}: {}", json["slo"]);
        let said = json["slo"][0]["shown"].as_str().unwrap();
        assert!(said.contains(shown), "{gate}: {said}");
        let told = "10,000 of the 20,000 messages due were never answered";
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn replacements_on_their_way_at_the_end_break_no_gate() {
    let gates = "--churn 5 --slo connect.max<1s --slo first_echo.max<1s --slo errors<=0%";
    let mut run = outcome(gates);
    let latency = &mut run.tally.latency;
    latency.connect.record_n(1_000_000, 102).unwrap();
    latency.first_echo.record_n(1_000_000, 101).unwrap();
    let c = &mut run.tally.connections;
    (c.dialed, c.redialed, c.dialing) = (103, 3, 1);
    (c.established, c.confirmed, c.closed, c.silent) = (102, 101, 2, 1);
    let (text, json, ..) = all(&run);
    for gate in json["slo"].as_array().unwrap() {
        assert_eq!(gate["met"], true, "{text}");
    }
    // Without churn, who was never served is an error.
    run.plan.turnover = crate::load::options::load::Turnover::Keep;
    let (text, json, ..) = all(&run);
    for gate in json["slo"].as_array().unwrap() {
        assert_eq!(gate["met"], false, "{text}");
    }
}

#[test]
fn a_figure_that_is_not_known_says_why() {
    let (text, ..) = all(&outcome("--slo p99.99<1s --slo lost<1% udp://127.0.0.1:1"));
    assert!(
        text.contains("p99.99<1s: NOT MET: too few samples: 10,000, it takes 100,000"),
        "{text}"
    );
    assert!(
        text.contains("lost<1%: NOT MET: no datagram was sent"),
        "{text}"
    );
}

#[test]
fn a_number_of_messages_that_was_not_reached_is_said_first_and_is_exit_4() {
    let mut run = outcome("-n 15k");
    assert_eq!(all(&run).3, 0);
    run.tally.messages.unsent = 5_000;
    let (text, _, _, code) = all(&run);
    assert_eq!(code, 4);
    assert!(
        text.starts_with("exit code 4  ONLY 10,000 of 15,000 messages were sent: nothing"),
        "{text}"
    );
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
fn thread(cpu_ms: u64, waited_ms: u64) -> crate::load::count::ThreadUse {
    crate::load::count::ThreadUse {
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

/// The one thing to beware of in a run, and whose doing it was.
fn only_warning(run: &Outcome) -> (String, String) {
    let (text, json, _, code) = all(run);
    let words = json["warnings"][0].as_str().unwrap_or_default().to_owned();
    let is_one = json["warnings"].as_array().unwrap().len() == 1;
    assert!(
        is_one && text.contains(&format!("BEWARE       {words}\n")),
        "{text}"
    );
    assert!(text.find("BEWARE") < text.find("latency  "), "{text}");
    assert_eq!((code, &json["slo"][0]["shown"]), (3, &(*words).into()));
    let cause = json["generator"]["causes"][0].as_str();
    (words, cause.unwrap_or_default().to_owned())
}

/// The tip of a run in which no connection was confirmed, with these errors.
fn tip_of(arguments: &str, errors: &[&str]) -> String {
    let mut run = outcome(arguments);
    let c = &mut run.tally.connections;
    (c.confirmed, c.peak_confirmed, c.silent) = (0, 0, 100);
    for name in errors {
        run.tally.error(name);
    }
    if let Some(target) = run.plan.targets.first() {
        run.targets = vec![target.to_string()];
    }
    let part = Some(crate::load::count::Partial { got: 47, of: 64 });
    run.tally.note_partial("message timeout", part);
    let text = all(&run).0;
    let tip = text.lines().find_map(|line| line.strip_prefix("tip"));
    tip.unwrap_or_default().trim().to_owned()
}

#[test]
fn a_tip_is_about_what_can_be_changed() {
    let mute = "message timeout";
    for (arguments, errors, said) in [
        ("", &[mute][..], "a server that accepts and says nothing"),
        // Its own server was out of descriptors, as the errors say.
        ("", &[mute, "EMFILE"], ""),
        (
            "",
            &["closed by peer"],
            "this may be no echo server, or have another --framing",
        ),
        (
            "--verify off",
            &[mute],
            "the answer is shorter than the message",
        ),
        ("udp://127.0.0.1:1", &[mute], "nothing may listen there"),
        (
            "udp://127.0.0.1:1",
            &["corrupt answer"],
            "this may be no echo server",
        ),
        (
            "udp://127.0.0.1:1",
            &["ECONNREFUSED"],
            "start a server there (`oread serve --udp 127",
        ),
    ] {
        let tip = tip_of(arguments, errors);
        assert!(tip.starts_with(said), "{arguments} {errors:?}: {tip}");
        assert_eq!(
            tip.is_empty(),
            said.is_empty(),
            "{arguments} {errors:?}: {tip}"
        );
        let is_of_streams = tip.contains("--message") || tip.contains("--framing");
        assert!(!(arguments.starts_with("udp") && is_of_streams), "{tip}");
    }
    assert!(tip_of("--verify off", &[mute]).ends_with("try -s 47"));
}

#[test]
fn a_server_that_says_nothing_or_something_else_gets_a_tip() {
    let mut run = outcome("");
    assert!(!all(&run).0.contains("\ntip "));
    run.tally.connections.confirmed = 0;
    run.tally.error("corrupt answer");
    run.tally.error("message timeout");
    run.tally.corrupt_answer = Some("flow 2: a wrong answer".to_owned());
    let (text, ..) = all(&run);
    assert!(
        text.contains("\ntip          this may be no echo server"),
        "{text}"
    );
    let lines = "1 corrupt answer\n             the first one: flow 2: a wrong answer\n";
    assert!(text.contains(lines), "{text}");
}

#[test]
fn lost_datagrams_and_churn_that_falls_behind_are_in_the_verdict() {
    let mut run = outcome("udp://127.0.0.1:1");
    run.tally.datagrams.sent = 800;
    run.tally.datagrams.received = 299;
    run.tally.datagrams.lost = 501;
    let (text, json, ..) = all(&run);
    let said = "LOST 501 of 800 datagrams (62.625%)";
    assert!(text.contains(said), "{text}");
    assert!(json["verdict"].to_string().contains(said), "{json}");
    let mut run = outcome("--lifetime 1s");
    run.tally.connections.replaced = 890;
    assert!(
        all(&run)
            .0
            .contains("ONLY 89/s of 100/s connections were replaced")
    );
    let waits = "were replaced: each waits for its outstanding answers";
    assert!(all(&run).0.contains(waits));
    run.tally.connections.refused = 1;
    let (text, ..) = all(&run);
    assert!(text.contains("were replaced: dials in their places failed\n"));
    run.tally.connections.replaced = 900;
    assert!(!all(&run).0.contains("were replaced"));
}

#[test]
fn a_rate_that_is_not_reached_is_in_the_verdict() {
    let mut run = outcome("-R 1k");
    run.tally.messages.in_time = 9_490;
    let (text, json, _, code) = all(&run);
    let said = "ONLY 949/s of 1,000/s were answered in time";
    let start =
        format!("exit code 0  all 100 connections were there at the end\n             {said}");
    assert!(text.starts_with(&start), "{text}");
    assert_eq!((code, &json["verdict"]), (0, &serde_json::json!([said])));
    let row = "\nrate         949/s answered of 1,000/s asked for; ";
    assert!(text.contains(row), "{text}");
    run.tally.messages.in_time = 9_500;
    assert!(!all(&run).0.contains("ONLY"));
    let closed = all(&outcome("")).0;
    assert!(!closed.contains("ONLY") && closed.contains("/s answered; "));
}

#[test]
fn a_message_that_is_both_corrupt_and_lost_is_not_told_as_two() {
    let mut run = outcome("");
    run.tally.messages.corrupt = 20;
    run.tally.messages.lost = 20;
    run.tally.messages.sent += 20;
    let said = "20 corrupt, 20 lost\n             what had a corrupt answer is among the lost\n";
    let (text, ..) = all(&run);
    assert!(text.contains(said), "{text}");
    let said = "WRONG: 20 answers were not what was sent, or not asked for\n";
    assert!(text.contains(said), "{text}");
    run.tally.messages.corrupt = 0;
    assert!(!all(&run).0.contains("among the lost"));
}

#[test]
fn a_server_that_answers_nothing_in_the_measured_time_meets_no_gate() {
    let mut run = outcome("--slo errors<50% --slo p50<1s");
    let tally = &mut run.tally;
    (tally.messages, tally.seconds) = Default::default();
    tally.latency = Default::default();
    tally.error("message timeout");
    let (text, .., code) = all(&run);
    assert_eq!(code, 3);
    assert!(
        text.contains("NO ANSWER came in the measured time"),
        "{text}"
    );
    assert!(text.contains("NOT MET: errors<50%, p50<1s"), "{text}");
}

#[test]
fn a_server_that_falls_silent_is_told_with_the_last_second_of_its_answers() {
    let mut run = outcome("");
    let answered = |echoed| Second {
        echoed,
        ..Second::default()
    };
    run.tally.seconds = [9, 9, 9, 1, 0, 0, 0, 0, 0, 0].map(answered).to_vec();
    let said = "NO ANSWER came after second 4 of 10";
    // All that was sent is answered: nothing was asked of it any more.
    assert!(!all(&run).0.contains(said));
    run.tally.messages.lost = 3;
    run.tally.messages.sent += 3;
    let (text, json, ..) = all(&run);
    assert!(text.contains(said), "{text}");
    assert!(json["verdict"].to_string().contains(said), "{json}");
    assert!(
        text.starts_with(&format!("exit code 0  {said}\n")),
        "{text}"
    );
    // However quick the answers before were.
    run.plan = Load::of("--slo p99<1s --slo service.max<1s --slo rate>1");
    let (text, _, _, code) = all(&run);
    assert_eq!(code, 3);
    for line in [
        "NOT MET: p99<1s, service.max<1s\n",
        "p99<1s: NOT MET: no answer came after second 4 of 10\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    // It was only slow: one more came while answers were waited for.
    run.tally.seconds.extend([0, 1].map(answered));
    assert!(!all(&run).0.contains("NO ANSWER came after"));
}

#[test]
fn a_datagram_that_was_refused_is_not_told_as_two_errors() {
    let mut run = outcome("udp://127.0.0.1:1");
    run.tally.datagrams.sent = 20;
    run.tally.datagrams.lost = 20;
    run.tally.datagrams.dropped = 7;
    run.targets = vec!["udp://127.0.0.1:1".to_owned()];
    for name in ["ECONNREFUSED", "message timeout"] {
        run.tally.errors.insert(name.to_owned(), 20);
    }
    let (text, ..) = all(&run);
    let said = "20 ECONNREFUSED; a datagram that was sent and refused is a message timeout too\n";
    assert!(text.contains(said), "{text}");
    assert!(text.contains("7 tries that the system refused\n"), "{text}");
}

#[test]
fn heartbeats_that_are_late_are_told_as_messages_at_a_rate_are() {
    let mut run = late(5_000_000, 10_000);
    run.plan = Load::of("--idle --heartbeat 2s --slo valid");
    let (words, _) = only_warning(&run);
    assert!(words.contains("messages were sent 5ms later"), "{words}");
    let (text, ..) = all(&run);
    let said = "\npacing       a heartbeat every 2s; sent late by 5ms at p99, 5ms at most\n";
    assert!(text.contains(said), "{text}");
    assert!(text.contains("\n  service "), "{text}");
}

#[test]
fn own_lateness_is_held_against_the_response_at_the_same_percentile() {
    // The response is 9.9 ms at p99.
    let (words, cause) = only_warning(&late(5_000_000, 10_000));
    let said = "the generator was the bottleneck: messages were sent 5ms later than they could \
                have been (p99), where the response is 9.9";
    assert!(words.starts_with(said), "{words}");
    assert_eq!(cause, "generator");
    let (text, json, _, code) = all(&late(1_500_000, 10_000));
    assert!(!text.contains("BEWARE"), "{text}");
    assert_eq!((code, &json["generator"]["bottleneck"]), (0, &false.into()));
    // A thread that had most of its time left was not let run.
    let mut idle = late(5_000_000, 10_000);
    idle.tally.threads = vec![thread(1_000, 0)];
    let (words, cause) = only_warning(&idle);
    assert!(words.starts_with("the machine was busy: messages were sent 5ms later"));
    assert_eq!(cause, "machine");
    // Most were never answered: the few that were say little.
    idle.tally.messages.lost = 10_001;
    assert!(!all(&idle).0.contains("BEWARE"));
    // However few samples there are: a tenth of them, and not one alone.
    let mut few = late(5_000_000, 15);
    few.tally.schedule.own_lag.record(5_000_000).unwrap();
    let (words, _) = only_warning(&few);
    assert!(words.contains("they could have been (p90)"), "{words}");
    for samples in [15, 30, 99] {
        let (text, _, _, code) = all(&late(9_000_000, samples));
        assert!(code == 0 && !text.contains("BEWARE"), "{samples}: {text}");
    }
}

#[test]
fn a_generator_that_can_not_send_all_that_is_due_says_so_and_blames_no_connection() {
    // 30 s of 1,000 a second; the last one sent had been due 29 s before.
    let mut run = late(29_000_000_000, 10_000);
    run.tally.messages.unsent = 30_000;
    let (words, _) = only_warning(&run);
    let said = "the generator was the bottleneck: messages were sent 29s later than they could";
    assert!(words.starts_with(said), "{words}");
    let said = "ONLY 10,000 of 40,000 messages were sent: the generator could not send more\n";
    assert!(all(&run).0.contains(said));
    // All of them on time, until no connection took any more.
    let mut run = late(1_000_000, 10_000);
    run.tally.messages.unsent = 30_000;
    let said = "ONLY 10,000 of 40,000 messages were sent: no connection could take the others\n";
    assert!(all(&run).0.contains(said));
}

#[test]
fn a_machine_that_was_busy_is_told_from_a_program_that_was_slow() {
    let mut run = outcome("--slo valid");
    run.tally.threads = vec![thread(9_600, 0)];
    let (words, cause) = only_warning(&run);
    assert!(words.contains("the generator was the bottleneck: 1 of 1 threads had no time"));
    assert_eq!(cause, "generator");
    run.tally.threads = vec![thread(1_000, 1_100)];
    let (words, cause) = only_warning(&run);
    assert!(
        words.starts_with("the machine was busy: a thread"),
        "{words}"
    );
    assert!(words.contains("for a CPU 11% of"), "{words}");
    assert_eq!(cause, "machine");
    let mut run = late(5_000_000, 10_000);
    run.tally.threads = vec![thread(1_000, 1_100)];
    let (_, json, ..) = all(&run);
    let causes = &json["generator"]["causes"];
    assert_eq!(*causes, serde_json::json!(["machine", "machine"]), "{json}");
    run.tally.schedule = Default::default();
    run.tally.threads = vec![thread(8_700, 1_000)];
    let (words, cause) = only_warning(&run);
    assert!(words.contains("1 of 1 threads had no time left"), "{words}");
    assert_eq!(cause, "generator");
    run.tally.threads = vec![thread(8_500, 900)];
    assert_eq!(all(&run).1["warnings"], serde_json::json!([]));
}

#[test]
fn a_program_that_stood_still_says_so_above_its_latencies() {
    let mut run = outcome("--slo valid");
    run.stood_still = StoodStill {
        total: Duration::from_millis(1_200),
        longest: Duration::from_millis(800),
        times: 3,
    };
    let (words, cause) = only_warning(&run);
    let said = "the generator stood still for 1.2s in all, 3 times, 800ms the longest: ";
    assert!(words.starts_with(said), "{words}");
    assert_eq!(cause, "machine");
    let (_, json, ..) = all(&run);
    let still = |name: &str| json["generator"][name].as_u64();
    assert_eq!(still("stood_still_ns"), Some(1_200_000_000));
    assert_eq!(still("longest_still_ns"), Some(800_000_000));
    assert_eq!(still("times_still"), Some(3));
    // A moment that no figure shows; nor does it where none was answered.
    run.stood_still = StoodStill {
        total: Duration::from_millis(1),
        longest: Duration::from_millis(1),
        times: 1,
    };
    assert_eq!(all(&run).3, 0);
    run.tally.latency = Default::default();
    assert_eq!(all(&run).3, 0);
}

#[test]
fn datagrams_that_our_own_buffer_lost_are_called_ours() {
    let mut run = outcome("--slo valid udp://127.0.0.1:1");
    run.tally.datagrams.sent = 10_000;
    run.tally.datagrams.received = 9_393;
    run.tally.datagrams.lost = 607;
    run.tally.own_drops = 607;
    let (words, cause) = only_warning(&run);
    assert!(words.starts_with("607 datagrams were lost in our own receive buffer"));
    assert_eq!(cause, "");
    assert_eq!(all(&run).1["udp"]["own_drops"], 607);
}

#[test]
fn answers_that_are_longer_than_messages_make_rate_and_latencies_invalid() {
    let mut run = outcome("--slo valid --verify off");
    run.tally.bytes.surplus = 640;
    let (words, cause) = only_warning(&run);
    assert!(
        words.starts_with("rate and latencies are not valid: the answers are longer than the"),
        "{words}"
    );
    assert!(words.contains("640 B came that no message"), "{words}");
    assert_eq!(cause, "");
}

#[test]
fn a_flow_has_its_own_number_and_those_that_were_closed_are_one_entry() {
    let mut run = outcome("udp://127.0.0.1:1");
    let datagrams = |sent, lost| crate::load::count::Datagrams {
        sent,
        received: sent - lost,
        lost,
        ..Default::default()
    };
    run.tally.datagrams = datagrams(40, 9);
    run.tally.flows = vec![(3, datagrams(10, 1)), (17, datagrams(10, 6))];
    run.tally.retired_flows = datagrams(20, 2);
    let (text, json, ..) = all(&run);
    let numbers = |name: &str| {
        let flows = json["udp_flows"].as_array().unwrap();
        flows
            .iter()
            .map(|flow| flow[name].clone())
            .collect::<serde_json::Value>()
    };
    assert_eq!(numbers("flow"), serde_json::json!([3, 17, null]));
    assert_eq!(numbers("lost"), serde_json::json!([1, 6, 2]));
    assert!(text.contains("flow 17 the most: 6"), "{text}");
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
fn a_part_of_an_answer_is_no_answer_that_never_came() {
    let mut run = outcome("");
    run.tally.errors.insert("message timeout".to_owned(), 3);
    let part = Some(crate::load::count::Partial { got: 40, of: 64 });
    run.tally.note_partial("message timeout", part);
    let (text, json, ..) = all(&run);
    let said = "3 message timeout; of the first one's answer 40 of 64 bytes came\n";
    assert!(text.contains(said), "{text}");
    let part = &json["connections"]["partial"]["message timeout"];
    assert_eq!(*part, serde_json::json!({ "got": 40, "of": 64 }));
}

#[test]
fn a_wrong_answer_is_shown_in_the_report_too() {
    let mut run = outcome("-q");
    run.tally.messages.corrupt = 1;
    run.tally.errors.insert("corrupt answer".to_owned(), 1);
    run.tally.corrupt_answer = Some("flow 2: from byte 20 on \"G\", not \"F\"".to_owned());
    let (text, json, _, code) = all(&run);
    assert_eq!(code, 5);
    assert!(
        text.starts_with("exit code 5  WRONG: 1 answer was not"),
        "{text}"
    );
    assert!(
        text.contains("the first one: flow 2: from byte 20 on"),
        "{text}"
    );
    assert!(json["connections"]["corrupt_answer"].is_string());
}

#[test]
fn messages_too_short_to_tell_whose_they_are_are_said_to_be() {
    for (arguments, said) in [
        ("-s 1", Some("1 byte has 6 bits")),
        ("-s 3-100", Some("so 1 in 262,144 answers")),
        ("-s 7 --verify sequence", Some("7 bytes has 42 bits")),
        ("-s 8", None),
        ("-s 1 -c 1", None),
        ("-s 1 --verify off", None),
        ("--message x", None),
    ] {
        let (text, json, ..) = all(&outcome(arguments));
        let line = text.lines().find(|line| line.starts_with("not checked"));
        assert_eq!(line.is_some(), said.is_some(), "{arguments}: {text}");
        if let Some(said) = said {
            assert!(line.unwrap().contains(said), "{arguments}: {text}");
            assert!(json["not_checked"].as_str().unwrap().contains(said));
        }
    }
}

#[test]
fn a_target_that_refuses_gets_the_tip_that_connect_gives() {
    let mut run = outcome("127.0.0.1:1");
    run.tally.errors.insert("ECONNREFUSED".to_owned(), 100);
    run.tally.connections.missing = 1;
    let (text, ..) = all(&run);
    let tip = "tip          start a server there (`oread serve 127.0.0.1:1`), or check";
    assert!(text.contains(tip), "{text}");
    // One that was back in time needs none.
    run.tally.connections.missing = 0;
    assert!(!all(&run).0.contains("\ntip"));
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
fn a_connection_that_waits_for_its_first_echo_is_not_called_open() {
    let mut run = outcome("");
    let c = &mut run.tally.connections;
    (c.confirmed, c.peak_confirmed, c.silent) = (50, 50, 50);
    let (text, ..) = all(&run);
    assert!(
        text.contains("50 confirmed by an echo, 50 open at the end"),
        "{text}"
    );
    let start = "exit code 4  ONLY 50 of 100 connections came about: 50 connected, waiting";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn connections_that_are_being_replaced_at_the_end_are_not_said_to_be_there() {
    let mut run = outcome("--churn 20");
    let c = &mut run.tally.connections;
    (c.open, c.closed) = (97, 3);
    let start =
        "exit code 0  all 100 connections were there at the end, but for 3 being replaced\n";
    let (text, ..) = all(&run);
    assert!(text.starts_with(start), "{text}");
    // As many as asked for, and never all at one time.
    run.tally.connections.peak_confirmed = 98;
    let (text, ..) = all(&run);
    let start = "exit code 4  ONLY 98 of 100 connections were there at one time\n";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn udp_sockets_that_are_refused_are_told_as_refused() {
    let mut run = outcome("udp://127.0.0.1:1");
    let c = &mut run.tally.connections;
    (c.confirmed, c.peak_confirmed, c.silent) = (0, 0, 100);
    run.tally.errors.insert("ECONNREFUSED".to_owned(), 120);
    let (text, ..) = all(&run);
    let start = "exit code 4  ONLY 0 of 100 connections came about: 100 refused\n";
    assert!(
        text.starts_with(start) && !text.contains("waiting for"),
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
