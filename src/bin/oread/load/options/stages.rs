//! Stages: a rate, or a number of connections, over time, as in `10s:1k,30s:1k..10k,10s:10k`.

use std::sync::Arc;
use std::time::Duration;

use crate::load::clock::nanos;
use crate::values::units::{count, count_or_zero, duration, duration_or_zero, thousandths};

/// How many stages there may be: each has a histogram on each thread.
const MOST_STAGES: usize = 64;

/// What of a load changes as it goes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Traffic")]
pub(crate) struct StageArgs {
    /// In place of --rate and --duration: the rate over time, as in 10s:1k,30s:1k..10k,10s:10k.
    /// Each stage has a duration and a rate, or two between which the rate goes evenly; with a rate
    /// of 0 it's a pause
    #[arg(long, value_name = "STAGES", value_parser = rates, group = "schedule", conflicts_with_all = ["duration", "messages", "warmup", "depth", "think", "idle"])]
    pub(crate) stages: Option<Stages>,

    /// In place of --connections and --duration: how many connections there are over time, as in
    /// 30s:100..1k,1m:1k,10s:1k..0. More are dialed, or the oldest closed, as each stage goes on
    #[arg(long, value_name = "STAGES", value_parser = connections, conflicts_with_all = ["connections", "duration", "messages", "churn", "lifetime", "per_connection"])]
    pub(crate) connection_stages: Option<Stages>,
}

/// One stage: what there is of something at its beginning and its end, and evenly between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    /// How long it takes; not 0.
    pub(crate) time: Duration,
    /// Connections; of a rate, thousandths a second.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// Stages that follow each other: one at least, and not all of them of 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stages {
    pub(crate) all: Arc<[Stage]>,
}

impl Stages {
    /// How long they take in all.
    pub(crate) fn time(&self) -> Duration {
        self.all.iter().map(|stage| stage.time).sum()
    }

    /// The same stages of something of which there is a part: what `part` makes of each count.
    pub(crate) fn each(&self, part: impl Fn(u64) -> u64) -> Stages {
        let all = self.all.iter().map(|stage| Stage {
            from: part(stage.from),
            to: part(stage.to),
            ..*stage
        });
        Stages { all: all.collect() }
    }

    /// The same stages of one of so many equal parts, rounded.
    pub(crate) fn divided(&self, parts: u32) -> Stages {
        let parts = u64::from(parts.max(1));
        self.each(|all| (all + parts / 2) / parts)
    }

    /// When each ends, from the beginning of the first on, in nanoseconds.
    pub(crate) fn ends(&self) -> impl Iterator<Item = u64> {
        self.all.iter().scan(0, |end, stage| {
            *end += nanos(stage.time);
            Some(*end)
        })
    }

    /// The most that there is at a time.
    pub(crate) fn most(&self) -> u64 {
        let most = self.all.iter().map(|stage| stage.from.max(stage.to));
        most.max().unwrap_or(0)
    }

    /// Twice what they come to in all, times nanoseconds.
    pub(crate) fn twice(&self) -> u128 {
        self.all.iter().map(|stage| stage.twice()).sum()
    }

    /// By how much it grows a second at the most; a jump has all the time that it takes.
    pub(crate) fn steepest(&self) -> f64 {
        let grows = self.all.iter().map(|stage| {
            let more = stage.to.saturating_sub(stage.from) as f64;
            more / stage.time.as_secs_f64()
        });
        grows.fold(0.0, f64::max)
    }

    /// What there is of it at a time, over all stages.
    pub(crate) fn mean(&self) -> f64 {
        self.twice() as f64 / (2 * self.time().as_nanos()) as f64
    }

    /// The same over so much of them, from their beginning on.
    pub(crate) fn mean_until(&self, time: Duration) -> f64 {
        let (mut left, mut sum) = (time.as_secs_f64(), 0.0);
        for stage in self.all.iter() {
            let whole = stage.time.as_secs_f64();
            let passed = whole.min(left);
            let [from, to] = [stage.from, stage.to].map(|it| it as f64);
            sum += passed * (from + (to - from) * passed / whole / 2.0);
            left -= passed;
        }
        sum / time.min(self.time()).as_secs_f64()
    }
}

impl Stage {
    /// Twice what it comes to, times nanoseconds.
    fn twice(self) -> u128 {
        u128::from(self.from + self.to) * u128::from(nanos(self.time))
    }

    /// Whether all that is reckoned of it has room: twice its end times the square of its time.
    fn has_room(self) -> bool {
        let time = u128::from(nanos(self.time));
        let most = u128::from(self.from.max(self.to));
        let square = time.checked_mul(time);
        let product = square.and_then(|square| square.checked_mul(4 * most.max(1)));
        self.from == self.to || product.is_some()
    }
}

/// Stages of rates, in thousandths a second.
///
/// # Errors
/// Words on what is wrong with which of them.
pub(crate) fn rates(text: &str) -> Result<Stages, String> {
    stages(text, "a rate", |text| {
        let number = text.strip_suffix("/s").unwrap_or(text);
        match count_or_zero(number) {
            Ok(0) => Ok(0),
            _ => thousandths(number).map(u64::from),
        }
    })
}

/// Stages of connections.
///
/// # Errors
/// As [`rates`].
pub(crate) fn connections(text: &str) -> Result<Stages, String> {
    stages(
        text,
        "a number of connections",
        |text| match count_or_zero(text)? {
            0 => Ok(0),
            _ => count(text).map(|count| count.get().into()),
        },
    )
}

/// Stages of what `value` reads, which is called `what`.
fn stages(
    text: &str,
    what: &str,
    value: impl Fn(&str) -> Result<u64, String>,
) -> Result<Stages, String> {
    let stage = |text: &str| {
        let (time, values) = text
            .split_once(':')
            .ok_or_else(|| format!("it has no :; write a duration, : and {what}, as in 10s:1k"))?;
        let (from, to) = values.split_once("..").unwrap_or((values, values));
        Ok(Stage {
            time: duration(time.trim())?,
            from: value(from.trim())?,
            to: value(to.trim())?,
        })
    };
    let all = text.split(',').map(|text| {
        let stage = stage(text).map_err(|why: String| format!("stage '{}': {why}", text.trim()))?;
        match stage.has_room() {
            true => Ok(stage),
            false => Err(format!(
                "stage '{}' is too long for what it comes to; make several of it",
                text.trim()
            )),
        }
    });
    let all: Arc<[Stage]> = all.collect::<Result<_, String>>()?;
    let stages = Stages { all };
    if stages.all.len() > MOST_STAGES {
        return Err(format!("there may be {MOST_STAGES} stages at most"));
    }
    if stages.most() == 0 {
        return Err(format!("all stages are pauses; give one of them {what}"));
    }
    // As long as any other duration may be.
    duration_or_zero(&format!("{}ns", stages.time().as_nanos()))
        .map_err(|why| format!("all stages together: {why}"))?;
    Ok(stages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_a_duration_and_one_rate_or_two() {
        let read = rates("10s:1k, 1m30s:0.5..2k/s,1ms:0").unwrap();
        let stage = |ms, from, to| Stage {
            time: Duration::from_millis(ms),
            from,
            to,
        };
        let all = [
            stage(10_000, 1_000_000, 1_000_000),
            stage(90_000, 500, 2_000_000),
            stage(1, 0, 0),
        ];
        assert_eq!(*read.all, all);
        assert_eq!(read.ends().last(), Some(100_001_000_000));
        assert_eq!(read.most(), 2_000_000);
        for (seconds, mean) in [(5, 1_000_000.0), (10, 1_000_000.0), (55, 591_216.0)] {
            let until = read.mean_until(Duration::from_secs(seconds));
            assert!((until - mean).abs() < 1.0, "{until} after {seconds} s");
        }
        let whole = read.mean_until(read.time());
        assert!((whole - read.mean()).abs() < 1e-6, "{whole}");
    }

    #[test]
    fn what_is_no_stage_is_told_with_its_words() {
        for (text, why) in [
            ("", "it has no :"),
            ("10s", "stage '10s': it has no :"),
            ("10s:1k,,", "stage ''"),
            ("10:1k", "not a duration"),
            ("0s:1k", "must be more than 0"),
            ("10s:x", "stage '10s:x': not a number"),
            ("10s:1..", "stage '10s:1..'"),
            ("10s:..5", "not a number"),
            ("10s:-1", "not a number"),
            ("10s:1:2", "not a number"),
            ("10s:0,5s:0..0", "all stages are pauses"),
            ("24days:0..4g", "too long for what it comes to"),
            (
                "20days:1,20days:1",
                "all stages together: must be at most 24 days",
            ),
        ] {
            let said = rates(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        let many = vec!["1s:1"; MOST_STAGES + 1].join(",");
        assert!(rates(&many).unwrap_err().contains("64 stages at most"));
    }
}
