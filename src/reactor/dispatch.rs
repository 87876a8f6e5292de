//! From an event to a callback: the way of a byte through the reactor. Listeners are in `accept.rs`, UDP is in
//! `receive.rs`.

use crate::context::{Connection, Context, NOBODY, Slot};
use crate::error::CloseReason;
use crate::handler::Handler;
use crate::link::{Phase, Step, Tag};
use crate::nonblocking::rarely;
use crate::readiness::Readiness;
use crate::token::{Key, Kind, SourceId, UdpId};

use super::Reactor;

/// How far [`Reactor::pass`] got with an event.
#[derive(Debug)]
pub(super) enum Pass {
    /// Nothing is left to do for it.
    All,
    /// One read was made, and the connection at this index is to be driven on.
    Part(u32),
    /// It was not for that way: it's to be dispatched like any other.
    None,
}

impl<H: Handler> Reactor<H> {
    /// Hands out the events of the last poll; how many there were.
    #[inline(never)]
    pub(super) fn dispatch(&mut self, handler: &mut H) -> usize {
        let mut count = 0;
        // The batch is taken out while it's handed out: callbacks have the reactor's whole context in their hands.
        let events = std::mem::take(&mut self.events);
        for event in events.iter() {
            count += 1;
            let token = event.token();
            let pass = if event.is_plain_read() {
                self.pass(handler, token)
            } else {
                rarely();
                Pass::None
            };
            match pass {
                Pass::All => {}
                Pass::Part(index) => self.drive_on(handler, index, 1),
                Pass::None => self.dispatch_one(handler, token, event.readiness()),
            }
        }
        self.events = events;
        let stats = &mut self.context.shared.stats;
        stats.polls += 1;
        stats.events += count as u64;
        count
    }

    /// The way of most events: a quiet connection has sent something, one read takes it all, and one write answers it. It takes
    /// the same steps of the link as [`Reactor::drive`], at half the instructions.
    #[inline(always)]
    pub(super) fn pass(&mut self, handler: &mut H, token: usize) -> Pass {
        let Some(key) = Key::of_connection(token) else {
            rarely();
            return Pass::None;
        };
        let index = key.index as usize;
        let context = &mut self.context;
        let scratch = &mut self.scratch[..];
        let Some(slot) = context.slots.get_mut(index) else {
            rarely();
            return Pass::None;
        };
        if slot.generation != key.generation || !slot.link.is_quiet() {
            rarely();
            return Pass::None;
        }
        slot.link.ready(Readiness::READABLE | Readiness::WRITABLE);
        let Some(count) = slot.link.take_in(&mut context.shared, scratch) else {
            rarely();
            return Pass::Part(key.index);
        };
        slot.active = context.clock.tick();
        context.shared.begin_callback();
        context.current = key.index;
        let data = &scratch[..count];
        let consumed = handler.on_data(&mut Connection::new(context, key.index), data);
        context.current = NOBODY;
        let Some(slot) = context.slots.get_mut(index) else {
            rarely();
            return Pass::None;
        };
        slot.link.consumed(&mut context.shared, data, consumed);
        if slot.link.settle(&mut context.shared) {
            Pass::All
        } else {
            rarely();
            Pass::Part(key.index)
        }
    }

    /// Hands out one event. One for a slot's earlier tenant finds another generation there, and reaches nobody.
    #[inline(never)]
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
                if readiness.contains(Readiness::ERROR) {
                    self.revive(key);
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
        self.drive_on(handler, index, 0);
    }

    /// The same when `spent` reads and writes of the turn's budget are spent already.
    fn drive_on(&mut self, handler: &mut H, index: u32, spent: u32) {
        if self.slot(index).link.phase() == Phase::Connecting && !self.establish(handler, index) {
            return;
        }
        let was = self.slot(index).link.phase();
        let mut budget = self.context.shared.limits.io_budget - spent;
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
                    let consumed = offer(handler, context, index, data);
                    let link = &mut context.slots[index as usize].link;
                    link.consumed(&mut context.shared, data, consumed);
                }
                Step::Stored(input) => {
                    slot.active = context.clock.tick();
                    let data = input.bytes();
                    let consumed = offer(handler, context, index, data);
                    let link = &mut context.slots[index as usize].link;
                    link.give_back(&mut context.shared, input, consumed);
                }
                Step::Eof(rest) => {
                    handler.on_eof(&mut Connection::new(context, index), rest.bytes());
                    let link = &mut context.slots[index as usize].link;
                    link.give_back(&mut context.shared, rest, 0);
                }
                Step::Drained => handler.on_drained(&mut Connection::new(context, index)),
                Step::Closing(reason) => {
                    handler.on_closing(&mut Connection::new(context, index), reason);
                    let link = &mut context.slots[index as usize].link;
                    if link.is_draining() {
                        link.close(&mut context.shared, reason);
                    }
                }
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
        match slot.link.stream().established() {
            Ok(false) => false,
            Ok(true) => {
                slot.link.connected();
                let timeout = self.context.user_timeouts.remove(&index);
                if let Some(timeout) = timeout
                    && let Err(error) = slot.link.stream().set_user_timeout(Some(timeout))
                {
                    log::debug!("could not set a connection's user timeout: {error}");
                }
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
    pub(super) fn open(&mut self, handler: &mut H, index: u32) {
        self.context.count_open();
        self.context.arm_opened(index);
        self.context.current = index;
        handler.on_open(&mut Connection::new(&mut self.context, index));
        self.context.current = NOBODY;
    }

    fn slot(&mut self, index: u32) -> &mut Slot<H::Session> {
        &mut self.context.slots[index as usize]
    }
}

/// Shows input to the handler. Out of line, so that the handler's code is inlined in one place only: the one that most
/// input takes.
#[inline(never)]
fn offer<H: Handler>(
    handler: &mut H,
    context: &mut Context<H::Session>,
    index: u32,
    data: &[u8],
) -> usize {
    handler.on_data(&mut Connection::new(context, index), data)
}
