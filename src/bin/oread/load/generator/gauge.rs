//! How many connections are confirmed and open over all threads, and the most that were at a time.

use std::sync::atomic::{AtomicU64, Ordering};

/// The gauge that all threads of a run share.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    open: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    /// One more is open.
    pub(super) fn opened(&self) {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(open, Ordering::Relaxed);
    }

    /// So many are open no longer.
    pub(super) fn close(&self, count: u64) {
        self.open.fetch_sub(count, Ordering::Relaxed);
    }

    /// The most that were open at a time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}
