//! The closed loop: flows begin, one after the other, and then send as their answers come. What one
//! of them writes is in `load/stream` and `load/datagrams`, pauses are in `load/think`.

use oread::{Context, Pressure, UdpId};

use crate::load::generator::Generator;
use crate::load::generator::flow::{Socket, Stage};
use crate::load::generator::traffic::Mode;

/// Connections that one turn has begin at most, in a closed loop.
const KICKS: u32 = 64;
/// Datagrams that one call sends on a flow at most, in a closed loop. Where the system takes
/// whatever it's given, it would go on for as long as the depth has it, and nobody would be heard
/// meanwhile.
const MOST_A_CALL: u32 = 16;
/// Flows with more to send that one turn goes on with.
const MOST_A_TURN: usize = 16;

/// What is to be done on a flow whose messages were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Send what it may have under way, or owes.
    Fill,
    /// Let the schedule use it again, if it was passed over.
    TakeAgain,
    Nothing,
}

impl Generator {
    /// Has flows begin, in a closed loop: some in each turn, so that each one's time of sending is
    /// right; those that think when their turn has come.
    pub(crate) fn kick(&mut self, context: &mut Context<'_, u32>) {
        let Some(mut at) = self.flowing.kick else {
            return;
        };
        let mut begun = 0;
        while at < self.flows.capacity() && begun < KICKS {
            if self.flows.get(at).is_some_and(|f| f.stage == Stage::Live) {
                let now = self.epoch.now();
                if let Some(stagger) = &mut self.flowing.stagger {
                    if stagger.due() > now {
                        break;
                    }
                    stagger.advance();
                }
                self.owe_depth(at);
                self.feed(context, at, now);
                begun += 1;
            }
            at += 1;
        }
        self.flowing.kick = (at < self.flows.capacity()).then_some(at);
        self.finish_if_all_sent(context);
    }

    /// In a closed loop: has a flow send what it may, from outside of its callback.
    pub(crate) fn feed(&mut self, context: &mut Context<'_, u32>, index: usize, now: u64) {
        match self.flows.get(index).map(|flow| flow.socket) {
            Some(Socket::Stream(id)) => {
                // Past the high-water mark `drained` goes on.
                if let Some(mut connection) = context.connection(id)
                    && connection.pressure() == Pressure::Low
                {
                    self.fill(&mut connection, index, now);
                }
            }
            Some(Socket::Datagrams(id)) => self.fill_datagrams(context, id, index, now),
            Some(Socket::None) | None => {}
        }
    }

    /// Messages of a flow were answered, so many of them `in_time`: what comes next on it.
    pub(crate) fn after_answers(
        &mut self,
        context: &mut Context<'_, u32>,
        index: usize,
        in_time: u32,
        now: u64,
    ) -> Then {
        let was = self.flows.get(index).map(|flow| flow.stage);
        match was {
            Some(Stage::Confirming) => self.confirmed(index, now),
            Some(Stage::Retiring) => self.close_if_answered(context, index),
            _ => {}
        }
        let flow = self.flows.get(index);
        if flow.is_none_or(|flow| flow.stage != Stage::Live) || !self.is_pumping() {
            return Then::Nothing;
        }
        match self.flowing.mode {
            Mode::Closed {
                think: Some(think), ..
            } if was == Some(Stage::Live) => {
                for _ in 0..in_time {
                    self.think(context, index, think);
                }
                Then::Nothing
            }
            Mode::Closed { .. } if self.will_be_kicked(index) => Then::Nothing,
            Mode::Closed { .. } => {
                // Where flows think, this one begins: it came when the others had begun.
                self.owe_depth(index);
                Then::Fill
            }
            Mode::Scheduled => Then::TakeAgain,
            Mode::Silent => Then::Nothing,
        }
    }

    /// Whether a flow is still to begin, with all the others.
    fn will_be_kicked(&self, index: usize) -> bool {
        self.flowing.kick.is_some_and(|kick| index >= kick)
    }

    /// In a closed loop: sends as many datagrams as a flow may have under way, or as it owes; some
    /// now, the others in later turns.
    pub(crate) fn fill_datagrams(
        &mut self,
        context: &mut Context<'_, u32>,
        id: UdpId,
        index: usize,
        mut now: u64,
    ) {
        let think = self.flowing.think();
        for made in 0..=MOST_A_CALL {
            let Some(flow) = self.flows.get(index) else {
                return;
            };
            if self.flowing.wanted(flow) == 0 || !self.may_send(now) {
                return;
            }
            if made == MOST_A_CALL {
                self.list_unfilled(index);
                return;
            }
            self.pay(index);
            // What is dropped now is tried again by the sweep, or after another while: the socket
            // has no room.
            if !self.send_datagram(context, id, index, now, now) {
                if let Some(think) = think {
                    self.think(context, index, think);
                }
                return;
            }
            // Each goes out by a system call of its own.
            now = self.epoch.now();
        }
    }

    fn list_unfilled(&mut self, index: usize) {
        let flow = self.flows.get_mut(index);
        if let Some(window) = flow.and_then(|flow| flow.window.as_mut())
            && !std::mem::replace(&mut window.listed, true)
        {
            self.sockets.unfilled.push_back(index as u32);
        }
    }

    /// Goes on with flows that have more to send than one call has sent.
    pub(crate) fn fill_on(&mut self, context: &mut Context<'_, u32>) {
        for _ in 0..self.sockets.unfilled.len().min(MOST_A_TURN) {
            let Some(index) = self.sockets.unfilled.pop_front() else {
                return;
            };
            let index = index as usize;
            // Another one may have its place by now, which does not stand in the list.
            let Some(flow) = self.flows.get_mut(index) else {
                continue;
            };
            let Some(window) = flow.window.as_mut().filter(|window| window.listed) else {
                continue;
            };
            window.listed = false;
            if flow.stage == Stage::Live {
                let now = self.epoch.now();
                self.feed(context, index, now);
            }
        }
        self.finish_if_all_sent(context);
    }
}
