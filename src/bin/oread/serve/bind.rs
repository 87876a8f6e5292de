//! Opens a server's sockets, the same ones for each reactor.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use oread::{Address, Context, Echo, EchoSession, ListenOptions, ListenerId, Reactor, UdpOptions};

use super::overlap::ours;
use super::plan::Plan;
use super::server::{Leaving, Server, poll_failed};
use super::socket::{Id, Socket, Transport};
use crate::failure::Failure;
use crate::serve::check::Serve;
use crate::serve::endpoints::Binding;
use crate::system::handed::{Handed, Kind};

/// A reactor with its handler, before it runs.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) reactor: Reactor<Server>,
    pub(super) server: Server,
}

/// All reactors of a server, with its sockets.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) units: Vec<Unit>,
    /// Those of TCP and UDP, as the first reactor has them.
    pub(super) sockets: Vec<Socket>,
    /// Those that are Unix sockets.
    pub(super) unix: Vec<Address>,
}

/// What could not be opened, and why.
type Refused = (Transport, io::Error);

/// With port 0 for TCP and UDP, how many free ports of TCP's are tried until one is free for UDP
/// too. It is rare that one is not.
const PAIR_TRIES: u32 = 32;

/// Opens all sockets, for all reactors; the sockets are those of the first one.
///
/// Several reactors share their ports by `SO_REUSEPORT`. With it the system lets in every other
/// program of the same user that sets it too, another server such as this for one, and nobody would
/// be told that the address is in use. So the first reactor claims each address without it.
///
/// # Errors
/// Exit code 1: what can't be bound, or the system gives no poll.
pub(super) fn open(serve: &Serve, plan: &Plan, bindings: &[Binding]) -> Result<Opened, Failure> {
    let (mut units, sockets) = open_inet(serve, plan, bindings)?;
    open_unix(serve, &mut units)?;
    let unix = serve.unix.clone();
    Ok(Opened {
        units,
        sockets,
        unix,
    })
}

/// Takes over the sockets that were handed over: the first reactor has them, and the others have
/// duplicates of the listeners.
///
/// # Errors
/// Exit code 1: what can't be taken over, or the system gives no poll.
pub(super) fn adopt(serve: &Serve, plan: &Plan, handed: Vec<Handed>) -> Result<Opened, Failure> {
    let options = listen_options(serve);
    let mut opened = Opened::default();
    for index in 0..plan.threads.get() {
        let reactor = new_reactor(serve, plan, index)?;
        let mut unit = unit(serve, plan, reactor, &[]);
        unit.server.leaving = Some(Leaving::default());
        opened.units.push(unit);
    }
    let Some((first, others)) = opened.units.split_first_mut() else {
        return Ok(opened);
    };
    let mut context = first.reactor.context();
    for Handed { name, kind, fd } in handed {
        let failed = |error| Failure::adopt(&name, &error);
        let (id, address) = match kind {
            Kind::Listener => {
                let id = context.adopt_listener(fd, &options).map_err(failed)?;
                first.server.shares(id);
                share(&context, id, others, &options).map_err(failed)?;
                match context.listener_addr(id) {
                    Some(Address::Ip(address)) => (Id::Tcp(id), address),
                    unix => {
                        opened.unix.extend(unix);
                        continue;
                    }
                }
            }
            Kind::Udp(address) => {
                let id = context.adopt_udp(fd, &UdpOptions::default());
                (Id::Udp(id.map_err(failed)?), address)
            }
        };
        log::debug!("{name} is {address}");
        opened.sockets.push(Socket { address, id });
    }
    tell_backlogs(&context, &opened.sockets, serve.backlog.get());
    first.server.cap(serve, plan, &opened.sockets);
    Ok(opened)
}

/// Gives the other reactors duplicates of the first one's listener, so that whoever is first
/// accepts. They tell of the same callers.
fn share(
    context: &Context<'_, EchoSession>,
    id: ListenerId,
    others: &mut [Unit],
    options: &ListenOptions,
) -> io::Result<()> {
    for other in others {
        let Some(listener) = context.listener_fd(id) else {
            continue;
        };
        let listener = listener.try_clone_to_owned()?;
        let mut context = other.reactor.context();
        let id = context.adopt_listener(listener, options)?;
        other.server.shares(id);
    }
    Ok(())
}

/// Listens at Unix sockets.
fn open_unix(serve: &Serve, units: &mut [Unit]) -> Result<(), Failure> {
    let Some((first, others)) = units.split_first_mut() else {
        return Ok(());
    };
    for address in &serve.unix {
        let failed = |error| Failure::listen_unix(address, &error);
        let options = ListenOptions {
            address: address.clone(),
            mode: serve.unix_mode,
            ..listen_options(serve)
        };
        let mut context = first.reactor.context();
        let id = context.listen(&options).map_err(failed)?;
        share(&context, id, others, &options).map_err(failed)?;
    }
    Ok(())
}

/// Opens the sockets of TCP and UDP.
fn open_inet(
    serve: &Serve,
    plan: &Plan,
    bindings: &[Binding],
) -> Result<(Vec<Unit>, Vec<Socket>), Failure> {
    let mut first = new_reactor(serve, plan, 0)?;
    let claimed = claim_all(&Opener::new(serve, false), &mut first.context(), bindings)?;
    if plan.threads.get() == 1 {
        tell_backlogs(&first.context(), &claimed, serve.backlog.get());
        let unit = unit(serve, plan, first, &claimed);
        return Ok((vec![unit], claimed));
    }
    // Their ports are free at once, for sockets that share them.
    drop(first);
    let mut reactors = Vec::new();
    for index in 0..plan.threads.get() {
        reactors.push(new_reactor(serve, plan, index)?);
    }
    let opener = Opener::new(serve, true);
    let mut units = Vec::new();
    for mut reactor in reactors {
        let mut sockets = Vec::new();
        for socket in &claimed {
            let transport = socket.transport();
            let opened = opener.open(&mut reactor.context(), transport, socket.address);
            sockets.push(
                opened.map_err(|error| Failure::bind(transport.name(), socket.address, &error))?,
            );
        }
        if units.is_empty() {
            // Those of the others are like them.
            tell_backlogs(&reactor.context(), &sockets, serve.backlog.get());
        }
        units.push(unit(serve, plan, reactor, &sockets));
    }
    Ok((units, claimed))
}

fn new_reactor(serve: &Serve, plan: &Plan, index: u32) -> Result<Reactor<Server>, Failure> {
    let reactor = Reactor::with_limits(plan.limits(serve, index));
    reactor.map_err(|error| Failure::runtime(poll_failed(&error)))
}

/// A reactor with the handler for its sockets.
fn unit(serve: &Serve, plan: &Plan, reactor: Reactor<Server>, sockets: &[Socket]) -> Unit {
    let mut server = Server::new(Echo::new(plan.echo_options(serve)));
    server.cap(serve, plan, sockets);
    Unit { reactor, server }
}

/// Opens what is wanted on each address, as far as it has to be there.
fn claim_all(
    opener: &Opener,
    context: &mut Context<'_, EchoSession>,
    bindings: &[Binding],
) -> Result<Vec<Socket>, Failure> {
    let mut sockets = Vec::new();
    let mut passed_over = None;
    for binding in bindings {
        match opener.claim(context, binding) {
            Ok(claimed) => sockets.extend(claimed),
            Err((transport, error)) => {
                let failure = ours(&sockets, transport, binding.address, &error)
                    .unwrap_or_else(|| Failure::bind(transport.name(), binding.address, &error));
                if !binding.one_of_several || !is_not_here(&error) {
                    return Err(failure);
                }
                log::debug!("passed over: {}", failure.message());
                passed_over.get_or_insert(failure);
            }
        }
    }
    match passed_over {
        Some(failure) if sockets.is_empty() => Err(failure),
        _ => Ok(sockets),
    }
}

/// Whether the machine has no such address, or nothing of its family.
fn is_not_here(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
}

/// Says so where fewer may wait to be accepted than was asked for. The system cuts it silently
/// (listen(2); on Linux it is `net.core.somaxconn`).
fn tell_backlogs(context: &Context<'_, EchoSession>, sockets: &[Socket], asked: u32) {
    for socket in sockets {
        if let Id::Tcp(id) = socket.id
            && let Some(effective) = context.listener_backlog(id)
            && effective != asked
        {
            log::info!(
                "the system caps the backlog of {}: {effective}, not {asked}, may wait to be accepted",
                socket.address
            );
        }
    }
}

fn close(context: &mut Context<'_, EchoSession>, id: Id) {
    match id {
        Id::Tcp(id) => context.close_listener(id),
        Id::Udp(id) => context.close_udp(id),
    };
}

/// What listeners and their connections are to be like, wherever they listen.
fn listen_options(serve: &Serve) -> ListenOptions {
    ListenOptions {
        backlog: serve.backlog.get(),
        ..serve.bounds.listen_options()
    }
}

/// How sockets are opened.
struct Opener {
    listen: ListenOptions,
    reuse_port: bool,
}

impl Opener {
    fn new(serve: &Serve, reuse_port: bool) -> Opener {
        Opener {
            listen: listen_options(serve),
            reuse_port,
        }
    }

    /// Opens one socket.
    fn open(
        &self,
        context: &mut Context<'_, EchoSession>,
        transport: Transport,
        address: SocketAddr,
    ) -> io::Result<Socket> {
        let (id, real) = match transport {
            Transport::Tcp => {
                let id = context.listen(&ListenOptions {
                    address: address.into(),
                    reuse_port: self.reuse_port,
                    ..self.listen.clone()
                })?;
                let address = context.listener_addr(id);
                (Id::Tcp(id), address.and_then(|at| at.socket_addr()))
            }
            Transport::Udp => {
                let id = context.bind_udp(&UdpOptions {
                    reuse_port: self.reuse_port,
                    ..UdpOptions::new(address)
                })?;
                (Id::Udp(id), context.udp_addr(id))
            }
        };
        let address = real.ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Socket { address, id })
    }

    /// Opens what is wanted on one address. With port 0, TCP and UDP get the same one.
    fn claim(
        &self,
        context: &mut Context<'_, EchoSession>,
        binding: &Binding,
    ) -> Result<Vec<Socket>, Refused> {
        let tcp = |error| (Transport::Tcp, error);
        let udp = |error| (Transport::Udp, error);
        let address = binding.address;
        if !binding.transports.tcp {
            let socket = self.open(context, Transport::Udp, address).map_err(udp)?;
            return Ok(vec![socket]);
        }
        let mut tries = if address.port() == 0 { PAIR_TRIES } else { 1 };
        loop {
            let listener = self.open(context, Transport::Tcp, address).map_err(tcp)?;
            if !binding.transports.udp {
                return Ok(vec![listener]);
            }
            tries -= 1;
            match self.open(context, Transport::Udp, listener.address) {
                Ok(socket) => return Ok(vec![listener, socket]),
                Err(error) => {
                    close(context, listener.id);
                    if tries == 0 || error.kind() != io::ErrorKind::AddrInUse {
                        return Err(udp(error));
                    }
                }
            }
        }
    }
}
