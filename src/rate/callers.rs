//! How many connections each source has, and how many new ones a second it makes.

use std::collections::HashMap;
use std::net::IpAddr;

use super::sources::Source;
use super::{Bucket, Keyed, Rate};

/// Sources that are remembered before those with no connection are forgotten.
const KEPT: usize = 1024;

/// The connections of each source, counted where they are limited.
#[derive(Debug)]
pub(crate) struct Callers {
    /// The most connections that one source may have.
    most: u32,
    /// New connections a second of one source.
    rate: Option<Rate>,
    sources: HashMap<Source, Caller, Keyed>,
    /// How many sources there may be before some are forgotten: twice as many as had connections
    /// the last time, so that each is looked at twice on the whole.
    bound: usize,
    /// The source that each connection is counted for, at its index.
    counted: Vec<Option<Source>>,
}

#[derive(Debug)]
struct Caller {
    open: u32,
    bucket: Option<Bucket>,
}

impl Callers {
    /// With `key` for the hash; `None` where nothing is limited.
    pub(crate) fn new(most: Option<u32>, a_second: Option<u32>, key: u64) -> Option<Callers> {
        (most.is_some() || a_second.is_some()).then(|| Callers {
            most: most.unwrap_or(u32::MAX),
            rate: a_second.map(|per_second| Rate {
                per_second,
                burst: per_second,
            }),
            sources: HashMap::with_hasher(Keyed(key)),
            bound: KEPT,
            counted: Vec::new(),
        })
    }

    /// Whether one more connection of `address` may be taken on at `now`. False, too, when there is
    /// no memory to remember it.
    pub(crate) fn admits(&mut self, address: IpAddr, now: u64) -> bool {
        if self.sources.len() >= self.bound {
            // A source that comes back has its whole rate again. Its handshakes show that it's
            // really there, and so there are no more of them than hosts.
            self.sources.retain(|_, caller| caller.open > 0);
            self.bound = (2 * self.sources.len()).max(KEPT);
        }
        if self.sources.try_reserve(1).is_err() {
            return false;
        }
        let new = || Caller {
            open: 0,
            bucket: self.rate.map(Bucket::new),
        };
        let caller = self.sources.entry(address.into()).or_insert_with(new);
        let has_token = |bucket: &mut Bucket| bucket.take(now);
        caller.open < self.most && caller.bucket.as_mut().is_none_or(has_token)
    }

    /// The connection at `index` was taken on from `address`. Where there is no memory to note
    /// that, it isn't counted.
    pub(crate) fn opened(&mut self, index: u32, address: IpAddr) {
        let (index, source) = (index as usize, Source::from(address));
        let missing = (index + 1).saturating_sub(self.counted.len());
        if self.counted.try_reserve(missing).is_ok()
            && let Some(caller) = self.sources.get_mut(&source)
        {
            self.counted.resize(self.counted.len() + missing, None);
            self.counted[index] = Some(source);
            caller.open += 1;
        }
    }

    /// The connection at `index` is gone.
    pub(crate) fn closed(&mut self, index: u32) {
        let source = self.counted.get_mut(index as usize).and_then(Option::take);
        if let Some(caller) = source.and_then(|source| self.sources.get_mut(&source)) {
            caller.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + last).into()
    }

    #[test]
    fn a_source_has_as_many_as_it_may_and_others_have_their_own() {
        let mut callers = Callers::new(Some(2), None, 1).unwrap();
        for index in 0..2 {
            assert!(callers.admits(address(1), 0));
            callers.opened(index, address(1));
        }
        assert!(!callers.admits(address(1), 0) && callers.admits(address(2), 0));
        callers.closed(1);
        callers.closed(1);
        assert!(callers.admits(address(1), 0));
        callers.opened(5, address(1));
        assert!(!callers.admits(address(1), 0));
    }

    #[test]
    fn new_ones_a_second_are_bounded_for_each_source() {
        let mut callers = Callers::new(None, Some(3), 1).unwrap();
        let admitted = |callers: &mut Callers, now| {
            (0..10).filter(|_| callers.admits(address(1), now)).count()
        };
        assert_eq!(admitted(&mut callers, 0), 3);
        assert_eq!(admitted(&mut callers, 1000), 3);
        assert_eq!(admitted(&mut callers, 1400), 1);
        assert!(callers.admits(address(2), 1400));
    }

    #[test]
    fn hosts_of_one_ipv6_network_are_one_source() {
        let mut callers = Callers::new(Some(1), None, 1).unwrap();
        let host = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(callers.admits(host("2001:db8::1"), 0));
        callers.opened(0, host("2001:db8::1"));
        assert!(!callers.admits(host("2001:db8::ffff:2"), 0));
        assert!(callers.admits(host("2001:db8:0:1::1"), 0));
    }

    #[test]
    fn what_is_remembered_is_bounded_by_the_connections_that_are_open() {
        let mut callers = Callers::new(Some(1), None, 1).unwrap();
        for source in 0..100_000 {
            assert!(callers.admits(address(source), 0));
            if source % 1000 == 0 {
                callers.opened(source, address(source));
            }
        }
        assert!(callers.sources.len() <= KEPT);
        let open = (0..100_000).filter(|source| !callers.admits(address(*source), 0));
        assert_eq!(open.count(), 100);
    }
}
