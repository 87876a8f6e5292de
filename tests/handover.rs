//! A server is replaced by another process while clients connect all the time, and none of them
//! notices: the new one has the old one's listener for its standard input; or, as in the example
//! `handover`, all its sockets by a message.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/callers.rs"]
mod callers;
mod common;
#[path = "common/example.rs"]
mod example;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use callers::{Callers, Place, ask};
use common::{PATIENCE, World, connect, loopback};
use example::Example;
use oread::{Address, Ended, ListenOptions};

const SUCCESSOR: &str = "OREAD_TEST_SUCCESSOR";

/// Not a test by itself: the new server, an echo at its standard input.
#[test]
fn successor() {
    if std::env::var_os(SUCCESSOR).is_none() {
        return;
    }
    let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut world = World::new();
    world.handler.forgetful = true;
    let options = ListenOptions::default();
    world.context().adopt_listener(listener, &options).unwrap();
    println!("READY");
    world.reactor.run(&mut world.handler).unwrap();
}

/// The process of the new server, killed with this.
struct Successor(Child);

impl Drop for Successor {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn hand_over(address: Address) {
    let mut old = World::new();
    old.handler.forgetful = true;
    let id = old.context().listen(&ListenOptions::new(address)).unwrap();
    let callers = Callers::new([match old.context().listener_addr(id).unwrap() {
        Address::Unix(name) => {
            Place::Unix(UnixAddr::from_abstract_name(name.abstract_name().unwrap()).unwrap())
        }
        ip => Place::Tcp(ip.socket_addr().unwrap()),
    }]);
    // Outlives the clients.
    let mut successor = None;
    callers.call_during(|| {
        old.until("the old one has served", |_| callers.have_heard(500, &[0]));
        let context = old.context();
        let listener = context.listener_fd(id).unwrap().try_clone_to_owned();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "successor", "--nocapture"])
            .env(SUCCESSOR, "1")
            .stdin(Stdio::from(listener.unwrap()))
            .stdout(Stdio::piped())
            .spawn();
        let successor = successor.insert(Successor(child.unwrap()));
        let ready = AtomicBool::new(false);
        let lines = BufReader::new(successor.0.stdout.take().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut lines = lines.lines().map(Result::unwrap);
                ready.store(lines.any(|line| line.contains("READY")), Relaxed);
            });
            // Both serve for a while.
            old.until("the new one is there", |_| ready.load(Relaxed));
        });
        let since = callers.answered();
        old.until("both have served", |_| callers.have_heard(500, &since));
        // Not by a drain alone: that lets in who waits, and ends them if they have yet to speak.
        old.context().release_listener(id);
        old.until("all whom the old one has let in are served", |old| {
            old.stats().open == 0
        });
        old.context().drain(PATIENCE);
        let mut ended = None;
        old.until("the old one has drained", |old| {
            ended = old.turn_for(Duration::from_millis(5)).ended;
            ended.is_some()
        });
        assert_eq!(ended, Some(Ended::Drained { cut: 0 }));
        let accepted = old.stats().accepted as usize;
        drop(old);
        callers.hear(500);
        assert!(
            accepted < callers.answered()[0],
            "the new one has served nobody"
        );
    });
}

#[test]
fn a_tcp_server_is_replaced_under_load_and_no_client_is_lost() {
    hand_over(loopback().into());
}

#[test]
fn a_server_at_a_unix_socket_is_replaced_under_load_and_no_client_is_lost() {
    hand_over(Address::unix(""));
}

/// A folder of the test's own, which goes with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

impl Folder {
    fn new(test: &str) -> Folder {
        let name = format!("oread-{test}-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir(&folder.0).unwrap();
        folder
    }

    /// The example at work here, the first one at any ports, and where it takes datagrams.
    fn serve(&self) -> (Example, SocketAddr) {
        let mut example = Example::start("handover", &[self.0.to_str().unwrap(), "127.0.0.1:0"]);
        let mut line = String::new();
        example.stdout.read_line(&mut line).unwrap();
        let udp = line.trim_end().strip_prefix("UDP at ").unwrap().parse();
        (example, udp.unwrap())
    }
}

#[test]
fn all_sockets_go_from_process_to_process_under_load_and_no_request_is_lost() {
    let folder = Folder::new("all-sockets");
    let (mut server, udp) = folder.serve();
    let tcp = server.address;
    let unix = UnixAddr::from_pathname(folder.0.join("echo.sock")).unwrap();
    let callers = Callers::new([Place::Tcp(tcp), Place::Udp(udp), Place::Unix(unix)]);
    callers.call_during(|| {
        for _ in 0..5 {
            callers.hear(100);
            let (next, at) = folder.serve();
            assert_eq!((next.address, at), (tcp, udp));
            let mut old = std::mem::replace(&mut server, next);
            let mut rest = String::new();
            old.stdout.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "handed over, and all clients are gone\n");
            assert!(old.child.wait().unwrap().success());
        }
        callers.hear(100);
    });
}

#[test]
fn a_successor_that_dies_before_it_serves_changes_nothing() {
    let folder = Folder::new("dead-successor");
    let (server, _) = folder.serve();
    let mut early = connect(server.address);
    let mut dead = UnixStream::connect(folder.0.join("control.sock")).unwrap();
    // It has the sockets.
    dead.read_exact(&mut [0]).unwrap();
    drop(dead);
    ask(&mut early, b"early");
    ask(&mut connect(server.address), b"late");
}
