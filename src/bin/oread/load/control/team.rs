//! The generators' threads, as the lead has them.

use std::hash::{BuildHasher as _, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use oread::Handle;

use crate::failure::{Failure, Reason};
use crate::load::clock::Epoch;
use crate::load::control::interrupt;
use crate::load::count::Tally;
use crate::load::generator::payload::Payload;
use crate::load::generator::protocol::{Command, Ended, Event, EventSender};
use crate::load::generator::{self, Generating, Setup};
use crate::load::generator::{Clock, Endpoint, Gauge};
use crate::load::options::load::Load;
use crate::load::options::target::Resolved;
use crate::load::preflight::Preflight;
use crate::system::signals::Signals;
use crate::system::threads::{self, ReactorThread};

/// The generators.
#[derive(Debug)]
pub(crate) struct Team {
    pub(crate) handles: Vec<Handle<Command>>,
    pub(crate) senders: Vec<EventSender>,
    pub(crate) threads: Vec<JoinHandle<()>>,
    /// What the run's time counts from, and when they began in it.
    pub(crate) epoch: Epoch,
    pub(crate) begun: u64,
    /// How many connections are open.
    pub(crate) gauge: Arc<Gauge>,
    /// Stops them at a signal, for as long as there is a team.
    _signals: ReactorThread<()>,
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
        // One for each target.
        let sources = preflight.sources.iter();
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
        let signals = interrupt::hear(signals, handles.clone(), sender.clone())?;
        let mut team = Team {
            handles,
            senders: reactors.iter().map(|_| EventSender::new(sender)).collect(),
            threads: Vec::new(),
            epoch,
            begun: epoch.now(),
            gauge: Arc::default(),
            _signals: signals,
        };
        let shared = Arc::new(plan.clone());
        // Each run has messages of its own: an answer that was kept from another one is none.
        let key = RandomState::new().hash_one(team.begun);
        let payload = Payload::new(&plan.content, plan.framing, plan.verify, key);
        for (index, (reactor, events)) in reactors.into_iter().zip(&team.senders).enumerate() {
            let setup = Setup {
                load: Arc::clone(&shared),
                index: index as u32,
                endpoints: Arc::clone(&endpoints),
                clock: Clock::System(epoch),
                gauge: Arc::clone(&team.gauge),
                begun: team.begun,
                payload: payload.clone(),
                events: events.clone(),
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
    let events = setup.events.clone();
    threads::start(&format!("generator {index}"), move || {
        // The lead waits for its end: it's told even if the generator panicked.
        let ran = panic::catch_unwind(AssertUnwindSafe(|| generator::run(reactor, setup)));
        let ended = ran.unwrap_or_else(|_| Ended {
            tally: Tally::new(),
            failure: Some("a generator panicked".to_owned()),
        });
        events.send(Event::Done(Box::new(ended)));
    })
}
