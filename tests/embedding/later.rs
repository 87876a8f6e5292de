//! Timers.

use std::time::Duration;

use oread::{Accepted, CloseReason, Connection, ConnectionId, Context, Handler};

use super::peers::{ask, serve};

/// Bytes that are kept for a connection.
const MOST: usize = 64 << 10;

struct Later;

impl Handler for Later {
    type Session = Vec<u8>;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, Vec<u8>>, _: &Accepted) -> Option<Vec<u8>> {
        Some(Vec::new())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Vec<u8>>, data: &[u8]) -> usize {
        if connection.session().len() + data.len() > MOST {
            // Nothing that a peer sends may grow without a bound.
            connection.close(CloseReason::InputOverflow);
        } else {
            connection.session_mut().extend_from_slice(data);
        }
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, Vec<u8>>, _: &[u8]) {
        // No `finish` here: our side of the connection goes on.
        connection.timer(Duration::from_millis(20)); // its key is the connection's id
    }

    fn on_timer(&mut self, context: &mut Context<'_, Vec<u8>>, key: u64) {
        // The connection may be gone by now: then the id finds nothing.
        if let Some(mut connection) = context.connection(ConnectionId::from_bits(key)) {
            let words = std::mem::take(connection.session_mut());
            connection.write(&words);
            connection.close(CloseReason::Closed);
        }
    }
}

#[test]
fn the_answer_comes_after_the_peer_s_end() {
    assert_eq!(serve(&mut Later, |address| ask(address, "hello")), "hello");
}
