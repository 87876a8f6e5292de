//! Receiving datagrams.

use crate::context::{Context, Core, Datagrams};
use crate::handler::Handler;
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
            let owner = slot.owner;
            match slot.socket.recv(&mut self.scratch) {
                Ok(received) => {
                    shared.stats.datagrams_in += 1;
                    shared.stats.datagram_bytes_in += received.len as u64;
                    if received.truncated {
                        shared.stats.datagrams_truncated += 1;
                        continue;
                    }
                    let mut datagram = Datagrams {
                        context: Context::new(&mut self.core, &mut self.sessions, owner),
                        socket: id,
                        // A v4 sender to a dual-stack socket is a v4 sender.
                        from: net::canonical(received.from),
                        destination: received.destination,
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

    /// After an event that told of an error: has the socket polled again, where the poll dropped it
    /// for that.
    pub(super) fn revive(&mut self, key: Key) {
        let Core { udp, system, .. } = &mut self.core;
        if let Some(slot) = udp.get_mut(key)
            && let Err(error) = system.revive_udp(&mut slot.socket, key.token(Kind::Udp))
        {
            log::warn!("a UDP socket can't be polled any more: {error}");
        }
    }
}
