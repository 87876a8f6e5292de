//! Datagrams that come again and again, as between two servers that answer each other.

use std::hash::BuildHasher as _;
use std::net::SocketAddr;

use super::{Bucket, Keyed, Rate};

/// Datagrams that are remembered, in 8 bytes each. A socket's buffer has room for 277 small ones by
/// default on Linux (212,992 bytes, 768 each), and two servers have two: no more can be on their
/// way.
const REMEMBERED: usize = 1024;

/// Bytes at either end that a datagram is recognised by, beside its source and its length: all of a
/// short one, and of a long one no more than costs little beside a system call.
const SAMPLE: usize = 32;

/// How many seconds' worth of repeats may come at once.
const BURST_SECONDS: u32 = 10;

/// A limit on datagrams that repeat an earlier one: the same bytes from the same address and port.
///
/// Where two servers send back what comes, a datagram goes round between them for good, as fast as
/// they can. Seen from either it comes from the same address again and again, and whoever drops it
/// once ends it. No client need send one datagram a hundred times a second; those that measure
/// number theirs.
///
/// Each datagram has one place to be remembered at, and takes it from another only one time in
/// eight, by chance. If it always did, two that share a place would pass as new ones for good, each
/// having pushed the other out. As it is, one of those that share a place is soon recognised,
/// however many go round, and they become fewer until none is left.
#[derive(Debug)]
pub(crate) struct Repeats {
    bucket: Bucket,
    /// Under a secret key: nobody can choose datagrams that meet in one place.
    hasher: Keyed,
    /// What is remembered at each place, 0 before that; empty until the first datagram.
    seen: Vec<u64>,
    /// The state of a linear congruential generator, whose upper bits are the chance.
    chance: u64,
}

impl Repeats {
    /// Lets through `per_second`, and ten seconds' worth at once. Hashes begin with `key`.
    pub(crate) fn new(per_second: u32, key: u64) -> Repeats {
        let rate = Rate {
            per_second,
            burst: per_second.saturating_mul(BURST_SECONDS),
        };
        Repeats {
            bucket: Bucket::new(rate),
            hasher: Keyed(key),
            seen: Vec::new(),
            chance: 0,
        }
    }

    /// Whether a datagram may pass at `now`, in milliseconds: it is a new one, or there are not too
    /// many repeats.
    pub(crate) fn take(&mut self, from: SocketAddr, data: &[u8], now: u64) -> bool {
        if self.seen.is_empty() {
            self.seen.resize(REMEMBERED, 0);
        }
        let (head, tail) = if data.len() <= 2 * SAMPLE {
            (data, &[][..])
        } else {
            (&data[..SAMPLE], &data[data.len() - SAMPLE..])
        };
        let print = self.hasher.hash_one((from, data.len(), head, tail));
        let place = &mut self.seen[print as usize % REMEMBERED];
        if *place == print {
            return self.bucket.take(now);
        }
        // Knuth's MMIX; what matters is that nobody who sends datagrams sees it.
        let next = self.chance.wrapping_mul(6_364_136_223_846_793_005);
        self.chance = next.wrapping_add(1_442_695_040_888_963_407);
        if *place == 0 || self.chance >> 61 == 0 {
            *place = print;
        }
        true
    }
}
