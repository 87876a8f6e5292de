//! The other threads' way into a reactor: a bounded mailbox for messages, and for the wishes that
//! it drain or stop.
//!
//! One queue under a lock holds all three, so they're taken in the order in which they were asked
//! for; and whether the mailbox is closed is settled together with what is in it, so no message is
//! accepted that nobody will take. The lock is held for a push, and once for all that a turn takes
//! out; never while a message is dropped or the system is called.

use std::collections::VecDeque;
use std::fmt;
use std::panic::RefUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::net::{Waker, Woken};

/// Speaks to a reactor from any thread: posts messages, asks it to drain or to stop. Clone it
/// freely; it keeps nothing of the reactor alive.
///
/// What one thread asks for is done in the order in which it was asked: messages arrive at
/// [`Handler::on_message`](crate::Handler::on_message) each exactly once, and a drain or a stop
/// waits for the messages that were accepted before it, from whomever. An accepted message is
/// delivered as long as the reactor is turned: all of them before it says
/// [`Ended::Drained`](crate::Ended::Drained), and after a stop in its next run. What a reactor
/// that's given up has not delivered is dropped with it, or given back by
/// [`Reactor::into_messages`](crate::Reactor::into_messages).
pub struct Handle<M> {
    to: Arc<Way<M>>,
}

/// A way to a mailbox: to one for messages of type `M`, or to one for other messages, of which
/// those are a part. A message is given by the second argument, which is called only if it's taken.
type Way<M> = dyn Fn(Ask, &mut dyn FnMut() -> Option<M>) -> Result<(), SendError<()>>
    + Send
    + Sync
    + RefUnwindSafe;

/// What is asked of a mailbox.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Send,
    SendWait,
    Drain(Duration),
    Stop,
}

/// What handles and their reactor share.
struct Shared<M> {
    /// The mailbox owns it, so that a handle that outlives its reactor holds no descriptor.
    waker: Weak<Waker>,
    queue: Mutex<Queue<M>>,
    /// Told when there is room again, or never will be.
    room: Condvar,
    /// Messages that may wait at once.
    size: usize,
}

/// What waits for the reactor, in the order in which it came.
struct Queue<M> {
    mail: VecDeque<Mail<M>>,
    /// How many of it are messages: at most `Shared::size`. Of each other kind there is at most
    /// one.
    messages: usize,
    /// Whether a drain waits among them.
    drain: bool,
    /// Whether a stop does.
    stop: bool,
    /// Whether a wake-up is under way that the reactor has not answered: so a thousand messages
    /// cost one system call.
    awake: bool,
    /// Senders that wait for room.
    waiting: usize,
    /// Whether nothing is taken any more.
    closed: bool,
}

/// One thing that somebody asks of the reactor.
pub(crate) enum Mail<M> {
    Message(M),
    Drain(Duration),
    Stop,
}

/// Why a message was not taken; it holds the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<M> {
    /// As many messages wait as [`Limits::mailbox`](crate::Limits::mailbox) allows. Try later, or
    /// drop it.
    Full(M),
    /// The reactor has drained, or is gone.
    Gone(M),
}

impl<M> Handle<M> {
    /// Posts a message.
    ///
    /// # Errors
    /// [`SendError::Full`] when too many wait already, [`SendError::Gone`] when the reactor has
    /// drained or was dropped. Both give the message back.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.post(Ask::Send, message)
    }

    /// Posts a message, and waits for room as long as it takes: for a thread with nothing better to
    /// do, such as a worker that brings its results. On the reactor's own thread it would wait for
    /// itself, for good. So does who waits for a reactor that nobody turns any more: drop it, after
    /// a stop or a handler's panic, before you join those threads.
    ///
    /// # Errors
    /// The message, when the reactor has drained or was dropped, before or meanwhile. A reactor
    /// that was only stopped makes room when it's run again.
    pub fn send_wait(&self, message: M) -> Result<(), M> {
        self.post(Ask::SendWait, message)
            .map_err(SendError::into_message)
    }

    fn post(&self, ask: Ask, message: M) -> Result<(), SendError<M>> {
        let mut message = Some(message);
        let posted = (self.to)(ask, &mut || message.take());
        match (posted, message) {
            (Err(SendError::Full(())), Some(message)) => Err(SendError::Full(message)),
            (Err(SendError::Gone(())), Some(message)) => Err(SendError::Gone(message)),
            _ => Ok(()),
        }
    }

    /// Asks the reactor to drain, as [`Context::drain`](crate::Context::drain) does, when the
    /// messages before this are delivered: `within` counts from then. A second call changes
    /// nothing.
    pub fn drain(&self, within: Duration) {
        // A reactor that is gone has no need of it.
        _ = (self.to)(Ask::Drain(within), &mut || None);
    }

    /// Asks the reactor's `run` or `turn` to return [`Ended::Stopped`](crate::Ended::Stopped), at
    /// the end of the turn that delivers the last message before this. Connections stay as they
    /// are: the reactor may be run again, or dropped. A second call before that one is seen is the
    /// same stop.
    pub fn stop(&self) {
        _ = (self.to)(Ask::Stop, &mut || None);
    }
}

impl<W: 'static> Handle<W> {
    /// The handle of one of the handler's parts, which posts messages of the part's own type:
    /// `wrap` makes one of the whole's of each that is taken, and does no more than that, for
    /// meanwhile the mailbox is locked. A message that isn't taken comes back as it was. Costs,
    /// once, an allocation.
    ///
    /// ```
    /// use oread::{Both, Echo, EchoOptions, Either, Handle, Reactor};
    /// # use oread::{Connection, Context, Handler};
    ///
    /// /// It has what it counts told by a thread of its own.
    /// struct Counter {
    ///     total: u64,
    /// }
    ///
    /// impl Counter {
    ///     fn start(handle: Handle<u64>) {
    ///         std::thread::spawn(move || handle.send_wait(7));
    ///     }
    /// }
    /// #
    /// # impl Handler for Counter {
    /// #     type Session = ();
    /// #     type Message = u64;
    /// #     fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
    /// #         data.len()
    /// #     }
    /// #     fn on_message(&mut self, context: &mut Context<'_, ()>, count: u64) {
    /// #         self.total += count;
    /// #         context.stop();
    /// #     }
    /// # }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut both = Both::new(Echo::new(EchoOptions::default()), Counter { total: 0 });
    /// let mut reactor = Reactor::new()?;
    /// Counter::start(reactor.handle().part(Either::Second));
    /// reactor.run(&mut both)?;
    /// assert_eq!(both.second.total, 7);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn part<M: 'static>(&self, wrap: fn(M) -> W) -> Handle<M> {
        let to = Arc::clone(&self.to);
        Handle {
            to: Arc::new(move |ask, take| to(ask, &mut || take().map(wrap))),
        }
    }
}

impl<M> Shared<M> {
    /// Nobody panics while it's held but a part's `wrap`, before anything has changed: what the
    /// lock's poison would tell of can't be.
    fn lock(&self) -> MutexGuard<'_, Queue<M>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Way`].
    fn ask(&self, ask: Ask, take: &mut dyn FnMut() -> Option<M>) -> Result<(), SendError<()>> {
        let mut queue = self.lock();
        while ask == Ask::SendWait && queue.messages >= self.size && !queue.closed {
            queue.waiting += 1;
            let room = self.room.wait(queue);
            queue = room.unwrap_or_else(PoisonError::into_inner);
            queue.waiting -= 1;
        }
        if queue.closed {
            return Err(SendError::Gone(()));
        }
        let first = |asked: &mut bool| !std::mem::replace(asked, true);
        let mail = match ask {
            Ask::Drain(within) => first(&mut queue.drain).then_some(Mail::Drain(within)),
            Ask::Stop => first(&mut queue.stop).then_some(Mail::Stop),
            _ if queue.messages >= self.size => return Err(SendError::Full(())),
            _ => take().map(Mail::Message),
        };
        if let Some(mail) = mail {
            queue.messages += usize::from(matches!(mail, Mail::Message(_)));
            self.push(queue, mail);
        }
        Ok(())
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue<M>>, mail: Mail<M>) {
        queue.mail.push_back(mail);
        let asleep = !std::mem::replace(&mut queue.awake, true);
        drop(queue);
        if asleep
            && let Some(waker) = self.waker.upgrade()
            && let Err(error) = waker.wake()
        {
            // The next sender tries again.
            self.lock().awake = false;
            log::error!("could not wake the reactor: {error}");
        }
    }
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Handle<M> {
        Handle {
            to: Arc::clone(&self.to),
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
            SendError::Gone(_) => "the reactor has drained or is gone",
        })
    }
}

impl<M> std::error::Error for SendError<M> {}

/// The reactor's end of it. Dropped, it's closed, and what waited in it is dropped.
pub(crate) struct Mailbox<M> {
    shared: Arc<Shared<M>>,
    /// What was taken out and not looked at yet. Between two turns it's empty, unless a panic came
    /// between.
    batch: VecDeque<Mail<M>>,
    /// Kept for the handles, which find it as long as there is a reactor.
    _waker: Arc<Waker>,
    woken: Woken,
}

impl<M> Mailbox<M> {
    /// A mailbox for `size` messages, which wakes its reactor through `waker`.
    pub(crate) fn new(size: usize, (waker, woken): (Waker, Woken)) -> Mailbox<M> {
        let queue = Queue {
            mail: VecDeque::new(),
            messages: 0,
            drain: false,
            stop: false,
            awake: false,
            waiting: 0,
            closed: false,
        };
        let waker = Arc::new(waker);
        Mailbox {
            shared: Arc::new(Shared {
                waker: Arc::downgrade(&waker),
                queue: Mutex::new(queue),
                room: Condvar::new(),
                size,
            }),
            batch: VecDeque::new(),
            _waker: waker,
            woken,
        }
    }

    pub(crate) fn handle(&self) -> Handle<M>
    where
        M: Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        Handle {
            to: Arc::new(move |ask, take| shared.ask(ask, take)),
        }
    }

    /// Says that the wake-up was heard. To be called before anything is taken: whoever posts
    /// something afterwards wakes the reactor anew, so nothing is left lying.
    pub(crate) fn heard(&mut self) {
        self.woken.hear();
        self.shared.lock().awake = false;
    }

    /// Takes what came first, at most `limit` pieces at a time, so that the lock is taken once for
    /// many of them; how many there are. They come from [`Mailbox::next`]. Nothing behind a stop or
    /// a drain is taken with it.
    pub(crate) fn fetch(&mut self, limit: usize) -> usize {
        let mut queue = self.shared.lock();
        while self.batch.len() < limit
            && let Some(mail) = queue.mail.pop_front()
        {
            let is_message = matches!(mail, Mail::Message(_));
            match mail {
                Mail::Message(_) => queue.messages -= 1,
                Mail::Drain(_) => queue.drain = false,
                Mail::Stop => queue.stop = false,
            }
            self.batch.push_back(mail);
            if !is_message {
                break;
            }
        }
        if queue.waiting > 0 {
            self.shared.room.notify_all();
        }
        self.batch.len()
    }

    /// The next piece of what was fetched.
    pub(crate) fn next(&mut self) -> Option<Mail<M>> {
        self.batch.pop_front()
    }

    /// The next of all messages that wait; what else waits is passed over.
    pub(crate) fn next_message(&mut self) -> Option<M> {
        while !self.batch.is_empty() || self.fetch(usize::MAX) > 0 {
            if let Some(Mail::Message(message)) = self.next() {
                return Some(message);
            }
        }
        None
    }

    /// Takes nothing in any more: who sends is told that the reactor is gone. What waits may still
    /// be taken.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.room.notify_all();
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        self.close();
        // Outside the lock: a message's own drop may use a handle.
        while let Some(message) = self.next_message() {
            drop(message);
        }
    }
}
