//! A program that is stopped, as by Ctrl-Z or with its whole machine, and goes on. A server that
//! was stopped for longer than its timeouts: those who are well notice no more than the delay. A
//! load: it says that it stood still.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/load.rs"]
mod load;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use load::cli::{LONG, Server, oread, piped, signal, suspend};
use load::{Report, each_message, say, tcp};

/// The timeout of these servers, for the command line and for us.
const TIMEOUT: &str = "3s";
const TIMES: Duration = Duration::from_secs(3);
/// For how long they are stopped.
const STILL: Duration = Duration::from_millis(3700);

#[test]
fn who_speaks_while_the_server_is_stopped_is_answered_and_not_idle() {
    let server = Server::start(&["--idle-timeout", TIMEOUT]);
    let mut clients: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all(b"before").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
    }
    // Twice: the first time may find it busy, and not waiting for events.
    for _ in 0..2 {
        suspend(server.pid());
        for client in &mut clients {
            client.write_all(b"after").unwrap();
        }
        sleep(STILL);
        signal(server.pid(), "CONT");
        let mut answered = 0;
        for client in &mut clients {
            let mut bytes = [0; 5];
            answered += usize::from(client.read_exact(&mut bytes).is_ok() && bytes == *b"after");
        }
        assert_eq!(answered, clients.len());
    }
    let ended = server.stop();
    assert_eq!(ended.summary()["closed"]["idle_timeout"], 0);
}

/// A client that has sent more than the server can answer before somebody reads, and how much it
/// was.
fn overdrawn(server: &Server) -> (TcpStream, usize) {
    let mut client = server.connect();
    client.set_nonblocking(true).unwrap();
    let (mut sent, mut last) = (0, Instant::now());
    // Until nothing moves any more, for the server reads on as long as the system takes its
    // answers.
    while last.elapsed() < TIMES / 10 {
        match client.write(&[b'x'; 64 << 10]) {
            Ok(count) => (sent, last) = (sent + count, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("could not write: {error}"),
        }
    }
    (client, sent)
}

/// Reads what is there.
fn take(client: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let mut got = 0;
    loop {
        match client.read(buffer) {
            Ok(0) => panic!("the end after {got} bytes"),
            Ok(count) => got += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return got,
            Err(error) => panic!("{error} after {got} bytes"),
        }
    }
}

#[test]
fn who_reads_on_while_the_server_is_stopped_gets_all_of_its_answer() {
    let server = Server::start(&["--write-timeout", TIMEOUT]);
    let mut clients: Vec<_> = (0..3).map(|_| overdrawn(&server)).collect();
    suspend(server.pid());
    let start = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    let mut got = vec![0; clients.len()];
    while start.elapsed() < STILL {
        for ((client, _), got) in clients.iter_mut().zip(&mut got) {
            *got += take(client, &mut buffer);
        }
        sleep(Duration::from_millis(10));
    }
    signal(server.pid(), "CONT");
    for ((client, sent), got) in clients.iter_mut().zip(&mut got) {
        assert!(got < sent, "there was nothing left to send");
        while got < sent {
            assert!(start.elapsed() < LONG, "{got} of {sent} bytes");
            *got += take(client, &mut buffer);
        }
    }
    drop(clients);
    let ended = server.stop();
    assert_eq!(ended.summary()["closed"]["write_timeout"], 0);
}

#[test]
fn a_load_that_was_stopped_says_how_often_and_for_how_long() {
    let (tell, told) = mpsc::channel::<()>();
    let tell = Mutex::new(Some(tell));
    let address = tcp(move |stream, _| {
        each_message(stream, |stream, message, bytes| {
            // The first one confirms the connection, the second one is measured.
            if message == 2 {
                drop(tell.lock().unwrap().take());
            }
            say(stream, bytes)
        });
    });
    let mut command = oread("load");
    command.args([&*address, "-c", "1", "-d", "10m", "--json", "-"]);
    let (child, _watchdog) = piped(&mut command);
    let pid = child.id();
    assert!(matches!(
        told.recv_timeout(LONG),
        Err(RecvTimeoutError::Disconnected)
    ));
    suspend(pid);
    sleep(Duration::from_millis(1200));
    signal(pid, "CONT");
    signal(pid, "INT");
    let output = child.wait_with_output().unwrap();
    let report = Report::parse(&output.stdout, &output.stderr, output.status.code());
    let generator = &report.value["generator"];
    let number = |name: &str| generator[name].as_u64().unwrap();
    assert!(number("times_still") >= 1, "{generator}");
    let longest = Duration::from_nanos(number("longest_still_ns"));
    assert!(longest >= Duration::from_millis(1100), "{generator}");
    assert!(
        number("stood_still_ns") >= number("longest_still_ns"),
        "{generator}"
    );
}
