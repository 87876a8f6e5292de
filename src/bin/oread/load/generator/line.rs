//! A generator's line to the lead. It never waits, and what a slow lead has not read does not pile
//! up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;

use crate::load::count::tally::Tally;
use crate::load::generator::protocol::{Event, Progress};

/// Progresses that may wait for the lead, some 40 KB each.
const MOST_UNREAD: u32 = 2;

/// The line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    sender: Sender<Event>,
    /// Progresses on their way.
    unread: Arc<AtomicU32>,
}

impl Line {
    /// A line of a generator's own into the lead's channel.
    pub(crate) fn new(sender: &Sender<Event>) -> Line {
        Line {
            sender: sender.clone(),
            unread: Arc::default(),
        }
    }

    /// Sends what must not be lost. There are few of these.
    pub(crate) fn send(&self, event: Event) {
        if self.sender.send(event).is_err() {
            // It went without waiting for its generators: nobody is left to tell.
            log::debug!("the lead is gone");
        }
    }

    /// Whether the lead keeps up: if not, a progress had better be told later.
    pub(crate) fn keeps_up(&self) -> bool {
        self.unread.load(Ordering::Relaxed) < MOST_UNREAD
    }

    pub(crate) fn progress(&self, progress: Progress) {
        self.unread.fetch_add(1, Ordering::Relaxed);
        self.send(Event::Progress(Box::new(progress)));
    }

    /// The lead has read a progress.
    pub(crate) fn was_read(&self) {
        self.unread.fetch_sub(1, Ordering::Relaxed);
    }

    /// The last that is said.
    pub(crate) fn end(&self, outcome: Result<Tally, String>) {
        self.send(match outcome {
            Ok(tally) => Event::Done(Box::new(tally)),
            Err(words) => Event::Failed(words),
        });
    }
}
