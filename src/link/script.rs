//! A stream that does what a script says, for tests of the link without sockets.
//!
//! It's as hard on its link as an edge-triggered poll is: it says once that bytes came, or that
//! there is room again, and never reminds. A link that forgets what it was told is stranded, and
//! its test fails.

use std::collections::VecDeque;
use std::io;

use nix::errno::Errno;

use crate::nonblocking::Stream;
use crate::readiness::Readiness;

/// One line of what the peer sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// These bytes, in one or more reads as the reader has room.
    Bytes(Vec<u8>),
    /// Nothing more for now: what follows has not arrived until [`Script::arrive`].
    Blocked,
    /// A signal interrupts a read.
    Interrupted,
    /// TCP's urgent mark: a read stops short of it.
    Urgent,
    /// The peer has finished.
    Eof,
    /// The connection is broken.
    Error(Errno),
}

/// One line of what the socket takes. When all are used up, it takes everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Room for so many bytes.
    Take(usize),
    /// No room, until [`Script::make_room`].
    Blocked,
    /// A signal interrupts a write.
    Interrupted,
    /// The connection is broken.
    Error(Errno),
}

/// How often each call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) reads: usize,
    pub(super) writes: usize,
    pub(super) gathered_writes: usize,
    pub(super) fins: usize,
    pub(super) resets: usize,
}

/// A scripted stream.
///
/// With `SHORT` it's as a socket under epoll: bytes that arrived one after the other are read in
/// one piece, a short read or write shows that the socket is empty or full (but for the end, an
/// error and the urgent mark behind the bytes), every arrival is an event, and room is one after a
/// short or refused write. Without `SHORT` it's as under mio's poll(2) backend: a read or write may
/// come short at every line of the script, and an event comes only after a refusal.
#[derive(Debug)]
pub(super) struct Script<const SHORT: bool> {
    reads: VecDeque<Read>,
    writes: VecDeque<Write>,
    /// What the link has written.
    pub(super) written: Vec<u8>,
    /// Bytes that the link has read.
    pub(super) read: usize,
    pub(super) calls: Calls,
    /// What [`Stream::shutdown_write`] fails with.
    pub(super) fin_fails: Option<Errno>,
    /// What [`Stream::take_error`] has to tell, once.
    pub(super) error: Option<Errno>,
    /// What [`Stream::in_flight`] tells.
    pub(super) in_flight: Option<u32>,
    /// Interruptions that later calls will see, because this one had bytes to give.
    owed_interruptions: usize,
    /// The end or an error was read: whoever reads again is lost.
    read_over: bool,
    write_broken: bool,
    /// A read was refused since the last event (poll(2) reminds of nothing before).
    read_armed: bool,
    /// A write was refused, or under epoll came short, since there was room last.
    write_armed: bool,
}

impl<const SHORT: bool> Script<SHORT> {
    /// A stream on which nothing has arrived yet, and which has room as far as the first lines of
    /// `writes` say.
    pub(super) fn new(
        reads: impl IntoIterator<Item = Read>,
        writes: impl IntoIterator<Item = Write>,
    ) -> Script<SHORT> {
        Script {
            reads: std::iter::once(Read::Blocked).chain(reads).collect(),
            writes: writes.into_iter().collect(),
            written: Vec::new(),
            read: 0,
            calls: Calls::default(),
            fin_fails: None,
            error: None,
            in_flight: None,
            owed_interruptions: 0,
            read_over: false,
            write_broken: false,
            read_armed: true,
            write_armed: false,
        }
    }

    /// Lets what stands before the next `Blocked` arrive. Gives the event for it, which is empty
    /// where the backend would be silent; `None` when nothing more comes.
    pub(super) fn arrive(&mut self) -> Option<Readiness> {
        let at = self.reads.iter().position(|read| *read == Read::Blocked)?;
        self.reads.remove(at);
        let mut event = Readiness::READABLE;
        for read in self.reads.range(at..) {
            match read {
                Read::Blocked => break,
                Read::Bytes(_) | Read::Interrupted => {}
                Read::Urgent => event |= Readiness::PRIORITY,
                Read::Eof => event |= Readiness::READ_CLOSED,
                Read::Error(_) => {
                    event |= Readiness::ERROR | Readiness::READ_CLOSED | Readiness::WRITE_CLOSED;
                }
            }
        }
        let silent = !SHORT && !std::mem::replace(&mut self.read_armed, false);
        Some(if silent { Readiness::EMPTY } else { event })
    }

    /// Frees the room that stands behind the next `Blocked`. Gives the event for it, which is empty
    /// where the backend would be silent; `None` when nobody waits for room.
    pub(super) fn make_room(&mut self) -> Option<Readiness> {
        if !std::mem::replace(&mut self.write_armed, false) {
            return None;
        }
        if self.writes.front() == Some(&Write::Blocked) {
            self.writes.pop_front();
        }
        Some(match self.writes.front() {
            Some(Write::Error(_)) => Readiness::ERROR | Readiness::WRITE_CLOSED,
            _ => Readiness::WRITABLE,
        })
    }

    /// Puts `room` behind the refusal that stands first.
    pub(super) fn set_room(&mut self, room: impl IntoIterator<Item = Write>) {
        assert_eq!(self.writes.front(), Some(&Write::Blocked));
        self.writes.truncate(1);
        self.writes.extend(room);
    }

    /// Whether all of the script has been read, or will never be.
    pub(super) fn is_read_out(&self) -> bool {
        self.read_over || self.reads.is_empty()
    }

    /// One write of `asked` bytes: how many are taken.
    fn take(&mut self, asked: usize) -> io::Result<usize> {
        assert!(asked > 0, "a write of nothing");
        assert_eq!(self.calls.fins, 0, "a write after our FIN");
        if self.write_broken {
            return Err(Errno::EPIPE.into());
        }
        let mut taken = 0;
        while taken < asked {
            match self.writes.front_mut() {
                None => taken = asked,
                Some(Write::Take(room)) => {
                    let count = (*room).min(asked - taken);
                    taken += count;
                    *room -= count;
                    if *room == 0 || !SHORT {
                        self.writes.pop_front();
                    }
                    if !SHORT && count > 0 {
                        break;
                    }
                }
                Some(Write::Blocked) => break,
                // The bytes that were taken are told first, and these by the next call.
                Some(Write::Interrupted) if taken > 0 && SHORT => {
                    self.writes.pop_front();
                    self.owed_interruptions += 1;
                }
                Some(Write::Interrupted | Write::Error(_)) if taken > 0 => break,
                Some(Write::Interrupted) => {
                    self.writes.pop_front();
                    return Err(Errno::EINTR.into());
                }
                Some(Write::Error(errno)) => {
                    self.write_broken = true;
                    return Err((*errno).into());
                }
            }
        }
        self.write_armed |= taken == 0 || (SHORT && taken < asked);
        if taken == 0 {
            return Err(Errno::EAGAIN.into());
        }
        Ok(taken)
    }

    /// Whether this call is to be interrupted because an earlier one could not be.
    fn is_interrupted(&mut self) -> bool {
        let owed = self.owed_interruptions > 0;
        self.owed_interruptions -= usize::from(owed);
        owed
    }
}

impl<const SHORT: bool> Stream for Script<SHORT> {
    fn short_is_blocked(&self) -> bool {
        SHORT
    }

    fn tells_delivery(&self) -> bool {
        true
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls.reads += 1;
        assert!(!buffer.is_empty(), "a read into nothing");
        assert!(!self.read_over, "a read after the end");
        if self.is_interrupted() {
            return Err(Errno::EINTR.into());
        }
        let mut count = 0;
        while count < buffer.len() {
            match self.reads.front_mut() {
                None | Some(Read::Blocked) => break,
                Some(Read::Bytes(bytes)) => {
                    let part = bytes.len().min(buffer.len() - count);
                    buffer[count..count + part].copy_from_slice(&bytes[..part]);
                    bytes.drain(..part);
                    count += part;
                    if bytes.is_empty() {
                        self.reads.pop_front();
                    }
                    if !SHORT && part > 0 {
                        break;
                    }
                }
                Some(Read::Interrupted) => {
                    self.reads.pop_front();
                    if count == 0 {
                        return Err(Errno::EINTR.into());
                    }
                    self.owed_interruptions += 1;
                }
                Some(Read::Urgent | Read::Eof | Read::Error(_)) if count > 0 => break,
                Some(Read::Urgent) => {
                    self.reads.pop_front();
                }
                Some(Read::Eof) => {
                    self.read_over = true;
                    return Ok(0);
                }
                Some(Read::Error(errno)) => {
                    self.read_over = true;
                    return Err((*errno).into());
                }
            }
        }
        self.read += count;
        if count == 0 {
            self.read_armed = true;
            return Err(Errno::EAGAIN.into());
        }
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls.writes += 1;
        if self.is_interrupted() {
            return Err(Errno::EINTR.into());
        }
        let taken = self.take(bytes.len())?;
        self.written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn write_two(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.calls.gathered_writes += 1;
        if self.is_interrupted() {
            return Err(Errno::EINTR.into());
        }
        let taken = self.take(first.len() + second.len())?;
        let of_first = taken.min(first.len());
        self.written.extend_from_slice(&first[..of_first]);
        self.written.extend_from_slice(&second[..taken - of_first]);
        Ok(taken)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.calls.fins += 1;
        self.fin_fails.map_or(Ok(()), |errno| Err(errno.into()))
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(self.error.take().map(io::Error::from))
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        self.calls.resets += 1;
        Ok(())
    }

    fn in_flight(&mut self) -> Option<u32> {
        self.in_flight
    }
}
