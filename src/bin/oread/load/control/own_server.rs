//! The echo server that is loaded when no other one is named, in a thread of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use oread::{Echo, EchoOptions, ListenOptions, Reactor};

use crate::failure::{Failure, Reason};
use crate::load::clock::until;
use crate::load::count::ThreadUse;
use crate::system::threads::{self, Observed};

/// The running server.
#[derive(Debug)]
pub(crate) struct OwnServer {
    pub(crate) address: SocketAddr,
    /// What tells of its thread.
    thread: Observed,
    /// When the measured time began and ended, and what the thread had used by then.
    marks: Vec<(u64, Option<Duration>)>,
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
        let (tell, told) = mpsc::channel();
        threads::start("echo server", move || {
            let _ = tell.send(Observed::here());
            if let Err(error) = reactor.run(&mut Echo::new(EchoOptions::default())) {
                log::error!("the echo server has failed: {}", Reason(&error));
            }
        })?;
        Ok(OwnServer {
            address: address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into()),
            thread: told.recv().unwrap_or_default(),
            marks: Vec::new(),
        })
    }

    /// Looks at what it has used, once when the measured time has begun and once when it has ended.
    pub(crate) fn look(&mut self, now: u64, measured: [u64; 2]) {
        let due = measured.get(self.marks.len());
        if due.is_some_and(|due| *due <= now) {
            self.marks.push((now, self.thread.cpu()));
        }
    }

    /// What it used in the measured time, if there was one and the system tells.
    pub(crate) fn used(&self) -> Option<ThreadUse> {
        let [(from, Some(before)), (to, Some(after))] = self.marks[..] else {
            return None;
        };
        Some(ThreadUse {
            cpu: after.saturating_sub(before),
            waited: Duration::ZERO,
            wall: until(from, to),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    #[test]
    fn what_the_server_used_is_that_of_the_measured_time() {
        let mut server = OwnServer::start().unwrap();
        let mut client = TcpStream::connect(server.address).unwrap();
        for now in [5, 10, 15, 20, 25] {
            for _ in 0..200 {
                let mut answer = [0; 4];
                client.write_all(b"echo").unwrap();
                client.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"echo");
            }
            server.look(now, [10, 20]);
            let is_told = now >= 20 && cfg!(target_os = "linux");
            assert_eq!(server.used().is_some(), is_told);
        }
        if let Some(used) = server.used() {
            assert_eq!(used.wall, Duration::from_nanos(10));
            assert!(used.cpu > Duration::ZERO, "{used:?}");
        }
    }
}
