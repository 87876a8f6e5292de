//! Opens connections: those that were asked for in the ramp, and later others in place of those
//! that ended; all at one pace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use oread::{ConnectOptions, Context};

use crate::load::clock::{SECOND, after, until};
use crate::load::count::tally::record;
use crate::load::generator::flow::{Cause, Flow, Socket};
use crate::load::generator::logs::took;
use crate::load::generator::names;
use crate::load::generator::pace::Schedule;
use crate::load::generator::{Generator, alarm};
use crate::load::options::load::{Load, Turnover};
use crate::load::options::target::{Resolved, Transport};

/// Dials under way at a time on one thread that any pace allows: with less, a slow one would wait
/// for each of its dials.
const LEAST_UNDER_WAY: u64 = 512;
/// Dials made in one turn: what has been opened wants to be served as well.
const MOST_A_TURN: u32 = 64;
/// How far dialing may be behind its pace and still catch up: 10 ms. A stall must not end in a
/// burst.
const SLACK: u64 = SECOND / 100;
/// How much earlier than its time the reactor's timeout may come, at the most: the reactor counts
/// from the time that it read before the dial, which is old where its thread has waited for a
/// processor since. The system's own comes after minutes.
const STALE: Duration = Duration::from_secs(1);
/// How long no dial is made after one has failed that was to replace a connection; it doubles with
/// each.
const BACKOFF: Duration = Duration::from_millis(10);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// A target, and where to connect from.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) resolved: Resolved,
    /// Local addresses, used in turn; empty: the system's choice.
    pub(crate) sources: Vec<IpAddr>,
}

impl Endpoint {
    /// The local address of the `turn`-th dial to this target.
    fn source(&self, turn: u64) -> Option<SocketAddr> {
        let place = turn.checked_rem(self.sources.len() as u64)?;
        let source = self.sources.get(place as usize)?;
        Some(SocketAddr::new(*source, 0))
    }
}

/// What is still to be dialed.
#[derive(Debug)]
pub(crate) struct Dialer {
    endpoints: Arc<[Endpoint]>,
    connect_timeout: Duration,
    /// This thread's part of the connect rate, which holds for the ramp and for replacements.
    pace: Schedule,
    /// Dials of the ramp that are yet to be made.
    left: u64,
    /// Places to be filled that the load itself has vacated, and those of connections that were
    /// lost or not to be had.
    vacated: u64,
    empty: u64,
    /// Places that the load has vacated and whose next connection has neither come nor failed.
    pub(crate) replacing: u64,
    /// When the next replacement may be tried, and the wait after its failure.
    not_before: u64,
    backoff: Duration,
    pub(crate) under_way: u32,
    /// How many may be.
    most_under_way: u32,
    /// Which dial of all threads the next one is, and how far from one to the next.
    ordinal: u64,
    threads: u32,
    /// Whether a timer is set for the next dial.
    waiting: bool,
    /// Whether the last turn has left dials that are due.
    more: bool,
}

impl Dialer {
    pub(crate) fn new(plan: &Load, index: u32, endpoints: Arc<[Endpoint]>, now: u64) -> Dialer {
        let threads = plan.threads.get();
        Dialer {
            endpoints,
            connect_timeout: plan.connect_timeout,
            pace: Schedule::shared(now, plan.connect_rate.get(), index, threads),
            left: plan.share(plan.connections.get().into(), index),
            vacated: 0,
            empty: 0,
            replacing: 0,
            not_before: 0,
            backoff: BACKOFF,
            under_way: 0,
            most_under_way: most_under_way(plan, index),
            ordinal: index.into(),
            threads,
            waiting: false,
            more: false,
        }
    }

    /// Where a flow of this number leads.
    pub(crate) fn target(&self, number: u32) -> Option<&Resolved> {
        let place = (number as usize).checked_rem(self.endpoints.len())?;
        self.endpoints.get(place).map(|endpoint| &endpoint.resolved)
    }

    /// The timer for the next dial has fired.
    pub(crate) fn woken(&mut self) {
        self.waiting = false;
    }

    /// The ramp is over, whatever it has come to.
    pub(crate) fn end_ramp(&mut self) {
        self.left = 0;
    }

    /// Nothing is replaced any more.
    pub(crate) fn end_turnover(&mut self) {
        self.vacated = 0;
        self.empty = 0;
    }

    /// A connection that has gone is to be replaced; `lost`: it wasn't the load that has closed it.
    pub(crate) fn owe(&mut self, lost: bool) {
        if lost {
            self.empty += 1;
        } else {
            self.vacated += 1;
        }
    }

    /// Whether dials are due that the last turn has left.
    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    /// Takes the next one that may be made now; `replaces`: also in place of another connection.
    fn next(&mut self, now: u64, replaces: bool) -> Option<Cause> {
        if self.next_due(replaces)? > now {
            return None;
        }
        self.pace.skip_to(now.saturating_sub(SLACK));
        self.pace.advance();
        let (count, cause) = if self.left > 0 {
            (&mut self.left, Cause::Asked)
        } else if self.vacated > 0 {
            (&mut self.vacated, Cause::Turnover)
        } else {
            (&mut self.empty, Cause::Retry)
        };
        *count -= 1;
        Some(cause)
    }

    /// When the next one may be made, if there is one and its time is known.
    fn next_due(&self, replaces: bool) -> Option<u64> {
        if self.under_way >= self.most_under_way {
            // The end of one of these makes room, and that is an event.
            return None;
        }
        if self.left > 0 {
            return Some(self.pace.due());
        }
        let owes = replaces && self.vacated + self.empty > 0;
        owes.then(|| self.pace.due().max(self.not_before))
    }

    /// The connection for a place has come, or has failed to.
    pub(crate) fn replaced(&mut self, cause: Cause) {
        self.replacing -= u64::from(cause == Cause::Turnover);
    }

    /// A dial has failed: it's tried again, but not at once.
    fn back_off(&mut self, now: u64) {
        self.empty += 1;
        self.not_before = after(now, self.backoff);
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// How many dials may be under way on a thread: as many as its pace makes while one waits for its
/// timeout. A server that is slow to let callers in, or far away, does not set the pace. They are
/// some of the connections that were asked for, so they take no more descriptors.
fn most_under_way(plan: &Load, index: u32) -> u32 {
    let a_second = plan.share(plan.connect_rate.get().into(), index) as f64;
    let most = (a_second * plan.connect_timeout.as_secs_f64()).ceil() as u64;
    u32::try_from(most.max(LEAST_UNDER_WAY)).unwrap_or(u32::MAX)
}

impl Generator {
    /// Makes the dials that are due, within the bounds of a turn.
    pub(crate) fn dial_due(&mut self, context: &mut Context<'_, u32>) {
        self.dialer.more = false;
        let replaces = self.is_sending();
        if self.dialer.next_due(replaces).is_none() {
            return;
        }
        for made in 0.. {
            let now = self.epoch.now();
            if made == MOST_A_TURN {
                self.dialer.more = true;
                return;
            }
            let Some(cause) = self.dialer.next(now, replaces) else {
                break;
            };
            self.dial(context, now, cause);
        }
        if let Some(due) = self.dialer.next_due(replaces)
            && !self.dialer.waiting
        {
            self.dialer.waiting = true;
            let now = self.epoch.now();
            let wait = until(now, due).max(Duration::from_millis(1));
            context.timer(wait, alarm::DIAL);
        }
    }

    fn dial(&mut self, context: &mut Context<'_, u32>, now: u64, cause: Cause) {
        let ordinal = self.dialer.ordinal;
        self.dialer.ordinal += u64::from(self.dialer.threads);
        let endpoints = Arc::clone(&self.dialer.endpoints);
        let count = endpoints.len() as u64;
        let Some(endpoint) = endpoints.get((ordinal % count.max(1)) as usize) else {
            return;
        };
        let ledger = &mut self.record.tally.connections;
        ledger.dialed += 1;
        ledger.redialed += u64::from(cause != Cause::Asked);
        // Flows' numbers go round after 2^32 dials; none of that age is open any more.
        let flow = Flow::new(ordinal as u32, cause, now);
        self.dialer.log(flow.number, format_args!("dialed"));
        let index = self.flows.insert(flow);
        self.dialer.under_way += 1;
        let source = endpoint.source(ordinal / count);
        let Resolved { transport, address } = &endpoint.resolved;
        if let (Transport::Udp, Some(address)) = (transport, address.socket_addr()) {
            self.bind(context, index, address, source);
            return;
        }
        let options = ConnectOptions {
            source,
            timeout: Some(self.dialer.connect_timeout),
            ..ConnectOptions::new(address.clone())
        };
        match context.connect(&options, index as u32) {
            Ok(id) => self.flows[index].socket = Socket::Stream(id),
            Err(refused) => self.dial_failed(index, &refused.error),
        }
    }

    /// A dial has come to a connection, or a socket; how long it took.
    pub(crate) fn dial_succeeded(&mut self, number: u32, dialed: u64, now: u64) {
        let time = until(dialed, now);
        if log::log_enabled!(log::Level::Debug) {
            let took = took(time);
            self.dialer
                .log(number, format_args!("established after {took}"));
        }
        self.dialer.under_way -= 1;
        self.dialer.backoff = BACKOFF;
        self.record.tally.connections.established += 1;
        record(&mut self.record.tally.latency.connect, time);
    }

    /// A dial has come to nothing.
    pub(crate) fn dial_failed(&mut self, index: usize, error: &io::Error) {
        let Some(flow) = self.flows.try_remove(index) else {
            return;
        };
        let now = self.epoch.now();
        self.dialer.under_way -= 1;
        let ledger = &mut self.record.tally.connections;
        let name = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                ledger.refused += 1;
                names::of_error(error)
            }
            io::ErrorKind::TimedOut => {
                ledger.timed_out += 1;
                // The reactor's timeout and the system's are the same error.
                if until(flow.dialed, now) + STALE >= self.dialer.connect_timeout {
                    "connect timeout".to_owned()
                } else {
                    names::of_error(error)
                }
            }
            _ => {
                ledger.failed += 1;
                names::of_error(error)
            }
        };
        self.dialer
            .log(flow.number, format_args!("not established: {name}"));
        self.record.tally.error(&name);
        self.dialer.replaced(flow.cause);
        if self.plan.turnover != Turnover::Keep && !self.is_finishing() {
            self.dialer.back_off(now);
        }
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::commands::{Args, Command};

    /// Dials that are made at a pace in so many milliseconds, while none of them is answered.
    fn dialed(arguments: &str, ms: u64) -> u32 {
        let all = format!("oread load {arguments}");
        let typed = Args::try_parse_from(all.split_whitespace()).unwrap();
        let Command::Load(typed) = typed.command else {
            panic!("not load");
        };
        let plan = Load::try_from(*typed).unwrap();
        let mut dialer = Dialer::new(&plan, 0, Arc::new([]), SECOND);
        for ms in 0..ms {
            while dialer.next(SECOND + ms * SECOND / 1000, false).is_some() {
                dialer.under_way += 1;
            }
        }
        dialer.under_way
    }

    #[test]
    fn answers_that_take_long_do_not_slow_the_pace() {
        assert_eq!(dialed("-c 100k -r 10k", 200).div_ceil(10), 200);
        assert_eq!(dialed("-c 100k -r 10k -t 2", 200).div_ceil(10), 100);
        // Until the first of them is given up.
        assert_eq!(dialed("-c 100k -r 10k --connect-timeout 100ms", 200), 1000);
        assert_eq!(dialed("-c 2k -r 10k", 500), 2000);
    }

    #[test]
    fn sources_are_used_in_turn() {
        let mut endpoint = Endpoint {
            resolved: Resolved {
                transport: Transport::Tcp,
                address: ([127, 0, 0, 1], 9).into(),
            },
            sources: Vec::new(),
        };
        assert_eq!(endpoint.source(3), None);
        endpoint.sources = vec![[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        let turns: Vec<String> = (0..3)
            .filter_map(|turn| endpoint.source(turn))
            .map(|source| source.to_string())
            .collect();
        assert_eq!(turns, ["127.0.0.2:0", "127.0.0.3:0", "127.0.0.2:0"]);
    }
}
