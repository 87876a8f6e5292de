//! The memory behind what all connections of a reactor keep, input and output: how it's shared out,
//! and who waits for it.
//!
//! A connection that keeps as much as is left for all may take no more. So whoever keeps much is
//! stopped first, by as much as all keep alike, and there is always some room for who keeps little:
//! with n connections that want more than there is, each gets an (n + 1)th. It is how switches
//! share a memory among their ports (Choudhury and Hahne, "Dynamic queue length thresholds", 1998,
//! with alpha = 1).

use std::collections::VecDeque;

use crate::token::Key;

/// What every connection may keep however short memory is, in bytes, and what one read brings then.
/// Most requests fit into it, and a thousand peers that send all they can hold nobody up for long.
pub(crate) const SMALL: usize = 4 << 10;

/// The memory that all connections share.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Bytes that may be taken.
    most: usize,
    /// Bytes that are taken: capacity, not content.
    held: usize,
}

impl Memory {
    pub(crate) fn new(most: usize) -> Memory {
        Memory { most, held: 0 }
    }

    /// Bytes that are taken.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Bytes that may still be taken.
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.held)
    }

    /// Notes that somebody who had `before` bytes has `now`.
    pub(crate) fn count(&mut self, before: usize, now: usize) {
        self.held = self.held - before + now;
    }

    /// Whether a connection that keeps `kept` bytes may take more.
    pub(crate) fn has_room_beside(&self, kept: usize) -> bool {
        kept < self.room().max(SMALL)
    }
}

/// Connections that one turn looks at: each costs a look-up.
const A_TURN: usize = 256;

/// The connections that would read but for the memory of all, longest first. No event will remind
/// of them.
#[derive(Debug, Default)]
pub(crate) struct Starved {
    keys: VecDeque<Key>,
    /// How many of them, the longest first, are still to be looked at since what all keep has last
    /// become less.
    left: usize,
    /// What all kept when that was last looked at, or when the last one came.
    before: usize,
    /// The one that may read on although there is no room, until some of its input is consumed.
    pub(crate) fed: Option<Key>,
    /// The tick since which it may. Bytes that come meanwhile don't give it longer.
    pub(crate) fed_at: u32,
}

impl Starved {
    /// Has `key` looked at when less is held than the `held` bytes of now.
    pub(crate) fn push(&mut self, key: Key, held: usize) {
        self.keys.push_back(key);
        // What has come since the end of the last turn may be gone at the end of this one.
        self.before = self.before.max(held);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether some are still to be looked at.
    pub(crate) fn is_hopeful(&self) -> bool {
        self.left > 0
    }

    /// Those to look at now: all, some in each turn, when less is held than before, or when none
    /// `feeds`. Who still finds no room is put back, behind the others.
    pub(crate) fn take(&mut self, held: usize, feeds: bool) -> Vec<Key> {
        if held < self.before || !feeds {
            self.left = self.keys.len();
        }
        self.before = held;
        let count = self.left.min(A_TURN);
        self.left -= count;
        self.keys.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_want_more_than_there_is_are_stopped_alike_and_leave_room_for_another() {
        for hogs in [1, 2, 10, 100] {
            let mut memory = Memory::new(16 << 20);
            let mut kept = vec![0; hogs];
            while kept.iter().any(|&kept| memory.has_room_beside(kept)) {
                for kept in &mut kept {
                    if memory.has_room_beside(*kept) {
                        memory.count(*kept, *kept + 1000);
                        *kept += 1000;
                    }
                }
            }
            let share = (16 << 20) / (hogs + 1);
            assert!(
                kept.iter().all(|kept| kept.abs_diff(share) <= 2000),
                "{kept:?} of {share}"
            );
            assert!(memory.has_room_beside(0));
        }
    }

    #[test]
    fn without_any_room_everybody_may_keep_a_little() {
        let mut memory = Memory::new(100);
        memory.count(0, 200);
        assert_eq!((memory.room(), memory.held()), (0, 200));
        assert!(memory.has_room_beside(SMALL - 1) && !memory.has_room_beside(SMALL));
    }

    #[test]
    fn the_starved_are_looked_at_once_whenever_there_is_less() {
        let mut starved = Starved::default();
        let keys: Vec<Key> = (0..1000)
            .map(|index| Key {
                index,
                generation: 1,
            })
            .collect();
        keys.iter().for_each(|&key| starved.push(key, 100));
        assert_eq!(starved.take(100, true), []);
        let mut seen = starved.take(99, true);
        while starved.is_hopeful() {
            let some = starved.take(99, true);
            assert!(some.len() <= A_TURN);
            seen.extend(some);
        }
        assert_eq!(seen, keys);
        keys.iter().for_each(|&key| starved.push(key, 99));
        assert_eq!(starved.take(99, true), []);
        assert_eq!(starved.take(99, false).len(), A_TURN);
    }
}
