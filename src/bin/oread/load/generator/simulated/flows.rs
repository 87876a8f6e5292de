//! Who sends next, when, and when a run is over: what a server can say of each connection.

use super::bench::Ran;
use super::messages::unseen;
use super::server::Call;
use super::truth::{AT_ONCE, CLOSE, Life, SMALL, TICK, Times, Told, Way, Why, lives, messages};
use crate::load::clock::{NEVER, SECOND, nanos};
use crate::load::options::load::{Traffic, Turnover, Volume};

/// How long an interrupted run waits for answers, at most.
const PATIENCE: u64 = SECOND;

/// Holds what each connection sent against what its traffic says, in a network that takes no time.
pub(super) fn check_traffic(ran: &Ran) {
    let (way, times) = (AT_ONCE, Times::of(ran));
    // One that is to be closed sends no more, and a server can't tell.
    if times.at == NEVER || !ran.keeps() {
        return;
    }
    for (call, life) in ran.calls.iter().zip(lives(ran, way)) {
        // One that the load closes, or that ends, sends for a while.
        let Some(confirmed) = life.confirmed.filter(|_| life.end.least >= times.until) else {
            continue;
        };
        let late = |asked: &super::server::Asked| match asked.answered {
            _ if asked.is_one_way => false,
            Some(answered) => answered - asked.at >= times.timeout,
            // What comes behind the run's end was sent before it.
            None => life.end.least.saturating_sub(asked.at) >= times.timeout,
        };
        if call.asked.iter().any(late) || matches!(ran.load.volume, Volume::Messages(_)) {
            continue;
        }
        check_flow(ran, call, &times, confirmed.least.max(times.at));
    }
}

/// One that was confirmed, and there to the end of the measured time, without a timeout.
fn check_flow(ran: &Ran, call: &Call, times: &Times, begun: u64) {
    let asked = &call.asked[ran.opening().min(call.asked.len())..];
    let sent = asked.len() as u64;
    let until = times.until;
    let answers = || asked.iter().filter_map(|asked| asked.answered);
    // What happens in the millisecond in which it's told may come before it or behind it.
    let doubt = match times.stopped {
        Some(_) => TICK,
        None => AT_ONCE.1,
    };
    let (least, most) = match ran.load.traffic {
        Traffic::Closed { depth, think: None } => {
            let depth = u64::from(depth);
            let before = |end: u64| answers().filter(|&at| at < end).count() as u64;
            let begins = begun + TICK + nanos(super::LATEST_START) < until;
            let least = if begins {
                depth + before(until - doubt)
            } else {
                0
            };
            (least, depth + before(until + doubt))
        }
        Traffic::Closed {
            depth,
            think: Some(think),
        } => {
            let depth = u64::from(depth);
            let think = nanos(think);
            let before = |end: u64| answers().filter(|&at| at + think < end).count() as u64;
            let begins = begun + think + TICK + nanos(super::LATEST_START) < until;
            let least = if begins {
                depth + before(until - doubt - TICK)
            } else {
                0
            };
            (least, depth + before(until + doubt))
        }
        Traffic::Idle {
            heartbeat: Some(interval),
        } => {
            let interval = nanos(interval);
            let beats = |begun: u64, until: u64| until.saturating_sub(begun) / interval;
            let begun = begun + nanos(super::LATEST_START);
            (
                beats(begun, until - doubt.min(until)),
                beats(
                    begun.saturating_sub(TICK + 2 * nanos(super::LATEST_START)),
                    until + doubt,
                ) + 1,
            )
        }
        Traffic::Idle { heartbeat: None } => (0, 0),
        Traffic::Open(..) => return,
    };
    let number = call.asked.len();
    assert!(
        (least..=most).contains(&sent),
        "a connection sent {sent} of {number}, and must have sent {least} to {most}"
    );
    check_beats(ran, call);
}

/// Heartbeats come at their interval.
fn check_beats(ran: &Ran, call: &Call) {
    if let Traffic::Idle {
        heartbeat: Some(interval),
    } = ran.load.traffic
    {
        let beats: Vec<u64> = call.asked[ran.opening()..]
            .iter()
            .map(|asked| asked.at)
            .collect();
        for two in beats.windows(2) {
            let gap = two[1] - two[0];
            let most = nanos(interval) + TICK + nanos(super::LATEST_START);
            assert!(
                gap <= most,
                "a heartbeat came {gap} ns behind the one before"
            );
        }
    }
}

/// One that is given up in the moment of its first answer is lost, not closed.
fn is_tie(life: &Life) -> bool {
    let first = life.confirmed;
    first.is_some_and(|at| at.most + CLOSE > life.end.least)
}

/// Connections are closed when their time has come, and not before.
pub(super) fn check_turnover(ran: &Ran) {
    let (way, times) = (AT_ONCE, Times::of(ran));
    if times.at == NEVER {
        return;
    }
    if let Turnover::After(messages) = ran.load.turnover {
        return check_spent(ran, messages.get() as usize);
    }
    let lives = lives(ran, way);
    let closed = lives
        .iter()
        .filter(|life| life.is_closed() && !is_tie(life));
    match ran.load.turnover {
        Turnover::Keep => assert_eq!(closed.count(), 0),
        Turnover::After(_) => {}
        Turnover::Lifetime(lifetime) => {
            let lifetime = nanos(lifetime);
            for life in closed {
                let lived = life.end.most - life.confirmed.unwrap().least;
                assert!(lived + AT_ONCE.1 >= lifetime, "closed after {lived} ns");
            }
        }
        Turnover::Churn(rate) => {
            let time = times.until.min(*ran.ends.iter().max().unwrap());
            let time = time.saturating_sub(times.at);
            let moments = u128::from(time) * u128::from(rate.get()) / u128::from(SECOND);
            let closed = closed.count() as u128;
            let most = moments + u128::from(ran.load.sockets.threads.get());
            assert!(closed <= most, "{closed} were closed at {moments} moments");
        }
    }
}

/// A connection is closed for another when all its messages are answered, and none has more.
fn check_spent(ran: &Ran, messages: usize) {
    let all = messages + ran.opening();
    for (call, life) in ran.calls.iter().zip(lives(ran, AT_ONCE)) {
        let asked = call.asked.len();
        assert!(asked <= all, "{asked} messages of {all}");
        if life.is_closed() && !is_tie(&life) {
            assert_eq!(asked, all, "closed before it had all its messages");
        }
        let is_answered = |asked: &super::server::Asked| asked.answered.is_some();
        if life.why == Why::Run && asked == all && call.asked.iter().all(is_answered) {
            let last = call.asked.iter().filter_map(|asked| asked.answered).max();
            let open = life.end.least.saturating_sub(last.unwrap_or(NEVER));
            assert!(
                open <= TICK,
                "it was open for {open} ns behind its last answer"
            );
        }
    }
}

/// A run ends when all is answered or given up, and neither before nor behind that.
pub(super) fn check_end(ran: &Ran, way: Way) {
    let times = Times::of(ran);
    let all = messages(ran, way, &times);
    // Which messages of a schedule were seen can't be told where some were not; nor when a message
    // was sent that was more than a small window held, with time on the way.
    let is_seen = match ran.load.traffic {
        Traffic::Open(..) => unseen(ran, way) == 0,
        _ => true,
    };
    let can_tell_early = is_seen && (way.1 == AT_ONCE.1 || ran.load.content.sizes().1 <= SMALL);
    for (thread, &end) in ran.ends.iter().enumerate() {
        let mine = || all.iter().filter(|told| told.thread == thread);
        let asked = mine().filter(|told| told.by_run);
        let open: Vec<&Told> = asked.filter(|told| !told.is_answered_by(end)).collect();
        if can_tell_early {
            check_not_early(ran, &times, end, &open);
        }
        if let (Volume::For(_), Some(_), None) = (ran.load.volume, ran.start, ran.stopped) {
            let last = times.until + times.timeout + 2 * TICK + nanos(super::LATEST_START);
            assert!(end <= last, "it ended at {end}, which is behind {last}");
        }
        if let Some(stopped) = ran.stopped.filter(|_| ran.start.is_some()) {
            let last = stopped.max(times.at.min(stopped)) + PATIENCE.min(times.timeout);
            assert!(
                end <= last + 2 * TICK || end <= stopped,
                "stopped at {stopped}: {end}"
            );
        }
        // With time on the way, small windows make it longer.
        let is_calm =
            ran.tally.connections.lost + ran.tally.messages.timed_out == 0 && way.1 == AT_ONCE.1;
        if let (true, true, Volume::For(_), Some(_)) =
            (open.is_empty(), is_calm, ran.load.volume, ran.start)
        {
            let answers = mine().filter_map(|told| Some(told.answered?.most));
            let last = answers.max().unwrap_or(0).max(times.until);
            let last = last.max(times.at) + nanos(super::LATEST_START) + 3 * TICK;
            let is_behind = ran.tally.messages.unsent > 0;
            assert!(
                end <= last || is_behind,
                "it ended at {end}, and could at {last}"
            );
        }
    }
}

/// Whatever was not answered has had its time.
fn check_not_early(ran: &Ran, times: &Times, end: u64, open: &[&Told]) {
    let patience = match times.stopped {
        Some(stopped) => stopped + PATIENCE.min(times.timeout),
        None if times.until != NEVER => times.until + times.timeout,
        None => NEVER,
    };
    for told in open.iter().filter(|told| !told.confirms) {
        let over = told.due.least.max(told.sent.least.min(told.due.most)) + times.timeout;
        let had_time = end + TICK >= over || end + TICK >= patience;
        assert!(
            had_time || ran.start.is_none(),
            "it ended at {end}, and {told:?} had time until {over}"
        );
    }
}
