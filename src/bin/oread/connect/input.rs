//! Standard input, read by a thread of its own: a regular file can't be polled, and a terminal or a
//! pipe is shared with other programs, so it must not be made non-blocking.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use oread::Handle;

use super::message::Message;
use crate::failure::{Failure, Reason};
use crate::system::threads;

/// Buffers that go round: filled by the thread, emptied by the loop, given back by it. There are
/// never more, so what a peer does not take is not read either.
pub(super) const BUFFERS: usize = 4;

/// Bytes of each: a whole pipe's worth on Linux.
pub(super) const SIZE: usize = 64 << 10;

/// Standard input, before and while it is read.
#[derive(Debug)]
pub(super) struct Input {
    handle: Handle<Message>,
    give_back: SyncSender<Vec<u8>>,
    /// What the thread will take; `None` once it has.
    parts: Option<(File, Receiver<Vec<u8>>)>,
}

impl Input {
    /// Standard input. Nothing is read before [`Input::start`]: what is not sent is left to others.
    ///
    /// # Errors
    /// Exit code 1: there is none.
    pub(super) fn new(handle: Handle<Message>) -> Result<Input, Failure> {
        let file = io::stdin().as_fd().try_clone_to_owned();
        let file = file.map_err(|error| unreadable(&error))?;
        let (give_back, empty) = mpsc::sync_channel(BUFFERS);
        Ok(Input {
            handle,
            give_back,
            parts: Some((file.into(), empty)),
        })
    }

    /// Begins to read: each piece is a [`Message::Input`], the end is [`Message::InputEnd`].
    ///
    /// # Errors
    /// Exit code 1: no thread can be started.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let Some((file, empty)) = self.parts.take() else {
            return Ok(());
        };
        for _ in 0..BUFFERS {
            self.give_back(Vec::new());
        }
        let handle = self.handle.clone();
        let read = move || read_all(file, &empty, &handle);
        threads::start("standard input", read).map(drop)
    }

    /// Gives a buffer back, to be filled again.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        // There is room for all that there are, and a thread that has ended needs none.
        let _ = self.give_back.try_send(buffer);
    }
}

/// The words for input that can't be read.
pub(super) fn unreadable(error: &io::Error) -> Failure {
    Failure::runtime(format!("can't read standard input: {}", Reason(error)))
}

/// Reads to the end, or until nobody wants more.
fn read_all(mut file: File, empty: &Receiver<Vec<u8>>, handle: &Handle<Message>) {
    while let Ok(mut buffer) = empty.recv() {
        buffer.resize(SIZE, 0);
        let message = match read(&mut file, &mut buffer) {
            Ok(0) => Message::InputEnd(None),
            Ok(count) => {
                buffer.truncate(count);
                Message::Input(buffer)
            }
            Err(error) => Message::InputEnd(Some(error)),
        };
        let last = matches!(message, Message::InputEnd(_));
        // The mailbox has room for all messages there can be: a refusal means that the loop is
        // gone.
        if handle.send(message).is_err() || last {
            return;
        }
    }
}

fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program that shares the descriptor has made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}
