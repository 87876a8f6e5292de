//! What a package of the program brings beside it, made from the arguments as they are declared:
//! completions for shells, and manual pages.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::Args;
use crate::failure::{Failure, Reason};
use crate::system::stdout;

const COMPLETIONS_NOTES: &str = "\
  source <(oread completions bash)                            for this bash
  oread completions zsh > ~/.zfunc/_oread                     where fpath has ~/.zfunc
  oread completions fish > ~/.config/fish/completions/oread.fish";

const MAN_NOTES: &str = "\
  oread man | man -l -                                        read it
  oread man ~/.local/share/man/man1                           for `man oread-load`";

/// Print a shell's completions of these commands
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_NOTES)]
pub(crate) struct Completions {
    /// The shell that reads them
    pub(crate) shell: Shell,
}

/// Print the manual page, or write a page for each command
#[derive(Debug, clap::Args)]
#[command(after_help = MAN_NOTES)]
pub(crate) struct Man {
    /// Folder for the pages of all commands: oread.1, oread-serve.1 and so on. It is made if it is
    /// not there [default: the main page, to standard output]
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

/// Prints the completions.
///
/// # Errors
/// As [`Failure::output`].
pub(crate) fn completions(typed: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(typed.shell, &mut Args::command(), "oread", &mut script);
    stdout::say(&String::from_utf8_lossy(&script))
}

/// Prints the main page, or writes all of them.
///
/// # Errors
/// As [`Failure::output`]; or exit code 1: a page can't be written.
pub(crate) fn man(typed: &Man) -> Result<(), Failure> {
    match &typed.folder {
        Some(folder) => write_pages(Args::command(), folder).map_err(|error| {
            let (folder, why) = (folder.display(), Reason(&error));
            Failure::runtime(format!("can't write manual pages into {folder}: {why}"))
        }),
        None => {
            let main = page(Args::command()).map_err(|error| Failure::output(&error))?;
            stdout::say(&String::from_utf8_lossy(&main))
        }
    }
}

/// Writes a page for the program, and one for each of its commands.
fn write_pages(mut program: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // There is no page of a command `help`. The others are called by all their words from here on.
    program = program.disable_help_subcommand(true);
    program.build();
    let commands: Vec<Command> = program.get_subcommands().cloned().collect();
    for command in commands.into_iter().chain([program]) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        fs::write(folder.join(format!("{name}.1")), page(command)?)?;
    }
    Ok(())
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let source = concat!("oread ", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.disable_help_subcommand(true)).source(source);
    man.render(&mut page)?;
    Ok(page)
}
