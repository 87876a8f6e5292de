//! A connection's slot: its link, its session, its deadlines.

use std::time::Duration;

use crate::clock::{Clock, millis};
use crate::error::CloseReason;
use crate::link::{Flags, Link, Phase};
use crate::net::TcpStream;
use crate::table::Table;
use crate::timer::{Arena, Links, MAX_AHEAD, Tick, is_before};

use super::Context;

/// Everything that the reactor keeps of one connection. With a session of up to 16 bytes it takes
/// 80 bytes of the table, and an idle connection has nothing beside it.
#[derive(Debug)]
pub(crate) struct Slot<S> {
    pub(crate) link: Link<TcpStream>,
    pub(crate) session: S,
    /// The connection's one place in the wheel: for the earliest of its deadlines, or earlier. Activity doesn't move
    /// it; what is really due is worked out when it fires.
    links: Links,
    /// In milliseconds; 0: none.
    idle_timeout: u32,
    /// The tick of the last byte in or out; of a silence of 24 days or more it may be a later one.
    pub(crate) active: Tick,
}

/// What is to become of a connection whose deadline has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// It was idle for too long: it has its last words, and is closed.
    Idle,
    /// Its handshake, its output, its lingering or its wait for memory took too long: it's cut off,
    /// for this reason.
    Sever(CloseReason),
}

impl<S> Slot<S> {
    pub(crate) fn new(
        link: Link<TcpStream>,
        session: S,
        idle_timeout: Option<Duration>,
        now: Tick,
    ) -> Slot<S> {
        Slot {
            link,
            session,
            links: Links::default(),
            idle_timeout: idle_timeout.map_or(0, millis),
            active: now,
        }
    }

    /// The silence that is left until the idle timeout, in milliseconds; `None` without one.
    fn idle_left(&self, now: Tick) -> Option<u32> {
        let silent = elapsed(self.active, now);
        (self.idle_timeout > 0).then(|| self.idle_timeout.saturating_sub(silent))
    }
}

impl<S> Arena for Table<Slot<S>> {
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self[index].links
    }
}

/// The milliseconds from `since` to `now`: 0 where `since` is the later one, by up to 6 days, as it
/// may be while deadlines are judged by an earlier time than the present one. `since` lies at most
/// 37 days back: see [`Context::keep_ages`].
fn elapsed(since: Tick, now: Tick) -> u32 {
    let elapsed = now.wrapping_sub(since);
    if elapsed > u32::MAX - (1 << 29) {
        0
    } else {
        elapsed
    }
}

/// How often the ages of the connections' last activities are bounded, in milliseconds: 12 days. A
/// tick has a meaning for 49 days, and ages are let grow to 24.
const AGE_EVERY_MS: u64 = 1 << 30;

impl<S> Context<S> {
    /// Keeps the silence of every connection within what ticks can tell, so that an idle timeout
    /// set after a month of it is not taken for one set in the future. A walk over all connections,
    /// every 12 days.
    pub(crate) fn keep_ages(&mut self) {
        let now_ms = self.clock.elapsed_ms();
        let since = now_ms - self.aged_ms;
        if since < AGE_EVERY_MS {
            return;
        }
        let then = std::mem::replace(&mut self.aged_ms, now_ms) as Tick;
        for key in self.slots.keys() {
            let active = &mut self.slots[key.index].active;
            // What was active after the last walk was so before the next was due.
            let after = active.wrapping_sub(then);
            let age = match u64::from(after) <= AGE_EVERY_MS {
                true => since.saturating_sub(u64::from(after)),
                false => since + u64::from(then.wrapping_sub(*active)),
            };
            let age = age.min(u64::from(MAX_AHEAD)) as Tick;
            *active = (now_ms as Tick).wrapping_sub(age);
        }
    }

    /// Schedules a look at the connection's deadlines after `ms` milliseconds, or earlier.
    fn arm_within(&mut self, index: u32, ms: u32) {
        let tick = self.clock.tick().wrapping_add(ms.min(MAX_AHEAD));
        let links = &self.slots[index].links;
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
        let slot = &mut self.slots[index];
        slot.active = self.clock.tick();
        if slot.idle_timeout > 0 {
            let timeout = slot.idle_timeout;
            self.arm_within(index, timeout);
        }
    }

    /// Sets a connection's own idle timeout, counted from its last byte.
    pub(crate) fn set_idle_timeout(&mut self, index: u32, timeout: Option<Duration>) {
        let slot = &mut self.slots[index];
        slot.idle_timeout = timeout.map_or(0, millis);
        if matches!(slot.link.phase(), Phase::Open | Phase::Closing)
            && let Some(left) = slot.idle_left(self.clock.tick())
        {
            self.arm_within(index, left);
        }
    }

    /// After a connection was driven: sees to the deadline of its output.
    pub(crate) fn watch_output(&mut self, index: u32) {
        let now = self.clock.tick();
        let slot = &mut self.slots[index];
        if !slot.link.take_moved() {
            return;
        }
        slot.active = now;
        let delivering = slot.link.phase() == Phase::Delivering;
        match slot.link.mark() {
            Some(mark) => *mark = now,
            None if delivering => {}
            None => return,
        }
        if let Some(timeout) = self.shared.limits.write_timeout {
            self.arm_within(index, millis(timeout) / PROGRESS_CHECKS);
        }
    }

    /// After a connection found no room for what it would read: sees to the deadline of that.
    pub(crate) fn watch_starved(&mut self, index: u32) {
        // There is something to be read: it has just been heard from, however long it was silent
        // before.
        self.slots[index].active = self.clock.tick();
        if let Some(timeout) = self.shared.limits.write_timeout {
            self.arm_within(index, millis(timeout));
        }
    }

    /// The next connection that is to be looked at by `clock`, and what is to become of it; `None`
    /// inside: nothing yet.
    pub(crate) fn next_overdue(&mut self, clock: &Clock) -> Option<(u32, Option<Overdue>)> {
        let index = self.wheel.expire(&mut self.slots, clock.tick())?;
        Some((index, self.judge(index, clock.tick())))
    }

    fn judge(&mut self, index: u32, now: Tick) -> Option<Overdue> {
        let slot = &self.slots[index];
        let due = slot.links.deadline();
        let reason = match slot.link.phase() {
            Phase::Connecting => Some(CloseReason::timed_out()),
            Phase::Lingering => Some(CloseReason::Closed),
            Phase::Closed => return None,
            Phase::Open | Phase::Delivering | Phase::Closing => None,
        };
        if let Some(reason) = reason {
            // Deadlines may be judged by an earlier time than the present one.
            if is_before(now, due) {
                self.wheel.insert(&mut self.slots, index, due);
                return None;
            }
            return Some(Overdue::Sever(reason));
        }
        // What somebody else has written in this very turn hasn't been driven yet, and bears no mark but that of the
        // buffers' last user.
        self.watch_output(index);
        if self.is_stuck(index, now) {
            return Some(Overdue::Sever(CloseReason::WriteTimeout));
        }
        if self.gives_way(index, now) {
            return Some(Overdue::Sever(CloseReason::OutOfMemory));
        }
        let bounded = self.shared.limits.write_timeout.is_some();
        let slot = &mut self.slots[index];
        let phase = slot.link.phase();
        if phase == Phase::Delivering {
            if bounded {
                // What it waits for is its output's deadline.
                return None;
            }
            if slot.link.has_progressed() {
                slot.active = now;
            }
        }
        let left = slot.idle_left(now)?;
        // Who waits for its turn or for memory has been heard from: its input is there.
        let heard = slot.link.has(Flags::QUEUED) || bounded && slot.link.has(Flags::STARVED);
        let idle = left == 0 && !heard;
        // Pending output that nobody reads may keep it from closing: it's looked at again.
        let again = if left > 0 { left } else { slot.idle_timeout };
        self.arm_within(index, again);
        idle.then_some(match phase {
            Phase::Closing | Phase::Delivering => Overdue::Sever(CloseReason::IdleTimeout),
            _ => Overdue::Idle,
        })
    }

    /// Whether the connection has waited for memory as long as output may wait for its peer. Those
    /// who wait may hold what they all wait for, and somebody must give way. If not, it's armed for
    /// the next look.
    fn gives_way(&mut self, index: u32, now: Tick) -> bool {
        let Some(timeout) = self.shared.limits.write_timeout.map(millis) else {
            return false;
        };
        let link = &mut self.slots[index].link;
        let waits = if link.has(Flags::FED) {
            // It has what the others wait for, and does nothing with it.
            !self.starved.is_empty() && link.may_read()
        } else if link.has(Flags::STARVED) {
            // Whoever gave way just before may have made the room.
            link.may_read() && link.is_starved(&mut self.shared)
        } else {
            return false;
        };
        let left = timeout.saturating_sub(elapsed(self.slots[index].active, now));
        self.arm_within(index, if left > 0 { left } else { timeout });
        waits && left == 0
    }

    /// Whether the connection's output has made no progress for the write timeout: no room in the
    /// socket, and, where the system tells, nothing acknowledged. If not, it's armed for the next
    /// look.
    fn is_stuck(&mut self, index: u32, now: Tick) -> bool {
        let Some(timeout) = self.shared.limits.write_timeout.map(millis) else {
            return false;
        };
        let slot = &mut self.slots[index];
        let delivering = slot.link.phase() == Phase::Delivering;
        if !delivering && !slot.link.has_output() {
            return false;
        }
        if slot.link.has_progressed() {
            slot.active = now;
            if let Some(mark) = slot.link.mark() {
                *mark = now;
            }
        }
        let since = slot.link.mark().map_or(slot.active, |mark| *mark);
        let left = timeout.saturating_sub(elapsed(since, now));
        if left == 0 && !slot.link.has(Flags::QUEUED) {
            return true;
        }
        self.arm_within(index, left.clamp(1, (timeout / PROGRESS_CHECKS).max(1)));
        false
    }
}

/// How often within the write timeout the system is asked what was acknowledged: a peer that has
/// stopped is found out at most this part of it late, and never early.
const PROGRESS_CHECKS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(not(debug_assertions), not(mio_unsupported_force_poll_poll)))]
    #[test]
    fn a_connection_with_a_session_of_sixteen_bytes_is_a_slot_of_eighty() {
        // With its generation; and the slab's own tag must fit in: whether a slot is vacant.
        struct SlabEntry<T>(#[allow(dead_code)] Option<(u32, T)>);
        assert_eq!(size_of::<SlabEntry<Slot<[u64; 2]>>>(), 80);
    }

    #[test]
    fn a_duration_of_nothing_is_a_timeout_of_a_millisecond() {
        assert_eq!(millis(Duration::ZERO), 1);
    }
}
