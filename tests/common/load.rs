//! What the tests of `oread load` share: a run and what it came to, and servers of which it's known
//! what they do.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "cli.rs"]
pub mod cli;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use cli::{oread, piped, signal};
use serde_json::Value;

/// What a run came to.
pub struct Report {
    pub value: Value,
    pub log: String,
}

impl Report {
    /// Runs `oread load` with these arguments to its end, and checks that its counts add up.
    pub fn of(arguments: &[&str]) -> Report {
        let mut command = oread("load");
        command.args(arguments).args(["--json", "-"]);
        Report::from(command)
    }

    pub fn from(mut command: Command) -> Report {
        let (child, _watchdog) = piped(&mut command);
        let output = child.wait_with_output().unwrap();
        Report::parse(&output.stdout, &output.stderr, output.status.code())
    }

    pub fn parse(stdout: &[u8], stderr: &[u8], code: Option<i32>) -> Report {
        let log = String::from_utf8_lossy(stderr).into_owned();
        let value: Value = serde_json::from_slice(stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{log}", String::from_utf8_lossy(stdout)));
        let report = Report { value, log };
        assert_eq!(code, Some(report.exit_code()), "{}", report.value);
        report.assert_balanced();
        report
    }

    pub fn exit_code(&self) -> i32 {
        self.value["exit_code"].as_i64().unwrap() as i32
    }

    pub fn number(&self, group: &str, name: &str) -> u64 {
        let value = &self.value[group][name];
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{group}.{name} is {value}"))
    }

    pub fn connections(&self, name: &str) -> u64 {
        self.number("connections", name)
    }

    pub fn messages(&self, name: &str) -> u64 {
        self.number("messages", name)
    }

    /// Every error and its count.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.value["connections"]["errors"].clone()).unwrap()
    }

    pub fn error(&self, name: &str) -> u64 {
        self.errors().get(name).copied().unwrap_or(0)
    }

    /// A figure of a histogram, in milliseconds.
    pub fn ms(&self, histogram: &str, figure: &str) -> f64 {
        self.value["latency"][histogram][figure].as_f64().unwrap() / 1e6
    }

    pub fn assert_balanced(&self) {
        let c = |name| self.connections(name);
        assert!(self.value["imbalance"].is_null(), "{}", self.value);
        let ends = c("established") + c("refused") + c("timed_out") + c("failed") + c("dialing");
        assert_eq!(c("dialed"), ends, "{}", self.value);
        let ends = c("lost") + c("closed") + c("open");
        assert_eq!(c("established"), ends, "{}", self.value);
        let m = |name| self.messages(name);
        let ends = m("echoed") + m("one_way") + m("lost") + m("outstanding");
        assert_eq!(m("sent"), ends, "{}", self.value);
        let u = |name| self.number("udp", name);
        let ends = u("received") + u("lost") + u("outstanding");
        assert_eq!(u("sent"), ends, "{}", self.value);
        let flows = self.value["udp_flows"].as_array().unwrap();
        for (name, sum) in self.value["udp"].as_object().unwrap() {
            // The system counts these by the socket, and says nothing of flows.
            if name == "own_drops" {
                continue;
            }
            let of_flows = flows.iter().map(|flow| flow[name].as_u64().unwrap());
            assert_eq!(sum, of_flows.sum::<u64>(), "{name}: {}", self.value);
        }
    }

    pub fn assert_all_is_well(&self) {
        assert_eq!(self.exit_code(), 0, "{}{}", self.value, self.log);
        assert_eq!(
            self.connections("asked"),
            self.connections("peak_confirmed")
        );
        assert_eq!(
            self.messages("sent"),
            self.messages("verified"),
            "{}",
            self.value
        );
        assert!(self.errors().is_empty(), "{}", self.value);
    }
}

/// Serves each connection by `serve`, in a thread of its own; `serve` gets the connection's place
/// in the order of all. The threads end with their connections, and the listener with the test
/// program.
pub fn tcp(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let (serve, stream) = (Arc::clone(&serve), stream.unwrap());
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || serve(stream, index));
        }
    });
    address.to_string()
}

/// What a server's answer to a message leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Message,
    /// Close the connection; with input that was not read, that is a reset.
    Close,
}

/// Reads messages of 64 bytes to the end of the stream, and has `answer` see to each by its place
/// in the order of them.
pub fn each_message(
    mut stream: TcpStream,
    mut answer: impl FnMut(&mut TcpStream, usize, &mut [u8; 64]) -> Next,
) {
    let mut message = [0; 64];
    for index in 0.. {
        if stream.read_exact(&mut message).is_err()
            || answer(&mut stream, index, &mut message) == Next::Close
        {
            return;
        }
    }
}

/// Answers; a load that is gone ends it.
pub fn say(stream: &mut TcpStream, bytes: &[u8]) -> Next {
    match stream.write_all(bytes) {
        Ok(()) => Next::Message,
        Err(_) => Next::Close,
    }
}

/// Sends a load the signal of this name, after it has said for the first time how it goes.
pub fn interrupted(name: &str, arguments: &[&str]) -> Report {
    let mut command = oread("load");
    command.args(arguments).args(["--json", "-"]);
    let (mut child, _watchdog) = piped(&mut command);
    // That comes when it has been running for a second: the signals are taken long before.
    let mut log = [0; 1];
    child.stderr.as_mut().unwrap().read_exact(&mut log).unwrap();
    signal(child.id(), name);
    let output = child.wait_with_output().unwrap();
    let report = Report::parse(&output.stdout, &output.stderr, output.status.code());
    let number = match name {
        "INT" => 2,
        _ => 15,
    };
    assert_eq!(report.exit_code(), 128 + number);
    assert_eq!(report.value["ending"]["signal"], number);
    report
}
