//! Hears SIGINT and SIGTERM, in a thread of its own: it outlives all generators, and what they do,
//! or the lead, keeps nobody waiting who wants a load to end.

use std::fmt;
use std::io;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use oread::Interest;
use oread::{
    Accepted, Connection, Context, Ended, Handle, Handler, Limits, Reactor, Readiness, SourceId,
};

use crate::failure::{Failure, Reason};
use crate::load::generator::protocol::{Command, Event};
use crate::system::signals::Signals;

/// The thread that hears them; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Interrupt {
    handle: Handle<()>,
    thread: Option<JoinHandle<()>>,
}

impl Interrupt {
    /// Hears `signals` from now on: the first one stops all `generators`, and is told to the lead.
    ///
    /// # Errors
    /// Exit code 1: no descriptor or no thread can be had.
    pub(crate) fn start(
        mut signals: Signals,
        generators: Vec<Handle<Command>>,
        lead: Sender<Event>,
    ) -> Result<Interrupt, Failure> {
        let failed = |error: io::Error| {
            let reason = Reason(&error);
            Failure::runtime(format!("signals can't be heard: {reason}"))
        };
        let mut reactor = Reactor::with_limits(Limits::default()).map_err(failed)?;
        let mut context = reactor.context();
        let registered = context.register(signals.source(), Interest::READABLE);
        registered.map_err(failed)?;
        let handle = reactor.handle();
        let mut hearer = Hearer {
            signals,
            generators,
            lead,
        };
        let run = move || {
            if let Err(error) = reactor.run(&mut hearer).map(|_: Ended| ()) {
                log::error!("signals are heard no more: {}", Reason(&error));
            }
        };
        let builder = thread::Builder::new().name("signals".to_owned());
        let thread = builder.spawn(run).map_err(|e| Failure::no_thread(&e))?;
        Ok(Interrupt {
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.handle.stop();
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            log::error!("the thread that hears signals panicked");
        }
    }
}

/// The thread's part.
struct Hearer {
    signals: Signals,
    generators: Vec<Handle<Command>>,
    lead: Sender<Event>,
}

impl fmt::Debug for Hearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hearer").finish_non_exhaustive()
    }
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
