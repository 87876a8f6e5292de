//! What the tests of the network have in common.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::real::{Events, System, TcpListener, TcpStream};
use crate::nonblocking::is_blocked;
use crate::options::{ConnectOptions, ListenOptions};
use crate::readiness::Readiness;

/// How long a test waits for what must come. Loopback needs microseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// `text` as an address.
pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A listener as `options` say.
pub(super) fn listen(options: &ListenOptions) -> io::Result<TcpListener> {
    TcpListener::listen(options, None)
}

/// A selector with the events that it has told of.
pub(super) struct Loop {
    pub(super) poll: System,
    pub(super) events: Events,
}

impl Loop {
    /// One with room for 64 events.
    pub(super) fn new() -> Loop {
        let poll = System::new().unwrap();
        let events = poll.events(64);
        Loop { poll, events }
    }

    /// Attempts, and again after each batch of events, until there is something.
    pub(super) fn until<T>(&mut self, mut attempt: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = attempt() {
                return value;
            }
            self.wait(deadline);
        }
    }

    /// Waits until an event for `token` has all of `wanted`.
    pub(super) fn until_ready(&mut self, token: usize, wanted: Readiness) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Readiness::EMPTY;
        while !seen.contains(wanted) {
            self.wait(deadline);
            for event in self.events.iter().filter(|event| event.token() == token) {
                let readiness = event.readiness();
                seen |= readiness;
            }
        }
    }

    /// One wait, which must not be beyond `deadline`.
    fn wait(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing came in {PATIENCE:?}");
        self.poll.wait(&mut self.events, Some(left)).unwrap();
    }

    /// A connection through a listener that is as `options` say: the dialled end, registered as
    /// `token`, and the accepted end, registered as the next one.
    pub(super) fn pair(&mut self, options: &ListenOptions, token: usize) -> (TcpStream, TcpStream) {
        let mut listener = listen(options).unwrap();
        self.poll
            .register_listener(&mut listener, usize::MAX - 1)
            .unwrap();
        let to = ConnectOptions::new(listener.local_addr().unwrap());
        let mut dialled = TcpStream::dial(&to).unwrap();
        self.poll.register_stream(&mut dialled, token).unwrap();
        self.until(|| dialled.established().unwrap().then_some(()));
        let (mut accepted, _) = self.until(|| some(listener.accept()));
        self.poll.register_stream(&mut accepted, token + 1).unwrap();
        self.poll.deregister_listener(&mut listener).unwrap();
        (dialled, accepted)
    }
}

/// What an attempt came to, or `None` if it only said "not now".
pub(super) fn outcome<T>(result: io::Result<T>) -> Option<io::Result<T>> {
    match result {
        Err(error) if is_blocked(&error) => None,
        result => Some(result),
    }
}

/// As [`outcome`], of what must not fail.
pub(super) fn some<T>(result: io::Result<T>) -> Option<T> {
    outcome(result).map(Result::unwrap)
}
