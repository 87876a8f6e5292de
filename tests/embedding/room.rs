//! To other connections, by their ids.

use oread::{Accepted, CloseReason, Connection, ConnectionId, Context, Handler, Pressure};

use super::peers::{call, expect, serve};

#[derive(Default)]
struct Room {
    members: Vec<ConnectionId>,
}

impl Handler for Room {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, connection: &mut Connection<'_, ()>) {
        self.members.push(connection.id());
        connection.write(b"welcome\n");
    }

    fn on_data(&mut self, from: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        let own = from.id();
        for &id in self.members.iter().filter(|&&id| id != own) {
            match from.context().connection(id) {
                // A member that doesn't read misses it. A write would be kept, up to `max_output`.
                Some(slow) if slow.pressure() == Pressure::High => {}
                Some(mut member) => _ = member.write(data),
                None => {} // closed, and `on_close` is on its way
            }
        }
        data.len()
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, gone: ConnectionId, _: (), _: CloseReason) {
        self.members.retain(|&id| id != gone);
    }
}

#[test]
fn what_one_member_says_reaches_the_other() {
    serve(&mut Room::default(), |address| {
        let mut members = [call(address), call(address)];
        for member in &mut members {
            expect(member, "welcome\n");
        }
        std::io::Write::write_all(&mut members[0], b"hello").unwrap();
        expect(&mut members[1], "hello");
    });
}
