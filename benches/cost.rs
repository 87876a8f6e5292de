//! What an echo and an idle connection cost, in figures that don't move with the machine's mood:
//! system calls, user-space instructions, bytes.
//!
//! `cargo bench --bench cost` runs all three; `-- syscalls`, `-- instructions` or `-- memory` runs
//! one. It needs `strace` for the first and `valgrind` for the second, and says so where one is
//! missing. `-- tls` measures the example `tls_echo` in place of `oread serve`;
//! `cargo build --release --example tls_echo` must have been run before. `-- load-syscalls`,
//! `-- load-instructions` and `-- load-memory` measure the load generator.
//!
//! How: the server runs under the tool, a client on 50 connections sends 64 bytes on each and reads
//! all the answers, round after round. Each figure is the difference between a run of 3N echoes and
//! one of N, divided by 2N: what it takes to start and to stop cancels. For memory it's the
//! server's anonymous pages with 9,000 idle connections less those with 1,000, divided by 8,000
//! (fewer where the descriptor limit says so).

#[path = "cost/load.rs"]
mod load;
#[path = "cost/subject.rs"]
mod subject;

use std::io;

use subject::{Client, Server, Subject, temporary};

/// Connections of the client that echoes.
const CONNECTIONS: usize = 50;
/// Bytes of a message.
const MESSAGE: usize = 64;
/// Echoes of the shorter run.
const ECHOES: usize = 10_000;

/// Takes one figure, and puts it into words.
type Measure = fn(Subject) -> io::Result<String>;

fn main() {
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let names = |name: &str| chosen.iter().any(|chosen| chosen == name);
    let subject = if names("tls") {
        Subject::Tls
    } else {
        Subject::Serve
    };
    let figures: [(&str, Measure); 6] = [
        ("syscalls", syscalls),
        ("instructions", instructions),
        ("memory", memory),
        ("load-syscalls", |_| load::syscalls()),
        ("load-instructions", |_| load::instructions()),
        ("load-memory", |_| load::memory()),
    ];
    let all = !figures.iter().any(|(name, _)| names(name));
    for (name, measure) in figures {
        if all || names(name) {
            match measure(subject) {
                Ok(figure) => println!("{name:17} {figure}"),
                Err(error) => println!("{name:17} not measured: {error}"),
            }
        }
    }
}

/// System calls an echo, its share of the polls among them.
fn syscalls(subject: Subject) -> io::Result<String> {
    let count = |echoes| counted_syscalls(|tool| run_under(subject, tool, echoes), echoes);
    Ok(format!("{:.3} an echo", an_echo(count)?))
}

/// User-space instructions an echo.
fn instructions(subject: Subject) -> io::Result<String> {
    let count = |echoes| counted_instructions(|tool| run_under(subject, tool, echoes), echoes);
    Ok(format!("{:.1} an echo", an_echo(count)?))
}

/// System calls of what `run` runs under a tool; `size` tells its report from others.
fn counted_syscalls(run: impl FnOnce(&[&str]) -> io::Result<()>, size: usize) -> io::Result<u64> {
    let report = temporary(&format!("strace-{size}"));
    run(&["strace", "-f", "-c", "-o", &report])?;
    let text = std::fs::read_to_string(&report)?;
    let total = text
        .lines()
        .rev()
        .find(|line| line.trim_end().ends_with("total"));
    // The columns are: % time, seconds, usecs/call, calls, and errors where there were any.
    let calls = total.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    calls.ok_or_else(|| io::Error::other("strace gave no total"))
}

/// User-space instructions of what `run` runs under a tool.
fn counted_instructions(
    run: impl FnOnce(&[&str]) -> io::Result<()>,
    size: usize,
) -> io::Result<u64> {
    let report = temporary(&format!("callgrind-{size}"));
    let file = format!("--callgrind-out-file={report}");
    run(&["valgrind", "--quiet", "--tool=callgrind", &file])?;
    let text = std::fs::read_to_string(&report)?;
    let total = text.lines().find_map(|line| {
        line.strip_prefix("summary: ")
            .or_else(|| line.strip_prefix("totals: "))
    });
    let total = total.and_then(|total| total.trim().parse().ok());
    total.ok_or_else(|| io::Error::other("callgrind gave no total"))
}

/// The difference between 3N echoes and N, for one echo.
fn an_echo(count: impl Fn(usize) -> io::Result<u64>) -> io::Result<f64> {
    let (few, many) = (count(ECHOES)?, count(3 * ECHOES)?);
    Ok((many as f64 - few as f64) / (2 * ECHOES) as f64)
}

/// Bytes of the server's memory for an idle connection.
fn memory(subject: Subject) -> io::Result<String> {
    let mut server = Server::start(subject, &[])?;
    let (few, many) = (1_000, server.max_connections.min(9_000));
    if many < 2 * few {
        return Err(io::Error::other(
            "the descriptor limit allows too few connections",
        ));
    }
    let mut held = Vec::new();
    let mut pages = |count: usize| {
        while held.len() < count {
            let mut client = server.connect()?;
            // An answer shows that the server has taken it on, and leaves it idle.
            echo_once(&mut *client)?;
            held.push(client);
        }
        server.anonymous_bytes()
    };
    let before = pages(few)?;
    let after = pages(many)?;
    drop(held);
    server.stop()?;
    let each = (after as f64 - before as f64) / (many - few) as f64;
    Ok(format!(
        "{each:.0} bytes a connection, from {few} to {many}"
    ))
}

/// Runs the server under a tool, and so many echoes against it.
fn run_under(subject: Subject, tool: &[&str], echoes: usize) -> io::Result<()> {
    let mut server = Server::start(subject, tool)?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = server.connect()?;
        echo_once(&mut *client)?;
        clients.push(client);
    }
    let mut answer = [0; MESSAGE];
    for _ in 0..echoes / CONNECTIONS {
        for client in &mut clients {
            client.write_all(&[b'x'; MESSAGE])?;
        }
        for client in &mut clients {
            client.read_exact(&mut answer)?;
        }
    }
    drop(clients);
    server.stop()
}

fn echo_once(client: &mut dyn Client) -> io::Result<()> {
    client.write_all(&[b'x'; MESSAGE])?;
    client.read_exact(&mut [0; MESSAGE])
}
