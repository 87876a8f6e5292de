//! What the servers know, as what must have been at the clients.
//!
//! A server knows when a message came and when it answered; the network says how long the way
//! takes, to some precision. So each moment at the client is known as a span, and each count as a
//! range, which is one number where the network takes no time.

use std::net::IpAddr;
use std::ops::Add;

use hdrhistogram::Histogram;

use super::bench::{Ran, address_of};
use super::server::{Asked, Call, Spoiled};
use crate::load::clock::{NEVER, SECOND, after, nanos};
use crate::load::options::load::{Load, Traffic, Volume};
use crate::load::options::stages::Stages;

/// A timer of the reactor fires so much late at most: it counts in whole milliseconds, and so does
/// the poll.
pub(super) const TICK: u64 = 3_000_000;

/// Spans that are shorter count as moments: a turn takes a fifth of a microsecond.
pub(super) const CLOSE: u64 = 300_000;

/// Messages of so many bytes go out at once, however small the windows are: more than these hold
/// takes longer than the way does.
pub(super) const SMALL: u32 = 20;

/// A moment that lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) least: u64,
    pub(super) most: u64,
}

impl Span {
    /// No earlier than `other`, for certain.
    fn is_behind(self, other: Span) -> bool {
        self.least >= other.most
    }

    fn may_be_behind(self, other: Span) -> bool {
        self.most >= other.least
    }

    fn at(moment: u64) -> Span {
        Span {
            least: moment,
            most: moment,
        }
    }
}

/// A count that lies in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) least: u64,
    pub(super) most: u64,
}

impl Count {
    pub(super) fn count(&mut self, surely: bool, maybe: bool) {
        self.least += u64::from(surely);
        self.most += u64::from(maybe || surely);
    }

    pub(super) fn is_exact(self) -> bool {
        self.least == self.most
    }

    #[track_caller]
    pub(super) fn holds(self, what: &str, counted: u64) {
        let Count { least, most } = self;
        assert!(
            (least..=most).contains(&counted),
            "{what}: {counted} were counted, the servers say {least} to {most}"
        );
    }
}

impl Add for Count {
    type Output = Count;

    fn add(self, other: Count) -> Count {
        Count {
            least: self.least.saturating_add(other.least),
            most: self.most.saturating_add(other.most),
        }
    }
}

/// How long a way takes, at least and at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way(pub(super) u64, pub(super) u64);

/// A network that takes no time, but for the turns of the hosts.
pub(super) const AT_ONCE: Way = Way(0, 100_000);

impl Way {
    /// When what came at the server then was sent by the client.
    pub(super) fn back(self, at: u64) -> Span {
        Span {
            least: at.saturating_sub(self.1),
            most: at.saturating_sub(self.0),
        }
    }

    /// When what the server sent then comes to the client.
    pub(super) fn there(self, at: u64) -> Span {
        Span {
            least: at + self.0,
            most: at + self.1,
        }
    }
}

impl Ran {
    /// Whether nobody is dialed in place of a connection that has ended.
    pub(super) fn keeps(&self) -> bool {
        !self.load.replaces()
    }

    /// How many messages open a connection.
    pub(super) fn opening(&self) -> usize {
        match &self.load.script {
            _ if self.load.is_unopened() => 0,
            Some(script) => script.opening.len().max(1),
            None => 1,
        }
    }

    /// How many connections that nobody has accepted yet were taken along by listeners that closed,
    /// at most: those of a moment, or of all the time that one is on its way.
    pub(super) fn taken_along(&self, way: Way) -> u64 {
        match way.1 == AT_ONCE.1 {
            true => 2 * self.doors,
            false => self.doors * u64::from(self.load.connections.get()),
        }
    }
}

/// When the phases of a run were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// When traffic began.
    pub(super) at: u64,
    pub(super) from: u64,
    /// When nothing more was due.
    pub(super) until: u64,
    pub(super) timeout: u64,
    /// Longer than it takes until a message is given up whose time is over.
    pub(super) round: u64,
    pub(super) stopped: Option<u64>,
}

impl Times {
    pub(super) fn of(ran: &Ran) -> Times {
        let load = &ran.load;
        let at = ran.start.unwrap_or(NEVER);
        let from = after(at, load.warmup);
        let until = match load.volume {
            Volume::For(duration) => after(from, duration),
            Volume::Messages(_) => NEVER,
        };
        let timeout = nanos(load.sockets.message_timeout);
        Times {
            at,
            from,
            until: until.min(ran.stopped.unwrap_or(NEVER)),
            timeout,
            round: timeout / 2 + 20 * TICK + SECOND / 10,
            stopped: ran.stopped,
        }
    }
}

/// One message over a stream, as it must have been at the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) thread: usize,
    pub(super) confirms: bool,
    pub(super) sent: Span,
    pub(super) due: Span,
    /// When the answer came, where one did.
    pub(super) answered: Option<Span>,
    /// When its connection, or the run, was over; and whether that was the run.
    pub(super) end: Span,
    pub(super) by_run: bool,
    /// Its end may have overtaken what was sent before: how long that is on its way.
    pub(super) torn: u64,
    pub(super) len: u64,
    /// Bytes of its answer, and whether it does not hold what it must.
    pub(super) answer: u64,
    pub(super) is_mismatched: bool,
    /// Whether it has no answer.
    pub(super) is_one_way: bool,
}

impl Told {
    pub(super) fn is_measured(&self, times: &Times) -> (bool, bool) {
        if self.confirms {
            return (false, false);
        }
        let from = Span::at(times.from);
        (self.due.is_behind(from), self.due.may_be_behind(from))
    }

    /// Whether its answer came before the run's end.
    pub(super) fn is_answered_by(&self, end: u64) -> bool {
        self.is_one_way || self.answered.is_some_and(|answered| answered.least <= end)
    }

    /// Whether the answer came to where somebody waited for it.
    pub(super) fn is_echoed(&self, times: &Times) -> (bool, bool) {
        let Some(answered) = self.answered else {
            return (false, false);
        };
        // What ends with an answer, a run or a connection that was to be closed, ends behind it. It
        // does not wait for one whose time is over.
        let may = answered.least <= self.end.most;
        let is_close = answered.most - answered.least < CLOSE;
        let is_awaited = answered.most.saturating_sub(self.due.least) < times.timeout;
        match self.torn {
            0 if is_close && is_awaited => (may, may),
            0 => (answered.most <= self.end.least, may),
            way => (answered.most + way < self.end.least, may),
        }
    }

    /// Whether it had no answer when its time was over.
    pub(super) fn timed_out(&self, times: &Times) -> (bool, bool) {
        let (echoed, maybe) = self.is_echoed(times);
        let time = |moment: u64, due: u64| moment.saturating_sub(due) >= times.timeout;
        let late = self.answered.map_or((false, false), |answered| {
            (
                time(answered.least, self.due.most),
                time(answered.most, self.due.least),
            )
        });
        // Whoever looks for such messages looks at each of them now and then.
        let slack = match self.by_run {
            true => 0,
            false => times.round,
        };
        let over = (
            time(self.end.least, self.due.most + slack),
            time(self.end.most, self.due.least),
        );
        match (echoed, maybe) {
            (true, _) => late,
            (false, true) => (late.0 && over.0, late.1 || over.1),
            (false, false) => over,
        }
    }
}

/// One connection, as it must have been at the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) thread: usize,
    pub(super) opened: Span,
    pub(super) confirmed: Option<Span>,
    /// When it began to carry the load: when it was confirmed, or where nothing does that, when it
    /// was established.
    pub(super) there: Option<Span>,
    pub(super) dialed: Span,
    pub(super) end: Span,
    pub(super) why: Why,
}

impl Life {
    /// Whether the load has closed it for another.
    pub(super) fn is_closed(&self) -> bool {
        self.why == Why::Closed
    }
}

/// What became of all connections.
pub(super) fn lives(ran: &Ran, way: Way) -> Vec<Life> {
    ran.calls.iter().map(|call| life(ran, call, way)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The run was over.
    Run,
    /// The server has ended it.
    Lost(Spoiled),
    /// The client has, for another.
    Closed,
    /// The client has, as it was never answered.
    NeverAnswered,
}

/// Which thread dials from there.
pub(super) fn thread_of(from: IpAddr) -> usize {
    (0..8).find(|&n| address_of(n) == from).unwrap() as usize
}

/// When a connection ended at the client, and why.
pub(super) fn life(ran: &Ran, call: &Call, way: Way) -> Life {
    let over = Span::at(ran.ends[thread_of(call.from)]);
    let spoiled = call
        .spoiled
        .map(|(at, how)| (way.there(at), Why::Lost(how)));
    let left = call.left.map(|at| way.back(at));
    let first = call.asked.get(ran.opening().saturating_sub(1));
    let first = first.and_then(|asked| match asked.is_one_way {
        true => Some(way.back(asked.at)),
        false => Some(way.there(asked.answered?)),
    });
    let (end, why) = match (spoiled, left) {
        (Some((at, _)), Some(left)) if left.most < at.least => (left, Why::Closed),
        (Some(spoiled), _) => spoiled,
        (None, Some(left)) => (left, Why::Closed),
        (None, None) => (over, Why::Run),
    };
    // At its end a run closes all that is open.
    let is_run = match why {
        Why::Closed => end.most >= over.least,
        _ => end.least >= over.least,
    };
    let (end, why) = if is_run { (over, Why::Run) } else { (end, why) };
    let confirmed = first.filter(|first| first.least <= end.most);
    let why = match (why, confirmed) {
        // One that is there without a first answer is closed when its messages are given up.
        (Why::Closed, None) if ran.opening() > 0 => Why::NeverAnswered,
        _ => why,
    };
    Life {
        thread: thread_of(call.from),
        opened: way.there(call.accepted),
        // There, back, and there again: the dialer's acknowledgement opens it. Or it's there at
        // once.
        dialed: Way(way.0, 3 * way.1).back(call.accepted),
        there: match ran.opening() {
            0 => Some(Span {
                least: call.accepted.saturating_sub(way.1),
                most: call.accepted + way.1,
            }),
            _ => confirmed,
        },
        confirmed,
        end,
        why,
    }
}

/// Whether a connection was lost when the run ended.
fn ends_with_loss(ran: &Ran, thread: usize) -> bool {
    let lost = ran.calls.iter().filter_map(|call| call.spoiled);
    lost.into_iter()
        .any(|(at, _)| at.abs_diff(ran.ends[thread]) < CLOSE)
}

/// All messages over streams, with when they were due.
pub(super) fn messages(ran: &Ran, way: Way, times: &Times) -> Vec<Told> {
    let keeps = ran.keeps();
    let mut all = Vec::new();
    for call in &ran.calls {
        let life = life(ran, call, way);
        let is_late = |asked: &Asked| {
            if asked.is_one_way {
                return false;
            }
            let answered = asked.answered.unwrap_or(NEVER);
            answered.saturating_sub(asked.at).saturating_add(CLOSE) >= times.timeout
        };
        for (number, asked) in call.asked.iter().enumerate() {
            let mut sent = way.back(asked.at);
            // A greeting is awaited from when the connection is there.
            sent.most += 2 * way.1 * u64::from(asked.bytes.is_empty());
            let late = match ran.load.traffic {
                Traffic::Idle { .. } => TICK + nanos(ran.start_late),
                _ => 0,
            };
            all.push(Told {
                thread: thread_of(call.from),
                confirms: number < ran.opening(),
                sent,
                due: Span {
                    least: sent.least.saturating_sub(late),
                    most: sent.most,
                },
                answer: asked.answer,
                is_mismatched: asked.is_mismatched,
                is_one_way: asked.is_one_way,
                answered: asked.answered.map(|at| way.there(at)),
                end: life.end,
                by_run: life.why == Why::Run,
                torn: match life.why {
                    Why::Lost(Spoiled::Gone) => way.1.max(1),
                    // Something else than an answer may have been what the run waited for.
                    Why::Run if ends_with_loss(ran, life.thread) => 1,
                    // And of what a connection waited for that was to be closed.
                    Why::Closed | Why::Lost(_) if !keeps && is_late(asked) => 1,
                    _ => 0,
                },
                len: asked.bytes.len() as u64,
            });
        }
    }
    if let Traffic::Open(..) = ran.load.traffic {
        all.sort_by_key(|told| told.sent.least);
        let threads = ran.load.sockets.threads.get();
        for thread in 0..threads {
            let own = dues(&ran.load, times.at).skip(thread as usize);
            let own = own.step_by(threads as usize);
            let mine = |told: &&mut Told| told.thread == thread as usize && !told.confirms;
            let mine: Vec<&mut Told> = all.iter_mut().filter(mine).collect();
            give_dues(own, mine);
        }
    }
    all
}

/// When the messages of a schedule are due over all threads; nothing where there is none.
pub(super) fn dues(load: &Load, at: u64) -> Box<dyn Iterator<Item = u64> + '_> {
    match (load.traffic, &load.stages) {
        (Traffic::Open(..), Some(stages)) => Box::new(
            (0..)
                .map_while(|k| due_of(stages, k))
                .map(move |due| at + due),
        ),
        (Traffic::Open(rate, _), None) => Box::new((0..).map(move |k: u64| {
            at + (u128::from(k) * 1_000_000_000_000 / u128::from(rate.thousandths())) as u64
        })),
        _ => Box::new(std::iter::empty()),
    }
}

/// How many messages are due by the rate's integral before a moment: trapezoids are added up.
fn integral(stages: &Stages, time: f64) -> f64 {
    let (mut sum, mut begins) = (0.0, 0.0);
    for stage in stages.all.iter() {
        let (whole, [from, to]) = (
            stage.time.as_secs_f64(),
            [stage.from, stage.to].map(|it| it as f64 / 1000.0),
        );
        let passed = (time - begins).clamp(0.0, whole);
        let rate = from + (to - from) * passed / whole;
        sum += (from + rate) / 2.0 * passed;
        begins += whole;
    }
    sum
}

/// When the `k`-th is due: where the integral goes beyond it. Found by halves.
fn due_of(stages: &Stages, k: u64) -> Option<u64> {
    let is_beyond = |ns: u64| integral(stages, ns as f64 / 1e9) > k as f64 + 1e-9;
    let (mut least, mut most) = (0, nanos(stages.time()));
    if !is_beyond(most) {
        return None;
    }
    while least + 1 < most {
        let middle = u64::midpoint(least, most);
        *if is_beyond(middle) {
            &mut most
        } else {
            &mut least
        } = middle;
    }
    Some(least)
}

/// A thread sends in the order of its schedule. Messages that went out in one turn, and those of
/// which one may have overtaken the other on its way, may each have been any of those that were
/// due.
fn give_dues(mut own: impl Iterator<Item = u64>, messages: Vec<&mut Told>) {
    let least: Vec<u64> = messages.iter().map(|told| told.sent.least).collect();
    let mut most: Vec<u64> = messages.iter().map(|told| told.sent.most).collect();
    most.sort_unstable();
    let due = |_: &u64| own.next().expect("more was sent than is ever due");
    let dues: Vec<u64> = least.iter().map(due).collect();
    for told in messages {
        let before = most.partition_point(|&most| most + CLOSE < told.sent.least);
        let until = least.partition_point(|&least| least <= told.sent.most + CLOSE);
        told.due = Span {
            least: dues[before],
            most: dues[until - 1],
        };
    }
}

/// A histogram's values are these, to its precision and a slack.
pub(super) fn is_like(
    what: &str,
    histogram: &Histogram<u64>,
    expected: impl Iterator<Item = u64>,
    slack: u64,
) {
    let mut expected: Vec<u64> = expected.collect();
    expected.sort_unstable();
    let recorded = histogram.iter_recorded();
    let recorded: Vec<u64> = recorded
        .flat_map(|v| {
            std::iter::repeat_n(
                v.value_iterated_to(),
                v.count_since_last_iteration() as usize,
            )
        })
        .collect();
    assert_eq!(recorded.len(), expected.len(), "{what}: how many there are");
    for (place, (recorded, expected)) in recorded.iter().zip(&expected).enumerate() {
        let slack = slack + expected / 500 + 2;
        assert!(
            recorded.abs_diff(*expected) <= slack,
            "{what}: value {place} is {recorded}, and must be {expected}"
        );
    }
}
