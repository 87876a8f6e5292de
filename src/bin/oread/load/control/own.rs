//! The echo server that is loaded when no other one is named, in a thread of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Datagram, Echo, EchoOptions,
    EchoSession, Handle, Handler, ListenOptions, Reactor,
};

use crate::failure::{Failure, Reason};
use crate::load::generator::record::thread_cpu;

/// How long its answer on what it has used may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// A question: how much processor time has the thread used?
#[derive(Debug)]
struct HowMuch;

/// The running server.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) address: SocketAddr,
    handle: Handle<HowMuch>,
    used: Receiver<Duration>,
    thread: JoinHandle<()>,
}

impl Own {
    /// Listens on a free port of loopback, and serves it.
    ///
    /// # Errors
    /// Exit code 1: no descriptor, no port or no thread can be had.
    pub(crate) fn start() -> Result<Own, Failure> {
        let failed = |what: &str, error: &io::Error| {
            Failure::runtime(format!(
                "can't start an echo server to load: {what}: {}",
                Reason(error)
            ))
        };
        let mut reactor = Reactor::new().map_err(|e| failed("no poll can be had", &e))?;
        let options = ListenOptions::default();
        let mut context = reactor.context();
        let listening = context.listen(&options);
        let listener = listening.map_err(|e| failed("it can't listen on 127.0.0.1", &e))?;
        let address = context
            .listener_addr(listener)
            .and_then(|at| at.socket_addr());
        let address = address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let handle = reactor.handle();
        let (sender, used) = mpsc::channel();
        let mut server = Server {
            echo: Echo::new(EchoOptions::default()),
            used: sender,
        };
        let run = move || {
            if let Err(error) = reactor.run(&mut server) {
                log::error!("the echo server failed: {}", Reason(&error));
            }
        };
        let builder = thread::Builder::new().name("echo server".to_owned());
        let thread = builder
            .spawn(run)
            .map_err(|e| failed("no thread can be had", &e))?;
        Ok(Own {
            address,
            handle,
            used,
            thread,
        })
    }

    /// Processor time that its thread has used so far; `None` when it does not say.
    pub(crate) fn used(&self) -> Option<Duration> {
        self.handle.send(HowMuch).ok()?;
        self.used.recv_timeout(PATIENCE).ok()
    }

    /// Ends it.
    pub(crate) fn stop(self) {
        self.handle.stop();
        if self.thread.join().is_err() {
            log::error!("the echo server panicked");
        }
    }
}

/// An echo that says what it uses.
#[derive(Debug)]
struct Server {
    echo: Echo,
    used: Sender<Duration>,
}

impl Handler for Server {
    type Session = EchoSession;
    type Message = HowMuch;

    fn on_accept(
        &mut self,
        context: &mut Context<'_, EchoSession>,
        caller: &Accepted,
    ) -> Option<EchoSession> {
        self.echo.on_accept(context, caller)
    }

    fn on_open(&mut self, connection: &mut Connection<'_, EchoSession>) {
        self.echo.on_open(connection);
    }

    #[inline(always)]
    fn on_data(&mut self, connection: &mut Connection<'_, EchoSession>, data: &[u8]) -> usize {
        self.echo.on_data(connection, data)
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, EchoSession>, rest: &[u8]) {
        self.echo.on_eof(connection, rest);
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, EchoSession>, reason: CloseReason) {
        self.echo.on_closing(connection, reason);
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, EchoSession>,
        id: ConnectionId,
        session: EchoSession,
        reason: CloseReason,
    ) {
        self.echo.on_close(context, id, session, reason);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, EchoSession>, data: &[u8]) {
        self.echo.on_datagram(datagram, data);
    }

    fn on_message(&mut self, _: &mut Context<'_, EchoSession>, HowMuch: HowMuch) {
        if self.used.send(thread_cpu()).is_err() {
            log::debug!("nobody wants to know what the echo server uses any more");
        }
    }
}
