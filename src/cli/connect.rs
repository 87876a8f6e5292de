//! `oread connect`: a client that sends standard input and prints what comes back.

use super::check::Connect;
use super::failure::Failure;

/// Sends standard input, prints what comes back, until both have ended.
///
/// # Errors
/// What kept it from connecting, or ended it.
pub(crate) fn run(_connect: &Connect) -> Result<(), Failure> {
    Err(Failure::runtime("`oread connect` is not built yet"))
}
