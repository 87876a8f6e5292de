//! What became of the connections, in the verdict and below it, and what to try.

use super::*;

#[test]
fn fewer_connections_than_asked_for_is_the_first_line() {
    let mut run = outcome("");
    run.tally.connections = Ledger {
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
    let got = if arguments.starts_with("--message") {
        0
    } else {
        47
    };
    let part = (got > 0).then_some(Partial { got, of: 64 });
    run.tally.note_partial("message timeout", part);
    let text = all(&run).0;
    let tip = text.lines().find_map(|line| line.strip_prefix("tip"));
    tip.unwrap_or_default().trim().to_owned()
}

#[test]
fn a_tip_is_about_what_can_be_changed() {
    let mute = "message timeout";
    for (arguments, errors, said) in [
        ("", &[mute][..], "this may be no echo server: --message"),
        (
            "--message x",
            &[mute],
            "a server that accepts and says nothing",
        ),
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
    run.tally.connections.replaced = 800;
    assert!(
        all(&run)
            .0
            .contains("ONLY 80/s of 100/s connections were replaced")
    );
    let waits = "were replaced: each waits for its outstanding answers";
    assert!(all(&run).0.contains(waits));
    run.tally.connections.refused = 1;
    let (text, ..) = all(&run);
    assert!(text.contains("were replaced: dials failed (1), and each waits for its"));
    // The last ends in the measured time may be too late for their successors to be served in it.
    run.tally.connections.replaced = 900;
    assert!(!all(&run).0.contains("were replaced"));
    for (arguments, replaced) in [
        ("--lifetime 1h", 0),
        ("--lifetime 20s", 0),
        ("--lifetime 8s", 100),
    ] {
        let mut run = outcome(arguments);
        run.tally.connections.replaced = replaced;
        assert!(!all(&run).0.contains("were replaced"), "{arguments}");
    }
    let mut run = outcome("--churn 100");
    run.tally.connections.replaced = 890;
    let said = "ONLY 89/s of 100/s connections were replaced";
    assert!(all(&run).0.contains(said));
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
fn a_connection_that_waits_for_its_first_echo_is_not_called_open() {
    let mut run = outcome("");
    let c = &mut run.tally.connections;
    (c.confirmed, c.peak_confirmed, c.silent) = (50, 50, 50);
    let (text, ..) = all(&run);
    assert!(
        text.contains("50 confirmed by an answer, 50 open at the end"),
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
