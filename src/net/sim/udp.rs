//! Datagrams: lost, doubled, late, cut, refused.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;

use super::faults::Fault;
use super::listener::mapped;
use super::schedule::What;
use super::trace::quoted;
use super::watch::{READ, Target, WRITE, Watch};
use super::{Net, Owner, State};
use crate::net::canonical;
use crate::net::pktinfo::Destination;
use crate::net::udp::Received;
use crate::options::UdpOptions;

/// The most that one datagram carries over IPv4.
const LARGEST: usize = 65_507;
/// What the system counts for each datagram beside its bytes, about (`skb_truesize`).
const OVERHEAD: usize = 512;

/// A UDP socket, of a process or of a peer.
#[derive(Debug)]
pub(super) struct Udp {
    owner: Owner,
    local: SocketAddr,
    peer: Option<SocketAddr>,
    only_v6: bool,
    reuse_port: bool,
    /// Bytes that may wait, the overhead counted.
    buffer: usize,
    waiting: usize,
    /// Whether what it has sent fills its send buffer.
    pub(super) full: bool,
    pub(super) queue: VecDeque<Datagram>,
    pub(super) error: Option<Errno>,
    pub(super) watch: Watch,
}

#[derive(Clone, Debug)]
pub(super) struct Datagram {
    bytes: Vec<u8>,
    from: SocketAddr,
    to: IpAddr,
}

/// A datagram on its way.
#[derive(Debug)]
pub(super) struct Flight {
    datagram: Datagram,
    to: SocketAddr,
    /// Who sent it, to be told of a refusal.
    sender: u32,
}

impl State {
    pub(super) fn udp_socket(&mut self, id: u32) -> Option<&mut Udp> {
        self.udp.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn bind_udp(&mut self, owner: Owner, options: &UdpOptions) -> io::Result<u32> {
        self.check_local(owner, options.address.ip())?;
        if matches!(owner, Owner::Process(_)) && self.faults.hit(Fault::BindInUse) {
            return Err(Errno::EADDRINUSE.into());
        }
        let mut local = options.address;
        if local.port() == 0 {
            local.set_port(self.free_udp_port(local.ip())?);
        } else if self.is_udp_taken(local, options.reuse_port) {
            return Err(Errno::EADDRINUSE.into());
        }
        if let Some(peer) = options.connect_to
            && local.ip().is_unspecified()
        {
            local.set_ip(match peer.ip() {
                ip if ip.is_loopback() => ip,
                ip => self.source_to(owner, ip),
            });
        }
        if let Owner::Process(process) = owner {
            self.take_descriptor(process)?;
        }
        let by_default = !local.ip().is_unspecified();
        self.udp.push(Some(Udp {
            owner,
            local,
            peer: options.connect_to,
            only_v6: options.only_v6.unwrap_or(by_default),
            reuse_port: options.reuse_port,
            buffer: options
                .recv_buffer
                .map_or(212_992, |bytes| bytes.max(1_152) * 2),
            waiting: 0,
            full: false,
            queue: VecDeque::new(),
            error: None,
            watch: Watch::None,
        }));
        self.note_bound(owner, local.ip());
        let id = (self.udp.len() - 1) as u32;
        self.udp_bound.entry(local).or_default().push(id);
        Ok(id)
    }

    fn is_udp_taken(&self, address: SocketAddr, share: bool) -> bool {
        let same = |one: &Udp| {
            let (a, b) = (one.local, address);
            a.port() == b.port()
                && (a.ip() == b.ip()
                    || a.is_ipv4() == b.is_ipv4()
                        && (a.ip().is_unspecified() || b.ip().is_unspecified()))
        };
        let mut others = self.udp.iter().flatten();
        others.any(|one| same(one) && !(share && one.reuse_port))
    }

    fn free_udp_port(&mut self, ip: IpAddr) -> io::Result<u16> {
        let (first, last) = self.settings.ports;
        for _ in 0..1_000 {
            let port = self.random.between(u64::from(first), u64::from(last)) as u16;
            if !self.is_udp_taken(SocketAddr::new(ip, port), false) {
                return Ok(port);
            }
        }
        Err(Errno::EADDRINUSE.into())
    }

    pub(super) fn close_udp(&mut self, id: u32) {
        self.unwatch(Target::Udp(id));
        let Some(socket) = self.udp.get_mut(id as usize).and_then(Option::take) else {
            return;
        };
        if let Some(found) = self.udp_bound.get_mut(&socket.local) {
            found.retain(|other| *other != id);
        }
        if let Owner::Process(process) = socket.owner {
            self.give_descriptor(process);
        }
    }

    /// Receives for a process.
    pub(super) fn recv_call(&mut self, id: u32, buffer: &mut [u8]) -> io::Result<Received> {
        let target = Target::Udp(id);
        if self.faults.hit(Fault::RecvBlocked) {
            return Err(self.not_yet(target, READ, Fault::RecvBlocked));
        }
        if self.faults.hit(Fault::RecvInterrupted) {
            return Err(Errno::EINTR.into());
        }
        if self.faults.hit(Fault::RecvNoMemory) {
            return Err(Errno::ENOMEM.into());
        }
        let refused = self.faults.hit(Fault::RecvRefused);
        let Some(socket) = self.udp_socket(id) else {
            return Err(Errno::EBADF.into());
        };
        if refused && socket.peer.is_some() {
            return Err(Errno::ECONNREFUSED.into());
        }
        if let Some(error) = socket.error.take() {
            return Err(error.into());
        }
        let Some(datagram) = socket.queue.pop_front() else {
            return Err(self.blocked(target));
        };
        socket.waiting -= datagram.bytes.len() + OVERHEAD;
        let (v6, peer) = (socket.local.is_ipv6(), socket.peer);
        let asks = peer.is_none() && is_many(socket.local.ip());
        self.idle.moved += 1;
        let len = datagram.bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram.bytes[..len]);
        let from = if v6 {
            mapped(datagram.from)
        } else {
            datagram.from
        };
        Ok(Received {
            len,
            from,
            destination: match asks {
                true => destination(datagram.to),
                false => Destination::default(),
            },
            truncated: datagram.bytes.len() > buffer.len(),
        })
    }

    /// Sends for a process.
    pub(super) fn send_call(
        &mut self,
        id: u32,
        bytes: &[u8],
        to: SocketAddr,
        local: Option<IpAddr>,
        interface: u32,
    ) -> io::Result<usize> {
        let fills = self.faults.hit(Fault::SendBlocked);
        if let Some(socket) = self.udp_socket(id)
            && (fills || socket.full)
        {
            if !std::mem::replace(&mut socket.full, true) {
                let late = 1 + self.faults.below(Fault::SendBlocked, 2_000_000);
                let at = self.now + Duration::from_nanos(late);
                self.schedule.at(at, What::Sent(id));
            }
            return Err(self.blocked(Target::Udp(id)));
        }
        let failing = [
            (Fault::SendInterrupted, Errno::EINTR),
            (Fault::SendNoBuffers, Errno::ENOBUFS),
            (Fault::SendForbidden, Errno::EPERM),
            (Fault::SendNetUnreachable, Errno::ENETUNREACH),
        ];
        for (fault, error) in failing {
            if self.faults.hit(fault) {
                return Err(error.into());
            }
        }
        let Some(socket) = self.udp_socket(id) else {
            return Err(Errno::EBADF.into());
        };
        if let Some(error) = socket.error.take() {
            return Err(error.into());
        }
        if bytes.len() > LARGEST {
            return Err(Errno::EMSGSIZE.into());
        }
        let to = canonical(socket.peer.unwrap_or(to));
        if to.is_ipv6() && socket.local.is_ipv4() {
            return Err(Errno::EAFNOSUPPORT.into());
        }
        let scoped = interface != 0 || has_scope(to);
        if local.is_some_and(is_link_local) && !scoped {
            // It is an address of each interface, and none is named.
            return Err(Errno::EINVAL.into());
        }
        self.launch(id, bytes, to, local);
        Ok(bytes.len())
    }

    /// What a UDP socket has sent has left its send buffer.
    pub(super) fn has_sent(&mut self, id: u32) {
        if let Some(socket) = self.udp_socket(id) {
            socket.full = false;
            self.poke(Target::Udp(id), WRITE);
        }
    }

    /// Puts a datagram on its way.
    pub(super) fn launch(&mut self, id: u32, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) {
        let Some(socket) = self.udp_socket(id) else {
            return;
        };
        let mut local = socket.local;
        if local.ip().is_unspecified() {
            // Unless told, the system chooses: not always the one that was asked.
            local.set_ip(from.unwrap_or(match to.ip() {
                ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V4(_) => Ipv4Addr::new(10, 0, 255, 1).into(),
                IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
            }));
        }
        let lost = self.faults.hit(Fault::DatagramLost);
        let gone = self.gone.contains(&to.ip()) || self.gone.contains(&local.ip());
        if lost || gone || self.is_parted(local.ip(), to.ip()) {
            self.trace(|| format!("a datagram to {to} is lost"));
            return;
        }
        let copies = if self.faults.hit(Fault::DatagramDoubled) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let (least, most) = self.settings.latency;
            let (least, most) = (least.as_nanos() as u64, most.as_nanos() as u64);
            let mut delay = self.random.between(least, least + (most - least) / 8);
            if self.faults.hit(Fault::DatagramLate) {
                delay += self.faults.below(Fault::DatagramLate, 50_000_000);
            }
            let flight = Flight {
                datagram: Datagram {
                    bytes: bytes.to_vec(),
                    from: canonical(local),
                    to: to.ip(),
                },
                to,
                sender: id,
            };
            let last = self.flights.last_key_value();
            let number = last.map_or(0, |(number, _)| number.wrapping_add(1));
            self.flights.insert(number, flight);
            let at = self.now + Duration::from_nanos(delay);
            self.schedule.at(at, What::Datagram(number));
        }
    }

    pub(super) fn datagram_arrives(&mut self, number: u32) {
        let Some(flight) = self.flights.remove(&number) else {
            return;
        };
        let found = self.bound_to(flight.to, flight.datagram.from);
        if found.is_empty() {
            self.trace(|| format!("a datagram to {} finds no socket there", flight.to));
            let back = self.settings.latency.0;
            self.schedule
                .at(self.now + back, What::Refused(flight.sender));
        }
        for id in found {
            let Some(socket) = self.udp_socket(id) else {
                continue;
            };
            let size = flight.datagram.bytes.len() + OVERHEAD;
            // A peer reads at once, and keeps all.
            let is_peer = matches!(socket.owner, Owner::Peer(_));
            if socket.waiting + size > socket.buffer && !is_peer {
                self.trace(|| format!("u{id} has no room for a datagram"));
                continue;
            }
            socket.waiting += size;
            socket.queue.push_back(flight.datagram.clone());
            self.poke(Target::Udp(id), READ);
        }
    }

    /// The sockets that get a datagram to `to`: one, but for a group or a broadcast.
    fn bound_to(&mut self, to: SocketAddr, from: SocketAddr) -> Vec<u32> {
        let any_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), to.port());
        let any_v6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), to.port());
        let many = to.ip().is_multicast() || is_broadcast(to.ip());
        let mut found = Vec::new();
        for at in [to, any_v4, any_v6] {
            if at == any_v4 && to.is_ipv6() {
                continue;
            }
            for id in self.udp_bound.get(&at).into_iter().flatten() {
                let Some(Some(socket)) = self.udp.get(*id as usize) else {
                    continue;
                };
                let hears = socket.peer.is_none_or(|peer| canonical(peer) == from);
                let family = !(to.is_ipv4() && at == any_v6 && socket.only_v6);
                if hears && family && !found.contains(id) {
                    found.push(*id);
                }
            }
            if !many && !found.is_empty() {
                break;
            }
        }
        if !many && found.len() > 1 {
            // A connected one goes first; those who share an address are chosen by the sender.
            let connected = found.iter().copied().find(|id| {
                let socket = self.udp.get(*id as usize).and_then(Option::as_ref);
                socket.is_some_and(|socket| socket.peer.is_some())
            });
            let place = usize::from(from.port()) % found.len();
            found = vec![connected.unwrap_or(found[place])];
        }
        found
    }

    /// Nobody had the port: a connected socket hears of it.
    pub(super) fn refusal_arrives(&mut self, id: u32) {
        if let Some(socket) = self.udp_socket(id)
            && socket.peer.is_some()
        {
            socket.error = Some(Errno::ECONNREFUSED);
            self.trace(|| format!("u{id} hears that its datagram was refused"));
            self.poke(Target::Udp(id), READ);
        }
    }

    pub(super) fn udp_local(&mut self, id: u32) -> io::Result<SocketAddr> {
        let socket = self.udp_socket(id).ok_or(Errno::EBADF)?;
        Ok(socket.local)
    }
}

/// Whether a socket at `ip` has to be told where each datagram was sent to.
pub(super) fn is_many(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_unspecified() || ip.is_multicast() || is_broadcast(ip)
}

/// In this world the last address of each 256 is a broadcast.
fn is_broadcast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[3] == 255,
        IpAddr::V6(_) => false,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn has_scope(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.scope_id() != 0)
}

/// The index of the one interface that there is here.
const INTERFACE: u32 = 2;

fn destination(to: IpAddr) -> Destination {
    let unicast = !to.is_multicast() && !is_broadcast(to);
    // An answer to a broadcast leaves from the interface's address.
    let local = match to {
        IpAddr::V4(ip) if is_broadcast(to) => {
            let [a, b, c, _] = ip.octets();
            Some(Ipv4Addr::new(a, b, c, 1).into())
        }
        _ => None,
    };
    Destination {
        to: Some(to),
        local: if unicast { Some(to) } else { local },
        interface: if is_link_local(to) { INTERFACE } else { 0 },
    }
}

/// A UDP socket in the test's own hands.
#[derive(Clone)]
pub struct UdpPeer {
    net: Net,
    id: u32,
    address: SocketAddr,
}

impl UdpPeer {
    /// Sends `bytes` to `to`, as one datagram.
    pub fn send_to(&self, to: SocketAddr, bytes: &[u8]) {
        let mut state = self.net.state();
        let id = self.id;
        state.trace(|| format!("peer u{id} sends {} {} to {to}", bytes.len(), quoted(bytes)));
        state.launch(id, bytes, to, None);
    }

    /// All datagrams that have come so far, in that order, and where each is from.
    #[must_use]
    pub fn received(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut state = self.net.state();
        let Some(socket) = state.udp_socket(self.id) else {
            return Vec::new();
        };
        let all = socket.queue.iter();
        all.map(|one| (one.from, one.bytes.clone())).collect()
    }

    /// Its address, with the port that was drawn for it.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Goes: whoever sends to it is refused.
    pub fn close(&self) {
        let mut state = self.net.state();
        state.trace(|| format!("peer u{} closes", self.id));
        state.close_udp(self.id);
    }
}

/// In a line: `UdpPeer(u0, 10.0.0.2:9, got 3)`.
impl fmt::Debug for UdpPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, mut state) = (self.id, self.net.state());
        match state.udp_socket(id) {
            Some(socket) => {
                let (at, got) = (socket.local, socket.queue.len());
                write!(f, "UdpPeer(u{id}, {at}, got {got})")
            }
            None => write!(f, "UdpPeer(u{id}, closed)"),
        }
    }
}

impl Net {
    /// A UDP socket at `at`; port 0 has one drawn.
    ///
    /// # Panics
    /// When the address is taken: the test is wrong about its own world.
    #[allow(clippy::panic)]
    #[track_caller]
    pub(crate) fn udp_peer(&self, at: SocketAddr) -> UdpPeer {
        let mut state = self.state();
        match state.bind_udp(Owner::Peer(u32::MAX), &UdpOptions::new(at)) {
            Ok(id) => UdpPeer {
                net: self.clone(),
                id,
                address: state.udp_local(id).unwrap_or(at),
            },
            Err(error) => panic!("a peer can't bind {at}: {error}"),
        }
    }
}
