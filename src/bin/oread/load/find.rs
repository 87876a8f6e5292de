//! `oread find`: the highest rate, or number of connections, at which gates hold.
//!
//! | file | what it is |
//! |---|---|
//! | `find/search` | what is tried next; it knows no time and no sockets |
//! | `find/step` | what a run says of what was tried in it |
//! | `find/found` | what it has come to |
//! | `find/report` | that in words and for programs |
//!
//! Here each try becomes a run of its own, as `oread load` makes them, until the search has ended,
//! or there is no time left for another one.

mod found;
mod report;
mod search;
mod step;

use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::load::control::lead;
use crate::load::options::find::Find;
use crate::load::options::gate::{Figure, Statistic, Timing};
use crate::load::report::outcome::Ending;
use crate::system::files::LateFile;
use crate::system::page::Page;
use crate::system::signals;
use crate::system::stderr::Stderr;
use crate::system::stdout;
use crate::values::units::short;

use found::{Ended, Found};
use search::{Came, Search};
use step::Step;

/// How long a server that was loaded with too much is left alone.
const REST: Duration = Duration::from_secs(1);

/// Runs a search; gives the exit code. What it says while it runs goes to `stderr`.
///
/// # Errors
/// What kept it from starting, or an output that can't be written.
pub(crate) fn run(find: &Find, stderr: &Stderr) -> Result<u8, Failure> {
    let to_stdout = find.json.as_deref() == Some(Path::new("-"));
    let file = find.json.as_deref().filter(|_| !to_stdout);
    let file = file.map(LateFile::new).transpose()?;
    let found = steps(find, stderr)?;
    let code = found.exit_code();
    let json = report::json(&found, code);
    if let Some(file) = file {
        file.write(json.as_bytes(), signals::last())?;
    }
    stdout::say(&match to_stdout {
        true => json,
        false => report::text(Page::of_stdout(), &found),
    })?;
    Ok(code)
}

/// Makes the steps of a search.
fn steps(find: &Find, stderr: &Stderr) -> Result<Found, Failure> {
    let begun = Instant::now();
    let mut search = Search::new(find.from, find.to, find.precision);
    let mut found = Found {
        of: find.of,
        precision: find.precision,
        targets: Vec::new(),
        steps: Vec::new(),
        answer: search.answer(),
        ended: Ended::Done,
        percentile: percentile(find),
    };
    let mut say = stderr.clone();
    let [first, within] = [find.time(find.from), find.within].map(|it| short(it.as_nanos() as u64));
    let first = format!("steps of {first} at first, {within} in all at the most (--within)\n");
    tell(find, &mut say, &first);
    while let Some(tried) = search.next() {
        let load = find.step(tried.value, tried.confirms);
        let takes = load.warmup + find.time(tried.value) * (1 + u32::from(tried.confirms));
        if begun.elapsed() + takes > find.within {
            found.ended = Ended::OutOfTime;
            break;
        }
        let outcome = lead::run(&load, stderr)?;
        let step = Step::of(tried, &outcome);
        found.targets = outcome.targets;
        tell(
            find,
            &mut say,
            &report::line(find.of, found.steps.len() + 1, &step),
        );
        found.ended = match (&step.ending, signals::last()) {
            (Ending::Failed(why), _) => Ended::Failed(why.clone()),
            (Ending::Interrupted(signal), _) => Ended::Interrupted(*signal),
            _ if step.exit_code == 5 => Ended::Wrong,
            // It came between two steps.
            (_, Some(signal)) => Ended::Interrupted(signal.number()),
            _ => Ended::Done,
        };
        let came = step.came;
        found.steps.push(step);
        if found.ended != Ended::Done {
            break;
        }
        search.told(came);
        if came != Came::Held && search.next().is_some() {
            thread::sleep(REST);
        }
    }
    found.answer = search.answer();
    Ok(found)
}

/// Says how far it is, but where it is to be quiet.
fn tell(find: &Find, stderr: &mut Stderr, line: &str) {
    if !find.is_quiet() {
        // It takes everything, or counts it.
        let _ = stderr.write_all(line.as_bytes());
    }
}

/// The percentile that the first gate on responses is about.
fn percentile(find: &Find) -> Option<f64> {
    find.base
        .output
        .slo
        .iter()
        .find_map(|gate| match gate.figure {
            Figure::Latency(Timing::Response, Statistic::Percentile(p)) => Some(p),
            _ => None,
        })
}
