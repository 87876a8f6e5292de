//! What an embedder writes: the [`Handler`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::address::Address;
use crate::context::{Connection, Context, Datagram};
use crate::error::CloseReason;
use crate::net::TcpStream;
use crate::readiness::Readiness;
use crate::token::{ConnectionId, ListenerId, SourceId, UdpId};

/// A connection that is offered, before the handler has decided about it. It's lent; what is to be
/// known of it later goes into the session.
#[derive(Clone, Debug)]
pub struct Accepted<'a> {
    /// The listener that it came to.
    pub listener: ListenerId,
    /// Where it comes from.
    pub peer: Address,
    pub(crate) stream: Option<&'a TcpStream>,
    pub(crate) local: Option<Address>,
}

impl<'a> Accepted<'a> {
    /// One to show to a handler within another, which has taken the connection already and perhaps
    /// knows better where it comes from; or to a handler in its test. It has no descriptor, and an
    /// address of ours only by [`Accepted::at`]: the methods say `NotConnected`.
    #[must_use]
    pub fn new(listener: ListenerId, peer: impl Into<Address>) -> Accepted<'a> {
        Accepted {
            listener,
            peer: peer.into(),
            stream: None,
            local: None,
        }
    }

    /// The same, come to this address of ours, whatever the system says.
    #[must_use]
    pub fn at(self, local: impl Into<Address>) -> Accepted<'a> {
        let local = Some(local.into());
        Accepted { local, ..self }
    }

    /// The address of ours that it came to, asked of the system.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn local_addr(&self) -> io::Result<Address> {
        match (&self.local, self.stream) {
            (Some(told), _) => Ok(told.clone()),
            (None, Some(stream)) => stream.local_addr(),
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The descriptor, lent as [`Connection::as_fd`] lends it.
    ///
    /// # Errors
    /// None but `NotConnected`.
    pub fn fd(&self) -> io::Result<BorrowedFd<'a>> {
        let fd = self.stream.map(AsFd::as_fd);
        fd.ok_or(io::ErrorKind::NotConnected.into())
    }
}

/// What happens on a reactor's connections, sockets and timers, one method for each. Only
/// [`on_data`](Handler::on_data) must be written.
///
/// The reactor lends the handler to its turns, so you keep it, and have it back between two of
/// them. No method is called while another one runs.
///
/// A panic in one is yours: it goes through [`Reactor::turn`](crate::Reactor::turn) to its caller.
/// Whoever catches it there can only drop the reactor: that closes all its descriptors and drops
/// all sessions, without `on_close`; any further turn is an error. To lose no more than one
/// connection to a panic, catch it inside the method.
///
/// For one connection the order is: `on_accept` (or [`Context::connect`] or [`Context::adopt`]),
/// `on_open`, any number of `on_data` and `on_drained`, at most one `on_eof` and one `on_closing`
/// (two, with [`Connection::stay_open`]), and exactly one `on_close`. A dial that fails has one
/// `on_connect_failed` instead of all the rest.
///
/// ```
/// use oread::{Accepted, Connection, Context, Handler};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type Session = ();
///     type Message = ();
///
///     fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
///         Some(())
///     }
///
///     fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
///         connection.write(data);
///         data.len()
///     }
/// }
/// ```
pub trait Handler: Sized {
    /// What is kept for each connection, beside its slot of 56 bytes: its own size, and a word more
    /// where its type has no value to spare (an enum has, and so has what holds a `Box`).
    type Session;
    /// What other threads may post, through a [`Handle`](crate::Handle).
    type Message: Send + 'static;

    /// A connection is offered. `None` refuses it: it's closed, and no other callback comes for it.
    /// After `Some` there always is an `on_open` and an `on_close`. By default all are refused: a
    /// handler that only dials has no use for it.
    fn on_accept(
        &mut self,
        _context: &mut Context<'_, Self::Session>,
        _caller: &Accepted,
    ) -> Option<Self::Session> {
        None
    }

    /// A connection is there, accepted, dialed or adopted: the first chance to write. It may have
    /// ended by now ([`Connection::is_open`]), and `on_close` follows then: the system refused to
    /// poll it, or it was closed between [`Context::adopt`] and this.
    fn on_open(&mut self, _connection: &mut Connection<'_, Self::Session>) {}

    /// Input, from the first byte that was not consumed. Returns how many bytes of it are consumed.
    ///
    /// What is left is kept, up to [`Limits::max_input`](crate::Limits::max_input), and comes again
    /// in front of new input; after [`Connection::resume`], also one in this very call if it
    /// consumes something; after [`Connection::again`], in the next turn; and when output that was
    /// under [`Pressure::High`](crate::Pressure::High) has drained, even with nothing new: so a
    /// handler may stop early.
    ///
    /// # Panics
    /// The reactor panics when more is said to be consumed than there was.
    fn on_data(&mut self, connection: &mut Connection<'_, Self::Session>, data: &[u8]) -> usize;

    /// The peer has finished; `rest` is what was never consumed, and is gone after this. It comes
    /// only for an end that the peer has sent, never for a connection that broke. By default our
    /// side is finished as well, when the pending output is out. A handler that goes on sending
    /// finishes later: one whose answers come from another thread must, or they are lost. Should
    /// the peer reset the connection meanwhile, `on_close` tells; that it has only gone away, the
    /// next write does.
    fn on_eof(&mut self, connection: &mut Connection<'_, Self::Session>, _rest: &[u8]) {
        connection.finish();
    }

    /// Output that was under [`Pressure::High`](crate::Pressure::High) has fallen to the low-water
    /// mark: the place to resume whatever produces it. Or all of it is out, where that was asked
    /// for ([`Connection::tell_when_sent`]); [`Connection::pending`] is 0 then. It doesn't come for
    /// output that was dropped because the connection broke or is closed.
    fn on_drained(&mut self, _connection: &mut Connection<'_, Self::Session>) {}

    /// The reactor closes the connection, because it was idle for too long or because everything
    /// drains (which [`Connection::stay_open`] puts off): the last words. What is written here
    /// still goes out, behind all that is pending. A handler that has the connection stay open says
    /// its last words later: other callbacks may follow then, and an idle timeout brings this one a
    /// second time.
    ///
    /// It's not called where there is nothing to say or nobody to say it to: after
    /// [`Connection::finish`], for a close that the handler itself asked for, and for a connection
    /// that breaks or is cut off.
    fn on_closing(
        &mut self,
        _connection: &mut Connection<'_, Self::Session>,
        _reason: CloseReason,
    ) {
    }

    /// A connection is over. Its id finds nothing any more; its session comes back.
    fn on_close(
        &mut self,
        _context: &mut Context<'_, Self::Session>,
        _id: ConnectionId,
        _session: Self::Session,
        _reason: CloseReason,
    ) {
    }

    /// A dial has failed, or was given up, before it was established. `TimedOut` is its own timeout
    /// or the system's.
    fn on_connect_failed(
        &mut self,
        _context: &mut Context<'_, Self::Session>,
        _id: ConnectionId,
        _session: Self::Session,
        _error: io::Error,
    ) {
    }

    /// A datagram, whole; it may be empty. Those that the read buffer cut don't come here: they are
    /// counted.
    fn on_datagram(&mut self, _datagram: &mut Datagram<'_, Self::Session>, _data: &[u8]) {}

    /// An error has come in place of a datagram; the socket goes on. On a connected one it's most
    /// often what became of an earlier send: `ConnectionRefused` when nobody listens there.
    fn on_datagram_error(
        &mut self,
        _context: &mut Context<'_, Self::Session>,
        _socket: UdpId,
        _error: io::Error,
    ) {
    }

    /// A UDP socket may have room again, after a datagram was dropped for want of it
    /// ([`SendOutcome::Blocked`](crate::SendOutcome::Blocked)): once, and again after the next such
    /// send. Where it's not the socket's buffer that was full but the device's queue (`ENOBUFS`),
    /// nothing tells when it has room, and this comes after 10 ms; each time that there is none
    /// still, after twice as long, up to a second.
    fn on_datagram_writable(&mut self, _context: &mut Context<'_, Self::Session>, _socket: UdpId) {}

    /// A timer has fired; `key` is what it was set with.
    fn on_timer(&mut self, _context: &mut Context<'_, Self::Session>, _key: u64) {}

    /// A message from another thread.
    fn on_message(&mut self, _context: &mut Context<'_, Self::Session>, _message: Self::Message) {}

    /// A foreign source is ready; see [`Context::register`].
    fn on_ready(
        &mut self,
        _context: &mut Context<'_, Self::Session>,
        _source: SourceId,
        _readiness: Readiness,
    ) {
    }
}
