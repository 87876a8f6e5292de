//! Runs an example as the program that it is: starts it, reads where it listens, hears its log, ends it.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Its owner's `Drop` ends the child and waits for it.
#![allow(clippy::zombie_processes)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// How long anything may take: far more than it does, on a machine that has other things to do.
pub const LONG: Duration = Duration::from_secs(60);

/// The program of an example. `cargo test` builds it; for a single test program, `cargo build --examples` does.
pub fn command(name: &str) -> Command {
    // This program is TARGET/PROFILE/deps/NAME-HASH.
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples").join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    let written = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    assert!(
        written(&program) >= written(&source),
        "{} is missing or old: run `cargo build --examples`",
        program.display()
    );
    Command::new(program)
}

/// A running example, which has said as the last word of its first line where it listens.
pub struct Example {
    child: Child,
    /// Kept open: an example may say more.
    stdout: BufReader<ChildStdout>,
    log: Receiver<String>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Example {
    /// Starts the example of this name, and waits for its address.
    pub fn start(name: &str, arguments: &[&str]) -> Example {
        let mut command = command(name);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, log) = mpsc::channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        // It ends with the example.
        std::thread::spawn(move || {
            for line in errors.split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.split_whitespace().last().map(str::parse);
        let Some(Ok(address)) = address else {
            let _ = child.kill();
            let status = child.wait().unwrap();
            let log: Vec<String> = log.iter().collect();
            panic!("{name} said {line:?} and {log:?}, and ended with {status}");
        };
        Example {
            child,
            stdout,
            log,
            address,
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its log (standard error) that has `words` in it; lines before it are passed over.
    pub fn log_line(&self, words: &str) -> String {
        loop {
            let line = self.log.recv_timeout(LONG);
            let line = line.unwrap_or_else(|_| panic!("no log line says {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Ends it, and gives the lines of its log that were not read yet.
    pub fn end(mut self) -> Vec<String> {
        let _ = self.child.kill();
        self.child.wait().unwrap();
        self.log.iter().collect()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
