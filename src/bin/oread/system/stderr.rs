//! Standard error, written by a thread of its own: one that is blocked (a full pipe, a stopped
//! terminal) must not stall the loop, which logs from its callbacks. One that fails, as on a full
//! disk, is tried again with the next lines, and told how many it missed; see [`Outlet`].
//!
//! On a terminal a line may stand below all others, drawn anew again and again: see
//! [`Stderr::show`].
//!
//! The thread starts with the first line. A process that has ever had a second thread pays for it
//! in each system call that glibc makes a cancellation point (some 60 instructions for a `send` and
//! a `recv` each): a server that has nothing to say echoes at two thirds of the cost.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::outlet::{CHUNK, Outlet};
use super::threads;

/// Bytes that may wait to be written; lines beyond them are lost, and counted. Room for what a busy
/// server says with `-vv` while the thread waits a tenth of a second for its turn.
const WAITING: usize = 4 << 20;

/// Takes away the line that stands (ECMA-48: to its beginning, erase to the end of the page). The
/// cursor waits at its beginning: a terminal that was made narrower has broken the line into
/// several rows, or has cut it off, and either way all of it is behind the cursor.
const ERASE: &[u8] = b"\r\x1b[J";

/// What the loop's side and the thread share.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// What the thread is to write to, until it has started.
    output: Mutex<Option<Outlet<Box<dyn Write + Send>>>>,
    /// Lines came, or no more will.
    came: Condvar,
    /// Some were written.
    went: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole lines. Invariant: at most [`WAITING`] bytes.
    lines: Vec<u8>,
    /// Lines for which there was no room, since `lines` was last taken.
    lost: u64,
    /// The line that is to stand below them; the one before it, if it was never drawn, is nobody's
    /// loss.
    shown: Vec<u8>,
    /// It's another one than the thread has drawn.
    anew: bool,
    /// What is to be written behind all lines, once `closed`.
    last: Vec<u8>,
    /// The thread writes.
    writing: bool,
    /// No more lines are to be waited for.
    closed: bool,
    /// When nobody waits for the thread any more, if there is such a time.
    deadline: Option<Instant>,
    /// Chunks written so far.
    chunks: u64,
    /// There is a thread.
    started: bool,
    /// It has ended.
    done: bool,
}

impl Queue {
    /// Whether there's nothing to write.
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.lost == 0 && !self.anew && self.last.is_empty()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn take_output(&self) -> Option<Outlet<Box<dyn Write + Send>>> {
        let output = self.output.lock();
        output.unwrap_or_else(PoisonError::into_inner).take()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue is whole at any time.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines are put to be written. It never blocks and never fails.
#[derive(Clone, Debug)]
pub(crate) struct Stderr(Arc<Shared>);

impl Stderr {
    /// What is put here is written to `output`.
    pub(crate) fn start(output: impl Write + Send + 'static) -> Stderr {
        Stderr(Arc::new(Shared {
            output: Mutex::new(Some(Outlet::new(Box::new(output)))),
            ..Shared::default()
        }))
    }

    /// Has `line` stand below all that is written, in place of the one before; an empty one takes
    /// it away. It's for a terminal, and narrower than that. However slow the terminal is, no more
    /// than the latest line waits for it.
    pub(crate) fn show(&self, line: &str) {
        let mut queue = self.0.lock();
        queue.shown.clear();
        queue.shown.extend_from_slice(line.as_bytes());
        queue.anew = true;
        self.tell(queue);
    }

    /// There's something to write.
    fn tell(&self, queue: MutexGuard<'_, Queue>) {
        let started = queue.started;
        drop(queue);
        if started {
            self.0.came.notify_one();
        } else {
            self.start_thread();
        }
    }

    /// Starts the thread, if it isn't there. Where none can be started, what waits is written here
    /// and now: slow, not lost.
    fn start_thread(&self) {
        if !mem::replace(&mut self.0.lock().started, true) {
            let its = Arc::clone(&self.0);
            let started = threads::start("standard error", move || {
                if let Some(output) = its.take_output() {
                    write_lines(&its, output);
                }
            });
            if started.is_err() {
                self.write_here();
            }
        }
    }

    fn write_here(&self) {
        let mut queue = self.0.lock();
        let mut lines = mem::take(&mut queue.lines);
        lines.append(&mut queue.last);
        let lost = mem::take(&mut queue.lost);
        // A line that stands is for whoever has time to draw it.
        queue.anew = false;
        // The next line tries again.
        queue.started = false;
        drop(queue);
        let output = self.0.output.lock();
        if let Some(output) = output.unwrap_or_else(PoisonError::into_inner).as_mut() {
            output.lose(lost);
            output.tell_lost(lost_words);
            // What it does not take is counted.
            let _ = output.write(&lines, || ());
        }
    }

    /// From now on nobody waits for it longer than until `deadline`, however it goes on.
    pub(crate) fn end_by(&self, deadline: Instant) {
        self.0.lock().deadline = Some(deadline);
    }

    /// Has `last` written behind all lines, waits until it is, and ends. It gives up when nothing
    /// was written for as long as `patience`, and at the deadline; false then.
    pub(crate) fn finish(&self, last: &str, patience: Duration) -> bool {
        let mut queue = self.0.lock();
        queue.last.extend_from_slice(last.as_bytes());
        queue.closed = true;
        if !last.is_empty() && !queue.started {
            drop(queue);
            self.start_thread();
            queue = self.0.lock();
        }
        self.0.came.notify_all();
        self.wait(queue, patience, |queue| queue.done)
    }

    /// Waits until all lines are written that have been put here; false when nothing was for as
    /// long as `patience`.
    pub(crate) fn settle(&self, patience: Duration) -> bool {
        self.wait(self.0.lock(), patience, |queue| {
            queue.is_empty() && !queue.writing
        })
    }

    fn wait(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        patience: Duration,
        is_over: fn(&Queue) -> bool,
    ) -> bool {
        if !queue.started {
            return true;
        }
        while !is_over(&queue) {
            let chunks = queue.chunks;
            let left = queue.deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            let patience = patience.min(left);
            let stands = |queue: &mut Queue| !is_over(queue) && queue.chunks == chunks;
            let waited = self.0.went.wait_timeout_while(queue, patience, stands);
            let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return false;
            }
            queue = now;
        }
        true
    }
}

impl Write for Stderr {
    /// Takes whole lines: all of `line`, or, when there is no room for it, none, and counts it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.lock();
        // Behind a lost one all are, until the thread has said so: no line stands before its time.
        if queue.lost > 0 || queue.lines.len() + line.len() > WAITING {
            queue.lost += 1;
        } else {
            queue.lines.extend_from_slice(line);
        }
        self.tell(queue);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line that says how many others are lost.
fn lost_words(lost: u64) -> String {
    let now = humantime::format_rfc3339_millis(SystemTime::now());
    let lines = if lost == 1 { "line" } else { "lines" };
    format!("{now} error {lost} {lines} of the log were lost: standard error took no more\n")
}

/// The thread's part: it takes all lines that wait, and writes them.
fn write_lines(shared: &Shared, mut output: Outlet<impl Write>) {
    let mut batch = Vec::new();
    // Whether a line stands below the others.
    let mut stands = false;
    let wrote = || {
        shared.lock().chunks += 1;
        shared.went.notify_all();
    };
    loop {
        let idle = |queue: &mut Queue| queue.is_empty() && !queue.closed;
        let waited = shared.came.wait_while(shared.lock(), idle);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        if queue.is_empty() {
            drop(queue);
            // It may work again by now.
            output.tell_lost(lost_words);
            shared.lock().done = true;
            shared.went.notify_all();
            return;
        }
        if mem::take(&mut stands) {
            batch.extend_from_slice(ERASE);
        }
        batch.append(&mut queue.lines);
        let lost = mem::take(&mut queue.lost);
        let shown = queue.shown.clone();
        let last = mem::take(&mut queue.last);
        queue.anew = false;
        queue.writing = true;
        drop(queue);
        output.tell_lost(lost_words);
        if lost > 0 {
            // What it does not take is counted: see `Outlet`.
            let _ = output.write(&batch, wrote);
            batch.clear();
            output.lose(lost);
            output.tell_lost(lost_words);
        }
        batch.extend_from_slice(&last);
        batch.extend_from_slice(&shown);
        if !shown.is_empty() {
            batch.push(b'\r');
        }
        stands = output.write(&batch, wrote).is_ok() && !shown.is_empty();
        batch.clear();
        // What one burst took is not kept for ever.
        batch.shrink_to(CHUNK);
        shared.lock().writing = false;
        shared.went.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::thread;

    /// Far more than it takes, on a machine that has other things to do.
    const LONG: Duration = Duration::from_secs(60);

    /// An output that takes a write for each permission to, and tells of it.
    struct Gate(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let Ok(()) = self.0.recv() else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            self.1.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Gate, Sender<()>, Receiver<Vec<u8>>) {
        let (permit, permits) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        (Gate(permits, tell), permit, told)
    }

    #[test]
    fn lines_for_which_there_is_no_room_are_counted_and_told_in_their_place() {
        let (output, permit, told) = gate();
        let mut stderr = Stderr::start(output);
        let line = |number: usize| format!("{number:1023}\n");
        let most = 2 * WAITING / 1024;
        for number in 0..most + 1000 {
            stderr.write_all(line(number).as_bytes()).unwrap();
        }
        for _ in 0..2 * WAITING / CHUNK + 3 {
            permit.send(()).unwrap();
        }
        assert!(stderr.finish("", LONG));
        let all: Vec<u8> = told.try_iter().flatten().collect();
        let text = String::from_utf8(all).unwrap();
        let (lost, kept): (Vec<&str>, Vec<&str>) = text.lines().partition(|l| l.contains("lost"));
        for (number, kept) in kept.iter().enumerate() {
            assert_eq!(kept.trim(), number.to_string());
        }
        let [lost] = lost[..] else {
            panic!("{lost:?}");
        };
        let count: usize = lost.split(' ').nth(2).unwrap().parse().unwrap();
        assert_eq!(count + kept.len(), most + 1000, "{lost}");
        assert!(text.ends_with("took no more\n"));
    }

    #[test]
    fn the_end_waits_for_an_output_that_goes_on_and_not_for_one_that_stands() {
        let (output, permit, told) = gate();
        let mut stderr = Stderr::start(output);
        stderr.write_all(b"first\n").unwrap();
        let writer = thread::spawn({
            let stderr = stderr.clone();
            move || stderr.finish("", LONG)
        });
        permit.send(()).unwrap();
        assert!(writer.join().unwrap());
        assert_eq!(told.recv().unwrap(), b"first\n");

        let (output, _permit, _told) = gate();
        let mut stderr = Stderr::start(output);
        stderr.write_all(b"never\n").unwrap();
        assert!(!stderr.finish("", Duration::from_millis(1)));
    }

    #[test]
    fn a_line_that_stands_is_taken_away_before_others_and_only_the_latest_waits() {
        let (output, permit, told) = gate();
        let mut stderr = Stderr::start(output);
        stderr.show("one");
        permit.send(()).unwrap();
        assert!(stderr.settle(LONG));
        // While the output takes nothing, no more than the latest waits.
        stderr.write_all(b"log\n").unwrap();
        for number in 0..100_000 {
            stderr.show(&format!("number {number}"));
        }
        stderr.show("last");
        assert!(!stderr.settle(Duration::from_millis(1)));
        for _ in 0..3 {
            permit.send(()).unwrap();
        }
        assert!(stderr.settle(LONG));
        stderr.show("");
        drop(permit);
        assert!(stderr.finish("", LONG));
        let all: Vec<u8> = told.try_iter().flatten().collect();
        let text = String::from_utf8(all).unwrap();
        let drawn: Vec<&str> = text.split("\r\u{1b}[J").collect();
        // The cursor waits at the beginning of the line.
        assert_eq!(drawn[0], "one\r");
        assert!(drawn[1].starts_with("log\n"), "{text:?}");
        assert!(drawn.len() <= 4 && text.contains("last"), "{text:?}");
    }

    #[test]
    fn an_output_that_is_gone_does_not_keep_the_end_waiting() {
        let (output, permit, _told) = gate();
        drop(permit);
        let mut stderr = Stderr::start(output);
        stderr.write_all(b"nobody reads this\n").unwrap();
        assert!(stderr.finish("", LONG));
    }
}
