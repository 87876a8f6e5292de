//! What a running server prints: by a thread of its own, because a standard output that is blocked
//! (a full pipe, a terminal that is stopped) must stall neither the loop nor the end.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Instant;

use crate::failure::{Failure, Reason};
use crate::system::outlet::Outlet;
use crate::system::threads;

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
        threads::start("standard output", move || {
            let result = print_all(&lines, Outlet::new(Unbuffered));
            // Nobody waits for it where the program has ended meanwhile.
            let _ = tell.send(result);
        })?;
        Ok(Printer { sender, ended })
    }

    /// Where the lines go.
    pub(super) fn sender(&self) -> SyncSender<String> {
        self.sender.clone()
    }

    /// Prints the last line behind all others, and waits for it until `deadline`. All other senders
    /// must be gone.
    ///
    /// # Errors
    /// As [`Failure::output`]; or standard output did not take it in time.
    pub(super) fn finish(self, last: String, deadline: Instant) -> Result<(), Failure> {
        let sender = self.sender;
        // The queue may be full, so somebody else waits for room in it.
        threads::start("last line", move || sender.send(last))?;
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

/// Prints until nobody sends any more, or its reader has left. What goes wrong is told at once,
/// because the server goes on and its end may be far; what has gone wrong with the last line is
/// given.
fn print_all(lines: &Receiver<String>, mut output: Outlet<impl Write>) -> io::Result<()> {
    let mut last = Ok(());
    for line in lines {
        let failed_before = last.is_err();
        last = output.write(line.as_bytes(), || ());
        match &last {
            Ok(()) => {
                if let Some(lost) = output.take_lost() {
                    log::warn!("standard output works again: {lost} of its lines were lost");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                log::warn!("nothing more is written to standard output: its reader has left");
                break;
            }
            Err(_) if failed_before => {}
            Err(error) => log::warn!(
                "can't write to standard output, so lines are lost: {}",
                Reason(error)
            ),
        }
    }
    last
}

/// Standard output without std's buffer, which would keep what could not be written, and write it
/// later.
struct Unbuffered;

impl Write for Unbuffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(io::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
