//! The handler of each reactor of a server: an echo, with signals and counters around it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Datagram, Echo, EchoSession, Handle,
    Handler, ListenerId, Readiness, SourceId, Stats, UdpId,
};

use super::plan::Plan;
use super::report::Report;
use super::socket::{Id, Socket};
use super::totals::{Board, Latest, Totals};
use crate::failure::Reason;
use crate::serve::check::Serve;
use crate::system::handed;
use crate::system::signals::Signals;

/// The timer by which counters are told.
const STATS: u64 = 0;
/// The timer by which a server that leaves drains.
const DRAIN: u64 = 1;

/// What one reactor's thread tells another one.
#[derive(Debug)]
pub(super) enum Mail {
    /// To the first one: it failed.
    Lost(Lost),
    /// By the first one: see [`Leaving`]; it may take so long.
    Leave(Duration),
    /// By a scrape of the metrics: tell your counters.
    Tell,
}

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
    /// The loop's peaks of the times that were told; nothing else of it counts.
    peaks: Totals,
    /// Where counters are told, if anybody asked for them.
    pub(super) stats: Option<Reporter>,
    /// Where they are told to scrapes, and as which reactor's.
    pub(super) metrics: Option<(Arc<Latest>, usize)>,
    /// What only the first reactor has.
    pub(super) lead: Option<Lead>,
    /// Where the sockets were handed over: how it leaves them to others.
    pub(super) leaving: Option<Leaving>,
}

/// How a reactor ends whose listeners other processes have too, such as its successor.
///
/// It lets nobody in any more: they are the others'. A drain at once would end those whom it has
/// let in and who have yet to speak, so they are served as before for half of the time, and drained
/// in the other half. Most are gone long before, and so is the reactor.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    listeners: Vec<ListenerId>,
    /// When it is to be over, once it has begun.
    over: Option<Instant>,
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
    pub(super) others: Vec<Handle<Mail>>,
    pub(super) drain_timeout: Duration,
    /// When the drain is over, once it has begun.
    pub(super) drained_by: Option<Instant>,
    /// The first reactor that failed, if one did.
    pub(super) lost: Option<Lost>,
    /// Whether the reactors leave their listeners to others.
    pub(super) leaves: bool,
}

impl Lead {
    /// Ends the other reactors; a second time changes nothing.
    pub(super) fn end_others(&self) {
        for other in &self.others {
            if !self.leaves {
                other.drain(self.drain_timeout);
            } else if let Err(error) = other.send(Mail::Leave(self.drain_timeout)) {
                log::debug!("a thread has ended already: {error}");
            }
        }
    }
}

impl Server {
    /// A server that answers with `echo`.
    pub(super) fn new(echo: Echo) -> Server {
        Server {
            echo,
            capped: Vec::new(),
            peaks: Totals::default(),
            stats: None,
            metrics: None,
            lead: None,
            leaving: None,
        }
    }

    /// Has datagrams on those of `sockets` that have caps answered within these.
    pub(super) fn cap(&mut self, serve: &Serve, plan: &Plan, sockets: &[Socket]) {
        for socket in sockets {
            if let Id::Udp(id) = socket.id {
                let options = plan.datagram_options(serve, socket.address.ip());
                let echo = options.map(|options| (id, Echo::new(options)));
                self.capped.extend(echo);
            }
        }
    }

    /// Notes a listener that others have too.
    pub(super) fn shares(&mut self, id: ListenerId) {
        if let Some(leaving) = &mut self.leaving {
            leaving.listeners.push(id);
        }
    }

    /// The counters of this reactor and its echoes, from the beginning.
    pub(super) fn totals(&self, context: &Context<'_, EchoSession>) -> Totals {
        let mut totals = self.with_echoes(context.stats());
        totals.keep_peaks(self.peaks.stats);
        totals
    }

    /// Tells its counters to a scrape.
    pub(super) fn tell(&self, context: &Context<'_, EchoSession>) {
        if let Some((latest, index)) = &self.metrics {
            latest.put(*index, self.totals(context));
        }
    }

    /// The counters of a reactor with those of its echoes.
    fn with_echoes(&self, stats: Stats) -> Totals {
        let mut totals = Totals {
            stats,
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
    fn end(&mut self, context: &mut Context<'_, EchoSession>) {
        if let Some(lead) = &mut self.lead
            && lead.drained_by.is_none()
        {
            let within = lead.drain_timeout;
            lead.drained_by = context.now().checked_add(within);
            handed::notify("STOPPING=1");
            lead.end_others();
            self.leave(context, within);
        }
    }

    /// Begins the end of this reactor: see [`Leaving`]. Without that it drains.
    fn leave(&mut self, context: &mut Context<'_, EchoSession>, within: Duration) {
        let Some(leaving) = &mut self.leaving else {
            return context.drain(within);
        };
        for id in leaving.listeners.drain(..) {
            context.release_listener(id);
        }
        leaving.over = leaving.over.or(context.now().checked_add(within));
        context.timer(within / 2, DRAIN);
        self.drain_if(context, is_alone);
    }

    /// Drains, in the time that is left for that, if it leaves and `is_due` says so.
    fn drain_if(
        &self,
        context: &mut Context<'_, EchoSession>,
        is_due: fn(&Context<'_, EchoSession>) -> bool,
    ) {
        let over = self.leaving.as_ref().and_then(|leaving| leaving.over);
        if let Some(over) = over.filter(|_| is_due(context)) {
            context.drain(over.saturating_duration_since(context.now()));
        }
    }
}

impl Handler for Server {
    type Session = EchoSession;
    type Message = Mail;

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
        self.drain_if(context, is_alone);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, EchoSession>, data: &[u8]) {
        let socket = datagram.socket();
        let capped = self.capped.iter_mut().find(|(id, _)| *id == socket);
        let echo = capped.map_or(&mut self.echo, |(_, echo)| echo);
        echo.on_datagram(datagram, data);
    }

    fn on_timer(&mut self, context: &mut Context<'_, EchoSession>, key: u64) {
        if key == DRAIN {
            return self.drain_if(context, |_| true);
        }
        let totals = self.with_echoes(context.take_peaks());
        self.peaks.keep_peaks(totals.stats);
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

    fn on_message(&mut self, context: &mut Context<'_, EchoSession>, mail: Mail) {
        let lost = match mail {
            Mail::Lost(lost) => lost,
            Mail::Leave(within) => return self.leave(context, within),
            Mail::Tell => return self.tell(context),
        };
        log::error!("thread {} failed, so all end: {}", lost.index, lost.why);
        if let Some(lead) = &mut self.lead {
            lead.lost.get_or_insert(lost);
        }
        self.end(context);
    }

    fn on_ready(&mut self, context: &mut Context<'_, EchoSession>, _: SourceId, _: Readiness) {
        let Some(lead) = &mut self.lead else {
            return;
        };
        if let Some(signal) = lead.signals.pending() {
            let within = humantime::format_duration(lead.drain_timeout);
            log::info!("{signal}: draining, for at most {within}; once more to exit at once");
            self.end(context);
        }
    }
}

/// Whether nobody is left to be served.
fn is_alone(context: &Context<'_, EchoSession>) -> bool {
    context.stats().open == 0
}

/// What ends a reactor's run in words.
pub(super) fn poll_failed(error: &io::Error) -> String {
    format!("the system can't be polled any more: {}", Reason(error))
}
