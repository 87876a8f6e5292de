//! A file that a long run ends with: whether it can be written is found out before, it is written
//! whole or not at all, and a named pipe is waited for without being blocked on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::signals::{self, Signal};
use crate::failure::{Failure, Reason};

/// How long a named pipe is waited for: for a reader, and for it to take something.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long until it is tried again.
const AGAIN: Duration = Duration::from_millis(5);

/// A file to be written once.
#[derive(Debug)]
pub(crate) struct LateFile {
    path: PathBuf,
    pub(crate) is_pipe: bool,
    /// A named pipe's end for writing, where it had a reader already: that one would take a close
    /// for the end.
    end: Option<File>,
}

impl LateFile {
    /// Finds out whether a path can be written to. No file is made or changed.
    ///
    /// # Errors
    /// Exit code 1: it can't.
    pub(crate) fn new(path: &Path) -> Result<LateFile, Failure> {
        let (is_pipe, end) = probe(path).map_err(|error| unwritable(path, &error))?;
        Ok(LateFile {
            path: path.to_owned(),
            is_pipe,
            end,
        })
    }

    /// Writes it. A named pipe is waited for: its reader may come late. `heard` is the signal that
    /// had come before any waiting: the next one ends that.
    ///
    /// # Errors
    /// Exit code 1: not all of it could be written. 130 or 143: a signal ended the waiting.
    pub(crate) fn write(self, bytes: &[u8], heard: Option<Signal>) -> Result<(), Failure> {
        let written = match self.is_pipe {
            true => feed(&self.path, self.end, bytes, heard),
            false => replace(&self.path, bytes),
        };
        written.map_err(|error| {
            let failure = unwritable(&self.path, &error);
            match signals::last().filter(|_| error.kind() == ErrorKind::Interrupted) {
                // What shells say of a death by signal.
                Some(signal) => failure.with_code(128 + signal.number() as u8),
                None => failure,
            }
        })
    }
}

/// Whether a path that can be written to is a named pipe, and its end if that has a reader.
fn probe(path: &Path) -> io::Result<(bool, Option<File>)> {
    match fs::metadata(path) {
        Ok(file) if file.file_type().is_fifo() => match open_pipe(path) {
            Err(error) if is_for_now(&error) => Ok((true, None)),
            opened => Ok((true, Some(opened?))),
        },
        Ok(_) => OpenOptions::new()
            .append(true)
            .open(path)
            .map(|_| (false, None)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (tried, _) = create_beside(&followed(path))?;
            fs::remove_file(tried).map(|()| (false, None))
        }
        Err(error) => Err(error),
    }
}

/// Writes a file whole or not at all: beside its place first. Only what is no plain file, or
/// another name of one that is open (`/dev/stderr`), or lies in a folder that takes no other file,
/// is written to in its place.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_special = path.starts_with("/dev");
    let path = &followed(path);
    let old = fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| is_special || !old.is_file()) {
        let mut file = OpenOptions::new().append(true).open(path)?;
        return file.write_all(bytes);
    }
    let (new, mut file) = match create_beside(path) {
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

/// Where a path leads: links are followed, one to a file that is not there yet as well.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match fs::read_link(&path) {
            Ok(to) if !path.exists() => path.set_file_name(to),
            _ => break,
        }
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = fs::canonicalize(folder.unwrap_or(Path::new(".")));
    let placed = |name| folder.ok().map(|folder| folder.join(name));
    let there = fs::canonicalize(&path).ok();
    there
        .or_else(|| path.file_name().and_then(placed))
        .unwrap_or(path)
}

/// Makes a file with a name of this process's own in the folder of another one.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let new = path.with_file_name(format!(".oread-{}", std::process::id()));
    let create = || OpenOptions::new().write(true).create_new(true).open(&new);
    let file = match create() {
        // Left by one that was killed; in a container the next one has the same number.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&new)?;
            create()?
        }
        created => created?,
    };
    Ok((new, file))
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

/// Writes all to a named pipe, whose reader may come late. Where a reader leaves in the midst of
/// it, the next one is told all. A pipe without a name of its own (`/dev/stdout`, `>(command)`)
/// gets no other reader.
fn feed(path: &Path, mut end: Option<File>, bytes: &[u8], heard: Option<Signal>) -> io::Result<()> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut rest = bytes;
    let is_named = fs::canonicalize(path).is_ok_and(|path| !path.starts_with("/proc"));
    if end.is_none() {
        let (path, patience) = (path.display(), PATIENCE.as_secs());
        log::info!("waiting for a reader of {path}, {patience} s at most; Ctrl-C ends that");
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
            Err(error) => {
                let has_left = error.kind() == ErrorKind::BrokenPipe;
                if has_left {
                    (end, rest) = (None, bytes);
                }
                if !(is_for_now(&error) || has_left && is_named) {
                    return Err(error);
                }
                // All else is written by now. Where a signal has ended the run already, the next
                // one ends the program by itself.
                if heard.is_none()
                    && let Some(signal) = signals::last()
                {
                    let words = format!("{signal} came before all was read");
                    return Err(io::Error::new(ErrorKind::Interrupted, words));
                }
                if Instant::now() >= deadline {
                    return Err(io::Error::new(ErrorKind::TimedOut, "nobody reads it"));
                }
                thread::sleep(AGAIN);
            }
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
