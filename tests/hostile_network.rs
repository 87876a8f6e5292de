//! Two hosts with a line between them that loses packets, breaks, and is cut; senders whose
//! addresses are forged. The hosts are network namespaces, the line is a pair of veth interfaces.
//! All of it goes with the processes in it, however they end.
//!
//! Where no namespaces are to be had, the tests say so and pass. Packets are lost by netem or, in a
//! kernel without it, by nft.
#![cfg(not(mio_unsupported_force_poll_poll))]
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/cli.rs"]
mod cli;
#[path = "common/hostile.rs"]
mod hostile;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use cli::{Server, signal};
use hostile::{Heard, Latencies, PATIENCE, Peer, size, try_connect};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

/// Set for the tests that run in a host of their own.
const INSIDE: &str = "OREAD_TEST_HOSTS";
/// The hosts' addresses; those of 198.51.100.0/24 are nobody's, and their answers go nowhere.
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const NOBODY: [u8; 3] = [198, 51, 100];

/// Runs a test of this program in a host of its own. It can't be had everywhere.
fn in_a_host_of_its_own(test: &str) {
    let unshare = |program: &str| {
        let mut command = Command::new("unshare");
        // The other host is made within it, and is as much its own.
        command.args(["-rn", program]);
        command
    };
    let needed = "ip link set lo up && unshare -n true && ip link add oread0 type veth peer name oread1 \
         && command -v nsenter";
    let possible = unshare("sh").args(["-c", needed]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        println!("skipped: there are no two hosts to be had (unshare -rn, ip, nsenter)");
        return;
    }
    let me = std::env::current_exe().unwrap();
    let output = unshare(me.to_str().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("1 passed"), "it did not run: {said}");
}

/// Runs a shell's words; whether they succeeded.
fn shell(words: &str) -> bool {
    let output = Command::new("sh").args(["-ec", words]).output().unwrap();
    if !output.status.success() {
        println!(
            "{words}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    output.status.success()
}

/// The other host, and the line to it. It lives as long as this does.
struct Host {
    child: Child,
    /// At the end of its input, which comes with the end of this process at the latest, it ends.
    _input: ChildStdin,
}

impl Host {
    /// Makes it; `None` where this is not a test inside.
    fn new() -> Option<Host> {
        std::env::var_os(INSIDE)?;
        let mut child = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let input = child.stdin.take().unwrap();
        let host = Host {
            child,
            _input: input,
        };
        let pid = host.child.id();
        let here = format!(
            "ip link set lo up; ip link add oread0 type veth peer name oread1 netns {pid}; \
             ip address add {HERE}/24 dev oread0; ip link set oread0 up"
        );
        assert!(shell(&here));
        let there = format!(
            "ip link set lo up; ip address add {THERE}/24 dev oread1; ip link set oread1 up; \
             ip route add default via {HERE}"
        );
        assert!(host.shell(&there));
        Some(host)
    }

    /// Words in front of a command for it to run there.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.child.id().to_string(), "-n"]);
        command
    }

    /// Runs a shell's words there.
    fn shell(&self, words: &str) -> bool {
        let words = words.replace('\'', "'\\''");
        let pid = self.child.id();
        shell(&format!("nsenter -t {pid} -n sh -ec '{words}'"))
    }

    /// A server there.
    fn serve(&self, arguments: &[&str]) -> Server {
        let mut command = self.enter();
        let address = format!("{THERE}:0");
        command.args([env!("CARGO_BIN_EXE_oread"), "serve", &address, "--json"]);
        command
            .args(["--tcp"])
            .args(arguments)
            .env_remove("RUST_LOG");
        Server::run(command)
    }

    /// A counter of its system, from /proc/net/netstat: a line of names, and one of numbers below
    /// it.
    fn counter(&self, group: &str, name: &str) -> u64 {
        let output = self
            .enter()
            .args(["cat", "/proc/net/netstat"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines().filter(|line| line.starts_with(group));
        let mut words = || lines.next().unwrap().split(' ');
        let (mut names, mut numbers) = (words(), words());
        let at = names.position(|word| word == name).unwrap();
        numbers.nth(at).unwrap().parse().unwrap()
    }

    /// Loses so many of a hundred packets, in either direction; false where the system can't.
    fn lose(&self, percent: u32) -> bool {
        let netem = |interface| format!("tc qdisc add dev {interface} root netem loss {percent}%");
        if shell(&netem("oread0")) && self.shell(&netem("oread1")) {
            return true;
        }
        let nft = |interface| {
            format!(
                "nft add table netdev lossy; nft add chain netdev lossy line \
                 '{{ type filter hook ingress device {interface} priority 0; }}'; \
                 nft add rule netdev lossy line ip protocol tcp numgen random mod 100 \\< {percent} drop"
            )
        };
        shell(&nft("oread0")) && self.shell(&nft("oread1"))
    }

    /// Breaks the line, so that neither host hears of the other; or mends it. Neither has an
    /// interface go down, as neither would if a switch between them failed: each one's packets go
    /// to an address that nobody has.
    fn break_line(&self, broken: bool) {
        let change = |interface: &str, peer: Ipv4Addr| match broken {
            true => {
                format!(
                    "ip neigh replace {peer} lladdr 02:00:00:00:00:99 dev {interface} nud permanent"
                )
            }
            false => format!("ip neigh del {peer} dev {interface}"),
        };
        assert!(shell(&change("oread0", THERE)));
        assert!(self.shell(&change("oread1", HERE)));
    }

    /// Cuts the line, or mends it: the other host's interface goes down.
    fn cut_line(&self, cut: bool) {
        let state = if cut { "down" } else { "up" };
        assert!(shell(&format!("ip link set oread0 {state}")));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says and takes, both at once, until `count` bytes are back; `at` is called with how many are,
/// again and again.
fn transfer(peer: &mut Peer, count: u64, mut at: impl FnMut(u64)) {
    let start = Instant::now();
    while peer.heard < count {
        assert!(start.elapsed() < PATIENCE, "{} bytes are back", peer.heard);
        let left = usize::try_from(count - peer.said).unwrap();
        let said = peer.say(left.min(64 << 10));
        let heard = peer.hear(64 << 10);
        match heard {
            Heard::Bytes(_) => at(peer.heard),
            Heard::Nothing if said == 0 => sleep(Duration::from_millis(1)),
            Heard::Nothing => {}
            Heard::End | Heard::Reset => panic!("{heard:?} after {} bytes", peer.heard),
        }
    }
}

#[test]
fn over_a_line_that_loses_packets_every_byte_comes_back() {
    in_a_host_of_its_own("inside_over_a_line_that_loses_packets");
}

#[test]
#[ignore = "started by over_a_line_that_loses_packets_every_byte_comes_back"]
fn inside_over_a_line_that_loses_packets() {
    let Some(host) = Host::new() else { return };
    let server = host.serve(&[]);
    if !host.lose(3) {
        println!("skipped: nothing here loses packets (netem, nft)");
        return;
    }
    let count = size(1 << 20, 50 << 20) as u64;
    let address = server.tcp();
    let peers = (0..4).map(|seed| {
        thread::spawn(move || {
            let mut peer = Peer::connect(address, seed).hurried();
            transfer(&mut peer, count, |_| {});
            peer.finish();
        })
    });
    let peers: Vec<_> = peers.collect();
    for peer in peers {
        peer.join().unwrap();
    }
    let again: u64 = [
        "TCPFastRetrans",
        "TCPSlowStartRetrans",
        "TCPTimeouts",
        "TCPLossProbes",
    ]
    .map(|name| host.counter("TcpExt", name))
    .iter()
    .sum();
    println!("the server's system sent again {again} times");
    assert!(again > 0, "nothing was lost");
    let ended = server.stop();
    assert_eq!(ended.summary()["closed"]["finished"], 4);
    assert_eq!(ended.count("bytes_out"), 4 * count);
}

#[test]
fn a_transfer_goes_on_after_a_partition_and_nothing_of_it_is_missing() {
    in_a_host_of_its_own("inside_a_transfer_goes_on_after_a_partition");
}

#[test]
#[ignore = "started by a_transfer_goes_on_after_a_partition_and_nothing_of_it_is_missing"]
fn inside_a_transfer_goes_on_after_a_partition() {
    const COUNT: u64 = 8 << 20;
    let Some(host) = Host::new() else { return };
    let server = host.serve(&[]);
    // Both ways of parting: packets that go nowhere, and an interface that is down.
    for (seed, cut) in [(1, false), (2, true)] {
        let part = |parted| match cut {
            true => host.cut_line(parted),
            false => host.break_line(parted),
        };
        let mut peer = Peer::connect(server.tcp(), seed).hurried();
        let mut parted = false;
        transfer(&mut peer, COUNT, |heard| {
            if heard > COUNT / 3 && !parted {
                parted = true;
                part(true);
                // Longer than the system waits before it sends again for the first times.
                sleep(Duration::from_millis(700));
                part(false);
            }
        });
        assert!(parted);
        peer.finish();
    }
    let ended = server.stop();
    assert_eq!(ended.summary()["closed"]["finished"], 2);
}

#[test]
fn peers_behind_a_partition_are_given_up_in_time_and_the_others_are_served() {
    in_a_host_of_its_own("inside_peers_behind_a_partition_are_given_up");
}

/// Whether the last event of a server's counters is as wanted, within our patience.
fn until_told(server: &mut Server, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
    let start = Instant::now();
    while !is_so(&server.event()) {
        assert!(start.elapsed() < PATIENCE, "it is never told: {what}");
    }
}

/// How many connections were closed for want of an answer, by the reactor's clock or by the
/// system's.
fn given_up(counters: &serde_json::Value) -> u64 {
    let closed = &counters["closed"];
    closed["write_timeout"].as_u64().unwrap() + closed["failed"].as_u64().unwrap()
}

#[test]
#[ignore = "started by peers_behind_a_partition_are_given_up_in_time_and_the_others_are_served"]
fn inside_peers_behind_a_partition_are_given_up() {
    const PEERS: u64 = 20;
    let Some(host) = Host::new() else { return };
    let mut server = host.serve(&["--write-timeout", "2s", "--stats", "50ms"]);
    let mut peers: Vec<_> = (0..PEERS)
        .map(|seed| Peer::connect(server.tcp(), seed).hurried())
        .collect();
    // Half of them have much to take, the others little: it's in the system's hands, not in the
    // reactor's.
    for (number, peer) in peers.iter_mut().enumerate() {
        let most = if number % 2 == 0 { 8 << 20 } else { 1000 };
        let start = Instant::now();
        while peer.said < most && start.elapsed() < Duration::from_millis(100) {
            peer.say(usize::try_from(most - peer.said).unwrap().min(64 << 10));
        }
        while number % 2 == 1 && peer.heard < peer.said {
            peer.hear(1000);
        }
    }
    host.break_line(true);
    // These have nothing under way, and nobody can tell that they are gone.
    let quiet = PEERS / 2;
    until_told(&mut server, "those who take nothing are gone", |counters| {
        given_up(counters) == PEERS - quiet
    });
    let mut neighbour = host.enter();
    neighbour.args([env!("CARGO_BIN_EXE_oread"), "connect"]);
    neighbour.arg(server.tcp().to_string());
    let mut neighbour = cli::Client::run(neighbour);
    neighbour.say(b"hello, neighbour\n");
    assert_eq!(neighbour.hear_line(), "hello, neighbour\n");
    assert_eq!(neighbour.finish().0, Some(0));
    host.break_line(false);
    // The quiet ones noticed nothing.
    for peer in peers.iter_mut().skip(1).step_by(2) {
        peer.patient();
        peer.ping(500);
    }
    let quiet_ones = peers.into_iter().skip(1).step_by(2);
    quiet_ones.for_each(Peer::finish);
    let ended = server.stop();
    assert_eq!(ended.summary()["closed"]["finished"], quiet + 1);
    assert_eq!(given_up(ended.summary()), PEERS - quiet);
}

#[test]
fn a_line_that_is_cut_under_a_drain_does_not_keep_the_server_past_its_deadline() {
    in_a_host_of_its_own("inside_a_line_that_is_cut_under_a_drain");
}

#[test]
#[ignore = "started by a_line_that_is_cut_under_a_drain_does_not_keep_the_server_past_its_deadline"]
fn inside_a_line_that_is_cut_under_a_drain() {
    const PEERS: u64 = 10;
    let Some(host) = Host::new() else { return };
    for cut in [false, true] {
        let server = host.serve(&["--drain-timeout", "2s"]);
        let mut peers: Vec<_> = (0..PEERS)
            .map(|seed| Peer::connect(server.tcp(), seed).hurried())
            .collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.patient();
            peer.ping(100);
            *peer = Peer::connect(server.tcp(), 100 + number as u64).hurried();
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(30) {
                peer.say(64 << 10);
            }
        }
        signal(server.pid(), "TERM");
        server.log_line("draining");
        match cut {
            true => host.cut_line(true),
            false => host.break_line(true),
        }
        let start = Instant::now();
        let ended = server.end();
        let took = start.elapsed();
        match cut {
            true => host.cut_line(false),
            false => host.break_line(false),
        }
        assert_eq!(ended.code, Some(0));
        assert_eq!(ended.count("cut"), PEERS, "{}", ended.summary()["closed"]);
        // Its deadline, and what a busy machine adds.
        assert!(took < Duration::from_secs(20), "{took:?}");
        println!("ended after {took:?}");
    }
}

/// Checks what an IPv4 header, or TCP or UDP behind it, sums up to (RFC 1071).
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = pairs
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes()
}

/// A packet from an address that is not the sender's: an IPv4 header (RFC 791) and what follows it,
/// whose checksum stands at `at`.
fn forged(protocol: u8, from: [u8; 4], to: [u8; 4], mut body: Vec<u8>, at: usize) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    let sum = checksum(&[&from, &to, &[0, protocol], &len, &body]);
    body[at..at + 2].copy_from_slice(&sum);
    let all = u16::try_from(20 + body.len()).unwrap().to_be_bytes();
    // The system fills in the header's own checksum and an id (raw(7)).
    let mut packet = vec![0x45, 0, all[0], all[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend(from);
    packet.extend(to);
    packet.extend(body);
    packet
}

/// The first packet of a connection (RFC 9293).
fn syn(from: SocketAddrV4, to: SocketAddrV4, sequence: u32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    body.extend(sequence.to_be_bytes());
    // No acknowledgement; five words of header; SYN; a window; checksum and urgent pointer.
    body.extend([0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    forged(6, from.ip().octets(), to.ip().octets(), body, 16)
}

/// A datagram (RFC 768).
fn datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(from.port().to_be_bytes());
    body.extend(to.port().to_be_bytes());
    let len = u16::try_from(8 + payload.len()).unwrap();
    body.extend(len.to_be_bytes());
    body.extend([0, 0]);
    body.extend(payload);
    forged(17, from.ip().octets(), to.ip().octets(), body, 6)
}

/// A socket for packets with their headers.
fn raw() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Raw).unwrap()
}

fn send(raw: &OwnedFd, packet: &[u8], to: SocketAddrV4) {
    let to = SockaddrIn::from(to);
    // A buffer that is full is as well: the packet is lost.
    let _ = sendto(raw.as_raw_fd(), packet, &to, MsgFlags::empty());
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => panic!("{address} is not of IPv4"),
    }
}

#[test]
fn honest_peers_get_in_and_are_answered_as_before_in_a_flood_of_forged_handshakes() {
    in_a_host_of_its_own("inside_a_flood_of_forged_handshakes");
}

#[test]
#[ignore = "started by honest_peers_get_in_and_are_answered_as_before_in_a_flood_of_forged_handshakes"]
fn inside_a_flood_of_forged_handshakes() {
    let Some(host) = Host::new() else { return };
    let count = size(20_000, 500_000) as u32;
    let server = host.serve(&["--backlog", "128"]);
    let mut honest: Vec<_> = (0..10)
        .map(|seed| Peer::connect(server.tcp(), seed))
        .collect();
    let before = Latencies::of(&mut honest, 50);
    let to = v4(server.tcp());
    let flood = thread::spawn(move || {
        let raw = raw();
        let start = Instant::now();
        for number in 0..count {
            let [_, _, high, low] = number.wrapping_mul(2_654_435_761).to_be_bytes();
            let from = Ipv4Addr::new(NOBODY[0], NOBODY[1], NOBODY[2], high);
            let port = 1024 + (number % 60_000) as u16;
            let packet = syn(SocketAddrV4::new(from, port ^ u16::from(low)), to, number);
            send(&raw, &packet, to);
        }
        f64::from(count) / start.elapsed().as_secs_f64()
    });
    let mut attacked = Latencies::default();
    let (mut round, mut late) = (0, 0);
    while !flood.is_finished() {
        attacked.round(&mut honest, round);
        // The system sends again what is lost, after a second.
        let stream = try_connect(server.tcp(), PATIENCE).unwrap();
        Peer::new(stream, 500 + round as u64).ping(100);
        (round, late) = (round + 1, late + 1);
    }
    println!(
        "{:.0} forged handshakes a second, {late} got in meanwhile",
        flood.join().unwrap()
    );
    attacked.assert_as_good_as(&before);
    honest.into_iter().for_each(Peer::finish);
    let ended = server.stop();
    let (sent, cookies) = (u64::from(count), host.counter("TcpExt", "SyncookiesSent"));
    let lost = host.counter("TcpExt", "ListenDrops");
    println!("{cookies} were answered by cookies, {lost} dropped");
    assert!(cookies + lost > sent / 10, "the flood did not arrive");
    // Not one of the forged ones is a connection.
    assert_eq!(ended.count("accepted"), 10 + late);
}

#[test]
fn what_one_forged_datagram_begins_between_two_servers_comes_to_its_end() {
    in_a_host_of_its_own("inside_one_forged_datagram_between_two_servers");
}

#[test]
#[ignore = "started by what_one_forged_datagram_begins_between_two_servers_comes_to_its_end"]
fn inside_one_forged_datagram_between_two_servers() {
    let Some(host) = Host::new() else { return };
    let udp = [
        "--allow-public-udp",
        "--udp-rate",
        "off",
        "--udp-rate-per-source",
        "off",
    ];
    let serve = |mut command: Command, address: Ipv4Addr| {
        let address = format!("{address}:0");
        command.args(["serve", &address, "--udp", "--json", "--stats", "50ms"]);
        command.args(udp).args(["--udp-repeat-rate", "100"]);
        Server::run(command)
    };
    let here = serve(Command::new(env!("CARGO_BIN_EXE_oread")), HERE);
    let mut there = host.enter();
    there.arg(env!("CARGO_BIN_EXE_oread"));
    let mut there = serve(there, THERE);
    let (of_here, of_there) = (v4(here.udp()), v4(there.udp()));
    let packet = datagram(of_here, of_there, b"to and fro");
    send(&raw(), &packet, of_there);
    // It goes round until one of them has had enough of it.
    let dropped = |counters: &serde_json::Value| counters["datagrams_repeated"].as_u64().unwrap();
    let start = Instant::now();
    let mut last = there.event();
    loop {
        sleep(Duration::from_millis(10));
        let now = there.event();
        let still = now["datagrams_in"] == last["datagrams_in"];
        if now["datagrams_in"].as_u64().unwrap() > 0 && still {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it goes round and round");
        last = now;
    }
    // An honest one is answered by either all the same.
    for address in [of_here, of_there] {
        let client = UdpSocket::bind((HERE, 0)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"and me?", address).unwrap();
        let mut answer = [0; 10];
        assert_eq!(client.recv(&mut answer).unwrap(), 7);
        assert_eq!(&answer[..7], b"and me?");
    }
    let seconds = start.elapsed().as_secs_f64();
    let (here, there) = (here.stop(), there.stop());
    let ends = dropped(here.summary()) + dropped(there.summary());
    assert_eq!(ends, 1, "the forged one was dropped once");
    // Ten seconds' worth at once, and the rate; it's remembered by either.
    let most = 2.0 * 100.0 * (10.0 + seconds) + 4.0;
    let sent = here.count("datagrams_out") + there.count("datagrams_out");
    assert!(
        (2.0..most).contains(&(sent as f64)),
        "{sent} in {seconds} s"
    );
    println!("{sent} datagrams went to and fro");
}
