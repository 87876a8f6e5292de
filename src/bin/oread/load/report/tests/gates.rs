//! Gates: what they are held against, and what is said of them.

use super::*;

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
