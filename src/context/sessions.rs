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

/// Where all sessions of a reactor are.
#[derive(Debug)]
pub(crate) struct Store<S> {
    /// By the index of the connection's slot.
    sessions: Vec<Option<S>>,
}

impl<S> Store<S> {
    pub(crate) fn new() -> Store<S> {
        Store {
            sessions: Vec::new(),
        }
    }

    /// Takes out the session at `index`.
    pub(crate) fn take(&mut self, index: u32) -> Option<S> {
        self.sessions.get_mut(index as usize)?.take()
    }
}

impl<S> Sessions<S> for Store<S> {
    #[inline]
    fn get(&self, index: u32) -> Option<&S> {
        self.sessions.get(index as usize)?.as_ref()
    }

    #[inline]
    fn get_mut(&mut self, index: u32) -> Option<&mut S> {
        self.sessions.get_mut(index as usize)?.as_mut()
    }

    fn put(&mut self, index: u32, session: S) {
        let index = index as usize;
        if index >= self.sessions.len() {
            self.sessions.resize_with(index + 1, || None);
        }
        self.sessions[index] = Some(session);
    }

    fn reserve(&mut self, count: usize) -> bool {
        reserve(&mut self.sessions, count)
    }
}
