//! A server is replaced by another process while clients connect all the time, and none of them
//! notices: the new one has the old one's listener for its standard input.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::{PATIENCE, World, connect_to, loopback};
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

/// What clients do: they connect, say something, hear it, and leave, again and again.
struct Load {
    address: Address,
    served: AtomicUsize,
    over: AtomicBool,
}

impl Load {
    fn run(&self) {
        while !self.over.load(Relaxed) {
            let mut client = connect_to(&self.address);
            let mut bytes = [0; 5];
            client.write_all(b"hello").unwrap();
            client.read_exact(&mut bytes).expect("a client was lost");
            assert_eq!(&bytes, b"hello");
            self.served.fetch_add(1, Relaxed);
        }
    }

    /// How many are to have been served when `more` have been from now on.
    fn after(&self, more: usize) -> usize {
        self.served.load(Relaxed) + more
    }
}

/// Ends the load also where the test fails, so that it does.
struct Over<'a>(&'a Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Relaxed);
    }
}

fn hand_over(address: Address) {
    let mut old = World::new();
    old.handler.forgetful = true;
    let id = old.context().listen(&ListenOptions::new(address)).unwrap();
    let load = Load {
        address: old.context().listener_addr(id).unwrap(),
        served: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    };
    // Outlives the clients.
    let mut successor = None;
    std::thread::scope(|scope| {
        let _over = Over(&load);
        (0..4).for_each(|_| drop(scope.spawn(|| load.run())));
        old.until("the old one has served", |_| load.after(0) > 1000);
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
        let enough = load.after(1000);
        old.until("both have served", |_| load.after(0) > enough);
        // Not by a drain alone: that lets in who waits, and ends them if they have yet to speak.
        old.context().close_listener(id);
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
        let enough = load.after(1000);
        while load.after(0) < enough {
            std::thread::yield_now();
        }
        assert!(accepted < load.after(0), "the new one has served nobody");
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
