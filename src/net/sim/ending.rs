//! How a connection ends before its time: resets, errors, silence.

use std::time::Duration;

use nix::errno::Errno;

use super::State;
use super::schedule::What;
use super::tcp::{End, Phase, RESEND};
use super::watch::{BOTH, Side, Target};

impl State {
    /// Ends this end by a reset that goes to the peer. What was not sent is lost; the reset may
    /// overtake what was.
    pub(super) fn abort(&mut self, side: Side) {
        let Some(end) = self.end(side) else {
            return;
        };
        let was = std::mem::replace(&mut end.phase, Phase::Over);
        if was == Phase::Over {
            return;
        }
        // A SYN that is out arrives all the same.
        if was != Phase::Dialing {
            let overtakes = self.random.one_in(4);
            self.send_reset(side.other(), !overtakes);
            self.reap(side.connection);
        }
    }

    /// Answers a segment for an end that is over, at the end that sent it.
    pub(super) fn answer_with_reset(&mut self, side: Side) {
        self.send_reset(side.other(), false);
    }

    /// Sends a reset to `to`, behind what is on its way there or not.
    pub(super) fn send_reset(&mut self, to: Side, behind: bool) {
        let delay = self.latency(to.connection);
        let now = self.now;
        let Some(connection) = self.connection(to.connection) else {
            return;
        };
        if connection.ends[usize::from(1 - to.end)].vanished {
            return;
        }
        let last = connection.ways[usize::from(1 - to.end)].last_arrival;
        let at = if behind {
            (now + delay).max(last)
        } else {
            now + delay
        };
        self.schedule.at(at, What::Reset(to));
    }

    /// A reset arrives at `side`.
    pub(super) fn reset_arrives(&mut self, side: Side) {
        let cut_off = self.is_cut_off(side);
        let Some(end) = self.end(side) else {
            return;
        };
        if end.phase == Phase::Over || end.vanished {
            return;
        }
        if cut_off {
            // It is sent once. The next segment is answered by another one, and so is a probe.
            self.expect_expiry(side);
            return;
        }
        let error = match end.phase {
            // Nobody has heard of it yet.
            Phase::Answering => return self.drop_waiting(side),
            Phase::Dialing => Errno::ECONNREFUSED,
            // Linux' `tcp_reset` in CLOSE_WAIT.
            _ if end.finished && !end.shut && !end.bsd => Errno::EPIPE,
            _ => Errno::ECONNRESET,
        };
        self.fail(side, error);
    }

    /// Ends `side` with an error for its holder.
    pub(super) fn fail(&mut self, side: Side, error: Errno) {
        self.trace(|| format!("c{}.{} fails: {error}", side.connection, side.end));
        let lose = self.random.one_in(4);
        let Some(connection) = self.connection(side.connection) else {
            return;
        };
        let end = &mut connection.ends[usize::from(side.end)];
        end.phase = Phase::Over;
        end.error = Some(error);
        end.full_until = Duration::ZERO;
        // Some systems lose what had arrived, too. Linux keeps it.
        let loses = end.bsd && lose;
        let out = &mut connection.ways[usize::from(side.end)];
        out.acknowledged = out.written;
        out.no_space = false;
        let input = &mut connection.ways[usize::from(1 - side.end)];
        let waits = input.sent == input.allowed && input.sent < input.written;
        if loses {
            let count = input.available();
            input.skip(count);
        }
        if waits {
            // The other end sends nothing that would be answered, but it asks for the window
            // (`tcp_write_wakeup`), and that is.
            let at = self.now + RESEND;
            self.schedule.at(at, What::Reset(side.other()));
        }
        self.poke(Target::Stream(side), BOTH);
        self.reap(side.connection);
    }

    /// Forgets a connection that nobody holds and that nothing comes of any more.
    pub(super) fn reap(&mut self, id: u32) {
        let Some(connection) = self.connection(id) else {
            return;
        };
        let over = |end: &End| end.closed && (end.phase == Phase::Over || end.vanished);
        if connection.ends.iter().all(over) && connection.listener.is_none() {
            let end = &connection.ends[0];
            let ports = (end.local, end.remote);
            self.ports.remove(&ports);
            self.connections[id as usize] = None;
        }
    }
}

/// How long Linux sends data again before it gives up (`net.ipv4.tcp_retries2`: 15, ip-sysctl).
const GIVE_UP: Duration = Duration::from_millis(924_600);

impl State {
    /// When this end gives up for silence, if it goes on as it is.
    fn expiry(&mut self, side: Side) -> Option<(Duration, Errno)> {
        let connection = self.connection(side.connection)?;
        let end = &connection.ends[usize::from(side.end)];
        let way = &connection.ways[usize::from(side.end)];
        if matches!(end.phase, Phase::Over | Phase::Dialing) {
            return None;
        }
        if way.is_outstanding() {
            let bound = end.user_timeout.unwrap_or(GIVE_UP);
            return Some((way.since + bound, Errno::ETIMEDOUT));
        }
        let keepalive = end.keepalive?;
        let probes = keepalive.interval.saturating_mul(keepalive.count);
        // A user timeout takes the place of the count of probes (tcp(7)), but the first probe has
        // to be out.
        let silent = match end.user_timeout {
            Some(bound) => bound.max(keepalive.idle + keepalive.interval),
            None => keepalive.idle.saturating_add(probes),
        };
        Some((end.heard + silent, Errno::ETIMEDOUT))
    }

    /// Has somebody look when this end gives up.
    pub(super) fn expect_expiry(&mut self, side: Side) {
        let Some((at, _)) = self.expiry(side) else {
            return;
        };
        if let Some(end) = self.end(side)
            && !std::mem::replace(&mut end.expires, true)
        {
            self.guards.at(at, What::Expire(side));
        }
    }

    /// As [`State::expect_expiry`], where nothing of the peer's can arrive.
    pub(super) fn expect_expiry_if_cut_off(&mut self, side: Side) {
        let gone = self.end(side.other()).is_some_and(|end| end.vanished);
        if gone || self.is_cut_off(side) {
            self.expect_expiry(side);
        }
    }

    /// It is time to look.
    pub(super) fn expire(&mut self, side: Side) {
        let now = self.now;
        if let Some(end) = self.end(side) {
            end.expires = false;
        }
        let Some((at, error)) = self.expiry(side) else {
            return;
        };
        let gone = self.end(side.other()).is_some_and(|end| end.vanished);
        let idle = self.way(side).is_some_and(|way| !way.is_outstanding());
        let probed = gone || self.is_cut_off(side);
        if idle && !probed {
            // The probes are answered: by a reset where the peer's end is over.
            let over = |end: &mut End| end.phase == Phase::Over;
            if self.end(side.other()).is_some_and(over) {
                self.reset_arrives(side);
            }
            return;
        }
        let is_window = !probed;
        if is_window {
            let way = self.way(side);
            let closed = way.is_some_and(|way| way.sent == way.allowed && way.sent < way.written);
            if !closed {
                return;
            }
        }
        if at > now {
            self.expect_expiry(side);
        } else {
            self.fail(side, error);
        }
    }
}
