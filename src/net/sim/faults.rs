//! What may go wrong, each kind by its name.
//!
//! Every fault is one that the real system can show; its documentation says where. Faults draw from
//! streams of their own, one for each kind: switching one off changes no other draw of the world.

use std::sync::OnceLock;

use super::random::{Random, mixed, scaled};

/// `CamelCase` as `camel-case`.
fn hyphenated(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident($effect:ident),)+) => {
        /// A kind of fault. Each is one that the real system can show; its documentation says
        /// where.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Fault { $($(#[$doc])* $name,)+ }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)+];

            /// Its name, in words with hyphens between.
            #[must_use]
            pub fn name(self) -> &'static str {
                NAMES[self as usize].get_or_init(|| {
                    let name = match self { $(Fault::$name => stringify!($name),)+ };
                    hyphenated(name)
                })
            }

            /// Whether it may rightly end a connection, or keep one from being made, or lose what
            /// is sent on one: all others only delay. Of datagrams it says nothing:
            /// [`Fault::DatagramLost`] loses them, and so do a send that is blocked, finds no
            /// buffers, or is refused.
            #[must_use]
            pub fn breaks(self) -> bool {
                match self { $(Fault::$name => breaks!($effect),)+ }
            }
        }

        /// Each name is made once.
        static NAMES: [OnceLock<String>; Fault::ALL.len()] =
            [const { OnceLock::new() }; Fault::ALL.len()];
    };
}

/// Whether a kind of fault breaks connections.
macro_rules! breaks {
    (breaks) => {
        true
    };
    (delays) => {
        false
    };
}

faults! {
    /// A read finds nothing, and what is there arrives right after, with its event (tcp(7): the
    /// interrupt that queues a segment runs beside the call).
    ReadBlocked(delays),
    /// A signal interrupts a read (recv(2): EINTR), up to three times in a row.
    ReadInterrupted(delays),
    /// A read gives a part of what is there: the rest arrives right after, with its event.
    ReadShort(delays),
    /// A write finds no room, and room comes right after, with its event (send(2): EAGAIN).
    WriteBlocked(delays),
    /// A signal interrupts a write (send(2): EINTR), up to three times in a row.
    WriteInterrupted(delays),
    /// A write takes a part, as where memory for the socket is short (`sk_stream_alloc_skb`). Room
    /// comes right after, with its event.
    WriteShort(delays),
    /// A write takes one byte, and else is as `WriteShort`.
    WriteOneByte(delays),
    /// `shutdown` fails with ENOBUFS (BSD's `tcp_usr_shutdown` by way of `tcp_output`); the end is
    /// sent 200 ms later.
    ShutdownFails(breaks),
    /// Setting an option fails with ENOBUFS (setsockopt(2)).
    OptionFails(breaks),
    /// SO_ERROR can't be asked: ENOBUFS (getsockopt(2)).
    TakeErrorFails(breaks),
    /// `accept` finds nobody, and who waits arrives right after, with its event.
    AcceptBlocked(delays),
    /// A signal interrupts an accept (accept(2): EINTR).
    AcceptInterrupted(delays),
    /// The process is out of descriptors (accept(2): EMFILE).
    AcceptNoDescriptors(delays),
    /// The system is out of files (accept(2): ENFILE).
    AcceptNoFiles(delays),
    /// The system is out of socket buffers (accept(2): ENOBUFS).
    AcceptNoBuffers(delays),
    /// The system is out of memory (accept(2): ENOMEM).
    AcceptNoMemory(delays),
    /// The waiting connection was aborted (accept(2): ECONNABORTED). It is gone.
    AcceptAborted(breaks),
    /// A protocol error (accept(2): EPROTO). The connection is gone.
    AcceptProtocol(breaks),
    /// A firewall forbids it (accept(2): EPERM). The connection is gone.
    AcceptForbidden(breaks),
    /// A network error of the new socket that accept passes on (accept(2): ENETDOWN, EHOSTDOWN,
    /// ENETUNREACH and others). The connection is gone.
    AcceptNetwork(breaks),
    /// Nobody listens (connect(2): ECONNREFUSED).
    ConnectRefused(breaks),
    /// The peer resets the connection as soon as it is made (tcp(7): ECONNRESET).
    ConnectReset(breaks),
    /// No answer ever comes (connect(2): ETIMEDOUT).
    ConnectTimesOut(breaks),
    /// A router says that the host is not there (ip(7): EHOSTUNREACH), later.
    ConnectHostUnreachable(breaks),
    /// There is no route (connect(2): ENETUNREACH), at once.
    ConnectNetUnreachable(breaks),
    /// No port is left (connect(2): EADDRNOTAVAIL), at once.
    ConnectNoPorts(breaks),
    /// The process is out of descriptors (socket(2): EMFILE), at once.
    ConnectNoDescriptors(breaks),
    /// A firewall forbids it (connect(2): EPERM), at once.
    ConnectForbidden(breaks),
    /// The connection is there before the call returns (loopback).
    ConnectAtOnce(delays),
    /// The first SYN is lost: the connection is there a second later (`TCP_TIMEOUT_INIT`).
    SynLost(delays),
    /// `recvmsg` finds nothing, and what is there arrives right after, with its event.
    RecvBlocked(delays),
    /// A signal interrupts it (recv(2): EINTR).
    RecvInterrupted(delays),
    /// It tells of a send that was refused (udp(7): ECONNREFUSED), on a connected socket.
    RecvRefused(delays),
    /// It fails with ENOMEM (recv(2)); the datagrams are still there.
    RecvNoMemory(delays),
    /// The send buffer is full (send(2): EAGAIN), for up to 2 ms, and then there is an event for
    /// whoever waits for room.
    SendBlocked(delays),
    /// A signal interrupts it (send(2): EINTR).
    SendInterrupted(delays),
    /// The interface's queue is full (send(2): ENOBUFS).
    SendNoBuffers(delays),
    /// A firewall forbids it (send(2): EPERM).
    SendForbidden(delays),
    /// There is no route to that one (send(2): ENETUNREACH).
    SendNetUnreachable(delays),
    /// A run of segments of one byte each (RFC 9293, 3.8.6.2: what senders are to avoid).
    OneByteSegments(delays),
    /// A FIN and the data before it arrive as one segment.
    FinWithData(delays),
    /// A machine on the way resets the connection, at both ends.
    ResetOnTheWay(breaks),
    /// A machine on the way resets the connection at one end. The other end learns of it when it
    /// sends.
    ResetOneEnd(breaks),
    /// The caller has reset the connection before it is accepted.
    ResetBeforeAccept(breaks),
    /// A segment is lost and comes 200 ms later (`TCP_RTO_MIN`), all behind it as well.
    SegmentLost(delays),
    /// A segment takes far longer than others.
    LatencySpike(delays),
    /// An acknowledgement waits 40 ms (`TCP_DELACK_MIN`).
    AckDelayed(delays),
    /// A connection over a slow line, some kilobytes a second.
    SlowLine(delays),
    /// A connection with socket buffers of a few hundred bytes.
    SmallBuffers(delays),
    /// An event comes later than what it tells of.
    EventLate(delays),
    /// An event tells a part, and another one the rest. With mio's poll(2) only an error can be
    /// told before its hang-up, and the rest never is: an error drops the descriptor.
    EventSplit(delays),
    /// An event tells of a socket that is ready for nothing, or what was told before (epoll(7):
    /// several events may come of one arrival).
    EventSpurious(delays),
    /// A signal interrupts the wait (`epoll_wait(2)`: EINTR), at its beginning or later.
    WaitInterrupted(delays),
    /// A wait ends up to 50 us late (prctl(2): PR_SET_TIMERSLACK), or one time in eight up to 20
    /// ms, as on a busy machine.
    WaitLate(delays),
    /// Each call takes up to 2 us.
    CallTakesTime(delays),
    /// The process stands still for 1 ms to minutes (SIGSTOP, a suspended machine).
    StoodStill(breaks),
    /// Registering fails (`epoll_ctl(2)`: ENOMEM, ENOSPC).
    RegisterFails(breaks),
    /// A listener's `bind` or `listen` fails with EADDRINUSE (bind(2)).
    ListenInUse(breaks),
    /// A datagram is lost.
    DatagramLost(delays),
    /// A datagram comes twice.
    DatagramDoubled(delays),
    /// A datagram is late, so that later ones overtake it.
    DatagramLate(delays),
    /// The peer of a connection vanishes: nothing comes from it any more.
    PeerVanishes(breaks),
    /// For a while nothing passes between two hosts.
    Partition(breaks),
    /// The process has no memory for a larger buffer or a larger table (malloc(3): ENOMEM).
    NoMemory(breaks),
    /// A reset arrives right before a write, which takes its error away: reads say the end from
    /// then on (tcp(7): a pending error is told once).
    ResetBeforeWrite(breaks),
    /// A reset arrives right behind data, before anybody has read that.
    ResetBehindData(breaks),
    /// A read is filled to its last byte, and what is behind that arrives right after, with its
    /// event.
    ReadFull(delays),
    /// A read gives one byte of what is there: the rest arrives right after, with its event.
    ReadOneByte(delays),
    /// The system is out of open files (socket(2): ENFILE), at once.
    ConnectNoFiles(breaks),
    /// The system has no buffers (socket(2): ENOBUFS), at once.
    ConnectNoBuffers(breaks),
    /// The system has no memory (socket(2): ENOMEM), at once.
    ConnectNoMemory(breaks),
    /// A UDP socket's `bind` fails with EADDRINUSE (bind(2)).
    BindInUse(breaks),
}

/// How often each kind happens, and which were asked for by number.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    seed: u64,
    kinds: Vec<Kind>,
    /// Whether any can happen at all: where none can, a call costs one comparison.
    any: bool,
    /// Those that have happened since the trace was last told, if it's on.
    news: Option<Vec<Fault>>,
}

#[derive(Clone, Debug, Default)]
struct Kind {
    /// How often, in a million calls.
    rate: u32,
    /// How many more times by the rate; `u32::MAX` is without end.
    left: u32,
    /// The calls at which it was asked for, counted from 1.
    asked: Vec<u64>,
    /// How many calls there were.
    calls: u64,
    /// How often it happened.
    hits: u64,
}

impl Faults {
    /// No fault ever.
    pub(crate) fn none(seed: u64) -> Faults {
        Faults {
            seed,
            kinds: vec![Kind::default(); Fault::ALL.len()],
            any: false,
            news: None,
        }
    }

    /// About half of the kinds, each from once to once in ten calls: all faults at once at low
    /// rates find less.
    pub(crate) fn drawn(seed: u64, allowed: impl Fn(Fault) -> bool) -> Faults {
        let mut faults = Faults::none(seed);
        for &fault in Fault::ALL.iter().filter(|fault| allowed(**fault)) {
            // One stream for each kind, so that a kind that is added changes no other.
            let mut random = Random::new(mixed(seed ^ ((fault as u64) << 32)));
            if random.one_in(2) {
                continue;
            }
            let often = random.magnitude(1, 100_000) as u32;
            let once = random.one_in(4);
            faults.set(
                fault,
                if fault.is_heavy() {
                    often / 100 + 1
                } else {
                    often
                },
            );
            if once {
                faults.kinds[fault as usize].left = 1;
            }
        }
        faults
    }

    /// Has `fault` happen so often in a million calls; 0: never.
    pub(crate) fn set(&mut self, fault: Fault, rate: u32) {
        let kind = &mut self.kinds[fault as usize];
        kind.rate = rate;
        kind.left = u32::MAX;
        self.any |= rate > 0;
    }

    /// None happens any more; what has happened stays known.
    pub(crate) fn calm(&mut self) {
        self.any = false;
        for kind in &mut self.kinds {
            kind.rate = 0;
            kind.asked.clear();
        }
    }

    /// Has `fault` happen at the `nth` call of its kind from now, the next one being the first.
    pub(crate) fn at(&mut self, fault: Fault, nth: u64) {
        let kind = &mut self.kinds[fault as usize];
        kind.asked.push(kind.calls + nth.max(1));
        self.any = true;
    }

    /// Remembers from now on what happens, for the trace; or doesn't.
    pub(super) fn remember(&mut self, on: bool) {
        self.news = on.then(Vec::new);
    }

    /// What has happened since this was last asked.
    pub(super) fn take_news(&mut self) -> Vec<Fault> {
        self.news.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The kinds that have happened.
    pub(crate) fn met(&self) -> Vec<Fault> {
        let all = Fault::ALL.iter().copied();
        all.filter(|fault| self.hits(*fault) > 0).collect()
    }

    /// How often `fault` has happened.
    pub(crate) fn hits(&self, fault: Fault) -> u64 {
        self.kinds[fault as usize].hits
    }

    /// Whether `fault` happens at this call.
    #[inline]
    pub(super) fn hit(&mut self, fault: Fault) -> bool {
        let hit = self.any && self.decide(fault);
        if hit && let Some(news) = &mut self.news {
            news.push(fault);
        }
        hit
    }

    fn decide(&mut self, fault: Fault) -> bool {
        let seed = self.seed;
        let kind = &mut self.kinds[fault as usize];
        kind.calls += 1;
        if let Some(place) = kind.asked.iter().position(|call| *call == kind.calls) {
            kind.asked.swap_remove(place);
            kind.hits += 1;
            return true;
        }
        if kind.rate == 0 || kind.left == 0 {
            return false;
        }
        let hit = scaled(drawn(seed, fault, kind.calls), 1_000_000) < u64::from(kind.rate);
        if hit {
            kind.hits += 1;
            if kind.left != u32::MAX {
                kind.left -= 1;
            }
        }
        hit
    }

    /// A number below `bound` for the fault that has just happened.
    pub(super) fn below(&self, fault: Fault, bound: u64) -> u64 {
        let number = drawn(!self.seed, fault, self.kinds[fault as usize].calls);
        scaled(number, bound)
    }
}

impl Fault {
    /// Whether it changes a whole world: such a fault is drawn more rarely.
    fn is_heavy(self) -> bool {
        matches!(
            self,
            Fault::StoodStill
                | Fault::PeerVanishes
                | Fault::Partition
                | Fault::ResetOnTheWay
                | Fault::ResetOneEnd
                | Fault::ResetBeforeWrite
                | Fault::ResetBehindData
                | Fault::SegmentLost
                | Fault::LatencySpike
        )
    }
}

/// The number that belongs to the `calls`th call of a kind.
fn drawn(seed: u64, fault: Fault, calls: u64) -> u64 {
    mixed(seed ^ mixed(((fault as u64) << 40) ^ calls))
}
