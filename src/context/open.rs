//! How sockets come into a reactor: listeners, dials, and sockets that the embedder prepared.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::acceptor::{Accept, Acceptor};
use crate::error::{CloseReason, ConnectError};
use crate::link::{Link, Phase};
use crate::net::{self, TcpListener, TcpStream, UdpSocket};
use crate::options::{ConnectOptions, ListenOptions, UdpOptions};
use crate::timers::Alarm;
use crate::token::{ConnectionId, Key, Kind, ListenerId, TimerId, UdpId};

use super::{Context, Drain, Slot, UdpSlot};

/// A listener in its table.
#[derive(Debug)]
pub(crate) struct ListenerSlot {
    pub(crate) acceptor: Acceptor<TcpListener>,
    pub(crate) generation: u32,
    /// Whether it stands in the ready queue.
    pub(crate) queued: bool,
    /// What ends its pause for want of descriptors. There's never more than one: each would set its successor.
    pub(crate) retry: Option<TimerId>,
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self)?;
        // A v4 caller on a dual-stack listener is a v4 caller, in limits and in logs.
        Ok((stream, net::canonical(peer)))
    }
}

/// What is left of a connection that was removed.
#[derive(Debug)]
pub(crate) struct Gone<S> {
    pub(crate) session: S,
    pub(crate) reason: CloseReason,
    /// Whether it was ever established; a dial that failed was not.
    pub(crate) opened: bool,
}

impl<S> Context<S> {
    /// Listens for connections.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` (not an address of this machine), `PermissionDenied` (a port below 1024), and what else
    /// the system gives. `NotConnected`: the reactor drains.
    pub fn listen(&mut self, options: &ListenOptions) -> io::Result<ListenerId> {
        self.may_begin()?;
        let listener = TcpListener::listen(options)?;
        listener.set_user_timeout(options.user_timeout(self.shared.limits.write_timeout))?;
        self.add_listener(listener)
    }

    /// Takes over a listener that is bound and listening already: from a supervisor, or from another process. Unless it has
    /// a user timeout or keepalive of its own, its connections have [`Limits::write_timeout`](crate::Limits::write_timeout)
    /// for a [`ListenOptions::user_timeout`].
    ///
    /// # Errors
    /// As the system gives them when it can't be made non-blocking or polled. `NotConnected`: the reactor drains.
    pub fn adopt_listener(&mut self, listener: std::net::TcpListener) -> io::Result<ListenerId> {
        self.may_begin()?;
        let listener = TcpListener::from_std(listener)?;
        if !listener.has_user_timeout()? {
            listener.set_user_timeout(self.shared.limits.write_timeout)?;
        }
        self.add_listener(listener)
    }

    fn add_listener(&mut self, mut listener: TcpListener) -> io::Result<ListenerId> {
        let generation = self.generations.draw();
        let entry = self.listeners.vacant_entry();
        let key = Key {
            index: entry.key() as u32,
            generation,
        };
        self.poll
            .register_listener(&mut listener, key.token(Kind::Listener))?;
        entry.insert(ListenerSlot {
            acceptor: Acceptor::new(listener),
            generation,
            queued: false,
            retry: None,
        });
        Ok(ListenerId(key))
    }

    pub(crate) fn listener(&self, id: ListenerId) -> Option<&ListenerSlot> {
        let slot = self.listeners.get(id.0.index as usize)?;
        (slot.generation == id.0.generation).then_some(slot)
    }

    /// The address that a listener has, with the port that port 0 became; `None` once it's closed.
    #[must_use]
    pub fn listener_addr(&self, id: ListenerId) -> Option<SocketAddr> {
        self.listener(id)?.acceptor.listener().local_addr().ok()
    }

    /// How many callers may wait for a listener, after the system's own cap; `None` once it's closed or where the system
    /// doesn't say.
    #[must_use]
    pub fn listener_backlog(&self, id: ListenerId) -> Option<u32> {
        self.listener(id)?.acceptor.listener().backlog()
    }

    /// Closes a listener; false when it was closed already. Who waits in its backlog is reset by the system.
    pub fn close_listener(&mut self, id: ListenerId) -> bool {
        if self.listener(id).is_none() {
            return false;
        }
        let mut slot = self.listeners.remove(id.0.index as usize);
        if let Err(error) = self.poll.deregister_listener(slot.acceptor.listener_mut()) {
            // Closing the descriptor, which follows, takes it out of the poll as well.
            log::debug!("could not deregister a listener: {error}");
        }
        true
    }

    /// Has a listener that paused tried again after `wait`.
    #[cold]
    pub(crate) fn retry_listener(&mut self, id: ListenerId, wait: Duration) {
        let due = self.clock.now() + wait;
        let alarm = Alarm::Listener(id);
        let timer = self
            .timers
            .set(&self.clock, &mut self.generations, due, alarm);
        let slot = self.listeners.get_mut(id.0.index as usize);
        // A pause that ended before its timer, because somebody left, has left the timer behind.
        if let Some(old) = slot.and_then(|slot| slot.retry.replace(timer)) {
            self.timers.cancel(old);
        }
    }

    /// Opens a UDP socket. Its datagrams come to [`Handler::on_datagram`](crate::Handler::on_datagram).
    ///
    /// # Errors
    /// As [`Context::listen`].
    pub fn bind_udp(&mut self, options: &UdpOptions) -> io::Result<UdpId> {
        self.may_begin()?;
        let socket = UdpSocket::bind(options)?;
        self.add_udp(socket)
    }

    /// Takes over a UDP socket that is bound, and perhaps connected, already.
    ///
    /// # Errors
    /// As the system gives them when it can't be made non-blocking or polled. `NotConnected`: the reactor drains.
    pub fn adopt_udp(&mut self, socket: std::net::UdpSocket) -> io::Result<UdpId> {
        self.may_begin()?;
        let socket = UdpSocket::from_std(socket)?;
        self.add_udp(socket)
    }

    fn add_udp(&mut self, mut socket: UdpSocket) -> io::Result<UdpId> {
        let generation = self.generations.draw();
        let entry = self.udp.vacant_entry();
        let key = Key {
            index: entry.key() as u32,
            generation,
        };
        self.poll.register_udp(&mut socket, key.token(Kind::Udp))?;
        entry.insert(UdpSlot::new(socket, generation));
        Ok(UdpId(key))
    }

    /// Connects to another program. The id counts from now on: what is written is sent when the connection is
    /// established, and [`Handler::on_open`](crate::Handler::on_open) tells of that; or
    /// [`Handler::on_connect_failed`](crate::Handler::on_connect_failed) gives the session back.
    ///
    /// # Errors
    /// With the session: what the system says at once. `AddrNotAvailable`: all ports of this source address
    /// towards that destination are taken (28,232 of them by default on Linux), or the source address is not ours. `QuotaExceeded`: as
    /// many connections as [`Limits::max_connections`](crate::Limits::max_connections) are open. `NotConnected`: the
    /// reactor drains.
    pub fn connect(
        &mut self,
        options: &ConnectOptions,
        session: S,
    ) -> Result<ConnectionId, ConnectError<S>> {
        match self.may_open().and_then(|()| net::dial(options)) {
            Ok(stream) => {
                let key = self.insert(stream, session, Phase::Connecting)?;
                if let Some(timeout) = options.user_timeout(self.shared.limits.write_timeout) {
                    self.user_timeouts.insert(key.index, timeout);
                }
                if let Some(timeout) = options.timeout {
                    self.arm_at(key.index, timeout);
                }
                Ok(ConnectionId(key))
            }
            Err(error) => Err(ConnectError { session, error }),
        }
    }

    /// Takes over a stream that is connected already, as if it had been dialed here: `on_open` follows.
    ///
    /// # Errors
    /// With the session: as [`Context::connect`].
    pub fn adopt(
        &mut self,
        stream: std::net::TcpStream,
        session: S,
    ) -> Result<ConnectionId, ConnectError<S>> {
        // "Connecting" until its first event, which comes at once: so it takes the same way as a dialed one.
        match self.may_open().and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => self
                .insert(stream, session, Phase::Connecting)
                .map(ConnectionId),
            Err(error) => Err(ConnectError { session, error }),
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
        if self.has_room() {
            return Ok(());
        }
        let why = format!(
            "{} connections are open, as many as allowed",
            self.slots.len() + self.awaited
        );
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, why))
    }

    /// Whether another connection may be opened.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.len() + self.awaited < self.shared.limits.max_connections
    }

    /// Gives a stream its slot and has it polled.
    pub(crate) fn insert(
        &mut self,
        mut stream: TcpStream,
        session: S,
        phase: Phase,
    ) -> Result<Key, ConnectError<S>> {
        let generation = self.generations.draw();
        let entry = self.slots.vacant_entry();
        let key = Key {
            index: entry.key() as u32,
            generation,
        };
        if let Err(error) = self
            .poll
            .register_stream(&mut stream, key.token(Kind::Connection))
        {
            return Err(ConnectError { session, error });
        }
        let mut link = Link::new(stream, phase);
        link.read_on(phase == Phase::Connecting);
        let idle = self.shared.limits.idle_timeout;
        entry.insert(Slot::new(
            link,
            session,
            generation,
            idle,
            self.clock.tick(),
        ));
        Ok(key)
    }

    /// Takes a closed connection out, which closes its socket. `None` when `key` is gone.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Gone<S>> {
        self.slot(key)?;
        self.disarm(key.index);
        self.user_timeouts.remove(&key.index);
        let mut slot = self.slots.remove(key.index as usize);
        if let Err(error) = self.poll.deregister_stream(slot.link.stream_mut()) {
            // Closing the descriptor, which follows, takes it out of the poll as well.
            log::debug!("could not deregister a connection: {error}");
        }
        let reason = slot.link.reason().unwrap_or(CloseReason::Closed);
        Some(Gone {
            opened: slot.link.was_opened(),
            session: slot.session,
            reason,
        })
    }
}
