//! A bucket for each source, and which sources are known.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::{Keyed, Level, Rate};

/// How long after its first datagram a source must be heard from again to be known, in
/// milliseconds. Whoever forges random senders names none of them twice; a network that doubles a
/// datagram does it at once.
const SETTLED_MS: u64 = 1_000;

/// For how long a known source keeps its place in silence, in milliseconds, though others want it.
const KEPT_MS: u64 = 60_000;

/// What is known of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was not heard from before, or a moment ago for the first time.
    New,
    /// It was heard from over at least a second, and has kept its place in the table since.
    Known,
}

/// Whom a bucket is for: what one subscriber can take addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
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
    /// When the source came to this place, in milliseconds.
    since: u64,
    standing: Standing,
    /// The place used just before this one, a ring through the stalest and the latest.
    earlier: u32,
    /// The place used just after this one; of the latest it is the stalest.
    later: u32,
}

/// The order of use of the places of one standing.
#[derive(Debug, Default)]
struct Ring {
    /// The place used last. The one `later` than it is the stalest. Of no meaning in an empty ring.
    latest: u32,
    /// How many places it has.
    len: u32,
}

impl Ring {
    /// The place that was not used for longest, if there is one.
    fn stalest(&self, places: &[Place]) -> Option<u32> {
        (self.len > 0).then(|| places[self.latest as usize].later)
    }

    /// Makes `place`, which is in no ring, the latest of this one.
    fn push(&mut self, places: &mut [Place], place: u32) {
        let stalest = self.stalest(places).unwrap_or(place);
        let before = if self.len > 0 { self.latest } else { place };
        places[before as usize].later = place;
        places[stalest as usize].earlier = place;
        places[place as usize].earlier = before;
        places[place as usize].later = stalest;
        self.latest = place;
        self.len += 1;
    }

    /// Takes `place` out.
    fn remove(&mut self, places: &mut [Place], place: u32) {
        let Place { earlier, later, .. } = places[place as usize];
        places[earlier as usize].later = later;
        places[later as usize].earlier = earlier;
        if self.latest == place {
            self.latest = earlier;
        }
        self.len -= 1;
    }
}

/// A token bucket for each source address: a v4-mapped address is the v4 one, a v6 source is a /64.
///
/// The table has a set number of places and takes memory as they come into use. When all are in
/// use, a new source takes over the place of the new one that has been silent for longest, *and
/// what that place's bucket holds*. So a flood of spoofed sources cannot grow the table, cannot
/// slow it (each packet is one look-up under a secret SipHash key, and a move within a list), and
/// gains nothing from being many: whatever it does, all sources together get no more than the
/// buckets of so many places. A place that has been silent for long enough is full, and its
/// successor is as good as new.
///
/// Nor can it drive out those who were there before. A source that is heard from again a second
/// after it came is *known*, and new ones take no known one's place. Up to half of the places are
/// for known sources; when those are used up, another becomes known only in place of one that has
/// been silent for a minute. So a known source that is heard from once a minute keeps its place
/// whatever happens, and one that is silent for longer keeps it while there is room.
#[derive(Debug)]
pub(super) struct SourceBuckets {
    rate: Rate,
    max: usize,
    /// Where each source is in `places`. Invariant: one key a place. Nobody walks it: its order is
    /// the key's.
    index: HashMap<Source, u32, Keyed>,
    /// Invariant: each is in the ring of its standing.
    places: Vec<Place>,
    /// By the standing of their places. Invariant: the known ones are no more than half of `max`,
    /// so that there is always a new one to make room.
    rings: [Ring; 2],
}

impl SourceBuckets {
    /// An empty table of at most `max` sources; 0 is taken as 1. Its hashes begin with `key`.
    pub(super) fn new(rate: Rate, max: u32, key: u64) -> SourceBuckets {
        SourceBuckets {
            rate,
            max: max.max(1) as usize,
            index: HashMap::with_hasher(Keyed(key)),
            places: Vec::new(),
            rings: Default::default(),
        }
    }

    /// Whether one more from `address` may pass at `now`, in milliseconds; if so it is counted, and
    /// what is known of the source is told.
    pub(super) fn take(&mut self, address: IpAddr, now: u64) -> Option<Standing> {
        let source = Source::from(address);
        let place = match self.index.get(&source) {
            Some(&place) => {
                self.hear(place, now);
                place
            }
            None => self.admit(source, now),
        };
        let Place {
            level, standing, ..
        } = &mut self.places[place as usize];
        level.take(self.rate, 0, now).then_some(*standing)
    }

    /// Gives `source` a place: one with a full bucket, or the stalest new one's with what its
    /// bucket holds.
    fn admit(&mut self, source: Source, now: u64) -> u32 {
        let stalest = self.stalest(Standing::New);
        let place = match stalest.filter(|_| self.places.len() >= self.max) {
            Some(stalest) => {
                let place = &mut self.places[stalest as usize];
                let before = std::mem::replace(&mut place.source, source);
                place.since = now;
                self.index.remove(&before);
                self.file(stalest, Standing::New);
                stalest
            }
            None => {
                let place = self.places.len() as u32;
                self.places.push(Place {
                    source,
                    level: Level::full(self.rate),
                    since: now,
                    standing: Standing::New,
                    earlier: place,
                    later: place,
                });
                self.rings[Standing::New as usize].push(&mut self.places, place);
                place
            }
        };
        self.index.insert(source, place);
        place
    }

    /// The place of this standing that was not used for longest, if there is one.
    fn stalest(&self, standing: Standing) -> Option<u32> {
        self.rings[standing as usize].stalest(&self.places)
    }

    /// Makes `place` the latest of a standing.
    fn file(&mut self, place: u32, standing: Standing) {
        let before = std::mem::replace(&mut self.places[place as usize].standing, standing);
        self.rings[before as usize].remove(&mut self.places, place);
        self.rings[standing as usize].push(&mut self.places, place);
    }

    /// Makes `place` the latest, and its source a known one if it may be.
    fn hear(&mut self, place: u32, now: u64) {
        let Place {
            since, standing, ..
        } = self.places[place as usize];
        let settles = standing == Standing::New && now.saturating_sub(since) >= SETTLED_MS;
        let standing = match settles && self.make_room(now) {
            true => Standing::Known,
            false => standing,
        };
        self.file(place, standing);
    }

    /// Whether one more source can be known; the one that was silent for longest is forgotten for
    /// it if need be, and if that has been long enough.
    fn make_room(&mut self, now: u64) -> bool {
        if (self.rings[Standing::Known as usize].len as usize) < self.max / 2 {
            return true;
        }
        let Some(stalest) = self.stalest(Standing::Known) else {
            return false;
        };
        let place = &mut self.places[stalest as usize];
        if now.saturating_sub(place.level.at) < KEPT_MS {
            return false;
        }
        place.since = now;
        self.file(stalest, Standing::New);
        true
    }
}
