//! What an echo and an idle connection cost, in figures that don't move with the machine's mood: system calls, user-space
//! instructions, bytes.
//!
//! `cargo bench --bench cost` takes all figures; `-- syscalls`, `-- instructions` or `-- memory` takes one of the server, with
//! `load-` before it one of the load generator. It needs `strace` for system calls and `valgrind` for instructions, and
//! says so where one is missing.
//!
//! How: `oread serve` runs under the tool, a client on 50 connections sends 64 bytes on each and reads all the answers,
//! round after round. Each figure is the difference between a run of 3N echoes and one of N, divided by 2N: what it takes to
//! start and to stop cancels. For memory it's the server's anonymous pages with 9,000 idle connections less those with
//! 1,000, divided by 8,000 (fewer where the descriptor limit says so).

#[path = "cost/load.rs"]
mod load;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

/// Connections of the client that echoes.
const CONNECTIONS: usize = 50;
/// Bytes of a message.
const MESSAGE: usize = 64;
/// Echoes of the shorter run.
const ECHOES: usize = 10_000;

/// Takes one figure, and puts it into words.
type Measure = fn() -> io::Result<String>;

fn main() {
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wants = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    let figures: [(&str, Measure); 6] = [
        ("syscalls", syscalls),
        ("instructions", instructions),
        ("memory", memory),
        ("load-syscalls", load::syscalls),
        ("load-instructions", load::instructions),
        ("load-memory", load::memory),
    ];
    for (name, measure) in figures {
        if wants(name) {
            match measure() {
                Ok(figure) => println!("{name:17} {figure}"),
                Err(error) => println!("{name:17} not measured: {error}"),
            }
        }
    }
}

/// System calls an echo, its share of the polls among them.
fn syscalls() -> io::Result<String> {
    let count = |echoes| counted_syscalls(|tool| run_under(tool, echoes), echoes);
    Ok(format!("{:.3} an echo", an_echo(count)?))
}

/// User-space instructions an echo.
fn instructions() -> io::Result<String> {
    let count = |echoes| counted_instructions(|tool| run_under(tool, echoes), echoes);
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
fn memory() -> io::Result<String> {
    let mut server = Server::start(&[])?;
    let (few, many) = (1_000, server.max_connections.min(9_000));
    if many < 2 * few {
        return Err(io::Error::other(
            "the descriptor limit allows too few connections",
        ));
    }
    let mut held = Vec::new();
    let mut pages = |count: usize| {
        while held.len() < count {
            let mut client = TcpStream::connect(server.address)?;
            // An answer shows that the server has taken it on, and leaves it idle.
            echo_once(&mut client)?;
            held.push(client);
        }
        anonymous_bytes(server.child.id())
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
fn run_under(tool: &[&str], echoes: usize) -> io::Result<()> {
    let mut server = Server::start(tool)?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = TcpStream::connect(server.address)?;
        client.set_nodelay(true)?;
        echo_once(&mut client)?;
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

fn echo_once(client: &mut TcpStream) -> io::Result<()> {
    client.write_all(&[b'x'; MESSAGE])?;
    client.read_exact(&mut [0; MESSAGE])
}

/// `oread serve`, perhaps under a tool.
struct Server {
    child: Child,
    events: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
    max_connections: usize,
}

impl Server {
    fn start(tool: &[&str]) -> io::Result<Server> {
        let mut words = tool.iter().copied().chain([env!("CARGO_BIN_EXE_oread")]);
        let program = words.next().unwrap_or_default();
        let mut child = Command::new(program)
            .args(words)
            .args(["serve", "--tcp", "127.0.0.1:0", "--json", "-q"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no stdout"))?;
        let mut events = BufReader::new(stdout);
        let mut address = None;
        let max_connections = loop {
            let mut line = String::new();
            if events.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the server did not start"));
            }
            let event: serde_json::Value = serde_json::from_str(&line)?;
            if let Some(text) = event["address"].as_str() {
                address = text.parse().ok();
            }
            if event["event"] == "ready" {
                break event["max_connections"].as_u64().unwrap_or(0) as usize;
            }
        };
        let address = address.ok_or_else(|| io::Error::other("the server told no address"))?;
        Ok(Server {
            child,
            events,
            address,
            max_connections,
        })
    }

    /// Drains it, and waits for its end. The signal goes to the server itself: a tool between passes none on.
    fn stop(&mut self) -> io::Result<()> {
        let server = server_of(self.child.id());
        Command::new("kill")
            .args(["-TERM", &server.to_string()])
            .status()?;
        self.events.read_to_string(&mut String::new())?;
        self.child.wait()?;
        Ok(())
    }
}

/// Private, anonymous memory of a process in bytes (Linux: `RssAnon`): the heap, without the program's text.
fn anonymous_bytes(id: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| io::Error::other("the system tells no RssAnon"))
}

/// The server's process: the child itself, or the child of the tool.
fn server_of(child: u32) -> u32 {
    let path = format!("/proc/{child}/task/{child}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children
        .split_whitespace()
        .next()
        .and_then(|id| id.parse().ok())
        .unwrap_or(child)
}

fn temporary(name: &str) -> String {
    let file = format!("oread-{}-{name}", std::process::id());
    std::env::temp_dir()
        .join(file)
        .to_string_lossy()
        .into_owned()
}
