//! Deadlines: an intrusive hierarchical timer wheel. It reads no clock and allocates nothing.
//!
//! # How it works
//!
//! A tick is a number of six digits in base 64, the topmost of which has only two bits. What is
//! timed is kept in a bucket, a doubly linked list whose links live inside the timed things
//! themselves ([`Links`], reached through an [`Arena`]). Which bucket is decided by the highest
//! digit in which the deadline differs from the wheel's present: its place is the level, its value
//! in the deadline is the slot. So level 0 holds what is due before the lowest digit wraps, one
//! tick a slot; level 1 what is due before the next one does, 64 ticks a slot; and so on.
//!
//! When the present enters a slot of a level above 0, what is in it is filed anew, which always
//! takes it to a lower level: it *cascades*, at most five times in its life. Three things follow,
//! and the rest of the file leans on them:
//!
//! - every occupied slot lies after the present (on the top level, which is a ring of four, within
//!   two slots of it);
//! - all of a level is due before all of the levels above it, so the lowest occupied level has the
//!   next slot, and a bitmap a level finds it without a walk, however long the sleep was;
//! - equal deadlines share a bucket, so they come up in the order in which they were armed.
//!
//! A bucket's list is a ring through a head that the wheel keeps. A link that names a head instead
//! of an entry carries the bucket's number, so an entry is taken out without working out which
//! bucket it is in.

#[cfg(test)]
mod tests;

/// Milliseconds since the reactor's start, modulo 2^32 (which is 49.7 days).
///
/// Only ticks less than 2^31 apart have an order, see [`is_before`].
pub(crate) type Tick = u32;

/// How far ahead of the wheel's present a deadline may lie, in ticks: 24.8 days. Past that it would
/// look like the past.
pub(crate) const MAX_AHEAD: u32 = (1 << 31) - 1;

/// Whether `a` is earlier than `b`, across the wrap: whether `b` lies 1 to [`MAX_AHEAD`] ticks
/// after `a`.
#[inline]
pub(crate) const fn is_before(a: Tick, b: Tick) -> bool {
    let ahead = b.wrapping_sub(a);
    ahead != 0 && ahead <= MAX_AHEAD
}

/// Bits in a digit of a tick.
const DIGIT: u32 = 6;
/// Slots on a level, and bits in its bitmap.
const SLOTS: u32 = 1 << DIGIT;
/// The level of the last digit.
const TOP: u32 = 5;
/// Slots on the top level: a tick has 32 bits, so two are left for its last digit.
const TOP_SLOTS: u32 = 1 << (u32::BITS - TOP * DIGIT);
/// The bucket of what is due now. It and the next are numbered as if they were slots of the top
/// level.
const DUE: u32 = TOP * SLOTS + TOP_SLOTS;
/// The bucket of what was armed when it was due already: it waits for the next round.
const SOON: u32 = DUE + 1;
/// How many buckets there are.
const BUCKETS: u32 = SOON + 1;

/// A link of what is not armed.
const UNARMED: u32 = u32::MAX;
/// A link that is `HEADS + n` names the head of bucket `n`; a smaller one is an entry's index.
const HEADS: u32 = UNARMED - BUCKETS;

/// The neighbours in a bucket of an entry, or of the bucket's head: each is an index, or a head, or
/// of what is not armed [`UNARMED`].
#[derive(Debug)]
struct Ring {
    next: u32,
    prev: u32,
}

impl Ring {
    /// Both are `at`: the head of an empty bucket names itself.
    fn of(at: u32) -> Ring {
        Ring { next: at, prev: at }
    }
}

/// What a timed thing carries for the wheel: its deadline, and its neighbours in a bucket. The
/// default is not armed.
///
/// What is armed must be removed from its wheel before it is dropped, moved to another index or
/// given to another wheel.
#[derive(Debug)]
pub(crate) struct Links {
    ring: Ring,
    /// As given to [`Wheel::insert`].
    deadline: Tick,
}

/// Every connection has one: what it takes is taken a million times.
const _: () = assert!(size_of::<Links>() == 12);

impl Default for Links {
    fn default() -> Links {
        Links {
            ring: Ring::of(UNARMED),
            deadline: 0,
        }
    }
}

impl Links {
    /// Whether it is in a wheel. Not any more once [`Wheel::expire`] has returned it.
    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.ring.prev != UNARMED
    }

    /// When it is due, or where it is not armed when it last was (0 if never).
    #[inline]
    pub(crate) fn deadline(&self) -> Tick {
        self.deadline
    }
}

/// Where timed things live: a table of connections, a table of timers.
pub(crate) trait Arena {
    /// The links of the thing at `index`. The wheel asks only for indexes that it was given and
    /// that are still armed.
    fn links(&mut self, index: u32) -> &mut Links;
}

/// A timer wheel over one [`Arena`]. 2.6 KiB, whatever it holds; arming and disarming take constant
/// time.
///
/// Rounds: the calls of [`expire`](Wheel::expire) up to the one that returns `None` are a round. A
/// turn of the reactor is to run one round, or the part of one that its budget allows.
pub(crate) struct Wheel {
    /// The present: the last time told. Every slot up to it has been emptied.
    now: Tick,
    /// How many entries are armed: nearly every turn asks only whether there are any.
    armed: u32,
    /// Whether the round has begun, so that what is in `SOON` waits for the next.
    in_round: bool,
    /// A bit for each bucket that has an entry: bucket `n` is bit `n % 64` of word `n / 64`, which
    /// is its level.
    occupied: [u64; TOP as usize + 1],
    /// The buckets: 64 a level, 4 on the top level, then `DUE` and `SOON`.
    heads: [Ring; BUCKETS as usize],
}

impl Wheel {
    /// An empty wheel whose present is `now`.
    pub(crate) fn new(now: Tick) -> Wheel {
        Wheel {
            now,
            armed: 0,
            in_round: false,
            occupied: [0; TOP as usize + 1],
            heads: std::array::from_fn(|bucket| Ring::of(HEADS + bucket as u32)),
        }
    }

    /// Whether nothing is armed.
    pub(crate) fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Whether something is due by the last time told.
    pub(crate) fn is_due(&self) -> bool {
        self.occupied[TOP as usize] >> TOP_SLOTS != 0
    }

    /// Arms the entry at `index` for `deadline`; one that is armed already is moved.
    ///
    /// The deadline may lie up to [`MAX_AHEAD`] after the last time told, so tell the time after a
    /// sleep before arming anything ([`advance`](Wheel::advance), or a call of
    /// [`expire`](Wheel::expire)). One that is not after the last time told comes up in the next
    /// round: at the next call of `expire`, or, where a round is under way, after the `None` that
    /// ends it. So what re-arms itself with no delay comes up once a turn and starves nobody.
    pub(crate) fn insert(&mut self, arena: &mut impl Arena, index: u32, deadline: Tick) {
        debug_assert!(index < HEADS, "an index that could be taken for a bucket");
        self.remove(arena, index);
        arena.links(index).deadline = deadline;
        self.armed += 1;
        let bucket = self.bucket(deadline).unwrap_or(SOON);
        self.append(arena, bucket, index);
    }

    /// Disarms the entry at `index`, even one that is due and has not come up; nothing if it is not
    /// armed.
    pub(crate) fn remove(&mut self, arena: &mut impl Arena, index: u32) {
        let links = arena.links(index);
        if !links.is_armed() {
            return;
        }
        let Ring { next, prev } = std::mem::replace(&mut links.ring, Ring::of(UNARMED));
        self.armed -= 1;
        self.ring(arena, prev).next = next;
        self.ring(arena, next).prev = prev;
        // Only a head has both for neighbours of its only entry.
        if prev == next && prev >= HEADS {
            self.mark_empty(prev - HEADS);
        }
    }

    /// Takes out one entry that is due at `now`, by deadline, equal ones in the order in which they
    /// were armed. `None` when none is left: that ends the round.
    ///
    /// It never returns one early. What is armed during a round for a time that is not after `now`
    /// comes up in the next round; [`next`](Wheel::next) then says "at once". A round with one
    /// `now` is finite whatever its caller arms, and it may be broken off and gone on with later.
    pub(crate) fn expire(&mut self, arena: &mut impl Arena, now: Tick) -> Option<u32> {
        self.advance(arena, now);
        self.in_round = true;
        let index = self.heads[DUE as usize].next;
        if index >= HEADS {
            self.in_round = false;
            return None;
        }
        self.remove(arena, index);
        Some(index)
    }

    /// Tells the time: `now` is the present, and what is due by it is made ready for
    /// [`expire`](Wheel::expire).
    ///
    /// Its work is a few operations for each entry that is due or cascades, none for the ticks in
    /// between. While something is armed, `now` must be told at least once in 2^31 ticks, which
    /// waking at [`next`](Wheel::next) does; a time before the last is ignored, but by a
    /// wheel that waits for nothing: it takes any.
    #[inline]
    pub(crate) fn advance(&mut self, arena: &mut impl Arena, now: Tick) {
        if self.is_empty() {
            self.now = now;
        } else {
            self.advance_armed(arena, now);
        }
    }

    #[inline(never)]
    fn advance_armed(&mut self, arena: &mut impl Arena, now: Tick) {
        if !self.in_round {
            self.splice(arena, SOON);
        }
        if now == self.now {
            return;
        }
        while let Some((bucket, start)) = self.first_slot() {
            if is_before(now, self.now) {
                return;
            }
            if start.wrapping_sub(self.now) > now.wrapping_sub(self.now) {
                break;
            }
            self.now = start;
            if bucket < SLOTS {
                self.splice(arena, bucket);
            } else {
                self.cascade(arena, bucket);
            }
        }
        self.now = now;
    }

    /// When to call [`expire`](Wheel::expire) next; `None` if nothing is armed.
    ///
    /// Never later than the earliest deadline, except that it is the last time told, which is to
    /// say "at once", where something is due already. Exact where the deadline differs from the
    /// present in its lowest six bits alone. Otherwise it may be earlier: the start of the slot
    /// that the deadline is in, at which nothing may come up yet. That costs at most one wake-up a
    /// level, five before the one that counts.
    #[inline]
    pub(crate) fn next(&self) -> Option<Tick> {
        if self.is_empty() {
            return None;
        }
        self.next_armed()
    }

    fn next_armed(&self) -> Option<Tick> {
        if self.is_due() {
            return Some(self.now);
        }
        self.first_slot().map(|(_, start)| start)
    }

    /// The first occupied slot after the present: its bucket, and the first of its ticks.
    fn first_slot(&self) -> Option<(u32, Tick)> {
        for (level, &bits) in (0..TOP).zip(&self.occupied) {
            if bits != 0 {
                let slot = bits.trailing_zeros();
                let shift = level * DIGIT;
                let above = self.now >> (shift + DIGIT) << (shift + DIGIT);
                return Some((level * SLOTS + slot, above | slot << shift));
            }
        }
        // The top level is a ring: the slot after the present one may have a lower number.
        let bits = self.occupied[TOP as usize] & ((1 << TOP_SLOTS) - 1);
        if bits == 0 {
            return None;
        }
        let after = (self.now >> (TOP * DIGIT)) + 1;
        let slot = (after + ((bits | bits << TOP_SLOTS) >> after).trailing_zeros()) % TOP_SLOTS;
        Some((TOP * SLOTS + slot, slot << (TOP * DIGIT)))
    }

    /// The bucket of a deadline; `None` if it is not after the present.
    fn bucket(&self, deadline: Tick) -> Option<u32> {
        if !is_before(self.now, deadline) {
            return None;
        }
        let level = (self.now ^ deadline).ilog2() / DIGIT;
        Some(level * SLOTS + (deadline >> (level * DIGIT)) % SLOTS)
    }

    /// Files anew all that is in `bucket`, whose slot the present has just entered.
    fn cascade(&mut self, arena: &mut impl Arena, bucket: u32) {
        let mut index = self.heads[bucket as usize].next;
        self.mark_empty(bucket);
        while index < HEADS {
            let links = arena.links(index);
            let (next, deadline) = (links.ring.next, links.deadline);
            let lower = self.bucket(deadline).unwrap_or(DUE);
            self.append(arena, lower, index);
            index = next;
        }
    }

    /// Moves all that is in `bucket` to the end of `DUE` at once.
    fn splice(&mut self, arena: &mut impl Arena, bucket: u32) {
        let head = &self.heads[bucket as usize];
        let (first, last) = (head.next, head.prev);
        if first >= HEADS {
            return;
        }
        self.mark_empty(bucket);
        let before = std::mem::replace(&mut self.heads[DUE as usize].prev, last);
        self.ring(arena, before).next = first;
        self.ring(arena, first).prev = before;
        self.ring(arena, last).next = HEADS + DUE;
        self.mark_occupied(DUE);
    }

    /// Puts an entry that is in no bucket at the end of `bucket`.
    fn append(&mut self, arena: &mut impl Arena, bucket: u32, index: u32) {
        let prev = std::mem::replace(&mut self.heads[bucket as usize].prev, index);
        let next = HEADS + bucket;
        arena.links(index).ring = Ring { next, prev };
        self.ring(arena, prev).next = index;
        self.mark_occupied(bucket);
    }

    /// The neighbours of `at`, an entry or a head.
    fn ring<'w>(&'w mut self, arena: &'w mut impl Arena, at: u32) -> &'w mut Ring {
        match at.checked_sub(HEADS) {
            Some(bucket) => &mut self.heads[bucket as usize],
            None => &mut arena.links(at).ring,
        }
    }

    /// Notes that `bucket` has an entry.
    fn mark_occupied(&mut self, bucket: u32) {
        self.occupied[(bucket / SLOTS) as usize] |= 1 << (bucket % SLOTS);
    }

    /// Makes `bucket` an empty list, whatever was in it.
    fn mark_empty(&mut self, bucket: u32) {
        self.occupied[(bucket / SLOTS) as usize] &= !(1 << (bucket % SLOTS));
        self.heads[bucket as usize] = Ring::of(HEADS + bucket);
    }
}
