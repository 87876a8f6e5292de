//! One connection, as a callback has it in hands.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::address::Address;
use crate::error::CloseReason;
use crate::limits::ConnectionLimits;
use crate::link::{Flags, Link, Phase, Pressure, Shared, trace};
use crate::net::TcpStream;
use crate::options::{Keepalive, UserTimeout};
use crate::stats::Traffic;
use crate::table::vacant;
use crate::token::{ConnectionId, TimerId};

use super::{Context, Core};

/// A connection, lent to a callback: its session, its output, its end.
///
/// What is written to the connection whose callback runs is gathered, and leaves in one system call
/// when the callback returns. What is written to any other connection is queued, and goes out
/// before the reactor sleeps. A large write (more than [`Limits::gather`](crate::Limits::gather))
/// goes out at once in both cases, straight from the caller's slice, and only what the socket
/// doesn't take is queued. Once the connection's calls of this turn
/// ([`Limits::io_budget`](crate::Limits::io_budget)) are spent, what is written waits up to
/// [`Limits::high_water`](crate::Limits::high_water); then it is offered to the socket, and the
/// connection is under [`Pressure::High`] whatever the socket takes.
pub struct Connection<'a, S> {
    pub(super) context: Context<'a, S>,
    pub(super) index: u32,
}

impl<'a, S> Connection<'a, S> {
    #[inline(always)]
    pub(crate) fn new(context: Context<'a, S>, index: u32) -> Connection<'a, S> {
        Connection { context, index }
    }

    #[inline]
    fn link(&self) -> &Link<TcpStream> {
        &self.context.core.slots[self.index].link
    }

    #[inline]
    fn link_mut(&mut self) -> &mut Link<TcpStream> {
        &mut self.context.core.slots[self.index].link
    }

    /// Changes the link, which is then looked at before the reactor sleeps.
    fn change<T>(&mut self, change: impl FnOnce(&mut Link<TcpStream>, &mut Shared) -> T) -> T {
        let Core { slots, shared, .. } = &mut *self.context.core;
        let result = change(&mut slots[self.index].link, shared);
        self.context.core.touch(self.index);
        result
    }

    /// Tells whoever looks what becomes of the connection.
    fn trace(&self, what: fmt::Arguments<'_>) {
        let Core { slots, shared, .. } = &*self.context.core;
        trace!(shared, "{:?} {what}", slots.key(self.index));
    }

    /// The connection's id, by which others can reach it as long as it's open.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        ConnectionId(self.context.core.slots.key(self.index))
    }

    /// The session. While it's borrowed so is the connection: a call of the connection takes a copy
    /// of what is small, and [`Connection::split`] has the session write into its own connection.
    ///
    /// ```compile_fail,E0502
    /// # fn reply(connection: &mut oread::Connection<'_, String>) {
    /// connection.write(connection.session().as_bytes());
    /// # }
    /// ```
    ///
    /// ```
    /// # fn reply(connection: &mut oread::Connection<'_, String>) {
    /// let (session, mut output) = connection.split();
    /// output.write(session.as_bytes());
    /// # }
    /// ```
    #[must_use]
    #[inline]
    pub fn session(&self) -> &S {
        let session = self.context.sessions.get(self.index);
        session.unwrap_or_else(|| vacant())
    }

    /// The session, to be changed.
    #[inline]
    pub fn session_mut(&mut self) -> &mut S {
        let session = self.context.sessions.get_mut(self.index);
        session.unwrap_or_else(|| vacant())
    }

    /// The session and the connection's output at once, so that a session can write into its own
    /// connection.
    #[inline(always)]
    pub fn split(&mut self) -> (&mut S, Output<'_>) {
        let Context { core, sessions, .. } = &mut self.context;
        let current = core.is_current(self.index);
        if !current {
            core.touch(self.index);
            core.shared.acting = core.slots.key(self.index);
        }
        let session = sessions.get_mut(self.index);
        let output = Output {
            link: &mut core.slots[self.index].link,
            shared: &mut core.shared,
            current,
        };
        (session.unwrap_or_else(|| vacant()), output)
    }

    /// Writes all of `bytes`; what the socket doesn't take is queued. Says how the pending output
    /// stands afterwards. It never fails: a connection that breaks says so by
    /// [`Handler::on_close`](crate::Handler::on_close).
    #[inline(always)]
    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        let core = &mut *self.context.core;
        if core.is_current(self.index) {
            return core.slots[self.index].link.write(&mut core.shared, bytes);
        }
        self.write_from_outside(bytes)
    }

    #[cold]
    #[inline(never)]
    fn write_from_outside(&mut self, bytes: &[u8]) -> Pressure {
        self.split().1.write(bytes)
    }

    /// Writes all of `parts`, in their order, as one [`Connection::write`] after the other would:
    /// what is small is gathered, so nothing is saved by joining it first.
    pub fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> Pressure {
        self.split().1.write_vectored(parts)
    }

    /// Writes formatted text: this is what `write!(connection, ...)` and `writeln!` call. Like
    /// [`Connection::write`] it never fails, and nothing is allocated on the way. The text ends
    /// early where a value's own formatting fails, as std's never do.
    ///
    /// ```
    /// # fn reply(connection: &mut oread::Connection<'_, ()>, value: &str) {
    /// write!(connection, "${}\r\n{value}\r\n", value.len());
    /// # }
    /// ```
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Pressure {
        self.split().1.write_fmt(text)
    }

    /// How the pending output stands.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.link().pressure()
    }

    /// Bytes of output that no socket has taken yet, those gathered by the running callback not
    /// counted.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.link().pending()
    }

    /// Reads no more, and gives the handler neither data nor the peer's end, until
    /// [`Connection::resume`].
    ///
    /// A connection that breaks while it's paused is closed when it's resumed, or by its timeouts:
    /// what the peer sent before may still be wanted. One that breaks while it's paused and under
    /// [`Pressure::High`] is closed at once: its handler waits for an `on_drained` that doesn't
    /// come. Once a write has failed, further ones say [`Pressure::Closed`].
    ///
    /// The idle timeout goes on counting, and a drain does not wait for the input of a paused
    /// connection: [`Handler::on_closing`](crate::Handler::on_closing) comes at once, where
    /// [`Connection::stay_open`] puts the end off.
    pub fn pause(&mut self) {
        self.link_mut().pause();
        self.trace(format_args!("pauses"));
    }

    /// Reads again. Input that was left unconsumed comes again first. So does what the running
    /// [`Handler::on_data`](crate::Handler::on_data) leaves, if it consumes some of its input: a
    /// handler may pause and resume for each request of one read.
    pub fn resume(&mut self) {
        self.change(|link, _| link.resume());
        self.trace(format_args!("resumes"));
    }

    /// Has the input that is left unconsumed come again in the next turn, without anything new,
    /// after what is written until then was offered to the socket; until then nothing is read. For
    /// a handler that has more to do than one callback should: the others have their turn in
    /// between, and what it has written does not add up. It may consume nothing meanwhile.
    ///
    /// While the connection is paused, or its output keeps it from being read, the rest waits for
    /// the end of that. Where nothing is left, nothing comes.
    pub fn again(&mut self) {
        self.link_mut().tag(Flags::AGAIN);
        self.context.core.enqueue(self.index);
    }

    /// Whether reading is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.link().has(Flags::PAUSED)
    }

    /// Sets whether reading goes on while output is pending beyond the high-water mark. It does
    /// from the start on an outbound connection and doesn't on an accepted one: two ends that both
    /// stop reading while they write would wait for each other for good.
    pub fn read_on(&mut self, on: bool) {
        self.change(|link, _| link.read_on(on));
    }

    /// Finishes our side: what is pending is sent, then the end of the stream. The peer may go on
    /// sending. Writes after this are dropped.
    pub fn finish(&mut self) {
        self.change(|link, _| link.finish());
        self.trace(format_args!("finishes"));
    }

    /// In a drain: has the connection stay open, for a handler that still owes it an answer, from
    /// another thread or another connection. It's for
    /// [`Handler::on_closing`](crate::Handler::on_closing): the reactor has then shown all that had
    /// arrived. From there on the handler ends the connection itself, by [`Connection::finish`] or
    /// [`Connection::close`]; meanwhile it's as open as ever, and at the drain's deadline it's cut
    /// off like all others. Elsewhere it does nothing before the drain has got to this connection;
    /// nor does it keep one that was idle for too long.
    pub fn stay_open(&mut self) {
        self.link_mut().stay();
    }

    /// Has [`Handler::on_drained`](crate::Handler::on_drained) come, once, when all output is out:
    /// at once if it is. Not for output that is dropped because the connection breaks or is closed.
    pub fn tell_when_sent(&mut self) {
        self.change(|link, _| link.tag(Flags::TELL));
    }

    /// Takes the connection's socket out of the reactor: the descriptor, which
    /// [`std::net::TcpStream`] is made from and which is non-blocking still, and the input that was
    /// kept for the handler. What the running [`Handler::on_data`](crate::Handler::on_data) is
    /// shown is none of that. [`Handler::on_close`](crate::Handler::on_close) follows, with
    /// [`CloseReason::Detached`].
    ///
    /// # Errors
    /// `ResourceBusy`: output is pending, or the end that [`Connection::finish`] has asked for,
    /// those of the running callback counted; see [`Connection::tell_when_sent`]. `NotConnected`:
    /// it's not open, or a write has failed. Others as the system gives them when it has no
    /// descriptor left for the duplicate. `Unsupported`: in a simulation.
    pub fn detach(&mut self) -> io::Result<(OwnedFd, Vec<u8>)> {
        let current = self.context.core.is_current(self.index);
        let Core { slots, shared, .. } = &*self.context.core;
        let link = &slots[self.index].link;
        if link.phase() != Phase::Open || link.has(Flags::WRITE_DEAD) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let owes_end = link.has(Flags::FIN_WANTED) && !link.has(Flags::FIN_SENT);
        if link.has_output() || owes_end || current && shared.has_gathered() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let descriptor = link.stream.duplicate()?;
        Ok((descriptor, self.change(Link::leave)))
    }

    /// Closes the connection for `reason`: what is pending is sent, then our side is finished. What
    /// arrives meanwhile is thrown away, and within bounds what arrives after that, until the peer
    /// has finished too. No callback but `on_close` comes any more; of one that was just adopted,
    /// `on_open` before it.
    pub fn close(&mut self, reason: CloseReason) {
        self.change(|link, shared| link.close(shared, reason));
        self.trace(format_args!("closes: {reason}"));
    }

    /// Cuts the connection off for `reason`: what is pending is lost, the peer gets a reset. A Unix
    /// socket has none to give: its peer reads what had been sent, and then an end like any other,
    /// unless something was there that we had not read.
    pub fn abort(&mut self, reason: CloseReason) {
        self.change(|link, shared| link.abort(shared, reason));
        self.trace(format_args!("is cut off: {reason}"));
    }

    /// The limits of the connection: the reactor's, its listener's, or its own.
    #[must_use]
    pub fn limits(&self) -> ConnectionLimits {
        let Core { slots, shared, .. } = &*self.context.core;
        let slot = &slots[self.index];
        let idle_timeout = u64::from(slot.idle_timeout);
        ConnectionLimits {
            idle_timeout: (idle_timeout > 0).then(|| Duration::from_millis(idle_timeout)),
            ..*slot.link.limits(shared)
        }
    }

    /// Gives the connection limits of its own, from now on. They are kept once for all connections
    /// and listeners that have the same: so they are for some kinds of connections, and not for
    /// each its own numbers. Where there were 256 kinds already, those that nobody has any more are
    /// looked for, by a walk over all connections.
    ///
    /// A [`user_timeout`](crate::ListenOptions::user_timeout) that the limits so far gave the
    /// connection by default, and so one that was asked for and is equal, follows the new ones.
    ///
    /// # Errors
    /// `QuotaExceeded` when 256 others are in use, the reactor's own among them. As the system
    /// gives them.
    pub fn set_limits(&mut self, limits: ConnectionLimits) -> io::Result<()> {
        let (class, limits) = self.context.core.class_of(Some(limits))?;
        let before = self.limits();
        if before.write_timeout != limits.write_timeout {
            self.link().stream.set_user_timeout(UserTimeout {
                before: before.user_timeout(),
                ..UserTimeout::new(None, None, &limits)
            })?;
        }
        self.change(|link, shared| link.set_class(shared, class));
        self.set_idle_timeout(limits.idle_timeout);
        Ok(())
    }

    /// Gives the connection an idle timeout of its own; `None`: none.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.context.core.set_idle_timeout(self.index, timeout);
    }

    /// Sets a timer about this connection: [`Handler::on_timer`](crate::Handler::on_timer) gets its
    /// id as the key, by [`ConnectionId::to_bits`]. As [`Context::timer`] otherwise: it's kept, and
    /// fires, though the connection may be gone by then, unless it's cancelled.
    pub fn timer(&mut self, after: Duration) -> TimerId {
        let key = self.id().to_bits();
        self.context.timer(after, key)
    }

    /// Counts what the connection moves, from now on. It costs some 150 bytes for as long as the
    /// connection lives, and a part of its speed: nobody counts it otherwise.
    pub fn count(&mut self) {
        let traffic = Traffic::new(self.context.now());
        let Core { slots, shared, .. } = &mut *self.context.core;
        slots[self.index].link.count(shared, traffic);
    }

    /// What it has moved; `None` unless it's counted. [`Context::traffic`] tells it at the end.
    #[must_use]
    pub fn traffic(&self) -> Option<Traffic> {
        self.link().traffic().copied()
    }

    /// Whether the connection is established and not closing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link().phase() == Phase::Open
    }

    /// The peer's address, asked of the system; a v4-mapped one as IPv4, as everywhere.
    ///
    /// # Errors
    /// `NotConnected` after a reset, and while the connection is not established. Who wants to
    /// print the address at the end keeps it in the session, from
    /// [`Handler::on_accept`](crate::Handler::on_accept).
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.link().stream.peer_addr()
    }

    /// Our own address on this connection, asked of the system.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.link().stream.local_addr()
    }

    /// Sends small writes at once, or lets the system gather them (`TCP_NODELAY`). To a Unix socket
    /// it's all the same.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.link().stream.set_nodelay(on)
    }

    /// Has the system probe the peer when it falls silent; no matter for a Unix socket.
    ///
    /// # Errors
    /// `InvalidInput` for numbers that the system doesn't take.
    pub fn set_keepalive(&self, keepalive: Keepalive) -> io::Result<()> {
        self.link().stream.set_keepalive(keepalive)
    }

    /// Everything else in the reactor: this is the way to other connections. What is asked of this
    /// one is asked before:
    ///
    /// ```compile_fail,E0502
    /// # fn again(connection: &mut oread::Connection<'_, ()>) {
    /// connection.context().timer_at(connection.context().now(), connection.id().to_bits());
    /// # }
    /// ```
    ///
    /// ```
    /// # fn again(connection: &mut oread::Connection<'_, ()>) {
    /// let (id, context) = (connection.id(), connection.context());
    /// context.timer_at(context.now(), id.to_bits());
    /// # }
    /// ```
    pub fn context(&mut self) -> &mut Context<'a, S> {
        &mut self.context
    }
}

/// The descriptor, lent to ask or set what the system offers: `TCP_INFO`, `SO_MARK`,
/// `SO_ORIGINAL_DST`, or a duplicate for somebody else. The reactor knows what it has done with its
/// socket and not what others do: so don't read or write by it, don't shut it down, leave it
/// non-blocking. In a simulation it's no socket, and options say `ENOTSOCK`.
impl<S> AsFd for Connection<'_, S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link().stream.as_fd()
    }
}

impl<S> fmt::Debug for Connection<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.id()).finish()
    }
}

/// The output of one connection, apart from its session; see [`Connection::split`].
///
/// As [`io::Write`] it takes all it's given, and fails with `BrokenPipe` on a connection that takes
/// no more.
pub struct Output<'a> {
    link: &'a mut Link<TcpStream>,
    shared: &'a mut Shared,
    current: bool,
}

impl Output<'_> {
    /// As [`Connection::write`].
    #[inline(always)]
    pub fn write(&mut self, bytes: &[u8]) -> Pressure {
        if self.current {
            self.link.write(self.shared, bytes)
        } else {
            self.link.write_later(self.shared, bytes)
        }
    }

    /// As [`Connection::write_fmt`]: what `write!` and `writeln!` call, whether or not
    /// [`io::Write`] is in scope.
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Pressure {
        // Only a value's own formatting can fail here.
        self.as_one(|output| _ = fmt::Write::write_fmt(&mut Text(output), text))
    }

    /// As [`Connection::write_vectored`].
    pub fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> Pressure {
        self.as_one(|output| parts.iter().for_each(|part| _ = output.write(part)))
    }

    /// Runs `write`, whose writes are the parts of one.
    fn as_one(&mut self, write: impl FnOnce(&mut Self)) -> Pressure {
        self.shared.judged = Some(false);
        write(self);
        self.shared.judged = None;
        self.pressure()
    }

    /// As [`Connection::pressure`].
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.link.pressure()
    }
}

/// What [`Output::write_fmt`] formats into.
struct Text<'o, 'a>(&'o mut Output<'a>);

impl fmt::Write for Text<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl io::Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Output::write(self, bytes) {
            Pressure::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Pressure::Low | Pressure::High => Ok(bytes.len()),
        }
    }

    /// Takes all of all `parts`, where the default would take the first one that isn't empty.
    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match Output::write_vectored(self, parts) {
            Pressure::Closed => Err(io::ErrorKind::BrokenPipe.into()),
            Pressure::Low | Pressure::High => Ok(parts.iter().map(|part| part.len()).sum()),
        }
    }

    /// Does nothing: what is written goes out when the callback returns.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As that of its [`Output`]; [`Connection::write`] and its like, which can't fail, come first in a
/// call by name.
impl<S> io::Write for Connection<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut self.split().1, bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        io::Write::write_vectored(&mut self.split().1, parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&self.pressure()).finish()
    }
}
