//! How a server misbehaves.

/// How a server behaves: each fault befalls one message in so many; 0: none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners {
    /// How long an answer takes, in milliseconds.
    pub(super) delay: (u64, u64),
    /// One answer in so many takes this much longer.
    pub(super) slow: u64,
    pub(super) slow_by: u64,
    /// From when until when no answer goes out, in nanoseconds of the run.
    pub(super) stall: Option<(u64, u64)>,
    /// From when until when nobody listens.
    pub(super) shut: Option<(u64, u64)>,
    /// One connection in so many is never answered.
    pub(super) deaf: u64,
    /// From this message on a connection gets no more answers; a datagram gets none.
    pub(super) mute: u64,
    pub(super) double: u64,
    /// The answer is that of another message of the connection, or of another connection.
    pub(super) swap: u64,
    pub(super) steal: u64,
    pub(super) flip: u64,
    /// Half of an answer comes, and then the end.
    pub(super) cut: u64,
    /// The server finishes behind the answer, or closes, or resets.
    pub(super) finish: u64,
    pub(super) close: u64,
    pub(super) reset: u64,
    /// What all of this is drawn from.
    pub(super) seed: u64,
}

impl Manners {
    /// Whether each message is answered rightly, some time.
    pub(super) fn is_honest(&self) -> bool {
        let m = self;
        let faults = [m.deaf, m.mute, m.double, m.swap, m.steal, m.flip];
        let ends = [m.cut, m.finish, m.close, m.reset];
        faults.iter().chain(&ends).all(|&rate| rate == 0)
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Echo,
    Mute,
    Double,
    Swap,
    Steal,
    Flip,
    Cut,
    Finish,
    Close,
    Reset,
}
