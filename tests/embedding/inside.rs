//! Inside another loop.

use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use oread::{Ended, Handler, Reactor};

use super::peers::{Echo, ask, beside, listen};

fn run_inside<H: Handler>(reactor: &mut Reactor<H>, handler: &mut H) -> std::io::Result<Ended> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(64));
    let descriptor = reactor.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, reactor.next_timeout()) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        // ... your own sources, by their tokens ...
        if let Some(ended) = reactor.turn(handler, Some(Duration::ZERO))?.ended {
            return Ok(ended);
        }
    }
}

#[test]
fn a_reactor_that_another_loop_polls_answers() {
    let mut reactor = Reactor::new().unwrap();
    let (address, handle) = (listen(&mut reactor), reactor.handle());
    let run = || run_inside(&mut reactor, &mut Echo).unwrap();
    let (answer, _) = beside(&handle, || ask(address, "hello"), run);
    assert_eq!(answer, "hello");
}
