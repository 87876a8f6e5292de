//! The program `oread`: it serves and speaks echo, and loads servers, with the reactor of the
//! library `oread`.
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
//! with its code. Exit codes: 0 all is well, 1 something failed while it ran, 2 it was asked for in
//! a wrong way; of a load also 3 a gate is not met, 4 it came to less than was asked for, 5 an
//! answer was not what was sent (`oread load --help` has each of them); 128 and the signal's number
//! when a signal ended a load, or a second signal any command.
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
