//! The end.

use std::time::Duration;

use oread::{Accepted, CloseReason, Connection, Context, Ended, Handler, Reactor};

use super::peers::{beside, call, expect, listen};

struct Polite;

impl Handler for Polite {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        connection.write(data);
        data.len()
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, ()>, reason: CloseReason) {
        writeln!(connection, "good-bye: {reason}");
    }
}

#[test]
fn a_drain_says_good_bye() -> std::io::Result<()> {
    let mut reactor = Reactor::new()?;
    let (address, handle) = (listen(&mut reactor), reactor.handle());
    let client = || {
        let mut stream = call(address);
        std::io::Write::write_all(&mut stream, b"hello\n").unwrap();
        expect(&mut stream, "hello\n");
        handle.drain(Duration::from_secs(60));
        expect(&mut stream, "good-bye: drained\n");
    };
    let run = || {
        // Another thread calls `handle.drain(Duration::from_secs(60))`.
        let ended = reactor.run(&mut Polite)?;
        assert_eq!(ended, Ended::Drained { cut: 0 });
        Ok(())
    };
    beside(&handle.clone(), client, run).1
}
