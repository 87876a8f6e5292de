//! Whether a load can be had, found out before the first connection is dialed.
//!
//! | file | what it is |
//! |---|---|
//! | `preflight/doctor` | the table of checks, for people and for programs |
//! | `preflight/examine` | the checks: what a load needs, and what there is |
//! | `preflight/ports` | the same of local ports |
//! | `preflight/check` | a line of the table |
//!
//! Nothing is changed, but that the soft limit of descriptors is raised to the hard one.

mod check;
pub(crate) mod doctor;
mod examine;
mod ports;

pub(crate) use examine::check;
