//! How sockets come into a reactor: listeners, dials, and sockets that the embedder prepared.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::acceptor::Acceptor;
use crate::address::Address;
use crate::clock::{Backoff, millis};
use crate::error::ConnectError;
use crate::limits::ConnectionLimits;
use crate::link::{Link, Phase, trace};
use crate::net::{System, TcpListener, TcpStream, UdpSocket};
use crate::options::{ConnectOptions, ListenOptions, UdpOptions, UserTimeout};
use crate::readiness::Readiness;
use crate::table::tenant;
use crate::timer::Links;
use crate::timers::Alarm;
use crate::token::{ConnectionId, Key, Kind, ListenerId, Owner, UdpId};

use super::datagrams::Room;
use super::{Context, Core, Drain, Slot, UdpSlot};

/// A listener in its table.
#[derive(Debug)]
pub(crate) struct ListenerSlot {
    generation: u32,
    pub(crate) owner: Owner,
    pub(crate) listener: TcpListener,
    pub(crate) acceptor: Acceptor,
    /// The limits of its connections: their class.
    pub(crate) class: u8,
    /// Whether its connections are counted by their sources.
    pub(crate) per_source: bool,
    /// Whether it stands in the ready queue.
    pub(crate) queued: bool,
    /// Once it's to be closed: how many callers may be let in before that.
    pub(crate) closing: Option<u32>,
}

tenant!(ListenerSlot);

impl<S> Context<'_, S> {
    /// Listens for connections.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` (not an address of this machine), `PermissionDenied` (a port
    /// below 1024; a folder that is not ours to write to), and what else the system gives.
    /// `InvalidInput`: a file's mode or owner, or a port to share, where there is none.
    /// `NotConnected`: the reactor drains. `QuotaExceeded`: as
    /// [`Connection::set_limits`](crate::Connection::set_limits).
    pub fn listen(&mut self, options: &ListenOptions) -> io::Result<ListenerId> {
        options.check()?;
        self.core.add_listener(options, None, self.place)
    }

    /// Takes over a listener that is bound and listening already: from a supervisor, or from
    /// another process. It's a `TcpListener` or a `UnixListener` of `std`, or the descriptor of
    /// one.
    ///
    /// It gets all of `options` that can be set now, as one that [`Context::listen`] opens: not
    /// its address, nor what says how to come by that. A `user_timeout` or `keepalive` that it has
    /// already, and `options` say nothing of, stays, also where it's the default of a predecessor
    /// with other limits. Other processes that have it too are not asked: all of them share what
    /// is set.
    ///
    /// # Errors
    /// `InvalidInput` when it's no listener. As the system gives them when it can't be made
    /// non-blocking or polled. `NotConnected`: the reactor drains.
    pub fn adopt_listener(
        &mut self,
        listener: impl Into<OwnedFd>,
        options: &ListenOptions,
    ) -> io::Result<ListenerId> {
        self.core
            .add_listener(options, Some(listener.into()), self.place)
    }

    /// The address that a listener has, with the port that port 0 became; `None` once it's closed.
    #[must_use]
    pub fn listener_addr(&self, id: ListenerId) -> Option<Address> {
        self.listener(id)?.local_addr().ok()
    }

    /// How many callers may wait for a listener, after the system's own cap; `None` once it's
    /// closed.
    #[must_use]
    pub fn listener_backlog(&self, id: ListenerId) -> Option<u32> {
        Some(self.listener(id)?.backlog())
    }

    /// A listener's descriptor, lent as by [`Connection`](crate::Connection): to ask or set what
    /// the system offers, or to give a duplicate to another process. `None` once it's closed.
    #[must_use]
    pub fn listener_fd(&self, id: ListenerId) -> Option<BorrowedFd<'_>> {
        Some(self.listener(id)?.as_fd())
    }

    fn listener(&self, id: ListenerId) -> Option<&TcpListener> {
        let slot = self.core.listeners.get(id.0)?;
        slot.closing.is_none().then_some(&slot.listener)
    }

    /// Has a listener take no callers until [`Context::resume_listener`]: they wait in its backlog,
    /// and the system refuses more when that is full. False once it's closed.
    pub fn pause_listener(&mut self, id: ListenerId) -> bool {
        let slot = self.unclosed_listener(id);
        slot.map(|slot| slot.acceptor.pause(true)).is_some()
    }

    /// Has a listener that was paused take callers again. False once it's closed.
    pub fn resume_listener(&mut self, id: ListenerId) -> bool {
        let slot = self.unclosed_listener(id);
        let there = slot.map(|slot| slot.acceptor.pause(false)).is_some();
        self.core.enqueue_listener(id.0);
        there
    }

    /// A listener that nobody has asked to close.
    fn unclosed_listener(&mut self, id: ListenerId) -> Option<&mut ListenerSlot> {
        let slot = self.core.listeners.get_mut(id.0);
        slot.filter(|slot| slot.closing.is_none())
    }

    /// Closes a listener; false when that was asked for already. Who waits in its backlog is let in
    /// first, in this turn and the next ones, as many as it holds: closing it would reset them. At
    /// [`Limits::max_connections`](crate::Limits::max_connections) that waits for room. Then its
    /// socket is closed, and its address, or its file, is free.
    pub fn close_listener(&mut self, id: ListenerId) -> bool {
        let Some(slot) = self.unclosed_listener(id) else {
            return false;
        };
        // One more waits than the number says (Linux: `sk_acceptq_is_full`).
        slot.closing = Some(slot.listener.backlog().saturating_add(1));
        slot.acceptor.reopen();
        self.core.enqueue_listener(id.0);
        true
    }

    /// Closes a listener that somebody else has too, another process or by a duplicate: at once,
    /// and nobody is let in any more. Who waits in its backlog is the other's; where there is no
    /// other, the system resets them. False once it's closed.
    ///
    /// It's for a hand-over. A drain after this has no backlog to empty, and so ends nobody who has
    /// yet to speak.
    pub fn release_listener(&mut self, id: ListenerId) -> bool {
        self.core.drop_listener(id.0)
    }

    /// Opens a UDP socket. Its datagrams come to
    /// [`Handler::on_datagram`](crate::Handler::on_datagram).
    ///
    /// # Errors
    /// As [`Context::listen`].
    pub fn bind_udp(&mut self, options: &UdpOptions) -> io::Result<UdpId> {
        self.core.may_begin()?;
        let socket = self.core.system.bind_udp(options)?;
        self.core.add_udp(socket, self.place, options.key)
    }

    /// Takes over a UDP socket that is bound, and perhaps connected, already: a `UdpSocket` of
    /// `std`, or its descriptor. It gets all of `options` that can be set now: buffers, whom it is
    /// connected to, and its key.
    ///
    /// # Errors
    /// `InvalidInput` when it's no UDP socket. As the system gives them when it can't be made
    /// non-blocking or polled. `NotConnected`: the reactor drains.
    pub fn adopt_udp(
        &mut self,
        socket: impl Into<OwnedFd>,
        options: &UdpOptions,
    ) -> io::Result<UdpId> {
        self.core.may_begin()?;
        let socket = self.core.system.adopt_udp(socket.into(), options)?;
        self.core.add_udp(socket, self.place, options.key)
    }

    /// A UDP socket's descriptor, as [`Context::listener_fd`].
    #[must_use]
    pub fn udp_fd(&self, id: UdpId) -> Option<BorrowedFd<'_>> {
        Some(self.core.udp.get(id.0)?.socket.as_fd())
    }

    /// Connects to another program. The id counts from now on: what is written is sent when the
    /// connection is established, and [`Handler::on_open`](crate::Handler::on_open) tells of that;
    /// or [`Handler::on_connect_failed`](crate::Handler::on_connect_failed) gives the session back.
    ///
    /// # Errors
    /// With the session: what the system says at once. `AddrNotAvailable`: all ports of this source
    /// address towards that destination are taken (28,232 of them by default on Linux), or the
    /// source address is not ours. `QuotaExceeded`: as many connections as
    /// [`Limits::max_connections`](crate::Limits::max_connections) are open, or as
    /// [`Connection::set_limits`](crate::Connection::set_limits). `NotConnected`: the reactor
    /// drains. Of a Unix socket also why nobody is there: `NotFound`, `ConnectionRefused`,
    /// `PermissionDenied`, and `WouldBlock` where too many wait.
    pub fn connect(
        &mut self,
        options: &ConnectOptions,
        session: S,
    ) -> Result<ConnectionId, ConnectError<S>> {
        let (asked, keepalive) = (options.user_timeout, options.keepalive);
        let own = options.limits;
        let key = self.begin(session, Phase::Connecting, own, |system, limits| {
            let stream = system.dial(options)?;
            stream.set_user_timeout(UserTimeout::new(asked, keepalive, limits))?;
            Ok((stream, options.address.clone()))
        })?;
        if let Some(timeout) = options.timeout {
            self.core.limit_handshake(key.index, timeout);
        }
        Ok(ConnectionId(key))
    }

    /// Takes over a stream that is connected already, a `TcpStream` or a `UnixStream` of `std` or
    /// the descriptor of one: it's open at once, and `on_open` follows before the reactor sleeps. A
    /// stream that has no user timeout and no keepalive of its own is
    /// given the default [`ConnectOptions::user_timeout`](crate::ConnectOptions::user_timeout).
    /// There are no options to give: what it's to be like is set on the connection, at once, by the
    /// id ([`Connection::set_limits`](crate::Connection::set_limits) and its like, and `AsFd`).
    ///
    /// # Errors
    /// With the session: as [`Context::connect`]. `NotConnected`: it's not established, or was
    /// reset and somebody has read the error; any other error that the stream has stored.
    /// `InvalidInput`: it's no stream.
    pub fn adopt(
        &mut self,
        stream: impl Into<OwnedFd>,
        session: S,
    ) -> Result<ConnectionId, ConnectError<S>> {
        self.take_over(session, |system| system.adopt_stream(stream.into()))
    }

    /// Takes over the stream that `make` gives: see [`Context::adopt`].
    pub(crate) fn take_over(
        &mut self,
        session: S,
        make: impl FnOnce(&System) -> io::Result<TcpStream>,
    ) -> Result<ConnectionId, ConnectError<S>> {
        let key = self.begin(session, Phase::Open, None, |system, limits| {
            let stream = make(system)?;
            let peer = stream.check_connected()?;
            stream.set_user_timeout(UserTimeout::new(None, None, limits))?;
            Ok((stream, peer))
        })?;
        let link = &mut self.core.slots[key.index].link;
        // It has a past: no edge comes for what was true before it was registered.
        link.ready(Readiness::READABLE);
        link.read_on(true);
        self.core.shared.stats.connected += 1;
        self.core.count_open();
        self.core.touch(key.index);
        Ok(ConnectionId(key))
    }

    /// Gives the stream that `make` makes its slot, with its `own` limits or the reactor's, and has
    /// it polled.
    fn begin(
        &mut self,
        session: S,
        phase: Phase,
        own: Option<ConnectionLimits>,
        make: impl FnOnce(&System, &ConnectionLimits) -> io::Result<(TcpStream, Address)>,
    ) -> Result<Key, ConnectError<S>> {
        let open = || -> io::Result<Key> {
            self.core.may_open()?;
            // The room for a connection that is being accepted must not be taken by a dial.
            if !self.reserve(1 + usize::from(self.core.awaited.is_some())) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            let (class, limits) = self.core.class_of(own)?;
            let (mut stream, peer) = make(&self.core.system, &limits)?;
            self.core.register_stream(&mut stream)?;
            Ok(self.core.place(stream, phase, class, &peer))
        };
        match open() {
            Ok(key) => {
                self.sessions.put(key.index, session);
                Ok(key)
            }
            Err(error) => Err(ConnectError { session, error }),
        }
    }

    /// Makes sure that there is room for `count` more connections; false when there is no memory.
    pub(crate) fn reserve(&mut self, count: usize) -> bool {
        let Core { system, slots, .. } = &mut *self.core;
        system.may_allocate() && slots.reserve(count) && self.sessions.reserve(count)
    }
}

impl Core {
    fn add_listener(
        &mut self,
        options: &ListenOptions,
        adopted: Option<OwnedFd>,
        owner: Owner,
    ) -> io::Result<ListenerId> {
        self.may_begin()?;
        let (class, limits) = self.class_of(options.limits)?;
        let mut listener = self.system.listen(options, adopted)?;
        let (asked, keepalive) = (options.user_timeout, options.keepalive);
        listener.set_user_timeout(UserTimeout::new(asked, keepalive, &limits))?;
        let token = self.listeners.next_key().token(Kind::Listener);
        self.system.register_listener(&mut listener, token)?;
        Ok(ListenerId(self.listeners.insert(|generation| {
            ListenerSlot {
                generation,
                owner,
                listener,
                acceptor: Acceptor::default(),
                class,
                per_source: options.per_source,
                queued: false,
                closing: None,
            }
        })))
    }

    /// Has a listener asked for callers in the next turn.
    pub(crate) fn enqueue_listener(&mut self, key: Key) {
        let slot = self.listeners.get_mut(key);
        if slot.is_some_and(|slot| !std::mem::replace(&mut slot.queued, true)) {
            self.ready.push_back((Kind::Listener, key));
        }
    }

    /// Closes a listener; false when it's closed already.
    pub(crate) fn drop_listener(&mut self, key: Key) -> bool {
        let Some(mut slot) = self.listeners.remove(key) else {
            return false;
        };
        note_deregistered(self.system.deregister_listener(&mut slot.listener));
        true
    }

    /// Has the listeners that paused tried again after `wait`, or earlier with one of the others.
    #[cold]
    pub(crate) fn retry_listeners(&mut self, wait: Duration) {
        let due = self.clock.now() + wait;
        if self.retry.is_none_or(|(earliest, _)| due < earliest) {
            let timer = self.timers.set(&self.clock, due, Alarm::Listeners);
            if let Some((_, later)) = self.retry.replace((due, timer)) {
                self.timers.cancel(later);
            }
        }
    }

    fn add_udp(&mut self, mut socket: UdpSocket, owner: Owner, key: u64) -> io::Result<UdpId> {
        let token = self.udp.next_key().token(Kind::Udp);
        self.system.register_udp(&mut socket, token)?;
        Ok(UdpId(self.udp.insert(|generation| UdpSlot {
            generation,
            owner,
            key,
            address: socket.local_addr().ok(),
            socket,
            queued: false,
            room: Room::There,
            backoff: Backoff::default(),
        })))
    }

    /// Polls a UDP socket anew: for room to send too, where a send has found none.
    pub(crate) fn repoll_udp(&mut self, key: Key) {
        let Core { udp, system, .. } = self;
        let token = key.token(Kind::Udp);
        if let Some(slot) = udp.get_mut(key)
            && let Err(error) = system.repoll(&mut slot.socket, token, slot.room == Room::Polled)
        {
            // The next send that blocks tries again.
            slot.room = Room::There;
            log::warn!("a UDP socket can't be polled anew: {error}");
        }
    }

    /// Whether anything new may come into this reactor: a drain would wait for it, or never end.
    fn may_begin(&self) -> io::Result<()> {
        if self.drain == Drain::No {
            return Ok(());
        }
        let why = "the reactor is draining: nothing new is opened";
        Err(io::Error::new(io::ErrorKind::NotConnected, why))
    }

    /// Whether there's room for another connection in this reactor's life.
    fn may_open(&self) -> io::Result<()> {
        self.may_begin()?;
        if !self.has_room() {
            let open = self.places_taken();
            let why = format!("{open} connections are open, as many as allowed");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        Ok(())
    }

    /// Whether another connection may be opened.
    pub(crate) fn has_room(&self) -> bool {
        self.places_taken() < self.shared.limits.max_connections
    }

    fn places_taken(&self) -> usize {
        self.slots.len() + usize::from(self.awaited.is_some())
    }

    /// Gives a stream to `peer` its slot, which [`Context::reserve`] has made room for, and the
    /// limits of its class; its session is to follow.
    pub(crate) fn place(
        &mut self,
        stream: TcpStream,
        phase: Phase,
        class: u8,
        peer: &Address,
    ) -> Key {
        let mut link = Link::new(stream, phase);
        link.read_on(phase == Phase::Connecting);
        if let Address::Unix(_) = peer {
            link.ready(Readiness::PIECES);
        }
        link.set_class(&mut self.shared, class);
        let idle_timeout = link.limits(&self.shared).idle_timeout.map_or(0, millis);
        let active = self.clock.tick();
        let key = self.slots.insert(|generation| Slot {
            generation,
            link,
            links: Links::default(),
            idle_timeout,
            active,
        });
        let what = match phase {
            Phase::Connecting => "dials",
            _ => "is open to",
        };
        trace!(self.shared, "{key:?} {what} {peer}");
        key
    }

    /// Whether one more connection may be taken on from where `peer` is; counts one that may not.
    pub(crate) fn admits(&mut self, peer: &Address) -> bool {
        let now = self.clock.elapsed_ms();
        let admits = match (peer, &mut self.callers) {
            (Address::Ip(peer), Some(callers)) => callers.admits(peer.ip(), now),
            _ => true,
        };
        self.shared.stats.over_source += u64::from(!admits);
        admits
    }

    /// Has a stream polled that is about to be given its slot.
    pub(crate) fn register_stream(&self, stream: &mut TcpStream) -> io::Result<()> {
        let token = self.slots.next_key().token(Kind::Connection);
        self.system.register_stream(stream, token)
    }

    /// Takes a closed connection out, which closes its socket. `None` when `key` is gone.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Slot> {
        self.slots.get(key)?;
        self.wheel.remove(&mut self.slots, key.index);
        if let Some(callers) = &mut self.callers {
            callers.closed(key.index);
        }
        let mut slot = self.slots.remove(key)?;
        note_deregistered(self.system.deregister_stream(&mut slot.link.stream));
        Some(slot)
    }
}

/// What is deregistered is closed next, which takes it out of the poll in any case.
pub(super) fn note_deregistered(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        log::debug!("could not deregister a socket: {error}");
    }
}
