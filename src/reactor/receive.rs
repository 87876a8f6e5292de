//! Receiving datagrams.

use crate::context::{Context, Core, Datagram, ReplyTo, Room};
use crate::handler::Handler;
use crate::link::trace;
use crate::net;
use crate::nonblocking;
use crate::token::{Key, Kind, UdpId};

use super::Reactor;

impl<H: Handler> Reactor<H> {
    /// Receives datagrams, within the budget of a turn and so many more.
    pub(super) fn receive(&mut self, handler: &mut H, key: Key, more: u32) {
        let budget = self.core.shared.limits.datagram_budget;
        let mut budget = budget.saturating_add(more);
        let id = UdpId(key);
        loop {
            let Core { udp, shared, .. } = &mut self.core;
            // A callback may have closed the socket.
            let Some(slot) = udp.get_mut(key) else {
                return;
            };
            slot.queued = budget == 0;
            if slot.queued {
                shared.stats.budget_hits += 1;
                self.core.ready.push_back((Kind::Udp, key));
                return;
            }
            budget -= 1;
            let (owner, chosen_key) = (slot.owner, slot.key);
            match slot.socket.recv(&mut self.scratch) {
                Ok(received) => {
                    shared.stats.datagrams_in += 1;
                    shared.stats.datagram_bytes_in += received.len as u64;
                    // A v4 sender to a dual-stack socket is a v4 sender.
                    let (len, from) = (received.len, net::canonical(received.from));
                    trace!(shared, "socket {key:?}: {len} bytes from {from}");
                    if received.truncated {
                        shared.stats.datagrams_truncated += 1;
                        continue;
                    }
                    let mut datagram = Datagram {
                        context: Context::new(&mut self.core, &mut self.sessions, owner),
                        reply_to: ReplyTo {
                            socket: id,
                            peer: from,
                            local: received.destination.local,
                            interface: received.destination.interface,
                        },
                        to: received.destination.to,
                        key: chosen_key,
                    };
                    handler.on_datagram(&mut datagram, &self.scratch[..received.len]);
                }
                Err(error) if nonblocking::is_blocked(&error) => return,
                Err(error) if nonblocking::is_interrupted(&error) => {}
                Err(error) => {
                    // A refusal by a peer's system, most often: it concerns a datagram that was
                    // sent, not the socket.
                    shared.stats.datagram_errors += 1;
                    log::debug!("an error in place of a datagram: {error}");
                    handler.on_datagram_error(&mut self.lend_about(owner), id, error);
                }
            }
        }
    }

    /// There may be room to send: tells the handler, if a send has found none and waits `by` this.
    pub(super) fn tell_writable(&mut self, handler: &mut H, key: Key, by: Room) {
        if let Some(slot) = self.core.udp.get_mut(key)
            && slot.room == by
        {
            slot.room = Room::There;
            let owner = slot.owner;
            trace!(self.core.shared, "socket {key:?} may have room");
            if by == Room::Polled {
                self.core.repoll_udp(key);
            }
            handler.on_datagram_writable(&mut self.lend_about(owner), UdpId(key));
        }
    }
}
