//! What the servers know of datagrams, held against what the generators have counted.

use std::collections::{BTreeMap, HashMap};

use super::bench::Ran;
use super::messages::check_volume;
use super::over_time;
use super::server::Gram;
use super::truth::{AT_ONCE, Count, Times, Way, is_like, thread_of};
use crate::load::options::load::Traffic;

/// What the servers' books say of all datagrams.
#[derive(Default)]
struct Books {
    sent: Count,
    unmeasured: Count,
    received: Count,
    late: Count,
    again: Count,
    corrupt: Count,
    timed_out: Count,
    /// How long first answers took: since their datagrams were due, and since they were sent.
    first: Vec<(u64, u64)>,
    traffic: over_time::Traffic,
}

/// Holds the counts of datagrams against the servers' books, where the network lost none.
pub(super) fn check_datagrams(ran: &Ran, way: Way) {
    let times = Times::of(ran);
    let mut books = Books::default();
    for gram in &ran.grams {
        books.note(ran, way, &times, gram);
    }
    let counted = &ran.tally.datagrams;
    books.sent.holds("datagrams sent", counted.sent);
    (books.unmeasured).holds("messages unmeasured", ran.tally.messages.unmeasured);
    books.received.holds("datagrams received", counted.received);
    books.late.holds("datagrams late", counted.late);
    books.again.holds("datagrams doubled", counted.duplicated);
    books.corrupt.holds("datagrams corrupt", counted.corrupt);
    (books.timed_out).holds("datagrams timed out", ran.tally.messages.timed_out);
    assert_eq!(counted.received, ran.tally.messages.echoed);
    check_volume(ran, &times);
    if books.received.is_exact() {
        let slack = 2 * (way.1 - way.0);
        let latency = &ran.tally.latency;
        let response = books.first.iter().map(|times| times.0);
        is_like("response", &latency.response, response, slack);
        let service = books.first.iter().map(|times| times.1);
        is_like("service", &latency.service, service, slack);
    }
    books.traffic.check_seconds(ran, &times);
    check_flows(ran, way, &times);
}

impl Books {
    /// Notes a datagram and its answers.
    fn note(&mut self, ran: &Ran, way: Way, times: &Times, gram: &Gram) {
        let keeps = ran.keeps();
        let over = ran.ends[thread_of(gram.from.ip())];
        let since = match gram.due {
            0 => way.back(gram.at).least,
            due => due,
        };
        let is_measured = gram.due >= times.from;
        let in_run = |at: u64| {
            let came = way.there(at);
            (came.most <= over, came.least <= over)
        };
        for &wrong in &gram.wrong {
            let came = in_run(wrong);
            self.corrupt.count(keeps && came.0, came.1);
        }
        let answer = gram.answers.first().copied();
        let mut came = answer.map_or((false, false), in_run);
        if way.1 == AT_ONCE.1 {
            // The last one that is waited for ends the run.
            came.0 = came.1;
        }
        if gram.due > 0 {
            let len = gram.bytes.len() as u64;
            self.traffic.sent(way.back(gram.at), len);
            if let Some(answer) = answer {
                let in_time = way.there(answer).most.saturating_sub(since) < times.timeout;
                let came = (came.0 && in_time, came.1);
                self.traffic.answered(way.there(answer), len, came);
            }
        }
        if !is_measured {
            self.unmeasured.count(true, true);
            return;
        }
        self.sent.count(true, true);
        let mut answers = gram.answers.iter().copied();
        let Some(answer) = answers.next() else {
            self.timed_out.count(over - since >= times.timeout, false);
            return;
        };
        let took = (
            way.there(answer).least.saturating_sub(since),
            way.there(answer).most.saturating_sub(since),
        );
        // What comes behind the timeout may be too old to be told, or find its socket closed.
        let in_time = took.1 < times.timeout;
        self.received.count(came.0 && in_time, came.1);
        let is_late = (took.0 >= times.timeout, took.1 >= times.timeout);
        self.late.count(false, is_late.1 && came.1);
        let unanswered = over - since >= times.timeout;
        self.timed_out.count(
            is_late.0 && unanswered,
            (is_late.1 && came.1) || (!came.0 && unanswered),
        );
        if came.0 && in_time {
            self.first.push((
                way.there(answer).most - since,
                way.there(answer).most - way.back(gram.at).least,
            ));
        }
        for more in answers {
            let came = in_run(more);
            let in_time = way.there(more).most - since < times.timeout;
            self.again.count(came.0 && in_time && keeps, came.1);
        }
    }
}

/// The flows by the numbers that their datagrams have.
fn flows(ran: &Ran) -> BTreeMap<u32, Vec<&Gram>> {
    let mut flows: BTreeMap<u32, Vec<&Gram>> = BTreeMap::new();
    for gram in &ran.grams {
        flows.entry(gram.flow).or_default().push(gram);
    }
    flows
}

/// Each flow sends in place of what was answered, and no more; and the report has it by its number.
fn check_flows(ran: &Ran, way: Way, times: &Times) {
    let told: HashMap<u32, u64> = ran.tally.flows.iter().map(|(n, d)| (*n, d.sent)).collect();
    for (number, grams) in flows(ran) {
        let mut numbers: Vec<u32> = grams.iter().map(|gram| gram.number).collect();
        // The first is sent again until it's answered.
        numbers.dedup();
        if way.1 == AT_ONCE.1 {
            let expected: Vec<u32> = (0..numbers.len() as u32).collect();
            assert_eq!(numbers, expected, "numbers of flow {number}");
        }
        let measured = grams.iter().filter(|gram| gram.due >= times.from);
        if let Some(&told) = told.get(&number) {
            assert_eq!(told, measured.count() as u64, "sent on flow {number}");
        }
        check_depth(ran, way, times, &grams);
    }
}

/// In a closed loop a flow has no more under way than its depth, but for what was given up.
fn check_depth(ran: &Ran, way: Way, times: &Times, grams: &[&Gram]) {
    let Traffic::Closed { depth, .. } = ran.load.traffic else {
        return;
    };
    let mut events: Vec<(u64, i32)> = Vec::new();
    for gram in grams.iter().filter(|gram| gram.due > 0) {
        let sent = way.back(gram.at).most;
        let given_up = way.back(gram.at).least + times.timeout;
        let answered = gram.answers.first().map(|&at| way.there(at).least);
        let end = answered.map_or(given_up, |at| at.min(given_up));
        events.push((sent, 1));
        events.push((end, -1));
    }
    events.sort_unstable();
    let mut under_way = 0;
    for (at, step) in events {
        under_way += step;
        assert!(
            under_way <= depth as i32,
            "{under_way} datagrams are under way at {at}"
        );
    }
}
