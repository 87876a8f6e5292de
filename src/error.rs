//! Why a connection ended, or was not begun.

use std::fmt;
use std::io;

/// Why a connection was closed, as [`Handler::on_close`](crate::Handler::on_close) is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both ends have finished: every byte of either direction was passed on, and on Linux the
    /// peer's system has acknowledged ours.
    /// Shown as "both ends finished".
    Finished,
    /// The handler closed it, with [`Connection::close`](crate::Connection::close) and this reason.
    /// Shown as "closed by the handler".
    Closed,
    /// The handler cut it off, with [`Connection::abort`](crate::Connection::abort) and this
    /// reason. Shown as "cut off by the handler".
    Aborted,
    /// The peer reset it, or was gone when we wrote.
    /// Shown as "reset by the peer".
    Reset,
    /// Another error of the socket, by its number (`errno`; 0 where the system gave none).
    /// [`CloseReason::io_error`] makes an `io::Error` of it. Shown in the system's words; 0 as "the
    /// socket failed".
    Failed(u16),
    /// No byte went either way for the connection's idle timeout.
    /// Shown as "idle for too long".
    IdleTimeout,
    /// Pending output made no progress for [`Limits::write_timeout`](crate::Limits::write_timeout),
    /// or the peer didn't acknowledge the last of it for so long.
    /// Shown as "the peer stopped reading".
    WriteTimeout,
    /// The handler went on writing to a peer that didn't read, with
    /// [`Limits::max_output`](crate::Limits::max_output) pending, or as much as
    /// [`Limits::max_pending`](crate::Limits::max_pending) left for one connection.
    /// Shown as "too much output that the peer did not read".
    OutputOverflow,
    /// The handler left [`Limits::max_input`](crate::Limits::max_input) bytes unconsumed, and no
    /// more may be kept. Shown as "too much input that was not consumed".
    InputOverflow,
    /// A frame was longer than the maximum.
    /// Shown as "a frame longer than the maximum".
    FrameTooLong,
    /// The peer finished in the middle of a frame.
    /// Shown as "the peer finished in the middle of a frame".
    FrameIncomplete,
    /// The peer took longer over a frame than
    /// [`Limits::frame_timeout`](crate::Limits::frame_timeout).
    /// Shown as "a frame that took too long".
    FrameTimeout,
    /// The reactor drained: what had arrived was answered, then our side was finished.
    /// Shown as "drained".
    Drained,
    /// The drain's deadline came first: what was pending is lost.
    /// Shown as "cut at the end of the drain".
    Cut,
    /// There was no memory for what it would have had to keep; or it waited for
    /// [`Limits::write_timeout`](crate::Limits::write_timeout) until all connections together kept
    /// less than [`Limits::max_pending`](crate::Limits::max_pending).
    /// Shown as "no memory was left for it".
    OutOfMemory,
    /// The handler took its socket away, with [`Connection::detach`](crate::Connection::detach).
    /// Shown as "detached".
    Detached,
    /// A reason of the handler's own, by a number that means something to it. Shown as "the
    /// handler's reason" and that number.
    Other(u16),
}

/// From one table: the number of each kind of reason, its name, and how it's shown.
macro_rules! kinds {
    ($($kind:ident: $name:literal, $words:literal;)*) => {
        pub(crate) const KINDS: [(&str, &str); [$($name),*].len()] = [$(($name, $words)),*];

        impl CloseReason {
            /// Its place in [`KINDS`].
            pub(crate) const fn kind(self) -> usize {
                enum Kind {
                    $($kind),*
                }
                match self {
                    $(CloseReason::$kind { .. } => Kind::$kind as usize),*
                }
            }
        }
    };
}

kinds! {
    Finished: "finished", "both ends finished";
    Closed: "closed", "closed by the handler";
    Aborted: "aborted", "cut off by the handler";
    Reset: "reset", "reset by the peer";
    Failed: "failed", "the socket failed";
    IdleTimeout: "idle_timeout", "idle for too long";
    WriteTimeout: "write_timeout", "the peer stopped reading";
    OutputOverflow: "output_overflow", "too much output that the peer did not read";
    InputOverflow: "input_overflow", "too much input that was not consumed";
    FrameTooLong: "frame_too_long", "a frame longer than the maximum";
    FrameIncomplete: "frame_incomplete", "the peer finished in the middle of a frame";
    FrameTimeout: "frame_timeout", "a frame that took too long";
    Drained: "drained", "drained";
    Cut: "cut", "cut at the end of the drain";
    OutOfMemory: "out_of_memory", "no memory was left for it";
    Detached: "detached", "detached";
    Other: "other", "the handler's reason";
}

impl CloseReason {
    /// The name of its kind, as counters and logs have it: `"idle_timeout"`, say. The number of a
    /// [`CloseReason::Failed`] or [`CloseReason::Other`] is no part of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        KINDS[self.kind()].0
    }

    /// The system's error behind [`CloseReason::Failed`]; `None` for every other reason.
    #[must_use]
    pub fn io_error(self) -> Option<io::Error> {
        match self {
            CloseReason::Failed(errno) => Some(io::Error::from_raw_os_error(i32::from(errno))),
            _ => None,
        }
    }

    /// A failure with the system's number, whatever it means.
    pub(crate) fn failed(error: &io::Error) -> CloseReason {
        let errno = error
            .raw_os_error()
            .and_then(|errno| u16::try_from(errno).ok());
        CloseReason::Failed(errno.unwrap_or(0))
    }

    /// What a dial ends with that took too long.
    pub(crate) fn timed_out() -> CloseReason {
        CloseReason::Failed(nix::errno::Errno::ETIMEDOUT as u16)
    }

    /// The error that a dial which ended for this reason failed with.
    pub(crate) fn into_connect_error(self) -> io::Error {
        match self.io_error() {
            Some(error) => error,
            None => io::Error::new(io::ErrorKind::ConnectionAborted, self.to_string()),
        }
    }

    /// The reason that an error of a connection's socket amounts to.
    pub(crate) fn from_error(error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => CloseReason::Reset,
            _ => CloseReason::failed(error),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = KINDS[self.kind()].1;
        match self {
            CloseReason::Other(number) => write!(f, "{words} {number}"),
            CloseReason::Failed(1..) => self.io_error().map_or(Ok(()), |error| error.fmt(f)),
            _ => f.write_str(words),
        }
    }
}

/// Why a connection could not be begun, with the session that it was to have. `?` makes an
/// [`io::Error`] of it, and drops the session.
pub struct ConnectError<S> {
    /// The session, given back.
    pub session: S,
    /// What [`Context::connect`](crate::Context::connect) and
    /// [`Context::adopt`](crate::Context::adopt) name.
    pub error: io::Error,
}

impl<S> From<ConnectError<S>> for io::Error {
    fn from(refused: ConnectError<S>) -> io::Error {
        refused.error
    }
}

/// Without the session, which need not be one that can be shown.
impl<S> fmt::Debug for ConnectError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Display for ConnectError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<S> std::error::Error for ConnectError<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, in the order of their numbers.
    const REASONS: [CloseReason; KINDS.len()] = [
        CloseReason::Finished,
        CloseReason::Closed,
        CloseReason::Aborted,
        CloseReason::Reset,
        CloseReason::Failed(0),
        CloseReason::IdleTimeout,
        CloseReason::WriteTimeout,
        CloseReason::OutputOverflow,
        CloseReason::InputOverflow,
        CloseReason::FrameTooLong,
        CloseReason::FrameIncomplete,
        CloseReason::FrameTimeout,
        CloseReason::Drained,
        CloseReason::Cut,
        CloseReason::OutOfMemory,
        CloseReason::Detached,
        CloseReason::Other(1),
    ];

    #[test]
    fn every_kind_has_its_own_name() {
        for (place, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(reason.kind(), place);
        }
    }

    #[test]
    fn the_page_of_reasons_says_how_each_is_shown() {
        let source = include_str!("error.rs").replace("\n    /// ", " ");
        // The last one is shown with a number of the handler's.
        for reason in &REASONS[..REASONS.len() - 1] {
            let words = format!("\"{reason}\".\n    {reason:?}").replace("(0)", "(u16)");
            assert!(source.contains(&words), "{words}");
        }
    }

    #[test]
    fn a_reason_is_small_enough_to_wait_in_a_slot() {
        assert_eq!(size_of::<Option<CloseReason>>(), 4);
    }

    #[test]
    fn a_system_error_keeps_its_number() {
        let reason = CloseReason::from_error(&io::Error::from_raw_os_error(110));
        assert_eq!(reason, CloseReason::Failed(110));
        assert_eq!(
            reason.io_error().and_then(|error| error.raw_os_error()),
            Some(110)
        );
    }
}
