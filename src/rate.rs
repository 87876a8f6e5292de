//! Limits on how often: token buckets, one for each source, and for log lines.
//!
//! They read no clock. Time is milliseconds since any fixed moment, as a `u64`: unlike the ticks of
//! the timers it never wraps, for a source may be away for longer than a tick can tell. Time that
//! steps back counts as standing still.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

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
    /// Takes a token if there is one.
    fn take(&mut self, rate: Rate, now: u64) -> bool {
        let gained = now
            .saturating_sub(self.at)
            .saturating_mul(rate.per_second.into());
        self.held = self.held.saturating_add(gained).min(rate.full());
        self.at = self.at.max(now);
        let Some(left) = self.held.checked_sub(TOKEN) else {
            return false;
        };
        self.held = left;
        true
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
    /// A full bucket. `now` is in milliseconds.
    pub(crate) fn new(rate: Rate, now: u64) -> Bucket {
        Bucket {
            rate,
            level: Level {
                held: rate.full(),
                at: now,
            },
        }
    }

    /// Whether one more may pass at `now`, in milliseconds; if so it is counted.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        self.level.take(self.rate, now)
    }
}

/// Whom a bucket is for: what one subscriber can take addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4(Ipv4Addr),
    /// The upper half. One subscriber has at least a /64 to choose addresses from (RFC 6177), so
    /// that to count addresses would be to count nothing.
    V6(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source::V4(v4),
            IpAddr::V6(v6) => Source::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

/// A source's place in the table, and its neighbours in the order of use.
#[derive(Debug)]
struct Place {
    source: Source,
    level: Level,
    /// The place used just before this one, a ring through the stalest and the latest.
    earlier: u32,
    /// The place used just after this one; of the latest it is the stalest.
    later: u32,
}

/// A token bucket for each source address: a v4-mapped address is the v4 one, a v6 source is a /64.
///
/// The table has a set number of places and takes memory as they come into use. When all are in
/// use, a new source takes over the place of the one that has been silent for longest, *and what
/// that place's bucket holds*. So a flood of spoofed sources cannot grow the table, cannot slow it
/// (each packet is one look-up under a random SipHash key, and a move within a list), and gains
/// nothing from being many: whatever it does, all sources together get no more than the buckets of
/// so many places. A place that has been silent for long enough is full, and its successor is as
/// good as new.
#[derive(Debug)]
pub(crate) struct SourceBuckets {
    rate: Rate,
    max: usize,
    /// Where each source is in `places`. Invariant: one key a place.
    index: HashMap<Source, u32>,
    places: Vec<Place>,
    /// The place used last. The one `later` than it is the stalest.
    latest: u32,
}

impl SourceBuckets {
    /// An empty table of at most `max` sources; 0 is taken as 1.
    pub(crate) fn new(rate: Rate, max: u32) -> SourceBuckets {
        let (index, places) = (HashMap::new(), Vec::new());
        SourceBuckets {
            rate,
            max: max.max(1) as usize,
            index,
            places,
            latest: 0,
        }
    }

    /// How many sources have a place.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether one more from `address` may pass at `now`, in milliseconds; if so it is counted.
    pub(crate) fn take(&mut self, address: IpAddr, now: u64) -> bool {
        let source = Source::from(address);
        let place = match self.index.get(&source) {
            Some(&place) => {
                self.touch(place);
                place
            }
            None if self.places.len() < self.max => self.add(source, now),
            None => self.replace_stalest(source),
        };
        self.places[place as usize].level.take(self.rate, now)
    }

    /// Gives `source` a new place with a full bucket, the latest.
    fn add(&mut self, source: Source, now: u64) -> u32 {
        let place = self.places.len() as u32;
        let level = Level {
            held: self.rate.full(),
            at: now,
        };
        self.places.push(Place {
            source,
            level,
            earlier: place,
            later: place,
        });
        self.index.insert(source, place);
        if place > 0 {
            self.link_after_latest(place);
        }
        self.latest = place;
        place
    }

    /// Gives `source` the stalest place with the bucket in it, and makes it the latest.
    fn replace_stalest(&mut self, source: Source) -> u32 {
        let stalest = self.places[self.latest as usize].later;
        let before = std::mem::replace(&mut self.places[stalest as usize].source, source);
        self.index.remove(&before);
        self.index.insert(source, stalest);
        // The order is a ring: the stalest comes right after the latest, so it need only be called
        // the latest.
        self.latest = stalest;
        stalest
    }

    /// Makes `place` the latest.
    fn touch(&mut self, place: u32) {
        if place == self.latest {
            return;
        }
        let Place { earlier, later, .. } = self.places[place as usize];
        self.places[earlier as usize].later = later;
        self.places[later as usize].earlier = earlier;
        self.link_after_latest(place);
        self.latest = place;
    }

    /// Links `place`, which is not in the ring, between the latest and the stalest.
    fn link_after_latest(&mut self, place: u32) {
        let stalest = self.places[self.latest as usize].later;
        self.places[place as usize].earlier = self.latest;
        self.places[place as usize].later = stalest;
        self.places[self.latest as usize].later = place;
        self.places[stalest as usize].earlier = place;
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
    /// Lets through the lines that `rate` allows. `now` is in milliseconds.
    pub(crate) fn new(rate: Rate, now: u64) -> LogLimiter {
        LogLimiter {
            bucket: Bucket::new(rate, now),
            suppressed: 0,
        }
    }

    /// Whether a line may be written at `now`, in milliseconds: if so, how many were suppressed
    /// since the last one that might, which the line is to say.
    pub(crate) fn permit(&mut self, now: u64) -> Option<u64> {
        if self.bucket.take(now) {
            return Some(std::mem::take(&mut self.suppressed));
        }
        self.suppressed = self.suppressed.saturating_add(1);
        None
    }
}

/// How many lines were left out before this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suppressed(pub(crate) u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more of the kind since the last line)"),
        }
    }
}
