//! What a serving program says on standard output: words for people, or a JSON object a line for
//! programs. Logs are not events: they go to standard error, see [`logging`](super::logging).

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{fstat, stat};
use serde_json::Value;

use crate::failure::Failure;

/// How long until an output that takes nothing for now is tried again.
const AGAIN: Duration = Duration::from_millis(5);

/// Whether standard output seems to have been closed when the program began, as by `>&-`. std has
/// then opened `/dev/null` in its place, for reading and writing, which shells' own `> /dev/null`
/// does for writing alone.
pub(crate) fn was_closed() -> bool {
    let stdout = io::stdout();
    let flags = fcntl(&stdout, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    let device = fstat(&stdout).map(|file| file.st_rdev);
    let null = stat("/dev/null").map(|file| file.st_rdev);
    flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDWR)
        && device.is_ok()
        && device == null
}

/// Writes `text` to standard output, all of it at once.
///
/// # Errors
/// As [`Failure::output`]: silent, with exit code 0, when nobody reads any more.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    write(text).map_err(|error| Failure::output(&error))
}

/// Writes `text` to standard output, as [`say`] does.
///
/// # Errors
/// As the system gives them; an output that is full for now is waited for.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    write_all(&mut output, text.as_bytes())?;
    until_taken(|| output.flush())
}

/// Writes all of `bytes` to an output that is shared with other programs, one of which may have
/// made it non-blocking: it is then tried again and again.
///
/// # Errors
/// Any other.
pub(crate) fn write_all(output: &mut impl io::Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = write_some(output, bytes)?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Writes some of `bytes`, of which there must be one, to such an output; how many it was.
///
/// # Errors
/// As [`write_all`].
pub(crate) fn write_some(output: &mut impl io::Write, bytes: &[u8]) -> io::Result<usize> {
    match until_taken(|| output.write(bytes))? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

fn until_taken<T>(mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match write() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(AGAIN),
            result => return result,
        }
    }
}

/// An event as a line of JSON: `{"event":"name",...}`, the fields in the order they were added.
/// (A map of `serde_json` would sort them, and the event's name would not come first.)
#[derive(Clone, Debug)]
pub(crate) struct JsonLine(String);

impl JsonLine {
    /// The event `name`, without any other field.
    pub(crate) fn new(name: &str) -> JsonLine {
        let mut line = JsonLine(String::from("{"));
        line.push("event", &name.into());
        line
    }

    /// Adds a field.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> JsonLine {
        self.push(name, &value.into());
        self
    }

    fn push(&mut self, name: &str, value: &Value) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        // Writing to a string does not fail.
        let _ = write!(self.0, "{}:{value}", Value::from(name));
    }

    /// The whole line, with its newline.
    pub(crate) fn finish(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_begins_with_its_name() {
        let line = JsonLine::new("odd")
            .with("text", "a\"b\n\u{1b}")
            .with("count", 3_u64)
            .finish();
        assert!(line.starts_with(r#"{"event":"odd","text":"#), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["text"], "a\"b\n\u{1b}");
        assert_eq!(value["count"], 3);
    }
}
