//! `oread connect`: standard input to a server, what it sends to standard output.
//!
//! From a terminal it is a conversation: a line goes out when it is typed, what comes is shown when
//! it comes, and a line that is only `q` or `Q` ends it. From a file or a pipe `q` is a line like
//! any other, and in raw framing there are no lines: the bytes are sent and printed as they are,
//! both ways at once.
//!
//! With another framing, and over UDP, each line of input is a message, without its newline, and
//! each message that comes is printed with a newline behind it, whatever standard output is. A line
//! that is no such message (`fixed:4` takes only lines of 4 bytes) is told and left out when it was
//! typed; in a file or a pipe it is the end of the input, and the exit code is 1.
//!
//! | file | what it is |
//! |---|---|
//! | `connect/args`, `connect/check` | arguments as typed and as checked |
//! | `connect/stream`, `connect/datagrams` | the client over TCP and over UDP, each a handler |
//! | `connect/dial` | each address of a name in its turn |
//! | `connect/input`, `connect/output` | the threads of standard input and output, bounded |
//! | `connect/message` | what these threads tell the loop; messages in the log |
//! | `connect/lines` | input as lines |
//! | `connect/screen` | output as a terminal may be shown it |
//! | `connect/outbox` | lines on their way out as datagrams |

pub(crate) mod args;
pub(crate) mod check;
mod datagrams;
mod dial;
mod input;
mod lines;
mod message;
mod outbox;
mod output;
mod screen;
mod stream;

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oread::{Address, Handler, Limits, Reactor};

use self::check::Connect;
use self::datagrams::Talker;
use self::dial::Dialer;
use self::input::Input;
use self::output::Output;
use self::stream::Client;
use crate::failure::{Failure, Reason};
use crate::system::logging::Audience;
use crate::values::verbosity::Verbosity;

/// Messages there can be at a time: the buffers of input and its end, room, a failure. With room
/// for more than that, the mailbox is never full.
const MAILBOX: usize = 2 * (input::BUFFERS + 3);

/// How long connecting may take where nothing is said of it.
const CONNECTING: Duration = Duration::from_secs(10);

/// Pending output at which standard input is read no more: as much as all its buffers hold.
const HIGH_WATER: usize = input::BUFFERS * input::SIZE;

/// Who reads the log: with `-v` it is a log for people who talk too.
pub(crate) fn audience(connect: &Connect) -> Audience {
    let more = matches!(
        connect.verbosity,
        Verbosity::Connections | Verbosity::Messages | Verbosity::Everything
    );
    if io::stdin().is_terminal() && !more {
        Audience::Talker
    } else {
        Audience::Later
    }
}

/// Talks to a server.
///
/// # Errors
/// Exit code 1: no connection, or it broke, or input that can't be sent.
pub(crate) fn run(connect: &Connect) -> Result<(), Failure> {
    let deadline = Instant::now() + connect.timeout.unwrap_or(CONNECTING);
    let addresses = connect.address.resolve()?;
    let sources = match &connect.bind {
        Some(bind) => bind.resolve()?,
        None => Vec::new(),
    };
    if connect.udp {
        let addresses = addresses.iter().filter_map(Address::socket_addr);
        talk(connect, addresses.collect(), sources)
    } else {
        stream(connect, Dialer::new(addresses, sources, deadline))
    }
}

/// Talks over TCP.
fn stream(connect: &Connect, dialer: Dialer) -> Result<(), Failure> {
    let max_frame = connect.max_frame.get() as usize;
    let mut reactor: Reactor<Client> = reactor(stream_limits(connect))?;
    let input = Input::new(reactor.handle())?;
    let output = Output::start(reactor.handle())?;
    let typed = io::stdin().is_terminal();
    let mut client = Client::new(dialer, connect.framing, max_frame, typed, input, output);
    client.patience = connect.timeout;
    client.dial(&mut reactor.context());
    let result = loop {
        if let Some(result) = client.result.take() {
            break result;
        }
        turn(&mut reactor, &mut client)?;
    };
    result.and(client.output.finish())
}

/// Talks over UDP.
fn talk(
    connect: &Connect,
    addresses: Vec<SocketAddr>,
    sources: Vec<SocketAddr>,
) -> Result<(), Failure> {
    let mut reactor: Reactor<Talker> = reactor(Limits {
        mailbox: MAILBOX,
        ..Limits::default()
    })?;
    let input = Input::new(reactor.handle())?;
    let output = Output::start(reactor.handle())?;
    let typed = io::stdin().is_terminal();
    let mut talker = Talker::new(addresses, sources, connect.wait, typed, input, output);
    talker.start(&mut reactor.context());
    let result = loop {
        if let Some(result) = talker.result.take() {
            break result;
        }
        turn(&mut reactor, &mut talker)?;
        talker.look_for_errors(&mut reactor.context());
    };
    talker.finish(result)
}

fn reactor<H: Handler>(limits: Limits) -> Result<Reactor<H>, Failure> {
    Reactor::with_limits(limits).map_err(|error| unpolled(&error))
}

fn turn<H: Handler>(reactor: &mut Reactor<H>, handler: &mut H) -> Result<(), Failure> {
    let turn = reactor.turn(handler, None);
    turn.map(drop).map_err(|error| unpolled(&error))
}

fn unpolled(error: &io::Error) -> Failure {
    Failure::runtime(format!("the system can't be polled: {}", Reason(error)))
}

/// The limits of a client over TCP.
fn stream_limits(connect: &Connect) -> Limits {
    let max_frame = connect.max_frame.get() as usize;
    let defaults = Limits::default();
    Limits {
        // The longest message with its prefix, and the byte that would be one too many.
        max_input: max_frame.saturating_add(connect.framing.overhead() + 1),
        high_water: HIGH_WATER,
        low_water: HIGH_WATER / 2,
        // Never reached: input stops at the high-water mark. Lines of no byte become 8 with a
        // prefix.
        max_output: max_frame.saturating_add(defaults.max_output),
        // A server may take as long as it likes: who waits for it can stop.
        write_timeout: None,
        // Nobody waits for the end of a server that was given up.
        linger_bytes: 0,
        mailbox: MAILBOX,
        ..defaults
    }
}
