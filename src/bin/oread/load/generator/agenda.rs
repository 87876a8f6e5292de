//! What is to happen on single flows later. Each kind of delay is the same for all flows, so what
//! comes in later is due later, but for what is dealt with late: a queue for each kind is nearly in
//! order by itself.

use std::collections::VecDeque;

use crate::load::clock::NEVER;

/// What is due on a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It begins to send, in a closed loop with pauses: one flow after the other, so that they
    /// don't all send at one time.
    Begin,
    /// A pause is over.
    Think,
    /// Its next heartbeat.
    Beat,
    /// Its first datagram may have to be sent again.
    Retry,
}

/// All kinds.
const KINDS: usize = 4;

/// Something that is due on a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) due: u64,
    /// The flow's index, and its number: another flow may have its index by then.
    pub(super) flow: u32,
    pub(super) number: u32,
}

/// Invariant: each queue is sorted by `due`.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    queues: [VecDeque<Entry>; KINDS],
}

impl Agenda {
    /// Adds an entry.
    #[inline]
    pub(super) fn push(&mut self, kind: Kind, entry: Entry) {
        let queue = &mut self.queues[kind as usize];
        if queue.back().is_none_or(|last| last.due <= entry.due) {
            queue.push_back(entry);
        } else {
            let place = queue.partition_point(|other| other.due <= entry.due);
            queue.insert(place, entry);
        }
    }

    /// When the first of them is due.
    #[inline]
    pub(super) fn due(&self) -> u64 {
        let fronts = self.queues.iter().filter_map(VecDeque::front);
        fronts.map(|entry| entry.due).min().unwrap_or(NEVER)
    }

    /// Takes one that is due.
    pub(super) fn pop(&mut self, now: u64) -> Option<(Kind, Entry)> {
        for kind in [Kind::Begin, Kind::Think, Kind::Beat, Kind::Retry] {
            let queue = &mut self.queues[kind as usize];
            if let Some(&entry) = queue.front().filter(|entry| entry.due <= now) {
                queue.pop_front();
                return Some((kind, entry));
            }
        }
        None
    }

    /// Nothing is due any more.
    pub(super) fn clear(&mut self) {
        self.queues = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_its_order_and_not_before() {
        let mut agenda = Agenda::default();
        assert_eq!((agenda.due(), agenda.pop(NEVER)), (NEVER, None));
        let entry = |due| Entry {
            due,
            flow: due as u32,
            number: 0,
        };
        for due in [20, 10, 20] {
            agenda.push(Kind::Think, entry(due));
        }
        agenda.push(Kind::Beat, entry(15));
        assert_eq!(agenda.due(), 10);
        assert_eq!(agenda.pop(9), None);
        assert_eq!(agenda.pop(15), Some((Kind::Think, entry(10))));
        assert_eq!(agenda.pop(15), Some((Kind::Beat, entry(15))));
        assert_eq!((agenda.pop(15), agenda.due()), (None, 20));
        agenda.clear();
        assert_eq!(agenda.due(), NEVER);
    }
}
