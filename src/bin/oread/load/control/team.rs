//! The generators' threads, as the lead has them.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use oread::Handle;

use crate::failure::{Failure, Reason};
use crate::load::clock::Epoch;
use crate::load::control::interrupt::Interrupt;
use crate::load::count::Tally;
use crate::load::generator::line::Line;
use crate::load::generator::payload::Payload;
use crate::load::generator::protocol::{Command, Ended, Event};
use crate::load::generator::{self, Generating, Setup};
use crate::load::generator::{Clock, Endpoint, Gauge};
use crate::load::options::load::Load;
use crate::load::options::target::Resolved;
use crate::load::preflight::Preflight;
use crate::system::signals::Signals;

/// The generators.
#[derive(Debug)]
pub(crate) struct Team {
    pub(crate) handles: Vec<Handle<Command>>,
    pub(crate) lines: Vec<Line>,
    pub(crate) threads: Vec<JoinHandle<()>>,
    /// What the run's time counts from, and when they began in it.
    pub(crate) epoch: Epoch,
    pub(crate) begun: u64,
    /// How many connections are open.
    pub(crate) gauge: Arc<Gauge>,
    /// Who stops them at a signal, for as long as there is a team.
    _interrupt: Interrupt,
}

impl Team {
    /// Starts them all. They begin to dial at once.
    pub(crate) fn start(
        plan: &Load,
        targets: &[Resolved],
        preflight: &Preflight,
        sender: &Sender<Event>,
        signals: Signals,
    ) -> Result<Team, Failure> {
        let none = Vec::new();
        let sources = preflight.sources.iter().chain(std::iter::repeat(&none));
        let endpoints: Arc<[Endpoint]> = targets
            .iter()
            .zip(sources)
            .map(|(resolved, sources)| Endpoint {
                resolved: resolved.clone(),
                sources: sources.clone(),
            })
            .collect();
        let reactors: Vec<Generating> = (0..plan.threads.get())
            .map(|_| generator::reactor())
            .collect::<Result<_, _>>()
            .map_err(|e| Failure::runtime(format!("no poll can be had: {}", Reason(&e))))?;
        let epoch = Epoch::begin();
        let handles: Vec<Handle<Command>> = reactors.iter().map(Generating::handle).collect();
        // Before the generators: from here on Ctrl-C ends them.
        let interrupt = Interrupt::start(signals, handles.clone(), sender.clone())?;
        let mut team = Team {
            handles,
            lines: reactors.iter().map(|_| Line::new(sender)).collect(),
            threads: Vec::new(),
            epoch,
            begun: epoch.now(),
            gauge: Arc::default(),
            _interrupt: interrupt,
        };
        let shared = Arc::new(plan.clone());
        // Each run has messages of its own: an answer that was kept from another one is none.
        let key = RandomState::new().hash_one(team.begun);
        let mut payload = Payload::new(&plan.content, plan.framing, plan.verify, key);
        if log::log_enabled!(log::Level::Trace) {
            payload = payload.told();
        }
        for (index, (reactor, line)) in reactors.into_iter().zip(&team.lines).enumerate() {
            let setup = Setup {
                load: Arc::clone(&shared),
                index: index as u32,
                endpoints: Arc::clone(&endpoints),
                clock: Clock::System(epoch),
                gauge: Arc::clone(&team.gauge),
                begun: team.begun,
                payload: payload.clone(),
                line: line.clone(),
            };
            team.threads.push(spawn(index, reactor, setup)?);
        }
        Ok(team)
    }

    pub(crate) fn tell(&self, command: Command) {
        for handle in &self.handles {
            if let Err(error) = handle.send(command) {
                // It has ended, and has said why.
                log::debug!("a generator did not hear {command:?}: {error}");
            }
        }
    }
}

fn spawn(index: usize, reactor: Generating, setup: Setup) -> Result<JoinHandle<()>, Failure> {
    let last_words = LastWords(Some(setup.line.clone()));
    let builder = thread::Builder::new().name(format!("generator {index}"));
    builder
        .spawn(move || {
            let mut last_words = last_words;
            let ended = generator::run(reactor, setup);
            if let Some(line) = last_words.0.take() {
                line.end(ended);
            }
        })
        .map_err(|e| Failure::no_thread(&e))
}

/// Tells the lead that a generator is gone, even if it panicked.
struct LastWords(Option<Line>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.end(Ended {
                tally: Tally::new(),
                failure: Some("a generator panicked".to_owned()),
            });
        }
    }
}
