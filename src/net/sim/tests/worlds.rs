//! Whole worlds: a plain echo that takes the model at its word, under every fault that only delays.

use std::io::ErrorKind;

use super::*;
use crate::nonblocking::Stream;

/// One connection of the echo.
struct Line {
    stream: TcpStream,
    pending: Vec<u8>,
    readable: bool,
    writable: bool,
    ended: bool,
    shut: bool,
}

impl Line {
    fn hear(&mut self, told: Readiness) {
        let reads = Readiness::READABLE | Readiness::READ_CLOSED;
        self.readable |= told.intersects(reads);
        self.writable |= told.intersects(Readiness::WRITABLE);
    }

    /// Does what the events have said may be done, until it says "not now". True: it is over.
    fn drive(&mut self) -> bool {
        let mut buffer = [0; 3_000];
        loop {
            if self.pending.is_empty() && self.ended {
                self.shut |= self.stream.shutdown_write().is_ok();
                return self.shut;
            }
            if !self.pending.is_empty() && self.writable {
                match self.stream.write(&self.pending) {
                    Ok(count) => drop(self.pending.drain(..count)),
                    Err(error) if is_not_now(&error) => self.writable = false,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => panic!("{error}"),
                }
            } else if !self.ended && self.readable && self.pending.len() < 10_000 {
                match self.stream.read(&mut buffer) {
                    Ok(0) => self.ended = true,
                    Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                    Err(error) if is_not_now(&error) => self.readable = false,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => panic!("{error}"),
                }
            } else {
                return false;
            }
        }
    }
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotFound)
}

/// Runs one world; how many bytes were echoed.
fn run(seed: u64, poller: Poller) -> usize {
    let net = Net::new(seed);
    net.unleash(|fault| !fault.breaks());
    if std::env::var_os("OREAD_TRACE").is_some() {
        net.trace(true);
    }
    let mut random = Random::new(seed);
    let mut machine = Machine::on(net.clone(), poller);
    let peers: Vec<(Peer, Vec<u8>)> = (0..5)
        .map(|_| {
            let peer = net.connect_peer(address("10.0.0.1:80"));
            let count = random.magnitude(1, 10_000);
            let bytes: Vec<u8> = (0..count).map(|n| (n * 7) as u8).collect();
            match random.below(3) {
                0 => peer.send(&bytes),
                _ => peer.send_slowly(&bytes, 1 + count as usize / 5, Duration::from_millis(3)),
            }
            if random.one_in(3) {
                peer.read_slowly(700, Duration::from_millis(2));
            }
            peer.finish();
            (peer, bytes)
        })
        .collect();
    let mut lines: Vec<Option<Line>> = Vec::new();
    let done = |peers: &[(Peer, Vec<u8>)]| peers.iter().all(|(peer, _)| peer.has_ended());
    let mut turns = 0;
    while !done(&peers) {
        turns += 1;
        assert!(
            turns < 100_000,
            "seed {seed} {poller:?}: no end\n{}",
            net.traced()
        );
        let waited = machine.system.wait(&mut machine.events, None);
        if let Err(error) = waited {
            // The last peer's end comes of no call of ours.
            if done(&peers) {
                break;
            }
            panic!("seed {seed} {poller:?}: {error}\n{}", net.traced());
        }
        let events: Vec<Event> = machine.events.iter().collect();
        for event in events {
            let token = event.token();
            if token == LISTENER {
                accept(&mut machine, &mut lines);
            } else if let Some(Some(line)) = lines.get_mut(token) {
                line.hear(event.readiness());
                if line.drive() {
                    lines[token] = None;
                }
            }
        }
    }
    for (peer, bytes) in &peers {
        assert!(
            peer.received() == *bytes,
            "seed {seed} {poller:?}: not what was sent"
        );
        assert!(!peer.was_reset(), "seed {seed}");
    }
    peers.iter().map(|(_, bytes)| bytes.len()).sum()
}

fn accept(machine: &mut Machine, lines: &mut Vec<Option<Line>>) {
    loop {
        match machine.listener.accept() {
            Ok((mut stream, _)) => {
                let token = lines.len();
                machine.system.register_stream(&mut stream, token).unwrap();
                lines.push(Some(Line {
                    stream,
                    pending: Vec::new(),
                    readable: false,
                    writable: true,
                    ended: false,
                    shut: false,
                }));
            }
            Err(error) if is_not_now(&error) => return,
            // Errors of the host leave the caller where it is; a real acceptor waits before it
            // tries again.
            Err(_) => {}
        }
    }
}

#[test]
fn an_echo_loses_nothing_and_never_waits_in_vain_under_faults_that_only_delay() {
    let worlds = std::env::var("OREAD_WORLDS").map_or(300, |text| text.parse().unwrap());
    for seed in 0..worlds {
        for poller in [Poller::Epoll, Poller::Kqueue, Poller::Poll2] {
            assert!(run(seed, poller) > 0);
        }
    }
}
