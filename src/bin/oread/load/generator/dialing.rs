//! Which dials are made when: those that were asked for in the ramp, and later others in place of
//! connections that ended, to the same target; all at one pace.

use std::net::SocketAddr;
use std::time::Duration;

use super::schedule::Schedule;
use crate::load::clock::{NEVER, SECOND, after};
use crate::load::options::load::Load;
pub(crate) use crate::load::options::sources::Endpoint;

/// Dials under way at a time on one thread that any pace allows: with less, a slow one would wait
/// for each of its dials.
const LEAST_UNDER_WAY: u64 = 512;
/// How far dialing may be behind its pace and still catch up: 10 ms. A stall must not end in a
/// burst.
pub(super) const SLACK: u64 = SECOND / 100;
/// How long a target is not dialed to replace a connection after a dial to it has failed, or a
/// connection has ended that was not served.
/// It doubles with each, up to [`LONGEST_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

impl Endpoint {
    /// The local address of the `turn`-th dial to this target.
    pub(super) fn source(&self, turn: usize) -> Option<SocketAddr> {
        let place = turn.checked_rem(self.sources.len())?;
        Some(SocketAddr::new(self.sources[place], 0))
    }
}

/// A dial that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dial {
    /// Which dial of all threads it is. Numbers go round after 2^32; no flow of that age is open
    /// any more.
    pub(super) number: u32,
    /// Where it leads.
    pub(super) target: u16,
    /// Whether it's one in place of another, and not of those that were asked for; and whether it's
    /// a part of the turnover, and takes the place of a connection that the load itself has closed.
    pub(super) again: bool,
    pub(super) turns_over: bool,
}

/// The places of one target that are vacant.
#[derive(Clone, Copy, Debug)]
struct Places {
    /// Left by connections that were lost or could not be dialed, and by those that the load itself
    /// has closed.
    vacant: [u64; 2],
    /// When the next replacement may be tried, and the wait after its failure.
    not_before: u64,
    backoff: Duration,
}

/// What is still to be dialed. A `target` is one that a [`Dial`] has led to, so it has its places.
#[derive(Debug)]
pub(super) struct Dialing {
    /// This thread's part of the connect rate, which holds for the ramp and for replacements.
    pace: Schedule,
    /// Dials of the ramp that are yet to be made.
    left: u64,
    /// Of each target, and the one that is looked at first.
    places: Vec<Places>,
    turn: usize,
    /// Places that are part of the turnover: their connection is to be closed, or the next one has
    /// neither come nor failed.
    pub(super) turning_over: u64,
    under_way: u32,
    /// How many dials may be.
    most_under_way: u32,
    /// Which dial of all threads the next one is, and how far from one to the next.
    ordinal: u64,
    threads: u32,
}

impl Dialing {
    pub(super) fn new(load: &Load, index: u32, targets: usize, now: u64) -> Dialing {
        let threads = load.parts();
        let places = Places {
            vacant: [0; 2],
            not_before: 0,
            backoff: BACKOFF,
        };
        Dialing {
            pace: Schedule::shared(now, load.connect_rate.get(), index, threads),
            left: load.share(load.connections_at_first(), index),
            places: vec![places; targets],
            turn: 0,
            turning_over: 0,
            under_way: 0,
            most_under_way: most_under_way(load, index),
            ordinal: index.into(),
            threads,
        }
    }

    /// Whether the dials of the ramp are made, and none is under way.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0 && self.under_way == 0
    }

    /// Dials that are yet to be made, and in place of none.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// There are to be more connections.
    pub(super) fn dial_more(&mut self, count: u64) {
        self.left += count;
    }

    /// The ramp is over, whatever it has come to.
    pub(super) fn end_ramp(&mut self) {
        self.left = 0;
    }

    /// A connection to `target` is to be replaced: `turns_over`: the load itself has closed it, or
    /// else it was lost.
    pub(super) fn vacated(&mut self, target: u16, turns_over: bool) {
        self.places[usize::from(target)].vacant[usize::from(turns_over)] += 1;
    }

    /// Takes the next dial that may be made now; `refills`: also in place of another connection.
    pub(super) fn next(&mut self, now: u64, refills: bool) -> Option<Dial> {
        if self.due(refills) > now {
            return None;
        }
        let again = self.left == 0;
        let (target, turns_over) = if again {
            self.take_vacant(now)?
        } else {
            self.left -= 1;
            let target = self.ordinal % self.places.len().max(1) as u64;
            (target as usize, false)
        };
        self.pace.skip_to(now.saturating_sub(SLACK));
        self.pace.advance();
        self.under_way += 1;
        let number = self.ordinal as u32;
        self.ordinal += u64::from(self.threads);
        Some(Dial {
            number,
            target: target as u16,
            again,
            turns_over,
        })
    }

    /// The next target, in turn, that has a vacant place and may be dialed; whether the load itself
    /// has vacated that.
    fn take_vacant(&mut self, now: u64) -> Option<(usize, bool)> {
        let count = self.places.len();
        let mut targets = (0..count).map(|step| (self.turn + step) % count);
        let target = targets.find(|&target| self.places[target].due() <= now)?;
        self.turn = target + 1;
        let vacant = &mut self.places[target].vacant;
        let turns_over = vacant[1] > 0;
        vacant[usize::from(turns_over)] -= 1;
        Some((target, turns_over))
    }

    /// When the next dial may be made; [`NEVER`] where there is none, or where the end of another
    /// has to come first, which is an event.
    pub(super) fn due(&self, refills: bool) -> u64 {
        if self.under_way >= self.most_under_way {
            return NEVER;
        }
        let first = match self.left {
            0 if refills => self.places.iter().map(Places::due).min(),
            0 => None,
            _ => Some(0),
        };
        first.map_or(NEVER, |due| due.max(self.pace.due()))
    }

    /// Places that are on their way from a connection that the load has closed to the next one: not
    /// those whose target has failed since it last served one.
    pub(super) fn on_their_way(&self) -> u64 {
        let failed = self.places.iter().filter(|it| it.backoff > BACKOFF);
        self.turning_over - failed.map(|it| it.vacant[1]).sum::<u64>()
    }

    /// A dial has come to a connection, or to nothing.
    pub(super) fn ended(&mut self) {
        self.under_way -= 1;
    }

    /// A connection to `target` is served.
    pub(super) fn served(&mut self, target: u16) {
        self.places[usize::from(target)].backoff = BACKOFF;
    }

    /// `target` is not dialed for a while, to replace a connection.
    pub(super) fn back_off(&mut self, target: u16, now: u64) {
        let places = &mut self.places[usize::from(target)];
        places.not_before = after(now, places.backoff);
        places.backoff = (places.backoff * 2).min(LONGEST_BACKOFF);
    }
}

impl Places {
    /// When the target may be dialed; [`NEVER`] where it has no vacant place.
    fn due(&self) -> u64 {
        match self.vacant {
            [0, 0] => NEVER,
            _ => self.not_before,
        }
    }
}

/// How many dials may be under way on a thread: as many as its pace makes while one waits for its
/// timeout. A server that is slow to accept, or far away, does not set the pace. They are some of
/// the connections that were asked for, so they take no more descriptors.
fn most_under_way(load: &Load, index: u32) -> u32 {
    let a_second = load.share(load.connect_rate.get().into(), index) as f64;
    let most = (a_second * load.sockets.connect_timeout.as_secs_f64()).ceil() as u64;
    u32::try_from(most.max(LEAST_UNDER_WAY)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::target::Target;

    /// Dials that are made at a pace in so many milliseconds, while none of them is answered.
    fn dialed(arguments: &str, ms: u64) -> u32 {
        let load = Load::of(arguments);
        let mut dialing = Dialing::new(&load, 0, 1, SECOND);
        for ms in 0..ms {
            while dialing.next(SECOND + ms * SECOND / 1000, false).is_some() {}
        }
        dialing.under_way
    }

    #[test]
    fn answers_that_take_long_do_not_slow_the_pace() {
        assert_eq!(dialed("-c 100k -r 10k", 200).div_ceil(10), 200);
        assert_eq!(dialed("-c 100k -r 10k -t 2", 200).div_ceil(10), 100);
        // Until the first of them is given up.
        assert_eq!(dialed("-c 100k -r 10k --connect-timeout 100ms", 200), 1000);
        assert_eq!(dialed("-c 2k -r 10k", 500), 2000);
    }

    #[test]
    fn a_target_that_fails_neither_loses_its_places_nor_holds_up_another() {
        let load = Load::of("-c 4 --churn 10");
        let mut dialing = Dialing::new(&load, 0, 2, 0);
        let mut now = 0;
        for number in 0..4 {
            now += SECOND;
            let dial = dialing.next(now, true).unwrap();
            assert_eq!((dial.number, dial.target), (number, number as u16 % 2));
            dialing.ended();
            dialing.served(dial.target);
        }
        assert_eq!(dialing.due(true), NEVER);
        for target in [0, 1, 0, 1] {
            dialing.vacated(target, false);
        }
        // Target 0 is down for a while: it's tried less and less often, and 1 is filled at once.
        let mut tries = [0; 2];
        for _ in 0..10_000 {
            now += SECOND / 1000;
            if let Some(dial) = dialing.next(now, true) {
                tries[usize::from(dial.target)] += 1;
                dialing.ended();
                if dial.target == 0 {
                    dialing.vacated(0, false);
                    dialing.back_off(0, now);
                }
            }
        }
        assert_eq!(tries[1], 2);
        assert!((10..20).contains(&tries[0]), "{tries:?}");
        let mut back = 0;
        for _ in 0..3 {
            now += SECOND;
            while let Some(dial) = dialing.next(now, true) {
                assert_eq!(dial.target, 0);
                dialing.ended();
                back += 1;
            }
        }
        assert_eq!((back, dialing.due(true)), (2, NEVER));
    }

    #[test]
    fn a_place_whose_target_has_failed_is_not_on_its_way() {
        let load = Load::of("-c 4 --churn 10");
        let mut dialing = Dialing::new(&load, 0, 2, 0);
        for target in [0, 0, 1] {
            dialing.vacated(target, true);
            dialing.turning_over += 1;
        }
        assert_eq!(dialing.on_their_way(), 3);
        dialing.back_off(0, SECOND);
        assert_eq!(dialing.on_their_way(), 1);
        dialing.served(0);
        assert_eq!(dialing.on_their_way(), 3);
    }

    #[test]
    fn sources_are_used_in_turn() {
        let mut endpoint = Endpoint {
            resolved: Target::tcp(([127, 0, 0, 1], 9).into()),
            sources: Vec::new(),
        };
        assert_eq!(endpoint.source(3), None);
        endpoint.sources = vec![[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        let turns: Vec<String> = (0..3)
            .filter_map(|turn| endpoint.source(turn))
            .map(|source| source.to_string())
            .collect();
        assert_eq!(turns, ["127.0.0.2:0", "127.0.0.3:0", "127.0.0.2:0"]);
    }
}
