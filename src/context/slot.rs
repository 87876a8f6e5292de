//! A connection's slot: its link, its session, its deadlines.

use std::time::Duration;

use slab::Slab;

use crate::clock::millis;
use crate::error::CloseReason;
use crate::link::{Link, Phase};
use crate::net::TcpStream;
use crate::timer::{Arena, Links, Tick, is_before};
use crate::token::Key;

use super::Context;

/// Everything that the reactor keeps of one connection. With a session of up to 16 bytes it's 64 bytes, and an idle
/// connection has nothing beside it.
#[derive(Debug)]
pub(crate) struct Slot<S> {
    pub(crate) link: Link<TcpStream>,
    pub(crate) session: S,
    pub(crate) generation: u32,
    /// The connection's one place in the wheel: for the earliest of its deadlines, or earlier. Activity doesn't move
    /// it; what is really due is worked out when it fires.
    links: Links,
    /// In milliseconds; 0: none.
    idle_timeout: u32,
    /// The tick of the last byte in or out.
    pub(crate) active: Tick,
}

/// What a connection whose deadline fired has run into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Nothing yet; it has been armed anew.
    Nothing,
    /// Its handshake took too long.
    Connecting,
    /// It was to be closed for this reason.
    Close(CloseReason),
    /// Its pending output has not moved, or its lingering is over: it was to be cut off.
    Sever(CloseReason),
}

impl<S> Slot<S> {
    pub(crate) fn new(
        link: Link<TcpStream>,
        session: S,
        generation: u32,
        idle_timeout: Option<Duration>,
        now: Tick,
    ) -> Slot<S> {
        let idle_timeout = idle_timeout.map_or(0, millis);
        Slot {
            link,
            session,
            generation,
            links: Links::default(),
            idle_timeout,
            active: now,
        }
    }

    pub(crate) fn key(&self, index: u32) -> Key {
        Key {
            index,
            generation: self.generation,
        }
    }
}

impl<S> Arena for Slab<Slot<S>> {
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self[index as usize].links
    }
}

impl<S> Context<S> {
    /// Has the connection's deadlines looked at at `tick`, or earlier.
    fn arm_by(&mut self, index: u32, tick: Tick) {
        let links = &self.slots[index as usize].links;
        if !links.is_armed() || is_before(tick, links.deadline()) {
            self.wheel.insert(&mut self.slots, index, tick);
        }
    }

    /// Arms a connection for the one deadline that counts in its phase: the end of its handshake or of its lingering.
    pub(crate) fn arm_at(&mut self, index: u32, after: Duration) {
        let tick = self.clock.tick_after(after);
        self.wheel.insert(&mut self.slots, index, tick);
    }

    /// Arms a connection that has just opened for its idle timeout, and for nothing else any more.
    pub(crate) fn arm_opened(&mut self, index: u32) {
        self.wheel.remove(&mut self.slots, index);
        let now = self.clock.tick();
        let slot = &mut self.slots[index as usize];
        slot.active = now;
        if slot.idle_timeout > 0 {
            let tick = now.wrapping_add(slot.idle_timeout);
            self.wheel.insert(&mut self.slots, index, tick);
        }
    }

    /// Sets a connection's own idle timeout, counted from its last byte.
    pub(crate) fn set_idle_timeout(&mut self, index: u32, timeout: Option<Duration>) {
        let slot = &mut self.slots[index as usize];
        slot.idle_timeout = timeout.map_or(0, millis);
        if slot.idle_timeout > 0 && matches!(slot.link.phase(), Phase::Open | Phase::Closing) {
            let tick = slot.active.wrapping_add(slot.idle_timeout);
            self.arm_by(index, tick);
        }
    }

    /// Takes a connection out of the wheel, because it's about to be removed.
    pub(crate) fn disarm(&mut self, index: u32) {
        self.wheel.remove(&mut self.slots, index);
    }

    /// After a connection was driven: sees to the deadline of its pending output.
    pub(crate) fn watch_output(&mut self, index: u32) {
        let now = self.clock.tick();
        let slot = &mut self.slots[index as usize];
        if !slot.link.take_moved() {
            return;
        }
        slot.active = now;
        let Some(mark) = slot.link.mark() else { return };
        *mark = now;
        if let Some(timeout) = self.shared.limits.write_timeout {
            self.arm_by(index, now.wrapping_add(millis(timeout)));
        }
    }

    /// The next connection whose deadline has come, and what it ran into.
    pub(crate) fn next_overdue(&mut self) -> Option<(u32, Overdue)> {
        if self.wheel.is_empty() {
            return None;
        }
        let index = self.wheel.expire(&mut self.slots, self.clock.tick())?;
        Some((index, self.judge(index)))
    }

    fn judge(&mut self, index: u32) -> Overdue {
        let now = self.clock.tick();
        let write_timeout = self.shared.limits.write_timeout.map(millis);
        let slot = &mut self.slots[index as usize];
        match slot.link.phase() {
            Phase::Connecting => return Overdue::Connecting,
            Phase::Lingering => return Overdue::Sever(CloseReason::Closed),
            Phase::Closed => return Overdue::Nothing,
            Phase::Open | Phase::Closing => {}
        }
        // What somebody else has written in this very turn hasn't been driven yet, and bears no mark but that of the
        // buffers' last user.
        self.watch_output(index);
        let slot = &mut self.slots[index as usize];
        let closing = slot.link.phase() == Phase::Closing;
        let idle = (slot.idle_timeout > 0).then(|| slot.active.wrapping_add(slot.idle_timeout));
        let write = match (slot.link.mark(), write_timeout) {
            (Some(mark), Some(timeout)) => Some(mark.wrapping_add(timeout)),
            _ => None,
        };
        if write.is_some_and(|due| !is_before(now, due)) {
            return Overdue::Sever(CloseReason::WriteTimeout);
        }
        if idle.is_some_and(|due| !is_before(now, due)) {
            let reason = CloseReason::IdleTimeout;
            if closing {
                return Overdue::Sever(reason);
            }
            // Pending output that nobody reads may keep it from closing: it's looked at again.
            let again = now.wrapping_add(slot.idle_timeout);
            for due in [Some(again), write].into_iter().flatten() {
                self.arm_by(index, due);
            }
            return Overdue::Close(reason);
        }
        for due in [idle, write].into_iter().flatten() {
            self.arm_by(index, due);
        }
        Overdue::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(not(debug_assertions), not(mio_unsupported_force_poll_poll)))]
    #[test]
    fn a_connection_with_a_session_of_sixteen_bytes_is_a_slot_of_sixty_four() {
        // The slab's own tag must fit in too: whether a slot is vacant.
        struct SlabEntry<T>(#[allow(dead_code)] Option<T>);
        assert_eq!(size_of::<Slot<[u64; 2]>>(), 64);
        assert_eq!(size_of::<SlabEntry<Slot<[u64; 2]>>>(), 64);
    }

    #[test]
    fn a_duration_of_nothing_is_a_timeout_of_a_millisecond() {
        assert_eq!(millis(Duration::ZERO), 1);
    }
}
