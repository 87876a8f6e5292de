//! Gates as typed against a plain reading of them, and what is refused of them beforehand against
//! what is plain. `tests/common/fuzz.rs` tells how to have more inputs, and how to replay one.

use std::fmt::Write as _;

use super::*;
use crate::fuzz::{Dice, assert_words, fuzz, spoil};
use crate::load::options::load::{Load, Traffic, Volume};
use crate::values::units::duration;
use crate::values::units::fuzz::{Plain, any_number, plain_number};

/// The gate that `text` is, as `docs/LOAD-REFERENCE.md` has it: its figure, its comparison, its
/// bound.
fn plain_gate(text: &str) -> Option<(Figure, Ordering, bool, f64)> {
    if text.trim() == "valid" {
        return Some((Figure::Warnings, Ordering::Less, true, 0.0));
    }
    let (figure, rest) = text.split_at(text.find(['<', '>'])?);
    let comparisons = [
        ("<=", Ordering::Less, true),
        (">=", Ordering::Greater, true),
        ("<", Ordering::Less, false),
        (">", Ordering::Greater, false),
    ];
    let (side, or_equal, bound) = comparisons
        .into_iter()
        .find_map(|(sign, side, or_equal)| Some((side, or_equal, rest.strip_prefix(sign)?)))?;
    let (figure, bound) = (figure.trim(), bound.trim());
    let counted = |most: u64| match plain_number(bound, false) {
        Plain::Number(number, true) if number <= most => Some(number as f64),
        _ => None,
    };
    let share = bound
        .strip_suffix('%')
        .map(str::trim)
        .and_then(plain_decimal);
    let share = share
        .filter(|share| *share <= 100.0)
        .map(|share| share / 100.0);
    let (figure, bound) = match figure {
        "errors" if bound.ends_with('%') => (Figure::ErrorShare, share?),
        "errors" => (Figure::Errors, counted(u64::MAX)?),
        "lost" => (Figure::LostShare, share?),
        "connections" => (Figure::Connections, counted(u64::MAX)?),
        "rate" => {
            let number = plain_number(bound.strip_suffix("/s").unwrap_or(bound), false);
            match number {
                Plain::Number(rate @ 1..=0xffff_ffff, true) => (Figure::Rate, rate as f64),
                _ => return None,
            }
        }
        _ => (
            plain_latency(figure)?,
            duration(bound).ok()?.as_nanos() as f64,
        ),
    };
    Some((figure, side, or_equal, bound))
}

fn plain_latency(figure: &str) -> Option<Figure> {
    let (timing, statistic) = match figure.split_once('.') {
        Some(("response", statistic)) => (Timing::Response, statistic),
        Some(("service", statistic)) => (Timing::Service, statistic),
        Some(("connect", statistic)) => (Timing::Connect, statistic),
        Some(("handshake", statistic)) => (Timing::Handshake, statistic),
        Some(("first_echo", statistic)) => (Timing::FirstEcho, statistic),
        _ => (Timing::Response, figure),
    };
    let statistic = match statistic {
        "min" => Statistic::Min,
        "mean" => Statistic::Mean,
        "max" => Statistic::Max,
        _ => {
            let percentile = plain_decimal(statistic.strip_prefix('p')?)?;
            Statistic::Percentile(Some(percentile).filter(|percentile| *percentile < 100.0)?)
        }
    };
    Some(Figure::Latency(timing, statistic))
}

/// Digits with a point among them or at an end, and maybe an exponent; no sign in front, and no
/// other number.
fn plain_decimal(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let (digits, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_one = are_digits(&digits.replacen('.', "", 1)) && are_digits(exponent);
    is_one.then(|| text.parse().unwrap())
}

fn any_figure(dice: &mut Dice, text: &mut String) {
    if dice.once_in(3) {
        let histograms = [
            "response.",
            "service.",
            "connect.",
            "handshake.",
            "first_echo.",
            "connect",
            ".",
            "Connect.",
        ];
        text.push_str(dice.pick(&histograms));
    }
    match dice.roll(4) {
        0 => text.push_str(dice.pick(&["min", "mean", "max", "p", "speed", "median", "", "P99"])),
        1 => text.push_str(dice.pick(&[
            "p0", "p50", "p99", "p99.9", "p100", "p-1", "p+9", "pnan", "pinf", "p1e1", "p.5",
        ])),
        2 => write!(text, "p{}.{}", dice.roll(102), dice.edge()).unwrap(),
        _ => write!(text, "p{}", dice.roll(102)).unwrap(),
    }
}

fn any_bound(dice: &mut Dice, text: &mut String) {
    match dice.roll(5) {
        0 => text.push_str(dice.pick(&[
            "5ms", "250us", "1.5s", "0s", "1m 30s", "5", "24days", "25days", "1ns", "never",
        ])),
        1 => {
            let shares = [
                "0", "0.1", "1", "100", "100.0001", "101", "-0", "+1", "1e-3", "nan", "inf", "",
                "1e999", "5e-324",
            ];
            write!(
                text,
                "{}{}",
                dice.pick(&shares),
                dice.pick(&["%", "%", "%", " %", "%%", ""])
            )
            .unwrap();
        }
        2 => write!(text, "{}.{}%", dice.roll(102), dice.roll(1000)).unwrap(),
        3 => text.push_str(dice.pick(&[
            "0", "00", "1", "10", "999", "1000", "1001", "49k", "100/s", "49,000",
        ])),
        _ => {
            any_number(dice, text);
            text.push_str(dice.pick(&["", "", "/s", "%"]));
        }
    }
}

/// A gate as people type it, and as they shouldn't.
fn any_gate(dice: &mut Dice, text: &mut String) {
    if dice.once_in(4) {
        // Beside what the plans have: connections, messages, messages a second, samples of a
        // percentile.
        let figure = dice.pick(&["connections", "connections", "rate", "errors", "lost"]);
        let comparison = dice.pick(&["<", "<=", ">", ">="]);
        let bound = dice.pick(&["0", "1", "9", "10", "11", "999", "1000", "1001", "0%"]);
        return write!(text, "{figure}{comparison}{bound}").unwrap();
    }
    let spaces = ["", "", "", " ", "\t", "\n", "\u{85}"];
    text.push_str(dice.pick(&spaces));
    if dice.once_in(32) {
        text.push_str("valid");
        text.push_str(dice.pick(&["", " ", "<1", "ity"]));
        return;
    }
    match dice.roll(3) {
        0 => any_figure(dice, text),
        _ => text.push_str(dice.pick(&[
            "errors",
            "lost",
            "rate",
            "connections",
            "p99",
            "connect.max",
        ])),
    }
    text.push_str(dice.pick(&spaces));
    text.push_str(dice.pick(&[
        "<", "<=", ">", ">=", "<", "<=", ">", ">=", "=", "==", "=<", "<>", "",
    ]));
    text.push_str(dice.pick(&spaces));
    any_bound(dice, text);
    text.push_str(dice.pick(&spaces));
    if dice.once_in(8) {
        spoil(dice, text);
    }
}

/// Loads of each kind, to hold gates against beforehand.
fn plans() -> Vec<Load> {
    let lines = [
        "-c 10",
        "-c 1000 -R 1k -d 5s",
        "-c 999 -R 1k -n 999",
        "-n 1000",
        "--idle",
        "--idle --heartbeat 1s",
        "-c 10 --churn 5",
        "udp://127.0.0.1:9",
    ];
    lines.map(Load::of).into()
}

#[test]
fn a_gate_is_read_as_documented_and_told_as_it_is_typed() {
    let plans = plans();
    let mut text = String::new();
    fuzz(8000, |dice| {
        text.clear();
        any_gate(dice, &mut text);
        let plain = plain_gate(&text);
        let read = text.parse::<Gate>();
        let parts = read
            .as_ref()
            .ok()
            .map(|gate| (gate.figure, gate.side, gate.or_equal, gate.bound));
        assert_eq!(parts, plain, "{text:?}: {read:?}");
        match &read {
            Ok(gate) => {
                let shown = gate.text.clone();
                let without_spaces = |text: &str| text.replace(char::is_whitespace, "");
                assert_eq!(without_spaces(&shown), without_spaces(&text));
                assert!(!shown.contains(char::is_control), "{shown:?}");
                assert_eq!(shown.parse().as_ref(), Ok(gate), "{text:?}");
                assert!(gate.bound.is_finite() && gate.bound.is_sign_positive());
                let plan = dice.roll(plans.len() as u64) as usize;
                is_refused_where_that_is_plain(gate, &plans[plan]);
            }
            Err(said) => assert_words(said),
        }
        read.is_ok()
    });
}

/// What is plain before a run: no loss without datagrams, no more connections than there are,
/// nothing below 0, and fewer samples than a percentile takes.
fn is_refused_where_that_is_plain(gate: &Gate, plan: &Load) {
    let why = crate::load::options::load::never::why_never(gate, plan);
    if let Some(why) = &why {
        assert_words(why);
        if let Some((_, proposed)) = why.split_once("; write ") {
            assert!(proposed.parse::<Gate>().is_ok(), "{gate:?}: {why}");
        }
    }
    if gate.bound == 0.0 && gate.side == Ordering::Less && !gate.or_equal {
        return assert!(why.is_some(), "{gate:?}");
    }
    let all = f64::from(plan.connections.get());
    let is_never = match (gate.figure, gate.side) {
        (Figure::Errors | Figure::ErrorShare | Figure::Warnings, _) => false,
        (Figure::LostShare, _) => !plan.has_udp(),
        (Figure::Connections, Ordering::Greater) if gate.or_equal => gate.bound > all,
        (Figure::Connections, Ordering::Greater) => gate.bound >= all,
        (Figure::Connections, _) => false,
        (Figure::Rate, Ordering::Less) => false,
        (Figure::Rate, _) => match (plan.traffic, plan.volume) {
            (Traffic::Open(rate, _), Volume::For(_)) => gate.bound > rate.a_second(),
            (Traffic::Idle { heartbeat: None }, _) => true,
            _ => false,
        },
        (Figure::Latency(Timing::Response | Timing::Service, statistic), _) => {
            let samples = match (plan.traffic, plan.volume) {
                (Traffic::Idle { heartbeat: None }, _) => {
                    return assert!(why.is_some(), "{gate:?}");
                }
                (_, Volume::Messages(messages)) => messages.get() as f64,
                (Traffic::Open(rate, _), Volume::For(time)) => rate.a_second() * time.as_secs_f64(),
                _ => f64::INFINITY,
            };
            match statistic {
                Statistic::Percentile(p) => {
                    let beyond = samples * (100.0 - p) / 100.0;
                    // What is that near is for the tests of single cases.
                    if (9.999..10.001).contains(&beyond) {
                        return;
                    }
                    beyond < 10.0
                }
                _ => false,
            }
        }
        (Figure::Latency(..), _) => return,
    };
    assert_eq!(why.is_some(), is_never, "{gate:?}: {why:?}");
}
