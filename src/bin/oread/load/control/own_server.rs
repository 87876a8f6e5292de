//! The echo server that is loaded when no other one is named, in a thread of its own.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use oread::{Echo, EchoOptions, ListenOptions, Reactor};

use crate::failure::{Failure, Reason};
use crate::load::generator::usage::thread_cpu;
use crate::system::threads::ReactorThread;

/// How long its answer on what it has used may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OwnServer {
    pub(crate) address: SocketAddr,
    /// What its thread has used, at each stop. Dropped before the thread, which ends by that.
    cpu: Receiver<Duration>,
    thread: ReactorThread<Infallible>,
}

impl OwnServer {
    /// Listens on a free port of loopback, and serves it.
    ///
    /// # Errors
    /// Exit code 1: no descriptor, no port or no thread can be had.
    pub(crate) fn start() -> Result<OwnServer, Failure> {
        let failed = |what: &str, error: &io::Error| {
            Failure::runtime(format!(
                "can't start an echo server to load: {what}: {}",
                Reason(error)
            ))
        };
        let mut reactor = Reactor::new().map_err(|e| failed("no poll can be had", &e))?;
        let mut context = reactor.context();
        let listening = context.listen(&ListenOptions::default());
        let listener = listening.map_err(|e| failed("it can't listen on 127.0.0.1", &e))?;
        let address = context
            .listener_addr(listener)
            .and_then(|at| at.socket_addr());
        let (tell, cpu) = mpsc::channel();
        let echo = Echo::new(EchoOptions::default());
        let on_stop = move || tell.send(thread_cpu()).is_ok();
        Ok(OwnServer {
            address: address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into()),
            cpu,
            thread: ReactorThread::start("echo server", reactor, echo, on_stop)?,
        })
    }

    /// Processor time that its thread has used so far; `None` when it does not say. The reactor
    /// stops for the answer, and goes on.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.thread.stop();
        self.cpu.recv_timeout(PATIENCE).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    #[test]
    fn a_server_that_was_asked_what_it_used_serves_on_and_ends_when_it_is_dropped() {
        let server = OwnServer::start().unwrap();
        let mut client = TcpStream::connect(server.address).unwrap();
        let mut used = Duration::ZERO;
        for _ in 0..3 {
            let mut answer = [0; 4];
            client.write_all(b"echo").unwrap();
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"echo");
            let now = server.cpu().unwrap();
            assert!(now > used, "{now:?} after {used:?}");
            used = now;
        }
        drop(server);
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}
