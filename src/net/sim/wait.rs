//! Waiting: the only thing that moves time, but for the little that calls take.

use std::io;
use std::time::Duration;

use super::State;
use super::faults::Fault;
use super::poller::Poller;
use super::tcp::Phase;
use super::watch::{BOTH, Target, Watch};
use crate::readiness::Readiness;

/// How long a wait may last that finds nothing. When it ends early it's parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// As long as it's asked for.
    ToItsEnd,
    /// Until nothing happens any more but deadlines.
    UntilRest,
    /// Others are to run at this instant.
    NotAtAll,
}

/// A wait that was ended for another process' sake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parked {
    /// When it ends by itself; `None`: only by an event.
    until: Option<Duration>,
    /// How much was scheduled by then: nothing more, nothing new.
    count: u64,
}

impl Parked {
    pub(super) fn lasts_beyond(self, now: Duration) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// What a wait of no time takes that finds nothing: about a system call.
const LOOK: Duration = Duration::from_nanos(200);

/// How long nothing has been moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Idle {
    /// When the last wait was.
    at: Duration,
    /// Bytes and connections that were moved since then.
    pub(super) moved: u64,
    /// What was moved before that.
    pub(super) before: u64,
    /// Segments that have arrived anywhere so far.
    pub(super) arrived: u64,
    /// Callbacks so far.
    pub(super) callbacks: u64,
    /// Callbacks before the last turn.
    called: u64,
    /// Turns in a row between which nothing was moved and nobody called, and no time passed but for
    /// what their waits took.
    pub(super) turns: u32,
    /// Such turns that have called somebody.
    pub(super) talks: u32,
    /// A turn has begun, and has not waited yet. It may look more than once before it sleeps.
    pub(super) begun: bool,
}

/// A signal that interrupts a longer wait comes within this.
const INTERRUPTED_WITHIN: Duration = Duration::from_secs(3600);

impl State {
    /// Takes note of a wait.
    fn note_wait(&mut self) {
        let idle = &mut self.idle;
        let still = idle.at == self.now && idle.moved == 0;
        let first = std::mem::take(&mut idle.begun);
        let called = std::mem::replace(&mut idle.called, idle.callbacks);
        match still {
            false => (idle.turns, idle.talks) = (0, 0),
            true if first && idle.callbacks > called => idle.talks += 1,
            true if first => idle.turns += 1,
            true => {}
        }
        idle.at = self.now;
        idle.before += idle.moved;
        idle.moved = 0;
    }

    /// How much was scheduled so far: no more, nothing new.
    fn scheduled(&self) -> u64 {
        self.schedule.count() + self.guards.count()
    }

    /// To be called as a call of `process` begins: it may take time, or come late.
    #[inline]
    pub(super) fn begin_call(&mut self) {
        if self.faults.hit(Fault::CallTakesTime) {
            let nanos = self.faults.below(Fault::CallTakesTime, 2_000);
            let until = self.now + Duration::from_nanos(nanos);
            self.run_until(until);
        }
        self.stand_still();
    }

    fn stand_still(&mut self) {
        if self.faults.hit(Fault::StoodStill) {
            let millis = self.faults.below(Fault::StoodStill, 10);
            // From a millisecond to six minutes, small and large as often.
            let time =
                Duration::from_micros(1_000 * 5_u64.saturating_pow(millis as u32) / 5 + 1_000);
            self.trace(|| format!("the process stands still for {time:?}"));
            let until = self.now + time;
            self.run_until(until);
        }
    }

    /// Waits for events of `process`: at most `limit` of them, at most `timeout`.
    ///
    /// # Errors
    /// When it would wait for ever: nothing is to happen, and no timeout ends it.
    pub(super) fn wait(
        &mut self,
        process: u32,
        limit: usize,
        timeout: Option<Duration>,
        events: &mut Vec<(usize, Readiness)>,
    ) -> io::Result<()> {
        self.note_wait();
        self.begin_call();
        self.disturb(process);
        self.processes[process as usize].slept = false;
        self.wait_for_events(process, limit, timeout, events)?;
        self.tell_of_nothing(process, limit, events);
        // The process may stand still before it reads the clock, too.
        self.stand_still();
        Ok(())
    }

    fn wait_for_events(
        &mut self,
        process: u32,
        limit: usize,
        timeout: Option<Duration>,
        events: &mut Vec<(usize, Readiness)>,
    ) -> io::Result<()> {
        let model = self.processes[process as usize].poller.model;
        let parked = self.processes[process as usize].parked.take();
        let deadline = timeout.map(|timeout| self.now.saturating_add(rounded(timeout, model)));
        let interrupted = self.interruption(timeout);
        if interrupted.is_some_and(|at| at <= self.now) {
            self.trace_wait(process, "interrupted");
            return Ok(());
        }
        let ready = self.others_ready(process);
        loop {
            self.collect(process, limit, events);
            if !events.is_empty() {
                self.trace_events(process, events);
                return Ok(());
            }
            if timeout == Some(Duration::ZERO) {
                self.look_in_vain();
                self.note_slept(process);
                return Ok(());
            }
            let news = self.others_ready(process);
            let others = news.iter().any(|one| !ready.contains(one));
            let is_over = match self.sleep {
                Sleep::ToItsEnd => false,
                Sleep::UntilRest => self.schedule.next_at().is_none(),
                Sleep::NotAtAll => true,
            };
            if others || is_over {
                self.park(process, deadline);
                return Ok(());
            }
            let other = self.others_deadline(process);
            let bound = earlier(earlier(deadline, interrupted), other);
            match (self.next_at(), bound) {
                (Some(at), bound) if bound.is_none_or(|bound| at <= bound) => self.step(),
                (_, Some(bound)) => {
                    self.now = self.now.max(bound);
                    if interrupted == Some(bound) {
                        self.trace_wait(process, "interrupted");
                    } else if deadline == Some(bound) {
                        self.end_late();
                        self.note_slept(process);
                        self.trace_wait(process, "timeout");
                    } else {
                        self.park(process, deadline);
                        self.forget_deadlines(bound);
                    }
                    return Ok(());
                }
                (_, None) => {
                    let again = parked.is_some_and(|one| one.count == self.scheduled());
                    let others = self.others_may_act(process);
                    if others && !again {
                        self.park(process, deadline);
                        return Ok(());
                    }
                    return Err(self.nothing_will_happen(process));
                }
            }
        }
    }

    /// A wait has found nothing. One that was shorter than it might have been is followed by
    /// another turn in any loop.
    fn note_slept(&mut self, process: u32) {
        let process = &mut self.processes[process as usize];
        process.slept = process
            .may_wait_until
            .is_some_and(|until| until <= self.now);
    }

    /// A look that finds nothing takes as long as its call does: whoever looks again and again
    /// until some time is over would never come to its end. What others move meanwhile is not moved
    /// by whoever looks, so a spin is still one.
    fn look_in_vain(&mut self) {
        let (until, before) = (self.now + LOOK, self.idle);
        self.run_until(until);
        self.idle.at += LOOK;
        // Segments that arrive are news all the same, which a host may have to pass over one by
        // one.
        let news = self.idle.arrived > before.arrived;
        self.idle.moved = before.moved + u64::from(news);
    }

    /// When a signal interrupts a wait that begins now: at once, as that of a process which is
    /// continued, or at some time of it, if nothing ends it before.
    fn interruption(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        if timeout == Some(Duration::ZERO) || !self.faults.hit(Fault::WaitInterrupted) {
            return None;
        }
        let longest = timeout.map_or(INTERRUPTED_WITHIN, |timeout| {
            timeout.min(INTERRUPTED_WITHIN)
        });
        // The half of them comes at once.
        let drawn = 2 * longest.as_nanos() as u64;
        let after = self.faults.below(Fault::WaitInterrupted, drawn);
        let after = after.saturating_sub(longest.as_nanos() as u64);
        Some(self.now + Duration::from_nanos(after))
    }

    /// A wait that ends by its timeout may end late.
    fn end_late(&mut self) {
        if self.faults.hit(Fault::WaitLate) {
            let drawn = self.faults.below(Fault::WaitLate, 8 * 50);
            // The last eighth of what is drawn stands for a busy machine.
            let micros = if drawn < 350 {
                drawn % 50
            } else {
                (drawn - 350) * 400
            };
            let until = self.now + Duration::from_micros(micros);
            self.run_until(until);
        }
    }

    /// Adds an event of a socket that may be ready for nothing.
    fn tell_of_nothing(
        &mut self,
        process: u32,
        limit: usize,
        events: &mut Vec<(usize, Readiness)>,
    ) {
        if events.len() >= limit || !self.faults.hit(Fault::EventSpurious) {
            return;
        }
        let watched = &self.processes[process as usize].poller.watched;
        let drawn = self
            .faults
            .below(Fault::EventSpurious, 3 * watched.len() as u64) as usize;
        if let Some((token, target)) = watched.iter().nth(drawn / 3) {
            let told = match (target, drawn % 3) {
                (Target::Stream(_), 0) => Readiness::WRITABLE,
                (Target::Stream(_), 1) => Readiness::READABLE | Readiness::WRITABLE,
                _ => Readiness::READABLE,
            };
            events.push((*token, told));
            self.processes[process as usize].slept = false;
        }
    }

    /// Events that tell nothing new, and peers that vanish.
    fn disturb(&mut self, process: u32) {
        if self.faults.hit(Fault::EventSpurious) {
            let watched = &self.processes[process as usize].poller.watched;
            let count = watched.len() as u64;
            let place = self.faults.below(Fault::EventSpurious, count) as usize;
            if let Some(target) = watched.values().nth(place).copied() {
                self.queue(target, BOTH);
            }
        }
        for fault in [Fault::PeerVanishes, Fault::Partition] {
            if !self.faults.hit(fault) {
                continue;
            }
            let watched = &self.processes[process as usize].poller.watched;
            let place = self.faults.below(fault, watched.len() as u64) as usize;
            let Some(Target::Stream(side)) = watched.values().nth(place).copied() else {
                continue;
            };
            if fault == Fault::PeerVanishes {
                self.vanish(side.other());
            } else if let Some(end) = self.end(side) {
                let (one, other) = (end.local.ip(), end.remote.ip());
                let time = Duration::from_millis(self.faults.below(fault, 60_000));
                self.partition(one, other, self.now + time);
            }
        }
    }

    /// The other processes for which an event waits.
    pub(super) fn others_ready(&mut self, process: u32) -> Vec<u32> {
        // A single process, as most worlds have, costs nothing here.
        let others = 0..self.processes.len() as u32;
        let others = others.filter(|other| *other != process);
        others.filter(|other| self.has_ready(*other)).collect()
    }

    /// When the first of the other processes' waits ends by itself.
    fn others_deadline(&self, process: u32) -> Option<Duration> {
        let others = self.processes.iter().enumerate();
        let others = others.filter(|(other, one)| *other != process as usize && one.alive);
        others.filter_map(|(_, one)| one.parked?.until).min()
    }

    /// Whether another process is not known to wait.
    fn others_may_act(&mut self, process: u32) -> bool {
        (0..self.processes.len() as u32).any(|other| {
            let one = &self.processes[other as usize];
            let acts = one.alive && one.parked.is_none() && one.used > 0;
            other != process && (acts || self.has_ready(other))
        })
    }

    fn park(&mut self, process: u32, until: Option<Duration>) {
        let count = self.scheduled();
        let process = &mut self.processes[process as usize];
        process.slept = true;
        process.parked = Some(Parked { until, count });
    }

    /// Deadlines that were waited for end one wait, not all: who is not turned stands still.
    fn forget_deadlines(&mut self, bound: Duration) {
        for process in &mut self.processes {
            if let Some(parked) = &mut process.parked
                && parked.until == Some(bound)
            {
                process.parked = None;
            }
        }
    }

    /// The finding that this is: most often a wake-up that was lost.
    fn nothing_will_happen(&mut self, process: u32) -> io::Error {
        let watched: Vec<_> = self.processes[process as usize]
            .poller
            .watched
            .values()
            .copied()
            .collect();
        let each: Vec<String> = watched.iter().map(|one| self.describe(*one)).collect();
        let all = each.join("; ");
        io::Error::other(format!(
            "nothing will ever happen: host {process} waits without end for {all}"
        ))
    }

    /// What there is to know of a socket that is waited for.
    fn describe(&mut self, target: Target) -> String {
        match target {
            Target::Stream(side) => {
                let Some(connection) = self.connection(side.connection) else {
                    return format!("c{} which is gone", side.connection);
                };
                let end = &connection.ends[usize::from(side.end)];
                let input = &connection.ways[usize::from(1 - side.end)];
                let output = &connection.ways[usize::from(side.end)];
                let phase = match end.phase {
                    Phase::Dialing => "dialing",
                    Phase::Answering => "answering",
                    Phase::Established => "established",
                    Phase::Over => "over",
                };
                let armed = matches!(end.watch, Watch::On(_));
                format!(
                    "c{}.{} ({phase}{}{}, {} bytes to read, room for {}, {} in flight{}{})",
                    side.connection,
                    side.end,
                    if end.finished { ", peer finished" } else { "" },
                    if end.shut { ", shut" } else { "" },
                    input.available(),
                    output.room(),
                    output.written - output.acknowledged,
                    if end.error.is_some() {
                        ", error stored"
                    } else {
                        ""
                    },
                    if armed { "" } else { ", not polled" },
                )
            }
            Target::Listener(id) => {
                let waiting = self.listener(id).map_or(0, |one| one.queue.len());
                format!("l{id} ({waiting} to accept)")
            }
            Target::Udp(id) => {
                let waiting = self.udp_socket(id).map_or(0, |one| one.queue.len());
                format!("u{id} ({waiting} datagrams)")
            }
        }
    }
}

/// What mio makes of a timeout: whole milliseconds, rounded up, but for kqueue.
fn rounded(timeout: Duration, model: Poller) -> Duration {
    if model == Poller::Kqueue {
        return timeout;
    }
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(i32::try_from(millis).map_or(i32::MAX as u64, |ms| ms as u64))
}

/// The earlier of two times, `None` being never.
pub(super) fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
