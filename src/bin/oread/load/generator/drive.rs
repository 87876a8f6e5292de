//! Executes what the plan says: the handler of a generator's reactor.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use oread::{
    Accepted, CloseReason, ConnectOptions, Connection, ConnectionId, Context, Datagram, Handler,
    Readiness, SourceId, UdpId,
};

use super::dialing::Dial;
use super::flow::{Flags, Sent, Socket};
use super::names;
use super::plan::{Plan, Step};
use super::protocol::{Command, Event, Phase, Progress, Setup};
use super::secure::Secure;
use super::wake::Wake;
use crate::load::clock::{NEVER, SECOND, until};
use crate::load::count::{Counts, Ledger, Tally, ThreadUse};
use crate::system::threads::{thread_cpu, thread_waited};
use crate::system::timer::Timer;
use crate::system::udp_drops;
use crate::values::target::{Resolved, Transport};
use crate::values::verbosity::Verbosity;

/// How long closing takes at most: it waits for the peers' ends.
const CLOSING: Duration = Duration::from_secs(1);
/// How much earlier than its time the reactor's timeout may come, at the most: the reactor counts
/// from the time that it read before the dial, which is old where its thread has waited for a
/// processor since. The system's own comes after minutes.
const STALE: Duration = Duration::from_secs(1);

/// What comes on connections.
#[derive(Clone, Copy, Debug)]
enum Input {
    /// Echoes.
    Echoes,
    /// Answers that are no mere echoes.
    Answers,
    /// Either, over TLS on some of them.
    Secure,
}

/// One generator.
pub(crate) struct Generator {
    pub(super) setup: Setup,
    pub(super) plan: Plan,
    pub(super) secure: Secure,
    wake: Wake,
    /// Whether the turn has left something to do.
    has_more: bool,
    /// Whether the lead knows that the ramp is over.
    told: bool,
    /// When it's told next how it goes: each second from the beginning of the run, so that all
    /// threads do at one time.
    tell_at: u64,
    /// Processor time of the thread, and how long it waited for a processor, until the measured
    /// time began and until it ended.
    used: Vec<[Duration; 2]>,
    over: bool,
    input: Input,
    /// Where a datagram is put together.
    pub(super) scratch: Vec<u8>,
}

impl Generator {
    pub(crate) fn new(setup: Setup, timer: Option<Timer>, now: u64) -> Generator {
        Generator {
            plan: Plan::new(&setup, now),
            secure: Secure::new(&setup.load),
            wake: Wake::new(timer),
            has_more: false,
            told: false,
            tell_at: match setup.load.verbosity {
                Verbosity::Quiet if setup.load.output.metrics.is_none() => NEVER,
                _ => setup.begun.saturating_add(SECOND),
            },
            used: Vec::with_capacity(2),
            over: false,
            input: match setup.payload.is_scripted() {
                _ if setup.load.tls.is_some() => Input::Secure,
                true => Input::Answers,
                false => Input::Echoes,
            },
            scratch: Vec::new(),
            setup,
        }
    }

    /// The time of the run.
    #[inline(always)]
    pub(super) fn now(&self, context: &Context<'_, u32>) -> u64 {
        self.setup.clock.now(context)
    }

    /// How long the poll may wait: until something wakes it, or not at all.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.has_more.then_some(Duration::ZERO)
    }

    /// Does what is due. Before each poll, so that what is written here goes out at once.
    ///
    /// # Errors
    /// As the system gives them when the timer can't be set.
    pub(crate) fn carry_on(&mut self, context: &mut Context<'_, u32>) -> io::Result<()> {
        if self.over {
            return Ok(());
        }
        self.plan.turn_begins();
        self.has_more = false;
        loop {
            let now = self.now(context);
            match self.plan.next(now) {
                Step::Dial(dial) => self.dial(context, dial, now),
                Step::Send { flow, due } => self.send_on(context, flow, Sent { due, at: now }),
                Step::Close { flow, socket } => self.close(context, flow, socket),
                Step::Wait(due) => {
                    if self.tell_at <= now {
                        self.tell(now);
                        let passed = (now - self.tell_at) / SECOND;
                        self.tell_at += (passed + 1) * SECOND;
                    }
                    self.has_more = due == 0;
                    if due > 0 {
                        self.wake.at(context, now, due.min(self.tell_at))?;
                    }
                    break;
                }
                Step::End => {
                    self.over = true;
                    self.plan.meter.tally.own_drops = self.own_drops(context);
                    context.drain(CLOSING);
                    break;
                }
            }
        }
        self.observe(context);
        Ok(())
    }

    /// Notices how far the plan is.
    fn observe(&mut self, context: &Context<'_, u32>) {
        if !self.told && self.plan.is_ramped() {
            self.told = true;
            self.tell(self.now(context));
            self.say(Event::Ramped);
        }
        let is_over = [
            self.plan.phase() >= Phase::Measure,
            self.plan.measured().is_some(),
        ];
        while is_over.get(self.used.len()) == Some(&true) {
            self.used.push([thread_cpu(), thread_waited()]);
        }
    }

    /// All that was counted, when nothing more comes.
    pub(crate) fn finish(&mut self, context: &Context<'_, u32>) -> Tally {
        self.plan.end_now(self.now(context));
        self.observe(context);
        self.tell(self.now(context));
        let measured = self.plan.measured();
        let mut tally = self.plan.meter.finish(measured.is_some());
        let mut used = ThreadUse::default();
        if let (Some(time), [before, after]) = (measured, &self.used[..]) {
            used.cpu = after[0].saturating_sub(before[0]);
            used.waited = after[1].saturating_sub(before[1]);
            used.wall = until(time.start, time.end);
        }
        (tally.targets, tally.slowest) = self.plan.told_by_whom();
        tally.threads = vec![used];
        tally
    }

    /// Datagrams that the system has had no room for in our own receive buffers: in those that were
    /// open at the end, over all their time.
    fn own_drops(&self, context: &Context<'_, u32>) -> u64 {
        let ends = |&(id, target): &(UdpId, u16)| {
            let endpoint = self.setup.endpoints.get(usize::from(target))?;
            let remote = endpoint.resolved.address.socket_addr()?;
            Some((context.udp_addr(id)?, remote))
        };
        let sockets: Vec<_> = self.plan.last_sockets.iter().filter_map(ends).collect();
        match sockets.is_empty() {
            true => 0,
            false => udp_drops::drops(&sockets).unwrap_or(0),
        }
    }

    fn dial(&mut self, context: &mut Context<'_, u32>, dial: Dial, now: u64) {
        let index = self.plan.dialed(dial, now);
        let endpoints = Arc::clone(&self.setup.endpoints);
        let Some(endpoint) = endpoints.get(usize::from(dial.target)) else {
            return;
        };
        log::debug!("flow {}: dials {}", dial.number, endpoint.resolved);
        let turn = self.setup.load.own_turn(dial.number) as usize;
        let source = endpoint.source(turn / endpoints.len());
        let Resolved { transport, address } = &endpoint.resolved;
        if let (Transport::Udp, Some(to)) = (transport, address.socket_addr()) {
            match Generator::bind(context, index, to, source) {
                Ok(id) => {
                    self.plan.flows.bound(index, Socket::Datagrams(id));
                    let now = self.now(context);
                    self.plan.established(index, now);
                    self.send_datagram(context, index, Sent::to_confirm(now));
                }
                Err(error) => self.dial_failed(index, &error, now),
            }
            return;
        }
        let options = ConnectOptions {
            source,
            timeout: Some(self.setup.load.sockets.connect_timeout),
            ..ConnectOptions::new(address.clone())
        };
        match context.connect(&options, index) {
            Ok(id) => self.plan.flows.bound(index, Socket::Stream(id)),
            Err(refused) => self.dial_failed(index, &refused.error, now),
        }
    }

    fn dial_failed(&mut self, index: u32, error: &io::Error, now: u64) {
        let Some(flow) = self.plan.flows.get(index) else {
            return;
        };
        let took = until(flow.time, now);
        let count: fn(&mut Ledger) -> &mut u64 = match error.kind() {
            io::ErrorKind::TimedOut => |ledger| &mut ledger.timed_out,
            io::ErrorKind::ConnectionRefused => |ledger| &mut ledger.refused,
            _ => |ledger| &mut ledger.failed,
        };
        // The reactor's timeout and the system's are the same error.
        let is_timeout = error.kind() == io::ErrorKind::TimedOut;
        let name = match took + STALE >= self.setup.load.sockets.connect_timeout {
            true if is_timeout => "connect timeout".to_owned(),
            _ => names::of_error(error),
        };
        self.plan.dial_failed(index, count, &name, now);
    }

    /// Sends a message on a flow, from outside of its callback.
    fn send_on(&mut self, context: &mut Context<'_, u32>, index: u32, sent: Sent) {
        match self.plan.flows.get(index).map(|flow| flow.socket) {
            Some(Socket::Datagrams(_)) => _ = self.send_datagram(context, index, sent),
            Some(Socket::Stream(id)) => match context.connection(id) {
                Some(mut connection) => {
                    self.send(&mut connection, index, sent);
                    if self.secure.has_gathered() {
                        self.seal_outside(&mut connection, index);
                    }
                }
                // It's gone, and its callback is to come.
                None => self.plan.flows.mark(index, Flags::FULL),
            },
            _ => self.plan.flows.mark(index, Flags::FULL),
        }
    }

    /// Closes a flow's connection or socket.
    fn close(&mut self, context: &mut Context<'_, u32>, index: u32, socket: Socket) {
        match socket {
            Socket::Stream(id) => {
                if let Some(mut connection) = context.connection(id) {
                    let pending = connection.pending();
                    if self.secure.is_on() {
                        self.say_goodbye(&mut connection);
                    }
                    match pending {
                        0 => connection.close(CloseReason::Closed),
                        // What no answer is awaited to may just have been queued.
                        _ if self.plan.payload.is_one_way => connection.close(CloseReason::Closed),
                        // Messages that were given up, and that the peer does not read: it might
                        // never.
                        _ => connection.abort(CloseReason::Aborted),
                    }
                }
            }
            Socket::Datagrams(id) => {
                context.close_udp(id);
                let now = self.now(context);
                self.plan.gone(index, "", now);
            }
            Socket::None => {}
        }
    }

    /// Whether all counts are told too.
    fn is_scraped(&self) -> bool {
        self.setup.load.output.metrics.is_some()
    }

    fn counts(&self) -> Counts {
        let mut counts = self.plan.counts();
        counts.connections.peak_confirmed = self.setup.gauge.peak();
        counts
    }

    /// Says something to the lead.
    pub(super) fn say(&self, event: Event) {
        if self.setup.events.send(event).is_err() {
            log::debug!("the lead is gone");
        }
    }

    /// Tells the lead how it goes.
    pub(super) fn tell(&mut self, now: u64) {
        self.setup.slot.tell(|| {
            let tally = &self.plan.meter.tally;
            let phase = self.plan.phase();
            let counts = self.is_scraped().then(|| Box::new(self.counts()));
            let counted = counts.as_ref().map(|it| it.latency.response.clone());
            Progress {
                running: u32::from(phase < Phase::Over),
                at: Duration::from_nanos(now),
                phase,
                open: self.plan.flows.open,
                connections: tally.connections,
                errors: tally.errors.values().sum(),
                echoed: self.plan.meter.happened().echoed,
                measured: self.plan.meter.measured.echoed,
                cpu: thread_cpu(),
                response: counted.unwrap_or_else(|| self.plan.meter.responses()),
                counts,
            }
        });
    }
}

impl Handler for Generator {
    type Session = u32;
    type Message = Command;

    fn on_accept(&mut self, _: &mut Context<'_, u32>, _: &Accepted) -> Option<u32> {
        None
    }

    fn on_open(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session();
        let now = self.now(connection.context());
        if self.secure.is_on() && self.begin_handshake(connection, index, now) {
            return;
        }
        self.plan.established(index, now);
        if self.plan.flows.opening > 0 {
            // Its first message shows whether it's served.
            self.send(connection, index, Sent::to_confirm(now));
        }
    }

    #[inline(always)]
    fn on_data(&mut self, connection: &mut Connection<'_, u32>, data: &[u8]) -> usize {
        match self.input {
            Input::Echoes => self.heard::<false>(connection, data),
            Input::Answers => return self.heard_answers::<false>(connection, data),
            Input::Secure => return self.heard_secure(connection, data),
        }
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, u32>, _: &[u8]) {
        let index = *connection.session();
        if self.secure.is_on() {
            self.peer_left(connection, index);
        }
        self.plan.flows.mark(index, Flags::PEER_FINISHED);
        match connection.pending() {
            0 => connection.finish(),
            // What is not read yet will have no answer: it need not be waited for.
            _ => connection.abort(CloseReason::Aborted),
        }
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, u32>) {
        let index = *connection.session();
        let now = self.now(connection.context());
        self.plan.has_room(index, now);
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, u32>,
        _: ConnectionId,
        index: u32,
        reason: CloseReason,
    ) {
        let session = self.secure.remove(index);
        let Some(flow) = self.plan.flows.get(index) else {
            return;
        };
        let finished = flow.flags.contains(Flags::PEER_FINISHED);
        let mut name = names::of_loss(reason, finished, flow.got > 0);
        let now = self.now(context);
        if let Some(session) = session {
            name = self.secure_gone(context, index, &session, name);
        }
        self.plan.gone(index, &name, now);
    }

    fn on_connect_failed(
        &mut self,
        context: &mut Context<'_, u32>,
        _: ConnectionId,
        index: u32,
        error: io::Error,
    ) {
        let now = self.now(context);
        self.dial_failed(index, &error, now);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, u32>, data: &[u8]) {
        self.heard_datagram(datagram, data);
    }

    fn on_datagram_error(&mut self, _: &mut Context<'_, u32>, _: UdpId, error: io::Error) {
        if !self.over {
            self.plan.meter.tally.error(&names::of_error(&error));
        }
    }

    fn on_datagram_writable(&mut self, context: &mut Context<'_, u32>, socket: UdpId) {
        if let Some(index) = context.udp_key(socket) {
            let now = self.now(context);
            self.plan.has_room(index as u32, now);
        }
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, u32>, _: CloseReason) {
        if self.secure.is_on() {
            self.say_goodbye(connection);
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_, u32>, key: u64) {
        self.wake.fired();
        if self.secure.is_on() {
            self.handshake_due(context, key);
        }
    }

    fn on_message(&mut self, context: &mut Context<'_, u32>, command: Command) {
        match command {
            Command::Start(at) => self.plan.start(at),
            Command::Stop => {
                let now = self.now(context);
                self.plan.stop(now);
            }
        }
    }

    fn on_ready(&mut self, _: &mut Context<'_, u32>, _: SourceId, _: Readiness) {
        self.wake.fired();
    }
}
