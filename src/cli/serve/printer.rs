//! What a running server prints: by a thread of its own, because a standard output that is blocked (a full pipe, a
//! terminal that is stopped) must stall neither the loop nor the end.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Instant;

use super::spawn;
use crate::cli::events;
use crate::cli::failure::{Failure, Reason};

/// Lines that may wait for standard output; more are left out.
const QUEUE: usize = 16;

/// Prints lines in their order.
#[derive(Debug)]
pub(super) struct Printer {
    sender: SyncSender<String>,
    /// Gives what the thread came to.
    ended: Receiver<io::Result<()>>,
}

impl Printer {
    /// Starts the thread.
    ///
    /// # Errors
    /// Exit code 1: no thread can be started.
    pub(super) fn start() -> Result<Printer, Failure> {
        let (sender, lines) = mpsc::sync_channel(QUEUE);
        let (tell, ended) = mpsc::sync_channel(1);
        spawn("standard output", move || {
            let result = print_all(&lines);
            // Nobody waits for it where the program has ended meanwhile.
            let _ = tell.send(result);
        })?;
        Ok(Printer { sender, ended })
    }

    /// Where the lines go.
    pub(super) fn sender(&self) -> SyncSender<String> {
        self.sender.clone()
    }

    /// Prints the last line behind all others, and waits for it until `deadline`. All other senders must be gone.
    ///
    /// # Errors
    /// As [`Failure::output`]; or standard output did not take it in time.
    pub(super) fn finish(self, last: String, deadline: Instant) -> Result<(), Failure> {
        let sender = self.sender;
        // The queue may be full, so somebody else waits for room in it.
        spawn("last line", move || sender.send(last))?;
        let left = deadline.saturating_duration_since(Instant::now());
        match self.ended.recv_timeout(left) {
            Ok(result) => result.map_err(|error| Failure::output(&error)),
            Err(RecvTimeoutError::Timeout) => Err(Failure::runtime(
                "standard output takes nothing, so the summary is lost",
            )
            .hint("have its reader go on, or give it longer with --drain-timeout")),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::runtime(
                "can't write to standard output: its thread panicked",
            )),
        }
    }
}

/// Prints until nobody sends any more, or until it fails. That is told at once: the server goes on, and its end may be far.
fn print_all(lines: &Receiver<String>) -> io::Result<()> {
    for line in lines {
        if let Err(error) = events::write(&line) {
            let why = match error.kind() {
                io::ErrorKind::BrokenPipe => "its reader has left".to_owned(),
                _ => Reason(&error).to_string(),
            };
            log::warn!("nothing more is written to standard output: {why}");
            return Err(error);
        }
    }
    Ok(())
}
