//! A handler that does whatever a handler may, and what must hold all the same.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::driver::Play;
use super::super::*;
use super::{Hint, follow};
use crate::error::CloseReason;
use crate::readiness::Readiness;

/// What a handler does in one callback, or somebody else does to its link.
#[derive(Clone, Debug)]
pub(super) struct Move {
    /// How much of the input it consumes.
    percent: usize,
    writes: Vec<usize>,
    act: Act,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Nothing,
    Pause,
    Resume,
    ReadOn(bool),
    Finish,
    Close,
    Drain,
    Abort,
}

pub(super) fn any_move() -> impl Strategy<Value = Move> {
    let act = prop_oneof![
        20 => Just(Act::Nothing),
        4 => Just(Act::Pause),
        2 => Just(Act::Resume),
        2 => any::<bool>().prop_map(Act::ReadOn),
        1 => Just(Act::Finish),
        1 => Just(Act::Close),
        1 => Just(Act::Drain),
        1 => Just(Act::Abort),
    ];
    (0..=100_usize, vec(0..60_usize, 0..3), act).prop_map(|(percent, writes, act)| Move {
        percent,
        writes,
        act,
    })
}

/// A handler that does anything, until it's sober: then it consumes what it's given, and no more.
struct Wild {
    moves: Vec<Move>,
    at: usize,
    sober: bool,
    input: Vec<u8>,
    consumed: usize,
    eof_told: bool,
    /// All that it wrote while the link took it.
    kept: Vec<u8>,
    /// The same and the one write by which it learned that the link takes no more.
    tried: Vec<u8>,
    refused: bool,
}

impl Wild {
    fn act(&mut self, link: &mut Hands<'_>, next: &Move) {
        for &len in &next.writes {
            let start = self.tried.len();
            let message: Vec<u8> = (start..start + len).map(|n| n as u8).collect();
            let taken = link.write(&message) != Pressure::Closed;
            assert!(
                !taken || !self.refused,
                "a link that took no more takes output again"
            );
            if taken {
                self.kept.extend_from_slice(&message);
            }
            if !self.refused {
                self.tried.extend_from_slice(&message);
            }
            self.refused |= !taken;
        }
        match next.act {
            Act::Nothing => {}
            Act::Pause => link.pause(),
            Act::Resume => link.resume(),
            Act::ReadOn(on) => link.read_on(on),
            Act::Finish => link.finish(),
            Act::Close => link.close(CloseReason::Other(1)),
            Act::Drain => link.drain(),
            Act::Abort => link.abort(),
        }
    }

    fn next_move(&mut self) -> Option<Move> {
        if self.sober {
            return None;
        }
        self.at += 1;
        self.moves.get(self.at - 1).cloned()
    }
}

impl Play for Wild {
    fn data(&mut self, link: &mut Hands<'_>, data: &[u8]) -> usize {
        assert!(!self.eof_told, "data after the end");
        assert!(!data.is_empty(), "no data");
        let due = &self.input[self.consumed..];
        assert!(due.starts_with(data), "{data:?} in place of {due:?}");
        let mut count = data.len();
        if let Some(next) = self.next_move() {
            self.act(link, &next);
            count = count * next.percent / 100;
        }
        self.consumed += count;
        count
    }

    fn eof(&mut self, link: &mut Hands<'_>, rest: &[u8]) {
        assert!(!self.eof_told, "the end was told twice");
        self.eof_told = true;
        assert_eq!(
            rest,
            &self.input[self.consumed..],
            "input was lost before the end"
        );
        if let Some(next) = self.next_move() {
            self.act(link, &next);
        }
    }

    fn drained(&mut self, link: &mut Hands<'_>) {
        if let Some(next) = self.next_move() {
            self.act(link, &next);
        }
    }

    fn closing(&mut self, link: &mut Hands<'_>, _: CloseReason) {
        if let Some(next) = self.next_move() {
            self.act(link, &next);
        }
    }
}

pub(super) fn check_wild<const SHORT: bool>(
    script: (&[Read], &[Write]),
    input: &[u8],
    limits: &Limits,
    moves: &[Move],
    hints: &[(Hint, Option<Move>)],
    in_flight: Option<u32>,
) {
    let (reads, writes) = script;
    let play = Wild {
        moves: moves.to_vec(),
        at: 0,
        sober: false,
        input: input.to_vec(),
        consumed: 0,
        eof_told: false,
        kept: Vec::new(),
        tried: Vec::new(),
        refused: false,
    };
    let mut script = Script::<SHORT>::new(reads.to_vec(), writes.to_vec());
    script.in_flight = in_flight;
    let mut driver = Driver::new(script, limits.clone(), play);
    for (hint, outside) in hints {
        follow(&mut driver, hint);
        if let Some(next) = outside {
            driver.outside_with(|link, play| play.act(link, next));
        }
    }
    driver.settle();
    driver.play.sober = true;
    driver.outside(|link| link.resume());
    driver.settle();
    assert!(
        driver.play.eof_told || driver.closed.is_some(),
        "stranded: {:?}",
        driver.link
    );
    driver.outside(|link| link.finish());
    driver.settle();
    if driver.closed.is_none() && driver.link.phase() == Phase::Delivering {
        assert!(in_flight.is_some_and(|count| count > 0));
        // The last acknowledgement.
        driver.link.stream.in_flight = Some(0);
        driver.event(Readiness::READ_CLOSED | Readiness::WRITE_CLOSED);
    }
    assert!(
        driver.closed.is_some(),
        "it does not end: {:?}",
        driver.link
    );
    let eofs = driver
        .seen
        .iter()
        .filter(|seen| matches!(seen, Seen::Eof(_)));
    assert!(eofs.count() <= 1);
    let written = driver.written();
    assert!(
        driver.play.tried.starts_with(written),
        "output out of order"
    );
    let failed = writes.iter().any(|write| matches!(write, Write::Error(_)))
        || reads.iter().any(|read| matches!(read, Read::Error(_)));
    if !failed && driver.calls().resets == 0 {
        assert_eq!(written, driver.play.kept, "output was lost without a reset");
    }
}
