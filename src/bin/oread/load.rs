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

pub(crate) mod args;
mod care;
mod closed;
mod datagrams;
mod dial;
mod doctor;
mod flow;
mod gate;
mod generator;
mod interrupt;
mod label;
mod lead;
mod line;
mod live;
mod logs;
mod machine;
mod names;
mod outcome;
mod own;
mod pace;
mod payload;
mod phases;
pub(crate) mod plan;
mod ports;
mod preflight;
mod protocol;
mod quick;
mod rates;
mod record;
mod report;
mod since;
mod sources;
mod stream;
mod tally;
mod target;
mod team;
mod think;
mod traffic;
mod turnover;
mod values;
mod window;

use crate::failure::Failure;
use crate::system::stderr::Stderr;

/// Runs a load; gives the exit code. What it says while it runs goes to `stderr`.
///
/// # Errors
/// What kept it from starting, or broke it off.
pub(crate) fn run(plan: &plan::Load, stderr: &Stderr) -> Result<u8, Failure> {
    lead::run(plan, stderr)
}

pub(crate) use doctor::run as doctor;
