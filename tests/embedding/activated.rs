//! Sockets of others, and ours for others.

use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oread::{ListenOptions, ListenerId, Reactor};

use super::peers::{Echo, ask, call, expect};

fn service() -> io::Result<()> {
    let listener = io::stdin().as_fd().try_clone_to_owned()?;
    let mut reactor = Reactor::new()?;
    // All but the address may be set. The error `InvalidInput`: it's no listener.
    reactor
        .context()
        .adopt_listener(listener, &ListenOptions::default())?;
    println!("ready"); // for a process that hands its sockets over
    reactor.run(&mut Echo).map(drop)
}

/// What the old process does when `run` has ended by a stop, because there's a new program.
fn hand_over(
    reactor: &mut Reactor<Echo>,
    listener: ListenerId,
    program: &mut Command,
) -> io::Result<Child> {
    let descriptor = reactor
        .context()
        .listener_fd(listener)
        .ok_or(io::ErrorKind::NotFound)?
        .try_clone_to_owned()?;
    let mut successor = program.stdin(descriptor).stdout(Stdio::piped()).spawn()?;
    let (says, handle) = (successor.stdout.take(), reactor.handle());
    let ready = std::thread::spawn(move || {
        // A successor that dies says nothing.
        let mut lines = says
            .into_iter()
            .flat_map(|says| BufReader::new(says).lines());
        let is_ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
        handle.stop();
        is_ready
    });
    reactor.run(&mut Echo)?; // serves on until the successor is ready
    if !ready.join().unwrap_or(false) {
        successor.kill()?;
        successor.wait()?;
        return Err(io::Error::other(
            "the successor doesn't start: go on without it",
        ));
    }
    // Not before the successor is ready: clients that wait would be reset.
    reactor.context().release_listener(listener);
    loop {
        reactor.turn(&mut Echo, Some(Duration::from_secs(1)))?;
        if reactor.context().stats().open == 0 {
            break; // all have left; you may give up earlier
        }
    }
    reactor.context().drain(Duration::from_secs(10));
    reactor.run(&mut Echo)?;
    Ok(successor)
}

/// Not a test: what the tests below start in a process of its own, with a listener as its standard
/// input.
#[test]
#[ignore = "a process that the other tests start"]
fn the_service() {
    service().unwrap();
}

fn service_process() -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args([
        "activated::the_service",
        "--exact",
        "--ignored",
        "--nocapture",
        "--test-threads=2", // with one, the test's name stands in front of what it prints
    ]);
    program
}

#[test]
fn a_service_whose_standard_input_is_a_listener_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut program = service_process();
    program.stdin(std::os::fd::OwnedFd::from(listener));
    let mut service = program.stdout(Stdio::null()).spawn().unwrap();
    let answer = std::panic::catch_unwind(|| ask(address, "hello"));
    service.kill().unwrap();
    service.wait().unwrap();
    assert_eq!(answer.unwrap(), "hello");
}

#[test]
fn no_client_notices_that_a_successor_takes_over() {
    let mut reactor = Reactor::new().unwrap();
    let mut context = reactor.context();
    let options = ListenOptions::new(([127, 0, 0, 1], 0));
    let listener = context.listen(&options).unwrap();
    let address = context.listener_addr(listener).unwrap();
    let address = address.socket_addr().unwrap();
    // It has spoken, and speaks again when the successor is there. Others come all the while.
    let mut stays = call(address);
    let (successor, served) = std::thread::scope(|scope| {
        let clients = scope.spawn(move || {
            for count in 0..200 {
                assert_eq!(ask(address, "hello"), "hello", "{count}");
            }
            std::io::Write::write_all(&mut stays, b"still").unwrap();
            expect(&mut stays, "still");
        });
        let successor = hand_over(&mut reactor, listener, &mut service_process());
        (successor, clients.join())
    });
    drop(reactor);
    let answer = std::panic::catch_unwind(|| ask(address, "hello"));
    let mut successor = successor.unwrap();
    successor.kill().unwrap();
    successor.wait().unwrap();
    served.unwrap();
    assert_eq!(answer.unwrap(), "hello");
}
