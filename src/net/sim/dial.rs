//! Dialing, and the handshake.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::faults::Fault;
use super::schedule::What;
use super::tcp::{End, Phase};
use super::watch::{BOTH, READ, Side, Target};
use super::{Owner, State};
use crate::options::ConnectOptions;

/// How many SYNs are sent (`net.ipv4.tcp_syn_retries`: 6, and the first).
const SYNS: u32 = 7;

impl State {
    /// Begins to connect; the dialled end.
    pub(super) fn dial(
        &mut self,
        owner: Owner,
        to: SocketAddr,
        options: &ConnectOptions,
    ) -> io::Result<Side> {
        if let Some(source) = options.source {
            if source.is_ipv4() != to.is_ipv4() {
                let reason = "the source and the destination are of different address families";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
            self.check_local(owner, source.ip())?;
        }
        let bsd = self.is_bsd(owner);
        let local = self.choose_source(owner, to, options)?;
        self.hosts.add(local.ip());
        let mut end = End::new(owner, bsd, local, to);
        end.keepalive = options.keepalive;
        // Where there is no such option, nothing is set.
        end.user_timeout = options.user_timeout.filter(|_| !bsd);
        let id = self.new_connection(end);
        self.idle.moved += 1;
        self.ports.insert((local, to));
        if let Some(connection) = self.connection(id) {
            if let Some(bytes) = options.recv_buffer {
                connection.ways[1].set_receive_buffer(bytes);
            }
            if let Some(bytes) = options.send_buffer {
                connection.ways[0].send_buffer = (bytes as u64).max(2_304);
            }
        }
        Ok(Side {
            connection: id,
            end: 0,
        })
    }

    /// Our own address: as asked for, or as the way there leaves from.
    fn choose_source(
        &mut self,
        owner: Owner,
        to: SocketAddr,
        options: &ConnectOptions,
    ) -> io::Result<SocketAddr> {
        let own = self.own_addresses(owner);
        let ip = match options.source.map(|source| source.ip()) {
            Some(ip) if !ip.is_unspecified() => ip,
            _ if to.ip().is_loopback() || own.contains(&to.ip()) => to.ip(),
            _ if matches!(owner, Owner::Peer(_)) => self.address_of_peer(to),
            _ => self.source_to(owner, to.ip()),
        };
        let port = options.source.map_or(0, |source| source.port());
        if port != 0 {
            let local = SocketAddr::new(ip, port);
            return match self.ports.contains(&(local, to)) {
                true => Err(Errno::EADDRNOTAVAIL.into()),
                false => Ok(local),
            };
        }
        let (first, last) = match owner {
            Owner::Process(process) => self.processes[process as usize].ports,
            _ => self.settings.ports,
        };
        let count = u64::from(last.saturating_sub(first)) + 1;
        let start = self.random.below(count);
        for step in 0..count {
            let port = first + ((start + step) % count) as u16;
            let local = SocketAddr::new(ip, port);
            if !self.ports.contains(&(local, to)) {
                return Ok(local);
            }
        }
        Err(Errno::EADDRNOTAVAIL.into())
    }

    /// Dials for a process, with the faults of connect(2).
    pub(super) fn dial_call(
        &mut self,
        process: u32,
        to: SocketAddr,
        options: &ConnectOptions,
    ) -> io::Result<Side> {
        let at_once = [
            (Fault::ConnectNoDescriptors, Errno::EMFILE),
            (Fault::ConnectNoFiles, Errno::ENFILE),
            (Fault::ConnectNoBuffers, Errno::ENOBUFS),
            (Fault::ConnectNoMemory, Errno::ENOMEM),
            (Fault::ConnectNetUnreachable, Errno::ENETUNREACH),
            (Fault::ConnectNoPorts, Errno::EADDRNOTAVAIL),
            (Fault::ConnectForbidden, Errno::EPERM),
        ];
        for (fault, error) in at_once {
            if self.faults.hit(fault) {
                return Err(error.into());
            }
        }
        self.take_descriptor(process)?;
        let side = match self.dial(Owner::Process(process), to, options) {
            Ok(side) => side,
            Err(error) => {
                self.give_descriptor(process);
                return Err(error);
            }
        };
        let id = side.connection;
        let later = [
            (Fault::ConnectRefused, Errno::ECONNREFUSED),
            (Fault::ConnectHostUnreachable, Errno::EHOSTUNREACH),
        ];
        for (fault, error) in later {
            if self.faults.hit(fault) {
                let at = self.now + self.latency(id);
                self.schedule.at(at, What::DialFails(id, error as i32));
                return Ok(side);
            }
        }
        if self.faults.hit(Fault::ConnectTimesOut) {
            if let Some(connection) = self.connection(id) {
                connection.dialed = SYNS;
            }
            self.dial_in_vain(id);
            return Ok(side);
        }
        if self.faults.hit(Fault::ConnectAtOnce) || self.random.one_in(8) {
            self.syn_arrives(id, true);
            return Ok(side);
        }
        self.send_syn(id);
        Ok(side)
    }

    /// Sends the SYN, the first one or again.
    pub(super) fn send_syn(&mut self, id: u32) {
        let delay = self.latency(id);
        let at = self.now + delay;
        self.schedule.at(at, What::Syn(id));
    }

    /// No answer came, or none will: the SYN is sent again, or the dial fails.
    fn dial_in_vain(&mut self, id: u32) {
        let now = self.now;
        let Some(connection) = self.connection(id) else {
            return;
        };
        let end = &connection.ends[0];
        // All of them come to 127 s; a user timeout may end it before.
        let whole = Duration::from_secs(127);
        let bound = end.user_timeout.map_or(whole, |bound| bound.min(whole));
        if connection.dialed >= SYNS {
            let gone = connection.retry.saturating_sub(Duration::from_secs(1));
            let at = now + bound.saturating_sub(gone);
            self.schedule
                .at(at, What::DialFails(id, Errno::ETIMEDOUT as i32));
            return;
        }
        let wait = connection.retry;
        connection.retry *= 2;
        let spent = connection.retry - Duration::from_secs(1);
        if spent > bound {
            let left = bound.saturating_sub(wait - Duration::from_secs(1));
            let failed = What::DialFails(id, Errno::ETIMEDOUT as i32);
            self.schedule.at(now + left, failed);
        } else {
            self.schedule.at(now + wait, What::Syn(id));
        }
    }

    /// The SYN arrives, if it does. Its answer is there after a while, or `at_once`.
    pub(super) fn syn_arrives(&mut self, id: u32, at_once: bool) {
        let side = Side {
            connection: id,
            end: 0,
        };
        let lost = self.faults.hit(Fault::SynLost);
        let cut_off = self.is_cut_off(side);
        let Some(connection) = self.connection(id) else {
            return;
        };
        connection.dialed += 1;
        let (local, remote) = (connection.ends[0].local, connection.ends[0].remote);
        if connection.ends[1].phase != Phase::Over {
            return;
        }
        let gone = |ip| self.gone.contains(&ip);
        if lost || cut_off || gone(local.ip()) || gone(remote.ip()) {
            let given_up = self.end(side).is_some_and(|end| end.phase == Phase::Over);
            match given_up {
                true => self.reap(id),
                false => self.dial_in_vain(id),
            }
            return;
        }
        let Some(listener) = self.listening_at(remote) else {
            let at = self.now + self.latency(id);
            if local == remote {
                // It meets itself.
                self.schedule.at(at, What::SynAck(id));
            } else {
                self.schedule
                    .at(at, What::DialFails(id, Errno::ECONNREFUSED as i32));
            }
            return;
        };
        if self.is_full(listener) {
            self.trace(|| format!("the backlog of l{listener} is full for c{id}"));
            self.dial_in_vain(id);
            return;
        }
        self.answer(id, listener);
        if at_once {
            self.syn_ack_arrives(id);
            return;
        }
        let at = self.now + self.latency(id);
        self.schedule.at(at, What::SynAck(id));
    }

    /// The listener's system answers, and has the connection's second end from now on.
    fn answer(&mut self, id: u32, listener: u32) {
        let now = self.now;
        let Some(Some(at)) = self.listeners.get(listener as usize) else {
            return;
        };
        let (keepalive, user_timeout) = (at.keepalive, at.user_timeout);
        let (receive, send) = (at.receive_buffer, at.send_buffer);
        let bsd = self.is_bsd(at.owner);
        let Some(connection) = self.connection(id) else {
            return;
        };
        connection.listener = Some(listener);
        if let Some(bytes) = receive {
            connection.ways[0].set_receive_buffer(bytes);
        }
        if let Some(bytes) = send {
            connection.ways[1].send_buffer = (bytes as u64).max(2_304);
        }
        let end = &mut connection.ends[1];
        end.phase = Phase::Answering;
        end.bsd = bsd;
        end.closed = false;
        end.keepalive = keepalive;
        end.user_timeout = user_timeout;
        end.heard = now;
    }

    fn is_full(&mut self, listener: u32) -> bool {
        self.listener(listener)
            .is_none_or(|one| one.queue.len() > one.backlog as usize)
    }

    /// The answer to the SYN arrives: the dialled end is established.
    pub(super) fn syn_ack_arrives(&mut self, id: u32) {
        let side = Side {
            connection: id,
            end: 0,
        };
        let now = self.now;
        if self.is_cut_off(side) {
            self.schedule
                .at(now + Duration::from_secs(1), What::SynAck(id));
            return;
        }
        let Some(end) = self.end(side) else {
            return;
        };
        if end.phase == Phase::Over {
            // The caller has given up meanwhile.
            self.schedule.at(now, What::Reset(side.other()));
            return;
        }
        end.phase = Phase::Established;
        end.heard = now;
        let delay = self.latency(id);
        if let Some(way) = self.way(side) {
            way.last_arrival = now + delay;
        }
        self.schedule.at(now + delay, What::Established(id));
        self.poke(Target::Stream(side), BOTH);
        if self.faults.hit(Fault::ConnectReset) {
            self.schedule.at(now + delay, What::Reset(side));
        }
    }

    /// The handshake is done: the connection can be accepted, if there is room for it.
    pub(super) fn handshake_done(&mut self, id: u32) {
        let now = self.now;
        let side = Side {
            connection: id,
            end: 1,
        };
        let Some(connection) = self.connection(id) else {
            return;
        };
        let Some(listener) = connection.listener else {
            return;
        };
        if connection.ends[1].phase != Phase::Answering {
            return;
        }
        if self.listener(listener).is_none() {
            self.drop_waiting(side);
            return;
        }
        if self.is_full(listener) {
            // The acknowledgement is dropped; the answer comes again, and it with it.
            self.schedule
                .at(now + Duration::from_secs(1), What::Established(id));
            return;
        }
        if let Some(end) = self.end(side) {
            end.phase = Phase::Established;
            end.heard = now;
        }
        let Some(listener_now) = self.listener(listener) else {
            return;
        };
        listener_now.queue.push_back(id);
        let owner = listener_now.owner;
        self.trace(|| format!("c{id} waits at l{listener}"));
        match owner {
            Owner::Peer(server) => self.take_on(server, listener),
            _ => self.poke(Target::Listener(listener), READ),
        }
    }

    /// A dial has failed.
    pub(super) fn dial_fails(&mut self, id: u32, error: i32) {
        let side = Side {
            connection: id,
            end: 0,
        };
        match self.end(side).map(|end| end.phase) {
            Some(Phase::Dialing) => self.fail(side, Errno::from_raw(error)),
            Some(Phase::Over) => self.reap(id),
            _ => {}
        }
    }
}
