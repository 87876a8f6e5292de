//! The report of a run: words, JSON and histograms, all made of one [`Outcome`], so that they
//! agree.
//!
//! | file | what it is |
//! |---|---|
//! | `report/text` over `by_whom` | the words, for people |
//! | `report/json` over `timing` | everything, for programs |
//! | `report/stages` | what each stage came to, for both |
//! | `report/hdr` | the histograms, as other tools read them |
//! | `report/csv` | the seconds as a table |
//! | `report/judgement` | the exit code and why, the gates, what to beware of |
//!
//! Where all this goes, the [`Outputs`], is here.

mod by_whom;
mod csv;
mod hdr;
mod json;
pub(crate) mod judgement;
pub(crate) mod outcome;
mod stages;
#[cfg(test)]
mod tests;
mod text;
mod timing;

use crate::failure::Failure;
use crate::load::options::load::Load;
use crate::load::report::outcome::{Ending, Outcome};
use crate::system::files::LateFile;
use crate::system::page::Page;
use crate::system::signals;
use crate::system::stdout;

use judgement::Judgement;

/// Tells a run's outcome in all `outputs` of its plan; gives the exit code. Of a run that was not
/// begun people have been told before, and there are no histograms.
///
/// The files are written before the words are said: who reads the words finds the files there.
/// Named pipes come last: their readers may come late.
///
/// # Errors
/// What could not be written; the rest was. Exit code 1, or that of an interruption.
pub(crate) fn report(outcome: &Outcome, mut outputs: Outputs) -> Result<u8, Failure> {
    let is_begun = outcome.ending != Ending::NotBegun;
    if let Some(file) = outputs.hdr.take().filter(|_| is_begun) {
        let encoded = hdr::log(outcome);
        match encoded.map_err(|what| format!("can't write the histogram log: {what}")) {
            Ok(log) => outputs.write(file, log),
            Err(words) => outputs.note(Err(Failure::runtime(words))),
        }
    }
    if let Some(file) = outputs.csv.take().filter(|_| is_begun) {
        outputs.write(file, csv::table(outcome).into_bytes());
    }
    let judged = |outputs: &Outputs| Judgement::of(outcome, outputs.failure().as_ref());
    if let Some(file) = outputs.json.take() {
        let json = json::report(outcome, &judged(&outputs));
        outputs.write(file, json.into_bytes());
    }
    let judgement = judged(&outputs);
    outputs.note(stdout::say(&match outcome.plan.json_to_stdout() {
        true => json::report(outcome, &judgement),
        false if !is_begun => String::new(),
        false => text::report(Page::of_stdout(), outcome, &judgement),
    }));
    outputs.finish(judgement.exit_code())
}

/// The outputs that a plan wants.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    json: Option<LateFile>,
    hdr: Option<LateFile>,
    csv: Option<LateFile>,
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
        let (json, hdr) = (plan.json_file(), plan.output.hdr.as_deref());
        let csv = plan.output.csv.as_deref();
        let is_all = json.is_none() && hdr.is_none() && csv.is_none() && plan.output.slo.is_empty();
        if (is_all || plan.json_to_stdout()) && stdout::was_closed() {
            let failure = "standard output is closed: the report would be lost";
            return Err(Failure::runtime(failure).hint(
                "give it a place, or write `> /dev/null` or `--json FILE` where you don't want it",
            ));
        }
        Ok(Outputs {
            json: json.map(LateFile::new).transpose()?,
            hdr: hdr.map(LateFile::new).transpose()?,
            csv: csv.map(LateFile::new).transpose()?,
            ..Outputs::default()
        })
    }

    /// Writes a file.
    fn write(&mut self, file: LateFile, bytes: Vec<u8>) {
        match file.is_pipe {
            true => self.late.push((file, bytes)),
            false => self.note(file.write(&bytes, None)),
        }
    }

    /// Remembers a failure. That the reader of standard output has left is none.
    fn note(&mut self, result: Result<(), Failure>) {
        let failure = result.err().filter(|failure| !failure.is_silent());
        self.failures.extend(failure);
    }

    /// What has failed so far, in one.
    fn failure(&self) -> Option<Failure> {
        Failure::all(&self.failures)
    }

    /// Feeds the named pipes, and gives the exit code of a run that is worth `code`: that of the
    /// failure where an output has failed, but that an interruption (128 and the signal) comes
    /// first.
    ///
    /// # Errors
    /// All that has failed, in one, with that exit code.
    fn finish(mut self, code: u8) -> Result<u8, Failure> {
        // One that comes from here on ends the waiting, not the run.
        let heard = signals::last().filter(|_| code >= 128);
        for (file, bytes) in std::mem::take(&mut self.late) {
            self.note(file.write(&bytes, heard));
        }
        match self.failure() {
            Some(failure) if code < 128 => Err(failure),
            Some(failure) => Err(failure.with_code(code)),
            None => Ok(code),
        }
    }
}
