//! Local ports: how many a load needs, and how many there are.
//!
//! Over TCP a port is one for a pair of a source and a target: the system gives the same port again
//! to another target, as it's chosen when the target is known. Over UDP it's chosen before, by the
//! bind, so that all flows from a source share its ports, whatever they go to.

use std::net::SocketAddr;
use std::time::Duration;

use super::check::Check;
use crate::load::options::load::{Load, Volume};
use crate::load::options::sources::Endpoint;
use crate::system::machine::Machine;
use crate::values::target::{Resolved, Transport};

/// How long whoever closes first keeps the pair of addresses (TIME_WAIT of Linux), in seconds.
const KEPT: f64 = 60.0;
/// How long where the system may use it again (`tcp_tw_reuse`).
const KEPT_FOR_REUSE: f64 = 1.0;
/// Ports in the widest range that is advised, 1024 to 65535.
const WIDE: u64 = 64_512;

/// How many ports the connections to each target need, of all its sources together. Connections are
/// dealt out to the targets in turn; a target that is given twice has twice as many.
pub(crate) fn needed(plan: &Load, targets: &[Resolved], machine: &Machine) -> Vec<u64> {
    let count = targets.len().max(1) as u64;
    let each = u64::from(plan.connections.get()).div_ceil(count);
    let need = |target: &Resolved| {
        let sharing = targets.iter().filter(|other| pool(target) == pool(other));
        (each + kept(plan, machine, target).div_ceil(count)) * sharing.count() as u64
    };
    targets.iter().map(need).collect()
}

/// What is the same for two targets if connections to them take ports from each other: the address
/// over TCP, and its family over UDP.
fn pool(target: &Resolved) -> (Option<SocketAddr>, Option<bool>) {
    let address = target.address.socket_addr();
    match target.transport.carrier() {
        Transport::Udp => (None, address.map(|address| address.is_ipv4())),
        _ => (address, None),
    }
}

/// Ports of connections that the load has closed and that the system keeps for a while, at the most
/// at a time.
fn kept(plan: &Load, machine: &Machine, target: &Resolved) -> u64 {
    let reuse = machine.setting("net.ipv4.tcp_tw_reuse", 0);
    let (Some(reuse), Transport::Tcp) = (reuse, target.transport.carrier()) else {
        return 0;
    };
    let closed = plan.turnover.a_second(plan.connections).unwrap_or(0.0);
    let lasts = match plan.volume {
        Volume::For(duration) => plan.warmup.saturating_add(duration),
        Volume::Messages(_) => Duration::MAX,
    };
    // 1: everywhere, 2: on loopback.
    let address = target.address.socket_addr();
    let near = address.is_some_and(|at| at.ip().to_canonical().is_loopback());
    let at_once = reuse == 1 || (reuse == 2 && near);
    let kept = if at_once { KEPT_FOR_REUSE } else { KEPT };
    (closed * kept.min(lasts.as_secs_f64())).ceil() as u64
}

/// The line of the table for a transport, if there are such targets: it's on the one that has the
/// fewest ports for what it needs.
pub(crate) fn check(
    (transport, name): (Transport, &'static str),
    endpoints: &[Endpoint],
    needed: &[u64],
    ports: u64,
) -> Option<Check> {
    let all = endpoints.iter().zip(needed);
    let (needed, sources) = all
        .filter(|(endpoint, _)| endpoint.resolved.transport.carrier() == transport)
        .map(|(endpoint, &needed)| (needed, endpoint.sources.len().max(1) as u64))
        // By what is left.
        .min_by_key(|&(needed, sources)| i128::from(sources * ports) - i128::from(needed))?;
    let addresses = |ports: u64| needed.div_ceil(ports.max(1));
    let widen = "widen the range with `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`";
    let or = match addresses(WIDE) {
        _ if ports >= WIDE => String::new(),
        few if few <= sources => format!("; or {widen}"),
        more => format!("; or give {more}, and {widen}"),
    };
    let more = addresses(ports);
    let mend = format!("give {more} addresses of this machine with --source{or}");
    Some(Check::new(name, needed, Some(sources * ports), mend))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Resolved {
        let (transport, address) = text.split_once("://").unwrap();
        Resolved {
            transport: match transport {
                "udp" => Transport::Udp,
                _ => Transport::Tcp,
            },
            address: address.parse().unwrap(),
        }
    }

    fn needed_by(arguments: &str, targets: &[&str]) -> Vec<u64> {
        let targets: Vec<Resolved> = targets.iter().map(|text| of(text)).collect();
        needed(&Load::of(arguments), &targets, &Machine::that_says(&[]))
    }

    #[test]
    fn over_udp_all_targets_share_a_source_s_ports_and_over_tcp_none_do() {
        let udp = ["udp://127.0.0.1:7", "udp://127.0.0.1:8"];
        assert_eq!(needed_by("-c 300", &udp), [300, 300]);
        let tcp = ["tcp://127.0.0.1:7", "tcp://127.0.0.1:8"];
        assert_eq!(needed_by("-c 300", &tcp), [150, 150]);
        let all = [udp[0], tcp[0], udp[1], tcp[0], "udp://[::1]:7"];
        assert_eq!(needed_by("-c 50", &all), [20, 20, 20, 20, 10]);
    }

    #[test]
    fn the_target_with_the_fewest_ports_left_is_the_line() {
        let all = [
            "udp://192.0.2.1:7",
            "udp://192.0.2.1:8",
            "tcp://192.0.2.1:7",
        ];
        let endpoints = all.map(|text| Endpoint {
            resolved: of(text),
            sources: vec!["192.0.2.9".parse().unwrap()],
        });
        let needed = needed_by("-c 450", &all);
        let line = |transport| check((transport, ""), &endpoints, &needed, 200);
        let tcp = line(Transport::Tcp).unwrap();
        assert_eq!((tcp.needed, tcp.here), (150, Some(200)));
        let udp = line(Transport::Udp).unwrap();
        assert_eq!((udp.needed, udp.here), (300, Some(200)));
        assert!(udp.mend.contains("give 2 addresses"), "{}", udp.mend);
        assert_eq!(line(Transport::Unix), None);
    }

    #[test]
    fn what_is_closed_keeps_its_port_for_a_minute_or_for_a_second() {
        const REUSE: &str = "sys/net/ipv4/tcp_tw_reuse";
        let near = [of("tcp://127.0.0.1:7")];
        let far = [of("tcp://192.0.2.1:7")];
        let needed = |targets: &[Resolved], machine: &'static [_], arguments: &str| {
            let plan = Load::of(&format!("-c 100 {arguments}"));
            needed(&plan, targets, &Machine::that_says(machine))[0]
        };
        let long = "--churn 1000 -d 300s";
        assert_eq!(needed(&far, &[(REUSE, "2")], long), 60_100);
        assert_eq!(needed(&far, &[(REUSE, "2")], "--churn 1000 -d 10s"), 10_100);
        assert_eq!(needed(&far, &[(REUSE, "1")], long), 1_100);
        assert_eq!(needed(&near, &[(REUSE, "2")], long), 1_100);
        assert_eq!(needed(&near, &[(REUSE, "0")], long), 60_100);
        assert_eq!(needed(&near, &[], long), 100);
        let lifetime = "--lifetime 100ms -n 5000";
        assert_eq!(needed(&far, &[(REUSE, "0")], lifetime), 60_100);
    }
}
