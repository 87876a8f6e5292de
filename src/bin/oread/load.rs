//! `oread load`: very many connections and their messages, and a report that can be believed.
//! `oread doctor` is its preflight alone.
//!
//! | floor | room | what it is |
//! |---|---|---|
//! | 4 | `load/find` | one run after the other, for the highest rate that holds; `oread find` |
//! | 3 | `load/control` | the main thread, and those beside the generators |
//! | 2 | `load/generator` | the threads that dial, send and count |
//! | 2 | `load/report` | how a run went, in words, JSON and histograms |
//! | 2 | `load/preflight` | whether it can be done; `oread doctor` |
//! | 1 | `load/options` | the load as typed and as checked |
//! | 0 | `load/exchange` | what is said on a connection: questions, answers, scripts |
//! | 0 | `load/count` | what is counted |
//! | 0 | `load/clock`, `load/mix` | the run's time; numbers that are drawn |
//!
//! Imports go down only, and inside a room without a circle.

mod clock;
mod control;
mod count;
mod exchange;
mod find;
mod generator;
mod mix;
pub(crate) mod options;
mod preflight;
mod report;
#[cfg(all(test, feature = "sim"))]
mod simulated;

use crate::failure::Failure;
use crate::load::control::lead;
use crate::load::options::load::Load;
use crate::load::report::Outputs;
use crate::system::stderr::Stderr;

/// Runs a load; gives the exit code. What it says while it runs goes to `stderr`.
///
/// # Errors
/// What kept it from starting, or broke it off.
pub(crate) fn run(load: &Load, stderr: &Stderr) -> Result<u8, Failure> {
    let outputs = Outputs::open(load)?;
    report::report(&lead::run(load, stderr)?, outputs)
}

pub(crate) use find::run as find;
pub(crate) use preflight::doctor::run as doctor;
