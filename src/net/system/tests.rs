use std::io::Write;
use std::os::fd::AsRawFd;
use std::time::Instant;

use super::*;
use crate::net::testing::{Loop, address};
use crate::options::ListenOptions;

const ZERO: Option<Duration> = Some(Duration::ZERO);

#[test]
fn a_wait_for_nothing_ends_with_its_timeout_and_no_events() {
    let mut turns = Loop::new();
    let timeout = Duration::from_millis(20);
    let before = Instant::now();
    turns.poll.wait(&mut turns.events, Some(timeout)).unwrap();
    assert!(before.elapsed() >= timeout);
    assert_eq!(turns.events.iter().count(), 0);
    assert!(!turns.events.is_full());
}

#[test]
fn a_waker_ends_the_wait_of_another_thread() {
    let mut turns = Loop::new();
    let (waker, _woken) = turns.poll.waker(7).unwrap();
    let other = std::thread::spawn(move || waker.wake().map(|()| waker));
    turns.until_ready(7, Readiness::READABLE);
    other.join().unwrap().unwrap();
}

#[test]
fn a_new_connection_is_writable_and_a_half_close_is_no_more_than_read_closed() {
    let mut turns = Loop::new();
    let options = ListenOptions::new(address("127.0.0.1:0"));
    let (mut dialled, _accepted) = turns.pair(&options, 0);
    turns.until_ready(1, Readiness::WRITABLE);
    crate::nonblocking::Stream::shutdown_write(&mut dialled).unwrap();
    let mut seen = Readiness::EMPTY;
    while !seen.contains(Readiness::READ_CLOSED) {
        turns
            .poll
            .wait(&mut turns.events, Some(Duration::from_secs(10)))
            .unwrap();
        assert!(
            turns.events.iter().count() > 0,
            "no event tells of the half-close"
        );
        turns
            .events
            .iter()
            .filter(|event| event.token() == 1)
            .for_each(|event| seen |= event.readiness());
    }
    assert!(!seen.intersects(Readiness::WRITE_CLOSED | Readiness::ERROR));
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn urgent_data_is_told_of() {
    use nix::sys::socket::{MsgFlags, send};
    use std::os::fd::AsFd;

    let mut turns = Loop::new();
    let options = ListenOptions::new(address("127.0.0.1:0"));
    let (dialled, _accepted) = turns.pair(&options, 0);
    send(dialled.as_fd().as_raw_fd(), b"!", MsgFlags::MSG_OOB).unwrap();
    turns.until_ready(1, Readiness::PRIORITY);
}

#[test]
fn a_batch_is_full_when_there_may_be_more_behind_it() {
    let mut turns = Loop::new();
    let options = ListenOptions::new(address("127.0.0.1:0"));
    let _both = turns.pair(&options, 0);
    let mut events = turns.poll.events(1);
    let (waker, _woken) = turns.poll.waker(9).unwrap();
    waker.wake().unwrap();
    turns.poll.wait(&mut events, ZERO).unwrap();
    assert!(events.iter().count() >= 1);
    assert_eq!(
        events.is_full(),
        events.iter().count() >= events.0.capacity()
    );
}

#[test]
fn a_deregistered_stream_has_no_events_and_can_be_registered_again() {
    let mut turns = Loop::new();
    let options = ListenOptions::new(address("127.0.0.1:0"));
    let (mut dialled, mut accepted) = turns.pair(&options, 0);
    turns.poll.deregister_stream(&mut accepted).unwrap();
    crate::nonblocking::Stream::write(&mut dialled, b"x").unwrap();
    turns.poll.wait(&mut turns.events, ZERO).unwrap();
    assert!(turns.events.iter().all(|event| event.token() != 1));
    turns.poll.register_stream(&mut accepted, 5).unwrap();
    turns.until_ready(5, Readiness::READABLE);
}

#[test]
fn a_foreign_source_is_registered_changed_and_forgotten() {
    let mut turns = Loop::new();
    let (mut sender, mut receiver) = mio::unix::pipe::new().unwrap();
    turns
        .poll
        .register_source(&mut receiver, 3, Interest::READABLE)
        .unwrap();
    sender.write_all(b"x").unwrap();
    turns.until_ready(3, Readiness::READABLE);
    turns
        .poll
        .reregister_source(&mut receiver, 4, Interest::READABLE)
        .unwrap();
    turns.until_ready(4, Readiness::READABLE);
    turns.poll.deregister_source(&mut receiver).unwrap();
    sender.write_all(b"x").unwrap();
    turns.poll.wait(&mut turns.events, ZERO).unwrap();
    assert_eq!(turns.events.iter().count(), 0);
}

#[test]
#[cfg(not(mio_unsupported_force_poll_poll))]
fn a_selector_nests_in_another_by_its_descriptor() {
    use std::os::fd::AsFd;

    let inner = System::new().unwrap();
    let mut outer = Loop::new();
    let fd = inner.as_fd().as_raw_fd();
    outer
        .poll
        .register_source(&mut mio::unix::SourceFd(&fd), 1, Interest::READABLE)
        .unwrap();
    outer.poll.wait(&mut outer.events, ZERO).unwrap();
    assert_eq!(outer.events.iter().count(), 0);
    let (waker, _woken) = inner.waker(0).unwrap();
    waker.wake().unwrap();
    outer.until_ready(1, Readiness::READABLE);
}
