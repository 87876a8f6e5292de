//! From an event to a callback: the way of a byte through the reactor. Listeners are in
//! `accept.rs`, UDP is in `receive.rs`.

use crate::context::{Connection, Context, Core, Room, Store};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::link::{Flags, Phase, Step, trace};
use crate::nonblocking::rarely;
use crate::readiness::Readiness;
use crate::token::{Key, Kind, Owner, SourceId};

use super::Reactor;

impl<H: Handler> Reactor<H> {
    /// Hands out the events of the last poll; how many there were.
    #[inline(never)]
    pub(super) fn dispatch(&mut self, handler: &mut H) -> usize {
        let mut count = 0;
        // The batch is taken out while it's handed out: callbacks have the reactor's whole context
        // in their hands.
        let events = std::mem::take(&mut self.events);
        let traced = self.core.shared.traced;
        for event in events.iter() {
            count += 1;
            let token = event.token();
            if traced || !event.is_plain_read() || !self.pass(handler, token) {
                rarely();
                self.dispatch_one(handler, token, event.readiness());
            }
        }
        self.events = events;
        self.core.shared.stats.events += count as u64;
        count
    }

    /// The way of most events: a quiet connection has sent something, one read takes it all, and
    /// one write answers it. It takes the same steps of the link as [`Reactor::drive`], at half the
    /// instructions. False: the event is not for this way.
    #[inline(always)]
    pub(super) fn pass(&mut self, handler: &mut H, token: usize) -> bool {
        let core = &mut self.core;
        let Some(key) = Key::of_connection(token) else {
            return false;
        };
        let (index, slot) = (key.index, core.slots.get_mut(key));
        let Some(slot) = slot.filter(|slot| slot.link.is_quiet()) else {
            return false;
        };
        slot.link.ready(Readiness::READABLE | Readiness::WRITABLE);
        let Some(count) = slot.link.take_in(&mut core.shared, &mut self.scratch) else {
            self.drive_on(handler, index);
            return true;
        };
        slot.active = core.clock.tick();
        core.enter(index);
        let data = &self.scratch[..count];
        let mut connection = lent(core, &mut self.sessions, index);
        let consumed = handler.on_data(&mut connection, data);
        core.leave();
        let link = &mut core.slots[index].link;
        link.consumed(&mut core.shared, data, consumed);
        if !link.settle(&mut core.shared) {
            self.drive_on(handler, index);
        }
        true
    }

    /// Drives a connection whose event has cost it a read already.
    #[cold]
    fn drive_on(&mut self, handler: &mut H, index: u32) {
        let core = &mut self.core;
        core.slots[index].link.charge(&core.shared);
        self.drive(handler, index);
    }

    /// Hands out one event. One for a slot's earlier tenant finds another generation there, and
    /// reaches nobody.
    #[inline(never)]
    pub(super) fn dispatch_one(&mut self, handler: &mut H, token: usize, readiness: Readiness) {
        let Some((kind, key)) = Key::from_token(token) else {
            return;
        };
        if self.core.shared.traced {
            let turn = self.core.shared.stats.turns;
            log::trace!("turn {turn}: {kind:?} {key:?}: {readiness:?}");
        }
        match kind {
            Kind::Connection => {
                let Some(slot) = self.core.slots.get_mut(key) else {
                    return;
                };
                slot.link.ready(readiness);
                // Who is in the ready queue has its turn there, and one budget a turn. Those who
                // move much go behind whoever is there already.
                let crowded = !self.core.ready.is_empty() || self.core.shared.is_turn_spent();
                if crowded && slot.link.has(Flags::BULK) {
                    self.core.enqueue(key.index);
                } else if !slot.link.has(Flags::QUEUED) {
                    self.drive(handler, key.index);
                }
            }
            Kind::Listener => {
                if let Some(slot) = self.core.listeners.get_mut(key) {
                    slot.acceptor.ready();
                    if !slot.queued {
                        self.accept(handler, key, self.core.shared.limits.accept_budget);
                    }
                }
            }
            Kind::Udp => {
                if readiness.contains(Readiness::WRITABLE) {
                    self.tell_writable(handler, key, Room::Polled);
                }
                let slot = self.core.udp.get(key);
                if slot.is_some_and(|slot| !slot.queued) {
                    self.receive(handler, key, 0);
                }
                if readiness.contains(Readiness::ERROR) && self.core.system.drops_failed_udp() {
                    self.core.repoll_udp(key);
                }
            }
            Kind::Source => {
                let id = SourceId(key);
                if let Some(owner) = self.core.sources.get(key).map(|source| source.owner) {
                    handler.on_ready(&mut self.lend_about(owner), id, readiness);
                }
            }
            Kind::Mailbox => self.mail = true,
        }
    }

    /// Drives one connection as far as it goes: its link says what is next, and the handler is
    /// called for it.
    pub(super) fn drive(&mut self, handler: &mut H, index: u32) {
        self.core.shared.driven = self.core.slots.key(index);
        if self.core.slots[index].link.phase() == Phase::Connecting && !self.establish(index) {
            return;
        }
        if self.core.slots[index].link.untag(Flags::UNGREETED) {
            self.greet(handler, index);
        }
        self.core.current = index;
        loop {
            let core = &mut self.core;
            let link = &mut core.slots[index].link;
            let step = link.next(&mut core.shared, &mut self.scratch);
            if core.shared.traced {
                step.trace(core.shared.driven);
            }
            match step {
                Step::Fresh(count) => {
                    let data = &self.scratch[..count];
                    let consumed = offer(handler, core, &mut self.sessions, index, data);
                    let link = &mut core.slots[index].link;
                    link.consumed(&mut core.shared, data, consumed);
                }
                Step::Stored(input) => {
                    let consumed = offer(handler, core, &mut self.sessions, index, input.bytes());
                    let link = &mut core.slots[index].link;
                    link.give_back(&mut core.shared, input, consumed);
                }
                Step::Eof(rest) => {
                    let mut connection = lent(core, &mut self.sessions, index);
                    handler.on_eof(&mut connection, rest.bytes());
                    let link = &mut core.slots[index].link;
                    link.give_back(&mut core.shared, rest, 0);
                }
                Step::Drained => {
                    handler.on_drained(&mut lent(core, &mut self.sessions, index));
                }
                Step::Closing => {
                    let reason = CloseReason::Drained;
                    link.tag(Flags::PARTING);
                    let mut connection = lent(core, &mut self.sessions, index);
                    handler.on_closing(&mut connection, reason);
                    core.slots[index].link.close_drained(&mut core.shared);
                }
                Step::Yield => {
                    core.shared.stats.budget_hits += 1;
                    break core.enqueue(index);
                }
                Step::Starved => break core.starve(index),
                Step::Wait => break,
                Step::Closed => break core.end(index),
            }
        }
        self.core.leave();
        if !self.core.slots[index].link.is_plain() {
            self.core.note_driven(index);
        }
    }

    /// Asks a connecting socket how its handshake went; whether there is more to do for it now.
    #[cold]
    fn establish(&mut self, index: u32) -> bool {
        let core = &mut self.core;
        let link = &mut core.slots[index].link;
        match link.stream.established() {
            Ok(false) => return false,
            Ok(true) => {
                link.connected();
                core.shared.stats.connected += 1;
                core.count_open();
                trace!(core.shared, "{:?} is open", core.shared.driven);
            }
            Err(error) => link.sever(&mut core.shared, CloseReason::failed(&error)),
        }
        true
    }

    /// Tells the handler of a connection that is there now.
    fn greet(&mut self, handler: &mut H, index: u32) {
        self.core.note_opened(index);
        self.core.enter(index);
        handler.on_open(&mut lent(&mut self.core, &mut self.sessions, index));
        self.core.leave();
    }
}

/// Shows input to the handler. Out of line, so that the handler's code is inlined in one place
/// only: the one that most input takes.
#[inline(never)]
fn offer<H: Handler>(
    handler: &mut H,
    core: &mut Core,
    sessions: &mut Store<H::Session>,
    index: u32,
    data: &[u8],
) -> usize {
    core.slots[index].active = core.clock.tick();
    handler.on_data(&mut lent(core, sessions, index), data)
}

/// A connection, as its callbacks are lent it.
#[inline(always)]
pub(super) fn lent<'a, S>(
    core: &'a mut Core,
    sessions: &'a mut Store<S>,
    index: u32,
) -> Connection<'a, S> {
    Connection::new(Context::new(core, sessions, Owner::default()), index)
}
