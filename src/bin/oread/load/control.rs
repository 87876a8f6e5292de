//! The main thread, and what it looks after beside the generators.

mod counters;
mod hiccups;
pub(crate) mod lead;
mod live;
pub(crate) mod own_server;
mod team;
