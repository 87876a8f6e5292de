//! The echo server that is loaded when no other one is named, in a thread of its own.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use oread::{Echo, EchoOptions, Handle, ListenOptions, Reactor};

use crate::failure::{Failure, Reason};
use crate::load::count::ThreadUse;
use crate::system::threads::{self, thread_cpu};

/// How long its last answer on what it has used may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A moment, and what the server's thread had used by then.
type Mark = (Instant, Duration);

/// The running server.
#[derive(Debug)]
pub(crate) struct OwnServer {
    pub(crate) address: SocketAddr,
    handle: Handle<Infallible>,
    /// What its thread says at each stop.
    told: Receiver<Mark>,
    /// When the measured time began and ended, as far as it was asked. A server that is too busy
    /// to answer is not waited for.
    marks: Vec<Option<Mark>>,
}

impl OwnServer {
    /// Listens on a free port of loopback, and serves it for as long as the program runs.
    ///
    /// # Errors
    /// Exit code 1: no descriptor, no port or no thread can be had.
    pub(crate) fn start() -> Result<OwnServer, Failure> {
        let failed =
            |error| Failure::runtime(format!("can't start a server to load: {}", Reason(&error)));
        let mut reactor = Reactor::new().map_err(failed)?;
        let mut context = reactor.context();
        let listener = context.listen(&ListenOptions::default()).map_err(failed)?;
        let address = context
            .listener_addr(listener)
            .and_then(|at| at.socket_addr());
        let handle = reactor.handle();
        let (tell, told) = mpsc::channel();
        threads::start("echo server", move || {
            let mut echo = Echo::new(EchoOptions::default());
            loop {
                if let Err(error) = reactor.run(&mut echo) {
                    return log::error!("the echo server has failed: {}", Reason(&error));
                }
                // It was stopped to be asked.
                if tell.send((Instant::now(), thread_cpu())).is_err() {
                    return;
                }
            }
        })?;
        Ok(OwnServer {
            address: address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into()),
            handle,
            told,
            marks: Vec::new(),
        })
    }

    /// Asks it what it has used, once when the measured time has begun and once when it has ended,
    /// and hears what it has answered. The reactor stops for the answer, and goes on.
    pub(crate) fn look(&mut self, now: u64, measured: [u64; 2]) {
        if let Some(mark @ None) = self.marks.last_mut() {
            *mark = self.told.try_recv().ok();
        }
        let due = measured.get(self.marks.len());
        if due.is_some_and(|due| *due <= now) {
            // An answer that came too late for the first question is none to the second.
            while self.told.try_recv().is_ok() {}
            self.handle.stop();
            self.marks.push(None);
        }
    }

    /// What it used in the measured time, if there was one, and it has answered in time.
    pub(crate) fn used(&self) -> Option<ThreadUse> {
        let [Some((from, before)), last] = self.marks[..] else {
            return None;
        };
        let (to, after) = last.or_else(|| self.told.recv_timeout(ANSWER_TIMEOUT).ok())?;
        Some(ThreadUse {
            cpu: after.saturating_sub(before),
            waited: Duration::ZERO,
            wall: to - from,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    #[test]
    fn a_server_that_was_asked_what_it_used_serves_on() {
        let mut server = OwnServer::start().unwrap();
        let mut client = TcpStream::connect(server.address).unwrap();
        for now in [5, 10, 15, 20, 25] {
            let mut answer = [0; 4];
            client.write_all(b"echo").unwrap();
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"echo");
            server.look(now, [10, 20]);
            let deadline = Instant::now() + Duration::from_secs(30);
            while let Some(None) = server.marks.last() {
                assert!(Instant::now() < deadline, "no answer");
                std::thread::yield_now();
                server.look(now, [10, 20]);
            }
            assert_eq!(server.used().is_some(), now >= 20);
        }
        let used = server.used().unwrap();
        assert!(used.cpu > Duration::ZERO && used.wall > Duration::ZERO);
    }

    #[test]
    fn a_server_that_did_not_answer_the_first_question_is_told_of_by_none() {
        let mut server = OwnServer::start().unwrap();
        server.marks = vec![None];
        server.look(20, [10, 20]);
        assert_eq!(server.used(), None);
    }
}
