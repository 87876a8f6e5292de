//! The program `oread`: an echo server, a client and a load generator on the library `oread`.
//!
//! Here is the frame alone: run, print the one error there may be, and exit with its code. See
//! [`cli`] for the rest. What the exit codes mean is in `docs/SERVE.md`, and in `docs/LOAD.md` for
//! a load.
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
