//! How a load goes, while it does: on a terminal a bar for the ramp and then a line that is drawn anew, elsewhere a plain
//! line a second. It goes to standard error, so that standard output has the report alone.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::gate::percentile;
use super::plan::{Load, Volume};
use super::protocol::{Phase, Progress};
use super::rates::Speed;
use super::report::short;
use crate::cli::check::Verbosity;
use crate::cli::units::Count;

/// The view.
#[derive(Debug)]
pub(crate) struct Live {
    /// `None` where standard error is no terminal.
    bar: Option<ProgressBar>,
    /// Whether lines are printed, where there is no bar.
    lines: bool,
    asked: u64,
    volume: Volume,
    started: Instant,
    /// When the phase that shows began.
    phase: Phase,
    phase_at: Instant,
}

impl Live {
    /// A view of a load that is about to begin.
    pub(crate) fn new(plan: &Load) -> Live {
        let quiet = plan.verbosity == Verbosity::Quiet;
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(
                Some(plan.connections.get().into()),
                ProgressDrawTarget::stderr(),
            );
            bar.set_style(style("{prefix:>8} [{bar:30}] {pos} of {len}  {msg}"));
            bar.set_prefix("ramp");
            bar
        });
        let now = Instant::now();
        Live {
            lines: !quiet && bar.is_none(),
            bar,
            asked: plan.connections.get().into(),
            volume: plan.volume,
            started: now,
            phase: Phase::Ramp,
            phase_at: now,
        }
    }

    /// Shows how all threads go together; about once a second. `speed`: what they do, if they have told it.
    pub(crate) fn progress(&mut self, merged: &Progress, speed: Option<Speed>) {
        if merged.phase > self.phase {
            self.enter(merged.phase);
        }
        let text = self.words(merged, speed);
        if let Some(bar) = &self.bar {
            bar.set_position(match self.phase {
                Phase::Ramp => merged.open,
                _ => self.phase_at.elapsed().as_secs(),
            });
            bar.set_message(text);
        } else if self.lines {
            // A standard error that is gone takes no part of the load with it.
            let _ = writeln!(
                std::io::stderr(),
                "{:>5}s {:>8}  {text}",
                self.started.elapsed().as_secs(),
                name(self.phase)
            );
        }
    }

    /// Takes the view down, for the report to take its place.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_at = Instant::now();
        if let Some(bar) = &self.bar {
            bar.set_prefix(name(phase));
            let style = match (phase, self.volume) {
                (Phase::Measure, Volume::For(duration)) => {
                    bar.set_length(duration.as_secs().max(1));
                    style("{prefix:>8} [{bar:30}] {pos}s of {len}s  {msg}")
                }
                _ => style("{prefix:>8} {spinner} {msg}"),
            };
            bar.set_position(0);
            bar.set_style(style);
        }
    }

    fn words(&self, sums: &Progress, speed: Option<Speed>) -> String {
        let tell = |rate: fn(Speed) -> f64| {
            speed.map_or_else(
                || "-".to_owned(),
                |speed| Count(rate(speed).round() as u64).to_string(),
            )
        };
        let cpu = tell(|speed| speed.cpu * 100.0);
        let open = if self.phase == Phase::Ramp && self.bar.is_none() {
            format!("{} of {} open", Count(sums.open), Count(self.asked))
        } else {
            format!("{} open", Count(sums.open))
        };
        let late = |p| percentile(&sums.response, p).map_or_else(|| "-".to_owned(), short);
        let traffic = if self.phase == Phase::Ramp {
            format!("{}/s", tell(|speed| speed.established))
        } else {
            format!(
                "{} answers/s, p50 {}, p99 {}",
                tell(|speed| speed.echoed),
                late(50.0),
                late(99.0)
            )
        };
        format!(
            "{open}, {} failed, {} errors, {traffic}, cpu {cpu}%",
            Count(sums.failed),
            Count(sums.errors)
        )
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Ramp => "ramp",
        Phase::Warmup => "warm-up",
        Phase::Measure => "measure",
        Phase::Finish => "finish",
    }
}

/// A style of ours; the templates are constants, and one that is wrong shows as the default.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
