//! A handler of one's own, and its tests without a socket, a thread or a pause: a greeter that
//! wants a name, a line long, every ten seconds. The real reactor runs it, in a simulated network.
//!
//! ```text
//! cargo run --example simulated --features sim     # a session with it, call by call
//! cargo test --example simulated --features sim    # its tests, at the end of this file
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Host, World};
use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Framing, Handler, Limits,
    ListenOptions, TimerId,
};

/// How long the greeter waits for the next name.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest name, in bytes.
const LONGEST: usize = 100;

struct Greeter;

type Deadline = Option<TimerId>; // of the next name

impl Handler for Greeter {
    type Session = Deadline;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, Deadline>, _: &Accepted) -> Option<Deadline> {
        Some(None)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, Deadline>) {
        expect_name(connection);
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Deadline>, data: &[u8]) -> usize {
        let mut lines = Framing::Lines.frames(data, 0, LONGEST);
        for line in lines.by_ref() {
            match line {
                Ok(name) => {
                    connection.write(b"hello, ");
                    connection.write(name.whole);
                    expect_name(connection);
                }
                Err(_) => {
                    connection.close(CloseReason::FrameTooLong);
                    break;
                }
            }
        }
        lines.consumed()
    }

    fn on_timer(&mut self, context: &mut Context<'_, Deadline>, key: u64) {
        if let Some(mut connection) = context.connection(ConnectionId::from_bits(key)) {
            connection.write(b"too slow\n");
            connection.close(CloseReason::IdleTimeout);
        }
    }
}

/// Gives the next name its deadline, in place of the last one's.
fn expect_name(connection: &mut Connection<'_, Option<TimerId>>) {
    let deadline = connection.timer(PATIENCE);
    if let Some(last) = connection.session_mut().replace(deadline) {
        connection.context().cancel(last);
    }
}

/// Where the greeter listens. No machine needs to have this address.
fn address() -> SocketAddr {
    ([10, 0, 0, 1], 80).into()
}

/// A host in `world` on which the greeter runs.
fn greeter(world: &mut World) -> io::Result<Host<Greeter>> {
    let mut host = world.host(Greeter, Limits::default())?;
    host.context().listen(&ListenOptions::new(address()))?;
    Ok(host)
}

fn main() -> io::Result<()> {
    let mut world = World::new(7);
    world.trace(true);
    let mut host = greeter(&mut world)?;
    let peer = world.connect(address());
    peer.send(b"Narcissus\n");
    world.settle(&mut host)?;
    world.advance(&mut host, PATIENCE)?;
    println!("{}", world.traced());
    println!("{:.3} s of simulated time", world.now().as_secs_f64());
    println!("the peer was told: {}", peer.received().escape_ascii());
    Ok(())
}

#[cfg(test)]
mod tests {
    use oread::sim::{Fault, check};

    use super::*;

    #[test]
    fn a_name_in_pieces_is_one_name() -> io::Result<()> {
        let mut world = World::new(1);
        let mut host = greeter(&mut world)?;
        let peer = world.connect(address());
        peer.send(b"Ec");
        world.settle(&mut host)?;
        assert_eq!(peer.received(), b"");
        peer.send(b"ho\nPan\n");
        peer.expect(b"hello, Echo\nhello, Pan\n");
        world.settle(&mut host)
    }

    #[test]
    fn whoever_gives_no_name_in_time_is_told_and_sent_away() -> io::Result<()> {
        let mut world = World::new(2);
        let mut host = greeter(&mut world)?;
        let peer = world.connect(address());
        // A byte every second is no name.
        peer.send_slowly(&[b'.'; 60], 1, Duration::from_secs(1));
        world.advance(&mut host, PATIENCE - Duration::from_secs(1))?;
        assert_eq!(peer.received(), b"");
        world.advance(&mut host, Duration::from_secs(2))?;
        assert_eq!(peer.received(), b"too slow\n");
        assert!(peer.has_ended() && !peer.was_reset());
        Ok(())
    }

    #[test]
    fn a_reply_that_the_network_breaks_ends_one_connection_only() -> io::Result<()> {
        let mut world = World::new(3);
        let mut host = greeter(&mut world)?;
        let (one, other) = (world.connect(address()), world.connect(address()));
        world.settle(&mut host)?;
        world.fault(Fault::ResetBeforeWrite, 1);
        one.send(b"Echo\n");
        world.settle(&mut host)?;
        assert_eq!((one.received(), host.context().stats().open), (vec![], 1));
        other.send(b"Pan\n");
        other.expect(b"hello, Pan\n");
        world.settle(&mut host)
    }

    /// Whatever the network, the system and the peers do: a peer is told its names, in order, and
    /// at the end perhaps that it was too slow. Where nothing breaks it is told all of them.
    #[test]
    fn every_name_is_greeted_in_order_whatever_happens() {
        check(0..300, |world| {
            world.unleash();
            let Ok(mut host) = greeter(world) else {
                return; // a fault of the system: nothing is there to be tested
            };
            let mut greeted = Vec::new();
            let peer = world.connect(address());
            for number in 0..world.count(20) {
                let line = format!("nymph {number}\n");
                greeted.extend_from_slice(format!("hello, {line}").as_bytes());
                peer.send_slowly(line.as_bytes(), 4, Duration::from_millis(world.roll(20)));
            }
            world.settle(&mut host).unwrap();
            world.recover(&mut host).unwrap();
            let told = peer.received();
            let names = told.strip_suffix(b"too slow\n").unwrap_or(&told);
            assert!(greeted.starts_with(names), "{}", told.escape_ascii());
            assert!(world.has_broken() || told == greeted || told != names);
        });
    }
}
