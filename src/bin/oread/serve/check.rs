//! `oread serve` as checked: what is meant, with defaults filled in and nothing in it that does not
//! go together.

#[cfg(test)]
mod tests;

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use oread::{Address, Framing};

use super::args;
use super::bounds::Bounds;
use super::endpoints::{self, Endpoint};
use crate::failure::Failure;
use crate::system::handed::{Handed, Kind};
use crate::values::address::HostPort;
use crate::values::framing::max_frame;
use crate::values::units::{Rate, Size};
use crate::values::verbosity::Verbosity;

/// `--high-water` when it is not given: 64 KiB.
const DEFAULT_HIGH_WATER: u32 = 64 << 10;
/// `--udp-rate` when it is not given, on addresses that other machines reach, in datagrams a
/// second.
const PUBLIC_UDP_RATE: u32 = 10_000;
/// `--udp-rate-per-source` when it is not given, likewise. A person or a monitor asks far less
/// often, and a victim of forged datagrams gets no more than 100 full Ethernet frames a second, 1.2
/// Mbit/s.
const PUBLIC_UDP_RATE_PER_SOURCE: u32 = 100;
/// `--udp-repeat-rate` when it is not given and sources have no rate of their own, in datagrams a
/// second. Nobody asks the same so often who doesn't measure, and `oread load` numbers what it
/// sends.
const UDP_REPEAT_RATE: u32 = 1000;

/// The caps on datagrams that are answered a second by one socket; `None` is no cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UdpRates {
    /// Over all sources.
    pub(crate) all: Option<NonZeroU32>,
    /// To one source address.
    pub(crate) per_source: Option<NonZeroU32>,
    /// Of datagrams that are the same as an earlier one.
    pub(crate) repeats: Option<NonZeroU32>,
}

/// `oread serve`, checked.
#[derive(Clone, Debug)]
pub(crate) struct Serve {
    /// Whether the sockets were handed over, and are others' as well: there is nothing to open.
    pub(crate) handed: bool,
    /// What to bind; at least one, or of `unix`, unless `handed`. See [`Serve::resolve`].
    pub(crate) endpoints: Vec<Endpoint>,
    /// Unix sockets to listen at; without any of `endpoints` too.
    pub(crate) unix: Vec<Address>,
    /// The permissions of their files.
    pub(crate) unix_mode: Option<u32>,
    /// Whether UDP may be bound where other machines reach it.
    pub(crate) allow_public_udp: bool,
    /// How a stream is cut into frames.
    pub(crate) framing: Framing,
    /// The longest frame in bytes, its prefix not counted; never over what the prefix can say.
    pub(crate) max_frame: NonZeroU32,
    /// Connections at a time, over all threads, at least one for each; `None`: what the descriptor
    /// limit allows.
    pub(crate) max_connections: Option<NonZeroU32>,
    /// Pending output in bytes from which on a connection is not read; at most `max_pending`.
    pub(crate) high_water: NonZeroU32,
    /// The backlog to ask for; the system may cap it. At most `i32::MAX`.
    pub(crate) backlog: NonZeroU32,
    /// Pending output in bytes on all connections of all threads, past which none that has some is
    /// read.
    pub(crate) max_pending: NonZeroU64,
    /// Threads, each with a whole reactor.
    pub(crate) threads: NonZeroU32,
    /// What one peer or one source may take.
    pub(crate) bounds: Bounds,
    /// How long a drain may take; zero cuts at once.
    pub(crate) drain_timeout: Duration,
    /// See [`Serve::udp_rates`].
    pub(crate) udp_rate: Option<Rate>,
    /// See [`Serve::udp_rates`].
    pub(crate) udp_rate_per_source: Option<Rate>,
    /// See [`Serve::udp_rates`].
    pub(crate) udp_repeat_rate: Option<Rate>,
    /// How often to print the counters; `None`: never.
    pub(crate) stats: Option<Duration>,
    /// Where to serve the counters to Prometheus.
    pub(crate) metrics: Option<HostPort>,
    /// Whether events go to standard output as lines of JSON.
    pub(crate) json: bool,
    /// How much is said.
    pub(crate) verbosity: Verbosity,
}

impl Serve {
    /// The addresses to bind, all of them known before the first one is bound.
    ///
    /// # Errors
    /// As [`endpoints::resolve`].
    pub(crate) fn resolve(&self) -> Result<Vec<endpoints::Binding>, Failure> {
        endpoints::resolve(&self.endpoints, self.allow_public_udp)
    }

    /// The caps for a UDP socket bound to `ip`: what was asked for; else none on loopback, where
    /// only this machine can ask, and 10,000 a second and 100 a source elsewhere. Repeats have a
    /// cap where sources have none, which would bound them too: strangers could use it up.
    pub(crate) fn udp_rates(&self, ip: std::net::IpAddr) -> UdpRates {
        let public = !endpoints::is_loopback(ip);
        let cap = |asked: Option<Rate>, default: Option<u32>| match asked {
            Some(Rate::Off) => None,
            Some(Rate::PerSecond(rate)) => Some(rate),
            None => default.and_then(NonZeroU32::new),
        };
        let per_source = cap(
            self.udp_rate_per_source,
            public.then_some(PUBLIC_UDP_RATE_PER_SOURCE),
        );
        let repeats = per_source.is_none().then_some(UDP_REPEAT_RATE);
        UdpRates {
            all: cap(self.udp_rate, public.then_some(PUBLIC_UDP_RATE)),
            per_source,
            repeats: cap(self.udp_repeat_rate, repeats),
        }
    }

    /// What is meant by `typed` where these sockets were `handed` over.
    ///
    /// # Errors
    /// Exit code 2: what does not go together.
    pub(crate) fn new(typed: args::Serve, handed: &[Handed]) -> Result<Serve, Failure> {
        let endpoints = served(&typed, handed)?;
        if let Some(most) = typed.max_connections
            && most < typed.threads
        {
            return Err(Failure::usage(format!(
                "--max-connections {most} is under --threads {}: each thread takes connections of its \
                 own",
                typed.threads
            )));
        }
        let mut places = typed.unix.iter().enumerate();
        if let Some((_, twice)) = places.find(|&(n, place)| typed.unix[..n].contains(place)) {
            return Err(Failure::usage(format!("{twice} is given twice")));
        }
        let no_frames = typed.framing == Framing::Raw;
        if no_frames && typed.bounds.frame_timeout.0.is_some() {
            return Err(Failure::usage(
                "--frame-timeout has nothing to bound: with --framing raw all is answered as it \
                 comes, and no frame is ever under way",
            )
            .hint("add --framing, or bound silence with --idle-timeout"));
        }
        Ok(Serve {
            handed: !handed.is_empty(),
            endpoints,
            unix: typed.unix,
            unix_mode: typed.unix_mode,
            allow_public_udp: typed.allow_public_udp,
            framing: typed.framing,
            max_frame: max_frame(typed.framing, typed.max_frame)?,
            max_connections: typed.max_connections,
            high_water: high_water(typed.high_water, typed.max_pending)?,
            backlog: typed.backlog,
            max_pending: typed.max_pending,
            threads: typed.threads,
            bounds: typed.bounds,
            drain_timeout: typed.drain_timeout,
            udp_rate: typed.udp_rate,
            udp_rate_per_source: typed.udp_rate_per_source,
            udp_repeat_rate: typed.udp_repeat_rate,
            metrics: typed.metrics,
            stats: typed.stats.0,
            json: typed.json,
            verbosity: Verbosity::from(&typed.verbosity),
        })
    }
}

/// What is to be bound; nothing where sockets were handed over. What may not be served over UDP is
/// refused, and so is an option that nothing is there for.
fn served(typed: &args::Serve, handed: &[Handed]) -> Result<Vec<Endpoint>, Failure> {
    let has_ip = !typed.addresses.is_empty() || !typed.tcp.is_empty() || !typed.udp.is_empty();
    let has_unix = !typed.unix.is_empty();
    if typed.unix_mode.is_some()
        && let Some(name) = typed.unix.iter().find(|at| !has_file(at))
    {
        return Err(Failure::usage(format!(
            "--unix-mode is about files, and {name} has none: anybody on this machine may connect"
        ))
        .hint("leave it out, or serve a path"));
    }
    let mut endpoints = Vec::new();
    if handed.is_empty() {
        if has_ip || !has_unix {
            endpoints = endpoints::endpoints(&typed.addresses, &typed.tcp, &typed.udp)?;
        }
    } else if has_ip || has_unix {
        return Err(Failure::usage(
            "there are addresses to serve, and LISTEN_FDS says that sockets are handed over",
        )
        .hint("leave the addresses out, or start it without LISTEN_FDS"));
    }
    let udp = handed.iter().filter_map(|handed| match handed.kind {
        Kind::Udp(address) => Some((&handed.name, address)),
        Kind::Listener => None,
    });
    let udp: Vec<_> = udp.collect();
    if !typed.allow_public_udp {
        endpoints::refuse_public_udp(&endpoints)?;
        endpoints::refuse_public_udp_handed(&udp)?;
    }
    let is_udp_bound = endpoints.iter().any(|endpoint| endpoint.transports.udp);
    if udp.is_empty() && !is_udp_bound {
        refuse_udp_options(typed)?;
    }
    Ok(endpoints)
}

/// Whether a Unix socket there has a file.
fn has_file(address: &Address) -> bool {
    matches!(address, Address::Unix(name) if name.path().is_some())
}

/// Refuses options for UDP where there is none: nothing that is asked for goes by silently.
fn refuse_udp_options(typed: &args::Serve) -> Result<(), Failure> {
    let given = [
        (typed.allow_public_udp, "--allow-public-udp"),
        (typed.udp_rate.is_some(), "--udp-rate"),
        (typed.udp_rate_per_source.is_some(), "--udp-rate-per-source"),
        (typed.udp_repeat_rate.is_some(), "--udp-repeat-rate"),
    ];
    match given.into_iter().find(|&(given, _)| given) {
        Some((_, option)) => Err(Failure::usage(format!(
            "{option} is about UDP, and no address is served over UDP"
        ))
        .hint("leave it out, or add --udp")),
        None => Ok(()),
    }
}

/// Where a connection's pending output stops its reading; what is typed must be under the limit for
/// all connections, past which it would never be reached.
fn high_water(typed: Option<NonZeroU32>, max_pending: NonZeroU64) -> Result<NonZeroU32, Failure> {
    if let Some(high_water) = typed
        && NonZeroU64::from(high_water) > max_pending
    {
        return Err(Failure::usage(format!(
            "--high-water {} is over --max-pending {}, the limit for all connections together",
            Size(high_water.get().into()),
            Size(max_pending.get())
        )));
    }
    let all = NonZeroU32::try_from(max_pending).unwrap_or(NonZeroU32::MAX);
    Ok(typed
        .or(NonZeroU32::new(DEFAULT_HIGH_WATER))
        .map_or(all, |high_water| high_water.min(all)))
}
