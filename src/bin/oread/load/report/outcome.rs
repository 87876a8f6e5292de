//! How a run went, whole: what the report is made of.

use std::time::{Duration, SystemTime};

use crate::load::count::{Ledger, StoodStill, TOO_LATE, Tally, ThreadUse};
use crate::load::options::load::{Load, Traffic, Turnover};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Before it began: the preflight says that it can't be done.
    NotBegun,
    /// As planned.
    Done,
    /// By a signal, of this number.
    Interrupted(i32),
    /// By a failure of its own, in words.
    Failed(String),
}

/// A run, from the preflight to the end.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// What was asked for.
    pub(crate) plan: Load,
    /// What was loaded, as it was resolved: `tcp://127.0.0.1:9999`.
    pub(crate) targets: Vec<String>,
    /// When the ramp began, by the machine's clock, if it did.
    pub(crate) began: Option<SystemTime>,
    /// When the measured time began, by the same clock; `None`: it never came to that.
    pub(crate) measured_from: Option<SystemTime>,
    /// How much later than `--start-at` traffic began, as the connections were not there by then.
    pub(crate) late_start: Option<Duration>,
    pub(crate) ending: Ending,
    /// All threads' counts together.
    pub(crate) tally: Tally,
    /// How long opening the connections took.
    pub(crate) ramp: Duration,
    /// How long was measured; zero when it never came to that.
    pub(crate) measured: Duration,
    /// How long the program did not run at all, from the ramp on.
    pub(crate) stood_still: StoodStill,
    /// What the echo server of its own used in the measured time, if there was one.
    pub(crate) own_server: Option<ThreadUse>,
    /// The preflight's shortfalls, one line each; what was gone against with `--force` among them.
    pub(crate) shortfalls: Vec<String>,
}

impl Outcome {
    /// A run that has not begun: none of its connections is there.
    pub(crate) fn not_begun(plan: &Load, targets: Vec<String>, shortfalls: Vec<String>) -> Outcome {
        let mut tally = Tally::default();
        tally.connections.asked = plan.connections.get().into();
        tally.connections.missing = tally.connections.asked;
        Outcome {
            plan: plan.clone(),
            targets,
            began: None,
            measured_from: None,
            late_start: None,
            ending: Ending::NotBegun,
            tally,
            ramp: Duration::ZERO,
            measured: Duration::ZERO,
            stood_still: StoodStill::default(),
            own_server: None,
            shortfalls,
        }
    }

    /// What was counted in the measured time, for each second of it; `None` where nothing was
    /// measured.
    pub(crate) fn a_second(&self, count: u64) -> Option<f64> {
        let seconds = self.measured.as_secs_f64();
        (seconds > 0.0).then(|| count as f64 / seconds)
    }

    /// Messages answered within the measured time for each second of it, datagrams among them.
    pub(crate) fn rate_reached(&self) -> Option<f64> {
        self.a_second(self.tally.messages.in_time)
    }

    /// The ledger as people are told it: what waits for its first echo is not open, and a UDP
    /// socket that was refused, which it hears of only once it has sent, is refused.
    pub(crate) fn ledger(&self) -> Ledger {
        let (mut c, errors) = (self.tally.connections, &self.tally.errors);
        c.open = c.open.saturating_sub(c.silent);
        let refused = errors
            .get("ECONNREFUSED")
            .map_or(0, |&all| all.saturating_sub(c.refused));
        let refused = refused.min(c.silent);
        (c.refused, c.silent) = (c.refused + refused, c.silent - refused);
        c
    }

    /// Messages that were to be sent a second, and those that were answered in the measured time;
    /// `None` without a rate, or where nothing was measured.
    pub(crate) fn rate(&self) -> Option<(f64, f64)> {
        Some((self.rate_asked()?, self.rate_reached()?))
    }

    /// Whether clearly fewer messages were answered in the measured time than were to be sent. One
    /// is left out of account: the last one may be on its way.
    pub(crate) fn falls_behind(&self) -> bool {
        let seconds = self.measured.as_secs_f64();
        let is_short = |(asked, reached)| reached * seconds < asked * seconds * 0.95 - 1.0;
        self.rate().is_some_and(is_short)
    }

    /// Messages that were to be sent a second, over the stages so far where there are some; `None`
    /// without a rate.
    pub(crate) fn rate_asked(&self) -> Option<f64> {
        match (&self.plan.stages, self.plan.traffic) {
            (Some(stages), Traffic::Open(..)) => {
                let is_begun = !self.measured.is_zero();
                let so_far = is_begun.then(|| stages.mean_until(self.measured));
                Some(so_far.unwrap_or(stages.mean()) / 1000.0)
            }
            (None, Traffic::Open(rate, _)) => Some(rate.a_second()),
            _ => None,
        }
    }

    /// When answers stopped for good in the measured time, in words, where one that was due then
    /// was waited for. In whole seconds: behind the measured time answers are waited for.
    pub(crate) fn fell_silent(&self) -> Option<String> {
        let (tally, measured) = (&self.tally, self.measured.as_secs());
        let last = tally
            .seconds
            .iter()
            .rposition(|it| it.counts.echoed + it.counts.one_way > 0);
        let last = last.map_or(0, |last| last as u64 + 1);
        // Which datagrams these were answers to nobody knows any more, but answers they were.
        let came_late = self.tally.errors.contains_key(TOO_LATE);
        let lacks = match last {
            _ if came_late => false,
            0 => {
                tally.messages.echoed + tally.messages.one_way == 0
                    && (tally.messages.sent > 0 || self.is_stuck())
            }
            // One that got lost long before says nothing of the server's end.
            _ => tally.messages.unanswered() > 0 && tally.waited_until > tally.last_answer,
        };
        // Of a run of days, the last second that is kept apart has all that came later.
        let known = measured.min(tally.seconds.len() as u64);
        (last < known.max(1).min(measured) && lacks).then(|| match last {
            0 => "came in the measured time".to_owned(),
            last => format!("came after second {last} of {measured}"),
        })
    }

    /// Whether nothing could be sent in the measured time, as answers to the warm-up were awaited.
    pub(crate) fn is_stuck(&self) -> bool {
        let is_idle = matches!(self.plan.traffic, Traffic::Idle { .. });
        let has_none = self.tally.messages.due() == 0 && !is_idle;
        has_none && self.tally.errors.contains_key("message timeout")
    }

    /// Connections that were to be closed and replaced a second, and that were in the measured
    /// time; `None` where they are kept, or nothing was measured.
    pub(crate) fn churn(&self) -> Option<(f64, f64)> {
        let asked = self.plan.turnover.a_second(self.plan.connections)?;
        Some((asked, self.a_second(self.tally.connections.replaced)?))
    }

    /// How many connections had to be replaced in the measured time, at least: with a lifetime, as
    /// often as each place had its end in it.
    pub(crate) fn least_replaced(&self) -> f64 {
        let asked = f64::from(self.plan.connections.get());
        let seconds = self.measured.as_secs_f64();
        match self.plan.turnover {
            Turnover::Keep | Turnover::After(_) => 0.0,
            Turnover::Churn(rate) => f64::from(rate.get()) * seconds,
            // One whose end comes just before the end of the time is not replaced in it.
            Turnover::Lifetime(lifetime) => {
                asked * (0.95 * seconds / lifetime.as_secs_f64()).floor()
            }
        }
    }
}
