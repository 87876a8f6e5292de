//! The echo: a [`Handler`] that sends back what comes, frame by frame or byte by byte.

mod datagrams;

use std::fmt;
use std::time::Instant;

use log::Level::{Debug, Trace};
use log::{debug, log_enabled, trace, warn};

use crate::address::Address;
use crate::context::{Connection, Context, Datagram, SendOutcome};
use crate::error::CloseReason;
use crate::escape::Escaped;
use crate::framing::Framing;
use crate::handler::{Accepted, Handler};
use crate::rate::LogLimiter;
use crate::token::ConnectionId;

use datagrams::Bounds;

/// How an [`Echo`] is to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoOptions {
    /// Where a frame ends. Default: raw, bytes as they come.
    pub framing: Framing,
    /// The longest payload of a frame, in bytes; raw has none.
    /// [`Limits::max_input`](crate::Limits::max_input) must have room for it, its delimiter or
    /// prefix, and one byte: see [`EchoOptions::input_needed`]. Default: 1 MiB.
    pub max_frame: usize,
    /// The longest datagram that is answered, in bytes. Default: none but UDP's own.
    pub max_datagram: Option<usize>,
    /// Datagrams answered a second, in all; `None`: as many as come. Default: none.
    ///
    /// In any `t` seconds at most `rate * (t + 0.1)` are answered, or `rate * t + 1` where that is
    /// more: a tenth of a second's worth may come at once.
    ///
    /// Where it is short, and 20 or more, and there is a rate for each source too, known sources
    /// come first: those that were heard from again a second after they came. So a flood of forged
    /// senders can't take what they get.
    pub udp_rate: Option<u32>,
    /// Datagrams answered a second, for each source (an IPv4 address, an IPv6 network of 64 bits),
    /// with the same bound. Default: none.
    pub udp_rate_per_source: Option<u32>,
    /// Sources that are told apart, up to half of them known ones; past them the stalest is
    /// forgotten, a known one only after a minute of silence. About 100 bytes each, taken as they
    /// come. Default: 65,536.
    pub udp_sources: u32,
    /// Repeats answered a second, in all: datagrams with the same bytes from the same address and
    /// port as one before. `None`: as many as come. Default: 1,000.
    ///
    /// This ends what one forged datagram begins between two servers that both send back what
    /// comes: it goes round for good, as fast as they can, until one of them drops it. Ten seconds'
    /// worth may come at once: in any `t` seconds at most `rate * (t + 10)` are answered. Of a
    /// datagram of more than 64 bytes the length and 32 at either end count. The last 1,024
    /// datagrams or so are remembered, in 8 KiB.
    ///
    /// A client that measures with one and the same datagram needs `None`. So may a server for
    /// strangers, where [`udp_rate_per_source`](EchoOptions::udp_rate_per_source) bounds such a
    /// loop as well: they could use up these repeats.
    pub udp_repeat_rate: Option<u32>,
}

impl Default for EchoOptions {
    fn default() -> EchoOptions {
        EchoOptions {
            framing: Framing::Raw,
            max_frame: 1 << 20,
            max_datagram: None,
            udp_rate: None,
            udp_rate_per_source: None,
            udp_sources: 1 << 16,
            udp_repeat_rate: Some(1000),
        }
    }
}

impl EchoOptions {
    /// What [`Limits::max_input`](crate::Limits::max_input) must be at least, in bytes, for the
    /// longest frame to fit with its prefix or delimiter.
    #[must_use]
    pub fn input_needed(&self) -> usize {
        // 8: the longest prefix. 1: the limit itself already closes the connection.
        self.max_frame.saturating_add(8 + 1)
    }
}

/// What an [`Echo`] has counted, beside the reactor's [`Stats`](crate::Stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EchoStats {
    /// Whole frames received; in raw framing, pieces as they were read.
    pub frames_in: u64,
    /// Frames sent back.
    pub frames_out: u64,
    /// Frames that were too long, or broken off by the peer's end.
    pub frames_bad: u64,
    /// Datagrams not answered because they came from a port below 1,024: from a service, not a
    /// client.
    pub datagrams_low_port: u64,
    /// Datagrams not answered because they came from a socket of this reactor.
    pub datagrams_own: u64,
    /// Datagrams not answered because they were sent to a broadcast or multicast address
    /// ([`Datagram::is_unicast`]): all hosts of a network would answer whoever is named as the
    /// sender.
    pub datagrams_not_unicast: u64,
    /// Datagrams not answered because of a rate.
    pub datagrams_over_rate: u64,
    /// Datagrams not answered because they came again and again ([`EchoOptions::udp_repeat_rate`]).
    pub datagrams_repeated: u64,
    /// Datagrams not answered because they were longer than [`EchoOptions::max_datagram`].
    pub datagrams_too_long: u64,
}

impl EchoStats {
    /// Datagrams that came and were, on purpose, not answered.
    #[must_use]
    pub fn datagrams_refused(&self) -> u64 {
        self.datagrams_low_port
            + self.datagrams_own
            + self.datagrams_not_unicast
            + self.datagrams_over_rate
            + self.datagrams_repeated
            + self.datagrams_too_long
    }
}

/// What an echo keeps of a connection.
#[derive(Debug, Default)]
pub struct EchoSession {
    /// Bytes of the frame that is under way that were looked at already.
    scanned: usize,
    /// The peer's address, kept only where somebody will print it: the socket forgets it when it's
    /// reset.
    peer: Option<Box<Address>>,
}

/// Bytes of a message that a log line shows.
const SHOWN: usize = 256;

/// Echoes TCP and UDP. See [`EchoOptions`] for how.
pub struct Echo {
    options: EchoOptions,
    stats: EchoStats,
    /// When it first looked at the time; all its times count from then.
    started: Option<Instant>,
    /// `None` until the first datagram.
    bounds: Option<Bounds>,
    warnings: LogLimiter,
}

impl Echo {
    /// An echo that answers as `options` say.
    #[must_use]
    pub fn new(options: EchoOptions) -> Echo {
        Echo {
            stats: EchoStats::default(),
            started: None,
            bounds: None,
            warnings: LogLimiter::new(5, 20),
            options,
        }
    }

    /// A copy of the counters.
    #[must_use]
    pub fn stats(&self) -> EchoStats {
        self.stats
    }

    /// Milliseconds since this was first asked.
    fn millis<S>(&mut self, context: &Context<'_, S>) -> u64 {
        let now = context.now();
        let since = now.saturating_duration_since(*self.started.get_or_insert(now));
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Echoes the whole frames at the start of `data`: they lie side by side, so they are one
    /// write. Raw bytes are one frame.
    #[inline(never)]
    fn echo_frames(&mut self, connection: &mut Connection<'_, EchoSession>, data: &[u8]) -> usize {
        let scanned = connection.session().scanned;
        let mut frames = self
            .options
            .framing
            .frames(data, scanned, self.options.max_frame);
        let mut count = 0;
        let mut broken = None;
        for frame in frames.by_ref() {
            match frame {
                Ok(_) => count += 1,
                Err(error) => broken = Some(error),
            }
        }
        let consumed = frames.consumed();
        connection.session_mut().scanned = frames.scanned();
        self.stats.frames_in += count;
        if count > 0 {
            self.show_frames(connection, "received from", &data[..consumed]);
            connection.write(&data[..consumed]);
            self.stats.frames_out += count;
            self.show_frames(connection, "sent to", &data[..consumed]);
        }
        if let Some(error) = broken {
            self.refuse(connection, CloseReason::FrameTooLong, &error);
        }
        consumed
    }

    /// Closes a connection because of a bad frame, and says so. What was answered before still goes
    /// out.
    #[cold]
    fn refuse(
        &mut self,
        connection: &mut Connection<'_, EchoSession>,
        reason: CloseReason,
        why: &dyn fmt::Display,
    ) {
        self.stats.frames_bad += 1;
        let now = self.millis(connection.context());
        if let Some(suppressed) = self.warnings.permit(now) {
            let peer = Peer::of(connection);
            warn!("closing {peer}: {why}{suppressed}");
        }
        connection.close(reason);
    }

    /// Logs each of the whole frames in `data`, if anybody listens.
    #[inline]
    fn show_frames(&self, connection: &Connection<'_, EchoSession>, what: &str, data: &[u8]) {
        if log_enabled!(Trace) {
            let peer = Peer::of(connection);
            for frame in self
                .options
                .framing
                .frames(data, 0, self.options.max_frame)
                .flatten()
            {
                show(what, &peer, frame.payload);
            }
        }
    }
}

impl Handler for Echo {
    type Session = EchoSession;
    type Message = std::convert::Infallible;

    fn on_accept(
        &mut self,
        _: &mut Context<'_, EchoSession>,
        caller: &Accepted,
    ) -> Option<EchoSession> {
        let peer = log_enabled!(Debug).then(|| Box::new(caller.peer.clone()));
        Some(EchoSession { scanned: 0, peer })
    }

    fn on_open(&mut self, connection: &mut Connection<'_, EchoSession>) {
        debug!("connected {}", Peer::of(connection));
    }

    #[inline(always)]
    fn on_data(&mut self, connection: &mut Connection<'_, EchoSession>, data: &[u8]) -> usize {
        if self.options.framing != Framing::Raw || log_enabled!(Trace) {
            return self.echo_frames(connection, data);
        }
        self.stats.frames_in += 1;
        connection.write(data);
        self.stats.frames_out += 1;
        data.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_, EchoSession>, rest: &[u8]) {
        if rest.is_empty() {
            connection.finish();
        } else if self.options.framing.ends_with_stream() {
            self.stats.frames_in += 1;
            connection.write(rest);
            self.stats.frames_out += 1;
            if log_enabled!(Trace) {
                let peer = Peer::of(connection);
                show("received from", &peer, rest);
                show("sent to", &peer, rest);
            }
            connection.finish();
        } else {
            let why = format!("the peer finished {} bytes into a frame", rest.len());
            self.refuse(connection, CloseReason::FrameIncomplete, &why);
        }
    }

    fn on_closing(&mut self, connection: &mut Connection<'_, EchoSession>, reason: CloseReason) {
        debug!("closing {}: {reason}", Peer::of(connection));
    }

    fn on_close(
        &mut self,
        _: &mut Context<'_, EchoSession>,
        _: ConnectionId,
        session: EchoSession,
        reason: CloseReason,
    ) {
        if let Some(peer) = session.peer {
            debug!("disconnected {peer}: {reason}");
        }
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, EchoSession>, data: &[u8]) {
        let from = datagram.from();
        if log_enabled!(Trace) {
            show("received from", &from, data);
        }
        if !self.may_answer(datagram, data) {
            return;
        }
        match datagram.reply(data) {
            SendOutcome::Sent if log_enabled!(Trace) => show("sent to", &from, data),
            SendOutcome::Sent => {}
            lost => debug!("the answer to {from} is lost: {lost:?}"),
        }
    }
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Echo")
            .field("options", &self.options)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// One log line for one message.
fn show(what: &str, peer: &dyn fmt::Display, payload: &[u8]) {
    trace!("{what} {peer}: {}", Escaped::new(payload).limit(SHOWN));
}

/// A peer's address for a log line.
struct Peer(Option<Address>);

impl Peer {
    fn of(connection: &Connection<'_, EchoSession>) -> Peer {
        let kept = connection.session().peer.as_deref().cloned();
        Peer(kept.or_else(|| connection.peer_addr().ok()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("a peer that is gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_s_session_is_no_larger_than_a_slot_has_room_for() {
        assert_eq!(size_of::<EchoSession>(), 16);
    }

    #[test]
    fn a_reactor_s_defaults_have_room_for_the_longest_frame_of_an_echo_s() {
        let needed = EchoOptions::default().input_needed();
        assert!(crate::Limits::default().max_input >= needed);
    }
}
