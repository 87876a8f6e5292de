//! Peers in a test's own hands: what they are told to do, and what they know.
//!
//! A peer does what it is told in that order, as far as its connection lets it, and needs no turn
//! of its own for it: `pump.rs` drives it. Its ledger of what it sent and got is apart from what is
//! tested.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::panic::Location;
use std::time::Duration;

use nix::errno::Errno;

use super::expect::{Next, place};
use super::pump::{Act, Ledger, Reading, Script, Server};
use super::system::inet;
use super::{Net, Owner, State};
use crate::options::{ConnectOptions, ListenOptions};

/// The other end of a connection, in the test's own hands.
///
/// What it is told to do it does in that order, as far as its connection lets it: `finish` comes
/// behind all that was to be sent before. It starts when the world moves.
///
/// A peer never finishes by itself, not even when it has read the other's end: a connection that is
/// to end in order needs [`Peer::finish`], or [`Peer::finish_at_end`] beforehand.
#[derive(Clone)]
pub struct Peer {
    pub(super) net: Net,
    pub(super) id: u32,
}

impl Peer {
    /// Sends `bytes` behind what is still to be sent, as fast as the connection takes them.
    pub fn send(&self, bytes: &[u8]) {
        self.send_slowly(bytes, usize::MAX, Duration::ZERO);
    }

    /// Sends `bytes` by `piece` bytes at a time, with a pause between two pieces.
    pub fn send_slowly(&self, bytes: &[u8], piece: usize, pause: Duration) {
        let piece = piece.max(1);
        self.act(Act::Send {
            bytes: bytes.to_vec(),
            at: 0,
            piece,
            pause,
        });
    }

    /// Sends one byte of urgent data (`MSG_OOB`): it is no part of what the other end reads, and a
    /// read there stops at it.
    pub fn send_urgent(&self, byte: u8) {
        self.act(Act::Urgent(byte));
    }

    /// Waits before it does what it is told after this. It goes on reading.
    pub fn pause(&self, time: Duration) {
        self.act(Act::Pause(time));
    }

    /// Has it go on only when it has read `bytes`, right behind what it was to expect before. If it
    /// reads something else instead, or the end, or its connection fails, the world's next step is
    /// an error that says so, and it does nothing of what it was told after this. So it is if it's
    /// told to reset or to vanish before it has read them, or to expect them behind its own end
    /// ([`Peer::close`], too). A world that is dropped before anybody was told of an unmet
    /// expectation panics. In a world that breaks connections, [`Peer::received`] is to be looked
    /// at instead.
    ///
    /// ```
    /// # use oread::sim::World;
    /// # use oread::{Echo, EchoOptions, Limits, ListenOptions};
    /// # let mut world = World::new(7);
    /// # let mut host = world.host(Echo::new(EchoOptions::default()), Limits::default()).unwrap();
    /// # let address = ([10, 0, 0, 1], 7).into();
    /// # host.context().listen(&ListenOptions::new(address)).unwrap();
    /// let peer = world.connect(address);
    /// peer.expect(b"220 ready\r\n");
    /// peer.send(b"HELO example.org\r\n");
    /// let error = world.settle(&mut host).unwrap_err().to_string();
    /// let why = r#"nothing moves any more, but peer c0.0 still expects "220 ready\r\n" "#;
    /// assert!(error.starts_with(why), "{error}"); // the host is an echo, and waits as well
    /// ```
    #[track_caller]
    pub fn expect(&self, bytes: &[u8]) {
        self.expect_next(Next::Bytes {
            bytes: bytes.to_vec(),
            at: 0,
        });
    }

    /// As [`Peer::expect`], for `count` bytes, whatever they are.
    #[track_caller]
    pub fn expect_count(&self, count: usize) {
        self.expect_next(Next::Count(count));
    }

    /// As [`Peer::expect`], for the other's end, and no byte before it.
    #[track_caller]
    pub fn expect_end(&self) {
        self.expect_next(Next::End);
    }

    /// Finishes behind what is still to be sent (a FIN). It goes on reading.
    pub fn finish(&self) {
        self.act(Act::Finish);
    }

    /// Has it finish as soon as it has read the other's end, behind what is still to be sent then:
    /// as most programs do.
    pub fn finish_at_end(&self) {
        let mut state = self.net.state();
        let script = &mut state.peers[self.id as usize];
        script.finish_at_end = true;
        if script.ledger.ended.is_some() {
            script.acts.push_back(Act::Finish);
            state.pump_now(self.id);
        }
    }

    /// Closes its socket behind what is still to be sent, as close(2) does: with a reset if there
    /// is something that it has not read.
    pub fn close(&self) {
        self.act(Act::Close);
    }

    /// Resets the connection behind what is still to be sent. The reset may overtake that on the
    /// way.
    pub fn reset_behind(&self) {
        self.act(Act::Reset);
    }

    /// Resets the connection now. What is still to be sent is not.
    pub fn reset(&self) {
        self.act_now(Act::Reset);
    }

    /// Vanishes now, as a machine does whose cable is pulled: nothing is heard from it any more, no
    /// end and no acknowledgement.
    pub fn vanish(&self) {
        self.act_now(Act::Vanish);
    }

    /// Reads nothing from now on: what comes fills its receive buffer, and closes its window.
    pub fn stop_reading(&self) {
        self.read(Reading::Nothing);
    }

    /// Reads all that comes, as it does at first.
    pub fn start_reading(&self) {
        self.read(Reading::All);
    }

    /// Reads `count` bytes more, at once or as they come, and then nothing.
    pub fn read_only(&self, count: usize) {
        self.read(match count {
            0 => Reading::Nothing,
            _ => Reading::Only(count),
        });
    }

    /// Reads at most `piece` bytes at a time, with a pause after each.
    pub fn read_slowly(&self, piece: usize, pause: Duration) {
        self.read(Reading::Slowly(piece, pause));
    }

    /// What it has read after the first `count` bytes: for a test that looks often.
    #[must_use]
    pub fn received_after(&self, count: usize) -> Vec<u8> {
        let ledger = self.ledger(|ledger| ledger.received.get(count..).map(<[u8]>::to_vec));
        ledger.unwrap_or_default()
    }

    /// The next line of what it has read, with its newline, behind what it was to expect and what
    /// was taken before. `None` as long as that has not come whole, or it still expects something.
    ///
    /// ```
    /// # use oread::sim::World;
    /// # use oread::{Echo, EchoOptions, Limits, ListenOptions};
    /// # let mut world = World::new(7);
    /// # let mut host = world.host(Echo::new(EchoOptions::default()), Limits::default()).unwrap();
    /// # let address = ([10, 0, 0, 1], 7).into();
    /// # host.context().listen(&ListenOptions::new(address)).unwrap();
    /// let peer = world.connect(address);
    /// peer.send(b"220 ready\r\n250 ");
    /// peer.expect(b"220 ");
    /// world.settle(&mut host).unwrap();
    /// assert_eq!(peer.take_line().as_deref(), Some(&b"ready\r\n"[..]));
    /// assert_eq!(peer.take_line(), None);
    /// ```
    #[must_use]
    pub fn take_line(&self) -> Option<Vec<u8>> {
        self.net.state().take_line(self.id)
    }

    /// Whether it has read all that it was told to expect.
    #[must_use]
    pub fn has_met(&self) -> bool {
        self.net.state().has_met(self.id)
    }

    /// All bytes that it has read, in order.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        self.ledger(|ledger| ledger.received.clone())
    }

    /// When its connection was established, since the world began.
    #[must_use]
    pub fn connected_at(&self) -> Option<Duration> {
        self.ledger(|ledger| ledger.connected)
    }

    /// When it read the other's end, since the world began.
    #[must_use]
    pub fn ended_at(&self) -> Option<Duration> {
        self.ledger(|ledger| ledger.ended)
    }

    /// When it was told that its connection, or its dial, has failed, since the world began.
    #[must_use]
    pub fn failed_at(&self) -> Option<Duration> {
        self.ledger(|ledger| ledger.failed.map(|(at, _)| at))
    }

    /// When it read, since the world began, and how many bytes it had read by then.
    #[must_use]
    pub fn arrivals(&self) -> Vec<(Duration, usize)> {
        self.ledger(|ledger| ledger.arrivals.clone())
    }

    /// Bytes that its system has taken from it to send.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.ledger(|ledger| ledger.sent.len())
    }

    /// Bytes of these that the other system is known to have got. After a failure it stays as it
    /// was: more may have arrived.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.ledger(|ledger| ledger.acknowledged as usize)
    }

    /// Whether its connection was established at some time.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.ledger(|ledger| ledger.connected.is_some())
    }

    /// Whether it has read the other's end: a FIN, behind all that was sent before.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ledger(|ledger| ledger.ended.is_some())
    }

    /// Whether the other end, or something between, has reset its connection.
    #[must_use]
    pub fn was_reset(&self) -> bool {
        // EPIPE is what Linux stores for a reset that comes after the other's end.
        self.failed_with(&[Errno::ECONNRESET, Errno::EPIPE])
    }

    /// Whether nobody listened where it dialled.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        self.failed_with(&[Errno::ECONNREFUSED])
    }

    /// Whether its system has given up for want of an answer, to a dial or to what was sent.
    #[must_use]
    pub fn has_timed_out(&self) -> bool {
        self.failed_with(&[Errno::ETIMEDOUT])
    }

    /// Its own address, also when it's over; `None` where it had no port to dial from.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addresses().map(|(local, _)| local)
    }

    /// The address of the other end, also when the connection is over; `None` where it had no port
    /// to dial from.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.addresses().map(|(_, remote)| remote)
    }

    fn failed_with(&self, errors: &[Errno]) -> bool {
        let is = |(_, error)| errors.contains(&error);
        self.ledger(|ledger| ledger.failed.is_some_and(is))
    }

    /// Changes how it reads.
    pub(crate) fn read(&self, reading: Reading) {
        let mut state = self.net.state();
        let script = &mut state.peers[self.id as usize];
        script.reading = reading;
        if let Some(side) = script.side {
            state.trace(|| match reading {
                Reading::All => format!("peer {side} reads all that comes"),
                Reading::Nothing => format!("peer {side} stops reading"),
                Reading::Only(count) => format!("peer {side} reads {count} bytes more"),
                Reading::Slowly(piece, pause) => {
                    format!("peer {side} reads {piece} bytes every {pause:?}")
                }
            });
        }
        state.pump_now(self.id);
    }

    /// Looks at the ledger as it is now.
    pub(crate) fn ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.net.state().peers[self.id as usize].ledger)
    }

    /// Its own address and the other one's.
    pub(crate) fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.net.state().peers[self.id as usize].addresses
    }

    fn act(&self, act: Act) {
        let mut state = self.net.state();
        let script = &mut state.peers[self.id as usize];
        script.leaves = script.leaves.or(act.leaves());
        script.acts.push_back(act);
        state.pump_now(self.id);
    }

    #[track_caller]
    fn expect_next(&self, next: Next) {
        let mut state = self.net.state();
        state.expect_next(self.id, next, Location::caller());
    }

    /// Before everything else that it is to do.
    fn act_now(&self, act: Act) {
        let mut state = self.net.state();
        if let Some(leaves) = act.leaves() {
            state.expect_no_more(self.id, leaves);
        }
        let script = &mut state.peers[self.id as usize];
        script.pause_until = Duration::ZERO;
        script.acts.push_front(act);
        state.pump_now(self.id);
    }
}

/// In a line: `Peer(c3.0, 10.192.0.7:48326 -> 10.0.0.1:80, sent 14, got 5, ended)`.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.addresses();
        let state = self.net.state();
        let script = &state.peers[self.id as usize];
        match script.side {
            Some(side) => write!(f, "Peer({side}")?,
            None => f.write_str("Peer(not dialled")?,
        }
        if let Some((local, remote)) = addresses {
            write!(f, ", {local} -> {remote}")?;
        }
        let ledger = &script.ledger;
        let (sent, got) = (ledger.sent.len(), ledger.received.len());
        write!(f, ", sent {sent}, got {got}")?;
        if ledger.connected.is_none() && ledger.failed.is_none() {
            f.write_str(", not connected")?;
        }
        if ledger.ended.is_some() {
            f.write_str(", ended")?;
        }
        match ledger.failed {
            Some((_, error)) => write!(f, ", {error})"),
            None => f.write_str(")"),
        }
    }
}

/// A server in the test's own hands: each connection to it is a [`Peer`].
#[derive(Clone)]
pub struct Listener {
    net: Net,
    id: u32,
}

impl Listener {
    /// The next peer that was connected to, if there is one.
    #[must_use]
    pub fn accept(&self) -> Option<Peer> {
        let mut state = self.net.state();
        let id = state.servers[self.id as usize].accepted.pop_front()?;
        Some(Peer {
            net: self.net.clone(),
            id,
        })
    }

    /// Where it listens, with the port that was drawn for it.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.net.state().servers[self.id as usize].address
    }

    /// Peers that are connected to from now on read nothing until they're told to.
    pub fn stop_reading(&self) {
        self.net.state().servers[self.id as usize].reading = Reading::Nothing;
    }

    /// Listens no longer: whoever dials is refused.
    pub fn close(&self) {
        let mut state = self.net.state();
        if let Some(listener) = state.servers[self.id as usize].listener.take() {
            state.close_listener(listener);
        }
    }
}

/// In a line: `Listener(10.0.0.1:80, 2 to accept)`.
impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.net.state();
        let server = &state.servers[self.id as usize];
        let (address, waiting) = (server.address, server.accepted.len());
        let closed = if server.listener.is_none() {
            ", closed"
        } else {
            ""
        };
        write!(f, "Listener({address}, {waiting} to accept{closed})")
    }
}

impl Net {
    /// A peer that dials `to` from an address of its own.
    #[track_caller]
    pub(crate) fn connect_peer(&self, to: SocketAddr) -> Peer {
        self.connect_peer_with(&ConnectOptions::new(to), Reading::All)
    }

    /// As [`Net::connect_peer`], from an address of the caller's choice.
    #[track_caller]
    pub(crate) fn connect_peer_from(&self, source: IpAddr, to: SocketAddr) -> Peer {
        let options = ConnectOptions {
            source: Some((source, 0).into()),
            ..ConnectOptions::new(to)
        };
        self.connect_peer_with(&options, Reading::All)
    }

    /// As [`Net::connect_peer`], with the options of a dial and a way of reading. One that can't
    /// even dial has failed.
    #[track_caller]
    pub(crate) fn connect_peer_with(&self, options: &ConnectOptions, reading: Reading) -> Peer {
        let at = Location::caller();
        let mut state = self.state();
        let id = state.peers.len() as u32;
        state.peers.push(Script::new(None, reading));
        let dialed = inet(&options.address);
        match dialed.and_then(|to| state.dial(Owner::Peer(id), to, options)) {
            Ok(side) => {
                state.peers[id as usize].side = Some(side);
                state.note_addresses(id);
                state.trace(|| format!("peer {side} dials {} ({})", options.address, place(at)));
                state.send_syn(side.connection);
            }
            Err(error) => {
                state.trace(|| format!("a peer can't dial {}: {error}", options.address));
                let error = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                let now = state.now;
                state.peers[id as usize].ledger.failed = Some((now, error));
            }
        }
        Peer {
            net: self.clone(),
            id,
        }
    }

    /// A server at `at`; port 0 has one drawn.
    ///
    /// # Panics
    /// When somebody listens there already: the test is wrong about its own world.
    #[allow(clippy::panic)]
    #[track_caller]
    pub(crate) fn listen_peer(&self, at: SocketAddr) -> Listener {
        let mut state = self.state();
        let id = state.servers.len() as u32;
        let listener = match state.listen(Owner::Peer(id), at, &ListenOptions::new(at)) {
            Ok(listener) => listener,
            Err(error) => {
                drop(state);
                panic!("a peer can't listen at {at}: {error}")
            }
        };
        let address = state.listener(listener).map_or(at, |one| one.local);
        state.servers.push(Server::new(listener, address));
        Listener {
            net: self.clone(),
            id,
        }
    }
}

impl State {
    /// A dial from an address that nobody else has: a host for each peer.
    pub(super) fn address_of_peer(&mut self, like: SocketAddr) -> std::net::IpAddr {
        let number = self.connections.len() as u32 % 0xf_ffff;
        match like {
            SocketAddr::V4(_) => std::net::Ipv4Addr::from(0x0ac0_0001 + (number << 1)).into(),
            SocketAddr::V6(_) => {
                let number = (number & 0xffff) as u16;
                std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, number).into()
            }
        }
    }
}
