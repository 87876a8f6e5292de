//! Runs that last long: a test under many seeds says nothing else until it's over.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::plan::Plan;

/// A run that lasts longer is told of.
const LONG: Duration = Duration::from_secs(60);
/// How often that is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// The runs of a test that are under way.
#[derive(Debug, Default)]
pub(super) struct Watch {
    runs: Mutex<Runs>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct Runs {
    under_way: Vec<Running>,
    over: bool,
}

#[derive(Debug)]
struct Running {
    thread: ThreadId,
    plan: Plan,
    since: Instant,
    told: bool,
}

impl Watch {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches the run of this thread, until what is returned is dropped.
    pub(super) fn begin<'a>(&'a self, plan: &Plan) -> impl Drop + use<'a> {
        let thread = thread::current().id();
        self.runs().under_way.push(Running {
            thread,
            plan: plan.clone(),
            since: Instant::now(),
            told: false,
        });
        AtEnd(move || self.runs().under_way.retain(|run| run.thread != thread))
    }

    /// Tells of long runs, with the line that `replays` one, until [`Watch::ends`] says so.
    pub(super) fn tell(&self, replays: impl Fn(&Plan) -> String) {
        let mut runs = self.runs();
        while !runs.over {
            for plan in runs.long(Instant::now()) {
                let line = told(&plan, &replays(&plan));
                // Not by `eprintln!`: the output of a test is shown when it's over.
                let _shown = io::stderr().write_all(line.as_bytes());
            }
            let waited = self.over.wait_timeout(runs, LOOK);
            runs = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has [`Watch::tell`] end when what is returned is dropped.
    pub(super) fn ends(&self) -> impl Drop {
        AtEnd(|| {
            self.runs().over = true;
            self.over.notify_all();
        })
    }
}

impl Runs {
    /// The runs that have lasted long by `now`, each once.
    fn long(&mut self, now: Instant) -> Vec<Plan> {
        let long = |run: &&mut Running| !run.told && now.duration_since(run.since) >= LONG;
        let long = self.under_way.iter_mut().filter(long);
        long.map(|run| {
            run.told = true;
            run.plan.clone()
        })
        .collect()
    }
}

fn told(plan: &Plan, replay: &str) -> String {
    let (seed, seconds) = (plan.seed, LONG.as_secs());
    format!("seed {seed} has been running for {seconds} s: {replay}\n")
}

/// Calls it when it's dropped, also by a panic.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_lasts_a_minute_is_told_of_once_and_only_while_it_lasts() {
        let watch = Watch::default();
        let begun = watch.begin(&Plan::new(17));
        let now = Instant::now();
        assert_eq!(watch.runs().long(now + LONG / 2), []);
        assert_eq!(watch.runs().long(now + LONG), [Plan::new(17)]);
        assert_eq!(watch.runs().long(now + 2 * LONG), []);
        drop(begun);
        let again = watch.begin(&Plan::new(18));
        assert_eq!(watch.runs().long(now + 3 * LONG), [Plan::new(18)]);
        drop(again);
        assert!(watch.runs().under_way.is_empty());
        let line = told(&Plan::new(17), "env OREAD_SIM='seed=17' cargo test");
        let why = "seed 17 has been running for 60 s: env OREAD_SIM='seed=17' cargo test\n";
        assert_eq!(line, why);
    }

    #[test]
    fn a_watch_ends_with_what_it_watches() {
        let watch = Watch::default();
        thread::scope(|scope| {
            let _ends = watch.ends();
            scope.spawn(|| watch.tell(Plan::to_string));
        });
        assert!(watch.runs().over);
    }
}
