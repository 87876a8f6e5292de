//! What all links of one reactor share: the gather buffer, the pool, the limits, the counters.

use crate::buffer::{Gather, Pool};
use crate::limits::Limits;
use crate::stats::Stats;

/// What all links of one reactor share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What the current callback has written to its own connection, and what has not gone out yet. Invariant: empty
    /// whenever no callback runs.
    pub(super) gathered: Gather,
    /// How often the current callback has sent something before its end.
    pub(super) sends: u32,
    pub(super) pool: Pool,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
}

impl Shared {
    pub(crate) fn new(limits: Limits) -> Shared {
        Shared {
            gathered: Gather::new(limits.gather),
            sends: 0,
            pool: Pool::new(limits.pooled),
            limits,
            stats: Stats::default(),
        }
    }

    /// A callback begins.
    #[inline(always)]
    pub(crate) fn begin_callback(&mut self) {
        self.sends = 0;
    }

    /// The counters, right also in the middle of a callback: what is gathered is pending.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.pending += self.gathered.len() as u64;
        stats
    }
}
