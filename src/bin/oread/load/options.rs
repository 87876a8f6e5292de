//! What was asked for: options as typed, and as checked.

pub(crate) mod args;
pub(crate) mod find;
pub(crate) mod gate;
pub(crate) mod load;
pub(crate) mod shard;
pub(crate) mod sources;
pub(crate) mod stages;
pub(crate) mod start;
pub(crate) mod tls;
pub(crate) mod url;
pub(crate) mod values;
