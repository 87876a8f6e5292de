//! What was there in time and is looked at late, and who holds a place for too long: deadlines, in
//! simulated time.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/hosts.rs"]
mod hosts;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oread::sim::{Fault, Host, Peer, Poller, World, check};
use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Handler, Limits,
    ListenOptions,
};

use hosts::{address, idle, listening};

const IDLE: Duration = Duration::from_millis(500);
/// For how long a process stands still.
const STALL: Duration = Duration::from_millis(700);
const MOMENT: Duration = Duration::from_millis(10);

/// Answers later whoever asked first, by a message ("a"), or by a timer ("s"); "r" of another one
/// resumes it.
#[derive(Default)]
struct Later {
    asked: Option<ConnectionId>,
    heard: Vec<Vec<u8>>,
    closed: Vec<CloseReason>,
}

impl Later {
    fn answer(&mut self, context: &mut Context<'_, ()>) {
        let id = self.asked.unwrap();
        if let Some(mut connection) = context.connection(id) {
            connection.write(b"answer");
            connection.resume();
        }
    }
}

impl Handler for Later {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        self.heard.push(data.to_vec());
        match data {
            b"a" => {
                connection.pause();
                self.asked = Some(connection.id());
            }
            b"b" => _ = connection.write(&[7; 20_000]),
            b"s" => {
                self.asked = Some(connection.id());
                connection.timer(Duration::from_millis(50));
            }
            b"r" => {
                let id = self.asked.unwrap();
                connection.context().connection(id).unwrap().resume();
            }
            _ => {}
        }
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, ()>, _: &[u8]) {
        connection.write(b"wait");
    }

    fn on_message(&mut self, context: &mut Context<'_, ()>, (): ()) {
        self.answer(context);
    }

    fn on_timer(&mut self, context: &mut Context<'_, ()>, _: u64) {
        self.answer(context);
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, _: ConnectionId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

#[test]
fn a_message_posted_in_time_is_delivered_before_a_deadline_is_judged() {
    check(0..20, |world| {
        let mut host = listening(world, Later::default(), idle(IDLE));
        let peer = world.connect(address());
        peer.send(b"a");
        world.settle(&mut host).unwrap();
        assert!(host.handler.asked.is_some());
        host.handle().send(()).unwrap();
        world.advance(&mut (), STALL).unwrap();
        world.settle(&mut host).unwrap();
        assert_eq!(
            (peer.received(), &host.handler.closed[..]),
            (b"answer".to_vec(), &[][..])
        );
    });
}

#[test]
fn messages_without_end_do_not_put_a_deadline_off_for_good() {
    check(0..20, |world| {
        let limits = Limits {
            message_budget: 1,
            mailbox: 4,
            ..idle(IDLE)
        };
        let mut host = listening(world, Later::default(), limits);
        let peer = world.connect(address());
        peer.send(b"a");
        world.settle(&mut host).unwrap();
        // It's answered, and silent from then on.
        for _ in 0..100 {
            while host.handle().send(()).is_ok() {}
            host.handler.asked = Some(ConnectionId::from_bits(u64::MAX));
            world.advance(&mut (), MOMENT).unwrap();
            host.turn(Some(Duration::ZERO)).unwrap();
        }
        assert!(peer.has_ended(), "it's still open");
    });
}

#[test]
fn a_timer_fires_before_a_deadline_that_comes_after_it() {
    check(0..20, |world| {
        let mut host = listening(world, Later::default(), idle(IDLE));
        let peer = world.connect(address());
        peer.send(b"s");
        world.settle(&mut host).unwrap();
        assert!(host.handler.asked.is_some());
        world.advance(&mut (), STALL).unwrap();
        world.settle(&mut host).unwrap();
        assert_eq!(
            (peer.received(), &host.handler.closed[..]),
            (b"answer".to_vec(), &[][..])
        );
    });
}

#[test]
fn a_connection_that_was_resumed_in_time_is_read_before_its_deadline_is_judged() {
    check(0..20, |world| {
        let mut host = listening(world, Later::default(), idle(IDLE));
        let peer = world.connect(address());
        peer.send(b"a");
        let other = world.connect(address());
        world.settle(&mut host).unwrap();
        // Its event comes while it is paused.
        peer.send(b"m");
        world.settle(&mut host).unwrap();
        other.send(b"r");
        world.advance(&mut (), STALL).unwrap();
        world.settle(&mut host).unwrap();
        let heard = &host.handler.heard;
        assert!(heard.contains(&b"m".to_vec()), "{heard:?}");
    });
}

#[test]
fn what_is_written_at_the_peers_end_puts_idleness_off() {
    check(0..20, |world| {
        let mut host = listening(world, Later::default(), idle(IDLE));
        let peer = world.connect(address());
        world.advance(&mut host, IDLE - 10 * MOMENT).unwrap();
        peer.finish();
        world.advance(&mut host, IDLE - 10 * MOMENT).unwrap();
        assert_eq!(
            (peer.received(), &host.handler.closed[..]),
            (b"wait".to_vec(), &[][..])
        );
        world.advance(&mut host, 40 * IDLE).unwrap();
        assert_eq!(host.handler.closed, [CloseReason::IdleTimeout]);
    });
}

#[test]
fn a_large_answer_gives_no_more_time_than_a_small_one() {
    check(0..100, |world| {
        let mut host = listening(world, Later::default(), idle(IDLE));
        let peer = world.connect(address());
        peer.send(b"b");
        world.settle(&mut host).unwrap();
        assert_eq!(peer.received().len(), 20_000);
        world.advance(&mut host, IDLE + 20 * MOMENT).unwrap();
        assert!(peer.has_ended(), "it's still open");
    });
}

#[test]
fn who_waits_for_a_turn_in_vain_at_a_deadline_misses_it_by_no_more_than_the_turn() {
    check(0..100, |world| {
        let limits = Limits {
            io_budget: 1,
            ..idle(IDLE)
        };
        let mut host = listening(world, Later::default(), limits);
        let (busy, silent) = (world.connect(address()), world.connect(address()));
        silent.send(&[b'x'; 8192]);
        world.advance(&mut (), MOMENT).unwrap();
        world.settle(&mut host).unwrap();
        let silence = world.now();
        // Somebody is busy when its deadline comes, so that an event that says nothing has it wait.
        world.advance(&mut host, IDLE - MOMENT / 2).unwrap();
        busy.send(&[b'y'; 100_000]);
        world.advance(&mut (), MOMENT).unwrap();
        world.fault_rate(Fault::EventSpurious, 800_000);
        while !silent.has_ended() && world.now() < silence + 3 * IDLE {
            world.advance(&mut host, MOMENT / 10).unwrap();
        }
        let late = world.now().saturating_sub(silence + IDLE);
        assert!(late <= MOMENT, "{late:?}");
    });
}

/// Takes lines; what has no end yet is left.
#[derive(Default)]
struct Lines {
    lines: Vec<usize>,
    closed: Vec<CloseReason>,
}

impl Handler for Lines {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        if data.last() != Some(&b'\n') {
            return 0;
        }
        self.lines.push(data.len());
        data.len()
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, _: ConnectionId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

#[test]
fn a_trickle_does_not_keep_the_memory_that_others_wait_for() {
    check(0..20, |world| {
        let limits = Limits {
            max_pending: 20_000,
            write_timeout: Some(Duration::from_millis(400)),
            ..Limits::default()
        };
        let mut host = listening(world, Lines::default(), limits);
        // One that holds and says nothing more, one that is fed and trickles, and one with a line.
        let holds = world.connect(address());
        holds.send(&[b'h'; 8192]);
        world.settle(&mut host).unwrap();
        let trickles = world.connect(address());
        trickles.send(&[b't'; 12_288]);
        world.settle(&mut host).unwrap();
        let honest = world.connect(address());
        honest.send(&[b'x'; 7_999]);
        honest.send(b"\n");
        for _ in 0..100 {
            trickles.send(b"t");
            world.advance(&mut host, MOMENT).unwrap();
        }
        let Lines { lines, closed } = &*host.handler;
        assert_eq!(lines, &[8_000], "{closed:?}");
    });
}

/// What becomes of a connection, and by which deadline.
#[derive(Clone, Copy, Debug)]
enum Role {
    /// It speaks so often, with such pauses, and then falls silent.
    Speaks(u32, Duration),
    /// It doesn't read what it's answered.
    ReadsNothing,
    /// It's answered and closed, and doesn't finish.
    Stays,
}

/// Notes when each deadline comes.
#[derive(Default)]
struct Keeper {
    roles: BTreeMap<SocketAddr, Role>,
    /// When it was told closing, and closed, and why.
    closing: BTreeMap<SocketAddr, Instant>,
    closed: BTreeMap<SocketAddr, (CloseReason, Instant)>,
    /// Timers that are set, and how late each has fired.
    timers: Vec<Instant>,
    fired: Vec<(Instant, Instant)>,
}

impl Keeper {
    fn time(&mut self, context: &mut Context<'_, SocketAddr>, after: Duration) {
        self.timers.push(context.now() + after);
        context.timer(after, self.timers.len() as u64 - 1);
    }
}

impl Handler for Keeper {
    type Session = SocketAddr;
    type Message = ();

    fn on_accept(
        &mut self,
        _: &mut Context<'_, SocketAddr>,
        caller: &Accepted,
    ) -> Option<SocketAddr> {
        caller.peer.socket_addr()
    }

    fn on_data(&mut self, connection: &mut Connection<'_, SocketAddr>, data: &[u8]) -> usize {
        match self.roles[connection.session()] {
            Role::Speaks(..) => {}
            Role::ReadsNothing => {
                connection.set_idle_timeout(None);
                connection.write(&vec![b'w'; 8 << 20]);
            }
            Role::Stays => {
                connection.write(b"good-bye");
                connection.close(CloseReason::Other(7));
            }
        }
        data.len()
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, SocketAddr>, _: CloseReason) {
        let now = connection.context().now();
        self.closing.insert(*connection.session(), now);
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, SocketAddr>,
        _: ConnectionId,
        peer: SocketAddr,
        reason: CloseReason,
    ) {
        self.closed.insert(peer, (reason, context.now()));
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, SocketAddr>,
        _: ConnectionId,
        to: SocketAddr,
        error: io::Error,
    ) {
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        self.closed.insert(to, (CloseReason::Closed, context.now()));
    }

    fn on_timer(&mut self, context: &mut Context<'_, SocketAddr>, key: u64) {
        let now = context.now();
        self.fired.push((self.timers[key as usize], now));
    }
}

/// The system's own timeout: longer than any process here stands still.
const PATIENT: Duration = Duration::from_secs(3600);
/// A handshake, a byte, and as much as a peer takes that doesn't read: both ways and back.
const UNDER_WAY: Duration = Duration::from_millis(30);
const TICK: Duration = Duration::from_millis(1);
/// A tick, a wait in whole milliseconds, and what calls take.
const LATE: Duration = Duration::from_millis(5);

/// Deadlines of all kinds in one world, and how long its process stood still.
struct Watch {
    host: Host<Keeper>,
    start: Instant,
    /// Callers: where from, and since when.
    peers: Vec<(Peer, SocketAddr, Role, Duration)>,
    /// Dials that nobody answers: where to, and until when.
    dials: Vec<(SocketAddr, Duration)>,
    /// From when to when.
    stops: Vec<(Duration, Duration)>,
    /// When output moved, and how much had by then.
    moves: Vec<(Duration, u64)>,
}

impl Watch {
    fn draw(world: &mut World) -> Watch {
        let poller = world.pick(&[Poller::Epoll, Poller::Kqueue, Poller::Poll2]);
        world.poller(poller);
        let mut time = || Duration::from_millis(40 + world.roll(300));
        let limits = Limits {
            idle_timeout: Some(time()),
            write_timeout: Some(time()),
            linger_timeout: time(),
            events: world.pick(&[1, 2, 3, 1024]),
            accept_budget: world.pick(&[1, 64]),
            io_budget: world.pick(&[1, 8]),
            ..Limits::default()
        };
        for fault in [
            Fault::WaitInterrupted,
            Fault::CallTakesTime,
            Fault::EventSpurious,
            Fault::EventLate,
            Fault::ReadInterrupted,
            Fault::WriteInterrupted,
            Fault::AcceptInterrupted,
        ] {
            let rate = world.pick(&[0, 500, 5000, 200_000]);
            world.fault_rate(fault, rate);
        }
        let mut host = world.host(Keeper::default(), limits).unwrap();
        let listener = host.context().listen(&ListenOptions {
            user_timeout: Some(PATIENT),
            ..ListenOptions::new(address())
        });
        listener.unwrap();
        let start = host.context().now() - world.now();
        Watch {
            host,
            start,
            peers: Vec::new(),
            dials: Vec::new(),
            stops: Vec::new(),
            moves: vec![(Duration::ZERO, 0)],
        }
    }

    /// Somebody calls, or is called.
    fn meet(&mut self, world: &mut World) {
        let idle = self.host.context().limits().idle_timeout.unwrap();
        let role = match world.roll(6) {
            0..=2 => Role::Speaks(world.roll(20) as u32, idle / (4 + world.roll(9) as u32)),
            3 => Role::ReadsNothing,
            4 => Role::Stays,
            _ => return self.dial(world),
        };
        let peer = world.connect(address());
        let at = peer.local_addr().unwrap();
        self.host.handler.roles.insert(at, role);
        match role {
            Role::Speaks(count, pause) => peer.send_slowly(&vec![b's'; count as usize], 1, pause),
            Role::ReadsNothing => {
                peer.stop_reading();
                peer.send(b"r");
            }
            Role::Stays => peer.send(b"s"),
        }
        self.peers.push((peer, at, role, world.now()));
    }

    /// Dials where nothing gets through.
    fn dial(&mut self, world: &mut World) {
        let number = self.dials.len() as u16;
        let to = SocketAddr::from(([10, 0, 1, 1], 1000 + number));
        let _there = world.listen(to);
        world.partition(address().ip(), to.ip());
        let timeout = Duration::from_millis(world.roll(300));
        let options = ConnectOptions {
            source: Some((address().ip(), 20_000 + number).into()),
            timeout: Some(timeout),
            user_timeout: Some(PATIENT),
            ..ConnectOptions::new(to)
        };
        self.host.context().connect(&options, to).unwrap();
        self.dials.push((to, world.now() + timeout));
    }

    /// One turn, before which the process may stand still: what happens meanwhile is found by a
    /// wait that is perhaps interrupted at once.
    fn turn(&mut self, world: &mut World) {
        if world.one_in(200) {
            let before = world.now();
            let time = Duration::from_millis(1 << world.roll(16));
            self.host.process().stand_still(time);
            self.stops.push((before, world.now()));
        }
        let most = Duration::from_millis(world.pick(&[0, 1, 3, 50]));
        self.host.turn(Some(most)).unwrap();
        let out = self.host.context().stats().bytes_out;
        if self.moves.last().is_none_or(|(_, before)| *before < out) {
            self.moves.push((world.now(), out));
        }
    }

    /// Whether something that was due between two times, and begun at `from`, came in time. Silence
    /// is counted from the millisecond in which it begins.
    fn assert_in_time(&self, from: Duration, due: (Duration, Duration), at: Instant, what: &str) {
        let at = at - self.start;
        let stops = self.stops.iter();
        let stops = stops.filter(|(begin, end)| *end >= from && *begin <= at);
        let stood: Duration = stops.map(|(begin, end)| *end - *begin).sum();
        let (least, most) = (due.0.saturating_sub(TICK), due.1 + LATE + stood);
        assert!(
            least <= at && at <= most,
            "{what}: at {at:?}, and it was due at {due:?}, and stopped {:?}",
            self.stops
        );
    }

    fn judge(&mut self) {
        let context = self.host.context();
        let limits = context.limits();
        let idle = limits.idle_timeout.unwrap();
        let write = limits.write_timeout.unwrap();
        let linger = limits.linger_timeout;
        let keeper = &self.host.handler;
        for (_, at, role, from) in &self.peers {
            let from = *from;
            let what = format!("{role:?}");
            let (reason, closed) = keeper.closed[at];
            let (expected, least, most) = match role {
                Role::Speaks(count, pause) => {
                    let last = from + *pause * count.saturating_sub(1);
                    let due = (last + idle, last + UNDER_WAY + idle);
                    let closing = keeper.closing[at];
                    self.assert_in_time(from, due, closing, &what);
                    let closing = closing - self.start;
                    (CloseReason::IdleTimeout, closing + linger, closing + linger)
                }
                Role::ReadsNothing => {
                    let at = closed - self.start;
                    let moved = self.moves.iter().rev().find(|(moved, _)| *moved < at);
                    let most = moved.unwrap().0.max(from) + UNDER_WAY + write * 5 / 4;
                    (CloseReason::WriteTimeout, from + write, most)
                }
                Role::Stays => {
                    let most = from + UNDER_WAY + linger;
                    (CloseReason::Other(7), from + linger, most)
                }
            };
            assert_eq!(reason, expected, "{what}");
            self.assert_in_time(from, (least, most), closed, &what);
        }
        for (to, due) in &self.dials {
            let (_, at) = keeper.closed[to];
            self.assert_in_time(Duration::ZERO, (*due, *due), at, "a dial");
        }
        assert_eq!(keeper.fired.len(), keeper.timers.len());
        for (due, fired) in &keeper.fired {
            assert!(fired >= due, "a timer fires early");
            let due = *due - self.start;
            self.assert_in_time(Duration::ZERO, (due, due), *fired, "a timer");
        }
    }
}

fn deadlines(world: &mut World) {
    let mut watch = Watch::draw(world);
    for _ in 0..world.count(8) {
        watch.meet(world);
        let (reactor, keeper) = watch.host.reactor();
        keeper.time(
            &mut reactor.context(),
            Duration::from_micros(world.roll(200_000)),
        );
        for _ in 0..world.roll(50) {
            watch.turn(world);
        }
    }
    let all = watch.peers.len() + watch.dials.len();
    let is_over = |watch: &Watch| {
        let keeper = &watch.host.handler;
        keeper.closed.len() == all && keeper.fired.len() == keeper.timers.len()
    };
    let mut turns = 0;
    while !is_over(&watch) {
        watch.turn(world);
        turns += 1;
        assert!(turns < 20_000, "a deadline does not come");
    }
    watch.judge();
}

#[test]
fn each_deadline_comes_in_its_time_and_not_to_who_spoke_however_long_the_process_stood_still() {
    check(0..600, deadlines);
}
