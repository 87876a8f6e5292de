//! The commands: which one is meant, and how it is run.
//!
//! Arguments take two steps. A command's `args` is what was typed, option for option, each value
//! parsed by itself. Its `check` (`plan` for a load) turns it into what is meant, and refuses what
//! does not go together. Only then are names resolved, and only then is anything bound, so a usage
//! error never leaves a half-started server behind.

#[cfg(test)]
mod fuzz;
mod pages;
mod tips;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::connect;
use crate::failure::Failure;
use crate::load;
use crate::load::options::args::Output;
use crate::load::options::find::Find;
use crate::load::options::load::Load as Plan;
use crate::serve;
use crate::system::handed;
use crate::system::logging::{self, Audience};
use crate::system::signals;
use crate::system::stderr::Stderr;
use crate::values::verbosity::Verbosity;

/// An echo server, a client and a load generator, over TCP, UDP and Unix sockets
#[derive(Debug, Parser)]
#[command(name = "oread", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer with what is sent
    Serve(Box<serve::args::Serve>),
    /// Send standard input, print what comes back
    Connect(connect::args::Connect),
    /// Load a server with connections and messages, and report
    Load(Box<load::options::args::LoadArgs>),
    /// Find the highest rate, or number of connections, at which gates hold
    Find(Box<load::options::find::FindArgs>),
    /// Say whether a load can be had, and what to change where it can't
    Doctor(Box<load::options::args::Doctor>),
    /// Print a shell's completions of these commands
    Completions(pages::Completions),
    /// Print the manual page, or write a page for each command
    Man(pages::Man),
}

/// How long the program's end waits for a standard error that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs the program with `arguments`, the first of which is the program's own name; gives the exit
/// code.
///
/// # Errors
/// The one error that ended it, with its exit code.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    signals::outlive_full_files();
    let arguments: Vec<OsString> = arguments.collect();
    let typed = match Args::try_parse_from(&arguments) {
        Ok(typed) => typed,
        // clap counts --help and --version among the errors.
        Err(error) if !error.use_stderr() => {
            return error.print().map(|()| 0).map_err(|e| Failure::output(&e));
        }
        Err(error) => return Err(tips::refused(error, &arguments)),
    };
    match typed.command {
        Command::Serve(typed) => {
            let handed = handed::take()?;
            let serve = serve::check::Serve::new(*typed, &handed)?;
            logged(serve.verbosity, Audience::Later, |stderr| {
                serve::run(&serve, handed, stderr).map(|()| 0)
            })
        }
        Command::Connect(typed) => {
            let connect = connect::check::Connect::try_from(typed)?;
            logged(connect.verbosity, connect::audience(&connect), |_| {
                connect::run(&connect).map(|()| 0)
            })
        }
        Command::Load(typed) => {
            let plan = Plan::new(typed.demand, typed.output, &typed.verbosity)?;
            color(plan.output.color).write_global();
            logged(plan.verbosity, Audience::Later, |stderr| {
                load::run(&plan, stderr)
            })
        }
        Command::Find(typed) => {
            let find = Find::new(*typed)?;
            color(find.color).write_global();
            logged(find.verbosity, Audience::Later, |stderr| {
                load::find(&find, stderr)
            })
        }
        Command::Doctor(typed) => {
            let plan = Plan::new(typed.demand, Output::default(), &typed.verbosity)?;
            logged(plan.verbosity, Audience::Later, |_| {
                load::doctor(&plan, typed.json)
            })
        }
        Command::Completions(typed) => pages::completions(&typed).map(|()| 0),
        Command::Man(typed) => pages::man(&typed).map(|()| 0),
    }
}

/// What `--color` says to whatever writes in colours.
fn color(typed: clap::ColorChoice) -> anstream::ColorChoice {
    match typed {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::Always,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    }
}

/// Runs a command with the logger on, and tells its failure behind the log's last lines. It does
/// not wait for a standard error that takes nothing: the exit code is left.
fn logged(
    verbosity: Verbosity,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn quiet_may_be_said_twice() {
        for command in ["serve", "connect", "load", "doctor"] {
            let all = ["oread", command, "-q", "-q"];
            assert!(Args::try_parse_from(all).is_ok(), "{command}");
        }
        match Args::try_parse_from(["oread", "serve", "-qq"])
            .unwrap()
            .command
        {
            Command::Serve(typed) => assert!(typed.verbosity.quiet),
            _ => panic!("not serve"),
        }
        assert!(Args::try_parse_from(["oread", "serve", "-q", "-v"]).is_err());
    }
}
