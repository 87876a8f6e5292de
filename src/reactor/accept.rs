//! Taking callers on.

use crate::acceptor::Accepted as Next;
use crate::context::{Context, ListenerSlot};
use crate::handler::{Accepted, Handler};
use crate::link::Phase;
use crate::net::TcpStream;
use crate::rate::Suppressed;
use crate::token::{Key, Kind, ListenerId};

use super::Reactor;

impl<H: Handler> Reactor<H> {
    /// Accepts whoever calls, within the budget of a turn.
    pub(super) fn accept(&mut self, handler: &mut H, key: Key) {
        let mut budget = self.context.shared.limits.accept_budget;
        loop {
            let has_room = self.context.has_room();
            let Context {
                listeners, shared, ..
            } = &mut self.context;
            // A callback may have closed the listener.
            let slot = listeners.get_mut(key.index as usize);
            let Some(slot) = slot.filter(|slot| slot.generation == key.generation) else {
                return;
            };
            match slot.acceptor.next(&mut budget, has_room, &mut shared.stats) {
                Next::Caller(stream, peer) => {
                    let caller = Accepted {
                        listener: ListenerId(key),
                        peer,
                    };
                    self.admit(handler, stream, &caller);
                }
                Next::Wait => return,
                Next::Yield => {
                    shared.stats.budget_hits += 1;
                    if !std::mem::replace(&mut slot.queued, true) {
                        self.context.ready.push_back((Kind::Listener, key));
                    }
                    return;
                }
                Next::Starved(wait, error) => {
                    self.warn_of_pause(key, &error);
                    self.context.retry_listener(ListenerId(key), wait);
                    return;
                }
            }
        }
    }

    /// Asks the handler about a caller, and takes it on.
    fn admit(&mut self, handler: &mut H, stream: TcpStream, caller: &Accepted) {
        self.context.awaited = 1;
        let session = handler.on_accept(&mut self.context, caller);
        self.context.awaited = 0;
        let Some(session) = session else {
            self.context.shared.stats.refused += 1;
            return;
        };
        match self.context.insert(stream, session, Phase::Open) {
            Ok(key) => {
                self.context.shared.stats.accepted += 1;
                self.open(handler, key.index);
                self.drive(handler, key.index);
            }
            Err(refused) => {
                self.context.shared.stats.refused += 1;
                self.warn_of_refusal(caller, &refused.error);
            }
        }
    }

    /// The system takes no more registrations, or has no memory for one (epoll_ctl(2): ENOSPC, ENOMEM). Rare, and as often as
    /// somebody calls.
    #[cold]
    fn warn_of_refusal(&mut self, caller: &Accepted, error: &std::io::Error) {
        if let Some(suppressed) = self.accept_warnings.permit(self.context.clock.elapsed_ms()) {
            log::warn!(
                "refused {}, which can't be polled: {error}{}",
                caller.peer,
                Suppressed(suppressed)
            );
        }
    }

    #[cold]
    fn warn_of_pause(&mut self, key: Key, error: &std::io::Error) {
        if let Some(suppressed) = self.accept_warnings.permit(self.context.clock.elapsed_ms()) {
            let address = self.context.listener_addr(ListenerId(key));
            let address = address.map_or_else(|| "a listener".to_owned(), |a| a.to_string());
            let open = self.context.slots.len();
            // EMFILE is this process's own limit; what else there is to run out of is the machine's.
            let tip = match error.raw_os_error() == Some(nix::errno::Errno::EMFILE as i32) {
                true => "; raise the limit with `ulimit -n`, or allow fewer connections",
                false => "",
            };
            log::warn!(
                "{address} can't accept for now: {error}; {open} connections are open, callers wait{tip}{}",
                Suppressed(suppressed)
            );
        }
    }

    pub(super) fn listener(&mut self, key: Key) -> Option<&mut ListenerSlot> {
        let slot = self.context.listeners.get_mut(key.index as usize)?;
        (slot.generation == key.generation).then_some(slot)
    }
}
