//! Frames of any framing through the echo, and what must come of them.

use std::num::NonZeroU32;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::driver::Play;
use super::super::*;
use super::{Hint, follow};
use crate::error::CloseReason;
use crate::framing::{Framing, Prefix};

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
pub(super) struct Framed {
    framing: Framing,
    pub(super) input: Vec<u8>,
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

pub(super) fn any_framed() -> impl Strategy<Value = Framed> {
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

pub(super) fn check_echo<const SHORT: bool>(
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
