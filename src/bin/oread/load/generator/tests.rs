//! A message in steady state asks for no memory.

use std::io::{Read as _, Write as _};
use std::num::NonZeroU32;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use clap::Parser as _;

use super::*;
use crate::commands::Args;
use crate::load::clock::SECOND;
use crate::load::control::own_server::OwnServer;
use crate::load::generator::protocol::Event;
use crate::load::options::target::{Resolved, Transport};

const PATIENCE: Duration = Duration::from_secs(60);

/// A generator that this thread turns itself: the allocations counted are those of one thread.
struct Bench {
    reactor: Generating,
    generator: Generator,
    /// Nobody reads it: after two progresses that wait there, no more are told.
    _events: Receiver<Event>,
}

impl Bench {
    /// A load of `target` with these arguments, in its measured time.
    fn start(target: &Resolved, arguments: &str) -> Bench {
        let mut bench = Bench::ready(target, arguments);
        let (now, context) = (bench.generator.epoch.now(), &mut bench.reactor.context());
        bench.generator.start(context, now);
        // What comes once a second is not a message's: a list of seconds that grows, and a
        // progress, of which two may wait.
        bench.generator.record.tally.seconds.reserve(1000);
        bench.generator.tell();
        bench.generator.tell();
        bench
    }

    /// A load at the end of its ramp.
    fn ready(target: &Resolved, arguments: &str) -> Bench {
        let all = format!("oread load {arguments}");
        let command = Args::try_parse_from(all.split_whitespace())
            .unwrap()
            .command;
        let crate::commands::Command::Load(typed) = command else {
            panic!("not load");
        };
        let plan = Load::try_from(*typed).unwrap();
        assert_eq!(plan.threads, NonZeroU32::MIN);
        let (sender, events) = mpsc::channel();
        let epoch = Epoch::begin();
        let mut reactor = reactor().unwrap();
        let mut generator = Generator::new(Setup {
            payload: Payload::new(&plan.content, plan.framing, plan.verify),
            plan: Arc::new(plan),
            index: 0,
            endpoints: Arc::new([Endpoint {
                resolved: target.clone(),
                sources: Vec::new(),
            }]),
            epoch,
            begun: epoch.now(),
            line: EventSender::new(&sender),
        });
        generator.set_out(&mut reactor.context()).unwrap();
        let mut bench = Bench {
            reactor,
            generator,
            _events: events,
        };
        let asked = bench.generator.record.tally.connections.asked;
        bench.turn_until(|generator| generator.record.tally.connections.confirmed == asked);
        bench
    }

    fn turn_until(&mut self, done: impl Fn(&Generator) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.generator) {
            assert!(Instant::now() < deadline, "it does not come to that");
            // A signal, a command or a timer of its own ends it; nothing is waited for that does
            // not come.
            let wait = self.generator.wait().unwrap_or(Duration::from_millis(100));
            self.reactor.turn(&mut self.generator, Some(wait)).unwrap();
            self.generator
                .after_turn(&mut self.reactor.context())
                .unwrap();
        }
    }

    /// The fewest allocations that so many messages took, in any of some rounds. On a busy machine
    /// one round or the other has more messages under way than any before it, and the room for that
    /// is asked for once.
    fn allocations_of(&mut self, messages: u64) -> u64 {
        let mut fewest = u64::MAX;
        for _ in 0..20 {
            let until = self.generator.record.tally.messages.echoed + messages;
            let counted = measure(|| {
                self.turn_until(|generator| generator.record.tally.messages.echoed >= until);
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

#[test]
fn a_thread_that_hears_the_start_late_begins_with_what_was_due_until_then() {
    let own = OwnServer::start().unwrap();
    let tcp = Resolved {
        transport: Transport::Tcp,
        address: own.address.into(),
    };
    let mut bench = Bench::ready(&tcp, "-c 2 -d 1h -R 1k");
    let generator = &mut bench.generator;
    // The run's time began a second ago at least.
    let at = generator.epoch.now() - SECOND / 2;
    generator.on_message(&mut bench.reactor.context(), Command::Start(at));
    assert_eq!(generator.flowing.due_before(at + SECOND), 1000);
    assert!(generator.record.is_measured(at) && !generator.record.is_measured(at - 1));
    bench.turn_until(|generator| generator.record.tally.messages.echoed >= 500);
    drop(own);
}

#[test]
fn the_list_of_ages_does_not_grow_with_those_who_have_gone() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = Resolved {
        transport: Transport::Tcp,
        address: listener.local_addr().unwrap().into(),
    };
    // It hangs up on everybody after the first answer.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut message = [0; 64];
            // The load may be gone, at the end.
            if stream.read_exact(&mut message).is_ok() {
                let _ = stream.write_all(&message);
            }
        }
    });
    let mut bench = Bench::start(&tcp, "-c 2 -d 1h --lifetime 1h -r 100k");
    bench.turn_until(|generator| generator.record.tally.connections.confirmed > 2500);
    assert!(
        bench.generator.ages.known() < 1100,
        "{:?}",
        bench.generator.ages
    );
}
