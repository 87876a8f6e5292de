//! Pauses: in a closed loop that thinks, so long lies between an answer and the next message.

use std::time::Duration;

use oread::{Connection, Context, Pressure};

use super::flow::{Socket, Stage};
use super::generator::{Generator, alarm};
use super::plan::MAX_DEPTH;
use super::traffic::Mode;

impl Generator {
    /// As [`Generator::fill`]; where flows think between their messages, only for one that begins.
    pub(super) fn begin(&mut self, connection: &mut Connection<'_, u32>, index: usize, now: u64) {
        match self.flowing.mode {
            Mode::Closed {
                depth,
                think: Some(_),
            } => {
                for _ in 0..depth {
                    if !self.may_send(now)
                        || self.send(connection, index, now, now) != Pressure::Low
                    {
                        return;
                    }
                }
            }
            _ => self.fill(connection, index, now),
        }
    }

    /// An answer has come, and the flow is to think before it sends the next message.
    pub(super) fn think(&self, context: &mut Context<u32>, index: usize, think: Duration) {
        if let Some(flow) = self.flows.get(index) {
            // 28 bits of place: more flows than any system has descriptors for.
            let key = alarm::THINK | u64::from(flow.number) << 28 | (index as u64 & 0xFFF_FFFF);
            context.timer(think, key);
        }
    }

    /// A flow has thought.
    pub(super) fn thought(&mut self, context: &mut Context<u32>, key: u64, now: u64) {
        let index = (key & 0xFFF_FFFF) as usize;
        let number = (key >> 28) as u32;
        let flow = self.flows.get(index);
        let alive = flow.is_some_and(|f| f.number == number && f.stage == Stage::Live);
        if alive && self.is_sending() {
            self.feed_one(context, index, now);
            self.finish_if_all_sent(context);
        }
    }

    /// Sends one message of a flow.
    pub(super) fn feed_one(&mut self, context: &mut Context<u32>, index: usize, now: u64) {
        if !self.may_send(now) {
            return;
        }
        let flow = self.flows.get(index);
        let Some((socket, under_way)) = flow.map(|flow| (flow.socket, flow.outstanding.len()))
        else {
            return;
        };
        let sent = match socket {
            // A server that answers nothing must not have what is kept for it grow without end.
            Socket::Stream(_) if under_way >= MAX_DEPTH => false,
            Socket::Stream(id) => match context.connection(id) {
                Some(mut connection) if connection.pressure() == Pressure::Low => {
                    self.send(&mut connection, index, now, now) != Pressure::Closed
                }
                _ => false,
            },
            Socket::Datagrams(id) => self.send_datagram(context, id, index, now, now),
            Socket::None => return,
        };
        // What can't be sent now is after another while, or the loop would come to an end.
        if !sent && let Some(think) = self.flowing.think() {
            self.think(context, index, think);
        }
    }
}
