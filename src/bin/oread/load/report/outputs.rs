//! Where a report goes: files, and standard output. Each is tried, whatever becomes of the others:
//! a full disk shall not cost the words, nor a histogram the JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::failure::{Failure, Reason};
use crate::load::options::load::Load;
use crate::system::stdout;

/// How long a named pipe is waited for: for a reader, and for it to take something.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long until it is tried again.
const AGAIN: Duration = Duration::from_millis(5);

/// A named pipe, and its end for writing where it has a reader already.
#[derive(Debug)]
struct Pipe {
    path: PathBuf,
    end: Option<File>,
}

/// The outputs that a plan wants.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pipes: Vec<Pipe>,
    /// What goes into which of them, once all else is written: a reader may come late.
    fed: Vec<(usize, Vec<u8>)>,
    failures: Vec<Failure>,
}

impl Outputs {
    /// Finds out before a run whether its outputs can be written: afterwards it would be lost. No
    /// file is made or changed, and a named pipe that has a reader already is kept open: its reader
    /// would take a close for the end.
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
        let mut outputs = Outputs::default();
        for path in [json, plan.hdr.as_deref()].into_iter().flatten() {
            let pipe = probe(path).map_err(|error| unwritable(path, &error))?;
            outputs.pipes.extend(pipe);
        }
        Ok(outputs)
    }

    /// Writes a file; what is for a named pipe is kept for the end.
    pub(super) fn write(&mut self, path: &Path, bytes: Vec<u8>) {
        if let Some(index) = self.pipes.iter().position(|pipe| pipe.path == path) {
            self.fed.push((index, bytes));
        } else if let Err(error) = replace(path, &bytes) {
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

    /// What has failed so far, in words.
    pub(super) fn failure(&self) -> Option<String> {
        Failure::all(&self.failures).map(|failure| failure.message().to_owned())
    }

    /// Feeds the named pipes, and gives the exit code of a run that is worth `code`: 1 where an
    /// output has failed, but that an interruption (128 and the signal) comes first.
    ///
    /// # Errors
    /// All that has failed, in one, with that exit code.
    pub(super) fn finish(mut self, code: u8) -> Result<u8, Failure> {
        for (index, bytes) in std::mem::take(&mut self.fed) {
            let Pipe { path, end } = &mut self.pipes[index];
            if let Err(error) = feed(path, end.take(), &bytes) {
                let failure = unwritable(path, &error);
                self.failures.push(failure);
            }
        }
        match Failure::all(&self.failures) {
            Some(failure) => Err(failure.with_code(if code >= 128 { code } else { 1 })),
            None => Ok(code),
        }
    }
}

/// Whether a path can be written to; a named pipe is given.
fn probe(path: &Path) -> io::Result<Option<Pipe>> {
    match fs::metadata(path) {
        Ok(file) if file.file_type().is_fifo() => {
            let end = match open_pipe(path) {
                Err(error) if is_for_now(&error) => None,
                opened => Some(opened?),
            };
            let path = path.to_owned();
            Ok(Some(Pipe { path, end }))
        }
        Ok(_) => OpenOptions::new().append(true).open(path).map(|_| None),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let tried = beside(path);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&tried)?;
            fs::remove_file(tried).map(|()| None)
        }
        Err(error) => Err(error),
    }
}

/// Writes a file whole or not at all: beside its place first. Only what is no plain file, such as
/// `/dev/stderr`, or lies in a folder that takes no other one, is written to in its place.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return fs::write(path, bytes);
    }
    let new = beside(path);
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&new) {
        Err(error) if old.is_some() && error.kind() == ErrorKind::PermissionDenied => {
            return fs::write(path, bytes);
        }
        opened => opened?,
    };
    let permissions = old.map_or(Ok(()), |old| file.set_permissions(old.permissions()));
    let written = permissions
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err()
        && let Err(error) = fs::remove_file(&new)
    {
        log::debug!("{} stays: {}", new.display(), Reason(&error));
    }
    written
}

/// A name of this process's own in the folder of a file.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".oread-{}", std::process::id()))
}

/// Opens a named pipe without waiting for a reader.
///
/// # Errors
/// `ENXIO`: it has none; see [`is_for_now`].
fn open_pipe(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
    options.open(path)
}

/// Writes all to a named pipe, whose reader may come late. Where a reader leaves in the midst of it,
/// the next one is told all.
fn feed(path: &Path, mut end: Option<File>, bytes: &[u8]) -> io::Result<()> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut rest = bytes;
    if end.is_none() {
        log::info!("waiting for a reader of {}", path.display());
    }
    while !rest.is_empty() {
        let step = match &mut end {
            Some(end) => end.write(rest),
            None => open_pipe(path).map(|opened| {
                end = Some(opened);
                0
            }),
        };
        match step {
            Ok(0) => {}
            Ok(count) => {
                rest = &rest[count..];
                deadline = Instant::now() + PATIENCE;
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => (end, rest) = (None, bytes),
            Err(error) if !is_for_now(&error) => return Err(error),
            Err(_) if Instant::now() < deadline => thread::sleep(AGAIN),
            Err(_) => return Err(io::Error::new(ErrorKind::TimedOut, "nobody reads it")),
        }
    }
    Ok(())
}

/// Whether a named pipe may take more later: it is full, or has no reader yet.
fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || error.raw_os_error() == Some(Errno::ENXIO as i32)
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::runtime(format!("can't write {}: {}", path.display(), Reason(error)))
        .hint("choose another place for it")
}
