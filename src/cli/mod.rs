//! The program: its arguments, its errors, its logger and its signals.
//!
//! Arguments take two steps. [`args`] is what was typed, option for option, each value parsed by
//! itself; [`check`] turns it into what is meant, and refuses what does not go together. Only then
//! are names resolved, and only then is anything bound, so a usage error never leaves a
//! half-started server behind.
//!
//! | file | what it is |
//! |---|---|
//! | `args`, `check` | arguments as typed and as checked |
//! | `units`, `address`, `framing` | values: sizes, counts, durations, `host:port`, framings |
//! | `endpoints` | what a server binds: which transports on which addresses |
//! | `failure` | the one error, with its words and exit code |
//! | `logging`, `stderr`, `outlet`, `signals`, `descriptors` | what only a program owns |
//! | `handed` | sockets that a service manager hands over, and what it is told |
//! | `events` | what a serving program says on standard output |
//! | `serve`, `connect` | the commands |

mod address;
mod args;
mod check;
mod connect;
mod descriptors;
mod endpoints;
mod events;
mod failure;
mod framing;
#[cfg(test)]
#[path = "../../tests/common/fuzz.rs"]
mod fuzz;
mod handed;
mod load;
mod logging;
mod outlet;
mod serve;
mod signals;
mod stderr;
mod units;

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser as _;

use failure::Failure;
use logging::Audience;
use stderr::Stderr;

/// How long the program's end waits for a standard error that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs the program with `arguments`, the first of which is the program's own name; gives the exit
/// code.
///
/// # Errors
/// The one error that ended it, with its exit code.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    signals::outlive_full_files();
    let typed = match args::Args::try_parse_from(arguments) {
        Ok(typed) => typed,
        // clap counts --help and --version among the errors.
        Err(error) if !error.use_stderr() => {
            return error.print().map(|()| 0).map_err(|e| Failure::output(&e));
        }
        Err(error) => return Err(Failure::arguments(&error)),
    };
    match typed.command {
        args::Command::Serve(typed) => {
            let handed = handed::take()?;
            let serve = check::Serve::new(*typed, &handed)?;
            logged(serve.verbosity, Audience::Later, |stderr| {
                serve::run(&serve, handed, stderr).map(|()| 0)
            })
        }
        args::Command::Connect(typed) => {
            let connect = check::Connect::try_from(typed)?;
            logged(connect.verbosity, connect::audience(&connect), |_| {
                connect::run(&connect).map(|()| 0)
            })
        }
        args::Command::Load(typed) => {
            let plan = load::plan::Load::try_from(*typed)?;
            logged(plan.verbosity, Audience::Later, |stderr| {
                load::run(&plan, stderr)
            })
        }
        args::Command::Doctor(typed) => {
            let verbosity = check::Verbosity::from(&typed.verbosity);
            logged(verbosity, Audience::Later, |_| load::doctor(&typed))
        }
    }
}

/// Runs a command with the logger on, and has its failure told behind the log's last lines. A
/// standard error that takes nothing is not waited for: the exit code is left.
fn logged(
    verbosity: check::Verbosity,
    audience: Audience,
    run: impl FnOnce(&Stderr) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let stderr = logging::init(verbosity, audience);
    let result = run(&stderr);
    let words = match &result {
        Err(failure) if !failure.is_silent() => failure.report(),
        _ => String::new(),
    };
    // By the log's thread: a pipe that is full would keep this one for good.
    stderr.finish(&words, PATIENCE);
    result.map_err(Failure::without_words)
}
