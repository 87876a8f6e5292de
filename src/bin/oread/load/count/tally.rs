//! What a run counts: one [`Tally`] a thread, added up at the end.
//!
//! Everything that the report says is computed from a tally, so text, JSON and the histogram log
//! can't disagree. Counters only grow; what is counted twice is counted so that it must add up, and
//! [`Tally::imbalance`] says where it doesn't.

mod counts;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

pub(crate) use counts::{Bytes, Datagrams, Ledger, Messages, Second};

/// Nanoseconds, from 1 to an hour, with three significant digits: 0.1 % is less than any clock here
/// is worth.
const LONGEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    // The bounds are constants that the crate takes; were they not, one that grows would do the
    // same.
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).unwrap_or_else(|_| unbounded())
}

/// An empty histogram of nanoseconds for a live view: two digits, an eighth of the memory.
pub(crate) fn coarse() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, DIGITS - 1).unwrap_or_else(|_| unbounded())
}

fn unbounded() -> Histogram<u64> {
    #[allow(clippy::expect_used)] // 0 to 5 digits are valid, whatever the machine.
    Histogram::new(DIGITS).expect("three digits are valid")
}

/// The time as histograms keep it.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How many of a histogram's values are over an hour: how long they were is then known to some
/// minutes at best.
pub(crate) fn over_an_hour(histogram: &Histogram<u64>) -> u64 {
    if histogram.max() <= LONGEST_NS {
        return 0;
    }
    histogram.count_between(LONGEST_NS + 1, histogram.high())
}

/// Records a duration; zero counts as 1 ns, and what is over 73 minutes as that.
pub(crate) fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    histogram.saturating_record(nanos(duration).max(1));
}

/// How long things took, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    /// From the dial to the connection.
    pub(crate) connect: Histogram<u64>,
    /// From the dial to the first answer.
    pub(crate) first_echo: Histogram<u64>,
    /// From when a message should have been sent to its answer: what a user of the server feels. In
    /// a closed loop that is when it was sent.
    pub(crate) response: Histogram<u64>,
    /// From when a message was sent to its answer: what the server took.
    pub(crate) service: Histogram<u64>,
}

/// How well the open loop kept its schedule.
#[derive(Clone, Debug)]
pub(crate) struct Pacing {
    /// How late messages were sent, in nanoseconds; empty in a closed loop.
    pub(crate) error: Histogram<u64>,
    /// How late they were sent by the generator's own doing: the time in which no connection could
    /// take them is left out.
    pub(crate) lag: Histogram<u64>,
}

/// One thread's part in the run's cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ThreadUse {
    /// Processor time that the thread took in the measured time.
    pub(crate) cpu: Duration,
    /// How long it was ready to run meanwhile, and others had the processors.
    pub(crate) waited: Duration,
    /// The measured time.
    pub(crate) wall: Duration,
}

/// Everything that one thread counts.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) connections: Ledger,
    /// Every error by its name (`ECONNREFUSED`, `connect timeout`, `message timeout`,
    /// `closed by peer`, ...) and its count.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) messages: Messages,
    pub(crate) bytes: Bytes,
    pub(crate) latency: Latency,
    pub(crate) pacing: Pacing,
    pub(crate) datagrams: Datagrams,
    /// Datagrams by flow, in the order of their numbers; empty without UDP targets.
    pub(crate) flows: Vec<Datagrams>,
    /// The measured time, second by second.
    pub(crate) seconds: Vec<Second>,
    /// One entry a thread.
    pub(crate) threads: Vec<ThreadUse>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> Tally {
        Tally {
            connections: Ledger::default(),
            errors: BTreeMap::new(),
            messages: Messages::default(),
            bytes: Bytes::default(),
            latency: Latency {
                connect: histogram(),
                first_echo: histogram(),
                response: histogram(),
                service: histogram(),
            },
            pacing: Pacing {
                error: histogram(),
                lag: histogram(),
            },
            datagrams: Datagrams::default(),
            flows: Vec::new(),
            seconds: Vec::new(),
            threads: Vec::new(),
        }
    }

    /// Counts an error.
    pub(crate) fn error(&mut self, name: &str) {
        match self.errors.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(name.to_owned(), 1);
            }
        }
    }
}

impl Tally {
    /// Adds what another thread has counted.
    pub(crate) fn merge(&mut self, other: &Tally) {
        self.connections.merge(&other.connections);
        self.messages.merge(&other.messages);
        self.bytes.merge(&other.bytes);
        self.datagrams.merge(&other.datagrams);
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        for (to, from) in [
            (&mut self.latency.connect, &other.latency.connect),
            (&mut self.latency.first_echo, &other.latency.first_echo),
            (&mut self.latency.response, &other.latency.response),
            (&mut self.latency.service, &other.latency.service),
            (&mut self.pacing.error, &other.pacing.error),
            (&mut self.pacing.lag, &other.pacing.lag),
        ] {
            // All have the same bounds: nothing can fail to fit.
            if let Err(error) = to.add(from) {
                log::error!("a histogram could not be added up: {error}");
            }
        }
        self.flows.extend_from_slice(&other.flows);
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), Second::default());
        }
        for (to, from) in self.seconds.iter_mut().zip(&other.seconds) {
            to.merge(from);
        }
        self.threads.extend_from_slice(&other.threads);
    }

    /// Where the counts don't add up, in words; `None` where they do, as they always must.
    pub(crate) fn imbalance(&self) -> Option<String> {
        let c = &self.connections;
        let m = &self.messages;
        let d = &self.datagrams;
        let checks = [
            (
                "dialed = established + refused + timed out + failed + dialing",
                c.dialed,
                c.established + c.refused + c.timed_out + c.failed + c.dialing,
            ),
            (
                "established = lost + closed + open",
                c.established,
                c.lost + c.closed + c.open,
            ),
            (
                "messages sent = echoed + lost + outstanding",
                m.sent,
                m.echoed + m.lost + m.outstanding,
            ),
            (
                "datagrams sent = received + lost + outstanding",
                d.sent,
                d.received + d.lost + d.outstanding,
            ),
        ];
        checks
            .into_iter()
            .find(|(_, left, right)| left != right)
            .map(|(rule, left, right)| format!("{rule} does not hold: {left} and {right}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_field_by_field() {
        let mut one = Tally::new();
        one.connections.dialed = 2;
        one.connections.established = 1;
        one.connections.refused = 1;
        one.connections.open = 1;
        one.error("ECONNREFUSED");
        one.seconds.push(Second {
            sent: 1,
            ..Second::default()
        });
        one.latency.response.record(1_000_000).unwrap();
        let mut all = Tally::new();
        all.merge(&one);
        all.merge(&one);
        assert_eq!(all.connections.dialed, 4);
        assert_eq!(all.errors["ECONNREFUSED"], 2);
        assert_eq!(all.seconds[0].sent, 2);
        assert_eq!(all.latency.response.len(), 2);
        assert_eq!(all.imbalance(), None);
    }

    #[test]
    fn counts_that_do_not_add_up_are_told() {
        let mut tally = Tally::new();
        tally.messages.sent = 1;
        assert!(tally.imbalance().unwrap().contains("1 and 0"));
    }
}
