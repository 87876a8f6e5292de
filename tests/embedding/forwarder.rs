//! Datagrams that are answered later.

use std::collections::VecDeque;
use std::net::SocketAddr;

use oread::{Connection, Datagram, Handler, ReplyTo, UdpId, UdpOptions};

use super::peers::beside;

/// Passes on what comes to one socket, and passes the answers back, which come in order.
struct Forwarder {
    upstream: (UdpId, SocketAddr),
    asked: VecDeque<ReplyTo>,
}

const UPSTREAM: u64 = 1;

impl Handler for Forwarder {
    type Session = ();
    type Message = ();

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, ()>, data: &[u8]) {
        if datagram.key() == UPSTREAM {
            if let Some(to) = self.asked.pop_front() {
                datagram.context().reply(to, data);
            }
        } else if self.asked.len() < 1000 {
            self.asked.push_back(datagram.reply_to());
            let (socket, address) = self.upstream;
            datagram.context().send_to(socket, address, data);
        }
    }
}

#[test]
fn what_is_asked_is_passed_on_and_the_answers_come_back() -> std::io::Result<()> {
    let mut reactor = oread::Reactor::new()?;
    let mut context = reactor.context();
    let [server, client] = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let upstream = server.local_addr()?;

    let front = context.bind_udp(&UdpOptions::default())?; // a port of 127.0.0.1
    let back = context.bind_udp(&UdpOptions {
        key: UPSTREAM,
        connect_to: Some(upstream),
        ..UdpOptions::default()
    })?;
    let mut forwarder = Forwarder {
        upstream: (back, upstream),
        asked: VecDeque::new(),
    };

    client.connect(context.udp_addr(front).unwrap())?;
    let patience = std::time::Duration::from_secs(60);
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(patience))?;
    }
    let peers = || {
        for question in [b"one", b"two"] {
            client.send(question).unwrap();
            let mut bytes = [0; 8];
            let (count, from) = server.recv_from(&mut bytes).unwrap();
            let answer = [&bytes[..count], b"!"].concat();
            server.send_to(&answer, from).unwrap();
            let count = client.recv(&mut bytes).unwrap();
            assert_eq!(bytes[..count], *[&question[..], b"!"].concat());
        }
    };
    let (_, ended) = beside(&reactor.handle(), peers, || reactor.run(&mut forwarder));
    ended.map(drop)
}
