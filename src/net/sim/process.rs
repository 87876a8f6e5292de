//! Processes: a reactor runs in each.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::listener::Listening;
use super::poller::{Poller, Polling};
use super::udp::is_many;
use super::watch::Target;
use super::{Net, Owner, State, System, wait};

/// A process, inside: a poller, and limits.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) poller: Polling,
    /// Its host's addresses; none: whatever it binds to is one of them.
    pub(super) addresses: Vec<IpAddr>,
    /// Addresses that it has bound sockets to, in that order: its own as well, where it has no
    /// others.
    pub(super) bound: Vec<IpAddr>,
    /// How many sockets it may have, and how many it has.
    pub(super) descriptors: usize,
    pub(super) used: usize,
    /// The first and the last port that it dials from.
    pub(super) ports: (u16, u16),
    /// Its wait was ended for another process' sake. It would end by itself then, if at any time.
    pub(super) parked: Option<wait::Parked>,
    /// Until when its turn may wait.
    pub(super) may_wait_until: Option<Duration>,
    /// Its last wait found nothing for as long as its turn might wait, and no signal ended it.
    pub(super) slept: bool,
    /// It has a system still.
    pub(super) alive: bool,
}

/// What the system is like that one reactor runs on.
#[derive(Clone)]
pub struct Process {
    net: Net,
    id: u32,
}

impl Net {
    /// A process with this poller.
    pub(crate) fn process(&self, poller: Poller) -> Process {
        let mut state = self.state();
        let ports = state.settings.ports;
        state.processes.push(Host {
            poller: Polling::new(poller),
            addresses: Vec::new(),
            bound: Vec::new(),
            descriptors: usize::MAX,
            used: 0,
            ports,
            parked: None,
            may_wait_until: None,
            slept: false,
            alive: true,
        });
        Process {
            net: self.clone(),
            id: (state.processes.len() - 1) as u32,
        }
    }
}

impl State {
    /// Takes note of an address that a socket is bound to: it is its holder's.
    pub(super) fn note_bound(&mut self, owner: Owner, ip: IpAddr) {
        self.hosts.add(ip);
        let many = ip.is_loopback() || is_many(ip);
        if let (Owner::Process(process), false) = (owner, many) {
            let bound = &mut self.processes[process as usize].bound;
            if !bound.contains(&ip) {
                bound.push(ip);
            }
        }
    }

    /// The addresses that a process has for its own.
    pub(super) fn own_addresses(&self, owner: Owner) -> &[IpAddr] {
        let Owner::Process(process) = owner else {
            return &[];
        };
        let process = &self.processes[process as usize];
        match process.addresses.is_empty() {
            true => &process.bound,
            false => &process.addresses,
        }
    }

    /// The address that a process dials `to` from, unless it is told one.
    pub(super) fn source_to(&self, owner: Owner, to: IpAddr) -> IpAddr {
        let own = self.own_addresses(owner);
        let same = own.iter().find(|own| own.is_ipv4() == to.is_ipv4());
        same.copied().unwrap_or(match to {
            IpAddr::V4(_) => Ipv4Addr::new(10, 0, 255, 1).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
        })
    }
}

/// The addresses that hosts have had.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    had: BTreeSet<IpAddr>,
}

impl Hosts {
    /// Somebody has this address. The unspecified one stands for all.
    pub(super) fn add(&mut self, ip: IpAddr) {
        self.had.insert(ip.to_canonical());
    }

    /// Makes sure that somebody has had `ip`.
    ///
    /// # Errors
    /// Nobody has; the words say who is there.
    fn check(&self, ip: IpAddr) -> Result<(), String> {
        let any = self.had.iter().any(IpAddr::is_unspecified);
        if any || self.had.contains(&ip.to_canonical()) {
            return Ok(());
        }
        let had: Vec<String> = self.had.iter().map(IpAddr::to_string).collect();
        let had = match had.is_empty() {
            true => "none so far".to_owned(),
            false => had.join(", "),
        };
        Err(format!(
            "no host has the address {ip} (those that hosts have: {had}); a host has those that it \
             listens at or has dialled from, or was given by `Process::addresses`"
        ))
    }
}

impl Net {
    /// Whether any process is there.
    pub(crate) fn has_processes(&self) -> bool {
        !self.state().processes.is_empty()
    }

    /// The processes that have events and are none of `turned`, and what those are.
    pub(crate) fn busy_but(&self, turned: &[u32]) -> Vec<(u32, String)> {
        let mut state = self.state();
        let all = 0..state.processes.len() as u32;
        let others = all.filter(|process| !turned.contains(process));
        others
            .filter(|process| state.processes[*process as usize].alive)
            .collect::<Vec<_>>()
            .into_iter()
            .filter_map(|process| Some((process, state.busy_with(process)?)))
            .collect()
    }

    /// The listeners of processes at which somebody waits, though no event is to tell of it.
    pub(crate) fn unserved(&self) -> Vec<String> {
        let mut state = self.state();
        let mut unserved = Vec::new();
        for id in 0..state.listeners.len() as u32 {
            let waits = |one: &mut Listening| (!one.queue.is_empty()).then_some(one.owner);
            if let Some(Owner::Process(process)) = state.listener(id).and_then(waits)
                && state.processes[process as usize].alive
                && !state.has_ready(process)
            {
                unserved.push(Target::Listener(id).to_string());
            }
        }
        unserved
    }

    /// Makes sure that somebody has had `ip`.
    ///
    /// # Errors
    /// Nobody has; the words say who is there.
    pub(crate) fn check_host(&self, ip: IpAddr) -> Result<(), String> {
        self.state().hosts.check(ip)
    }
}

/// In a line: `Process(h0, 3 sockets)`.
impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process(h{}, {} sockets)", self.id, self.sockets())
    }
}

impl Process {
    /// What its reactor takes for the system.
    ///
    /// # Errors
    /// When no pipe can be had, a descriptor of which stands in for the poller's.
    pub(crate) fn system(&self) -> io::Result<System> {
        System::new(self.net.clone(), self.id)
    }

    /// Adds a line to the trace: what it does or is told, the socket that it's about, by the token
    /// that this was registered with, and what more there is to say.
    pub(crate) fn note(&self, what: &str, of: Option<usize>, more: impl FnOnce() -> String) {
        self.net.state().note(self.id, what, of, more);
    }

    /// Takes note that it begins a turn, which may wait for so long.
    pub(crate) fn note_turn(&self, timeout: Option<Duration>) {
        let mut state = self.net.state();
        let until = timeout.map(|timeout| state.now.saturating_add(timeout));
        state.processes[self.id as usize].may_wait_until = until;
        state.idle.begun = true;
        state.trace_turn(self.id, timeout);
    }

    /// Whether it's a process of this network.
    pub(crate) fn is_in(&self, net: &Net) -> bool {
        Arc::ptr_eq(&self.net.0, &net.0)
    }

    /// Takes note that the test is told of an error.
    pub(crate) fn note_error(&self) {
        self.net.forgive();
    }

    /// As the trace calls it, after an `h`.
    pub(crate) fn number(&self) -> u32 {
        self.id
    }

    /// What it's busy with: the sockets that its poll has events of, or its waker.
    pub(crate) fn busy_with(&self) -> Option<String> {
        self.net.state().busy_with(self.id)
    }

    /// Whether its poll would bring an event at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.net.state().has_ready(self.id)
    }

    /// Whether its last wait found nothing for as long as its turn might wait.
    pub(crate) fn slept(&self) -> bool {
        self.net.state().processes[self.id as usize].slept
    }

    /// Whether its last wait was ended for another's sake, and would last still.
    pub(crate) fn would_wait(&self) -> bool {
        let state = self.net.state();
        let parked = state.processes[self.id as usize].parked;
        parked.is_some_and(|parked| parked.lasts_beyond(state.now))
    }

    /// How many sockets it may have open: listeners, connections and UDP sockets together
    /// (`RLIMIT_NOFILE`). As many as it likes, by default.
    pub fn descriptors(&self, most: usize) {
        self.net.state().processes[self.id as usize].descriptors = most;
    }

    /// How many sockets it has open.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.net.state().processes[self.id as usize].used
    }

    /// The ports that it dials from, where it's not told one: 32,768 to 60,999 by default.
    pub fn ports(&self, ports: Range<u16>) {
        let last = ports.end.saturating_sub(1).max(ports.start);
        self.net.state().processes[self.id as usize].ports = (ports.start, last);
    }

    /// Its host's own addresses, from whose first one it dials. It can bind to no others. Until it
    /// is told some, it can bind to every address, and dials from the first one that it has bound
    /// a socket to. One that has bound to none, or only to all of its host's (`0.0.0.0`), dials
    /// from 10.0.255.1 or fd00::1, as all such do.
    pub fn addresses(&self, addresses: &[IpAddr]) {
        let mut state = self.net.state();
        addresses.iter().for_each(|ip| state.hosts.add(*ip));
        state.processes[self.id as usize].addresses = addresses.to_vec();
    }

    /// It stands still for so long, as after SIGSTOP: all that happens meanwhile it finds when it
    /// goes on. So do all others: only one of them runs at a time.
    pub fn stand_still(&self, time: Duration) {
        self.net.advance(time);
    }
}
