//! Hears SIGINT and SIGTERM, in a thread of its own: it outlives all generators, and what they do,
//! or the lead, keeps nobody waiting who wants a load to end.

use std::io;
use std::sync::mpsc::Sender;

use oread::{
    Accepted, Connection, Context, Handle, Handler, Interest, Reactor, Readiness, SourceId,
};

use crate::failure::{Failure, Reason};
use crate::load::generator::protocol::{Command, Event};
use crate::system::signals::Signals;
use crate::system::threads::ReactorThread;

/// Hears `signals` from now on, until what it gives is dropped: the first one stops all
/// `generators`, and is told to the lead.
///
/// # Errors
/// Exit code 1: no descriptor or no thread can be had.
pub(crate) fn hear(
    mut signals: Signals,
    generators: Vec<Handle<Command>>,
    lead: Sender<Event>,
) -> Result<ReactorThread<()>, Failure> {
    let failed = |error: io::Error| {
        let reason = Reason(&error);
        Failure::runtime(format!("signals can't be heard: {reason}"))
    };
    let mut reactor = Reactor::new().map_err(failed)?;
    let mut context = reactor.context();
    let registered = context.register(signals.source(), Interest::READABLE);
    registered.map_err(failed)?;
    let hearer = Hearer {
        signals,
        generators,
        lead,
    };
    ReactorThread::start("signals", reactor, hearer, || false)
}

/// The thread's part.
#[derive(Debug)]
struct Hearer {
    signals: Signals,
    generators: Vec<Handle<Command>>,
    lead: Sender<Event>,
}

impl Handler for Hearer {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        None
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_ready(&mut self, _: &mut Context<'_, ()>, _: SourceId, _: Readiness) {
        let Some(signal) = self.signals.pending() else {
            return;
        };
        // The lead first: no generator shall have ended before it knows why.
        if self.lead.send(Event::Signal(signal.number())).is_err() {
            log::debug!("the lead is gone");
        }
        for generator in &self.generators {
            if let Err(error) = generator.send(Command::Stop) {
                // It has ended already.
                log::debug!("a generator could not be stopped: {error}");
            }
        }
    }
}
