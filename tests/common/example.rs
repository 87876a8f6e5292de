//! Runs an example for tests. It says on its first line of output where it listens, the address last; it's ended by its
//! id when it's dropped.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running example.
pub struct Example {
    pub child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it says after that.
    pub stdout: BufReader<ChildStdout>,
}

impl Example {
    /// The example's program. A plain `cargo test` builds it; `cargo test --test NAME` does not.
    pub fn path(name: &str) -> PathBuf {
        // Tests are in `deps`, beside `examples`.
        let test = std::env::current_exe().unwrap();
        let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
        let source = format!("{}/examples/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
        let is_new = changed(&path) >= changed(Path::new(&source));
        assert!(is_new, "run this first: cargo build --example {name}");
        path
    }

    /// Starts it, and waits until it listens.
    pub fn start(name: &str, arguments: &[&str]) -> Example {
        let mut child = Command::new(Example::path(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.split_whitespace().last().map(str::parse);
        let Some(Ok(address)) = address else {
            let _ = child.kill();
            panic!("{name} said {line:?}, and ended with {:?}", child.wait());
        };
        Example {
            child,
            address,
            stdout,
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
