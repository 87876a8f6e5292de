//! How a load goes, while it does: on a terminal a line that is drawn anew, elsewhere a plain line
//! a second. It goes to standard error, so that standard output has the report alone; and by the
//! thread that writes that, so that one which takes nothing stalls nobody.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use terminal_size::{Width, terminal_size_of};

use crate::load::control::rates::Speed;
use crate::load::count::percentile;
use crate::load::generator::protocol::{Phase, Progress};
use crate::load::options::load::{Load, Volume};
use crate::system::stderr::Stderr;
use crate::values::units::Count;
use crate::values::units::short;
use crate::values::verbosity::Verbosity;

/// How many columns a terminal has that doesn't say.
const USUAL_WIDTH: usize = 80;
/// Characters between the brackets of the bar.
const BAR_WIDTH: u64 = 20;
/// How long the report waits for the last line to be written: it's to stand behind it, but it waits
/// for no standard error that takes nothing.
const PATIENCE: Duration = Duration::from_millis(200);

/// Where it's told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nowhere.
    Nowhere,
    /// A line a second.
    Lines,
    /// One line, drawn anew.
    Terminal,
}

impl Place {
    /// A terminal that can erase nothing (`TERM=dumb`) gets lines too.
    fn of(verbosity: Verbosity, is_terminal: bool, term: Option<OsString>) -> Place {
        let erases = is_terminal && term.is_some_and(|term| !term.is_empty() && term != "dumb");
        match (verbosity, erases) {
            (Verbosity::Quiet, _) => Place::Nowhere,
            (_, true) => Place::Terminal,
            (_, false) => Place::Lines,
        }
    }
}

/// The view.
#[derive(Debug)]
pub(crate) struct Live {
    stderr: Stderr,
    place: Place,
    asked: u64,
    warmup: Duration,
    volume: Volume,
    started: Instant,
    phase: Phase,
}

impl Live {
    /// A view of a load that is about to begin.
    pub(crate) fn new(plan: &Load, stderr: Stderr) -> Live {
        let is_terminal = std::io::stderr().is_terminal();
        Live {
            stderr,
            place: Place::of(plan.verbosity, is_terminal, std::env::var_os("TERM")),
            asked: plan.connections.get().into(),
            warmup: plan.warmup,
            volume: plan.volume,
            started: Instant::now(),
            phase: Phase::Ramp,
        }
    }

    /// Shows how all threads go together; about once a second. `speed`: what they do, if they have
    /// told it. `from`: when the measured time begins, if that is known.
    pub(crate) fn progress(
        &mut self,
        merged: &Progress,
        speed: Option<Speed>,
        from: Option<Instant>,
    ) {
        self.phase = self.phase.max(merged.phase);
        match self.place {
            Place::Nowhere => {}
            Place::Lines => {
                let seconds = self.started.elapsed().as_secs();
                let parts = self.parts(merged, speed).join(", ");
                let line = format!("{seconds:>5}s {:>8}  {parts}\n", name(self.phase));
                // It takes everything, or counts it.
                let _ = self.stderr.write_all(line.as_bytes());
            }
            Place::Terminal => {
                let bar = self.bar(merged, from);
                let parts = self.parts(merged, speed);
                let width = terminal_size_of(std::io::stderr())
                    .map_or(USUAL_WIDTH, |(Width(columns), _)| columns.into());
                self.stderr
                    .show(&fit(name(self.phase), &bar, &parts, width));
            }
        }
    }

    /// From now on a second signal ends the program, and would leave a line that is drawn anew
    /// where it stands: it goes on in plain lines.
    pub(crate) fn interrupted(&mut self) {
        if self.place == Place::Terminal {
            self.stderr.show("");
            self.place = Place::Lines;
        }
    }

    /// How far it is in this phase.
    fn bar(&self, sums: &Progress, from: Option<Instant>) -> Bar {
        let timed = |begun: Option<Instant>, whole: Duration| {
            let gone = begun.map_or(0, |begun| begun.elapsed().as_secs());
            let whole = whole.as_secs().max(1);
            let gone = gone.min(whole);
            Bar {
                share: Some((gone, whole)),
                words: format!("{gone}s of {whole}s"),
            }
        };
        match (self.phase, self.volume) {
            // The numbers themselves stand among the other words.
            (Phase::Ramp, _) => Bar::of(sums.open, self.asked),
            (Phase::Warmup, _) => {
                let begun = from.and_then(|from| from.checked_sub(self.warmup));
                timed(begun, self.warmup)
            }
            (Phase::Measure, Volume::For(duration)) => timed(from, duration),
            (Phase::Measure, Volume::Messages(all)) => Bar::of(sums.measured, all.get()),
            (Phase::Finish | Phase::Over, _) => Bar::default(),
        }
    }

    /// What there is to say, the most important first; the words are the report's.
    fn parts(&self, sums: &Progress, speed: Option<Speed>) -> Vec<String> {
        let tell = |rate: fn(Speed) -> f64| {
            speed.map_or_else(
                || "-".to_owned(),
                |speed| Count(rate(speed).round() as u64).to_string(),
            )
        };
        let mut parts = Vec::new();
        if self.phase == Phase::Ramp {
            let (open, asked) = (Count(sums.open), Count(self.asked));
            parts.push(format!("{open} of {asked} open"));
        } else {
            parts.push(format!("{} open", Count(sums.open)));
        }
        // Open is a connection that was answered.
        let ledger = &sums.connections;
        let answered = ledger.lost + ledger.closed + sums.open;
        let silent = ledger.established.saturating_sub(answered);
        if silent > 0 {
            let silent = Count(silent);
            parts.push(format!("{silent} connected, waiting for the first echo"));
        }
        parts.extend(trouble(sums));
        if self.phase == Phase::Ramp {
            parts.push(format!("{}/s", tell(|speed| speed.established)));
        } else {
            if let Volume::Messages(all) = self.volume {
                let (done, all) = (Count(sums.measured), Count(all.get()));
                parts.push(format!("{done} of {all} answered"));
            }
            let late = |p| percentile(&sums.response, p).map_or_else(|| "-".to_owned(), short);
            parts.push(format!("{} answers/s", tell(|speed| speed.echoed)));
            parts.push(format!("p50 {}", late(50.0)));
            parts.push(format!("p99 {}", late(99.0)));
        }
        parts.push(format!("cpu {}%", tell(|speed| speed.cpu * 100.0)));
        parts
    }
}

impl Drop for Live {
    /// Takes the view down, for the report to take its place.
    fn drop(&mut self) {
        if self.place == Place::Terminal {
            self.stderr.show("");
        }
        if !self.stderr.settle(PATIENCE) {
            log::debug!("standard error takes nothing: nobody waits for it");
        }
    }
}

/// How far a phase is.
#[derive(Clone, Debug, Default)]
struct Bar {
    /// So many of so many.
    share: Option<(u64, u64)>,
    /// The same in words; empty where they stand elsewhere in the line.
    words: String,
}

impl Bar {
    fn of(done: u64, all: u64) -> Bar {
        Bar {
            share: Some((done, all)),
            words: String::new(),
        }
    }
}

/// What went wrong; nothing where nothing did.
fn trouble(sums: &Progress) -> impl Iterator<Item = String> {
    let c = &sums.connections;
    let named = c.lost + c.refused + c.timed_out + c.failed;
    // Each of those has its name among the errors too.
    let others = sums.errors.saturating_sub(named);
    let all = [
        (c.lost, "lost"),
        (c.refused, "refused"),
        (c.timed_out, "timed out"),
        (c.failed, "failed"),
        (others, if named > 0 { "other errors" } else { "errors" }),
    ];
    all.into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", Count(count)))
}

/// A line that fits into a terminal of `width`: without the bar where there is no room for it and
/// all words, and then without the last words.
fn fit(phase: &str, bar: &Bar, parts: &[String], width: usize) -> String {
    // The last column stays free: some terminals wrap when it's written.
    let room = width.saturating_sub(1);
    let mut head = format!("{phase:>8}");
    let words = [&bar.words[..], &parts.join(", ")].join("  ").len();
    if let Some((done, all)) = bar.share
        && head.len() + BAR_WIDTH as usize + 5 + words <= room
    {
        let full = u128::from(done.min(all)) * u128::from(BAR_WIDTH) / u128::from(all.max(1));
        let full = full as usize;
        // Writing to a string does not fail.
        let _ = write!(head, " [{:-<1$}]", "#".repeat(full), BAR_WIDTH as usize);
    }
    for piece in [&bar.words].into_iter().chain(parts.first()) {
        if !piece.is_empty() {
            head.push_str("  ");
            head.push_str(piece);
        }
    }
    for part in parts.iter().skip(1) {
        if head.len() + 2 + part.len() > room {
            break;
        }
        head.push_str(", ");
        head.push_str(part);
    }
    // All of it is ASCII; what is narrower than the first words is narrow indeed.
    head.truncate(room);
    head
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Ramp => "ramp",
        Phase::Warmup => "warm-up",
        Phase::Measure => "measure",
        Phase::Finish | Phase::Over => "finish",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_long_as_the_terminal_is_wide_at_most_and_ends_with_a_whole_word() {
        let parts = ["100 open", "84,925 answers/s", "p50 567us", "cpu 40%"].map(str::to_owned);
        let bar = Bar {
            share: Some((3, 10)),
            words: "3s of 10s".to_owned(),
        };
        let whole = " measure [######--------------]  3s of 10s  100 open, 84,925 answers/s, p50 567us, cpu 40%";
        assert_eq!(fit("measure", &bar, &parts, 100), whole);
        assert_eq!(fit("measure", &bar, &parts, whole.len() + 1), whole);
        let bare = " measure  3s of 10s  100 open, 84,925 answers/s, p50 567us, cpu 40%";
        assert_eq!(fit("measure", &bar, &parts, whole.len()), bare);
        for width in 0..120 {
            let line = fit("measure", &bar, &parts, width);
            assert!(line.len() < width.max(1), "{line}");
            let cut = ["open", "/s", "567us", "%"].iter();
            assert!(
                width < 40 || cut.clone().any(|end| line.ends_with(end)),
                "{line}"
            );
        }
        for done in [0, 20, 30] {
            let bar = Bar::of(done, 20);
            let hashes = fit("ramp", &bar, &parts, 100).matches('#').count() as u64;
            assert_eq!(hashes, done.min(20));
        }
    }

    #[test]
    fn a_line_is_drawn_anew_only_on_a_terminal_that_can_erase_it() {
        let place = |is_terminal, term: Option<&str>| {
            Place::of(Verbosity::Normal, is_terminal, term.map(OsString::from))
        };
        assert_eq!(place(true, Some("xterm-256color")), Place::Terminal);
        for term in [Some("dumb"), Some(""), None] {
            assert_eq!(place(true, term), Place::Lines, "{term:?}");
        }
        assert_eq!(place(false, Some("xterm")), Place::Lines);
        let quiet = Place::of(Verbosity::Quiet, true, Some("xterm".into()));
        assert_eq!(quiet, Place::Nowhere);
    }

    #[test]
    fn what_went_wrong_has_the_words_of_the_report_and_counts_nothing_twice() {
        let mut sums = Progress::none();
        assert_eq!(trouble(&sums).count(), 0);
        sums.errors = 7;
        assert_eq!(trouble(&sums).collect::<Vec<_>>(), ["7 errors"]);
        sums.connections.lost = 4;
        sums.connections.refused = 1;
        let told: Vec<String> = trouble(&sums).collect();
        assert_eq!(told, ["4 lost", "1 refused", "2 other errors"]);
    }
}
