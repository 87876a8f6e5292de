//! The least program: an echo server of a dozen lines.
//!
//! Run it with `cargo run --example embed`, talk to it with `nc 127.0.0.1 7777`.

use oread::{Accepted, Connection, Context, Handler, ListenOptions, Reactor};

struct Echo;

impl Handler for Echo {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        connection.write(data);
        data.len()
    }
}

fn main() -> std::io::Result<()> {
    let mut reactor = Reactor::new()?;
    reactor
        .context()
        .listen(&ListenOptions::new(([127, 0, 0, 1], 7777)))?;
    reactor.run(&mut Echo).map(|_| ())
}
