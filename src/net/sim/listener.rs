//! Listening and accepting. Dialing and the handshake are in `dial.rs`.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;

use super::faults::Fault;
use super::tcp::Phase;
use super::watch::{READ, Side, Target, Watch};
use super::{Owner, State};
use crate::options::{Keepalive, ListenOptions};

/// A listener.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) owner: Owner,
    pub(super) local: SocketAddr,
    /// As asked for; the queue takes one more (`sk_acceptq_is_full`).
    pub(super) backlog: u32,
    /// Established connections that wait.
    pub(super) queue: VecDeque<u32>,
    reuse_port: bool,
    only_v6: bool,
    pub(super) keepalive: Option<Keepalive>,
    pub(super) user_timeout: Option<Duration>,
    pub(super) receive_buffer: Option<usize>,
    pub(super) send_buffer: Option<usize>,
    pub(super) watch: Watch,
}

/// Errors of accept(2) that leave whoever waits where they are, and those that take one away.
const KEEPING: [(Fault, Errno); 4] = [
    (Fault::AcceptNoDescriptors, Errno::EMFILE),
    (Fault::AcceptNoFiles, Errno::ENFILE),
    (Fault::AcceptNoBuffers, Errno::ENOBUFS),
    (Fault::AcceptNoMemory, Errno::ENOMEM),
];
const TAKING: [(Fault, Errno); 3] = [
    (Fault::AcceptAborted, Errno::ECONNABORTED),
    (Fault::AcceptProtocol, Errno::EPROTO),
    (Fault::AcceptForbidden, Errno::EPERM),
];

/// What accept(2) passes on of a new socket's network errors.
const OF_THE_NETWORK: &[Errno] = &[
    Errno::ENETDOWN,
    Errno::ENOPROTOOPT,
    Errno::EHOSTDOWN,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Errno::ENONET,
    Errno::EHOSTUNREACH,
    Errno::EOPNOTSUPP,
    Errno::ENETUNREACH,
];

impl State {
    pub(super) fn listener(&mut self, id: u32) -> Option<&mut Listening> {
        self.listeners.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn listen(
        &mut self,
        owner: Owner,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<u32> {
        if let Owner::Process(process) = owner {
            self.take_descriptor(process)?;
            let result = self.listen_at(owner, at, options);
            if result.is_err() {
                self.give_descriptor(process);
            }
            return result;
        }
        self.listen_at(owner, at, options)
    }

    fn listen_at(
        &mut self,
        owner: Owner,
        mut local: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<u32> {
        self.check_local(owner, local.ip())?;
        if matches!(owner, Owner::Process(_)) && self.faults.hit(Fault::ListenInUse) {
            return Err(Errno::EADDRINUSE.into());
        }
        if local.port() == 0 {
            local.set_port(self.free_listening_port(local.ip())?);
        } else if self.is_taken(local, options.reuse_port) {
            return Err(Errno::EADDRINUSE.into());
        }
        let by_default = !local.ip().is_unspecified();
        self.listeners.push(Some(Listening {
            owner,
            local,
            backlog: options.backlog,
            queue: VecDeque::new(),
            reuse_port: options.reuse_port,
            only_v6: options.only_v6.unwrap_or(by_default),
            keepalive: options.keepalive,
            user_timeout: options.user_timeout.filter(|_| !self.is_bsd(owner)),
            receive_buffer: options.recv_buffer,
            send_buffer: options.send_buffer,
            watch: Watch::None,
        }));
        self.note_bound(owner, local.ip());
        let id = (self.listeners.len() - 1) as u32;
        self.listening.entry(local).or_default().push(id);
        Ok(id)
    }

    /// A process with addresses of its own can bind to no others.
    pub(super) fn check_local(&self, owner: Owner, ip: IpAddr) -> io::Result<()> {
        if let Owner::Process(process) = owner {
            let own = &self.processes[process as usize].addresses;
            let fine = own.is_empty()
                || own.contains(&ip)
                || ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast();
            if !fine {
                return Err(Errno::EADDRNOTAVAIL.into());
            }
        }
        Ok(())
    }

    fn is_taken(&mut self, address: SocketAddr, share: bool) -> bool {
        let same = |one: &Listening| {
            let (a, b) = (one.local, address);
            a.port() == b.port()
                && (a.ip() == b.ip()
                    || a.is_ipv4() == b.is_ipv4()
                        && (a.ip().is_unspecified() || b.ip().is_unspecified()))
        };
        let mut others = self.listeners.iter().flatten();
        others.any(|one| same(one) && !(share && one.reuse_port))
    }

    fn free_listening_port(&mut self, ip: IpAddr) -> io::Result<u16> {
        let (first, last) = self.settings.ports;
        for _ in 0..1_000 {
            let port = self.random.between(u64::from(first), u64::from(last)) as u16;
            if !self.is_taken(SocketAddr::new(ip, port), false) {
                return Ok(port);
            }
        }
        Err(Errno::EADDRINUSE.into())
    }

    /// Who listens where a SYN to `to` arrives.
    pub(super) fn listening_at(&mut self, to: SocketAddr) -> Option<u32> {
        let any_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), to.port());
        let any_v6 = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), to.port());
        let any = if to.is_ipv4() { any_v4 } else { any_v6 };
        for (at, mapped) in [(to, false), (any, false), (any_v6, true)] {
            let Some(found) = self.listening.get(&at).filter(|found| !found.is_empty()) else {
                continue;
            };
            let id = found[self.random.below(found.len() as u64) as usize];
            let only_v6 = self.listener(id).is_some_and(|one| one.only_v6);
            if !(mapped && to.is_ipv4() && only_v6) {
                return Some(id);
            }
        }
        None
    }

    /// Accepts one connection for a process: its end there, and where it is from.
    pub(super) fn accept_call(&mut self, id: u32) -> io::Result<(Side, SocketAddr)> {
        let target = Target::Listener(id);
        let Some(Owner::Process(process)) = self.listener(id).map(|listener| listener.owner) else {
            return Err(Errno::EBADF.into());
        };
        for (fault, error) in KEEPING {
            if self.faults.hit(fault) {
                return Err(error.into());
            }
        }
        if self.faults.hit(Fault::AcceptInterrupted) {
            return Err(Errno::EINTR.into());
        }
        if self.faults.hit(Fault::AcceptBlocked) {
            return Err(self.not_yet(target, READ, Fault::AcceptBlocked));
        }
        // The descriptor is taken before anybody is looked for.
        self.take_descriptor(process)?;
        let answer = self.accept(id, process);
        if answer.is_err() {
            self.give_descriptor(process);
        }
        match answer {
            Err(None) => Err(self.blocked(target)),
            Err(Some(error)) => Err(error.into()),
            Ok(accepted) => Ok(accepted),
        }
    }

    fn accept(&mut self, id: u32, process: u32) -> Result<(Side, SocketAddr), Option<Errno>> {
        let Some(connection) = self.listener(id).and_then(|one| one.queue.pop_front()) else {
            return Err(None);
        };
        let side = Side { connection, end: 1 };
        for (fault, error) in TAKING {
            if self.faults.hit(fault) {
                self.drop_waiting(side);
                return Err(Some(error));
            }
        }
        if self.faults.hit(Fault::AcceptNetwork) {
            self.drop_waiting(side);
            let which = self
                .faults
                .below(Fault::AcceptNetwork, OF_THE_NETWORK.len() as u64);
            return Err(Some(OF_THE_NETWORK[which as usize]));
        }
        if self.faults.hit(Fault::ResetBeforeAccept) {
            let caller = side.other();
            match self.end(caller).map(|end| end.owner) {
                // It knows nothing of it: a machine on the way has done it.
                Some(Owner::Process(_)) => self.reset_arrives(caller),
                _ => self.abort(caller),
            }
            self.fail(side, Errno::ECONNRESET);
        }
        let bsd = self.is_bsd(Owner::Process(process));
        let v6 = self.listener(id).is_some_and(|one| one.local.is_ipv6());
        let Some(connection) = self.connection(connection) else {
            return Err(Some(Errno::ECONNABORTED));
        };
        connection.listener = None;
        let end = &mut connection.ends[1];
        if bsd && end.phase == Phase::Over && end.error.is_some() {
            self.drop_waiting(side);
            return Err(Some(Errno::ECONNABORTED));
        }
        end.owner = Owner::Process(process);
        let remote = end.remote;
        self.idle.moved += 1;
        let from = if v6 { mapped(remote) } else { remote };
        Ok((side, from))
    }

    /// Nobody will ever have this end.
    pub(super) fn drop_waiting(&mut self, side: Side) {
        if let Some(connection) = self.connection(side.connection) {
            connection.listener = None;
            connection.ends[1].closed = true;
        }
        self.abort(side);
        self.reap(side.connection);
    }

    /// The listener's holder closes it. Who waits there is reset.
    pub(super) fn close_listener(&mut self, id: u32) {
        self.unwatch(Target::Listener(id));
        let Some(listener) = self.listeners.get_mut(id as usize).and_then(Option::take) else {
            return;
        };
        if let Some(found) = self.listening.get_mut(&listener.local) {
            found.retain(|other| *other != id);
        }
        if let Owner::Process(process) = listener.owner {
            self.give_descriptor(process);
        }
        for connection in listener.queue {
            self.drop_waiting(Side { connection, end: 1 });
        }
    }
}

/// `address` as an IPv6 socket has it.
pub(super) fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
