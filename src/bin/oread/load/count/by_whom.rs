//! Figures of each target, where there are several, and of the slowest connections.

use hdrhistogram::Histogram;

use super::{Told, coarse};
use crate::values::units::counted;

counted! {
    /// What became of the connections to one target, and of their messages.
    #[derive(Copy, PartialEq, Eq)]
    TargetCounts: u64 = 0;
    /// Dials that came to a connection.
    established => came "established",
    /// Dials that did not.
    failed => went "failed",
    /// Connections that ended though the load had not ended them.
    lost => went "lost",
    /// Messages of the measured time that were answered.
    answered => came "answered",
    /// Messages of the measured time that were not answered within the message timeout.
    timed_out => went "over the message timeout",
}

/// One target's figures.
#[derive(Clone, Debug)]
pub(crate) struct ByTarget {
    pub(crate) counts: TargetCounts,
    /// How long the answers took, since their messages were due; with two digits.
    pub(crate) response: Histogram<u64>,
}

impl Default for ByTarget {
    fn default() -> ByTarget {
        ByTarget {
            counts: TargetCounts::default(),
            response: coarse(),
        }
    }
}

/// What one connection's measured answers took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OneConnection {
    /// Its number, which the log has too, and the place of its target.
    pub(crate) flow: u32,
    pub(crate) target: u16,
    pub(crate) answers: u64,
    /// All that they took together, and the slowest, in nanoseconds.
    pub(crate) total: u64,
    pub(crate) max: u64,
}

impl OneConnection {
    /// What an answer took on average, in nanoseconds.
    pub(crate) fn mean(&self) -> u64 {
        self.total / self.answers.max(1)
    }
}

/// The slowest connections beside all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slowest {
    /// How many are kept.
    pub(crate) most: usize,
    /// Those whose answers took the longest on average, the slowest first.
    pub(crate) worst: Vec<OneConnection>,
    /// Connections that had answers, and these.
    pub(crate) connections: u64,
    pub(crate) answers: u64,
    pub(crate) total: u64,
}

impl Slowest {
    /// A connection has ended, or the run has.
    pub(crate) fn ended(&mut self, one: OneConnection) {
        if one.answers == 0 {
            return;
        }
        self.connections += 1;
        self.answers += one.answers;
        self.total = self.total.saturating_add(one.total);
        let place = self.worst.partition_point(|it| it.mean() >= one.mean());
        if place < self.most {
            self.worst.insert(place, one);
            self.worst.truncate(self.most);
        }
    }

    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: Slowest) {
        self.most = self.most.max(other.most);
        self.connections += other.connections;
        self.answers += other.answers;
        self.total = self.total.saturating_add(other.total);
        self.worst.extend(other.worst);
        self.worst.sort_by_key(|one| std::cmp::Reverse(one.mean()));
        self.worst.truncate(self.most);
    }

    /// What an answer took on average over all connections, in nanoseconds.
    pub(crate) fn mean(&self) -> u64 {
        self.total / self.answers.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(flow: u32, answers: u64, total: u64) -> OneConnection {
        OneConnection {
            flow,
            answers,
            total,
            max: total,
            target: 0,
        }
    }

    #[test]
    fn the_slowest_are_kept_over_threads_too_and_all_are_counted() {
        let mut all = Slowest::default();
        for thread in 0..2 {
            let mut own = Slowest {
                most: 2,
                ..Slowest::default()
            };
            for flow in 0..10 {
                own.ended(one(flow * 2 + thread, 2, u64::from(flow * 20 + thread * 4)));
            }
            own.ended(one(99, 0, 0));
            all.merge(own);
        }
        let worst: Vec<(u32, u64)> = all.worst.iter().map(|it| (it.flow, it.mean())).collect();
        assert_eq!(worst, [(19, 92), (18, 90)]);
        assert_eq!((all.connections, all.answers, all.mean()), (20, 40, 46));
    }
}
