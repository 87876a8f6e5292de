//! The counters and the histograms of a run. They only grow.
//!
//! Each is named here, and nowhere else: [`counted!`] makes the struct, its sum and its names of one
//! list, and the report for programs tells all of them by these names.

use hdrhistogram::Histogram;

use super::histogram::histogram;

/// Makes a struct of what is counted: its fields, how another one is added to it, and what each is
/// called.
macro_rules! counted {
    (
        $(#[$about:meta])*
        $name:ident: $type:ty = $none:expr;
        $($(#[$doc:meta])* $field:ident,)+
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: $type,)+
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $none),+ }
            }
        }

        impl $name {
            /// Adds another one's.
            pub(crate) fn merge(&mut self, other: &$name) {
                $(self.$field += &other.$field;)+
            }

            /// Each by its name.
            pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &$type)> {
                [$((stringify!($field), &self.$field)),+].into_iter()
            }
        }
    };
}

counted! {
    /// How long things took, in nanoseconds.
    Latency: Histogram<u64> = histogram();
    /// From the dial to the connection.
    connect,
    /// From the dial to the first answer.
    first_echo,
    /// From when a message should have been sent to its answer: what a user of the server feels. In
    /// a closed loop that is when it was sent.
    response,
    /// From when a message was sent to its answer: what the server took.
    service,
}

counted! {
    /// How well a schedule was kept, that of the open loop or of heartbeats: how late messages were
    /// sent, in nanoseconds. Empty in a closed loop.
    Schedule: Histogram<u64> = histogram();
    /// All of it.
    pacing_error,
    /// What was the generator's own doing: the time in which no connection could take them is left
    /// out.
    own_lag,
}

counted! {
    /// The ledger of connections (for UDP: of sockets, which are established as soon as they are
    /// bound).
    ///
    /// Each dial ends as established, refused, timed out, failed otherwise, or is still dialing
    /// when the run ends. With `--churn` or `--lifetime` there are more dials than were asked for;
    /// `redialed` says how many. Without them nobody is dialed in place of a connection that was
    /// lost: it's missing to the end.
    #[derive(Copy, PartialEq, Eq)]
    Ledger: u64 = 0;
    /// What `--connections` says.
    asked,
    /// Dials begun.
    dialed,
    /// Of these, to replace a connection that had ended, or a dial that had failed; only with
    /// `--churn` or `--lifetime`.
    redialed,
    /// Connections that the load closed and whose next one was confirmed, within the measured
    /// time: the churn that was reached.
    replaced,
    /// Dials that came to a connection.
    established,
    /// Connections that an echo has come back on, at least one.
    confirmed,
    /// The most that were confirmed and open at one time, over all threads: no thread knows it
    /// alone, and no sum tells it.
    peak_confirmed,
    /// Connections that ended though the load had not ended them, or that it cut off because of
    /// a corrupt answer.
    lost,
    /// Connections that the load itself ended.
    closed,
    /// Dials that were refused.
    refused,
    /// Dials that took longer than the connect timeout, or the system's own.
    timed_out,
    /// Dials that failed in any other way.
    failed,
    /// Dials that had come to nothing yet when the run ended.
    dialing,
    /// Connections that were open when the run ended, before the load closed them.
    open,
    /// Of these, the ones that no echo ever came back on.
    silent,
    /// Of those asked for, how many were not there when the run ended: never had, or lost and
    /// not replaced. Those that the load itself had closed, and was about to replace, are not
    /// among them.
    missing,
}

counted! {
    /// The messages of the measured time (not of the ramp and the warm-up, and not those that
    /// confirm a connection: these are [`Messages::unmeasured`]); datagrams are messages too.
    #[derive(Copy, PartialEq, Eq)]
    Messages: u64 = 0;
    /// Handed to the socket's connection.
    sent,
    /// Answered in full, within the message timeout or not.
    echoed,
    /// Answers that came within the measured time, also to messages of the warm-up: what the
    /// rate is made of. What was due in that time and is answered behind it would make a server
    /// that falls behind look as if it did not.
    in_time,
    /// Answered with what was sent, as far as `--verify` looks.
    verified,
    /// Answers that were something else, those to messages that are not measured among them:
    /// one is one too many. A message that was answered so is not `echoed`.
    corrupt,
    /// Not answered within the message timeout. Those that were answered later are `echoed`
    /// too.
    timed_out,
    /// Answered after the message timeout; counted among `echoed` and `timed_out` too.
    late,
    /// Not answered when their connection ended; datagrams that were never answered.
    lost,
    /// Still under way when the run ended.
    outstanding,
    /// Due by the schedule of the open loop, or asked for with `--messages`, and never sent: no
    /// connection could take them, or the system refused to.
    unsent,
    /// Messages outside of the measured time: to confirm a connection, and to warm up.
    unmeasured,
}

counted! {
    /// Bytes on the wire as applications see them, frames included; of the measured time.
    #[derive(Copy, PartialEq, Eq)]
    Bytes: u64 = 0;
    /// Written.
    sent,
    /// Read.
    received,
    /// What went either way within the measured time, as [`Messages::in_time`].
    sent_in_time,
    received_in_time,
    /// Of the whole run: came when nothing was asked for. Only with `--verify off`, which tells
    /// answers apart by their length; with any other they are corrupt.
    surplus,
}

counted! {
    /// Datagrams of the measured time, over all flows. `sent = received + lost + outstanding` once
    /// all is counted, where `received` counts each datagram once however often it came.
    #[derive(Copy, PartialEq, Eq)]
    Datagrams: u64 = 0;
    /// Sent.
    sent,
    /// Answered within the message timeout or after it, each counted once.
    received,
    /// Never answered.
    lost,
    /// Not answered yet when the run was interrupted, with time left to come.
    outstanding,
    /// Answered after the message timeout; counted among `received` too.
    late,
    /// Answers beyond the first.
    duplicated,
    /// Answers that came after that of a later datagram.
    reordered,
    /// Answers that are none of what was sent.
    corrupt,
    /// Sends that the system refused: no room, or no answer behind the port. Not counted as
    /// sent.
    dropped,
}

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
    /// Bytes sent.
    sent_bytes,
    /// Bytes received.
    received_bytes,
}

impl Messages {
    /// Messages of the measured time that were due.
    pub(crate) fn due(&self) -> u64 {
        self.sent + self.unsent
    }

    /// Of these, the ones that no answer came to, so that no histogram has them.
    pub(crate) fn unanswered(&self) -> u64 {
        self.lost + self.outstanding + self.unsent
    }
}

impl Second {
    /// What has happened since `before`.
    pub(crate) fn since(&self, before: &Second) -> Second {
        Second {
            sent: self.sent - before.sent,
            echoed: self.echoed - before.echoed,
            sent_bytes: self.sent_bytes - before.sent_bytes,
            received_bytes: self.received_bytes - before.received_bytes,
        }
    }
}
