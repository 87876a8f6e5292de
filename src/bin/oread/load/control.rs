//! The main thread, and the threads beside the generators.

pub(crate) mod interrupt;
pub(crate) mod lead;
pub(crate) mod live;
pub(crate) mod own;
pub(crate) mod rates;
pub(crate) mod team;
