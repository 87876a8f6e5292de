//! Limits on how often: token buckets, one for each source, and for log lines.
//!
//! They read no clock. Time is milliseconds since any fixed moment, as a `u64`: unlike the ticks of
//! the timers it never wraps, for a source may be away for longer than a tick can tell. Time that
//! steps back counts as standing still.

mod callers;
mod repeats;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, DefaultHasher, Hasher as _};
use std::net::IpAddr;

pub(crate) use callers::Callers;
pub(crate) use repeats::Repeats;
use sources::{SourceBuckets, Standing};

/// One token, in the unit in which buckets are kept. A thousandth of a token a millisecond is one a
/// second, so whole numbers are exact at any rate and nothing is ever rounded.
const TOKEN: u64 = 1_000;

/// How many a second, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Tokens a second that a bucket gains. With 0 there is the burst and no more.
    pub(crate) per_second: u32,
    /// The most tokens that a bucket holds, and what it starts with. With 0 nothing ever passes.
    pub(crate) burst: u32,
}

impl Rate {
    /// So many a second, a tenth of them at once, or one: in any `t` seconds `per_second * (t +
    /// 0.1)` at most, or `per_second * t + 1` where that is more. A full second's worth at once
    /// would be twice the rate in the first second. With 0 nothing ever passes.
    pub(crate) fn even(per_second: u32) -> Rate {
        Rate {
            per_second,
            burst: (per_second / 10).max(1).min(per_second),
        }
    }

    /// A full bucket.
    fn full(self) -> u64 {
        u64::from(self.burst) * TOKEN
    }
}

/// What a bucket holds, apart from its rate, which many may share.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Thousandths of a token.
    held: u64,
    /// When that was, in milliseconds.
    at: u64,
}

impl Level {
    /// A full one, of whatever time: it gains nothing.
    fn full(rate: Rate) -> Level {
        Level {
            held: rate.full(),
            at: 0,
        }
    }

    /// Takes a token if there is one beside `reserve` thousandths.
    fn take(&mut self, rate: Rate, reserve: u64, now: u64) -> bool {
        let gained = now
            .saturating_sub(self.at)
            .saturating_mul(rate.per_second.into());
        self.held = self.held.saturating_add(gained).min(rate.full());
        self.at = self.at.max(now);
        let enough = self.held >= TOKEN + reserve;
        if enough {
            self.held -= TOKEN;
        }
        enough
    }
}

/// A token bucket. In any `t` milliseconds it lets through at most the burst and `t * per_second /
/// 1000`, and over a long time, if it is always asked, exactly that.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    level: Level,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Bucket {
        let level = Level::full(rate);
        Bucket { rate, level }
    }

    /// Whether one more may pass at `now`, in milliseconds; if so it is counted.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        self.level.take(self.rate, 0, now)
    }

    /// The same, but it leaves half of the bucket to [`take`](Bucket::take): however often this is
    /// asked, the others find a bucket of half the size that gains the whole rate. A bucket of one
    /// token has no half.
    fn take_spare(&mut self, now: u64) -> bool {
        let reserve = self.rate.full().saturating_sub(TOKEN) / 2;
        self.level.take(self.rate, reserve, now)
    }
}

/// Makes hashers that begin with a key: who doesn't know it can't choose what collides. Whoever
/// does finds the same places each time, which a simulation needs.
#[derive(Clone, Copy, Debug)]
struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

/// The caps on how much is answered: for all together, and for each source.
#[derive(Debug)]
pub(crate) struct Caps {
    all: Option<Bucket>,
    per_source: Option<SourceBuckets>,
}

impl Caps {
    /// Caps of so many a second, where there are any; `max_sources` is the size of the table of
    /// sources, and `key` what its hashes begin with.
    pub(crate) fn new(
        all: Option<u32>,
        per_source: Option<u32>,
        max_sources: u32,
        key: u64,
    ) -> Caps {
        let sources = |rate| SourceBuckets::new(Rate::even(rate), max_sources, key);
        Caps {
            all: all.map(|all| Bucket::new(Rate::even(all))),
            per_source: per_source.map(sources),
        }
    }

    /// Whether one more from `address` may pass at `now`, in milliseconds; if so it is counted.
    ///
    /// A known source comes before new ones where the cap for all is short. Without a cap for each
    /// source nothing is known of any, and all are the same.
    pub(crate) fn take(&mut self, address: IpAddr, now: u64) -> bool {
        // The source's own first: what it has too much must not use up what all have together.
        let standing = match &mut self.per_source {
            Some(sources) => sources.take(address, now),
            None => Some(Standing::Known),
        };
        match (standing, &mut self.all) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(Standing::Known), Some(all)) => all.take(now),
            (Some(Standing::New), Some(all)) => all.take_spare(now),
        }
    }
}

/// Keeps a log readable, and writing it cheap, while something goes wrong thousands of times a
/// second.
#[derive(Debug)]
pub(crate) struct LogLimiter {
    bucket: Bucket,
    suppressed: u64,
}

impl LogLimiter {
    /// Lets so many lines through a second, and so many at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> LogLimiter {
        LogLimiter {
            bucket: Bucket::new(Rate { per_second, burst }),
            suppressed: 0,
        }
    }

    /// Whether a line may be written at `now`, in milliseconds: if so, how many were suppressed
    /// since the last one that might, which the line is to say.
    pub(crate) fn permit(&mut self, now: u64) -> Option<Suppressed> {
        if self.bucket.take(now) {
            return Some(Suppressed(std::mem::take(&mut self.suppressed)));
        }
        self.suppressed = self.suppressed.saturating_add(1);
        None
    }
}

/// How many lines were left out before this one, for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more of the kind since the last line)"),
        }
    }
}
