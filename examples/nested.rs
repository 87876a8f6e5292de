//! A reactor inside somebody else's loop, three ways; and somebody else's source inside a reactor.
//!
//! Run it with `cargo run --example nested -- tokio 127.0.0.1:7777`, or `mio`, `calloop`, `foreign`; talk to it with
//! `nc 127.0.0.1 7777`. It echoes, greets newcomers by a timer, tells everybody what comes on its standard input (who reads
//! too slowly misses some of that), and drains and ends at the end of that input.
//!
//! To nest a reactor takes three things, the same in every loop:
//!
//! 1. The outer loop polls the reactor's descriptor, which is readable when the reactor has events.
//! 2. It sleeps no longer than `next_timeout()`: until the next timer or deadline, and not at all while there is work of
//!    which no event will tell: a connection that has used up its budget, a batch of events that was full.
//! 3. When it wakes, for whatever reason, it calls `turn` with a timeout of zero, which never waits.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use oread::mio::{Interest, unix::pipe};
use oread::{
    Accepted, Connection, ConnectionId, Context, Ended, Handle, Handler, Limits, ListenOptions,
    Pressure, Reactor, Readiness, SendError, SourceId,
};

/// How long everybody has to leave when standard input has ended.
const DRAIN: Duration = Duration::from_secs(5);

/// What serves the clients. It knows nothing of the loop that it's in.
#[derive(Default)]
struct Server {
    /// Who is to be greeted when the timer fires.
    newcomers: Vec<ConnectionId>,
    /// A foreign source. It's the handler's own: the reactor only polls it.
    pipe: Option<pipe::Receiver>,
}

impl Handler for Server {
    type Session = ();
    type Message = Vec<u8>;

    fn on_accept(&mut self, _: &mut Context<()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        if self.newcomers.is_empty() {
            connection.context().timer(Duration::from_millis(50), 0);
        }
        self.newcomers.push(connection.id());
    }

    fn on_timer(&mut self, context: &mut Context<()>, _: u64) {
        for id in self.newcomers.drain(..) {
            if let Some(mut connection) = context.connection(id) {
                connection.write(b"hello\n");
            }
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        connection.write(data);
        data.len()
    }

    fn on_message(&mut self, context: &mut Context<()>, words: Vec<u8>) {
        tell_everybody(context, &words);
    }

    /// The next event comes only after a read has said `WouldBlock`. Whoever stops before that, so that a writer who never
    /// pauses doesn't keep the clients waiting, asks to be told anew.
    fn on_ready(&mut self, context: &mut Context<()>, id: SourceId, _: Readiness) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            match pipe.read(&mut buffer) {
                Ok(count @ 1..) => tell_everybody(context, &buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The end, or an error, which is one too.
                Ok(0) | Err(_) => {
                    context.deregister(pipe, id).ok();
                    self.pipe = None;
                    return context.drain(DRAIN);
                }
            }
        }
        if let Err(error) = context.reregister(pipe, id, Interest::READABLE) {
            eprintln!("nested: standard input is not heard any more: {error}");
        }
    }
}

fn tell_everybody(context: &mut Context<()>, words: &[u8]) {
    let everybody: Vec<ConnectionId> = context.connections().collect();
    for id in everybody {
        // Whoever doesn't read misses it. The reactor would keep it for him, up to a bound, and cut him off there.
        if let Some(mut connection) = context.connection(id)
            && connection.pressure() == Pressure::Low
        {
            connection.write(words);
        }
    }
}

/// Posts standard input to the reactor, from a thread, for a read may block. The handle wakes the reactor, and the
/// reactor's descriptor wakes the loop around it.
fn post_input(handle: &Handle<Vec<u8>>) {
    let mut buffer = [0; 4096];
    loop {
        let mut words = match io::stdin().read(&mut buffer) {
            Ok(count @ 1..) => buffer[..count].to_vec(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return handle.drain(DRAIN),
        };
        // A full mailbox gives the message back, to be tried again.
        loop {
            match handle.send(words) {
                Ok(()) => break,
                Err(SendError::Full(back)) => words = back,
                // The reactor has ended: nobody is left to be told.
                Err(SendError::Gone(_)) => return,
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(not(mio_unsupported_force_poll_poll))]
mod outer {
    use std::os::fd::{AsFd, AsRawFd};

    use calloop::{EventLoop, Mode, PostAction, generic::Generic};
    use oread::mio::{Events, Poll, Token, unix::SourceFd};
    use tokio::{io::unix::AsyncFd, runtime::Builder, task, time};

    use super::*;

    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

    /// In another `mio::Poll` the descriptor is a source like any other.
    pub(super) fn mio(mut reactor: Reactor<Server>, mut server: Server) -> io::Result<Ended> {
        let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(16));
        let descriptor = reactor.as_raw_fd();
        let registry = poll.registry();
        registry.register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)?;
        loop {
            match poll.poll(&mut events, reactor.next_timeout()) {
                // A signal: the timeout is to be computed anew.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            // Here the loop would serve its own sources, by the tokens in `events`.
            if let Some(ended) = reactor.turn(&mut server, AT_ONCE)?.ended {
                return Ok(ended);
            }
        }
    }

    /// calloop's sources own what they poll, so it gets a duplicate of the descriptor. The source only wakes the loop: the
    /// turn comes after every dispatch, for the end of a timeout calls no source.
    pub(super) fn calloop(mut reactor: Reactor<Server>, mut server: Server) -> io::Result<Ended> {
        let mut event_loop = EventLoop::try_new()?;
        let descriptor = reactor.as_fd().try_clone_to_owned()?;
        let source = Generic::new(descriptor, calloop::Interest::READ, Mode::Level);
        let handle = event_loop.handle();
        let inserted = handle.insert_source(source, |_, _, ()| Ok(PostAction::Continue));
        inserted.map_err(|refused| refused.error)?;
        loop {
            // In here the loop serves its own sources.
            event_loop.dispatch(reactor.next_timeout(), &mut ())?;
            if let Some(ended) = reactor.turn(&mut server, AT_ONCE)?.ended {
                return Ok(ended);
            }
        }
    }

    /// In a task of tokio's current-thread runtime, by a duplicate of the descriptor too.
    pub(super) fn tokio(mut reactor: Reactor<Server>, mut server: Server) -> io::Result<Ended> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let descriptor = reactor.as_fd().try_clone_to_owned()?;
            // tokio 1.53.3 has deprecated this in favour of an unsafe function, because a type may lie about its
            // descriptor. `OwnedFd` does not.
            #[allow(deprecated)]
            let descriptor = AsyncFd::with_interest(descriptor, tokio::io::Interest::READABLE)?;
            loop {
                match reactor.next_timeout() {
                    // There is work, but first the other tasks have their turn.
                    AT_ONCE => task::yield_now().await,
                    wait => {
                        let wait = wait.unwrap_or(Duration::MAX);
                        if let Ok(readable) = time::timeout(wait, descriptor.readable()).await {
                            // Before the turn: what comes during it makes it readable anew.
                            readable?.clear_ready();
                        }
                    }
                }
                if let Some(ended) = reactor.turn(&mut server, AT_ONCE)?.ended {
                    return Ok(ended);
                }
            }
        })
    }
}

/// The other way round: a thread copies standard input into a pipe, and waits when that is full; the reactor polls the
/// pipe beside its own sockets, and calls `on_ready`.
fn foreign(mut reactor: Reactor<Server>, mut server: Server) -> io::Result<Ended> {
    let (mut sender, mut receiver) = pipe::new()?;
    sender.set_nonblocking(false)?;
    thread::spawn(move || io::copy(&mut io::stdin(), &mut sender));
    let context = reactor.context();
    context.register(&mut receiver, Interest::READABLE)?;
    server.pipe = Some(receiver);
    reactor.run(&mut server)
}

fn serve(outer: &str, address: SocketAddr) -> io::Result<Ended> {
    let mut reactor = Reactor::with_limits(Limits {
        // Far fewer than the default, so that ten clients at once are more than one batch.
        events: 4,
        ..Limits::default()
    })?;
    let context = reactor.context();
    let listener = context.listen(&ListenOptions::new(address))?;
    let address = context.listener_addr(listener).unwrap_or(address);
    writeln!(io::stdout(), "listening on {address}")?;
    io::stdout().flush()?;
    if outer == "foreign" {
        return foreign(reactor, Server::default());
    }
    let handle = reactor.handle();
    thread::spawn(move || post_input(&handle));
    // mio can be built to use poll(2). Then there is no descriptor that could be polled in its turn.
    #[cfg(mio_unsupported_force_poll_poll)]
    return Err(io::Error::other(
        "with mio's poll(2) backend no reactor can be nested",
    ));
    #[cfg(not(mio_unsupported_force_poll_poll))]
    match outer {
        "mio" => outer::mio(reactor, Server::default()),
        "calloop" => outer::calloop(reactor, Server::default()),
        _ => outer::tokio(reactor, Server::default()),
    }
}

fn parse(words: &[OsString]) -> Option<(&str, SocketAddr)> {
    let [outer, address] = words else { return None };
    let outer = outer.to_str()?;
    let known = ["mio", "calloop", "tokio", "foreign"].contains(&outer);
    let address = address.to_str()?.parse().ok()?;
    known.then_some((outer, address))
}

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let Some((outer, address)) = parse(&words) else {
        eprintln!("usage: nested mio|calloop|tokio|foreign ADDRESS:PORT, not {words:?}");
        return ExitCode::from(2);
    };
    if let Err(error) = serve(outer, address) {
        eprintln!("nested: on {address}, in {outer}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
