//! The generators' threads, as the lead has them.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

use oread::Handle;

use crate::failure::{Failure, Reason};
use crate::load::clock::Epoch;
use crate::load::count::Tally;
use crate::load::generator::payload::Payload;
use crate::load::generator::protocol::{Command, Event, Setup, Slot};
use crate::load::generator::{self, Generating};
use crate::load::generator::{Clock, Endpoint, Gauge};
use crate::load::options::load::Load;
use crate::system::threads;

/// The generators.
#[derive(Debug)]
pub(crate) struct Team {
    handles: Vec<Handle<Command>>,
    /// They end with what they have counted.
    pub(crate) threads: Vec<JoinHandle<Tally>>,
    /// How each goes.
    pub(crate) slots: Vec<Slot>,
    /// What they say; nobody says anything any more when all have ended.
    pub(crate) events: Receiver<Event>,
    /// What the run's time counts from, and when they began in it.
    pub(crate) epoch: Epoch,
    pub(crate) begun: u64,
    /// How many connections are open.
    pub(crate) gauge: Arc<Gauge>,
}

impl Team {
    /// Starts them all. They begin to dial at once.
    ///
    /// # Errors
    /// Exit code 1: no descriptor or no thread can be had.
    pub(crate) fn start(plan: &Load, endpoints: Vec<Endpoint>) -> Result<Team, Failure> {
        let endpoints: Arc<[Endpoint]> = endpoints.into();
        let reactors: Vec<(Generating, _)> = (0..plan.sockets.threads.get())
            .map(|_| generator::reactor(plan.longest_answer))
            .collect::<Result<_, _>>()
            .map_err(|e| {
                Failure::runtime(format!("no poll, or no timer, can be had: {}", Reason(&e)))
            })?;
        let epoch = Epoch::begin();
        let begun = epoch.now();
        let (sender, events) = mpsc::channel();
        let mut team = Team {
            handles: reactors.iter().map(|(it, _)| it.handle()).collect(),
            threads: Vec::new(),
            slots: reactors.iter().map(|_| Slot::new(begun)).collect(),
            events,
            epoch,
            begun,
            gauge: Arc::default(),
        };
        let shared = Arc::new(plan.clone());
        let payload = Payload::of(plan, plan.seed);
        for (index, ((reactor, timer), slot)) in reactors.into_iter().zip(&team.slots).enumerate() {
            let setup = Setup {
                load: Arc::clone(&shared),
                index: plan.part(index as u32),
                endpoints: Arc::clone(&endpoints),
                clock: Clock::System(epoch),
                gauge: Arc::clone(&team.gauge),
                begun,
                payload: payload.clone(),
                events: sender.clone(),
                slot: slot.clone(),
            };
            let run = move || generator::run(reactor, timer, setup);
            let thread = threads::start(&format!("generator {index}"), run)?;
            team.threads.push(thread);
        }
        Ok(team)
    }

    pub(crate) fn tell(&self, command: Command) {
        for handle in &self.handles {
            // One that does not hear it has ended, and has said why.
            let _ = handle.send(command);
        }
    }
}
