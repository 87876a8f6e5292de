//! Whole command lines: what is good is taken, and one bad value among good ones is told by its
//! option, with exit code 2. `tests/common/fuzz.rs` tells how to have more inputs, and how to
//! replay one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::*;
use crate::failure::Failure;
use crate::fuzz::{Dice, fuzz, spoil};

/// Values of one kind: good ones, and bad ones.
type Kind = (&'static [&'static str], &'static [&'static str]);

const COUNT: Kind = (
    &["1", "2", "10k", "1.5k", "1_000"],
    &["0", "-1", "1.5", "10,000", "", "5G", "1i", "x"],
);
const THREADS: Kind = (&["1", "2", "1k"], &["0", "10k", "many"]);
const LARGE: Kind = (
    &["1", "5G", "18446744073709551615"],
    &["0", "0.5", "18446744073709551616", "1e99"],
);
const SIZE: Kind = (
    &["1", "4096", "64KiB", "1 MiB"],
    &["0", "-5", "KiB", "18446744073709551616", "1XB", "x"],
);
const SIZE_4GIB: Kind = (&["1", "255", "64KiB"], &["0", "4GiB", "-1", "many"]);
const DURATION: Kind = (
    &["1ns", "250ms", "1m 30s", "24days"],
    &["0s", "5", "25days", "18446744073709551615s 1000ms"],
);
const OR_ZERO: Kind = (
    &["0s", "0", "1s"],
    &["1", "1s 0", "-1s", "soon", "99999999999999999999s"],
);
const OR_NEVER: Kind = (&["never", "1s"], &["Never", "0s", ""]);
const RATE: Kind = (
    &["1", "50k", "100/s", "3000"],
    &["0/s", "/s", "0.5", "10,000"],
);
const FINE_RATE: Kind = (&["0.5", "1", "2.5k/s"], &["0", "0.0001", "/s", "1,000"]);
const ANSWER: Kind = (
    &[
        "echo",
        "lines",
        "fixed:4",
        "until:\\r\\n",
        "any",
        "none",
        "http",
    ],
    &["line", "until:", "until:\\q", "raw", ""],
);
const STAGES: Kind = (
    &["10s:1k", "1s:0,1m30s:0.5..2k/s", "1ms:4g..0"],
    &[
        "10s",
        "10s:",
        "10s:x",
        "10s:1,,",
        "0s:1",
        "1s:0",
        "24days:0..4g",
        "20days:1,20days:1",
    ],
);
const LEVELS: Kind = (
    &["10s:1k", "1s:0..3,1h:3..0"],
    &["10s", "1s:0.5", "1s:1/s", "1s:5G", "1s:0,1s:0..0"],
);
const OF: Kind = (&["rate", "connections"], &["Rate", "latency", ""]);
const PRECISION: Kind = (&["5%", "0.1%", "100%"], &["5", "0%", "101%", "-1%", "x%"]);
const ARRIVALS: Kind = (&["even", "poisson"], &["random", ""]);
const REGEX: Kind = (&["^a", "b.c$"], &["(", "[", "a{2,1}"]);
const SERVER_NAME: Kind = (
    &["localhost", "127.0.0.1", "[::1]", "a.example"],
    &["a b", "", "a_b.-", "\u{202e}"],
);
const RESUME: Kind = (&["on", "off"], &["yes", "", "On"]);
const START: Kind = (
    &["2999-01-01T00:00:00Z", "+30s", "+0s"],
    &["30s", "tomorrow", "+", "2999-01-01"],
);
const WORST: Kind = (&["1", "1k"], &["0", "1001", "x", "-1"]);
const SHARD: Kind = (
    &["0/1", "3/4", "none"],
    &["4/4", "1", "-1/2", "0/0", "a/b", "None", "0/65537"],
);
const SEED: Kind = (&["0", "7"], &["-1", "x", "18446744073709551616"]);
const CAP: Kind = (&["off", "1", "10k"], &["Off", "0", "none"]);
const ADDRESS: Kind = (
    &["127.0.0.1:0", "[::1]:9999", "localhost:7", "0.0.0.0:7"],
    &[
        "9999",
        ":9999",
        "127.0.0.1",
        "::1",
        "a..b:7",
        "a:65536",
        "http://a:1",
        "a b:1",
    ],
);
const TARGET: Kind = (
    &[
        "127.0.0.1:9",
        "udp://127.0.0.1:9",
        "tcp://[::1]:9/",
        "udp://localhost:9",
        "http://localhost/a?b=c",
        "https://a",
        "redis://[::1]",
        "tls://[::1]:9",
        "unix:///run/x",
    ],
    &[
        "127.0.0.1:0",
        "ftp://a:1",
        "tls://a",
        "redis://a/2",
        "http://a/b c",
        "a",
        "udp://",
        "\u{1b}[2J://a:1",
    ],
);
const PEER: Kind = (
    &["127.0.0.1:9", "[::1]:9999", "localhost:7", "tcp://[::1]:9/"],
    &["127.0.0.1:0", "http://a:1", "a", "udp://127.0.0.1:9"],
);
const SOURCE: Kind = (
    &["127.0.0.2", "10.0.0.0/24", "::1"],
    &["10.0.0.5/24", "fe80::1%eth0", "localhost"],
);
const GATE: Kind = (
    &["p99<5ms", "errors<1%", "rate>=1", "connections>0"],
    &["p99", "p100<5ms", "errors<-1%", "lost<5"],
);
const FRAMING: Kind = (
    &["raw", "lines", "fixed:64", "length:u8", "length:u32le"],
    &["fixed:0", "fixed:+1", "length", "Raw"],
);
const RANGE: Kind = (
    &["64", "64-4KiB", "1", "24"],
    &["0", "2-1", "1-2MiB", "-", "1-2-3"],
);
const VERIFY: Kind = (&["full", "sequence", "off"], &["Full", "none", ""]);
const TEXT: Kind = (&["hello", "-", "a b", "\u{202e}"], &[]);
const FLAG: Kind = (&[], &[]);

/// A command, what its addresses are, and its options.
type Line = (&'static str, Kind, &'static [(&'static str, Kind)]);

const COMMANDS: [Line; 5] = [
    (
        "serve",
        ADDRESS,
        &[
            ("--tcp", ADDRESS),
            ("--udp", ADDRESS),
            ("--backlog", COUNT),
            ("--threads", THREADS),
            ("--framing", FRAMING),
            ("--max-frame", SIZE_4GIB),
            ("--max-connections", COUNT),
            ("--idle-timeout", OR_NEVER),
            ("--write-timeout", DURATION),
            ("--high-water", SIZE_4GIB),
            ("--max-pending", SIZE),
            ("--drain-timeout", OR_ZERO),
            ("--allow-public-udp", FLAG),
            ("--udp-rate", CAP),
            ("--udp-rate-per-source", CAP),
            ("--udp-repeat-rate", CAP),
            ("--stats", OR_NEVER),
            ("--metrics", ADDRESS),
            ("--json", FLAG),
            ("-q", FLAG),
            ("-vv", FLAG),
        ],
    ),
    (
        "connect",
        PEER,
        &[
            ("--udp", FLAG),
            ("--framing", FRAMING),
            ("--max-frame", SIZE_4GIB),
            ("--bind", ADDRESS),
            ("--timeout", DURATION),
            ("--wait", OR_ZERO),
            ("-q", FLAG),
        ],
    ),
    (
        "load",
        TARGET,
        &[
            ("--connections", COUNT),
            ("--connect-rate", RATE),
            ("--duration", DURATION),
            ("--messages", LARGE),
            ("--ramp-timeout", DURATION),
            ("--warmup", OR_ZERO),
            ("--rate", FINE_RATE),
            ("--arrivals", ARRIVALS),
            ("--stages", STAGES),
            ("--connection-stages", LEVELS),
            ("--per-connection", COUNT),
            ("--reconnect", FLAG),
            ("--answer", ANSWER),
            ("--greeting", ANSWER),
            ("--max-answer", SIZE_4GIB),
            ("--expect", TEXT),
            ("--expect-regex", REGEX),
            ("--seed", SEED),
            ("--depth", COUNT),
            ("--think", DURATION),
            ("--idle", FLAG),
            ("--heartbeat", DURATION),
            ("--churn", RATE),
            ("--lifetime", DURATION),
            ("--size", RANGE),
            ("--message", TEXT),
            ("--framing", FRAMING),
            ("--verify", VERIFY),
            ("--source", SOURCE),
            ("--threads", THREADS),
            ("--connect-timeout", DURATION),
            ("--message-timeout", DURATION),
            ("--force", FLAG),
            ("--insecure", FLAG),
            ("--tls-name", SERVER_NAME),
            ("--tls-resume", RESUME),
            ("--json", TEXT),
            ("--hdr", TEXT),
            ("--csv", TEXT),
            ("--worst", WORST),
            ("--shard", SHARD),
            ("--start-at", START),
            ("--metrics", ADDRESS),
            ("--slo", GATE),
            ("-v", FLAG),
        ],
    ),
    (
        "find",
        TARGET,
        &[
            ("--slo", GATE),
            ("--slo", GATE),
            ("--of", OF),
            ("--from", COUNT),
            ("--to", COUNT),
            ("--precision", PRECISION),
            ("--step-for", DURATION),
            ("--within", DURATION),
            ("--connections", COUNT),
            ("--warmup", OR_ZERO),
            ("--arrivals", ARRIVALS),
            ("--rate", FINE_RATE),
            ("--depth", COUNT),
            ("--idle", FLAG),
            ("--lifetime", DURATION),
            ("--threads", THREADS),
            ("--json", TEXT),
            ("-q", FLAG),
        ],
    ),
    (
        "doctor",
        TARGET,
        &[
            ("--connections", COUNT),
            ("--source", SOURCE),
            ("--threads", THREADS),
            ("--json", FLAG),
        ],
    ),
];

/// A command line as typed, and the option that has a bad value, if any.
struct Typed {
    words: Vec<OsString>,
    bad: Option<&'static str>,
}

fn any_line(dice: &mut Dice) -> Typed {
    let (command, addresses, options) = dice.pick(&COMMANDS);
    let mut typed = Typed {
        words: vec!["oread".into(), command.into()],
        bad: None,
    };
    let mut wants_bad = dice.once_in(2);
    if dice.once_in(2) {
        let is_bad = wants_bad && dice.once_in(4);
        wants_bad &= !is_bad;
        typed.words.push(
            dice.pick(if is_bad { addresses.1 } else { addresses.0 })
                .into(),
        );
        // The name of the value, as the usage has it.
        let name = match command {
            "serve" => "[ADDR]",
            "connect" => "[HOST:PORT]",
            _ => "[TARGET]",
        };
        typed.bad = is_bad.then_some(name);
    }
    let mut left = options.to_vec();
    for _ in 0..dice.roll(5) {
        let Some((option, (good, bad))) = dice.draw(&mut left) else {
            break;
        };
        if good.is_empty() {
            typed.words.push(option.into());
            continue;
        }
        let is_bad = wants_bad && !bad.is_empty() && dice.once_in(2);
        wants_bad &= !is_bad;
        let value = dice.pick(if is_bad { bad } else { good });
        typed.words.push(format!("{option}={value}").into());
        if is_bad {
            typed.bad = Some(option);
        }
    }
    typed
}

/// Makes something else of a line: a word spoiled, taken away, put elsewhere, or no text at all.
fn spoil_line(dice: &mut Dice, words: &mut Vec<OsString>) {
    let at = dice.roll(words.len() as u64) as usize;
    match dice.roll(5) {
        0 => words.truncate(at),
        1 => words.push(
            dice.pick(&["--", "--nope", "-x", "", "--udp", "=", "--=", "help"])
                .into(),
        ),
        2 => words.push(OsString::from_vec(vec![b'a', 0xff, b':', b'1'])),
        3 => {
            let word = words.remove(at);
            words.push(word);
        }
        _ => {
            let mut text = words[at].to_string_lossy().into_owned();
            spoil(dice, &mut text);
            words[at] = text.into();
        }
    }
}

/// What the program makes of a line before it does anything: nothing where it's to show its help.
fn checked(command: &mut clap::Command, words: &[OsString]) -> Result<Option<()>, Failure> {
    let parsed = command
        .try_get_matches_from_mut(words)
        .and_then(|matches| Args::from_arg_matches(&matches));
    let typed = match parsed {
        Ok(typed) => typed,
        Err(error) if !error.use_stderr() => return Ok(None),
        Err(error) => return Err(Failure::arguments(&error)),
    };
    match typed.command {
        Command::Serve(typed) => serve::check::Serve::new(*typed, &[]).map(drop)?,
        Command::Connect(typed) => connect::check::Connect::try_from(typed).map(drop)?,
        Command::Load(typed) => {
            Plan::new(typed.demand, typed.output, &typed.verbosity).map(drop)?;
        }
        Command::Find(typed) => Find::new(*typed).map(drop)?,
        Command::Doctor(typed) => {
            Plan::new(typed.demand, Output::default(), &typed.verbosity).map(drop)?;
        }
        Command::Completions(_) | Command::Man(_) => {}
    }
    Ok(Some(()))
}

#[test]
fn a_bad_value_is_told_by_its_option_and_whatever_is_refused_is_exit_code_2() {
    let mut command = Args::command();
    fuzz(1500, |dice| {
        let Typed { mut words, bad } = any_line(dice);
        let is_spoiled = dice.once_in(4);
        if is_spoiled {
            spoil_line(dice, &mut words);
        }
        let result = checked(&mut command, &words);
        if let Err(failure) = &result {
            let said = failure.report();
            assert_eq!(failure.code(), 2, "{words:?}: {said}");
            assert!(
                said.starts_with("oread: error: ") && said.len() > 30,
                "{words:?}: {said}"
            );
            let acts =
                |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
            assert!(!said.contains(acts), "{words:?}: {said:?}");
        }
        if let (Some(option), false) = (bad, is_spoiled) {
            let refused = result
                .as_ref()
                .is_err_and(|failure| failure.to_string().contains(option));
            assert!(refused, "{words:?}: {result:?}, and nothing of {option}");
        }
        result.is_ok()
    });
}
