//! The other threads' way into a reactor: a bounded mailbox, and words to drain or stop it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Duration;

use crate::clock;
use crate::net::{Waker, Woken};

/// Speaks to a reactor from any thread: posts messages, asks it to drain or to stop. Clone it freely; it keeps nothing
/// alive but the mailbox.
///
/// Messages of one sender arrive in the order they were sent, each exactly once, at
/// [`Handler::on_message`](crate::Handler::on_message).
pub struct Handle<M> {
    sender: SyncSender<M>,
    control: Arc<Control>,
}

/// What handles and their reactor share.
#[derive(Debug)]
struct Control {
    waker: Waker,
    /// Whether a wake-up is under way that the reactor has not answered: so a thousand messages cost one system call.
    awake: AtomicBool,
    stop: AtomicBool,
    /// The drain asked for, in milliseconds; [`NO_DRAIN`] when none is.
    drain_ms: AtomicU64,
}

const NO_DRAIN: u64 = u64::MAX;

/// Why a message was not taken; it holds the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<M> {
    /// As many messages wait as [`Limits::mailbox`](crate::Limits::mailbox) allows. Try later, or drop it.
    Full(M),
    /// The reactor is gone.
    Gone(M),
}

impl<M> Handle<M> {
    /// Posts a message.
    ///
    /// # Errors
    /// [`SendError::Full`] when too many wait already, [`SendError::Gone`] when the reactor was dropped. Both give the
    /// message back.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) => SendError::Full(message),
            TrySendError::Disconnected(message) => SendError::Gone(message),
        })?;
        self.control.wake();
        Ok(())
    }

    /// Asks the reactor to drain, as [`Context::drain`](crate::Context::drain) does, after the messages that
    /// it takes up before it sees this. A second call changes nothing while a drain is under way.
    pub fn drain(&self, within: Duration) {
        self.control
            .drain_ms
            .store(u64::from(clock::millis(within)), Ordering::Release);
        self.control.wake();
    }

    /// Asks the reactor's `run` or `turn` to return [`Ended::Stopped`](crate::Ended::Stopped) at the end of its
    /// turn. Connections stay as they are: the reactor may be run again, or dropped.
    pub fn stop(&self) {
        self.control.stop.store(true, Ordering::Release);
        self.control.wake();
    }
}

impl Control {
    fn wake(&self) {
        if self.awake.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.waker.wake() {
            // The next sender tries again.
            self.awake.store(false, Ordering::Release);
            log::error!("could not wake the reactor: {error}");
        }
    }
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Handle<M> {
        Handle {
            sender: self.sender.clone(),
            control: Arc::clone(&self.control),
        }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<M> SendError<M> {
    /// The message that was not taken.
    pub fn into_message(self) -> M {
        match self {
            SendError::Full(message) | SendError::Gone(message) => message,
        }
    }
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "Full(..)",
            SendError::Gone(_) => "Gone(..)",
        })
    }
}

impl<M> fmt::Display for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "the reactor's mailbox is full",
            SendError::Gone(_) => "the reactor is gone",
        })
    }
}

impl<M> std::error::Error for SendError<M> {}

/// The reactor's end of it.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    sender: SyncSender<M>,
    receiver: Receiver<M>,
    woken: Woken,
    control: Arc<Control>,
}

impl<M> Mailbox<M> {
    /// A mailbox for `size` messages, which wakes its reactor through `waker`.
    pub(crate) fn new(size: usize, (waker, woken): (Waker, Woken)) -> Mailbox<M> {
        let (sender, receiver) = mpsc::sync_channel(size);
        let control = Arc::new(Control {
            waker,
            awake: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            drain_ms: AtomicU64::new(NO_DRAIN),
        });
        Mailbox {
            sender,
            receiver,
            woken,
            control,
        }
    }

    pub(crate) fn handle(&self) -> Handle<M> {
        Handle {
            sender: self.sender.clone(),
            control: Arc::clone(&self.control),
        }
    }

    /// Says that the wake-up was heard. To be called before the messages are taken: whoever posts one afterwards wakes the
    /// reactor anew, so none is left lying.
    pub(crate) fn heard(&mut self) {
        self.woken.hear();
        self.control.awake.swap(false, Ordering::AcqRel);
    }

    /// The next message, if there is one.
    pub(crate) fn take(&self) -> Option<M> {
        self.receiver.try_recv().ok()
    }

    /// The drain that was asked for since the last call.
    pub(crate) fn take_drain(&self) -> Option<Duration> {
        match self.control.drain_ms.swap(NO_DRAIN, Ordering::AcqRel) {
            NO_DRAIN => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// Whether a stop was asked for since the last call.
    pub(crate) fn take_stop(&self) -> bool {
        self.control.stop.swap(false, Ordering::AcqRel)
    }
}
