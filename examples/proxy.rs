//! A TCP proxy: each caller of LISTEN gets a connection of its own to UPSTREAM, and bytes go both
//! ways.
//!
//! Run it with `cargo run --example proxy 127.0.0.1:7777 127.0.0.1:9999`. It says where it listens
//! (port 0: any free one), and runs until it's killed. Each caller takes two descriptors: mind
//! `ulimit -n`.
//!
//! To copy bytes is the least of it. A proxy must not be felt between its two ends:
//!
//! - *Backpressure* goes through (`on_data`, `on_drained`). What a slow end doesn't take fills its
//!   output up to the high-water mark. Then the other end is not read, and TCP slows it down. So a
//!   direction never keeps more than [`high_water`](oread::Limits) and one read.
//! - *Half-close* goes through (`on_eof`). One end may finish and still wait for all that the other
//!   has to say.
//! - *A break* goes through (`on_close`). Whoever sees an orderly end believes to have everything,
//!   so a stream that was cut on one side is reset on the other. An end that takes nothing for a
//!   minute counts as broken, too.
//! - *No upstream* is a break too, and a line in the log (`turn_away`): to a client whose protocol
//!   lets a server say nothing, an orderly end would be an answer.
//!
//! What it costs: a read and a write for each message, and a share of a poll; a large one isn't
//! copied. It takes 2.4 system calls to move 64 KiB one way: that is what `strace -f -c` counted
//! more for 900M than for 300M, when it stood before `oread serve` and
//! `head -c 900M /dev/zero | oread connect 127.0.0.1:7777 | wc -c` went there and back.

use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};

use oread::{
    Accepted, Address, CloseReason, ConnectOptions, ConnectionId as Id, Handler, Keepalive,
    ListenOptions, Pressure, Reactor,
};

/// How long the upstream may take to answer a dial.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// Lines of the log in a second: every peer may cause some. The next line tells how many were left
/// out.
const LINES: u64 = 10;

type Context<'a> = oread::Context<'a, Side>;
type Connection<'a> = oread::Connection<'a, Side>;

pub(crate) struct Proxy {
    pub(crate) upstream: ConnectOptions,
}

/// What each of the two connections of a pair keeps.
pub(crate) struct Side {
    /// The other one; `None` only until it's dialed. An id, not a reference: once that connection
    /// is gone, it finds nothing, whoever has its place by then.
    pub(crate) other: Option<Id>,
    /// Who is at the far end, for the log: the system forgets it when a connection is reset.
    peer: Address,
    /// Whether the far end has finished, so that what it sent is whole.
    ended: bool,
}

impl Side {
    fn new(peer: Address, other: Option<Id>) -> Side {
        Side {
            other,
            peer,
            ended: false,
        }
    }
}

/// The other connection of the pair, if it's still there.
fn other<'a>(connection: &'a mut Connection) -> Option<Connection<'a>> {
    let id = connection.session().other?;
    connection.context().connection(id)
}

impl Proxy {
    /// Cuts off a client for which there is no upstream: what it has sent went nowhere, and an
    /// orderly end would look as if it had been answered with nothing.
    fn turn_away(&self, client: &mut Connection, error: &io::Error) {
        let (peer, upstream) = (&client.session().peer, &self.upstream.address);
        log::warn!("{peer} is turned away: can't connect to {upstream}: {error}");
        client.abort(CloseReason::Aborted);
    }
}

impl Handler for Proxy {
    type Session = Side;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_>, caller: &Accepted) -> Option<Side> {
        Some(Side::new(caller.peer.clone(), None))
    }

    fn on_open(&mut self, client: &mut Connection) {
        if client.session().other.is_some() {
            return; // An upstream is there. What was written to it meanwhile goes out by itself.
        }
        // By default an accepted connection with too much output is not read, because input makes
        // output. Here the output comes from elsewhere, and one direction must not hold up the
        // other.
        client.read_on(true);
        // The id counts from now on: what the client sends first waits in the output of the
        // connection that is being made, and at the high-water mark the client is paused, as ever.
        let side = Side::new(self.upstream.address.clone(), Some(client.id()));
        match client.context().connect(&self.upstream, side) {
            Ok(upstream) => client.session_mut().other = Some(upstream),
            // Most likely the client has taken the last descriptor.
            Err(refused) => self.turn_away(client, &refused.error),
        }
    }

    fn on_data(&mut self, from: &mut Connection, data: &[u8]) -> usize {
        // `write` takes all, under pressure too. What is written to a connection that is gone or
        // broken is dropped, and `on_close` is about to end this one for it.
        if other(from).is_some_and(|mut to| to.write(data) == Pressure::High) {
            from.pause();
        }
        data.len()
    }

    fn on_drained(&mut self, to: &mut Connection) {
        if let Some(mut from) = other(to) {
            from.resume();
        }
    }

    fn on_eof(&mut self, from: &mut Connection, rest: &[u8]) {
        // This direction is at its end, behind what is still pending. The other one goes on.
        from.session_mut().ended = true;
        if let Some(mut to) = other(from) {
            to.write(rest); // what `on_data` left: nothing here, but it'd be lost
            to.finish();
        }
    }

    fn on_close(&mut self, context: &mut Context<'_>, _: Id, side: Side, why: CloseReason) {
        match side.other.and_then(|id| context.connection(id)) {
            // Both directions are at their end: the other connection was told by `on_eof`, and
            // closes by itself.
            Some(_) if why == CloseReason::Finished => {}
            // It broke after its end: what it sent is whole and is still to arrive, and nobody
            // waits for an answer.
            Some(mut other) if side.ended => other.close(why),
            Some(mut other) => {
                log::info!("{}: {why}; {} is reset", side.peer, other.session().peer);
                other.abort(CloseReason::Aborted);
            }
            // The other one went first, and this one was ended for it.
            None => {}
        }
    }

    fn on_connect_failed(&mut self, context: &mut Context<'_>, _: Id, side: Side, why: io::Error) {
        // Without a client nothing has failed: it left before the upstream was there, and
        // `on_close` gave that up.
        if let Some(mut client) = side.other.and_then(|id| context.connection(id)) {
            self.turn_away(&mut client, &why);
        }
    }
}

fn serve(listen: SocketAddr, upstream: SocketAddr) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let mut context = reactor.context();
    let mut options = ListenOptions::new(listen);
    let mut upstream = ConnectOptions::new(upstream);
    upstream.timeout = Some(UPSTREAM_TIMEOUT);
    // A machine that has vanished says nothing: without keepalive its connections would stay for
    // good.
    options.keepalive = Some(Keepalive::default());
    upstream.keepalive = options.keepalive;
    let listener = context.listen(&options)?;
    let address = context.listener_addr(listener).unwrap_or(listen.into());
    writeln!(io::stdout(), "listening on {address}")?;
    reactor.run(&mut Proxy { upstream }).map(|_| ())
}

/// Shows the log on standard error: our lines, and the library's, such as that no descriptor is
/// left to accept with.
///
/// A write there blocks once it's full because nobody reads it, and with it the proxy. A server
/// that must go on has a thread for its log, as `oread serve` has.
struct Stderr;

/// The second of the last line, since 1970, and how many it has had. Any thread may log, so they
/// are atomic.
static SECOND: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        let now = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        // Not `eprintln!`, which panics when standard error is gone.
        if SECOND.swap(now, Relaxed) != now {
            let left_out = COUNT.swap(0, Relaxed).saturating_sub(LINES);
            if left_out > 0 {
                let _ = writeln!(io::stderr(), "proxy: {left_out} lines were left out");
            }
        }
        if COUNT.fetch_add(1, Relaxed) < LINES {
            let _ = writeln!(io::stderr(), "proxy: {}", record.args());
        }
    }

    fn flush(&self) {}
}

fn run(words: &[String]) -> Result<(), (i32, String)> {
    let misused = |why: String| (2, why + "\nusage: proxy LISTEN UPSTREAM");
    let [_, listen, upstream] = words else {
        return Err(misused("expected two arguments".to_owned()));
    };
    let address = |text: &String| {
        let address = text.parse::<SocketAddr>();
        address.map_err(|_| misused(format!("{text:?} is no address with a port")))
    };
    let (listen, upstream) = (address(listen)?, address(upstream)?);
    let (ours, theirs) = (listen.ip().to_canonical(), upstream.ip().to_canonical());
    if upstream.port() == 0 || theirs.is_unspecified() {
        let why = format!("UPSTREAM needs an address and a port, not {upstream}");
        return Err(misused(why));
    }
    // 0.0.0.0 hears whatever comes to this machine, and [::] does over IPv4 too. Its addresses are
    // those that can be bound.
    let hears_all = ours.is_unspecified() && (ours.is_ipv6() || theirs.is_ipv4());
    let hears = ours == theirs || hears_all && UdpSocket::bind((theirs, 0)).is_ok();
    if hears && listen.port() == upstream.port() {
        let why = format!("from {listen} to {upstream} it would call itself without end");
        return Err(misused(why));
    }
    serve(listen, upstream).map_err(|error| (1, format!("can't serve on {listen}: {error}")))
}

fn main() {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    if let Err((code, why)) = run(&words.collect::<Vec<_>>()) {
        eprintln!("proxy: {why}");
        std::process::exit(code);
    }
}
