//! One run of a test, and what is learned of it.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::net::sim::Net;

use super::World;
use super::plan::Plan;

/// A run that is over.
pub(super) struct Run {
    /// The world as it was left.
    pub(super) world: World,
    /// How it failed, if it did.
    pub(super) failure: Option<Failure>,
}

/// How a run failed.
pub(super) struct Failure {
    /// The last panic's place and message.
    pub(super) words: String,
    /// To panic on with.
    pub(super) panic: Box<dyn Any + Send>,
}

impl Run {
    /// Runs `test` under `plan`. Its panics say nothing: most runs only look for a smaller one.
    pub(super) fn silent(plan: &Plan, test: &impl Fn(&mut World)) -> Run {
        Run::of(World::under(plan.clone()), true, test)
    }

    /// As [`Run::silent`], with a trace, and with panics that say what they always say.
    pub(super) fn traced(plan: &Plan, test: &impl Fn(&mut World)) -> Run {
        let mut world = World::under(plan.clone());
        world.trace(true);
        Run::of(world, false, test)
    }

    fn of(mut world: World, silent: bool, test: &impl Fn(&mut World)) -> Run {
        watch_panics();
        let watched = Watched {
            net: world.net.clone(),
            silent,
            words: None,
        };
        let before = WATCHED.replace(Some(watched));
        let run = panic::catch_unwind(AssertUnwindSafe(|| {
            test(&mut world);
            world.end("");
        }));
        // It's told.
        world.net.forgive();
        let watched = WATCHED.replace(before);
        let words = watched.and_then(|watched| watched.words);
        let failure = run.err().map(|panic| Failure {
            words: words.unwrap_or_else(|| "panicked".to_owned()),
            panic,
        });
        Run { world, failure }
    }
}

/// The run of a thread, for its panics.
struct Watched {
    net: Net,
    /// Whether panics are not shown.
    silent: bool,
    /// The last one's place and message. One before it was caught in the test itself.
    words: Option<String>,
}

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

/// Takes note of the panics of runs, once and for all. Those of other threads say what they always
/// say.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let silent = WATCHED.try_with(|watched| {
                let Ok(mut watched) = watched.try_borrow_mut() else {
                    return false;
                };
                watched.as_mut().is_some_and(|watched| {
                    let words = info.to_string();
                    watched.net.trace_failure(&words);
                    watched.words = Some(words);
                    watched.silent
                })
            });
            if !silent.unwrap_or(false) {
                before(info);
            }
        }));
    });
}
