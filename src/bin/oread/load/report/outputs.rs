//! Where a report goes: files, and standard output. Each is tried, whatever becomes of the others:
//! a full disk shall not cost the words, nor a histogram the JSON.

use crate::failure::Failure;
use crate::load::options::load::Load;
use crate::system::files::LateFile;
use crate::system::stdout;

/// The outputs that a plan wants.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(super) json: Option<LateFile>,
    pub(super) hdr: Option<LateFile>,
    /// Named pipes and what they are told, once all else is written: their readers may come late.
    late: Vec<(LateFile, Vec<u8>)>,
    failures: Vec<Failure>,
}

impl Outputs {
    /// Finds out before a run whether its outputs can be written: afterwards it would be lost.
    ///
    /// # Errors
    /// Exit code 1: one can't be written.
    pub(crate) fn open(plan: &Load) -> Result<Outputs, Failure> {
        let json = plan.json.as_deref().filter(|_| !plan.json_to_stdout());
        let is_all = json.is_none() && plan.hdr.is_none() && plan.gates.is_empty();
        if (is_all || plan.json_to_stdout()) && stdout::was_closed() {
            let failure = "standard output is closed: the report would be lost";
            return Err(Failure::runtime(failure).hint(
                "give it a place, or write `> /dev/null` or `--json FILE` where you don't want it",
            ));
        }
        Ok(Outputs {
            json: json.map(LateFile::new).transpose()?,
            hdr: plan.hdr.as_deref().map(LateFile::new).transpose()?,
            ..Outputs::default()
        })
    }

    /// Writes a file.
    pub(super) fn write(&mut self, file: LateFile, bytes: Vec<u8>) {
        match file.is_pipe {
            true => self.late.push((file, bytes)),
            false => self.note(file.write(&bytes)),
        }
    }

    /// Writes to standard output. That its reader has left is no failure: he has seen enough.
    pub(super) fn say(&mut self, text: &str) {
        self.note(stdout::say(text));
    }

    /// Remembers a failure.
    pub(super) fn note(&mut self, result: Result<(), Failure>) {
        let failure = result.err().filter(|failure| !failure.is_silent());
        self.failures.extend(failure);
    }

    /// What has failed so far, in one.
    pub(super) fn failure(&self) -> Option<Failure> {
        Failure::all(&self.failures)
    }

    /// Feeds the named pipes, and gives the exit code of a run that is worth `code`: 1 where an
    /// output has failed, but that an interruption (128 and the signal) comes first.
    ///
    /// # Errors
    /// All that has failed, in one, with that exit code.
    pub(super) fn finish(mut self, code: u8) -> Result<u8, Failure> {
        for (file, bytes) in std::mem::take(&mut self.late) {
            self.note(file.write(&bytes));
        }
        match self.failure() {
            Some(failure) => Err(failure.with_code(if code >= 128 { code } else { 1 })),
            None => Ok(code),
        }
    }
}
