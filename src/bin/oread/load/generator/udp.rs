//! Messages over UDP: sent, and what of them comes back. What a datagram consists of is in
//! [`label`](super::label).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use oread::{Context, Datagram, SendOutcome, UdpId, UdpOptions};

use super::drive::Generator;
use super::flow::{Sent, Socket};
use super::label::Label;
use super::logs;
use super::names;

/// Datagrams that one callback sends at most, in a closed loop. Where the system takes whatever
/// it's given, it would go on for as long as the depth has it, and no one would be heard meanwhile.
const MOST_A_CALL: u32 = 16;
/// What a socket may keep of answers until they are read, in bytes: those of a turn that catches
/// up, and of a pause of the processor. The system caps it (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 << 20;

impl Generator {
    /// Opens a flow's socket.
    ///
    /// # Errors
    /// As the system gives them.
    pub(super) fn bind(
        context: &mut Context<'_, u32>,
        index: u32,
        to: SocketAddr,
        source: Option<SocketAddr>,
    ) -> io::Result<UdpId> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        context.bind_udp(&UdpOptions {
            connect_to: Some(to),
            key: index.into(),
            recv_buffer: Some(RECEIVE_BUFFER),
            ..UdpOptions::new(source.unwrap_or(SocketAddr::new(any, 0)))
        })
    }

    /// Sends a datagram; whether the system took it.
    pub(super) fn send_datagram(
        &mut self,
        context: &mut Context<'_, u32>,
        index: u32,
        sent: Sent,
    ) -> bool {
        let Some(flow) = self.plan.flows.get(index) else {
            return false;
        };
        let Socket::Datagrams(id) = flow.socket else {
            return false;
        };
        let label = Label {
            flow: flow.number,
            number: flow.number_of(sent),
            due: sent.due,
        };
        label.write(&self.plan.payload, &mut self.scratch);
        logs::log_bytes(flow, "sent", &[&self.scratch]);
        // The socket is connected: the address is of no matter.
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let (name, has_no_room) = match context.send_to(id, nowhere, &self.scratch) {
            SendOutcome::Sent => {
                self.plan.sent_datagram(index, sent, self.scratch.len());
                return true;
            }
            SendOutcome::Blocked => ("no room to send".to_owned(), true),
            SendOutcome::Failed(kind) => (names::of_kind(kind), false),
            SendOutcome::NoSocket => return false,
            other => (format!("not sent: {other:?}"), false),
        };
        self.plan.not_sent(index, sent, &name, has_no_room);
        false
    }

    /// A datagram has come.
    pub(super) fn heard_datagram(&mut self, datagram: &mut Datagram<'_, u32>, data: &[u8]) {
        let index = datagram.key() as u32;
        let context = datagram.context();
        let now = self.now(context);
        self.plan.look_at_clock(now);
        if let Some(flow) = self.plan.flows.get(index) {
            logs::log_bytes(flow, "received", &[data]);
        }
        let label = Label::read(&self.plan.payload, data);
        if !self.plan.datagram(index, label, data.len(), now) {
            self.warn(index, data);
        }
        for _ in 0..MOST_A_CALL {
            // Each goes out by a system call of its own.
            let now = self.now(context);
            if self.plan.wanted(index, now) == 0
                || !self.send_datagram(context, index, Sent { due: now, at: now })
            {
                return;
            }
        }
        self.plan.flows.enqueue(index);
    }
}
