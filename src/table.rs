//! The tables of what a reactor has: connections, listeners, sockets, timers.
//!
//! A slot of a table is used again, so whatever names one from outside, an id or an event, carries
//! a generation beside the slot's index ([`Key`]): what is older than the slot's tenant finds
//! nothing. This is the only place that compares the two.

use std::convert::Infallible;
use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::token::{Generations, Key};

/// What stands in a table knows its own generation: it's kept where there is room for it.
pub(crate) trait Tenant {
    /// The generation of its key.
    fn generation(&self) -> u32;
}

/// A table of `T`, each found by its key as long as it's there.
#[derive(Debug)]
pub(crate) struct Table<T>(Slab<T>);

impl<T: Tenant> Table<T> {
    pub(crate) const fn new() -> Table<T> {
        Table(Slab::new())
    }

    /// Puts in what `make` makes of its key. For what nobody outside makes many of: without memory
    /// the process aborts.
    pub(crate) fn insert(
        &mut self,
        generations: &mut Generations,
        make: impl FnOnce(Key) -> T,
    ) -> Key {
        let Ok(key) = self.try_insert(generations, |key| Ok::<_, Infallible>(make(key)));
        key
    }

    /// Puts in what `make` makes of its key, if it makes something.
    ///
    /// # Errors
    /// Those of `make`; nothing is put in then.
    pub(crate) fn try_insert<E>(
        &mut self,
        generations: &mut Generations,
        make: impl FnOnce(Key) -> Result<T, E>,
    ) -> Result<Key, E> {
        let entry = self.0.vacant_entry();
        let key = Key {
            index: entry.key() as u32,
            generation: generations.draw(),
        };
        entry.insert(make(key)?);
        Ok(key)
    }

    /// Makes sure that there is room for `count` more; false when there is no memory for a larger
    /// table. The slab would abort the process: so as much is asked for first where that may be
    /// refused, and given back.
    pub(crate) fn reserve(&mut self, count: usize) -> bool {
        if self.0.len() + count <= self.0.capacity() {
            return true;
        }
        let more = self.0.capacity().max(count).max(4);
        let mut asked: Vec<Option<T>> = Vec::new();
        if asked.try_reserve_exact(2 * more).is_err() {
            return false;
        }
        drop(asked);
        self.0.reserve(more);
        true
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let tenant = self.0.get(key.index as usize)?;
        (tenant.generation() == key.generation).then_some(tenant)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let tenant = self.0.get_mut(key.index as usize)?;
        (tenant.generation() == key.generation).then_some(tenant)
    }

    /// Whoever stands at `index` now, if anybody.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.0.get(index as usize)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        Some(self.0.remove(key.index as usize))
    }

    /// Each with its key, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.0
            .iter()
            .map(|(index, tenant)| (key(index, tenant), tenant))
    }

    /// The key of who stands at `index`.
    ///
    /// # Panics
    /// When nobody does.
    pub(crate) fn key(&self, index: u32) -> Key {
        key(index as usize, &self[index])
    }

    /// All keys, so that the table may change while they are walked.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Indexes are below this.
    pub(crate) fn bound(&self) -> u32 {
        self.0.capacity() as u32
    }
}

fn key<T: Tenant>(index: usize, tenant: &T) -> Key {
    Key {
        index: index as u32,
        generation: tenant.generation(),
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
        &self.0[index as usize]
    }
}

/// As [`Index`].
impl<T> IndexMut<u32> for Table<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.0[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Tenant for u32 {
        fn generation(&self) -> u32 {
            *self
        }
    }

    #[test]
    fn an_old_key_does_not_find_the_new_tenant_of_its_slot() {
        let (mut table, mut generations) = (Table::new(), Generations::default());
        let old = table.insert(&mut generations, |key| key.generation);
        assert_eq!(table.get(old), Some(&old.generation));
        assert_eq!(table.remove(old), Some(old.generation));
        assert_eq!(table.remove(old), None);
        let new = table.insert(&mut generations, |key| key.generation);
        assert_eq!((new.index, table.keys()), (old.index, vec![new]));
        assert_ne!(new, old);
        assert!(table.get(old).is_none() && table.get_mut(old).is_none());
        assert!(table.remove(old).is_none() && table.get(new).is_some());
    }

    #[test]
    fn what_could_not_be_made_takes_no_slot() {
        let (mut table, mut generations) = (Table::<u32>::new(), Generations::default());
        let made = table.try_insert(&mut generations, |_| Err("no"));
        assert_eq!(made, Err("no"));
        assert!(table.is_empty() && table.iter().next().is_none());
    }

    #[test]
    fn it_grows_as_far_as_memory_goes() {
        let (mut table, mut generations) = (Table::new(), Generations::default());
        for count in 1..=1000 {
            assert!(table.reserve(1));
            table.insert(&mut generations, |key| key.generation);
            assert_eq!(table.len(), count);
            assert!(table.bound() as usize >= count);
        }
        assert_eq!(table.keys().len(), 1000);
    }
}
