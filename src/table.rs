//! The tables of what a reactor has: connections, listeners, sockets, timers.
//!
//! A slot of a table is used again, so whatever names one from outside, an id or an event, carries
//! a generation beside the slot's index ([`Key`]): what is older than the slot's tenant finds
//! nothing. The tenant bears its own, where it needs no room, and the table is the only place that
//! compares the two.

use std::hint::black_box;
use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::token::Key;

/// What may be in a table: it bears the generation that it was put in with.
pub(crate) trait Tenant {
    fn generation(&self) -> u32;
}

/// Makes types tenants by their field `generation`.
macro_rules! tenant {
    ($tenant:ty) => {
        impl crate::table::Tenant for $tenant {
            #[inline]
            fn generation(&self) -> u32 {
                self.generation
            }
        }
    };
}
pub(crate) use tenant;

/// A table of `T`, each found by its key as long as it's there.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slab: Slab<T>,
    /// All indexes are below this.
    bound: u32,
    /// The generation that was drawn last: each time another number, for 2^32 - 1 times, and never
    /// 0.
    generation: u32,
}

impl<T: Tenant> Table<T> {
    pub(crate) fn new() -> Table<T> {
        Table {
            slab: Slab::new(),
            bound: 0,
            generation: 0,
        }
    }

    /// The key that the next one put in gets, so that its source may be registered first.
    pub(crate) fn next_key(&self) -> Key {
        Key {
            index: self.slab.vacant_key() as u32,
            // That none is 0 leaves the small numbers to those who mix keys of their own with ids:
            // see `ConnectionId::to_bits`.
            generation: self.generation.checked_add(1).unwrap_or(1),
        }
    }

    /// Puts in the tenant that `make` makes of its generation, under [`Table::next_key`]. Without
    /// memory the process aborts: of what there may be many, room is made by [`Table::reserve`]
    /// first.
    pub(crate) fn insert(&mut self, make: impl FnOnce(u32) -> T) -> Key {
        let key = self.next_key();
        self.generation = key.generation;
        self.slab.insert(make(key.generation));
        self.bound = self.bound.max(key.index + 1);
        key
    }

    /// Makes sure that there is room for `count` more; false when there is no memory for a larger
    /// table.
    pub(crate) fn reserve(&mut self, count: usize) -> bool {
        let (used, room) = (self.slab.len(), self.slab.capacity());
        if room - used >= count {
            return true;
        }
        let more = growth::<T>(room, count);
        let granted = may_have((room + more).saturating_mul(size_of::<T>()));
        if granted {
            self.slab.reserve_exact(room + more - used);
        }
        granted
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let tenant = self.slab.get(key.index as usize)?;
        (tenant.generation() == key.generation).then_some(tenant)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let tenant = self.slab.get_mut(key.index as usize)?;
        (tenant.generation() == key.generation).then_some(tenant)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.slab.try_remove(key.index as usize)
    }

    /// Each with its key, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slab.iter().map(|(index, tenant)| {
            let (index, generation) = (index as u32, tenant.generation());
            (Key { index, generation }, tenant)
        })
    }

    /// The key of the one at `index`.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn key(&self, index: u32) -> Key {
        self.key_at(index).unwrap_or_else(|| vacant())
    }

    /// The key of the one at `index`, if there is one; a walk that allocates nothing asks for those
    /// below [`Table::bound`].
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        let generation = self.slab.get(index as usize)?.generation();
        Some(Key { index, generation })
    }

    /// All indexes are below this.
    pub(crate) fn bound(&self) -> u32 {
        self.bound
    }

    /// All keys, so that the table may change while they are walked.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}

/// By its index alone, for one that is known to be there.
///
/// # Panics
/// When it's not.
impl<T> Index<u32> for Table<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        self.slab.get(index as usize).unwrap_or_else(|| vacant())
    }
}

/// As [`Index`].
impl<T> IndexMut<u32> for Table<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.slab
            .get_mut(index as usize)
            .unwrap_or_else(|| vacant())
    }
}

/// What is asked for by its index alone is there: whoever keeps indexes sees to that.
#[cold]
pub(crate) fn vacant() -> ! {
    unreachable!("nobody is there")
}

/// What a list that may grow long takes at first, in bytes: of it only what is used is memory.
/// Allocators (glibc's, musl's) map as much apart from everything else, and then let it grow where
/// it is. What fits beside other things (glibc: in the 256 KiB that it may have spare) is copied
/// each time, and leaves a hole.
const FIRST: usize = 512 << 10;

/// How many more `T` a list takes that has room for `room` of them, and needs `count` more.
fn growth<T>(room: usize, count: usize) -> usize {
    room.max(FIRST.div_ceil(size_of::<T>().max(1))).max(count)
}

/// Whether there is memory for so many bytes: a slab would abort the process, so they are asked for
/// first and given back. In two halves, as glibc takes what is given back for the size of what
/// comes and goes, and maps nothing up to that size apart any more.
fn may_have(bytes: usize) -> bool {
    let half = || {
        let mut half: Vec<u8> = Vec::new();
        let granted = half.try_reserve_exact(bytes.div_ceil(2)).is_ok();
        // The compiler may leave out what nobody looks at.
        granted.then(|| black_box(half))
    };
    let (first, second) = (half(), half());
    first.is_some() && second.is_some()
}

/// Makes sure that there is room for `count` more in a list that may grow long; false when there is
/// no memory for it.
pub(crate) fn reserve<T>(list: &mut Vec<T>, count: usize) -> bool {
    let more = growth::<T>(list.capacity(), count);
    list.capacity() - list.len() >= count || list.try_reserve_exact(more).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generation, and what is in the table.
    #[derive(Debug, PartialEq)]
    struct Named(u32, &'static str);

    impl Tenant for Named {
        fn generation(&self) -> u32 {
            self.0
        }
    }

    fn insert(table: &mut Table<Named>, name: &'static str) -> Key {
        table.insert(|generation| Named(generation, name))
    }

    #[test]
    fn an_old_key_does_not_find_the_new_tenant_of_its_slot() {
        let mut table = Table::new();
        let old = insert(&mut table, "old");
        assert_eq!(table.get(old).map(|named| named.1), Some("old"));
        assert_eq!(table.remove(old).map(|named| named.1), Some("old"));
        assert_eq!(table.remove(old), None);
        let new = insert(&mut table, "new");
        assert_eq!((new.index, table.keys()), (old.index, vec![new]));
        assert_ne!(new, old);
        assert!(table.get(old).is_none() && table.get_mut(old).is_none());
        assert!(table.remove(old).is_none() && table.get(new).is_some());
    }

    #[test]
    fn a_key_is_known_before_its_tenant_is_there() {
        let mut table = Table::new();
        for count in 0..10 {
            let next = table.next_key();
            assert_eq!(table.get(next), None);
            assert_eq!(insert(&mut table, "tenant"), next);
            assert_eq!(table.key(next.index), next);
            if count % 3 == 0 {
                table.remove(next);
            }
        }
    }

    #[test]
    fn no_generation_is_0_so_that_small_numbers_are_no_ids() {
        let mut table = Table::new();
        assert_eq!(insert(&mut table, "first").generation, 1);
        table.generation = u32::MAX - 1;
        let drawn = ["last", "first again"].map(|name| insert(&mut table, name).generation);
        assert_eq!(drawn, [u32::MAX, 1]);
    }

    #[test]
    fn it_grows_as_far_as_memory_goes() {
        let mut table = Table::new();
        for count in 1..=1000 {
            assert!(table.reserve(1));
            insert(&mut table, "tenant");
            assert_eq!(table.len(), count);
        }
        assert_eq!(table.keys().len(), 1000);
    }
}
