//! From an event to a callback: the way of a byte through the reactor.

use crate::acceptor::Accepted as Next;
use crate::context::{Connection, Context, Datagrams, ListenerSlot, NOBODY};
use crate::error::CloseReason;
use crate::handler::{Accepted, Handler};
use crate::link::{Phase, Step, Tag};
use crate::net::TcpStream;
use crate::nonblocking;
use crate::readiness::Readiness;
use crate::token::{Key, Kind, ListenerId, SourceId, UdpId};

use super::Reactor;

impl<H: Handler> Reactor<H> {
    /// Hands out the events of the last poll; how many there were.
    pub(super) fn dispatch(&mut self, handler: &mut H) -> usize {
        let mut count = 0;
        // The batch is taken out while it's handed out: callbacks have the reactor's whole context in their hands.
        let events = std::mem::take(&mut self.events);
        for (token, readiness) in events.iter() {
            count += 1;
            self.dispatch_one(handler, token, readiness);
        }
        self.events = events;
        let stats = &mut self.context.shared.stats;
        stats.polls += 1;
        stats.events += count as u64;
        count
    }

    /// Hands out one event. One for a slot's earlier tenant finds another generation there, and reaches nobody.
    #[inline]
    pub(super) fn dispatch_one(&mut self, handler: &mut H, token: usize, readiness: Readiness) {
        let Some((kind, key)) = Key::from_token(token) else {
            return;
        };
        match kind {
            Kind::Connection => {
                let Some(slot) = self.context.slot(key) else {
                    return;
                };
                slot.link.ready(readiness);
                // Who is in the ready queue has its turn there, and one budget a turn.
                if !slot.link.is_tagged(Tag::Queued) {
                    self.drive(handler, key.index);
                }
            }
            Kind::Listener => {
                let Some(slot) = self.listener(key) else {
                    return;
                };
                slot.acceptor.ready();
                if !slot.queued {
                    self.accept(handler, key);
                }
            }
            Kind::Udp => {
                let Some(slot) = self.context.udp_slot(UdpId(key)) else {
                    return;
                };
                if !slot.queued {
                    self.receive(handler, key);
                }
            }
            Kind::Source => {
                let id = SourceId(key);
                if self.context.known_source(id).is_ok() {
                    handler.on_ready(&mut self.context, id, readiness);
                }
            }
            Kind::Mailbox => self.mail = true,
        }
    }

    /// Drives one connection as far as it goes: its link says what is next, and the handler is called for it.
    pub(super) fn drive(&mut self, handler: &mut H, index: u32) {
        if self.slot(index).link.phase() == Phase::Connecting && !self.establish(handler, index) {
            return;
        }
        let was = self.slot(index).link.phase();
        let mut budget = self.context.shared.limits.io_budget;
        self.context.current = index;
        loop {
            let context = &mut self.context;
            let slot = &mut context.slots[index as usize];
            match slot
                .link
                .next(&mut context.shared, &mut self.scratch, &mut budget)
            {
                Step::Fresh(count) => {
                    slot.active = context.clock.tick();
                    let data = &self.scratch[..count];
                    let consumed = handler.on_data(&mut Connection::new(context, index), data);
                    let link = &mut context.slots[index as usize].link;
                    link.consumed(&mut context.shared, data, consumed);
                }
                Step::Stored(input) => {
                    slot.active = context.clock.tick();
                    let data = input.bytes();
                    let consumed = handler.on_data(&mut Connection::new(context, index), data);
                    let link = &mut context.slots[index as usize].link;
                    link.give_back(&mut context.shared, input, consumed);
                }
                Step::Eof(rest) => {
                    handler.on_eof(&mut Connection::new(context, index), rest.bytes());
                    let link = &mut context.slots[index as usize].link;
                    link.give_back(&mut context.shared, rest, 0);
                }
                Step::Drained => handler.on_drained(&mut Connection::new(context, index)),
                Step::Yield => {
                    context.shared.stats.budget_hits += 1;
                    context.enqueue(index);
                    break;
                }
                Step::Wait => break,
                Step::Closed => {
                    context.end(index);
                    break;
                }
            }
        }
        self.context.current = NOBODY;
        if !self.slot(index).link.is_plain() {
            self.watch(index, was);
        }
    }

    /// After a drive: the deadlines that a connection has when it's more than open and idle.
    #[cold]
    fn watch(&mut self, index: u32, was: Phase) {
        if self.slot(index).link.phase() == Phase::Lingering && was != Phase::Lingering {
            let timeout = self.context.shared.limits.linger_timeout;
            self.context.arm_at(index, timeout);
        } else {
            self.context.watch_output(index);
        }
    }

    /// Asks a connecting socket how its handshake went; true when it's established, and the handler knows.
    #[cold]
    fn establish(&mut self, handler: &mut H, index: u32) -> bool {
        let slot = &mut self.context.slots[index as usize];
        match crate::connector::outcome(slot.link.stream()) {
            Ok(false) => false,
            Ok(true) => {
                slot.link.connected();
                self.context.shared.stats.connected += 1;
                self.open(handler, index);
                true
            }
            Err(error) => {
                let reason = CloseReason::failed(&error);
                slot.link.sever(&mut self.context.shared, reason);
                self.context.end(index);
                false
            }
        }
    }

    /// Tells the handler of a connection that is there now. What it writes goes out when the connection is driven next.
    fn open(&mut self, handler: &mut H, index: u32) {
        self.context.count_open();
        self.context.arm_opened(index);
        self.context.current = index;
        handler.on_open(&mut Connection::new(&mut self.context, index));
        self.context.current = NOBODY;
    }

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
        let Some(session) = handler.on_accept(&mut self.context, caller) else {
            self.context.shared.stats.refused += 1;
            return;
        };
        match self.context.insert(stream, session, Phase::Open) {
            Ok(key) => {
                self.context.shared.stats.accepted += 1;
                self.open(handler, key.index);
                self.drive(handler, key.index);
            }
            Err((_, error)) => {
                self.context.shared.stats.refused += 1;
                log::warn!(
                    "could not poll a new connection from {}: {error}",
                    caller.peer
                );
            }
        }
    }

    #[cold]
    fn warn_of_pause(&mut self, key: Key, error: &std::io::Error) {
        if let Some(suppressed) = self.accept_warnings.permit(self.context.clock.elapsed_ms()) {
            let address = self.context.listener_addr(ListenerId(key));
            let address = address.map_or_else(|| "a listener".to_owned(), |a| a.to_string());
            let open = self.context.slots.len();
            log::warn!(
                "{address} can't accept for now: {error}; {open} connections are open, callers wait \
                 ({suppressed} more such pauses since the last line)"
            );
        }
    }

    /// Receives datagrams, within the budget of a turn.
    pub(super) fn receive(&mut self, handler: &mut H, key: Key) {
        let mut budget = self.context.shared.limits.datagram_budget;
        let id = UdpId(key);
        loop {
            let Context {
                udp, shared, poll, ..
            } = &mut self.context;
            // A callback may have closed the socket.
            let slot = udp.get_mut(key.index as usize);
            let Some(slot) = slot.filter(|slot| slot.generation == key.generation) else {
                return;
            };
            if budget == 0 {
                shared.stats.budget_hits += 1;
                if !std::mem::replace(&mut slot.queued, true) {
                    self.context.ready.push_back((Kind::Udp, key));
                }
                return;
            }
            budget -= 1;
            match slot.socket.recv(&mut self.scratch) {
                Ok(received) => {
                    shared.stats.datagrams_in += 1;
                    shared.stats.datagram_bytes_in += received.len as u64;
                    if received.truncated {
                        shared.stats.datagrams_truncated += 1;
                        continue;
                    }
                    let context = &mut self.context;
                    let mut datagram = Datagrams::new(context, id, received.from, received.to);
                    handler.on_datagram(&mut datagram, &self.scratch[..received.len]);
                }
                Err(error) if nonblocking::is_blocked(&error) => return,
                Err(error) if nonblocking::is_interrupted(&error) => {}
                Err(error) => {
                    // A refusal by a peer's system, most often: it concerns a datagram that was sent, not the socket.
                    shared.stats.datagram_errors += 1;
                    log::debug!("an error in place of a datagram: {error}");
                    if let Err(error) = poll.rearm_udp(&mut slot.socket, key.token(Kind::Udp)) {
                        log::warn!("could not poll a UDP socket any more: {error}");
                    }
                }
            }
        }
    }

    fn listener(&mut self, key: Key) -> Option<&mut ListenerSlot> {
        let slot = self.context.listeners.get_mut(key.index as usize)?;
        (slot.generation == key.generation).then_some(slot)
    }

    fn slot(&mut self, index: u32) -> &mut crate::context::Slot<H::Session> {
        &mut self.context.slots[index as usize]
    }
}
