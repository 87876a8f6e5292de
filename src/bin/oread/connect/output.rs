//! Standard output, written by a thread of its own: one that is blocked (a full pipe, a stopped
//! terminal) must not stall the loop.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::JoinHandle;

use oread::Handle;

use super::message::Message;
use super::screen::Screen;
use crate::failure::Failure;
use crate::system::stdout;
use crate::system::threads;

/// Pieces that may wait to be written.
const QUEUE: usize = 8;

/// Standard output.
#[derive(Debug)]
pub(super) struct Output {
    sender: SyncSender<Vec<u8>>,
    /// It comes back with what kept it from writing, if anything did.
    thread: JoinHandle<io::Result<()>>,
    /// Whether the loop waits for room in the queue.
    waiting: Arc<AtomicBool>,
    /// What came at the very end.
    late: Vec<u8>,
}

impl Output {
    /// Starts the thread. It posts [`Message::Room`] when there is room again after there was none,
    /// and [`Message::OutputFailed`].
    ///
    /// # Errors
    /// Exit code 1: no thread can be started, or there is no standard output.
    pub(super) fn start(handle: Handle<Message>) -> Result<Output, Failure> {
        let stdout = io::stdout();
        let file = stdout.as_fd().try_clone_to_owned();
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let waiting = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            file: file.map_err(|error| Failure::output(&error))?.into(),
            screen: stdout.is_terminal().then(Screen::default),
            receiver,
            handle,
            waiting: Arc::clone(&waiting),
        };
        let thread = threads::start("standard output", move || writer.write_all())?;
        Ok(Output {
            sender,
            thread,
            waiting,
            late: Vec::new(),
        })
    }

    /// Has `bytes` written, in their turn.
    ///
    /// # Errors
    /// The bytes, when there is no room for them; [`Message::Room`] will come.
    pub(super) fn offer(&self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let Err(TrySendError::Full(bytes)) = self.sender.try_send(bytes) else {
            // What can't be written any more is not kept either: the failure is on its way.
            return Ok(());
        };
        // Said first and tried once more afterwards: the queue may have become empty in between,
        // and then there would be no piece left after which the thread could tell.
        self.waiting.store(true, Ordering::SeqCst);
        match self.sender.try_send(bytes) {
            Err(TrySendError::Full(bytes)) => Err(bytes),
            _ => Ok(()),
        }
    }

    /// Has the last bytes written by [`Output::finish`].
    pub(super) fn offer_last(&mut self, bytes: &[u8]) {
        self.late.extend_from_slice(bytes);
    }

    /// Waits until all is written. What was offered last may fail only now, when the loop is over.
    ///
    /// # Errors
    /// As [`Failure::output`], whether or not [`Message::OutputFailed`] came before.
    pub(super) fn finish(self) -> Result<(), Failure> {
        // It fails only when the thread has ended with an error, which comes below.
        let _ = self.sender.send(self.late);
        drop(self.sender);
        match self.thread.join() {
            Ok(written) => written.map_err(|error| Failure::output(&error)),
            Err(_) => Err(Failure::runtime(
                "can't write to standard output: its thread panicked",
            )),
        }
    }
}

/// The thread's part.
struct Writer {
    file: File,
    /// Where standard output is a terminal.
    screen: Option<Screen>,
    receiver: Receiver<Vec<u8>>,
    handle: Handle<Message>,
    waiting: Arc<AtomicBool>,
}

impl Writer {
    fn write_all(mut self) -> io::Result<()> {
        loop {
            let piece = self.receiver.recv();
            let over = piece.is_err();
            let bytes = match (&mut self.screen, piece) {
                (None, Ok(bytes)) => bytes,
                (Some(screen), Ok(bytes)) => screen.show(&bytes),
                (Some(screen), Err(_)) => screen.finish(),
                (None, Err(_)) => Vec::new(),
            };
            // A mailbox that takes no message has no loop behind it any more.
            if let Err(error) = stdout::write_all(&mut self.file, &bytes) {
                let _ = self.handle.send(Message::OutputFailed);
                return Err(error);
            }
            if self.waiting.swap(false, Ordering::SeqCst) {
                let _ = self.handle.send(Message::Room);
            }
            if over {
                return Ok(());
            }
        }
    }
}
