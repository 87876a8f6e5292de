//! A gate as typed: `p99<5ms`.

use std::str::FromStr;

use super::{Comparison, Figure, Gate, Statistic, Timing};
use crate::cli::load::tally::nanos;
use crate::cli::load::values::per_second;
use crate::cli::units::{duration, large_count};

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Gate, String> {
        let at = text
            .find(['<', '>'])
            .ok_or("no < or > in it; write a gate as in 'p99<5ms', 'errors<0.1%' or 'rate>49k'")?;
        let (left, right) = text.split_at(at);
        let (comparison, bound) = match right.as_bytes() {
            [b'<', b'=', ..] => (Comparison::AtMost, &right[2..]),
            [b'<', ..] => (Comparison::Less, &right[1..]),
            [_, b'=', ..] => (Comparison::AtLeast, &right[2..]),
            _ => (Comparison::More, &right[1..]),
        };
        let (figure, bound) = figure_and_bound(left.trim(), bound.trim())?;
        Ok(Gate {
            text: text.trim().to_owned(),
            figure,
            comparison,
            bound,
        })
    }
}

fn figure_and_bound(name: &str, bound: &str) -> Result<(Figure, f64), String> {
    let share = bound.strip_suffix('%');
    match name {
        "errors" | "lost" => {
            let by_share = if name == "errors" {
                Figure::ErrorShare
            } else {
                Figure::LostShare
            };
            match share {
                Some(percent) => Ok((by_share, percentage(percent)? / 100.0)),
                None if name == "errors" => Ok((Figure::Errors, count_or_zero(bound)?)),
                None => Err("lost is a share; write it as in 'lost<0.1%'".into()),
            }
        }
        "rate" => Ok((Figure::Rate, f64::from(per_second(bound)?.get()))),
        "connections" => Ok((Figure::Connections, count_or_zero(bound)?)),
        _ => {
            let figure = latency(name)?.ok_or_else(|| {
                format!(
                    "figure \"{}\" is not known; there are p50, p99, p99.9 and so on, min, mean and max \
                     (of connect, first_echo or service with that and a dot in front), errors, lost, \
                     rate and connections",
                    name.escape_debug()
                )
            })?;
            Ok((figure, nanos(duration(bound)?) as f64))
        }
    }
}

/// The figure of a histogram that `name` is; `None` where it is none.
fn latency(name: &str) -> Result<Option<Figure>, String> {
    let (timing, statistic) = match name.split_once('.') {
        Some(("connect", rest)) => (Timing::Connect, rest),
        Some(("first_echo", rest)) => (Timing::FirstEcho, rest),
        Some(("service", rest)) => (Timing::Service, rest),
        Some(("response", rest)) => (Timing::Response, rest),
        _ => (Timing::Response, name),
    };
    let statistic = match statistic {
        "min" => Statistic::Min,
        "mean" => Statistic::Mean,
        "max" => Statistic::Max,
        _ => {
            let number = statistic.strip_prefix('p').map(str::parse);
            match number {
                Some(Ok(percentile)) if (0.0..100.0).contains(&percentile) => {
                    Statistic::Percentile(percentile)
                }
                Some(Ok(percentile)) if percentile >= 100.0 => {
                    return Err("a percentile is under 100; for the largest write max".to_owned());
                }
                _ => return Ok(None),
            }
        }
    };
    Ok(Some(Figure::Latency(timing, statistic)))
}

fn percentage(text: &str) -> Result<f64, String> {
    let percent: f64 = text
        .trim()
        .parse()
        .map_err(|_| "not a share; write it as in 0.1%".to_owned())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err("a share is from 0% to 100%".into());
    }
    Ok(percent)
}

fn count_or_zero(text: &str) -> Result<f64, String> {
    if text == "0" {
        return Ok(0.0);
    }
    large_count(text).map(|count| count.get() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_gate_is_refused_with_a_reason() {
        for (text, reason) in [
            ("p99", "no < or >"),
            ("p100<5ms", "for the largest write max"),
            ("connect.p101<5ms", "for the largest write max"),
            ("p-1<5ms", "not known"),
            ("pnan<5ms", "not known"),
            ("p99<5", "not a duration"),
            ("speed>1", "not known"),
            ("errors<101%", "from 0% to 100%"),
            ("errors<0.5", "whole number"),
            ("lost<5", "lost is a share"),
            ("rate>x", "not a count"),
            ("rate>49,000", "write 49000"),
        ] {
            let error = text.parse::<Gate>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
