//! What became of the messages, datagrams among them, in the verdict and below it.

use super::*;

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
fn a_server_that_falls_silent_is_told_with_the_last_second_of_its_answers() {
    let mut run = outcome("");
    let answered = |echoed| {
        let mut second = BySecond::default();
        second.counts.echoed = echoed;
        second
    };
    run.tally.seconds = [9, 9, 9, 1, 0, 0, 0, 0, 0, 0].map(answered).to_vec();
    let said = "NO ANSWER came after second 4 of 10";
    // All that was sent is answered: nothing was asked of it any more.
    assert!(!all(&run).0.contains(said));
    run.tally.messages.lost = 3;
    run.tally.messages.sent += 3;
    // These were given up long before the last answers came: a quiet load, and no silence.
    (run.tally.waited_until, run.tally.last_answer) = (5, 9);
    assert!(!all(&run).0.contains("NO ANSWER came after"));
    run.tally.waited_until = 14;
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
fn a_flow_has_its_own_number_and_those_that_were_closed_are_one_entry() {
    let mut run = outcome("udp://127.0.0.1:1");
    let datagrams = |sent, lost| Datagrams {
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
fn a_part_of_an_answer_is_no_answer_that_never_came() {
    let mut run = outcome("");
    run.tally.errors.insert("message timeout".to_owned(), 3);
    let part = Some(Partial { got: 40, of: 64 });
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
        ("--message x", Some("all messages are alike")),
        ("--message x -c 1", None),
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
