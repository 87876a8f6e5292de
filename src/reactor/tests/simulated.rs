//! A reactor over a simulated system: an echo, and its peers in the test's own hands.

use super::*;
use crate::net::sim::{Net, Peer, Poller, Random};
use crate::net::{self, System};
use crate::nonblocking::Stream as _;
use crate::options::ConnectOptions;

/// Echoes what comes.
#[derive(Default)]
struct Echo {
    opened: u32,
    closed: Vec<CloseReason>,
}

impl Handler for Echo {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, _: &mut Connection<'_, ()>) {
        self.opened += 1;
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        connection.write(data);
        data.len()
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, _: ConnectionId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

fn echo(net: &Net, poller: Poller) -> (Reactor<Echo>, SocketAddr) {
    let system = System::Sim(net.process(poller).system().unwrap());
    // A peer that vanishes while nothing is under way is missed by nothing else.
    let limits = Limits {
        idle_timeout: Some(Duration::from_secs(300)),
        ..Limits::default()
    };
    let mut reactor = Reactor::with_system(system, limits).unwrap();
    let at: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let listen = ListenOptions::new(at);
    // A fault may be in the way of the first attempts.
    while reactor.context().listen(&listen).is_err() {}
    (reactor, at)
}

#[test]
fn a_reactor_echoes_to_a_simulated_peer() {
    for poller in [Poller::Epoll, Poller::Kqueue, Poller::Poll2] {
        let net = Net::new(7);
        let (mut reactor, at) = echo(&net, poller);
        let mut handler = Echo::default();
        let peer = net.connect_peer(at);
        peer.send(b"hello");
        peer.finish();
        while handler.closed.is_empty() {
            reactor.turn(&mut handler, None).unwrap();
        }
        net.advance(Duration::from_secs(1));
        assert_eq!(peer.received(), b"hello");
        assert!(peer.has_ended() && !peer.was_reset());
        assert!(matches!(handler.closed[..], [CloseReason::Finished]));
    }
}

/// One world of a few peers, under every fault that only delays.
fn run(seed: u64, poller: Poller) {
    let net = Net::new(seed);
    net.unleash(|fault| !fault.breaks());
    net.trace(std::env::var_os("OREAD_TRACE").is_some());
    let mut random = Random::new(seed);
    let (mut reactor, at) = echo(&net, poller);
    let mut handler = Echo::default();
    let peers: Vec<(Peer, Vec<u8>)> = (0..5)
        .map(|_| {
            let peer = net.connect_peer(at);
            let count = random.magnitude(1, 10_000);
            let bytes: Vec<u8> = (0..count).map(|n| (n * 7) as u8).collect();
            peer.send_slowly(
                &bytes,
                1 + count as usize / 3,
                Duration::from_micros(random.magnitude(1, 10_000)),
            );
            peer.finish();
            (peer, bytes)
        })
        .collect();
    let done = |peers: &[(Peer, Vec<u8>)]| peers.iter().all(|(peer, _)| peer.has_ended());
    while !done(&peers) {
        if let Err(error) = reactor.turn(&mut handler, None) {
            // The last peer's end comes of no call of ours.
            if done(&peers) {
                break;
            }
            panic!("seed {seed} {poller:?}: {error}\n{}", net.traced());
        }
        assert!(
            net.idle_turns() < 1_000,
            "seed {seed} {poller:?}: a spin\n{}",
            net.traced()
        );
    }
    for (peer, bytes) in &peers {
        let traced = net.traced();
        assert!(
            peer.received() == *bytes,
            "seed {seed} {poller:?}\n{traced}"
        );
    }
}

#[test]
fn an_echo_loses_nothing_under_faults_that_only_delay() {
    let worlds = std::env::var("OREAD_WORLDS").map_or(200, |text| text.parse().unwrap());
    for seed in 0..worlds {
        for poller in [Poller::Epoll, Poller::Kqueue, Poller::Poll2] {
            run(seed, poller);
        }
    }
}

#[test]
fn a_reactor_outlives_every_fault_and_closes_each_connection_once() {
    let worlds = std::env::var("OREAD_WORLDS").map_or(60, |text| text.parse().unwrap());
    for seed in 0..worlds {
        for poller in [Poller::Epoll, Poller::Kqueue, Poller::Poll2] {
            let net = Net::new(seed);
            net.unleash(|_| true);
            net.trace(std::env::var_os("OREAD_TRACE").is_some());
            let (mut reactor, at) = echo(&net, poller);
            let mut handler = Echo::default();
            for count in 0..5 {
                let peer = net.connect_peer(at);
                peer.send_slowly(&vec![1; 3_000], 1 + count * 500, Duration::from_millis(2));
                peer.finish();
            }
            let end = Duration::from_secs(3_600);
            while net.elapsed() < end {
                let turned = reactor.turn(&mut handler, Some(Duration::from_secs(60)));
                assert!(turned.is_ok(), "seed {seed} {poller:?}: {turned:?}");
                assert!(net.idle_turns() < 1_000, "seed {seed} {poller:?}: a spin");
            }
            let stats = reactor.context().stats();
            let (closed, traced) = (handler.closed.len() as u64, net.traced());
            let told = format!("seed {seed} {poller:?}\n{traced}");
            assert_eq!(stats.accepted, closed, "{told}");
        }
    }
}

/// A stream that somebody else has connected, and its peer, which reads nothing.
fn connected(net: &Net, reactor: &Reactor<Echo>) -> (net::TcpStream, Peer) {
    let server = net.listen_peer("10.0.0.2:80".parse().unwrap());
    server.stop_reading();
    let options = ConnectOptions::new(server.local_addr());
    let stream = reactor.core.system.dial(&options).unwrap();
    net.advance(Duration::from_secs(1));
    assert!(stream.established().unwrap());
    (stream, server.accept().unwrap())
}

#[test]
fn an_adopted_stream_that_has_no_room_is_open_at_once() {
    for poller in [Poller::Epoll, Poller::Kqueue, Poller::Poll2] {
        let net = Net::new(7);
        let (mut reactor, _) = echo(&net, poller);
        let (mut stream, _peer) = connected(&net, &reactor);
        while stream.write(&[0; 65_536]).is_ok() {
            net.advance(Duration::from_secs(1));
        }
        assert!(reactor.context().take_over((), |_| Ok(stream)).is_ok());
        let mut handler = Echo::default();
        reactor.turn(&mut handler, Some(Duration::ZERO)).unwrap();
        assert_eq!(handler.opened, 1, "{poller:?}");
    }
}

#[test]
fn a_stream_whose_reset_somebody_has_read_before_is_not_adopted() {
    for poller in [Poller::Epoll, Poller::Kqueue, Poller::Poll2] {
        let net = Net::new(7);
        let (mut reactor, _) = echo(&net, poller);
        let (mut stream, peer) = connected(&net, &reactor);
        peer.reset();
        net.advance(Duration::from_secs(1));
        assert!(stream.take_error().unwrap().is_some());
        let adopted = reactor.context().take_over((), |_| Ok(stream));
        let kind = adopted.unwrap_err().error.kind();
        assert_eq!(kind, std::io::ErrorKind::NotConnected, "{poller:?}");
    }
}
