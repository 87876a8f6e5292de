//! UDP, as a callback has it in hands.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::clock::Backoff;
use crate::link::trace;
use crate::net::UdpSocket;
use crate::nonblocking;
use crate::options::Multicast;
use crate::table::tenant;
use crate::timers::Alarm;
use crate::token::{Key, Owner, UdpId};

use super::open::note_deregistered;
use super::{Context, Core};

/// A UDP socket in its table.
#[derive(Debug)]
pub(crate) struct UdpSlot {
    pub(super) generation: u32,
    pub(crate) owner: Owner,
    /// As the handler chose it: [`UdpOptions::key`](crate::UdpOptions::key).
    pub(crate) key: u64,
    pub(crate) socket: UdpSocket,
    /// Its own address, kept because every datagram's source is compared with it.
    pub(super) address: Option<SocketAddr>,
    /// Whether it stands in the ready queue.
    pub(crate) queued: bool,
    pub(crate) room: Room,
    /// How long it's left alone when the system has no room.
    pub(super) backoff: Backoff,
}

/// Whether a send has found no room, and how its socket learns that there may be some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// None has since the handler was told.
    There,
    /// The socket's buffer was full: it's polled for room.
    Polled,
    /// The system had none, or the device (`ENOBUFS`). No event tells of that, and the socket is
    /// writable all the time: a timer is set.
    Timed,
}

tenant!(UdpSlot);

/// What became of a datagram that was to be sent. All but the last is counted, and nothing waits:
/// UDP promises nothing, and a queue would only make what is late later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendOutcome {
    /// The system took it.
    Sent,
    /// The socket's buffer, or the device's queue, is full; it was dropped. When there may be room
    /// again,
    /// [`Handler::on_datagram_writable`](crate::Handler::on_datagram_writable) says so.
    Blocked,
    /// The system refused it, with this kind of error; it was dropped.
    Failed(io::ErrorKind),
    /// There is no such socket (any more).
    NoSocket,
}

/// How to answer a datagram: whom, by which socket, and from which of our addresses.
/// [`Datagram::reply_to`] gives it and [`Context::reply`] takes it, when the answer comes only
/// later: from another thread, another server, or after a time. It's 64 bytes, and keeps nothing
/// open: once the socket is closed, an answer has [`SendOutcome::NoSocket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    /// The socket that the datagram came to.
    pub socket: UdpId,
    /// Who sent it, as far as UDP can tell.
    pub peer: SocketAddr,
    /// The address of ours that an answer leaves from; see [`Datagram::local`].
    pub local: Option<IpAddr>,
    /// The index of the interface that it came to, where `local` means nothing without; else 0.
    pub(crate) interface: u32,
}

/// A datagram that has arrived, beside its bytes: where from, where to, and how to answer it.
pub struct Datagram<'a, S> {
    pub(crate) context: Context<'a, S>,
    pub(crate) reply_to: ReplyTo,
    pub(crate) to: Option<IpAddr>,
    pub(crate) key: u64,
}

impl<'a, S> Datagram<'a, S> {
    /// The socket that it came to.
    #[must_use]
    pub fn socket(&self) -> UdpId {
        self.reply_to.socket
    }

    /// The socket's [`UdpOptions::key`](crate::UdpOptions::key).
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Who sent it, as far as UDP can tell.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        self.reply_to.peer
    }

    /// The address that it was sent to, as its header says: one of ours, or a broadcast or
    /// multicast address; see [`is_unicast`](Datagram::is_unicast).
    ///
    /// `None` where the system doesn't say it (Linux, Android and Apple's systems do), or isn't
    /// asked: for a connected socket, and for one that is bound to one address of this host, where
    /// nothing else arrives.
    #[must_use]
    pub fn to(&self) -> Option<IpAddr> {
        self.to
    }

    /// The address of ours that [`reply`](Datagram::reply) answers from: [`to`](Datagram::to)
    /// where that is unicast, and one of the interface that it came to for an IPv4 broadcast or
    /// group. `None` leaves it to the system: for an IPv6 group, and wherever `to` isn't known.
    #[must_use]
    pub fn local(&self) -> Option<IpAddr> {
        self.reply_to.local
    }

    /// Whether it was sent to this host alone, and not to a broadcast or multicast address. To
    /// answer the others is to help in a Fraggle attack: one forged datagram to a network makes all
    /// its hosts answer a victim.
    ///
    /// True also where [`to`](Datagram::to) isn't known. The broadcast address of a network
    /// (`10.0.0.255`) is recognised on Linux and Android only, `255.255.255.255` wherever `to` is
    /// known.
    #[must_use]
    pub fn is_unicast(&self) -> bool {
        self.to == self.reply_to.local
    }

    /// Sends `bytes` back, from the address that was asked.
    pub fn reply(&mut self, bytes: &[u8]) -> SendOutcome {
        self.context.reply(self.reply_to, bytes)
    }

    /// What an answer takes that is to be sent after this callback.
    #[must_use]
    pub fn reply_to(&self) -> ReplyTo {
        self.reply_to
    }

    /// Everything else in the reactor.
    pub fn context(&mut self) -> &mut Context<'a, S> {
        &mut self.context
    }
}

impl<S> fmt::Debug for Datagram<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Datagram").field(&self.reply_to).finish()
    }
}

impl<S> Context<'_, S> {
    /// Sends a datagram to `peer`; on a connected socket, to its peer.
    pub fn send_to(&mut self, socket: UdpId, peer: SocketAddr, bytes: &[u8]) -> SendOutcome {
        let to = ReplyTo {
            socket,
            peer,
            local: None,
            interface: 0,
        };
        self.reply(to, bytes)
    }

    /// Answers a datagram that came earlier, from the address that it was sent to, as
    /// [`Datagram::reply`] does at once. A second answer is sent like the first.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use oread::{Context, Datagram, ReplyTo};
    ///
    /// #[derive(Default)]
    /// struct Forwarder {
    ///     last: u64,
    ///     asked: HashMap<u64, ReplyTo>,
    /// }
    ///
    /// impl Forwarder {
    ///     fn on_datagram(&mut self, datagram: &mut Datagram<'_, ()>, _question: &[u8]) {
    ///         self.last += 1;
    ///         self.asked.insert(self.last, datagram.reply_to());
    ///         // ... and ask somebody else, who answers with this number
    ///     }
    ///
    ///     fn on_answer(&mut self, context: &mut Context<'_, ()>, number: u64, answer: &[u8]) {
    ///         if let Some(to) = self.asked.remove(&number) {
    ///             context.reply(to, answer);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn reply(&mut self, to: ReplyTo, bytes: &[u8]) -> SendOutcome {
        let stats = &mut self.core.shared.stats;
        let Some(slot) = self.core.udp.get_mut(to.socket.0) else {
            return SendOutcome::NoSocket;
        };
        let outcome = loop {
            break match slot.socket.send(bytes, to.peer, to.local, to.interface) {
                Ok(_) => {
                    slot.backoff = Backoff::default();
                    stats.datagrams_out += 1;
                    stats.datagram_bytes_out += bytes.len() as u64;
                    SendOutcome::Sent
                }
                Err(error) if nonblocking::is_interrupted(&error) => continue,
                Err(error) if nonblocking::is_blocked(&error) || is_full(&error) => {
                    stats.datagrams_blocked += 1;
                    if slot.room == Room::There {
                        self.core.await_room(to.socket.0, is_full(&error));
                    }
                    SendOutcome::Blocked
                }
                Err(error) => {
                    stats.datagrams_failed += 1;
                    SendOutcome::Failed(error.kind())
                }
            };
        };
        let (socket, peer, count) = (to.socket.0, to.peer, bytes.len());
        let shared = &self.core.shared;
        trace!(
            shared,
            "socket {socket:?}: {count} bytes to {peer}: {outcome:?}"
        );
        outcome
    }

    /// The address that a UDP socket has, with the port that port 0 became; `None` once it's
    /// closed.
    #[must_use]
    pub fn udp_addr(&self, id: UdpId) -> Option<SocketAddr> {
        self.core.udp.get(id.0)?.address
    }

    /// Whether `address` is that of one of this reactor's own UDP sockets, as far as can be told:
    /// the port must be the same, and the address too, or the socket must be bound to all of this
    /// machine's.
    #[must_use]
    pub fn is_own_udp(&self, address: SocketAddr) -> bool {
        let wanted = address.ip().to_canonical();
        let mut own = self.core.udp.iter().filter_map(|(_, slot)| slot.address);
        own.any(|own| {
            let ip = own.ip().to_canonical();
            own.port() == address.port() && (ip == wanted || ip.is_unspecified())
        })
    }

    /// A UDP socket's [`UdpOptions::key`](crate::UdpOptions::key); `None` once it's closed.
    #[must_use]
    pub fn udp_key(&self, id: UdpId) -> Option<u64> {
        Some(self.core.udp.get(id.0)?.key)
    }

    /// Has a UDP socket receive what is sent to a multicast group, as long as it's open. It must be
    /// bound to the group's port, at a wildcard or at the group's own address. [`Datagram::to`] is
    /// the group then, [`Datagram::is_unicast`] false.
    ///
    /// On Linux an IPv6 socket that takes IPv4 may join an IPv4 group, and one that is bound to a
    /// wildcard also receives what is sent to groups that others on this machine have joined.
    ///
    /// # Errors
    /// As the system gives them: no such interface, no multicast address, joined already, too many
    /// groups. `NotFound` when there is no such socket (any more), `Unsupported` in a simulation.
    pub fn join_multicast(&mut self, id: UdpId, group: Multicast) -> io::Result<()> {
        let slot = self.core.udp.get(id.0).ok_or(io::ErrorKind::NotFound)?;
        slot.socket.set_membership(group, true)
    }

    /// Takes a UDP socket out of a group that it has joined.
    ///
    /// # Errors
    /// As [`Context::join_multicast`]; `AddrNotAvailable` when it isn't in that group.
    pub fn leave_multicast(&mut self, id: UdpId, group: Multicast) -> io::Result<()> {
        let slot = self.core.udp.get(id.0).ok_or(io::ErrorKind::NotFound)?;
        slot.socket.set_membership(group, false)
    }

    /// Closes a UDP socket; false when it was closed already. Datagrams in its buffer are lost; a
    /// [drain](Context::drain) shows them first.
    pub fn close_udp(&mut self, id: UdpId) -> bool {
        let Some(mut slot) = self.core.udp.remove(id.0) else {
            return false;
        };
        note_deregistered(self.core.system.deregister_udp(&mut slot.socket));
        true
    }
}

impl Core {
    /// After a send that has found no room: has the handler told when there may be some. `full`: no
    /// event tells of it.
    #[cold]
    fn await_room(&mut self, key: Key, full: bool) {
        let Some(slot) = self.udp.get_mut(key) else {
            return;
        };
        if full {
            slot.room = Room::Timed;
            let due = self.clock.now() + slot.backoff.next();
            self.timers.set(&self.clock, due, Alarm::Room(key));
        } else {
            slot.room = Room::Polled;
            self.repoll_udp(key);
        }
    }
}

/// Whether the system had no room for a datagram: BSDs say so with `ENOBUFS`, Linux for a full
/// device queue.
fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32)
}
