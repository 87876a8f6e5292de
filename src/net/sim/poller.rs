//! The three ways in which systems tell what is ready.
//!
//! - epoll, edge-triggered: an arrival puts the socket on the list; what is told is the state at
//!   the time the list is read, for everything that the socket was registered for.
//! - kqueue with `EV_CLEAR`: reading and writing are two events, in any order and any batch.
//! - mio's poll(2): what holds is told, once; then the interest is gone until a "not now" passes
//!   through mio, which brings back all interests of the socket. A hang-up or an error deregisters.

use std::collections::{BTreeMap, VecDeque};

use super::faults::Fault;
use super::schedule::What;
use super::tcp::Phase;
use super::watch::{BOTH, READ, Registration, Side, Target, WRITE, Watch, flag};
use super::{Owner, State};
use crate::readiness::Readiness;

/// Which poller a process has, and with it which system: kqueue's sockets are BSD's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Poller {
    /// Linux' epoll, by edges.
    #[default]
    Epoll,
    /// BSD's and Apple's kqueue, with `EV_CLEAR`.
    Kqueue,
    /// Linux, by mio's poll(2) backend.
    Poll2,
}

/// The poller of one process.
#[derive(Debug, Default)]
pub(super) struct Polling {
    pub(super) model: Poller,
    /// Whose news are to be looked at.
    ready: VecDeque<Target>,
    /// All that is registered.
    pub(super) watched: BTreeMap<usize, Target>,
    pub(super) waker: Option<usize>,
    pub(super) woken: bool,
}

impl Polling {
    pub(super) fn new(model: Poller) -> Polling {
        Polling {
            model,
            ..Polling::default()
        }
    }
}

impl State {
    /// Registers `target`. What holds already is told.
    pub(super) fn watch(&mut self, process: u32, target: Target, token: usize, interest: u8) {
        let registration = Registration {
            process,
            token,
            interest,
            armed: interest,
            pending: 0,
        };
        self.poller(process).watched.insert(token, target);
        if let Some(watch) = self.watch_of(target) {
            *watch = Watch::On(registration);
        }
        self.queue(target, BOTH);
    }

    /// Forgets the registration of `target`; false: there is none.
    pub(super) fn unwatch(&mut self, target: Target) -> bool {
        let Some(watch) = self.watch_of(target) else {
            return false;
        };
        let was = std::mem::replace(watch, Watch::None);
        if let Watch::On(registration) = was {
            let poller = self.poller(registration.process);
            poller.watched.remove(&registration.token);
        }
        was != Watch::None
    }

    pub(super) fn watch_of(&mut self, target: Target) -> Option<&mut Watch> {
        match target {
            Target::Stream(side) => self.end(side).map(|end| &mut end.watch),
            Target::Listener(id) => self.listener(id).map(|listener| &mut listener.watch),
            Target::Udp(id) => self.udp_socket(id).map(|socket| &mut socket.watch),
        }
    }

    fn poller(&mut self, process: u32) -> &mut Polling {
        &mut self.processes[process as usize].poller
    }

    /// There is news of `target`: an event comes of it, now or a little later.
    pub(super) fn poke(&mut self, target: Target, what: u8) {
        if let Target::Stream(side) = target {
            self.poke_peer(side);
        }
        let is_watched = |watch: &mut Watch| matches!(watch, Watch::On(_));
        if self.watch_of(target).is_some_and(is_watched) && self.faults.hit(Fault::EventLate) {
            let late = 1 + self.faults.below(Fault::EventLate, 200_000);
            let at = self.now + std::time::Duration::from_nanos(late);
            self.schedule.at(at, What::Poke(target, what));
            return;
        }
        self.queue(target, what);
    }

    /// A scripted peer looks at its socket.
    pub(super) fn poke_peer(&mut self, side: Side) {
        if let Some(end) = self.end(side)
            && let Owner::Peer(peer) = end.owner
        {
            self.pumps.push(peer);
        }
    }

    /// Puts `target` on the list of its process.
    pub(super) fn queue(&mut self, target: Target, what: u8) {
        let Some(Watch::On(registration)) = self.watch_of(target) else {
            return;
        };
        let process = registration.process;
        let was = registration.pending;
        registration.pending |= what;
        if was == 0 {
            self.poller(process).ready.push_back(target);
        }
    }

    /// An operation on `target` has said "not now": with poll(2), mio arms all interests again, or
    /// finds that the descriptor is gone. True: the answer is "not found".
    pub(super) fn rearm(&mut self, target: Target) -> bool {
        let Some(watch) = self.watch_of(target) else {
            return false;
        };
        match watch {
            Watch::Dropped => return true,
            Watch::On(registration) => registration.armed = registration.interest,
            Watch::None => return false,
        }
        let Some(Watch::On(registration)) = self.watch_of(target).copied() else {
            return false;
        };
        if self.poller(registration.process).model == Poller::Poll2 {
            self.queue(target, BOTH);
        }
        false
    }

    /// Whether a wait of `process` would bring an event at once.
    pub(super) fn has_ready(&mut self, process: u32) -> bool {
        let model = self.poller(process).model;
        if self.poller(process).woken {
            return true;
        }
        // Who is on the list for nothing leaves it here.
        while let Some(target) = self.poller(process).ready.front().copied() {
            if self.is_worth_telling(process, target, model) {
                return true;
            }
            self.poller(process).ready.pop_front();
        }
        false
    }

    /// What an event of `process` is about, if there is one.
    pub(super) fn busy_with(&mut self, process: u32) -> Option<String> {
        if !self.has_ready(process) {
            return None;
        }
        let poller = self.poller(process);
        if poller.woken {
            return Some("its waker (a message of a Handle)".to_owned());
        }
        poller.ready.front().map(Target::to_string)
    }

    fn is_worth_telling(&mut self, process: u32, target: Target, model: Poller) -> bool {
        let Some(Watch::On(registration)) = self.watch_of(target).copied() else {
            return false;
        };
        let told = if model == Poller::Kqueue {
            let read = registration.pending & READ != 0 && self.filter(target, READ).is_some();
            read || registration.pending & WRITE != 0 && self.filter(target, WRITE).is_some()
        } else {
            registration.pending != 0 && self.told(target, registration, model) != 0
        };
        if !told && registration.process == process {
            self.set_pending(target, 0);
        }
        told
    }

    fn set_pending(&mut self, target: Target, what: u8) {
        if let Some(Watch::On(registration)) = self.watch_of(target) {
            registration.pending = what;
        }
    }

    /// Takes up to `limit` events of `process`. poll(2) brings all there are.
    pub(super) fn collect(
        &mut self,
        process: u32,
        limit: usize,
        events: &mut Vec<(usize, Readiness)>,
    ) {
        let model = self.poller(process).model;
        let limit = match model {
            Poller::Poll2 => usize::MAX,
            _ => limit,
        };
        // A waker is a source like the others: its event may be the last, or wait for another
        // batch.
        let waker_first = self.random.one_in(2);
        if waker_first {
            self.tell_waker(process, limit, events);
        }
        // Those that are told in parts come again, but not in this batch.
        let mut left = self.poller(process).ready.len();
        while left > 0 && events.len() < limit {
            left -= 1;
            let place = match model {
                Poller::Kqueue => self.random.below(left as u64 + 1) as usize,
                _ => 0,
            };
            let poller = &mut self.processes[process as usize].poller;
            poller.ready.swap(0, place);
            let Some(target) = poller.ready.pop_front() else {
                return;
            };
            let Some(Watch::On(registration)) = self.watch_of(target).copied() else {
                continue;
            };
            match model {
                Poller::Kqueue => self.tell_filters(target, registration, limit, events),
                _ => self.tell_flags(target, registration, model, events),
            }
        }
        self.tell_waker(process, limit, events);
    }

    fn tell_waker(&mut self, process: u32, limit: usize, events: &mut Vec<(usize, Readiness)>) {
        let poller = self.poller(process);
        if poller.woken && events.len() < limit {
            poller.woken = false;
            if let Some(token) = poller.waker {
                events.push((token, Readiness::READABLE));
            }
        }
    }

    /// epoll and poll(2): one event with all that holds.
    fn tell_flags(
        &mut self,
        target: Target,
        registration: Registration,
        model: Poller,
        events: &mut Vec<(usize, Readiness)>,
    ) {
        self.set_pending(target, 0);
        if registration.pending == 0 {
            return;
        }
        let mut told = self.told(target, registration, model);
        if told == 0 {
            return;
        }
        if model == Poller::Poll2 {
            if told & flag::ERR != 0 && told & flag::HUP != 0 && self.faults.hit(Fault::EventSplit)
            {
                told = self.told_before_the_hang_up(target, registration);
            }
            if told & (flag::HUP | flag::ERR) != 0 {
                self.unwatch(target);
                if let Some(watch) = self.watch_of(target) {
                    *watch = Watch::Dropped;
                }
            } else if let Some(Watch::On(registration)) = self.watch_of(target) {
                registration.armed &= !told;
            }
        } else if told.count_ones() > 1 && self.faults.hit(Fault::EventSplit) {
            // As if the rest had come right after the first was told.
            let kept = told & (self.faults.below(Fault::EventSplit, 63) as u8 + 1);
            if kept != 0 && kept != told {
                told = kept;
                self.queue(target, BOTH);
            }
        }
        events.push((registration.token, readiness(told, model)));
    }

    /// kqueue: an event for each filter. All that are active come in one batch as long as it has
    /// room (FreeBSD's `kqueue_scan` and Apple's go through their whole list before they return).
    fn tell_filters(
        &mut self,
        target: Target,
        registration: Registration,
        limit: usize,
        events: &mut Vec<(usize, Readiness)>,
    ) {
        let order = match self.random.one_in(2) {
            true => [READ, WRITE],
            false => [WRITE, READ],
        };
        let (mut later, mut told) = (0, false);
        for filter in order {
            if registration.pending & filter == 0 {
                continue;
            }
            // With a fault: as if the second had come right after the first was told.
            if events.len() >= limit || (told && self.faults.hit(Fault::EventSplit)) {
                later |= filter;
            } else if let Some(readiness) = self.filter(target, filter) {
                events.push((registration.token, readiness));
                told = true;
            }
        }
        self.set_pending(target, 0);
        if later != 0 {
            self.queue(target, later);
        }
    }

    /// What epoll or poll(2) would say of `target`.
    fn told(&mut self, target: Target, registration: Registration, model: Poller) -> u8 {
        let wanted = match model {
            Poller::Poll2 => registration.armed,
            _ => registration.interest,
        };
        self.flags(target) & (wanted | flag::ERR | flag::HUP)
    }

    /// What poll(2) says of a connection that has failed, as long as its error is set and nothing
    /// else yet: Linux sets that first (`tcp_done_with_error`), and `tcp_poll` takes no lock.
    fn told_before_the_hang_up(&mut self, target: Target, registration: Registration) -> u8 {
        let Target::Stream(side) = target else {
            return 0;
        };
        self.stream_flags(side, false) & (registration.armed | flag::ERR)
    }

    /// The state of `target`, in poll(2)'s flags.
    fn flags(&mut self, target: Target) -> u8 {
        match target {
            Target::Stream(side) => {
                let over = |end: &mut super::tcp::End| end.phase == Phase::Over;
                let over = self.end(side).is_some_and(over);
                self.stream_flags(side, over)
            }
            Target::Listener(id) => {
                let waits = |l: &mut super::listener::Listening| !l.queue.is_empty();
                set(self.listener(id).is_some_and(waits), flag::IN)
            }
            Target::Udp(id) => self.udp_socket(id).map_or(0, |socket| {
                set(!socket.queue.is_empty(), flag::IN)
                    | set(socket.error.is_some(), flag::ERR)
                    | set(!socket.full, flag::OUT)
            }),
        }
    }

    /// Linux' `tcp_poll`, of a connection that is `over` or not.
    fn stream_flags(&mut self, side: Side, over: bool) -> u8 {
        let now = self.now;
        let Some(connection) = self.connection(side.connection) else {
            return 0;
        };
        let end = &connection.ends[usize::from(side.end)];
        let (shut, finished) = (end.shut || over, end.finished || over);
        let mut flags = set(shut && finished, flag::HUP)
            | set(finished, flag::IN | flag::RDHUP)
            | set(end.error.is_some(), flag::ERR);
        if matches!(end.phase, Phase::Dialing | Phase::Answering) {
            return flags;
        }
        let input = &connection.ways[usize::from(1 - side.end)];
        let at_mark = input.urgent == Some(input.read);
        let least = if at_mark { 2 } else { 1 };
        let arrived = now >= end.full_until && input.available() >= least;
        flags |= set(arrived, flag::IN);
        flags |= set(input.urgent.is_some(), flag::PRI);
        let output = &mut connection.ways[usize::from(side.end)];
        if shut || output.is_writable() {
            flags |= flag::OUT;
        } else {
            // Whoever was told that there is no room is told when there is.
            output.no_space = true;
        }
        flags
    }

    /// What kqueue's filter says of `target`; `None`: nothing.
    fn filter(&mut self, target: Target, filter: u8) -> Option<Readiness> {
        let is = |set: bool, flag| if set { flag } else { Readiness::EMPTY };
        let now = self.now;
        match target {
            Target::Stream(side) => {
                let connection = self.connection(side.connection)?;
                let end = &connection.ends[usize::from(side.end)];
                let over = end.phase == Phase::Over;
                let error = end.error.is_some();
                if filter == READ {
                    let eof = end.finished || over;
                    let input = &connection.ways[usize::from(1 - side.end)];
                    let arrived = now >= end.full_until && input.available() > 0;
                    // Nothing tells of urgent data: what the library makes of any event to read.
                    (eof || error || arrived).then_some(
                        Readiness::READABLE
                            | Readiness::PRIORITY
                            | is(eof, Readiness::READ_CLOSED)
                            | is(eof && error, Readiness::ERROR),
                    )
                } else {
                    let eof = end.shut || over;
                    let output = &connection.ways[usize::from(side.end)];
                    let room = output.has_low_water();
                    let connected = !matches!(end.phase, Phase::Dialing | Phase::Answering);
                    (eof || error || connected && room).then_some(
                        Readiness::WRITABLE
                            | is(eof, Readiness::WRITE_CLOSED)
                            | is(eof && error, Readiness::ERROR),
                    )
                }
            }
            Target::Listener(_) | Target::Udp(_) => {
                let Watch::On(registration) = *self.watch_of(target)? else {
                    return None;
                };
                let flags = self.flags(target);
                if filter == READ {
                    let ready = flags & (flag::IN | flag::ERR) != 0;
                    return ready.then_some(Readiness::READABLE);
                }
                let ready = flags & registration.interest & flag::OUT != 0;
                ready.then_some(Readiness::WRITABLE)
            }
        }
    }
}

fn set(on: bool, flags: u8) -> u8 {
    if on { flags } else { 0 }
}

/// What mio makes of the flags.
fn readiness(flags: u8, model: Poller) -> Readiness {
    let has = |all: u8| flags & all == all;
    let any = |some: u8| flags & some != 0;
    let is = |set: bool, flag| if set { flag } else { Readiness::EMPTY };
    // epoll's mio wants both; poll(2)'s is content with the one.
    let half_closed = match model {
        Poller::Poll2 => any(flag::RDHUP),
        _ => has(flag::IN | flag::RDHUP),
    };
    let broken = has(flag::OUT | flag::ERR) || flags == flag::ERR;
    is(any(flag::IN | flag::PRI), Readiness::READABLE)
        | is(any(flag::OUT), Readiness::WRITABLE)
        | is(any(flag::HUP) || half_closed, Readiness::READ_CLOSED)
        | is(any(flag::HUP) || broken, Readiness::WRITE_CLOSED)
        | is(any(flag::ERR), Readiness::ERROR)
        | is(any(flag::PRI), Readiness::PRIORITY)
}
