//! What a peer may take: options, and what the library is given for them.

use std::num::NonZeroU32;
use std::time::Duration;

use oread::{Keepalive, Limits, ListenOptions};

use crate::values::units::{OrNever, count, duration, duration_or_never, size_under_4gib};

/// What one peer, or all peers of one source, may take of a server that strangers reach. Checked as
/// it is, and given to the library as it is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Bounds {
    /// Close a connection that is silent for so long; its peer has 5s more to close its end
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "never",
        value_parser = duration_or_never
    )]
    pub(super) idle_timeout: OrNever,

    /// Close a connection whose pending output makes no progress, or that waits for memory, for so
    /// long
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "60s",
        value_parser = duration
    )]
    pub(super) write_timeout: Duration,

    /// Close a connection that takes longer over a frame, whatever it sends meanwhile; with a
    /// --framing that has frames
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "never",
        value_parser = duration_or_never
    )]
    pub(super) frame_timeout: OrNever,

    /// Connections at a time from one IPv4 address, or one IPv6 network of 64 bits. With --threads
    /// each has its share of it, rounded up [default: no limit]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(super) connections_per_source: Option<NonZeroU32>,

    /// New connections a second from one such source, shared out likewise [default: no limit]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(super) accepts_per_source: Option<NonZeroU32>,

    /// Probe a connection that is silent for so long, 32767s at most; one that answers none of six
    /// probes in a minute is closed
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "never",
        value_parser = keepalive
    )]
    pub(super) keepalive: OrNever,

    /// Close a connection whose peer acknowledges nothing for so long [default: a minute behind the
    /// first probe, or half as long again as --write-timeout]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) user_timeout: Option<Duration>,

    /// Receive buffer of a connection in the system, which may take twice as much for it and
    /// bounds it [default: the system's, which grows as needed]
    #[arg(long, value_name = "SIZE", value_parser = size_under_4gib)]
    pub(super) receive_buffer: Option<NonZeroU32>,

    /// Send buffer of a connection, likewise: what a peer that never reads costs
    #[arg(long, value_name = "SIZE", value_parser = size_under_4gib)]
    pub(super) send_buffer: Option<NonZeroU32>,
}

impl Bounds {
    /// Sets the limits of one of so many reactors.
    pub(super) fn limit(&self, limits: &mut Limits, threads: NonZeroU32) {
        // Which reactor a caller comes to depends on its port as well.
        let a_share = |of_all: NonZeroU32| of_all.get().div_ceil(threads.get());
        limits.idle_timeout = self.idle_timeout.0;
        limits.write_timeout = Some(self.write_timeout);
        limits.frame_timeout = self.frame_timeout.0;
        limits.connections_per_source = self.connections_per_source.map(a_share);
        limits.accepts_per_source = self.accepts_per_source.map(a_share);
    }

    /// What a listener's connections are to be like.
    pub(super) fn listen_options(&self) -> ListenOptions {
        let bytes = |size: NonZeroU32| size.get() as usize;
        ListenOptions {
            keepalive: self.keepalive.0.map(|idle| Keepalive {
                idle,
                ..Keepalive::default()
            }),
            user_timeout: self.user_timeout,
            recv_buffer: self.receive_buffer.map(bytes),
            send_buffer: self.send_buffer.map(bytes),
            ..ListenOptions::default()
        }
    }
}

/// A silence that the system probes after.
///
/// # Errors
/// As [`duration_or_never`]; or it's longer than Linux allows (`MAX_TCP_KEEPIDLE`, net/tcp.h).
fn keepalive(text: &str) -> Result<OrNever, String> {
    let silence = duration_or_never(text)?;
    let most = Duration::from_secs(32_767);
    match silence.0 {
        Some(silence) if silence > most => Err("must be at most 32767s; or never".to_owned()),
        _ => Ok(silence),
    }
}
