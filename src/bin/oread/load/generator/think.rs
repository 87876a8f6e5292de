//! Pauses: in a closed loop that thinks, so long lies between an answer and the next message.
//!
//! As many messages as a flow may have under way go round on it, each in a chain of its own:
//! message, answer, pause. A message whose pause is over is owed until somebody can take it, or its
//! chain would come to an end.

use std::time::Duration;

use oread::Context;

use crate::load::generator::flow::Stage;
use crate::load::generator::traffic::Mode;
use crate::load::generator::{Generator, alarm};

impl Generator {
    /// A flow begins: where flows think between their messages, it owes as many as it may have
    /// under way.
    pub(crate) fn owe_depth(&mut self, index: usize) {
        if let Mode::Closed { depth, .. } = self.flowing.mode {
            self.owe(index, depth);
        }
    }

    /// A flow is to send so many messages, where flows think between them.
    pub(crate) fn owe(&mut self, index: usize, count: u32) {
        if self.flowing.think().is_some()
            && let Some(flow) = self.flows.get_mut(index)
        {
            flow.owed += count;
        }
    }

    /// A message of those was sent.
    #[inline]
    pub(crate) fn pay(&mut self, index: usize) {
        if self.flowing.think().is_some()
            && let Some(flow) = self.flows.get_mut(index)
        {
            flow.owed -= 1;
        }
    }

    /// An answer has come, and the flow is to think before it sends the next message.
    pub(crate) fn think(&self, context: &mut Context<'_, u32>, index: usize, think: Duration) {
        if let Some(flow) = self.flows.get(index) {
            // 28 bits of place: more flows than any system has descriptors for.
            let key = alarm::THINK | u64::from(flow.number) << 28 | (index as u64 & 0xFFF_FFFF);
            context.timer(think, key);
        }
    }

    /// A flow has thought.
    pub(crate) fn thought(&mut self, context: &mut Context<'_, u32>, key: u64, now: u64) {
        let index = (key & 0xFFF_FFFF) as usize;
        let number = (key >> 28) as u32;
        let flow = self.flows.get(index);
        let alive = flow.is_some_and(|f| f.number == number && f.stage == Stage::Live);
        if alive && self.is_sending() {
            self.owe(index, 1);
            self.feed(context, index, now);
            self.finish_if_all_sent(context);
        }
    }
}
