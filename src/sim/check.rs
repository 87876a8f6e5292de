//! Running a test under many seeds, and making the one that fails small.

use std::fmt;
use std::ops::Range;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::World;
use super::plan::Plan;
use super::run::{Failure, Run};
use super::shrink::shrink;
use super::watch::Watch;

/// The environment variable that replays one run: a [`Plan`] in words.
pub(super) const REPLAY: &str = "OREAD_SIM";
/// The environment variable that says which seeds are run, or how many from the first one on.
const SEEDS: &str = "OREAD_SEEDS";
/// The environment variable that has the whole of a long trace shown.
const TRACE: &str = "OREAD_TRACE";
/// Lines that are shown of a long trace: the first and the last.
const SHOWN: (usize, usize) = (50, 300);

/// What a test comes to that [`check`] runs: nothing, or a result, whose error fails it.
pub trait Outcome: sealed::Outcome {}

impl Outcome for () {}
impl<E: fmt::Debug> Outcome for Result<(), E> {}

mod sealed {
    use std::fmt;

    pub trait Outcome {
        fn into_error(self) -> Option<String>;
    }

    impl Outcome for () {
        fn into_error(self) -> Option<String> {
            None
        }
    }

    impl<E: fmt::Debug> Outcome for Result<(), E> {
        fn into_error(self) -> Option<String> {
            self.err().map(|error| format!("{error:?}"))
        }
    }
}

/// Runs `test` once for each seed of `seeds`, each in a calm world of its own, on as many threads
/// as there are processors. The first run that panics, or gives an error, is made small, shown with
/// its trace, and panics again. A closure that uses `?` names what it gives:
/// `|world: &mut World| -> io::Result<()> { ... }`.
///
/// A run is made smaller by leaving out kinds of faults, and by letting [`World::count`] and
/// [`World::size`] draw smaller numbers, as long as it still fails. What is left stands in one
/// line, which replays it in a shell:
/// `env OREAD_SIM='seed=17 faults=read-short+stood-still count=2' cargo test the_test -- --exact`.
/// Add the flags that the test was run with, such as `--release`, behind `cargo test`. `seed` must
/// be there; `faults` are the only ones that may happen, with `+` between them, or `none`; `count`
/// and `size` are the most that is drawn. A replay shows its trace even if it passes, which it says
/// (`cargo test ... -- --nocapture` shows what a test prints that passes).
///
/// Of a run that has lasted for a minute a line on the standard error output says which it is.
///
/// Of a trace of more than 350 lines the first 50 and the last 300 are shown, and all with
/// `OREAD_TRACE=1`. `OREAD_SEEDS=1000000` runs that many seeds, from the first of `seeds` on;
/// `OREAD_SEEDS=1000000..2000000` runs those, so that a long search can be made in parts.
///
/// # Panics
/// When a run does, with its own words, or gives an error; when one that has failed doesn't fail
/// again, as something in the test doesn't come from the seed, with the words of the first time; or
/// for an `OREAD_SIM` or `OREAD_SEEDS` that can't be read.
pub fn check<R: Outcome>(seeds: Range<u64>, test: impl Fn(&mut World) -> R + Sync) {
    let (watch, name) = (
        Watch::default(),
        thread::current().name().map(str::to_owned),
    );
    #[allow(clippy::panic)] // An error fails the test as a panic does.
    let test = |world: &mut World| {
        let _watched = watch.begin(world.plan());
        if let Some(error) = test(world).into_error() {
            panic!("the test gave an error: {error}");
        }
    };
    thread::scope(|scope| {
        let _ends = watch.ends();
        scope.spawn(|| watch.tell(|plan| replay_line(plan, package().as_deref(), name.as_deref())));
        run(seeds, &test);
    });
}

/// Runs what the environment says, or all seeds.
fn run(seeds: Range<u64>, test: &(impl Fn(&mut World) + Sync)) {
    if let Ok(words) = std::env::var(REPLAY) {
        let plan = words.parse().unwrap_or_else(|error| refuse(REPLAY, error));
        let run = Run::traced(&plan, test);
        if let Some(failure) = run.failure {
            fail(&plan, &run.world, failure);
        }
        println!("{}\nreplayed {plan}: it passed", shown(&run.world));
        return;
    }
    let seeds = match std::env::var(SEEDS) {
        Ok(words) => chosen(&words, seeds.start).unwrap_or_else(|error| refuse(SEEDS, error)),
        Err(_) => seeds,
    };
    if let Some((plan, failure)) = first_failure(seeds, test) {
        let seed = plan.seed;
        let plan = shrink(plan, test);
        let run = Run::traced(&plan, test);
        match run.failure {
            Some(failure) => fail(&plan, &run.world, failure),
            None => wavers(seed, &failure.words),
        }
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
fn wavers(seed: u64, words: &str) -> ! {
    panic!(
        "seed {seed} has failed, and has not when it was run again: something in the test does not \
         come from the seed (a HashMap's order, the real time, a thread). The first time it \
         {words}"
    )
}

#[allow(clippy::panic)] // A test's own setting is wrong: the test must not pass.
fn refuse<T>(variable: &str, error: impl std::fmt::Display) -> T {
    panic!("the environment variable {variable} can't be read: {error}")
}

/// Runs the seeds on all processors; the plan of one that failed, and how: the lowest of those that
/// were found before all threads had stopped.
fn first_failure(
    seeds: Range<u64>,
    test: &(impl Fn(&mut World) + Sync),
) -> Option<(Plan, Failure)> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(None::<(u64, Failure)>);
    let locked = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let lowest = locked().as_ref().map(|(found, _)| *found);
            if seed >= seeds.end || lowest.is_some_and(|found| found < seed) {
                return;
            }
            if let Some(failure) = Run::silent(&Plan::new(seed), test).failure {
                let mut failed = locked();
                if failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                    *failed = Some((seed, failure));
                }
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
    let failed = failed.unwrap_or_else(PoisonError::into_inner);
    failed.map(|(seed, failure)| (Plan::new(seed), failure))
}

/// Shows a run that failed, and fails as it did.
fn fail(plan: &Plan, world: &World, failure: Failure) -> ! {
    let line = replay_line(plan, package().as_deref(), thread::current().name());
    println!("{}\n{}", shown(world), failure.words);
    println!("to replay it: {line}");
    println!("(add the flags that the test was run with, such as --release, behind `cargo test`)");
    panic::resume_unwind(failure.panic)
}

/// The trace of a run, as far as it's shown.
fn shown(world: &World) -> String {
    let trace = world.traced();
    match std::env::var_os(TRACE) {
        Some(_) => trace,
        None => cut(&trace),
    }
}

/// A long trace without its middle.
fn cut(trace: &str) -> String {
    let (first, last) = SHOWN;
    let lines: Vec<&str> = trace.lines().collect();
    let left_out = lines.len().saturating_sub(first + last);
    if left_out == 0 {
        return trace.to_owned();
    }
    let middle = format!("... {left_out} lines left out, which {TRACE}=1 shows ...");
    let kept = lines[..first].iter().copied();
    let kept = kept.chain([middle.as_str()]);
    let kept = kept.chain(lines[first + left_out..].iter().copied());
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// The package that is tested.
fn package() -> Option<String> {
    std::env::var("CARGO_PKG_NAME").ok()
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
        // Another test's name may begin with this one's, and would fail for want of that fault.
        line += &format!(" {test} -- --exact");
    }
    line
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::*;

    #[test]
    fn the_line_that_replays_names_the_test_and_the_feature_only_where_it_must() {
        let plan: Plan = "seed=17 faults=read-short count=2".parse().unwrap();
        assert_eq!(
            replay_line(&plan, Some("theirs"), Some("tests::a_line_is_answered")),
            "env OREAD_SIM='seed=17 faults=read-short count=2' cargo test tests::a_line_is_answered \
             -- --exact"
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
    fn a_run_that_fails_once_and_not_again_fails_the_test_with_the_first_words() {
        let first = AtomicU64::new(0);
        let once = || {
            check(7..8, |_| {
                assert!(first.fetch_add(1, Ordering::Relaxed) > 0, "only once");
            });
        };
        let told = panic::catch_unwind(AssertUnwindSafe(once)).unwrap_err();
        let told = told.downcast_ref::<String>().unwrap();
        let again = "seed 7 has failed, and has not when it was run again";
        assert!(told.starts_with(again), "{told}");
        assert!(told.contains("The first time it panicked at src/sim/check.rs:"));
        assert!(told.ends_with("only once"), "{told}");
    }

    #[test]
    #[should_panic(
        expected = "the test gave an error: Custom { kind: Other, error: \"too many\" }"
    )]
    fn a_test_fails_by_its_error_too() {
        check(0..100, |world: &mut World| -> std::io::Result<()> {
            match world.count(100) > 50 {
                true => Err(std::io::Error::other("too many")),
                false => Ok(()),
            }
        });
    }

    #[test]
    fn a_long_trace_is_shown_without_its_middle() {
        let lines = |range: Range<usize>| range.map(|n| format!("{n}\n")).collect::<String>();
        let left_out = "... 7 lines left out, which OREAD_TRACE=1 shows ...\n";
        let told = lines(0..50) + left_out + &lines(57..357);
        assert_eq!(cut(&lines(0..357)), told);
        assert_eq!(cut(&lines(0..350)), lines(0..350));
    }

    #[test]
    fn a_plan_is_read_back_as_it_was_written_and_a_fault_that_is_none_is_told() {
        let plan: Plan = "seed=17 faults=read-short+stood-still count=2 size=100"
            .parse()
            .unwrap();
        assert_eq!(plan.to_string().parse(), Ok(plan));
        for words in ["seed=1 faults=", "seed=1 faults=none"] {
            let none = words.parse::<Plan>().unwrap();
            assert_eq!(none.faults, Some(Vec::new()));
            assert_eq!(none.to_string(), "seed=1 faults=none");
        }
        for (words, why) in [
            (
                "seed=1 faults=short-read",
                "no fault is called \"short-read\"",
            ),
            ("seed=1 faults=read-short,stood-still", "with a `+` between"),
            ("", "no seed"),
            ("faults=read-short", "no seed"),
            ("seed=", "\"seed=\""),
        ] {
            let error = words.parse::<Plan>().unwrap_err();
            assert!(error.contains(why), "{words}: {error}");
        }
    }
}
