//! What a reactor has in place of the real poll, with the same methods.

use std::io::{self, PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::faults::Fault;
use super::sockets::{TcpListener, TcpStream, UdpSocket};
use super::watch::{READER, STREAM, Target, Watch, flag};
use super::{Net, Owner, Poller};
use crate::address::Address;
use crate::options::{ConnectOptions, ListenOptions, UdpOptions};
use crate::readiness::Readiness;

/// The system of one process.
#[derive(Debug)]
pub(crate) struct System {
    net: Net,
    process: u32,
    /// A descriptor that is never readable, for whoever nests the reactor by it, and to be lent by
    /// its sockets.
    quiet: Arc<Quiet>,
}

/// A descriptor that can be polled and never is readable: a pipe that nobody writes to. `/dev/null`
/// is none, for epoll refuses it, and to poll(2) it's always readable.
#[derive(Debug)]
pub(super) struct Quiet {
    reader: PipeReader,
    /// While it is open, the reader has no end to tell of.
    _writer: PipeWriter,
}

impl Quiet {
    fn new() -> io::Result<Quiet> {
        let (reader, _writer) = io::pipe()?;
        Ok(Quiet { reader, _writer })
    }
}

impl AsFd for Quiet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl System {
    pub(super) fn new(net: Net, process: u32) -> io::Result<System> {
        let quiet = Arc::new(Quiet::new()?);
        Ok(System {
            net,
            process,
            quiet,
        })
    }

    /// Waits until something is ready or `timeout` is over, without end if it is `None`. It comes
    /// back empty, too, when another process has something to do first.
    ///
    /// # Errors
    /// When it would wait for ever.
    pub(crate) fn wait(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.batch.clear();
        let limit = events.capacity;
        self.net
            .state()
            .wait(self.process, limit, timeout, &mut events.batch)
    }

    /// The time.
    pub(crate) fn now(&self) -> Instant {
        self.net.now()
    }

    /// A number that nobody can guess, but who knows the seed.
    pub(crate) fn random(&self) -> u64 {
        self.net.draw()
    }

    /// Whether memory may be asked for: not when it is short, as a fault.
    pub(crate) fn may_allocate(&self) -> bool {
        !self.net.state().faults.hit(Fault::NoMemory)
    }

    /// Listens as `options` say.
    ///
    /// # Errors
    /// As bind(2) and socket(2) give them.
    pub(crate) fn listen(
        &self,
        options: &ListenOptions,
        adopted: Option<OwnedFd>,
    ) -> io::Result<TcpListener> {
        if let Some(fd) = adopted {
            drop(fd);
            return Err(foreign());
        }
        let (owner, at) = (Owner::Process(self.process), inet(&options.address)?);
        let mut state = self.net.state();
        let answer = state.listen(owner, at, options);
        let opened = answer.as_ref().map(|id| Target::Listener(*id));
        state.trace_open(self.process, "listen", at, opened);
        drop(state);
        let id = answer?;
        Ok(TcpListener {
            net: self.net.clone(),
            id,
            backlog: options.backlog,
            quiet: self.quiet.clone(),
        })
    }

    /// Begins to connect as `options` say.
    ///
    /// # Errors
    /// As connect(2) gives them at once.
    pub(crate) fn dial(&self, options: &ConnectOptions) -> io::Result<TcpStream> {
        let to = inet(&options.address)?;
        let mut state = self.net.state();
        state.begin_call();
        let answer = state.dial_call(self.process, to, options);
        let opened = answer.as_ref().map(|side| Target::Stream(*side));
        state.trace_open(self.process, "dial", to, opened);
        state.pump_peers();
        drop(state);
        let side = answer?;
        let (net, quiet) = (self.net.clone(), self.quiet.clone());
        Ok(TcpStream::new(net, side, self.process, quiet))
    }

    /// Opens a UDP socket as `options` say.
    ///
    /// # Errors
    /// As bind(2) and socket(2) give them.
    pub(crate) fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        let owner = Owner::Process(self.process);
        let mut state = self.net.state();
        let answer = state.bind_udp(owner, options);
        let opened = answer.as_ref().map(|id| Target::Udp(*id));
        state.trace_open(self.process, "bind", options.address, opened);
        drop(state);
        let id = answer?;
        Ok(UdpSocket {
            net: self.net.clone(),
            id,
            quiet: self.quiet.clone(),
        })
    }

    /// Sockets of the real system can't be had here.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn adopt_stream(&self, _: OwnedFd) -> io::Result<TcpStream> {
        Err(foreign())
    }

    /// As [`System::adopt_stream`].
    ///
    /// # Errors
    /// Always.
    pub(crate) fn adopt_udp(&self, _: OwnedFd, _: &UdpOptions) -> io::Result<UdpSocket> {
        Err(foreign())
    }

    /// What wakes this process from another thread, with an event for `token`.
    ///
    /// # Errors
    /// None here; the real one has some.
    pub(crate) fn waker(&self, token: usize) -> io::Result<(Waker, Woken)> {
        self.net.state().set_waker(self.process, token);
        let waker = Waker {
            net: self.net.clone(),
            process: self.process,
        };
        Ok((waker, Woken))
    }

    /// Registers `stream` for everything.
    ///
    /// # Errors
    /// `ENOMEM` and `ENOSPC`, as faults; `AlreadyExists` when it is registered.
    pub(crate) fn register_stream(&self, stream: &mut TcpStream, token: usize) -> io::Result<()> {
        self.register(Target::Stream(stream.side), token, STREAM)
    }

    /// Registers `listener`.
    ///
    /// # Errors
    /// As [`System::register_stream`].
    pub(crate) fn register_listener(
        &self,
        listener: &mut TcpListener,
        token: usize,
    ) -> io::Result<()> {
        self.register(Target::Listener(listener.id), token, READER)
    }

    /// Registers `socket` for reading.
    ///
    /// # Errors
    /// As [`System::register_stream`].
    pub(crate) fn register_udp(&self, socket: &mut UdpSocket, token: usize) -> io::Result<()> {
        self.register(Target::Udp(socket.id), token, READER)
    }

    /// Whether the poll drops a socket that had an error.
    pub(crate) fn drops_failed_udp(&self) -> bool {
        let state = self.net.state();
        state.processes[self.process as usize].poller.model == Poller::Poll2
    }

    /// Polls a UDP socket anew, for room to send too where it `writes`.
    ///
    /// # Errors
    /// None here: of the systems that are modelled only kqueue's has some.
    pub(crate) fn repoll(&self, udp: &mut UdpSocket, token: usize, writes: bool) -> io::Result<()> {
        let (target, mut state) = (Target::Udp(udp.id), self.net.state());
        state.begin_call();
        state.unwatch(target);
        let interest = if writes { READER | flag::OUT } else { READER };
        state.watch(self.process, target, token, interest);
        Ok(())
    }

    /// Forgets `stream`. Dropping it does so too.
    ///
    /// # Errors
    /// None: one that is not registered is as was wished.
    pub(crate) fn deregister_stream(&self, stream: &mut TcpStream) -> io::Result<()> {
        self.net.state().unwatch(Target::Stream(stream.side));
        Ok(())
    }

    /// Forgets `listener`.
    ///
    /// # Errors
    /// None.
    pub(crate) fn deregister_listener(&self, listener: &mut TcpListener) -> io::Result<()> {
        self.net.state().unwatch(Target::Listener(listener.id));
        Ok(())
    }

    /// Forgets `socket`.
    ///
    /// # Errors
    /// None.
    pub(crate) fn deregister_udp(&self, socket: &mut UdpSocket) -> io::Result<()> {
        self.net.state().unwatch(Target::Udp(socket.id));
        Ok(())
    }

    fn register(&self, target: Target, token: usize, interest: u8) -> io::Result<()> {
        let mut state = self.net.state();
        state.begin_call();
        state.trace.name(self.process, token, target);
        if state.faults.hit(Fault::RegisterFails) {
            let error = match state.faults.below(Fault::RegisterFails, 2) {
                0 => Errno::ENOMEM,
                _ => Errno::ENOSPC,
            };
            state.trace(|| format!("register {target} -> {error}"));
            return Err(error.into());
        }
        if let Some(Watch::On(_)) = state.watch_of(target) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.watch(self.process, target, token, interest);
        Ok(())
    }
}

/// Whoever waits for this process waits no more.
impl Drop for System {
    fn drop(&mut self) {
        self.net.state().end_process(self.process);
    }
}

impl AsFd for System {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.quiet.as_fd()
    }
}

/// What a simulated reactor says of real sockets and sources.
pub(crate) fn foreign() -> io::Error {
    let reason = "a simulated reactor has no sockets or sources of the real system, neither to take nor to give";
    io::Error::new(io::ErrorKind::Unsupported, reason)
}

/// An address that there can be here.
///
/// # Errors
/// `Unsupported` of a Unix socket.
pub(super) fn inet(address: &Address) -> io::Result<SocketAddr> {
    let why = "a simulated network has no Unix sockets";
    let unix = || io::Error::new(io::ErrorKind::Unsupported, why);
    address.socket_addr().ok_or_else(unix)
}

/// One batch of events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    batch: Vec<(usize, Readiness)>,
    capacity: usize,
}

impl Events {
    /// Room for `capacity` events; with poll(2) a batch may be larger.
    pub(crate) fn with_capacity(capacity: usize) -> Events {
        Events {
            batch: Vec::new(),
            capacity,
        }
    }

    /// Whether the batch is full.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.len() >= self.capacity
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The events.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> {
        let events = self.batch.iter();
        events.map(|(token, readiness)| Event(*token, *readiness))
    }
}

/// What is ready, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event(usize, Readiness);

impl Event {
    /// The token that the source is registered with.
    pub(crate) fn token(self) -> usize {
        self.0
    }

    /// Whether it only says that there is something to read.
    pub(crate) fn is_plain_read(self) -> bool {
        let more = Readiness::PRIORITY | Readiness::ERROR | Readiness::READ_CLOSED;
        self.1.contains(Readiness::READABLE) && !self.1.intersects(more)
    }

    /// All that it says.
    pub(crate) fn readiness(self) -> Readiness {
        self.1
    }
}

/// Wakes a process from any thread.
#[derive(Debug)]
pub(crate) struct Waker {
    net: Net,
    process: u32,
}

impl Waker {
    /// Makes the current or next wait return with an event for the waker's token.
    ///
    /// # Errors
    /// None here.
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.net.state().wake(self.process);
        Ok(())
    }
}

/// The process' own end of a waker.
#[derive(Debug)]
pub(crate) struct Woken;

impl Woken {
    /// To be called for each event of the waker.
    pub(crate) fn hear(&mut self) {}
}

impl super::State {
    fn set_waker(&mut self, process: u32, token: usize) {
        self.processes[process as usize].poller.waker = Some(token);
    }

    fn wake(&mut self, process: u32) {
        self.processes[process as usize].poller.woken = true;
    }

    fn end_process(&mut self, process: u32) {
        let process = &mut self.processes[process as usize];
        process.alive = false;
        process.parked = None;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use mio::Interest;
    use mio::unix::SourceFd;

    use super::*;
    use crate::net::real;

    #[test]
    fn the_descriptor_to_nest_a_simulated_reactor_by_can_be_polled_and_is_never_ready() {
        let quiet = Quiet::new().unwrap();
        let fd = quiet.reader.as_raw_fd();
        let mut poll = real::System::new().unwrap();
        let mut events = poll.events(4);
        poll.register_source(&mut SourceFd(&fd), 1, Interest::READABLE)
            .unwrap();
        poll.wait(&mut events, Some(Duration::from_millis(10)))
            .unwrap();
        assert!(events.is_empty());
    }
}
