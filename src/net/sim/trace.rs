//! What happened, a line each, for whoever looks at a seed that failed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::watch::{Side, Target};
use super::{Net, State};
use crate::escape::Escaped;
use crate::readiness::Readiness;

/// The last lines, if they are wanted.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    /// How many lines are kept; 0: none, and none is made.
    limit: usize,
    /// The beginning of a turn, and its end by a timeout: told only once something happens in it.
    held: Vec<String>,
    /// What each process has registered by which token, also what is long closed.
    names: BTreeMap<(u32, usize), Target>,
}

impl Trace {
    /// Keeps the last `limit` lines from now on.
    pub(super) fn keep(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Keeps the name of what `process` registers by `token`.
    pub(super) fn name(&mut self, process: u32, token: usize, target: Target) {
        if self.is_on() {
            self.names.insert((process, token), target);
        }
    }

    /// Adds a line. Nothing is formatted while none are wanted.
    pub(super) fn add(&mut self, now: Duration, line: impl FnOnce() -> String) {
        if !self.is_on() {
            return;
        }
        self.held.push(timed(now, &line()));
        self.lines.extend(self.held.drain(..));
        let over = self.lines.len().saturating_sub(self.limit);
        self.lines.drain(..over);
    }

    /// Adds a line that says nothing where nothing follows. One that is `new` takes the place of
    /// those that are held.
    fn hold(&mut self, now: Duration, new: bool, line: impl FnOnce() -> String) {
        if !self.is_on() {
            return;
        }
        if new {
            self.held.clear();
        }
        self.held.push(timed(now, &line()));
    }

    /// All lines kept, each with its end.
    pub(super) fn lines(&self) -> String {
        self.lines
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }
}

fn timed(now: Duration, line: &str) -> String {
    format!("{}.{:06} {line}", now.as_secs(), now.subsec_micros())
}

/// Bytes that the trace shows at most of those that pass.
const SHOWN: usize = 30;

/// The first of some bytes, in quotes.
pub(super) fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", Escaped::new(bytes).limit(SHOWN))
}

/// As the trace calls it.
impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.connection, self.end)
    }
}

/// As the trace calls it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Stream(side) => side.fmt(f),
            Target::Listener(id) => write!(f, "l{id}"),
            Target::Udp(id) => write!(f, "u{id}"),
        }
    }
}

impl Net {
    /// Adds a line of the test's.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        if self.state().trace.is_on() {
            // Made while the state is free: a peer that is shown looks at it.
            let line = format!("test: {text}").replace('\n', " ");
            self.state().trace(|| line);
        }
    }

    /// Adds that the test has panicked, so that what is dropped behind it isn't taken for the
    /// doing of what it tests. Where the panic came from in here, there is no line.
    pub(crate) fn trace_failure(&self, words: &str) {
        if let Ok(mut state) = self.0.try_lock() {
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            state.trace(|| format!("the test failed here: {words}"));
        }
    }
}

impl State {
    pub(super) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.trace.is_on() {
            for fault in self.faults.take_news() {
                let line = || format!("fault: {}", fault.name());
                self.trace.add(self.now, line);
            }
        }
        self.trace.add(self.now, line);
    }

    /// A process begins a turn.
    pub(super) fn trace_turn(&mut self, process: u32, timeout: Option<Duration>) {
        self.trace.hold(self.now, true, || match timeout {
            Some(Duration::ZERO) => format!("h{process} turns"),
            Some(timeout) => format!("h{process} turns and waits up to {timeout:?}"),
            None => format!("h{process} turns and waits"),
        });
    }

    /// A process' wait has ended without an event.
    pub(super) fn trace_wait(&mut self, process: u32, end: &str) {
        self.trace
            .hold(self.now, false, || format!("h{process} wait -> {end}"));
    }

    /// A callback of a process, and what it has registered by a token.
    pub(super) fn note(
        &mut self,
        process: u32,
        what: &str,
        of: Option<usize>,
        more: impl FnOnce() -> String,
    ) {
        self.idle.callbacks += 1;
        if !self.trace.is_on() {
            return;
        }
        let of = of.map_or_else(String::new, |token| {
            format!(" {}", self.name_of(process, token))
        });
        self.trace(|| format!("h{process} {what}{of}{}", more()));
    }

    /// A call of a process that opens something at or to an address.
    pub(super) fn trace_open(
        &mut self,
        process: u32,
        call: &str,
        address: SocketAddr,
        opened: Result<Target, &io::Error>,
    ) {
        self.trace(|| match opened {
            Ok(target) => format!("h{process} {call} {address} -> {target}"),
            Err(error) => format!("h{process} {call} {address} -> {error}"),
        });
    }

    /// The events that a wait has brought to a process, a line each.
    pub(super) fn trace_events(&mut self, process: u32, events: &[(usize, Readiness)]) {
        if !self.trace.is_on() {
            return;
        }
        for (token, readiness) in events {
            let name = self.name_of(process, *token);
            self.trace(|| format!("h{process} event {name} {readiness:?}"));
        }
    }

    fn name_of(&self, process: u32, token: usize) -> String {
        let poller = &self.processes[process as usize].poller;
        let known = self.trace.names.get(&(process, token));
        match known.or_else(|| poller.watched.get(&token)) {
            Some(target) => target.to_string(),
            None if poller.waker == Some(token) => "waker".to_owned(),
            // One that was registered before the trace was switched on, and is gone.
            None => "?".to_owned(),
        }
    }
}
