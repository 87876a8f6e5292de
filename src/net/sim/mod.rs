//! A network, a poller and a clock in memory, driven by one seed: it takes the place of mio and the
//! system below a reactor.
//!
//! Time moves only while a process waits, by the schedule of what is to happen. The same seed gives
//! the same run, byte for byte: all chance comes from one stream, faults draw from streams of their
//! own, and nothing is kept in an order that a run decides.
//!
//! A model that is kinder than the system finds nothing: where the system leaves a freedom, the seed
//! takes it. What each part knows of the system stands in its file:
//!
//! - `tcp.rs`: a connection and its two ways; `wire.rs`: segments, acknowledgements and windows;
//!   `ending.rs`: resets and timeouts;
//! - `stream.rs`: the calls on a stream; `listener.rs`: accepting; `dial.rs`: the handshake;
//! - `udp.rs`: datagrams; `poller.rs`: epoll, kqueue and mio's poll(2); `wait.rs`: time;
//! - `faults.rs`: what may go wrong, by name; `peer.rs`, `pump.rs`: peers that follow a script;
//! - `system.rs`, `sockets.rs`: the types that the reactor has in place of the real ones.

// What embedders drive it by is built on top of it.
#![allow(dead_code, unused_imports)]

mod dial;
mod ending;
mod faults;
mod listener;
mod peer;
mod poller;
mod pump;
mod random;
mod schedule;
mod sockets;
mod stream;
mod system;
mod tcp;
#[cfg(test)]
mod tests;
mod trace;
mod udp;
mod wait;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

pub(crate) use faults::{Fault, Faults};
pub(crate) use peer::{Peer, PeerListener, Reading, UdpPeer};
pub(crate) use poller::Model;
pub(crate) use random::Random;
pub(crate) use sockets::{TcpListener, TcpStream, UdpSocket};
pub(crate) use system::{Events, System, Waker, Woken, foreign};

use listener::Listener;
use poller::Poller;
use schedule::{Schedule, What};
use tcp::{Connection, Side};
use trace::Trace;
use udp::{Flight, Udp};

/// The ways of the world, from which each connection draws its own.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The least and the most that a segment takes.
    pub(crate) latency: (Duration, Duration),
    /// The least and the most bytes of a socket buffer that no option sets.
    pub(crate) buffers: (u64, u64),
    /// Bytes a second on each way; 0: no limit.
    pub(crate) speed: u64,
    /// The first and the last ephemeral port.
    pub(crate) ports: (u16, u16),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            latency: (Duration::from_micros(5), Duration::from_millis(2)),
            buffers: (4_096, 262_144),
            speed: 0,
            ports: (32_768, 60_999),
        }
    }
}

/// What a process is like: a reactor runs in each.
#[derive(Clone, Debug)]
pub(crate) struct ProcessOptions {
    pub(crate) model: Model,
    /// Its host's addresses; none: whatever it binds to is one of them.
    pub(crate) addresses: Vec<IpAddr>,
    /// How many descriptors it may have, those of its sockets counted.
    pub(crate) descriptors: usize,
}

impl Default for ProcessOptions {
    fn default() -> ProcessOptions {
        ProcessOptions {
            model: Model::Epoll,
            addresses: Vec::new(),
            descriptors: usize::MAX,
        }
    }
}

/// Who has a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Process(u32),
    Peer(u32),
    Nobody,
}

/// A process: a poller, and limits.
#[derive(Debug)]
struct Process {
    poller: Poller,
    addresses: Vec<IpAddr>,
    descriptors: usize,
    used: usize,
    /// Its wait was ended for another process' sake. It would end by itself then, if at any time.
    parked: Option<wait::Parked>,
    /// It has a system still.
    alive: bool,
}

/// All there is.
#[derive(Debug)]
struct State {
    /// The time since the beginning.
    now: Duration,
    /// What that is for the reactor's clock.
    base: Instant,
    schedule: Schedule,
    random: Random,
    faults: Faults,
    trace: Trace,
    settings: Settings,
    connections: Vec<Option<Box<Connection>>>,
    listeners: Vec<Option<Listener>>,
    listening: BTreeMap<SocketAddr, Vec<u32>>,
    udp: Vec<Option<Udp>>,
    udp_bound: BTreeMap<SocketAddr, Vec<u32>>,
    flights: BTreeMap<u32, Flight>,
    processes: Vec<Process>,
    peers: Vec<pump::Script>,
    servers: Vec<pump::Server>,
    /// Peers whose sockets have news.
    pumps: Vec<u32>,
    /// Dialled pairs of addresses, each of which takes a port.
    ports: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Hosts that nothing is heard of any more.
    gone: BTreeSet<IpAddr>,
    /// Pairs of hosts between which nothing passes, and until when.
    partitions: Vec<(IpAddr, IpAddr, Duration)>,
}

/// A simulated network: a handle, of which there may be many.
#[derive(Clone, Debug)]
pub(crate) struct Net(Arc<Mutex<State>>);

impl Net {
    /// A network without faults.
    pub(crate) fn new(seed: u64) -> Net {
        Net::with(seed, Settings::default(), Faults::none(seed))
    }

    /// A network with these ways and these faults.
    pub(crate) fn with(seed: u64, settings: Settings, faults: Faults) -> Net {
        Net(Arc::new(Mutex::new(State {
            now: Duration::ZERO,
            base: Instant::now(),
            schedule: Schedule::default(),
            random: Random::new(seed),
            faults,
            trace: Trace::default(),
            settings,
            connections: Vec::new(),
            listeners: Vec::new(),
            listening: BTreeMap::new(),
            udp: Vec::new(),
            udp_bound: BTreeMap::new(),
            flights: BTreeMap::new(),
            processes: Vec::new(),
            peers: Vec::new(),
            servers: Vec::new(),
            pumps: Vec::new(),
            ports: BTreeSet::new(),
            gone: BTreeSet::new(),
            partitions: Vec::new(),
        })))
    }

    /// The state, alone. A panic elsewhere leaves it as usable as it was.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process, and what its reactor takes for the system.
    ///
    /// # Errors
    /// When there is no /dev/null to stand in for the poller's descriptor.
    pub(crate) fn process(&self, options: ProcessOptions) -> io::Result<System> {
        let mut state = self.state();
        state.processes.push(Process {
            poller: Poller::new(options.model),
            addresses: options.addresses,
            descriptors: options.descriptors,
            used: 0,
            parked: None,
            alive: true,
        });
        let process = (state.processes.len() - 1) as u32;
        drop(state);
        System::new(self.clone(), process)
    }

    /// The time.
    pub(crate) fn now(&self) -> Instant {
        let state = self.state();
        state.base + state.now
    }

    /// The time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.state().now
    }

    /// When the next thing happens, if anything does.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let state = self.state();
        Some(state.base + state.schedule.next_at()?)
    }

    /// Lets everything up to `time` happen, while every process stands still.
    pub(crate) fn advance_to(&self, time: Instant) {
        let mut state = self.state();
        let until = time.saturating_duration_since(state.base);
        state.run_until(until);
    }

    /// As [`Net::advance_to`], by so much.
    pub(crate) fn advance(&self, time: Duration) {
        let mut state = self.state();
        let until = state.now + time;
        state.run_until(until);
    }

    /// Whether a wait of this process would bring an event at once.
    pub(crate) fn is_ready(&self, process: u32) -> bool {
        self.state().has_ready(process)
    }

    /// Has `fault` happen at the `nth` call of its kind from now.
    pub(crate) fn fault_at(&self, fault: Fault, nth: u64) {
        self.state().faults.at(fault, nth);
    }

    /// Has `fault` happen so often in a million calls.
    pub(crate) fn set_fault(&self, fault: Fault, rate: u32) {
        self.state().faults.set(fault, rate);
    }

    /// How often `fault` has happened.
    pub(crate) fn hits(&self, fault: Fault) -> u64 {
        self.state().faults.hits(fault)
    }

    /// No fault happens from now on: whatever can still move does.
    pub(crate) fn calm(&self) {
        let mut state = self.state();
        for &fault in Fault::ALL {
            state.faults.set(fault, 0);
        }
        state.partitions.clear();
    }

    /// Nothing passes between two hosts for so long. Both systems try again meanwhile.
    pub(crate) fn partition(&self, one: IpAddr, other: IpAddr, time: Duration) {
        let mut state = self.state();
        let until = state.now.saturating_add(time);
        state.partition(one, other, until);
    }

    /// Nothing is ever heard of this host again.
    pub(crate) fn vanish_host(&self, ip: IpAddr) {
        let mut state = self.state();
        state.gone.insert(ip);
        for id in 0..state.connections.len() as u32 {
            for end in 0..2 {
                let side = Side {
                    connection: id,
                    end,
                };
                if state.end(side).is_some_and(|end| end.local.ip() == ip) {
                    state.vanish(side);
                }
            }
        }
    }

    /// Keeps the last `limit` lines of what happens; 0: none, which costs nothing.
    pub(crate) fn keep_trace(&self, limit: usize) {
        self.state().trace.keep(limit);
    }

    /// The lines kept.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.state().trace.lines()
    }

    /// Adds a line of a layer above.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        self.state().trace(line);
    }

    /// A number from the network's own stream.
    pub(crate) fn draw(&self) -> u64 {
        self.state().random.draw()
    }
}

impl State {
    fn trace(&mut self, line: impl FnOnce() -> String) {
        self.trace.add(self.now, line);
    }

    fn is_bsd(&self, process: u32) -> bool {
        self.processes[process as usize].poller.model == Model::Kqueue
    }

    fn take_descriptor(&mut self, process: u32) -> io::Result<()> {
        let process = &mut self.processes[process as usize];
        if process.used >= process.descriptors {
            return Err(Errno::EMFILE.into());
        }
        process.used += 1;
        Ok(())
    }

    fn give_descriptor(&mut self, process: u32) {
        let process = &mut self.processes[process as usize];
        process.used = process.used.saturating_sub(1);
    }

    /// Whether nothing passes between the two ends of a connection now.
    fn is_cut_off(&mut self, side: Side) -> bool {
        if self.partitions.is_empty() {
            return false;
        }
        let now = self.now;
        self.partitions.retain(|(_, _, until)| *until > now);
        let Some(end) = self.end(side) else {
            return false;
        };
        let (one, other) = (end.local.ip(), end.remote.ip());
        self.is_parted(one, other)
    }

    fn is_parted(&self, one: IpAddr, other: IpAddr) -> bool {
        let mut all = self.partitions.iter();
        all.any(|(a, b, _)| (*a, *b) == (one, other) || (*b, *a) == (one, other))
    }

    fn partition(&mut self, one: IpAddr, other: IpAddr, until: Duration) {
        self.trace(|| format!("nothing passes between {one} and {other} until {until:?}"));
        self.partitions.push((one, other, until));
        self.expect_all_expiries();
    }

    /// Nothing comes from this end or gets to it any more.
    fn vanish(&mut self, side: Side) {
        self.trace(|| format!("c{}.{} vanishes", side.connection, side.end));
        if let Some(end) = self.end(side) {
            end.vanished = true;
        }
        self.expect_expiry(side.other());
    }

    /// Every end that is cut off has a time at which it gives up.
    fn expect_all_expiries(&mut self) {
        for connection in 0..self.connections.len() as u32 {
            for end in 0..2 {
                self.expect_expiry_if_cut_off(Side { connection, end });
            }
        }
    }

    /// Lets everything up to `until` happen.
    fn run_until(&mut self, until: Duration) {
        while self.schedule.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// Lets the next thing happen.
    fn step(&mut self) {
        let Some((at, what)) = self.schedule.pop() else {
            return;
        };
        self.now = self.now.max(at);
        match what {
            What::Segment(side) => self.segment_arrives(side),
            What::Ack(side) => self.acknowledgement_arrives(side),
            What::Reset(side) => self.reset_arrives(side),
            What::Syn(id) => self.syn_arrives(id),
            What::SynAck(id) => self.syn_ack_arrives(id),
            What::Established(id) => self.handshake_done(id),
            What::DialFails(id, error) => self.dial_fails(id, error),
            What::Expire(side) => self.expire(side),
            What::Poke(target, what) => self.queue(target, what),
            What::Peer(peer) => self.wake_peer(peer),
            What::Datagram(flight) => self.datagram_arrives(flight),
            What::Refused(socket) => self.refusal_arrives(socket),
        }
        self.pump_peers();
    }
}
