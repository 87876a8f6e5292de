//! The generators: each a reactor in a thread of its own, which opens connections and loads them.
//!
//! What is done next is decided by a state machine that knows neither a socket nor a clock, and is
//! executed by another file:
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | what is due next: a dial, a message, a close, a wait, the end |
//! | `plan/told` | what it's told: dials, messages and connections, and what became of them |
//! | `plan/phases` over `timeline` | ramp, warm-up, measured time, finish, end |
//! | `plan/counts` | what has been counted so far, for scrapes |
//! | `flows` over `flow`, `gauge` | connections and UDP sockets, and what is under way |
//! | `plan/staging` over `levels` | connections that become more, or fewer, over time |
//! | `dialing`, `schedule` | which dial is next; even pace |
//! | `random_times`, `course` | a pace at random, and one in stages |
//! | `meter` over `fast_histogram`, `by_whom` | what is counted, in all and of each |
//! | `drive` with `tcp`, `tls`, `udp`, `wake` | executes the plan |
//! | `secure` | TLS sessions; with those that execute the plan all that knows the reactor |
//! | `payload`, `label` | what messages and datagrams consist of |
//! | `names`, `logs` | what errors are called, and what is logged |
//! | `protocol` | what the lead hears, and how |
//!
//! Every message is counted by when it was *due*: what lies before the measured time is not in its
//! figures, whenever its answer comes.

mod answers;
mod by_whom;
mod course;
mod dialing;
mod drive;
mod fast_histogram;
mod flow;
mod flows;
mod gauge;
mod label;
mod levels;
mod logs;
mod meter;
mod names;
pub(crate) mod payload;
mod plan;
pub(crate) mod protocol;
mod random_times;
mod schedule;
mod secure;
#[cfg(all(test, feature = "sim"))]
pub(crate) mod simulated;
mod tcp;
mod timeline;
mod tls;
mod udp;
mod wake;

use std::io;

use oread::{Ended, Limits, Reactor};

use crate::failure::Reason;
use crate::load::count::Tally;
use crate::system::timer::Timer;
use protocol::{Event, Setup};

pub(crate) use dialing::Endpoint;
pub(crate) use drive::Generator;
pub(crate) use gauge::Gauge;
pub(crate) use wake::Clock;

/// A reactor with a generator's messages.
pub(crate) type Generating = Reactor<Generator>;

/// The limits of a generator's reactor.
fn limits(longest_answer: u32) -> Limits {
    let limits = Limits::default();
    Limits {
        // An answer is looked at whole, where its end or what it holds takes that.
        max_input: limits.max_input.max(longest_answer as usize + 1),
        // A server that does not read shows in the latency and in the time-outs; cutting it off
        // would hide it.
        write_timeout: None,
        // A connection is closed when its answers have come or were given up: there is nothing to
        // wait for, and a server that never closes its side must not keep the descriptors of those
        // that are to be replaced.
        linger_bytes: 0,
        ..limits
    }
}

/// A reactor for a generator, and the timer that wakes it, where the system has one. An answer has
/// so many bytes at most.
///
/// # Errors
/// As the system gives them: out of descriptors.
pub(crate) fn reactor(longest_answer: u32) -> io::Result<(Generating, Option<Timer>)> {
    let mut reactor = Reactor::with_limits(limits(longest_answer))?;
    let timer = Timer::new(&mut reactor.context())?;
    Ok((reactor, timer))
}

/// Runs a generator to its end; what it has counted, until it failed if it did.
pub(crate) fn run(mut reactor: Generating, timer: Option<Timer>, setup: Setup) -> Tally {
    let now = setup.clock.now(&reactor.context());
    let mut generator = Generator::new(setup, timer, now);
    if let Err(error) = turn(&mut reactor, &mut generator) {
        let words = format!("a generator failed: {}", Reason(&error));
        generator.say(Event::Failed(words));
    }
    generator.finish(&reactor.context())
}

/// Turns the reactor until the generator has ended.
fn turn(reactor: &mut Generating, generator: &mut Generator) -> io::Result<()> {
    loop {
        generator.carry_on(&mut reactor.context())?;
        let turn = reactor.turn(generator, generator.wait())?;
        if let Some(Ended::Drained { .. } | Ended::Stopped) = turn.ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
