//! The program `oread`: an echo server, a client and a load generator on the library `oread`.
//!
//! | floor | part | what it is |
//! |---|---|---|
//! | 5 | `commands` | which command is meant, and how it is run |
//! | 4 | `serve`, `connect`, `load` | the commands |
//! | 2 | `system` | what only a program owns: outputs, logger, signals, descriptors |
//! | 1 | `values` | values as typed: sizes, addresses, framings |
//! | 0 | `failure` | the one error, with its words and exit code |
//!
//! Imports go down only. Here is the frame alone: run, print the one error there may be, and exit
//! with its code. What the exit codes mean is in `docs/SERVE.md`, and in `docs/LOAD.md` for a load.
#![forbid(unsafe_code)]

mod commands;
mod connect;
mod failure;
#[cfg(test)]
#[path = "../../../tests/common/fuzz.rs"]
mod fuzz;
mod load;
mod serve;
mod system;
mod values;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::run(std::env::args_os()) {
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
