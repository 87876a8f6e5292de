//! The counters of a run: of connections, messages, bytes and datagrams. They only grow.

/// The ledger of connections (for UDP: of sockets, which are established as soon as they are
/// bound).
///
/// Each dial ends as established, refused, timed out, failed otherwise, or is still dialing when
/// the run ends. With `--churn` or `--lifetime` there are more dials than were asked for;
/// `redialed` says how many. Without them nobody is dialed in place of a connection that was lost:
/// it's missing to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// What `--connections` says.
    pub(crate) asked: u64,
    /// Dials begun.
    pub(crate) dialed: u64,
    /// Of these, to replace a connection that had ended, or a dial that had failed; only with
    /// `--churn` or `--lifetime`.
    pub(crate) redialed: u64,
    /// Connections that the load closed and whose next one was confirmed, within the measured time:
    /// the churn that was reached.
    pub(crate) replaced: u64,
    /// Dials that came to a connection.
    pub(crate) established: u64,
    /// Connections that an echo has come back on, at least one.
    pub(crate) confirmed: u64,
    /// The most that were confirmed and open at one time.
    pub(crate) peak_confirmed: u64,
    /// Connections that ended though the load had not ended them, or that it cut off because of a
    /// corrupt answer.
    pub(crate) lost: u64,
    /// Connections that the load itself ended.
    pub(crate) closed: u64,
    /// Dials that were refused.
    pub(crate) refused: u64,
    /// Dials that took longer than the connect timeout, or the system's own.
    pub(crate) timed_out: u64,
    /// Dials that failed in any other way.
    pub(crate) failed: u64,
    /// Dials that had come to nothing yet when the run ended.
    pub(crate) dialing: u64,
    /// Connections that were open when the run ended, before the load closed them.
    pub(crate) open: u64,
    /// Of these, the ones that no echo ever came back on.
    pub(crate) silent: u64,
    /// Of those asked for, how many were not there when the run ended: never had, or lost and not
    /// replaced. Those that the load itself had closed, and was about to replace, are not among
    /// them.
    pub(crate) missing: u64,
}

/// The messages of the measured time (not of the ramp and the warm-up, and not those that confirm a
/// connection: these are [`Messages::unmeasured`]); datagrams are messages too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Messages {
    /// Handed to the socket's connection.
    pub(crate) sent: u64,
    /// Answered in full, within the message timeout or not.
    pub(crate) echoed: u64,
    /// Of these, answered before the measured time was over: what the rate is made of. What was due
    /// in it and is answered behind it would make a server that falls behind look as if it did not.
    pub(crate) in_time: u64,
    /// Answered with what was sent, as far as `--verify` looks.
    pub(crate) verified: u64,
    /// Answers that were something else, those to messages that are not measured among them: one is
    /// one too many. A message that was answered so is not `echoed`.
    pub(crate) corrupt: u64,
    /// Not answered within the message timeout. Those that were answered later are `echoed` too.
    pub(crate) timed_out: u64,
    /// Answered after the message timeout; counted among `echoed` and `timed_out` too.
    pub(crate) late: u64,
    /// Not answered when their connection ended; datagrams that were never answered.
    pub(crate) lost: u64,
    /// Still under way when the run ended.
    pub(crate) outstanding: u64,
    /// Due by the schedule of the open loop, or asked for with `--messages`, and never sent.
    pub(crate) unsent: u64,
    /// Messages outside of the measured time: to confirm a connection, and to warm up.
    pub(crate) unmeasured: u64,
}

/// Bytes on the wire as applications see them, frames included; of the measured time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// Written.
    pub(crate) sent: u64,
    /// Read.
    pub(crate) received: u64,
    /// Of these, before the measured time was over.
    pub(crate) sent_in_time: u64,
    pub(crate) received_in_time: u64,
    /// Of the whole run: came when nothing was asked for. Only with `--verify off`, which tells
    /// answers apart by their length; with any other they are corrupt.
    pub(crate) surplus: u64,
}

/// Datagrams of the measured time, over all flows. `sent = received + lost + outstanding` once all
/// is counted, where `received` counts each datagram once however often it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Datagrams {
    /// Sent.
    pub(crate) sent: u64,
    /// Answered within the message timeout or after it, each counted once.
    pub(crate) received: u64,
    /// Never answered.
    pub(crate) lost: u64,
    /// Not answered yet when the run was interrupted, with time left to come.
    pub(crate) outstanding: u64,
    /// Answered after the message timeout; counted among `received` too.
    pub(crate) late: u64,
    /// Answers beyond the first.
    pub(crate) duplicated: u64,
    /// Answers that came after that of a later datagram.
    pub(crate) reordered: u64,
    /// Answers that are none of what was sent.
    pub(crate) corrupt: u64,
    /// Sends that the system refused: no room, or no answer behind the port. Not counted as sent.
    pub(crate) dropped: u64,
}

/// One second of the measured time. Seconds behind it hold the answers that came while they were
/// waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Second {
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages answered.
    pub(crate) echoed: u64,
    /// Bytes received.
    pub(crate) received: u64,
}

/// Adds the fields of one struct of counters to another's.
macro_rules! add {
    ($to:expr, $from:expr, $($field:ident),+) => {
        $($to.$field += $from.$field;)+
    };
}

impl Ledger {
    /// Adds another thread's. The peaks of threads need not be at one time: their sum is a bound,
    /// and exact where connections are held.
    pub(super) fn merge(&mut self, other: &Ledger) {
        add!(
            self,
            other,
            asked,
            dialed,
            redialed,
            replaced,
            established,
            confirmed,
            peak_confirmed,
            lost,
            closed,
            refused,
            timed_out,
            failed,
            dialing,
            open,
            silent,
            missing
        );
    }
}

impl Bytes {
    /// Adds another thread's.
    pub(super) fn merge(&mut self, other: &Bytes) {
        add!(
            self,
            other,
            sent,
            received,
            sent_in_time,
            received_in_time,
            surplus
        );
    }
}

impl Messages {
    /// Adds another thread's.
    pub(super) fn merge(&mut self, other: &Messages) {
        add!(
            self,
            other,
            sent,
            echoed,
            in_time,
            verified,
            corrupt,
            timed_out,
            late,
            lost,
            outstanding,
            unsent,
            unmeasured
        );
    }

    /// Messages of the measured time that were due.
    pub(crate) fn due(&self) -> u64 {
        self.sent + self.unsent
    }

    /// Of these, the ones that no answer came to, so that no histogram has them.
    pub(crate) fn unanswered(&self) -> u64 {
        self.lost + self.outstanding + self.unsent
    }
}

impl Datagrams {
    /// Adds another flow's.
    pub(crate) fn merge(&mut self, other: &Datagrams) {
        add!(
            self,
            other,
            sent,
            received,
            lost,
            outstanding,
            late,
            duplicated,
            reordered,
            corrupt,
            dropped
        );
    }
}

impl Second {
    /// Adds the same second of another thread.
    pub(super) fn merge(&mut self, other: &Second) {
        add!(self, other, sent, echoed, received);
    }
}
