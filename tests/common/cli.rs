//! Runs the program for tests: a server that says where it listens, a client with its pipes in
//! hand. Whatever is started here is ended here.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Children are waited for, or killed by their owner's `Drop`; a test that panics before that fails.
#![allow(clippy::zombie_processes)]

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take: far more than it does, on a machine that has other things to do.
pub const LONG: Duration = Duration::from_secs(60);

/// How long a program may live that a test has started: it is killed then, so that whoever reads
/// its output comes to the end of that, and fails.
const LIFE: Duration = Duration::from_secs(300);

/// Kills a process that lives too long; dropped, it leaves the process alone.
pub struct Watchdog {
    _held: Sender<()>,
}

impl Watchdog {
    /// Watches over a child.
    pub fn of(child: &Child) -> Watchdog {
        let (held, dropped) = mpsc::channel();
        let pid = child.id();
        thread::spawn(move || {
            if dropped.recv_timeout(LIFE) == Err(RecvTimeoutError::Timeout) {
                signal(pid, "KILL");
            }
        });
        Watchdog { _held: held }
    }
}

/// The program, with a subcommand.
pub fn oread(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oread"));
    command.arg(subcommand).env_remove("RUST_LOG");
    command
}

/// Starts a program with nothing to read, whose output is read here; it's watched over for as long
/// as the other half is held.
pub fn piped(command: &mut Command) -> (Child, Watchdog) {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let watchdog = Watchdog::of(&child);
    (child, watchdog)
}

/// Sends a signal, by its name without SIG, to one process.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// Stops a process as Ctrl-Z does, and waits until it stands; [`signal`] with CONT has it go on.
pub fn suspend(pid: u32) {
    signal(pid, "STOP");
    let deadline = Instant::now() + LONG;
    // The state stands behind the name, which is in parentheses (proc_pid_stat(5)).
    let stands = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    while !stands() {
        assert!(Instant::now() < deadline, "{pid} does not stand still");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Memory of a process in bytes, as /proc has it: all that it has asked for, and what of it is in
/// use.
pub fn memory(pid: u32) -> (u64, u64) {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page.unwrap().unwrap().unsigned_abs();
    let mut pages = statm.split(' ').map(|pages| pages.parse::<u64>().unwrap());
    let mut next = || pages.next().unwrap() * page;
    (next(), next())
}

/// Waits for a child, but not for ever.
pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("a child does not end");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A running `oread serve --json`.
pub struct Server {
    child: Child,
    events: BufReader<ChildStdout>,
    log: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    _watchdog: Watchdog,
    /// Where it serves metrics, if it does.
    pub metrics: Option<String>,
    /// The `listening` events.
    pub listening: Vec<Value>,
    /// The `ready` event.
    pub ready: Value,
}

/// How a server ended.
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it said on standard output after `ready`.
    pub events: Vec<Value>,
    /// The lines of its log that were not read yet.
    pub log: Vec<String>,
}

impl Ended {
    /// The last event.
    pub fn summary(&self) -> &Value {
        let summary = self.events.last().expect("there is no summary");
        assert_eq!(summary["event"], "summary");
        summary
    }

    /// A counter of the summary.
    pub fn count(&self, name: &str) -> u64 {
        let value = &self.summary()[name];
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{name} is {value}"))
    }
}

impl Server {
    /// Serves on a free port of loopback, TCP and UDP, with more arguments; back when it is ready.
    pub fn start(arguments: &[&str]) -> Server {
        Server::start_at("127.0.0.1:0", arguments)
    }

    /// As [`Server::start`], on this address.
    pub fn start_at(address: &str, arguments: &[&str]) -> Server {
        let mut command = oread("serve");
        command.arg(address).arg("--json").args(arguments);
        Server::run(command)
    }

    /// Runs a command that is a server, and waits until it is ready.
    pub fn run(mut command: Command) -> Server {
        let (mut child, watchdog) = piped(&mut command);
        let mut events = BufReader::new(child.stdout.take().unwrap());
        let (sender, log) = mpsc::channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let reader = thread::spawn(move || {
            for line in errors.split(b'\n') {
                let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let (mut listening, mut metrics) = (Vec::new(), None);
        loop {
            let mut line = String::new();
            events.read_line(&mut line).unwrap();
            if line.is_empty() {
                wait(&mut child);
                let said: Vec<String> = log.iter().collect();
                panic!("the server did not start: {said:?}");
            }
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == "ready" {
                return Server {
                    child,
                    events,
                    log,
                    reader: Some(reader),
                    _watchdog: watchdog,
                    metrics,
                    listening,
                    ready: event,
                };
            }
            if event["event"] == "metrics" {
                metrics = event["url"].as_str().map(str::to_owned);
                continue;
            }
            assert_eq!(event["event"], "listening");
            listening.push(event);
        }
    }

    /// Where it listens for `transport`, the first one if there are several.
    pub fn address(&self, transport: &str) -> SocketAddr {
        let event = self
            .listening
            .iter()
            .find(|event| event["transport"] == transport);
        let address = event.expect("no such socket")["address"].as_str().unwrap();
        address.parse().unwrap()
    }

    /// Where it listens for TCP.
    pub fn tcp(&self) -> SocketAddr {
        self.address("tcp")
    }

    /// Where it listens for UDP.
    pub fn udp(&self) -> SocketAddr {
        self.address("udp")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it, which waits for nothing longer than [`LONG`].
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }

    /// The next event on its standard output.
    pub fn event(&mut self) -> Value {
        let mut line = String::new();
        self.events.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
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

    /// Has it drain, and waits for its end.
    pub fn stop(self) -> Ended {
        signal(self.pid(), "TERM");
        self.end()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let mut rest = String::new();
        self.events.read_to_string(&mut rest).unwrap();
        let code = wait(&mut self.child).code();
        self.reader.take().unwrap().join().unwrap();
        let parse = |line| serde_json::from_str(line).unwrap();
        Ended {
            code,
            events: rest.lines().map(parse).collect(),
            log: self.log.try_iter().collect(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `oread connect`, or another program that talks on its pipes.
pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    _watchdog: Watchdog,
}

impl Client {
    /// Connects to `address` with more arguments.
    pub fn start(address: impl std::fmt::Display, arguments: &[&str]) -> Client {
        let mut command = oread("connect");
        command.arg(address.to_string()).args(arguments);
        Client::run(command)
    }

    /// Runs any program.
    pub fn run(mut command: Command) -> Client {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Client {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            stderr: Some(stderr),
            _watchdog: Watchdog::of(&child),
            child,
        }
    }

    /// Writes to its standard input.
    pub fn say(&mut self, text: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is closed");
        stdin.write_all(text).unwrap();
    }

    /// Reads exactly so many bytes of its standard output.
    pub fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stdout.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads a line of its standard output, with its newline.
    pub fn hear_line(&mut self) -> String {
        let mut line = Vec::new();
        self.stdout.read_until(b'\n', &mut line).unwrap();
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Takes its standard input, to be written by another thread.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().unwrap()
    }

    /// Its standard output.
    pub fn stdout(&mut self) -> &mut impl Read {
        &mut self.stdout
    }

    /// Ends its standard input, and waits for its end: exit code, the rest of its output, its
    /// errors.
    pub fn finish(mut self) -> (Option<i32>, Vec<u8>, String) {
        self.stdin = None;
        self.end()
    }

    /// Waits for its end with its standard input still open.
    pub fn end(&mut self) -> (Option<i32>, Vec<u8>, String) {
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).unwrap();
        let code = wait(&mut self.child).code();
        (code, rest, self.stderr.take().unwrap().join().unwrap())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that repeat in no pattern that a lost or doubled piece could hide in (xorshift64,
/// Marsaglia 2003).
pub struct Noise(u64);

impl Noise {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Noise {
        Noise(seed | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.number().to_le_bytes()[..part.len()]);
        }
    }

    /// The next bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        bytes
    }
}

/// Any free port of loopback.
pub const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A server of this test's own that talks to one caller.
pub fn serve_one(
    talk: impl FnOnce(TcpStream) + Send + 'static,
) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        talk(stream);
    });
    (address, thread)
}

/// Makes the close of `stream` a reset.
pub fn reset(stream: &TcpStream) {
    let now = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &now).unwrap();
}

/// Runs `oread connect` to its end with all of `input`.
pub fn connect(
    address: SocketAddr,
    arguments: &[&str],
    input: &[u8],
) -> (Option<i32>, Vec<u8>, String) {
    let mut client = Client::start(address, arguments);
    let mut stdin = client.take_stdin();
    let input = input.to_vec();
    // Both ends of it at once, as a shell's pipes are.
    let writer = thread::spawn(move || {
        // It may end before it has read all.
        let _ = stdin.write_all(&input);
    });
    let ended = client.finish();
    writer.join().unwrap();
    ended
}
