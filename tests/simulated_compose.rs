//! Two protocols in one reactor, neither of which knows of the other: an echo, and a greeter with
//! timers, dials, datagrams and closes of its own.
//!
//! `OREAD_SEEDS=100000 cargo test --release --features sim --test simulated_compose` searches
//! longer.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use oread::sim::{Host, Listener, Peer, World, check};
use oread::{
    Accepted, Address, Both, CloseReason, ConnectOptions, Connection, ConnectionId, Context,
    Datagram, Echo, EchoOptions, Either, Handler, Limits, ListenOptions, ListenerId, Owner, Part,
    SendError, UdpOptions,
};

const SECOND: Duration = Duration::from_secs(1);
/// How long a guest has to say a name.
const PATIENCE: Duration = Duration::from_secs(5);
/// The key of the greeter's own timer. Those about guests have the guests' ids.
const TICK: u64 = 7;
const UNNAMED: CloseReason = CloseReason::Other(1);

fn at(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

/// Where the greeter reports the names that it's told.
fn registry() -> SocketAddr {
    ([10, 0, 0, 2], 99).into()
}

/// What a greeter keeps of a connection.
#[derive(Debug, PartialEq)]
enum Guest {
    Nameless,
    Named(String),
    /// A dial of its own: this name is on its way.
    Report(String),
}

/// Asks each guest for a name, says hello, and reports the name elsewhere; ticks for all guests;
/// sends away who has said no name in time; answers datagrams.
#[derive(Debug, Default)]
struct Greeter {
    opened: Vec<ConnectionId>,
    ended: Vec<(Guest, CloseReason)>,
    unreported: Vec<String>,
    /// How many guests a tick has reached, and the ids that were listed then.
    reached: Vec<(usize, Vec<ConnectionId>)>,
    messages: Vec<u32>,
}

type Guests<'a> = Context<'a, Guest>;

impl Greeter {
    fn start(&mut self, context: &mut Guests<'_>, port: u16) -> io::Result<ListenerId> {
        context.timer(SECOND, TICK);
        context.bind_udp(&UdpOptions::new(at(port)))?;
        context.listen(&ListenOptions::new(at(port)))
    }
}

impl Handler for Greeter {
    type Session = Guest;
    type Message = u32;

    fn on_accept(&mut self, _: &mut Guests<'_>, _: &Accepted) -> Option<Guest> {
        Some(Guest::Nameless)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, Guest>) {
        self.opened.push(connection.id());
        let (session, mut output) = connection.split();
        if let Guest::Report(name) = session {
            writeln!(output, "{name}");
            return connection.finish();
        }
        output.write(b"who?\n");
        connection.timer(PATIENCE);
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Guest>, data: &[u8]) -> usize {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
            return 0;
        };
        if *connection.session() == Guest::Nameless {
            let name = String::from_utf8(data[..end].to_vec()).unwrap();
            writeln!(connection, "hello {name}");
            *connection.session_mut() = Guest::Named(name.clone());
            let report = Guest::Report(name);
            let dial = ConnectOptions::new(registry());
            if let Err(refused) = connection.context().connect(&dial, report) {
                assert!(matches!(refused.session, Guest::Report(_)));
            }
        }
        end + 1
    }

    fn on_close(
        &mut self,
        context: &mut Guests<'_>,
        id: ConnectionId,
        guest: Guest,
        reason: CloseReason,
    ) {
        assert!(context.connection(id).is_none());
        self.ended.push((guest, reason));
    }

    fn on_connect_failed(
        &mut self,
        _: &mut Guests<'_>,
        _: ConnectionId,
        guest: Guest,
        _: io::Error,
    ) {
        match guest {
            Guest::Report(name) => self.unreported.push(name),
            other => panic!("{other:?} was not dialed"),
        }
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, Guest>, data: &[u8]) {
        let answer = [b"hello ", data].concat();
        datagram.reply(&answer);
    }

    fn on_timer(&mut self, context: &mut Guests<'_>, key: u64) {
        if key == TICK {
            context.timer(SECOND, TICK);
            let ids = context.connections().collect();
            let mut reached = 0;
            context.for_each(|connection| {
                reached += 1;
                if matches!(connection.session(), Guest::Named(_)) {
                    connection.write(b"tick\n");
                }
            });
            return self.reached.push((reached, ids));
        }
        if let Some(mut guest) = context.connection(ConnectionId::from_bits(key))
            && *guest.session() == Guest::Nameless
        {
            guest.close(UNNAMED);
        }
    }

    fn on_message(&mut self, _: &mut Guests<'_>, message: u32) {
        self.messages.push(message);
    }
}

type Pair = Both<Echo, Greeter>;

/// A host with both of them, the echo at port 7 and the greeter at port 1000.
fn pair(world: &mut World) -> io::Result<Host<Pair>> {
    let both = Both::new(Echo::new(EchoOptions::default()), Greeter::default());
    let mut host = world.host(both, Limits::default())?;
    let (reactor, both) = host.reactor();
    let mut context = reactor.context();
    both.with_first(&mut context, |_, context| {
        context.bind_udp(&UdpOptions::new(at(7)))?;
        context.listen(&ListenOptions::new(at(7)))
    })?;
    both.with_second(&mut context, |greeter, context| {
        greeter.start(context, 1000)
    })?;
    Ok(host)
}

#[test]
fn each_of_two_handlers_has_its_own_callers_timers_dials_and_datagrams() {
    let mut world = World::new(1);
    let mut host = pair(&mut world).unwrap();
    let registry = world.listen(registry());
    let (echoed, named, nameless) = (
        world.connect(at(7)),
        world.connect(at(1000)),
        world.connect(at(1000)),
    );
    echoed.send(b"who?\n");
    named.send(b"ann\n");
    nameless.finish_at_end();
    let asker = world.udp(([10, 0, 0, 9], 5000).into());
    asker.send_to(at(7), b"bob");
    asker.send_to(at(1000), b"bob");
    world.advance(&mut host, 6 * SECOND + SECOND / 2).unwrap();

    assert_eq!(echoed.received(), b"who?\n");
    let greeted = named.received();
    let ticks = greeted.strip_prefix(b"who?\nhello ann\n").unwrap();
    assert_eq!(ticks, b"tick\n".repeat(6));
    assert_eq!(nameless.received(), b"who?\n");
    assert!(nameless.has_ended());
    let report = registry.accept().unwrap();
    assert_eq!(report.received(), b"ann\n");
    let mut answers = asker.received();
    answers.sort();
    assert_eq!(
        answers,
        [(at(7), b"bob".to_vec()), (at(1000), b"hello bob".to_vec())]
    );

    report.finish();
    named.finish();
    world.advance(&mut host, SECOND).unwrap();
    let ended = &host.handler.second.ended;
    let ends: Vec<_> = ended
        .iter()
        .map(|(guest, reason)| (guest, *reason))
        .collect();
    let ann = || "ann".to_owned();
    assert!(ends.contains(&(&Guest::Nameless, UNNAMED)), "{ends:?}");
    assert!(
        ends.contains(&(&Guest::Report(ann()), CloseReason::Finished)),
        "{ends:?}"
    );
    assert!(
        ends.contains(&(&Guest::Named(ann()), CloseReason::Finished)),
        "{ends:?}"
    );
    assert_eq!(
        host.context().stats().open,
        1,
        "the echo's client is still there"
    );
}

#[test]
fn a_handler_finds_and_walks_its_own_connections_only() {
    let mut world = World::new(1);
    let mut host = pair(&mut world).unwrap();
    let _peers = [at(7), at(1000), at(7), at(1000)].map(|address| world.connect(address));
    world.advance(&mut host, SECOND).unwrap();
    let guests = host.handler.second.opened.clone();
    let (reached, listed) = host.handler.second.reached.pop().unwrap();
    assert_eq!((reached, listed.len()), (2, 2));
    assert!(listed.iter().all(|id| guests.contains(id)));

    let (reactor, both) = host.reactor();
    let mut context = reactor.context();
    let all: Vec<_> = context.connections().collect();
    assert_eq!(all.len(), 4);
    for id in all {
        let is_guest = guests.contains(&id);
        let session = context.connection(id).unwrap();
        assert_eq!(matches!(session.session(), Either::Second(_)), is_guest);
        let echoes = |_: &mut Echo, context: &mut Context<'_, _>| context.connection(id).is_some();
        assert_eq!(both.with_first(&mut context, echoes), !is_guest);
        let greets = |_: &mut Greeter, context: &mut Guests<'_>| context.connection(id).is_some();
        assert_eq!(both.with_second(&mut context, greets), is_guest);
    }
}

#[test]
fn a_dial_that_is_refused_gives_the_handler_its_own_session_back() {
    let mut world = World::new(1);
    let mut host = pair(&mut world).unwrap();
    let guest = world.connect(at(1000));
    guest.send(b"ann\n");
    // Nobody listens there.
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(host.handler.second.unreported, ["ann"]);
}

#[test]
fn a_listener_that_was_opened_by_neither_lets_nobody_in() {
    let mut world = World::new(1);
    let mut host = pair(&mut world).unwrap();
    host.context().listen(&ListenOptions::new(at(8))).unwrap();
    host.context().timer(Duration::ZERO, TICK);
    let peer = world.connect(at(8));
    world.advance(&mut host, SECOND / 2).unwrap();
    assert_eq!(host.context().stats().refused, 1);
    assert!(peer.has_ended() || peer.was_reset());
    assert!(
        host.handler.second.reached.is_empty(),
        "a timer that is not its own"
    );
}

#[test]
fn messages_go_to_whom_they_are_for() {
    let mut world = World::new(1);
    let greeters = Both::new(Greeter::default(), Greeter::default());
    let mut host = world.host(greeters, Limits::default()).unwrap();
    for message in [Either::First(1), Either::Second(2), Either::First(3)] {
        host.handle().send(message).unwrap();
    }
    // Neither of the two need know of the other for that.
    let [first, second] = [Either::First, Either::Second].map(|wrap| host.handle().part(wrap));
    first.send(4).unwrap();
    second.send(5).unwrap();
    world.settle(&mut host).unwrap();
    assert_eq!(host.handler.first.messages, [1, 3, 4]);
    assert_eq!(host.handler.second.messages, [2, 5]);
}

#[test]
fn a_part_s_message_that_finds_no_room_comes_back() {
    let mut world = World::new(1);
    let greeters = Both::new(Greeter::default(), Greeter::default());
    let limits = Limits {
        mailbox: 1,
        ..Limits::default()
    };
    let mut host = world.host(greeters, limits).unwrap();
    let first = host.handle().part(Either::First);
    first.send(1).unwrap();
    assert_eq!(first.send(2), Err(SendError::Full(2)));
    world.settle(&mut host).unwrap();
    first.drain(SECOND);
    world.settle(&mut host).unwrap();
    assert_eq!(first.send(3), Err(SendError::Gone(3)));
    assert_eq!(host.handler.first.messages, [1]);
}

#[test]
fn a_handler_of_two_may_be_one_of_two_itself() {
    let mut world = World::new(1);
    let inner = Both::new(Greeter::default(), Greeter::default());
    let both = Both::new(
        inner,
        Both::new(Echo::new(EchoOptions::default()), Greeter::default()),
    );
    let mut host = world.host(both, Limits::default()).unwrap();
    let (reactor, both) = host.reactor();
    let mut context = reactor.context();
    both.with_first(&mut context, |inner, context| {
        inner.with_first(context, |greeter, context| greeter.start(context, 1001))?;
        inner.with_second(context, |greeter, context| greeter.start(context, 1002))
    })
    .unwrap();
    both.with_second(&mut context, |inner, context| {
        let echo =
            |_: &mut Echo, context: &mut Context<'_, _>| context.listen(&ListenOptions::new(at(7)));
        inner.with_first(context, echo)?;
        inner.with_second(context, |greeter, context| greeter.start(context, 1003))
    })
    .unwrap();
    let registry = world.listen(registry());
    let echoed = world.connect(at(7));
    echoed.send(b"dee\n");
    let guests = [(1001, "ann"), (1002, "bob"), (1003, "cat")].map(|(port, name)| {
        let guest = world.connect(at(port));
        guest.send(format!("{name}\n").as_bytes());
        let asker = world.udp(([10, 0, 0, 9], 4000 + port).into());
        asker.send_to(at(port), name.as_bytes());
        (guest, name, asker)
    });
    world.advance(&mut host, 3 * SECOND + SECOND / 2).unwrap();
    for (guest, name, asker) in &guests {
        let words = format!("who?\nhello {name}\ntick\ntick\ntick\n");
        assert_eq!(String::from_utf8(guest.received()).unwrap(), words);
        assert_eq!(asker.received()[0].1, format!("hello {name}").as_bytes());
    }
    assert_eq!(echoed.received(), b"dee\n");
    let mut names: Vec<_> = std::iter::from_fn(|| registry.accept())
        .map(|report| String::from_utf8(report.received()).unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["ann\n", "bob\n", "cat\n"]);
    let (first, second) = (&host.handler.first, &host.handler.second);
    for greeter in [&first.first, &first.second, &second.second] {
        assert!(greeter.reached.iter().all(|(reached, _)| *reached <= 2));
        assert_eq!(greeter.reached.len(), 3, "each has a timer of the same key");
    }
}

/// A client of either one, and what it has sent.
struct Client {
    peer: Peer,
    sent: Vec<u8>,
    guest: bool,
}

impl Client {
    fn draw(world: &mut World) -> Client {
        let guest = world.one_in(2);
        let peer = world.connect(at(if guest { 1000 } else { 7 }));
        let mut client = Client {
            peer,
            sent: Vec::new(),
            guest,
        };
        if guest && !world.one_in(4) {
            client.say(format!("g{}\n", world.roll(1000)).into_bytes());
        }
        client
    }

    fn say(&mut self, bytes: Vec<u8>) {
        self.peer.send(&bytes);
        self.sent.extend(bytes);
    }

    fn act(&mut self, world: &mut World) {
        match world.roll(8) {
            0..=3 if !self.guest => {
                let bytes = vec![b'a' + world.roll(26) as u8; world.size(10_000)];
                self.say(bytes);
            }
            4 => self.peer.stop_reading(),
            5 => self.peer.start_reading(),
            6 if world.one_in(8) => self.peer.finish(),
            7 if world.one_in(8) => self.peer.reset(),
            _ => {}
        }
    }

    /// What it has got is its own handler's, whatever has happened.
    fn look(&self) {
        let got = self.peer.received();
        if !self.guest {
            return assert!(self.sent.starts_with(&got), "the echo made something up");
        }
        let name = String::from_utf8_lossy(&self.sent);
        let hello = format!("who?\nhello {name}");
        let named = !name.is_empty() && got.len() > b"who?\n".len();
        let words = if named { hello.as_bytes() } else { b"who?\n" };
        let (start, ticks) = got.split_at(got.len().min(words.len()));
        assert!(words.starts_with(start), "the greeter said something else");
        let ticking = b"tick\n".repeat(1 + ticks.len() / 5);
        assert!(
            ticking.starts_with(ticks),
            "the greeter said something else"
        );
    }
}

/// The names that were reported are names of guests.
fn look_at_reports(registry: &Listener, clients: &[Client]) {
    while let Some(report) = registry.accept() {
        let name = report.received();
        let of = |client: &Client| client.guest && client.sent.starts_with(&name);
        assert!(clients.iter().any(of), "a report that nobody's name is");
    }
}

#[test]
fn whatever_happens_each_hears_its_own_handler_alone() {
    check(0..1500, |world: &mut World| {
        world.unleash();
        let Ok(mut host) = pair(world) else {
            return; // a fault of the system
        };
        let registry = world.listen(registry());
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..world.count(30) {
            if clients.is_empty() || world.one_in(4) {
                clients.push(Client::draw(world));
            }
            let at = world.roll(clients.len() as u64) as usize;
            clients[at].act(world);
            let pause = Duration::from_millis(world.roll(700));
            world.advance(&mut host, pause).unwrap();
            clients.iter().for_each(Client::look);
        }
        clients
            .iter()
            .for_each(|client| client.peer.start_reading());
        world.calm();
        world.advance(&mut host, 2 * PATIENCE).unwrap();
        clients.iter().for_each(Client::look);
        look_at_reports(&registry, &clients);
        host.context().drain(SECOND);
        world.advance(&mut host, 2 * SECOND).unwrap();
        let stats = host.context().stats();
        assert_eq!(stats.open, 0);
        let opened = host.handler.second.opened.len();
        assert_eq!(
            host.handler.second.ended.len(),
            opened,
            "each is told closed once"
        );
    });
}

/// Lets those in to another handler who know the word.
struct Guard<H> {
    inner: H,
}

enum Known<P> {
    Asked(ListenerId, Owner, Address),
    Yes(P),
}

impl<P> Known<P> {
    fn part(&self) -> Option<&P> {
        match self {
            Known::Asked(..) => None,
            Known::Yes(part) => Some(part),
        }
    }

    fn part_mut(&mut self) -> Option<&mut P> {
        match self {
            Known::Asked(..) => None,
            Known::Yes(part) => Some(part),
        }
    }
}

impl<H: Handler> Guard<H> {
    const INNER: Part<Known<H::Session>, H::Session> =
        Part::new(15, Known::Yes, Known::part, Known::part_mut);
}

impl<H: Handler> Handler for Guard<H> {
    type Session = Known<H::Session>;
    type Message = H::Message;

    fn on_accept(
        &mut self,
        context: &mut Context<'_, Self::Session>,
        caller: &Accepted,
    ) -> Option<Self::Session> {
        let (listener, peer) = (caller.listener, caller.peer.clone());
        Some(Known::Asked(listener, context.owner(), peer))
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Self::Session>, data: &[u8]) -> usize {
        let inner = &mut self.inner;
        let Known::Asked(listener, owner, peer) = connection.session() else {
            let shown = connection.part(&Self::INNER, |part| inner.on_data(part, data));
            return shown.unwrap();
        };
        let (caller, owner) = (Accepted::new(*listener, peer.clone()), *owner);
        assert!(connection.part(&Self::INNER, |_| ()).is_none());
        let Some(rest) = data.strip_prefix(b"sesame\n") else {
            connection.abort(CloseReason::Aborted);
            return data.len();
        };
        let context = connection.context();
        let accept = |context: &mut Context<'_, _>| inner.on_accept(context, &caller);
        let session = context.about(owner, |context| context.part(&Self::INNER, accept));
        let session = session.unwrap();
        *connection.session_mut() = Known::Yes(session);
        let opened = connection.part(&Self::INNER, |part| {
            inner.on_open(part);
            inner.on_data(part, rest)
        });
        data.len() - rest.len() + opened.unwrap()
    }

    fn on_timer(&mut self, context: &mut Context<'_, Self::Session>, key: u64) {
        assert_eq!(context.owner().part(), 15);
        context.part(&Self::INNER, |context| {
            assert_eq!(
                context.owner(),
                Owner::default(),
                "it's the inner one's own"
            );
            self.inner.on_timer(context, key);
        });
    }
}

#[test]
fn a_connection_becomes_another_handler_s_when_its_session_does() {
    let mut world = World::new(1);
    let guard = Guard {
        inner: Greeter::default(),
    };
    let mut host = world.host(guard, Limits::default()).unwrap();
    host.context().listen(&ListenOptions::new(at(80))).unwrap();
    let (knows, guesses, waits) = (
        world.connect(at(80)),
        world.connect(at(80)),
        world.connect(at(80)),
    );
    knows.send(b"sesame\nann\n");
    guesses.send(b"ann\n");
    world.advance(&mut host, 2 * PATIENCE).unwrap();
    assert_eq!(knows.received(), b"who?\nhello ann\n");
    assert!(guesses.was_reset() && waits.received().is_empty() && !waits.has_ended());
    assert_eq!(host.handler.inner.opened.len(), 1);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Gone {
    Closed,
    Released,
    InADrain,
}

/// What a client hears of either handler behind a guard, when it's let in after its listener's end.
fn heard_after(port: u16, gone: Gone) -> Vec<u8> {
    let mut world = World::new(1);
    let inner = Both::new(Echo::new(EchoOptions::default()), Greeter::default());
    let mut host = world.host(Guard { inner }, Limits::default()).unwrap();
    let (reactor, guard) = host.reactor();
    let mut context = reactor.context();
    let options = ListenOptions::new(at(port));
    let listener = context.part(&Guard::<Pair>::INNER, |context| match port {
        7 => guard
            .inner
            .with_first(context, |_, context| context.listen(&options)),
        _ => guard
            .inner
            .with_second(context, |_, context| context.listen(&options)),
    });
    let client = world.connect(at(port));
    client.finish_at_end();
    if gone != Gone::InADrain {
        world.advance(&mut host, SECOND).unwrap();
    }
    client.send(b"sesame\nann\n");
    world.advance(&mut (), SECOND).unwrap();
    let mut context = host.context();
    match gone {
        Gone::Closed => assert!(context.close_listener(listener.unwrap())),
        Gone::Released => assert!(context.release_listener(listener.unwrap())),
        Gone::InADrain => context.drain(SECOND),
    }
    world.advance(&mut host, 2 * SECOND).unwrap();
    assert!(!client.was_reset(), "{port}, {gone:?}");
    client.received()
}

#[test]
fn who_is_let_in_when_their_listener_is_gone_has_the_handler_that_had_it() {
    for gone in [Gone::Closed, Gone::Released, Gone::InADrain] {
        assert_eq!(heard_after(7, gone), b"ann\n");
        assert_eq!(heard_after(1000, gone), b"who?\nhello ann\n");
    }
}
