//! What the lead and the generators say to each other.
//!
//! The lead is the main thread: it prints, and it decides when a phase begins. Each generator is a
//! reactor in a thread of its own. Commands go to generators by their handles, the few events come
//! to the lead by a channel, and how a generator goes is in a slot that the lead looks at when it
//! draws: a generator waits for nobody, and nothing piles up for a lead that is slow.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::gauge::Gauge;
use super::payload::Payload;
use super::wake::Clock;
use crate::load::count::{Counts, Ledger, coarse};
use crate::load::options::load::Load;
use crate::load::options::sources::Endpoint;

/// What a generator is told before it begins.
pub(crate) struct Setup {
    pub(crate) load: Arc<Load>,
    /// Which thread it is, of those of all shards.
    pub(crate) index: u32,
    pub(crate) endpoints: Arc<[Endpoint]>,
    pub(crate) clock: Clock,
    /// When the run began.
    pub(crate) begun: u64,
    pub(crate) payload: Payload,
    /// How many connections are open over all threads.
    pub(crate) gauge: Arc<Gauge>,
    /// What the lead hears, and what it looks at.
    pub(crate) events: Sender<Event>,
    pub(crate) slot: Slot,
}

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

/// From a generator to the lead.
#[derive(Debug)]
pub(crate) enum Event {
    /// Every dial of this thread has come to something: an echo, or a failure.
    Ramped,
    /// It has failed, in words. What it has counted until then is given as by any other.
    Failed(String),
}

/// How generators go, since the run began: one, or the sum of several.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// How many of them have not ended.
    pub(crate) running: u32,
    /// The run's time when these were the counts. It's a sum as the others are, so that counts by
    /// the time between two looks are a rate however late each of the threads has told its own.
    pub(crate) at: Duration,
    /// That of the one that is behind.
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
    /// Processor time so far.
    pub(crate) cpu: Duration,
    /// Responses so far, in nanoseconds, with two digits.
    pub(crate) response: Histogram<u64>,
    /// All that was counted, for scrapes; only with `--metrics`.
    pub(crate) counts: Option<Box<Counts>>,
}

impl Progress {
    /// No generator.
    pub(crate) fn none() -> Progress {
        Progress {
            running: 0,
            at: Duration::ZERO,
            phase: Phase::Over,
            open: 0,
            connections: Ledger::default(),
            errors: 0,
            echoed: 0,
            measured: 0,
            cpu: Duration::ZERO,
            response: coarse(),
            counts: None,
        }
    }

    /// Both threads' together.
    pub(crate) fn with(mut self, other: &Progress) -> Progress {
        self.running += other.running;
        self.at += other.at;
        self.phase = self.phase.min(other.phase);
        self.open += other.open;
        self.connections.merge(&other.connections);
        self.errors += other.errors;
        self.echoed += other.echoed;
        self.measured += other.measured;
        self.cpu += other.cpu;
        self.response += &other.response;
        match (&mut self.counts, &other.counts) {
            (Some(own), Some(others)) => own.merge(others),
            (own, others) => *own = own.take().or_else(|| others.clone()),
        }
        self
    }
}

/// Where a generator puts how it goes, for the lead to look at.
#[derive(Clone, Debug)]
pub(crate) struct Slot(Arc<Mutex<Progress>>);

impl Slot {
    /// That of a generator that begins at this time of the run.
    pub(crate) fn new(begun: u64) -> Slot {
        Slot(Arc::new(Mutex::new(Progress {
            running: 1,
            at: Duration::from_nanos(begun),
            phase: Phase::Ramp,
            ..Progress::none()
        })))
    }

    /// Puts what `progress` gives there, but for a lead that is looking: that sees it the next
    /// time.
    pub(crate) fn tell(&self, progress: impl FnOnce() -> Progress) {
        if let Ok(mut told) = self.0.try_lock() {
            *told = progress();
        }
    }

    /// What was told last.
    pub(crate) fn look(&self) -> Progress {
        // A progress is whole at any time.
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_does_not_wait_for_a_lead_that_is_looking() {
        let slot = Slot::new(1);
        let looking = slot.0.lock().unwrap();
        slot.tell(|| panic!("it would be lost"));
        drop(looking);
        assert_eq!(slot.look().at, Duration::from_nanos(1));
    }
}
