//! Families of metrics, as they are written on a page.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// What the numbers of a family are. A unit stands in the family's name, behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What only grows.
    Count,
    /// Bytes that only grow.
    Bytes,
    /// What is the case now.
    Now,
    /// Bytes as they are now.
    BytesNow,
    /// The highest so far, counted in microseconds.
    Micros,
    /// Time that only grows, counted in nanoseconds.
    Time,
}

/// A page that is being written.
pub(crate) struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    pub(crate) fn new(encoder: DescriptorEncoder<'a>) -> Page<'a> {
        Page(encoder)
    }

    /// A family: what each of its labels counts.
    ///
    /// # Errors
    /// None in practice: a string takes all that is written.
    pub(crate) fn family<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        kind: Kind,
        each: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let unit = match kind {
            Kind::Count | Kind::Now => None,
            Kind::Bytes | Kind::BytesNow => Some(Unit::Bytes),
            Kind::Micros | Kind::Time => Some(Unit::Seconds),
        };
        let counts = matches!(kind, Kind::Count | Kind::Bytes | Kind::Time);
        let family = match counts {
            true => MetricType::Counter,
            false => MetricType::Gauge,
        };
        let mut family = self
            .0
            .encode_descriptor(name, help, unit.as_ref(), family)?;
        for (labels, value) in each {
            let mut metric = family.encode_family(&labels)?;
            match kind {
                Kind::Micros => metric.encode_gauge(&(value as f64 / 1e6))?,
                Kind::Time => metric.encode_counter::<NoLabelSet, _, f64>(&seconds(value), None)?,
                _ if counts => metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
                _ => metric.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    /// A histogram of times: how many there are in each bucket up to its end, in nanoseconds as
    /// their sum is.
    ///
    /// # Errors
    /// As [`family`](Page::family).
    pub(crate) fn times(
        &mut self,
        name: &str,
        help: &str,
        buckets: &[(Option<u64>, u64)],
        sum: f64,
    ) -> fmt::Result {
        let unit = Unit::Seconds;
        let kind = MetricType::Histogram;
        let mut family = self.0.encode_descriptor(name, help, Some(&unit), kind)?;
        let end = |end: Option<u64>| end.map_or(f64::INFINITY, seconds);
        let each: Vec<_> = buckets.iter().map(|&(to, n)| (end(to), n)).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        family.encode_histogram::<NoLabelSet>(sum / 1e9, count, &each, None)
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
