//! What happened, a line each, for whoever looks at a seed that failed.

use std::collections::VecDeque;
use std::time::Duration;

/// The last lines, if they are wanted.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    /// How many lines are kept; 0: none, and none is made.
    limit: usize,
}

impl Trace {
    /// Keeps the last `limit` lines from now on.
    pub(super) fn keep(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds a line. Nothing is formatted while none are wanted.
    pub(super) fn add(&mut self, now: Duration, line: impl FnOnce() -> String) {
        if self.limit == 0 {
            return;
        }
        if self.lines.len() == self.limit {
            self.lines.pop_front();
        }
        let (seconds, micros) = (now.as_secs(), now.subsec_micros());
        self.lines
            .push_back(format!("{seconds}.{micros:06} {}", line()));
    }

    /// All lines kept, each with its end.
    pub(super) fn lines(&self) -> String {
        self.lines
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }
}
