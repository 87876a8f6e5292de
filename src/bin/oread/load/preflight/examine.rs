//! What a load needs of a machine, and what there is.

use super::check::Check;
use super::ports;
use crate::failure::Failure;
use crate::load::options::load::{Load, MOST_TURNING_OVER, Traffic, Turnover};
use crate::load::options::sources::{Endpoint, sources};
use crate::system::descriptors::reserve;
use crate::system::machine::{Machine, is_own};
use crate::system::metrics::DESCRIPTORS;
use crate::values::target::{Resolved, Transport};
use crate::values::units::Count;

/// Kernel memory of one end of an idle TCP connection on Linux 6 (socket, file, inode, epoll item):
/// about 3.8 KB.
const KERNEL_BYTES_AN_END: u64 = 3_800;
/// Our own memory for a connection, of a server and of a load, with room for what the allocator
/// wastes.
const OUR_BYTES_AN_END: u64 = 300;

/// Our own memory for a connection over TLS beside that, measured with a chain of one certificate.
const OUR_BYTES_A_SESSION: u64 = 4_300;
/// Our own memory for each message under way beyond the first of its connection: when it was due,
/// and when it was sent.
const OUR_BYTES_A_MESSAGE: u64 = 16;
/// What the buffers of one end of a connection take at the most, as most systems are set
/// (`tcp_wmem`); what does not go in there waits in the load until it does.
const MOST_BUFFERED: u64 = 4 << 20;
/// The unit of `tcp_mem`. It's the machine's page; 4 KiB on all but few, and on those we only ask
/// for too little.
const PAGE: u64 = 4096;
/// How many connections the firewall tracks at the most.
const TRACKED: &str = "net.netfilter.nf_conntrack_max";

/// What the preflight found.
#[derive(Clone, Debug)]
pub(crate) struct Preflight {
    pub(crate) checks: Vec<Check>,
    /// The targets, and where to connect to each from.
    pub(crate) endpoints: Vec<Endpoint>,
}

impl Preflight {
    /// The shortfalls, a line each; none means that the load can be had.
    pub(crate) fn shortfalls(&self) -> Vec<String> {
        self.checks.iter().filter_map(Check::shortfall).collect()
    }
}

/// Holds a load against this machine.
///
/// # Errors
/// As [`examine`] and [`Machine::here`].
pub(crate) fn check(plan: &Load, targets: &[Resolved]) -> Result<Preflight, Failure> {
    examine(plan, targets, &Machine::here()?)
}

/// Holds a load against a machine. There is one target at least.
///
/// # Errors
/// As [`sources`].
fn examine(plan: &Load, targets: &[Resolved], machine: &Machine) -> Result<Preflight, Failure> {
    let ports = machine.ports_a_pair();
    let needed = ports::needed(plan, targets, machine);
    let mut endpoints = Vec::new();
    for (target, needed) in targets.iter().zip(&needed) {
        endpoints.push(Endpoint {
            resolved: target.clone(),
            sources: match target.address.socket_addr() {
                Some(address) => {
                    sources(&plan.sockets.source, address, *needed, ports, plan.shard)?
                }
                None => Vec::new(),
            },
        });
    }
    let ports = |of, name| ports::check((of, name), &endpoints, &needed, ports);
    let tcp = targets
        .iter()
        .any(|t| t.transport.carrier() == Transport::Tcp);
    let has_ports = targets.iter().any(|t| t.transport != Transport::Unix);
    let (ends, connections) = (ends(plan, targets), plan.connections.get().into());
    let files = machine.left("fs.file-nr", 2, "fs.file-nr");
    let tracked = machine.left(TRACKED, 0, "net.netfilter.nf_conntrack_count");
    let watches = machine.setting("fs.epoll.max_user_watches", 0);
    let backlog = machine.setting("net.core.somaxconn", 0);
    let is_own = plan.targets.is_empty();
    let limit = |name, needed: u64, here, setting: &str| {
        let mend = format!("`sysctl -w {setting}={}`", round_up(needed * 2));
        Some(Check::new(name, needed, here, mend))
    };
    let rows = [
        Some(descriptors(plan, machine)),
        limit("open files of the system", ends, files, "fs.file-max"),
        ports(Transport::Tcp, "local ports to a target"),
        ports(Transport::Udp, "local ports for UDP"),
        // Dials that come in while it's busy.
        limit("backlog of its server", 1024, backlog, "net.core.somaxconn").filter(|_| is_own),
        limit("tracked connections", connections, tracked, TRACKED).filter(|_| has_ports),
        limit("epoll watches", ends, watches, "fs.epoll.max_user_watches"),
        tcp.then(|| tcp_buffers(plan, machine, ends)),
        Some(memory(plan, machine, ends, tcp)),
    ];
    Ok(Preflight {
        checks: rows.into_iter().flatten().collect(),
        endpoints,
    })
}

/// How many ends of connections are on this machine: both, for a target on it.
fn ends(plan: &Load, targets: &[Resolved]) -> u64 {
    let is_local = |target: &&Resolved| target.address.socket_addr().is_none_or(is_own);
    let local = targets.iter().filter(is_local).count() as u64;
    let connections = u64::from(plan.connections.get());
    connections + connections * local / targets.len().max(1) as u64
}

/// Messages that a connection has under way at a time.
fn depth(plan: &Load) -> u64 {
    match plan.traffic {
        Traffic::Closed { depth, .. } => depth.into(),
        // Not said; one at a time, where the server keeps up.
        Traffic::Open(..) | Traffic::Idle { .. } => 1,
    }
}

fn descriptors(plan: &Load, machine: &Machine) -> Check {
    let connections = u64::from(plan.connections.get());
    let (threads, own_server) = (plan.sockets.threads, plan.targets.is_empty());
    let replacing = match plan.turnover {
        Turnover::Keep => 0,
        // The old one may still have its descriptor in the server.
        _ => connections.min(u64::from(threads.get()) * MOST_TURNING_OVER),
    };
    let metrics = plan.output.metrics.as_ref().map_or(0, |_| DESCRIPTORS);
    // The server of its own is one more thread. That has its listener, the others have their
    // timers.
    let with_server = connections * 2 + replacing + reserve(threads.saturating_add(1), 1, metrics);
    let alone = connections + reserve(threads, 1, metrics);
    let needed = if own_server { with_server } else { alone };
    let most = round_up(needed);
    // A limit of a process can't be over this one.
    let first = match machine.setting("fs.nr_open", 0) {
        Some(open) if open < most => format!("sysctl -w fs.nr_open={most} && "),
        _ => String::new(),
    };
    let mut mend = format!(
        "`{first}ulimit -Hn {most} && ulimit -n {most}` as root, in the shell that starts oread"
    );
    if own_server && machine.descriptors.is_some_and(|here| alone <= here) {
        let alone = Count(alone);
        mend = format!(
            "its own server doubles the need: start `oread serve` in another terminal and give its address as \
             TARGET, which needs {alone}; or {mend}"
        );
    }
    Check::new("file descriptors", needed, machine.descriptors, mend)
}

/// The messages under way on each connection, in whole pages, at either end.
fn tcp_buffers(plan: &Load, machine: &Machine, ends: u64) -> Check {
    let (_, largest) = plan.content.sizes();
    let under_way = u64::from(largest) * depth(plan);
    let needed = ends * under_way.next_multiple_of(PAGE).min(MOST_BUFFERED);
    let pages = needed.div_ceil(PAGE);
    let [low, pressure, most] = [pages, pages * 3 / 2, pages * 2].map(round_up);
    let name = match depth(plan) {
        1 => "TCP buffers, a message each",
        _ => "TCP buffers, all under way",
    };
    // Below the first nobody cares, above the second it's under pressure, the third is the limit.
    let here = machine.setting("net.ipv4.tcp_mem", 2);
    let mend = format!(
        "`sysctl -w net.ipv4.tcp_mem=\"{low} {pressure} {most}\"`, or fewer and smaller messages"
    );
    let here = here.map(|pages| pages.saturating_mul(PAGE));
    Check::new(name, needed, here, mend).in_bytes()
}

fn memory(plan: &Load, machine: &Machine, ends: u64, tcp: bool) -> Check {
    let further = u64::from(plan.connections.get()) * (depth(plan) - 1);
    let needed = ends * (KERNEL_BYTES_AN_END + OUR_BYTES_AN_END)
        + further * OUR_BYTES_A_MESSAGE
        + sessions(plan) * OUR_BYTES_A_SESSION;
    let mend = "take fewer connections, or a machine with more memory".to_owned();
    let here = machine.memory();
    let name = if tcp {
        "memory besides TCP buffers"
    } else {
        "memory"
    };
    Check::new(name, needed, here, mend).in_bytes()
}

/// How many connections are over TLS.
fn sessions(plan: &Load) -> u64 {
    let targets = &plan.targets;
    let over_tls = targets.iter().filter(|it| it.transport == Transport::Tls);
    u64::from(plan.connections.get()) * over_tls.count() as u64 / targets.len().max(1) as u64
}

/// The next number that is two digits and zeros: what one would type.
fn round_up(number: u64) -> u64 {
    let unit = 10_u64.pow(number.max(1).ilog10().saturating_sub(1));
    number.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these descriptors, and no scarcity of anything else.
    fn machine(descriptors: u64) -> Machine {
        Machine {
            descriptors: Some(descriptors),
            ..Machine::that_says(&[
                ("sys/fs/file-nr", "5000 0 1005000"),
                ("sys/fs/nr_open", "1048576"),
                ("sys/net/ipv4/ip_local_port_range", "32768\t60999"),
                ("sys/net/ipv4/tcp_tw_reuse", "2"),
                ("sys/net/core/somaxconn", "4096"),
                ("sys/net/netfilter/nf_conntrack_max", "262144"),
                ("sys/net/ipv4/tcp_mem", "131072\t262144\t524288"),
                ("sys/fs/epoll/max_user_watches", "5000000"),
                ("meminfo", "MemTotal: 1 kB\nMemAvailable:   16777216 kB\n"),
            ])
        }
    }

    fn target(address: &str) -> [Resolved; 1] {
        [Resolved {
            transport: Transport::Tcp,
            address: address.parse().unwrap(),
        }]
    }

    /// The shortfalls of a load of these connections; where `own_server`, it names no target.
    fn found(connections: u32, to: &str, own_server: bool, machine: &Machine) -> Vec<String> {
        let named = if own_server { "" } else { to };
        let plan = Load::of(&format!("-c {connections} {named}"));
        examine(&plan, &target(to), machine).unwrap().shortfalls()
    }

    #[test]
    fn what_can_be_had_has_no_shortfall() {
        assert_eq!(
            found(15_000, "127.0.0.1:9", false, &machine(20_000)),
            [] as [&str; 0]
        );
        assert_eq!(
            found(9_900, "127.0.0.1:9", true, &machine(20_000)),
            [] as [&str; 0]
        );
    }

    #[test]
    fn a_server_of_its_own_takes_a_second_descriptor_for_each_connection() {
        let lines = found(10_000, "127.0.0.1:9", true, &machine(20_000));
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
            let lines = found(connections, "127.0.0.1:9", own_server, &machine(20_000));
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains("20,000 here; `ulimit -Hn "), "{lines:?}");
        }
    }

    #[test]
    fn a_wider_range_of_ports_is_advised_for_what_it_is_enough_for() {
        const USUAL: &[(&str, &str)] = &[("sys/net/ipv4/ip_local_port_range", "32768\t60999")];
        const WIDE: &[(&str, &str)] = &[("sys/net/ipv4/ip_local_port_range", "1024\t65535")];
        let advice = |connections, ports| {
            let machine = Machine::that_says(ports);
            let lines = found(connections, "198.51.100.1:9", false, &machine);
            assert_eq!(lines.len(), 1, "{lines:?}");
            lines.into_iter().next().unwrap_or_default()
        };
        let wide = "`sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`";
        let few = advice(60_000, USUAL);
        let end = format!(
            "here; give 3 addresses of this machine with --source; or widen the range with {wide}"
        );
        assert!(few.ends_with(&end), "{few}");
        let many = advice(100_000, USUAL);
        let end = format!(
            "here; give 4 addresses of this machine with --source; or give 2, and widen the range with {wide}"
        );
        assert!(many.ends_with(&end), "{many}");
        let widened = advice(100_000, WIDE);
        assert!(
            widened.ends_with("64,512 here; give 2 addresses of this machine with --source"),
            "{widened}"
        );
    }

    #[test]
    fn ports_run_out_for_one_address_but_not_on_loopback() {
        let large = machine(1_000_000);
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
            ..Machine::that_says(&[
                ("sys/fs/file-nr", "900 0 1000"),
                ("sys/net/ipv4/ip_local_port_range", "1 100"),
                ("sys/net/core/somaxconn", "128"),
                ("sys/net/netfilter/nf_conntrack_max", "1000"),
                ("sys/net/netfilter/nf_conntrack_count", "900"),
                ("sys/net/ipv4/tcp_mem", "1 1 1"),
                ("sys/fs/epoll/max_user_watches", "100"),
                ("meminfo", "MemAvailable: 1024 kB"),
            ])
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
        let needed = |arguments: &str, name: &str| {
            let plan = Load::of(&format!("-c 100 {arguments}"));
            let found = examine(&plan, &target("192.0.2.1:9"), &machine(20_000)).unwrap();
            let check = found.checks.iter().find(|c| c.name.starts_with(name));
            check.unwrap().needed
        };
        let (one, deep) = ("192.0.2.1:9", "192.0.2.1:9 --depth 1001");
        assert_eq!(needed(one, "TCP buffers"), 100 * 4096);
        assert_eq!(needed(deep, "TCP buffers"), 100 * 16 * 4096);
        let more = needed(deep, "memory") - needed(one, "memory");
        assert_eq!(more, 100 * 1000 * 16);
        let more =
            needed("tls://192.0.2.1:9 --insecure 192.0.2.2:9", "memory") - needed(one, "memory");
        assert_eq!(more, 50 * OUR_BYTES_A_SESSION);
        let large = "192.0.2.1:9 --depth 1001 -s 1MiB";
        assert_eq!(needed(large, "TCP buffers"), 100 * MOST_BUFFERED);
        let more = needed("--churn 10", "file desc") - needed("", "file desc");
        assert_eq!(more, 100);
    }

    #[test]
    fn a_line_is_there_for_the_transports_that_it_is_about() {
        let names = |transport, address: &str| {
            let address = address.parse().unwrap();
            let targets = [Resolved { transport, address }];
            let found = examine(&Load::of("127.0.0.1:9"), &targets, &machine(20_000)).unwrap();
            let names = found.checks.iter().map(|check| check.name);
            names.collect::<Vec<_>>().join(", ")
        };
        let tcp = names(Transport::Tcp, "127.0.0.1:9");
        assert!(tcp.contains("tracked") && tcp.ends_with("memory besides TCP buffers"));
        let udp = names(Transport::Udp, "127.0.0.1:9");
        assert!(
            udp.contains("tracked") && udp.ends_with("watches, memory"),
            "{udp}"
        );
        let unix = names(Transport::Unix, "unix:/run/x.sock");
        assert!(
            !unix.contains("tracked") && unix.ends_with("watches, memory"),
            "{unix}"
        );
    }

    #[test]
    fn a_limit_of_descriptors_that_no_process_may_have_yet_is_raised_first() {
        let lines = found(2_000_000, "192.0.2.1:9", false, &machine(20_000));
        let first = "`sysctl -w fs.nr_open=2100000 && ulimit -Hn 2100000";
        assert!(lines[0].contains(first), "{lines:?}");
    }

    #[test]
    fn what_the_system_does_not_tell_is_no_shortfall() {
        assert_eq!(
            found(20_000, "127.0.0.1:9", true, &Machine::that_says(&[])),
            [] as [&str; 0]
        );
    }
}
