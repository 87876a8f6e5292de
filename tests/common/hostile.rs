//! Peers for tests in which most of them mean no good. Each keeps a truth of its own: it knows what
//! it said, up to where, and checks every byte that comes back against it.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How long anything may take: far more than it does on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Set to run the tests at the sizes in which they were tried by hand: `OREAD_HOSTILE=large`.
const SIZE: &str = "OREAD_HOSTILE";

/// Whether the large sizes are asked for.
pub fn is_large() -> bool {
    std::env::var(SIZE).is_ok_and(|size| size == "large")
}

/// How many of something there are: `small` in every run, `large` where that is asked for. The
/// small sizes fit into 1,024 descriptors.
pub fn size(small: usize, large: usize) -> usize {
    if is_large() { large } else { small }
}

/// What a peer has to say: bytes without end, in pages. Each begins with its own number in
/// disguise, so that no page can stand for another one or another peer's; the rest is the same in
/// all of them, and no part of that looks like another.
#[derive(Clone, Copy)]
pub struct Words(pub u64);

/// Bytes of a page.
const PAGE: usize = 1024;
/// Bytes of its number.
const NUMBER: usize = 8;

/// What all pages have behind their number.
static REST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let eights = (0..(PAGE / NUMBER) as u64).map(|place| mixed(u64::MAX, place));
    eights.flatten().skip(NUMBER).collect()
});

/// Eight bytes that look like no others (SplitMix64).
fn mixed(seed: u64, place: u64) -> [u8; NUMBER] {
    let seed = seed.wrapping_mul(0xd134_2543_de82_ef95);
    let mut mixed = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)).to_le_bytes()
}

impl Words {
    /// Fills `bytes` with what stands at `at` and behind.
    pub fn fill(self, at: u64, mut bytes: &mut [u8]) {
        let mut page = at / PAGE as u64;
        let mut from = (at % PAGE as u64) as usize;
        while !bytes.is_empty() {
            let number = mixed(self.0, page);
            let part = match from < NUMBER {
                true => &number[from..],
                false => &REST[from - NUMBER..],
            };
            let count = part.len().min(bytes.len());
            bytes[..count].copy_from_slice(&part[..count]);
            bytes = &mut bytes[count..];
            from += count;
            if from == PAGE {
                (page, from) = (page + 1, 0);
            }
        }
    }
}

/// What came of listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// So many bytes, the right ones.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The end, in good order.
    End,
    /// A reset.
    Reset,
}

/// A peer that says its words to an echo.
pub struct Peer {
    pub stream: TcpStream,
    words: Words,
    /// Bytes that the system took.
    pub said: u64,
    /// Bytes that came back.
    pub heard: u64,
}

impl Peer {
    /// A peer that is connected and has words of its own.
    pub fn new(stream: TcpStream, seed: u64) -> Peer {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let words = Words(seed);
        Peer {
            stream,
            words,
            said: 0,
            heard: 0,
        }
    }

    /// A new connection to `address`.
    pub fn connect(address: SocketAddr, seed: u64) -> Peer {
        Peer::new(
            TcpStream::connect_timeout(&address, PATIENCE).unwrap(),
            seed,
        )
    }

    /// Has none of its calls wait from now on.
    pub fn hurried(self) -> Peer {
        self.stream.set_nonblocking(true).unwrap();
        self
    }

    /// Has its calls wait from now on.
    pub fn patient(&mut self) {
        self.stream.set_nonblocking(false).unwrap();
    }

    /// Says up to `count` of its next bytes in one call; how many the system took, 0 also where the
    /// other side is gone.
    pub fn say(&mut self, count: usize) -> usize {
        let mut bytes = vec![0; count];
        self.words.fill(self.said, &mut bytes);
        match self.stream.write(&bytes) {
            Ok(taken) => {
                self.said += taken as u64;
                taken
            }
            Err(error) => {
                let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                let blocked = error.kind() == ErrorKind::WouldBlock;
                assert!(blocked || gone.contains(&error.kind()), "{error}");
                0
            }
        }
    }

    /// Says all of its next `count` bytes.
    pub fn say_all(&mut self, count: usize) {
        let mut bytes = vec![0; count];
        self.words.fill(self.said, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
        self.said += count as u64;
    }

    /// Takes up to `count` bytes in one call, and checks them.
    pub fn hear(&mut self, count: usize) -> Heard {
        let mut bytes = vec![0; count];
        match self.stream.read(&mut bytes) {
            Ok(0) => Heard::End,
            Ok(taken) => {
                self.check(&bytes[..taken]);
                Heard::Bytes(taken)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Heard::Reset,
            Err(error) => panic!("can't read: {error}"),
        }
    }

    /// What has come back is what was said, and there is no more of it than that.
    fn check(&mut self, bytes: &[u8]) {
        let mut expected = vec![0; bytes.len()];
        self.words.fill(self.heard, &mut expected);
        assert!(bytes == expected, "other bytes at {} came back", self.heard);
        self.heard += bytes.len() as u64;
        assert!(self.heard <= self.said, "more came back than was said");
    }

    /// Waits until all that was said is back.
    pub fn hear_all(&mut self) {
        while self.heard < self.said {
            let missing = usize::try_from(self.said - self.heard).unwrap();
            let heard = self.hear(missing.min(64 << 10));
            assert!(
                matches!(heard, Heard::Bytes(_)),
                "{heard:?} with {} of {} bytes back; {}",
                self.heard,
                self.said,
                whereabouts(&self.stream)
            );
        }
    }

    /// Says `count` bytes and waits for them; how long that took.
    pub fn ping(&mut self, count: usize) -> Duration {
        let start = Instant::now();
        self.say_all(count);
        self.hear_all();
        start.elapsed()
    }

    /// Finishes, takes what is still to come, and wants the end in good order.
    pub fn finish(mut self) {
        self.patient();
        self.stream.shutdown(Shutdown::Write).unwrap();
        self.hear_all();
        assert_eq!(self.hear(1), Heard::End);
    }

    /// Leaves by a reset.
    pub fn reset(self) {
        reset(self.stream);
    }
}

/// Where the system has the bytes of a connection on loopback: the queues of both its ends, and
/// what it has dropped for want of memory. Output that is queued at one end while nothing is at the
/// other is the system's; input that is queued is its reader's.
fn whereabouts(stream: &TcpStream) -> String {
    let ports =
        [stream.local_addr(), stream.peer_addr()].map(|end| end.map_or(0, |end| end.port()));
    let ends = ports.map(|port| format!(":{port:04X} "));
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (rows, drops) = (read("/proc/self/net/tcp"), read("/proc/self/net/netstat"));
    let rows: Vec<&str> = rows
        .lines()
        .filter(|row| ends.iter().all(|end| row.contains(end)))
        .collect();
    let drops: Vec<&str> = drops
        .lines()
        .filter(|row| row.starts_with("TcpExt"))
        .collect();
    let counts = drops.iter().map(|row| row.split_whitespace());
    let counts: Vec<Vec<&str>> = counts.map(Iterator::collect).collect();
    let dropped = match &counts[..] {
        [names, values] => (names.iter().zip(values))
            .filter(|(name, _)| name.contains("Drop") || name.contains("Prune"))
            .map(|(name, value)| format!(" {name}={value}"))
            .collect(),
        _ => String::new(),
    };
    format!(
        "its rows (queues are out:in):\n{}\n{dropped}",
        rows.join("\n")
    )
}

/// Makes the close of `stream` a reset.
pub fn reset(stream: TcpStream) {
    let now = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &now).unwrap();
    drop(stream);
}

/// A connection, if the system has one to give in `time`.
pub fn try_connect(address: SocketAddr, time: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, time)
}

/// The times that honest peers wait for their answers.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Each of `peers` says something of its own `rounds` times.
    pub fn of(peers: &mut [Peer], rounds: usize) -> Latencies {
        let mut all = Latencies::default();
        for round in 0..rounds {
            all.round(peers, round);
        }
        all
    }

    /// Each of `peers` says something once more.
    pub fn round(&mut self, peers: &mut [Peer], round: usize) {
        for (number, peer) in peers.iter_mut().enumerate() {
            let count = 1 + (round * 131 + number * 17) % 500;
            self.0.push(peer.ping(count));
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that `percent` of them don't exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) * percent / 100]
    }

    /// The longest one.
    pub fn worst(&self) -> Duration {
        self.percentile(100)
    }

    /// Nine of ten answers under attack come within `FACTOR` times what nine of ten took before, or
    /// within `FLOOR` where that is more: a busy machine is slow in either.
    pub fn assert_as_good_as(&self, before: &Latencies) {
        let (calm, attacked) = (before.percentile(90), self.percentile(90));
        println!(
            "{} answers: p50 {:?}, p90 {attacked:?}, p99 {:?}, worst {:?}; in peace p90 {calm:?}",
            self.count(),
            self.percentile(50),
            self.percentile(99),
            self.worst(),
        );
        let most = (FACTOR * calm).max(FLOOR);
        assert!(attacked <= most, "p90 {attacked:?}, and {calm:?} in peace");
    }
}

/// How much longer nine of ten honest peers may wait under an attack.
const FACTOR: u32 = 10;
/// What is never too long: several time slices of a machine on which everything waits its turn.
const FLOOR: Duration = Duration::from_millis(250);
