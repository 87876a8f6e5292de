//! How much is said: the options for it, and what they come to.

use clap::ArgAction;

/// How much to say, as typed.
#[derive(Debug, clap::Args)]
pub(crate) struct VerbosityArgs {
    /// Log connections; -vv every message too. RUST_LOG, where it is set, decides instead
    #[arg(
        short,
        long,
        action = ArgAction::Count,
        help_heading = "Output",
        conflicts_with = "quiet"
    )]
    pub(crate) verbose: u8,

    /// Log what the reactor does, too: each event, each call and its answer;
    /// whatever RUST_LOG says
    #[arg(long, help_heading = "Output", conflicts_with = "quiet")]
    pub(crate) trace: bool,

    /// Log errors only
    #[arg(short, long, overrides_with = "quiet", help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// What matters to who runs it.
    Normal,
    /// Connections too.
    Connections,
    /// Every message too.
    Messages,
    /// And whatever a reactor does.
    Everything,
}

impl From<&VerbosityArgs> for Verbosity {
    fn from(typed: &VerbosityArgs) -> Verbosity {
        match (typed.quiet, typed.verbose) {
            _ if typed.trace => Verbosity::Everything,
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Connections,
            (false, _) => Verbosity::Messages,
        }
    }
}
