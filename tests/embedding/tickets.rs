//! Datagrams.

use oread::{Accepted, Connection, Context, Datagram, Handler, UdpOptions};

use super::peers::beside;

#[derive(Default)]
struct Tickets {
    next: u64,
}

impl Handler for Tickets {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, ()>, question: &[u8]) {
        let ticket = self.next.to_string();
        if ticket.len() <= question.len() {
            datagram.reply(ticket.as_bytes());
            self.next += 1;
        }
    }
}

#[test]
fn each_question_is_answered_with_the_next_number() {
    let mut reactor = oread::Reactor::new().unwrap();
    let mut context = reactor.context();
    let options = UdpOptions::new(([127, 0, 0, 1], 0));
    let socket = context.bind_udp(&options).unwrap();
    let address = context.udp_addr(socket).unwrap();
    let client = || {
        let caller = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = std::time::Duration::from_secs(60);
        caller.set_read_timeout(Some(patience)).unwrap();
        for ticket in ["0", "1"] {
            caller.send_to(b"next?", address).unwrap();
            let mut answer = [0; 8];
            let count = caller.recv(&mut answer).unwrap();
            assert_eq!(&answer[..count], ticket.as_bytes());
        }
    };
    let mut tickets = Tickets::default();
    let (_, ended) = beside(&reactor.handle(), client, || reactor.run(&mut tickets));
    ended.unwrap();
}
