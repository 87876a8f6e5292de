//! A connection's slot: its link and its deadlines.

use std::time::Duration;

use crate::buffer::UNTOLD;
use crate::clock::{Clock, millis};
use crate::error::CloseReason;
use crate::link::{Flags, Link, Phase};
use crate::net::TcpStream;
use crate::table::{Table, tenant};
use crate::timer::{Arena, Links, MAX_AHEAD, Tick, is_before};

use super::Core;

/// Everything that the reactor keeps of one connection beside its session. It takes 56 bytes of the
/// table, and an idle connection has nothing beside it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) generation: u32,
    pub(crate) link: Link<TcpStream>,
    /// The connection's one place in the wheel: for the earliest of its deadlines, or earlier.
    /// Activity doesn't move it; what is really due is worked out when it fires.
    pub(super) links: Links,
    /// In milliseconds; 0: none.
    pub(super) idle_timeout: u32,
    /// The tick of the last byte in or out; of a silence of 24 days or more it may be a later one.
    pub(crate) active: Tick,
}

/// One of a connection's deadlines.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    since: Tick,
    /// In milliseconds.
    timeout: u32,
    /// How often it's looked at within the timeout.
    looks: u32,
    /// Whether it may pass for now, and then in how many milliseconds to look at it again: what it
    /// waits for is there, and has not had its turn.
    excused: Option<u32>,
    /// Why the connection ends when it has passed.
    reason: CloseReason,
}

impl Deadline {
    fn left(&self, now: Tick) -> u32 {
        self.timeout.saturating_sub(elapsed(self.since, now))
    }

    /// In how many milliseconds to look at it.
    fn look_in(&self, now: Tick) -> u32 {
        let left = match (self.left(now), self.excused) {
            (0, Some(again)) => again,
            (left, _) => left,
        };
        left.min((self.timeout / self.looks).max(1))
    }
}

tenant!(Slot);

impl Arena for Table<Slot> {
    fn links(&mut self, index: u32) -> &mut Links {
        &mut self[index].links
    }
}

/// The milliseconds from `since` to `now`: 0 where `since` is the later one, by up to 6 days, as it
/// may be while deadlines are judged by an earlier time than the present one. `since` lies at most
/// 37 days back: see [`Core::keep_ages`].
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

/// A turn of this length has been interrupted, or has a slow handler. An idle timeout may be short
/// by less than that; a walk over a million connections takes less.
const LONG_TURN: Duration = Duration::from_millis(50);

impl Core {
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
        self.each_tick(|tick| {
            // What was active after the last walk was so before the next was due.
            let after = tick.wrapping_sub(then);
            let age = match u64::from(after) <= AGE_EVERY_MS {
                true => since.saturating_sub(u64::from(after)),
                false => since + u64::from(then.wrapping_sub(*tick)),
            };
            let age = age.min(u64::from(MAX_AHEAD)) as Tick;
            *tick = (now_ms as Tick).wrapping_sub(age);
        });
    }

    /// Shows `change` the ticks that all connections' deadlines count from: a walk over them.
    fn each_tick(&mut self, change: impl Fn(&mut Tick)) {
        for key in self.slots.keys() {
            let Slot { link, active, .. } = &mut self.slots[key.index];
            let ticks = link.marks().into_iter().flatten();
            ticks.chain([active]).for_each(&change);
        }
    }

    /// After a turn: counts it. What was active in it was so by its end at the latest. The turn's
    /// own time, by which it was noted, is far earlier when a callback took long or the process
    /// stood still, and whoever was heard from in between would be idle too soon.
    #[inline]
    pub(crate) fn end_turn(&mut self) {
        let now = self.system.now();
        let took = now.saturating_duration_since(self.clock.now());
        self.shared.stats.note_turn(took, self.ready.len());
        if took >= LONG_TURN && !self.wheel.is_empty() {
            self.move_activity(took);
        }
    }

    /// Notes what was active in this turn as active at its end: a walk over all connections.
    #[cold]
    #[inline(never)]
    fn move_activity(&mut self, took: Duration) {
        let (noted, end) = (self.clock.tick(), self.clock.tick_after(took));
        let moved = |tick: &mut Tick| {
            if *tick == noted {
                *tick = end;
            }
        };
        self.each_tick(moved);
        moved(&mut self.starved.fed_at);
    }

    /// Schedules a look at the connection for when the first of its deadlines may have come, as
    /// seen at `now`.
    fn watch(&mut self, index: u32, now: Tick) {
        let deadlines = self.deadlines(index).into_iter().flatten();
        let Some(ms) = deadlines.map(|deadline| deadline.look_in(now)).min() else {
            return;
        };
        let tick = self.clock.tick().wrapping_add(ms.min(MAX_AHEAD));
        let links = &self.slots[index].links;
        if !links.is_armed() || is_before(tick, links.deadline()) {
            self.wheel.insert(&mut self.slots, index, tick);
        }
    }

    /// Notes that the connection at `index` was active just now: its deadlines count from here.
    pub(crate) fn note_active(&mut self, index: u32) {
        let now = self.clock.tick();
        self.slots[index].active = now;
        self.watch(index, now);
    }

    /// After a connection was driven: notes whether its output has moved, its end begun, or another
    /// frame.
    pub(crate) fn note_driven(&mut self, index: u32) {
        let link = &mut self.slots[index].link;
        if link.take_moved() {
            if let Some(mark) = link.mark() {
                *mark = self.clock.tick();
            }
            self.note_active(index);
        }
        let now = self.clock.tick();
        let begun = self.slots[index].link.begun();
        if let Some(begun) = begun.filter(|begun| **begun == UNTOLD) {
            *begun = now.max(UNTOLD + 1);
            self.watch(index, now);
        }
    }

    /// Sets the deadline of a handshake: the only one until the connection is open.
    pub(crate) fn limit_handshake(&mut self, index: u32, timeout: Duration) {
        let tick = self.clock.tick_after(timeout);
        self.wheel.insert(&mut self.slots, index, tick);
    }

    /// The handshake is done: the idle timeout counts from here.
    pub(crate) fn note_opened(&mut self, index: u32) {
        self.wheel.remove(&mut self.slots, index);
        self.note_active(index);
    }

    /// Sets a connection's own idle timeout, counted from its last byte.
    pub(crate) fn set_idle_timeout(&mut self, index: u32, timeout: Option<Duration>) {
        self.slots[index].idle_timeout = timeout.map_or(0, millis);
        self.watch(index, self.clock.tick());
    }

    /// The deadlines of a connection in its present phase, but that of its handshake.
    ///
    /// - *Lingering* has one of its own and no other.
    /// - *Output* that is pending, or that the peer has not acknowledged at the end, must move.
    /// - *Memory*: those who wait for it may hold what they all wait for, so somebody must give
    ///   way; and so must one that has got it while others wait, and does nothing with it.
    /// - *Idle*: what waits for its turn or for memory has been heard from.
    /// - *Frame*: what the handler left must get its rest.
    fn deadlines(&mut self, index: u32) -> [Option<Deadline>; 4] {
        let (slot, shared) = (&mut self.slots[index], &self.shared);
        let (link, active) = (&mut slot.link, slot.active);
        let deadline = |since, timeout, excused, reason| Deadline {
            since,
            timeout,
            looks: 1,
            excused,
            reason,
        };
        // Its turn comes in this turn or one of the next, and may find that nothing was there.
        let queued = link.has(Flags::QUEUED).then_some(1);
        let phase = link.phase();
        let delivering = phase == Phase::Delivering;
        match phase {
            Phase::Connecting | Phase::Closed => return [None; 4],
            Phase::Lingering => {
                let timeout = millis(shared.limits.linger_timeout);
                let end = deadline(active, timeout, None, CloseReason::Closed);
                return [Some(end), None, None, None];
            }
            Phase::Open | Phase::Closing | Phase::Delivering => {}
        }
        let write_timeout = link.limits(shared).write_timeout.map(millis);
        let output = write_timeout.filter(|_| delivering || link.has_output());
        let moved = link.mark().map_or(active, |mark| *mark);
        let output = output.map(|timeout| Deadline {
            looks: PROGRESS_CHECKS,
            ..deadline(moved, timeout, queued, CloseReason::WriteTimeout)
        });
        let (fed, starved) = (link.has(Flags::FED), link.has(Flags::STARVED));
        let memory = write_timeout.filter(|_| fed || starved).map(|timeout| {
            let waits = link.may_read()
                && match fed {
                    true => !self.starved.is_empty(),
                    // Who gave way just before may have made the room, or the place to be fed in.
                    false => self.starved.fed.is_some() && link.is_starved(shared),
                };
            let since = if fed { self.starved.fed_at } else { active };
            let excused = (!waits).then_some(timeout);
            deadline(since, timeout, excused, CloseReason::OutOfMemory)
        });
        let timeout = slot.idle_timeout;
        let starving = (starved && write_timeout.is_some()).then_some(timeout);
        let heard = queued.or(starving);
        let has_idle = timeout > 0 && !(delivering && write_timeout.is_some());
        let idle = has_idle.then(|| deadline(active, timeout, heard, CloseReason::IdleTimeout));
        let frame = link.limits(shared).frame_timeout.map(millis);
        let frame = frame
            .zip(link.begun())
            .map(|(timeout, begun)| deadline(*begun, timeout, queued, CloseReason::FrameTimeout));
        [output, memory, idle, frame]
    }

    /// The next connection that has missed a deadline by `clock`, and why it's to end.
    pub(crate) fn next_overdue(&mut self, clock: &Clock) -> Option<(u32, CloseReason)> {
        loop {
            let index = self.wheel.expire(&mut self.slots, clock.tick())?;
            if let Some(reason) = self.judge(index, clock.tick()) {
                return Some((index, reason));
            }
        }
    }

    fn judge(&mut self, index: u32, now: Tick) -> Option<CloseReason> {
        let slot = &self.slots[index];
        if slot.link.phase() == Phase::Connecting {
            let due = slot.links.deadline();
            // Deadlines may be judged by an earlier time than the present one.
            if is_before(now, due) {
                self.wheel.insert(&mut self.slots, index, due);
                return None;
            }
            return Some(CloseReason::timed_out());
        }
        // What somebody else has written in this very turn hasn't been driven yet, and bears no
        // mark but that of the buffers' last user.
        self.note_driven(index);
        self.ask_progress(index, now);
        self.excuse_frame(index, now);
        let mut deadlines = self.deadlines(index).into_iter().flatten();
        let missed =
            deadlines.find(|deadline| deadline.excused.is_none() && deadline.left(now) == 0);
        let Some(missed) = missed else {
            self.watch(index, now);
            return None;
        };
        // Pending output that nobody reads may keep an idle one from closing: it has as long again.
        self.note_active(index);
        Some(missed.reason)
    }

    /// Has a frame whose rest isn't read begin anew.
    fn excuse_frame(&mut self, index: u32, now: Tick) {
        let link = &mut self.slots[index].link;
        if link.may_read() && !link.has(Flags::STARVED) {
            return;
        }
        if let Some(begun) = link.begun().filter(|begun| is_before(**begun, now)) {
            *begun = now;
        }
    }

    /// Where output has a deadline, asks the system whether the peer has acknowledged some since.
    fn ask_progress(&mut self, index: u32, now: Tick) {
        let Slot { link, active, .. } = &mut self.slots[index];
        let bounded = link.limits(&self.shared).write_timeout.is_some();
        let asked = link.phase() == Phase::Delivering || bounded && link.has_output();
        if asked && link.has_progressed() {
            // Not back to an earlier time by which deadlines may be judged.
            for tick in [Some(active), link.mark()].into_iter().flatten() {
                if is_before(*tick, now) {
                    *tick = now;
                }
            }
        }
    }
}

/// How often within the write timeout the system is asked what was acknowledged: a peer that has
/// stopped is found out at most this part of it late, and never early.
const PROGRESS_CHECKS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(
        not(debug_assertions),
        not(mio_unsupported_force_poll_poll),
        not(feature = "sim")
    ))]
    #[test]
    fn a_connection_s_slot_is_56_bytes_and_its_session_16_or_24() {
        // Whether there is one must fit in.
        assert_eq!(size_of::<Option<Slot>>(), 56);
        // One of any bytes; one whose type has a value to spare, which tells that none is there.
        assert_eq!(size_of::<Option<[u64; 2]>>(), 24);
        assert_eq!(size_of::<Option<(u64, Box<u64>)>>(), 16);
    }

    #[test]
    fn a_duration_of_nothing_is_a_timeout_of_a_millisecond() {
        assert_eq!(millis(Duration::ZERO), 1);
    }
}
