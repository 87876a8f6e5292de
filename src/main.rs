//! The program `oread`: it serves and speaks echo with the reactor of the library `oread`.
//!
//! Here is the frame alone: run, print the one error there may be, and exit with its code. See
//! [`cli`] for the rest. Exit codes: 0 all is well, 1 something failed while it ran, 2 it was asked
//! for in a wrong way; 128 and the signal's number when a second signal ended it.
#![forbid(unsafe_code)]

mod cli;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.is_silent() {
                // With stderr gone too there is nobody left to tell; the exit code still says it.
                let _ = std::io::stderr().write_all(failure.report().as_bytes());
            }
            ExitCode::from(failure.code())
        }
    }
}
