//! Handlers made of others: two in one, and one of a function.

use std::fmt;
use std::io;

use crate::context::{Connection, Context, Datagram, Part};
use crate::error::CloseReason;
use crate::handler::{Accepted, Handler};
use crate::readiness::Readiness;
use crate::token::{ConnectionId, SourceId, UdpId};

/// One of two: a session or a message of [`Both`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first handler's.
    First(A),
    /// The second handler's.
    Second(B),
}

/// Two handlers in one reactor, neither of which knows of the other.
///
/// What a handler opens belongs to it: callers of its listeners, datagrams to its UDP sockets, its
/// timers, its dials. It's opened in its callbacks, or by [`Both::with_first`] and
/// [`Both::with_second`]. A listener that was opened otherwise is nobody's, and its callers are
/// refused. Either one finds only its own connections ([`Context::connection`],
/// [`Context::for_each`]); the counters, the limits and a drain are of the whole reactor. So one
/// that waits until nobody is left looks at [`Stats::open`](crate::Stats::open) between two turns,
/// and not in its own `on_close`: the last to leave may be the other one's.
///
/// Three are two, one of which is `Both`: up to eight times over.
///
/// ```
/// use oread::{Accepted, Both, Connection, Context, Echo, EchoOptions, Handler};
/// use oread::{ListenOptions, Reactor};
///
/// struct Greeter;
///
/// impl Handler for Greeter {
///     type Session = ();
///     type Message = ();
///
///     fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
///         Some(())
///     }
///
///     fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
///         connection.write(b"hello, and good bye\n");
///         connection.finish();
///     }
///
///     fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
///         data.len()
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let mut both = Both::new(Echo::new(EchoOptions::default()), Greeter);
/// let mut reactor = Reactor::new()?;
/// let options = ListenOptions::new(([127, 0, 0, 1], 0));
/// both.with_first(&mut reactor.context(), |_, context| context.listen(&options))?;
/// both.with_second(&mut reactor.context(), |_, context| context.listen(&options))?;
/// # reactor.handle().stop();
/// reactor.run(&mut both)?;
/// println!("{} frames echoed", both.first.stats().frames_out);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Both<A, B> {
    /// The first of the two.
    pub first: A,
    /// The second of the two.
    pub second: B,
}

const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// The part whose sessions are in this variant.
macro_rules! either {
    ($number:expr, $variant:ident) => {
        Part::new(
            $number,
            Either::$variant,
            |session| match session {
                Either::$variant(part) => Some(part),
                _ => None,
            },
            |session| match session {
                Either::$variant(part) => Some(part),
                _ => None,
            },
        )
    };
}

/// The sessions of two handlers.
type Sessions<A, B> = Either<<A as Handler>::Session, <B as Handler>::Session>;

impl<A: Handler, B: Handler> Both<A, B> {
    const FIRST: Part<Sessions<A, B>, A::Session> = either!(FIRST, First);
    const SECOND: Part<Sessions<A, B>, B::Session> = either!(SECOND, Second);

    /// The two of them.
    pub const fn new(first: A, second: B) -> Both<A, B> {
        Both { first, second }
    }

    /// Lends the first handler and its view of the reactor to `call`: what is opened there is its
    /// own. A method of its own that starts it is a `call`, such as `Echo::start`.
    pub fn with_first<R>(
        &mut self,
        context: &mut Context<'_, Sessions<A, B>>,
        call: impl FnOnce(&mut A, &mut Context<'_, A::Session>) -> R,
    ) -> R {
        context.part(&Self::FIRST, |context| call(&mut self.first, context))
    }

    /// As [`Both::with_first`], for the second handler.
    pub fn with_second<R>(
        &mut self,
        context: &mut Context<'_, Sessions<A, B>>,
        call: impl FnOnce(&mut B, &mut Context<'_, B::Session>) -> R,
    ) -> R {
        context.part(&Self::SECOND, |context| call(&mut self.second, context))
    }
}

/// Callbacks, each of which goes to one of two handlers: whose session the connection has, or whose
/// it is what the callback is about.
macro_rules! callbacks {
    (of a connection: $($call:ident($($more:ident: $of:ty)?) $(-> $result:ty)?;)*) => {$(
        fn $call(
            &mut self,
            connection: &mut Connection<'_, Self::Session>
            $(, $more: $of)?
        ) $(-> $result)? {
            let Both { first, second } = self;
            let shown = match connection.session() {
                Either::First(_) => {
                    connection.part(&Self::FIRST, |part| first.$call(part $(, $more)?))
                }
                Either::Second(_) => {
                    connection.part(&Self::SECOND, |part| second.$call(part $(, $more)?))
                }
            };
            shown.unwrap_or_default()
        }
    )*};
    (of an owner: $($call:ident($($more:ident: $of:ty),*);)*) => {$(
        fn $call(&mut self, context: &mut Context<'_, Self::Session> $(, $more: $of)*) {
            match context.owner().part() {
                FIRST => self.with_first(context, |first, part| first.$call(part $(, $more)*)),
                SECOND => self.with_second(context, |second, part| second.$call(part $(, $more)*)),
                _ => {}
            }
        }
    )*};
}

/// Calls a method of the handler whose this session or message is.
macro_rules! give {
    ($whose:ident: $both:ident.$call:ident($context:ident $(, $more:ident)*)) => {
        match $whose {
            Either::First($whose) => {
                $both.with_first($context, |first, part| first.$call(part $(, $more)*))
            }
            Either::Second($whose) => {
                $both.with_second($context, |second, part| second.$call(part $(, $more)*))
            }
        }
    };
}

#[warn(clippy::missing_trait_methods)]
impl<A: Handler, B: Handler> Handler for Both<A, B> {
    type Session = Sessions<A, B>;
    type Message = Either<A::Message, B::Message>;

    callbacks! { of a connection:
        on_open();
        on_data(data: &[u8]) -> usize;
        on_eof(rest: &[u8]);
        on_drained();
        on_closing(reason: CloseReason);
    }

    callbacks! { of an owner:
        on_datagram_error(socket: UdpId, error: io::Error);
        on_datagram_writable(socket: UdpId);
        on_timer(key: u64);
        on_ready(source: SourceId, readiness: Readiness);
    }

    fn on_accept(
        &mut self,
        context: &mut Context<'_, Self::Session>,
        caller: &Accepted,
    ) -> Option<Self::Session> {
        match context.owner().part() {
            FIRST => self
                .with_first(context, |first, part| first.on_accept(part, caller))
                .map(Either::First),
            SECOND => self
                .with_second(context, |second, part| second.on_accept(part, caller))
                .map(Either::Second),
            _ => None,
        }
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, Self::Session>,
        id: ConnectionId,
        session: Self::Session,
        reason: CloseReason,
    ) {
        give!(session: self.on_close(context, id, session, reason));
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, Self::Session>,
        id: ConnectionId,
        session: Self::Session,
        error: io::Error,
    ) {
        give!(session: self.on_connect_failed(context, id, session, error));
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, Self::Session>, data: &[u8]) {
        match datagram.context().owner().part() {
            FIRST => datagram.part(&Self::FIRST, |part| self.first.on_datagram(part, data)),
            SECOND => datagram.part(&Self::SECOND, |part| self.second.on_datagram(part, data)),
            _ => {}
        }
    }

    fn on_message(&mut self, context: &mut Context<'_, Self::Session>, message: Self::Message) {
        give!(message: self.on_message(context, message));
    }
}

/// A handler for the smallest programs, of no more than its
/// [`on_data`](Handler::on_data): see [`from_fn`].
pub struct FromFn<F> {
    on_data: F,
}

/// Makes a handler of its [`on_data`](Handler::on_data): it takes on whoever calls, keeps nothing
/// of a connection, and finishes when the peer has. What the function captures is for all
/// connections together.
///
/// ```
/// use oread::{ListenOptions, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// reactor.context().listen(&ListenOptions::new(([127, 0, 0, 1], 0)))?;
/// # reactor.handle().stop();
/// let mut total = 0;
/// reactor.run(&mut oread::from_fn(|connection, data| {
///     total += data.len();
///     writeln!(connection, "{total} bytes so far");
///     data.len()
/// }))?;
/// # Ok(())
/// # }
/// ```
pub fn from_fn<F>(on_data: F) -> FromFn<F>
where
    F: FnMut(&mut Connection<'_, ()>, &[u8]) -> usize,
{
    FromFn { on_data }
}

impl<F> Handler for FromFn<F>
where
    F: FnMut(&mut Connection<'_, ()>, &[u8]) -> usize,
{
    type Session = ();
    type Message = std::convert::Infallible;

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        (self.on_data)(connection, data)
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}
