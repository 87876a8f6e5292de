//! Which datagrams an echo answers.

use std::net::SocketAddr;

use log::{debug, warn};

use super::{Echo, EchoOptions, EchoSession};
use crate::context::Datagram;
use crate::rate::{Caps, LogLimiter, Repeats};

/// The first port that is not reserved for services (RFC 6335, section 6: 0 to 1023 are the system
/// ports). A datagram from below is an answer, or forged to make two servers talk to each other
/// (CVE-1999-0103).
const FIRST_USER_PORT: u16 = 1024;

/// How many datagrams are answered.
pub(super) struct Bounds {
    caps: Caps,
    repeats: Option<Repeats>,
    /// Of repeats alone: a datagram that goes round must not silence what is wrong with streams.
    warnings: LogLimiter,
}

impl Bounds {
    /// `key` is what the hashes of what senders choose begin with.
    fn new(options: &EchoOptions, key: u64) -> Bounds {
        Bounds {
            caps: Caps::new(
                options.udp_rate,
                options.udp_rate_per_source,
                options.udp_sources,
                key,
            ),
            repeats: options.udp_repeat_rate.map(|rate| Repeats::new(rate, key)),
            warnings: LogLimiter::new(1, 1),
        }
    }

    /// Whether a datagram is not one of too many repeats, which is said in the log.
    fn is_no_loop(&mut self, from: SocketAddr, data: &[u8], now: u64) -> bool {
        let passes = self
            .repeats
            .as_mut()
            .is_none_or(|repeats| repeats.take(from, data, now));
        if !passes && let Some(suppressed) = self.warnings.permit(now) {
            warn!(
                "{from} sends the same datagram again and again, as a server does that sends ours \
                 back: it gets no answer{suppressed}"
            );
        }
        passes
    }
}

impl Echo {
    /// Whether a datagram may be answered; if not, it's counted.
    pub(super) fn may_answer(
        &mut self,
        datagram: &mut Datagram<'_, EchoSession>,
        data: &[u8],
    ) -> bool {
        let from = datagram.from();
        let is_unicast = datagram.is_unicast();
        let context = datagram.context();
        let now = self.millis(context);
        let bounds = self
            .bounds
            .get_or_insert_with(|| Bounds::new(&self.options, context.random()));
        let (counter, why) = if from.port() < FIRST_USER_PORT {
            let why = "a port below 1024 is a service's";
            (&mut self.stats.datagrams_low_port, why)
        } else if context.is_own_udp(from) {
            (&mut self.stats.datagrams_own, "it's our own")
        } else if !is_unicast {
            let why = "it was sent to a broadcast or multicast address";
            (&mut self.stats.datagrams_not_unicast, why)
        } else if self
            .options
            .max_datagram
            .is_some_and(|max| data.len() > max)
        {
            (&mut self.stats.datagrams_too_long, "it's too long")
        } else if !bounds.is_no_loop(from, data, now) {
            let why = "it came again and again";
            (&mut self.stats.datagrams_repeated, why)
        } else if !bounds.caps.take(from.ip(), now) {
            let why = "there were too many in this second";
            (&mut self.stats.datagrams_over_rate, why)
        } else {
            return true;
        };
        *counter += 1;
        debug!("no answer to {from}, {} bytes: {why}", data.len());
        false
    }
}
