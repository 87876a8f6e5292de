//! A server's sockets, as they are opened and told of.

use std::net::SocketAddr;

use oread::{ListenerId, UdpId};

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// A listener.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Transport {
    /// As people write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        }
    }
}

/// A socket of one reactor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket {
    /// Where, with the port that port 0 became.
    pub(super) address: SocketAddr,
    pub(super) id: Id,
}

/// By what the reactor knows it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Id {
    Tcp(ListenerId),
    Udp(UdpId),
}

impl Socket {
    /// What it speaks.
    pub(super) fn transport(&self) -> Transport {
        match self.id {
            Id::Tcp(_) => Transport::Tcp,
            Id::Udp(_) => Transport::Udp,
        }
    }
}
