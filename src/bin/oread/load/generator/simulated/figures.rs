//! What gates look at, as the servers' books say it: for the report's own test.

use std::sync::Arc;
use std::time::Duration;

use oread::sim::World;

use super::connections::peak_of;
use super::messages::{Books, due_in};
use super::truth::{AT_ONCE, Times};
use super::{drawn, run};
use crate::load::clock::{nanos, until};
use crate::load::count::Tally;
use crate::load::options::load::{Load, Traffic, Volume};

/// A run, and its figures as they must be.
pub(crate) struct Figures {
    pub(crate) load: Arc<Load>,
    pub(crate) tally: Tally,
    pub(crate) measured: Duration,
    /// How long the answers took that came, since their messages were due and since they were sent,
    /// in nanoseconds, and how much more or less each may be.
    pub(crate) response: Vec<u64>,
    pub(crate) service: Vec<u64>,
    pub(crate) slack: u64,
    /// Messages that were due, and those of them that were never sent, had no answer, or a late
    /// one.
    pub(crate) due: u64,
    pub(crate) unsent: u64,
    pub(crate) unanswered: u64,
    pub(crate) late: u64,
    /// Answers within the measured time.
    pub(crate) in_time: u64,
    /// The most connections that were confirmed at a time.
    pub(crate) connections: u64,
}

/// Runs what a seed draws, where all its connections are there from the beginning to the end;
/// `None` where the books leave a doubt.
pub(crate) fn figures(world: &mut World) -> Option<Figures> {
    let mut drawn = drawn(world, false);
    let least = Duration::from_nanos(AT_ONCE.0);
    world.latency(least..=least);
    for manners in &mut drawn.manners {
        manners.shut = None;
        manners.deaf = 0;
        for end in [
            &mut manners.cut,
            &mut manners.finish,
            &mut manners.close,
            &mut manners.reset,
        ] {
            *end = 0;
        }
    }
    drawn.script.stop = None;
    let ran = run(world, &drawn);
    // What has no answer is no error for it, and has no latency.
    if ran.load.script.as_ref().is_some_and(|it| it.is_one_way()) {
        return None;
    }
    let times = Times::of(&ran);
    let books = Books::of(&ran, AT_ONCE, &times);
    let counts = [books.sent, books.echoed, books.late, books.in_time];
    let asked = u64::from(ran.load.connections.get());
    let ledger = &ran.tally.connections;
    let is_steady = (ledger.dialed, ledger.confirmed, ledger.open) == (asked, asked, asked)
        && ran.keeps()
        && counts.iter().all(|count| count.is_exact());
    let (Volume::For(_), true) = (ran.load.volume, is_steady && ran.is_whole()) else {
        return None;
    };
    let (due, slack) = match ran.load.traffic {
        Traffic::Open(..) => {
            // Those that went out in one turn may have been any of those that were due.
            let spread = books.all.iter().map(|told| told.due.most - told.due.least);
            let catching_up = nanos(ran.load.sockets.message_timeout) / 50;
            let late = nanos(ran.start_late);
            let spread = spread.max().unwrap_or(0);
            (
                due_in(&ran.load, &times),
                spread + catching_up + late + 5_000_000,
            )
        }
        Traffic::Closed { .. } => (books.sent.least, 0),
        Traffic::Idle { .. } => return None,
    };
    let measured =
        |told: &&super::truth::Told| told.is_measured(&times).0 && told.is_echoed(&times).0;
    let response = books.all.iter().filter(measured);
    let response = response.filter_map(|told| Some(told.answered?.most - told.due.least));
    let service = books.all.iter().filter(measured);
    let service = service.filter_map(|told| Some(told.answered?.most - told.sent.least));
    Some(Figures {
        response: response.collect(),
        service: service.collect(),
        slack: slack + 2 * AT_ONCE.1,
        due,
        unsent: due - books.sent.least,
        unanswered: due - books.echoed.least,
        late: books.late.least,
        in_time: books.in_time.least,
        measured: until(times.from, times.until),
        connections: peak_of(&ran, AT_ONCE).least,
        load: ran.load,
        tally: ran.tally,
    })
}
