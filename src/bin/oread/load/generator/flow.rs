//! What is kept of one connection, or of one UDP socket.

use std::collections::VecDeque;

use bitflags::bitflags;
use oread::{ConnectionId, UdpId};

use crate::load::count::Datagrams;
use crate::load::exchange::found::Scan;

/// A message: when it was due, and when it was sent. A message outside of the measured time needs
/// no other mark than `due`: it lies before that time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) due: u64,
    pub(super) at: u64,
}

/// Of `at`: the datagram was answered. A run is shorter than 292 years.
const ANSWERED: u64 = 1 << 63;

impl Sent {
    /// A message that confirms a connection: due before everything, so it's never measured.
    pub(super) const fn to_confirm(at: u64) -> Sent {
        Sent { due: 0, at }
    }

    /// Whether it was sent to confirm its connection.
    #[inline]
    pub(super) fn confirms(self) -> bool {
        self.due == 0
    }

    /// What the message timeout counts from: when the message was due. A message that confirms its
    /// connection is due when the connection is there.
    #[inline]
    pub(super) fn since(self) -> u64 {
        match self.confirms() {
            true => self.sent_at(),
            false => self.due,
        }
    }

    /// When it was sent: an answer is waited for as long as the timeout from here on, for one that
    /// was sent late has its answer as soon as others.
    #[inline]
    fn sent_at(self) -> u64 {
        self.at & !ANSWERED
    }
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake is under way.
    #[default]
    Dialing,
    /// Its first message is: nothing else is sent until that is answered.
    Confirming,
    /// It carries the load.
    Live,
    /// It will be closed when what is under way has been answered.
    Retiring,
    /// It has ended, and that is counted. Its connection is about to be gone.
    Ended,
}

/// How the reactor knows a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Socket {
    /// Not yet.
    #[default]
    None,
    Stream(ConnectionId),
    Datagrams(UdpId),
}

bitflags! {
    /// What else is known of a flow.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct Flags: u8 {
        /// Its peer will send no more.
        const PEER_FINISHED = 1;
        /// Its socket takes nothing now. An event will tell when it does.
        const FULL = 2;
        /// It stands in the queue of those that have something to send.
        const QUEUED = 4;
        /// Its place is part of the turnover: it takes the place of one that the load has closed,
        /// and is not confirmed; or it's to be closed for another.
        const TURNS_OVER = 8;
        /// A part of its oldest message's answer has come and was looked at: what there is to know
        /// of it stands in its [`Reading`].
        const TORN = 16;
    }
}

/// What only a flow over UDP has.
#[derive(Debug, Default)]
pub(super) struct Udp {
    /// How many datagrams were answered before an older one was settled.
    gaps: u32,
    /// The highest number that was answered.
    highest: Option<u32>,
    pub(super) counts: Datagrams,
}

/// What an answer over UDP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first to its datagram. `given_up`: nobody waited for it any more; `after_later`: one to
    /// a later datagram has come before.
    First {
        sent: Sent,
        given_up: bool,
        after_later: bool,
    },
    /// Another one.
    Again(Sent),
    /// To a datagram too long ago to be told.
    TooOld,
}

/// How far the answer of a flow has been read that is not whole yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// The flow's number: another one may have the place by now.
    pub(super) flow: u32,
    pub(super) scan: Scan,
    /// How many bytes of it are to come that nobody looks at, and whether the server ends the
    /// connection behind them.
    pub(super) rest: u64,
    pub(super) is_last: bool,
}

/// One flow.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The oldest message that is kept, and those behind it. Memory is taken when there are more
    /// than one, and then kept: a flow that had many under way will have many again.
    first: Sent,
    #[allow(clippy::box_collection)] // 8 bytes of each idle connection, not 32.
    more: Option<Box<VecDeque<Sent>>>,
    /// When it was dialed. With heartbeats, from its confirmation on: when the oldest message that
    /// it owes is due.
    pub(super) time: u64,
    pub(super) udp: Option<Box<Udp>>,
    pub(super) socket: Socket,
    /// Which dial of all threads it was: what its messages are made of.
    pub(super) number: u32,
    /// The number of its next message.
    pub(super) next: u32,
    /// Messages that are kept: those before `next`. Over a stream they are not answered; over UDP
    /// they may be, for a second answer is told from a first.
    pub(super) kept: u32,
    /// How many of the oldest nobody waits for any more: answered, or given up because their time
    /// was over.
    settled: u32,
    /// Bytes of the oldest message's answer that have come.
    pub(super) got: u32,
    /// Messages that are due on this very flow and not sent yet: thought about, or heartbeats.
    pub(super) owed: u32,
    /// Where it leads.
    pub(super) target: u16,
    pub(super) stage: Stage,
    pub(super) flags: Flags,
}

impl Flow {
    /// A flow that is being dialed.
    pub(super) fn new(number: u32, target: u16, flags: Flags, dialed: u64) -> Flow {
        Flow {
            time: dialed,
            number,
            target,
            flags,
            ..Flow::default()
        }
    }

    /// The number of a message that is about to be sent. The first one has its own already.
    pub(super) fn number_of(&self, sent: Sent) -> u32 {
        if sent.confirms() { 0 } else { self.next }
    }

    /// Messages that are under way and not given up.
    #[inline]
    pub(super) fn awaited(&self) -> u32 {
        let gaps = self.udp.as_ref().map_or(0, |udp| udp.gaps);
        self.kept - self.settled - gaps
    }

    /// The number of the oldest message that is kept.
    #[inline(always)]
    pub(super) fn oldest(&self) -> u32 {
        self.next.wrapping_sub(self.kept)
    }

    /// The message with so many before it.
    fn place(&mut self, place: u32) -> Option<&mut Sent> {
        match place.checked_sub(1) {
            _ if place >= self.kept => None,
            None => Some(&mut self.first),
            Some(behind) => self.more.as_mut()?.get_mut(behind as usize),
        }
    }

    /// The oldest message over a stream, whose answer comes next.
    pub(super) fn asked(&self) -> Option<Sent> {
        (self.kept > 0).then_some(self.first)
    }

    /// A message was sent.
    #[inline]
    pub(super) fn push(&mut self, sent: Sent) {
        match self.kept {
            0 => self.first = sent,
            _ => self.more.get_or_insert_default().push_back(sent),
        }
        self.kept += 1;
        self.next = self.next.wrapping_add(1);
    }

    /// Takes the oldest one out, and says whether it was settled.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Sent, bool)> {
        self.kept = self.kept.checked_sub(1)?;
        let oldest = self.first;
        if self.kept > 0
            && let Some(next) = self.more.as_mut().and_then(|more| more.pop_front())
        {
            self.first = next;
        }
        let was_settled = self.settled > 0;
        if was_settled {
            self.settled -= 1;
        }
        self.got = 0;
        Some((oldest, was_settled))
    }

    /// Takes the oldest message out, whatever is known of it; the message, where it was awaited.
    pub(super) fn forget_oldest(&mut self) -> Option<Sent> {
        let forgotten = (self.settled == 0)
            .then(|| self.give_up(u64::MAX))
            .flatten();
        self.pop();
        forgotten
    }

    /// Gives up the oldest message that is awaited, where it was sent at `then` or before.
    pub(super) fn give_up(&mut self, then: u64) -> Option<Sent> {
        let sent = *self.place(self.settled)?;
        (sent.sent_at() <= then).then(|| {
            self.settle();
            sent
        })
    }

    /// The oldest message that is awaited is so no longer.
    fn settle(&mut self) {
        self.settled += 1;
        while self
            .place(self.settled)
            .is_some_and(|sent| sent.at & ANSWERED != 0)
        {
            self.settled += 1;
            if let Some(udp) = &mut self.udp {
                udp.gaps -= 1;
            }
        }
    }

    /// An answer to datagram `number` has come; `None`: that was not sent.
    pub(super) fn heard(&mut self, number: u32) -> Option<Arrival> {
        let age = self.next.wrapping_sub(number);
        if age == 0 || age > u32::MAX / 2 {
            return None;
        }
        let Some(place) = self.kept.checked_sub(age) else {
            return Some(Arrival::TooOld);
        };
        let settled = self.settled;
        let kept = self.place(place)?;
        let sent = Sent {
            at: kept.at & !ANSWERED,
            ..*kept
        };
        if sent != *kept {
            return Some(Arrival::Again(sent));
        }
        kept.at |= ANSWERED;
        if place == settled {
            self.settle();
        }
        let mut after_later = false;
        if let Some(udp) = &mut self.udp {
            udp.gaps += u32::from(place > settled);
            let later = udp
                .highest
                .filter(|highest| highest.wrapping_sub(number) < u32::MAX / 2);
            after_later = later.is_some();
            udp.highest = later.or(Some(number));
        }
        Some(Arrival::First {
            sent,
            given_up: place < settled,
            after_later,
        })
    }

    /// Forgets datagrams that nobody waits for and that were sent at `then` or before: those of a
    /// flow that sends on.
    pub(super) fn forget(&mut self, then: u64) {
        while self.settled > 0 && self.first.sent_at() <= then {
            self.pop();
        }
    }

    /// Whether its place is part of the turnover.
    pub(super) fn turns_over(&self) -> bool {
        self.flags.contains(Flags::TURNS_OVER)
    }

    /// Whether its socket can be asked to take a message: one that is to be closed, for what it
    /// owes.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        let sends = match self.stage {
            Stage::Live => true,
            Stage::Retiring => self.owed > 0,
            _ => false,
        };
        sends && !self.flags.intersects(Flags::FULL | Flags::PEER_FINISHED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(at: u64) -> Sent {
        Sent { due: at, at }
    }

    fn flow(is_udp: bool) -> Flow {
        let mut flow = Flow::new(0, 0, Flags::empty(), 0);
        flow.udp = is_udp.then(Box::default);
        flow
    }

    #[test]
    fn a_held_connection_takes_eighty_bytes() {
        assert!(size_of::<Flow>() <= 80, "{}", size_of::<Flow>());
        assert_eq!(size_of::<Option<Flow>>(), size_of::<Flow>());
    }

    #[test]
    fn a_datagram_that_had_to_be_forgotten_is_one_that_was_awaited_and_is_counted_once() {
        let mut flow = flow(true);
        (0..4).for_each(|at| flow.push(sent(at)));
        // The second one is answered while the first is awaited.
        assert!(matches!(flow.heard(1), Some(Arrival::First { .. })));
        assert_eq!(flow.awaited(), 3);
        assert_eq!(flow.forget_oldest(), Some(sent(0)));
        assert_eq!(flow.awaited(), 2);
        // That one nobody waits for.
        assert_eq!(flow.forget_oldest(), None);
        assert_eq!(flow.awaited(), 2);
        assert_eq!(flow.forget_oldest(), Some(sent(2)));
        assert_eq!(flow.forget_oldest(), Some(sent(3)));
        assert_eq!((flow.awaited(), flow.forget_oldest()), (0, None));
    }

    #[test]
    fn messages_come_out_in_the_order_they_went_in() {
        let mut flow = flow(false);
        assert_eq!(flow.pop(), None);
        for round in 0..3 {
            for at in 0..5 {
                flow.push(sent(at + round));
                assert_eq!(flow.place(at as u32), Some(&mut sent(at + round)));
            }
            assert_eq!(flow.place(5), None);
            for at in 0..5 {
                assert_eq!(flow.asked(), Some(sent(at + round)));
                assert_eq!(flow.pop(), Some((sent(at + round), false)));
            }
            assert_eq!((flow.kept, flow.oldest()), (0, 5 * (round as u32 + 1)));
        }
    }

    #[test]
    fn a_message_is_given_up_once_by_when_it_was_sent() {
        let mut flow = flow(false);
        for at in [10, 20, 30] {
            flow.push(sent(at));
        }
        assert_eq!(flow.give_up(20), Some(sent(10)));
        assert_eq!(flow.give_up(20), Some(sent(20)));
        assert_eq!((flow.give_up(29), flow.awaited()), (None, 1));
        assert_eq!(flow.pop(), Some((sent(10), true)));
        assert_eq!(flow.give_up(30), Some(sent(30)));
        // One that waited for room: its answer comes no sooner for that.
        flow.push(Sent { due: 40, at: 500 });
        assert_eq!(flow.give_up(499), None);
        assert_eq!(flow.give_up(500), Some(Sent { due: 40, at: 500 }));
        flow.push(Sent::to_confirm(500));
        assert_eq!(flow.give_up(499), None);
    }

    /// A first answer to what was sent at this time.
    fn first(at: u64, given_up: bool, after_later: bool) -> Option<Arrival> {
        Some(Arrival::First {
            sent: sent(at),
            given_up,
            after_later,
        })
    }

    #[test]
    fn duplicates_and_swaps_are_told_from_first_answers() {
        let mut flow = flow(true);
        for at in 0..4 {
            flow.push(sent(at));
        }
        assert_eq!(flow.heard(0), first(0, false, false));
        assert_eq!(flow.heard(2), first(2, false, false));
        assert_eq!(flow.awaited(), 2);
        assert_eq!(flow.give_up(1), Some(sent(1)));
        assert_eq!((flow.awaited(), flow.give_up(2)), (1, None));
        assert_eq!(flow.heard(1), first(1, true, true));
        assert_eq!(flow.heard(1), Some(Arrival::Again(sent(1))));
        assert_eq!(flow.heard(4), None);
        flow.forget(2);
        assert_eq!(flow.heard(2), Some(Arrival::TooOld));
        assert_eq!(flow.heard(3), first(3, false, false));
        assert_eq!((flow.awaited(), flow.kept), (0, 1));
    }

    #[test]
    fn the_numbers_of_datagrams_go_round() {
        let mut flow = flow(true);
        flow.next = u32::MAX - 1;
        for at in 0..4 {
            flow.push(sent(at));
        }
        for (number, arrival) in [
            (u32::MAX - 2, Some(Arrival::TooOld)),
            (u32::MAX, first(1, false, false)),
            (1, first(3, false, false)),
            (0, first(2, false, true)),
            (2, None),
        ] {
            assert_eq!(flow.heard(number), arrival, "{number}");
        }
        assert_eq!(flow.awaited(), 1);
    }
}
