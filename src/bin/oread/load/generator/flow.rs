//! What is kept of one connection, or of one UDP socket.

use std::collections::VecDeque;

use bitflags::bitflags;
use oread::{ConnectionId, UdpId};

use super::window::Window;

/// No place among the takers.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A message under way: when it was due, and when it was sent. A message outside of the measured
/// time needs no other mark than `due`: it lies before that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) due: u64,
    pub(super) at: u64,
}

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
        if self.confirms() { self.at } else { self.due }
    }
}

/// Messages under way on one flow, oldest first. One message is kept inline. Memory is taken when
/// there are more, and then kept: a flow that had many under way will have many again.
#[derive(Debug)]
pub(super) struct Outstanding {
    first: Sent,
    #[allow(clippy::box_collection)] // 8 bytes of each idle connection, not 32.
    more: Option<Box<VecDeque<Sent>>>,
    len: u32,
}

impl Outstanding {
    const fn new() -> Outstanding {
        Outstanding {
            first: Sent { due: 0, at: 0 },
            len: 0,
            more: None,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(super) fn push(&mut self, sent: Sent) {
        if self.len == 0 {
            self.first = sent;
        } else {
            self.more.get_or_insert_default().push_back(sent);
        }
        self.len += 1;
    }

    /// Takes the oldest one out.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Sent> {
        self.len = self.len.checked_sub(1)?;
        let oldest = self.first;
        if self.len > 0
            && let Some(next) = self.more.as_mut().and_then(|more| more.pop_front())
        {
            self.first = next;
        }
        Some(oldest)
    }

    /// The one with so many before it.
    pub(super) fn get(&self, index: u32) -> Option<Sent> {
        if index >= self.len {
            return None;
        }
        match index.checked_sub(1) {
            None => Some(self.first),
            Some(behind) => self.more.as_ref()?.get(behind as usize).copied(),
        }
    }

    /// The oldest one.
    #[inline]
    pub(super) fn oldest(&self) -> Option<Sent> {
        (self.len > 0).then_some(self.first)
    }
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake is under way.
    Dialing,
    /// Its first message is: nothing else is sent until that is answered.
    Confirming,
    /// It carries the load.
    Live,
    /// It will be closed when what is under way has been answered.
    Retiring,
    /// The load has closed it, and has counted that.
    Closing,
    /// It has ended though the load had not ended it, and that is counted.
    Lost,
}

/// Why a flow was dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It's one of those that were asked for.
    Asked,
    /// The load has closed another one, for this one to take its place.
    Turnover,
    /// Another one was lost, or could not be dialed.
    Retry,
}

/// How the reactor knows a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// Not yet, or no longer.
    None,
    Stream(ConnectionId),
    Datagrams(UdpId),
}

bitflags! {
    /// What else is known of a flow.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Flags: u8 {
        /// The ramp waits for it no longer.
        const SETTLED = 1;
        /// Its peer will send no more.
        const PEER_FINISHED = 2;
        /// Its socket takes nothing now. An event will tell when it does.
        const FULL = 4;
        /// It stands in the queue of those that have something to send.
        const QUEUED = 8;
    }
}

/// One flow.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) outstanding: Outstanding,
    /// When it was dialed. With heartbeats, from its confirmation on: when the oldest message that
    /// it owes is due.
    pub(super) time: u64,
    /// What only UDP needs.
    pub(super) window: Option<Box<Window>>,
    pub(super) socket: Socket,
    /// Which dial of all threads it was: what its messages are made of.
    pub(super) number: u32,
    /// The number of its next message.
    pub(super) next: u32,
    /// Bytes of the oldest message's answer that have come.
    pub(super) got: u32,
    /// How many of the oldest messages were given up because their time was over. Their answers may
    /// come yet.
    pub(super) given_up: u32,
    /// Messages that are due on this very flow and not sent yet: thought about, or heartbeats.
    pub(super) owed: u32,
    /// Its place among the takers, or [`NOWHERE`].
    pub(super) place: u32,
    /// Where it leads.
    pub(super) target: u16,
    pub(super) stage: Stage,
    pub(super) cause: Cause,
    pub(super) flags: Flags,
}

impl Flow {
    /// A flow that is being dialed.
    pub(super) fn new(number: u32, target: u16, cause: Cause, dialed: u64) -> Flow {
        Flow {
            outstanding: Outstanding::new(),
            time: dialed,
            window: None,
            socket: Socket::None,
            number,
            next: 0,
            got: 0,
            given_up: 0,
            owed: 0,
            place: NOWHERE,
            target,
            stage: Stage::Dialing,
            cause,
            flags: Flags::empty(),
        }
    }

    /// Messages that are under way and not given up.
    #[inline]
    pub(super) fn awaited(&self) -> u32 {
        let answered = self.window.as_ref().map_or(0, |window| window.within());
        self.outstanding.len() - self.given_up - answered
    }

    /// The number of the oldest message under way.
    #[inline(always)]
    pub(super) fn oldest(&self) -> u32 {
        self.next.wrapping_sub(self.outstanding.len())
    }

    /// Gives up the oldest message over a stream that is not given up yet, where it was due at
    /// `then` or before.
    pub(super) fn give_up(&mut self, then: u64) -> Option<Sent> {
        let sent = self.outstanding.get(self.given_up)?;
        (sent.since() <= then).then(|| {
            self.given_up += 1;
            sent
        })
    }

    /// Whether its socket can be asked to take a message.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Live && !self.flags.intersects(Flags::FULL | Flags::PEER_FINISHED)
    }
}

/// Takes the oldest datagram out of what is under way if `done` says so of it, and of whether it
/// was answered.
pub(super) fn settle_oldest(
    flow: &mut Flow,
    done: impl Fn(Sent, bool) -> bool,
) -> Option<(Sent, bool)> {
    let number = flow.oldest();
    let sent = flow.outstanding.oldest()?;
    let window = flow.window.as_mut()?;
    if !done(sent, window.is_answered(number)) {
        return None;
    }
    let answered = window.forget(number);
    flow.outstanding.pop();
    Some((sent, answered))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(at: u64) -> Sent {
        Sent { due: at, at }
    }

    #[test]
    fn a_held_connection_takes_less_than_a_hundred_bytes() {
        assert!(size_of::<Flow>() <= 96, "{}", size_of::<Flow>());
        assert_eq!(size_of::<Option<Flow>>(), size_of::<Flow>());
    }

    #[test]
    fn messages_come_out_in_the_order_they_went_in() {
        let mut outstanding = Outstanding::new();
        assert_eq!(outstanding.pop(), None);
        for round in 0..3 {
            for at in 0..5 {
                outstanding.push(sent(at + round));
                assert_eq!(outstanding.get(at as u32), Some(sent(at + round)));
            }
            assert_eq!(outstanding.get(5), None);
            for at in 0..5 {
                assert_eq!(outstanding.oldest(), Some(sent(at + round)));
                assert_eq!(outstanding.pop(), Some(sent(at + round)));
            }
            assert_eq!(outstanding.len(), 0);
        }
    }

    #[test]
    fn a_message_is_given_up_once() {
        let mut flow = Flow::new(0, 0, Cause::Asked, 0);
        for at in [10, 20, 30] {
            flow.outstanding.push(sent(at));
        }
        assert_eq!(flow.give_up(20), Some(sent(10)));
        assert_eq!(flow.give_up(20), Some(sent(20)));
        assert_eq!((flow.give_up(29), flow.awaited()), (None, 1));
        assert_eq!(flow.give_up(30), Some(sent(30)));
    }

    #[test]
    fn a_message_that_waited_for_room_is_given_up_by_when_it_was_due() {
        let mut flow = Flow::new(0, 0, Cause::Asked, 0);
        flow.outstanding.push(Sent { due: 10, at: 500 });
        assert_eq!(flow.give_up(10), Some(Sent { due: 10, at: 500 }));
        flow.outstanding.push(Sent::to_confirm(500));
        assert_eq!(flow.give_up(499), None);
    }
}
