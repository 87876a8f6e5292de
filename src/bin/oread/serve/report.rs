//! What a server says of itself on standard output: at its start, every so often, and at its end.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use oread::{Address, Framing};

use super::plan::Plan;
use super::socket::{Socket, Transport};
use super::totals::Totals;
use crate::system::metrics::url;
use crate::system::stdout::JsonLine;
use crate::values::units::{Count, Size, counted};

/// Says what a server does, in words or in JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) json: bool,
    /// Whether streams are cut into frames. In raw framing those that are counted are pieces as
    /// they were read, of which people need not know.
    pub(super) frames: bool,
}

impl Report {
    /// The start: each socket and the metrics on a line of its own, then that it is ready, how to
    /// try it and how to stop it.
    pub(super) fn start(
        self,
        plan: &Plan,
        sockets: &[Socket],
        unix: &[Address],
        metrics: Option<SocketAddr>,
    ) -> String {
        let mut text = String::new();
        let inet = sockets.iter();
        let inet = inet.map(|at| (at.transport().name(), Address::from(at.address)));
        let all = inet.chain(unix.iter().map(|address| ("unix", address.clone())));
        for (transport, address) in all {
            text += &if self.json {
                JsonLine::new("listening")
                    .with("transport", transport.to_lowercase())
                    .with("address", address.to_string())
                    .finish()
            } else if address.socket_addr().is_some() {
                format!("listening on {transport} {address}\n")
            } else {
                format!("listening on {address}\n")
            };
        }
        if let Some(url) = metrics.map(url) {
            text += &match self.json {
                true => JsonLine::new("metrics").with("url", url).finish(),
                false => format!("metrics are at {url}\n"),
            };
        }
        text += &if self.json {
            ready_line(plan)
        } else {
            ready_words(plan, sockets, unix)
        };
        text
    }

    /// The counters so far.
    pub(super) fn stats(self, totals: &Totals, uptime: Duration) -> String {
        if self.json {
            return totals.describe(timed("stats", uptime)).finish();
        }
        let Totals { stats, echo } = totals;
        let frames = match self.frames {
            true => format!(
                "{} frames in, {} out, ",
                Count(echo.frames_in),
                Count(echo.frames_out)
            ),
            false => String::new(),
        };
        format!(
            "{} open, {} accepted, {} in, {} out, {frames}{} datagrams in, {} out, {} dropped\n",
            Count(stats.open),
            Count(stats.accepted),
            Size(stats.bytes_in),
            Size(stats.bytes_out),
            Count(stats.datagrams_in),
            Count(stats.datagrams_out),
            Count(totals.datagrams_dropped()),
        )
    }

    /// The end: all counters, and how many connections the drain's deadline cut off.
    pub(super) fn summary(self, totals: &Totals, uptime: Duration, cut: usize) -> String {
        if self.json {
            let line = timed("summary", uptime).with("cut", cut);
            return totals.describe(line).finish();
        }
        let Totals { stats, echo } = totals;
        let closed = match counted(stats.closed.iter().map(|(name, count)| (count, name))) {
            closed if closed.is_empty() => "none".to_owned(),
            closed => closed,
        };
        let number = Count;
        let frames = match self.frames {
            true => format!(
                "frames       {} in, {} out, {} bad\n  ",
                number(echo.frames_in),
                number(echo.frames_out),
                number(echo.frames_bad)
            ),
            false => String::new(),
        };
        format!(
            "served for {}\n  \
             connections  {} accepted, {} refused, {}{} at most at a time, {cut} cut off at the end\n  \
             closed       {closed}\n  \
             bytes        {} in, {} out\n  {frames}\
             datagrams    {} in, {} out, {} dropped\n  \
             pauses       {} of reading, {} for --max-pending, {} for want of descriptors, {} at the connection limit\n  \
             budget hits  {}\n",
            humantime::format_duration(Duration::from_millis(millis(uptime))),
            number(stats.accepted),
            number(stats.refused),
            match stats.over_source {
                0 => String::new(),
                over => format!("{} over their source's limit, ", number(over)),
            },
            number(stats.peak_open),
            number(stats.bytes_in),
            number(stats.bytes_out),
            number(stats.datagrams_in),
            number(stats.datagrams_out),
            number(totals.datagrams_dropped()),
            number(stats.pressure_pauses),
            number(stats.pending_pauses),
            number(stats.accept_pauses),
            number(stats.limit_pauses),
            number(stats.budget_hits),
        )
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An event with the time since the start.
fn timed(name: &str, uptime: Duration) -> JsonLine {
    JsonLine::new(name).with("uptime_ms", millis(uptime))
}

fn ready_line(plan: &Plan) -> String {
    JsonLine::new("ready")
        .with("pid", std::process::id())
        .with("threads", plan.threads.get())
        .with("max_connections", plan.max_connections.get())
        .with("framing", plan.framing.to_string())
        .finish()
}

fn ready_words(plan: &Plan, sockets: &[Socket], unix: &[Address]) -> String {
    let (most, possible) = (plan.max_connections.get(), plan.possible.get());
    let connections = if most == 1 {
        "connection"
    } else {
        "connections"
    };
    let most = format!("up to {} {connections} at a time", Count(most.into()));
    let mut text = if plan.max_connections == plan.possible {
        format!("{most}, as many as the limit of file descriptors allows\n")
    } else {
        format!(
            "{most}; the limit of file descriptors allows {}\n",
            Count(possible.into())
        )
    };
    let mut head = "try it with ";
    for transport in [Transport::Tcp, Transport::Udp] {
        let socket = sockets
            .iter()
            .find(|socket| socket.transport() == transport);
        if let Some(socket) = socket {
            for command in commands(transport, reachable(socket.address), plan.framing) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{head}{command}");
                head = "         or ";
            }
        }
    }
    if let Some(address) = unix.first() {
        let framing = match plan.framing {
            Framing::Raw => String::new(),
            framing => format!("--framing {framing} "),
        };
        let _ = writeln!(text, "{head}`oread connect {framing}{address}`");
    }
    let _ = writeln!(
        text,
        "stop it with Ctrl-C or `kill {}`: it drains, a second time ends it at once",
        std::process::id()
    );
    text
}

/// Commands that talk to a server.
fn commands(transport: Transport, address: SocketAddr, framing: Framing) -> Vec<String> {
    let (ip, port) = (address.ip(), address.port());
    match (transport, framing) {
        (Transport::Udp, _) => vec![
            format!("`nc -u {ip} {port}`"),
            format!("`oread connect --udp {address}`"),
        ],
        (Transport::Tcp, Framing::Raw) => vec![
            format!("`nc {ip} {port}`"),
            format!("`oread connect {address}`"),
        ],
        (Transport::Tcp, Framing::Lines) => vec![
            format!("`nc {ip} {port}`"),
            format!("`oread connect --framing lines {address}`"),
        ],
        // nc would send each line with its newline, which is part of no frame.
        (Transport::Tcp, framing) => {
            vec![format!("`oread connect --framing {framing} {address}`")]
        }
    }
}

/// An address that leads to a socket bound to `address`: a wildcard is none.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oread::CloseReason;

    #[test]
    fn a_wildcard_is_tried_on_loopback() {
        let tried = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(tried("0.0.0.0:7"), "127.0.0.1:7");
        assert_eq!(tried("[::]:7"), "[::1]:7");
        assert_eq!(tried("127.0.0.2:7"), "127.0.0.2:7");
    }

    #[test]
    fn a_framing_that_nc_cannot_speak_is_tried_with_connect_alone() {
        let address = "127.0.0.1:7".parse().unwrap();
        let framing: Framing = "fixed:4".parse().unwrap();
        assert_eq!(
            commands(Transport::Tcp, address, framing),
            ["`oread connect --framing fixed:4 127.0.0.1:7`"]
        );
    }

    #[test]
    fn the_summary_in_words_names_the_reasons_of_closes() {
        let mut totals = Totals::default();
        (0..1234).for_each(|_| totals.stats.closed.count(CloseReason::Finished));
        let report = Report {
            json: false,
            frames: false,
        };
        let text = report.summary(&totals, Duration::from_secs(3), 2);
        assert!(text.contains("closed       1,234 finished\n"), "{text}");
        assert!(
            text.starts_with("served for 3s\n") && text.contains("2 cut off"),
            "{text}"
        );
        assert!(!text.contains("frames"), "{text}");
        let report = Report {
            frames: true,
            ..report
        };
        let text = report.summary(&totals, Duration::from_secs(3), 2);
        assert!(
            text.contains("\n  frames       0 in, 0 out, 0 bad\n  datagrams"),
            "{text}"
        );
    }
}
