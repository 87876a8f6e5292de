//! The report of a run: words, JSON and histograms, all made of one [`Outcome`], so that they
//! agree.
//!
//! | file | what it is |
//! |---|---|
//! | `report/text`, `report/headline` | the words, for people; their first lines |
//! | `report/chart` | how responses are spread, as bars |
//! | `report/json` | everything, for programs |
//! | `report/hdr` | the histograms, as other tools read them |
//! | `report/judgement` | exit code, gates, and whether the generator was the bottleneck |
//! | `report/environment` | where it ran |
//! | `report/outputs` | where all this goes |

mod chart;
mod environment;
mod hdr;
mod headline;
mod json;
mod judgement;
pub(crate) mod outcome;
mod outputs;
mod text;

use crate::failure::Failure;
use crate::load::options::load::Load;
use crate::load::report::outcome::Outcome;

pub(crate) use outputs::Outputs;
pub(crate) use text::short;

use environment::Environment;
use judgement::Judgement;

/// The exit code where fewer connections can be reached than were asked for.
const NOT_REACHABLE: u8 = 4;

/// Tells a run's outcome in all `outputs` of its plan; gives the exit code.
///
/// The files are written before the words are said: who reads the words finds the files there.
///
/// # Errors
/// What could not be written; the rest was. Exit code 1, or that of an interruption.
pub(crate) fn report(outcome: &Outcome, mut outputs: Outputs) -> Result<u8, Failure> {
    let environment = Environment::of(Some(outcome.began));
    let mut judgement = Judgement::of(outcome);
    if let Some(path) = &outcome.plan.hdr {
        match hdr::log(outcome) {
            Ok(log) => outputs.write(path, &log),
            Err(failure) => outputs.failed(failure),
        }
    }
    judgement.exit_code = outputs.exit_code(judgement.exit_code);
    let json = || json::report(outcome, &environment, &judgement);
    if outcome.plan.json_to_stdout() {
        outputs.say(&json());
    } else {
        if let Some(path) = &outcome.plan.json {
            outputs.write(path, json().as_bytes());
        }
        outputs.say(&text::report(outcome, &environment, &judgement));
    }
    outputs.finish(judgement.exit_code)
}

/// Tells programs of a run that was not begun, because the preflight said no. People have been told
/// before.
///
/// # Errors
/// As [`report`].
pub(crate) fn not_begun(
    plan: &Load,
    targets: &[String],
    shortfalls: &[String],
    mut outputs: Outputs,
) -> Result<u8, Failure> {
    let json = || json::not_begun(&Environment::of(None), targets, shortfalls, NOT_REACHABLE);
    if plan.json_to_stdout() {
        outputs.say(&json());
    } else if let Some(path) = &plan.json {
        outputs.write(path, json().as_bytes());
    }
    outputs.finish(NOT_REACHABLE)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use base64::Engine as _;
    use clap::Parser as _;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::commands::{Args, Command};
    use crate::load::count::{StoodStill, Tally};
    use crate::load::options::load::Load;
    use crate::load::report::outcome::Ending;

    /// The plan of a command line.
    fn plan(arguments: &str) -> Load {
        let all = format!("oread load {arguments}");
        match Args::try_parse_from(all.split_whitespace())
            .unwrap()
            .command
        {
            Command::Load(typed) => Load::try_from(*typed).unwrap(),
            _ => panic!("not load"),
        }
    }

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
            plan: plan(arguments),
            targets: vec!["tcp://127.0.0.1:1".to_owned()],
            began: std::time::UNIX_EPOCH + Duration::from_millis(1_500),
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
        let environment = Environment::of(Some(outcome.began));
        let judgement = Judgement::of(outcome);
        let json = json::report(outcome, &environment, &judgement);
        (
            text::report(outcome, &environment, &judgement),
            serde_json::from_str(&json).unwrap(),
            hdr::log(outcome).unwrap(),
            judgement.exit_code,
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
        assert!(text.contains("1,000 answers a second"), "{text}");
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
            .find(|line| line.starts_with("  response"))
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
            text.starts_with("ONLY 97 of 100 connections came about: 3 refused\n"),
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
            text.starts_with("ONLY 97 of 100 connections were there to the end: 3 lost\n"),
            "{text}"
        );
        run.tally.connections.missing = 0;
        let (text, _, _, code) = all(&run);
        assert_eq!(code, 0);
        assert!(text.starts_with("LOST 3 connections"), "{text}");
    }

    #[test]
    fn the_churn_that_was_reached_stands_beside_what_was_asked_for() {
        let mut run = outcome("--churn 20");
        run.tally.connections.replaced = 195;
        let (text, json, ..) = all(&run);
        assert!(text.contains("20 a second asked for, 19.5 a second reached: 195"));
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
            (
                "p99<1h",
                false,
                "10,000 of 20,000 (50.000%) never came to it",
            ),
            (
                "max<1h",
                false,
                "10,000 of 20,000 (50.000%) never came to it",
            ),
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
            text.contains("not known: too few samples: 10,000, it takes 100,000"),
            "{text}"
        );
        assert!(text.contains("not known: no datagram was sent"), "{text}");
    }

    #[test]
    fn a_number_of_messages_that_was_not_reached_is_said_first_and_is_exit_4() {
        let mut run = outcome("-n 15k");
        assert_eq!(all(&run).3, 0);
        run.tally.messages.unsent = 5_000;
        let (text, _, _, code) = all(&run);
        assert_eq!(code, 4);
        assert!(
            text.starts_with("ONLY 10,000 of 15,000 messages were sent: nothing was answered"),
            "{text}"
        );
    }

    #[test]
    fn counts_that_do_not_add_up_are_a_failure() {
        let mut run = outcome("");
        run.tally.messages.sent += 1;
        let (text, json, _, code) = all(&run);
        assert_eq!(code, 1);
        assert!(text.starts_with("a fault of this program"), "{text}");
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

    #[test]
    fn the_generator_is_the_bottleneck_when_it_is_busy_or_kept_waiting_or_late_by_its_own_doing() {
        let late = |run: &mut Outcome, own: bool| {
            let pacing = &mut run.tally.pacing;
            for histogram in [&mut pacing.error, &mut pacing.lag] {
                histogram.record_n(10_000, 9_800).unwrap();
            }
            pacing.error.record_n(500_000_000, 200).unwrap();
            let lag = if own { 500_000_000 } else { 10_000 };
            pacing.lag.record_n(lag, 200).unwrap();
        };
        for (cpu, waited, own, reason) in [
            (9_400, 900, false, None),
            (9_600, 0, false, Some("no time left")),
            (1_000, 1_100, false, Some("waited for a processor 11%")),
            (
                1_000,
                0,
                true,
                Some("500ms or more after they could have been"),
            ),
        ] {
            let mut run = outcome("-R 1k");
            run.tally.threads = vec![thread(cpu, waited)];
            late(&mut run, own);
            let (text, json, ..) = all(&run);
            let reasons = json["generator"]["reasons"].as_array().unwrap();
            assert_eq!(json["generator"]["bottleneck"], reason.is_some(), "{json}");
            assert_eq!(reasons.len(), usize::from(reason.is_some()), "{json}");
            if let Some(reason) = reason {
                assert!(text.contains(reason), "{text}");
            }
            // Whoever's doing it was, how late messages were sent is told.
            assert!(text.contains("sent late by 500ms at p99"), "{text}");
        }
    }
}
