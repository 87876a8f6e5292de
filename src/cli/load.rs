//! `oread load`: very many connections and their messages, and a report that can be believed. `oread doctor` is its
//! preflight alone.
//!
//! | file | what it is |
//! |---|---|
//! | `load/args`, `load/plan` | the load as typed and as checked |
//! | `load/target`, `load/values`, `load/gate`, `load/sources` | values: targets, rates, sizes, gates, local addresses |
//! | `load/tally`, `load/outcome` | what is counted, and how the run went |
//! | `load/protocol` | what the threads say to each other |

pub(crate) mod args;
mod doctor;
mod gate;
mod live;
mod machine;
mod outcome;
pub(crate) mod plan;
mod preflight;
mod protocol;
mod report;
mod sources;
mod tally;
mod target;
mod values;

use crate::cli::failure::Failure;

/// Runs a load; gives the exit code.
///
/// # Errors
/// What kept it from starting, or broke it off.
pub(crate) fn run(_plan: &plan::Load) -> Result<u8, Failure> {
    Err(Failure::runtime("to be written"))
}

pub(crate) use doctor::run as doctor;
