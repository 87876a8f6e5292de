//! Something for each connection.

use oread::{Accepted, CloseReason, Connection, ConnectionId, Context, Handler};

use super::peers::{ask, serve};

#[derive(Default)]
struct Meter {
    bytes_of_closed_connections: u64,
}

impl Handler for Meter {
    type Session = u64; // bytes so far
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, u64>, _: &Accepted) -> Option<u64> {
        Some(0)
    }

    fn on_data(&mut self, connection: &mut Connection<'_, u64>, data: &[u8]) -> usize {
        *connection.session_mut() += data.len() as u64;
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, u64>, _rest: &[u8]) {
        let total = *connection.session();
        writeln!(connection, "{total} bytes"); // never fails, so there's no `?`
        connection.finish();
    }

    fn on_close(&mut self, _: &mut Context<'_, u64>, _: ConnectionId, bytes: u64, _: CloseReason) {
        self.bytes_of_closed_connections += bytes;
    }
}

#[test]
fn each_connection_is_told_its_own_total() {
    let mut meter = Meter::default();
    let answers = serve(&mut meter, |address| {
        [ask(address, "one"), ask(address, "three")]
    });
    assert_eq!(answers, ["3 bytes\n", "5 bytes\n"]);
    assert_eq!(meter.bytes_of_closed_connections, 8);
}
