//! One generator: the handler of a reactor that opens connections and loads them.
//!
//! | file | what it does |
//! |---|---|
//! | `load/generator` | what it consists of, and what each callback leads to |
//! | `load/phases` | ramp, warm-up, measured time, finish, end |
//! | `load/dial`, `load/turnover` | opens connections at a pace; closes them and opens others |
//! | `load/traffic`, `load/closed` | which connection sends when: open loop, closed loop |
//! | `load/think`, `load/care` | pauses; time-outs |
//! | `load/stream`, `load/datagrams` | messages over TCP and over UDP |
//! | `load/flow`, `load/window` | what is kept of a connection |
//! | `load/payload`, `load/label` | what messages and datagrams consist of |
//! | `load/pace`, `load/since` | when they are due, and the run's time |
//! | `load/record`, `load/quick` | what is counted |
//! | `load/names`, `load/logs` | what errors are called, and what is logged |
//!
//! The time is read once a callback, and every message is counted by when it was *due*: what lies
//! before the measured time is not in its figures, whenever its answer comes.

pub(crate) mod care;
pub(crate) mod closed;
pub(crate) mod datagrams;
pub(crate) mod dial;
pub(crate) mod flow;
pub(crate) mod label;
pub(crate) mod logs;
pub(crate) mod names;
pub(crate) mod pace;
pub(crate) mod payload;
pub(crate) mod phases;
pub(crate) mod protocol;
pub(crate) mod quick;
pub(crate) mod record;
pub(crate) mod stream;
pub(crate) mod think;
pub(crate) mod traffic;
pub(crate) mod turnover;
pub(crate) mod window;

use std::io;
use std::sync::Arc;

use oread::{
    Accepted, CloseReason, Connection, ConnectionId, Context, Datagram, Handler, Limits, Reactor,
    Readiness, SourceId, UdpId,
};
use slab::Slab;

use crate::failure::Reason;
use crate::load::clock::Epoch;
use crate::load::clock::nanos;
use crate::load::generator::datagrams::Sockets;
use crate::load::generator::dial::{Dialer, Endpoint};
use crate::load::generator::flow::Flow;
use crate::load::generator::logs::Warnings;
use crate::load::generator::payload::Payload;
use crate::load::generator::phases::Run;
use crate::load::generator::protocol::{Command, Ended, EventSender, Phase};
use crate::load::generator::record::Record;
use crate::load::generator::traffic::Flowing;
use crate::load::generator::turnover::Ages;
use crate::load::options::load::{Load, Traffic};
use crate::load::options::values::VerifyMode;

/// What a timer is for: the upper bits of its key.
pub(crate) mod alarm {
    /// Look after connections whose answers take too long.
    pub(crate) const SWEEP: u64 = 1 << 60;
    /// Tell how it goes.
    pub(crate) const PROGRESS: u64 = 2 << 60;
    /// A phase ends.
    pub(crate) const PHASE: u64 = 3 << 60;
    /// The next dial is due.
    pub(crate) const DIAL: u64 = 4 << 60;
    /// The next close is due.
    pub(crate) const TURNOVER: u64 = 5 << 60;
    /// A connection has thought enough: below are its place and its number.
    pub(crate) const THINK: u64 = 6 << 60;
    /// Where the kind is.
    pub(crate) const KIND: u64 = 0xF << 60;
}

/// Flows that have room from the beginning: 1.5 GiB of addresses, of which memory is taken as they
/// are used. With `--force` more can be asked for than any system gives, and that must not be the
/// program's end.
const MOST_AT_ONCE: u64 = 1 << 24;

/// What a generator is told before it begins.
pub(crate) struct Setup {
    pub(crate) plan: Arc<Load>,
    /// Which thread it is.
    pub(crate) index: u32,
    pub(crate) endpoints: Arc<[Endpoint]>,
    pub(crate) epoch: Epoch,
    /// When the run began.
    pub(crate) begun: u64,
    pub(crate) payload: Payload,
    /// Its line to the lead.
    pub(crate) line: EventSender,
}

/// One generator.
pub(crate) struct Generator {
    pub(crate) plan: Arc<Load>,
    pub(crate) index: u32,
    pub(crate) epoch: Epoch,
    pub(crate) payload: Payload,
    pub(crate) line: EventSender,
    /// All flows that there are, from their dial until they are closed; their index is the session
    /// of their connection.
    pub(crate) flows: Slab<Flow>,
    pub(crate) record: Record,
    pub(crate) run: Run,
    pub(crate) dialer: Dialer,
    pub(crate) ages: Ages,
    pub(crate) flowing: Flowing,
    pub(crate) sockets: Sockets,
    pub(crate) warnings: Warnings,
}

/// A reactor with a generator's messages.
pub(crate) type Generating = Reactor<Generator>;

/// A reactor for a generator.
///
/// # Errors
/// As the system gives them: out of descriptors.
pub(crate) fn reactor() -> io::Result<Generating> {
    Reactor::with_limits(Limits {
        // A server that does not read shows in the latency and in the time-outs; cutting it off
        // would hide it.
        write_timeout: None,
        // A connection is closed when its answers have come or were given up: there is nothing to
        // wait for, and a server that never closes its side must not keep the descriptors of those
        // that are to be replaced.
        linger_bytes: 0,
        ..Limits::default()
    })
}

/// Runs a generator to its end.
pub(crate) fn run(mut reactor: Generating, setup: Setup) -> Ended {
    let mut generator = Generator::new(setup);
    let failure = generator.drive(&mut reactor).err();
    Ended {
        tally: generator.record.tally,
        failure: failure.map(|error| format!("a generator failed: {}", Reason(&error))),
    }
}

impl Generator {
    fn new(setup: Setup) -> Generator {
        let Setup {
            plan,
            index,
            endpoints,
            epoch,
            begun,
            payload,
            line,
        } = setup;
        let share = plan.share(plan.connections.get().into(), index);
        let scheduled = matches!(
            plan.traffic,
            Traffic::Open(_) | Traffic::Idle { heartbeat: Some(_) }
        );
        let mut record = Record::new(
            scheduled,
            plan.verify != VerifyMode::Off,
            nanos(plan.message_timeout),
        );
        record.tally.connections.asked = share;
        Generator {
            // A table that grows would be copied while connections wait for it, and be half empty.
            flows: Slab::with_capacity(usize::try_from(share.min(MOST_AT_ONCE)).unwrap_or(0)),
            dialer: Dialer::new(&plan, index, endpoints, epoch.now()),
            ages: Ages::default(),
            flowing: Flowing::new(&plan),
            sockets: Sockets::new(&plan),
            warnings: Warnings::default(),
            run: Run::new(begun),
            record,
            plan,
            index,
            epoch,
            payload,
            line,
        }
    }

    /// Until it has ended.
    fn drive(&mut self, reactor: &mut Generating) -> io::Result<()> {
        self.set_out(&mut reactor.context())?;
        loop {
            let wait = self.wait();
            let turn = reactor.turn(self, wait)?;
            if turn.ended.is_some() {
                return Ok(());
            }
            self.after_turn(&mut reactor.context())?;
        }
    }

    fn set_out(&mut self, context: &mut Context<'_, u32>) -> io::Result<()> {
        self.begin_timers(context);
        self.flowing.begin(context)?;
        self.after_turn(context)
    }

    /// What no event leads to: dials and messages that are due. Before the next poll, so that what
    /// is written here goes out at once.
    fn after_turn(&mut self, context: &mut Context<'_, u32>) -> io::Result<()> {
        if self.run.over {
            return Ok(());
        }
        self.dial_due(context);
        if self.is_sending() {
            self.turn_over(context);
            self.kick(context);
            self.fill_on(context);
        }
        if self.is_pumping() {
            self.pump(context)?;
        }
        Ok(())
    }

    /// Whether messages are sent.
    #[inline]
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.run.phase, Phase::Warmup | Phase::Measure)
    }

    /// Whether the measured time, or what there was of the load, is over.
    pub(crate) fn is_finishing(&self) -> bool {
        self.run.phase == Phase::Finish
    }
}

impl Handler for Generator {
    type Session = u32;
    type Message = Command;

    fn on_accept(&mut self, _: &mut Context<'_, u32>, _: &Accepted) -> Option<u32> {
        None
    }

    fn on_open(&mut self, connection: &mut Connection<'_, u32>) {
        self.opened(connection);
    }

    #[inline]
    fn on_data(&mut self, connection: &mut Connection<'_, u32>, data: &[u8]) -> usize {
        self.heard(connection, data);
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, u32>, _: &[u8]) {
        self.peer_finished(connection);
    }

    fn on_drained(&mut self, connection: &mut Connection<'_, u32>) {
        self.drained(connection);
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_, u32>,
        _: ConnectionId,
        session: u32,
        reason: CloseReason,
    ) {
        self.closed(context, session, reason);
    }

    fn on_connect_failed(
        &mut self,
        _: &mut Context<'_, u32>,
        _: ConnectionId,
        session: u32,
        error: io::Error,
    ) {
        self.dial_failed(session as usize, &error);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, u32>, data: &[u8]) {
        let socket: UdpId = datagram.socket();
        self.heard_datagram(datagram.context(), socket, data);
    }

    fn on_datagram_error(&mut self, _: &mut Context<'_, u32>, _: UdpId, error: io::Error) {
        if !self.run.over {
            self.record.tally.error(&names::of_error(&error));
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_, u32>, key: u64) {
        self.alarm(context, key);
    }

    fn on_message(&mut self, context: &mut Context<'_, u32>, command: Command) {
        match command {
            Command::Start(at) => self.start(context, at),
            Command::Stop => self.stop(context),
        }
    }

    fn on_ready(&mut self, _: &mut Context<'_, u32>, source: SourceId, _: Readiness) {
        // The ticker has done its work by ending the poll's wait; there is no other source.
        self.flowing.has_ticked(source);
    }
}

#[cfg(test)]
mod tests;
