//! `oread serve` with sockets that a manager opened and hands over (systemd's socket activation),
//! and that it is replaced by another one under load without a request that is lost.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/callers.rs"]
mod callers;
#[path = "common/cli.rs"]
mod cli;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Output};

use callers::{Callers, Place, ask};
use cli::{LONG, Server, oread, signal};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// A manager's sockets, which outlive each server.
struct Manager {
    tcp: TcpListener,
    udp: UdpSocket,
    unix: UnixListener,
    /// Duplicates that other programs inherit.
    fds: Vec<OwnedFd>,
}

/// A duplicate that programs started from here inherit, far from the numbers that they are to have
/// them by.
fn inherited(fd: impl AsFd) -> OwnedFd {
    let duplicate = fcntl_dupfd_cloexec(fd, 50).unwrap();
    fcntl_setfd(&duplicate, FdFlags::empty()).unwrap();
    duplicate
}

impl Manager {
    /// Opens the sockets; the Unix socket has a name of the test's own.
    fn new(test: &str) -> Manager {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind_addr(&name(test)).unwrap();
        let fds = vec![inherited(&tcp), inherited(&udp), inherited(&unix)];
        Manager {
            tcp,
            udp,
            unix,
            fds,
        }
    }

    fn tcp(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    fn udp(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    fn unix(&self) -> UnixStream {
        let address = self.unix.local_addr().unwrap();
        limited(UnixStream::connect_addr(&address).unwrap())
    }

    /// A server that has them.
    fn serve(&self, arguments: &[&str]) -> Server {
        let mut command = handing(&self.fds);
        command.arg("--json").args(arguments);
        let server = Server::run(command);
        assert_eq!(server.listening.len(), 3);
        server
    }
}

/// An abstract name.
fn name(test: &str) -> UnixAddr {
    let name = format!("oread-{test}-{}", std::process::id());
    UnixAddr::from_abstract_name(name).unwrap()
}

/// `oread serve` with these descriptors as 3 and those that follow: a shell moves them there, and
/// what it executes has its process id.
fn handing(fds: &[OwnedFd]) -> Command {
    let mut moves = String::new();
    for (number, fd) in (3..).zip(fds) {
        moves += &format!("exec {number}<&{}-; ", fd.as_raw_fd());
    }
    let count = fds.len();
    let script = format!("{moves} LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" \"$@\"");
    let serve = oread("serve");
    let mut command = Command::new("bash");
    command.env_remove("RUST_LOG");
    command.args(["-c", &script]).arg(serve.get_program());
    command.args(serve.get_args());
    command
}

/// What a server says that is not to start: its exit code and its words.
fn refused(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn limited(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

#[test]
fn sockets_that_are_handed_over_are_served_whatever_they_are() {
    for threads in ["1", "3"] {
        let manager = Manager::new(&format!("served-{threads}"));
        let server = manager.serve(&["--threads", threads]);
        assert_eq!(server.tcp(), manager.tcp());
        assert_eq!(server.udp(), manager.udp());
        assert_eq!(server.listening[2]["transport"], "unix");
        for _ in 0..10 {
            ask(&mut server.connect(), b"over TCP");
            ask(&mut manager.unix(), b"at a Unix socket");
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.send_to(b"datagram", manager.udp()).unwrap();
        let mut heard = [0; 9];
        assert_eq!(socket.recv(&mut heard).unwrap(), 8);
        let ended = server.stop();
        assert_eq!(ended.code, Some(0));
        assert_eq!((ended.count("accepted"), ended.count("cut")), (20, 0));
    }
}

#[test]
fn who_was_let_in_is_served_by_the_old_server_and_who_comes_later_by_the_next() {
    let manager = Manager::new("order");
    let old = manager.serve(&["--drain-timeout", "1m", "-v"]);
    let mut early = old.connect();
    // Callers are let in in their order, so the first one is in when the second has its answer.
    ask(&mut old.connect(), b"in");
    signal(old.pid(), "TERM");
    old.log_line("draining");
    let mut late = old.connect();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    late.write_all(b"late").unwrap();
    ask(&mut early, b"first word");
    ask(&mut early, b"and another one");
    drop(early);
    let ended = old.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!((ended.count("accepted"), ended.count("cut")), (2, 0));
    socket.send_to(b"meanwhile", manager.udp()).unwrap();
    let new = manager.serve(&[]);
    let mut heard = [0; 9];
    late.read_exact(&mut heard[..4]).unwrap();
    assert_eq!(&heard[..4], b"late");
    socket.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(socket.recv(&mut heard).unwrap(), 9);
    drop(late);
    assert_eq!(new.stop().code, Some(0));
}

#[test]
fn who_stays_silent_is_drained_in_the_second_half_of_the_time() {
    let manager = Manager::new("silent");
    let old = manager.serve(&["--drain-timeout", "2s", "--threads", "2"]);
    let mut silent = [old.connect(), old.connect()];
    silent.iter_mut().for_each(|client| ask(client, b"in"));
    signal(old.pid(), "TERM");
    for mut client in silent {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "no reset");
    }
    assert_eq!(old.end().code, Some(0));
}

const REPLACEMENTS: usize = 5;

/// Replaces a server again and again under load; `overlap`: the next one is there before the last
/// one is told to go.
fn replace(manager: &Manager, arguments: &[&str], overlap: bool) {
    let patient = ["--drain-timeout", "1m", "--udp-repeat-rate", "off"];
    let arguments = [&patient, arguments].concat();
    let unix = manager.unix.local_addr().unwrap();
    let places = [
        Place::Tcp(manager.tcp()),
        Place::Unix(unix),
        Place::Udp(manager.udp()),
    ];
    let callers = Callers::new(places);
    let mut ends = Vec::new();
    let last = callers.call_during(|| {
        let mut server = manager.serve(&arguments);
        for _ in 0..REPLACEMENTS {
            callers.hear(100);
            let next = overlap.then(|| manager.serve(&arguments));
            if overlap {
                callers.hear(100);
            }
            ends.push(server.stop());
            server = next.unwrap_or_else(|| manager.serve(&arguments));
        }
        callers.hear(100);
        server
    });
    ends.push(last.stop());
    let mut answered = [0; 2];
    for ended in ends {
        assert_eq!((ended.code, ended.count("cut")), (Some(0), 0));
        answered[0] += ended.count("accepted");
        answered[1] += ended.count("datagrams_out");
    }
    let [tcp, unix, udp] = callers.answered()[..] else {
        panic!("three places");
    };
    assert_eq!(answered, [(tcp + unix) as u64, udp as u64]);
}

#[test]
fn a_server_is_replaced_under_load_by_one_that_is_there_before_and_no_request_is_lost() {
    replace(&Manager::new("overlap"), &[], true);
}

#[test]
fn a_server_is_restarted_under_load_and_no_request_is_lost() {
    replace(&Manager::new("restart"), &[], false);
}

#[test]
fn a_server_of_three_threads_is_replaced_under_load_and_no_request_is_lost() {
    replace(&Manager::new("threads"), &["--threads", "3"], true);
}

#[test]
fn what_is_handed_over_can_t_be_served_beside_addresses() {
    let manager = Manager::new("beside");
    for addresses in [["127.0.0.1:0"].as_slice(), &["--tcp"], &["--unix", "@x"]] {
        let mut command = handing(&manager.fds);
        let (code, said) = refused({
            command.args(addresses);
            command
        });
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("leave the addresses out"), "{said}");
    }
    let mut command = handing(&manager.fds[..1]);
    command.arg("--allow-public-udp");
    let (code, said) = refused(command);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no address is served over UDP"), "{said}");
}

#[test]
fn what_was_handed_to_another_process_is_not_taken() {
    let mut command = oread("serve");
    command.env("LISTEN_FDS", "3").env("LISTEN_PID", "1");
    command.args(["--json", "127.0.0.1:0"]);
    let server = Server::run(command);
    ask(&mut server.connect(), b"hello");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn what_can_t_be_served_is_named_with_its_name() {
    let public = UdpSocket::bind("0.0.0.0:0").unwrap();
    let (stream, _other) = UnixStream::pair().unwrap();
    for (fds, words) in [
        (vec![inherited(&public)], "--allow-public-udp"),
        (
            vec![inherited(&stream)],
            "descriptor 3 (odd), which was handed over, is neither",
        ),
        (vec![], "descriptor 3 (odd) is not open"),
    ] {
        let mut command = handing(&fds);
        command.env("LISTEN_FDNAMES", "odd:even");
        if fds.is_empty() {
            let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve 3<&-";
            command = Command::new("bash");
            command.args(["-c", script, env!("CARGO_BIN_EXE_oread")]);
            command.env("LISTEN_FDNAMES", "odd:even");
        }
        let (code, said) = refused(command);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_manager_that_wants_to_know_is_told_of_the_start_and_the_end() {
    let path = std::env::temp_dir().join(format!("oread-notify-{}.sock", std::process::id()));
    let at = path.to_str().unwrap();
    let in_files = UnixDatagram::bind(&path).unwrap();
    let abstracted = UnixDatagram::bind_addr(&name("notify")).unwrap();
    let abstract_name = format!("@oread-notify-{}", std::process::id());
    for (socket, name) in [(in_files, at), (abstracted, &*abstract_name)] {
        socket.set_read_timeout(Some(LONG)).unwrap();
        let hear = || {
            let mut heard = [0; 64];
            let count = socket.recv(&mut heard).unwrap();
            String::from_utf8_lossy(&heard[..count]).into_owned()
        };
        let mut command = oread("serve");
        command.args(["--json", "127.0.0.1:0"]);
        command.env("NOTIFY_SOCKET", name);
        let server = Server::run(command);
        assert_eq!(hear(), "READY=1");
        assert_eq!(server.stop().code, Some(0));
        assert_eq!(hear(), "STOPPING=1");
    }
    std::fs::remove_file(&path).unwrap();
}
