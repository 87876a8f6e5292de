//! What holds for any script.

use std::num::NonZeroU32;

use nix::errno::Errno;
use proptest::collection::vec;
use proptest::prelude::*;

use super::driver::Play;
use super::*;
use crate::error::CloseReason;
use crate::framing::{Framing, Prefix};
use crate::readiness::Readiness;

const MAX_FRAME: usize = 40;

/// The echo in a framing, as [`crate::echo`] is.
struct FramedEcho {
    framing: Framing,
    scanned: usize,
}

impl Play for FramedEcho {
    fn data(&mut self, link: &mut Hands<'_>, data: &[u8]) -> usize {
        let mut frames = self.framing.frames(data, self.scanned, MAX_FRAME);
        let broken = frames.by_ref().any(|frame| frame.is_err());
        self.scanned = frames.scanned();
        if frames.consumed() > 0 {
            link.write(&data[..frames.consumed()]);
        }
        if broken {
            link.close(CloseReason::FrameTooLong);
        }
        frames.consumed()
    }

    fn eof(&mut self, link: &mut Hands<'_>, rest: &[u8]) {
        if rest.is_empty() || self.framing.ends_with_stream() {
            if !rest.is_empty() {
                link.write(rest);
            }
            link.finish();
        } else {
            link.close(CloseReason::FrameIncomplete);
        }
    }
}

/// A stream of frames with what its echo must be.
#[derive(Clone, Debug)]
struct Framed {
    framing: Framing,
    input: Vec<u8>,
    output: Vec<u8>,
    reason: CloseReason,
}

/// What stands behind the last whole frame.
#[derive(Clone, Copy, Debug)]
enum Tail {
    Nothing,
    /// About so many bytes of a frame that is not whole.
    Part(usize),
    /// A frame over the maximum.
    TooLong,
}

/// Frames `payloads`, which are made to fit, and says what the echo of them and of `tail` must be.
fn framed(framing: Framing, payloads: Vec<Vec<u8>>, tail: Tail) -> Framed {
    let mut input = Vec::new();
    for mut payload in payloads {
        match framing {
            Framing::Fixed(size) => payload.resize(size.get() as usize, b'-'),
            Framing::Lines => payload.retain(|&byte| byte != b'\n'),
            _ => {}
        }
        framing.encode(&payload, &mut input).unwrap();
    }
    let mut output = input.clone();
    let mut reason = CloseReason::Finished;
    let mut behind = Vec::new();
    match (tail, framing) {
        (Tail::Part(len), Framing::Lines) => {
            behind.resize(len, b'x');
            output.extend_from_slice(&behind);
        }
        (Tail::Part(len), Framing::Fixed(size)) => {
            behind.resize(len % size.get() as usize, b'x');
            if !behind.is_empty() {
                reason = CloseReason::FrameIncomplete;
            }
        }
        (Tail::Part(len), Framing::Length(_)) => {
            framing.encode(&[b'x'; MAX_FRAME], &mut behind).unwrap();
            behind.truncate(len);
            reason = CloseReason::FrameIncomplete;
        }
        (Tail::TooLong, Framing::Lines) => {
            behind.resize(MAX_FRAME + 1, b'x');
            reason = CloseReason::FrameTooLong;
        }
        (Tail::TooLong, Framing::Length(_)) => {
            framing.encode(&[b'x'; MAX_FRAME + 1], &mut behind).unwrap();
            reason = CloseReason::FrameTooLong;
        }
        _ => {}
    }
    input.extend_from_slice(&behind);
    Framed {
        framing,
        input,
        output,
        reason,
    }
}

fn any_framed() -> impl Strategy<Value = Framed> {
    let prefixes = vec![
        Prefix::U8,
        Prefix::U16,
        Prefix::U32,
        Prefix::U64,
        Prefix::U16Le,
        Prefix::U32Le,
        Prefix::U64Le,
    ];
    let framings = prop_oneof![
        Just(Framing::Raw),
        Just(Framing::Lines),
        (1..=20_u32).prop_map(|size| Framing::Fixed(NonZeroU32::new(size).unwrap())),
        prop::sample::select(prefixes).prop_map(Framing::Length),
    ];
    let tails = prop_oneof![
        Just(Tail::Nothing),
        (1..30_usize).prop_map(Tail::Part),
        Just(Tail::TooLong),
    ];
    let payloads = vec(vec(any::<u8>(), 0..=MAX_FRAME), 0..12);
    (framings, payloads, tails)
        .prop_map(|(framing, payloads, tail)| framed(framing, payloads, tail))
}

/// Where the input is cut, and what stands there; used again and again until all is cut.
type Cuts = Vec<(usize, Option<Read>)>;

fn any_cuts() -> impl Strategy<Value = Cuts> {
    let gap = prop::sample::select(vec![
        None,
        Some(Read::Blocked),
        Some(Read::Blocked),
        Some(Read::Interrupted),
        Some(Read::Urgent),
    ]);
    vec((1..60_usize, gap), 1..8)
}

/// The lines that say `input`, cut, and then `end`.
fn cut(mut input: &[u8], cuts: &Cuts, end: Read) -> Vec<Read> {
    let mut reads = Vec::new();
    for (len, gap) in cuts.iter().cycle() {
        let (first, rest) = input.split_at((*len).min(input.len()));
        reads.push(bytes(first));
        reads.extend(gap.clone());
        input = rest;
        if input.is_empty() {
            break;
        }
    }
    reads.push(end);
    reads
}

fn any_writes() -> impl Strategy<Value = Vec<Write>> {
    let write = prop_oneof![
        3 => (0..50_usize).prop_map(Write::Take),
        3 => Just(Write::Blocked),
        1 => Just(Write::Interrupted),
    ];
    vec(write, 0..40)
}

/// Limits that a few bytes reach.
fn any_limits() -> impl Strategy<Value = Limits> {
    let sizes = (1..100_usize, 0..120_usize, 50..150_usize, 1..200_usize);
    (sizes, 1..120_usize, 0..120_usize, 1..5_u32).prop_map(
        |((read_buffer, gather, max_input, max_pending), high_water, low_water, io_budget)| {
            Limits {
                read_buffer,
                gather,
                max_input,
                max_pending,
                high_water,
                low_water,
                io_budget,
                ..Limits::default()
            }
        },
    )
}

/// What happens next, as long as a test wants to say it.
#[derive(Clone, Debug)]
enum Hint {
    Arrive,
    Room,
    Turn,
    Spurious(Readiness),
}

fn any_hint() -> impl Strategy<Value = Hint> {
    let flags = vec![
        Readiness::READABLE,
        Readiness::WRITABLE,
        Readiness::READ_CLOSED,
        Readiness::WRITE_CLOSED,
        Readiness::ERROR,
        Readiness::PRIORITY,
    ];
    prop_oneof![
        3 => Just(Hint::Arrive),
        2 => Just(Hint::Room),
        2 => Just(Hint::Turn),
        1 => prop::sample::select(flags).prop_map(Hint::Spurious),
    ]
}

fn follow<P: Play, const SHORT: bool>(driver: &mut Driver<P, SHORT>, hint: &Hint) {
    match *hint {
        Hint::Arrive => {
            driver.arrive();
        }
        Hint::Room => {
            driver.make_room();
        }
        Hint::Turn => {
            driver.turn();
        }
        Hint::Spurious(readiness) => driver.event(readiness),
    }
}

fn check_echo<const SHORT: bool>(
    framed: &Framed,
    reads: &[Read],
    writes: &[Write],
    limits: &Limits,
    read_on: bool,
    hints: &[Hint],
) {
    let script = Script::<SHORT>::new(reads.to_vec(), writes.to_vec());
    let play = FramedEcho {
        framing: framed.framing,
        scanned: 0,
    };
    let mut driver = Driver::new(script, limits.clone(), play);
    driver.outside(|link| link.read_on(read_on));
    for hint in hints {
        follow(&mut driver, hint);
    }
    driver.settle();
    assert_eq!(driver.written(), framed.output);
    assert_eq!(driver.closed, Some(framed.reason));
    assert!(driver.link.stream.is_read_out());
    assert_eq!((driver.calls().resets, driver.shared.stats.dropped), (0, 0));
}

/// What a handler does in one callback, or somebody else does to its link.
#[derive(Clone, Debug)]
struct Move {
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

fn any_move() -> impl Strategy<Value = Move> {
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

fn check_wild<const SHORT: bool>(
    script: (&[Read], &[Write]),
    input: &[u8],
    limits: &Limits,
    moves: &[Move],
    hints: &[(Hint, Option<Move>)],
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
    let script = Script::<SHORT>::new(reads.to_vec(), writes.to_vec());
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

proptest! {
    // Nothing is written beside the sources.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn for_any_script_and_any_framing_what_comes_out_is_what_the_framing_says(
        framed in any_framed(),
        cuts in any_cuts(),
        writes in any_writes(),
        limits in any_limits(),
        read_on: bool,
        hints in vec(any_hint(), 0..30),
    ) {
        let reads = cut(&framed.input, &cuts, Read::Eof);
        check_echo::<true>(&framed, &reads, &writes, &limits, read_on, &hints);
        check_echo::<false>(&framed, &reads, &writes, &limits, read_on, &hints);
    }

    #[test]
    fn whatever_a_handler_does_nothing_is_stranded_and_all_adds_up(
        input in vec(any::<u8>(), 0..400),
        (cuts, reset) in (any_cuts(), prop::bool::weighted(0.2)),
        (mut writes, broken) in (any_writes(), prop::bool::weighted(0.2)),
        (mut limits, max_output, linger) in (any_limits(), 1..400_usize, 0..200_u32),
        moves in vec(any_move(), 0..40),
        hints in vec((any_hint(), prop::option::weighted(0.2, any_move())), 0..40),
    ) {
        limits.max_output = max_output;
        limits.linger_bytes = linger;
        let end = if reset { Read::Error(Errno::ECONNRESET) } else { Read::Eof };
        let reads = cut(&input, &cuts, end);
        if broken {
            writes.push(Write::Error(Errno::EPIPE));
        }
        check_wild::<true>((&reads, &writes), &input, &limits, &moves, &hints);
        check_wild::<false>((&reads, &writes), &input, &limits, &moves, &hints);
    }
}
