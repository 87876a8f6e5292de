//! Local ports: how many a load needs, and how many there are.
//!
//! Over TCP a port is one for a pair of a source and a target: the system gives the same port again
//! to another target, as it's chosen when the target is known. Over UDP it's chosen before, by the
//! bind, so that all flows from a source share its ports, whatever they go to.

use std::net::IpAddr;

use super::check::{Check, Wish};
use super::machine::Machine;
use crate::load::options::target::{Resolved, Transport};

/// How long whoever closes first keeps the pair of addresses (TIME_WAIT of Linux), in seconds.
const KEPT: f64 = 60.0;
/// How long where the system may use it again (`tcp_tw_reuse`).
const KEPT_FOR_REUSE: f64 = 1.0;
/// Ports in the widest range that is advised, 1024 to 65535.
const WIDE: u64 = 64_512;
/// Connections that no thread of any machine replaces in a second, whatever rate is asked for.
const MOST_A_SECOND: u64 = 50_000;

/// How many ports the connections to each target need, of all its sources together. Connections are
/// dealt out to the targets in turn; a target that is given twice has twice as many.
pub(crate) fn needed(wish: &Wish<'_>, machine: &Machine) -> Vec<u64> {
    let targets = wish.targets.len().max(1) as u64;
    let each = u64::from(wish.connections.get()).div_ceil(targets);
    let need = |target: &Resolved| {
        let shares = wish.targets.iter().filter(|other| shares(target, other));
        (each + kept(wish, machine, target).div_ceil(targets)) * shares.count() as u64
    };
    wish.targets.iter().map(need).collect()
}

/// Whether connections to two targets take ports from each other.
fn shares(one: &Resolved, other: &Resolved) -> bool {
    one.transport == other.transport
        && match one.transport {
            Transport::Tcp => one.address == other.address,
            Transport::Udp => is_ipv4(one) == is_ipv4(other),
            // It has no ports.
            Transport::Unix => false,
        }
}

fn is_ipv4(target: &Resolved) -> bool {
    target.address.socket_addr().is_some_and(|at| at.is_ipv4())
}

/// Ports of connections that the load has closed and that the system keeps for a while, at the most
/// at a time.
fn kept(wish: &Wish<'_>, machine: &Machine, target: &Resolved) -> u64 {
    let Some(reuse) = machine.time_wait_reuse else {
        return 0;
    };
    // 1: everywhere, 2: on loopback.
    let address = target.address.socket_addr();
    let near = address.is_some_and(|at| at.ip().to_canonical().is_loopback());
    let at_once = reuse == 1 || (reuse == 2 && near);
    let kept = if at_once { KEPT_FOR_REUSE } else { KEPT };
    match (target.transport, wish.turnover) {
        (Transport::Tcp, Some((a_second, lasts))) => {
            let a_second = a_second.min(MOST_A_SECOND * u64::from(wish.threads.get()));
            (a_second as f64 * kept.min(lasts.as_secs_f64())).ceil() as u64
        }
        _ => 0,
    }
}

/// The lines of the table: the target that has the fewest for what it needs, over TCP, and over
/// UDP.
pub(crate) fn checks(
    wish: &Wish<'_>,
    needed: &[u64],
    sources: &[Vec<IpAddr>],
    ports: u64,
) -> Vec<Check> {
    let mut checks = Vec::new();
    for (transport, name) in [
        (Transport::Tcp, "local ports to a target"),
        (Transport::Udp, "local ports for UDP"),
    ] {
        let all = wish.targets.iter().zip(needed).zip(sources);
        let scarcest = all
            .filter(|((target, _), _)| target.transport == transport)
            .map(|((_, &needed), sources)| (needed, sources.len().max(1) as u64))
            // By what is left.
            .min_by_key(|&(needed, sources)| i128::from(sources * ports) - i128::from(needed));
        if let Some((needed, sources)) = scarcest {
            checks.push(check(name, needed, sources, ports));
        }
    }
    checks
}

fn check(name: &'static str, needed: u64, sources: u64, ports: u64) -> Check {
    let addresses = |ports: u64| needed.div_ceil(ports.max(1));
    let more = format!(
        "give {} addresses of this machine with --source",
        addresses(ports)
    );
    let widen = "`sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`";
    let mut mends = vec![more];
    if ports < WIDE {
        mends.push(if needed <= sources * WIDE {
            format!("widen the range with {widen}")
        } else {
            format!("give {}, and widen the range with {widen}", addresses(WIDE))
        });
    }
    Check::new(name, needed, Some(sources * ports), mends)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    fn of(transport: Transport, address: &str) -> Resolved {
        Resolved {
            transport,
            address: address.parse().unwrap(),
        }
    }

    fn wish(connections: u32, targets: &[Resolved]) -> Wish<'_> {
        Wish {
            connections: NonZeroU32::new(connections).unwrap(),
            targets,
            ..Wish::of_one(targets)
        }
    }

    #[test]
    fn over_udp_all_targets_share_a_source_s_ports_and_over_tcp_none_do() {
        let machine = Machine::default();
        let udp = ["127.0.0.1:7", "127.0.0.1:8"].map(|address| of(Transport::Udp, address));
        assert_eq!(needed(&wish(300, &udp), &machine), [300, 300]);
        let tcp = ["127.0.0.1:7", "127.0.0.1:8"].map(|address| of(Transport::Tcp, address));
        assert_eq!(needed(&wish(300, &tcp), &machine), [150, 150]);
        let both = [
            udp[0].clone(),
            tcp[0].clone(),
            udp[1].clone(),
            tcp[0].clone(),
            of(Transport::Udp, "[::1]:7"),
        ];
        assert_eq!(needed(&wish(50, &both), &machine), [20, 20, 20, 20, 10]);
    }

    #[test]
    fn the_target_with_the_fewest_ports_left_is_the_line() {
        let targets = ["udp 192.0.2.1:7", "udp 192.0.2.1:8", "tcp 192.0.2.1:7"].map(|text| {
            let (transport, address) = text.split_once(' ').unwrap();
            let udp = transport == "udp";
            of(if udp { Transport::Udp } else { Transport::Tcp }, address)
        });
        let wish = wish(450, &targets);
        let source = vec!["192.0.2.9".parse().unwrap()];
        let sources = vec![source.clone(), source, Vec::new()];
        let found = checks(&wish, &needed(&wish, &Machine::default()), &sources, 200);
        let lines = found.iter().map(|c| (c.name, c.needed, c.here, c.is_met()));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                ("local ports to a target", 150, Some(200), true),
                ("local ports for UDP", 300, Some(200), false)
            ]
        );
        assert!(found[1].mend().contains("give 2 addresses"));
    }

    #[test]
    fn what_is_closed_keeps_its_port_for_a_minute_or_for_a_second() {
        let near = [of(Transport::Tcp, "127.0.0.1:7")];
        let far = [of(Transport::Tcp, "192.0.2.1:7")];
        let needed = |targets: &[Resolved], reuse, seconds| {
            let machine = Machine {
                time_wait_reuse: reuse,
                ..Machine::default()
            };
            let turnover = Some((1000, Duration::from_secs(seconds)));
            let wish = Wish {
                turnover,
                ..wish(100, targets)
            };
            needed(&wish, &machine)[0]
        };
        assert_eq!(needed(&far, Some(2), 300), 60_100);
        assert_eq!(needed(&far, Some(2), 10), 10_100);
        assert_eq!(needed(&far, Some(1), 300), 1_100);
        assert_eq!(needed(&near, Some(2), 300), 1_100);
        assert_eq!(needed(&near, Some(0), 300), 60_100);
        assert_eq!(needed(&near, None, 300), 100);
    }
}
