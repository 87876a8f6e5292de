//! Counts of messages over streams, and their latencies, as the servers say they must be.

use super::bench::Ran;
use super::over_time;
use super::server::Spoiled;
use super::truth::{
    CLOSE, Count, SMALL, Span, TICK, Times, Told, Way, Why, dues, is_like, life, messages,
};
use crate::load::clock::{NEVER, after, nanos};
use crate::load::options::load::{Load, Traffic, Turnover, Volume};

/// How many messages a schedule has due in the measured time.
pub(super) fn due_in(load: &Load, times: &Times) -> u64 {
    // Counted, not computed: that is what is to be checked.
    dues(load, times.at)
        .skip_while(|&due| due < times.from)
        .take_while(|&due| due < times.until)
        .count() as u64
}

/// Messages that a server has not seen, since they were on their way to a connection that was gone.
pub(super) fn unseen(ran: &Ran, way: Way) -> u64 {
    let gone = ran.calls.iter().map(|call| life(ran, call, way).why);
    let gone = gone.filter(|why| {
        matches!(why, Why::Lost(Spoiled::Corrupt | Spoiled::Gone)) || *why == Why::NeverAnswered
    });
    match ran.load.traffic {
        Traffic::Closed { depth, .. } => gone.count() as u64 * u64::from(depth),
        _ => gone.count() as u64 * 1000,
    }
}

/// What the servers' books say of all messages over streams.
#[derive(Default)]
pub(super) struct Books {
    pub(super) all: Vec<Told>,
    pub(super) sent: Count,
    pub(super) echoed: Count,
    pub(super) late: Count,
    pub(super) timed_out: Count,
    pub(super) lost: Count,
    pub(super) in_time: Count,
    pub(super) one_way: Count,
    /// Answers without what they must hold; of these, the ones to measured messages.
    pub(super) mismatched: Count,
    pub(super) wrong: Count,
    /// Those that no server has seen: up to so many.
    pub(super) unseen: Count,
}

impl Books {
    pub(super) fn of(ran: &Ran, way: Way, times: &Times) -> Books {
        let mut books = Books {
            unseen: Count {
                least: 0,
                most: unseen(ran, way),
            },
            ..Books::default()
        };
        let all = messages(ran, way, times);
        for told in &all {
            books.note(ran, times, told);
        }
        Books { all, ..books }
    }

    fn note(&mut self, ran: &Ran, times: &Times, told: &Told) {
        let (surely, maybe) = told.is_measured(times);
        self.sent.count(surely, maybe);
        if told.is_one_way {
            self.one_way.count(surely, maybe);
            if !told.confirms {
                self.count_in_time(ran, times, told.sent, (true, true));
            }
            return;
        }
        let came = told.is_echoed(times);
        self.echoed.count(surely && came.0, maybe && came.1);
        let over = told.timed_out(times);
        self.timed_out.count(surely && over.0, maybe && over.1);
        self.late
            .count(surely && over.0 && came.0, maybe && over.1 && came.1);
        let may_be_closed = !ran.keeps();
        // What a server ends in the moment of the run's end may come before it or behind it.
        let is_surely = told.end.most + CLOSE <= ran.ends[told.thread];
        self.lost.count(
            surely && !came.1 && !told.by_run && is_surely,
            maybe && !came.0 && (!told.by_run || may_be_closed),
        );
        if told.is_mismatched {
            self.mismatched.count(came.0, came.1);
            self.wrong.count(surely && came.0, maybe && came.1);
        }
        if let (Some(answered), false) = (told.answered, told.confirms) {
            self.count_in_time(ran, times, answered, came);
        }
    }

    /// Counts what was done with then: whether that is certain, and whether it may be.
    fn count_in_time(&mut self, ran: &Ran, times: &Times, done: Span, came: (bool, bool)) {
        let end = match ran.load.volume {
            Volume::For(_) => times.until,
            // Stopped before that, it has measured nothing.
            Volume::Messages(_) if times.until < times.from => 0,
            Volume::Messages(_) => NEVER,
        };
        // A signal is heard before or behind what comes in its turn.
        let doubt = u64::from(times.stopped.is_some()) * CLOSE;
        let within = (
            done.least >= times.from && done.most + doubt < end,
            done.most >= times.from && done.least < end.saturating_add(doubt),
        );
        self.in_time.count(came.0 && within.0, came.1 && within.1);
    }
}

/// Holds the counts of messages over streams against the servers' books.
pub(super) fn check_messages(ran: &Ran, way: Way) {
    let times = Times::of(ran);
    let books = Books::of(ran, way, &times);
    let (counted, unseen, all) = (&ran.tally.messages, books.unseen, &books.all);
    check_volume(ran, &times);
    if matches!(ran.load.traffic, Traffic::Open(..)) && unseen.most > 0 {
        // Which messages of the schedule were seen can't be told.
        return;
    }
    (books.sent + unseen).holds("messages sent", counted.sent);
    if unseen.most == 0 {
        let traffic = over_time::Traffic::of(all, &times);
        traffic.check_seconds(ran, &times);
        traffic.check_stages(ran, &times);
    }
    books.echoed.holds("messages echoed", counted.echoed);
    books.late.holds("messages late", counted.late);
    (books.timed_out + unseen).holds("messages timed out", counted.timed_out);
    (books.lost + unseen).holds("messages lost", counted.lost);
    (books.one_way + unseen).holds("messages one way", counted.one_way);
    books.in_time.holds("messages in time", counted.in_time);
    books.mismatched.holds("mismatched", counted.mismatched);
    if counted.verified > 0 {
        let wrong = counted.echoed - counted.verified;
        books.wrong.holds("mismatched and measured", wrong);
    }
    let confirming = all.iter().filter(|told| told.confirms).count() as u64;
    let unmeasured = Count {
        least: all.len() as u64 - books.sent.most,
        // A listener that closes takes connections along that nobody has accepted yet, each with
        // its first message.
        most: all.len() as u64 - books.sent.least + ran.taken_along(way),
    };
    // One that was dialed at the very end may have sent nothing.
    (unmeasured + unseen).holds("messages unmeasured", counted.unmeasured);
    assert!(confirming <= ran.tally.connections.established * ran.opening() as u64);
    if books.echoed.is_exact() && unseen.most == 0 {
        check_latency(ran, all, &times, way);
    }
}

/// What was due went out, or is counted as unsent.
pub(super) fn check_volume(ran: &Ran, times: &Times) {
    let counted = &ran.tally.messages;
    match ran.load.volume {
        Volume::Messages(asked) if times.stopped.is_none() && ran.start.is_some() => {
            assert_eq!(
                counted.sent + counted.unsent,
                asked.get(),
                "of all asked for"
            );
        }
        Volume::For(duration) if matches!(ran.load.traffic, Traffic::Open(..)) => {
            if ran.start.is_none() {
                return;
            }
            let due = due_in(&ran.load, times);
            let all = Times {
                until: after(times.from, duration),
                ..*times
            };
            // A thread that had nothing to send on has ended before it could be stopped.
            let is_stopped = times
                .stopped
                .is_some_and(|at| ran.ends.iter().any(|&end| end < at));
            let most = match is_stopped {
                true => due_in(&ran.load, &all),
                // A signal is heard before or behind what comes in its turn.
                false => due_in(
                    &ran.load,
                    &Times {
                        until: times.until + u64::from(times.stopped.is_some()) * TICK,
                        ..*times
                    },
                ),
            };
            let counted = counted.sent + counted.unsent;
            let range = Count { least: due, most };
            range.holds("messages due", counted);
        }
        Volume::For(_) => check_beats(ran, times),
        Volume::Messages(_) => {}
    }
}

/// Where all connections carry the load from its beginning to its end, each heartbeat that was due
/// was sent or is unsent.
fn check_beats(ran: &Ran, times: &Times) {
    let Traffic::Idle {
        heartbeat: Some(interval),
    } = ran.load.traffic
    else {
        return;
    };
    let (ledger, load) = (&ran.tally.connections, &ran.load);
    let all = u64::from(load.connections.get());
    let is_steady =
        ran.is_whole() && (ledger.dialed, ledger.confirmed, ledger.open) == (all, all, all);
    // A connection that is closed for another sends first what is due on it.
    let takes_all = load.has_udp() || load.content.sizes().1 <= SMALL;
    if ran.is_whole() && ledger.lost == 0 && ran.tally.errors.is_empty() && takes_all {
        assert_eq!(ran.tally.messages.unsent, 0, "heartbeats unsent");
    }
    if !is_steady || load.turnover != Turnover::Keep || !ran.tally.errors.is_empty() {
        return;
    }
    let (threads, interval) = (load.sockets.threads.get(), nanos(interval));
    let mut due = 0;
    for thread in 0..threads {
        let count = load.share(all, thread);
        for flow in 0..count {
            // They begin one after the other, the threads in turn.
            let turn = u128::from(flow * u64::from(threads) + u64::from(thread));
            let first = u128::from(interval) * turn / u128::from(count * u64::from(threads));
            let mut at = times.at + first as u64;
            while at < times.until {
                due += u64::from(at >= times.from);
                at += interval;
            }
        }
    }
    assert_eq!(ran.tally.messages.due(), due, "heartbeats due");
}

fn check_latency(ran: &Ran, all: &[Told], times: &Times, way: Way) {
    let measured = |told: &&Told| told.is_measured(times).0 && told.is_echoed(times).0;
    let is_closed = matches!(ran.load.traffic, Traffic::Closed { .. });
    let slack = match ran.load.traffic {
        // Those that went out in one turn may have been any of those that were due.
        Traffic::Open(..) => 2 * TICK + nanos(ran.load.sockets.message_timeout) / 50,
        Traffic::Idle { .. } => TICK,
        Traffic::Closed { .. } => 0,
    };
    let late = nanos(ran.start_late) * u64::from(!is_closed);
    let spread = all.iter().map(|told| told.due.most - told.due.least).max();
    let slack = slack + late + spread.unwrap_or(0) + 2 * (way.1 - way.0);
    let response = all.iter().filter(measured);
    let response = response.filter_map(|told| Some(told.answered?.most - told.due.least));
    is_like("response", &ran.tally.latency.response, response, slack);
    let service = all.iter().filter(measured);
    let service = service.filter_map(|told| Some(told.answered?.most - told.sent.least));
    let slack = 2 * (way.1 - way.0);
    is_like("service", &ran.tally.latency.service, service, slack);
    let bytes: u64 = all.iter().filter(measured).map(|told| told.answer).sum();
    assert!(ran.tally.bytes.received >= bytes);
    let bytes: u64 = all.iter().filter(measured).map(|told| told.len).sum();
    assert!(ran.tally.bytes.sent >= bytes);
}
