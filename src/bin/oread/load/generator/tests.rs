//! A message in steady state asks for no memory.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use allocation_counter::measure;

use super::*;
use crate::load::clock::{Epoch, NEVER};
use crate::load::control::own_server::OwnServer;
use crate::load::generator::payload::Payload;
use crate::load::generator::protocol::{Command, Event, Slot};
use crate::load::options::load::Load;
use crate::values::target::{Resolved, Transport};
use oread::Handler as _;

const PATIENCE: Duration = Duration::from_secs(60);

/// A generator that this thread turns itself: the allocations counted are those of one thread.
struct Bench {
    reactor: Generating,
    generator: Generator,
    epoch: Epoch,
    /// Nobody reads it.
    _events: Receiver<Event>,
}

impl Bench {
    /// A load of `target` with these arguments, in its measured time.
    fn start(target: &Resolved, arguments: &str) -> Bench {
        let mut bench = Bench::ready(target, arguments);
        let now = bench.epoch.now();
        let context = &mut bench.reactor.context();
        bench.generator.on_message(context, Command::Start(now));
        // What comes once a second is not a message's: a histogram of it.
        bench.generator.plan.meter.rolls_at = NEVER;
        bench
    }

    /// A load at the end of its ramp.
    fn ready(target: &Resolved, arguments: &str) -> Bench {
        let load = Load::of(arguments);
        let (sender, events) = mpsc::channel();
        let epoch = Epoch::begin();
        let (reactor, timer) = reactor(load.longest_answer).unwrap();
        let asked = u64::from(load.connections.get());
        let setup = Setup {
            payload: Payload::of(&load, 7),
            load: Arc::new(load),
            index: 0,
            endpoints: Arc::new([Endpoint {
                resolved: target.clone(),
                sources: Vec::new(),
            }]),
            clock: Clock::System(epoch),
            begun: epoch.now(),
            gauge: Arc::default(),
            events: sender,
            slot: Slot::new(epoch.now()),
        };
        let mut bench = Bench {
            reactor,
            generator: Generator::new(setup, timer, epoch.now()),
            epoch,
            _events: events,
        };
        bench.turn_until(|generator| generator.plan.flows.open == asked);
        bench
    }

    fn echoed(&mut self) -> u64 {
        self.generator.plan.meter.measured.echoed
    }

    fn turn_until(&mut self, done: impl Fn(&mut Generator) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&mut self.generator) {
            assert!(Instant::now() < deadline, "it does not come to that");
            // A signal, a command or a timer of its own ends it; nothing is waited for that does
            // not come.
            let context = &mut self.reactor.context();
            self.generator.carry_on(context).unwrap();
            let wait = self.generator.wait();
            let wait = wait.unwrap_or(Duration::from_millis(100));
            self.reactor.turn(&mut self.generator, Some(wait)).unwrap();
        }
    }

    /// The fewest allocations that so many messages took, in any of some rounds. On a busy machine
    /// one round or the other has more messages under way than any before it, and the room for that
    /// is asked for once.
    fn allocations_of(&mut self, messages: u64) -> u64 {
        let mut fewest = u64::MAX;
        for _ in 0..20 {
            let until = self.echoed() + messages;
            let counted = measure(|| {
                self.turn_until(|generator| generator.plan.meter.measured.echoed >= until);
            });
            fewest = fewest.min(counted.count_total);
            if fewest == 0 {
                break;
            }
        }
        fewest
    }
}

/// An echo over UDP, in a thread that ends with the test program.
fn udp() -> Resolved {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if socket.send_to(&buffer[..len], from).is_err() {
                return;
            }
        }
    });
    Resolved {
        transport: Transport::Udp,
        address: address.into(),
    }
}

#[test]
fn a_message_in_steady_state_allocates_nothing() {
    let own = OwnServer::start().unwrap();
    let tcp = Resolved {
        transport: Transport::Tcp,
        address: own.address.into(),
    };
    for arguments in [
        "-c 10 -d 1h",
        "-c 10 -d 1h --depth 16",
        "-c 10 -d 1h -s 1-300 --framing lines",
        "-c 10 -d 1h --verify off -s 100",
        "-c 10 -d 1h --think 1ms",
        "-c 10 -d 1h -R 4k",
        "-c 10 -d 1h --idle --heartbeat 5ms",
    ] {
        let count = Bench::start(&tcp, arguments).allocations_of(500);
        assert_eq!(count, 0, "{arguments}");
    }
    drop(own);
    for arguments in ["-c 4 -d 1h", "-c 4 -d 1h -R 2k"] {
        let count = Bench::start(&udp(), arguments).allocations_of(500);
        assert_eq!(count, 0, "udp {arguments}");
    }
}
