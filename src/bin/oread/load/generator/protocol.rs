//! What the threads of a run say to each other.
//!
//! The lead is the main thread: it prints, and it decides when a phase begins. Each generator is a
//! reactor in a thread of its own. Commands go to generators by their handles, events come to the
//! lead by a channel: a generator never waits for it, and what a slow lead has not read does not
//! pile up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::count::{Ledger, Tally};

/// Progresses of one generator that may wait for the lead, some 40 KB each.
const MOST_UNREAD: u32 = 2;

/// From the lead to a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// All are there, or the ramp's time is over: dial no more (but what `--churn` and `--lifetime`
    /// want), and send from this moment on, in the run's time: who hears it late begins with what
    /// was due until then. The warm-up comes first, if there is one.
    Start(u64),
    /// Send no more, close everything, and report.
    Stop,
}

/// From a generator to the lead, but for signals.
#[derive(Debug)]
pub(crate) enum Event {
    /// Every dial of this thread has come to something: an echo, or a failure.
    Ramped,
    /// A signal came, of this number; from the thread that hears them. All generators have been
    /// told to stop.
    Signal(i32),
    /// How it goes; once a second or so, while it runs.
    Progress(Box<Progress>),
    /// It's over; the last thing that a generator says.
    Done(Box<Ended>),
}

/// How a generator ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What it has counted, until it failed if it did.
    pub(crate) tally: Tally,
    /// What it failed with, in words.
    pub(crate) failure: Option<String>,
}

/// A generator's sender of events.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    sender: Sender<Event>,
    /// Progresses on their way.
    unread: Arc<AtomicU32>,
}

impl EventSender {
    /// A sender of a generator's own into the lead's channel.
    pub(crate) fn new(sender: &Sender<Event>) -> EventSender {
        EventSender {
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
}

/// How one generator goes, from its beginning; the lead subtracts what it heard before.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Which thread tells it.
    pub(crate) thread: u32,
    /// When these were its counts, in the run's time.
    pub(crate) at: u64,
    pub(crate) phase: Phase,
    /// Connections that are confirmed and open now.
    pub(crate) open: u64,
    /// What became of connections and dials so far.
    pub(crate) connections: Ledger,
    /// All that has a name in the report: what failed of these, and messages without a right
    /// answer.
    pub(crate) errors: u64,
    pub(crate) echoed: u64,
    /// Of these, the ones of the measured time.
    pub(crate) measured: u64,
    /// Processor time of the thread so far.
    pub(crate) cpu: Duration,
    /// Responses since the progress before, in nanoseconds, with two digits.
    pub(crate) response: Histogram<u64>,
}

impl Progress {
    /// Nothing at all.
    #[cfg(test)]
    pub(crate) fn none() -> Progress {
        Progress {
            thread: 0,
            at: 0,
            phase: Phase::Measure,
            open: 0,
            connections: Ledger::default(),
            errors: 0,
            echoed: 0,
            measured: 0,
            cpu: Duration::ZERO,
            response: crate::load::count::coarse(),
        }
    }

    /// Adds another thread's. The phase is that of the one that is behind, the time that of the
    /// latest.
    pub(crate) fn merge(&mut self, other: &Progress) {
        self.at = self.at.max(other.at);
        self.phase = self.phase.min(other.phase);
        self.open += other.open;
        self.connections.merge(&other.connections);
        self.errors += other.errors;
        self.echoed += other.echoed;
        self.measured += other.measured;
        self.cpu += other.cpu;
        self.add_responses(other);
    }

    /// Adds the responses of another progress.
    pub(crate) fn add_responses(&mut self, other: &Progress) {
        // All have the same bounds: nothing can fail to fit.
        if let Err(error) = self.response.add(&other.response) {
            log::error!("a histogram could not be added up: {error}");
        }
    }
}

/// Where a generator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Connections are opened.
    Ramp,
    /// Traffic, not measured.
    Warmup,
    /// Traffic, measured.
    Measure,
    /// Nothing new is sent; what is under way is waited for.
    Finish,
    /// All is counted.
    Over,
}
