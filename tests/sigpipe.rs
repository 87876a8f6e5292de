//! A library may not rely on its program ignoring SIGPIPE, which Rust's own start does and others
//! don't. A handler of this test's stands in for such a program: it takes note of the signal, which
//! would else have killed.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{World, loopback};

/// Goes away so that the next write to it fails with EPIPE: first its end, then, because it leaves
/// a greeting unread, a reset.
fn leave(mut stream: TcpStream) {
    stream.write_all(b"x").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    drop(stream);
}

#[test]
fn a_write_to_a_peer_that_is_gone_raises_no_signal() {
    let raised = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::clone(&raised)).unwrap();

    // What std does without asking to be spared, to see that the peer is gone in the right way.
    let listener = TcpListener::bind(loopback()).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    served.write_all(b"greeting").unwrap();
    leave(client);
    let mut byte = [0];
    served.read_exact(&mut byte).unwrap();
    let error = served.write_vectored(&[IoSlice::new(b"a"), IoSlice::new(b"b")]);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(
        raised.swap(false, Ordering::SeqCst),
        "std has learned to ask: this test shows nothing any more"
    );

    // A small write that is gathered, and a large one behind it, are two slices; a large one alone
    // is one.
    for parts in [&[1_usize, 100_000][..], &[100_000], &[1]] {
        let mut world = World::new();
        world.handler.open = Some(Box::new(|_, connection| {
            connection.write(b"greeting");
        }));
        world.handler.data = Some(Box::new(move |_, connection, data| {
            for &size in parts {
                connection.write(&vec![0; size]);
            }
            data.len()
        }));
        let client = world.client();
        client.peek(&mut byte).unwrap();
        leave(client);
        world.until_closed(1);
        assert_eq!(world.seen().bytes, b"x");
        assert!(world.stats().dropped > 0);
        assert!(!raised.load(Ordering::SeqCst), "writes of {parts:?} bytes");
    }
}
