//! Threads of the program: each has a name.

use std::thread::{Builder, JoinHandle};

use crate::failure::Failure;

/// The most that `--threads` may be: no machine has so many cores, and a slip of the keyboard shall
/// not try.
pub(crate) const MOST: u32 = 1024;

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
