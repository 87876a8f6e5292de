//! The handler of each reactor of a server: an echo, with signals and counters around it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Datagrams, Echo, EchoSession, Handle,
    Handler, Readiness, SourceId, UdpId,
};

use super::report::Report;
use super::totals::{Board, Totals};
use crate::cli::failure::Reason;
use crate::cli::signals::Signals;

/// The timer by which counters are told.
const STATS: u64 = 0;

/// What one reactor's thread tells the first one: it failed, and why.
#[derive(Debug)]
pub(super) struct Lost {
    /// Which reactor it was.
    pub(super) index: usize,
    /// What it died of.
    pub(super) why: String,
}

/// One reactor's handler.
#[derive(Debug)]
pub(super) struct Server {
    echo: Echo,
    /// The echoes of those UDP sockets that have caps; on the others `echo` answers.
    capped: Vec<(UdpId, Echo)>,
    /// Where counters are told, if anybody asked for them.
    pub(super) stats: Option<Reporter>,
    /// What only the first reactor has.
    pub(super) lead: Option<Lead>,
}

/// How a reactor tells its counters.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) index: usize,
    pub(super) every: Duration,
    pub(super) board: Arc<Board>,
    pub(super) report: Report,
    /// When the server started.
    pub(super) started: Instant,
    /// Where the first reactor sends the sums to be printed; it never waits for that.
    pub(super) printer: Option<SyncSender<String>>,
}

/// The first reactor's part: it hears the signals, and ends the others.
#[derive(Debug)]
pub(super) struct Lead {
    pub(super) signals: Signals,
    pub(super) others: Vec<Handle<Lost>>,
    pub(super) drain_timeout: Duration,
    /// When the drain is over, once it has begun.
    pub(super) drained_by: Option<Instant>,
    /// The first reactor that failed, if one did.
    pub(super) lost: Option<Lost>,
}

impl Lead {
    /// Drains the other reactors.
    pub(super) fn drain_others(&self) {
        for other in &self.others {
            other.drain(self.drain_timeout);
        }
    }
}

impl Server {
    /// A server that answers streams with `echo`, and datagrams too but on the `capped` sockets.
    pub(super) fn new(echo: Echo, capped: Vec<(UdpId, Echo)>) -> Server {
        Server {
            echo,
            capped,
            stats: None,
            lead: None,
        }
    }

    /// The counters of this reactor and its echoes.
    pub(super) fn totals(&self, context: &Context<'_, EchoSession>) -> Totals {
        let mut totals = Totals {
            stats: context.stats(),
            echo: self.echo.stats(),
        };
        for (_, echo) in &self.capped {
            totals.add_echo(&echo.stats());
        }
        totals
    }

    /// Has the reactor hear the signals and tell its counters, as far as either is its part.
    ///
    /// # Errors
    /// As the system gives them when the signals' pipe can't be polled.
    pub(super) fn start(&mut self, context: &mut Context<'_, EchoSession>) -> io::Result<()> {
        if let Some(lead) = &mut self.lead {
            context.register(lead.signals.source(), oread::Interest::READABLE)?;
        }
        if let Some(stats) = &self.stats {
            context.timer(stats.every, STATS);
        }
        Ok(())
    }

    /// Begins the end of all reactors.
    fn drain(&mut self, context: &mut Context<'_, EchoSession>) {
        if let Some(lead) = &mut self.lead {
            let deadline = context.now().checked_add(lead.drain_timeout);
            lead.drained_by = lead.drained_by.or(deadline);
            lead.drain_others();
            context.drain(lead.drain_timeout);
        }
    }
}

impl Handler for Server {
    type Session = EchoSession;
    type Message = Lost;

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

    fn on_datagram(&mut self, datagram: &mut Datagrams<'_, EchoSession>, data: &[u8]) {
        let socket = datagram.socket();
        let capped = self.capped.iter_mut().find(|(id, _)| *id == socket);
        let echo = capped.map_or(&mut self.echo, |(_, echo)| echo);
        echo.on_datagram(datagram, data);
    }

    fn on_timer(&mut self, context: &mut Context<'_, EchoSession>, _key: u64) {
        let totals = self.totals(context);
        let Some(stats) = &self.stats else {
            return;
        };
        stats.board.put(stats.index, totals);
        if let Some(printer) = &stats.printer {
            let line = stats
                .report
                .stats(&stats.board.sum(), stats.started.elapsed());
            if let Err(TrySendError::Full(_)) = printer.try_send(line) {
                log::debug!("a line of counters is left out: standard output takes no more");
            }
        }
        context.timer(stats.every, STATS);
    }

    fn on_message(&mut self, context: &mut Context<'_, EchoSession>, lost: Lost) {
        log::error!("thread {} failed, so all end: {}", lost.index, lost.why);
        if let Some(lead) = &mut self.lead {
            lead.lost.get_or_insert(lost);
        }
        self.drain(context);
    }

    fn on_ready(&mut self, context: &mut Context<'_, EchoSession>, _: SourceId, _: Readiness) {
        let Some(lead) = &mut self.lead else {
            return;
        };
        if let Some(signal) = lead.signals.pending() {
            let within = humantime::format_duration(lead.drain_timeout);
            log::info!("{signal}: draining, for at most {within}; once more to exit at once");
            self.drain(context);
        }
    }
}

/// What ends a reactor's run in words.
pub(super) fn poll_failed(error: &io::Error) -> String {
    format!("the system can't be polled any more: {}", Reason(error))
}
