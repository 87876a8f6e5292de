//! Clients that come, ask and go all the time, while a server is replaced, and who fail where a
//! single request is lost.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// How long a client waits for its answer: far longer than it takes.
const LONG: Duration = Duration::from_secs(60);

/// Where an echo is asked.
#[derive(Clone)]
pub enum Place {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(UnixAddr),
}

/// Clients of several places.
pub struct Callers {
    /// Each place, and how many requests were answered there.
    places: Vec<(Place, AtomicUsize)>,
    over: AtomicBool,
}

/// Ends them all also where one fails, or the test does, so that it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Callers {
    pub fn new(places: impl IntoIterator<Item = Place>) -> Callers {
        let places = places.into_iter().map(|place| (place, AtomicUsize::new(0)));
        Callers {
            places: places.collect(),
            over: AtomicBool::new(false),
        }
    }

    /// Has three clients of each place call for as long as `meanwhile` takes.
    pub fn call_during<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            let _over = Over(&self.over);
            for (place, answered) in self.places.iter().cycle().take(3 * self.places.len()) {
                scope.spawn(|| {
                    let _over = Over(&self.over);
                    self.call(place, answered);
                });
            }
            meanwhile()
        })
    }

    fn call(&self, place: &Place, answered: &AtomicUsize) {
        let datagrams = match place {
            Place::Udp(to) => Some(datagrams(*to)),
            _ => None,
        };
        for number in 0_u64.. {
            if self.over.load(Relaxed) {
                return;
            }
            match (place, &datagrams) {
                (Place::Tcp(to), _) => {
                    let stream = TcpStream::connect(to).unwrap();
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    ask_after_a_while(stream);
                }
                (Place::Unix(to), _) => {
                    let stream = UnixStream::connect_addr(to).unwrap();
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    ask_after_a_while(stream);
                }
                (Place::Udp(_), Some(socket)) => ask_once(socket, number),
                _ => unreachable!(),
            }
            answered.fetch_add(1, Relaxed);
        }
    }

    /// How many requests were answered at each place so far.
    pub fn answered(&self) -> Vec<usize> {
        let counts = self.places.iter().map(|(_, count)| count.load(Relaxed));
        counts.collect()
    }

    /// Whether at each place `count` more have been answered than those.
    pub fn have_heard(&self, count: usize, since: &[usize]) -> bool {
        assert!(!self.over.load(Relaxed), "a client has failed");
        let now = self.answered();
        now.iter()
            .zip(since)
            .all(|(now, since)| *now >= since + count)
    }

    /// Waits until at each place so many more have been answered.
    pub fn hear(&self, count: usize) {
        let since = self.answered();
        while !self.have_heard(count, &since) {
            thread::yield_now();
        }
    }
}

fn datagrams(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

/// Sends a datagram once, without another try: each has its answer.
fn ask_once(socket: &UdpSocket, number: u64) {
    socket.send(&number.to_be_bytes()).unwrap();
    let mut heard = [0; 9];
    let count = socket.recv(&mut heard).expect("a datagram was lost");
    assert_eq!(heard[..count], number.to_be_bytes());
}

/// Some have yet to speak whenever a server ends.
fn ask_after_a_while(mut stream: impl Read + Write) {
    thread::sleep(Duration::from_millis(1));
    ask(&mut stream, b"hello");
}

/// Asks, and expects the answer.
pub fn ask(stream: &mut (impl Read + Write), what: &[u8]) {
    stream.write_all(what).unwrap();
    let mut heard = vec![0; what.len()];
    stream.read_exact(&mut heard).expect("a request was lost");
    assert_eq!(heard, what);
}
