//! What a turn does after its events: queued work, timers, messages, ends.

use std::time::Instant;

use crate::clock::Clock;
use crate::context::{Core, Drain, Room, Slot};
use crate::error::CloseReason;
use crate::handle::Mail;
use crate::handler::Handler;
use crate::link::{Flags, Phase, trace};
use crate::table::vacant;
use crate::timers::Alarm;
use crate::token::{ConnectionId, Kind, UdpId};

use super::dispatch::lent;
use super::{Ended, Reactor};

impl<H: Handler> Reactor<H> {
    /// Goes on with the first `count` of the ready queue, those who were in it before this turn's
    /// events, until the turn's bytes are spent: the others go on in the next turn, in front of all
    /// who come later.
    pub(super) fn serve_ready(&mut self, handler: &mut H, count: usize) {
        // Who waits here must not go without for those who were heard from in this turn.
        self.core.shared.refill();
        for _ in 0..count {
            if self.core.shared.is_turn_spent() {
                return;
            }
            let Some((kind, key)) = self.core.ready.pop_front() else {
                return;
            };
            match kind {
                Kind::Connection => {
                    if let Some(slot) = self.core.slots.get_mut(key) {
                        slot.link.untag(Flags::QUEUED);
                        self.drive(handler, key.index);
                    }
                }
                Kind::Listener => {
                    if let Some(slot) = self.core.listeners.get_mut(key) {
                        slot.queued = false;
                    }
                    self.accept(handler, key, self.core.shared.limits.accept_budget);
                }
                Kind::Udp => self.receive(handler, key, 0),
                Kind::Source | Kind::Mailbox => {}
            }
        }
    }

    /// Drives the connections that somebody else has written to or changed. Who is touched
    /// meanwhile is queued work.
    pub(super) fn flush_dirty(&mut self, handler: &mut H) {
        let mut dirty = std::mem::take(&mut self.core.dirty);
        for key in dirty.drain(..) {
            if let Some(slot) = self.core.slots.get_mut(key) {
                slot.link.untag(Flags::DIRTY);
                self.drive(handler, key.index);
            }
        }
        if self.core.dirty.is_empty() {
            self.core.dirty = dirty;
        }
    }

    /// Calls for all deadlines and timers that have come by `clock`. One that is set anew for now
    /// comes in the next turn.
    pub(super) fn fire_timers(&mut self, handler: &mut H, clock: &Clock) {
        while let Some((alarm, due)) = self.core.timers.expire(clock) {
            let late = self.core.clock.now().saturating_duration_since(due);
            self.core.shared.stats.note_timer(late);
            match alarm {
                Alarm::Handler(key, owner) => {
                    trace!(self.core.shared, "timer {key} fires, {late:?} late");
                    handler.on_timer(&mut self.lend_about(owner), key);
                }
                Alarm::Listeners => {
                    self.core.retry = None;
                    self.resume_listeners();
                }
                Alarm::Room(key) => self.tell_writable(handler, key, Room::Timed),
                Alarm::Drain => self.cut(),
            }
        }
        // What callbacks have begun by now, those of timers too, may be what a connection waits
        // for.
        self.flush_dirty(handler);
        while let Some((index, reason)) = self.core.next_overdue(clock) {
            let Core { slots, shared, .. } = &mut self.core;
            shared.driven = slots.key(index);
            trace!(shared, "{:?} is late: {reason}", shared.driven);
            let link = &mut slots[index].link;
            if reason == CloseReason::IdleTimeout && link.phase() == Phase::Open {
                self.close_idle(handler, index);
            } else {
                link.sever(shared, reason);
            }
            self.drive(handler, index);
        }
    }

    /// Closes a connection that is idle, after the handler's last words. They go out when it's
    /// driven next.
    fn close_idle(&mut self, handler: &mut H, index: u32) {
        let (core, reason) = (&mut self.core, CloseReason::IdleTimeout);
        if core.slots[index].link.takes_output() {
            core.enter(index);
            core.slots[index].link.tag(Flags::PARTING);
            handler.on_closing(&mut lent(core, &mut self.sessions, index), reason);
            core.leave();
        }
        core.slots[index].link.close(&mut core.shared, reason);
    }

    /// Takes what other threads have posted, within `budget`, and no further than a stop.
    #[inline(never)]
    pub(super) fn read_mail(&mut self, handler: &mut H, mut budget: usize) {
        if !std::mem::take(&mut self.mail) {
            return;
        }
        self.mailbox.heard();
        while budget > 0 {
            let count = self.mailbox.fetch(budget);
            if count == 0 {
                return;
            }
            budget -= count;
            while let Some(mail) = self.mailbox.next() {
                match mail {
                    Mail::Message(message) => self.deliver(handler, message),
                    Mail::Drain(within) => self.lend().drain(within),
                    Mail::Stop => {
                        self.lend().stop();
                        budget = 0;
                    }
                }
            }
        }
        // There may be more, of which no wake-up will tell.
        self.mail = true;
    }

    fn deliver(&mut self, handler: &mut H, message: H::Message) {
        self.core.shared.stats.messages += 1;
        trace!(self.core.shared, "a message");
        handler.on_message(&mut self.lend(), message);
    }

    /// Removes what is closed, and tells the handler. What its callbacks close comes in the next
    /// turn.
    #[inline(never)]
    pub(super) fn reap(&mut self, handler: &mut H) {
        let mut ended = std::mem::take(&mut self.core.ended);
        for key in ended.drain(..) {
            let Some(Slot { mut link, .. }) = self.core.remove(key) else {
                continue;
            };
            let session = self.sessions[key.index as usize].take();
            let session = session.unwrap_or_else(|| vacant());
            let (mut context, id) = (self.lend(), ConnectionId(key));
            let reason = link.reason().unwrap_or(CloseReason::Closed);
            // Its socket is closed before the handler hears of it.
            let opened = link.has(Flags::OPENED);
            let traffic = link.take_traffic(&mut context.core.shared);
            context.core.last_traffic = traffic.map(|traffic| (id, traffic));
            drop(link);
            if opened {
                context.core.shared.stats.open -= 1;
                context.core.shared.stats.closed.count(reason);
                handler.on_close(&mut context, id, session, reason);
            } else {
                context.core.shared.stats.connect_failed += 1;
                handler.on_connect_failed(&mut context, id, session, reason.into_connect_error());
            }
        }
        self.core.last_traffic = None;
        if self.core.ended.is_empty() {
            self.core.ended = ended;
        }
        // Who left has made room, and given descriptors back.
        self.resume_listeners();
    }

    /// Ends the pauses of all listeners, unless they would only pause again.
    fn resume_listeners(&mut self) {
        if !self.core.has_room() {
            return;
        }
        for key in self.core.listeners.keys() {
            if self.core.listeners[key.index].acceptor.resume() {
                trace!(self.core.shared, "listener {key:?} goes on");
                self.core.enqueue_listener(key);
            }
        }
    }

    /// Begins the drain that was asked for: who waits in a backlog is let in, for closing the
    /// listener would reset them, and datagrams that have arrived are shown, for closing the socket
    /// would lose them; then nothing is accepted or received any more, and every connection is to
    /// end.
    #[inline(never)]
    pub(super) fn begin_drain(&mut self, handler: &mut H, deadline: Instant) {
        self.core.drain = Drain::Going { cut: 0 };
        let spare = self.core.shared.limits.accept_budget;
        for key in self.core.listeners.keys() {
            if let Some(slot) = self.core.listeners.get_mut(key) {
                // Descriptors, or room, may be back since it paused; nobody takes callers later.
                slot.acceptor.reopen();
                // As many as it holds, for others may come meanwhile; callers that are gone already
                // cost some of the budget too.
                let budget = slot.listener.backlog().saturating_add(spare);
                self.accept(handler, key, budget);
                self.core.drop_listener(key);
            }
        }
        for key in self.core.udp.keys() {
            self.receive(handler, key, LAST_DATAGRAMS);
            self.lend().close_udp(UdpId(key));
        }
        for key in self.core.slots.keys() {
            let link = &mut self.core.slots[key.index].link;
            if link.phase() == Phase::Connecting {
                link.sever(&mut self.core.shared, CloseReason::Cut);
            } else {
                link.drain();
            }
            self.drive(handler, key.index);
        }
        let Core { timers, clock, .. } = &mut self.core;
        timers.set(clock, deadline, Alarm::Drain);
    }

    /// Cuts what is left at the drain's deadline.
    fn cut(&mut self) {
        let mut cut = 0;
        for key in self.core.slots.keys() {
            let link = &mut self.core.slots[key.index].link;
            if link.phase() != Phase::Closed {
                cut += 1;
                link.cut(&mut self.core.shared);
                self.core.end(key.index);
            }
        }
        self.core.drain = Drain::Going { cut };
    }

    /// How the run ends, if it does with this turn.
    pub(super) fn take_end(&mut self, handler: &mut H) -> Option<Ended> {
        if let Drain::Going { cut } = self.core.drain
            && self.core.slots.is_empty()
        {
            // What had been accepted is delivered: a mailbox full of it at most.
            self.mailbox.close();
            while let Some(message) = self.mailbox.next_message() {
                self.deliver(handler, message);
            }
            return Some(Ended::Drained { cut });
        }
        std::mem::take(&mut self.core.stopping).then_some(Ended::Stopped)
    }
}

/// How many datagrams a drain shows of one socket, to which more may come all the time: fifteen
/// times what the buffer holds that it has by default (Linux: 277 of up to 256 bytes).
const LAST_DATAGRAMS: u32 = 4096;
