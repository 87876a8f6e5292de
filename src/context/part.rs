//! Handlers that are parts of others: how a part sees the reactor of the whole.

use std::fmt;

use crate::token::Owner;

use super::sessions::Sessions;
use super::{Connection, Context, Datagram};

/// A handler's place in another one that is made of it, and how its sessions are found among the
/// other's: some sessions of type `W`, the whole's, hold one of type `P`, the part's.
///
/// The whole handler gets all callbacks, and passes on what is the part's: with
/// [`Connection::part`], [`Context::part`] and [`Datagram::part`] it lends the part its own
/// reactor, as it seems. The part finds and walks only connections with sessions of its own there,
/// and what it dials gets one. What it sets, opens and registers bears its number, by which the
/// whole one knows whose a callback is ([`Context::owner`]). Nothing is allocated for that.
///
/// [`Both`](crate::Both) is a handler that is made of two. This one lets those of another in who
/// know the word:
///
/// ```
/// use oread::{Accepted, Address, CloseReason, Connection, Context, Handler, ListenerId};
/// use oread::{Owner, Part};
///
/// struct Guard<H> {
///     handler: H,
/// }
///
/// enum Session<P> {
///     Asked(ListenerId, Owner, Address),
///     Known(P),
/// }
///
/// impl<P> Session<P> {
///     fn known(&self) -> Option<&P> {
///         if let Session::Known(part) = self { Some(part) } else { None }
///     }
///
///     fn known_mut(&mut self) -> Option<&mut P> {
///         if let Session::Known(part) = self { Some(part) } else { None }
///     }
/// }
///
/// impl<H: Handler> Guard<H> {
///     const INNER: Part<Session<H::Session>, H::Session> =
///         Part::new(1, Session::Known, Session::known, Session::known_mut);
/// }
///
/// impl<H: Handler> Handler for Guard<H> {
///     type Session = Session<H::Session>;
///     type Message = H::Message;
///
///     fn on_accept(
///         &mut self,
///         context: &mut Context<'_, Session<H::Session>>,
///         caller: &Accepted,
///     ) -> Option<Session<H::Session>> {
///         let (listener, peer) = (caller.listener, caller.peer.clone());
///         Some(Session::Asked(listener, context.owner(), peer))
///     }
///
///     fn on_data(
///         &mut self,
///         connection: &mut Connection<'_, Session<H::Session>>,
///         data: &[u8],
///     ) -> usize {
///         let inner = &mut self.handler;
///         let Session::Asked(listener, owner, peer) = connection.session() else {
///             let shown = connection.part(&Self::INNER, |part| inner.on_data(part, data));
///             return shown.unwrap_or(0);
///         };
///         let (caller, owner) = (Accepted::new(*listener, peer.clone()), *owner);
///         if data != b"sesame\n" {
///             connection.abort(CloseReason::Aborted);
///             return data.len();
///         }
///         let context = connection.context();
///         let accepted = context.about(owner, |context| {
///             context.part(&Self::INNER, |context| inner.on_accept(context, &caller))
///         });
///         match accepted {
///             Some(session) => {
///                 *connection.session_mut() = Session::Known(session);
///                 connection.part(&Self::INNER, |part| inner.on_open(part));
///             }
///             None => connection.abort(CloseReason::Aborted),
///         }
///         data.len()
///     }
///
///     fn on_timer(&mut self, context: &mut Context<'_, Session<H::Session>>, key: u64) {
///         if context.owner().part() == 1 {
///             context.part(&Self::INNER, |context| self.handler.on_timer(context, key));
///         }
///     }
///     // ... and so on, for each callback that the inner handler may need
/// }
/// ```
///
/// A callback that isn't passed on is lost without a word, also one that a later version of oread
/// brings. `#[warn(clippy::missing_trait_methods)]` on the `impl` has Clippy name those that are
/// missing.
pub struct Part<W, P> {
    number: u8,
    wrap: fn(P) -> W,
    find: fn(&W) -> Option<&P>,
    find_mut: fn(&mut W) -> Option<&mut P>,
}

impl<W, P> Part<W, P> {
    /// The part with this `number`, 1 to 15: another one for each part of the same handler. `wrap`
    /// makes a session of the part's one of the whole's; `find` and `find_mut` find it in there,
    /// both or neither of them.
    ///
    /// # Panics
    /// When `number` is 0 or more than 15; where the part is a constant, the compiler says so.
    #[must_use]
    pub const fn new(
        number: u8,
        wrap: fn(P) -> W,
        find: fn(&W) -> Option<&P>,
        find_mut: fn(&mut W) -> Option<&mut P>,
    ) -> Part<W, P> {
        assert!(number > 0 && number < 16, "a part's number is 1 to 15");
        Part {
            number,
            wrap,
            find,
            find_mut,
        }
    }
}

impl<W, P> Clone for Part<W, P> {
    fn clone(&self) -> Part<W, P> {
        *self
    }
}

impl<W, P> Copy for Part<W, P> {}

impl<W, P> fmt::Debug for Part<W, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Part").field(&self.number).finish()
    }
}

/// The sessions of a part, among those of the whole.
struct Among<'w, W, P> {
    whole: &'w mut dyn Sessions<W>,
    part: &'w Part<W, P>,
}

impl<W, P> Sessions<P> for Among<'_, W, P> {
    fn get(&self, index: u32) -> Option<&P> {
        self.whole.get(index).and_then(self.part.find)
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut P> {
        self.whole.get_mut(index).and_then(self.part.find_mut)
    }

    fn put(&mut self, index: u32, session: P) {
        self.whole.put(index, (self.part.wrap)(session));
    }

    fn reserve(&mut self, count: usize) -> bool {
        self.whole.reserve(count)
    }
}

impl<S> Context<'_, S> {
    /// Lends `run` the reactor as one of the handler's parts sees it: see [`Part`]. Beside the
    /// callbacks it's the way to begin something in a part's name, such as to listen.
    ///
    /// # Panics
    /// When it's the ninth part within parts.
    pub fn part<P, R>(
        &mut self,
        part: &Part<S, P>,
        run: impl FnOnce(&mut Context<'_, P>) -> R,
    ) -> R {
        let mut sessions = Among {
            whole: self.sessions,
            part,
        };
        run(&mut Context {
            core: self.core,
            sessions: &mut sessions,
            place: self.place.then(part.number),
            about: self.about.seen_by(part.number),
        })
    }

    /// Whose the listener, timer, UDP socket or foreign source is that the running callback is
    /// about: whose part has opened, set or registered it ([`Owner::part`]). It's the handler
    /// itself too where a callback is about none of them: that about a connection is its whose
    /// session it has.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.about
    }

    /// Lends `run` the reactor as in a callback about something of this owner's. It's for a handler
    /// that takes a caller on by itself, and asks its parts later whether they do: it keeps the
    /// owner that [`Context::owner`] has told in [`Handler::on_accept`](crate::Handler::on_accept),
    /// for the listener may be closed by then, as it is in a drain.
    pub fn about<R>(&mut self, owner: Owner, run: impl FnOnce(&mut Context<'_, S>) -> R) -> R {
        let mut context = self.lend();
        context.about = owner;
        run(&mut context)
    }
}

impl<S> Connection<'_, S> {
    /// Lends `run` the connection as a part's, if its session is of that part; `None` if not, and
    /// then `run` isn't called. See [`Part`].
    ///
    /// # Panics
    /// As [`Context::part`].
    pub fn part<P, R>(
        &mut self,
        part: &Part<S, P>,
        run: impl FnOnce(&mut Connection<'_, P>) -> R,
    ) -> Option<R> {
        (part.find)(self.session())?;
        let index = self.index;
        let run = |context: &mut Context<'_, P>| run(&mut Connection::new(context.lend(), index));
        Some(self.context.part(part, run))
    }
}

impl<S> Datagram<'_, S> {
    /// Lends `run` the datagram as one to a part's socket; whose it is, [`Context::owner`] says.
    /// See [`Part`].
    ///
    /// # Panics
    /// As [`Context::part`].
    pub fn part<P, R>(
        &mut self,
        part: &Part<S, P>,
        run: impl FnOnce(&mut Datagram<'_, P>) -> R,
    ) -> R {
        let (reply_to, to, key) = (self.reply_to, self.to, self.key);
        self.context.part(part, |context| {
            run(&mut Datagram {
                context: context.lend(),
                reply_to,
                to,
                key,
            })
        })
    }
}
