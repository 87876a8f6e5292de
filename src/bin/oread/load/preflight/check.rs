//! What is wished for, and a line of the table: what is needed, what there is, and where that is
//! too little, the command that mends it.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::load::options::load::{Load, Traffic, Turnover, Volume};
use crate::load::options::sources::SourceRange;
use crate::load::options::target::Resolved;
use crate::values::units::{Count, Size};

/// What is wished for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) connections: NonZeroU32,
    pub(crate) threads: NonZeroU32,
    /// At least one.
    pub(crate) targets: &'a [Resolved],
    /// Whether the server is in this process: it takes a descriptor for each connection too.
    pub(crate) own_server: bool,
    pub(crate) sources: &'a [SourceRange],
    /// Bytes of the largest message.
    pub(crate) message: u32,
    /// Messages that a connection has under way at a time.
    pub(crate) depth: u32,
    /// How many connections are replaced a second, and for how long; `None` where they are kept.
    pub(crate) turnover: Option<(u64, Duration)>,
}

impl<'a> Wish<'a> {
    /// One connection on one thread, kept, with a message of 64 bytes under way: what a load does
    /// when nothing is said.
    pub(crate) fn of_one(targets: &'a [Resolved]) -> Wish<'a> {
        Wish {
            connections: NonZeroU32::MIN,
            threads: NonZeroU32::MIN,
            targets,
            own_server: false,
            sources: &[],
            message: 64,
            depth: 1,
            turnover: None,
        }
    }

    /// What a load wishes for.
    pub(crate) fn of(plan: &'a Load, targets: &'a [Resolved]) -> Wish<'a> {
        Wish {
            connections: plan.connections,
            threads: plan.threads,
            targets,
            own_server: plan.targets.is_empty(),
            sources: &plan.sources,
            message: plan.content.sizes().1,
            depth: match plan.traffic {
                Traffic::Closed { depth, .. } => depth,
                // Not said; one at a time, where the server keeps up.
                Traffic::Open(_) | Traffic::Idle { .. } => 1,
            },
            turnover: turnover(plan),
        }
    }
}

/// How many connections are replaced a second, and for how long.
fn turnover(plan: &Load) -> Option<(u64, Duration)> {
    let a_second = match plan.turnover {
        Turnover::Keep => return None,
        Turnover::Churn(rate) => rate.get().into(),
        Turnover::Lifetime(lifetime) => {
            let all = f64::from(plan.connections.get()) / lifetime.as_secs_f64();
            (all.ceil() as u64).min(plan.connect_rate.get().into())
        }
    };
    let lasts = match plan.volume {
        Volume::For(duration) => plan.warmup.saturating_add(duration),
        Volume::Messages(_) => Duration::MAX,
    };
    Some((a_second, lasts))
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// What it's about.
    pub(crate) name: &'static str,
    pub(crate) needed: u64,
    /// `None`: the system doesn't say, or there's no limit.
    pub(crate) here: Option<u64>,
    /// Whether the numbers are bytes.
    pub(crate) bytes: bool,
    /// What mends it, for when there's too little; the best first, each enough by itself.
    pub(crate) mends: Vec<String>,
}

impl Check {
    /// A line whose numbers are no bytes.
    pub(crate) fn new(
        name: &'static str,
        needed: u64,
        here: Option<u64>,
        mends: Vec<String>,
    ) -> Check {
        Check {
            name,
            needed,
            here,
            bytes: false,
            mends,
        }
    }

    /// The same line of bytes.
    pub(crate) fn in_bytes(self) -> Check {
        Check {
            bytes: true,
            ..self
        }
    }

    /// Whether there's enough.
    pub(crate) fn is_met(&self) -> bool {
        self.here.is_none_or(|here| self.needed <= here)
    }

    /// A number of this line, for people.
    pub(crate) fn show(&self, number: u64) -> String {
        if self.bytes {
            Size(number).to_string()
        } else {
            Count(number).to_string()
        }
    }

    /// What mends it, on one line.
    pub(crate) fn mend(&self) -> String {
        self.mends.join("; or ")
    }

    /// The line for a shortfall.
    pub(crate) fn shortfall(&self) -> Option<String> {
        let here = self.here.filter(|_| !self.is_met())?;
        Some(format!(
            "{}: {} needed, {} here; {}",
            self.name,
            self.show(self.needed),
            self.show(here),
            self.mend()
        ))
    }
}
