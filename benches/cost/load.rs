//! The same figures for `oread load`: what a message and a held connection cost the generator. The
//! server is another process and not counted.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::subject::{Server, Subject, anonymous_bytes};
use super::{CONNECTIONS, counted_instructions, counted_syscalls};

/// Messages of the shorter run. More than echoes in the other figures: once a second the generator
/// tells how it goes, and under a tool seconds are short of messages.
const MESSAGES: usize = 50_000;

/// System calls a message, its share of the polls among them.
pub(super) fn syscalls() -> io::Result<String> {
    let each = a_message(|server, messages| {
        counted_syscalls(|tool| run_under(tool, server, messages), messages)
    })?;
    Ok(format!("{each:.3} a message"))
}

/// User-space instructions a message of 64 bytes, in a closed loop, with every byte verified.
pub(super) fn instructions() -> io::Result<String> {
    let each = a_message(|server, messages| {
        counted_instructions(|tool| run_under(tool, server, messages), messages)
    })?;
    Ok(format!("{each:.0} a message"))
}

/// The difference between 3N messages and N, for one message.
fn a_message(count: impl Fn(&Server, usize) -> io::Result<u64>) -> io::Result<f64> {
    let mut server = Server::start(Subject::Serve, &[])?;
    let (few, many) = (count(&server, MESSAGES)?, count(&server, 3 * MESSAGES)?);
    server.stop()?;
    Ok((many as f64 - few as f64) / (2 * MESSAGES) as f64)
}

/// Runs a load under a tool, to its end.
fn run_under(tool: &[&str], server: &Server, messages: usize) -> io::Result<()> {
    let (connections, messages) = (CONNECTIONS.to_string(), messages.to_string());
    let status = load(tool, server, &["-c", &connections, "-n", &messages])?.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("the load ended with {status}")))
}

fn load(tool: &[&str], server: &Server, arguments: &[&str]) -> io::Result<Child> {
    let mut words = tool.iter().copied().chain([env!("CARGO_BIN_EXE_oread")]);
    let program = words.next().unwrap_or_default();
    Command::new(program)
        .args(words)
        .args(["load", &server.address.to_string(), "-q"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))
}

/// Bytes of the generator's memory for a connection that is held and idle, the reactor's own among
/// them.
pub(super) fn memory() -> io::Result<String> {
    let mut server = Server::start(Subject::Serve, &[])?;
    let (few, many) = (1_000, server.max_connections.min(9_000));
    if many < 2 * few {
        return Err(io::Error::other(
            "the descriptor limit allows too few connections",
        ));
    }
    let before = held(&server, few)?;
    let after = held(&server, many)?;
    server.stop()?;
    let each = (after as f64 - before as f64) / (many - few) as f64;
    Ok(format!(
        "{each:.0} bytes a connection, from {few} to {many}"
    ))
}

/// The memory of a load that holds so many connections.
fn held(server: &Server, connections: usize) -> io::Result<u64> {
    let count = connections.to_string();
    let arguments = ["-c", &count, "-r", "10k", "--idle", "-d", "1h"];
    let mut child = load(&[], server, &arguments)?;
    let bytes = settled(child.id(), connections);
    child.kill()?;
    child.wait()?;
    bytes
}

/// Waits until a load has its descriptors and its memory has not changed for two seconds; how much
/// it is.
fn settled(id: u32, connections: usize) -> io::Result<u64> {
    let begun = Instant::now();
    let (mut bytes, mut since) = (0, begun);
    loop {
        let now = anonymous_bytes(id)?;
        let open = std::fs::read_dir(format!("/proc/{id}/fd"))?.count();
        if now != bytes || open < connections {
            (bytes, since) = (now, Instant::now());
        } else if since.elapsed() > Duration::from_secs(2) {
            return Ok(bytes);
        }
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(io::Error::other("the load does not settle"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
