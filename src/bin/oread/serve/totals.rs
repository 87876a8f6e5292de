//! The counters of all reactors, and the board on which each of them pins its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use oread::{EchoStats, Stats};

use crate::system::stdout::JsonLine;

/// The counters of one reactor and its echo, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// The reactor's.
    pub(super) stats: Stats,
    /// The echo's.
    pub(super) echo: EchoStats,
}

/// Makes the functions that have to name every counter of an echo, so that there is one list of
/// them.
macro_rules! counters {
    ($($name:ident)*) => {
        fn add_echo(sum: &mut EchoStats, more: &EchoStats) {
            $(sum.$name += more.$name;)*
        }

        fn each_of_echo(of: &EchoStats) -> impl Iterator<Item = (&'static str, u64)> {
            [$((stringify!($name), of.$name)),*].into_iter()
        }
    };
}

counters!(
    frames_in frames_out frames_bad
    datagrams_low_port datagrams_own datagrams_not_unicast datagrams_over_rate
    datagrams_repeated datagrams_too_long);

impl Totals {
    /// Adds the counters of another reactor.
    pub(super) fn add(&mut self, more: &Totals) {
        self.stats += more.stats;
        add_echo(&mut self.echo, &more.echo);
    }

    /// Adds the counters of another echo of the same reactor.
    pub(super) fn add_echo(&mut self, more: &EchoStats) {
        add_echo(&mut self.echo, more);
    }

    /// Has the loop's peaks be no lower than those of `others`.
    pub(super) fn keep_peaks(&mut self, mut others: Stats) {
        let others = peaks(&mut others);
        for (own, other) in peaks(&mut self.stats).into_iter().zip(others) {
            *own = (*own).max(*other);
        }
    }

    /// Datagrams that arrived and have no answer, for whatever cause, on purpose or not.
    pub(super) fn datagrams_dropped(&self) -> u64 {
        self.stats.datagrams_dropped() + self.echo.datagrams_refused()
    }

    /// Each counter by its name, but for those of closed connections.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.stats.iter().chain(each_of_echo(&self.echo))
    }

    /// Adds every counter by its name to an event.
    pub(super) fn describe(&self, line: JsonLine) -> JsonLine {
        let dropped = ("datagrams_dropped", self.datagrams_dropped());
        let line = (self.iter())
            .chain([dropped])
            .fold(line, |line, (name, count)| line.with(name, count));
        let closed: serde_json::Map<_, _> = (self.stats.closed.iter())
            .map(|(name, count)| (name.to_owned(), count.into()))
            .collect();
        line.with("closed", closed)
    }
}

/// The loop's peaks.
fn peaks(stats: &mut Stats) -> [&mut u64; 3] {
    [
        &mut stats.longest_turn_us,
        &mut stats.latest_timer_us,
        &mut stats.longest_queue,
    ]
}

/// Where each reactor's thread puts its counters every so often, for one of them to print the sum.
#[derive(Debug)]
pub(super) struct Board(Mutex<Vec<Totals>>);

impl Board {
    /// A board for so many reactors.
    pub(super) fn new(reactors: usize) -> Board {
        Board(Mutex::new(vec![Totals::default(); reactors]))
    }

    /// Puts the counters of reactor `index` there, in place of its last ones. The loop's peaks
    /// since then are kept with those that have not been told.
    pub(super) fn put(&self, index: usize, mut totals: Totals) {
        // Counters are whole at any time: a panic elsewhere leaves nothing half done in them.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(index) {
            totals.keep_peaks(own.stats);
            *own = totals;
        }
    }

    /// The sum of what is there. The loop's peaks are told once, so that they are those of the time
    /// since the last sum.
    pub(super) fn sum(&self) -> Totals {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Totals::default();
        for totals in all.iter_mut() {
            sum.add(totals);
            peaks(&mut totals.stats)
                .into_iter()
                .for_each(|peak| *peak = 0);
        }
        sum
    }
}

/// The counters of all reactors, as they were told last.
#[derive(Debug)]
pub(super) struct Latest {
    told: Mutex<Told>,
    came: Condvar,
}

#[derive(Debug)]
struct Told {
    totals: Vec<Totals>,
    /// Which reactors have been asked, and have not told theirs since.
    asked: Vec<bool>,
}

impl Latest {
    /// For so many reactors, which have counted nothing yet.
    pub(super) fn new(reactors: usize) -> Arc<Latest> {
        Arc::new(Latest {
            told: Mutex::new(Told {
                totals: vec![Totals::default(); reactors],
                asked: vec![false; reactors],
            }),
            came: Condvar::new(),
        })
    }

    /// Puts the counters of reactor `index` there, in place of its last ones.
    pub(super) fn put(&self, index: usize, totals: Totals) {
        // Counters are whole at any time: a panic elsewhere leaves nothing half done in them.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.totals[index] = totals;
        told.asked[index] = false;
        self.came.notify_one();
    }

    /// Asks all reactors by `ask`, which says whether one is there, and waits for them as long as
    /// `patience` says. Those that have ended have told what they came to.
    pub(super) fn ask(&self, ask: impl Fn(usize) -> bool, patience: Duration) -> Vec<Totals> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, asked) in told.asked.iter_mut().enumerate() {
            // One that has yet to answer has been asked.
            *asked = *asked || ask(index);
        }
        let silent = |told: &mut Told| told.asked.contains(&true);
        let (told, _) = (self.came.wait_timeout_while(told, patience, silent))
            .unwrap_or_else(PoisonError::into_inner);
        told.totals.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oread::CloseReason;
    use std::cell::Cell;

    /// The fields of a struct, as its `Debug` names them.
    fn fields(debug: &str) -> Vec<&str> {
        debug
            .split([' ', '{', '}', ','])
            .filter_map(|word| word.strip_suffix(':'))
            // The reasons of closes are keys of a map, in quotes.
            .filter(|name| !name.starts_with('"'))
            .collect()
    }

    #[test]
    fn every_counter_of_the_library_is_told_by_its_name() {
        let line = Totals::default().describe(JsonLine::new("x")).finish();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        let stats = format!("{:?}", Stats::default());
        let echo = format!("{:?}", EchoStats::default());
        assert!(fields(&stats).len() > 20);
        for name in fields(&stats).into_iter().chain(fields(&echo)) {
            assert!(told.get(name).is_some(), "{name} is not told");
        }
        for (name, _) in Stats::default().closed.iter() {
            assert_eq!(told["closed"][name], 0, "{name} is not told");
        }
    }

    #[test]
    fn the_board_sums_the_last_counters_of_each_reactor() {
        let board = Board::new(2);
        let with = |accepted: u64, frames_in: u64| {
            let mut totals = Totals::default();
            totals.stats.accepted = accepted;
            (0..accepted).for_each(|_| totals.stats.closed.count(CloseReason::Finished));
            totals.echo.frames_in = frames_in;
            totals
        };
        board.put(0, with(1, 1));
        board.put(1, with(10, 20));
        board.put(0, with(2, 3));
        let sum = board.sum();
        assert_eq!((sum.stats.accepted, sum.echo.frames_in), (12, 23));
        assert_eq!(sum.stats.closed.total(), 12);
    }

    #[test]
    fn the_board_tells_each_peak_once_and_forgets_none_in_between() {
        let board = Board::new(2);
        let turn = |longest: u64| {
            let mut totals = Totals::default();
            totals.stats.longest_turn_us = longest;
            totals
        };
        let told = || board.sum().stats.longest_turn_us;
        // The first one's long turn is behind it when it's asked.
        for (index, longest) in [(0, 9), (0, 2), (1, 5)] {
            board.put(index, turn(longest));
        }
        assert_eq!([told(), told()], [9, 0]);
        for (index, longest) in [(0, 1), (1, 4)] {
            board.put(index, turn(longest));
        }
        assert_eq!(told(), 4);
    }

    #[test]
    fn a_reactor_that_says_nothing_is_told_as_it_was_before() {
        let latest = Latest::new(2);
        let mut totals = Totals::default();
        totals.stats.turns = 7;
        (0..2).for_each(|index| latest.put(index, totals));
        let asked = [const { Cell::new(0) }; 2];
        // The first has ended, the second says nothing.
        let ask = |index: usize| {
            asked[index].update(|times| times + 1);
            index == 1
        };
        for _ in 0..2 {
            assert_eq!(latest.ask(ask, Duration::from_millis(1)), [totals; 2]);
        }
        // That one has been asked already.
        assert_eq!(asked.map(Cell::into_inner), [2, 1]);
    }
}
