//! Runs a load to its end in a simulated world: generators and servers as hosts of it, and a lead's
//! part played by the test.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use oread::Limits;
use oread::sim::{Host, World};

use super::manners::Manners;
use super::server::{Call, Gram, Server, Split};
use super::speech::Speech;
use crate::load::clock::{SECOND, nanos};
use crate::load::count::Tally;
use crate::load::generator::payload::Payload;
use crate::load::generator::protocol::{Command, Event, Phase, Setup, Slot};
use crate::load::generator::{Clock, Endpoint, Gauge, Generator, limits};
use crate::load::options::load::{Content, Load};
use crate::values::target::{self, Transport};

/// From the lead's word to the start, as in `control/lead`.
const AHEAD: Duration = Duration::from_millis(10);
/// Turns in a row that a generator may ask for while no time passes.
const MOST_YIELDS: u32 = 20_000;
/// No load here takes longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// What is done to a run from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    /// How long after its moment the start is told.
    pub(super) start_late: Duration,
    /// When the run is stopped.
    pub(super) stop: Option<Duration>,
    /// From when on nothing passes between the generators and the server of this number, and until
    /// when.
    pub(super) parted: Option<(usize, Duration, Duration)>,
    /// When the server of this number vanishes for good.
    pub(super) vanishes: Option<(usize, Duration)>,
    /// The run's key, and answers that the servers have kept from a run with another one.
    pub(super) key: u64,
    pub(super) kept: Vec<Vec<u8>>,
    /// Whether each thread of the load is a process of its own, a shard of it.
    pub(super) is_sharded: bool,
    /// What is said on each connection, where answers are no echoes.
    pub(super) speech: Option<Speech>,
    /// When all processes stand still, and for how long.
    pub(super) still: Option<(Duration, Duration)>,
}

/// A run that is over.
pub(super) struct Ran {
    pub(super) load: Arc<Load>,
    pub(super) tally: Tally,
    /// When it was told to start, and to stop.
    pub(super) start: Option<u64>,
    pub(super) stopped: Option<u64>,
    /// When each thread had counted all.
    pub(super) ends: Vec<u64>,
    /// What the servers know.
    pub(super) calls: Vec<Call>,
    pub(super) grams: Vec<Gram>,
    pub(super) start_late: Duration,
    /// How many servers have closed their listener for a while.
    pub(super) doors: u64,
}

impl Ran {
    /// Whether it was neither stopped nor its ramp cut short.
    pub(super) fn is_whole(&self) -> bool {
        self.stopped.is_none()
            && self
                .start
                .is_some_and(|at| at < in_run(self.load.ramp_timeout))
    }
}

/// A load, its servers, and the world that they are in.
pub(super) struct Bench<'a> {
    world: &'a mut World,
    load: Arc<Load>,
    generators: Vec<Host<Generator>>,
    servers: Vec<Host<Server>>,
    addresses: Vec<IpAddr>,
    events: Receiver<Event>,
    gauge: Arc<Gauge>,
    script: Script,
    ramped: usize,
    start: Option<u64>,
    start_told: bool,
    stopped: Option<u64>,
    ends: Vec<Option<u64>>,
    yields: (u32, Duration),
}

/// The address that a generator's thread dials from.
pub(super) fn address_of(thread: u32) -> IpAddr {
    [10, 0, 1, thread as u8 + 1].into()
}

/// A time of the world in the run's.
pub(super) fn in_run(time: Duration) -> u64 {
    nanos(time) + SECOND
}

/// Lets a server listen at each target, which behaves like this; the servers, and the clock of the
/// world from now on.
fn serve(
    world: &mut World,
    targets: &[target::Resolved],
    manners: &[Manners],
    script: &Script,
    split: &Split,
) -> io::Result<(Vec<Host<Server>>, Clock)> {
    let mut servers = Vec::new();
    let mut first = None;
    for (target, manners) in targets.iter().zip(manners) {
        let at: SocketAddr = target.address.socket_addr().unwrap();
        let any = Clock::Simulated(std::time::Instant::now());
        let server = Server::new(any, at, split.clone(), *manners);
        let mut host = world.host(server, Limits::default())?;
        host.process().addresses(&[at.ip()]);
        let now = host.context().now();
        let clock = *first.get_or_insert(Clock::Simulated(now));
        let (reactor, server) = host.reactor();
        server.clock = clock;
        server.kept.clone_from(&script.kept);
        server.open(&mut reactor.context(), target.transport == Transport::Udp)?;
        servers.push(host);
    }
    Ok((servers, first.unwrap()))
}

/// The load of one of its threads, and which part of it that has: in a process of its own, where
/// each has one.
fn part(load: &Arc<Load>, arguments: &str, thread: u32, is_sharded: bool) -> (Arc<Load>, u32) {
    if !is_sharded {
        return (Arc::clone(load), load.part(thread));
    }
    let threads = load.sockets.threads;
    let shard = format!("{arguments} --shard {thread}/{threads}");
    let mut own = Load::of(&shard.replace(&format!(" -t {threads} "), " "));
    own.script.clone_from(&load.script);
    let part = own.part(0);
    (Arc::new(own), part)
}

fn endpoints(resolved: Vec<target::Resolved>) -> Arc<[Endpoint]> {
    let endpoint = |resolved| Endpoint {
        resolved,
        sources: Vec::new(),
    };
    resolved.into_iter().map(endpoint).collect()
}

impl<'a> Bench<'a> {
    /// A load of these arguments, of servers that behave like this, one for each target.
    pub(super) fn new(
        world: &'a mut World,
        arguments: &str,
        manners: &[Manners],
        script: Script,
    ) -> io::Result<Bench<'a>> {
        let mut load = Load::of(arguments);
        load.script = script.speech.as_ref().map(|it| Arc::clone(&it.script));
        let load = Arc::new(load);
        let resolved = target::resolve(&load.targets).unwrap();
        let payload = Payload::of(&load, script.key);
        let (least, most) = load.content.sizes();
        let is_one = least == most || matches!(load.content, Content::Given(_));
        let split = Split {
            framing: load.framing,
            payload: payload.clone(),
            size: is_one.then_some(least as usize),
            verify: load.verify,
            speech: script.speech.clone(),
        };
        let (servers, clock) = serve(world, &resolved, manners, &script, &split)?;
        let addresses = resolved
            .iter()
            .filter_map(|target| Some(target.address.socket_addr()?.ip()));
        let addresses = addresses.collect();
        let endpoints = endpoints(resolved);
        let (sender, events) = mpsc::channel();
        let gauge = Arc::<Gauge>::default();
        let mut generators = Vec::new();
        for index in 0..load.sockets.threads.get() {
            let (load, index) = part(&load, arguments, index, script.is_sharded);
            let setup = Setup {
                load: Arc::clone(&load),
                index,
                endpoints: Arc::clone(&endpoints),
                clock,
                begun: SECOND,
                payload: payload.clone(),
                gauge: Arc::clone(&gauge),
                events: sender.clone(),
                slot: Slot::new(SECOND),
            };
            let generator = Generator::new(setup, None, in_run(world.now()));
            let host = world.host(generator, limits(load.longest_answer))?;
            host.process().addresses(&[address_of(index)]);
            generators.push(host);
        }
        Ok(Bench {
            world,
            ends: vec![None; generators.len()],
            load,
            generators,
            servers,
            addresses,
            events,
            gauge,
            script,
            ramped: 0,
            start: None,
            start_told: false,
            stopped: None,
            yields: (0, Duration::ZERO),
        })
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> Ran {
        for host in &mut self.generators {
            let (reactor, generator) = host.reactor();
            generator.carry_on(&mut reactor.context()).unwrap();
        }
        while !self.generators.iter().all(Host::has_drained) {
            self.play();
            if self.turn_those_who_yield() {
                continue;
            }
            let before = self.turns();
            let end = Some(self.next_play());
            let hosts = &mut (&mut self.generators, &mut self.servers);
            self.world.step(hosts, end).unwrap();
            for (thread, before) in before.into_iter().enumerate() {
                if self.generators[thread].context().stats().turns != before {
                    self.carry_on(thread);
                }
            }
            assert!(self.world.now() < LONGEST, "the run does not end");
        }
        self.finish()
    }

    fn turns(&mut self) -> Vec<u64> {
        let turns = |host: &mut Host<Generator>| host.context().stats().turns;
        self.generators.iter_mut().map(turns).collect()
    }

    /// Turns the generators that asked for a turn at once; whether there were any.
    fn turn_those_who_yield(&mut self) -> bool {
        let mut any = false;
        for thread in 0..self.generators.len() {
            let host = &mut self.generators[thread];
            let wait = host.handler.wait();
            if wait == Some(Duration::ZERO) && !host.has_drained() {
                any = true;
                host.turn(wait).unwrap();
                self.carry_on(thread);
            }
        }
        let now = self.world.now();
        // A processor each: the servers are not held up.
        while any && self.world.step(&mut self.servers, Some(now)).unwrap() {}
        if any && self.yields.1 == now {
            self.yields.0 += 1;
            assert!(self.yields.0 < MOST_YIELDS, "a generator spins");
        } else {
            self.yields = (0, now);
        }
        any
    }

    /// What a generator's thread does behind each turn.
    fn carry_on(&mut self, thread: usize) {
        let now = in_run(self.world.now());
        let host = &mut self.generators[thread];
        if host.has_drained() {
            return;
        }
        let (reactor, generator) = host.reactor();
        generator.carry_on(&mut reactor.context()).unwrap();
        if let Some(broken) = generator.plan.flows.broken() {
            panic!("thread {thread}: {broken}");
        }
        if generator.plan.phase() == Phase::Over {
            self.ends[thread].get_or_insert(now);
        }
    }

    /// Does what is due from outside.
    fn play(&mut self) {
        for event in self.events.try_iter() {
            if let Event::Ramped = event {
                self.ramped += 1;
            }
        }
        let now = self.world.now();
        let is_ramped = self.ramped == self.generators.len() || now >= self.load.ramp_timeout;
        if self.start.is_none() && is_ramped && self.stopped.is_none() {
            self.start = Some(in_run(now + AHEAD));
        }
        if let Some(at) = self.start
            && !self.start_told
            && self.stopped.is_none()
            && in_run(now) + nanos(AHEAD) >= at + nanos(self.script.start_late)
        {
            self.start_told = true;
            self.tell(Command::Start(at));
        }
        if self.script.stop.is_some_and(|at| at <= now) {
            self.script.stop = None;
            self.stopped = Some(in_run(now));
            self.tell(Command::Stop);
        }
        if self.script.still.is_some_and(|(at, _)| at <= now)
            && let Some((_, time)) = self.script.still.take()
        {
            self.generators[0].process().stand_still(time);
        }
        self.play_network(now);
    }

    fn play_network(&mut self, now: Duration) {
        if let Some((server, from, until)) = self.script.parted
            && from <= now
        {
            let there = self.addresses[server];
            for thread in 0..self.generators.len() as u32 {
                match until <= now {
                    true => self.world.heal(address_of(thread), there),
                    false => self.world.partition(address_of(thread), there),
                }
            }
            self.script.parted = (until > now).then_some((server, until, until));
        }
        if let Some((server, at)) = self.script.vanishes
            && at <= now
        {
            self.script.vanishes = None;
            self.world.vanish(self.addresses[server]);
        }
    }

    fn tell(&self, command: Command) {
        for host in &self.generators {
            // One that has ended hears nothing.
            let _ = host.handle().send(command);
        }
    }

    /// When there is something to be done from outside.
    fn next_play(&self) -> Duration {
        let late = self
            .start
            .filter(|_| !self.start_told)
            .map(|at| Duration::from_nanos(at - SECOND) + self.script.start_late - AHEAD);
        let ramp = self.load.ramp_timeout;
        let next = [
            late,
            (self.start.is_none() && self.stopped.is_none()).then_some(ramp),
            self.script.stop,
            self.script.parted.map(|(_, from, _)| from),
            self.script.vanishes.map(|(_, at)| at),
            self.script.still.map(|(at, _)| at),
        ];
        let now = self.world.now();
        let next = next.into_iter().flatten().filter(|&at| at > now).min();
        next.unwrap_or(now + Duration::from_secs(60))
    }

    fn finish(mut self) -> Ran {
        let mut tally = Tally::default();
        let now = in_run(self.world.now());
        for host in &mut self.generators {
            let (reactor, generator) = host.reactor();
            let one = generator.finish(&reactor.context());
            assert_eq!(one.imbalance(), None);
            tally.merge(one);
        }
        tally.connections.peak_confirmed = self.gauge.peak();
        assert_eq!(tally.imbalance(), None);
        // What is on its way to the servers still comes.
        self.world.calm();
        let time = Duration::from_secs(5);
        let hosts = &mut (&mut self.generators, &mut self.servers);
        self.world.advance(hosts, time).unwrap();
        let has_door = |host: &&Host<Server>| host.handler.manners.shut.is_some();
        let doors = self.servers.iter().filter(has_door).count() as u64;
        let books = |host: &mut Host<Server>| {
            let server = &mut *host.handler;
            (
                std::mem::take(&mut server.calls),
                std::mem::take(&mut server.grams),
            )
        };
        let (calls, grams): (Vec<_>, Vec<_>) = self.servers.iter_mut().map(books).unzip();
        Ran {
            load: self.load,
            tally,
            start: self.start.filter(|_| self.start_told),
            start_late: self.script.start_late,
            doors,
            stopped: self.stopped,
            ends: self
                .ends
                .into_iter()
                .map(|end| end.unwrap_or(now))
                .collect(),
            calls: calls.concat(),
            grams: grams.concat(),
        }
    }
}
