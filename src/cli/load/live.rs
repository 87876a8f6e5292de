//! How it goes, while it runs.

use super::plan::Load;
use super::protocol::Progress;

/// The live view.
#[derive(Debug)]
pub(super) struct Live;

impl Live {
    pub(super) fn new(_plan: &Load) -> Live {
        Live
    }

    /// How all threads go together.
    pub(super) fn progress(&mut self, merged: &Progress) {
        log::info!(
            "{:?}: {} open, {} sent, {} echoed, {} failed",
            merged.phase,
            merged.open,
            merged.sent,
            merged.echoed,
            merged.failed
        );
    }

    /// Nothing more comes.
    pub(super) fn finish(self) {}
}
