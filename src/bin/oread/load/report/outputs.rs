//! Where a report goes: files, and standard output. Each is tried, whatever becomes of the others:
//! a full disk shall not cost the words, nor a histogram the JSON.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Reason};
use crate::load::options::load::Load;
use crate::system::stdout;

/// The outputs that a plan wants. Dropped, it takes away what it has made and nothing was written
/// to.
#[derive(Debug)]
pub(crate) struct Outputs {
    created: Vec<PathBuf>,
    failures: Vec<Failure>,
}

impl Outputs {
    /// Finds out before a run whether its files can be written: afterwards it would be lost. An old
    /// one stays as it is until then.
    ///
    /// # Errors
    /// Exit code 1: one can't.
    pub(crate) fn open(plan: &Load) -> Result<Outputs, Failure> {
        let mut outputs = Outputs {
            created: Vec::new(),
            failures: Vec::new(),
        };
        let json = plan.json.as_deref().filter(|_| !plan.json_to_stdout());
        for path in [json, plan.hdr.as_deref()].into_iter().flatten() {
            match OpenOptions::new().append(true).create_new(true).open(path) {
                Ok(_) => outputs.created.push(path.to_owned()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let old = OpenOptions::new().append(true).open(path);
                    old.map_err(|error| unwritable(path, &error))?;
                }
                Err(error) => return Err(unwritable(path, &error)),
            }
        }
        Ok(outputs)
    }

    /// Writes a file.
    pub(super) fn write(&mut self, path: &Path, bytes: &[u8]) {
        if let Err(error) = fs::write(path, bytes) {
            self.failed(unwritable(path, &error));
        }
    }

    /// Writes to standard output. That its reader has left is no failure: he has seen enough.
    pub(super) fn say(&mut self, text: &str) {
        if let Err(failure) = stdout::say(text)
            && !failure.is_silent()
        {
            self.failed(failure);
        }
    }

    /// Something could not be written.
    pub(super) fn failed(&mut self, failure: Failure) {
        self.failures.push(failure);
    }

    /// The exit code of a run that is worth `code`: 1 where an output has failed, but that an
    /// interruption (128 and the signal) comes first.
    pub(super) fn exit_code(&self, code: u8) -> u8 {
        if self.failures.is_empty() || code >= 128 {
            code
        } else {
            1
        }
    }

    /// Gives the exit code of a run that is worth `code`.
    ///
    /// # Errors
    /// All that has failed, in one, with that exit code.
    pub(super) fn finish(mut self, code: u8) -> Result<u8, Failure> {
        let code = self.exit_code(code);
        match Failure::all(&std::mem::take(&mut self.failures)) {
            Some(failure) => Err(failure.with_code(code)),
            None => Ok(code),
        }
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for path in &self.created {
            let is_empty = fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == 0);
            if is_empty && let Err(error) = fs::remove_file(path) {
                log::debug!("{} stays, empty: {}", path.display(), Reason(&error));
            }
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::runtime(format!("can't write {}: {}", path.display(), Reason(error)))
        .hint("choose another place for it")
}
