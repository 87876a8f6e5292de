//! What the threads of standard input and output tell the loop, and how the log shows a message.

use std::io;

use oread::Address;
use oread::escape::Escaped;

/// What the threads tell the loop.
#[derive(Debug)]
pub(super) enum Message {
    /// A piece of standard input, of at least a byte.
    Input(Vec<u8>),
    /// Standard input has ended, or failed.
    InputEnd(Option<io::Error>),
    /// Standard output has room again.
    Room,
    /// Standard output can't be written any more; `Output::finish` says why.
    OutputFailed,
}

/// Bytes of a message that a log line shows, as in a server's.
const SHOWN: usize = 256;

/// Logs a message, or in raw framing a piece of the stream, if anybody asked for that.
pub(super) fn log_message(what: &str, peer: Option<&Address>, bytes: &[u8]) {
    if let Some(peer) = peer
        && log::log_enabled!(log::Level::Trace)
    {
        log::trace!("{what} {peer}: {}", Escaped::new(bytes).limit(SHOWN));
    }
}
