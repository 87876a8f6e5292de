//! What a load needs of a machine, and what there is.

use std::net::IpAddr;

use super::check::{Check, Wish};
use super::machine::{Machine, is_own};
use super::ports;
use crate::failure::Failure;
use crate::load::options::load::Load;
use crate::load::options::sources::sources;
use crate::load::options::target::{Resolved, Transport};
use crate::system::descriptors::reserve;
use crate::values::units::Count;

/// Kernel memory of one end of an idle TCP connection on Linux 6 (socket, file, inode, epoll item):
/// about 3.8 KB.
const KERNEL_BYTES_AN_END: u64 = 3_800;
/// Our own memory for a connection, of a server and of a load, with room for what the allocator
/// wastes.
const OUR_BYTES_AN_END: u64 = 300;

/// Our own memory for each message under way beyond the first of its connection: when it was due,
/// and when it was sent.
const OUR_BYTES_A_MESSAGE: u64 = 16;
/// What the buffers of one end of a connection take at the most, as most systems are set
/// (`tcp_wmem`); what does not go in there waits in the load until it does.
const MOST_BUFFERED: u64 = 4 << 20;
/// Connections a thread that may be on their way from an old one to its successor; the
/// generator's turnover. The old one may still have its descriptor in the server.
const REPLACING: u64 = 512;

/// What the preflight found.
#[derive(Clone, Debug)]
pub(crate) struct Preflight {
    pub(crate) checks: Vec<Check>,
    /// Where to connect from, for each target; empty: the system's choice.
    pub(crate) sources: Vec<Vec<IpAddr>>,
}

impl Preflight {
    /// The shortfalls, a line each; none means that the wish can be had.
    pub(crate) fn shortfalls(&self) -> Vec<String> {
        self.checks.iter().filter_map(Check::shortfall).collect()
    }
}

/// Holds a load against this machine.
///
/// # Errors
/// As [`examine`] and [`Machine::here`].
pub(crate) fn check(plan: &Load, targets: &[Resolved]) -> Result<Preflight, Failure> {
    examine(&Wish::of(plan, targets), &Machine::here()?)
}

/// Holds a wish against a machine.
///
/// # Errors
/// As [`sources`].
pub(crate) fn examine(wish: &Wish<'_>, machine: &Machine) -> Result<Preflight, Failure> {
    let connections = u64::from(wish.connections.get());
    let ports = machine.ports_a_pair();
    let needed = ports::needed(wish, machine);
    let sources: Vec<Vec<IpAddr>> = wish
        .targets
        .iter()
        .zip(&needed)
        .map(|(target, &needed)| match target.address.socket_addr() {
            Some(address) => sources(wish.sources, address, needed, ports),
            None => Ok(Vec::new()),
        })
        .collect::<Result<_, _>>()?;
    let ends = ends(wish, connections);
    let tcp = wish.targets.iter().any(|t| t.transport == Transport::Tcp);
    let sysctl = |name, value| vec![format!("`sysctl -w {name}={}`", round_up(value))];
    let mut checks = vec![descriptors(wish, machine, connections)];
    checks.push(Check::new(
        "open files of the system",
        ends,
        machine.files_left,
        sysctl("fs.file-max", ends * 2),
    ));
    checks.extend(ports::checks(wish, &needed, &sources, ports));
    if tcp && wish.own_server {
        // Dials that come in while the server is busy wait in its backlog.
        checks.push(Check::new(
            "backlog of its server",
            1024,
            machine.somaxconn,
            vec!["`sysctl -w net.core.somaxconn=4096`".to_owned()],
        ));
    }
    checks.push(Check::new(
        "tracked connections",
        connections,
        machine.conntrack_left,
        sysctl("net.netfilter.nf_conntrack_max", connections * 2),
    ));
    checks.push(Check::new(
        "epoll watches",
        ends,
        machine.watches,
        sysctl("fs.epoll.max_user_watches", ends * 2),
    ));
    if tcp {
        checks.push(tcp_buffers(wish, machine, ends));
    }
    let memory = Check::new(
        "memory besides TCP buffers",
        ends * (KERNEL_BYTES_AN_END + OUR_BYTES_AN_END)
            + connections * u64::from(wish.depth - 1) * OUR_BYTES_A_MESSAGE,
        machine.memory,
        vec!["take fewer connections, or a machine with more memory".to_owned()],
    );
    checks.push(memory.in_bytes());
    Ok(Preflight { checks, sources })
}

/// How many ends of connections are on this machine: both, for a target on it.
fn ends(wish: &Wish<'_>, connections: u64) -> u64 {
    let is_local = |target: &&Resolved| target.address.socket_addr().is_none_or(is_own);
    let local = wish.targets.iter().filter(is_local).count() as u64;
    connections + connections * local / wish.targets.len().max(1) as u64
}

fn descriptors(wish: &Wish<'_>, machine: &Machine, connections: u64) -> Check {
    // The server of its own is one more thread. That has its listener, the others have their
    // timers.
    let replacing = match wish.turnover {
        Some(_) => connections.min(u64::from(wish.threads.get()) * REPLACING),
        None => 0,
    };
    let with_server = connections * 2 + replacing + reserve(wish.threads.saturating_add(1), 1);
    let alone = connections + reserve(wish.threads, 1);
    let needed = if wish.own_server { with_server } else { alone };
    let mut mends = vec![format!(
        "`ulimit -Hn {0} && ulimit -n {0}` as root before it",
        round_up(needed)
    )];
    if wish.own_server && machine.descriptors.is_some_and(|here| alone <= here) {
        let apart = format!(
            "its own server doubles the need: start `oread serve` in another terminal and give its address as \
             TARGET, which needs {}",
            Count(alone)
        );
        mends.insert(0, apart);
    }
    Check::new("file descriptors", needed, machine.descriptors, mends)
}

/// The messages under way on each connection, in whole pages, at either end.
fn tcp_buffers(wish: &Wish<'_>, machine: &Machine, ends: u64) -> Check {
    let under_way = u64::from(wish.message) * u64::from(wish.depth);
    let needed = ends * under_way.next_multiple_of(4096).min(MOST_BUFFERED);
    let pages = needed.div_ceil(4096);
    let name = match wish.depth {
        1 => "TCP buffers, a message each",
        _ => "TCP buffers, all under way",
    };
    let mend = format!(
        "`sysctl -w net.ipv4.tcp_mem=\"{} {} {}\"`, or fewer and smaller messages",
        round_up(pages),
        round_up(pages * 3 / 2),
        round_up(pages * 2)
    );
    Check::new(name, needed, machine.tcp_buffers, vec![mend]).in_bytes()
}

/// The next number that is two digits and zeros: what one would type.
fn round_up(number: u64) -> u64 {
    let unit = 10_u64.pow(number.max(1).ilog10().saturating_sub(1));
    number.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    fn machine() -> Machine {
        Machine {
            descriptors: Some(20_000),
            files_left: Some(1_000_000),
            ports: Some(32_768..=60_999),
            time_wait_reuse: Some(2),
            somaxconn: Some(4096),
            conntrack_left: Some(262_144),
            tcp_buffers: Some(2 << 30),
            watches: Some(5_000_000),
            memory: Some(16 << 30),
        }
    }

    fn found(connections: u32, target: &str, own_server: bool, machine: &Machine) -> Vec<String> {
        let target = [Resolved {
            transport: Transport::Tcp,
            address: target.parse().unwrap(),
        }];
        let wish = Wish {
            connections: NonZeroU32::new(connections).unwrap(),
            own_server,
            ..Wish::of_one(&target)
        };
        examine(&wish, machine).unwrap().shortfalls()
    }

    #[test]
    fn what_can_be_had_has_no_shortfall() {
        assert_eq!(
            found(15_000, "127.0.0.1:9", false, &machine()),
            [] as [&str; 0]
        );
        assert_eq!(
            found(9_900, "127.0.0.1:9", true, &machine()),
            [] as [&str; 0]
        );
    }

    #[test]
    fn a_server_of_its_own_takes_a_second_descriptor_for_each_connection() {
        let lines = found(10_000, "127.0.0.1:9", true, &machine());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("file descriptors: 20,0"), "{lines:?}");
        // The server apart is what one can do without being root: it comes first.
        assert!(
            lines[0].contains("20,000 here; its own server doubles the need: start `oread serve`"),
            "{lines:?}"
        );
        assert!(
            lines[0].contains("TARGET, which needs 10,021; or `ulimit -Hn 21000"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_server_apart_is_advised_only_where_it_is_enough() {
        for (connections, own_server) in [(20_000, true), (20_000, false)] {
            let lines = found(connections, "127.0.0.1:9", own_server, &machine());
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains("20,000 here; `ulimit -Hn "), "{lines:?}");
        }
    }

    #[test]
    fn a_wider_range_of_ports_is_advised_for_what_it_is_enough_for() {
        let machine = |ports| Machine {
            ports: Some(ports),
            ..Machine::default()
        };
        let advice = |connections, ports| {
            let lines = found(connections, "198.51.100.1:9", false, &machine(ports));
            assert_eq!(lines.len(), 1, "{lines:?}");
            lines.into_iter().next().unwrap_or_default()
        };
        let usual = 32_768..=60_999;
        let wide = "`sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`";
        let few = advice(60_000, usual.clone());
        let end = format!(
            "here; give 3 addresses of this machine with --source; or widen the range with {wide}"
        );
        assert!(few.ends_with(&end), "{few}");
        let many = advice(100_000, usual);
        let end = format!(
            "here; give 4 addresses of this machine with --source; or give 2, and widen the range with {wide}"
        );
        assert!(many.ends_with(&end), "{many}");
        let widened = advice(100_000, 1024..=65_535);
        assert!(
            widened.ends_with("64,512 here; give 2 addresses of this machine with --source"),
            "{widened}"
        );
    }

    #[test]
    fn ports_run_out_for_one_address_but_not_on_loopback() {
        let large = Machine {
            descriptors: None,
            ..machine()
        };
        let lines = found(30_000, "198.51.100.1:9", false, &large);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains("30,000 needed, 28,232 here; give 2 addresses"),
            "{lines:?}"
        );
        assert_eq!(found(30_000, "127.0.0.1:9", false, &large), [] as [&str; 0]);
        assert_eq!(found(30_000, "[::1]:9", false, &large).len(), 1);
    }

    #[test]
    fn each_limit_has_its_own_line_and_its_own_command() {
        let poor = Machine {
            descriptors: Some(100),
            files_left: Some(100),
            ports: Some(1..=100),
            time_wait_reuse: Some(2),
            somaxconn: Some(128),
            conntrack_left: Some(100),
            tcp_buffers: Some(4096),
            watches: Some(100),
            memory: Some(1 << 20),
        };
        let lines = found(1_000, "[::1]:9", true, &poor);
        assert_eq!(lines.len(), 8, "{lines:#?}");
        for word in [
            "ulimit",
            "file-max",
            "--source",
            "somaxconn",
            "conntrack",
            "watches",
            "tcp_mem",
            "memory",
        ] {
            assert_eq!(
                lines.iter().filter(|line| line.contains(word)).count(),
                1,
                "{word} in {lines:#?}"
            );
        }
    }

    #[test]
    fn messages_under_way_take_buffers_and_memory_and_replaced_connections_descriptors() {
        let target = [Resolved {
            transport: Transport::Tcp,
            address: "192.0.2.1:9".parse().unwrap(),
        }];
        let needed = |wish: &Wish<'_>, name: &str| {
            let found = examine(wish, &machine()).unwrap();
            let check = found
                .checks
                .iter()
                .find(|check| check.name.starts_with(name));
            check.unwrap().needed
        };
        let one = Wish {
            connections: NonZeroU32::new(100).unwrap(),
            ..Wish::of_one(&target)
        };
        let deep = Wish { depth: 1001, ..one };
        assert_eq!(needed(&one, "TCP buffers"), 100 * 4096);
        assert_eq!(needed(&deep, "TCP buffers"), 100 * 16 * 4096);
        assert_eq!(
            needed(&deep, "memory") - needed(&one, "memory"),
            100 * 1000 * 16
        );
        let large = Wish {
            message: 1 << 24,
            ..deep
        };
        assert_eq!(needed(&large, "TCP buffers"), 100 * MOST_BUFFERED);
        let own = Wish {
            own_server: true,
            ..one
        };
        let turned = Wish {
            turnover: Some((10, Duration::MAX)),
            ..own
        };
        let more = needed(&turned, "file desc") - needed(&own, "file desc");
        assert_eq!(more, 100);
    }

    #[test]
    fn what_the_system_does_not_tell_is_no_shortfall() {
        assert_eq!(
            found(20_000, "127.0.0.1:9", true, &Machine::default()),
            [] as [&str; 0]
        );
    }
}
