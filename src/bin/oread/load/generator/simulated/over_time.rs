//! What a run tells of its seconds, its dials and its first answers, held against the servers'
//! books.

use super::bench::Ran;
use super::truth::{CLOSE, Count, Life, Span, TICK, Times, Told, Way, is_like, lives};
use crate::load::clock::{NEVER, SECOND};
use crate::load::count::{InStage, TargetCounts};
use crate::load::options::load::Volume;

/// Something that happened at a client: when, and of how many bytes, if it did for certain.
struct Happened {
    at: Span,
    bytes: u64,
    surely: bool,
}

/// Counts what happened from then on and before another moment, and its bytes.
fn count_in(all: &[Happened], from: u64, to: u64) -> [Count; 2] {
    // A turn sees its own time, and what it does takes it a little further.
    let doubt = CLOSE;
    let (mut count, mut bytes) = (Count::default(), Count::default());
    for happened in all {
        let Span { least, most } = happened.at;
        let surely = happened.surely && least >= from + doubt && most + doubt < to;
        let maybe = most + doubt >= from && least < to.saturating_add(doubt);
        count.count(surely, maybe);
        bytes.least += happened.bytes * u64::from(surely);
        bytes.most += happened.bytes * u64::from(maybe || surely);
    }
    [count, bytes]
}

/// What was sent, and what was answered, but for what confirms connections.
#[derive(Default)]
pub(super) struct Traffic {
    sent: Vec<Happened>,
    answered: Vec<Happened>,
}

impl Traffic {
    pub(super) fn of(all: &[Told], times: &Times) -> Traffic {
        let mut traffic = Traffic::default();
        for told in all.iter().filter(|told| !told.confirms) {
            traffic.sent(told.sent, told.len);
            if let Some(at) = told.answered {
                traffic.answered(at, told.answer, told.is_echoed(times));
            }
        }
        traffic
    }

    pub(super) fn sent(&mut self, at: Span, bytes: u64) {
        let surely = true;
        self.sent.push(Happened { at, bytes, surely });
    }

    /// `came`: whether that is certain, and whether it may be.
    pub(super) fn answered(&mut self, at: Span, bytes: u64, came: (bool, bool)) {
        let surely = came.0;
        if came.1 {
            self.answered.push(Happened { at, bytes, surely });
        }
    }

    /// Each second has what was sent and answered in it, whatever message it was about; of messages
    /// that no server saw, none here.
    pub(super) fn check_seconds(&self, ran: &Ran, times: &Times) {
        let seconds = &ran.tally.seconds;
        // A thread that had lost all its connections has ended before.
        let last = ran.ends.iter().max().map_or(0, |&end| end);
        let is_whole = times.until != NEVER && times.stopped.is_none() && last >= times.until;
        if let (Volume::For(_), true) = (ran.load.volume, is_whole) {
            // A part of a second in which nothing came is none.
            let least = (times.until - times.from) / SECOND;
            let most = last.saturating_sub(times.from) / SECOND + 1;
            Count { least, most }.holds("seconds", seconds.len() as u64);
        }
        for (place, second) in seconds.iter().enumerate() {
            let from = times.from + place as u64 * SECOND;
            let to = from.saturating_add(SECOND);
            let [messages, bytes] = count_in(&self.sent, from, to);
            let counts = &second.counts;
            messages.holds(&format!("sent in second {place}"), counts.sent);
            bytes.holds(&format!("bytes sent in second {place}"), counts.sent_bytes);
            let [answers, _] = count_in(&self.answered, from, to);
            answers.holds(&format!("answered in second {place}"), counts.echoed);
        }
    }

    /// Each stage has what was sent and answered in it; the last one has sent what is behind it.
    pub(super) fn check_stages(&self, ran: &Ran, times: &Times) {
        let Some(stages) = &ran.load.stages else {
            assert!(ran.tally.stages.is_empty());
            return;
        };
        // A run that has no connection ends before its stages do.
        let is_over = ran.ends.iter().all(|&end| end >= times.until);
        if !ran.is_whole() || !is_over {
            return;
        }
        let ends: Vec<u64> = stages.ends().map(|end| times.from + end).collect();
        let counts = &ran.tally.stages;
        assert_eq!(counts.len(), ends.len(), "stages");
        let mut from = times.from;
        for (place, (stage, &end)) in counts.iter().zip(&ends).enumerate() {
            let last = if place + 1 < ends.len() { end } else { NEVER };
            let [messages, _] = count_in(&self.sent, from, last);
            messages.holds(&format!("sent in stage {place}"), stage.sent);
            let [answers, _] = count_in(&self.answered, from, end);
            answers.holds(&format!("answered in stage {place}"), stage.in_time);
            from = end;
        }
        let sum = |count: fn(&InStage) -> u64| counts.iter().map(count).sum::<u64>();
        let m = &ran.tally.messages;
        assert_eq!(
            [sum(|it| it.sent), sum(|it| it.in_time)],
            [m.sent, m.in_time]
        );
        assert_eq!(sum(|it| it.response.len()), m.echoed);
    }
}

/// Each second has the histogram of the answers that came in it, and tells of the connections that
/// were open at its end; no error is told twice.
pub(super) fn check_state(ran: &Ran, way: Way) {
    let (times, lives) = (Times::of(ran), lives(ran, way));
    // A turn is over before the next one sees that the second is.
    let doubt = TICK + CLOSE + way.1;
    let last = ran.ends.iter().max().map_or(0, |&end| end);
    let mut errors = 0;
    for (place, second) in ran.tally.seconds.iter().enumerate() {
        let answers = second.response.open().len();
        assert_eq!(answers, second.counts.echoed, "second {place}");
        errors += second.errors;
        let end = times.from + (place as u64 + 1) * SECOND;
        // The threads end one after the other, and what each has is what it had then.
        if ran.ends.iter().any(|&at| at < end + doubt) && ran.ends.len() > 1 {
            continue;
        }
        let (from, to) = match last < end + doubt {
            // Closed at the end.
            true => continue,
            false => (end - doubt, end + doubt),
        };
        let mut open = Count::default();
        for life in &lives {
            let there = life.there.filter(|there| there.least <= to);
            let surely = there.is_some_and(|it| it.most <= from) && life.end.least >= to;
            open.count(surely, there.is_some() && life.end.most >= from);
        }
        open.holds(&format!("open at the end of second {place}"), second.open);
    }
    let all: u64 = ran.tally.errors.values().sum();
    assert!(
        errors <= all,
        "{errors} errors in the seconds, {all} in all"
    );
}

/// What the targets have is what all of it comes to, and so is what the connections have.
pub(super) fn check_by_whom(ran: &Ran) {
    let (tally, of) = (&ran.tally, |count: fn(&TargetCounts) -> u64| {
        let targets = ran.tally.targets.iter();
        targets.map(|target| count(&target.counts)).sum::<u64>()
    });
    let (c, m) = (&tally.connections, &tally.messages);
    if ran.load.targets.len() > 1 {
        let failed = c.refused + c.timed_out + c.failed;
        let pairs = [
            ("established", of(|it| it.established), c.established),
            ("failed", of(|it| it.failed), failed),
            ("lost", of(|it| it.lost), c.lost),
            ("answered", of(|it| it.answered), m.echoed),
            ("timed out", of(|it| it.timed_out), m.timed_out),
        ];
        for (what, targets, all) in pairs {
            assert_eq!(targets, all, "{what} of all targets");
        }
        for target in &tally.targets {
            assert_eq!(target.response.len(), target.counts.answered);
        }
    }
    if let Some(slowest) = &tally.slowest {
        assert_eq!(slowest.answers, m.echoed);
        assert!(slowest.connections <= c.established);
        let most = slowest.worst.iter().map(|it| it.max).max().unwrap_or(0);
        assert!(most <= tally.latency.response.max());
    }
}

/// A dial takes there and back at most (some are answered at once), and the first answer comes when
/// the server gave it.
pub(super) fn check_dials(ran: &Ran, way: Way) {
    let lives = lives(ran, way);
    let latency = &ran.tally.latency;
    let counted = &ran.tally.connections;
    assert_eq!(latency.connect.len(), counted.established);
    let waits = |life: &Life| ran.opening() == 0 && life.dialed.most < ran.start.unwrap_or(NEVER);
    if ran.opening() > 0 {
        assert_eq!(latency.first_echo.len(), counted.confirmed);
    }
    let (slowest, most) = (latency.connect.max(), 2 * way.1 + CLOSE);
    assert!(
        slowest <= most + most / 500,
        "a dial took {slowest} ns, and must have {most} at most"
    );
    let lives: Vec<Life> = lives.into_iter().filter(|life| !waits(life)).collect();
    let took = |life: &Life| Some(life.confirmed?.most.saturating_sub(life.dialed.least));
    let first: Vec<u64> = lives.iter().filter_map(took).collect();
    if first.len() as u64 == latency.first_echo.len() {
        let slack = 2 * way.0 + 5 * (way.1 - way.0) + CLOSE;
        is_like(
            "first answers",
            &latency.first_echo,
            first.into_iter(),
            slack,
        );
    }
}
