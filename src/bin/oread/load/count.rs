//! What a run counts: one [`Tally`] a thread, added up at the end.
//!
//! Everything that the report says is computed from a tally, so text, JSON and the histogram log
//! can't disagree. Counters and histograms only grow. Each is named here, and nowhere else:
//! [`counted!`] makes the struct, its sum and its names of one list, and the report for programs
//! tells all of them by these names. What is counted twice is counted so that it must add up, and
//! [`Tally::imbalance`] says where it doesn't.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::clock::nanos;
use crate::values::units::counted;

/// What is told to people.
pub(crate) trait Told {
    /// What came of it and what went wrong with it, in words; what is zero is left out.
    fn told(&self) -> [String; 2];

    /// What each counter is, in their order: as its comment says it.
    fn explained() -> impl Iterator<Item = &'static str>;
}

/// Makes a struct of what is counted: its fields, how another one is added to it, what each is
/// called by programs, and what people are told of it: that it came about, or that it went wrong.
macro_rules! counted {
    (
        $(#[$about:meta])*
        $name:ident: $type:ty = $none:expr;
        $($(#[doc = $doc:literal])* $field:ident $(=> came $came:literal)? $(=> went $went:literal)?,)+
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $($(#[doc = $doc])* pub(crate) $field: $type,)+
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $none),+ }
            }
        }

        impl $name {
            /// Adds another one's. Histograms have the same bounds, all of them: each fits.
            pub(crate) fn merge(&mut self, other: &$name) {
                $(self.$field += &other.$field;)+
            }

            /// Each by its name.
            pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &$type)> {
                [$((stringify!($field), &self.$field)),+].into_iter()
            }
        }

        impl Told for $name {
            fn told(&self) -> [String; 2] {
                let came = counted([$($((self.$field, $came),)?)+]);
                let went = counted([$($((self.$field, $went),)?)+]);
                [came, went]
            }

            fn explained() -> impl Iterator<Item = &'static str> {
                [$(concat!($($doc),*)),+].into_iter()
            }
        }
    };
}

mod by_whom;
mod over_time;
mod packed;

#[cfg(all(test, feature = "sim"))]
pub(crate) use by_whom::TargetCounts;
pub(crate) use by_whom::{ByTarget, OneConnection, Slowest};
pub(crate) use over_time::{BySecond, Second};
pub(crate) use packed::Packed;

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
    /// The share of the measured time that it used a processor.
    pub(crate) fn busy(&self) -> f64 {
        self.share(self.cpu)
    }

    /// The share that a time is of the measured time. A thread has one processor at most: more
    /// comes of a time so short that reading the clocks is most of it.
    pub(crate) fn share(&self, time: Duration) -> f64 {
        match self.wall.as_secs_f64() {
            0.0 => 0.0,
            wall => (time.as_secs_f64() / wall).min(1.0),
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
/// An answer to a datagram, or to a flow, too long ago to be told: over twice the message timeout.
pub(crate) const TOO_LATE: &str = "answer too late to be told";

/// The name of the error that an answer is which ends where it must, and is not what it must be.
pub(crate) const MISMATCHED: &str = "answer not as expected";

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
    pub(crate) messages: MessageCounts,
    pub(crate) bytes: Bytes,
    pub(crate) latency: Latency,
    pub(crate) schedule: Lateness,
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
    /// When the last answer came, and until when one that never came was waited for, had its
    /// connection been there; by the run's clock.
    pub(crate) last_answer: u64,
    pub(crate) waited_until: u64,
    /// The measured time, second by second.
    pub(crate) seconds: Vec<BySecond>,
    /// The same, stage by stage, where the load has stages.
    pub(crate) stages: Vec<InStage>,
    /// Each target's figures, by its place; empty where there is one.
    pub(crate) targets: Vec<ByTarget>,
    /// The slowest connections, with `--worst`.
    pub(crate) slowest: Option<Slowest>,
    /// One entry a thread.
    pub(crate) threads: Vec<ThreadUse>,
}

impl Tally {
    /// Counts an error.
    pub(crate) fn error(&mut self, name: &str) {
        *self.errors.entry(name.to_owned()).or_default() += 1;
    }

    /// Keeps what had come of the answer to a message that ended by an error of this name, if it's
    /// the first such.
    pub(crate) fn note_partial(&mut self, name: &str, partial: Option<Partial>) {
        if let Some(partial) = partial {
            self.partial.entry(name.to_owned()).or_insert(partial);
        }
    }

    /// Processors that the threads used in the measured time: 0.5 is half of one.
    pub(crate) fn cpu(&self) -> f64 {
        self.threads.iter().map(ThreadUse::busy).sum()
    }

    /// The largest share of the measured time that a thread was ready to run, and others had the
    /// processors.
    pub(crate) fn waited(&self) -> f64 {
        let waited = |thread: &ThreadUse| thread.share(thread.waited);
        self.threads.iter().map(waited).fold(0.0, f64::max)
    }

    /// Adds what another thread has counted.
    pub(crate) fn merge(&mut self, mut other: Tally) {
        self.connections.merge(&other.connections);
        self.messages.merge(&other.messages);
        self.bytes.merge(&other.bytes);
        self.datagrams.merge(&other.datagrams);
        for (name, count) in other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        self.latency.merge(&other.latency);
        self.schedule.merge(&other.schedule);
        self.flows.append(&mut other.flows);
        self.retired_flows.merge(&other.retired_flows);
        // The first of each stays.
        other.partial.append(&mut self.partial);
        self.partial = other.partial;
        self.corrupt_answer = self.corrupt_answer.take().or(other.corrupt_answer);
        self.own_drops += other.own_drops;
        self.last_answer = self.last_answer.max(other.last_answer);
        self.waited_until = self.waited_until.max(other.waited_until);
        let seconds = self.seconds.len().max(other.seconds.len());
        self.seconds.resize(seconds, BySecond::default());
        for (to, from) in self.seconds.iter_mut().zip(other.seconds) {
            to.merge(from);
        }
        let targets = self.targets.len().max(other.targets.len());
        self.targets.resize_with(targets, ByTarget::default);
        for (to, from) in self.targets.iter_mut().zip(&other.targets) {
            to.counts.merge(&from.counts);
            to.response += &from.response;
        }
        self.slowest = match (self.slowest.take(), other.slowest.take()) {
            (Some(mut own), Some(others)) => {
                own.merge(others);
                Some(own)
            }
            (own, others) => own.or(others),
        };
        for (place, stage) in other.stages.into_iter().enumerate() {
            match self.stages.get_mut(place) {
                Some(to) => to.merge(&stage),
                None => self.stages.push(stage),
            }
        }
        self.threads.append(&mut other.threads);
    }

    /// Where the counts don't add up, in words; `None` where they do, as they always must.
    pub(crate) fn imbalance(&self) -> Option<String> {
        let (c, m, d) = (&self.connections, &self.messages, &self.datagrams);
        let dialed = c.established + c.refused + c.timed_out + c.failed + c.dialing;
        let rules = [
            ("dials", c.dialed, dialed),
            ("connections", c.established, c.lost + c.closed + c.open),
            (
                "messages",
                m.sent,
                m.echoed + m.one_way + m.lost + m.outstanding,
            ),
            ("datagrams", d.sent, d.received + d.lost + d.outstanding),
        ];
        let broken = rules.into_iter().find(|(_, all, parts)| all != parts);
        broken.map(|(what, all, parts)| {
            format!("{what} and what became of them don't add up: {all} and {parts}")
        })
    }
}

/// What has been counted so far, while it runs: what is so now stands where the tally has what it
/// came to.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) connections: Ledger,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) messages: MessageCounts,
    pub(crate) bytes: Bytes,
    pub(crate) datagrams: Datagrams,
    /// With two digits at least, as the schedule.
    pub(crate) latency: Latency,
    pub(crate) schedule: Lateness,
}

impl Counts {
    /// Nothing yet.
    pub(crate) fn none() -> Counts {
        Counts {
            connections: Ledger::default(),
            errors: BTreeMap::new(),
            messages: MessageCounts::default(),
            bytes: Bytes::default(),
            datagrams: Datagrams::default(),
            latency: Latency {
                connect: coarse(),
                handshake: coarse(),
                first_echo: coarse(),
                response: coarse(),
                service: coarse(),
            },
            schedule: Lateness {
                pacing_error: coarse(),
                own_lag: coarse(),
            },
        }
    }

    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: &Counts) {
        // Each thread has that of all of them.
        let peak = self.connections.peak_confirmed;
        let peak = peak.max(other.connections.peak_confirmed);
        self.connections.merge(&other.connections);
        self.connections.peak_confirmed = peak;
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        self.messages.merge(&other.messages);
        self.bytes.merge(&other.bytes);
        self.datagrams.merge(&other.datagrams);
        self.latency.merge(&other.latency);
        self.schedule.merge(&other.schedule);
    }
}

/// What happened in one stage, whichever message it was about, as in a [`Second`]. The last one has
/// what came behind it too, while answers were waited for, but not in its `in_time`.
#[derive(Clone, Debug)]
pub(crate) struct InStage {
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages answered in it, and one-way messages sent.
    pub(crate) in_time: u64,
    /// Connections that were there at its end, where it's their number that has stages.
    pub(crate) open: u64,
    /// Everything that has a name among the errors.
    pub(crate) errors: u64,
    /// Of the answers that came.
    pub(crate) response: Histogram<u64>,
}

impl InStage {
    /// Takes away what had happened before.
    pub(crate) fn subtract(&mut self, before: &InStage) {
        self.sent -= before.sent;
        self.in_time -= before.in_time;
        self.errors -= before.errors;
        // What had happened is among what has: nothing can be too much.
        if let Err(error) = self.response.subtract(&before.response) {
            log::error!("a histogram could not be subtracted: {error}");
        }
    }

    fn merge(&mut self, other: &InStage) {
        self.sent += other.sent;
        self.in_time += other.in_time;
        self.open += other.open;
        self.errors += other.errors;
        self.response += &other.response;
    }
}

counted! {
    /// How long things took, in nanoseconds.
    Latency: Histogram<u64> = histogram();
    /// From the dial to the connection, over TLS without the handshake.
    connect,
    /// Over TLS, from the connection to the end of the handshake.
    handshake,
    /// From the dial to the first answer.
    first_echo,
    /// From when a message should have been sent to its answer: what a user of the server feels. In
    /// a closed loop that is when it was sent.
    response,
    /// From when a message was sent to its answer: what the server took.
    service,
}

counted! {
    /// How well a schedule was kept, that of the open loop or of heartbeats: how late messages were
    /// sent, in nanoseconds. Empty in a closed loop.
    Lateness: Histogram<u64> = histogram();
    /// All of it.
    pacing_error,
    /// What was the generator's own doing: the time in which no connection could take them is left
    /// out.
    own_lag,
}

counted! {
    /// The ledger of connections (for UDP: of sockets, which are established as soon as they are
    /// bound).
    ///
    /// Each dial ends as established, refused, timed out, failed otherwise, or is still dialing
    /// when the run ends. With `--churn` or `--lifetime` there are more dials than were asked for;
    /// `redialed` says how many. Without them nobody is dialed in place of a connection that was
    /// lost: it's missing to the end.
    #[derive(Copy, PartialEq, Eq)]
    Ledger: u64 = 0;
    /// What `--connections` says.
    asked => came "asked for",
    /// Dials begun.
    dialed => came "dialed",
    /// Of these, to replace a connection that had ended, or a dial that had failed; only with
    /// `--churn` or `--lifetime`.
    redialed,
    /// Connections that the load closed and whose next one was confirmed, within the measured
    /// time: the churn that was reached.
    replaced,
    /// Dials that came to a connection; over TLS, to the end of its handshake.
    established => came "established",
    /// Of these, the ones that took a full handshake of TLS.
    full_handshakes => came "with a full TLS handshake",
    /// Of these, the ones that have resumed an earlier session of TLS.
    resumed_handshakes => came "with a resumed TLS session",
    /// Connections that an echo has come back on, at least one.
    confirmed => came "confirmed by an answer",
    /// The most that were confirmed and open at one time, over all threads: no thread knows it
    /// alone, and no sum tells it. Where no message confirms a connection, as its first one is
    /// measured, those that were established.
    peak_confirmed,
    /// Connections that ended though the load had not ended them, or that it cut off because of
    /// a corrupt answer.
    lost => went "lost",
    /// Connections that the load itself ended.
    closed,
    /// Dials that were refused.
    refused => went "refused",
    /// Dials that took longer than the connect timeout, or the system's own.
    timed_out => went "timed out",
    /// Dials that failed in any other way.
    failed => went "failed",
    /// Dials that had come to nothing yet when the run ended.
    dialing => went "still dialing",
    /// Connections that were open when the run ended, before the load closed them.
    open => came "open at the end",
    /// Of these, the ones that no echo ever came back on.
    silent => went "connected, waiting for the first answer",
    /// Of those asked for, how many were not there when the run ended: never had, or lost and
    /// not replaced. Those that the load itself had closed, and was about to replace, are not
    /// among them.
    missing,
}

counted! {
    /// The messages of the measured time (not of the ramp and the warm-up, and not those that
    /// confirm a connection: these are [`MessageCounts::unmeasured`]); datagrams are messages too.
    #[derive(Copy, PartialEq, Eq)]
    MessageCounts: u64 = 0;
    /// Handed to the socket's connection.
    sent => came "sent",
    /// Answered in full, within the message timeout or not.
    echoed => came "answered",
    /// Answers that came within the measured time, also to messages of the warm-up, and messages
    /// sent in it to which there is no answer: what the rate is made of. What was due in that time
    /// and is answered behind it would make a server that falls behind look as if it did not.
    in_time,
    /// Answered with what was sent, as far as `--verify` looks.
    verified => came "verified",
    /// Sent, and by `--answer none` there is no answer to them.
    one_way => came "one way",
    /// Answers that were something else, those to messages that are not measured among them:
    /// one is one too many. A message that was answered so is not `echoed`.
    corrupt => went "corrupt",
    /// Answers without what `--expect` says, or that say themselves that they are errors; those to
    /// messages that are not measured among them.
    mismatched,
    /// Not answered within the message timeout. Those that were answered later are `echoed`
    /// too.
    timed_out => went "over the message timeout",
    /// Answered after the message timeout; counted among `echoed` and `timed_out` too.
    late,
    /// Not answered when their connection ended; datagrams that were never answered.
    lost => went "lost",
    /// Still under way when the run ended.
    outstanding => went "outstanding",
    /// Due by the schedule of the open loop or as a heartbeat, or asked for with `--messages`, and
    /// never sent: no connection could take them, or the system refused to.
    unsent => went "due and never sent",
    /// Messages outside of the measured time: to confirm a connection, and to warm up.
    unmeasured,
}

counted! {
    /// Bytes on the wire as applications see them, frames included; of the measured time.
    #[derive(Copy, PartialEq, Eq)]
    Bytes: u64 = 0;
    /// Written.
    sent,
    /// Read.
    received,
    /// What was written within the measured time, as [`MessageCounts::in_time`] is.
    sent_in_time,
    /// The same of what was read.
    received_in_time,
    /// Of the whole run: came when nothing was asked for. Only with `--verify off`, which tells
    /// answers apart by their length; with any other they are corrupt.
    surplus,
}

counted! {
    /// Datagrams of the measured time, over all flows. `sent = received + lost + outstanding` once
    /// all is counted, where `received` counts each datagram once however often it came.
    #[derive(Copy, PartialEq, Eq)]
    Datagrams: u64 = 0;
    /// Sent.
    sent => came "sent",
    /// Answered within the message timeout or after it, each counted once.
    received => came "received",
    /// Never answered.
    lost,
    /// Not answered yet when the run was interrupted, with time left to come.
    outstanding => went "outstanding",
    /// Answered after the message timeout; counted among `received` too.
    late => went "late",
    /// Answers beyond the first.
    duplicated => went "duplicated",
    /// Answers that came after that of a later datagram.
    reordered => went "reordered",
    /// Answers that are none of what was sent.
    corrupt => went "corrupt",
    /// Sends that the system refused: no room, or no answer behind the port. Not counted as
    /// sent.
    dropped => went "tries that the system refused",
}

impl MessageCounts {
    /// Messages of the measured time that were due.
    pub(crate) fn due(&self) -> u64 {
        self.sent + self.unsent
    }

    /// Of these, the ones that no answer came to, so that no histogram has them.
    pub(crate) fn unanswered(&self) -> u64 {
        self.lost + self.outstanding + self.unsent
    }
}

/// Nanoseconds, from 1 to an hour, with three significant digits: 0.1 % is less than any clock here
/// is worth.
const LONGEST_NS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    with_digits(DIGITS)
}

/// An empty histogram of nanoseconds for a live view: two digits, an eighth of the memory.
pub(crate) fn coarse() -> Histogram<u64> {
    with_digits(DIGITS - 1)
}

fn with_digits(digits: u8) -> Histogram<u64> {
    #[allow(clippy::expect_used)] // Up to five digits are valid, and the bounds are constants.
    Histogram::new_with_bounds(1, LONGEST_NS, digits).expect("the bounds are valid")
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

/// A percentile stands on at least so many samples beyond it: one alone would be the maximum under
/// another name.
const SAMPLES_BEYOND: f64 = 10.0;

/// The value at `percentile` (0 to 100), where enough samples lie beyond it to carry it; else
/// `None`.
pub(crate) fn percentile(histogram: &Histogram<u64>, percentile: f64) -> Option<u64> {
    carries(histogram.len(), percentile).then(|| histogram.value_at_quantile(percentile / 100.0))
}

/// Whether so many samples carry a percentile.
pub(crate) fn carries(samples: u64, percentile: f64) -> bool {
    let beyond = samples as f64 * (100.0 - percentile) / 100.0;
    // A hair of tolerance: 0.1 % of 10,000 must count as 10.
    beyond + 1e-6 >= SAMPLES_BEYOND
}

/// How many samples carry a percentile, at the least.
pub(crate) fn samples_for(percentile: f64) -> u64 {
    let samples = SAMPLES_BEYOND * 100.0 / (100.0 - percentile);
    // The same hair, as a share: what is left of a subtraction from 100 is less exact the smaller
    // it is.
    (samples * (1.0 - 1e-9)).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_field_by_field() {
        let mut one = Tally::default();
        one.connections.dialed = 2;
        one.connections.established = 1;
        one.connections.refused = 1;
        one.connections.open = 1;
        one.error("ECONNREFUSED");
        let mut second = BySecond::default();
        second.counts.sent = 1;
        one.seconds.push(second);
        one.latency.response.record(1_000_000).unwrap();
        let mut all = Tally::default();
        all.merge(one.clone());
        all.merge(one);
        assert_eq!(all.connections.dialed, 4);
        assert_eq!(all.errors["ECONNREFUSED"], 2);
        assert_eq!(all.seconds[0].counts.sent, 2);
        assert_eq!(all.latency.response.len(), 2);
        assert_eq!(all.imbalance(), None);
    }

    #[test]
    fn counts_that_do_not_add_up_are_told() {
        let mut tally = Tally::default();
        tally.messages.sent = 1;
        assert!(tally.imbalance().unwrap().contains("1 and 0"));
    }

    #[test]
    fn a_percentile_is_carried_by_exactly_so_many_samples_and_not_by_one_less() {
        for (p, samples) in [
            (0.0, 10),
            (33.0, 15),
            (50.0, 20),
            (90.0, 100),
            (99.0, 1_000),
            (99.9, 10_000),
            (99.99, 100_000),
        ] {
            assert_eq!(samples_for(p), samples, "p{p}");
            assert!(carries(samples, p) && !carries(samples - 1, p), "p{p}");
        }
    }
}
