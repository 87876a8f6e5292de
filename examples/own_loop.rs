//! Two jobs on one thread: an echo server, and a count of primes that never keeps it waiting for
//! long.
//!
//! Run it with `cargo run --example own_loop`, and while it counts talk to it with
//! `nc 127.0.0.1 7777`. It ends by itself when it has counted.

use std::time::Duration;

use oread::{Accepted, Connection, Context, Handler, ListenOptions, Reactor};

/// Where the count ends, and how many numbers are looked at between two turns: as much work as a
/// client may wait for.
const LAST: u64 = 3_000_000;
const SLICE: u64 = 1_000;

/// An echo that knows how often it has answered. The loop below owns it: the reactor is only lent
/// it.
struct Echo {
    answers: u64,
}

impl Handler for Echo {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        self.answers += 1;
        connection.write(data);
        data.len()
    }
}

fn main() -> std::io::Result<()> {
    let mut echo = Echo { answers: 0 };
    let mut reactor = Reactor::new()?;
    let mut context = reactor.context();
    context.listen(&ListenOptions::new(([127, 0, 0, 1], 7777)))?;

    let (mut next, mut primes) = (0, 0);
    while next < LAST {
        primes += (next..next + SLICE).filter(|&n| is_prime(n)).count();
        next += SLICE;
        // Serve whoever is ready, and come straight back. A loop with nothing else to do would pass
        // `None` and wait; one that sleeps elsewhere asks `next_timeout()` for how long it may.
        reactor.turn(&mut echo, Some(Duration::ZERO))?;
    }
    println!(
        "{primes} primes below {LAST}, and {} answers meanwhile",
        echo.answers
    );

    // Everybody who is still there gets a second to finish; `run` comes back when all are gone.
    reactor.context().drain(Duration::from_secs(1));
    println!("{:?}", reactor.run(&mut echo)?);
    Ok(())
}

fn is_prime(n: u64) -> bool {
    n > 1
        && (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
}
