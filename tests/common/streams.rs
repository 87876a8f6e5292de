//! What is sent on a connection, so that each byte shows where it belongs: to which connection,
//! which of its two ways, and which place there.

#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::LazyLock;

/// A prime, so that no size that anybody likes is a period of the text.
const PERIOD: usize = 65_521;
/// How much of it is at hand in one piece.
pub const LONGEST: usize = 2 * PERIOD;

/// Letters and other signs: what is sent can be formatted, too.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u64;
    let mut period: Vec<u8> = Vec::with_capacity(PERIOD);
    for _ in 0..PERIOD {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        period.push(b' ' + (state >> 40) as u8 % 94);
    }
    period.repeat(4)
});

/// One way of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// Where the connection was dialed from: both ends know that, and nobody else has it.
    pub dialer: SocketAddr,
    /// Whether it's what the dialing end sends.
    pub outbound: bool,
}

impl Way {
    pub fn of(dialer: SocketAddr, outbound: bool) -> Way {
        Way { dialer, outbound }
    }

    /// The other way of the same connection.
    pub fn back(self) -> Way {
        Way {
            outbound: !self.outbound,
            ..self
        }
    }

    /// `count` bytes of it behind the first `at`; at most [`LONGEST`].
    pub fn text(self, at: usize, count: usize) -> &'static [u8] {
        let start = (self.start() + at) % PERIOD;
        &TEXT[start..start + count]
    }

    /// Whether `bytes` are those behind the first `at`.
    pub fn is(self, mut at: usize, bytes: &[u8]) -> bool {
        bytes.chunks(LONGEST).all(|chunk| {
            let right = self.text(at, chunk.len()) == chunk;
            at += chunk.len();
            right
        })
    }

    fn start(self) -> usize {
        let ip = match self.dialer {
            SocketAddr::V4(dialer) => u64::from(u32::from(*dialer.ip())),
            SocketAddr::V6(dialer) => u128::from(*dialer.ip()) as u64,
        };
        let number = ip << 17 | u64::from(self.dialer.port()) << 1 | u64::from(self.outbound);
        (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize % PERIOD
    }
}
