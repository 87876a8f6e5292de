//! Connections over time: more are dialed, or some are closed, as the stages say.

use super::Plan;
use crate::load::clock::NEVER;
use crate::load::generator::levels::Levels;
use crate::load::options::load::Load;

/// What there is to know of the number of connections, where that changes.
#[derive(Debug)]
pub(super) struct Staging {
    levels: Levels,
    /// How many the thread is to have, and when that changes.
    level: u64,
    pub(super) due: u64,
    /// How many it has, or will have when what it dials is there: not those that are lost or could
    /// not be had, and are not replaced.
    places: u64,
    /// Those that were closed, or are about to be, since there are to be fewer.
    pub(super) retired: u64,
}

impl Staging {
    /// That of a load whose connections have stages; thread `index` begins with `level` of them.
    pub(super) fn of(load: &Load, level: u64) -> Option<Staging> {
        let stages = load.connection_stages.clone()?;
        Some(Staging {
            levels: Levels(stages),
            level,
            due: NEVER,
            places: level,
            retired: 0,
        })
    }

    /// So many are not there, and will not be.
    pub(super) fn lacks(&mut self, count: u64) {
        self.places = self.places.saturating_sub(count);
    }
}

impl Plan {
    /// The stages begin at `from`; what the ramp has not dialed by now is not dialed any more.
    pub(super) fn begin_stages(&mut self, from: u64) {
        if let Some(staging) = &mut self.staging {
            staging.lacks(self.dialing.left());
            staging.due = from;
        }
    }

    /// A connection is gone, and none takes its place.
    pub(super) fn is_missing(&mut self) {
        if let Some(staging) = &mut self.staging {
            staging.lacks(1);
        }
    }

    /// Has as many connections as there are to be now. Each that was asked for is dialed, however
    /// soon there are to be fewer: where all that are too many are still on their way, the first
    /// that is there will be closed.
    pub(super) fn follow_stages(&mut self, now: u64) {
        let Some(staging) = &mut self.staging else {
            return;
        };
        self.meter.open = self.flows.open;
        if !self.run.is_sending() {
            return;
        }
        // Each change in its turn: a stage that is over before anybody looks has been asked for.
        while staging.due <= now {
            let time = staging.due.saturating_sub(self.meter.from);
            let level = self.load.share(staging.levels.at(time), self.index);
            let more = level.saturating_sub(staging.level);
            self.meter.tally.connections.asked += more;
            self.dialing.dial_more(more);
            staging.places += more;
            staging.level = level;
            let next = staging.levels.changes_after(time);
            staging.due = self.meter.from.saturating_add(next);
        }
        while let Some(staging) = &mut self.staging
            && staging.places > staging.level
            && let Some(index) = self.flows.retire_oldest(false)
        {
            staging.places -= 1;
            staging.retired += 1;
            self.close_if_answered(index);
        }
    }
}
