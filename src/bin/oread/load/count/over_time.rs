//! The measured time, second by second.

use super::{Packed, Told};
use crate::values::units::counted;

counted! {
    /// What happened in one second of the measured time, whichever message it was about; those that
    /// confirm connections are left out. Seconds behind it hold the answers that came while they
    /// were waited for.
    #[derive(Copy, PartialEq, Eq)]
    Second: u64 = 0;
    /// Messages sent.
    sent,
    /// Messages answered.
    echoed,
    /// Messages sent to which, by `--answer none`, there is no answer.
    one_way,
    /// Bytes sent.
    sent_bytes,
    /// Bytes received.
    received_bytes,
}

impl Second {
    /// What has happened since `before`.
    pub(crate) fn since(&self, before: &Second) -> Second {
        Second {
            sent: self.sent - before.sent,
            echoed: self.echoed - before.echoed,
            one_way: self.one_way - before.one_way,
            sent_bytes: self.sent_bytes - before.sent_bytes,
            received_bytes: self.received_bytes - before.received_bytes,
        }
    }
}

/// All that is known of one second of the measured time, or behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BySecond {
    pub(crate) counts: Second,
    /// Errors that were counted in it, whatever their names.
    pub(crate) errors: u64,
    /// Connections that were confirmed and open at its end.
    pub(crate) open: u64,
    /// The most that the generator itself was late in it, in nanoseconds; `None` where nothing was
    /// due.
    pub(crate) lag: Option<u64>,
    /// How long the answers took that came in it, since their messages were due: as many as are
    /// counted as `echoed`.
    pub(crate) response: Packed,
}

impl BySecond {
    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: BySecond) {
        self.counts.merge(&other.counts);
        self.errors += other.errors;
        self.open += other.open;
        self.lag = self.lag.max(other.lag);
        self.response.add(other.response);
    }
}
