//! The echo server that is loaded when no other one is named, in a thread of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Datagram, Echo, EchoOptions,
    EchoSession, Handler, ListenOptions, Reactor,
};

use crate::failure::{Failure, Reason};
use crate::load::generator::record::thread_cpu;
use crate::system::threads::ReactorThread;

/// How long its answer on what it has used may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// A question: how much processor time has the thread used?
#[derive(Debug)]
struct AskCpu;

/// The running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OwnServer {
    pub(crate) address: SocketAddr,
    thread: ReactorThread<AskCpu>,
    answers: Receiver<Duration>,
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
        let (answer, answers) = mpsc::channel();
        let server = Server {
            echo: Echo::new(EchoOptions::default()),
            answer,
        };
        Ok(OwnServer {
            address: address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into()),
            thread: ReactorThread::start("echo server", reactor, server)?,
            answers,
        })
    }

    /// Processor time that its thread has used so far; `None` when it does not say.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.thread.handle().send(AskCpu).ok()?;
        self.answers.recv_timeout(PATIENCE).ok()
    }
}

/// An echo server that says what it uses.
#[derive(Debug)]
struct Server {
    echo: Echo,
    answer: Sender<Duration>,
}

impl Handler for Server {
    type Session = EchoSession;
    type Message = AskCpu;

    fn on_accept(
        &mut self,
        context: &mut Context<'_, EchoSession>,
        peer: &Accepted,
    ) -> Option<EchoSession> {
        self.echo.on_accept(context, peer)
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

    fn on_message(&mut self, _: &mut Context<'_, EchoSession>, _: AskCpu) {
        if self.answer.send(thread_cpu()).is_err() {
            log::debug!("nobody wants to know what the echo server uses any more");
        }
    }
}
