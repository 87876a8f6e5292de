//! The world of one run.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use crate::handler::Handler;
use crate::limits::Limits;
use crate::net::sim::{Fault, Listener, Net, Peer, Poller, Random, Sleep, UdpPeer};
use crate::reactor::Turn;

use super::host::Turned;
use super::plan::{Cap, Plan};
use super::{Host, Hosts};

/// Turns in a row that may neither wait nor move anything, before that is called a spin.
const SPIN: u32 = 1000;
/// Turns in a row, over whatever time, that may find no event, move nothing and call nobody.
const NAPS: u32 = 1000;
/// As many more for each connection: a deadline that has been put off is looked at in vain a few
/// times.
const LOOKS: u32 = 8;
/// Longer than any pause that the library makes by itself.
const PAUSES: Duration = Duration::from_secs(2);
/// Simulated time that [`World::settle`] may take.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A simulated network, its clock, and the hosts in it; see the [module](super).
pub struct World {
    net: Net,
    plan: Plan,
    /// What the test draws: apart from the network's chance, so that a fault that is left out
    /// changes nothing else.
    chance: Random,
    poller: Poller,
    /// The most that `count` and `size` would have drawn without a cap.
    drawn: (u64, u64),
    /// Hosts that don't sleep, by their places: kept, to be filled anew at each step.
    due: Vec<usize>,
    /// Turns in a row that did nothing, and what had been done by the last one.
    naps: u32,
    activity: u64,
}

/// Fails the test for what nobody was told: expectations that are unmet, or have failed. A world
/// that was settled in the end has none.
impl Drop for World {
    #[allow(clippy::panic)] // A test must not pass that has expected something else.
    fn drop(&mut self) {
        if !thread::panicking()
            && let Some(why) = self.net.untold()
        {
            panic!("{why}, and the test was over");
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

    pub(super) fn net(&self) -> &Net {
        &self.net
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
    pub fn unleash(&mut self) {
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
    pub fn connect(&mut self, to: SocketAddr) -> Peer {
        self.net.connect_peer(to)
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

    /// Turns `hosts` until nothing moves any more: no byte is on its way that anybody waits for, no
    /// peer has anything to do, and no host has. Deadlines of hosts that come meanwhile do what
    /// they do; those that are still to come don't make it last longer.
    ///
    /// # Errors
    /// What a turn gives. `Other`: a host spins (it's turned again and again, and moves nothing),
    /// has gone to sleep with work to do, or wakes again and again for nothing; a peer has read
    /// something else than it expects ([`Peer::expect`]), or still waits for it when nothing moves
    /// any more; or the world doesn't come to rest within a simulated day.
    pub fn settle<T: Hosts + ?Sized>(&mut self, hosts: &mut T) -> io::Result<()> {
        self.rest(&mut hosts.hosts())?;
        match self.net.unmet() {
            Some(unmet) => Err(io::Error::other(format!(
                "nothing moves any more, but {unmet}"
            ))),
            None => Ok(()),
        }
    }

    /// Turns `hosts` until nothing moves any more, whatever peers wait for.
    fn rest(&mut self, hosts: &mut [&mut dyn Turned]) -> io::Result<()> {
        let end = self.now() + LONGEST;
        while self.step_of(hosts, None)? {
            if self.now() > end {
                let why = "the world does not come to rest within a simulated day";
                let why = format!("{why}{}", self.who_is_busy(hosts));
                return Err(io::Error::other(why));
            }
        }
        Ok(())
    }

    /// Turns `hosts` for `time`, whatever moves, and until nothing is left to be done at its end.
    ///
    /// # Errors
    /// As [`World::settle`], but a peer may still wait for what it expects.
    pub fn advance<T: Hosts + ?Sized>(&mut self, hosts: &mut T, time: Duration) -> io::Result<()> {
        let (hosts, end) = (&mut hosts.hosts(), self.now() + time);
        while self.step_of(hosts, Some(end))? {}
        Ok(())
    }

    /// Ends all faults and partitions ([`World::calm`]) and turns `hosts` until they have got over
    /// them: until nothing moves, for two seconds more, and until nothing moves again. A listener
    /// that had no descriptor, or no memory, tries again within a second. Shorter deadlines of the
    /// test's own come meanwhile.
    ///
    /// # Errors
    /// As [`World::settle`].
    pub fn recover<T: Hosts + ?Sized>(&mut self, hosts: &mut T) -> io::Result<()> {
        self.calm();
        self.rest(&mut hosts.hosts())?;
        self.advance(hosts, PAUSES)?;
        self.settle(hosts)
    }

    /// Turns `hosts` until `done` says so, which is lent them.
    ///
    /// ```
    /// # use oread::sim::World;
    /// # use oread::{Echo, EchoOptions, Limits, ListenOptions};
    /// # fn main() -> std::io::Result<()> {
    /// # let mut world = World::new(7);
    /// # let mut host = world.host(Echo::new(EchoOptions::default()), Limits::default())?;
    /// # let address = ([10, 0, 0, 1], 7).into();
    /// # host.context().listen(&ListenOptions::new(address))?;
    /// let peer = world.connect(address);
    /// world.until(&mut host, |host| host.context().stats().open == 1)?;
    /// peer.send(b"hello");
    /// world.until(&mut host, |_| peer.received() == b"hello")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`World::settle`]. `TimedOut`: it's not done after a simulated day.
    pub fn until<T: Hosts + ?Sized>(
        &mut self,
        hosts: &mut T,
        mut done: impl FnMut(&mut T) -> bool,
    ) -> io::Result<()> {
        let end = self.now() + LONGEST;
        while !done(hosts) {
            if !self.step(hosts, Some(end))? || self.now() > end {
                let why = "what the test waits for does not happen within a simulated day";
                let mut why = format!("{why}{}", self.who_is_busy(&hosts.hosts()));
                if let Some(unmet) = self.net.unmet() {
                    why += &format!("; {unmet}");
                }
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        Ok(())
    }

    /// One turn of one of `hosts`, or, when all of them sleep, a step of the network: for a test
    /// that looks at what must hold after each. A host is turned as by a loop of its own: it sleeps
    /// in its poll until that has events, or for as long as
    /// [`next_timeout`](crate::Reactor::next_timeout) says. False when nothing is left to do: up to
    /// `end` of [`World::now`], or, without one, until only deadlines of hosts are left.
    ///
    /// # Errors
    /// As [`World::settle`].
    pub fn step<T: Hosts + ?Sized>(
        &mut self,
        hosts: &mut T,
        end: Option<Duration>,
    ) -> io::Result<bool> {
        self.step_of(&mut hosts.hosts(), end)
    }

    /// A step, in which every peer reads what it expects.
    fn step_of(
        &mut self,
        hosts: &mut [&mut dyn Turned],
        end: Option<Duration>,
    ) -> io::Result<bool> {
        let more = self.turn_or_move(hosts, end)?;
        match self.net.take_mismatch() {
            Some(why) => Err(io::Error::other(why)),
            None => Ok(more),
        }
    }

    fn turn_or_move(
        &mut self,
        hosts: &mut [&mut dyn Turned],
        end: Option<Duration>,
    ) -> io::Result<bool> {
        let now = self.now();
        self.due.clear();
        let mut wakes = None;
        let live = hosts.iter().enumerate();
        for (n, host) in live.filter(|(_, host)| !host.has_drained()) {
            let timeout = host.next_timeout();
            // A host that sleeps is left alone: a turn more could make up for a wake-up that it
            // has lost.
            match host.sleeps() && timeout != Some(Duration::ZERO) {
                true => wakes = [wakes, timeout].into_iter().flatten().min(),
                false => self.due.push(n),
            }
        }
        let (network, end) = (self.net.next_event(), end.map(|end| end.max(now)));
        let wakes = wakes.map(|timeout| now + timeout);
        // Without an end, deadlines count only as long as something else is still to come.
        let bound = match end {
            Some(_) => [network, wakes, end].into_iter().flatten().min(),
            None => network.map(|at| wakes.map_or(at, |wakes| wakes.min(at))),
        };
        if self.due.is_empty() {
            let Some(at) = bound.filter(|at| *at > now || network == bound) else {
                return Ok(false);
            };
            self.net.advance_to(at.max(now));
            return Ok(true);
        }
        let turned = self.due[self.chance.below(self.due.len() as u64) as usize];
        // Whoever else is due runs at this instant too, before time moves.
        self.net.sleep(match (self.due.len(), end) {
            (1, Some(_)) => Sleep::ToItsEnd,
            (1, None) => Sleep::UntilRest,
            _ => Sleep::NotAtAll,
        });
        let turn = hosts[turned].turn(Some(bound.map_or(LONGEST, |at| at.saturating_sub(now))));
        self.net.sleep(Sleep::ToItsEnd);
        self.note_turn(hosts[turned], &turn?)?;
        self.no_spin(hosts).map(|()| true)
    }

    /// Looks whether a host slept when it should not have, or woke for nothing.
    fn note_turn(&mut self, host: &dyn Turned, turn: &Turn) -> io::Result<()> {
        if host.has_overslept() {
            let id = host.process().number();
            let why = format!("h{id} went to sleep with work to do, and would sleep on");
            return Err(io::Error::other(why));
        }
        if host.sleeps() && host.next_timeout() != Some(Duration::ZERO) {
            self.net.forget_idle_turns();
        }
        let activity = self.net.activity();
        self.naps = match turn.events == 0 && activity == self.activity {
            true => self.naps + 1,
            false => 0,
        };
        self.activity = activity;
        if self.naps < NAPS || self.naps < NAPS + LOOKS * self.net.connections() as u32 {
            return Ok(());
        }
        let why = format!(
            "{} turns in a row have found no event, moved nothing and called nobody: h{} wakes \
             for nothing",
            self.naps,
            host.process().number()
        );
        Err(io::Error::other(why))
    }

    /// Looks whether the turns at this instant move anything.
    fn no_spin(&mut self, hosts: &[&mut dyn Turned]) -> io::Result<()> {
        if self.net.idle_turns() < SPIN {
            return Ok(());
        }
        let busy = self.who_is_busy(hosts);
        let why = format!(
            "{SPIN} turns in a row have moved nothing and waited for nothing: a host spins{busy}"
        );
        Err(io::Error::other(why))
    }

    /// What an error adds about hosts that have something to do, and what that is; and about those
    /// that are not turned and would have.
    fn who_is_busy(&self, hosts: &[&mut dyn Turned]) -> String {
        let mut busy = String::new();
        let mut turned = Vec::new();
        for host in hosts.iter().filter(|host| !host.has_drained()) {
            let id = host.process().number();
            turned.push(id);
            if let Some(with) = host.process().busy_with() {
                busy += &format!("; h{id} has events of {with}");
            } else if host.next_timeout() == Some(Duration::ZERO) {
                busy += &format!("; h{id} wants another turn at once, with no event");
            }
        }
        for (id, with) in self.net.busy_but(&turned) {
            busy += &format!("; h{id} has events of {with}, and is not among the hosts turned");
        }
        busy
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

    /// What was traced so far.
    #[must_use]
    pub fn traced(&self) -> String {
        self.net.traced()
    }
}
