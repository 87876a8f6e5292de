//! Peers that follow a script. The model itself drives them: they need no turn of their own.
//!
//! A peer has a list of what it will do, does as much of it as its socket lets it, and goes on when
//! something happens there. It keeps a ledger of its own of what it sent and got, apart from what is
//! tested.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::pump::{Act, Script, Server};
use super::{Net, Owner};
use crate::options::{ConnectOptions, ListenOptions};

pub(crate) use super::udp::UdpPeer;

/// How a peer reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Whatever comes, at once.
    #[default]
    All,
    /// Nothing: what comes fills its receive buffer.
    Nothing,
    /// At most so many bytes, every so often.
    Slowly(usize, Duration),
}

/// What a peer knows of its connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// When the connection was established, as far as the peer could see.
    pub(crate) connected: Option<Duration>,
    /// Every byte that its system has taken, in order; urgent ones among them.
    pub(crate) sent: Vec<u8>,
    /// How many of those the other system has acknowledged.
    pub(crate) acknowledged: u64,
    /// Whether its FIN is acknowledged.
    pub(crate) finish_acknowledged: bool,
    /// Every byte that it has read, in order.
    pub(crate) received: Vec<u8>,
    /// When it read, and how many bytes it had read by then.
    pub(crate) arrivals: Vec<(Duration, usize)>,
    /// When it read the end.
    pub(crate) ended: Option<Duration>,
    /// When its connection failed, and how: ECONNRESET is a reset, ECONNREFUSED a dial in vain.
    pub(crate) failed: Option<(Duration, Errno)>,
    /// Bytes of its script that it will never send, as the connection was over before.
    pub(crate) unsent: u64,
}

/// A peer in the hands of a test. What it is told to do it does in that order, as far as its
/// connection lets it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    net: Net,
    id: u32,
}

impl Peer {
    /// Sends `bytes` behind what is still to be sent.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.send_in_pieces(bytes, usize::MAX, Duration::ZERO);
    }

    /// Sends `bytes` by so many at a time, with a pause between two pieces.
    pub(crate) fn send_in_pieces(&self, bytes: &[u8], piece: usize, pause: Duration) {
        let piece = piece.max(1);
        self.act(Act::Send {
            bytes: bytes.to_vec(),
            at: 0,
            piece,
            pause,
        });
    }

    /// Sends one byte out of band.
    pub(crate) fn send_urgent(&self, byte: u8) {
        self.act(Act::Urgent(byte));
    }

    /// Waits before it does what comes behind this.
    pub(crate) fn pause(&self, time: Duration) {
        self.act(Act::Pause(time));
    }

    /// Half-closes, behind what is still to be sent.
    pub(crate) fn finish(&self) {
        self.act(Act::Finish);
    }

    /// Closes, behind what is still to be sent. Unread input makes that a reset.
    pub(crate) fn close(&self) {
        self.act(Act::Close);
    }

    /// Resets the connection behind what is still to be sent.
    pub(crate) fn reset_behind(&self) {
        self.act(Act::Reset);
    }

    /// Resets the connection now, whatever is still to be sent.
    pub(crate) fn reset(&self) {
        let mut state = self.net.state();
        state.peers[self.id as usize].pause_until = Duration::ZERO;
        state.peers[self.id as usize].acts.push_front(Act::Reset);
        state.pump_now(self.id);
    }

    /// Vanishes: nothing comes from it or gets to it any more.
    pub(crate) fn vanish(&self) {
        let mut state = self.net.state();
        state.peers[self.id as usize].pause_until = Duration::ZERO;
        state.peers[self.id as usize].acts.push_front(Act::Vanish);
        state.pump_now(self.id);
    }

    /// Changes how it reads.
    pub(crate) fn read(&self, reading: Reading) {
        let mut state = self.net.state();
        state.peers[self.id as usize].reading = reading;
        state.pump_now(self.id);
    }

    /// Looks at the ledger as it is now.
    pub(crate) fn ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.net.state().peers[self.id as usize].ledger)
    }

    /// All bytes that it has read.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.ledger(|ledger| ledger.received.clone())
    }

    /// Its own address and the other one's, once it has a connection.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let mut state = self.net.state();
        let side = state.peers[self.id as usize].side?;
        state.end(side).map(|end| (end.local, end.remote))
    }

    fn act(&self, act: Act) {
        let mut state = self.net.state();
        state.peers[self.id as usize].acts.push_back(act);
        state.pump_now(self.id);
    }
}

/// Where peers listen.
#[derive(Clone, Debug)]
pub(crate) struct PeerListener {
    net: Net,
    id: u32,
}

impl PeerListener {
    /// The next peer that was dialled here.
    pub(crate) fn accepted(&self) -> Option<Peer> {
        let mut state = self.net.state();
        let id = state.servers[self.id as usize].accepted.pop_front()?;
        Some(Peer {
            net: self.net.clone(),
            id,
        })
    }

    /// Where it listens, with the port that was chosen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.net.state().servers[self.id as usize].address
    }

    /// How peers that come from now on read.
    pub(crate) fn read(&self, reading: Reading) {
        self.net.state().servers[self.id as usize].reading = reading;
    }

    /// Listens no longer.
    pub(crate) fn close(&self) {
        let mut state = self.net.state();
        if let Some(listener) = state.servers[self.id as usize].listener.take() {
            state.close_listener(listener);
        }
    }
}

impl Net {
    /// A peer that dials `to`, from an address of its own or from one that is drawn.
    ///
    /// # Errors
    /// As connect(2) gives them at once: no port left, an address taken.
    pub(crate) fn connect_peer(
        &self,
        from: Option<SocketAddr>,
        to: SocketAddr,
    ) -> io::Result<Peer> {
        let options = ConnectOptions {
            source: from,
            ..ConnectOptions::new(to)
        };
        self.connect_peer_with(&options, Reading::All)
    }

    /// As [`Net::connect_peer`], with the options of a dial and a way of reading.
    ///
    /// # Errors
    /// As [`Net::connect_peer`].
    pub(crate) fn connect_peer_with(
        &self,
        options: &ConnectOptions,
        reading: Reading,
    ) -> io::Result<Peer> {
        let mut state = self.state();
        let id = state.peers.len() as u32;
        state.peers.push(Script::new(None, reading));
        let side = state.dial(Owner::Peer(id), options)?;
        state.peers[id as usize].side = Some(side);
        state.send_syn(side.connection);
        Ok(Peer {
            net: self.clone(),
            id,
        })
    }

    /// Peers that listen at `at`; port 0 has one drawn.
    ///
    /// # Errors
    /// When somebody listens there.
    pub(crate) fn listen_peer(&self, at: SocketAddr) -> io::Result<PeerListener> {
        let mut state = self.state();
        let id = state.servers.len() as u32;
        let listener = state.listen(Owner::Peer(id), &ListenOptions::new(at))?;
        let address = state.listener(listener).map_or(at, |one| one.local);
        state.servers.push(Server {
            listener: Some(listener),
            address,
            reading: Reading::All,
            accepted: VecDeque::new(),
        });
        Ok(PeerListener {
            net: self.clone(),
            id,
        })
    }
}
