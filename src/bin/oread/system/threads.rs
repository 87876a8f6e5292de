//! Threads of the program: each has a name.

use std::thread::{Builder, JoinHandle};

use crate::failure::Failure;

/// Starts a thread that is called `name`.
///
/// # Errors
/// Exit code 1: the system gives no thread.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    let started = Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| Failure::no_thread(&error))
}
