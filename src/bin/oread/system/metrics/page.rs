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
            Kind::Micros => Some(Unit::Seconds),
        };
        let counts = matches!(kind, Kind::Count | Kind::Bytes);
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
                _ if counts => metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
                _ => metric.encode_gauge(&value)?,
            }
        }
        Ok(())
    }
}
