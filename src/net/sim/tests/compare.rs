//! The same calls on real sockets and on the model's, answer by answer and event by event.
//!
//! Each call is followed by a rest in which all that can arrive does, so that nothing is left to
//! chance: what the model says must then be what the kernel says.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::sys::socket::sockopt::TcpNoDelay;
use nix::sys::socket::{MsgFlags, send, setsockopt};

use super::{Net, Poller, Random, address};
use crate::address::Address;
use crate::net::sim;
use crate::nonblocking::Stream;
use crate::options::{ConnectOptions, ListenOptions};
use crate::readiness::Readiness;

/// A call at one of the two ends.
#[derive(Clone, Copy, Debug)]
enum Call {
    Read(usize),
    Write(usize),
    Urgent,
    Shutdown,
    TakeError,
    PeerAddress,
    IsInFlight,
    Close,
    Reset,
}

/// Two ends of one connection, 0 having dialled 1, registered by these numbers.
trait Pair {
    /// Makes the call at an end that is open, and says what came of it.
    fn call(&mut self, end: usize, call: Call) -> String;
    /// What is told of each end when all has arrived.
    fn told(&mut self) -> [Readiness; 2];
}

/// Makes the call on any stream.
fn on<S: Stream>(stream: &mut S, call: Call) -> String {
    match call {
        Call::Read(most) => {
            let mut buffer = vec![0; most];
            match stream.read(&mut buffer) {
                Ok(count) => format!("{:?}", &buffer[..count]),
                Err(error) => format!("{:?}", error.kind()),
            }
        }
        Call::Write(count) => {
            let bytes: Vec<u8> = (0..count).map(|n| n as u8).collect();
            format!("{:?}", stream.write(&bytes).map_err(|e| e.kind()))
        }
        Call::Shutdown => format!("{:?}", stream.shutdown_write().map_err(|e| e.kind())),
        Call::TakeError => format!("{:?}", stream.take_error().unwrap().map(|e| e.kind())),
        Call::IsInFlight => format!("{:?}", stream.in_flight().map(|bytes| bytes > 0)),
        Call::Urgent | Call::PeerAddress | Call::Close | Call::Reset => String::new(),
    }
}

struct Real {
    poll: crate::net::real::System,
    events: crate::net::real::Events,
    ends: [Option<crate::net::real::TcpStream>; 2],
    /// How long it waits for acknowledgements, in all.
    patience: Duration,
}

impl Real {
    fn new() -> Real {
        let at = ListenOptions::new(address("127.0.0.1:0"));
        let mut turns = crate::net::testing::Loop::new();
        let (dialled, accepted) = turns.pair(&at, 0);
        Real {
            poll: turns.poll,
            events: turns.events,
            ends: [Some(dialled), Some(accepted)],
            patience: Duration::from_secs(2),
        }
    }
}

impl Pair for Real {
    fn call(&mut self, end: usize, call: Call) -> String {
        let Some(stream) = &mut self.ends[end] else {
            return String::new();
        };
        match call {
            Call::Urgent => {
                let fd = stream.as_fd().as_raw_fd();
                let flags = MsgFlags::MSG_OOB | MsgFlags::MSG_NOSIGNAL;
                let sent = send(fd, b"!", flags);
                let sent = sent.map_err(|error| std::io::Error::from(error).kind());
                format!("{sent:?}")
            }
            Call::PeerAddress => peer_address(stream.peer_addr()),
            Call::Close | Call::Reset => {
                if matches!(call, Call::Reset) {
                    stream.reset_on_close().unwrap();
                }
                self.ends[end] = None;
                String::new()
            }
            call => on(stream, call),
        }
    }

    fn told(&mut self) -> [Readiness; 2] {
        let mut told = [Readiness::EMPTY; 2];
        // Loopback delivers within the call itself, but for delayed acknowledgements.
        let mut rounds = 2;
        while rounds > 0 {
            let zero = Some(Duration::ZERO);
            self.poll.wait(&mut self.events, zero).unwrap();
            for event in self.events.iter().filter(|event| event.token() < 2) {
                told[event.token()] |= event.readiness();
            }
            let ends = self.ends.iter_mut().flatten();
            let waits = ends.map(|end| end.in_flight().unwrap_or(0)).sum::<u32>() > 0;
            match waits && self.patience > Duration::ZERO {
                true => {
                    std::thread::sleep(Duration::from_millis(1));
                    self.patience = self.patience.saturating_sub(Duration::from_millis(1));
                }
                false => {
                    // What has been acknowledged may still be on its way to the poller: whoever
                    // handles that holds the socket's lock, for which this call waits.
                    for end in self.ends.iter().flatten() {
                        setsockopt(end, TcpNoDelay, &true).unwrap();
                    }
                    rounds -= 1;
                }
            }
        }
        told
    }
}

struct Simulated {
    net: Net,
    system: sim::System,
    events: sim::Events,
    ends: [Option<sim::TcpStream>; 2],
}

impl Simulated {
    fn new(seed: u64) -> Simulated {
        let net = Net::new(seed);
        net.state().settings.buffers = (200_000, 200_000);
        let poller = match cfg!(mio_unsupported_force_poll_poll) {
            true => Poller::Poll2,
            false => Poller::Epoll,
        };
        let system = net.process(poller).system().unwrap();
        let at: SocketAddr = address("127.0.0.1:80");
        let listener = system.listen(&ListenOptions::new(at), None).unwrap();
        let mut dialled = system.dial(&ConnectOptions::new(at)).unwrap();
        net.advance(Duration::from_secs(1));
        assert!(dialled.established().unwrap());
        let (mut accepted, _) = listener.accept().unwrap();
        system.register_stream(&mut dialled, 0).unwrap();
        system.register_stream(&mut accepted, 1).unwrap();
        Simulated {
            net,
            system,
            events: sim::Events::with_capacity(64),
            ends: [Some(dialled), Some(accepted)],
        }
    }
}

impl Pair for Simulated {
    fn call(&mut self, end: usize, call: Call) -> String {
        let Some(stream) = &mut self.ends[end] else {
            return String::new();
        };
        match call {
            Call::Urgent => {
                let mut state = self.net.state();
                let answer = state.write_urgent(stream.side, b'!');
                format!("{answer:?}")
            }
            Call::PeerAddress => peer_address(stream.peer_addr()),
            Call::Close | Call::Reset => {
                if matches!(call, Call::Reset) {
                    stream.reset_on_close().unwrap();
                }
                self.ends[end] = None;
                String::new()
            }
            call => on(stream, call),
        }
    }

    fn told(&mut self) -> [Readiness; 2] {
        self.net.advance(Duration::from_millis(100));
        let mut told = [Readiness::EMPTY; 2];
        for _ in 0..2 {
            let zero = Some(Duration::ZERO);
            self.system.wait(&mut self.events, zero).unwrap();
            for event in self.events.iter() {
                told[event.token()] |= event.readiness();
            }
        }
        told
    }
}

fn peer_address(answer: std::io::Result<Address>) -> String {
    match answer {
        Ok(_) => "an address".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// Plays `calls` to both, and holds them against each other.
fn compare(seed: u64, calls: &[(usize, Call)]) {
    let (mut real, mut model) = (Real::new(), Simulated::new(seed));
    real.told();
    model.told();
    for (count, &(end, call)) in calls.iter().enumerate() {
        let played = &calls[..=count];
        let (theirs, ours) = (real.call(end, call), model.call(end, call));
        assert_eq!(
            ours, theirs,
            "seed {seed}: the model's answer to the last of {played:?}"
        );
        let (theirs, ours) = (real.told(), model.told());
        assert_eq!(
            ours, theirs,
            "seed {seed}: the model's events after {played:?}"
        );
    }
}

#[test]
fn data_and_both_ends_are_as_the_kernel_has_them() {
    compare(
        1,
        &[
            (0, Call::Write(10)),
            (1, Call::Read(4)),
            (1, Call::Read(100)),
            (1, Call::Read(100)),
            (1, Call::Write(3)),
            (1, Call::Shutdown),
            (0, Call::Read(100)),
            (0, Call::Read(100)),
            (0, Call::IsInFlight),
            (0, Call::Write(2)),
            (0, Call::Shutdown),
            (1, Call::Read(100)),
            (1, Call::Read(100)),
            (0, Call::PeerAddress),
            (1, Call::PeerAddress),
            (1, Call::Write(1)),
            (1, Call::TakeError),
            (0, Call::Shutdown),
        ],
    );
}

#[test]
fn a_reset_is_told_once_as_the_kernel_tells_it() {
    let first = [Call::Read(10), Call::Write(10), Call::TakeError];
    for call in first {
        compare(
            1,
            &[
                (0, Call::Write(10)),
                (0, Call::Reset),
                (1, call),
                (1, Call::PeerAddress),
                (1, Call::IsInFlight),
                (1, Call::Read(20)),
                (1, Call::Read(20)),
                (1, Call::Write(1)),
                (1, Call::Read(20)),
                (1, Call::TakeError),
                (1, Call::Shutdown),
            ],
        );
    }
}

#[test]
fn a_reset_after_the_end_is_as_the_kernel_has_it() {
    let first = [Call::Read(10), Call::Write(10), Call::TakeError];
    for call in first {
        compare(
            1,
            &[
                (0, Call::Shutdown),
                (0, Call::Reset),
                (1, call),
                (1, Call::Read(20)),
                (1, Call::Write(1)),
                (1, Call::TakeError),
            ],
        );
    }
}

#[test]
fn a_close_with_unread_input_resets_as_the_kernel_does() {
    compare(
        1,
        &[
            (0, Call::Write(10)),
            (1, Call::Write(10)),
            (1, Call::Close),
            (0, Call::Read(100)),
            (0, Call::Read(100)),
            (0, Call::Read(100)),
        ],
    );
    compare(
        1,
        &[
            (1, Call::Close),
            (0, Call::Read(1)),
            (0, Call::Write(5)),
            (0, Call::Write(5)),
            (0, Call::TakeError),
            (0, Call::Read(1)),
        ],
    );
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn an_urgent_byte_stops_a_read_where_the_kernel_stops_it() {
    compare(
        1,
        &[
            (0, Call::Write(10)),
            (0, Call::Urgent),
            (0, Call::Write(10)),
            (1, Call::Read(100)),
            (1, Call::Read(100)),
            (1, Call::Read(100)),
            (0, Call::Urgent),
            (1, Call::Read(100)),
            (0, Call::Write(3)),
            (1, Call::Read(100)),
        ],
    );
}

/// What the kernel does to any calls, the model does.
#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn calls_at_random_are_answered_as_the_kernel_answers_them() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let calls: Vec<(usize, Call)> = (0..12)
            .map(|_| {
                let end = random.below(2) as usize;
                let call = match random.below(16) {
                    0..=3 => Call::Read(random.magnitude(1, 64) as usize),
                    4..=7 => Call::Write(random.magnitude(1, 64) as usize),
                    8 => Call::Shutdown,
                    9 => Call::TakeError,
                    10 => Call::PeerAddress,
                    11 => Call::IsInFlight,
                    12 if random.one_in(2) => Call::Close,
                    12 => Call::Reset,
                    13 => Call::Urgent,
                    _ => Call::Read(100),
                };
                (end, call)
            })
            .collect();
        compare(seed, &calls);
    }
}
