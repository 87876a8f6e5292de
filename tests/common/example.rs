//! Starts an example of this package as a program of its own, and ends it.
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Its owner's `Drop` ends the child and waits for it.
#![allow(clippy::zombie_processes)]

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// Longer than anything here takes, however busy the machine is.
pub const LONG: Duration = Duration::from_secs(60);

/// A running example that has said, as the last word of its first line, where it listens.
pub struct Example {
    pub child: Child,
    /// What it says after its first line.
    pub stdout: BufReader<ChildStdout>,
    /// The lines of its standard error.
    pub log: Receiver<String>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Example {
    /// Starts the example of this name.
    pub fn start(name: &str, arguments: &[&str]) -> Example {
        Example::run(command(name).args(arguments).stdin(Stdio::null()))
    }

    /// Starts an example by a command of one's own, see [`command`].
    pub fn run(command: &mut Command) -> Example {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, log) = mpsc::channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        // It ends with the example. Nobody may be left who wants to know.
        std::thread::spawn(move || {
            for line in errors.split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.split_whitespace().next_back().map(str::parse);
        let Some(Ok(address)) = address else {
            let _ = child.kill();
            let status = child.wait().unwrap();
            let log: Vec<String> = log.iter().collect();
            panic!("{command:?} said {line:?} and {log:?}, and ended with {status}");
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

    /// The next line of its log that has `words` in it; lines before it are passed over.
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

/// The program of an example, up to date: `cargo test` builds the examples, but
/// `cargo test --test NAME` doesn't.
pub fn command(name: &str) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // TARGET/PROFILE/deps/TEST
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().unwrap().parent().unwrap();
        // Without cargo around it, whoever runs the test has built what it needs.
        if let Some(cargo) = std::env::var_os("CARGO") {
            let name = profile.file_name().unwrap();
            let name = if name == "debug" {
                OsStr::new("dev")
            } else {
                name
            };
            let mut build = Command::new(cargo);
            build.args(["build", "--examples", "--quiet", "--locked"]);
            build.arg("--target-dir").arg(profile.parent().unwrap());
            build.arg("--profile").arg(name);
            if !cfg!(feature = "cli") {
                build.arg("--no-default-features");
            }
            // What cargo has told the test of its package would be news to a dependency's build
            // script, which ran without, and then have it built anew.
            for (name, _) in std::env::vars_os() {
                let told = ["CARGO_MANIFEST_", "CARGO_PKG_"];
                if told
                    .iter()
                    .any(|start| name.to_string_lossy().starts_with(start))
                {
                    build.env_remove(name);
                }
            }
            let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
            assert!(built.unwrap().success(), "the examples can't be built");
        }
        profile.join("examples")
    });
    Command::new(folder.join(name))
}
