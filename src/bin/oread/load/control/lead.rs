//! The lead: the main thread, which starts the generators, says when a phase begins, shows how it
//! goes, hears signals, notices when the process stood still, and adds up.

use std::io::Write as _;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, SystemTime};

use crate::failure::Failure;
use crate::load::clock::{NEVER, after, until};
use crate::load::control::counters::Counters;
use crate::load::control::hiccups::{self, STEP};
use crate::load::control::live::Live;
use crate::load::control::own_server::OwnServer;
use crate::load::control::team::Team;
use crate::load::count::Tally;
use crate::load::generator::protocol::{Command, Event};
use crate::load::options::load::{Load, Volume};
use crate::load::preflight;
use crate::load::report::outcome::{Ending, Outcome};
use crate::system::metrics::{Metrics, url};
use crate::system::signals::Signals;
use crate::system::stderr::Stderr;
use crate::values::target::{self, Resolved};
use crate::values::units::Count;

/// How often the live view is drawn.
const DRAW: Duration = Duration::from_secs(1);
/// How much later than the generators tell how they go: what is drawn shall be no older.
const BEHIND: Duration = Duration::from_millis(100);
/// From the word to the start: all threads shall have heard it.
const AHEAD: Duration = Duration::from_millis(10);

/// Runs a load, from the preflight to the last count; what it came to.
///
/// # Errors
/// What kept it from starting.
pub(crate) fn run(whole: &Load, stderr: &Stderr) -> Result<Outcome, Failure> {
    // What this process does of it is what it's held against; the generators know the whole.
    let plan = &whole.own()?;
    let own_server = match plan.targets.is_empty() {
        true => Some(OwnServer::start()?),
        false => None,
    };
    let resolved = match &own_server {
        None => target::resolve(&plan.targets)?,
        Some(server) => vec![Resolved::tcp(server.address)],
    };
    let preflight = preflight::check(plan, &resolved)?;
    let targets = resolved.iter().map(Resolved::to_string).collect();
    let outcome = Outcome::not_begun(plan, targets, preflight.shortfalls());
    if !outcome.shortfalls.is_empty() {
        tell_shortfalls(plan, &outcome.shortfalls, stderr.clone());
        if !plan.sockets.force {
            return Ok(outcome);
        }
    }
    // Not before: until there is something to report, a signal ends the program as it ends any
    // other.
    let signals = Signals::install()?;
    let metrics = plan
        .output
        .metrics
        .as_ref()
        .map(Metrics::bind)
        .transpose()?;
    let team = Team::start(whole, preflight.endpoints)?;
    if let Some(metrics) = metrics {
        log::info!("metrics are at {}", url(metrics.address));
        let slots = team.slots.clone();
        metrics.start(Counters { slots })?;
    }
    let mut lead = Lead {
        plan,
        signals,
        own_server,
        live: Live::new(plan, stderr.clone(), &team),
        ramped: 0,
        ramp: None,
        measured: [NEVER; 2],
        outcome: Outcome {
            ending: Ending::Done,
            ..outcome
        },
        team,
    };
    lead.run();
    Ok(lead.outcome())
}

/// Says what is short, a line each.
fn tell_shortfalls(plan: &Load, shortfalls: &[String], mut stderr: Stderr) {
    let count = Count(plan.connections.get().into());
    let tip = match plan.sockets.force {
        true => "",
        false => "  (to begin all the same, add --force)\n",
    };
    let lines = shortfalls.join("\n  ");
    let text = format!("oread: {count} connections can't be reached here:\n  {lines}\n{tip}");
    // It takes everything, or counts it.
    let _ = stderr.write_all(text.as_bytes());
}

#[derive(Debug)]
struct Lead<'a> {
    plan: &'a Load,
    signals: Signals,
    own_server: Option<OwnServer>,
    live: Live<'a>,
    team: Team,
    /// How many generators have come to the end of their ramps.
    ramped: usize,
    /// How long the ramp took, when it's over.
    ramp: Option<Duration>,
    /// When the measured time begins and ends, as far as that is known.
    measured: [u64; 2],
    /// What is known of how the run goes. Of its ending a signal goes before a failure, and the
    /// first failure before others.
    outcome: Outcome,
}

impl Lead<'_> {
    /// Until all generators have ended.
    fn run(&mut self) {
        let ramp_until = after(self.team.begun, self.plan.ramp_timeout);
        let mut draw_at = after(self.team.begun, DRAW + BEHIND);
        loop {
            // The time anew: what the last round waited for, such as its own server's answer, is no
            // hiccup.
            let now = self.team.epoch.now();
            let [from, to] = self.measured;
            let coming = [after(now, STEP), ramp_until, draw_at, from, to];
            let coming = coming.into_iter().filter(|due| *due > now);
            let due = coming.min().unwrap_or(now);
            let event = self.team.events.recv_timeout(until(now, due));
            let now = self.team.epoch.now();
            // Whoever has ended the run by a signal measures nothing any more.
            if !matches!(self.outcome.ending, Ending::Interrupted(_)) {
                hiccups::woke(&mut self.outcome.stood_still, due, now);
            }
            match event {
                Ok(Event::Ramped) => self.ramped += 1,
                Ok(Event::Failed(words)) => {
                    self.failed(words);
                    self.team.tell(Command::Stop);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.hear_signal(now);
            let is_ramped = self.ramped == self.team.threads.len() || now >= ramp_until;
            if is_ramped && self.ramp.is_none() {
                self.begin(now);
            }
            self.look_at_own_server(now);
            if now >= draw_at {
                self.live.draw(now, self.measured[0]);
                while draw_at <= now {
                    draw_at = after(draw_at, DRAW);
                }
            }
        }
        let now = self.team.epoch.now();
        self.hear_signal(now);
        self.end_measured(now);
        self.look_at_own_server(now);
    }

    /// Something of the run's own has failed.
    fn failed(&mut self, words: String) {
        if self.outcome.ending == Ending::Done {
            self.outcome.ending = Ending::Failed(words);
        }
    }

    /// The first signal stops all generators; the second one would end the program.
    fn hear_signal(&mut self, now: u64) {
        if let Some(signal) = self.signals.pending() {
            self.outcome.ending = Ending::Interrupted(signal.number());
            self.ramp.get_or_insert(until(self.team.begun, now));
            self.live.take_down();
            self.end_measured(now);
            self.team.tell(Command::Stop);
        }
    }

    /// Says when traffic begins, as all connections are there or have had their time.
    fn begin(&mut self, now: u64) {
        self.ramp = Some(until(self.team.begun, now));
        let mut at = after(now, AHEAD);
        if let Some(start) = self.plan.start_at {
            match start.duration_since(SystemTime::now()) {
                Ok(ahead) => at = at.max(after(now, ahead)),
                Err(late) => self.outcome.late_start = Some(late.duration()),
            }
        }
        let from = after(at, self.plan.warmup);
        self.measured = match self.plan.volume {
            Volume::For(duration) => [from, after(from, duration)],
            Volume::Messages(_) => [from, NEVER],
        };
        self.team.tell(Command::Start(at));
    }

    /// The measured time ends now at the latest, if it has begun.
    fn end_measured(&mut self, now: u64) {
        self.measured = match self.measured {
            [from, to] if from <= now => [from, to.min(now)],
            _ => [NEVER; 2],
        };
    }

    fn look_at_own_server(&mut self, now: u64) {
        if let Some(server) = &mut self.own_server {
            server.look(now, self.measured);
        }
    }

    /// What it all came to.
    fn outcome(mut self) -> Outcome {
        let mut tally = Tally::default();
        for thread in std::mem::take(&mut self.team.threads) {
            match thread.join() {
                Ok(counted) => tally.merge(counted),
                Err(_) => self.failed("a generator panicked".to_owned()),
            }
        }
        tally.connections.peak_confirmed = self.team.gauge.peak();
        let measured = tally.threads.iter().map(|thread| thread.wall).max();
        let (clock, now) = (SystemTime::now(), self.team.epoch.now());
        let at = |moment: u64| clock.checked_sub(until(moment, now));
        let [from, _] = self.measured;
        Outcome {
            began: at(self.team.begun),
            measured_from: at(from).filter(|_| from <= now),
            ramp: self.ramp.unwrap_or(until(self.team.begun, now)),
            measured: measured.unwrap_or_default(),
            own_server: self.own_server.as_ref().and_then(OwnServer::used),
            tally,
            ..self.outcome
        }
    }
}
