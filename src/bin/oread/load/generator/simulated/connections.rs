//! What became of connections, held against what the servers know; and what must hold of any run.

use std::ops::RangeInclusive;

use super::bench::Ran;
use super::messages::check_volume;
use super::server::Spoiled;
use super::truth::{CLOSE, Count, Life, TICK, Times, Way, Why, lives};

/// Holds the ledger of connections against the servers' books.
pub(super) fn check_connections(ran: &Ran, way: Way) {
    let counted = &ran.tally.connections;
    let lives = lives(ran, way);
    let (mut established, mut confirmed) = (Count::default(), Count::default());
    let (mut lost, mut closed, mut open) = (Count::default(), Count::default(), Count::default());
    let mut corrupt = Count::default();
    for life in &lives {
        let keeps = ran.keeps();
        let first = life.confirmed;
        let is_over = life.why != Why::Run;
        established.count(is_over || life.opened.most <= life.end.least, true);
        confirmed.count(
            first.is_some_and(|at| at.most <= life.end.least),
            first.is_some(),
        );
        let is_lost = matches!(life.why, Why::Lost(_) | Why::NeverAnswered);
        // What a server ends in the moment of the run's end may come before it or behind it.
        let is_surely = life.end.most + CLOSE <= ran.ends[life.thread];
        // In the moment of its end it may still find that one was never answered.
        let is_mute = first.is_none_or(|at| at.most + TICK > life.end.least);
        let is_mute = is_mute && life.why == Why::Run;
        let is_mute = is_mute && !ran.keeps();
        // One that the load was to close had its last answer together with the server's end.
        // So had one that was answered when it was given up.
        let is_tie = first.is_some_and(|at| at.most + CLOSE > life.end.least);
        let is_either = match life.why {
            Why::Lost(_) => !keeps,
            Why::Closed | Why::NeverAnswered => is_tie,
            Why::Run => false,
        };
        lost.count(
            is_lost && is_surely && !is_either,
            is_lost || is_mute || is_either,
        );
        let is_corrupt = life.why == Why::Lost(Spoiled::Corrupt);
        corrupt.count(is_corrupt && is_surely && keeps, is_corrupt);
        let is_closed = life.why == Why::Closed;
        closed.count(
            is_closed && !is_either,
            is_closed || life.why == Why::Run || is_either,
        );
        let is_open = life.why == Why::Run && first.is_some_and(|at| at.most <= life.end.least);
        open.count(
            is_open,
            (is_lost && !is_surely) || (life.why == Why::Run && first.is_some()),
        );
    }
    // A listener that closes takes connections along that nobody has accepted yet.
    for count in [&mut established, &mut lost] {
        count.most += ran.taken_along(way);
    }
    established.holds("established", counted.established);
    confirmed.holds("confirmed", counted.confirmed);
    lost.holds("lost", counted.lost);
    corrupt.holds("corrupt", ran.tally.messages.corrupt);
    if ran.keeps() {
        closed.most = closed.least;
        assert_eq!(counted.redialed, 0);
        let missing = Count {
            least: counted.asked - open.most,
            most: counted.asked - open.least,
        };
        missing.holds("missing", counted.missing);
    }
    closed.holds("closed", counted.closed);
    peak(&lives).holds("peak", counted.peak_confirmed);
}

/// The most connections that were confirmed and open at a time, in a run.
pub(super) fn peak_of(ran: &Ran, way: Way) -> Count {
    peak(&lives(ran, way))
}

/// The same, of these.
fn peak(lives: &[Life]) -> Count {
    let most = |of: &dyn Fn(&Life) -> Option<RangeInclusive<u64>>| {
        let mut events = Vec::new();
        for span in lives.iter().filter_map(of).filter(|span| !span.is_empty()) {
            events.push((*span.start(), 1));
            events.push((*span.end() + 1, -1));
        }
        events.sort_unstable();
        let open = events.iter().scan(0_i64, |open, event| {
            *open += event.1;
            Some(*open)
        });
        open.max().unwrap_or(0) as u64
    };
    Count {
        // One that has ended at a moment may have made place for one that came in it.
        least: most(&|life| Some(life.there?.most..=life.end.least.saturating_sub(1))),
        most: most(&|life| Some(life.there?.least..=life.end.most)),
    }
}

/// What must hold whatever the network did: nothing is made up.
pub(super) fn check_loosely(ran: &Ran) {
    let (connections, messages) = (&ran.tally.connections, &ran.tally.messages);
    // Greetings are of connections that the client may not have come to.
    let asked = ran.calls.iter().flat_map(|call| &call.asked);
    let asked = asked.filter(|asked| !asked.bytes.is_empty()).count() as u64;
    let answers = ran.calls.iter().flat_map(|call| &call.asked);
    let answers = answers.filter(|asked| asked.answered.is_some()).count() as u64;
    let spoiled = ran.calls.iter().filter_map(|call| call.spoiled);
    let corrupt = spoiled.filter(|(_, how)| *how == Spoiled::Corrupt).count() as u64;
    let datagrams = ran.grams.len() as u64;
    let wrong: usize = ran.grams.iter().map(|gram| gram.wrong.len()).sum();
    let right = ran
        .grams
        .iter()
        .filter(|gram| !gram.answers.is_empty())
        .count() as u64;
    assert!(
        messages.sent + messages.unmeasured >= asked,
        "{asked} were seen"
    );
    assert!(
        messages.echoed <= answers + right,
        "{answers} were answered"
    );
    // The network may double a datagram.
    let wrong = 2 * wrong as u64;
    assert!(
        messages.corrupt <= corrupt + wrong,
        "{corrupt} were corrupt"
    );
    assert!(messages.late <= messages.timed_out && messages.late <= messages.echoed);
    assert!(connections.dialed >= connections.asked || !ran.is_whole());
    if datagrams == 0 {
        assert!(connections.established >= connections.confirmed);
        let confirmed = ran.calls.iter().filter(|call| {
            let first = call.asked.get(ran.opening().saturating_sub(1));
            first.is_some_and(|asked| asked.is_one_way || asked.answered.is_some())
        });
        // What has no answer is done with when it's sent, and may get nowhere.
        let script = ran.load.script.as_ref();
        let is_one_way = script.is_some_and(|it| it.opening.is_empty() && it.is_one_way());
        assert!(connections.confirmed <= confirmed.count() as u64 || is_one_way);
    }
    check_volume(ran, &Times::of(ran));
}
