//! A load's counters for Prometheus: what the generators told last of how they go, added up. A
//! scrape asks them nothing: it costs the load no more than the view does, which looks at the same.

use std::fmt;
use std::iter;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::load::clock::nanos;
use crate::load::control::live::{look, name};
use crate::load::count::{
    Bytes, Counts, Datagrams, Latency, Lateness, Ledger, MessageCounts, Told as _,
};
use crate::load::generator::protocol::{Phase, Slot};
use crate::system::metrics::{Kind, Page};

/// What is so now, and may be less the next time.
const NOW: [&str; 7] = [
    "asked",
    "peak_confirmed",
    "dialing",
    "open",
    "silent",
    "missing",
    "outstanding",
];
/// The ends of a histogram's buckets, in nanoseconds: three for each power of ten, from 10 µs to a
/// minute.
const BUCKETS: [u64; 21] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    60_000_000_000,
];

/// What a scrape looks at.
#[derive(Debug)]
pub(crate) struct Counters {
    /// How each generator goes.
    pub(crate) slots: Vec<Slot>,
}

impl Collector for Counters {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        let sums = look(&self.slots);
        let phases = [Phase::Ramp, Phase::Warmup, Phase::Measure, Phase::Finish].map(name);
        let is = name(sums.phase);
        let each = phases.map(|phase| ([("phase", phase)], u64::from(phase == is)));
        let help = "Where the load is: 1 for the phase of the thread that is behind";
        page.family("oread_load_phase", help, Kind::Now, each)?;
        let running = iter::once(([("", ""); 0], sums.running.into()));
        let help = "Threads that have not ended";
        page.family("oread_load_running_threads", help, Kind::Now, running)?;
        let cpu = iter::once(([("", ""); 0], nanos(sums.cpu)));
        let help = "Processor time that the threads took";
        page.family("oread_load_cpu", help, Kind::Time, cpu)?;
        counts(
            &mut page,
            &sums.counts.map_or_else(Counts::none, |counts| *counts),
        )
    }
}

fn counts(page: &mut Page<'_>, counts: &Counts) -> fmt::Result {
    let mut group = |group: &str, bytes: bool, help: &str, name: &str, &count: &u64| {
        let (family, kind) = match (bytes, NOW.contains(&name)) {
            (true, _) => (format!("oread_load_{name}"), Kind::Bytes),
            (false, true) => (format!("oread_load_{group}_{name}"), Kind::Now),
            (false, false) => (format!("oread_load_{group}_{name}"), Kind::Count),
        };
        page.family(
            &family,
            &in_words(group, help),
            kind,
            [([("", ""); 0], count)],
        )
    };
    for (help, (name, count)) in Ledger::explained().zip(counts.connections.named()) {
        group("connections", false, help, name, count)?;
    }
    for (help, (name, count)) in MessageCounts::explained().zip(counts.messages.named()) {
        group("messages", false, help, name, count)?;
    }
    for (help, (name, count)) in Bytes::explained().zip(counts.bytes.named()) {
        group("bytes", true, help, name, count)?;
    }
    for (help, (name, count)) in Datagrams::explained().zip(counts.datagrams.named()) {
        group("datagrams", false, help, name, count)?;
    }
    let errors = counts.errors.iter();
    let errors = errors.map(|(name, &count)| ([("error", name.as_str())], count));
    let help = "Dials, connections and messages that failed, by why";
    page.family("oread_load_errors", help, Kind::Count, errors)?;
    let times = Latency::explained().map(|help| in_words("time", help));
    let times = times.zip(counts.latency.named());
    let late = Lateness::explained().map(|help| in_words("how late messages were sent", help));
    for (help, (name, values)) in times.chain(late.zip(counts.schedule.named())) {
        let name = format!("oread_load_{name}");
        let (buckets, sum) = bucketed(values);
        page.times(&name, &help, &buckets, sum)?;
    }
    Ok(())
}

/// A comment as help: of what it is, without the marks of code and links.
fn in_words(group: &str, comment: &str) -> String {
    let words = comment.replace(['`', '[', ']'], "");
    format!("{group}: {}", words.trim().trim_end_matches('.'))
}

/// A histogram's counts of each bucket, the last of which has no end, and the sum of its values.
fn bucketed(values: &Histogram<u64>) -> (Vec<(Option<u64>, u64)>, f64) {
    let ends = BUCKETS.map(Some).into_iter().chain([None]);
    let mut buckets: Vec<_> = ends.map(|end| (end, 0)).collect();
    let mut sum = 0.0;
    for value in values.iter_recorded() {
        let (at, count) = (value.value_iterated_to(), value.count_at_value());
        buckets[BUCKETS.partition_point(|end| *end < at)].1 += count;
        sum += values.median_equivalent(at) as f64 * count as f64;
    }
    (buckets, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::count::coarse;

    #[test]
    fn each_value_is_in_one_bucket_and_within_a_percent_in_the_sum() {
        let mut values = coarse();
        for value in [1, 9_000, 11_000, 1_500_000, 59_000_000_000, 70_000_000_000] {
            values.record(value).unwrap();
        }
        let (buckets, sum) = bucketed(&values);
        let full = buckets.into_iter().filter(|(_, count)| *count > 0);
        let expected = [
            (Some(10_000), 2),
            (Some(20_000), 1),
            (Some(2_000_000), 1),
            (Some(60_000_000_000), 1),
            (None, 1),
        ];
        assert!(full.eq(expected));
        assert!((sum / 129_001_520_001.0 - 1.0).abs() < 0.01, "{sum}");
    }

    #[test]
    fn what_is_counted_is_explained_by_its_comment() {
        let all = Ledger::explained().chain(MessageCounts::explained());
        let all = all.chain(Bytes::explained()).chain(Datagrams::explained());
        let all = all.chain(Latency::explained()).chain(Lateness::explained());
        let all: Vec<_> = all.map(|comment| in_words("it", comment)).collect();
        assert!(all.contains(&"it: Dials begun".to_owned()), "{all:?}");
        assert!(all.iter().all(|help| help.len() > "it: ".len()), "{all:?}");
    }
}
