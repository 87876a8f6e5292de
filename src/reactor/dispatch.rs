//! From an event to a callback: the way of a byte through the reactor. Listeners are in
//! `accept.rs`, UDP is in `receive.rs`.

use crate::context::{Connection, Context};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::link::{Flags, Phase, Step};
use crate::nonblocking::rarely;
use crate::readiness::Readiness;
use crate::token::{Key, Kind, SourceId};

use super::Reactor;

impl<H: Handler> Reactor<H> {
    /// Hands out the events of the last poll; how many there were.
    #[inline(never)]
    pub(super) fn dispatch(&mut self, handler: &mut H) -> usize {
        let mut count = 0;
        // The batch is taken out while it's handed out: callbacks have the reactor's whole context
        // in their hands.
        let events = std::mem::take(&mut self.events);
        for event in events.iter() {
            count += 1;
            let token = event.token();
            if !event.is_plain_read() || !self.pass(handler, token) {
                rarely();
                self.dispatch_one(handler, token, event.readiness());
            }
        }
        self.events = events;
        self.context.shared.stats.events += count as u64;
        count
    }

    /// The way of most events: a quiet connection has sent something, one read takes it all, and
    /// one write answers it. It takes the same steps of the link as [`Reactor::drive`], at half the
    /// instructions. False: the event is not for this way.
    #[inline(always)]
    pub(super) fn pass(&mut self, handler: &mut H, token: usize) -> bool {
        let context = &mut self.context;
        let Some(key) = Key::of_connection(token) else {
            return false;
        };
        let (index, slot) = (key.index, context.slots.get_mut(key));
        let Some(slot) = slot.filter(|slot| slot.link.is_quiet()) else {
            return false;
        };
        slot.link.ready(Readiness::READABLE | Readiness::WRITABLE);
        let Some(count) = slot.link.take_in(&mut context.shared, &mut self.scratch) else {
            self.drive_on(handler, index);
            return true;
        };
        slot.active = context.clock.tick();
        context.enter(index);
        let data = &self.scratch[..count];
        let consumed = handler.on_data(&mut Connection::new(context, index), data);
        context.leave();
        let link = &mut context.slots[index].link;
        link.consumed(&mut context.shared, data, consumed);
        if !link.settle(&mut context.shared) {
            self.drive_on(handler, index);
        }
        true
    }

    /// Drives a connection whose event has cost it a read already.
    #[cold]
    fn drive_on(&mut self, handler: &mut H, index: u32) {
        let context = &mut self.context;
        context.slots[index].link.charge(&context.shared);
        self.drive(handler, index);
    }

    /// Hands out one event. One for a slot's earlier tenant finds another generation there, and
    /// reaches nobody.
    #[inline(never)]
    pub(super) fn dispatch_one(&mut self, handler: &mut H, token: usize, readiness: Readiness) {
        let Some((kind, key)) = Key::from_token(token) else {
            return;
        };
        match kind {
            Kind::Connection => {
                let Some(slot) = self.context.slots.get_mut(key) else {
                    return;
                };
                slot.link.ready(readiness);
                // Who is in the ready queue has its turn there, and one budget a turn. Those who
                // move much go behind whoever is there already.
                let crowded = !self.context.ready.is_empty() || self.context.shared.is_turn_spent();
                if crowded && slot.link.has(Flags::BULK) {
                    self.context.enqueue(key.index);
                } else if !slot.link.has(Flags::QUEUED) {
                    self.drive(handler, key.index);
                }
            }
            Kind::Listener => {
                if let Some(slot) = self.context.listeners.get_mut(key) {
                    slot.acceptor.ready();
                    if !slot.queued {
                        self.accept(handler, key, self.context.shared.limits.accept_budget);
                    }
                }
            }
            Kind::Udp => {
                let slot = self.context.udp.get(key);
                if slot.is_some_and(|slot| !slot.queued) {
                    self.receive(handler, key);
                }
                if readiness.contains(Readiness::ERROR) {
                    self.revive(key);
                }
            }
            Kind::Source => {
                let id = SourceId(key);
                if self.context.sources.get(key).is_some() {
                    handler.on_ready(&mut self.context, id, readiness);
                }
            }
            Kind::Mailbox => self.mail = true,
        }
    }

    /// Drives one connection as far as it goes: its link says what is next, and the handler is
    /// called for it.
    pub(super) fn drive(&mut self, handler: &mut H, index: u32) {
        if self.context.slots[index].link.phase() == Phase::Connecting && !self.establish(index) {
            return;
        }
        if self.context.slots[index].link.untag(Flags::UNGREETED) {
            self.greet(handler, index);
        }
        self.context.current = index;
        loop {
            let context = &mut self.context;
            let link = &mut context.slots[index].link;
            match link.next(&mut context.shared, &mut self.scratch) {
                Step::Fresh(count) => {
                    let data = &self.scratch[..count];
                    let consumed = offer(handler, context, index, data);
                    let link = &mut context.slots[index].link;
                    link.consumed(&mut context.shared, data, consumed);
                }
                Step::Stored(input) => {
                    let consumed = offer(handler, context, index, input.bytes());
                    let link = &mut context.slots[index].link;
                    link.give_back(&mut context.shared, input, consumed);
                }
                Step::Eof(rest) => {
                    handler.on_eof(&mut Connection::new(context, index), rest.bytes());
                    let link = &mut context.slots[index].link;
                    link.give_back(&mut context.shared, rest, 0);
                }
                Step::Drained => handler.on_drained(&mut Connection::new(context, index)),
                Step::Closing => {
                    let reason = CloseReason::Drained;
                    link.tag(Flags::PARTING);
                    handler.on_closing(&mut Connection::new(context, index), reason);
                    context.slots[index].link.close_drained(&mut context.shared);
                }
                Step::Yield => {
                    context.shared.stats.budget_hits += 1;
                    break context.enqueue(index);
                }
                Step::Starved => break context.starve(index),
                Step::Wait => break,
                Step::Closed => break context.end(index),
            }
        }
        self.context.leave();
        if !self.context.slots[index].link.is_plain() {
            self.context.note_output(index);
        }
    }

    /// Asks a connecting socket how its handshake went; whether there is more to do for it now.
    #[cold]
    fn establish(&mut self, index: u32) -> bool {
        let context = &mut self.context;
        let link = &mut context.slots[index].link;
        match link.stream.established() {
            Ok(false) => return false,
            Ok(true) => {
                link.connected();
                context.shared.stats.connected += 1;
                context.count_open();
            }
            Err(error) => link.sever(&mut context.shared, CloseReason::failed(&error)),
        }
        true
    }

    /// Tells the handler of a connection that is there now.
    fn greet(&mut self, handler: &mut H, index: u32) {
        self.context.note_opened(index);
        self.context.enter(index);
        handler.on_open(&mut Connection::new(&mut self.context, index));
        self.context.leave();
    }
}

/// Shows input to the handler. Out of line, so that the handler's code is inlined in one place
/// only: the one that most input takes.
#[inline(never)]
fn offer<H: Handler>(
    handler: &mut H,
    context: &mut Context<H::Session>,
    index: u32,
    data: &[u8],
) -> usize {
    context.slots[index].active = context.clock.tick();
    handler.on_data(&mut Connection::new(context, index), data)
}
