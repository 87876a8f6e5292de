//! A connection: two ends and two ways. What moves on them is in `wire.rs`, how they end is in
//! `ending.rs`.
//!
//! A way is one direction. It keeps the bytes from where the receiver has read to where the sender
//! has written, and says by sequence numbers how far they are: read, received, sent, written, and
//! acknowledged as far as the sender knows. So a byte is copied in once and out once.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::faults::Fault;
use super::watch::{Side, Watch};
use super::{Owner, State};
use crate::options::Keepalive;

/// The first wait before a segment is sent again (`TCP_RTO_MIN`).
pub(super) const RESEND: Duration = Duration::from_millis(200);

/// How far a FIN has come, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Fin {
    None,
    Queued,
    Sent,
    Received,
    Acknowledged,
}

/// What is under way to the receiver: all bytes up to `upto` that it has not got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) at: Duration,
    pub(super) upto: u64,
    pub(super) fin: bool,
    pub(super) urgent: Option<u64>,
}

/// What is under way back to the sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledgement {
    pub(super) at: Duration,
    pub(super) upto: u64,
    /// Up to where the sender may send.
    pub(super) allowed: u64,
    pub(super) fin: bool,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Way {
    /// From `read` to `written`.
    pub(super) bytes: VecDeque<u8>,
    pub(super) read: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) written: u64,
    /// What the sender knows to have arrived.
    pub(super) acknowledged: u64,
    /// Up to where the sender may send, as far as it knows.
    pub(super) allowed: u64,
    /// Up to where the receiver has told it that it may.
    pub(super) told: u64,
    pub(super) fin: Fin,
    /// Bytes that may be unacknowledged.
    pub(super) send_buffer: u64,
    /// Bytes that may be received and unread.
    pub(super) receive_buffer: u64,
    pub(super) segments: VecDeque<Segment>,
    pub(super) acknowledgements: VecDeque<Acknowledgement>,
    /// Nothing that is sent later arrives before this.
    pub(super) last_arrival: Duration,
    pub(super) last_acknowledgement: Duration,
    /// Whether the line is taken up until then, where it is slow.
    pub(super) busy_until: Duration,
    /// Whether a write found too little room: only then is room told of.
    pub(super) no_space: bool,
    /// Where the sender's last urgent byte is.
    pub(super) urgent_sent: Option<u64>,
    /// Where the receiver's mark is.
    pub(super) urgent: Option<u64>,
    /// When the sender last saw progress, or had nothing unacknowledged.
    pub(super) since: Duration,
    /// How long the next wait for a lost segment is.
    pub(super) backoff: Duration,
    /// The largest segment, in bytes, and how many of one byte come before it's used.
    largest: u64,
    pub(super) tiny: u32,
}

/// The state of an end, as far as it matters to who holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The SYN is out.
    Dialing,
    /// The SYN was answered, and the answer is not acknowledged.
    Answering,
    /// Either way can be open or finished.
    Established,
    /// It is over: both ways have finished, or a reset or an error has ended it.
    Over,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) owner: Owner,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) phase: Phase,
    /// What the socket has stored for whichever call comes first.
    pub(super) error: Option<Errno>,
    /// Our way is shut.
    pub(super) shut: bool,
    /// The peer's FIN is there.
    pub(super) finished: bool,
    /// Whoever held it has closed it: the system goes on alone.
    pub(super) closed: bool,
    /// Whether it behaves as BSD's sockets do, and not as Linux'.
    pub(super) bsd: bool,
    pub(super) reset_on_close: bool,
    pub(super) user_timeout: Option<Duration>,
    pub(super) keepalive: Option<Keepalive>,
    /// Nothing comes from it or gets to it any more.
    pub(super) vanished: bool,
    /// When something last came from the peer.
    pub(super) heard: Duration,
    /// Whether a check of its timeouts is scheduled.
    pub(super) expires: bool,
    pub(super) watch: Watch,
    /// Calls in a row that a signal has interrupted.
    pub(super) interrupted: u8,
    /// Until then a read finds nothing: the last one was exactly full, and what is behind it is
    /// still to arrive.
    pub(super) full_until: Duration,
}

/// A connection. `ways[0]` is what `ends[0]` sends.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    pub(super) ways: [Way; 2],
    /// How long a segment takes at least, and by how much more it may.
    pub(super) latency: Duration,
    jitter: Duration,
    /// Bytes a second; 0: no limit.
    pub(super) speed: u64,
    /// How many SYNs were sent.
    pub(super) dialed: u32,
    /// How long the next wait of the handshake is.
    pub(super) retry: Duration,
    /// The listener that the connection waits at.
    pub(super) listener: Option<u32>,
}

impl End {
    pub(super) fn new(owner: Owner, bsd: bool, local: SocketAddr, remote: SocketAddr) -> End {
        End {
            owner,
            local,
            remote,
            phase: Phase::Dialing,
            error: None,
            shut: false,
            finished: false,
            closed: false,
            bsd,
            reset_on_close: false,
            user_timeout: None,
            keepalive: None,
            vanished: false,
            heard: Duration::ZERO,
            expires: false,
            watch: Watch::None,
            interrupted: 0,
            full_until: Duration::ZERO,
        }
    }
}

impl Way {
    fn new(state: &mut State, small: bool) -> Way {
        let random = &mut state.random;
        let buffer = |random: &mut super::random::Random| match small {
            true => random.between(64, 2048),
            false => random.magnitude(state.settings.buffers.0, state.settings.buffers.1),
        };
        let receive_buffer = buffer(random);
        let send_buffer = buffer(random);
        // Whole, as on loopback; a common segment; anything; and now and then byte by byte.
        let (largest, tiny) = match random.below(20) {
            0..=9 => (65_536, 0),
            10..=14 => (1_448, 0),
            15..=18 => (random.magnitude(1, 4_096).max(16), 0),
            _ => (1_448, 32),
        };
        Way {
            bytes: VecDeque::new(),
            read: 0,
            received: 0,
            sent: 0,
            written: 0,
            acknowledged: 0,
            allowed: receive_buffer,
            told: receive_buffer,
            fin: Fin::None,
            send_buffer,
            receive_buffer,
            segments: VecDeque::new(),
            acknowledgements: VecDeque::new(),
            last_arrival: Duration::ZERO,
            last_acknowledgement: Duration::ZERO,
            busy_until: Duration::ZERO,
            no_space: false,
            urgent_sent: None,
            urgent: None,
            since: Duration::ZERO,
            backoff: RESEND,
            largest,
            tiny,
        }
    }

    /// Bytes that may be written now.
    pub(super) fn room(&self) -> u64 {
        self.send_buffer
            .saturating_sub(self.written - self.acknowledged)
    }

    /// Whether the system calls it writable: a third of the buffer is free
    /// (`__sk_stream_is_writeable`).
    pub(super) fn is_writable(&self) -> bool {
        self.room() * 3 >= self.send_buffer && self.room() > 0
    }

    /// Whether BSD's filter calls it writable: by its low-water mark, of a cluster or of the whole
    /// buffer.
    pub(super) fn has_low_water(&self) -> bool {
        self.room() >= self.send_buffer.min(2_048)
    }

    /// Bytes that have arrived and are not read.
    pub(super) fn available(&self) -> u64 {
        self.received - self.read
    }

    /// Whether anything is unacknowledged.
    pub(super) fn is_outstanding(&self) -> bool {
        self.written > self.acknowledged || matches!(self.fin, Fin::Sent | Fin::Received)
    }

    /// Takes note of the receiver's size of buffer, which the options ask for.
    pub(super) fn set_receive_buffer(&mut self, bytes: usize) {
        self.receive_buffer = (bytes as u64).max(1_152);
        if self.received == 0 {
            self.told = self.receive_buffer;
            self.allowed = self.receive_buffer;
        }
    }

    /// Drops the first `count` bytes that are not read.
    pub(super) fn skip(&mut self, count: u64) {
        self.bytes.drain(..count as usize);
        self.read += count;
        if self.urgent.is_some_and(|mark| mark < self.read) {
            self.urgent = None;
        }
    }

    /// The first segment is sent again after a wait, which doubles each time; all behind it come no
    /// earlier.
    pub(super) fn send_again(&mut self, now: Duration) {
        let at = now + self.backoff;
        self.backoff = (self.backoff * 2).min(Duration::from_secs(120));
        for segment in &mut self.segments {
            segment.at = segment.at.max(at);
        }
        self.last_arrival = self.last_arrival.max(at);
    }

    /// The size of the next segment, of `count` bytes that may go.
    pub(super) fn cut_segment(&mut self, count: u64, random: &mut super::random::Random) -> u64 {
        if self.tiny > 0 {
            self.tiny -= 1;
            return 1;
        }
        let size = count.min(self.largest);
        // A segment ends where the sender happened to push it.
        match self.largest < 1_448 || random.one_in(8) {
            true => random.between(1, size),
            false => size,
        }
    }
}

impl State {
    /// A new connection, whose first end is `end`.
    pub(super) fn new_connection(&mut self, first: End) -> u32 {
        let small = self.faults.hit(Fault::SmallBuffers);
        let slow = self.faults.hit(Fault::SlowLine);
        let mut second = End::new(Owner::Nobody, false, first.remote, first.local);
        second.closed = true;
        second.phase = Phase::Over;
        let (latency, jitter) = self.draw_latency();
        let speed = match slow {
            true => 1_000 + self.faults.below(Fault::SlowLine, 100_000),
            false => self.settings.speed,
        };
        let ways = [Way::new(self, small), Way::new(self, small)];
        let connection = Connection {
            ends: [first, second],
            ways,
            latency,
            jitter,
            speed,
            dialed: 0,
            retry: Duration::from_secs(1),
            listener: None,
        };
        self.connections.push(Some(Box::new(connection)));
        (self.connections.len() - 1) as u32
    }

    /// How long a segment of one connection takes at least, and by how much more it may.
    fn draw_latency(&mut self) -> (Duration, Duration) {
        let (least, most) = self.settings.latency;
        let (least, most) = (least.as_nanos() as u64, most.as_nanos() as u64);
        let latency = self.random.magnitude(least, most);
        let jitter = self.random.below(latency / 4 + 1);
        (Duration::from_nanos(latency), Duration::from_nanos(jitter))
    }

    /// Has the connections that are there take as long as the settings say now.
    pub(super) fn redraw_latencies(&mut self) {
        for id in 0..self.connections.len() as u32 {
            let (latency, jitter) = self.draw_latency();
            if let Some(connection) = self.connection(id) {
                (connection.latency, connection.jitter) = (latency, jitter);
            }
        }
    }

    pub(super) fn connection(&mut self, id: u32) -> Option<&mut Connection> {
        self.connections.get_mut(id as usize)?.as_deref_mut()
    }

    pub(super) fn end(&mut self, side: Side) -> Option<&mut End> {
        Some(&mut self.connection(side.connection)?.ends[usize::from(side.end)])
    }

    /// What this end sends.
    pub(super) fn way(&mut self, side: Side) -> Option<&mut Way> {
        Some(&mut self.connection(side.connection)?.ways[usize::from(side.end)])
    }

    /// How long something takes on this connection's way, this time.
    pub(super) fn latency(&mut self, id: u32) -> Duration {
        let Some(connection) = self.connection(id) else {
            return Duration::ZERO;
        };
        let (latency, jitter) = (connection.latency, connection.jitter.as_nanos() as u64);
        let mut more = self.random.below(jitter + 1);
        if self.faults.hit(Fault::LatencySpike) {
            more += self.faults.below(Fault::LatencySpike, 3_000_000_000);
        }
        latency + Duration::from_nanos(more)
    }
}
