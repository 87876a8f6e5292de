//! `oread load`: very many connections and their messages, and a report that can be believed.
//! `oread doctor` is its preflight alone.
//!
//! | file | what it is |
//! |---|---|
//! | `load/args`, `load/plan` | the load as typed and as checked |
//! | `load/target`, `load/values` | targets, rates and sizes |
//! | `load/gate`, `load/sources` | gates, local addresses |
//! | `load/tally`, `load/outcome` | what is counted, and how the run went |
//! | `load/protocol`, `load/line` | what the threads say to each other |
//! | `load/preflight` over `load/ports`, `load/machine` | whether it can be done |
//! | `load/doctor` | the same as a table |
//! | `load/lead` | the main thread |
//! | `load/team` | the generators that it starts |
//! | `load/own`, `load/interrupt` | its threads of an echo server of its own, and for signals |
//! | `load/generator` | the other threads; a table of their parts stands there |
//! | `load/live` over `load/rates`, `load/report` | what is told while it runs and at the end |

mod clock;
mod control;
mod count;
mod generator;
pub(crate) mod options;
mod preflight;
mod report;

use crate::failure::Failure;
use crate::system::stderr::Stderr;

/// Runs a load; gives the exit code. What it says while it runs goes to `stderr`.
///
/// # Errors
/// What kept it from starting, or broke it off.
pub(crate) fn run(load: &options::load::Load, stderr: &Stderr) -> Result<u8, Failure> {
    control::lead::run(load, stderr)
}

pub(crate) use preflight::doctor::run as doctor;
