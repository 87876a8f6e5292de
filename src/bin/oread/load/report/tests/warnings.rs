//! What the report says BEWARE of, and whose doing it was.

use super::*;

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
