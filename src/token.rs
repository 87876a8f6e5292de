//! Generation-tagged ids, and how they travel through the poll as a token.
//!
//! A slot of the connections' table is used again; the descriptor number is too. An id therefore
//! carries, beside the slot's index, a generation drawn from its table's counter: an event or an id
//! that is older than the slot's tenant doesn't match, and reaches nobody. The counter repeats
//! after 2^32 draws, and then only an id kept through all of them, for the same slot, could be
//! taken for another.

use std::fmt;

/// What a token stands for: by its number there, which is its place in [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Listener,
    Udp,
    Source,
    Mailbox,
}

const KINDS: [Kind; 5] = [
    Kind::Connection,
    Kind::Listener,
    Kind::Udp,
    Kind::Source,
    Kind::Mailbox,
];

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "oread packs a slot's index and its generation into one token, which takes 64-bit pointers"
);

/// Bits of a slot's index in a token; three bits for the kind are above them, the generation above
/// those.
const INDEX_BITS: u32 = 29;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

/// The most slots a table may have, so that an index fits into a token: 536,870,912.
pub(crate) const MAX_SLOTS: usize = 1 << INDEX_BITS;

/// A slot's index and generation.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// As in `3:1`, in one line also where the rest of it has many.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.index, self.generation)
    }
}

impl Key {
    /// The token under which the slot's source is registered.
    #[inline]
    pub(crate) fn token(self, kind: Kind) -> usize {
        (self.generation as usize) << 32 | (kind as usize) << INDEX_BITS | self.index as usize
    }

    /// The key in a connection's token; `None` for a token of any other kind.
    #[inline]
    pub(crate) fn of_connection(token: usize) -> Option<Key> {
        let index = token as u32;
        let generation = (token >> 32) as u32;
        // A connection's kind is 0, so what is left of the token's lower half is the index alone.
        (index <= INDEX_MASK).then_some(Key { index, generation })
    }

    /// The kind and the key that [`Key::token`] packed; `None` for a token that it never made.
    #[inline]
    pub(crate) fn from_token(token: usize) -> Option<(Kind, Key)> {
        let (low, generation) = (token as u32, (token >> 32) as u32);
        let index = low & INDEX_MASK;
        let kind = KINDS.get((low >> INDEX_BITS) as usize)?;
        Some((*kind, Key { index, generation }))
    }
}

/// Whose something is, in a handler that is made of others, as that one sees it:
/// [`Context::owner`](crate::Context::owner) tells, [`Context::about`](crate::Context::about) takes
/// it.
//
// It's the way to the part, in steps of four bits, the first of them lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner(u32);

/// Bits of a step.
const STEP: u32 = 4;

impl Owner {
    /// The number of the [`Part`](crate::Part) that it is, or is in; 0: the handler itself.
    #[must_use]
    pub const fn part(self) -> u8 {
        (self.0 % (1 << STEP)) as u8
    }

    /// The part of this owner's that has this number, from 1 to 15.
    ///
    /// # Panics
    /// When that is one step more than there is room for.
    pub(crate) fn then(self, number: u8) -> Owner {
        let steps = (u32::BITS - self.0.leading_zeros()).div_ceil(STEP);
        assert!(steps < u32::BITS / STEP, "a part is more than eight deep");
        Owner(self.0 | u32::from(number) << (steps * STEP))
    }

    /// What is left of the way, as seen by the part with this number: nothing, if it doesn't lead
    /// there.
    pub(crate) fn seen_by(self, number: u8) -> Owner {
        match self.part() == number {
            true => Owner(self.0 >> STEP),
            false => Owner::default(),
        }
    }
}

/// Makes a public id around a [`Key`].
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) Key);

        /// Its name, and index and generation: in one line.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.0)
            }
        }
    };
}

id! {
    /// Names one connection, for as long as you like: once it's closed, the id finds nothing.
    ConnectionId
}
impl ConnectionId {
    /// The id as a number, for where only a number fits: the key of a timer
    /// ([`Context::timer`](crate::Context::timer)), a log line. It says nothing but which
    /// connection it is. No id is below 2^32: keys of timers that are about no connection are best
    /// chosen there.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.0.generation as u64) << 32 | self.0.index as u64
    }

    /// The id that [`ConnectionId::to_bits`] of the same reactor gave. Any other number is an id
    /// too, one that most likely finds nothing.
    ///
    /// ```
    /// # fn of(id: oread::ConnectionId) {
    /// assert_eq!(oread::ConnectionId::from_bits(id.to_bits()), id);
    /// # }
    /// ```
    #[must_use]
    pub const fn from_bits(bits: u64) -> ConnectionId {
        ConnectionId(Key {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        })
    }
}

id! {
    /// Names one listener.
    ListenerId
}
id! {
    /// Names one UDP socket.
    UdpId
}
id! {
    /// Names one timer: it finds nothing once the timer has fired or was cancelled.
    TimerId
}
id! {
    /// Names one foreign source, registered with [`Context::register`](crate::Context::register).
    SourceId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_what_it_was_made_of() {
        for kind in KINDS {
            for index in [0, 1, INDEX_MASK] {
                for generation in [0, 1, u32::MAX] {
                    let key = Key { index, generation };
                    assert_eq!(Key::from_token(key.token(kind)), Some((kind, key)));
                }
            }
        }
    }

    #[test]
    fn a_connection_s_id_is_the_same_after_it_was_a_number() {
        for index in [0, 1, INDEX_MASK] {
            for generation in [0, 1, u32::MAX] {
                let id = ConnectionId(Key { index, generation });
                assert_eq!(ConnectionId::from_bits(id.to_bits()), id);
            }
        }
    }

    #[test]
    fn an_owner_is_found_again_part_by_part() {
        let numbers = [3, 15, 1, 2, 3, 4, 5, 6];
        let whole = Owner::default();
        let owner = numbers
            .iter()
            .fold(whole, |owner, number| owner.then(*number));
        let mut way = owner;
        for number in numbers {
            assert_eq!(way.part(), number);
            assert_eq!(way.seen_by(number % 15 + 1), whole, "not on the way");
            way = way.seen_by(number);
        }
        assert_eq!((way, way.part()), (whole, 0));
    }

    #[test]
    #[should_panic(expected = "more than eight deep")]
    fn an_owner_is_eight_deep_at_most() {
        (1..=9).fold(Owner::default(), |owner, number| owner.then(number));
    }

    #[test]
    fn an_id_is_shown_in_one_line_by_its_index_and_generation() {
        let key = Key {
            index: 3,
            generation: 1,
        };
        assert_eq!(format!("{:?}", ListenerId(key)), "ListenerId(3:1)");
        assert_eq!(format!("{:#?}", Some(key)), "Some(\n    3:1,\n)");
        assert_eq!(format!("{:#?}", ConnectionId(key)), "ConnectionId(3:1)");
    }

    #[test]
    fn a_token_of_no_kind_is_nobody_s() {
        assert_eq!(Key::from_token(7 << INDEX_BITS), None);
    }
}
