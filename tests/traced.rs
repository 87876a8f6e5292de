//! What the log says at its finest level of what a reactor does: each event, each call that moves
//! bytes, and what becomes of the connection.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/acting.rs"]
mod acting;
#[path = "common/hosts.rs"]
mod hosts;

use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};
use oread::sim::World;
use oread::{CloseReason, Limits};

use acting::Acting;
use hosts::{SECOND, address, listening};

/// All lines so far.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// The lines since this was last asked for, without the numbers of turns.
fn lines() -> Vec<String> {
    let lines = std::mem::take(&mut *LINES.0.lock().unwrap());
    let short = |line: String| match line.split_once(": ") {
        Some((turn, rest)) if turn.starts_with("turn ") => rest.to_owned(),
        _ => line,
    };
    lines.into_iter().map(short).collect()
}

#[test]
fn each_event_each_call_and_what_comes_of_it_stand_in_the_log_while_somebody_looks() {
    let mut world = World::new(1);
    let answers = Acting::default().on_data(|connection, data| {
        connection.write(b"fine");
        if data == b"bye" {
            connection.abort(CloseReason::Other(7));
        }
        data.len()
    });
    let mut host = listening(&mut world, answers, Limits::default());
    let peer = world.connect(address());
    world.settle(&mut host).unwrap();
    log::set_logger(&LINES).unwrap();
    peer.send(b"how are you");
    world.advance(&mut host, SECOND).unwrap();
    assert_eq!(lines(), [""; 0], "though nobody looks");
    log::set_max_level(LevelFilter::Trace);
    peer.send(b"how are you");
    world.advance(&mut host, SECOND).unwrap();
    let expected = [
        "Connection 0: {READABLE, WRITABLE}",
        "  read: 11 bytes",
        "  0 is shown 11 bytes",
        "  write 4: took 4",
        "  0 waits for an event",
    ];
    assert_eq!(lines(), expected);
    peer.send(b"bye");
    world.advance(&mut host, SECOND).unwrap();
    let told = lines();
    assert!(
        told.contains(&"  0 is closed: the handler's reason 7".to_owned()),
        "{told:?}"
    );
    assert_eq!(peer.received(), b"finefine");
}
