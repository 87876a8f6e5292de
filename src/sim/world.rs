//! The world of one run.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use crate::handler::Handler;
use crate::limits::Limits;
use crate::net::sim::{Fault, Listener, Net, Peer, Poller, Random, UdpPeer};

use super::Host;
use super::plan::{Cap, Plan};

/// A simulated network, its clock, and the hosts in it; see the [module](super).
pub struct World {
    pub(super) net: Net,
    plan: Plan,
    /// What the test draws: apart from the network's chance, so that a fault that is left out
    /// changes nothing else.
    pub(super) chance: Random,
    poller: Poller,
    /// The most that `count` and `size` would have drawn without a cap.
    drawn: (u64, u64),
    /// Hosts that don't sleep, by their places: kept, to be filled anew at each step.
    pub(super) due: Vec<usize>,
    /// Turns in a row that did nothing, and what had been done by the last one.
    pub(super) naps: u32,
    pub(super) activity: u64,
}

/// Fails the test for what nobody was told: expectations that are unmet, or have failed. A world
/// that was settled in the end has none, and one of whose calls has given an error has told enough.
///
/// A test that returns an error of its own before that, by a `?`, can't be told from one that ends:
/// the panic comes in the error's place, and says so. [`check`](super::check) shows such an error:
/// the same test is `check(7..8, |world: &mut World| -> io::Result<()> { ... })`, with its trace.
impl Drop for World {
    fn drop(&mut self) {
        if !thread::panicking() {
            let hides =
                "; an error that the test returns is not shown: `check(7..8, ...)` shows it";
            self.end(hides);
        }
    }
}

/// In a line: `World(seed=7, Net(2.5ms, hosts: 2, connections: 3))`.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({}, {:?})", self.plan, self.net)
    }
}

impl World {
    /// A calm world: the network cuts and delays what is sent as `seed` says, and nothing fails.
    #[must_use]
    pub fn new(seed: u64) -> World {
        World::under(Plan::new(seed))
    }

    pub(super) fn under(plan: Plan) -> World {
        World {
            net: Net::new(plan.seed),
            chance: Random::new(plan.seed ^ 0x7465_7374),
            poller: Poller::Epoll,
            drawn: (0, 0),
            due: Vec::new(),
            naps: 0,
            activity: 0,
            plan,
        }
    }

    /// The test is over.
    ///
    /// # Panics
    /// When it has expected something else, and nobody was told.
    #[allow(clippy::panic)] // A test must not pass that has expected something else.
    pub(super) fn end(&self, more: &str) {
        if let Some(why) = self.net.untold() {
            let last = self.now();
            panic!("{why}, and the test was over after {last:?}{more}");
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The most that was drawn of a kind, or would have been without a cap.
    pub(super) fn drawn(&self, cap: Cap) -> u64 {
        match cap {
            Cap::Count => self.drawn.0,
            Cap::Size => self.drawn.1,
        }
    }

    /// The seed that decides everything here.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.plan.seed
    }

    /// Has the seed draw which kinds of faults there are, about half of all, and how often each
    /// happens; which poller hosts have; and how fast, how wide and how even the network is. It is
    /// to be called first of all.
    ///
    /// # Panics
    /// When there is a host already, which was made without all that.
    #[track_caller]
    pub fn unleash(&mut self) {
        let late = "`World::unleash` is to be called before the first host is made";
        assert!(!self.net.has_processes(), "{late}");
        self.net.unleash(|fault| self.plan.allows(fault));
        self.poller = self.pick(&[Poller::Epoll, Poller::Epoll, Poller::Kqueue, Poller::Poll2]);
    }

    /// Has `fault` happen so often in a million chances from now on, by the seed; 0: never.
    pub fn fault_rate(&mut self, fault: Fault, in_a_million: u32) {
        if self.plan.allows(fault) {
            self.net.set_fault(fault, in_a_million);
        }
    }

    /// Has `fault` happen at the `nth` chance that it has from now on, counted from 1. Whether that
    /// chance came is seen in [`World::faults_met`].
    ///
    /// # Panics
    /// When `nth` is 0: it would never happen.
    #[track_caller]
    pub fn fault(&mut self, fault: Fault, nth: u64) {
        assert!(nth > 0, "the chances of a fault are counted from 1");
        if self.plan.allows(fault) {
            self.net.fault_at(fault, nth);
        }
    }

    /// Ends all faults, and all partitions: from now on whatever can still move does. What has
    /// happened stays: who has vanished is gone.
    pub fn calm(&mut self) {
        self.net.calm();
    }

    /// The kinds of faults that have happened so far. What the test itself breaks is none of them:
    /// [`World::partition`], [`World::vanish`], or a peer that is told to reset or to vanish. What
    /// [`World::loss`] loses is.
    #[must_use]
    pub fn faults_met(&self) -> Vec<Fault> {
        self.net.faults_met()
    }

    /// Whether a fault has happened that breaks connections ([`Fault::breaks`]): all others only
    /// delay, so that without one all that was sent must arrive.
    #[must_use]
    pub fn has_broken(&self) -> bool {
        self.faults_met().iter().any(|fault| fault.breaks())
    }

    /// Has the hosts that are made from now on wait by `poller`; epoll by default.
    pub fn poller(&mut self, poller: Poller) {
        self.poller = poller;
    }

    /// A host that runs `handler` in a reactor with `limits`.
    ///
    /// # Errors
    /// As [`Reactor::with_limits`](crate::Reactor::with_limits): no fault is drawn for it, but it
    /// takes a pipe of the real system's.
    pub fn host<H: Handler>(&mut self, handler: H, limits: Limits) -> io::Result<Host<H>> {
        Host::new(handler, limits, self.net.process(self.poller))
    }

    /// A peer, at an address of its own, that connects to `to`. Whether somebody listens there is
    /// found out when the world moves: [`Peer::is_connected`], [`Peer::was_refused`].
    #[track_caller]
    pub fn connect(&mut self, to: SocketAddr) -> Peer {
        self.net.connect_peer(to)
    }

    /// As [`World::connect`], from an address of the test's choice: several peers may be one
    /// source.
    #[track_caller]
    pub fn connect_from(&mut self, source: IpAddr, to: SocketAddr) -> Peer {
        self.net.connect_peer_from(source, to)
    }

    /// A server in the test's own hands. Port 0 has one drawn: [`Listener::local_addr`].
    ///
    /// # Panics
    /// When somebody listens there already.
    #[track_caller]
    pub fn listen(&mut self, at: SocketAddr) -> Listener {
        self.net.listen_peer(at)
    }

    /// A UDP socket in the test's own hands. Port 0 has one drawn: [`UdpPeer::local_addr`].
    ///
    /// # Panics
    /// When the address is taken.
    #[track_caller]
    pub fn udp(&mut self, at: SocketAddr) -> UdpPeer {
        self.net.udp_peer(at)
    }

    /// Has a segment or a datagram take from the least to the most of `time` one way, on
    /// connections that are there and on those to come. Each connection draws its own within that,
    /// and each segment takes up to a quarter longer. By default it's 5 microseconds to 2
    /// milliseconds.
    pub fn latency(&mut self, time: RangeInclusive<Duration>) {
        self.net.latency(time);
    }

    /// Lets each way of a connection carry so many bytes a second; 0: as many as its buffers hold,
    /// which is the default. Datagrams are not slowed down.
    ///
    /// Neither this nor latency keeps a host from writing, as long as its buffers hold all: how
    /// large those are, some kilobytes to a quarter of a megabyte, each connection draws. To see
    /// [`Pressure::High`](crate::Pressure::High) at little output, have connections begin with
    /// buffers of a few hundred bytes, `world.fault_rate(Fault::SmallBuffers, 1_000_000)`, and
    /// peers that read slowly or not at all ([`Peer::stop_reading`]).
    pub fn bandwidth(&mut self, bytes_a_second: u64) {
        self.net.bandwidth(bytes_a_second);
    }

    /// Loses one in `n` segments and datagrams; 0: none. A lost segment comes again after 200 ms or
    /// more, a datagram never.
    pub fn loss(&mut self, n: u32) {
        let rate = 1_000_000_u32.checked_div(n).unwrap_or(0);
        self.fault_rate(Fault::SegmentLost, rate);
        self.fault_rate(Fault::DatagramLost, rate);
    }

    /// Has nothing pass between the hosts at two addresses, until [`World::heal`] or
    /// [`World::calm`]. Both systems try again meanwhile, and give up as they do: after the user
    /// timeout, or about a quarter of an hour. [`World::settle`] waits until they have, if anything
    /// is under way: [`World::advance`] looks at what is so before.
    ///
    /// A host dials from the first address that it has bound a socket to, or that
    /// [`Process::addresses`](super::Process::addresses) gave it. What a UDP socket sends that is
    /// bound to all addresses of its host (`0.0.0.0`) leaves from 10.0.255.1 or fd00::1.
    ///
    /// # Panics
    /// When nobody has had one of these addresses so far: nothing would be parted. A host that
    /// listens at `0.0.0.0` has every address.
    #[track_caller]
    pub fn partition(&mut self, one: IpAddr, other: IpAddr) {
        self.check_hosts(&[one, other]);
        self.net.partition(one, other);
    }

    /// Ends the partition of two hosts. What is under way arrives when their systems try next.
    ///
    /// # Panics
    /// As [`World::partition`].
    #[track_caller]
    pub fn heal(&mut self, one: IpAddr, other: IpAddr) {
        self.check_hosts(&[one, other]);
        self.net.heal(one, other);
    }

    /// Has the host at an address vanish for good, as by a pulled plug: nothing comes from it, and
    /// nothing gets there.
    ///
    /// # Panics
    /// When nobody has had this address so far: nothing would vanish.
    #[track_caller]
    pub fn vanish(&mut self, host: IpAddr) {
        self.check_hosts(&[host]);
        self.net.vanish_host(host);
    }

    #[track_caller]
    #[allow(clippy::panic)] // The test is wrong about its own world.
    fn check_hosts(&self, hosts: &[IpAddr]) {
        for host in hosts {
            if let Err(why) = self.net.check_host(*host) {
                panic!("{why}");
            }
        }
    }

    /// The simulated time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.net.elapsed()
    }

    /// A number below `sides`, which is at least 1.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.chance.below(sides)
    }

    /// One of `of`, which is not empty.
    ///
    /// # Panics
    /// When it's empty.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }

    /// Whether something happens that does so one time in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    /// From 1 to `most`: how many peers there are, say. [`check`](super::check) draws fewer to make
    /// a failing run small.
    pub fn count(&mut self, most: u64) -> u64 {
        let drawn = 1 + self.roll(most.max(1));
        self.drawn.0 = self.drawn.0.max(drawn);
        drawn.min(self.plan.count)
    }

    /// From 0 to `most`, and often a boundary: how many bytes are sent, say.
    /// [`check`](super::check) draws fewer to make a failing run small.
    pub fn size(&mut self, most: usize) -> usize {
        let most = most as u64;
        let drawn = match self.roll(8) {
            0 => 0,
            1 => 1,
            2 => most,
            3 => 1 << self.roll(u64::from(most.max(1).ilog2()) + 1),
            4 => (1 << self.roll(u64::from(most.max(1).ilog2()) + 1)) + 1,
            _ => self.roll(most + 1),
        };
        let drawn = drawn.min(most);
        self.drawn.1 = self.drawn.1.max(drawn);
        drawn.min(self.plan.size) as usize
    }

    /// Switches the trace on or off. It has a line for each turn of a host in which something
    /// happens, each event that its poll brings, each call that opens, moves or ends something and
    /// its answer, each callback and what it consumes, each fault before the line that it shows in,
    /// and for what the network and the peers do meanwhile. Of what is read and written it shows
    /// the first 30 bytes. `h0` is the first host; `c0.0` and `c0.1` are the ends of the first
    /// connection, of which the first has dialled; `l0` is a listener, `u0` a UDP socket. The last
    /// 100,000 lines are kept.
    pub fn trace(&mut self, on: bool) {
        self.net.trace(on);
    }

    /// Adds a line of the test's own to the trace: what it looks at, or is about to do.
    pub fn note(&mut self, text: impl fmt::Display) {
        self.net.note(text);
    }

    /// What was traced so far.
    #[must_use]
    pub fn traced(&self) -> String {
        self.net.traced()
    }
}
