//! The lead: the main thread, which starts the generators, says when a phase begins, shows how it
//! goes, and adds up.

use std::io::Write as _;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use crate::failure::Failure;
use crate::load::control::hiccups::{HiccupMeter, Window};
use crate::load::control::live::Live;
use crate::load::control::own_server::OwnServer;
use crate::load::control::rates::Rates;
use crate::load::control::team::Team;
use crate::load::count::{Tally, ThreadUse, coarse};
use crate::load::generator::protocol::{Command, Ended, Event, Progress};
use crate::load::options::load::{Load, Volume};
use crate::load::options::target::{self, Resolved, Transport};
use crate::load::preflight;
use crate::load::report::outcome::{Ending, Outcome};
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
pub(crate) enum Run {
    Finished(Box<Outcome>),
    /// The preflight says that it can't be done.
    Refused {
        targets: Vec<String>,
        shortfalls: Vec<String>,
    },
}

/// Runs a load, from the preflight to the last count.
///
/// # Errors
/// What kept it from starting.
pub(crate) fn run(plan: &Load, stderr: &Stderr) -> Result<Run, Failure> {
    let own_server = match plan.targets.is_empty() {
        true => Some(OwnServer::start()?),
        false => None,
    };
    let targets = match &own_server {
        None => target::resolve(&plan.targets)?,
        Some(server) => vec![Resolved {
            transport: Transport::Tcp,
            address: server.address.into(),
        }],
    };
    let preflight = preflight::check(plan, &targets)?;
    let names = targets.iter().map(Resolved::to_string).collect();
    let shortfalls = preflight.shortfalls();
    if !shortfalls.is_empty() {
        tell_shortfalls(plan, &shortfalls, stderr.clone());
        if !plan.force {
            return Ok(Run::Refused {
                targets: names,
                shortfalls,
            });
        }
    }
    // Not before: until there is something to report, a signal ends the program as it ends any
    // other.
    let signals = Signals::install()?;
    let (sender, events) = mpsc::channel();
    let hiccups = HiccupMeter::start()?;
    let team = Team::start(plan, &targets, &preflight, &sender, signals)?;
    drop(sender);
    let mut lead = Lead {
        plan,
        own_server,
        own_server_cpu: [None; 2],
        events,
        live: Live::new(plan, stderr.clone()),
        latest: vec![None; team.handles.len()],
        rates: Rates::new(team.handles.len(), team.begun),
        heard: Heard::default(),
        began: Instant::now(),
        ramp: None,
        measured: Window::default(),
        hiccups,
        team,
    };
    lead.run();
    Ok(Run::Finished(Box::new(lead.outcome(names, shortfalls))))
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

/// What the generators have said.
#[derive(Debug, Default)]
struct Heard {
    ramped: usize,
    ended: usize,
    signal: Option<i32>,
    /// Why the first generator failed, if one did.
    failure: Option<String>,
    tally: Option<Tally>,
}

impl Heard {
    /// A generator ended. One that failed has counted until then.
    fn end(&mut self, ended: Ended) {
        self.ended += 1;
        match &mut self.tally {
            Some(all) => all.merge(&ended.tally),
            None => self.tally = Some(ended.tally),
        }
        self.failure = self.failure.take().or(ended.failure);
    }
}

#[derive(Debug)]
struct Lead<'a> {
    plan: &'a Load,
    own_server: Option<OwnServer>,
    /// The processor time that the own server had used when the measured time began and ended, and
    /// when it was asked.
    own_server_cpu: [Option<(Instant, Duration)>; 2],
    events: Receiver<Event>,
    live: Live,
    team: Team,
    latest: Vec<Option<Box<Progress>>>,
    rates: Rates,
    heard: Heard,
    began: Instant,
    /// How long the ramp took, when it's over.
    ramp: Option<Duration>,
    /// The measured time, as far as it is known before.
    measured: Window,
    hiccups: HiccupMeter,
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
        self.end_measured();
    }

    /// How long there is nothing to do.
    fn wait(&self, draw_at: Instant) -> Duration {
        let ramp = match self.ramp {
            None => self.began.checked_add(self.plan.ramp_timeout),
            Some(_) => None,
        };
        let due = self.own_server_due().chain(ramp).min();
        let draw = self.draws_from(draw_at);
        let next = due.map_or(draw, |due| due.min(draw));
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
            self.live.progress(&merged, speed, self.measured.from);
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Ramped => self.heard.ramped += 1,
            Event::Signal(number) => {
                self.heard.signal = Some(number);
                self.ramp.get_or_insert(self.began.elapsed());
                self.live.interrupted();
                self.end_measured();
            }
            Event::Progress(mut progress) => {
                let thread = progress.thread as usize;
                if let Some(sender) = self.team.senders.get(thread) {
                    sender.was_read();
                }
                if let Some(latest) = self.latest.get_mut(thread) {
                    // With the responses of those that were not drawn yet.
                    if let Some(before) = latest {
                        progress.add_responses(before);
                    }
                    *latest = Some(progress);
                }
            }
            Event::Done(ended) => {
                if ended.failure.is_some() {
                    self.team.tell(Command::Stop);
                }
                self.heard.end(*ended);
            }
        }
    }

    /// Says when traffic begins, once all connections are there or have had their time.
    fn begin_if_ramped(&mut self, now: Instant) {
        if self.ramp.is_some() || self.heard.signal.is_some() {
            return;
        }
        let took = now.saturating_duration_since(self.began);
        if self.heard.ramped < self.team.handles.len() && took < self.plan.ramp_timeout {
            return;
        }
        self.ramp = Some(took);
        let at = now + AHEAD;
        self.measured.from = at.checked_add(self.plan.warmup);
        if let Volume::For(duration) = self.plan.volume {
            let until = |from: Instant| from.checked_add(duration);
            self.measured.until = self.measured.from.and_then(until);
        }
        // A stall behind the measured time is in the answers that are waited for then.
        self.hiccups.measure(Window {
            until: None,
            ..self.measured
        });
        self.team.tell(Command::Start(self.team.epoch.of(at)));
    }

    /// The measured time ends now at the latest.
    fn end_measured(&mut self) {
        let now = Instant::now();
        self.measured.until = Some(self.measured.until.map_or(now, |until| until.min(now)));
        self.hiccups.measure(Window {
            until: Some(now),
            ..self.measured
        });
        self.look_at_own_server(now);
    }

    /// When the own server, if there is one, is asked next what it has used: at the beginning and
    /// at the end of the measured time.
    fn own_server_due(&self) -> impl Iterator<Item = Instant> {
        let due = [self.measured.from, self.measured.until];
        let due = due.into_iter().zip(self.own_server_cpu);
        let due = due.filter_map(|(due, cpu)| due.filter(|_| cpu.is_none()));
        due.filter(|_| self.own_server.is_some())
    }

    fn look_at_own_server(&mut self, now: Instant) {
        let due = [self.measured.from, self.measured.until];
        for (due, cpu) in due.into_iter().zip(&mut self.own_server_cpu) {
            if let Some(server) = &self.own_server
                && cpu.is_none()
                && due.is_some_and(|due| due <= now)
            {
                *cpu = Some((now, server.cpu().unwrap_or_default()));
            }
        }
    }

    /// What the own server used in the measured time.
    fn own_server_use(&self) -> Option<ThreadUse> {
        let [Some((from, before)), Some((until, after))] = self.own_server_cpu else {
            return None;
        };
        Some(ThreadUse {
            cpu: after.saturating_sub(before),
            waited: Duration::ZERO,
            wall: until.saturating_duration_since(from),
        })
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
    fn outcome(self, targets: Vec<String>, shortfalls: Vec<String>) -> Outcome {
        let own_server = self.own_server_use();
        drop(self.live);
        for thread in self.team.threads {
            // It has sent its last event; a panic was caught before that.
            let _ = thread.join();
        }
        let mut tally = self.heard.tally.unwrap_or_default();
        tally.connections.peak_confirmed = self.team.gauge.peak();
        let measured = tally.threads.iter().map(|thread| thread.wall).max();
        let took = self.began.elapsed();
        let ago = |time: Duration| SystemTime::now().checked_sub(time);
        let from = self.measured.from.filter(|from| *from <= Instant::now());
        Outcome {
            plan: self.plan.clone(),
            targets,
            began: ago(took).unwrap_or(SystemTime::UNIX_EPOCH),
            measured_from: from.and_then(|from| ago(from.elapsed())),
            ending: match (self.heard.signal, self.heard.failure) {
                (Some(number), _) => Ending::Interrupted(number),
                (None, Some(words)) => Ending::Failed(words),
                (None, None) => Ending::Done,
            },
            ramp: self.ramp.unwrap_or(took),
            measured: measured.unwrap_or_default(),
            own_server,
            stood_still: self.hiccups.finish(),
            shortfalls,
            tally,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_thread_has_counted_is_kept() {
        let ended = |failure: Option<&str>| {
            let mut tally = Tally::new();
            tally.messages.echoed = 3;
            Ended {
                tally,
                failure: failure.map(str::to_owned),
            }
        };
        let mut heard = Heard::default();
        for failure in [None, Some("the first"), Some("the second"), None] {
            heard.end(ended(failure));
        }
        assert_eq!(heard.ended, 4);
        assert_eq!(heard.failure.as_deref(), Some("the first"));
        assert_eq!(heard.tally.unwrap().messages.echoed, 12);
    }
}
