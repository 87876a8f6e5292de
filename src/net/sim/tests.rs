//! The model against what it says of itself, and against the real system.

mod compare;
mod datagrams;
mod rules;
mod worlds;

use std::time::Duration;

use super::pump::{Ledger, Reading};
use super::system::{Event, inet};
use super::*;
use crate::options::{ConnectOptions, ListenOptions};
use crate::readiness::Readiness;

/// `text` as an address.
fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A process with a listener, and what it takes to look at its events.
struct Machine {
    net: Net,
    system: System,
    listener: TcpListener,
    events: Events,
}

const LISTENER: usize = 1000;

impl Machine {
    fn new(seed: u64, poller: Poller) -> Machine {
        Machine::on(Net::new(seed), poller)
    }

    fn on(net: Net, poller: Poller) -> Machine {
        let system = net.process(poller).system().unwrap();
        let at = ListenOptions::new(address("10.0.0.1:80"));
        let mut listener = system.listen(&at, None).unwrap();
        system.register_listener(&mut listener, LISTENER).unwrap();
        Machine {
            net,
            system,
            listener,
            events: Events::with_capacity(64),
        }
    }

    /// Lets happen what is to happen soon.
    fn settle(&self) {
        self.net.advance(Duration::from_millis(100));
    }

    /// A peer that dialled, and the end that was accepted, registered as `token`.
    fn accept(&mut self, token: usize) -> (Peer, TcpStream) {
        let to = inet(&self.listener.local_addr().unwrap()).unwrap();
        let peer = self.net.connect_peer(to);
        self.settle();
        let (mut stream, _) = self.listener.accept().unwrap();
        self.system.register_stream(&mut stream, token).unwrap();
        (peer, stream)
    }

    /// An end that was dialled from here, and the one that was accepted.
    fn dial(&self, options: &ConnectOptions) -> (TcpStream, TcpStream) {
        let dialled = self.system.dial(options).unwrap();
        loop {
            self.net.advance(Duration::from_millis(1));
            if let Ok((accepted, _)) = self.listener.accept() {
                return (dialled, accepted);
            }
        }
    }

    /// What is told of `token` now, all batches together.
    fn told(&mut self, token: usize) -> Readiness {
        let mut told = Readiness::EMPTY;
        loop {
            self.system
                .wait(&mut self.events, Some(Duration::ZERO))
                .unwrap();
            if self.events.is_empty() {
                return told;
            }
            let events = self.events.iter();
            events
                .filter(|event| event.token() == token)
                .for_each(|event| told |= event.readiness());
        }
    }
}
