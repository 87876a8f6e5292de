//! A reactor inside somebody else's loop, three ways; and somebody else's source inside a reactor.
//!
//! Run it with `cargo run --example nested -- tokio 127.0.0.1:7777`, or `mio`, `calloop`,
//! `foreign`; talk to it with `nc 127.0.0.1 7777`. It echoes, greets newcomers by a timer, tells
//! everybody what comes on its standard input (those who read too slowly miss some of that), and
//! drains and ends at the end of that input.
//!
//! To nest a reactor takes three things, the same in every loop:
//!
//! 1. The outer loop polls the reactor's descriptor, which is readable when the reactor has events.
//! 2. It sleeps no longer than `next_timeout()`: until the next timer or deadline, and not at all
//!    while there is work of which no event will tell: a connection that has used up its budget, a
//!    batch of events that was full.
//! 3. When it wakes, for whatever reason, it calls `turn` with a timeout of zero, which never
//!    waits.
//!
//! The reactor has no thread. The one here reads standard input: such a read may block, because a
//! file can't be polled, and a terminal that is made non-blocking is so for the shell too.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use mio::{Interest, unix::pipe};
use oread::{
    Accepted, Connection, ConnectionId, Context, Ended, Handle, Handler, Limits, ListenOptions,
    Pressure, Reactor, Readiness, SourceId,
};

/// How long everybody has to leave when standard input has ended.
const DRAIN: Duration = Duration::from_secs(5);

/// What serves the clients. It knows nothing of the loop that it's in.
#[derive(Default)]
struct Server {
    /// A foreign source. It's the handler's own: the reactor only polls it.
    pipe: Option<pipe::Receiver>,
}

impl Handler for Server {
    type Session = ();
    type Message = Vec<u8>;

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        connection.timer(Duration::from_millis(50)); // its key is the connection's id
    }

    fn on_timer(&mut self, context: &mut Context<'_, ()>, key: u64) {
        if let Some(mut connection) = context.connection(ConnectionId::from_bits(key)) {
            connection.write(b"hello\n");
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        connection.write(data);
        data.len()
    }

    fn on_message(&mut self, context: &mut Context<'_, ()>, words: Vec<u8>) {
        tell_everybody(context, &words);
    }

    /// Reads once, so that a writer who never pauses doesn't keep the clients waiting. By itself
    /// the next event would come only after a read that says `WouldBlock`: whoever stops before
    /// that asks to be told anew.
    fn on_ready(&mut self, context: &mut Context<'_, ()>, id: SourceId, _: Readiness) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut buffer = [0; 4096];
        match pipe.read(&mut buffer) {
            Ok(count @ 1..) => tell_everybody(context, &buffer[..count]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // The end, or an error, which is one too.
            Ok(0) | Err(_) => {
                context.deregister(pipe, id).ok();
                self.pipe = None;
                return context.drain(DRAIN);
            }
        }
        if let Err(error) = context.reregister(pipe, id, Interest::READABLE) {
            // Not `eprintln!`, which panics when nobody reads it.
            let _ = writeln!(
                io::stderr(),
                "nested: standard input is not heard any more: {error}"
            );
        }
    }
}

fn tell_everybody(context: &mut Context<'_, ()>, words: &[u8]) {
    context.for_each(|connection| {
        // Whoever doesn't read misses it. Written all the same, it would be kept, up to
        // `Limits::max_output`.
        if connection.pressure() == Pressure::Low {
            connection.write(words);
        }
    });
}

/// Posts standard input to the reactor, from a thread. The handle wakes the reactor, and the
/// reactor's descriptor wakes the loop around it.
fn post_input(handle: &Handle<Vec<u8>>) {
    let mut buffer = [0; 4096];
    loop {
        let words = match io::stdin().read(&mut buffer) {
            Ok(count @ 1..) => buffer[..count].to_vec(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return handle.drain(DRAIN),
        };
        // Here a thread may wait for room in the mailbox. When the reactor has ended, so does the
        // program.
        if handle.send_wait(words).is_err() {
            return;
        }
    }
}

#[cfg(not(mio_unsupported_force_poll_poll))]
mod outer {
    use std::os::fd::{AsFd, AsRawFd};

    use calloop::{EventLoop, Mode, PostAction, generic::Generic};
    use mio::{Events, Poll, Token, unix::SourceFd};
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

    /// calloop's sources own what they poll, so it gets a duplicate of the descriptor. The source
    /// only wakes the loop: the turn comes after every dispatch, for the end of a timeout calls no
    /// source.
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
            // Newer versions of tokio deprecate this in favour of an unsafe function, because a
            // type may lie about its descriptor. `OwnedFd` does not.
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

/// The other way round: a thread copies standard input into a pipe, and waits when that is full;
/// the reactor polls the pipe beside its own sockets, and calls `on_ready`.
fn foreign(mut reactor: Reactor<Server>, mut server: Server) -> io::Result<Ended> {
    let (mut sender, mut receiver) = pipe::new()?;
    sender.set_nonblocking(false)?;
    thread::spawn(move || io::copy(&mut io::stdin(), &mut sender));
    let mut context = reactor.context();
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
    let mut context = reactor.context();
    let listener = context.listen(&ListenOptions::new(address))?;
    let address = context.listener_addr(listener).unwrap_or(address.into());
    writeln!(io::stdout(), "listening on {address}")?;
    if outer == "foreign" {
        return foreign(reactor, Server::default());
    }
    let handle = reactor.handle();
    thread::spawn(move || post_input(&handle));
    // mio can be built to use poll(2). Then there is no descriptor that could be polled in its
    // turn.
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

fn run(words: &[String]) -> Result<(), (i32, String)> {
    let misused = |why: &str| {
        let usage = "usage: nested mio|calloop|tokio|foreign ADDRESS:PORT";
        (2, format!("{why}\n{usage}"))
    };
    let [_, outer, address] = words else {
        return Err(misused("expected two arguments"));
    };
    if !["mio", "calloop", "tokio", "foreign"].contains(&outer.as_str()) {
        return Err(misused(&format!("there is no loop {outer:?}")));
    }
    let wrong = |_| misused(&format!("{address:?} is no address with a port"));
    let address = address.parse().map_err(wrong)?;
    let served = serve(outer, address).map(drop);
    served.map_err(|error| (1, format!("on {address}, in {outer}: {error}")))
}

fn main() {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    if let Err((code, why)) = run(&words.collect::<Vec<_>>()) {
        eprintln!("nested: {why}");
        std::process::exit(code);
    }
}
