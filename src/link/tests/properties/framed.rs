//! Frames of any framing through the echo, and what must come of them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::driver::Play;
use super::super::*;
use super::{Hint, follow};
use crate::error::CloseReason;
use crate::framing::Framing;
use crate::framing::tests::{any_framing, fit};

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
        fit(framing, &mut payload);
        framing.encode(&payload, &mut input).unwrap();
    }
    let mut output = input.clone();
    let mut reason = CloseReason::Finished;
    let mut behind = Vec::new();
    let mut last = |len| {
        let mut payload = vec![b'x'; len];
        fit(framing, &mut payload);
        framing.encode(&payload, &mut behind).unwrap();
        payload.len()
    };
    match tail {
        Tail::Part(len) => {
            last(MAX_FRAME);
            behind.truncate(len.min(behind.len() - 1));
            match framing.ends_with_stream() {
                true => output.extend_from_slice(&behind),
                false if behind.is_empty() => {}
                false => reason = CloseReason::FrameIncomplete,
            }
        }
        // Frames of one size are none, and raw bytes are never too long.
        Tail::TooLong if framing != Framing::Raw && last(MAX_FRAME + 1) > MAX_FRAME => {
            reason = CloseReason::FrameTooLong;
        }
        Tail::TooLong => behind.clear(),
        Tail::Nothing => {}
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
    let tails = prop_oneof![
        Just(Tail::Nothing),
        (1..30_usize).prop_map(Tail::Part),
        Just(Tail::TooLong),
    ];
    let payloads = vec(vec(any::<u8>(), 0..=MAX_FRAME), 0..12);
    (any_framing(), payloads, tails)
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
