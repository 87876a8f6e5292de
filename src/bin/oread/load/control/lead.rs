//! The lead: the main thread, which starts the generators, says when a phase begins, prints, and
//! adds up.

use std::io::Write as _;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use crate::failure::Failure;
use crate::load::control::live::Live;
use crate::load::control::own::Own;
use crate::load::control::rates::Rates;
use crate::load::control::team::Team;
use crate::load::count::{StoodStill, Tally, ThreadUse, coarse};
use crate::load::generator::protocol::{Command, Event, Progress};
use crate::load::options::load::{Load, Volume};
use crate::load::options::target::{self, Resolved, Transport};
use crate::load::preflight;
use crate::load::report::outcome::{Ending, Outcome};
use crate::load::report::{self, Outputs};
use crate::system::signals::Signals;
use crate::system::stderr::Stderr;
use crate::values::units::Count;

/// How often the live view is drawn.
const DRAW: Duration = Duration::from_secs(1);
/// How much later than the generators tell how they go, at the least and at the most: what is drawn
/// shall be no older.
const BEHIND: Duration = Duration::from_millis(10);
const FAR_BEHIND: Duration = Duration::from_millis(500);
/// From the word to the start: all threads shall have heard it.
const AHEAD: Duration = Duration::from_millis(10);

/// What a load came to.
enum Attack {
    Begun(Box<Outcome>),
    /// The preflight says that it can't be done.
    NotBegun {
        targets: Vec<String>,
        shortfalls: Vec<String>,
    },
}

/// Runs a load; gives the exit code.
///
/// # Errors
/// What kept it from starting.
pub(crate) fn run(plan: &Load, stderr: &Stderr) -> Result<u8, Failure> {
    let outputs = Outputs::open(plan)?;
    let own = match plan.targets.is_empty() {
        true => Some(Own::start()?),
        false => None,
    };
    let outcome = attack(plan, own.as_ref(), stderr);
    if let Some(own) = own {
        own.stop();
    }
    match outcome? {
        Attack::Begun(outcome) => report::report(&outcome, outputs),
        Attack::NotBegun {
            targets,
            shortfalls,
        } => report::not_begun(plan, &targets, &shortfalls, outputs),
    }
}

/// From the preflight to the last count.
fn attack(plan: &Load, own: Option<&Own>, stderr: &Stderr) -> Result<Attack, Failure> {
    let targets = resolve(plan, own)?;
    let preflight = preflight::check(plan, &targets)?;
    let shortfalls = preflight.shortfalls();
    if !shortfalls.is_empty() {
        tell_shortfalls(plan, &shortfalls, stderr.clone());
        if !plan.force {
            return Ok(Attack::NotBegun {
                targets: targets.iter().map(Resolved::to_string).collect(),
                shortfalls,
            });
        }
    }
    // Not before: until there is something to report, a signal ends the program as it ends any
    // other.
    let signals = Signals::install()?;
    let (sender, events) = mpsc::channel();
    let team = Team::start(plan, &targets, &preflight, &sender, signals)?;
    drop(sender);
    let mut lead = Lead {
        plan,
        own,
        events,
        live: Live::new(plan, stderr.clone()),
        latest: vec![None; team.handles.len()],
        rates: Rates::new(team.handles.len(), team.begun),
        heard: Heard::default(),
        began: Instant::now(),
        clock: Clockwork::default(),
        team,
    };
    lead.run();
    Ok(Attack::Begun(Box::new(lead.outcome(&targets, shortfalls))))
}

/// Says what is short, a line each.
fn tell_shortfalls(plan: &Load, shortfalls: &[String], mut stderr: Stderr) {
    let count = Count(plan.connections.get().into());
    let mut text = format!("oread: {count} connections can't be reached here:\n");
    for shortfall in shortfalls {
        text.push_str(&format!("  {shortfall}\n"));
    }
    if !plan.force {
        text.push_str("  (to begin all the same, add --force)\n");
    }
    // It takes everything, or counts it.
    let _ = stderr.write_all(text.as_bytes());
}

/// The addresses of what is loaded.
fn resolve(plan: &Load, own: Option<&Own>) -> Result<Vec<Resolved>, Failure> {
    if let Some(own) = own {
        return Ok(vec![Resolved {
            transport: Transport::Tcp,
            address: own.address.into(),
        }]);
    }
    target::resolve(&plan.targets)
}

/// What the generators have said.
#[derive(Debug, Default)]
struct Heard {
    ramped: usize,
    ended: usize,
    signal: Option<i32>,
    failure: Option<String>,
    tally: Option<Tally>,
    /// The sum of the threads' peaks.
    peaks: u64,
}

/// What the lead does when.
#[derive(Debug, Default)]
struct Clockwork {
    /// How long the ramp took, when it's over.
    ramp: Option<Duration>,
    /// When the measured time begins and ends, as far as that is known before.
    from: Option<Instant>,
    until: Option<Instant>,
    /// What the own server had used at either time.
    own_before: Option<(Instant, Duration)>,
    own_after: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Lead<'a> {
    plan: &'a Load,
    own: Option<&'a Own>,
    events: Receiver<Event>,
    live: Live,
    team: Team,
    latest: Vec<Option<Box<Progress>>>,
    rates: Rates,
    heard: Heard,
    began: Instant,
    clock: Clockwork,
}

impl Lead<'_> {
    /// Until all generators have ended.
    fn run(&mut self) {
        let mut draw_at = self.began + DRAW + BEHIND;
        while self.heard.ended < self.team.handles.len() {
            match self.events.recv_timeout(self.wait(draw_at)) {
                Ok(event) => self.hear(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            self.begin_if_ramped(now);
            self.look_at_own_server(now);
            if now >= self.draws_from(draw_at) {
                while draw_at <= now {
                    draw_at += DRAW;
                }
                self.draw();
            }
        }
        let now = Instant::now();
        if self.clock.own_after.is_none() {
            self.clock.own_after = self.own_server(now);
        }
    }

    /// How long there is nothing to do.
    fn wait(&self, draw_at: Instant) -> Duration {
        let ramp = match self.clock.ramp {
            None => self.began.checked_add(self.plan.ramp_timeout),
            Some(_) => None,
        };
        let from = self.clock.from.filter(|_| self.clock.own_before.is_none());
        let until = self.clock.until.filter(|_| self.clock.own_after.is_none());
        let due = [ramp, from, until].into_iter().flatten();
        let draw = self.draws_from(draw_at);
        let next = due.min().map_or(draw, |due| due.min(draw));
        next.saturating_duration_since(Instant::now())
    }

    /// When what was to be drawn at `draw_at` is drawn: later, if a thread has not told yet how it
    /// goes.
    fn draws_from(&self, draw_at: Instant) -> Instant {
        let told = self.rates.told(&self.latest) + self.heard.ended;
        match told < self.team.handles.len() {
            true => draw_at + FAR_BEHIND,
            false => draw_at,
        }
    }

    fn draw(&mut self) {
        let speed = self.rates.take(&self.latest);
        if let Some(merged) = self.merged() {
            self.live.progress(&merged, speed, self.clock.from);
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Ramped => self.heard.ramped += 1,
            Event::Signal(number) => self.heard.signal = Some(number),
            Event::Progress(progress) => {
                let thread = progress.thread as usize;
                if let Some(line) = self.team.lines.get(thread) {
                    line.was_read();
                }
                if let Some(latest) = self.latest.get_mut(thread) {
                    keep(latest, progress);
                }
            }
            Event::Done(tally) => {
                self.heard.ended += 1;
                self.heard.peaks += tally.connections.peak_confirmed;
                match &mut self.heard.tally {
                    Some(all) => all.merge(&tally),
                    None => self.heard.tally = Some(*tally),
                }
            }
            Event::Failed(words) => {
                self.heard.ended += 1;
                self.heard.failure.get_or_insert(words);
                self.team.tell(Command::Stop);
            }
        }
    }

    /// Says when traffic begins, once all connections are there or have had their time.
    fn begin_if_ramped(&mut self, now: Instant) {
        if self.clock.ramp.is_some() || self.heard.signal.is_some() {
            return;
        }
        let took = now.saturating_duration_since(self.began);
        if self.heard.ramped < self.team.handles.len() && took < self.plan.ramp_timeout {
            return;
        }
        self.clock.ramp = Some(took);
        let at = now + AHEAD;
        self.clock.from = at.checked_add(self.plan.warmup);
        if let Volume::For(duration) = self.plan.volume {
            self.clock.until = self.clock.from.and_then(|from| from.checked_add(duration));
        }
        self.team.tell(Command::Start(self.team.epoch.of(at)));
    }

    /// Asks the own server at the beginning and at the end of the measured time what it has used.
    fn look_at_own_server(&mut self, now: Instant) {
        let has_come = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
        if self.clock.own_before.is_none() && has_come(self.clock.from) {
            self.clock.own_before = self.own_server(now);
        }
        if self.clock.own_after.is_none() && has_come(self.clock.until) {
            self.clock.own_after = self.own_server(now);
        }
    }

    fn own_server(&self, now: Instant) -> Option<(Instant, Duration)> {
        Some((now, self.own.and_then(Own::used).unwrap_or_default()))
    }

    /// All threads' progress as one.
    fn merged(&mut self) -> Option<Progress> {
        let mut all: Option<Progress> = None;
        for progress in self.latest.iter_mut().flatten() {
            match &mut all {
                Some(all) => all.merge(progress),
                None => all = Some((**progress).clone()),
            }
            // It's told once.
            progress.response = coarse();
        }
        all
    }

    /// What it all came to.
    fn outcome(self, targets: &[Resolved], shortfalls: Vec<String>) -> Outcome {
        drop(self.live);
        for thread in self.team.threads {
            if thread.join().is_err() {
                log::debug!("a generator panicked, and has said so");
            }
        }
        let mut tally = self.heard.tally.unwrap_or_default();
        tally.connections.peak_confirmed = self.heard.peaks;
        let own_server = match (self.clock.own_before, self.clock.own_after) {
            (Some((from, before)), Some((until, after))) if self.own.is_some() => Some(ThreadUse {
                cpu: after.saturating_sub(before),
                waited: Duration::ZERO,
                wall: until.saturating_duration_since(from),
            }),
            _ => None,
        };
        Outcome {
            plan: self.plan.clone(),
            targets: targets.iter().map(Resolved::to_string).collect(),
            began: SystemTime::now()
                .checked_sub(self.began.elapsed())
                .unwrap_or(SystemTime::UNIX_EPOCH),
            measured_from: self
                .clock
                .from
                .filter(|from| *from <= Instant::now())
                .and_then(|from| SystemTime::now().checked_sub(from.elapsed())),
            stood_still: StoodStill::default(),
            ending: match (self.heard.signal, self.heard.failure) {
                (Some(number), _) => Ending::Interrupted(number),
                (None, Some(words)) => Ending::Failed(words),
                (None, None) => Ending::Done,
            },
            ramp: self.clock.ramp.unwrap_or_else(|| self.began.elapsed()),
            measured: tally
                .threads
                .iter()
                .map(|thread| thread.wall)
                .max()
                .unwrap_or_default(),
            own_server,
            shortfalls,
            tally,
        }
    }
}

/// Keeps a thread's latest progress, with the responses of those that were not drawn yet.
fn keep(latest: &mut Option<Box<Progress>>, mut progress: Box<Progress>) {
    if let Some(before) = latest {
        progress.add_responses(before);
    }
    *latest = Some(progress);
}
