//! Taking callers on.

use std::fmt;

use crate::acceptor::Accepted as Next;
use crate::address::Address;
use crate::context::{Drain, Sessions};
use crate::error::CloseReason;
use crate::handler::{Accepted, Handler};
use crate::link::{Phase, trace};
use crate::net::{TcpStream, canonical};
use crate::token::{Key, ListenerId};

use super::Reactor;

impl<H: Handler> Reactor<H> {
    /// Accepts connections, within `budget`; when that is spent, the listener goes on in the next
    /// turn.
    pub(super) fn accept(&mut self, handler: &mut H, key: Key, mut budget: u32) {
        loop {
            let core = &mut self.core;
            let has_room = core.has_room();
            // A callback may have closed the listener.
            let Some(slot) = core.listeners.get_mut(key) else {
                return;
            };
            if slot.closing == Some(0) {
                core.drop_listener(key);
                return;
            }
            let stats = &mut core.shared.stats;
            let accept = || slot.listener.accept();
            match slot.acceptor.next(&mut budget, has_room, stats, accept) {
                Next::Caller(stream, peer) => {
                    // A v4 caller on a dual-stack listener is a v4 caller, in limits and in logs.
                    let peer = match peer {
                        Address::Ip(peer) => canonical(peer).into(),
                        unix => unix,
                    };
                    slot.closing = slot.closing.map(|left| left - 1);
                    self.admit(handler, stream, peer, ListenerId(key));
                }
                Next::Wait => {
                    if slot.closing.is_some() && slot.acceptor.has_emptied() {
                        core.drop_listener(key);
                    }
                    return;
                }
                // A listener that is about to be closed lets in whom it can, and comes
                // back for nobody.
                _ if core.drain != Drain::No => return,
                Next::Yield => {
                    stats.budget_hits += 1;
                    return core.enqueue_listener(key);
                }
                Next::Full => {
                    stats.limit_pauses += 1;
                    trace!(core.shared, "listener {key:?} pauses: no room for more");
                    return;
                }
                Next::Starved(wait, error) => {
                    stats.accept_pauses += 1;
                    trace!(core.shared, "listener {key:?} pauses: {error}");
                    self.warn_of_pause(key, &error);
                    self.core.retry_listeners(wait);
                    return;
                }
            }
        }
    }

    /// Asks the handler about a connection that is offered by `listener`, and takes it on.
    pub(super) fn admit(
        &mut self,
        handler: &mut H,
        mut stream: TcpStream,
        peer: Address,
        listener: ListenerId,
    ) {
        let Some(slot) = self.core.listeners.get(listener.0) else {
            return;
        };
        // The handler may close it meanwhile.
        let (owner, class, per_source) = (slot.owner, slot.class, slot.per_source);
        if per_source && !self.core.admits(&peer) {
            return self.warn_of_refusal(&peer, &"its source has, or made, too many");
        }
        let mut context = self.lend_about(owner);
        if !context.reserve(1) {
            self.core.shared.stats.refused += 1;
            self.warn_of_refusal(&peer, &std::io::ErrorKind::OutOfMemory);
            return;
        }
        context.core.awaited = Some(class);
        let caller = Accepted {
            stream: Some(&stream),
            ..Accepted::new(listener, peer)
        };
        let session = handler.on_accept(&mut context, &caller);
        let peer = caller.peer;
        context.core.awaited = None;
        let Some(session) = session else {
            self.core.shared.stats.refused += 1;
            trace!(self.core.shared, "{peer} is refused");
            return;
        };
        let registered = self.core.register_stream(&mut stream);
        let key = self.core.place(stream, Phase::Open, class, &peer);
        if let (true, Address::Ip(peer), Some(callers)) =
            (per_source, &peer, &mut self.core.callers)
        {
            callers.opened(key.index, peer.ip());
        }
        self.sessions.put(key.index, session);
        self.core.shared.stats.accepted += 1;
        self.core.count_open();
        if let Err(error) = registered {
            // The handler has taken it on, so it hears of its end: at once.
            self.warn_of_refusal(&peer, &error);
            let link = &mut self.core.slots[key.index].link;
            link.sever(&mut self.core.shared, CloseReason::failed(&error));
        }
        self.drive(handler, key.index);
    }

    /// A caller's source has too many; or the system takes no more registrations, or has no memory
    /// for one (epoll_ctl(2): ENOSPC, ENOMEM). As often as somebody calls.
    #[cold]
    fn warn_of_refusal(&mut self, peer: &Address, why: &dyn fmt::Display) {
        trace!(self.core.shared, "{peer} is refused: {why}");
        if let Some(suppressed) = self.accept_warnings.permit(self.core.clock.elapsed_ms()) {
            log::warn!("refused {peer}: {why}{suppressed}");
        }
    }

    #[cold]
    fn warn_of_pause(&mut self, key: Key, error: &std::io::Error) {
        if let Some(suppressed) = self.accept_warnings.permit(self.core.clock.elapsed_ms()) {
            let address = self.lend().listener_addr(ListenerId(key));
            let address = address.map_or_else(|| "a listener".to_owned(), |a| a.to_string());
            let open = self.core.slots.len();
            // EMFILE is this process's own limit; what else there is to run out of is the
            // machine's.
            let tip = match error.raw_os_error() == Some(nix::errno::Errno::EMFILE as i32) {
                true => "; raise the limit with `ulimit -n`, or allow fewer connections",
                false => "",
            };
            log::warn!(
                "{address} can't accept for now: {error}; {open} connections are open, callers wait{tip}{suppressed}"
            );
        }
    }
}
