//! Runs an example as the program that it is: finds it, starts it, reads where it listens, and ends it.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The command of an example. `cargo test` builds it; for one test program alone it has to be built by
/// `cargo build --examples`.
pub fn example(name: &str) -> Command {
    // Cargo puts this program into target/.../deps, and examples beside that.
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let path = folder.join("examples").join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    let written = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    assert!(
        written(&path) >= written(&source),
        "{} is missing or old: run `cargo build --examples`",
        path.display()
    );
    Command::new(path)
}

/// A running example. It's killed when this is dropped.
pub struct Example {
    pub child: Child,
    pub stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
}

impl Example {
    /// Starts it, and waits for its first line, whose last word is its address.
    pub fn start(command: &mut Command) -> Example {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.split_whitespace().last().map(str::parse);
        let Some(Ok(address)) = address else {
            panic!(
                "no address in {line:?}; it ended with {}",
                child.wait().unwrap()
            );
        };
        Example {
            child,
            stdout,
            address,
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
