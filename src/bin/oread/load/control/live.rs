//! How a load goes, while it does: on a terminal a line that is drawn anew, elsewhere a plain line
//! a second. It goes to standard error, so that standard output has the report alone; and by the
//! thread that writes that, so that one which takes nothing stalls nobody.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use crate::load::clock::{nanos, until};
use crate::load::control::team::Team;
use crate::load::count::percentile;
use crate::load::generator::protocol::{Phase, Progress, Slot};
use crate::load::options::load::{Load, Volume};
use crate::system::page::columns;
use crate::system::stderr::Stderr;
use crate::values::units::{Count, counted, short};
use crate::values::verbosity::Verbosity;

/// How many columns a terminal has that doesn't say.
const USUAL_WIDTH: usize = 80;
/// How long the report waits for the last line to be written: it's to stand behind it, but it waits
/// for no standard error that takes nothing.
const LAST_LINE: Duration = Duration::from_millis(200);

/// Whether lines can be drawn anew there: on a terminal, but for one that can erase nothing
/// (`TERM=dumb`).
fn erases(is_terminal: bool, term: Option<OsString>) -> bool {
    is_terminal && term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// The view.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    stderr: Stderr,
    /// Whether it's one line, drawn anew, and not a line a second.
    redraws: bool,
    plan: &'a Load,
    /// When the run began.
    begun: u64,
    /// How each generator goes.
    slots: Vec<Slot>,
    /// How all went together when it was drawn last.
    before: Progress,
}

impl<'a> Live<'a> {
    /// A view of a load that has just begun.
    pub(crate) fn new(plan: &'a Load, stderr: Stderr, team: &Team) -> Live<'a> {
        let erases = erases(std::io::stderr().is_terminal(), std::env::var_os("TERM"));
        Live {
            stderr,
            redraws: erases && plan.verbosity != Verbosity::Quiet,
            plan,
            begun: team.begun,
            before: look(&team.slots),
            slots: team.slots.clone(),
        }
    }

    /// Shows how all generators go together, if they have told anything since the last call.
    pub(crate) fn draw(&mut self, now: u64, measured_from: u64) {
        let sums = look(&self.slots);
        if sums.at == self.before.at || self.plan.verbosity == Verbosity::Quiet {
            return;
        }
        let progress = self.progress(&sums, now, measured_from);
        let sent_from = measured_from.saturating_sub(nanos(self.plan.warmup));
        let words = self.words(&sums, progress, until(sent_from, now));
        let line = format!("{:>8}  {words}", name(sums.phase));
        if self.redraws {
            let width = columns(std::io::stderr()).unwrap_or(USUAL_WIDTH);
            self.stderr.show(&fit(line, width));
        } else {
            let seconds = until(self.begun, now).as_secs();
            let line = format!("{seconds:>5}s {line}\n");
            // It takes everything, or counts it.
            let _ = self.stderr.write_all(line.as_bytes());
        }
        self.before = sums;
    }

    /// Takes down the line that is drawn anew, and goes on in plain lines: from now on a second
    /// signal ends the program, and would leave that where it stands.
    pub(crate) fn take_down(&mut self) {
        if std::mem::take(&mut self.redraws) {
            self.stderr.show("");
        }
    }

    /// How far it is in this phase; empty where nobody knows.
    fn progress(&self, sums: &Progress, now: u64, from: u64) -> String {
        let counted =
            |count: u64, all: u64, what: &str| format!("{} of {} {what}", Count(count), Count(all));
        let timed = |begun: u64, whole: Duration| {
            let whole = whole.as_secs().max(1);
            // To the nearest: it's told a little before the second is over, or behind it.
            let passed = until(begun, now).as_secs_f64().round() as u64;
            format!("{}s of {whole}s", passed.min(whole))
        };
        let warmup = self.plan.warmup;
        match (sums.phase, self.plan.volume) {
            (Phase::Ramp, _) => counted(sums.open, self.plan.connections_at_first(), "open"),
            (Phase::Warmup, _) => timed(from.saturating_sub(nanos(warmup)), warmup),
            (_, Volume::Messages(all)) => counted(sums.measured, all.get(), "answered"),
            (Phase::Measure, Volume::For(duration)) => timed(from, duration),
            (Phase::Finish | Phase::Over, _) => Default::default(),
        }
    }

    /// What there is to say, the most important first; the words are the report's.
    fn words(&self, sums: &Progress, progress: String, sending: Duration) -> String {
        let before = &self.before;
        // The time that one thread has told of, of all that still run.
        let threads = f64::from(sums.running.max(1));
        let mut passed = sums.at.saturating_sub(before.at).as_secs_f64() / threads;
        if before.phase == Phase::Ramp && sums.phase != Phase::Ramp {
            // What was opened in the first part of it is in none of the answers.
            passed = passed.min(sending.as_secs_f64()).max(0.001);
        }
        let a_second = |amount: f64| Count((amount / passed).round() as u64);
        let mut parts = vec![progress];
        if sums.phase == Phase::Ramp {
            let established = sums.connections.established - before.connections.established;
            parts.extend([others(sums), format!("{}/s", a_second(established as f64))]);
        } else {
            let echoed = sums.echoed.saturating_sub(before.echoed);
            let mut recent = sums.response.clone();
            // What had been told is among what is told now: nothing can be too much.
            if let Err(error) = recent.subtract(&before.response) {
                log::error!("a histogram could not be subtracted: {error}");
            }
            let late = |p| percentile(&recent, p).map_or_else(|| "-".to_owned(), short);
            parts.extend([
                format!("{} open", Count(sums.open)),
                others(sums),
                format!("{} answers/s", a_second(echoed as f64)),
                format!("p50 {}", late(50.0)),
                format!("p99 {}", late(99.0)),
            ]);
        }
        let cpu = sums.cpu.saturating_sub(before.cpu).as_secs_f64();
        parts.push(format!("cpu {}%", a_second(cpu * 100.0)));
        parts.retain(|words| !words.is_empty());
        parts.join(", ")
    }
}

impl Drop for Live<'_> {
    /// Takes the view down, for the report to take its place.
    fn drop(&mut self) {
        self.take_down();
        if !self.stderr.settle(LAST_LINE) {
            log::debug!("standard error takes nothing: nobody waits for it");
        }
    }
}

/// How all generators go together.
pub(crate) fn look(slots: &[Slot]) -> Progress {
    let each = slots.iter().map(Slot::look);
    each.fold(Progress::none(), |all, one| all.with(&one))
}

/// Connections that are not open yet, and what went wrong; nothing where nothing did.
fn others(sums: &Progress) -> String {
    let c = &sums.connections;
    let named = c.lost + c.refused + c.timed_out + c.failed;
    // Each of those has its name among the errors too.
    let errors = sums.errors.saturating_sub(named);
    // Open is a connection that was answered.
    let silent = c.established.saturating_sub(c.lost + c.closed + sums.open);
    counted([
        (silent, "connected, waiting for the first answer"),
        (c.lost, "lost"),
        (c.refused, "refused"),
        (c.timed_out, "timed out"),
        (c.failed, "failed"),
        (errors, if named > 0 { "other errors" } else { "errors" }),
    ])
}

/// What of a line fits into a terminal of `width`: without its last words where there is no room.
fn fit(mut line: String, width: usize) -> String {
    // The last column stays free: some terminals wrap when it's written.
    let room = width.saturating_sub(1);
    while line.len() > room {
        // What is narrower than the first words is narrow indeed. All of it is ASCII.
        line.truncate(line.rfind(", ").unwrap_or(room));
    }
    line
}

pub(crate) fn name(phase: Phase) -> &'static str {
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
        let whole = " measure  3s of 10s, 100 open, 84,925 answers/s, p50 567us, cpu 40%";
        let fit = |width| fit(whole.to_owned(), width);
        assert_eq!(fit(whole.len() + 1), whole);
        assert_eq!(fit(whole.len()), whole.strip_suffix(", cpu 40%").unwrap());
        for width in 0..120 {
            let line = fit(width);
            assert!(line.len() < width.max(1), "{line}");
            let cut = ["open", "/s", "567us", "%"].iter();
            assert!(
                width < 40 || cut.clone().any(|end| line.ends_with(end)),
                "{line}"
            );
        }
    }

    #[test]
    fn a_line_is_drawn_anew_only_on_a_terminal_that_can_erase_it() {
        let erases =
            |is_terminal, term: Option<&str>| erases(is_terminal, term.map(OsString::from));
        assert!(erases(true, Some("xterm-256color")));
        for term in [Some("dumb"), Some(""), None] {
            assert!(!erases(true, term), "{term:?}");
        }
        assert!(!erases(false, Some("xterm")));
    }

    #[test]
    fn what_went_wrong_has_the_words_of_the_report_and_counts_nothing_twice() {
        let mut sums = Progress::none();
        assert_eq!(others(&sums), "");
        sums.errors = 7;
        assert_eq!(others(&sums), "7 errors");
        sums.connections.lost = 4;
        sums.connections.refused = 1;
        assert_eq!(others(&sums), "4 lost, 1 refused, 2 other errors");
    }

    /// What threads have told that have run so long, and got so many answers.
    fn told(threads: &[(Duration, u64, Phase)]) -> Progress {
        let threads = threads.iter().map(|&(at, echoed, phase)| Progress {
            running: u32::from(phase < Phase::Over),
            at,
            phase,
            echoed,
            cpu: at / 2,
            ..Progress::none()
        });
        threads.fold(Progress::none(), |all, one| all.with(&one))
    }

    #[test]
    fn a_steady_load_is_shown_as_steady_however_late_its_threads_tell_it() {
        const MS: Duration = Duration::from_millis(1);
        let plan = Load::of("-t 2");
        let shown = |before: &[_], now: &[_]| {
            let live = Live {
                stderr: Stderr::start(std::io::sink()),
                redraws: false,
                plan: &plan,
                begun: 0,
                slots: Vec::new(),
                before: told(before),
            };
            live.words(&told(now), String::new(), Duration::from_secs(1))
        };
        // Each has 1,000 answers a second.
        let one = |ms: u32| (ms * MS, ms.into(), Phase::Measure);
        let before = [one(1_000), one(1_400)];
        for now in [[2_000, 2_000], [2_400, 1_700], [2_100, 1_400]] {
            let shown = shown(&before, &now.map(one));
            assert!(shown.contains("2,000 answers/s"), "{now:?}: {shown}");
            assert!(shown.ends_with("cpu 100%"), "{now:?}: {shown}");
        }
        // One that has ended has no part in it.
        let ended = (1_400 * MS, 1_400, Phase::Over);
        let shown = shown(&[one(1_000), ended], &[one(2_000), ended]);
        assert!(shown.contains("1,000 answers/s"), "{shown}");
    }

    #[test]
    fn where_nobody_has_told_anything_nothing_is_drawn() {
        let (plan, slot) = (Load::of("-c 2"), Slot::new(0));
        let (mut told, output) = std::io::pipe().unwrap();
        let stderr = Stderr::start(output);
        let mut live = Live {
            stderr: stderr.clone(),
            redraws: false,
            plan: &plan,
            begun: 0,
            before: slot.look(),
            slots: vec![slot.clone()],
        };
        let second = Duration::from_secs(1);
        live.draw(nanos(second), 0);
        slot.tell(|| Progress {
            at: 2 * second,
            open: 2,
            ..Progress::none()
        });
        live.draw(nanos(2 * second), 0);
        live.draw(nanos(3 * second), 0);
        drop(live);
        assert!(stderr.finish("", Duration::from_secs(60)));
        drop(stderr);
        let mut lines = String::new();
        std::io::Read::read_to_string(&mut told, &mut lines).unwrap();
        assert_eq!(
            lines,
            "    2s   finish  2 open, 0 answers/s, p50 -, p99 -, cpu 0%\n"
        );
    }
}
