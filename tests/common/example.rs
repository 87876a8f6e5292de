//! Runs an example for tests. Whatever is started here is ended here.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long an example may take to say where it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running example, killed when it's dropped.
pub struct Example {
    pub child: Child,
    /// Its standard input, open until it's taken and dropped.
    pub input: Option<ChildStdin>,
    /// The address at the end of its first line.
    pub address: SocketAddr,
}

/// The command that runs the example `name`. `cargo test` builds it; with `--test` alone, `--example` has to be said too.
pub fn command(name: &str) -> Command {
    // The test is at `deps/test-hash`, the example at `examples/name`.
    let test = env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let program = profile.join("examples").join(name);
    assert!(
        program.exists(),
        "{} is not built: cargo build --example {name}",
        program.display()
    );
    Command::new(program)
}

impl Example {
    /// Starts an example that says where it listens at the end of its first line, and waits until it does.
    pub fn start(name: &str, arguments: &[&str]) -> Example {
        let mut child = command(name)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (said, hears) = mpsc::channel();
        // In a thread, which may wait for ever. It reads on, so that no later line blocks the example.
        thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|count| count > 0) {
                said.send(std::mem::take(&mut line)).ok();
            }
        });
        // From here on a panic ends the child.
        let mut example = Example {
            child,
            input,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        let line = hears.recv_timeout(PATIENCE).expect("its first line");
        let address = line.split_whitespace().last().map(str::parse);
        example.address = address.expect("a word").expect("an address");
        example
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
