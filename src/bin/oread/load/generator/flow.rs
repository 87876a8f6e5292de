//! What is kept of one connection, or of one UDP socket.

use std::collections::VecDeque;

use oread::{ConnectionId, UdpId};

use crate::load::generator::window::Window;

/// No place in the list of those who can take a message.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// A message under way: when it should have been sent, and when it was. Messages outside of the
/// measured time need no other mark than `due`: it lies before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) due: u64,
    pub(crate) at: u64,
}

/// What is under way on one flow, oldest first. One message is kept inline; memory is taken when
/// there are more, and then kept: who had many under way will have them again.
#[derive(Debug)]
pub(crate) struct Outstanding {
    first: Sent,
    len: u32,
    #[allow(clippy::box_collection)] // 8 bytes of each idle connection, not 32.
    more: Option<Box<VecDeque<Sent>>>,
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
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(crate) fn push(&mut self, sent: Sent) {
        if self.len == 0 {
            self.first = sent;
        } else {
            self.more.get_or_insert_default().push_back(sent);
        }
        self.len += 1;
    }

    /// The oldest.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Sent> {
        self.len = self.len.checked_sub(1)?;
        let oldest = self.first;
        if self.len > 0
            && let Some(next) = self.more.as_mut().and_then(|more| more.pop_front())
        {
            self.first = next;
        }
        Some(oldest)
    }

    /// Takes the oldest out and adds another one.
    #[inline(always)]
    pub(crate) fn replace_oldest(&mut self, sent: Sent) {
        if self.len == 1 {
            self.first = sent;
        } else {
            self.pop();
            self.push(sent);
        }
    }

    /// The one with so many before it.
    pub(crate) fn get(&self, index: u32) -> Option<Sent> {
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
    pub(crate) fn oldest(&self) -> Option<Sent> {
        (self.len > 0).then_some(self.first)
    }
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The handshake is under way.
    Dialing,
    /// Its first message is: nothing else is sent until it's answered.
    Confirming,
    /// It carries the load.
    Live,
    /// It's to be closed when what is under way has been answered.
    Retiring,
    /// The load has closed it, and has counted that.
    Closing,
    /// It has ended though the load had not ended it, and that is counted.
    Lost,
}

/// Why a flow was dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It's one of those that were asked for.
    Asked,
    /// The load has closed another one, for this one to take its place.
    Turnover,
    /// Another one was lost, or could not be dialed.
    Retry,
}

/// How the reactor knows a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    /// Not yet, or no longer.
    None,
    Stream(ConnectionId),
    Datagrams(UdpId),
}

/// One flow.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) socket: Socket,
    pub(crate) stage: Stage,
    pub(crate) cause: Cause,
    /// Whether the ramp waits for it no longer.
    pub(crate) settled: bool,
    /// Whether the peer has finished.
    pub(crate) peer_finished: bool,
    /// Which dial of all threads it was: what its messages are made of.
    pub(crate) number: u32,
    /// The number of its next message.
    pub(crate) next: u32,
    /// Bytes of the oldest message's answer that have come.
    pub(crate) got: u32,
    /// How many of the oldest messages were given up because their time was over. Their answers may
    /// come yet.
    pub(crate) given_up: u32,
    /// Messages that it has to send and that nobody could take yet, where flows think between them.
    pub(crate) owed: u32,
    /// Its place among those who can take a message, or [`NOWHERE`].
    pub(crate) place: u32,
    /// When it was dialed.
    pub(crate) dialed: u64,
    pub(crate) outstanding: Outstanding,
    /// What only UDP needs.
    pub(crate) window: Option<Box<Window>>,
}

impl Flow {
    /// A flow that is being dialed.
    pub(crate) fn new(number: u32, cause: Cause, dialed: u64) -> Flow {
        Flow {
            socket: Socket::None,
            stage: Stage::Dialing,
            cause,
            settled: false,
            peer_finished: false,
            number,
            next: 0,
            got: 0,
            given_up: 0,
            owed: 0,
            place: NOWHERE,
            dialed,
            outstanding: Outstanding::new(),
            window: None,
        }
    }

    /// Messages that are under way and not given up.
    #[inline]
    pub(crate) fn awaited(&self) -> u32 {
        let answered = self.window.as_ref().map_or(0, |window| window.within);
        self.outstanding.len() - self.given_up - answered
    }

    /// The number of the oldest message under way.
    #[inline(always)]
    pub(crate) fn oldest(&self) -> u32 {
        self.next.wrapping_sub(self.outstanding.len())
    }

    /// Gives up messages that were sent before `then`; how many.
    pub(crate) fn give_up(&mut self, then: u64) -> u32 {
        let before = self.given_up;
        while let Some(sent) = self.outstanding.get(self.given_up)
            && sent.at <= then
        {
            self.given_up += 1;
        }
        self.given_up - before
    }
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
            outstanding.replace_oldest(sent(5 + round));
            for at in 1..6 {
                assert_eq!(outstanding.oldest(), Some(sent(at + round)));
                assert_eq!(outstanding.pop(), Some(sent(at + round)));
            }
            outstanding.push(sent(0));
            outstanding.replace_oldest(sent(1));
            assert_eq!(outstanding.pop(), Some(sent(1)));
            assert_eq!(outstanding.len(), 0);
        }
    }

    #[test]
    fn a_message_is_given_up_once() {
        let mut flow = Flow::new(0, Cause::Asked, 0);
        for at in [10, 20, 30] {
            flow.outstanding.push(sent(at));
        }
        assert_eq!(flow.give_up(20), 2);
        assert_eq!(flow.give_up(29), 0);
        assert_eq!((flow.awaited(), flow.give_up(30)), (1, 1));
    }
}
