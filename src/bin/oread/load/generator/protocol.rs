//! What the threads of a run say to each other.
//!
//! The lead is the main thread: it prints, and it decides when a phase begins. Each generator is a
//! reactor in a thread of its own. Commands go to generators by their handles, events come to the
//! lead by a channel, which a generator never waits for.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::count::tally::Tally;

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
    Done(Box<Tally>),
    /// Its reactor failed, in words; in place of `Done`.
    Failed(String),
}

/// How one generator goes, since it began; the lead subtracts what it heard before.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Which thread tells it.
    pub(crate) thread: u32,
    /// When these were its counts, in the run's time.
    pub(crate) at: u64,
    pub(crate) phase: Phase,
    pub(crate) dialed: u64,
    pub(crate) established: u64,
    pub(crate) confirmed: u64,
    /// Confirmed and open now.
    pub(crate) open: u64,
    /// Dials that failed, by cause, and connections that were lost.
    pub(crate) refused: u64,
    pub(crate) timed_out: u64,
    pub(crate) failed: u64,
    pub(crate) lost: u64,
    /// All that has a name in the report: these, and messages without a right answer.
    pub(crate) errors: u64,
    pub(crate) sent: u64,
    pub(crate) echoed: u64,
    /// Of these, the ones of the measured time.
    pub(crate) measured: u64,
    pub(crate) received: u64,
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
            dialed: 0,
            established: 0,
            confirmed: 0,
            open: 0,
            refused: 0,
            timed_out: 0,
            failed: 0,
            lost: 0,
            errors: 0,
            sent: 0,
            echoed: 0,
            measured: 0,
            received: 0,
            cpu: Duration::ZERO,
            response: crate::load::count::tally::coarse(),
        }
    }

    /// Adds another thread's. The phase is that of the one that is behind, the time that of the
    /// latest.
    pub(crate) fn merge(&mut self, other: &Progress) {
        self.at = self.at.max(other.at);
        self.phase = Phase::min(self.phase, other.phase);
        for (to, from) in [
            (&mut self.dialed, other.dialed),
            (&mut self.established, other.established),
            (&mut self.confirmed, other.confirmed),
            (&mut self.open, other.open),
            (&mut self.refused, other.refused),
            (&mut self.timed_out, other.timed_out),
            (&mut self.failed, other.failed),
            (&mut self.lost, other.lost),
            (&mut self.errors, other.errors),
            (&mut self.sent, other.sent),
            (&mut self.echoed, other.echoed),
            (&mut self.measured, other.measured),
            (&mut self.received, other.received),
        ] {
            *to += from;
        }
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
    /// Nothing is sent any more; what is under way is waited for.
    Finish,
}
