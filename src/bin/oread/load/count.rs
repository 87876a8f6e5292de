//! What a run counts.
//!
//! | file | what it is |
//! |---|---|
//! | `count/counters` | the counters, each named once |
//! | `count/tally` | all that one thread counts, and how threads are added up |
//! | `count/histogram` | histograms of nanoseconds, and which percentiles they carry |

mod counters;
mod histogram;
mod tally;

pub(crate) use counters::{Datagrams, Ledger, Second};
pub(crate) use histogram::{
    carries, coarse, histogram, over_an_hour, percentile, record, samples_for,
};
pub(crate) use tally::{CORRUPT, Partial, StoodStill, Tally, ThreadUse};
