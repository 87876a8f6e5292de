//! Counters for Prometheus, over HTTP: a reactor of its own, in a thread of its own, so that what
//! is measured has no part in it.
//!
//! Whatever has counters is a [`Collector`]: it is asked in that thread, once for each scrape, and
//! may wait a moment for others to tell theirs.

mod http;
mod page;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use oread::{
    Accepted, CloseReason, Connection, Context, Handler, Limits, ListenOptions, Pressure, Reactor,
};
pub(crate) use page::{Kind, Page};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use self::http::{Asked, Format, Request, Status};
use super::threads;
use crate::failure::{Failure, Reason};
use crate::values::address::HostPort;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 32;
/// Descriptors that it takes: those connections, two listeners (as many addresses as `localhost`
/// has), and the reactor's own three.
pub(crate) const DESCRIPTORS: usize = CONNECTIONS + 2 + 3;
/// How long a connection may be silent. Prometheus keeps one open from scrape to scrape, a minute
/// apart unless told otherwise.
const IDLE: Duration = Duration::from_secs(75);
/// How long the head of a request may take, and an answer without any progress.
const SLOW: Duration = Duration::from_secs(10);

/// A place where metrics are to be served.
#[derive(Debug)]
pub(crate) struct Metrics {
    reactor: Reactor<Scrapes>,
    /// Where it is.
    pub(crate) address: SocketAddr,
}

impl Metrics {
    /// Listens at `address`; clients wait.
    ///
    /// # Errors
    /// Exit code 1: the address can't be bound, or the system gives no poll.
    pub(crate) fn bind(address: &HostPort) -> Result<Metrics, Failure> {
        let reactor = Reactor::with_limits(Limits {
            max_connections: CONNECTIONS,
            read_buffer: http::MAX_HEAD,
            // A head that fills it has been refused.
            max_input: 2 * http::MAX_HEAD,
            idle_timeout: Some(IDLE),
            frame_timeout: Some(SLOW),
            write_timeout: Some(SLOW),
            ..Limits::default()
        });
        let mut reactor = reactor.map_err(|error| {
            Failure::runtime(format!("can't serve metrics: {}", Reason(&error)))
        })?;
        let address = listen(&mut reactor.context(), address)?;
        Ok(Metrics { reactor, address })
    }

    /// Serves what `collector` counts, until the program ends.
    ///
    /// # Errors
    /// Exit code 1: the system gives no thread.
    pub(crate) fn start(self, collector: impl Collector) -> Result<(), Failure> {
        let (mut reactor, registry) = (self.reactor, registry(collector));
        let run = move || {
            if let Err(error) = reactor.run(&mut Scrapes { registry }) {
                log::error!("metrics are served no more: {}", Reason(&error));
            }
        };
        threads::start("metrics", run).map(drop)
    }
}

/// Where the metrics of a server that is bound to `address` are.
pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}/metrics")
}

/// Listens at all addresses that are meant, and gives the first. `localhost` has an IPv6 address
/// even where the machine has no IPv6: of several one may be missing.
fn listen(context: &mut Context<'_, ()>, address: &HostPort) -> Result<SocketAddr, Failure> {
    let (mut bound, mut missing) = (None, None);
    for at in address.resolve()? {
        match context.listen(&ListenOptions::new(at)) {
            Ok(id) => {
                let real = context
                    .listener_addr(id)
                    .and_then(|real| real.socket_addr());
                bound = bound.or(real);
            }
            Err(error) => {
                let failure = Failure::bind("TCP", at, &error);
                let is_here = ![Errno::EADDRNOTAVAIL, Errno::EAFNOSUPPORT]
                    .iter()
                    .any(|errno| error.raw_os_error() == Some(*errno as i32));
                if is_here {
                    return Err(failure);
                }
                missing.get_or_insert(failure);
            }
        }
    }
    let nowhere = || Failure::runtime(format!("can't serve metrics at {address}"));
    bound.ok_or_else(|| missing.unwrap_or_else(nowhere))
}

/// All there is to tell: which program this is, since when it runs, and what is counted.
fn registry(collector: impl Collector) -> Registry {
    let mut registry = Registry::default();
    let build = Info::new(vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("os", std::env::consts::OS),
        ("arch", std::env::consts::ARCH),
    ]);
    registry.register("oread_build", "Which oread this is", build);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = ConstGauge::new(since.unwrap_or_default().as_secs_f64());
    let help = "When it began to serve metrics, in seconds since 1970";
    registry.register("oread_start_time_seconds", help, since);
    registry.register_collector(Box::new(collector));
    registry
}

/// Answers requests.
#[derive(Debug)]
struct Scrapes {
    registry: Registry,
}

impl Handler for Scrapes {
    type Session = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        Some(())
    }

    /// Answers each request that has come whole, for as long as the client takes the answers.
    fn on_data(&mut self, client: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        let mut done = 0;
        while done < data.len() && client.pressure() == Pressure::Low {
            match http::parse(&data[done..]) {
                Asked::NotYet => break,
                Asked::Whole(length, request) => {
                    done += length;
                    self.answer(client, &request);
                    if !request.keeps_alive {
                        client.close(CloseReason::Closed);
                        return data.len();
                    }
                }
                Asked::Wrong(status) => {
                    client.write(http::refusal(status, true, false).as_bytes());
                    client.close(CloseReason::Closed);
                    return data.len();
                }
            }
        }
        done
    }
}

impl Scrapes {
    fn answer(&self, client: &mut Connection<'_, ()>, request: &Request) {
        let closes = !request.keeps_alive;
        let page = request.wants.and_then(|format| {
            let (kind, page) = self.page(format);
            let page = page.map_err(|_| Status::Internal)?;
            Ok(http::response(
                Status::Ok,
                kind,
                &page,
                closes,
                request.is_head,
            ))
        });
        let answer = page.unwrap_or_else(|status| http::refusal(status, closes, request.is_head));
        client.write(answer.as_bytes());
    }

    /// All metrics, and what they are written in.
    fn page(&self, format: Format) -> (&'static str, Result<String, std::fmt::Error>) {
        let mut page = String::new();
        let (kind, written) = match format {
            Format::OpenMetrics => (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                text::encode(&mut page, &self.registry),
            ),
            Format::Prometheus => (
                prometheus_text::CONTENT_TYPE,
                prometheus_text::encode(&mut page, &self.registry),
            ),
        };
        (kind, written.map(|()| page))
    }
}
