//! What a run counts.

pub(crate) mod tally;
