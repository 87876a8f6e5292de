//! Turning hosts in their world, and what is found meanwhile.

use std::io;
use std::time::Duration;

use crate::net::sim::Sleep;
use crate::reactor::Turn;

use super::host::Turned;
use super::{Hosts, World};

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

impl World {
    /// Turns `hosts` until nothing moves any more: no byte is on its way that anybody waits for, no
    /// peer has anything to do, and no host has. Deadlines of hosts that come meanwhile do what
    /// they do; those that are still to come don't make it last longer ([`World::advance`] and
    /// [`World::until`] let them come).
    ///
    /// # Errors
    /// What a turn gives. `Other`: a host spins (it's turned again and again, and moves nothing),
    /// has gone to sleep with work to do, or wakes again and again for nothing; a peer has read
    /// something else than it expects ([`Peer::expect`](super::Peer::expect)), or still waits for
    /// it when nothing moves any more; or the world doesn't come to rest within a simulated day.
    pub fn settle<T: Hosts + ?Sized>(&mut self, hosts: &mut T) -> io::Result<()> {
        let hosts = &mut hosts.hosts();
        self.rest(hosts)?;
        match self.net.unmet() {
            Some(unmet) => {
                let why = format!("nothing moves any more, but {unmet}");
                Err(self.fail(why + &self.what_may_come(hosts)))
            }
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
                return Err(self.fail(why));
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
                self.net.forgive();
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
        if hosts.iter().any(|host| !host.process().is_in(&self.net)) {
            let why = "a host is turned in another world than the one that made it";
            return Err(self.fail(why.to_owned()));
        }
        let more = self.turn_or_move(hosts, end)?;
        match self.net.take_mismatch() {
            Some(why) => Err(self.fail(why)),
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

    /// An error of the world's, which tells the test that something is wrong.
    fn fail(&self, why: String) -> io::Error {
        self.net.forgive();
        io::Error::other(why)
    }

    /// Looks whether a host slept when it should not have, or woke for nothing.
    fn note_turn(&mut self, host: &dyn Turned, turn: &Turn) -> io::Result<()> {
        if host.has_overslept() {
            let id = host.process().number();
            let why = format!("h{id} went to sleep with work to do, and would sleep on");
            return Err(self.fail(why));
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
        Err(self.fail(why))
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
        Err(self.fail(why))
    }

    /// What may still come in a world where nothing moves any more.
    fn what_may_come(&self, hosts: &[&mut dyn Turned]) -> String {
        let mut more = self.who_is_busy(hosts);
        for host in hosts.iter().filter(|host| !host.has_drained()) {
            if let Some(left) = host.next_timeout().filter(|left| !left.is_zero()) {
                let id = host.process().number();
                more += &format!(
                    "; h{id} has a deadline in {left:.1?} (advance or until lets it come)"
                );
            }
        }
        for listener in self.net.unserved() {
            more += &format!(
                "; somebody waits at {listener}, which is full or has met a fault (recover)"
            );
        }
        more
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
}
