//! The only place that reads `WouldBlock` and `Interrupted`.
//!
//! Non-blocking calls answer in four ways: some bytes, "not now", "never again" and "broken". `std`
//! says the second as an error and the third as `Ok(0)`, which is easy to mistake for each other's
//! opposite. [`Outcome`] gives each its name, and what is left in `io::Error` is an error indeed.

use std::io;

/// What a non-blocking stream must be able to do: the connection's state machine knows no more of
/// its socket.
///
/// Every method is one attempt. `WouldBlock` and `Interrupted` are passed on as they come;
/// [`read`], [`write`] and [`write_two`] deal with them.
pub(crate) trait Stream {
    /// Whether a short read or write shows that the socket's buffer is empty or full, so that the
    /// call that would only say `WouldBlock` can be saved: as with epoll and kqueue, whose edges
    /// come from the socket itself. Not with mio's poll(2) backend (`net/poll2.rs`).
    fn short_is_blocked(&self) -> bool;

    /// Whether an event comes with the peer's last acknowledgement. Not with mio's poll(2) backend.
    fn tells_delivery(&self) -> bool;

    /// Reads into `buffer`; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// As the socket gives them.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes `bytes`, without raising SIGPIPE.
    ///
    /// # Errors
    /// As the socket gives them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes `first` and then `second` in one system call, without raising SIGPIPE.
    ///
    /// # Errors
    /// As the socket gives them.
    fn write_two(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize>;

    /// Sends our FIN: the peer reads the end of the stream after what was written.
    ///
    /// # Errors
    /// As the socket gives them; `NotConnected` when the peer has reset the connection.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// How many bytes, or some number that falls with them, the peer has yet to acknowledge or, at
    /// a Unix socket, to read: when it falls, the peer has made progress. `None`: unknown.
    fn unread(&mut self) -> Option<u32> {
        self.in_flight()
    }

    /// Takes the error that the socket has stored, if any: the only one to tell of a reset that
    /// comes after the peer's end, for reads only say the end again.
    ///
    /// # Errors
    /// When the socket can't be asked.
    fn take_error(&mut self) -> io::Result<Option<io::Error>>;

    /// Makes the close that follows send a reset instead of a FIN.
    ///
    /// # Errors
    /// As the socket gives them.
    fn reset_on_close(&mut self) -> io::Result<()>;

    /// Memory in bytes that the system holds for output which the peer has not acknowledged; 0: all
    /// of it is acknowledged, our FIN too. It counts the system's own structures with the bytes, so
    /// it tells that acknowledgements go on, and not how many bytes they are for. `None`: the
    /// system doesn't say, as of a Unix socket whose peer has something to read.
    fn in_flight(&mut self) -> Option<u32> {
        None
    }

    /// Whether memory may be asked for, to keep more of this connection. Only a simulated system
    /// ever says no: there the allocator itself never does.
    fn may_allocate(&mut self) -> bool {
        true
    }
}

/// What one non-blocking read or write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This many bytes, at least one.
    Ready(usize),
    /// Not now: an event will tell.
    Blocked,
    /// The peer has finished; of reads only.
    Eof,
}

/// Says that where this is called is rarely come to, so that the compiler takes the other way for
/// the one to inline on.
#[cold]
pub(crate) fn rarely() {}

/// Reads once into `buffer`, which must not be empty.
///
/// # Errors
/// Whatever is neither "not now" nor "interrupted".
#[inline(always)]
pub(crate) fn read<S: Stream>(stream: &mut S, buffer: &mut [u8]) -> io::Result<Outcome> {
    match stream.read(buffer) {
        Ok(count) if count > 0 => Ok(Outcome::Ready(count)),
        first => sort(first, || stream.read(buffer), Outcome::Eof),
    }
}

/// Writes `bytes`, which must not be empty, once.
///
/// # Errors
/// Whatever is neither "not now" nor "interrupted".
#[inline(always)]
pub(crate) fn write<S: Stream>(stream: &mut S, bytes: &[u8]) -> io::Result<Outcome> {
    write_whole(stream, bytes).unwrap_or(Ok(Outcome::Ready(bytes.len())))
}

/// Writes `bytes`, which must not be empty, once. `None`: all of them are out, as nearly always;
/// otherwise what [`write`] says.
#[inline(always)]
pub(crate) fn write_whole<S: Stream>(stream: &mut S, bytes: &[u8]) -> Option<io::Result<Outcome>> {
    match stream.write(bytes) {
        Ok(count) if count == bytes.len() => None,
        first => Some(sort(first, || stream.write(bytes), Outcome::Blocked)),
    }
}

/// Writes `first`, then `second`, once; they must not both be empty.
///
/// # Errors
/// Whatever is neither "not now" nor "interrupted".
pub(crate) fn write_two<S: Stream>(
    stream: &mut S,
    first: &[u8],
    second: &[u8],
) -> io::Result<Outcome> {
    sort(
        stream.write_two(first, second),
        || stream.write_two(first, second),
        Outcome::Blocked,
    )
}

/// Sorts the answer of a call, and calls again while a signal interrupts. `zero` is what no bytes
/// at all mean: the end for a read; for a write of something POSIX knows no such answer, and
/// waiting for the next edge is the harmless reading of it. Out of line: the answer that most calls
/// give is seen to before.
#[cold]
#[inline(never)]
fn sort(
    mut answer: io::Result<usize>,
    mut call: impl FnMut() -> io::Result<usize>,
    zero: Outcome,
) -> io::Result<Outcome> {
    loop {
        match answer {
            Ok(0) => return Ok(zero),
            Ok(count) => return Ok(Outcome::Ready(count)),
            Err(error) if is_blocked(&error) => return Ok(Outcome::Blocked),
            Err(error) if is_interrupted(&error) => answer = call(),
            Err(error) => return Err(error),
        }
    }
}

/// Whether `error` only says "not now".
///
/// mio's poll(2) backend answers `NotFound` for a descriptor that it dropped after a hang-up, and
/// means the same. A `NotFound` of the system's own has an error number.
#[inline]
pub(crate) fn is_blocked(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::WouldBlock => true,
        io::ErrorKind::NotFound => error.raw_os_error().is_none(),
        _ => false,
    }
}

/// An error that says "not now", for what has its own way of saying so.
pub(crate) fn not_now() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

/// Whether `error` only says that a signal came: the call is to be made again.
#[inline]
pub(crate) fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}
