//! All flows that there are: who may send, how old they are, what is under way, and how many
//! messages may still be sent.
//!
//! Invariants, which [`Flows::broken`] checks: `under_way` is the sum of what the flows await;
//! `open` counts the live and the retiring ones; a flow knows its place among the takers, and has
//! one only while it can take a message of the schedule.

#[cfg(all(test, feature = "sim"))]
mod invariants;

use std::collections::VecDeque;
use std::sync::Arc;

use oread::UdpId;
use slab::Slab;

use super::flow::{Cause, Flags, Flow, NOWHERE, Sent, Socket, Stage, settle_oldest};
use super::gauge::Gauge;
use super::window::Window;
use crate::load::options::load::{Load, MAX_DEPTH, Traffic, Turnover};

/// Flows that have room from the beginning: 1.5 GiB of addresses, of which memory is taken as they
/// are used. With `--force` more can be asked for than any system gives, and that must not be the
/// program's end.
const MOST_AT_ONCE: u64 = 1 << 24;
/// Messages of a schedule that a connection may have under way. One that has so many is passed over
/// until answers come.
const MOST_SCHEDULED: u32 = 4096;
/// How many entries of flows that have gone may stand in the list of ages, beside as many as flows
/// are open.
const MOST_STALE: usize = 1024;

/// Where a flow is, its number, and since when it carries the load.
#[derive(Clone, Copy, Debug)]
struct Age {
    flow: u32,
    number: u32,
    since: u64,
}

/// The flows of one thread.
#[derive(Debug)]
pub(super) struct Flows {
    /// From their dial until they are closed; a flow's index is the session of its connection.
    table: Slab<Flow>,
    /// Messages that a flow may have under way, in a closed loop without pauses; 0 in any other.
    depth: u32,
    /// Whether any flow may take a message of the schedule, and not a certain one.
    is_open_loop: bool,
    /// Those that can take a message of the schedule, and whose turn it is.
    takers: Vec<u32>,
    turn: usize,
    /// Those that have something to send from outside of their callbacks.
    queue: VecDeque<u32>,
    /// Live ones, oldest first, where connections are replaced. One that has gone since is passed
    /// over: its index has another number, or none.
    ages: Option<VecDeque<Age>>,
    /// Messages under way on all flows that are not given up.
    under_way: u64,
    /// Messages that flows owe.
    owed: u64,
    /// Flows that will be closed when what is under way on them has been answered.
    retiring: u64,
    /// How many are confirmed and open; and over all threads.
    open: u64,
    gauge: Arc<Gauge>,
}

impl Flows {
    pub(super) fn new(load: &Load, share: u64, gauge: Arc<Gauge>) -> Flows {
        Flows {
            // A table that grows would be copied while connections wait for it, and be half empty.
            table: Slab::with_capacity(usize::try_from(share.min(MOST_AT_ONCE)).unwrap_or(0)),
            depth: match load.traffic {
                Traffic::Closed { depth, think: None } => depth,
                _ => 0,
            },
            is_open_loop: matches!(load.traffic, Traffic::Open(_)),
            takers: Vec::new(),
            turn: 0,
            queue: VecDeque::new(),
            ages: (load.turnover != Turnover::Keep).then(VecDeque::new),
            under_way: 0,
            owed: 0,
            retiring: 0,
            open: 0,
            gauge,
        }
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Flow> {
        self.table.get(index as usize)
    }

    #[inline]
    fn get_mut(&mut self, index: u32) -> Option<&mut Flow> {
        self.table.get_mut(index as usize)
    }

    /// A flow by its index, where that is still the one of this number.
    pub(super) fn of_number(&self, index: u32, number: u32) -> Option<&Flow> {
        self.get(index).filter(|flow| flow.number == number)
    }

    /// Indices that flows have, or had: each is below this.
    pub(super) fn capacity(&self) -> u32 {
        self.table.capacity() as u32
    }

    /// Messages under way on all flows that are not given up.
    #[inline]
    pub(super) fn under_way(&self) -> u64 {
        self.under_way
    }

    /// How many are confirmed and open.
    #[inline]
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// Messages that flows owe, all together.
    pub(super) fn owed(&self) -> u64 {
        self.owed
    }

    /// Flows that will be closed when what is under way on them has been answered.
    pub(super) fn retiring(&self) -> u64 {
        self.retiring
    }

    /// Whether there is a flow of this number.
    pub(super) fn has_number(&self, number: u32) -> bool {
        self.table.iter().any(|(_, flow)| flow.number == number)
    }

    /// Whether a message of the schedule can be taken by any.
    #[inline]
    pub(super) fn has_takers(&self) -> bool {
        !self.takers.is_empty()
    }

    /// A flow is being dialed; its index.
    pub(super) fn dialed(&mut self, flow: Flow) -> u32 {
        self.table.insert(flow) as u32
    }

    /// How the reactor knows it.
    pub(super) fn bound(&mut self, index: u32, socket: Socket) {
        if let Some(flow) = self.get_mut(index) {
            flow.socket = socket;
        }
    }

    /// Its connection is there, or its socket: its first message is to be sent.
    pub(super) fn established(&mut self, index: u32) {
        if let Some(flow) = self.get_mut(index) {
            flow.stage = Stage::Confirming;
            if matches!(flow.socket, Socket::Datagrams(_)) {
                flow.window = Some(Box::new(Window::new()));
            }
        }
    }

    /// Its first answer has come; why it was dialed. `taken`: whether the ramp knew of it already.
    pub(super) fn confirmed(&mut self, index: u32, now: u64) -> Option<Confirmed> {
        let flow = self.table.get_mut(index as usize)?;
        // A first datagram may have been sent again: nobody waits for the other answers.
        while let Some((_, answered)) = settle_oldest(flow, |sent, _| sent.confirms()) {
            self.under_way -= u64::from(!answered);
        }
        let confirmed = Confirmed {
            dialed: flow.time,
            cause: std::mem::replace(&mut flow.cause, Cause::Asked),
            settles: !flow.flags.contains(Flags::SETTLED),
        };
        flow.stage = Stage::Live;
        flow.flags |= Flags::SETTLED;
        let number = flow.number;
        self.open += 1;
        self.gauge.opened();
        if let Some(ages) = &mut self.ages {
            ages.push_back(Age {
                flow: index,
                number,
                since: now,
            });
            if ages.len() as u64 > 2 * self.open + MOST_STALE as u64 {
                self.forget_gone();
            }
        }
        self.update_taker(index);
        Some(confirmed)
    }

    /// With a long lifetime, and a server that hangs up on everybody, the list of ages would grow
    /// for as long as that.
    fn forget_gone(&mut self) {
        let table = &self.table;
        let is_there = |age: &Age| {
            let flow = table.get(age.flow as usize);
            flow.is_some_and(|flow| flow.number == age.number && flow.stage == Stage::Live)
        };
        if let Some(ages) = &mut self.ages {
            ages.retain(is_there);
        }
    }

    /// Since when the oldest live flow carries the load.
    pub(super) fn oldest_since(&mut self) -> Option<u64> {
        loop {
            let &age = self.ages.as_ref()?.front()?;
            let flow = self.of_number(age.flow, age.number);
            if flow.is_some_and(|flow| flow.stage == Stage::Live) {
                return Some(age.since);
            }
            self.ages.as_mut()?.pop_front();
        }
    }

    /// The oldest live flow is to be closed when what is under way on it has been answered.
    pub(super) fn retire_oldest(&mut self) -> Option<u32> {
        self.oldest_since()?;
        let age = self.ages.as_mut()?.pop_front()?;
        self.get_mut(age.flow)?.stage = Stage::Retiring;
        self.retiring += 1;
        self.update_taker(age.flow);
        Some(age.flow)
    }

    /// How many messages a flow is to send now, as far as it's concerned: in a closed loop what its
    /// depth leaves room for, and what it owes.
    #[inline(always)]
    pub(super) fn wanted(&self, flow: &Flow) -> u32 {
        if !flow.is_ready() {
            return 0;
        }
        let wanted = self.depth.saturating_sub(flow.awaited()) + flow.owed;
        // What was given up is still kept, for its answer may come.
        wanted.min(MAX_DEPTH.saturating_sub(flow.outstanding.len()))
    }

    /// A message of `bytes` was sent.
    #[inline(always)]
    pub(super) fn sent(&mut self, index: u32, sent: Sent) {
        let Some(flow) = self.table.get_mut(index as usize) else {
            return;
        };
        flow.next = flow.next.wrapping_add(1);
        flow.outstanding.push(sent);
        self.under_way += 1;
        if flow.place != NOWHERE && flow.outstanding.len() >= MOST_SCHEDULED {
            self.update_taker(index);
        }
    }

    /// A datagram was sent; what had to be forgotten for it, where that was still awaited.
    pub(super) fn sent_datagram(&mut self, index: u32, sent: Sent, measured: bool) -> Option<Sent> {
        let flow = self.table.get_mut(index as usize)?;
        let mut forgotten = None;
        let window = flow.window.as_mut()?;
        if !window.can_keep(flow.outstanding.len()) {
            let oldest = flow.next.wrapping_sub(flow.outstanding.len());
            let answered = window.forget(oldest);
            forgotten = flow.outstanding.pop().filter(|_| !answered);
        }
        window.sent(flow.next, flow.outstanding.len(), sent.at, measured);
        self.under_way -= u64::from(forgotten.is_some());
        self.sent(index, sent);
        forgotten
    }

    /// A message that the flow owed was sent, or has come to nothing. The next one it owes is due
    /// an interval later.
    pub(super) fn paid(&mut self, index: u32, interval: u64) {
        if let Some(flow) = self.get_mut(index) {
            let paid = flow.owed.min(1);
            flow.owed -= paid;
            flow.time = flow.time.saturating_add(interval);
            self.owed -= u64::from(paid);
        }
    }

    /// Messages are due on this very flow, the first of them then.
    pub(super) fn owe(&mut self, index: u32, count: u64, due: u64) {
        if let Some(flow) = self.get_mut(index) {
            if flow.owed == 0 {
                flow.time = due;
            }
            let before = flow.owed;
            flow.owed = before.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            self.owed += u64::from(flow.owed - before);
        }
        self.enqueue(index);
    }

    /// A flow may have something to send, from outside of its callback.
    pub(super) fn enqueue(&mut self, index: u32) {
        if let Some(flow) = self.get_mut(index)
            && !flow.flags.contains(Flags::QUEUED)
        {
            flow.flags |= Flags::QUEUED;
            self.queue.push_back(index);
        }
    }

    /// The first flow in the queue that has something to send.
    pub(super) fn first_queued(&mut self) -> Option<u32> {
        while let Some(&index) = self.queue.front() {
            let flow = self.get(index);
            if flow.is_some_and(|flow| flow.flags.contains(Flags::QUEUED) && self.wanted(flow) > 0)
            {
                return Some(index);
            }
            self.dequeue();
        }
        None
    }

    /// Lets the next one in the queue have its turn.
    pub(super) fn rotate(&mut self) {
        if self.queue.len() > 1 {
            self.queue.rotate_left(1);
        }
    }

    fn dequeue(&mut self) {
        if let Some(index) = self.queue.pop_front()
            && let Some(flow) = self.get_mut(index)
        {
            flow.flags -= Flags::QUEUED;
        }
    }

    /// The flow whose turn it is to take a message of the schedule.
    #[inline]
    pub(super) fn next_taker(&mut self) -> Option<u32> {
        if self.turn >= self.takers.len() {
            self.turn = 0;
        }
        let taker = *self.takers.get(self.turn)?;
        self.turn += 1;
        Some(taker)
    }

    /// Its socket takes nothing now; an event will tell when it does.
    pub(super) fn is_full(&mut self, index: u32) {
        if let Some(flow) = self.get_mut(index) {
            flow.flags |= Flags::FULL;
            self.update_taker(index);
        }
    }

    /// Its socket takes something again.
    pub(super) fn has_room(&mut self, index: u32) {
        if let Some(flow) = self.get_mut(index) {
            flow.flags -= Flags::FULL;
            self.update_taker(index);
            self.enqueue(index);
        }
    }

    /// Its peer will send no more: answers that have not come won't.
    pub(super) fn peer_finished(&mut self, index: u32) {
        if let Some(flow) = self.get_mut(index) {
            flow.flags |= Flags::PEER_FINISHED;
            self.update_taker(index);
        }
    }

    /// Has a flow stand among the takers exactly where it can take a message of the schedule.
    #[inline]
    fn update_taker(&mut self, index: u32) {
        if !self.is_open_loop {
            return;
        }
        let Some(flow) = self.table.get_mut(index as usize) else {
            return;
        };
        // Datagrams that nobody answers hold up none that follow.
        let has_room = flow.window.is_some() || flow.outstanding.len() < MOST_SCHEDULED;
        let takes = flow.is_ready() && has_room;
        match (takes, flow.place) {
            (true, NOWHERE) => {
                flow.place = self.takers.len() as u32;
                self.takers.push(index);
            }
            (false, place) if place != NOWHERE => {
                flow.place = NOWHERE;
                self.takers.swap_remove(place as usize);
                if let Some(&moved) = self.takers.get(place as usize)
                    && let Some(moved) = self.table.get_mut(moved as usize)
                {
                    moved.place = place;
                }
            }
            _ => {}
        }
    }

    /// The oldest message over a stream was answered.
    #[inline(always)]
    pub(super) fn answered(&mut self, index: u32) -> Option<Answered> {
        let flow = self.table.get_mut(index as usize)?;
        let sent = flow.outstanding.pop()?;
        flow.got = 0;
        let given_up = flow.given_up > 0;
        if given_up {
            flow.given_up -= 1;
        } else {
            self.under_way -= 1;
        }
        let (next, stage) = (flow.next, flow.stage);
        // As far as its depth goes: what it owes is sent from outside of its callback.
        let count = match flow.is_ready() {
            true => self.depth.saturating_sub(flow.awaited()),
            false => 0,
        };
        if self.is_open_loop && flow.place == NOWHERE {
            self.update_taker(index);
        }
        Some(Answered {
            sent,
            given_up,
            stage,
            wanted: Wanted { count, next },
        })
    }

    /// A part of the oldest message's answer has come.
    pub(super) fn got(&mut self, index: u32, bytes: u32) {
        if let Some(flow) = self.get_mut(index) {
            flow.got += bytes;
        }
    }

    /// Gives up what is due since `then` or before and not answered, a message at a time.
    pub(super) fn give_up(&mut self, index: u32, then: u64) -> Option<Sent> {
        let flow = self.table.get_mut(index as usize)?;
        if flow.window.is_none() {
            let sent = flow.give_up(then)?;
            self.under_way -= 1;
            return Some(sent);
        }
        loop {
            let (sent, answered) =
                settle_oldest(flow, |sent, answered| answered || sent.since() <= then)?;
            if !answered {
                self.under_way -= 1;
                return Some(sent);
            }
        }
    }

    /// A datagram was answered for the first time: what is kept of it, where it's not given up.
    pub(super) fn answered_datagram(&mut self, index: u32, number: u32) -> Option<Sent> {
        let flow = self.table.get_mut(index as usize)?;
        let age = flow.next.wrapping_sub(number);
        let kept = flow.outstanding.len().checked_sub(age);
        let kept = kept.and_then(|place| flow.outstanding.get(place));
        if kept.is_some() {
            self.under_way -= 1;
            if let Some(window) = &mut flow.window {
                window.answered_within();
            }
        }
        while settle_oldest(flow, |_, answered| answered).is_some() {}
        kept
    }

    /// The window of a flow over UDP, and the number of its next datagram.
    pub(super) fn window(&mut self, index: u32) -> Option<(&mut Window, u32)> {
        let flow = self.table.get_mut(index as usize)?;
        let next = flow.next;
        flow.window.as_deref_mut().map(|window| (window, next))
    }

    /// The ramp waits for this flow no longer; whether it did.
    pub(super) fn settle(&mut self, index: u32) -> bool {
        let Some(flow) = self.get_mut(index) else {
            return false;
        };
        let waited = !flow.flags.contains(Flags::SETTLED);
        flow.flags |= Flags::SETTLED;
        waited
    }

    /// A flow will take no one's place any more: it was not confirmed in time, or lost before; why
    /// it was dialed.
    pub(super) fn unconfirmed(&mut self, index: u32) -> Cause {
        let flow = self.get_mut(index);
        flow.map_or(Cause::Retry, |flow| {
            std::mem::replace(&mut flow.cause, Cause::Retry)
        })
    }

    /// A flow carries the load no longer, and its slot stays until its connection is gone; the
    /// stage that it was in.
    pub(super) fn ends(&mut self, index: u32, stage: Stage) -> Option<Stage> {
        let flow = self.get_mut(index)?;
        let was = std::mem::replace(&mut flow.stage, stage);
        let owed = std::mem::take(&mut flow.owed);
        let awaited = flow.awaited();
        self.update_taker(index);
        self.under_way -= u64::from(awaited);
        self.owed -= u64::from(owed);
        self.retiring -= u64::from(was == Stage::Retiring);
        if matches!(was, Stage::Live | Stage::Retiring) {
            self.open -= 1;
            self.gauge.closed();
        }
        Some(was)
    }

    /// Takes what was under way on a flow that has [ended](Flows::ends), one after the other.
    pub(super) fn take_lost(&mut self, index: u32) -> Option<Sent> {
        let flow = self.get_mut(index)?;
        flow.given_up = 0;
        flow.got = 0;
        if flow.window.is_none() {
            return flow.outstanding.pop();
        }
        while let Some((sent, answered)) = settle_oldest(flow, |_, _| true) {
            if !answered {
                return Some(sent);
            }
        }
        None
    }

    /// A flow that has ended is gone.
    pub(super) fn remove(&mut self, index: u32) -> Option<Flow> {
        self.table.try_remove(index as usize)
    }

    /// The UDP sockets that are open, and which targets they lead to.
    pub(super) fn sockets(&self) -> Vec<(UdpId, u16)> {
        let flows = self.table.iter();
        let sockets = flows.filter_map(|(_, flow)| match flow.socket {
            Socket::Datagrams(id) => Some((id, flow.target)),
            _ => None,
        });
        sockets.collect()
    }

    /// All flows, when the run is over: from here on callbacks find none.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Flow> {
        self.takers.clear();
        self.queue.clear();
        self.ages = None;
        self.gauge.close(self.open);
        (self.open, self.under_way, self.owed) = (0, 0, 0);
        std::mem::take(&mut self.table)
            .into_iter()
            .map(|(_, flow)| flow)
    }
}

/// A message over a stream that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) sent: Sent,
    /// Whether it had been given up.
    pub(super) given_up: bool,
    /// How far its flow was.
    pub(super) stage: Stage,
    /// What the flow may send in its place.
    pub(super) wanted: Wanted,
}

/// Messages that a flow is to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) count: u32,
    /// The number of the first.
    pub(super) next: u32,
}

/// What is known of a flow that was just confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confirmed {
    pub(super) dialed: u64,
    pub(super) cause: Cause,
    /// Whether the ramp waited for it.
    pub(super) settles: bool,
}
