//! What a run counts: one [`Tally`] a thread, added up at the end.
//!
//! Everything that the report says is computed from a tally, so text, JSON and the histogram log
//! can't disagree. Counters only grow; what is counted twice is counted so that it must add up, and
//! [`Tally::imbalance`] says where it doesn't.

use std::collections::BTreeMap;
use std::time::Duration;

use super::counters::{Bytes, Datagrams, Latency, Ledger, Messages, Schedule, Second};

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

impl ThreadUse {
    /// The share that a time is of the measured time. A thread has one processor at most: more
    /// comes of a time so short that reading the clocks is most of it.
    pub(crate) fn share(&self, time: Duration) -> f64 {
        match self.wall.is_zero() {
            true => 0.0,
            false => (time.as_secs_f64() / self.wall.as_secs_f64()).min(1.0),
        }
    }
}

/// How long this process did not run at all: it was stopped, or the machine was taken from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoodStill {
    /// All of it.
    pub(crate) total: Duration,
    /// The longest at a time.
    pub(crate) longest: Duration,
    /// How often.
    pub(crate) times: u64,
}

/// What an answer that is not what was sent is called among the errors.
pub(crate) const CORRUPT: &str = "corrupt answer";

/// A part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partial {
    /// Bytes that had come.
    pub(crate) got: u64,
    /// Bytes of the whole answer.
    pub(crate) of: u64,
}

/// Everything that one thread counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: Ledger,
    /// Every error by its name (`ECONNREFUSED`, `connect timeout`, `message timeout`,
    /// `closed by peer`, ...) and its count.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) messages: Messages,
    pub(crate) bytes: Bytes,
    pub(crate) latency: Latency,
    pub(crate) schedule: Schedule,
    pub(crate) datagrams: Datagrams,
    /// Datagrams of the flows that were open at the end, each with the flow's number, which its
    /// datagrams and the log have too; empty without UDP targets.
    pub(crate) flows: Vec<(u32, Datagrams)>,
    /// Those of flows that were closed before.
    pub(crate) retired_flows: Datagrams,
    /// Answers of which a part had come when they were given up, by the error's name: the first of
    /// each.
    pub(crate) partial: BTreeMap<String, Partial>,
    /// The first answer that was not what was sent: where it came, and what it was.
    pub(crate) corrupt_answer: Option<String>,
    /// Datagrams that were lost in this program's own receive buffers: the system says so.
    pub(crate) own_drops: u64,
    /// The measured time, second by second.
    pub(crate) seconds: Vec<Second>,
    /// One entry a thread.
    pub(crate) threads: Vec<ThreadUse>,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> Tally {
        Tally::default()
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

    /// Keeps what had come of the answer to a message that ended by an error of this name, if it's
    /// the first such.
    pub(crate) fn note_partial(&mut self, name: &str, partial: Option<Partial>) {
        if let Some(partial) = partial
            && !self.partial.contains_key(name)
        {
            self.partial.insert(name.to_owned(), partial);
        }
    }

    /// Adds what another thread has counted.
    pub(crate) fn merge(&mut self, other: &Tally) {
        self.connections.merge(&other.connections);
        self.messages.merge(&other.messages);
        self.bytes.merge(&other.bytes);
        self.datagrams.merge(&other.datagrams);
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        self.latency.merge(&other.latency);
        self.schedule.merge(&other.schedule);
        self.flows.extend_from_slice(&other.flows);
        self.retired_flows.merge(&other.retired_flows);
        for (name, partial) in &other.partial {
            self.note_partial(name, Some(*partial));
        }
        if self.corrupt_answer.is_none() {
            self.corrupt_answer.clone_from(&other.corrupt_answer);
        }
        self.own_drops += other.own_drops;
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
        // Each rule stands here once, for the sum and for the words.
        macro_rules! rules {
            ($($of:ident: $sum:ident = $first:ident $(+ $part:ident)+;)+) => {
                [$((
                    concat!(stringify!($of), ": ", stringify!($sum = $first $(+ $part)+)),
                    self.$of.$sum,
                    self.$of.$first $(+ self.$of.$part)+,
                )),+]
            };
        }
        let rules = rules! {
            connections: dialed = established + refused + timed_out + failed + dialing;
            connections: established = lost + closed + open;
            messages: sent = echoed + lost + outstanding;
            datagrams: sent = received + lost + outstanding;
        };
        let broken = rules.into_iter().find(|(_, sum, parts)| sum != parts);
        broken.map(|(rule, sum, parts)| format!("{rule} does not hold: {sum} and {parts}"))
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
