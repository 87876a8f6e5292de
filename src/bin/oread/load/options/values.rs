//! Values that only a load has: rates, ranges of sizes, what is verified.

#[cfg(test)]
mod fuzz;

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use crate::values::units::{a_second, count, size_under_4gib, thousandths};

/// The largest message, in bytes: what the library's echo takes as one frame by default. A made-up
/// message is built in memory whole, once for each that is checked.
pub(crate) const MAX_MESSAGE: u32 = 1 << 20;

/// The most messages that a connection may have under way: their times of sending are kept, 16
/// bytes each.
pub(crate) const MAX_DEPTH: u32 = 1 << 16;

/// A rate: a count, with or without `/s` behind it: `500`, `10k`, `50k/s`. A fraction of one a
/// second is none.
///
/// # Errors
/// As [`count`].
pub(crate) fn per_second(text: &str) -> Result<NonZeroU32, String> {
    count(text.strip_suffix("/s").unwrap_or(text))
}

/// Messages a second, to a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(NonZeroU64);

impl Rate {
    /// How many in [`Rate::THOUSAND_SECONDS`].
    pub(crate) fn thousandths(self) -> u64 {
        self.0.get()
    }

    /// The time that a whole number of them takes, in nanoseconds.
    pub(crate) const THOUSAND_SECONDS: u64 = 1_000_000_000_000;

    /// The least one that is no less than that.
    pub(crate) fn at_least(a_second: f64) -> Rate {
        let thousandths = NonZeroU64::new((a_second * 1000.0).ceil() as u64);
        Rate(thousandths.unwrap_or(NonZeroU64::MIN))
    }

    /// How many a second.
    pub(crate) fn a_second(self) -> f64 {
        self.0.get() as f64 / 1000.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        thousandths(text.strip_suffix("/s").unwrap_or(text)).map(Rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&a_second(self.a_second()))
    }
}

/// How the messages of a rate follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arrivals {
    /// At equal distances.
    #[default]
    Even,
    /// At random, as those of many people who know nothing of each other (a Poisson process)
    Poisson,
}

/// The sizes that messages have, in bytes; `least <= most <= MAX_MESSAGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SizeRange {
    /// The smallest.
    pub(crate) least: u32,
    /// The largest.
    pub(crate) most: u32,
}

impl FromStr for SizeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<SizeRange, String> {
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let (least, most) = (size_under_4gib(least)?.get(), size_under_4gib(most)?.get());
        if least > most {
            return Err("the smaller size comes first, as in 64-4096".into());
        }
        if most > MAX_MESSAGE {
            return Err("a message has at most 1MiB".into());
        }
        Ok(SizeRange { least, most })
    }
}

/// What is checked of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum VerifyMode {
    /// Every byte that comes back is the one that was sent, in order.
    Full,
    /// The answers' order and length alone.
    Sequence,
    /// Bytes are counted, and that is all.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_may_say_that_it_is_one() {
        assert_eq!(per_second("50k/s").unwrap().get(), 50_000);
        assert_eq!(per_second("7").unwrap().get(), 7);
        assert!(per_second("0/s").is_err() && per_second("/s").is_err());
        for text in ["0.5", "1.5/s"] {
            let refused = per_second(text).unwrap_err();
            assert!(refused.contains("whole number"), "{text}: {refused}");
        }
        assert_eq!(per_second("1.5k/s").unwrap().get(), 1_500);
    }

    #[test]
    fn a_size_is_one_number_or_two() {
        let range = |least, most| SizeRange { least, most };
        assert_eq!("64".parse(), Ok(range(64, 64)));
        assert_eq!("64-4KiB".parse(), Ok(range(64, 4096)));
        for wrong in ["0", "-", "4096-64", "1-2MiB", "1-2-3", "-5", ""] {
            assert!(wrong.parse::<SizeRange>().is_err(), "{wrong}");
        }
    }
}
