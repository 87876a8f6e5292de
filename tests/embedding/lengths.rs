//! Frames, over a socket and in a simulated network.

use oread::{Accepted, CloseReason, Connection, Context, Framing, Handler, Pressure};

use super::peers::{ask, serve};

struct Lengths;

impl Handler for Lengths {
    type Session = usize; // `scanned`
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, usize>, _: &Accepted) -> Option<usize> {
        Some(0)
    }

    fn on_data(&mut self, connection: &mut Connection<'_, usize>, data: &[u8]) -> usize {
        let mut lines = Framing::Lines.frames(data, *connection.session(), 1024);
        // Under `High`, stop: what is left comes again when the answers so far are out.
        while connection.pressure() == Pressure::Low {
            match lines.next() {
                Some(Ok(line)) => _ = writeln!(connection, "{}", line.payload.len()),
                Some(Err(_)) => connection.close(CloseReason::FrameTooLong), // now it's `Closed`
                None => break,
            }
        }
        *connection.session_mut() = lines.scanned();
        lines.consumed()
    }
}

#[test]
fn each_line_is_answered_with_its_length_and_too_long_a_one_ends_the_connection() {
    let long = "x".repeat(1025);
    let answers = serve(&mut Lengths, |address| {
        [
            ask(address, "one\n\nthr"),
            ask(address, &("two\n".to_owned() + &long)),
        ]
    });
    assert_eq!(answers, ["3\n0\n", "3\n"]);
}

#[cfg(feature = "sim")]
mod simulated {
    use std::time::Duration;

    use oread::sim::World;
    use oread::{Limits, ListenOptions};

    use super::Lengths;

    #[test]
    fn a_line_in_pieces_is_one_line_and_a_silent_peer_is_closed() -> std::io::Result<()> {
        let mut world = World::new(7);
        let minute = Duration::from_secs(60);
        let limits = Limits {
            idle_timeout: Some(minute),
            ..Limits::default()
        };
        let mut host = world.host(Lengths, limits)?;
        let address = ([10, 0, 0, 1], 80).into(); // an address of that world
        host.context().listen(&ListenOptions::new(address))?;

        let peer = world.connect(address);
        peer.send(b"four\nsev");
        peer.expect(b"4\n");
        peer.send(b"enth\n");
        peer.expect(b"7\n");
        world.settle(&mut host)?;
        peer.expect_end();
        world.advance(&mut host, minute)?; // takes no time
        assert!(peer.has_ended());
        Ok(())
    }
}
