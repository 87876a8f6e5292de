//! `oread serve`: an echo server.

use super::check::Serve;
use super::failure::Failure;

/// Serves until a signal ends it.
///
/// # Errors
/// What kept it from starting, or ended it.
pub(crate) fn run(_serve: &Serve) -> Result<(), Failure> {
    Err(Failure::runtime("`oread serve` is not built yet"))
}
