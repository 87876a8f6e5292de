//! Whether so many connections can be reached, found out before the first is dialed.
//!
//! | file | what it is |
//! |---|---|
//! | `preflight/doctor` | the table of checks, for people and for programs |
//! | `preflight/examine` | what a load needs, and what there is |
//! | `preflight/ports` | the same of local ports |
//! | `preflight/check` | what is wished for, and a line of the table |
//! | `preflight/machine` | what this machine allows |
//!
//! Nothing is changed, but that the soft limit of descriptors is raised to the hard one.

mod check;
pub(crate) mod doctor;
mod examine;
mod machine;
mod ports;

pub(crate) use examine::{Preflight, check};
