//! Running a test under many seeds, and making the one that fails small.

use std::cell::Cell;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use super::World;
use super::plan::Plan;

/// The environment variable that replays one run: a [`Plan`] in words.
pub(super) const REPLAY: &str = "OREAD_SIM";
/// The environment variable that says which seeds are run, or how many from the first one on.
const SEEDS: &str = "OREAD_SEEDS";
/// Runs that may be spent to make a failing one small.
const SHRINKS: usize = 200;

/// Runs `test` once for each seed of `seeds`, each in a calm world of its own, on as many threads
/// as there are processors. The first run that panics is made small, shown with its trace, and
/// panics again.
///
/// A run is made smaller by leaving out kinds of faults, and by letting [`World::count`] and
/// [`World::size`] draw smaller numbers, as long as it still fails. What is left stands in one
/// line, which replays it in a shell: `env OREAD_SIM='seed=17 faults=read-short count=2' cargo test
/// the_name_of_the_test`. `OREAD_SEEDS=1000000` runs that many seeds, from the first of `seeds` on;
/// `OREAD_SEEDS=1000000..2000000` runs those, so that a long search can be made in parts.
///
/// # Panics
/// When a run does, with its seed and its own words; when one that has failed doesn't fail again,
/// as something in the test doesn't come from the seed; or for an `OREAD_SIM` or `OREAD_SEEDS` that
/// can't be read.
pub fn check(seeds: Range<u64>, test: impl Fn(&mut World) + Sync) {
    if let Ok(words) = std::env::var(REPLAY) {
        let plan = words.parse().unwrap_or_else(|error| refuse(REPLAY, error));
        return replay(&plan, &test);
    }
    let seeds = match std::env::var(SEEDS) {
        Ok(words) => chosen(&words, seeds.start).unwrap_or_else(|error| refuse(SEEDS, error)),
        Err(_) => seeds,
    };
    if let Some(plan) = first_failure(seeds, &test) {
        let seed = plan.seed;
        replay(&shrink(plan, &test), &test);
        wavers(seed);
    }
}

/// The seeds that `words` choose: a number of them from `first` on, or a range.
fn chosen(words: &str, first: u64) -> Result<Range<u64>, String> {
    let number = |word: &str| word.parse::<u64>().map_err(|error| error.to_string());
    let seeds = match words.split_once("..") {
        Some((start, end)) => number(start)?..number(end)?,
        None => first..first.saturating_add(number(words)?),
    };
    if seeds.is_empty() {
        return Err(String::from("no seed is in it, so nothing would be tested"));
    }
    Ok(seeds)
}

#[allow(clippy::panic)] // A run has failed: the test must not pass, though the same run now does.
fn wavers(seed: u64) {
    panic!(
        "seed {seed} has failed, and has not when it was run again: something in the test does not \
         come from the seed (a HashMap's order, the real time, a thread)"
    )
}

#[allow(clippy::panic)] // A test's own setting is wrong: the test must not pass.
fn refuse<T>(variable: &str, error: impl std::fmt::Display) -> T {
    panic!("the environment variable {variable} can't be read: {error}")
}

/// Runs the seeds on all processors; the plan of one that failed, the lowest of those that were
/// found before all threads had stopped.
fn first_failure(seeds: Range<u64>, test: &(impl Fn(&mut World) + Sync)) -> Option<Plan> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(None::<u64>);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let found = *failed.lock().unwrap_or_else(PoisonError::into_inner);
            if seed >= seeds.end || found.is_some_and(|found| found < seed) {
                return;
            }
            if fails(&Plan::new(seed), test) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                *failed = Some(failed.map_or(seed, |other| other.min(seed)));
                return;
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let failed = failed.into_inner();
    failed
        .unwrap_or_else(PoisonError::into_inner)
        .map(Plan::new)
}

/// Whether a run under `plan` panics. Its words are not shown.
fn fails(plan: &Plan, test: &impl Fn(&mut World)) -> bool {
    silence();
    let before = SILENT.replace(true);
    let run = panic::catch_unwind(AssertUnwindSafe(|| test(&mut World::under(plan.clone()))));
    SILENT.set(before);
    run.is_err()
}

/// A smaller plan that fails too, as far as that is cheap.
fn shrink(mut plan: Plan, test: &impl Fn(&mut World)) -> Plan {
    let mut left = SHRINKS;
    loop {
        let met = met_faults(&plan, test);
        let smaller = plan.smaller(&met).into_iter().find(|smaller| {
            left = left.saturating_sub(1);
            left > 0 && fails(smaller, test)
        });
        match smaller {
            Some(smaller) => plan = smaller,
            None => return plan,
        }
    }
}

/// The faults that a run under `plan` meets.
fn met_faults(plan: &Plan, test: &impl Fn(&mut World)) -> Vec<super::Fault> {
    let mut world = World::under(plan.clone());
    silence();
    let before = SILENT.replace(true);
    let _fails_as_before = panic::catch_unwind(AssertUnwindSafe(|| test(&mut world)));
    SILENT.set(before);
    world.faults_met()
}

/// Runs `plan` with a trace, and shows that when it fails.
fn replay(plan: &Plan, test: &impl Fn(&mut World)) {
    let mut world = World::under(plan.clone());
    world.trace(true);
    let run = panic::catch_unwind(AssertUnwindSafe(|| test(&mut world)));
    if let Err(panic) = run {
        let package = std::env::var("CARGO_PKG_NAME").ok();
        let line = replay_line(plan, package.as_deref(), thread::current().name());
        println!("{}", world.traced());
        println!("to replay it: {line}");
        panic::resume_unwind(panic);
    }
}

/// The line that replays `plan`, in the package that is tested, by the name of the test. A test's
/// thread has that; the thread `main` runs a program, or all tests of one thread.
fn replay_line(plan: &Plan, package: Option<&str>, test: Option<&str>) -> String {
    let mut line = format!("env {REPLAY}='{plan}' cargo test");
    // Whoever depends on this package has the feature in its manifest.
    if package == Some(env!("CARGO_PKG_NAME")) {
        line += " --features sim";
    }
    if let Some(test) = test.filter(|test| *test != "main") {
        line += " ";
        line += test;
    }
    line
}

thread_local! {
    /// Whether panics of this thread say nothing: most of them only look for a smaller run.
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Has panics of silent threads say nothing, once and for all. Those of other threads say what they
/// always say.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_replays_names_the_test_and_the_feature_only_where_it_must() {
        let plan: Plan = "seed=17 faults=read-short count=2".parse().unwrap();
        assert_eq!(
            replay_line(&plan, Some("theirs"), Some("tests::a_line_is_answered")),
            "env OREAD_SIM='seed=17 faults=read-short count=2' cargo test tests::a_line_is_answered"
        );
        assert_eq!(
            replay_line(&Plan::new(3), Some("oread"), Some("main")),
            "env OREAD_SIM='seed=3' cargo test --features sim"
        );
    }

    #[test]
    fn seeds_are_chosen_by_their_number_or_by_a_range() {
        assert_eq!(chosen("1000", 40), Ok(40..1040));
        assert_eq!(chosen("1000..2000", 40), Ok(1000..2000));
        assert_eq!(chosen("2", u64::MAX - 1), Ok(u64::MAX - 1..u64::MAX));
        for words in ["", "many", "..", "5..", "-1", "1..=2", "0", "7..7"] {
            assert!(chosen(words, 0).is_err(), "{words:?}");
        }
    }

    #[test]
    #[should_panic(expected = "seed 7 has failed, and has not when it was run again")]
    fn a_run_that_fails_once_and_not_again_fails_the_test() {
        let first = AtomicU64::new(0);
        check(7..8, |_| {
            assert!(first.fetch_add(1, Ordering::Relaxed) > 0, "only once");
        });
    }

    #[test]
    fn a_plan_is_read_back_as_it_was_written_and_a_fault_that_is_none_is_told() {
        let plan: Plan = "seed=17 faults=read-short+stood-still count=2 size=100"
            .parse()
            .unwrap();
        assert_eq!(plan.to_string().parse(), Ok(plan));
        let none = "seed=1 faults=".parse::<Plan>().unwrap();
        assert_eq!(none.faults, Some(Vec::new()));
        let error = "faults=short-read".parse::<Plan>().unwrap_err();
        assert!(error.contains("short-read"), "{error}");
    }
}
