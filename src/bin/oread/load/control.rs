//! The main thread, and the threads beside the generators.

pub(crate) mod hiccups;
pub(crate) mod interrupt;
pub(crate) mod lead;
pub(crate) mod live;
pub(crate) mod own_server;
pub(crate) mod rates;
pub(crate) mod team;
