//! What a run counts.
//!
//! | file | what it is |
//! |---|---|
//! | `count/counters` | the counters, each named once |
//! | `count/tally` | all that one thread counts, and how threads are added up |
//! | `count/histogram` | histograms of nanoseconds, and which percentiles they carry |

#![allow(unused_imports)]

mod counters;
mod histogram;
mod tally;

pub(crate) use counters::{Bytes, Datagrams, Ledger, Messages, Second};
pub(crate) use histogram::{
    carries, coarse, histogram, over_an_hour, percentile, record, samples_for,
};
pub(crate) use tally::{Latency, Pacing, Partial, StoodStill, Tally, ThreadUse};
