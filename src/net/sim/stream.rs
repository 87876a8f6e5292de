//! The calls on a stream, as its holder makes them, and their answers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::faults::Fault;
use super::schedule::What;
use super::tcp::{End, Fin, Phase, RESEND};
use super::watch::{BOTH, READ, Side, Target, WRITE, Watch};
use super::{Owner, State};
use crate::nonblocking::not_now;

impl State {
    /// "Not now", as mio passes it on.
    pub(super) fn blocked(&mut self, target: Target) -> io::Error {
        match self.rearm(target) {
            true => io::ErrorKind::NotFound.into(),
            false => not_now(),
        }
    }

    /// "Not now", which an event follows soon: what was looked for comes right after the call.
    pub(super) fn not_yet(&mut self, target: Target, what: u8, fault: Fault) -> io::Error {
        self.follow(target, what, fault);
        self.blocked(target)
    }

    /// What was held back comes, with its event; when that is.
    fn follow(&mut self, target: Target, what: u8, fault: Fault) -> Duration {
        let late = 1 + self.faults.below(fault, 20_000);
        let at = self.now + Duration::from_nanos(late);
        self.schedule.at(at, What::Poke(target, what));
        at
    }

    /// Whether a signal interrupts this call: up to three times in a row.
    fn is_interrupted(&mut self, side: Side, fault: Fault) -> bool {
        let hit = self.faults.hit(fault);
        let more = self.faults.below(fault, 3) as u8;
        let Some(end) = self.end(side) else {
            return false;
        };
        if end.interrupted > 1 {
            end.interrupted -= 1;
            return true;
        }
        let again = end.interrupted == 1;
        end.interrupted = 0;
        if hit && !again {
            end.interrupted = 1 + more;
            return true;
        }
        false
    }

    /// A read of a process, with its faults.
    pub(super) fn read_call(&mut self, side: Side, buffer: &mut [u8]) -> io::Result<usize> {
        let target = Target::Stream(side);
        // What mio's poll(2) has dropped after a hang-up has all there is, and no event will come.
        let dropped = matches!(self.watch_of(target), Some(Watch::Dropped));
        if !dropped && self.faults.hit(Fault::ReadBlocked) {
            return Err(self.not_yet(target, READ, Fault::ReadBlocked));
        }
        if self.is_interrupted(side, Fault::ReadInterrupted) {
            return Err(Errno::EINTR.into());
        }
        let now = self.now;
        if !dropped && self.end(side).is_some_and(|end| now < end.full_until) {
            return Err(self.blocked(target));
        }
        let mut room = buffer.len();
        let way = self.way(side.other());
        let (available, urgent) = way.map_or((0, None), |way| (way.available(), way.urgent));
        // Where an end or an urgent byte is known of, all before it is there as well.
        let is_open = |end: &mut End| !end.finished && end.phase != Phase::Over;
        let goes_on = urgent.is_none() && self.end(side).is_some_and(is_open);
        let is_full = goes_on && available > room as u64 && self.faults.hit(Fault::ReadFull);
        if available > 1 && room > 1 && self.faults.hit(Fault::ReadOneByte) {
            room = 1;
            self.follow(target, READ, Fault::ReadOneByte);
        } else if available > 1 && self.faults.hit(Fault::ReadShort) {
            let short = 1 + self.faults.below(Fault::ReadShort, available - 1) as usize;
            if short < room {
                room = short;
                self.follow(target, READ, Fault::ReadShort);
            }
        }
        match self.read(side, &mut buffer[..room]) {
            None => Err(self.blocked(target)),
            Some(Ok(count)) => {
                if is_full && count == buffer.len() {
                    let at = self.follow(target, READ, Fault::ReadFull);
                    if let Some(end) = self.end(side) {
                        end.full_until = at;
                    }
                }
                Ok(count)
            }
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// What a read finds; `None`: nothing yet.
    pub(super) fn read(&mut self, side: Side, buffer: &mut [u8]) -> Option<Result<usize, Errno>> {
        let Some(connection) = self.connection(side.connection) else {
            return Some(Ok(0));
        };
        let way = &mut connection.ways[usize::from(1 - side.end)];
        if way.urgent == Some(way.read) && way.available() > 0 {
            way.skip(1);
        }
        let mut count = way.available().min(buffer.len() as u64);
        if let Some(mark) = way.urgent {
            count = count.min(mark - way.read);
        }
        if count > 0 {
            copy(&way.bytes, &mut buffer[..count as usize]);
            way.skip(count);
            self.idle.moved += 1;
            self.open_window(side.other());
            return Some(Ok(count as usize));
        }
        let end = &mut connection.ends[usize::from(side.end)];
        if end.finished && !end.bsd {
            // The error that came after stays, for SO_ERROR.
            return Some(Ok(0));
        }
        if let Some(error) = end.error.take() {
            return Some(Err(error));
        }
        (end.finished || end.phase == Phase::Over).then_some(Ok(0))
    }

    /// A write of a process, with its faults.
    pub(super) fn write_call(
        &mut self,
        side: Side,
        first: &[u8],
        second: &[u8],
    ) -> io::Result<usize> {
        let target = Target::Stream(side);
        if self.is_interrupted(side, Fault::WriteInterrupted) {
            return Err(Errno::EINTR.into());
        }
        let whole = first.len() + second.len();
        let is_open = self
            .end(side)
            .is_some_and(|end| end.phase == Phase::Established && !end.shut && end.error.is_none());
        let mut most = whole;
        if is_open && whole > 0 && self.faults.hit(Fault::ResetBeforeWrite) {
            self.reset_arrives(side);
        } else if is_open && whole > 0 {
            if self.faults.hit(Fault::WriteBlocked) {
                return Err(self.not_yet(target, WRITE, Fault::WriteBlocked));
            }
            if whole > 1 && self.faults.hit(Fault::WriteOneByte) {
                most = 1;
                self.follow(target, WRITE, Fault::WriteOneByte);
            } else if whole > 1 && self.faults.hit(Fault::WriteShort) {
                most = 1 + self.faults.below(Fault::WriteShort, whole as u64 - 1) as usize;
                self.follow(target, WRITE, Fault::WriteShort);
            }
        }
        let of_first = first.len().min(most);
        let of_second = second.len().min(most - of_first);
        match self.write(side, &first[..of_first], &second[..of_second]) {
            None => Err(self.blocked(target)),
            Some(Ok(count)) => Ok(count),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// What a write comes to; `None`: there is no room.
    pub(super) fn write(
        &mut self,
        side: Side,
        first: &[u8],
        second: &[u8],
    ) -> Option<Result<usize, Errno>> {
        let Some(end) = self.end(side) else {
            return Some(Err(Errno::EPIPE));
        };
        match end.phase {
            Phase::Dialing if end.error.is_none() => {
                return end.bsd.then_some(Err(Errno::ENOTCONN));
            }
            Phase::Over if end.bsd => return Some(Err(Errno::EPIPE)),
            _ => {}
        }
        if let Some(error) = end.error.take() {
            return Some(Err(error));
        }
        if end.shut || end.phase == Phase::Over {
            return Some(Err(Errno::EPIPE));
        }
        let count = self.push(side, first, second);
        (count > 0 || first.len() + second.len() == 0).then_some(Ok(count))
    }

    /// `send` with `MSG_OOB`; the kind of its error.
    #[cfg(test)]
    pub(super) fn write_urgent(&mut self, side: Side, byte: u8) -> Result<usize, io::ErrorKind> {
        match self.write(side, &[], &[]) {
            Some(Err(error)) => Err(io::Error::from(error).kind()),
            _ => Ok(usize::from(self.push_urgent(side, byte))),
        }
    }

    /// `shutdown(SHUT_WR)` of a process.
    pub(super) fn shutdown_call(&mut self, side: Side) -> io::Result<()> {
        let fails = self.faults.hit(Fault::ShutdownFails);
        match self.end(side).map(|end| end.phase) {
            None | Some(Phase::Over) => {
                // Linux wakes whoever polls it even then (`inet_shutdown`).
                self.poke(Target::Stream(side), BOTH);
                return Err(Errno::ENOTCONN.into());
            }
            Some(Phase::Dialing) => {
                // Linux gives the dial up (`inet_shutdown`); BSD says that it is not connected.
                self.abort(side);
                return Err(Errno::ENOTCONN.into());
            }
            Some(Phase::Answering | Phase::Established) => {}
        }
        self.idle.moved += 1;
        if fails {
            // What BSD could not send it sends when it would have sent it again (`tcp_output`).
            self.queue_end(side);
            self.schedule.at(self.now + RESEND, What::Transmit(side));
            return Err(Errno::ENOBUFS.into());
        }
        self.finish(side);
        // Linux wakes whoever polls it, at once.
        self.poke(Target::Stream(side), BOTH);
        Ok(())
    }

    pub(super) fn take_error_call(&mut self, side: Side) -> io::Result<Option<io::Error>> {
        if self.faults.hit(Fault::TakeErrorFails) {
            return Err(Errno::ENOBUFS.into());
        }
        let error = self.end(side).and_then(|end| end.error.take());
        Ok(error.map(io::Error::from))
    }

    /// The peer's address, if there is a peer.
    pub(super) fn peer_addr(&mut self, side: Side) -> io::Result<SocketAddr> {
        match self.end(side) {
            Some(end) if !matches!(end.phase, Phase::Dialing | Phase::Over) => Ok(end.remote),
            _ => Err(Errno::ENOTCONN.into()),
        }
    }

    pub(super) fn local_addr(&mut self, side: Side) -> io::Result<SocketAddr> {
        let end = self.end(side).ok_or(Errno::EBADF)?;
        Ok(end.local)
    }

    /// How a dial went.
    pub(super) fn established(&mut self, side: Side) -> io::Result<bool> {
        if let Some(error) = self.take_error_call(side)? {
            return Err(error);
        }
        match self.peer_addr(side) {
            Ok(peer) if self.local_addr(side)? == peer => Err(Errno::ECONNREFUSED.into()),
            Ok(_) => Ok(true),
            Err(_) => {
                // Should mio have dropped it, its `NotFound` says "not now" as well.
                self.rearm(Target::Stream(side));
                Ok(false)
            }
        }
    }

    /// Memory behind what is unacknowledged, in bytes (`sk_wmem_queued`): the bytes, and so much
    /// for each buffer that they are in.
    pub(super) fn in_flight(&mut self, side: Side) -> Option<u32> {
        let connection = self.connection(side.connection)?;
        let end = &connection.ends[usize::from(side.end)];
        if end.bsd {
            return None;
        }
        if end.phase == Phase::Over {
            return Some(0);
        }
        let way = &connection.ways[usize::from(side.end)];
        let bytes = way.written - way.acknowledged;
        let fin = u64::from(matches!(way.fin, Fin::Queued | Fin::Sent | Fin::Received));
        let buffers = bytes.div_ceil(32_768) + fin;
        u32::try_from(bytes + buffers * 1_280).ok()
    }

    /// Its holder closes it.
    pub(super) fn close(&mut self, side: Side) {
        self.idle.moved += 1;
        self.unwatch(Target::Stream(side));
        let Some(connection) = self.connection(side.connection) else {
            return;
        };
        let unread = connection.ways[usize::from(1 - side.end)].available() > 0;
        let end = &mut connection.ends[usize::from(side.end)];
        end.closed = true;
        end.watch = Watch::None;
        end.owner = Owner::Nobody;
        let resets = unread || end.reset_on_close;
        match end.phase {
            Phase::Over => self.reap(side.connection),
            Phase::Dialing | Phase::Answering => self.abort(side),
            Phase::Established if resets => self.abort(side),
            Phase::Established => {
                self.finish(side);
                self.reap(side.connection);
            }
        }
    }
}

/// The first bytes of `from`, as many as fit.
fn copy(from: &std::collections::VecDeque<u8>, to: &mut [u8]) {
    let (first, second) = from.as_slices();
    let of_first = first.len().min(to.len());
    to[..of_first].copy_from_slice(&first[..of_first]);
    let rest = &mut to[of_first..];
    let of_second = rest.len();
    rest.copy_from_slice(&second[..of_second]);
}
