//! Nobody is called slow before the socket was asked: readers who take everything are neither cut
//! off nor starved of anything, however their handler writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::time::Duration;

use common::{Session, World, connect, count_in_thread, pattern, read_in_thread};
use oread::{Connection, Limits, Pressure};

/// The cap on pending output, and what each reader is sent: several times as much, which a socket
/// and its quick peer take all the same.
const MAX_OUTPUT: usize = 128 << 10;
const TOTAL: usize = 512 << 10;

fn capped() -> World {
    let mut world = World::with(Limits {
        max_output: MAX_OUTPUT,
        ..Limits::default()
    });
    world.handler.forgetful = true;
    world
}

/// Writes `TOTAL` bytes of the pattern in pieces of `size`, whatever is said of pressure.
fn write_all(connection: &mut Connection<'_, Session>, pattern: &[u8], size: usize) {
    for piece in pattern.chunks(size) {
        connection.write(piece);
    }
}

/// Has one callback write everything to 200 other connections, in pieces of `size`: to each of them
/// all its pieces, or piece by piece to everybody.
fn broadcast(size: usize, piece_by_piece: bool) {
    const READERS: usize = 200;
    let mut world = capped();
    world.handler.data = Some(Box::new(move |seen, connection, data| {
        let context = connection.context();
        let readers = &seen.opened[..READERS];
        let pattern = pattern(TOTAL);
        if piece_by_piece {
            for piece in pattern.chunks(size) {
                for &id in readers {
                    context.connection(id).map(|mut reader| reader.write(piece));
                }
            }
        } else {
            for &id in readers {
                let reader = context.connection(id);
                write_all(&mut reader.unwrap(), &pattern, size);
            }
        }
        data.len()
    }));
    let (_, address) = world.listen();
    let readers: Vec<_> = (0..READERS).map(|_| connect(address)).collect();
    world.until_opened(READERS);
    let mut speaker = connect(address);
    world.until_opened(READERS + 1);
    // One thread for a few readers each: it's the sockets that are quick, not the scheduler.
    let readers: Vec<_> = readers
        .into_iter()
        .map(|reader| read_in_thread(reader, TOTAL))
        .collect();
    speaker.write_all(b"!").unwrap();
    world.until("all is sent", |world| {
        let stats = world.stats();
        assert_eq!(stats.dropped, 0, "somebody was cut off: {stats:?}");
        stats.bytes_out as usize == READERS * TOTAL
    });
    for reader in readers {
        assert!(reader.join().unwrap() == pattern(TOTAL));
    }
}

#[test]
fn a_broadcast_of_small_pieces_from_one_callback_cuts_no_reader_off() {
    broadcast(1 << 10, false);
    broadcast(16 << 10, false);
}

#[test]
fn a_broadcast_piece_by_piece_to_everybody_cuts_no_reader_off() {
    broadcast(4 << 10, true);
}

#[test]
fn a_callback_that_writes_more_to_its_own_connection_than_it_may_send_at_once_does_not_cut_it_off()
{
    for size in [100, 1 << 10, 16 << 10, 64 << 10] {
        let mut world = capped();
        world.handler.data = Some(Box::new(move |_, connection, data| {
            write_all(connection, &pattern(TOTAL), size);
            data.len()
        }));
        let (_, address) = world.listen();
        let mut client = connect(address);
        client.write_all(b"!").unwrap();
        let reader = read_in_thread(client.try_clone().unwrap(), TOTAL);
        world.until("all is sent", |world| {
            let stats = world.stats();
            assert_eq!(
                stats.dropped, 0,
                "it was cut off, in pieces of {size}: {stats:?}"
            );
            stats.bytes_out as usize == TOTAL
        });
        assert!(reader.join().unwrap() == pattern(TOTAL));
    }
}

#[test]
fn a_single_write_above_the_cap_to_a_quick_reader_is_delivered_whole() {
    const MUCH: usize = 16 << 20;
    let mut world = capped();
    world.handler.open = Some(Box::new(|_, connection| {
        connection.write(&pattern(MUCH));
    }));
    let (_, address) = world.listen();
    let reader = read_in_thread(connect(address), MUCH);
    world.until("all is sent, or it's closed", |world| {
        world.stats().bytes_out as usize == MUCH || !world.handler.seen.closed.is_empty()
    });
    assert_eq!(world.seen().closed, []);
    assert!(reader.join().unwrap() == pattern(MUCH));
}

#[test]
fn a_callback_that_heeds_pressure_is_stopped_by_it_though_its_reader_takes_everything() {
    const MUCH: usize = 64 << 20;
    const SLICE: usize = 64 << 10;
    // Far more than the marks ask for, far less than all.
    const MOST: u64 = 8 << 20;
    /// Writes until there's pressure or all is said; `count` is what has been said so far.
    fn say(count: &mut u64, connection: &mut Connection<'_, Session>) {
        let before = *count;
        while *count < MUCH as u64 {
            *count += SLICE as u64;
            if connection.write(&[b'x'; SLICE]) == Pressure::High {
                break;
            }
        }
        let said = *count - before;
        assert!(said <= MOST, "{said} bytes from one callback");
    }
    let mut world = World::new();
    world.handler.timer = Some(Box::new(|seen, context, _| {
        let mut connection = context.connection(seen.opened[0]).unwrap();
        say(&mut seen.count, &mut connection);
    }));
    world.handler.drained = Some(Box::new(|seen, connection| {
        say(&mut seen.count, connection);
    }));
    let (_, address) = world.listen();
    let reader = count_in_thread(connect(address), MUCH);
    world.until_opened(1);
    world.context().timer(Duration::ZERO, 0);
    world.until("all is sent", |world| {
        world.stats().bytes_out as usize == MUCH
    });
    assert!(world.seen().drained > 0);
    assert_eq!(reader.join().unwrap(), MUCH);
}
