//! A process that stood still for longer than its timeouts finds its peers' bytes and their
//! deadlines together: who has been heard from in time is served first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::{World, connect, loopback, stand_still};
use oread::{CloseReason, ConnectOptions, ConnectionId, Limits};

/// The timeout of these tests. It's given when everything is prepared, and between that and the
/// reactor's standing still no turn is taken: a slow machine can't come upon it earlier.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long the reactor stands still.
const STILL: Duration = Duration::from_millis(2500);
/// Many more than one poll brings here.
const CLIENTS: usize = 100;

/// A reactor whose polls bring few events.
fn with_small_batches() -> World {
    World::with(Limits {
        events: 8,
        ..Limits::default()
    })
}

/// As many clients as there are in these tests, all of them open.
fn clients(world: &mut World, address: SocketAddr) -> Vec<TcpStream> {
    let clients: Vec<_> = (0..CLIENTS).map(|_| connect(address)).collect();
    world.until_opened(CLIENTS);
    world.settle();
    clients
}

/// Gives every connection the idle timeout.
fn hasten(world: &mut World) {
    world
        .context()
        .for_each(|connection| connection.set_idle_timeout(Some(TIMEOUT)));
}

/// All clients say something at once.
fn all_speak(clients: &mut [TcpStream]) {
    for client in clients {
        client.write_all(b"?").unwrap();
    }
}

/// Turns until everybody's byte is there. Nobody must have been closed before.
fn assert_all_are_heard(world: &mut World, clients: &mut [TcpStream]) {
    world.until("everybody is heard, or somebody closed", |world| {
        world.handler.seen.bytes.len() >= CLIENTS || !world.handler.seen.closed.is_empty()
    });
    let closed = world.handler.seen.closed.len();
    let heard = world.handler.seen.bytes.len();
    assert_eq!((heard, closed), (CLIENTS, 0), "heard, and closed");
    for client in clients {
        client.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn nobody_who_spoke_while_the_reactor_was_not_turned_is_idle_however_small_a_batch_is() {
    let mut world = with_small_batches();
    let (_, address) = world.listen();
    let mut clients = clients(&mut world, address);
    hasten(&mut world);
    all_speak(&mut clients);
    stand_still(STILL);
    assert_all_are_heard(&mut world, &mut clients);
}

#[test]
fn nobody_who_spoke_while_a_callback_stood_still_is_idle_however_small_a_batch_is() {
    let mut world = with_small_batches();
    world.handler.data = Some(Box::new(|seen, connection, data| {
        if seen.count == 0 {
            stand_still(STILL);
        }
        seen.count += 1;
        connection.write(data);
        data.len()
    }));
    let (_, address) = world.listen();
    let mut clients = clients(&mut world, address);
    hasten(&mut world);
    all_speak(&mut clients);
    assert_all_are_heard(&mut world, &mut clients);
}

#[test]
fn a_timer_that_would_close_a_silent_connection_finds_that_it_has_spoken_meanwhile() {
    let mut world = with_small_batches();
    world.handler.data = Some(Box::new(|_, connection, data| {
        *connection.session_mut() = 1;
        connection.write(data);
        data.len()
    }));
    world.handler.timer = Some(Box::new(|_, context, key| {
        let connection = context.connection(ConnectionId::from_bits(key));
        if let Some(mut connection) = connection
            && *connection.session() == 0
        {
            connection.close(CloseReason::Other(7));
        }
    }));
    let (_, address) = world.listen();
    let mut clients = clients(&mut world, address);
    for id in world.handler.seen.opened.clone() {
        world.context().timer(TIMEOUT, id.to_bits());
    }
    all_speak(&mut clients);
    stand_still(STILL);
    assert_all_are_heard(&mut world, &mut clients);
}

#[test]
fn a_dial_whose_handshake_was_done_in_time_is_open_however_late_that_is_found() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let mut world = with_small_batches();
    let options = ConnectOptions {
        timeout: Some(TIMEOUT),
        ..ConnectOptions::new(listener.local_addr().unwrap())
    };
    for session in 0..CLIENTS as u64 {
        world.context().connect(&options, session).unwrap();
    }
    stand_still(STILL);
    world.until("every dial has come to something", |world| {
        world.handler.seen.opened.len() + world.handler.seen.failed.len() == CLIENTS
    });
    let seen = world.seen();
    assert_eq!(
        (seen.opened.len(), seen.failed.len()),
        (CLIENTS, 0),
        "opened, and failed"
    );
}
