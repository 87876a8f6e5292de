//! What the tests over real sockets share: a handler that writes down what happens and does what
//! each test tells it to, and a reactor that is turned by the test itself, so that nothing depends
//! on how threads are scheduled.
//!
//! After every turn the counters are checked to add up, and every callback checks that no other one
//! is running.

// Each test program is compiled with this page of its own and needs another part of it.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dice;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oread::{
    Accepted, Address, CloseReason, Connection, ConnectionId, Context, Datagram, Handler, Limits,
    ListenOptions, ListenerId, Reactor, Readiness, SourceId, Stats, Turn, UdpId, UdpOptions,
};

#[allow(unused_imports)] // Not every test throws them.
pub use dice::Dice;

/// How long anything may take before a test gives up: much more than it does on the slowest
/// machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a session is here: a number that the test chooses, to see that it comes back.
pub type Session = u64;

/// What has happened so far, and what tests keep between callbacks.
#[derive(Default)]
pub struct Seen {
    /// Connections in the order in which they were opened.
    pub opened: Vec<ConnectionId>,
    /// How each connection ended.
    pub closed: Vec<(ConnectionId, Session, CloseReason)>,
    /// How each failed dial ended.
    pub failed: Vec<(ConnectionId, Session, ErrorKind)>,
    /// Bytes shown to `on_data` that it consumed.
    pub bytes: Vec<u8>,
    /// What `on_eof` was given, for each end.
    pub rests: Vec<Vec<u8>>,
    /// Calls of `on_drained`.
    pub drained: usize,
    /// Connections that were about to be closed, and why.
    pub closing: Vec<(ConnectionId, CloseReason)>,
    /// Keys of timers that fired.
    pub timers: Vec<u64>,
    /// Messages in the order in which they came.
    pub messages: Vec<u64>,
    /// Datagrams.
    pub datagrams: Vec<Vec<u8>>,
    /// Errors that came in place of one.
    pub datagram_errors: Vec<(UdpId, ErrorKind)>,
    pub writable: Vec<UdpId>,
    /// What foreign sources were said to be ready for.
    pub ready: Vec<(SourceId, Readiness)>,
    /// Whatever a test wants to count.
    pub count: u64,
}

type OnAccept = dyn FnMut(&mut Seen, &mut Context<'_, Session>, &Accepted) -> Option<Session>;
type OnConnection = dyn FnMut(&mut Seen, &mut Connection<'_, Session>);
type OnData = dyn FnMut(&mut Seen, &mut Connection<'_, Session>, &[u8]) -> usize;
type OnContext = dyn FnMut(&mut Seen, &mut Context<'_, Session>, u64);
type OnClose = dyn FnMut(&mut Seen, &mut Context<'_, Session>, ConnectionId);
type OnDatagram = dyn FnMut(&mut Seen, &mut Datagram<'_, Session>, &[u8]);
type OnReady = dyn FnMut(&mut Seen, &mut Context<'_, Session>, SourceId);

/// A handler that echoes, finishes at the peer's end, and writes everything down; each hook
/// replaces a part of it.
#[derive(Default)]
pub struct Probe {
    pub seen: Seen,
    pub accept: Option<Box<OnAccept>>,
    pub open: Option<Box<OnConnection>>,
    pub data: Option<Box<OnData>>,
    pub eof: Option<Box<OnConnection>>,
    pub drained: Option<Box<OnConnection>>,
    pub closing: Option<Box<OnConnection>>,
    pub close: Option<Box<OnClose>>,
    pub failed: Option<Box<OnClose>>,
    pub timer: Option<Box<OnContext>>,
    pub message: Option<Box<OnContext>>,
    pub datagram: Option<Box<OnDatagram>>,
    pub ready: Option<Box<OnReady>>,
    /// Whether received bytes are not written down: for tests that move many.
    pub forgetful: bool,
    /// Whether a callback is running.
    busy: bool,
}

impl Probe {
    fn enter(&mut self) {
        assert!(!self.busy, "a callback runs inside another");
        self.busy = true;
    }
}

impl Handler for Probe {
    type Session = Session;
    type Message = u64;

    fn on_accept(
        &mut self,
        context: &mut Context<'_, Session>,
        caller: &Accepted,
    ) -> Option<Session> {
        self.enter();
        let session = match &mut self.accept {
            Some(hook) => hook(&mut self.seen, context, caller),
            None => Some(0),
        };
        self.busy = false;
        session
    }

    fn on_open(&mut self, connection: &mut Connection<'_, Session>) {
        self.enter();
        self.seen.opened.push(connection.id());
        if let Some(hook) = &mut self.open {
            hook(&mut self.seen, connection);
        }
        self.busy = false;
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Session>, data: &[u8]) -> usize {
        self.enter();
        assert!(!data.is_empty(), "on_data with nothing");
        let consumed = match &mut self.data {
            Some(hook) => hook(&mut self.seen, connection, data),
            None => {
                connection.write(data);
                data.len()
            }
        };
        if !self.forgetful {
            self.seen.bytes.extend_from_slice(&data[..consumed]);
        }
        self.busy = false;
        consumed
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, Session>, rest: &[u8]) {
        self.enter();
        self.seen.rests.push(rest.to_vec());
        match &mut self.eof {
            Some(hook) => hook(&mut self.seen, connection),
            None => connection.finish(),
        }
        self.busy = false;
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, Session>) {
        self.enter();
        self.seen.drained += 1;
        if let Some(hook) = &mut self.drained {
            hook(&mut self.seen, connection);
        }
        self.busy = false;
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, Session>, reason: CloseReason) {
        self.enter();
        self.seen.closing.push((connection.id(), reason));
        if let Some(hook) = &mut self.closing {
            hook(&mut self.seen, connection);
        }
        self.busy = false;
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, Session>,
        id: ConnectionId,
        session: Session,
        reason: CloseReason,
    ) {
        self.enter();
        assert!(
            context.connection(id).is_none(),
            "a closed id still finds something"
        );
        self.seen.closed.push((id, session, reason));
        if let Some(hook) = &mut self.close {
            hook(&mut self.seen, context, id);
        }
        self.busy = false;
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, Session>,
        id: ConnectionId,
        session: Session,
        error: io::Error,
    ) {
        self.enter();
        self.seen.failed.push((id, session, error.kind()));
        if let Some(hook) = &mut self.failed {
            hook(&mut self.seen, context, id);
        }
        self.busy = false;
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, Session>, data: &[u8]) {
        self.enter();
        self.seen.datagrams.push(data.to_vec());
        match &mut self.datagram {
            Some(hook) => hook(&mut self.seen, datagram, data),
            None => {
                datagram.reply(data);
            }
        }
        self.busy = false;
    }

    fn on_datagram_error(&mut self, _: &mut Context<'_, Session>, socket: UdpId, error: io::Error) {
        self.enter();
        self.seen.datagram_errors.push((socket, error.kind()));
        self.busy = false;
    }

    fn on_datagram_writable(&mut self, _: &mut Context<'_, Session>, socket: UdpId) {
        self.enter();
        self.seen.writable.push(socket);
        self.busy = false;
    }

    fn on_timer(&mut self, context: &mut Context<'_, Session>, key: u64) {
        self.enter();
        self.seen.timers.push(key);
        if let Some(hook) = &mut self.timer {
            hook(&mut self.seen, context, key);
        }
        self.busy = false;
    }

    fn on_message(&mut self, context: &mut Context<'_, Session>, message: u64) {
        self.enter();
        self.seen.messages.push(message);
        if let Some(hook) = &mut self.message {
            hook(&mut self.seen, context, message);
        }
        self.busy = false;
    }

    fn on_ready(
        &mut self,
        context: &mut Context<'_, Session>,
        source: SourceId,
        readiness: Readiness,
    ) {
        self.enter();
        self.seen.ready.push((source, readiness));
        if let Some(hook) = &mut self.ready {
            hook(&mut self.seen, context, source);
        }
        self.busy = false;
    }
}

/// A reactor, its handler, and one listener.
pub struct World<H: Handler = Probe> {
    pub reactor: Reactor<H>,
    pub handler: H,
    /// Turns taken so far.
    pub turns: u64,
}

/// An address of this machine with any free port.
pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl World<Probe> {
    /// A probe with default limits.
    pub fn new() -> World {
        World::with(Limits::default())
    }

    /// A probe with these limits.
    pub fn with(limits: Limits) -> World {
        World::of(limits, Probe::default())
    }

    /// What has happened.
    pub fn seen(&mut self) -> &mut Seen {
        &mut self.handler.seen
    }

    /// Turns until `count` connections have been opened.
    pub fn until_opened(&mut self, count: usize) {
        self.until("connections are opened", |world| {
            world.handler.seen.opened.len() >= count
        });
    }

    /// Turns until `count` connections have been closed, and gives the last one's reason.
    pub fn until_closed(&mut self, count: usize) -> CloseReason {
        self.until("connections are closed", |world| {
            world.handler.seen.closed.len() >= count
        });
        self.handler.seen.closed[count - 1].2
    }

    /// Listens, connects one client, and waits until it's open.
    pub fn client(&mut self) -> TcpStream {
        let (_, address) = self.listen();
        let opened = self.handler.seen.opened.len();
        let client = connect(address);
        self.until_opened(opened + 1);
        client
    }
}

impl<H: Handler> World<H> {
    /// A handler in a reactor with these limits.
    pub fn of(limits: Limits, handler: H) -> World<H> {
        World {
            reactor: Reactor::with_limits(limits).unwrap(),
            handler,
            turns: 0,
        }
    }

    /// What callbacks are lent.
    pub fn context(&mut self) -> Context<'_, H::Session> {
        self.reactor.context()
    }

    /// A connection.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_, H::Session>> {
        self.reactor.connection(id)
    }

    /// The counters.
    pub fn stats(&mut self) -> Stats {
        self.reactor.context().stats()
    }

    /// Listens on a free port of 127.0.0.1.
    pub fn listen(&mut self) -> (ListenerId, SocketAddr) {
        self.listen_with(&ListenOptions::new(loopback()))
    }

    /// Listens as `options` say.
    pub fn listen_with(&mut self, options: &ListenOptions) -> (ListenerId, SocketAddr) {
        let id = self.context().listen(options).unwrap();
        let address = self.context().listener_addr(id).unwrap();
        (id, address.socket_addr().unwrap())
    }

    /// Opens a UDP socket on a free port of 127.0.0.1.
    pub fn bind_udp(&mut self) -> (UdpId, SocketAddr) {
        let id = self
            .context()
            .bind_udp(&UdpOptions::new(loopback()))
            .unwrap();
        (id, self.context().udp_addr(id).unwrap())
    }

    /// One turn, which waits a little for events. The counters must add up after it.
    pub fn turn(&mut self) -> Turn {
        self.turn_for(Duration::from_millis(5))
    }

    /// One turn that waits no longer than `wait`.
    pub fn turn_for(&mut self, wait: Duration) -> Turn {
        self.turns += 1;
        let turn = self.reactor.turn(&mut self.handler, Some(wait)).unwrap();
        assert_adds_up(&self.stats());
        turn
    }

    /// Turns until `done`; panics when that takes too long.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut World<H>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited too long until {what}");
            self.turn();
        }
    }

    /// Turns until there's nothing more to do at once, and no event.
    pub fn settle(&mut self) {
        loop {
            let turn = self.turn();
            if turn.events == 0 && !turn.more {
                return;
            }
        }
    }

    /// Turns while `client` reads, until it has `count` bytes.
    pub fn receive(&mut self, client: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        client.set_nonblocking(true).unwrap();
        self.until("a client has its bytes", |_| {
            let ended = read_some(client, &mut bytes, count).expect("the client's connection");
            assert!(!ended, "the end after {} of {count} bytes", bytes.len());
            bytes.len() >= count
        });
        client.set_nonblocking(false).unwrap();
        bytes
    }

    /// Turns while `client` reads, until its end: what it got, and how it ended.
    pub fn receive_to_end(&mut self, client: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        let mut end = Ok(());
        client.set_nonblocking(true).unwrap();
        self.until("a client has come to the end", |_| {
            match read_some(client, &mut bytes, usize::MAX) {
                Ok(ended) => ended,
                Err(error) => {
                    end = Err(error);
                    true
                }
            }
        });
        client.set_nonblocking(false).unwrap();
        (bytes, end)
    }

    /// Sends a small message and receives as many bytes.
    pub fn exchange(&mut self, client: &mut TcpStream, message: &[u8]) -> Vec<u8> {
        client.write_all(message).unwrap();
        self.receive(client, message.len())
    }
}

/// Connects, with a bound on every blocking call. The system answers for the listener, so no turn
/// is needed.
pub fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// The same at an address of either kind. To whoever has it a Unix socket is a stream like TCP's.
pub fn connect_to(address: &Address) -> TcpStream {
    #[cfg(target_os = "linux")]
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};

    let name = match address {
        Address::Unix(name) => name,
        ip => return connect(ip.socket_addr().unwrap()),
    };
    let at = match name.abstract_name() {
        #[cfg(target_os = "linux")]
        Some(name) => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name.path().unwrap()),
    };
    let client = UnixStream::connect_addr(&at.unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    std::os::fd::OwnedFd::from(client).into()
}

/// Stands still, as a process does that is stopped or whose machine is: for all this time the
/// reactor takes no turn.
pub fn stand_still(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::thread::sleep(time - start.elapsed().min(time));
    }
}

/// Reads `count` bytes as fast as they come, in a thread of its own; what they were, or how far it
/// got when the connection ended before.
pub fn read_in_thread(mut client: TcpStream, count: usize) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::with_capacity(count);
        let mut buffer = vec![0; 256 << 10];
        while bytes.len() < count {
            let room = buffer.len().min(count - bytes.len());
            match client.read(&mut buffer[..room]) {
                Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        bytes
    })
}

/// Reads and forgets `count` bytes as fast as they come, in a thread of its own; how many there
/// were.
pub fn count_in_thread(mut client: TcpStream, count: usize) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut got = 0;
        let mut buffer = vec![0; 1 << 20];
        while got < count {
            match client.read(&mut buffer) {
                Ok(n) if n > 0 => got += n,
                _ => break,
            }
        }
        got
    })
}

/// Has the send buffer of `stream` hold some `bytes` and no more, so that what a test's many
/// clients send stays in their own hands, and not in the system's memory.
pub fn narrow_sender(stream: &TcpStream, bytes: usize) {
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::SndBuf, &bytes).unwrap();
}

/// Makes the close of `stream` a reset.
pub fn reset(stream: TcpStream) {
    let now = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &now).unwrap();
    drop(stream);
}

/// Reads what is there from a non-blocking stream, up to `count` bytes in all; true at the end of
/// the stream.
pub fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>, count: usize) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    while bytes.len() < count {
        let room = buffer.len().min(count - bytes.len());
        match stream.read(&mut buffer[..room]) {
            Ok(0) => return Ok(true),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Writes to a stream until it takes no more; how much that was. The stream is non-blocking
/// afterwards.
pub fn write_until_blocked(stream: &mut TcpStream) -> usize {
    let mut count = 0;
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.write(&[b'x'; 16 << 10]) {
            Ok(n) => count += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
            Err(error) => panic!("could not write: {error}"),
        }
    }
}

/// Panics unless the counters add up, as `Stats` says they do.
pub fn assert_adds_up(stats: &Stats) {
    assert_eq!(
        stats.bytes_in,
        stats.consumed + stats.unconsumed + stats.discarded,
        "bytes in: {stats:?}"
    );
    assert_eq!(
        stats.written,
        stats.bytes_out + stats.pending + stats.dropped,
        "bytes out: {stats:?}"
    );
    assert_eq!(
        stats.accepted + stats.connected,
        stats.open + stats.closed.total(),
        "connections: {stats:?}"
    );
    assert!(stats.peak_open >= stats.open);
}

/// A pattern whose every place can be told from its neighbours: 251 is prime, so no block size
/// hides a shift.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}
