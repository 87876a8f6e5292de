//! The sessions of a reactor's connections, beside their slots: the only part of a reactor whose
//! type is the handler's choice.

use crate::table::reserve;

/// Sessions of type `S`, each found by its connection's index.
pub(crate) trait Sessions<S> {
    /// The session at `index`.
    fn get(&self, index: u32) -> Option<&S>;

    /// The session at `index`, to be changed.
    fn get_mut(&mut self, index: u32) -> Option<&mut S>;

    /// Puts in the session of a new connection.
    fn put(&mut self, index: u32, session: S);

    /// Makes sure that there is room for `count` more; false when there is no memory for so many.
    fn reserve(&mut self, count: usize) -> bool;
}

/// Where all sessions of a reactor are, each at its connection's index.
pub(crate) type Store<S> = Vec<Option<S>>;

impl<S> Sessions<S> for Store<S> {
    #[inline]
    fn get(&self, index: u32) -> Option<&S> {
        self.as_slice().get(index as usize)?.as_ref()
    }

    #[inline]
    fn get_mut(&mut self, index: u32) -> Option<&mut S> {
        self.as_mut_slice().get_mut(index as usize)?.as_mut()
    }

    fn put(&mut self, index: u32, session: S) {
        let index = index as usize;
        if index >= self.len() {
            self.resize_with(index + 1, || None);
        }
        self[index] = Some(session);
    }

    fn reserve(&mut self, count: usize) -> bool {
        reserve(self, count)
    }
}
