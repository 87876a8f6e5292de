//! A network, a poller and a clock in memory, driven by one seed: it takes the place of mio and the
//! system below a reactor.
//!
//! Time moves while a process waits, by the schedule of what is to happen, and as calls take it.
//! The same seed gives the same run, byte for byte: all chance comes from one stream, faults draw
//! from streams of their own, and nothing is kept in an order that a run decides.
//!
//! A model that is kinder than the system finds nothing: where the system leaves a freedom, the
//! seed takes it. What each part knows of the system stands in its file:
//!
//! - `tcp.rs`: a connection and its two ways; `wire.rs`: segments, acknowledgements and windows;
//!   `ending.rs`: resets and timeouts;
//! - `stream.rs`: the calls on a stream; `listener.rs`: accepting; `dial.rs`: the handshake;
//! - `udp.rs`: datagrams; `poller.rs`: epoll, kqueue and mio's poll(2); `wait.rs`: time;
//! - `faults.rs`: what may go wrong, by name; `peer.rs`, `pump.rs`, `expect.rs`: peers that follow
//!   a script;
//! - `system.rs`, `sockets.rs`: the types that the reactor has in place of the real ones.

mod dial;
mod ending;
mod expect;
mod faults;
mod listener;
mod peer;
mod poller;
mod process;
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
mod watch;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

pub use faults::Fault;
pub(crate) use faults::Faults;
pub use peer::{Listener, Peer};
pub use poller::Poller;
pub use process::Process;
pub(crate) use random::Random;
pub(crate) use sockets::{TcpListener, TcpStream, UdpSocket};
pub(crate) use system::{Events, System, Waker, Woken, foreign};
pub use udp::UdpPeer;
pub(crate) use wait::Sleep;

use listener::Listening;
use schedule::{Schedule, What};
use tcp::Connection;
use trace::Trace;
use udp::{Flight, Udp};
use watch::Side;

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

/// Who has a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Process(u32),
    Peer(u32),
    Nobody,
}

/// All there is.
#[derive(Debug)]
struct State {
    /// The time since the beginning.
    now: Duration,
    /// What that is for the reactor's clock.
    base: Instant,
    schedule: Schedule,
    /// When ends look whether they have waited too long: often far off, and mostly for nothing.
    guards: Schedule,
    idle: wait::Idle,
    sleep: Sleep,
    random: Random,
    faults: Faults,
    trace: Trace,
    settings: Settings,
    connections: Vec<Option<Box<Connection>>>,
    listeners: Vec<Option<Listening>>,
    listening: BTreeMap<SocketAddr, Vec<u32>>,
    udp: Vec<Option<Udp>>,
    udp_bound: BTreeMap<SocketAddr, Vec<u32>>,
    flights: BTreeMap<u32, Flight>,
    processes: Vec<process::Host>,
    hosts: process::Hosts,
    peers: Vec<pump::Script>,
    servers: Vec<pump::Server>,
    /// Peers whose sockets have news.
    pumps: Vec<u32>,
    /// What peers have read instead of what they expect, until it's told.
    mismatches: VecDeque<String>,
    /// The test knows of an error, and is not told what else is unmet at its end.
    forgiven: bool,
    /// Dialled pairs of addresses, each of which takes a port.
    ports: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Hosts that nothing is heard of any more.
    gone: BTreeSet<IpAddr>,
    /// Pairs of hosts between which nothing passes, and until when.
    partitions: Vec<(IpAddr, IpAddr, Duration)>,
}

/// A simulated network: a handle, of which there may be many.
#[derive(Clone)]
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
            guards: Schedule::default(),
            idle: wait::Idle::default(),
            sleep: Sleep::ToItsEnd,
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
            hosts: process::Hosts::default(),
            peers: Vec::new(),
            servers: Vec::new(),
            pumps: Vec::new(),
            mismatches: VecDeque::new(),
            forgiven: false,
            ports: BTreeSet::new(),
            gone: BTreeSet::new(),
            partitions: Vec::new(),
        })))
    }

    /// The state, alone. A panic elsewhere leaves it as usable as it was.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws which kinds of faults there are, of those that are `allowed`, and how often each
    /// happens; and how slow and how narrow the network is. To be called before anything else.
    pub(crate) fn unleash(&self, allowed: impl Fn(Fault) -> bool) {
        let mut state = self.state();
        let seed = state.random.draw();
        state.faults = Faults::drawn(seed, allowed);
        let traced = state.trace.is_on();
        state.faults.remember(traced);
        let mut random = Random::new(!seed);
        let least = random.magnitude(1_000, 1_000_000);
        let most = random.magnitude(least, 200_000_000);
        state.settings.latency = (Duration::from_nanos(least), Duration::from_nanos(most));
        let least = random.magnitude(128, 65_536);
        state.settings.buffers = (least, random.magnitude(least, 1 << 22));
        if random.one_in(4) {
            state.settings.speed = random.magnitude(10_000, 100_000_000);
        }
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

    /// When the next thing happens in the network or at a peer, if anything does. Timeouts of the
    /// system that may be far off are none of it.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        self.state().schedule.next_at()
    }

    /// Lets everything up to `time` happen while every process stands still, until one that had no
    /// event has one.
    pub(crate) fn advance_to(&self, time: Duration) {
        let mut state = self.state();
        let ready = state.others_ready(u32::MAX);
        while state.next_at().is_some_and(|at| at <= time) {
            state.step();
            let news = state.others_ready(u32::MAX);
            if news.iter().any(|one| !ready.contains(one)) {
                return;
            }
        }
        state.now = state.now.max(time);
    }

    /// Lets everything happen for `time`, while every process stands still.
    pub(crate) fn advance(&self, time: Duration) {
        let mut state = self.state();
        let until = state.now + time;
        state.run_until(until);
    }

    /// Turns in a row at one instant, but for what their waits take, between which nothing was
    /// moved: no byte and no connection. Many of them are a spin. Those that have called somebody
    /// count for a hundredth: a thousand messages may come one by one.
    pub(crate) fn idle_turns(&self) -> u32 {
        let idle = self.state().idle;
        idle.turns + idle.talks / 100
    }

    /// Connections that are there.
    pub(crate) fn connections(&self) -> usize {
        self.state().connections.iter().flatten().count()
    }

    /// How much has been done so far: bytes and connections moved, segments that arrived,
    /// callbacks.
    pub(crate) fn activity(&self) -> u64 {
        let idle = self.state().idle;
        idle.before + idle.moved + idle.arrived + idle.callbacks
    }

    /// Counts idle turns anew: one that may wait is no spin, however often it looks before it does.
    pub(crate) fn forget_idle_turns(&self) {
        let mut state = self.state();
        (state.idle.turns, state.idle.talks) = (0, 0);
    }

    /// How long the waits from now on may last that find nothing.
    pub(crate) fn sleep(&self, sleep: Sleep) {
        self.state().sleep = sleep;
    }

    /// Has `fault` happen at the `nth` call of its kind from now.
    pub(crate) fn fault_at(&self, fault: Fault, nth: u64) {
        self.state().faults.at(fault, nth);
    }

    /// Has `fault` happen so often in a million calls.
    pub(crate) fn set_fault(&self, fault: Fault, rate: u32) {
        self.state().faults.set(fault, rate);
    }

    /// The kinds of faults that have happened.
    pub(crate) fn faults_met(&self) -> Vec<Fault> {
        self.state().faults.met()
    }

    /// No fault happens from now on: whatever can still move does.
    pub(crate) fn calm(&self) {
        let mut state = self.state();
        state.trace(|| "all faults and partitions end".to_owned());
        state.faults.calm();
        state.partitions.clear();
    }

    /// How long a segment or a datagram takes from now on.
    pub(crate) fn latency(&self, time: RangeInclusive<Duration>) {
        let (least, most) = time.into_inner();
        let mut state = self.state();
        state.settings.latency = (least, most.max(least));
        state.redraw_latencies();
    }

    /// Bytes a second on each way of a connection from now on; 0: no limit.
    pub(crate) fn bandwidth(&self, speed: u64) {
        let mut state = self.state();
        state.settings.speed = speed;
        for connection in state.connections.iter_mut().flatten() {
            connection.speed = speed;
        }
    }

    /// Nothing passes between two hosts, until [`Net::heal`]. Both systems try again meanwhile.
    pub(crate) fn partition(&self, one: IpAddr, other: IpAddr) {
        self.state().partition(one, other, Duration::MAX);
    }

    /// What is sent between two hosts arrives again, when their systems try next.
    pub(crate) fn heal(&self, one: IpAddr, other: IpAddr) {
        let mut state = self.state();
        state.trace(|| format!("what is sent between {one} and {other} passes again"));
        let same = |a, b| (a, b) == (one, other) || (b, a) == (one, other);
        state.partitions.retain(|(a, b, _)| !same(*a, *b));
    }

    /// Nothing is ever heard of this host again.
    pub(crate) fn vanish_host(&self, ip: IpAddr) {
        let mut state = self.state();
        state.trace(|| format!("the host at {ip} vanishes"));
        state.gone.insert(ip);
        for connection in 0..state.connections.len() as u32 {
            for end in 0..2 {
                let side = Side { connection, end };
                if state.end(side).is_some_and(|end| end.local.ip() == ip) {
                    state.vanish(side);
                }
            }
        }
    }

    /// Keeps the last lines of what happens, or none, which costs nothing.
    pub(crate) fn trace(&self, on: bool) {
        let mut state = self.state();
        state.trace.keep(if on { 100_000 } else { 0 });
        state.faults.remember(on);
    }

    /// The lines kept.
    pub(crate) fn traced(&self) -> String {
        self.state().trace.lines()
    }

    /// A number from the network's own stream.
    pub(crate) fn draw(&self) -> u64 {
        self.state().random.draw()
    }
}

/// In a line, as it stands in much that a test may show.
impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(state) = self.0.try_lock() else {
            return f.write_str("Net(in use)");
        };
        let (hosts, connections) = (state.processes.len(), state.connections.iter().flatten());
        let connections = connections.count();
        write!(
            f,
            "Net({:?}, hosts: {hosts}, connections: {connections})",
            state.now
        )
    }
}

impl State {
    /// Whether the owner's sockets are a BSD's. Peers are on Linux.
    fn is_bsd(&self, owner: Owner) -> bool {
        let Owner::Process(process) = owner else {
            return false;
        };
        self.processes[process as usize].poller.model == Poller::Kqueue
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
        self.trace(|| match until {
            Duration::MAX => format!("nothing passes between {one} and {other}"),
            _ => format!("nothing passes between {one} and {other} until {until:?}"),
        });
        self.partitions.push((one, other, until));
        self.expect_all_expiries();
    }

    /// Nothing comes from this end or gets to it any more.
    fn vanish(&mut self, side: Side) {
        self.trace(|| format!("{side} vanishes"));
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
        while self.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// When the next thing happens, of all.
    fn next_at(&self) -> Option<Duration> {
        wait::earlier(self.schedule.next_at(), self.guards.next_at())
    }

    /// Lets the next thing happen.
    fn step(&mut self) {
        let guard = match (self.guards.next_at(), self.schedule.next_at()) {
            (Some(guard), Some(next)) => guard < next,
            (guard, _) => guard.is_some(),
        };
        let next = match guard {
            true => self.guards.pop(),
            false => self.schedule.pop(),
        };
        let Some((at, what)) = next else {
            return;
        };
        self.now = self.now.max(at);
        match what {
            What::Segment(side) => self.segment_arrives(side),
            What::Ack(side) => self.acknowledgement_arrives(side),
            What::Reset(side) => self.reset_arrives(side),
            What::Syn(id) => self.syn_arrives(id, false),
            What::SynAck(id) => self.syn_ack_arrives(id),
            What::Established(id) => self.handshake_done(id),
            What::DialFails(id, error) => self.dial_fails(id, error),
            What::Expire(side) => self.expire(side),
            What::Transmit(side) => self.transmit(side),
            What::Poke(target, what) => self.queue(target, what),
            What::Peer(peer) => self.wake_peer(peer),
            What::Datagram(flight) => self.datagram_arrives(flight),
            What::Sent(socket) => self.has_sent(socket),
            What::Refused(socket) => self.refusal_arrives(socket),
        }
        self.pump_peers();
    }
}
