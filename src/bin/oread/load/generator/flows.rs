//! All flows that there are: who may send, how old they are, what is under way, and how many
//! messages may still be sent.
//!
//! Invariants, which [`Flows::broken`] checks in the simulated runs: `under_way` is the sum of what
//! the flows await; `open` counts the live and the retiring ones; a flow that can send stands in
//! the queue.

#[cfg(all(test, feature = "sim"))]
mod invariants;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use slab::Slab;

use super::flow::{Arrival, Flags, Flow, Sent, Socket, Stage, Udp};
use super::gauge::Gauge;
use crate::load::count::Datagrams;
use crate::load::options::load::{Load, MAX_DEPTH, Traffic, Turnover};

/// Flows that have room from the beginning: 1.5 GiB of addresses, of which memory is taken as they
/// are used. With `--force` more can be asked for than any system gives, and that must not be the
/// program's end.
const MOST_AT_ONCE: u64 = 1 << 24;
/// Messages of a schedule that a connection may have under way. One that has so many is passed over
/// until answers come.
const MOST_SCHEDULED: u32 = 4096;
/// Datagrams of a flow that are kept at the most.
const MOST_KEPT: u32 = 1 << 20;
/// How many entries of flows that have gone may stand in a list, beside as many as others do.
pub(super) const MOST_STALE: usize = 1024;

/// A flow's index, and its number: another flow may have the index by the time that it's used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) index: u32,
    pub(super) number: u32,
}

/// The flows of one thread.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// From their dial until they are closed; a flow's index is the session of its connection.
    table: Slab<Flow>,
    /// Messages that a flow may have under way, in a closed loop without pauses; 0 in any other.
    depth: u32,
    /// Messages that open a connection before it's confirmed: one where there is no script, and
    /// none where it's there as soon as it's established.
    pub(super) opening: u32,
    /// Messages that a connection sends in all.
    most_sent: u32,
    /// Whether messages are due on each flow at times of its own.
    has_beats: bool,
    /// Whether any flow may take a message of the schedule, and not a certain one.
    is_open_loop: bool,
    /// Messages that a flow over a stream may keep, and may await: one where some have no answer
    /// and others do, for what has none is done with when nothing before it is awaited.
    most_kept: u32,
    most_awaited: u32,
    /// Those that have something to send from outside of their callbacks, in turn.
    queue: VecDeque<Key>,
    /// Live ones and when they were confirmed, oldest first, where connections are replaced. One
    /// that has gone since is passed over.
    ages: Option<VecDeque<(Key, u64)>>,
    /// The numbers of all, where UDP sockets are replaced: a target may answer old ones for ever.
    numbers: Option<HashSet<u32>>,
    /// Messages under way on all flows that are not given up.
    pub(super) under_way: u64,
    /// How many are confirmed and open; and over all threads.
    pub(super) open: u64,
    gauge: Arc<Gauge>,
}

impl Flows {
    pub(super) fn new(load: &Load, share: u64, gauge: Arc<Gauge>) -> Flows {
        let is_replaced = load.turnover != Turnover::Keep;
        let opening = match load.is_unopened() {
            true => 0,
            false => load.script.as_ref().map_or(1, |it| it.opening().max(1)),
        };
        Flows {
            // A table that grows would be copied while connections wait for it, and be half empty.
            table: Slab::with_capacity(usize::try_from(share.min(MOST_AT_ONCE)).unwrap_or(0)),
            depth: match load.traffic {
                Traffic::Closed { depth, think: None } => depth,
                _ => 0,
            },
            opening,
            most_sent: match load.turnover {
                Turnover::After(messages) => messages.get().saturating_add(opening),
                _ => u32::MAX,
            },
            has_beats: matches!(load.traffic, Traffic::Idle { .. }),
            is_open_loop: matches!(load.traffic, Traffic::Open(..)),
            most_kept: match load.traffic {
                Traffic::Open(..) => MOST_SCHEDULED,
                _ => MAX_DEPTH,
            },
            most_awaited: match load.script.as_ref().is_some_and(|it| it.is_mixed()) {
                true => 1,
                false => u32::MAX,
            },
            ages: (is_replaced || load.connection_stages.is_some()).then(VecDeque::new),
            numbers: (is_replaced && load.has_udp()).then(HashSet::new),
            gauge,
            ..Flows::default()
        }
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Flow> {
        self.table.get(index as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Flow> {
        self.table.get_mut(index as usize)
    }

    /// A flow, where it's still there.
    pub(super) fn find(&self, key: Key) -> Option<&Flow> {
        self.get(key.index).filter(|flow| flow.number == key.number)
    }

    /// Indices that flows have, or had: each is below this.
    pub(super) fn capacity(&self) -> u32 {
        self.table.capacity() as u32
    }

    /// What the flows over UDP have counted, all together.
    pub(super) fn datagrams(&self) -> Datagrams {
        let mut all = Datagrams::default();
        let flows = self.table.iter().filter_map(|(_, flow)| flow.udp.as_ref());
        flows.for_each(|udp| all.merge(&udp.counts));
        all
    }

    /// Whether there is a flow of this number, where sockets are replaced.
    pub(super) fn has_number(&self, number: u32) -> bool {
        self.numbers.as_ref().is_some_and(|it| it.contains(&number))
    }

    /// A flow is being dialed; its index.
    pub(super) fn dialed(&mut self, flow: Flow) -> u32 {
        if let Some(numbers) = &mut self.numbers {
            numbers.insert(flow.number);
        }
        self.table.insert(flow) as u32
    }

    /// How the reactor knows it.
    pub(super) fn bound(&mut self, index: u32, socket: Socket) {
        if let Some(flow) = self.get_mut(index) {
            flow.socket = socket;
        }
    }

    /// Its first answer has come.
    pub(super) fn confirmed(&mut self, index: u32, now: u64) {
        let Some(flow) = self.get_mut(index) else {
            return;
        };
        flow.stage = Stage::Live;
        flow.flags -= Flags::TURNS_OVER;
        let number = flow.number;
        self.open += 1;
        self.gauge.opened();
        if let Some(ages) = &mut self.ages {
            ages.push_back((Key { index, number }, now));
            // With a long lifetime, and a server that hangs up on everybody, the list would grow
            // for as long as that.
            if ages.len() as u64 > 2 * self.open + MOST_STALE as u64 {
                let table = &self.table;
                ages.retain(|(key, _)| is_live(table, *key));
            }
        }
        if self.is_open_loop {
            self.enqueue(index);
        }
    }

    /// Since when the oldest live flow carries the load.
    pub(super) fn oldest_since(&mut self) -> Option<u64> {
        loop {
            let &(key, since) = self.ages.as_ref()?.front()?;
            if is_live(&self.table, key) {
                return Some(since);
            }
            self.ages.as_mut()?.pop_front();
        }
    }

    /// Whether all messages are answered that a live flow may send, or given up.
    pub(super) fn is_spent(&self, index: u32) -> bool {
        let is_spent = |flow: &Flow| {
            flow.stage == Stage::Live && flow.next >= self.most_sent && flow.awaited() == 0
        };
        self.get(index).is_some_and(is_spent)
    }

    /// A live flow is to be closed when what is under way on it has been answered, and another is
    /// to take its place or none. What a closed loop would send next was not due at a certain time,
    /// and is not sent; heartbeats were.
    pub(super) fn retire(&mut self, index: u32, for_another: bool) {
        let has_beats = self.has_beats;
        if let Some(flow) = self.get_mut(index) {
            flow.stage = Stage::Retiring;
            flow.flags.set(Flags::TURNS_OVER, for_another);
            if !has_beats {
                flow.owed = 0;
            }
        }
    }

    /// The same for the oldest live flow.
    pub(super) fn retire_oldest(&mut self, for_another: bool) -> Option<u32> {
        self.oldest_since()?;
        let (key, _) = self.ages.as_mut()?.pop_front()?;
        self.retire(key.index, for_another);
        Some(key.index)
    }

    /// How many messages a flow is to send now, as far as it's concerned: one of the schedule; in a
    /// closed loop what its depth leaves room for; and what it owes.
    #[inline]
    pub(super) fn wanted(&self, flow: &Flow) -> u32 {
        if !flow.is_ready() {
            return 0;
        }
        let scheduled = u32::from(self.is_open_loop);
        let wanted = self.depth.saturating_sub(flow.awaited()) + flow.owed + scheduled;
        let wanted = wanted.min(self.most_sent.saturating_sub(flow.next));
        match flow.udp {
            // Datagrams that nobody answers hold up none that follow.
            Some(_) => wanted,
            // What was given up is still kept, for its answer may come.
            None => wanted
                .min(self.most_kept.saturating_sub(flow.kept))
                .min(self.most_awaited.saturating_sub(flow.awaited())),
        }
    }

    /// A message was sent.
    #[inline]
    pub(super) fn sent(&mut self, index: u32, sent: Sent) {
        if let Some(flow) = self.table.get_mut(index as usize) {
            flow.push(sent);
            self.under_way += 1;
        }
    }

    /// A datagram is about to be sent. Those that were sent at `then` or before, and that nobody
    /// waits for, are forgotten. The one that had to be forgotten though it was awaited.
    pub(super) fn make_room(&mut self, index: u32, then: u64) -> Option<Sent> {
        let flow = self.get_mut(index)?;
        flow.forget(then);
        if flow.kept < MOST_KEPT {
            return None;
        }
        let forgotten = flow.forget_oldest();
        self.under_way -= u64::from(forgotten.is_some());
        forgotten
    }

    /// A message that the flow owed was sent, or has come to nothing. The next one it owes is due
    /// an interval later.
    pub(super) fn paid(&mut self, index: u32, interval: u64) {
        if let Some(flow) = self.table.get_mut(index as usize) {
            flow.owed = flow.owed.saturating_sub(1);
            if self.has_beats {
                flow.time = flow.time.saturating_add(interval);
            }
        }
    }

    /// Whether a flow owes a message that it may still send: now, or when its socket takes it.
    pub(super) fn owes(&self) -> bool {
        let may_send =
            |flow: &Flow| flow.stage != Stage::Ended && !flow.flags.contains(Flags::PEER_FINISHED);
        self.table
            .iter()
            .any(|(_, flow)| flow.owed > 0 && may_send(flow))
    }

    /// Messages are due on this very flow, the first of them then.
    pub(super) fn owe(&mut self, index: u32, count: u64, due: u64) {
        if let Some(flow) = self.table.get_mut(index as usize) {
            if self.has_beats && flow.owed == 0 {
                flow.time = due;
            }
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            flow.owed = flow.owed.saturating_add(count);
        }
        self.enqueue(index);
    }

    /// A flow may have something to send, from outside of its callback.
    pub(super) fn enqueue(&mut self, index: u32) {
        if let Some(flow) = self.table.get_mut(index as usize)
            && !flow.flags.contains(Flags::QUEUED)
        {
            flow.flags |= Flags::QUEUED;
            let number = flow.number;
            self.queue.push_back(Key { index, number });
        }
    }

    /// The flow whose turn it is to send: the first in the queue that can.
    #[inline]
    pub(super) fn first_ready(&mut self) -> Option<u32> {
        loop {
            let &key = self.queue.front()?;
            match self.find(key) {
                Some(flow) if self.wanted(flow) > 0 => return Some(key.index),
                Some(_) => {
                    if let Some(flow) = self.get_mut(key.index) {
                        flow.flags -= Flags::QUEUED;
                    }
                }
                None => {}
            }
            self.queue.pop_front();
        }
    }

    /// It was the first one's turn: the others come before it again.
    #[inline]
    pub(super) fn rotate(&mut self) {
        self.queue.rotate_left(1);
    }

    /// Its socket takes something again.
    pub(super) fn has_room(&mut self, index: u32) {
        if let Some(flow) = self.get_mut(index) {
            flow.flags -= Flags::FULL;
            self.enqueue(index);
        }
    }

    /// One thing more is known of it: as long as its socket is full, or when its peer has finished,
    /// it can't send.
    pub(super) fn mark(&mut self, index: u32, flag: Flags) {
        if let Some(flow) = self.get_mut(index) {
            flow.flags |= flag;
        }
    }

    /// The oldest message over a stream was answered, where `find` finds its answer. `again_at`: in
    /// a closed loop, another is sent in its place at once, at this time.
    #[inline(always)]
    pub(super) fn answered(
        &mut self,
        index: u32,
        again_at: Option<u64>,
        find: impl FnOnce(&Flow) -> Option<usize>,
    ) -> Option<Answered> {
        let flow = self.table.get_mut(index as usize)?;
        let bytes = find(flow)?;
        let (sent, given_up) = flow.pop()?;
        let mut answered = Answered {
            flow: flow.number,
            stage: flow.stage,
            sent,
            bytes,
            given_up,
            next: None,
            opens: false,
        };
        self.under_way -= u64::from(!given_up);
        // In place of one that was given up, another has been sent.
        if let Some(now) = again_at
            && self.depth > 0
            && !given_up
            && flow.is_ready()
        {
            answered.next = Some(flow.next);
            flow.push(Sent { due: now, at: now });
            self.under_way += 1;
        } else if flow.stage == Stage::Confirming && flow.next < self.opening {
            answered.next = Some(flow.next);
            answered.opens = true;
            flow.push(Sent::to_confirm(sent.since()));
            self.under_way += 1;
        } else if self.is_open_loop {
            self.enqueue(index);
        }
        Some(answered)
    }

    /// Gives up what was due at `then` or before and is not answered, a message at a time.
    pub(super) fn give_up(&mut self, index: u32, then: u64) -> Option<Sent> {
        let sent = self.get_mut(index)?.give_up(then)?;
        self.under_way -= 1;
        Some(sent)
    }

    /// An answer to a flow's datagram of this number has come; `None`: that was not sent.
    pub(super) fn heard(&mut self, index: u32, number: u32) -> Option<Arrival> {
        let arrival = self.get_mut(index)?.heard(number)?;
        if let Arrival::First { given_up, .. } = arrival {
            self.under_way -= u64::from(!given_up);
        }
        Some(arrival)
    }

    /// What only a flow over UDP has.
    pub(super) fn udp(&mut self, index: u32) -> Option<&mut Udp> {
        self.get_mut(index)?.udp.as_deref_mut()
    }

    /// A flow has ended, and its slot stays until its connection is gone. What was under way on it
    /// is to be taken out.
    pub(super) fn ends(&mut self, index: u32) -> Option<&mut Flow> {
        let flow = self.table.get_mut(index as usize)?;
        let was = std::mem::replace(&mut flow.stage, Stage::Ended);
        self.under_way -= u64::from(flow.awaited());
        if matches!(was, Stage::Live | Stage::Retiring) {
            self.open -= 1;
            self.gauge.close(1);
        }
        Some(flow)
    }

    /// A flow that has ended is gone.
    pub(super) fn remove(&mut self, index: u32) -> Option<Flow> {
        let flow = self.table.try_remove(index as usize)?;
        if let Some(numbers) = &mut self.numbers {
            numbers.remove(&flow.number);
        }
        Some(flow)
    }

    /// All flows, when the run is over: from here on callbacks find none.
    pub(super) fn take_all(&mut self) -> Slab<Flow> {
        self.gauge.close(self.open);
        std::mem::take(self).table
    }
}

fn is_live(table: &Slab<Flow>, key: Key) -> bool {
    let flow = table.get(key.index as usize);
    flow.is_some_and(|flow| flow.number == key.number && flow.stage == Stage::Live)
}

/// A message over a stream that was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// The number of its flow, and how far that is.
    pub(super) flow: u32,
    pub(super) stage: Stage,
    pub(super) sent: Sent,
    /// Bytes of the answer that have come now.
    pub(super) bytes: usize,
    /// Whether it had been given up.
    pub(super) given_up: bool,
    /// The number of the message that was sent in its place.
    pub(super) next: Option<u32>,
    /// Whether that opens the connection as well.
    pub(super) opens: bool,
}
